//! What only Codex hears: the requests of each command, in order, with equal configuration at every opening.

use agentmux::model::child::{ChildCommand, ChildEvent};
use agentmux::transport::Transport;
use agentmux::transport::codex::Codex;
use serde_json::{Value, json};

use super::kind::{Fake, Refusal, What, claim, name, open, turn};
use super::pair::Pair;

#[test]
fn the_first_words_are_initialize_and_initialized() {
    let mut pair = Pair::connected();
    assert_eq!(pair.fake.methods(), ["initialize", "initialized"]);
    assert_eq!(pair.fake.last("initialize")["clientInfo"]["name"], "agentmux");
    assert!(pair.fake.last("initialize")["capabilities"].is_null(), "nothing experimental is asked for");
    assert_eq!(pair.events(), [ChildEvent::Ready { version: "0.169.0".to_owned() }]);
}

/// `thread/inject_items` makes the thread durable on every supported version, so it comes before the name (measured: the name
/// alone writes nothing on 0.157.0), and the thread counts as open only after both.
#[test]
fn a_new_thread_is_introduced_before_it_is_named() {
    let mut pair = Pair::connected();
    pair.command(open("reviewer", None));
    assert_eq!(
        pair.fake.methods()[2..],
        ["thread/start", "thread/inject_items", "thread/name/set", "skills/list"]
    );
    let item = &pair.fake.last("thread/inject_items")["items"][0];
    assert_eq!(
        (&item["role"], &item["content"][0]["text"]),
        (&json!("developer"), &json!("You are reviewer."))
    );
    assert_eq!(pair.fake.last("thread/name/set")["name"], "reviewer");
    for (what, last) in [(What::NewThread, "thread/start"), (What::Introduction, "thread/unsubscribe")] {
        let mut pair = Pair::connected();
        pair.fake.refuse(what, Refusal::ForGood);
        pair.command(open("reviewer", None));
        assert_eq!(pair.fake.methods().last(), Some(&last), "nothing follows a refusal, but what undoes");
        assert!(!pair.events().iter().any(|event| matches!(event, ChildEvent::ThreadOpened { .. })));
    }
}

/// A resume without the configuration would lose it (0.169.0 keeps no `config` across a restart).
#[test]
fn a_resume_carries_the_same_configuration_as_the_start() {
    let mut pair = Pair::connected();
    pair.command(open("reviewer", None));
    let mut started = pair.fake.last("thread/start").clone();
    let id = pair.fake.last("thread/inject_items")["threadId"].as_str().expect("an id").into();
    pair.command(open("reviewer", Some(&id)));
    started["threadId"] = json!(&*id);
    started["excludeTurns"] = json!(true);
    let sorted = |value: &Value| -> std::collections::BTreeMap<String, Value> {
        let object = value.as_object().expect("an object");
        object.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    assert_eq!(sorted(pair.fake.last("thread/resume")), sorted(&started));
    assert_eq!(started["config"]["shell_environment_policy"]["set"]["AGENTMUX_SESSION"], "reviewer");
    assert_eq!(
        (&started["sandbox"], &started["approvalPolicy"]),
        (&json!("read-only"), &json!("on-request"))
    );
}

/// One message carries the claim as its client id, which is not an idempotency key: it is never sent twice by itself.
#[test]
fn a_turn_is_one_request_with_the_claim() {
    let mut pair = Pair::connected();
    pair.command(open("reviewer", None));
    pair.command(turn(claim(1)));
    let params = pair.fake.last("turn/start");
    assert_eq!(params["clientUserMessageId"], claim(1).to_string());
    assert_eq!(params["input"], json!([{"type": "text", "text": "[agentmux mail 1 of 1]\nhello"}]));
    assert_eq!(pair.fake.methods().iter().filter(|method| **method == "turn/start").count(), 1);
}

/// `doctor` looks for the words that are really spoken: every method in the transport's source is in its lists, and the other way round.
#[test]
fn the_words_that_doctor_looks_for_are_those_that_are_spoken() {
    use agentmux::transport::codex::{NOTICES, REQUESTS};
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/transport/codex");
    let mut sources = String::new();
    for entry in std::fs::read_dir(dir).expect("the sources").flatten() {
        let text = std::fs::read_to_string(entry.path()).expect("UTF-8");
        sources.push_str(text.split("pub const REQUESTS").next().unwrap_or_default());
        sources.push_str(text.split("pub struct Codex").nth(1).unwrap_or_default());
    }
    for word in REQUESTS.iter().chain(NOTICES) {
        assert!(sources.contains(&format!("\"{word}\"")), "{word} is not spoken");
    }
    let is_method = |word: &&str| {
        let parts: Vec<&str> = word.split('/').collect();
        parts.len() > 1
            && parts
                .iter()
                .all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphabetic() || c == '_'))
    };
    let deliberate = ["item/commandExecution/outputDelta"]; // passed over unread
    for word in sources.split('"').filter(is_method) {
        let is_question = word.ends_with("/requestApproval") || word.contains("equest");
        let known =
            REQUESTS.contains(&word) || NOTICES.contains(&word) || deliberate.contains(&word) || is_question;
        assert!(known, "{word} is not in the lists");
    }
}

