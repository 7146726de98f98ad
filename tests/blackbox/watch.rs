//! `agentmux watch`: what happens, live, in order, each once; past events first when asked; through a crash of the relay.

use crate::*;
use nix::sys::signal::Signal;
use serde_json::json;

/// The events that a watcher has printed so far.
fn events(text: &str) -> Vec<Value> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect()
}

/// Event words with the state, if there is one, of one session.
fn shape(events: &[Value], session: &str) -> Vec<String> {
    let of = |event: &Value| match event["state"].as_str() {
        Some(state) => format!("{} {state}", event["event"].as_str().unwrap_or_default()),
        None => event["event"].as_str().unwrap_or_default().to_owned(),
    };
    events.iter().filter(|event| event["session"] == session).map(of).collect()
}

/// users 24, users 25: one mail's way through a turn is told live: its steps, the turn, the states, what is said; and once each.
#[test]
fn a_mail_and_its_turn_are_told_in_order_and_once() {
    let team = Team::of(&["reviewer"]);
    let watch = team.house.spawn(&["watch", "reviewer", "--replay", "1", "--json"]);
    watch.wait_for_stdout("\"event\"", SOON);
    let id = sent_id(&team.house.run(&["send", "reviewer", "look at this"]).ok());
    watch.wait_for_stdout("\"state\":\"idle\",\"pending\":0", SOON);
    wait_until_idle(&team.house, "reviewer");
    watch.wait_for_stdout("\"event\":\"turnEnded\"", SOON);
    let told = events(&watch.stdout());
    for event in &told {
        assert_eq!(keys(event)[..4], ["schemaVersion", "seq", "at", "event"], "{event}");
        assert!(is_time(&event["at"]), "{event}");
    }
    let numbers: Vec<u64> = told.iter().filter_map(|event| event["seq"].as_u64()).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
    let shape = shape(&told, "reviewer");
    let place = |word: &str| {
        let at = shape.iter().position(|told| told == word);
        at.unwrap_or_else(|| panic!("no {word} in {shape:?}"))
    };
    assert!(place("mail queued") < place("mail consumed"), "{shape:?}");
    assert!(place("turnStarted") < place("turnEnded"), "{shape:?}");
    assert!(place("state busy") < place("turnEnded"), "{shape:?}");
    for word in ["mail queued", "mail consumed", "turnStarted", "turnEnded"] {
        assert_eq!(shape.iter().filter(|told| *told == word).count(), 1, "{word}: {shape:?}");
    }
    let mail = told.iter().find(|event| event["event"] == "mail").expect("told");
    assert_eq!(
        (&mail["mail"], &mail["from"], &mail["to"]),
        (&json!(id), &json!("operator"), &json!("reviewer"))
    );
    let ended = told.iter().find(|event| event["event"] == "turnEnded").expect("told");
    assert_eq!(ended["outcome"], "completed", "{ended}");
    let said: Vec<&Value> = told.iter().filter(|event| event["event"] == "item").collect();
    let sources: Vec<&str> = said.iter().filter_map(|item| item["source"].as_str()).collect();
    assert_eq!(sources, ["mail", "model"], "{said:?}");
    assert!(said[1]["text"].as_str().is_some_and(|text| text.starts_with("ok: ")), "{said:?}");
}

/// users 25: the past comes first and bounded, and the same events again to the next who asks.
#[test]
fn a_replay_is_bounded_and_what_follows_comes_after_it() {
    let house = House::new();
    let ids: Vec<String> = (0..3).map(|n| mail_to_operator(&house, &format!("number {n}"))).collect();
    let watch = house.spawn(&["watch", "operator", "--replay", "2", "--json"]);
    watch.wait_for_stdout(&ids[2], SOON);
    let later = mail_to_operator(&house, "one more");
    watch.wait_for_stdout(&later, SOON);
    let told = events(&watch.stdout());
    let mails: Vec<&Value> = told.iter().map(|event| &event["mail"]).collect();
    assert_eq!(mails, [&json!(ids[1]), &json!(ids[2]), &json!(later)]);
    assert_eq!(told[2]["pending"], 4, "{told:?}");
    let words = house.spawn(&["watch", "--replay", "1", "--events", "mail"]);
    words.wait_for_stdout(&format!("operator  mail {later} from outside queued\n"), SOON);
}

/// design §5: a watcher survives a crash of the relay and goes on where it was; a stopped relay ends it with exit 4.
#[test]
fn a_watcher_outlives_a_crash_of_the_relay_and_ends_with_a_stop() {
    let house = House::new();
    let first = mail_to_operator(&house, "before");
    let watch = house.spawn(&["watch", "--replay", "9", "--json"]);
    watch.wait_for_stdout(&first, SOON);
    house.kill_nine(house.relay_pid().expect("a relay runs"));
    let second = mail_to_operator(&house, "after");
    watch.wait_for_stdout(&second, SOON);
    let told = events(&watch.stdout());
    let starts = told.iter().filter(|event| event["event"] == "relayStarted").count();
    let mails: Vec<&Value> = told.iter().filter(|e| e["event"] == "mail").map(|e| &e["mail"]).collect();
    assert_eq!((starts, mails), (2, vec![&json!(first), &json!(second)]), "{told:?}");
    let _ = house.run(&["down"]).ok();
    let ran = watch.finish(SOON).fails(4);
    let why = ran.json_error();
    assert_eq!(why["code"], "timeout", "{}", ran.evidence());
    assert!(ran.stdout.contains("\"event\":\"relayLeaving\""), "{}", ran.evidence());
    assert_eq!(
        house.relay_pid().filter(|pid| house.processes().contains(pid)),
        None,
        "nobody started it again"
    );
}

