//! `agentmux send`: what is accepted is on disk, what is refused leaves nothing, and what is waited for is told as it is.

mod unanswered;
mod waiting;

use crate::*;
use std::collections::BTreeSet;

// ---- what a sender is told ----

#[test]
fn accepted_mail_prints_its_id_alone_when_piped_and_what_became_of_it_beside() {
    let house = House::new();
    let ran = agent(&house, &["send", "operator", "hello"]).run().ok();
    let id = sent_id(&ran);
    assert_eq!(ran.stderr, "queued: operator (waits to be read)\n");
    let quiet = agent(&house, &["-q", "send", "operator", "hello"]).run().ok();
    assert_eq!((quiet.stderr.as_str(), quiet.stdout.len()), ("", 37));
    assert_ne!(sent_id(&quiet), id);
}

#[test]
fn json_has_the_id_the_thread_and_every_delivery() {
    let house = House::new();
    let ran = agent(&house, &["send", "operator", "hello", "--json"]).run();
    let sent = versioned(&ran, &["id", "thread", "deliveries"]);
    assert!(sent["id"].as_str().is_some_and(is_id));
    assert_eq!(sent["thread"], sent["id"], "mail that answers nothing begins a thread");
    assert_eq!(sent["deliveries"][0]["to"], "operator");
    assert_eq!(sent["deliveries"][0]["state"], "queued");
}

#[test]
fn the_subject_the_priority_and_the_parent_travel_with_the_mail() {
    let house = House::new();
    let parent = mail_to_operator(&house, "first");
    let arguments =
        ["send", "operator", "second", "--subject", "S", "--priority", "urgent", "--reply-to", &parent];
    let child = sent_id(&agent(&house, &arguments).run().ok());
    let mail = house.run(&["read", &child, "--json"]).json()["mail"].clone();
    assert_eq!(mail["subject"], "S");
    assert_eq!(mail["priority"], "urgent");
    assert_eq!((mail["replyTo"].as_str(), mail["thread"].as_str()), (Some(&*parent), Some(&*parent)));
}

// ---- grammar ----

#[test]
fn one_word_alone_is_no_mail() {
    let house = House::new();
    let ran = touches_nothing(&house, || house.run(&["send", "reviewer"]));
    let text = refused(ran, 2);
    assert!(text.contains("has no text") && text.contains("hint: "), "{text}");
    let _ = refused(house.run(&["send"]), 2);
}

#[test]
fn the_text_may_come_from_stdin_or_a_file_and_stdin_is_read_only_when_asked_for() {
    let house = House::new();
    std::fs::write(house.project().join("text"), "from a file\n").expect("the house is writable");
    let on_stdin = |arguments: &[&str]| agent(&house, arguments).stdin("from stdin\n").run().ok();
    for (arguments, body) in [
        (&["send", "operator", "-"][..], "from stdin\n"),
        (&["send", "operator", "--body-file", "-"], "from stdin\n"),
        (&["send", "operator", "--body-file", "text"], "from a file\n"),
        (&["send", "operator", "as an argument"], "as an argument"),
        (&["send", "operator", "--", "-n is not a flag"], "-n is not a flag"),
        (&["send", "--", "operator", "--json"], "--json"),
        (&["send", "operator", "$HOME `date` \\ \"ä\" \u{1f600}\r\n"], "$HOME `date` \\ \"ä\" \u{1f600}\r\n"),
    ] {
        let id = sent_id(&on_stdin(arguments));
        let mail = house.run(&["read", &id, "--json"]).json();
        assert_eq!(mail["mail"]["body"], body, "{arguments:?}");
    }
    // A stdin that never ends does not hold up a command that was not told to read it.
    let waiting = agent(&house, &["send", "operator", "text"]).spawn();
    waiting.wait_for_stdout("\n", SOON);
}

