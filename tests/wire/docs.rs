//! `docs/protocol.md`, replayed: every example of the page against one live relay, in the order of the page.
//!
//! **Invariant:** an answer has exactly the keys that the page shows; what differs from run to run is matched by the marks
//! that the page explains. **Invariant:** every method of the table has an example.

use crate::socket::Socket;
use crate::support::{House, ScriptedModel};
use agentmux::protocol::verb;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const PAGE: &str = include_str!("../../docs/protocol.md");

/// One line of an example.
#[derive(Debug)]
struct Line {
    number: usize,
    is_request: bool,
    message: Value,
}

/// What the named marks stand for.
type Bound = BTreeMap<String, Value>;

#[test]
fn every_example_of_the_page_is_what_the_relay_really_says() {
    let model = ScriptedModel::start();
    let house = House::real(&model);
    let _ = house.run(&["up"]).ok();
    let text = |path: &std::path::Path| json!(path.to_str().expect("the house's paths are UTF-8"));
    let environment: Value =
        house.environment().into_iter().map(|(key, value)| (key, json!(value))).collect();
    let mut bound = Bound::from([
        ("dir".to_owned(), text(&house.project())),
        ("codex".to_owned(), text(house.codex())),
        ("environment".to_owned(), environment),
    ]);
    let mut socket: Option<Socket> = None;
    for line in lines() {
        let place = format!("docs/protocol.md:{}", line.number);
        if line.is_request {
            if line.message["method"] == "hello" {
                socket = Some(Socket::open(&house));
            }
            let request = filled(&line.message, &bound, &place);
            socket.as_mut().expect("the page begins with hello").line(&request.to_string());
        } else {
            let socket = socket.as_mut().expect("a request comes first");
            let is_notice = line.message.get("method").is_some();
            let said = if is_notice { socket.notice() } else { socket.answer() };
            compare(&line.message, &said, &mut bound, &place, "");
        }
    }
    socket.expect("the page has examples").ended();
    house.wait_until_empty(std::time::Duration::from_secs(20));
}

#[test]
fn every_method_has_a_heading_and_an_example() {
    let asked: Vec<Value> =
        lines().iter().filter(|line| line.is_request).map(|line| line.message["method"].clone()).collect();
    for method in verb::methods() {
        assert!(PAGE.contains(&format!("\n## `{method}`\n")), "{method} has no heading");
        assert!(asked.iter().any(|have| have == method), "{method} has no example");
    }
}

#[test]
fn the_limits_and_errors_of_the_page_are_those_of_the_code() {
    use agentmux::model::fault::Code;
    use agentmux::model::limits;
    for (what, number) in [
        ("a line from a client", limits::REQUEST_LINE_BYTES_MAX),
        ("nesting of JSON in it", limits::JSON_DEPTH_MAX),
        ("requests of one connection that wait at once", limits::PENDING_PER_CLIENT_MAX),
        ("bytes that a client may leave unread", limits::CLIENT_OUT_BYTES_MAX),
        ("connections at once", limits::CLIENTS_MAX),
        ("a mail's body", limits::BODY_BYTES_MAX),
        ("a mail's subject", limits::SUBJECT_CHARS_MAX),
        ("a mail's recipients", limits::RECIPIENTS_MAX),
        ("an idempotency key", limits::KEY_BYTES_MAX),
    ] {
        let row = PAGE.lines().find(|line| line.starts_with(&format!("| {what} |"))).unwrap_or_default();
        assert!(row.replace(',', "").contains(&number.to_string()), "{what}: {number}\n{row}");
    }
    for code in [
        Code::Refused,
        Code::Usage,
        Code::NotFound,
        Code::Timeout,
        Code::Conflict,
        Code::Version,
        Code::Bug,
        Code::Io,
        Code::Busy,
    ] {
        let word = json!(code);
        let row = format!("| `{}` | {} | {} |", word.as_str().unwrap_or_default(), code.rpc(), code.exit());
        assert!(PAGE.contains(&row), "{row}");
    }
}

