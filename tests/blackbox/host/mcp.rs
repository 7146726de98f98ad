//! `agentmux host mcp`: the six tools of an agent, spoken to by a client that knows nothing of the SDK behind them.

use super::busy::Stopped;
use crate::support::McpClient;
use crate::*;
use serde_json::json;
use std::time::Instant;

/// The tools of an outside agent with a name.
#[track_caller]
fn tools(house: &House, name: &str) -> McpClient {
    let mut command = house.command(env!("CARGO_BIN_EXE_agentmux"));
    command.args(["host", "mcp", "--as", name]);
    McpClient::start(command)
}

/// users 7, users 8, users 17: two agents that are no sessions write to each other, by their tools alone.
#[test]
fn two_outside_agents_write_read_and_answer_by_their_tools() {
    let house = House::new();
    let mut ann = tools(&house, "ann");
    assert_eq!(ann.does("whoami", json!({}))["name"], "ann", "the first call starts a relay");
    let mut bob = tools(&house, "bob");
    let who = bob.does("whoami", json!({}));
    assert_eq!(
        (&who["name"], &who["kind"], &who["bundle"]),
        (&"bob".into(), &"outside".into(), &"test".into())
    );
    let listed = ann.does("list", json!({}));
    let names: Vec<&str> =
        listed["sessions"].as_array().into_iter().flatten().filter_map(|s| s["name"].as_str()).collect();
    assert_eq!(names, ["ann", "bob"]);

    let sent = ann.does("send", json!({"to": "bob", "body": "a question", "subject": "s", "expires": "1h"}));
    has_keys(&sent, &["id", "thread", "deliveries"]);
    let id = sent["id"].as_str().unwrap_or_default().to_owned();
    let inbox = bob.does("inbox", json!({"unread": true}));
    assert_eq!(
        (&inbox["mails"][0]["id"], &inbox["mails"][0]["body"]),
        (&id.clone().into(), &"a question".into())
    );
    assert_eq!(state(&house, &id), "submitted", "handed over, and confirmed by what comes next");
    let answer = bob.does("send", json!({"to": ["ann"], "body": "an answer", "replyTo": id}));
    assert_eq!(state(&house, &id), "acked", "answering confirms");
    let next = ann.does("wait", json!({"timeoutMs": 30_000}));
    assert_eq!((&next["mail"]["id"], &next["mail"]["replyTo"]), (&answer["id"], &id.clone().into()));
    let acked = ann.does("inbox", json!({"ack": [answer["id"]]}));
    assert_eq!(acked["acked"][0], answer["id"]);

    let asked = ann.begin_call("ask", json!({"to": "bob", "body": "and now?"}));
    let question = bob.does("wait", json!({"timeoutMs": 30_000}));
    let _ = bob.does("send", json!({"to": "ann", "body": "now this", "replyTo": question["mail"]["id"]}));
    let (heard, failed) = ann.called(asked);
    assert!(!failed && heard["mail"]["body"] == "now this", "{heard}");
    assert_eq!(ann.end(), Some(0), "it ends with its stdin");
}

#[test]
fn a_wait_that_is_over_is_an_ordinary_answer_and_goes_on_with_its_resume() {
    let house = House::new();
    let mut ann = tools(&house, "ann");
    let over = ann.does("wait", json!({"timeoutMs": 1}));
    assert_eq!((&over["timedOut"], &over["resume"]), (&true.into(), &"next:".into()));
    let mut bob = tools(&house, "bob");
    let _ = bob.does("whoami", json!({}));
    let over = ann.does("ask", json!({"to": "bob", "body": "a question", "timeoutMs": 1}));
    assert_eq!((&over["timedOut"], &over["deliveries"][0]["state"]), (&true.into(), &"queued".into()));
    let question = bob.does("wait", json!({}));
    let _ = bob.does("send", json!({"to": "ann", "body": "late", "replyTo": question["mail"]["id"]}));
    let heard = ann.does("wait", json!({"resume": over["resume"]}));
    assert_eq!(heard["mail"]["body"], "late");
    let _ = ann.fails("wait", json!({"resume": "something else"}));
}