/// SQ-11, SQ-14: bad mail is refused by name and number, before anything is started or stored.
#[test]
fn a_body_that_cannot_be_mail_is_refused_before_anything_changes() {
    let house = House::new();
    std::fs::write(house.project().join("latin1"), b"caf\xe9").expect("the house is writable");
    let long = "x".repeat(1_000_001);
    let from_stdin =
        |body: &[u8]| touches_nothing(&house, || house.run_with_stdin(&["send", "operator", "-"], body));
    for (ran, part) in [
        (touches_nothing(&house, || house.run(&["send", "operator", ""])), "the body is empty"),
        (from_stdin(b""), "the body is empty"),
        (from_stdin(b"a\0b"), "NUL"),
        (from_stdin(b"\xff\xfe"), "stdin is not UTF-8"),
        (from_stdin(long.as_bytes()), "the body has 1000001 bytes, the limit is 1000000"),
        (
            touches_nothing(&house, || house.run(&["send", "operator", "--body-file", "latin1"])),
            "latin1 is not UTF-8",
        ),
        (touches_nothing(&house, || house.run(&["send", "operator", "--body-file", "no-such"])), "no-such"),
        (touches_nothing(&house, || house.run(&["send", "operator", "x", "--subject", "a\nb"])), "subject"),
        (
            touches_nothing(&house, || house.run(&["send", "operator", "x", "--key", &long[..201]])),
            "201 bytes",
        ),
        (touches_nothing(&house, || house.run(&["send", "operator", "x", "--expires", "soon"])), "duration"),
        (
            touches_nothing(&house, || house.run(&["send", "operator", "x", "--wait", "consumed", "-"])),
            "error",
        ),
    ] {
        let text = refused(ran, 2);
        assert!(text.contains(part), "{part}: {text}");
    }
    let error = refused_json(house.run(&["send", "operator", "", "--json"]), 2, "usage");
    assert!(error["hint"].as_str().is_some_and(|hint| hint.contains("stdin")), "{error}");
}

#[test]
fn a_body_of_a_million_bytes_arrives_as_it_was_sent() {
    let house = House::new();
    let body: String = "0123456789abcde\n".repeat(62_500);
    assert_eq!(body.len(), 1_000_000);
    let id = sent_id(&agent(&house, &["send", "operator", "-"]).stdin(body.clone()).run().ok());
    let mail = house.run(&["read", &id, "--json"]).json();
    assert!(mail["mail"]["body"] == body.as_str(), "every byte");
}

/// LK-7, SQ-12: what is no name is never joined to a path.
#[test]
fn a_recipient_outside_the_grammar_is_refused_before_anything_changes() {
    let house = House::new();
    let long = "a".repeat(33);
    for name in ["..", "/x", "Reviewer", &long, "a/b", "", "a b", "ä"] {
        let ran = touches_nothing(&house, || house.run(&["send", name, "text"]));
        let text = refused(ran, 2);
        assert!(text.contains("is not a session name") && text.contains("hint: "), "{name:?}: {text}");
    }
    let ran = touches_nothing(&house, || house.run(&["send", "lead@web", "text"]));
    let text = refused(ran, 2);
    assert!(text.contains("`lead@web` names another bundle") && text.contains("--bundle"), "{text}");
    let ran = touches_nothing(&house, || house.run(&["send", "@testers", "text"]));
    assert!(refused(ran, 3).contains("there is no group `@testers`"));
}

#[test]
fn a_group_of_the_configuration_stands_for_its_members_and_an_unknown_one_for_nobody() {
    let team = Team::asleep(&["ann", "bob", "lead"]);
    let house = &team.house;
    let groups = "brake_hops = 5\n[groups]\nreviewers = [\"ann\", \"bob\"]\n";
    std::fs::write(house.config_dir().join("config.toml"), groups).expect("the house is writable");
    let sent = house.run(&["send", "@reviewers", "bob", "lead", "look", "--json"]).ok().json();
    let to: Vec<&str> =
        sent["deliveries"].as_array().into_iter().flatten().filter_map(|d| d["to"].as_str()).collect();
    assert_eq!(to, ["ann", "bob", "lead"], "each once");
    let text = refused(house.run(&["send", "@testers", "look"]), 3);
    assert!(text.contains("there is no group `@testers`") && text.contains("`@reviewers`"), "{text}");
}

// ---- recipients ----

#[test]
fn an_unknown_recipient_is_refused_with_the_nearest_names_and_nothing_is_stored() {
    let team = Team::asleep(&["reviewer"]);
    let house = &team.house;
    let id = sent_id(&house.run(&["send", "reviewer", "kept"]).ok());
    let before = counts(house);
    let text = refused(house.run(&["send", "reviwer", "lost?"]), 3);
    assert!(text.contains("there is no `reviwer`") && text.contains("hint: did you mean reviewer"), "{text}");
    let ran = house.run(&["send", "reviewer", "nobody-like-it", "lost?", "--json"]);
    let error = refused_json(ran, 3, "not_found");
    assert!(error["message"].as_str().is_some_and(|m| m.contains("nobody-like-it")), "{error}");
    assert_eq!(counts(house), before, "the known one among them got nothing either");
    let inbox = house.run(&["inbox", "reviewer", "--json"]).json();
    assert_eq!(inbox["mails"].as_array().map(Vec::len), Some(1));
    assert_eq!(inbox["mails"][0]["id"], id.as_str());
}

