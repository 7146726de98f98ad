//! Hostile, broken and slow clients: each gets a typed answer or its end, and the others go on.

use crate::socket::{Socket, hello, request};
use crate::support::House;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Expects an error with this number and this word, and returns it.
#[track_caller]
pub fn error(answer: &Value, number: i64, word: &str) -> Value {
    let error = &answer["error"];
    assert_eq!(
        (error["code"].as_i64(), error["data"]["code"].as_str()),
        (Some(number), Some(word)),
        "{answer}"
    );
    let exits = [("refused", 1), ("usage", 2), ("not_found", 3), ("version", 8), ("busy", 75)];
    let exit = exits.iter().find(|(known, _)| *known == word).map(|(_, exit)| *exit);
    assert_eq!(error["data"]["exit"].as_i64(), exit, "{answer}");
    assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{answer}");
    error.clone()
}

/// Expects that a connection is served as if nothing had happened.
#[track_caller]
fn goes_on(socket: &mut Socket) {
    let answer = socket.ask("session/list", json!({}));
    assert!(answer["result"]["sessions"].is_array(), "{answer}");
}

/// BS-4: a connection that never says hello costs the relay two seconds of patience, and nobody else anything.
#[test]
fn a_connection_without_hello_is_closed() {
    let house = House::new();
    let mut silent = Socket::open(&house);
    let begun = Instant::now();
    let mut other = Socket::hello(&house);
    silent.ended();
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(1500), "not before its time: {took:?}");
    goes_on(&mut other);
}

#[test]
fn the_first_request_must_be_hello_and_hello_is_said_once() {
    let house = House::new();
    let mut socket = Socket::open(&house);
    let refused = error(&socket.ask("session/list", json!({})), -32_602, "usage");
    assert!(refused["message"].as_str().is_some_and(|text| text.contains("must be `hello`")), "{refused}");
    socket.ended();

    let mut socket = Socket::hello(&house);
    let refused = error(&socket.ask("hello", hello()), -32_602, "usage");
    assert!(refused["message"].as_str().is_some_and(|text| text.contains("said already")), "{refused}");
    goes_on(&mut socket);
}

#[test]
fn nothing_is_stored_for_a_connection_that_has_not_said_hello() {
    let house = House::new();
    let mut socket = Socket::open(&house);
    socket.line(&request(1, "mail/send", &json!({ "to": ["operator"], "body": "x" })));
    socket.finish_writing();
    let _ = error(&socket.answer(), -32_602, "usage");
    socket.ended();
    let status = Socket::hello(&house).ask("relay/status", json!({}));
    assert_eq!(status["result"]["mail"]["queued"], 0, "{status}");
}

/// SQ-14: nobody can make the relay hold an endless line.
#[test]
fn a_line_over_the_bound_is_refused_and_its_connection_closed() {
    let house = House::new();
    let mut other = Socket::hello(&house);
    let mut socket = Socket::hello(&house);
    let piece = vec![b'x'; 1024 * 1024];
    let taken = (0..10).take_while(|_| socket.write(&piece)).count();
    assert!(taken >= 8, "{taken} MiB were taken");
    let answer = socket.answer();
    assert!(answer["id"].is_null(), "{answer}");
    let refused = error(&answer, -32_600, "usage");
    assert!(
        refused["message"].as_str().is_some_and(|text| text.contains("longer than 8388608 bytes")),
        "{refused}"
    );
    socket.ended();
    goes_on(&mut other);
}

