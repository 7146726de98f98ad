//! The link: the real relay against a program that speaks to it through a real socket, and misbehaves below the messages.
//!
//! **Invariant:** every fault ends in bounded time, in a state that says why, and never in a lost mail.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use agentmux::model::limits;
use serde_json::Value;

use super::support::house::House;
use super::support::siege::memory;

/// Far beyond what any of this takes on a loaded machine.
pub const DEADLINE: Duration = Duration::from_secs(25);

/// The fake, built if this test target was built without the examples.
pub static FAKE: LazyLock<PathBuf> = LazyLock::new(|| {
    let programs = Path::new(env!("CARGO_BIN_EXE_agentmux")).parent().expect("a target directory");
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--example", "fake-codex"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    if programs.ends_with("release") {
        build.arg("--release");
    }
    assert!(build.status().expect("cargo runs").success(), "the fake is built");
    programs.join("examples/fake-codex")
});

pub fn house(told: &str) -> House {
    let house = House::with_codex(&FAKE);
    tell(&house, told);
    house
}

fn tell(house: &House, told: &str) {
    std::fs::write(house.codex_home().join("fake"), told).expect("the Codex home is writable");
}

fn heard(house: &House) -> Vec<String> {
    let text = std::fs::read_to_string(house.codex_home().join("heard")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

pub fn spawned(told: &str) -> House {
    let house = house("");
    let _ = house.run(&["spawn", "reviewer"]).ok();
    tell(&house, told);
    house
}

fn session(house: &House) -> Value {
    house.run(&["list", "--json"]).ok().json()["sessions"][0].clone()
}

pub fn wait_for_state(house: &House, state: &str) -> Value {
    house.poll(&format!("the state {state}"), DEADLINE, || {
        let session = session(house);
        if session["state"] == state { Ok(session) } else { Err(session.to_string()) }
    })
}

#[track_caller]
fn deliver(house: &House) -> Value {
    let call = house.call(&["send", "reviewer", "hello", "--wait", "--timeout", "20s", "--json"]);
    let sent = call.deadline(DEADLINE).run().ok().json();
    assert_eq!(sent["deliveries"][0]["state"], "consumed", "{sent}");
    sent
}

fn claims_heard(house: &House) -> usize {
    heard(house).iter().filter(|line| line.contains("\"turn/start\"")).count()
}

/// SQ-9: any split of the bytes, into writes or into frames, gives the same messages, in both directions.
#[test]
fn mail_is_consumed_however_its_bytes_are_split() {
    for told in ["dribble", "fragment", "ping", "dribble fragment ping"] {
        let house = house(told);
        let _ = house.run(&["spawn", "reviewer"]).ok();
        deliver(&house);
        let big = "x".repeat(300_000);
        let sent =
            house.run_with_stdin(&["send", "reviewer", "-", "--wait", "--json"], big.clone()).ok().json();
        assert_eq!(sent["deliveries"][0]["state"], "consumed", "{told}: {sent}");
        assert!(heard(&house).iter().any(|line| line.contains(&big)), "the body is whole");
    }
}

/// A connection that ends inside a message, in a close, or in noise is made again: mail that was taken is not told twice, mail that
/// was not is told again, and no relay dies of it.
#[test]
fn a_broken_connection_loses_no_mail() {
    for (told, turns) in [("vanish-before", 2), ("vanish-after", 1), ("close", 2), ("noise", 2)] {
        let house = spawned(told);
        let relay = house.relay_pid();
        let sent = deliver(&house);
        assert_eq!(claims_heard(&house), turns, "{told}: {sent}");
        assert_eq!(house.relay_pid(), relay, "{told}: the same relay");
        wait_for_state(&house, "idle");
    }
}

/// A text that is no message is logged and skipped: it ends neither the child nor its sessions, and the mail whose answer was
/// lost with it is settled by the history.
#[test]
fn garbage_is_skipped_and_costs_no_mail() {
    let house = spawned("garbage");
    let id = house.run(&["send", "reviewer", "hello"]).ok().stdout.trim().to_owned();
    house.poll("the warning", DEADLINE, || match house.relay_log() {
        log if log.contains(" warn child ") => Ok(()),
        log => Err(log),
    });
    let list = house.run(&["list", "--json"]).ok().json();
    assert_ne!(list["sessions"][0]["state"], "failed", "{list}");
    let _ = house.run(&["down", "reviewer"]).ok();
    let _ = house.run(&["up", "reviewer"]).ok();
    house.poll("the mail to be consumed", DEADLINE, || {
        let trace = house.run(&["trace", &id, "--json"]).ok().json();
        if trace["deliveries"][0]["state"] == "consumed" { Ok(()) } else { Err(trace.to_string()) }
    });
}

/// Symptom: 20,000 texts that were no messages made 3 MB of warnings in `relay.log`, and nothing else. Now: the first is logged, and a
/// child that goes on is ended like one that floods, with that as the reason.
#[test]
fn a_child_that_goes_on_with_garbage_is_ended_and_told() {
    let house = spawned("babble");
    let _ = house.run(&["send", "reviewer", "hello"]).ok();
    house.poll("the end of the child", DEADLINE, || match house.relay_log() {
        log if log.contains("gets signal 9") => Ok(()),
        log => Err(log),
    });
    tell(&house, "");
    let why = "that cannot be read, and was killed";
    house.poll("the reason", DEADLINE, || match house.run(&["log"]).ok().stdout {
        log if log.contains(why) => Ok(()),
        log => Err(log),
    });
    wait_for_state(&house, "idle");
    let log = house.relay_log();
    assert!(log.matches(" warn ").count() < 5, "it is not for what the child says: {log}");
    deliver(&house);
}

/// Symptom: a child above its limit of memory was not noticed while its turn was silent and nobody asked for anything. Now: it is looked at
/// while a turn runs; and its end is told with what it complained of.
#[test]
fn a_child_that_grows_in_a_silent_turn_is_noticed() {
    let house = house("");
    std::fs::write(house.config_dir().join("config.toml"), "child_memory_mib = 48\n").expect("writable");
    let _ = house.run(&["spawn", "reviewer"]).ok();
    tell(&house, "grow");
    deliver(&house);
    tell(&house, "");
    // Nobody asks the relay for anything meanwhile.
    house.poll("the end of the child", DEADLINE, || match house.relay_log() {
        log if log.contains("gets signal 9") => Ok(()),
        log => Err(log),
    });
    house.poll("the reason", DEADLINE, || match house.run(&["log"]).ok().stdout {
        log if log.contains("MiB, more than 48, and was ended: fake-codex: I need more room") => Ok(()),
        log => Err(log),
    });
}

/// Symptom: what a child wrote to its stderr was cut only when it said something on its socket, too. Now: also in a silent turn, in which
/// nobody asks for anything.
#[test]
fn what_a_child_complains_of_in_a_silent_turn_is_cut() {
    let house = spawned("complain");
    deliver(&house);
    let logs = || -> Vec<u64> {
        let files = std::fs::read_dir(house.bundle_dir().join("children")).expect("it is there").flatten();
        let logs = files.filter(|file| file.path().extension().is_some_and(|end| end == "log"));
        logs.filter_map(|log| Some(log.metadata().ok()?.len())).collect()
    };
    tell(&house, "");
    house.poll("all of it", DEADLINE, || match heard(&house).contains(&"complained".to_owned()) {
        true => Ok(()),
        false => Err(format!("{:?}", logs())),
    });
    house.poll("less of it", DEADLINE, || match logs()[..] {
        [bytes] if bytes <= limits::CHILD_LOG_BYTES_MAX => Ok(()),
        _ => Err(format!("{:?}", logs())),
    });
    assert!(house.run(&["list"]).ok().stdout.contains("busy"), "the turn goes on");
}

/// Users 3: a lost notification strands nobody: a turn whose end was never told is asked about, is over when its child says so, and the
/// mail behind it goes in.
#[test]
fn a_turn_whose_end_was_never_told_is_asked_about_and_mail_goes_on() {
    let house = house("");
    std::fs::write(house.config_dir().join("config.toml"), "silent_after = \"200ms\"\n").expect("writable");
    let _ = house.run(&["spawn", "reviewer"]).ok();
    tell(&house, "forget");
    let sent = deliver(&house);
    let turn = sent["deliveries"][0]["turnId"].clone();
    let behind = house.call(&["send", "reviewer", "behind it", "--wait", "--timeout", "20s", "--json"]);
    let behind = behind.deadline(DEADLINE).run().ok().json();
    assert_eq!(behind["deliveries"][0]["state"], "consumed", "{behind}");
    assert_ne!(behind["deliveries"][0]["turnId"], turn, "in a turn of its own");
    assert!(heard(&house).iter().any(|line| line.contains("\"thread/read\"")), "its child was asked");
    assert_eq!(claims_heard(&house), 2, "no mail went in twice");
    let trace = house.run(&["trace", sent["id"].as_str().expect("an id"), "--json"]).ok().json();
    assert!(trace.to_string().contains("its child says that it is over"), "{trace}");
    assert_eq!(trace["deliveries"][0]["state"], "consumed", "{trace}");
    wait_for_state(&house, "idle");
}

/// What a newer version asks is refused at once, and the turn goes on.
#[test]
fn an_unknown_question_is_answered_on_the_wire() {
    let house = spawned("ask");
    deliver(&house);
    let answer = house.poll("the answer", DEADLINE, || {
        let heard = heard(&house);
        heard.iter().find(|line| line.contains("\"error\"")).cloned().ok_or_else(|| heard.join("\n"))
    });
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&Value::from(0), &Value::from(-32_601)));
}