#[test]
fn what_fails_is_a_result_with_code_message_and_hint() {
    let house = House::new();
    let mut ann = tools(&house, "ann");
    let error = ann.fails("send", json!({"to": "anna", "body": "x"}));
    assert_eq!((&error["code"], &error["exit"]), (&"not_found".into(), &3.into()));
    assert_eq!(error["hint"], "did you mean ann");
    for (tool, arguments, word) in [
        ("send", json!({"to": "operator", "body": ""}), "usage"),
        ("send", json!({"to": "operator"}), "usage"),
        ("send", json!({"to": "operator", "body": "x", "from": "lead"}), "usage"),
        ("send", json!({"to": "operator", "body": "x", "expires": "soon"}), "usage"),
        ("send", json!({"to": "ann", "body": "to itself"}), "usage"),
        ("inbox", json!({"ack": ["ffffffff"]}), "not_found"),
        ("list", json!({"all": true}), "usage"),
    ] {
        let error = ann.fails(tool, arguments.clone());
        assert_eq!(error["code"], word, "{tool} {arguments}: {error}");
    }
    let unknown = ann.ask("tools/call", json!({"name": "approve", "arguments": {}}));
    assert_eq!(unknown["error"]["code"], -32602, "there is no such tool: {unknown}");
    // A held name is a conflict, and the one that was refused goes on trying with each call.
    let mut second = tools(&house, "ann");
    let error = second.fails("whoami", json!({}));
    assert_eq!(error["code"], "conflict", "{error}");
    let message = error["message"].as_str().unwrap_or_default();
    assert!(message.contains(&format!("is held by pid {}", ann.id())), "{message}");
    drop(ann);
    assert_eq!(second.does("whoami", json!({}))["name"], "ann");
    // Without a name the tools of an agent are nobody's, and never the operator's.
    let mut command = house.command(env!("CARGO_BIN_EXE_agentmux"));
    command.args(["host", "mcp"]);
    let mut nobody = McpClient::start(command);
    assert_eq!(nobody.does("whoami", json!({}))["kind"], "outside");
    assert_eq!(nobody.fails("inbox", json!({}))["code"], "refused");
    let _ = nobody.does("send", json!({"to": "operator", "body": "hello"}));
}

/// A tool's connection comes back through a relay that was killed, replaced or stopped, and is the same name again.
#[test]
fn the_tools_go_on_through_restarts_of_the_relay_and_keep_their_name() {
    let house = House::new();
    let mut ann = tools(&house, "ann");
    let _ = ann.does("whoami", json!({}));
    let mut ids = Vec::new();
    for round in 0..3 {
        let body = format!("mail {round}");
        match round {
            1 => house.kill_nine(house.relay_pid().expect("a relay runs")),
            2 => drop(house.run(&["down"]).ok()),
            _ => {}
        }
        ids.push(ann.does("send", json!({"to": "operator", "body": body}))["id"].clone());
    }
    let inbox = house.run(&["inbox", "--json"]).json();
    let mails = inbox["mails"].as_array().cloned().unwrap_or_default();
    assert_eq!(mails.len(), 3, "{inbox}");
    assert!(mails.iter().all(|mail| mail["from"] == "ann" && ids.contains(&mail["id"])), "{inbox}");
    // A wait that the relay's death interrupts goes on with the next relay.
    let waiting = ann.begin_call("wait", json!({"timeoutMs": 40_000}));
    house.kill_nine(house.relay_pid().expect("a relay runs"));
    let _ = house.run(&["send", "ann", "after the crash"]).ok();
    let (heard, failed) = ann.called(waiting);
    assert!(!failed && heard["mail"]["body"] == "after the crash", "{heard}");
    // So does one that an upgrade interrupts.
    let before = house.relay_pid();
    let waiting = ann.begin_call("wait", json!({"timeoutMs": 40_000}));
    let replacing = house.spawn(&["host", "relay", "--replace"]);
    house.poll("the next relay", SOON, || match house.relay_pid() {
        pid if pid.is_some() && pid != before => Ok(()),
        pid => Err(format!("{pid:?}")),
    });
    let sent = ann.does("send", json!({"to": "operator", "body": "meanwhile"}));
    let inbox = house.run(&["inbox", "--json"]).json();
    let found = inbox["mails"].as_array().into_iter().flatten().find(|mail| mail["id"] == sent["id"]);
    assert!(found.is_some_and(|mail| mail["from"] == "ann"), "{inbox}");
    let _ = house.run(&["send", "ann", "after the upgrade"]).ok();
    let (heard, failed) = ann.called(waiting);
    assert!(!failed && heard["mail"]["body"] == "after the upgrade", "{heard}");
    let _ = house.run(&["down"]).ok();
    let _ = replacing.finish(SOON).ok();
}