/// The history is read with the view that shows steered messages, newest first.
#[test]
fn the_history_is_read_item_by_item() {
    let mut pair = Pair::connected();
    pair.command(open("reviewer", None));
    pair.command(turn(claim(1)));
    pair.fake.set_page(1);
    pair.command(ChildCommand::FindClaims { session: name("reviewer"), claims: vec![claim(1)] });
    let params = pair.fake.last("thread/items/list");
    assert_eq!((&params["sortDirection"], &params["cursor"]), (&json!("desc"), &json!("1")));
}

#[test]
fn a_closed_thread_is_interrupted_before_it_is_left() {
    let mut pair = Pair::connected();
    pair.command(open("reviewer", None));
    pair.command(turn(claim(1)));
    pair.command(ChildCommand::CloseThread { session: name("reviewer") });
    let methods = pair.fake.methods();
    assert_eq!(methods[methods.len() - 2..], ["turn/interrupt", "thread/unsubscribe"]);
    assert!(pair.fake.last("turn/interrupt")["turnId"].is_string());
}

/// A superseded opening of a thread that nobody wants is left to unload; one of the thread that is wanted is not.
#[test]
fn a_thread_nobody_waits_for_is_left() {
    let mut pair = Pair::connected();
    pair.fake.hold();
    pair.command(open("reviewer", None));
    pair.command(open("reviewer", None));
    pair.fake.release();
    pair.run();
    let left = pair.fake.last("thread/unsubscribe")["threadId"].clone();
    let opened = pair.events().into_iter().find_map(|event| match event {
        ChildEvent::ThreadOpened { thread, .. } => Some(json!(&*thread)),
        _ => None,
    });
    assert!(opened.is_some_and(|opened| opened != left), "the first of two is left");

    let mut pair = Pair::connected();
    pair.command(open("reviewer", None));
    let thread = pair.fake.last("thread/inject_items")["threadId"].as_str().expect("an id").into();
    pair.codex.on_open();
    pair.run();
    pair.fake.hold();
    pair.command(open("reviewer", Some(&thread)));
    pair.command(open("reviewer", Some(&thread)));
    pair.fake.release();
    pair.run();
    assert!(!pair.fake.methods().contains(&"thread/unsubscribe"), "{:?}", pair.fake.methods());
}