/// SQ-8: what is not one JSON-RPC object on one line is never guessed at.
#[test]
fn a_line_that_is_no_message_is_refused_by_its_kind_and_its_connection_closed() {
    let house = House::new();
    let mut other = Socket::hello(&house);
    let deep = |depth: usize| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"session/list\",\"params\":{open}{close}}}")
    };
    let long_id = json!({ "jsonrpc": "2.0", "id": "x".repeat(257), "method": "session/list" }).to_string();
    let (deep, abyss) = (deep(64), deep(100_000));
    let lines: [(&[u8], i64, Value); 12] = [
        (b"\xff\xfe\x00{}", -32_700, Value::Null),
        (b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xc3\x28\"}", -32_700, Value::Null),
        (b"GET / HTTP/1.1", -32_700, Value::Null),
        (b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"session/list\"", -32_700, Value::Null),
        (deep.as_bytes(), -32_700, Value::Null),
        (abyss.as_bytes(), -32_700, Value::Null),
        (b"[]", -32_600, Value::Null),
        (b"7", -32_600, Value::Null),
        (b"{\"id\":7,\"method\":\"session/list\"}", -32_600, 7.into()),
        (b"{\"jsonrpc\":\"2.0\",\"id\":\"a\"", -32_700, Value::Null),
        (b"{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"session/list\"}", -32_600, Value::Null),
        (long_id.as_bytes(), -32_600, Value::Null),
    ];
    for (line, number, id) in lines {
        let mut socket = Socket::hello(&house);
        // What is pipelined behind it is not looked at any more.
        let behind = request(9, "mail/send", &json!({ "to": ["operator"], "body": "never" }));
        let _ = socket.write(&[line, b"\n", behind.as_bytes(), b"\n"].concat());
        let answer = socket.answer();
        let shown = String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned();
        assert_eq!(answer["id"], id, "{shown}: {answer}");
        let _ = error(&answer, number, "usage");
        socket.ended();
    }
    goes_on(&mut other);
    let status = other.ask("relay/status", json!({}));
    assert_eq!(status["result"]["mail"]["queued"], 0, "{status}");
}

/// Symptom: a mail that was pipelined before a line of garbage was stored, and its sender not told. Cause: the refusal closed the
/// connection before the answers of that lap were queued. Now: the refusal comes last.
#[test]
fn what_was_asked_before_an_unreadable_line_is_answered_before_its_refusal() {
    let house = House::new();
    let mut socket = Socket::open(&house);
    let lines = [request(1, "hello", &hello()), request(2, "session/list", &json!({})), "#".to_owned()];
    assert!(socket.write(format!("{}\n", lines.join("\n")).as_bytes()));
    assert_eq!(socket.answer()["id"], 1);
    assert_eq!(socket.answer()["id"], 2);
    let _ = error(&socket.answer(), -32_700, "usage");
    socket.ended();
}

#[test]
fn a_wrong_method_or_wrong_parameters_are_refused_and_the_connection_goes_on() {
    let house = House::new();
    let mut socket = Socket::hello(&house);
    let refused = error(&socket.ask("mail/sned", json!({})), -32_601, "usage");
    assert!(
        refused["message"].as_str().is_some_and(|text| text.contains("no method `mail/sned`")),
        "{refused}"
    );
    assert!(refused["data"]["hint"].as_str().is_some_and(|hint| hint.contains("mail/send")), "{refused}");
    for (method, params) in [
        ("mail/send", json!({})),
        ("mail/send", json!({ "to": "operator", "body": "x" })),
        ("mail/send", json!({ "to": [], "body": "x" })),
        ("mail/send", json!({ "to": vec!["a"; 65], "body": "x" })),
        ("mail/send", json!({ "to": ["operator"], "body": "" })),
        ("mail/send", json!({ "to": ["operator"], "body": "a\0b" })),
        ("mail/send", json!({ "to": ["operator"], "body": "x", "priority": "later" })),
        ("mail/send", json!({ "to": ["operator"], "body": "x", "expiresMs": -1 })),
        ("mail/send", json!([["operator"], "x"])),
        ("mail/send", json!("text")),
        ("mail/send", json!({ "to": ["operator"], "body": "x".repeat(1_000_001) })),
        ("mail/wait", json!({ "id": "x", "timeoutMs": "long" })),
        ("session/spawn", json!({ "name": "a" })),
        ("session/look", json!({ "name": "a", "limit": -1 })),
    ] {
        let _ = error(&socket.ask(method, params), -32_602, "usage");
    }
    goes_on(&mut socket);
    let status = socket.ask("relay/status", json!({}));
    assert_eq!(status["result"]["mail"]["queued"], 0, "{status}");
}