/// A child that talks without end keeps nobody else waiting.
#[test]
fn a_flood_of_notices_keeps_nobody_waiting() {
    let house = spawned("flood");
    let send = house.spawn(&["send", "reviewer", "hello", "--wait"]);
    let began = Instant::now();
    let mut answered = 0;
    while !send.has_exited() && began.elapsed() < DEADLINE {
        let _ = house.call(&["list"]).deadline(Duration::from_secs(5)).run().ok();
        answered += 1;
    }
    let _ = send.finish(DEADLINE).ok();
    assert!(answered > 0);
}

/// SQ-14: a child that never stops talking costs others no time and the relay no memory: what is not read yet waits in the kernel, and
/// with it the child. When it stops, its turn goes on as if nothing had been.
#[test]
fn a_child_that_never_stops_talking_takes_neither_time_nor_memory() {
    let house = spawned("torrent");
    let relay = u64::try_from(house.relay_pid().expect("a relay runs")).expect("a pid");
    let before = memory(relay, "VmRSS:");
    let send = house.spawn(&["send", "reviewer", "hello", "--wait"]);
    house.poll("the torrent", DEADLINE, || match claims_heard(&house) {
        0 => Err("no turn yet".to_owned()),
        _ => Ok(()),
    });
    for _ in 0..100 {
        let _ = house.call(&["list"]).deadline(Duration::from_secs(5)).run().ok();
    }
    let grown = memory(relay, "VmHWM:").saturating_sub(before);
    assert!(!send.has_exited(), "it talks on");
    assert!(grown < 32 * 1024, "the relay grew by {grown} KiB");
    tell(&house, "");
    let _ = send.finish(DEADLINE).ok();
    assert_eq!(claims_heard(&house), 1);
    wait_for_state(&house, "idle");
}

