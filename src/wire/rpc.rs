//! JSON-RPC 2.0 messages, one object per line.
//!
//! **Invariant:** `parse` accepts exactly requests, responses and notifications; everything else is a typed refusal.
//! **Invariant:** nothing is parsed deeper than `limits::JSON_DEPTH_MAX`. A client's line that is deeper is refused; a child's loses
//! what is too deep and nothing else, because it passes on what tools return.

use std::borrow::Cow;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

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

/// A request of a client. What its parameters are is looked at when its method is known, so that a long line costs the relay's lap
/// no more than one look at each byte.
#[derive(Debug)]
pub struct Call<'a> {
    /// Its id.
    pub id: Id,
    /// What it wants.
    pub method: String,
    /// With what: one JSON value, as it was written.
    pub params: &'a str,
}

/// The fields of a message; `P` is what is kept of parameters and results, `E` of an error.
#[derive(Deserialize)]
#[serde(bound(deserialize = "P: Deserialize<'de>, E: Deserialize<'de>"), expecting = "an object")]
struct Raw<P, E> {
    #[serde(default)]
    jsonrpc: Option<String>,
    #[serde(default)]
    id: RawId,
    #[serde(default)]
    method: Option<String>,
    #[serde(default = "Option::default")]
    params: Option<P>,
    #[serde(default = "Option::default")]
    result: Option<P>,
    #[serde(default = "Option::default")]
    error: Option<E>,
}

/// What stands as an id.
#[derive(Default)]
enum RawId {
    #[default]
    None,
    Is(Id),
    /// A list, an object, a fraction, a giant.
    Wrong,
}

/// JSON-RPC's own number for a method that does not exist.
pub const UNKNOWN_METHOD: i64 = -32_601;

/// Reads one line of a client; `None` for what wants no answer. Refuses what [`parse`] refuses when it is strict.
///
/// # Errors
/// As [`parse`].
pub fn parse_call(line: &[u8]) -> Result<Option<Call<'_>>, BadLine> {
    let text = checked_text(line)?;
    let raw: Raw<&RawValue, IgnoredAny> = serde_json::from_str(text).map_err(|error| no_object(&error))?;
    let id = checked_id(raw.id)?;
    check_version(raw.jsonrpc.as_deref(), id.as_ref())?;
    match (raw.method, id, raw.error) {
        (Some(method), Some(id), None) => {
            Ok(Some(Call { id, method, params: raw.params.map_or("null", RawValue::get) }))
        }
        (Some(_), None, None) | (None, Some(_), _) => Ok(None),
        (_, id, _) => Err(neither(id)),
    }
}

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

fn bad(number: i64, id: Option<Id>, what: &str) -> BadLine {
    BadLine { id, number, fault: Fault::new(Code::Usage, what) }
}

fn neither(id: Option<Id>) -> BadLine {
    bad(-32_600, id, "request refused: the object is neither a request nor a response")
}

fn no_object(error: &serde_json::Error) -> BadLine {
    let number = if error.is_data() { -32_600 } else { -32_700 };
    bad(number, None, &format!("request refused: the line is not a JSON-RPC object: {error}"))
}

fn utf8(line: &[u8]) -> Result<&str, BadLine> {
    std::str::from_utf8(line).map_err(|_| bad(-32_700, None, "request refused: the line is not UTF-8"))
}

/// A client's line as text that is not nested too deeply.
fn checked_text(line: &[u8]) -> Result<&str, BadLine> {
    let text = utf8(line)?;
    match is_deeper(text, limits::JSON_DEPTH_MAX) {
        true => Err(bad(-32_700, None, "request refused: the line is nested too deeply")),
        false => Ok(text),
    }
}

fn checked_id(id: RawId) -> Result<Option<Id>, BadLine> {
    match id {
        RawId::None => Ok(None),
        RawId::Is(Id::Text(text)) if text.len() > ID_BYTES_MAX => {
            Err(bad(-32_600, None, "request refused: the id is longer than 256 bytes"))
        }
        RawId::Is(id) => Ok(Some(id)),
        RawId::Wrong => {
            Err(bad(-32_600, None, "request refused: the id is neither a text nor a whole number"))
        }
    }
}

fn check_version(version: Option<&str>, id: Option<&Id>) -> Result<(), BadLine> {
    match version {
        Some("2.0") => Ok(()),
        _ => Err(bad(-32_600, id.cloned(), "request refused: `jsonrpc` must be \"2.0\"")),
    }
}

/// The longest id.
const ID_BYTES_MAX: usize = 256;

impl<'de> Deserialize<'de> for RawId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<RawId, D::Error> {
        struct Read;

        impl<'de> Visitor<'de> for Read {
            type Value = RawId;

            fn expecting(&self, text: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                text.write_str("an id")
            }

            fn visit_unit<E>(self) -> Result<RawId, E> {
                Ok(RawId::None)
            }

            fn visit_i64<E>(self, number: i64) -> Result<RawId, E> {
                Ok(RawId::Is(Id::Number(number)))
            }

