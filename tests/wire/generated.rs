//! Generated hostile input for what reads the wire: the splitter, the messages, the requests.
//!
//! **Invariant:** nothing panics, nothing grows past its bound, and what is written is read back the same.

use crate::support::seeded::seeded;
use agentmux::model::fault::Code;
use agentmux::model::limits;
use agentmux::protocol::request::Request;
use agentmux::protocol::verb;
use agentmux::wire::lines::Lines;
use agentmux::wire::rpc::{self, Id, Message};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Short pieces of streams, newlines among them more often than by chance.
fn pieces() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let byte = prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>(), b'a'..=b'z'];
    prop::collection::vec(prop::collection::vec(byte, 0..24), 0..24)
}

/// Any JSON, small.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((key(), inner), 0..6).prop_map(|entries| entries.into_iter().collect()),
        ]
    })
}

/// Texts as they come in requests: names good and bad, ids, and anything.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("operator".to_owned()),
        Just("@all".to_owned()),
        Just("..".to_owned()),
        Just("a\0b".to_owned()),
        "[a-z][a-z0-9_-]{0,40}",
        "[0-9a-f-]{0,40}",
        any::<String>(),
    ]
}

/// Keys that requests really have, among others.
fn key() -> impl Strategy<Value = String> {
    let known = [
        "to",
        "body",
        "subject",
        "priority",
        "replyTo",
        "expiresMs",
        "key",
        "id",
        "until",
        "timeoutMs",
        "name",
        "names",
        "now",
        "limit",
        "unread",
        "dir",
        "program",
        "environment",
        "sandbox",
        "approval",
        "client",
        "version",
        "protocolMin",
        "protocolMax",
        "agentMark",
        "thread",
    ];
    prop_oneof![4 => prop::sample::select(known.to_vec()).prop_map(str::to_owned), 1 => any::<String>()]
}

/// A method of the relay, or something like one.
fn method() -> impl Strategy<Value = String> {
    let known: Vec<&'static str> = verb::methods().collect();
    prop_oneof![6 => prop::sample::select(known).prop_map(str::to_owned), 1 => any::<String>()]
}

proptest! {
    #![proptest_config(seeded(600))]

    /// However a stream is cut into pieces, its lines are the same, up to the first one over the bound; and never is more
    /// held than the bound and one piece.
    #[test]
    fn the_splitter_gives_the_lines_of_the_stream_and_holds_a_bounded_rest(pieces in pieces(), bound in 1usize..40) {
        let mut lines = Lines::new(bound);
        let mut found: Vec<Result<Vec<u8>, ()>> = Vec::new();
        for piece in &pieces {
            lines.push(piece);
            while let Some(line) = lines.next_line() {
                found.push(line.map(<[u8]>::to_vec).map_err(|_| ()));
            }
            prop_assert!(!lines.has_line());
            prop_assert!(lines.held() <= bound, "{} held", lines.held());
        }
        let stream = pieces.concat();
        let mut wanted = Vec::new();
        let mut rest = stream.as_slice();
        loop {
            let end = rest.iter().position(|byte| *byte == b'\n');
            if end.unwrap_or(rest.len()) > bound {
                wanted.push(Err(()));
                break;
            }
            let Some(end) = end else { break };
            wanted.push(Ok(rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]).to_vec()));
            rest = &rest[end + 1..];
        }
        prop_assert_eq!(found, wanted);
    }

    #[test]
    fn any_bytes_are_a_message_or_a_typed_refusal(line in prop::collection::vec(any::<u8>(), 0..200), strict: bool) {
        if let Err(bad) = rpc::parse(&line, strict) {
            prop_assert!([-32_700, -32_600].contains(&bad.number));
            prop_assert_eq!(bad.fault.code, Code::Usage);
        }
    }

    #[test]
    fn any_json_is_a_message_or_a_typed_refusal(value in value(), strict: bool) {
        let line = value.to_string();
        if let Err(bad) = rpc::parse(line.as_bytes(), strict) {
            prop_assert!([-32_700, -32_600].contains(&bad.number));
        }
    }

    /// The relay's quick look at a line finds what a thorough one does.
    #[test]
    fn any_line_is_the_same_call_for_a_quick_and_a_thorough_look(
        id in value(), method in method(), params in value(), cut in 0_usize..40,
    ) {
        let mut line = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string().into_bytes();
        line.truncate(line.len().saturating_sub(cut.saturating_sub(20)));
        let thorough = rpc::parse(&line, true).map(|message| match message {
            Message::Request { id, method, params } => Some((id, method, params)),
            _ => None,
        });
        let quick = agentmux::wire::call::parse_call(&line).map(|call| {
            call.map(|call| (call.id, call.method, serde_json::from_str(call.params).expect("it was looked at")))
        });
        prop_assert_eq!(quick.map_err(|bad| bad.number), thorough.map_err(|bad| bad.number));
    }

    #[test]
    fn what_is_written_as_a_request_is_read_as_that_request(number: i64, method in method(), params in value()) {
        let id = Id::Number(number);
        let line = rpc::request(&id, &method, &params);
        prop_assert_eq!(line.matches('\n').count(), 1, "one line, whatever is in it");
        let wanted = Message::Request { id, method, params: serde_json::from_str(&params.to_string()).expect("JSON") };
        prop_assert_eq!(rpc::parse(line.trim_end().as_bytes(), true).expect("a request"), wanted);
    }

    /// What comes out of `Request::parse` has names and sizes inside their grammar, so nothing behind it checks again.
    #[test]
    fn any_parameters_are_a_request_inside_the_grammar_or_a_refusal(method in method(), params in value()) {
        match Request::parse(&method, &params.to_string()) {
            Err(fault) => {
                prop_assert!([Code::Usage, Code::NotFound].contains(&fault.code), "{fault:?}");
                prop_assert!(!fault.message.is_empty() && !fault.message.contains('\0'), "{fault:?}");
            }
            Ok(request) => {
                prop_assert!(verb::methods().any(|known| known == request.method()));
                if let Request::Send(send) = request {
                    prop_assert!((1..=limits::RECIPIENTS_MAX).contains(&send.to.len()));
                    prop_assert!(!send.body.is_empty() && !send.body.contains('\0'));
                }
            }
        }
    }

    #[test]
    fn a_mail_is_taken_exactly_when_it_is_inside_its_limits(
        to in text(),
        body in prop_oneof![any::<String>(), Just("x".repeat(1_000_000)), Just("x".repeat(1_000_001))],
        subject in prop::option::of(prop_oneof![any::<String>(), "[a-z ]{190,210}"]),
    ) {
        let params = json!({ "to": [to], "body": body, "subject": subject });
        let name = agentmux::model::name::Name::parse(&to).is_some();
        let fits = (name || to == "@all")
            && !body.is_empty()
            && body.len() <= 1_000_000
            && !body.contains('\0')
            && subject.is_none_or(|subject| {
                subject.chars().count() <= 200
                    && !subject.chars().any(agentmux::protocol::check::is_unprintable)
            });
        prop_assert_eq!(Request::parse("mail/send", &params.to_string()).is_ok(), fits);
    }
}