/// NB-6: a relay that hangs answers neither the first nor the second time it is asked; what a model then sends again is one mail.
#[test]
fn mail_that_a_model_sends_again_because_no_answer_came_is_sent_once() {
    let house = House::new();
    let mut ann = tools(&house, "ann");
    let _ = ann.does("whoami", json!({}));
    let relay = Stopped::process(&house, house.relay_pid().expect("a relay runs"));
    let mail = json!({"to": "operator", "body": "once", "subject": "s"});
    let error = ann.fails("send", mail.clone());
    assert_eq!((&error["code"], &error["exit"]), (&"busy".into(), &75.into()), "{error}");
    assert!(error["message"].as_str().is_some_and(|why| why.contains("may have been accepted")), "{error}");
    assert!(error["hint"].as_str().is_some_and(|hint| hint.contains("same arguments")), "{error}");
    drop(relay);
    let sent = ann.does("send", mail.clone());
    let inbox = house.run(&["inbox", "--json"]).ok().json();
    let ids: Vec<&Value> = inbox["mails"].as_array().into_iter().flatten().map(|mail| &mail["id"]).collect();
    assert_eq!(ids, [&sent["id"]], "{inbox}");
    // Whoever knows that it was accepted and says the same again means it.
    assert_ne!(ann.does("send", mail)["id"], sent["id"]);
}

/// A relay that does not answer in time is asked once more, with the same key. The relay is played.
#[test]
fn mail_is_sent_once_more_on_a_new_connection_where_no_answer_came() {
    use crate::support::played::{Step, play};
    let house = House::new();
    let id = "019ac7d2-7e8b-7f2a-9d3c-0123456789ab";
    let sent = json!({"id": id, "thread": id, "deliveries": [{"to": "operator", "state": "queued"}]});
    let hangs = vec![Step::Hear("mail/send"), Step::Stay];
    let playing = play(&house, vec![hangs, vec![Step::Hear("mail/send"), Step::Say(sent), Step::Stay]]);
    let mut ann = tools(&house, "ann");
    assert_eq!(ann.does("send", json!({"to": "operator", "body": "x"}))["id"], id);
    drop(ann);
    playing.join().expect("the relay of the test");
}

/// A start may take longer than an answer; the mail that it was for is answered all the same.
#[test]
fn mail_that_has_to_wait_for_a_slow_start_is_answered_with_its_id() {
    use agentmux::model::limits::HELLO_ANSWER_MS;
    use nix::fcntl::{Flock, FlockArg};
    let house = House::new();
    let _ = house.run(&["up"]).ok();
    let _ = house.run(&["down"]).ok();
    let lock = std::fs::File::open(house.bundle_dir().join("spawn.lock")).expect("it is left");
    let lock = Flock::lock(lock, FlockArg::LockExclusive).expect("nobody has it");
    let mut ann = tools(&house, "ann");
    let begun = Instant::now();
    let sending = ann.begin_call("send", json!({"to": "operator", "body": "x"}));
    house.poll("an answer's time to be over", SOON, || match begun.elapsed() {
        past if past > Duration::from_millis(HELLO_ANSWER_MS + 300) => Ok(()),
        past => Err(format!("{past:?}")),
    });
    drop(lock);
    let (sent, failed) = ann.called(sending);
    assert!(!failed && sent["id"].is_string(), "{sent}");
}