/// LK-7, SQ-12: names are checked where they come in, also the ones that no argument of a command could hold.
#[test]
fn names_outside_the_grammar_are_refused_and_touch_no_file() {
    let house = House::new();
    let mut socket = Socket::hello(&house);
    let files = |house: &House| -> Vec<_> {
        let dirs = [house.bundle_dir(), house.bundle_dir().join("children")];
        let entries = dirs.iter().flat_map(|dir| std::fs::read_dir(dir).into_iter().flatten().flatten());
        entries.map(|entry| entry.path()).collect()
    };
    let before = files(&house);
    let long = "a".repeat(33);
    for name in ["", "..", ".", "/x", "a/b", "a\0b", "a\nb", "Reviewer", "ä", "-a", &long, "operator\0"] {
        let spawn = json!({ "name": name, "dir": house.project(), "program": "/bin/true" });
        for (method, params) in [
            ("session/spawn", spawn),
            ("session/up", json!({ "names": [name] })),
            ("session/down", json!({ "names": [name] })),
            ("session/remove", json!({ "name": name })),
            ("session/look", json!({ "name": name, "limit": 1 })),
            ("session/attach", json!({ "name": name })),
            ("mail/list", json!({ "name": name })),
            ("mail/send", json!({ "to": [name], "body": "x" })),
        ] {
            let refused = error(&socket.ask(method, params), -32_602, "usage");
            let text = refused["message"].as_str().unwrap_or_default();
            assert!(
                text.contains("is not a session name") && !text.contains('\0'),
                "{method} {name:?}: {text:?}"
            );
        }
    }
    for spawn in [
        json!({ "name": "operator", "dir": house.project(), "program": "/bin/true" }),
        json!({ "name": "a", "dir": "project", "program": "/bin/true" }),
        json!({ "name": "a", "dir": house.project(), "program": "codex" }),
    ] {
        let _ = error(&socket.ask("session/spawn", spawn), -32_602, "usage");
    }
    assert_eq!(files(&house), before);
}

#[test]
fn an_agents_connection_may_look_and_send_and_is_refused_everything_else() {
    let house = House::new();
    let mut agent = Socket::hello_outside(&house);
    let sent = agent.ask("mail/send", json!({ "to": ["operator"], "body": "x", "from": "operator" }));
    let id = sent["result"]["id"].clone();
    assert!(id.is_string(), "{sent}");
    goes_on(&mut agent);
    assert_eq!(agent.ask("relay/status", json!({}))["result"]["mail"]["queued"], 1);
    assert_eq!(agent.ask("mail/wait", json!({ "id": id, "timeoutMs": 1 }))["result"]["reached"], false);
    let spawn = json!({ "name": "a", "dir": house.project(), "program": "/bin/true", "environment": { "HOME": "/" } });
    for (method, params) in [
        ("session/spawn", spawn),
        ("session/up", json!({})),
        ("session/down", json!({})),
        ("session/remove", json!({ "name": "a" })),
        ("session/look", json!({ "name": "a", "limit": 1 })),
        ("session/attach", json!({ "name": "a" })),
        ("mail/list", json!({})),
        ("mail/read", json!({ "id": id })),
        ("mail/trace", json!({ "id": id })),
        ("relay/stop", json!({})),
    ] {
        let refused = error(&agent.ask(method, params), -32_001, "refused");
        let why = if method.starts_with("mail/") { "has no name of its own" } else { "only the operator" };
        assert!(refused["message"].as_str().is_some_and(|text| text.contains(why)), "{refused}");
    }
    assert!(!house.bundle_dir().join("children/a.env").exists(), "a refused spawn leaves no file");
    let inbox = Socket::hello(&house).ask("mail/list", json!({}));
    assert_eq!(
        inbox["result"]["mails"][0]["from"], "outside",
        "the sender is not the client's to say: {inbox}"
    );
}

#[test]
fn requests_may_be_pipelined_and_an_id_used_twice_is_answered_twice() {
    let house = House::new();
    let mut socket = Socket::open(&house);
    let lines: Vec<String> = (0..200).map(|n| request(n % 100, "session/list", &json!({}))).collect();
    let text = format!("{}\n{}\n", request(-1, "hello", &hello()), lines.join("\n"));
    assert!(socket.write(text.as_bytes()));
    assert_eq!(socket.answer()["id"], -1);
    for n in 0..200 {
        let answer = socket.answer();
        assert_eq!(answer["id"], n % 100, "in order: {answer}");
        assert!(answer["result"]["sessions"].is_array(), "{answer}");
    }
    let text_id = json!({ "jsonrpc": "2.0", "id": "näme \"1\"", "method": "session/list" }).to_string();
    socket.line(&text_id);
    assert_eq!(socket.answer()["id"], "näme \"1\"", "given back unchanged");
}

/// What is no request is not answered, and does no harm.
#[test]
fn empty_lines_notifications_and_responses_are_passed_over() {
    let house = House::new();
    let mut socket = Socket::hello(&house);
    socket.line("");
    socket.line("\r");
    socket.line(
        "{\"jsonrpc\":\"2.0\",\"method\":\"mail/send\",\"params\":{\"to\":[\"operator\"],\"body\":\"x\"}}",
    );
    socket.line("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}");
    socket.line("{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":1,\"message\":\"x\"}}");
    let status = socket.ask("relay/status", json!({}));
    assert_eq!(status["result"]["mail"]["queued"], 0, "{status}");
}