/// BS-10: a child that ends at its start is no riddle: its last word is in the answer, and nothing is left of the session.
#[test]
fn a_child_that_ends_at_once_fails_the_spawn_with_its_last_word() {
    let house = house("exit");
    let ran = house.call(&["spawn", "reviewer", "--json"]).deadline(DEADLINE).run().fails(1);
    let error = ran.json_error();
    let message = error["message"].as_str().unwrap_or_default();
    assert!(message.contains("Error: the configuration is not to my taste"), "{}", ran.evidence());
    assert_eq!(error["code"], "refused");
    let list = house.run(&["list", "--json"]).ok().json();
    assert_eq!(list["sessions"].as_array().map(Vec::len), Some(0), "{list}");
}

/// NB-6: five exits within a minute give the child up; its mail stays queued, and `up` tries again.
#[test]
fn a_crash_loop_is_given_up_and_up_clears_it() {
    let house = spawned("exit");
    let status = house.run(&["status", "--json"]).ok().json();
    let child =
        status["children"][0]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("a child");
    house.kill_nine(child);
    let failed = wait_for_state(&house, "failed");
    let why = failed["reason"].as_str().unwrap_or_default();
    assert!(why.contains("5 exits") && why.contains("not to my taste"), "{failed}");
    let sent = house.run(&["send", "reviewer", "hello", "--json"]).ok().json();
    assert_eq!(sent["deliveries"][0]["state"], "queued", "{sent}");
    let id = sent["id"].as_str().expect("an id");
    tell(&house, "");
    let _ = house.run(&["up", "reviewer"]).ok();
    house.poll("the mail to be consumed", DEADLINE, || {
        let trace = house.run(&["trace", id, "--json"]).ok().json();
        if trace["deliveries"][0]["state"] == "consumed" { Ok(()) } else { Err(trace.to_string()) }
    });
}