/// users 8: once its mail is accepted, whatever hinders the answer for now costs neither the id nor the way back to it.
#[test]
fn who_asked_has_the_way_to_the_answer_also_when_the_relay_is_gone() {
    let house = House::new();
    let _ = house.run(&["up"]).ok();
    let mut command = house.command(env!("CARGO_BIN_EXE_agentmux"));
    command.args(["host", "mcp", "--as", "ann", "--no-start"]);
    let mut ann = McpClient::start(command);
    let mut bob = tools(&house, "bob");
    let _ = bob.does("whoami", json!({}));
    let asking = ann.begin_call("ask", json!({"to": "bob", "body": "a question"}));
    let question = bob.does("wait", json!({"timeoutMs": 30_000}));
    for again in [false, true] {
        if again {
            let _ = house.run(&["up"]).ok();
        }
        let call = if again { ann.begin_call("wait", json!({"id": question["mail"]["id"]})) } else { asking };
        // What was accepted before this has been answered.
        let _ = house.run(&["list"]).ok();
        house.kill_nine(house.relay_pid().expect("a relay runs"));
        let (over, failed) = ann.called(call);
        assert!(!failed && over["timedOut"] == true && over["id"] == question["mail"]["id"], "{over}");
        assert!(over["reason"].as_str().is_some_and(|why| why.contains("no relay")), "{over}");
        assert_eq!(over["resume"], format!("answer:{}", question["mail"]["id"].as_str().expect("an id")));
    }
    let _ = house.run(&["up"]).ok();
    let _ = bob.does("send", json!({"to": "ann", "body": "late", "replyTo": question["mail"]["id"]}));
    let resume = format!("answer:{}", question["mail"]["id"].as_str().expect("an id"));
    assert_eq!(ann.does("wait", json!({"resume": resume}))["mail"]["body"], "late");
}

/// An idle relay leaves although tools are connected; they start the next one when they are used.
#[test]
fn tools_never_hold_a_relay_up() {
    let house = House::new();
    std::fs::write(house.config_dir().join("config.toml"), "idle_exit = \"200ms\"\n")
        .expect("the configuration");
    let mut ann = tools(&house, "ann");
    let _ = ann.does("whoami", json!({}));
    let pid = house.relay_pid().expect("a relay runs");
    house.poll("the relay to leave", SOON, || match house.processes() {
        all if all.contains(&pid) => Err(format!("{all:?}")),
        _ => Ok(()),
    });
    assert_eq!(ann.does("whoami", json!({}))["name"], "ann");
}