#[test]
fn a_half_closed_connection_still_gets_its_answers() {
    let house = House::new();
    let mut first = Socket::hello_outside(&house);
    let sent = first.ask("mail/send", json!({ "to": ["operator"], "body": "x" }));
    let mut socket = Socket::open(&house);
    let wait = json!({ "id": sent["result"]["id"], "timeoutMs": 300 });
    let lines = [
        request(1, "hello", &hello()),
        request(2, "mail/wait", &wait),
        request(3, "relay/status", &json!({})),
    ];
    assert!(socket.write(format!("{}\n", lines.join("\n")).as_bytes()));
    socket.finish_writing();
    assert_eq!(socket.answer()["id"], 1);
    assert_eq!(socket.answer()["id"], 3, "what need not wait does not");
    let waited = socket.answer();
    assert_eq!((&waited["id"], &waited["result"]["reached"]), (&2.into(), &false.into()), "{waited}");
    socket.ended();
}

/// Symptom: a script that pipelined 200 requests and closed its side got 64 answers. Cause: lines left for the next lap were
/// forgotten at the end of the stream. Now: every request that arrived whole is answered.
#[test]
fn every_request_of_a_half_closed_connection_is_answered() {
    let house = House::new();
    let mut socket = Socket::open(&house);
    let mut lines = vec![request(0, "hello", &hello())];
    lines.extend((1..=500).map(|id| request(id, "session/list", &json!({}))));
    assert!(socket.write(format!("{}\n", lines.join("\n")).as_bytes()));
    socket.finish_writing();
    for id in 0..=500 {
        assert_eq!(socket.answer()["id"], id);
    }
    socket.ended();
}

/// SQ-14: a client that pipelines without end and reads nothing fills the kernel's buffers, not the relay's memory.
#[test]
fn a_flood_of_requests_does_not_grow_the_relay() {
    let house = House::new();
    let mut other = Socket::hello(&house);
    let pid = house.relay_pid().expect("a relay runs");
    let rss_kib = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number")
    };
    let before = rss_kib();
    let flood =
        format!("{}\n", request(1, "session/list", &json!({ "padding": "x".repeat(900) }))).repeat(4_000);
    let mut socket = Socket::hello(&house);
    for _ in 0..20 {
        // Whatever the relay makes of it: takes it, or closes the connection.
        if !socket.write(flood.as_bytes()) {
            break;
        }
    }
    goes_on(&mut other);
    let grown = rss_kib().saturating_sub(before);
    assert!(grown < 40 * 1024, "the relay grew by {grown} KiB");
}

/// SQ-5, SQ-7: mail that was handed to a reader who went away before its next word goes to the next reader, also when the relay
/// is killed in between.
#[test]
fn mail_that_was_handed_to_a_reader_who_went_away_is_handed_to_the_next_one() {
    let house = House::new();
    let sent = Socket::hello_outside(&house).ask("mail/send", json!({"to": ["operator"], "body": "read me"}));
    let next = |reader: &mut Socket| {
        let answer = reader.ask("mail/next", json!({"timeoutMs": 10_000}));
        assert_eq!(answer["result"]["mail"]["id"], sent["result"]["id"], "{answer}");
    };
    next(&mut Socket::hello(&house));
    let mut killed = Socket::hello(&house);
    next(&mut killed);
    house.kill_nine(house.relay_pid().expect("a relay runs"));
    let _ = house.run(&["up"]).ok();
    let mut reader = Socket::hello(&house);
    next(&mut reader);
    let _ = reader.ask("session/list", json!({}));
    let traced = reader.ask("mail/trace", json!({"id": sent["result"]["id"]}));
    assert_eq!(traced["result"]["deliveries"][0]["state"], "consumed", "{traced}");
}

/// SQ-7: a request that was sent before the mail had left its relay is no word of the reader that it has it.
#[test]
fn a_pipelined_request_does_not_confirm_a_mail_that_it_could_not_have_seen() {
    let house = House::new();
    let mut sender = Socket::hello_outside(&house);
    let sent = sender.ask("mail/send", json!({"to": ["operator"], "body": "read me"}));
    let id = sent["result"]["id"].clone();
    let mut reader = Socket::hello(&house);
    let both =
        [request(1, "mail/read", &json!({"id": id})), request(2, "session/list", &json!({}))].join("\n");
    reader.line(&both);
    let (read, list) = (reader.answer(), reader.answer());
    assert_eq!((&read["result"]["mail"]["body"], &list["id"]), (&json!("read me"), &json!(2)));
    let mut other = Socket::hello(&house);
    let mut state = |id: &Value| {
        let traced = other.ask("mail/trace", json!({"id": id}));
        traced["result"]["deliveries"][0]["state"].clone()
    };
    assert_eq!(state(&id), "submitted");
    let _ = reader.ask("session/list", json!({}));
    assert_eq!(state(&id), "consumed");
}