#[test]
fn the_marks_match_what_they_say_and_nothing_else() {
    let matches = |wanted: Value, said: Value| {
        std::panic::catch_unwind(|| compare(&wanted, &said, &mut Bound::new(), "here", "")).is_ok()
    };
    let id = "0199a213-81c0-7800-8aa1-bbab2a035a53";
    for (wanted, said, does) in [
        (json!("<uuid>"), json!(id), true),
        (json!("<uuid>"), json!(&id[1..]), false),
        (json!("<time>"), json!("2026-05-01T10:00:00.000Z"), true),
        (json!("<time>"), json!("10:00"), false),
        (json!("<int>"), json!(7), true),
        (json!("<int>"), json!("7"), false),
        (json!("<text>"), json!("x"), true),
        (json!("<text>"), json!(""), false),
        (json!("<text>"), Value::Null, false),
        (json!("<text?>"), Value::Null, true),
        (json!({"a": 1}), json!({"a": 1, "b": 2}), false),
        (json!({"a": 1, "b": 2}), json!({"a": 1}), false),
        (json!(["<int:n>", "<int:n>"]), json!([1, 1]), true),
        (json!(["<int:n>", "<int:n>"]), json!([1, 2]), false),
    ] {
        assert_eq!(matches(wanted.clone(), said.clone()), does, "{wanted} and {said}");
    }
}

/// The lines of all examples, in the order of the page.
fn lines() -> Vec<Line> {
    let mut found = Vec::new();
    for (index, line) in PAGE.lines().enumerate() {
        let (is_request, text) = match (line.strip_prefix("-> "), line.strip_prefix("<- ")) {
            (Some(text), _) => (true, text),
            (_, Some(text)) => (false, text),
            _ => continue,
        };
        let number = index + 1;
        let message = serde_json::from_str(text);
        let message = message.unwrap_or_else(|error| panic!("docs/protocol.md:{number}: {error}"));
        found.push(Line { number, is_request, message });
    }
    assert!(found.len() > 30, "the page has examples");
    found
}

/// A mark: its kind, whether null will do, and its name.
fn mark(text: &str) -> Option<(&str, bool, Option<&str>)> {
    let inside = text.strip_prefix('<')?.strip_suffix('>')?;
    let (kind, name) = inside.split_once(':').map_or((inside, None), |(kind, name)| (kind, Some(name)));
    let plain = kind.trim_end_matches('?');
    Some((plain, plain != kind, name))
}

/// A request with what its marks stand for.
fn filled(value: &Value, bound: &Bound, place: &str) -> Value {
    match value {
        Value::String(text) => match mark(text) {
            Some((kind, _, name)) => {
                let name = name.unwrap_or(kind);
                bound.get(name).unwrap_or_else(|| panic!("{place}: nothing is known of `{name}` yet")).clone()
            }
            None => value.clone(),
        },
        Value::Array(items) => items.iter().map(|item| filled(item, bound, place)).collect(),
        Value::Object(entries) => {
            entries.iter().map(|(key, value)| (key.clone(), filled(value, bound, place))).collect()
        }
        other => other.clone(),
    }
}

/// Compares an answer with the page, and remembers what its named marks stand for.
fn compare(wanted: &Value, said: &Value, bound: &mut Bound, place: &str, at: &str) {
    match (wanted, said) {
        (Value::String(text), _) if mark(text).is_some() => {
            let Some((kind, or_null, name)) = mark(text) else { return };
            let fits = match kind {
                "uuid" => {
                    said.as_str().is_some_and(|text| agentmux::model::id::MailId::parse(text).is_some())
                }
                "time" => {
                    said.as_str().is_some_and(|text| agentmux::model::clock::Millis::parse(text).is_some())
                }
                "int" => said.is_i64() || said.is_u64(),
                "text" => said.as_str().is_some_and(|text| !text.is_empty()),
                other => panic!("{place}: there is no mark <{other}>"),
            };
            assert!(fits || (or_null && said.is_null()), "{place}: {at}: {text} was expected, not {said}");
            if let Some(name) = name {
                let known = bound.entry(name.to_owned()).or_insert_with(|| said.clone());
                assert_eq!(known, said, "{place}: {at}: {text}");
            }
        }
        (Value::Object(wanted_entries), Value::Object(entries)) => {
            let keys =
                |object: &serde_json::Map<String, Value>| -> Vec<String> { object.keys().cloned().collect() };
            let (mut page, mut real) = (keys(wanted_entries), keys(entries));
            page.sort();
            real.sort();
            assert_eq!(page, real, "{place}: the keys of {at}: {said}");
            for (key, value) in wanted_entries {
                compare(value, &entries[key], bound, place, &format!("{at}.{key}"));
            }
        }
        (Value::Array(wanted_items), Value::Array(items)) => {
            assert_eq!(wanted_items.len(), items.len(), "{place}: {at}: {said}");
            for (index, (wanted, item)) in wanted_items.iter().zip(items).enumerate() {
                compare(wanted, item, bound, place, &format!("{at}[{index}]"));
            }
        }
        _ => assert_eq!(wanted, said, "{place}: {at}"),
    }
}