/// A thread that another program writes to, perhaps a child of ours that is still ending, may be free later; the core decides
/// whether anybody waits for that.
#[test]
fn a_thread_with_another_writer_may_be_free_later() {
    let mut codex = Codex::default();
    codex.on_open();
    codex.command(open("reviewer", Some(&"t".into())));
    codex.on_message(r#"{"id":2,"error":{"code":-32600,"message":"thread t already has an active writer"}}"#);
    let events: Vec<ChildEvent> = std::iter::from_fn(|| codex.next_event()).collect();
    let [ChildEvent::ThreadFailed { temporary: true, why, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!(why, "thread t already has an active writer");
}

/// A thread's id is shown, and printed in commands for a shell: what is none is not taken for one.
#[test]
fn a_thread_without_an_id_of_a_thread_has_failed() {
    for id in [json!(null), json!(7), json!("$(touch x)"), json!("\u{1b}[2J")] {
        let mut codex = Codex::default();
        codex.on_open();
        codex.command(open("reviewer", None));
        codex.on_message(&json!({"id": 2, "result": {"thread": {"id": id}}}).to_string());
        let events: Vec<ChildEvent> = std::iter::from_fn(|| codex.next_event()).collect();
        let [ChildEvent::ThreadFailed { temporary: false, why, .. }] = &events[..] else {
            panic!("{id}: {events:?}")
        };
        assert_eq!(why, "it answered thread/start without a thread");
    }
}

/// The words of a failed turn: its kind, then what happened; whatever shape the kind has.
#[test]
fn a_failed_turn_is_told_in_codex_own_words() {
    use agentmux::model::child::TurnOutcome::{Blocked, ContextFull, Failed, Overloaded};
    let http = |status: u64| json!({"httpConnectionFailed": {"httpStatusCode": status}});
    let of = |kind: Value| json!({"message": "no more", "codexErrorInfo": kind});
    for (error, wanted) in [
        (
            of(json!("usageLimitExceeded")),
            Blocked { why: "usageLimitExceeded: no more".to_owned(), until: None },
        ),
        (of(http(401)), Blocked { why: "httpConnectionFailed: no more".to_owned(), until: None }),
        (of(http(503)), Overloaded("httpConnectionFailed: no more".to_owned())),
        (of(json!({"httpConnectionFailed": {}})), Overloaded("httpConnectionFailed: no more".to_owned())),
        (
            of(json!({"responseStreamDisconnected": {"httpStatusCode": null}})),
            Overloaded("responseStreamDisconnected: no more".to_owned()),
        ),
        (of(json!("serverOverloaded")), Overloaded("serverOverloaded: no more".to_owned())),
        (
            of(json!({"responseTooManyFailedAttempts": {"httpStatusCode": 429}})),
            Overloaded("responseTooManyFailedAttempts: no more".to_owned()),
        ),
        // As 0.157.0 has it.
        (
            json!({"message": "unexpected status 503 Service Unavailable: x", "codexErrorInfo": "other"}),
            Overloaded("unexpected status 503 Service Unavailable: x".to_owned()),
        ),
        (
            json!({"message": "unexpected status 401 Unauthorized: x", "codexErrorInfo": "other"}),
            Blocked { why: "unexpected status 401 Unauthorized: x".to_owned(), until: None },
        ),
        // A broken stream, and a `server_error` of the model, have no kind of their own (0.157.0, 0.169.0).
        (
            json!({"message": "stream disconnected before completion: x", "codexErrorInfo": "other"}),
            Overloaded("stream disconnected before completion: x".to_owned()),
        ),
        (of(http(404)), Failed("httpConnectionFailed: no more".to_owned())),
        (of(json!("contextWindowExceeded")), ContextFull("contextWindowExceeded: no more".to_owned())),
        (of(json!("other")), Failed("no more".to_owned())),
        (Value::Null, Failed("no reason given".to_owned())),
    ] {
        let mut pair = Pair::connected();
        pair.command(open("reviewer", None));
        pair.events();
        let thread = pair.fake.last("thread/inject_items")["threadId"].clone();
        let turn = json!({"id": "turn-7", "status": "failed", "error": error});
        let notice = json!({"method": "turn/completed", "params": {"threadId": thread, "turn": turn}});
        pair.codex.on_message(&notice.to_string());
        let events = pair.events();
        assert!(
            matches!(&events[..], [ChildEvent::TurnEnded { outcome, .. }] if *outcome == wanted),
            "{events:?}"
        );
    }
}

/// What a watcher hears of a message: nothing unless it listens; all of it when it does, from the first byte, in order and bounded
/// pieces, also when it began to listen in its middle.
#[test]
fn an_answer_is_told_as_it_is_written_to_who_listens() {
    use agentmux::model::limits::DELTA_BYTES_MAX;
    let long = "é".repeat(DELTA_BYTES_MAX);
    for (listens_from, streamed) in
        [(0, "Hello"), (1, "Hello"), (2, "Hello"), (0, long.as_str()), (3, "Hello")]
    {
        let mut pair = Pair::connected();
        pair.command(open("reviewer", None));
        pair.events();
        let thread = pair.fake.last("thread/inject_items")["threadId"].clone();
        let message = |text: &str| json!({"type": "agentMessage", "id": "m", "text": text});
        let whole = format!("{streamed}, world");
        let item = |item: Value| json!({"threadId": thread, "turnId": "t", "item": item});
        let delta = json!({"threadId": thread, "turnId": "t", "itemId": "m", "delta": streamed});
        let notices = [
            ("item/started", item(message(""))),
            ("item/agentMessage/delta", delta.clone()),
            ("item/completed", item(message(&whole))),
        ];
        for (at, (method, params)) in notices.iter().enumerate() {
            if at == listens_from {
                pair.codex.hear(&[name("reviewer"), name("other")].into());
            }
            pair.codex.on_message(&format!(r#"{{"method":"{method}","params":{params}}}"#));
        }
        let mut said = String::new();
        for event in pair.events() {
            let ChildEvent::Said { offset, text, item, turn, .. } = event else { panic!("{event:?}") };
            assert_eq!(
                (offset as usize, item.as_str(), &*turn),
                (said.len(), "m", "t"),
                "no gap and no overlap"
            );
            assert!(!text.is_empty() && text.len() <= DELTA_BYTES_MAX);
            said.push_str(&text);
        }
        assert_eq!(said, if listens_from == 3 { String::new() } else { whole }, "from {listens_from}");
        pair.codex.hear(&[].into());
        pair.codex.on_message(&json!({"method": "item/agentMessage/delta", "params": delta}).to_string());
        assert_eq!(pair.events(), [], "nobody listens any more");
    }
}

/// A steer that comes too late, in Codex's own words for it, is a missed turn and not a refused mail.
#[test]
fn a_steer_that_is_too_late_is_a_missed_turn() {
    for (words, is_missed) in [
        ("no active turn to steer", true),
        ("expected active turn id `a` but found `b`", true),
        ("Invalid request: missing field `expectedTurnId`", false),
    ] {
        let mut pair = Pair::connected();
        pair.command(open("reviewer", None));
        pair.events();
        let text = "hello".to_owned();
        pair.codex.command(ChildCommand::SteerTurn {
            session: name("reviewer"),
            claim: claim(1),
            turn: "a".into(),
            text,
        });
        let asked: Value =
            serde_json::from_str(&pair.codex.next_message().expect("a request")).expect("JSON");
        assert_eq!(
            (&asked["method"], &asked["params"]["expectedTurnId"]),
            (&json!("turn/steer"), &json!("a"))
        );
        pair.codex
            .on_message(&json!({"id": asked["id"], "error": {"code": -32600, "message": words}}).to_string());
        match &pair.events()[..] {
            [ChildEvent::TurnMissed { claim: of, .. }] => assert!(is_missed && *of == claim(1), "{words}"),
            [ChildEvent::TurnRefused { temporary: true, .. }] => assert!(!is_missed, "{words}"),
            events => panic!("{words}: {events:?}"),
        }
    }
}

/// An MCP tool may return JSON of any depth, and Codex passes it on in its items. That is no garbage, and no reason to give up
/// a child with all its sessions.
#[test]
fn deeply_nested_json_is_passed_over() {
    for depth in [70, 200, 100_000] {
        let mut pair = Pair::connected();
        pair.command(open("reviewer", None));
        pair.events();
        let thread = pair.fake.last("thread/inject_items")["threadId"].clone();
        let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        pair.codex.on_message(&format!(
            r#"{{"method":"item/completed","params":{{"threadId":{thread},"turnId":"t","item":{{"type":"mcpToolCall","result":{deep}}}}}}}"#
        ));
        assert_eq!(pair.events(), [], "depth {depth}");
        pair.command(turn(claim(1)));
        assert!(
            pair.events().iter().any(|event| matches!(event, ChildEvent::InputTaken { claim: Some(_), .. }))
        );
    }
}

/// Input joins a turn while tools run and nothing of the model's own is being written: a web search is the service's, in the middle of its
/// stream, and a response may go on behind the call of a tool that runs already (0.157.0 to 0.169.0).
#[test]
fn a_boundary_is_a_tool_at_work_and_nothing_being_written() {
    let mut pair = Pair::connected();
    pair.command(open("reviewer", None));
    pair.command(turn(claim(1)));
    pair.events();
    let thread = pair.fake.last("thread/inject_items")["threadId"].clone();
    let mut says = |method: &str, kind: &str, id: &str| -> Vec<bool> {
        let params = json!({"threadId": thread, "turnId": "turn-2", "item": {"type": kind, "id": id},
            "willRetry": true, "error": {"message": "Reconnecting... 1/5"}});
        pair.codex.on_message(&json!({"method": method, "params": params}).to_string());
        let boundary = |event: ChildEvent| match event {
            ChildEvent::Boundary { at_boundary, .. } => Some(at_boundary),
            _ => None,
        };
        pair.events().into_iter().filter_map(boundary).collect()
    };
    let (begun, done) = ("item/started", "item/completed");
    for (method, kind, id, told) in [
        (begun, "webSearch", "w", &[][..]),
        (done, "webSearch", "w", &[]),
        // A message behind a call: first the tool, then the message, which ends before the tool.
        (begun, "commandExecution", "c1", &[true]),
        (begun, "agentMessage", "m1", &[false]),
        (begun, "mcpToolCall", "c2", &[]),
        (done, "agentMessage", "m1", &[true]),
        (done, "commandExecution", "c1", &[]),
        (done, "mcpToolCall", "c2", &[false]),
        // The other way round.
        (begun, "reasoning", "r", &[]),
        (begun, "commandExecution", "c3", &[]),
        (done, "reasoning", "r", &[true]),
        (done, "commandExecution", "c3", &[false]),
        // What is thrown away for new input, or with its stream, never ends, and closes no boundary for ever.
        (begun, "agentMessage", "m2", &[]),
        (done, "userMessage", "u", &[]),
        (begun, "fileChange", "c4", &[true]),
        (begun, "agentMessage", "m3", &[false]),
        ("error", "", "", &[true]),
        (done, "fileChange", "c4", &[false]),
    ] {
        assert_eq!(says(method, kind, id), told, "{method} of {kind} {id}");
    }
}

/// Symptom: of two offered decisions of one kind the last one was sent, a denial recorded as `approved`, and a rule on disk written without
/// a word. Now: each has a name of its own, says whether it is a no, and which file it changes.
#[test]
fn offered_decisions_of_one_kind_stay_apart_and_say_what_they_change() {
    let mut pair = Pair::connected();
    pair.command(open("reviewer", None));
    pair.events();
    let thread = pair.fake.last("thread/inject_items")["threadId"].clone();
    let network = |action: &str| json!({"applyNetworkPolicyAmendment": {"network_policy_amendment": {"host": "x.example", "action": action}}});
    for action in ["allow", "deny"] {
        let asks = json!({"id": action, "method": "item/commandExecution/requestApproval", "params": {"threadId": thread,
            "turnId": "t", "itemId": "i", "command": "curl", "cwd": "/p",
            "availableDecisions": ["accept", network("allow"), network("deny"), "cancel"]}});
        pair.codex.on_message(&asks.to_string());
        let events = pair.events();
        let [ChildEvent::ApprovalAsked(asked)] = &events[..] else { panic!("{events:?}") };
        let name = format!("applyNetworkPolicyAmendment:x.example:{action}");
        let choice = &asked.choices[&name];
        assert!(asked.decisions.contains(&name), "{asked:?}");
        assert_eq!(choice.is_no, action == "deny");
        let lasting = choice.lasting.clone().expect("it persists");
        assert_eq!(lasting.file, "$CODEX_HOME/rules/default.rules");
        assert_eq!(lasting.rule, format!("network_rule(host=\"x.example\", decision=\"{action}\")"));
        pair.command(ChildCommand::Choose { key: asked.key.clone(), decision: name });
        let answer = json!({"result": {"decision": network(action)}}).to_string();
        assert_eq!(pair.fake.answers().last(), Some(&answer));
    }
}

/// Symptom: searches and what was asked of sub-agents had no text in `look` and were missing in `watch`, and a tool's call said neither
/// with what nor what came of it. Now: as below (shapes of 0.169.0).
#[test]
fn what_tools_did_is_readable() {
    let mut pair = Pair::connected();
    pair.command(open("reviewer", None));
    pair.events();
    let thread = pair.fake.last("thread/inject_items")["threadId"].clone();
    let told = [
        (
            json!({"type": "webSearch", "id": "i", "query": "planes",
                "action": {"type": "search", "query": "planes", "queries": ["planes", "jets"]}}),
            "webSearch: planes\nplanes\njets",
        ),
        (
            json!({"type": "webSearch", "id": "i", "query": "", "action": {"type": "openPage", "url": "https://x.example"}}),
            "webSearch: https://x.example",
        ),
        (
            json!({"type": "collabAgentToolCall", "id": "i", "tool": "spawnAgent", "prompt": "look at it", "receiverThreadIds": [],
                "agentsStates": {"t": {"status": "completed", "message": "looked"}}}),
            "collabAgentToolCall: spawnAgent: look at it\ncompleted: looked",
        ),
        (
            json!({"type": "mcpToolCall", "id": "i", "server": "tool", "tool": "wipe", "arguments": {"what": "it"},
                "result": {"content": [{"type": "text", "text": "wiped"}]}, "error": null}),
            "tool: tool.wipe {\"what\":\"it\"}\nwiped",
        ),
        (
            json!({"type": "mcpToolCall", "id": "i", "server": "tool", "tool": "wipe", "arguments": null, "result": null,
                "error": {"message": "no such disk"}}),
            "tool: tool.wipe\nno such disk",
        ),
        (json!({"type": "imageView", "id": "i", "path": "/project/a.png"}), "imageView: /project/a.png"),
    ];
    for (item, wanted) in told {
        let notice =
            json!({"method": "item/completed", "params": {"threadId": thread, "turnId": "t", "item": item}});
        pair.codex.on_message(&notice.to_string());
        let items = std::iter::from_fn(|| pair.codex.next_event()).filter_map(|event| match event {
            ChildEvent::ItemDone { item, .. } => Some(format!("{}: {}", item.kind, item.text)),
            _ => None,
        });
        assert_eq!(items.collect::<Vec<_>>(), [wanted]);
    }
}