#[test]
fn a_request_that_arrives_byte_by_byte_is_one_request() {
    let house = House::new();
    let mut socket = Socket::open(&house);
    let body = "äöü \u{1f600} end";
    for line in [
        request(
            1,
            "hello",
            &json!({ "client": "t", "version": "1", "protocolMin": 1, "protocolMax": 1, "agentMark": "X" }),
        ),
        request(2, "mail/send", &json!({ "to": ["operator"], "body": body })),
    ] {
        for byte in format!("{line}\r\n").bytes() {
            assert!(socket.write(&[byte]));
        }
        assert!(socket.answer()["result"].is_object());
    }
    let mut operator = Socket::hello(&house);
    let mails = operator.ask("mail/list", json!({}));
    let read = operator.ask("mail/read", json!({ "id": mails["result"]["mails"][0]["id"] }));
    assert_eq!(read["result"]["mail"]["body"], body);
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_line_or_a_wait_is_forgotten() {
    let house = House::new();
    let mut operator = Socket::hello(&house);
    let mut agent = Socket::hello_outside(&house);
    let sent = agent.ask("mail/send", json!({ "to": ["operator"], "body": "x" }));
    let wait = json!({ "id": sent["result"]["id"], "timeoutMs": 60_000 });
    agent.line(&request(2, "mail/wait", &wait));
    assert!(agent.write(b"{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"mail/se"));
    drop(agent);
    house.poll("it to be forgotten", Duration::from_secs(20), || {
        match operator.ask("relay/status", json!({}))["result"]["clients"].as_i64() {
            Some(1) => Ok(()),
            clients => Err(format!("{clients:?} clients")),
        }
    });
}

/// TQ-6: what one connection may leave waiting has a limit, and the limit is told.
#[test]
fn a_connection_may_let_so_many_requests_wait_and_no_more() {
    let house = House::new();
    let mut socket = Socket::hello_outside(&house);
    let sent = socket.ask("mail/send", json!({ "to": ["operator"], "body": "x" }));
    let wait = json!({ "id": sent["result"]["id"], "timeoutMs": 60_000 });
    for n in 0..65 {
        socket.line(&request(100 + n, "mail/wait", &wait));
    }
    let answer = socket.answer();
    assert_eq!(answer["id"], 164, "the one too many");
    let refused = error(&answer, -32_075, "busy");
    assert!(refused["message"].as_str().is_some_and(|text| text.contains("64 requests")), "{refused}");
    // Reading the mail takes it, and all who wait for that are answered.
    let mut operator = Socket::hello(&house);
    let _ = operator.ask("mail/read", json!({ "id": sent["result"]["id"] }));
    goes_on(&mut operator);
    for n in 0..64 {
        let answer = socket.answer();
        assert_eq!(
            (&answer["id"], &answer["result"]["reached"]),
            (&(100 + n).into(), &true.into()),
            "{answer}"
        );
    }
}

/// A reader that stops reading is closed when it has left 16 MiB unread; the others are served meanwhile.
#[test]
fn a_client_that_does_not_read_is_closed_and_the_others_are_served() {
    let house = House::new();
    let mut operator = Socket::hello(&house);
    let body = "x".repeat(900_000);
    let sent = Socket::hello_outside(&house).ask("mail/send", json!({ "to": ["operator"], "body": body }));
    let mut deaf = Socket::hello(&house);
    let read = request(7, "mail/read", &json!({ "id": sent["result"]["id"] }));
    let asked = (0..40).take_while(|_| deaf.write(format!("{read}\n").as_bytes())).count();
    assert!(asked > 10, "{asked} were asked before the end");
    house.poll("it to be closed", Duration::from_secs(30), || {
        match operator.ask("relay/status", json!({}))["result"]["clients"].as_i64() {
            Some(1) => Ok(()),
            clients => Err(format!("{clients:?} clients")),
        }
    });
    assert!(house.relay_log().contains("bytes unread"), "{}", house.relay_log());
}