/// MCP clients that flood, send garbage or go away in the middle cost nobody else anything.
#[test]
fn a_client_of_the_tools_that_floods_or_sends_garbage_or_goes_harms_nobody() {
    let house = House::new();
    let mut ann = tools(&house, "ann");
    let _ = ann.does("whoami", json!({}));
    let mut wild = tools(&house, "wild");
    for garbage in [
        "",
        "{",
        "null",
        "[]",
        "{\"jsonrpc\":\"2.0\",\"id\":7}",
        "\u{0}\u{1}",
        "{\"jsonrpc\":\"2.0\",\"method\":5}",
    ] {
        wild.line(garbage);
    }
    let deep = "[".repeat(100_000);
    wild.line(&deep);
    let calls: Vec<i64> =
        (0..300).map(|n| wild.begin_call("send", json!({"to": "ann", "body": format!("{n}")}))).collect();
    let refused = calls.into_iter().map(|id| wild.called(id)).filter(|(answer, failed)| {
        assert!(!failed || answer["error"]["code"] == "busy", "{answer}");
        *failed
    });
    let refused = refused.count();
    println!("of 300 calls at once {refused} were refused as busy");
    let waiting = wild.begin_call("wait", json!({}));
    let _ = waiting;
    drop(wild);
    let mut huge = tools(&house, "huge");
    let error = huge.fails("send", json!({"to": "ann", "body": "x".repeat(1_000_001)}));
    assert_eq!(error["code"], "usage", "{error}");
    let begun = Instant::now();
    let inbox = ann.does("inbox", json!({"limit": 500}));
    assert_eq!(inbox["mails"].as_array().map(Vec::len), Some(300 - refused));
    println!("a healthy client was answered in {} ms", begun.elapsed().as_millis());
    house.poll("the one that went to be gone", SOON, || match session(&house, "wild")["state"].as_str() {
        Some("stopped") => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

/// Prints how long a start takes until the answer to `initialize`; the median of a release build is under 30 ms.
#[test]
fn the_tools_answer_soon_after_their_start() {
    let house = House::new();
    let mut times: Vec<u128> = (0..9)
        .map(|_| {
            let begun = Instant::now();
            drop(tools(&house, "ann"));
            begun.elapsed().as_millis()
        })
        .collect();
    times.sort_unstable();
    println!("start to initialize: {times:?} ms");
    assert!(times[4] < 300, "{times:?} ms, even in a debug build on a busy machine");
}

/// users 21: agents that are no sessions are braked like those that are, whichever way they read; the operator lets their mail go.
#[test]
fn outside_agents_that_write_without_end_are_braked_over_their_tools() {
    let house = House::new();
    std::fs::write(house.config_dir().join("config.toml"), "brake_pair_per_minute = 3\n").expect("writable");
    let (mut ann, mut bob) = (tools(&house, "ann"), tools(&house, "bob"));
    let _ = (ann.does("whoami", json!({})), bob.does("whoami", json!({})));
    let mut send = |text: &str| ann.does("send", json!({"to": "bob", "body": text}));
    let sent: Vec<Value> = (1..=3).map(|n| send(&format!("mail {n}"))).collect();
    assert!(sent.iter().all(|sent| sent["deliveries"][0]["reason"] != "held by the loop brake"), "{sent:?}");
    let held = send("one too many");
    assert_eq!(held["deliveries"][0]["reason"], "held by the loop brake", "{held}");
    for _ in 0..3 {
        assert!(bob.does("wait", json!({"timeoutMs": 30_000}))["mail"]["body"].is_string());
    }
    assert_eq!(bob.does("wait", json!({"timeoutMs": 1}))["timedOut"], true, "the fourth does not come");
    let listed = bob.does("inbox", json!({}));
    let of_held = listed["mails"].as_array().into_iter().flatten().find(|mail| mail["id"] == held["id"]);
    assert!(of_held.is_some_and(|mail| mail["body"].is_null() && mail["state"] == "queued"), "{listed}");
    let id = held["id"].as_str().expect("an id");
    let said = refused(house.run(&["--as", "bob", "--take-over", "read", id]), 75);
    assert!(said.contains("is held by the loop brake"), "{said}");
    let inbox = house.run(&["inbox", "--json"]).ok().json();
    assert_eq!(inbox["mails"][0]["subject"], "mail from ann to bob was held", "{inbox}");
    let released = house.run(&["release", "bob", "--json"]).ok().json();
    assert_eq!(released["mails"][0], id, "{released}");
    let read = house.run(&["--as", "bob", "wait", "--json"]).ok().json();
    assert_eq!(read["mail"]["body"], "one too many");
}

/// Issue 6: who writes to a queue that is full is told so by its tool, as something that passes, with how full it is; nothing that was
/// accepted makes room for it, and mail goes on when some of it was taken.
#[test]
fn a_full_queue_is_told_by_the_tool_and_goes_on_when_mail_was_taken() {
    use agentmux::model::limits::{BODY_BYTES_MAX, QUEUED_BYTES_PER_SESSION_MAX};
    let house = House::new();
    std::fs::write(
        house.config_dir().join("config.toml"),
        "brake_pair_per_minute = 1000\nbrake_thread_per_minute = 1000\n",
    )
    .expect("writable");
    let (mut ann, mut bob) = (tools(&house, "ann"), tools(&house, "bob"));
    let _ = (ann.does("whoami", json!({})), bob.does("whoami", json!({})));
    let fits = QUEUED_BYTES_PER_SESSION_MAX as usize / BODY_BYTES_MAX;
    let large = json!({"to": "bob", "body": "x".repeat(BODY_BYTES_MAX)});
    let first = ann.does("send", large.clone())["id"].clone();
    for _ in 1..fits {
        let _ = ann.does("send", large.clone());
    }
    let error = ann.fails("send", large.clone());
    assert_eq!((&error["code"], &error["exit"]), (&"busy".into(), &75.into()), "{error}");
    let message = error["message"].as_str().unwrap_or_default();
    assert!(message.contains(&format!("bob has {fits} mails of ")), "{message}");
    assert_eq!(error["hint"], "wait until some are delivered");
    let _ = ann.does("send", json!({"to": "operator", "body": "others are not full"}));
    assert_eq!(
        bob.does("wait", json!({"timeoutMs": 30_000}))["mail"]["id"],
        first,
        "the oldest is still there"
    );
    let _ = bob.does("inbox", json!({"ack": [first], "limit": 1}));
    let _ = ann.does("send", large);
}

/// users 21: one conversation is braked by its own rate, whoever writes in it; another one of the same two goes on.
#[test]
fn a_conversation_that_goes_too_fast_is_braked_and_another_of_the_same_two_is_not() {
    let house = House::new();
    std::fs::write(house.config_dir().join("config.toml"), "brake_thread_per_minute = 2\n")
        .expect("writable");
    let (mut ann, mut bob) = (tools(&house, "ann"), tools(&house, "bob"));
    let _ = (ann.does("whoami", json!({})), bob.does("whoami", json!({})));
    let held = |sent: &Value| sent["deliveries"][0]["reason"] == "held by the loop brake";
    let first = ann.does("send", json!({"to": "bob", "body": "one"}));
    let _ = bob.does("wait", json!({"timeoutMs": 30_000}));
    let second = bob.does("send", json!({"to": "ann", "body": "two", "replyTo": first["id"]}));
    let _ = ann.does("wait", json!({"timeoutMs": 30_000}));
    let third = ann.does("send", json!({"to": "bob", "body": "three", "replyTo": second["id"]}));
    assert_eq!((&second["thread"], &third["thread"]), (&first["thread"], &first["thread"]));
    assert!(!held(&first) && !held(&second) && held(&third), "{first} {second} {third}");
    let traced = trace(&house, third["id"].as_str().expect("an id"));
    assert!(traced.to_string().contains("more than 2 mails a minute in one conversation"), "{traced}");
    let other = ann.does("send", json!({"to": "bob", "body": "something else"}));
    assert!(!held(&other), "a conversation of its own: {other}");
    let heard = bob.does("wait", json!({"timeoutMs": 30_000}));
    assert_eq!(heard["mail"]["body"], "something else");
    assert_eq!(bob.does("wait", json!({"timeoutMs": 1}))["timedOut"], true, "the third does not come");
    let released = house.run(&["release", "bob", "--json"]).ok().json();
    assert_eq!(released["mails"][0], third["id"], "{released}");
    assert_eq!(bob.does("wait", json!({"timeoutMs": 30_000}))["mail"]["body"], "three");
}

/// users 21: who asks one that waits for an answer of the asker is told so at once, by the tools of agents with names of their own, too.
#[test]
fn outside_agents_that_ask_in_a_circle_are_told_so() {
    let house = House::new();
    let (mut ann, mut bob) = (tools(&house, "ann"), tools(&house, "bob"));
    let _ = (ann.does("whoami", json!({})), bob.does("whoami", json!({})));
    let asked = ann.begin_call("ask", json!({"to": "bob", "body": "what do you say?"}));
    let question = bob.does("wait", json!({"timeoutMs": 30_000}));
    let said = bob.fails("ask", json!({"to": "ann", "body": "what do you say first?"}));
    assert!(said.to_string().contains("each would wait for the next: bob → ann → bob"), "{said}");
    let _ = bob.does("send", json!({"to": "ann", "body": "this", "replyTo": question["mail"]["id"]}));
    let (heard, failed) = ann.called(asked);
    assert!(!failed && heard["mail"]["body"] == "this", "{heard}");
}
