//! `agentmux up`: sessions come up, and with them what waited for them.

use crate::*;

#[test]
fn mail_that_waited_for_a_stopped_session_is_delivered_when_it_comes_up() {
    let team = Team::of(&["reviewer"]);
    let (house, model) = (&team.house, &team.model);
    let _ = house.run(&["down", "reviewer"]).ok();
    let ids: Vec<String> =
        (0..3).map(|n| sent_id(&house.run(&["send", "reviewer", &format!("waiting {n}")]).ok())).collect();
    assert_eq!(state(house, &ids[0]), "queued");
    let ran = house.run(&["up", "reviewer", "--json"]);
    let up = versioned(&ran, &["sessions"]);
    has_keys(&up["sessions"][0], &["name", "state"]);
    assert_eq!(up["sessions"][0]["name"], "reviewer");
    let _ = house.run(&["send", "reviewer", "last", "--wait"]).ok();
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(state(house, id), "consumed");
        read_once(model, &format!("waiting {n}"));
    }
}

#[test]
fn what_is_up_already_stays_as_it_is() {
    let team = Team::of(&["lead", "reviewer"]);
    let house = &team.house;
    let child = |house: &House| house.run(&["status", "--json"]).json()["children"][0]["pid"].clone();
    let before = child(house);
    let ran = house.run(&["up"]).ok();
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("lead is idle\nreviewer is idle\n", ""));
    let up = house.run(&["up", "lead", "lead", "--json"]).json();
    assert_eq!(up["sessions"].as_array().map(Vec::len), Some(1), "each once: {up}");
    assert_eq!(child(house), before);
}

#[test]
fn without_sessions_there_is_nothing_to_bring_up() {
    let house = House::new();
    let up = versioned(&house.run(&["up", "--json"]), &["sessions"]);
    assert_eq!(up["sessions"].as_array().map(Vec::len), Some(0));
    assert_eq!(house.run(&["up"]).ok().stdout, "");
}

#[test]
fn an_unknown_session_is_refused_and_an_agent_may_not() {
    let house = House::new();
    let text = refused(house.run(&["up", "reviewer"]), 3);
    assert!(text.contains("there is no `reviewer`") && text.contains("agentmux spawn reviewer"), "{text}");
    let _ = refused_json(house.run(&["up", "reviewer", "--json"]), 3, "not_found");
    let _ = refused_json(agent(&house, &["up", "--json"]).run(), 1, "refused");
    let nowhere = House::new();
    let _ = refused(touches_nothing(&nowhere, || nowhere.run(&["up", "../x"])), 2);
    let _ = refused(touches_nothing(&nowhere, || nowhere.run(&["up", "--no-start"])), 5);
}

/// Symptom: a variable that is not UTF-8 in the caller's environment made every command that starts a relay panic. Now it is
/// left out.
#[test]
fn a_variable_that_is_not_utf8_starts_a_relay_all_the_same() {
    use std::os::unix::ffi::OsStrExt;
    let house = House::new();
    let mut command = house.command(env!("CARGO_BIN_EXE_agentmux"));
    command.arg("up").env("ODD", std::ffi::OsStr::from_bytes(b"\xff\xfe"));
    let _ = house.call_of(command).run().ok();
    assert!(house.relay_pid().is_some());
}

/// Users 3: a stopped session that may be woken is woken by new mail, one place at a time; what waited when it was stopped
/// does not wake it, nor does fyi.
#[test]
fn mail_wakes_a_stopped_session_that_may_be_woken() {
    let team = Team::nobody();
    let (house, model) = (&team.house, &team.model);
    std::fs::write(house.config_dir().join("config.toml"), "wake_max = 1\n").expect("the house is writable");
    for name in ["lead", "reviewer"] {
        let _ = house.run(&["spawn", name, "--wake-on-mail"]).ok();
    }
    let _ = house.run(&["spawn", "deaf"]).ok();
    let _ = house.run(&["hold", "lead"]).ok();
    let waited = sent_id(&house.run(&["send", "lead", "sent before the stop"]).ok());
    let _ = house.run(&["down", "lead", "reviewer", "deaf"]).ok();
    let _ = house.run(&["release", "lead"]).ok();
    let _ = house.run(&["send", "lead", "for your information", "--priority", "fyi"]).ok();
    let _ = house.run(&["send", "deaf", "nobody hears"]).ok();
    house.poll("nothing but the relay, because nothing wakes for those", SOON, || match house.processes() {
        left if left.len() == 1 => Ok(()),
        left => Err(format!("{left:?}")),
    });
    let _ = house.run(&["send", "reviewer", "wake up", "--wait"]).ok();
    let late = house.run(&["send", "lead", "you, too", "--json"]).ok().json();
    let reason = late["deliveries"][0]["reason"].as_str().unwrap_or_default().to_owned();
    assert!(reason.contains("lead sleeps since") && reason.contains("1 others are awake"), "{reason}");
    assert_eq!(session(house, "reviewer")["wanted"], "down", "what is wanted of it has not changed");
    // The place is free again, and what waited goes along in order.
    let _ = house.run(&["down", "reviewer"]).ok();
    read_once(model, "you, too");
    read_once(model, "sent before the stop");
    assert_eq!(state(house, &waited), "consumed");
    assert_eq!(model.times_read("nobody hears"), 0);
}

/// PX: a child that grows too big is ended before the machine suffers; everybody can see why, and a loop of it is given up.
#[test]
fn a_child_that_grows_too_big_is_ended_and_says_so() {
    let team = Team::asleep(&["reviewer"]);
    let house = &team.house;
    std::fs::write(house.config_dir().join("config.toml"), "child_memory_mib = 1\n").expect("writable");
    let _ = house.run(&["up", "reviewer"]);
    house.poll("the session to be given up", SOON, || {
        let reviewer = session(house, "reviewer");
        let why = reviewer["reason"].as_str().unwrap_or_default().to_owned();
        match reviewer["state"].as_str() {
            Some("failed") if why.contains("given up after 5 exits") && why.contains("MiB, more than 1") => {
                Ok(())
            }
            _ => Err(reviewer.to_string()),
        }
    });
    std::fs::write(house.config_dir().join("config.toml"), "").expect("writable");
    house.kill_nine(house.relay_pid().expect("a relay"));
    let _ = house.run(&["up", "reviewer"]).ok();
    let _ = house.run(&["send", "reviewer", "hello", "--wait"]).ok();
}