/// BS-4, NB-5: a child that accepts and never answers holds nobody up: mail is queued at once, and `down` ends it.
#[test]
fn a_mute_child_holds_nobody_up() {
    let house = spawned("mute");
    let status = house.run(&["status", "--json"]).ok().json();
    let child =
        status["children"][0]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("a child");
    house.kill_nine(child);
    wait_for_state(&house, "starting");
    let sent = house.call(&["send", "reviewer", "hello", "--json"]).deadline(Duration::from_secs(5)).run();
    assert_eq!(sent.json()["deliveries"][0]["state"], "queued");
    let _ = house.call(&["down", "reviewer", "--now"]).deadline(Duration::from_secs(5)).run().ok();
    tell(&house, "");
    let _ = house.run(&["up", "reviewer"]).ok();
    deliver(&house);
}

/// NB-5, NB-6: a child that stops answering in a turn is asked, killed, and told as what it was; the next one opens the thread, and what
/// waited goes in. The configured silence makes it quick; with the usual one the same takes eleven minutes (`tests/simulation/hangs.rs`).
#[test]
fn a_child_that_stops_answering_in_a_turn_is_killed_and_the_next_one_goes_on() {
    let house = house("");
    std::fs::write(house.config_dir().join("config.toml"), "silent_after = \"200ms\"\n").expect("writable");
    let _ = house.run(&["spawn", "reviewer"]).ok();
    let thread = session(&house)["threadId"].clone();
    tell(&house, "hang");
    deliver(&house);
    let behind = house.run(&["send", "reviewer", "behind it", "--json"]).ok().json();
    let why = house.poll("the report", DEADLINE * 2, || {
        let log = house.run(&["log", "--json"]).ok().json_lines();
        let exited = log.iter().find(|line| line["event"] == "childExited");
        exited.and_then(|line| line["why"].as_str().map(str::to_owned)).ok_or_else(|| format!("{log:?}"))
    });
    assert_eq!(why, "it no longer answered, and was killed");
    let id = behind["id"].as_str().expect("an id");
    house.poll("the mail to be consumed", DEADLINE, || {
        let trace = house.run(&["trace", id, "--json"]).ok().json();
        if trace["deliveries"][0]["state"] == "consumed" { Ok(()) } else { Err(trace.to_string()) }
    });
    assert_eq!((claims_heard(&house), &session(&house)["threadId"]), (2, &thread));
}

/// A child that ends every connection is tried again at a bounded pace, without wearing out the machine.
#[test]
fn a_child_that_hangs_up_is_not_called_without_pause() {
    let house = spawned("drop");
    let status = house.run(&["status", "--json"]).ok().json();
    let child =
        status["children"][0]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("a child");
    let before = connections(&house);
    house.kill_nine(child);
    let began = Instant::now();
    house.poll("ten connections", DEADLINE, || {
        let made = connections(&house) - before;
        if made >= 10 { Ok(()) } else { Err(made.to_string()) }
    });
    assert!(began.elapsed() > Duration::from_millis(700), "ten calls within {:?}", began.elapsed());
    tell(&house, "");
    deliver(&house);
}

fn connections(house: &House) -> usize {
    heard(house).iter().filter(|line| *line == "+").count()
}

/// A Codex that is too old is named with what is needed, before anything is written.
#[test]
fn an_old_codex_is_refused_by_name() {
    let house = house("old");
    let ran = house.run(&["spawn", "reviewer"]).fails(1);
    assert!(ran.stderr.contains("0.156.9") && ran.stderr.contains("0.157.0"), "{}", ran.stderr);
    assert_eq!(house.relay_pid(), None, "no relay was started for it");
}