/// users 25, design §5: a watcher that does not read is told how many events it missed, and nobody waits for it.
#[test]
fn a_watcher_that_does_not_read_is_told_how_much_it_missed() {
    let house = House::new();
    let first = mail_to_operator(&house, "the first one");
    let watch = house.spawn(&["watch", "--replay", "1", "--events", "mail,missed", "--json"]);
    // A connection is no subscription yet; a replay is.
    watch.wait_for_stdout(&first, SOON);
    watch.signal(Signal::SIGSTOP);
    let bodies: Vec<String> = (0..12_000).map(|n| format!("mail {n}")).collect();
    let mut socket =
        std::os::unix::net::UnixStream::connect(house.bundle_dir().join("relay.sock")).expect("a relay");
    let accepted = send_all(&mut socket, &bodies);
    assert_eq!(accepted, bodies.len());
    let _ = house.run(&["list"]).ok();
    watch.signal(Signal::SIGCONT);
    let last = mail_to_operator(&house, "the last one");
    watch.wait_for_stdout(&last, SOON);
    let told = events(&watch.stdout());
    let missed: u64 = told.iter().filter_map(|event| event["count"].as_u64()).sum();
    let mails = told.iter().filter(|event| event["event"] == "mail").count();
    assert!(missed > 0, "{} events came", told.len());
    assert_eq!(missed as usize + mails, bodies.len() + 2, "each was told or counted");
}

/// Sends mail to the operator as an outsider, over one connection; returns how many were accepted.
pub fn send_all(socket: &mut std::os::unix::net::UnixStream, bodies: &[String]) -> usize {
    use std::io::{BufRead, BufReader, Write};
    let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "hello", "params":
        {"client": "test", "version": "1", "protocolMin": 1, "protocolMax": 1, "agentMark": "TEST"}});
    let mut lines = BufReader::new(socket.try_clone().expect("a socket"));
    let mut line = String::new();
    writeln!(socket, "{hello}").expect("the relay reads");
    lines.read_line(&mut line).expect("an answer");
    let mut accepted = 0;
    for part in bodies.chunks(50) {
        for body in part {
            let send = json!({"jsonrpc": "2.0", "id": 1, "method": "mail/send", "params": {"to": ["operator"], "body": body}});
            writeln!(socket, "{send}").expect("the relay reads");
        }
        for _ in part {
            line.clear();
            lines.read_line(&mut line).expect("an answer");
            accepted += usize::from(line.contains("\"queued\""));
        }
    }
    accepted
}

#[test]
fn what_cannot_be_watched_is_refused() {
    let house = House::new();
    let _ = refused_json(house.run(&["watch", "reviewer", "--json"]), 3, "not_found");
    let _ = refused(agent(&house, &["watch"]).run(), 1);
    let nowhere = House::new();
    let text = refused(touches_nothing(&nowhere, || nowhere.run(&["watch", "--events", "naps"])), 2);
    assert!(text.contains("no event `naps`") && text.contains("turnEnded"), "{text}");
    let text = refused(touches_nothing(&nowhere, || nowhere.run(&["watch", "--events", "delta"])), 2);
    assert!(text.contains("`delta` needs a session"), "{text}");
    let _ = refused(touches_nothing(&nowhere, || nowhere.run(&["watch", "--no-start"])), 5);
}

/// ^C is how a person leaves: exit 130, and nothing that looks like a failure.
#[test]
fn an_interrupted_watcher_exits_130_without_a_word() {
    let house = House::new();
    let _ = house.run(&["up"]).ok();
    for follow in [&["watch"][..], &["log", "-f"]] {
        let watcher = house.spawn(follow);
        house.poll("it to listen", SOON, || {
            match house.run(&["status", "--json"]).json()["clients"].as_i64() {
                Some(2) => Ok(()),
                clients => Err(format!("{clients:?} clients")),
            }
        });
        watcher.signal(Signal::SIGINT);
        let ran = watcher.finish(SOON).fails(130);
        assert_eq!(ran.stderr, "", "{}", ran.evidence());
    }
}

/// A relay that goes each time somebody listens is not started for ever.
#[test]
fn a_relay_that_goes_whenever_it_is_heard_is_given_up() {
    use crate::support::played::{Step, play};
    for (words, method, answer) in [
        (&["watch", "--no-start"][..], "events/subscribe", json!({"stream": "s", "seq": 0})),
        (&["log", "-f", "--no-start"], "events/log", json!({"events": []})),
    ] {
        let house = House::new();
        let _playing =
            play(&house, (0..40).map(|_| vec![Step::Hear(method), Step::Say(answer.clone())]).collect());
        let text = refused(house.run(words), 74);
        assert!(text.contains("30 in a row have gone away"), "{words:?}: {text}");
    }
}