/// NB-1: each recipient has a delivery of its own.
#[test]
fn several_recipients_get_one_mail_each_once() {
    let team = Team::asleep(&["lead", "reviewer", "tester"]);
    let house = &team.house;
    let to = |arguments: &[&str]| -> Vec<String> {
        let sent = house.run(arguments).json();
        let deliveries = sent["deliveries"].as_array().into_iter().flatten();
        deliveries.map(|delivery| delivery["to"].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(to(&["send", "tester", "lead", "text", "--json"]), ["tester", "lead"]);
    assert_eq!(to(&["send", "lead", "tester", "lead", "text", "--json"]), ["lead", "tester"]);
    assert_eq!(to(&["send", "@all", "text", "--json"]), ["lead", "reviewer", "tester"]);
    assert_eq!(to(&["send", "tester", "@all", "tester", "text", "--json"]), ["tester", "lead", "reviewer"]);
    let inbox = house.run(&["inbox", "tester", "--json"]).json();
    assert_eq!(inbox["mails"].as_array().map(Vec::len), Some(4));
}

#[test]
fn mail_to_all_when_there_is_nobody_is_refused() {
    let house = House::new();
    assert!(refused(agent(&house, &["send", "@all", "text"]).run(), 3).contains("`@all` is nobody yet"));
}

#[test]
fn the_operator_cannot_write_to_itself() {
    let house = House::new();
    assert!(refused(house.run(&["send", "operator", "text"]), 2).contains("would write to itself"));
}

// ---- delivery ----

/// SQ-15: the whole way, with the real Codex: what was sent is what the model read, once, and the sender hears of it.
#[test]
fn mail_is_read_into_a_turn_and_the_sender_is_told_delivered_only_then() {
    let team = Team::of(&["reviewer"]);
    let (house, model) = (&team.house, &team.model);
    let ran = house.run(&["send", "reviewer", "look at the $diff `now`", "--wait"]).ok();
    let id = sent_id(&ran);
    assert!(ran.stderr.starts_with("delivered: reviewer in turn "), "{}", ran.evidence());
    read_once(model, "look at the $diff `now`");
    read_once(model, &id); // the envelope names the mail

    let ran = house.run(&["send", "reviewer", "again", "--wait=submitted", "--json"]);
    let sent = versioned(&ran, &["id", "thread", "deliveries", "reached"]);
    let state = sent["deliveries"][0]["state"].as_str().unwrap_or_default();
    assert!(["submitted", "consumed"].contains(&state), "{sent}");
}

/// TQ-2: mail to a busy session is kept, not dropped; the sender who waits too short is told where it stands.
#[test]
fn waiting_too_short_exits_4_with_the_id_and_the_state_and_the_mail_goes_on() {
    let team = Team::of(&["reviewer"]);
    let (house, model) = (&team.house, &team.model);
    model.script([support::Rule::user("first").reply("done").held_by("gate")]);
    let _ = house.run(&["send", "reviewer", "first", "--wait"]).ok();
    let ran = house.run(&["send", "reviewer", "second", "--wait", "--timeout", "50ms"]).fails(4);
    let id = sent_id(&ran);
    let text = worded(&ran);
    assert!(text.contains(&format!("mail {id} is queued to reviewer")), "{text}");
    assert!(text.contains("do not send it again"), "{text}");
    model.release("gate");
    let again = house.run(&["send", "reviewer", "third", "--wait"]).ok();
    assert_eq!(state(house, &id), "consumed", "{}", again.evidence());
    read_once(model, "second");
}

#[test]
fn waiting_with_json_still_has_the_mail_on_stdout_and_the_failure_on_stderr() {
    let house = House::new();
    let ran =
        agent(&house, &["send", "operator", "x", "--wait", "--timeout", "20ms", "--json"]).run().fails(4);
    assert!(ran.stdout.starts_with("{\"schemaVersion\":1,\"id\":"), "{}", ran.evidence());
    assert_eq!(ran.json_error()["code"], "timeout", "{}", ran.evidence());
}

#[test]
fn mail_to_a_stopped_session_is_accepted_and_the_sender_is_told_how_it_goes_on() {
    let team = Team::asleep(&["reviewer"]);
    let ran = team.house.run(&["send", "reviewer", "later"]).ok();
    let _ = sent_id(&ran);
    let wanted = ["queued: reviewer (reviewer is stopped since ", "start it: agentmux up reviewer"];
    assert!(wanted.iter().all(|part| ran.stderr.contains(part)), "{}", ran.evidence());
}

/// SQ-3: expiry is an outcome that the sender is told, never a deletion.
#[test]
fn mail_that_expires_is_kept_as_expired_and_who_waits_for_it_exits_1() {
    let house = House::new();
    let ran = agent(&house, &["send", "operator", "too late", "--expires", "30ms", "--wait"]).run().fails(1);
    let id = sent_id(&ran);
    assert!(worded(&ran).contains(&format!("mail {id} to operator ended as expired")), "{}", ran.evidence());
    let traced = trace(&house, &id);
    assert_eq!(traced["deliveries"][0]["state"], "expired");
    let note = traced["deliveries"][0]["transitions"][1]["note"].as_str().unwrap_or_default();
    assert!(note.starts_with("not delivered before "), "{traced}");
    assert_eq!(counts(&house)["dead"], 1);
    let mail = house.run(&["read", &id, "--json"]).json();
    assert_eq!((&mail["mail"]["body"], &mail["mail"]["unread"]), (&"too late".into(), &false.into()));
}

// ---- the key ----

/// SQ-13: a sender that does not know whether it was heard may say it again.
#[test]
fn the_same_key_with_the_same_mail_is_the_same_mail_also_after_kill_nine() {
    let house = House::new();
    let send = || sent_id(&agent(&house, &["send", "operator", "once", "--key", "k-1"]).run().ok());
    let id = send();
    assert_eq!(send(), id);
    let pid = house.relay_pid().expect("a relay was started");
    house.kill_nine(pid);
    house.poll("the relay to be gone", SOON, || match house.processes() {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    });
    assert_eq!(send(), id, "the key is stored with the mail");
    assert_ne!(house.relay_pid(), Some(pid), "another relay answered");
    let inbox = house.run(&["inbox", "--json"]).json();
    assert_eq!(inbox["mails"].as_array().map(Vec::len), Some(1), "{inbox}");
}

#[test]
fn the_same_key_with_other_mail_is_a_conflict_and_stores_nothing() {
    let house = House::new();
    let id = sent_id(&agent(&house, &["send", "operator", "once", "--key", "k"]).run().ok());
    for other in [
        &["send", "operator", "twice", "--key", "k"][..],
        &["send", "operator", "once", "--key", "k", "--subject", "S"],
        &["send", "operator", "once", "--key", "k", "--priority", "urgent"],
        &["send", "operator", "once", "--key", "k", "--reply-to", &id],
    ] {
        let text = refused(agent(&house, other).run(), 7);
        assert!(text.contains(&id) && text.contains("hint: "), "{text}");
    }
    assert_eq!(counts(&house)["queued"], 1);
}

// ---- starting the relay ----

/// PX-10: nothing that a command starts keeps the caller's pipe open, so a substitution ends with its command.
#[test]
fn a_command_substitution_that_starts_the_relay_ends_with_its_command() {
    let house = House::new();
    let script = "out=$(\"$0\" send operator hello | cat) && echo \"got $out\"";
    let mut shell = house.command("sh");
    shell.args(["-c", script, env!("CARGO_BIN_EXE_agentmux")]).env("CLAUDECODE", "1");
    let ran = house.call_of(shell).run().ok();
    let id = ran.stdout.trim_end().strip_prefix("got ").unwrap_or_default().to_owned();
    assert!(is_id(&id), "{}", ran.evidence());
    assert_eq!(house.processes().len(), 1, "the relay that was started runs on");
}

#[test]
fn a_start_that_is_forbidden_exits_5_and_leaves_nothing_on_disk() {
    let house = House::new();
    let ran = touches_nothing(&house, || agent(&house, &["send", "operator", "x", "--no-start"]).run());
    let text = refused(ran, 5);
    assert!(text.contains("no relay of bundle test is running") && text.contains("hint: "), "{text}");
    let forbidden =
        || agent(&house, &["send", "operator", "x", "--json"]).env("AGENTMUX_NO_START", "1").run();
    let _ = refused_json(touches_nothing(&house, forbidden), 5, "no_relay");
    assert!(listing(&house.state_dir()).is_empty(), "not even a directory");
    let _ = mail_to_operator(&house, "now it runs");
    let _ = agent(&house, &["send", "operator", "x", "--no-start"]).run().ok();
}

/// PX-2: sixty-four commands at once find no relay; one is started, and all of them get through.
#[test]
fn sixty_four_cold_sends_start_one_relay_and_lose_no_mail() {
    let team = Team::asleep(&["reviewer"]);
    let house = &team.house;
    let starts_before = starts(house);
    let ids: BTreeSet<String> = std::thread::scope(|scope| {
        let send = |n: usize| sent_id(&house.run(&["send", "reviewer", &format!("mail {n}")]).ok());
        let senders: Vec<_> = (0..64).map(|n| scope.spawn(move || send(n))).collect();
        senders.into_iter().map(|sender| sender.join().expect("a sender")).collect()
    });
    assert_eq!(ids.len(), 64, "every mail has an id of its own");
    assert_eq!(starts(house), starts_before + 1, "{}", house.relay_log());
    let inbox = house.run(&["inbox", "reviewer", "-n", "100", "--json"]).json();
    let stored: BTreeSet<String> = inbox["mails"].as_array().into_iter().flatten().map(mail_id).collect();
    assert_eq!(stored, ids);
}

/// PX-2, LK-1: likewise in a place where nothing has ever been started.
///
/// Of several first commands some once failed with 74: each of them wrote down the project's root, and they removed each
/// other's half-written file. Now that is done under the lock that also decides who starts the relay.
#[test]
fn sixty_four_first_commands_ever_start_one_relay_and_all_succeed() {
    let house = House::new();
    let ids: BTreeSet<String> = std::thread::scope(|scope| {
        let send = |n: usize| mail_to_operator(&house, &format!("mail {n}"));
        let senders: Vec<_> = (0..64).map(|n| scope.spawn(move || send(n))).collect();
        senders.into_iter().map(|sender| sender.join().expect("a sender")).collect()
    });
    assert_eq!((ids.len(), starts(&house)), (64, 1), "{}", house.relay_log());
    assert_eq!(counts(&house)["queued"], 64);
}

fn starts(house: &House) -> usize {
    house.relay_log().lines().filter(|line| line.contains(" started, pid ")).count()
}

fn mail_id(mail: &Value) -> String {
    mail["id"].as_str().unwrap_or_default().to_owned()
}

/// PX-1, PX-3: a sender that is killed leaves no lock behind that the next one trips over.
///
/// A relay that it had just started was once taken for a conflict: the next sender's own relay found the lock held, said so,
/// and the sender exited with 7 although a relay was running. Now it goes to that relay.
#[test]
fn a_sender_killed_at_any_moment_of_a_cold_start_does_not_stop_the_next_one() {
    for _ in 0..4 {
        let house = House::new();
        let mut sender = agent(&house, &["send", "operator", "killed"]).spawn();
        house.poll("the start to begin", SOON, || match house.bundle_dir().join("spawn.lock").exists() {
            true => Ok(()),
            false => Err("no spawn.lock".to_owned()),
        });
        sender.kill();
        let _ = mail_to_operator(&house, "after it");
    }
}

/// What cannot be written to stdout is told on stderr: nothing that was done is lost.
#[test]
fn an_id_that_cannot_be_printed_is_told_with_the_failure() {
    let team = Team::asleep(&["reviewer"]);
    let house = &team.house;
    let onto_a_full_disk = |more: &str| {
        let mut shell = house.command("sh");
        let script = format!("exec \"$0\" send reviewer hello {more} > /dev/full");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_agentmux")]);
        house.call_of(shell).run().fails(74)
    };
    let ran = onto_a_full_disk("");
    assert!(
        ran.stderr.starts_with("error: writing to stdout failed: ") && ran.stderr.contains("hint: "),
        "{}",
        ran.evidence()
    );
    let newest = mail_id(&house.run(&["inbox", "reviewer", "--json"]).json()["mails"][0]);
    assert!(ran.stderr.contains(&format!("it was: {newest}")), "{}", ran.evidence());
    let error = onto_a_full_disk("--json").json_error();
    assert_eq!(error["exit"], 74, "{error}");
}
