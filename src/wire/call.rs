//! What a client asks: its line, looked through once.
//!
//! **Invariant:** nothing of a request's parameters is built before its method is known.

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::raw::{Raw, check_object, check_version, checked_id, checked_text, neither, no_object};
use super::rpc::{BadLine, Id};

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

/// Reads one line of a client; `None` for what wants no answer.
///
/// # Errors
/// As [`super::rpc::parse`] when it is strict, but for what nobody reads: an error that a client sends may be anything, and a number or a
/// text within parameters only has to be written as one.
pub fn parse_call(line: &[u8]) -> Result<Option<Call<'_>>, BadLine> {
    let text = checked_text(line)?;
    check_object(text)?;
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

#[cfg(test)]
mod tests {
    use super::super::rpc::{Message, parse};
    use super::*;

    /// The quick look at a client's line and the thorough one of everybody else.
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
            r#"["2.0",7,"session/show",{"name":"x"}]"#,
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

    /// Where the two part: in what no method reads.
    #[test]
    fn what_nobody_reads_is_only_looked_at_as_json() {
        for line in [
            r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"unread":1e999}}"#,
            r#"{"jsonrpc":"2.0","id":5,"error":"garbage"}"#,
        ] {
            assert!(parse(line.as_bytes(), true).is_err() && parse_call(line.as_bytes()).is_ok(), "{line}");
        }
    }
}