            fn visit_u64<E>(self, number: u64) -> Result<RawId, E> {
                Ok(i64::try_from(number).map_or(RawId::Wrong, |number| RawId::Is(Id::Number(number))))
            }

            fn visit_str<E>(self, text: &str) -> Result<RawId, E> {
                Ok(RawId::Is(Id::Text(text.to_owned())))
            }

            fn visit_bool<E>(self, _: bool) -> Result<RawId, E> {
                Ok(RawId::Wrong)
            }

            fn visit_f64<E>(self, _: f64) -> Result<RawId, E> {
                Ok(RawId::Wrong)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<RawId, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(RawId::Wrong)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<RawId, A::Error> {
                while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(RawId::Wrong)
            }
        }

        from.deserialize_any(Read)
    }
}

/// How deep in lists and objects a place of a text is.
#[derive(Default)]
struct Nesting {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Nesting {
    /// Goes on by one byte; returns the brackets that it opens (1) or closes (-1).
    fn step(&mut self, byte: u8) -> i8 {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return 0;
        }
        match byte {
            b'"' => self.in_string = true,
            b'[' | b'{' => {
                self.depth += 1;
                return 1;
            }
            b']' | b'}' => {
                self.depth = self.depth.saturating_sub(1);
                return -1;
            }
            _ => {}
        }
        0
    }
}

/// Whether anything is nested deeper than `limit`; looks no further than to the first such place, and no closer than it must.
fn is_deeper(text: &str, limit: usize) -> bool {
    let opening = text.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count();
    if opening <= limit {
        return false;
    }
    let mut nesting = Nesting::default();
    text.bytes().any(|byte| nesting.step(byte) > 0 && nesting.depth > limit)
}

/// The text with `null` for every list and object that is nested deeper than `limit`; borrowed when there is none.
fn cut_at_depth(text: &str, limit: usize) -> Cow<'_, str> {
    let mut nesting = Nesting::default();
    let mut cut: Option<String> = None;
    let mut kept_to = 0;
    for (at, byte) in text.bytes().enumerate() {
        let before = nesting.depth;
        match nesting.step(byte) {
            1 if before == limit => {
                let cut = cut.get_or_insert_default();
                cut.push_str(&text[kept_to..at]);
                cut.push_str("null");
                kept_to = text.len();
            }
            -1 if before == limit + 1 => kept_to = at + 1,
            _ => {}
        }
    }
    match cut {
        Some(mut cut) => {
            cut.push_str(&text[kept_to..]);
            Cow::Owned(cut)
        }
        None => Cow::Borrowed(text),
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
        Fault { code: code.unwrap_or(Code::Bug), message: self.message.clone(), hint }
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

    /// The quick look at a client's line and the thorough one of everybody else differ in nothing that a client could see.
    #[test]
    fn a_call_is_what_a_strict_look_at_its_line_finds() {
        let long = format!(r#"{{"jsonrpc":"2.0","id":"{}","method":"x"}}"#, "i".repeat(257));
        for line in [
            r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":[1,{"b":"c"}]}}"#,
            r#"{"jsonrpc":"2.0","id":"one","method":"x"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"x","params":null}"#,
            r#"{"jsonrpc":"2.0","method":"x","params":[]}"#,
            r#"{"jsonrpc":"2.0","id":null,"method":"x"}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"a":1}}"#,
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"x"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"x","error":{"code":1,"message":"x"}}"#,
            r#"{"jsonrpc":"2.0","id":[1,{"a":2}],"method":"x"}"#,
            r#"{"jsonrpc":"2.0","id":{"a":[]},"method":"x"}"#,
            r#"{"jsonrpc":"2.0","id":true,"method":"x"}"#,
            r#"{"jsonrpc":"2.0","id":0.5,"method":"x"}"#,
            r#"{"jsonrpc":"2.0","id":99999999999999999999,"method":"x"}"#,
            r#"{"jsonrpc":"2.0","id":-7,"method":"x"}"#,
            r#"{"jsonrpc":"1.0","id":1,"method":"x"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":}}"#,
            r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"x"}"#,
            "[]",
            "{}",
            "nonsense",
            &long,
        ] {
            let thorough = parse(line.as_bytes(), true).map(|message| match message {
                Message::Request { id, method, params } => Some((id, method, params)),
                _ => None,
            });
            let quick = parse_call(line.as_bytes()).map(|call| {
                let read = |text| serde_json::from_str(text).expect("it was looked at");
                call.map(|call| (call.id, call.method, read(call.params)))
            });
            assert_eq!(quick, thorough, "{line}");
        }
    }

    #[test]
    fn only_what_is_too_deep_is_cut() {
        for (text, cut) in [
            (r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"{"a":[[1],{},2,"[["],"b":[{"c":"}"}]}"#, r#"{"a":[null,null,2,"[["],"b":[null]}"#),
            (r#"[[[[["x]\"]"]],7]]]"#, r#"[[null]]"#),
            (r#"[[["#, r#"[[null"#),
            (r#"[["é",["é"],"é"]]"#, r#"[["é",null,"é"]]"#),
        ] {
            assert_eq!(cut_at_depth(text, 2), cut);
        }
    }
}
