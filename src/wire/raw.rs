//! What every JSON-RPC line is made of, before anybody knows whether it is a message: its fields, its id, how deep it is nested.
//!
//! **Invariant:** nothing is read deeper than a bound: a client's line that is deeper is refused, a child's loses what is too deep.

use std::borrow::Cow;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::rpc::{BadLine, Id};
use crate::model::fault::{Code, Fault};
use crate::model::limits;

/// The fields of a message; `P` is what is kept of parameters and results, `E` of an error.
#[derive(Deserialize)]
#[serde(bound(deserialize = "P: Deserialize<'de>, E: Deserialize<'de>"), expecting = "an object")]
pub(super) struct Raw<P, E> {
    #[serde(default)]
    pub jsonrpc: Option<String>,
    #[serde(default)]
    pub id: RawId,
    #[serde(default)]
    pub method: Option<String>,
    #[serde(default = "Option::default")]
    pub params: Option<P>,
    #[serde(default = "Option::default")]
    pub result: Option<P>,
    #[serde(default = "Option::default")]
    pub error: Option<E>,
}

/// What stands as an id.
#[derive(Default)]
pub(super) enum RawId {
    #[default]
    None,
    Is(Id),
    /// A list, an object, a fraction, a giant.
    Wrong,
}

pub(super) fn bad(number: i64, id: Option<Id>, what: &str) -> BadLine {
    BadLine { id, number, fault: Fault::new(Code::Usage, what) }
}

pub(super) fn neither(id: Option<Id>) -> BadLine {
    bad(-32_600, id, "request refused: the object is neither a request nor a response")
}

pub(super) fn no_object(error: &serde_json::Error) -> BadLine {
    let number = if error.is_data() { -32_600 } else { -32_700 };
    bad(number, None, &format!("request refused: the line is not a JSON-RPC object: {error}"))
}

pub(super) fn utf8(line: &[u8]) -> Result<&str, BadLine> {
    std::str::from_utf8(line).map_err(|_| bad(-32_700, None, "request refused: the line is not UTF-8"))
}

/// Refuses what is no object: a list of the same values would else be taken for one.
pub(super) fn check_object(text: &str) -> Result<(), BadLine> {
    if text.trim_start().starts_with('{') {
        return Ok(());
    }
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| no_object(&error))?;
    Err(bad(-32_600, None, "request refused: the line is not a JSON-RPC object"))
}

/// A client's line as text that is not nested too deeply.
pub(super) fn checked_text(line: &[u8]) -> Result<&str, BadLine> {
    let text = utf8(line)?;
    match is_deeper(text, limits::JSON_DEPTH_MAX) {
        true => Err(bad(-32_700, None, "request refused: the line is nested too deeply")),
        false => Ok(text),
    }
}

pub(super) fn checked_id(id: RawId) -> Result<Option<Id>, BadLine> {
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

pub(super) fn check_version(version: Option<&str>, id: Option<&Id>) -> Result<(), BadLine> {
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
pub(super) fn cut_at_depth(text: &str, limit: usize) -> Cow<'_, str> {
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

#[cfg(test)]
mod tests {
    use super::cut_at_depth;

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
