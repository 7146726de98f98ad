//! JSON-RPC 2.0 messages, one object per line.
//!
//! **Invariant:** `parse` accepts exactly requests, responses and notifications; everything else is a typed refusal.
//! **Invariant:** nothing is parsed deeper than `limits::JSON_DEPTH_MAX`. A client's line that is deeper is refused; a child's loses
//! what is too deep and nothing else, because it passes on what tools return.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::raw::{
    Raw, check_object, check_version, checked_id, checked_text, cut_at_depth, neither, no_object, utf8,
};
use crate::model::fault::{Code, Fault};
use crate::model::limits;

/// A request id: what the caller chose, given back unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Id {
    /// A number.
    Number(i64),
    /// A text.
    Text(String),
}

/// One message of a peer.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// It wants an answer.
    Request {
        /// Its id.
        id: Id,
        /// What it wants.
        method: String,
        /// With what.
        params: Value,
    },
    /// It wants no answer.
    Notification {
        /// What happened.
        method: String,
        /// With what.
        params: Value,
    },
    /// It answers a request.
    Response {
        /// The request's id.
        id: Id,
        /// The answer.
        result: Result<Value, RpcError>,
    },
}

/// The error object of a response.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RpcError {
    /// The number (see [`Code::rpc`]).
    pub code: i64,
    /// What failed, then why.
    pub message: String,
    /// `{code, hint, exit}` in ours.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub data: Value,
}

/// Why a line is no message, with the JSON-RPC number for it and the id if one was readable.
#[derive(Debug, Clone, PartialEq)]
pub struct BadLine {
    /// The request's id, when it could be read.
    pub id: Option<Id>,
    /// -32700 or -32600.
    pub number: i64,
    /// What is wrong.
    pub fault: Fault,
}

/// JSON-RPC's own number for a method that does not exist.
pub const UNKNOWN_METHOD: i64 = -32_601;

/// Reads one line; `strict` demands `"jsonrpc":"2.0"` and flat JSON, as our clients send and Codex does not.
///
/// # Errors
/// [`BadLine`] when the line is not UTF-8, not JSON, too deeply nested, or not a JSON-RPC message.
pub fn parse(line: &[u8], strict: bool) -> Result<Message, BadLine> {
    let text = if strict {
        Cow::Borrowed(checked_text(line)?)
    } else {
        cut_at_depth(utf8(line)?, limits::JSON_DEPTH_MAX)
    };
    check_object(&text)?;
    let raw: Raw<Value, RpcError> = serde_json::from_str(&text).map_err(|error| no_object(&error))?;
    let id = checked_id(raw.id)?;
    if strict {
        check_version(raw.jsonrpc.as_deref(), id.as_ref())?;
    }
    match (raw.method, id, raw.error) {
        (Some(method), Some(id), None) => {
            Ok(Message::Request { id, method, params: raw.params.unwrap_or(Value::Null) })
        }
        (Some(method), None, None) => {
            Ok(Message::Notification { method, params: raw.params.unwrap_or(Value::Null) })
        }
        (None, Some(id), Some(error)) => Ok(Message::Response { id, result: Err(error) }),
        (None, Some(id), None) => Ok(Message::Response { id, result: Ok(raw.result.unwrap_or(Value::Null)) }),
        (_, id, _) => Err(neither(id)),
    }
}

impl RpcError {
    /// Writes a fault as an error object.
    pub fn of(fault: &Fault) -> RpcError {
        let data = serde_json::json!({ "code": fault.code, "hint": fault.hint, "exit": fault.code.exit() });
        RpcError { code: fault.code.rpc(), message: fault.message.clone(), data }
    }

    /// Reads a fault back; errors of a foreign peer become `bug`.
    pub fn fault(&self) -> Fault {
        let code = self.data.get("code").and_then(|code| serde_json::from_value(code.clone()).ok());
        let hint = self.data.get("hint").and_then(Value::as_str).map(str::to_owned);
        let fault = Fault::new(code.unwrap_or(Code::Bug), self.message.as_str());
        hint.map_or(fault.clone(), |hint| fault.hint(hint))
    }
}

/// Writes a request line, newline included.
pub fn request(id: &Id, method: &str, params: &impl Serialize) -> String {
    #[derive(Serialize)]
    struct Line<'a, P> {
        jsonrpc: &'static str,
        id: &'a Id,
        method: &'a str,
        params: &'a P,
    }
    line(&Line { jsonrpc: "2.0", id, method, params })
}

/// Writes a notification line, newline included.
pub fn notification(method: &str, params: &impl Serialize) -> String {
    #[derive(Serialize)]
    struct Line<'a, P> {
        jsonrpc: &'static str,
        method: &'a str,
        params: &'a P,
    }
    line(&Line { jsonrpc: "2.0", method, params })
}

/// Writes the line that answers a request well, newline included.
pub fn answer(id: &Id, result: &impl Serialize) -> String {
    #[derive(Serialize)]
    struct Line<'a, R> {
        jsonrpc: &'static str,
        id: &'a Id,
        result: &'a R,
    }
    line(&Line { jsonrpc: "2.0", id, result })
}

/// Writes the line that refuses a request, newline included; `id` is `None` when it could not be read.
pub fn refusal(id: Option<&Id>, error: &RpcError) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        jsonrpc: &'static str,
        id: Option<&'a Id>,
        error: &'a RpcError,
    }
    line(&Line { jsonrpc: "2.0", id, error })
}

fn line(value: &impl Serialize) -> String {
    let mut text =
        serde_json::to_string(value).expect("our own messages have string keys and finite numbers");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_kinds_of_lines_are_read_back() {
        let id = Id::Number(7);
        let params = serde_json::json!({"a": 1});
        let read = |line: String| parse(line.trim_end().as_bytes(), true).unwrap();
        assert_eq!(
            read(request(&id, "mail/send", &params)),
            Message::Request { id: id.clone(), method: "mail/send".into(), params: params.clone() }
        );
        assert_eq!(
            read(notification("relay/stopping", &params)),
            Message::Notification { method: "relay/stopping".into(), params: params.clone() }
        );
        assert_eq!(read(answer(&id, &params)), Message::Response { id: id.clone(), result: Ok(params) });
        let fault = Fault::not_found("mail not found: no such id").hint("list them");
        let Message::Response { result: Err(error), .. } = read(refusal(Some(&id), &RpcError::of(&fault)))
        else {
            panic!("a refusal is a response")
        };
        assert_eq!(error.fault(), fault);
    }

    #[test]
    fn anything_else_is_refused_with_the_right_number() {
        for (line, number) in [
            (&b"\xff\xfe"[..], -32_700),
            (b"nonsense", -32_700),
            (b"[]", -32_600),
            (b"{}", -32_600),
            (br#"{"jsonrpc":"2.0","id":1.5,"method":"x"}"#, -32_600),
            (br#"{"id":1,"method":"x"}"#, -32_600),
            (br#"{"jsonrpc":"2.0","id":1,"method":7}"#, -32_600),
        ] {
            assert_eq!(parse(line, true).unwrap_err().number, number, "{}", String::from_utf8_lossy(line));
        }
        let deep = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":{}{}}}"#,
            "[".repeat(80),
            "]".repeat(80)
        );
        assert_eq!(parse(deep.as_bytes(), true).unwrap_err().number, -32_700);
        let quoted = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":"{}"}}"#, "[".repeat(80));
        assert!(parse(quoted.as_bytes(), true).is_ok(), "brackets inside a text do not nest");
    }
}
