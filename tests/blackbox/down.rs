//! `agentmux down`: sessions stop, or everything does; what was accepted stays.

use crate::*;
use std::time::Instant;

#[test]
fn without_a_relay_there_is_nothing_to_stop_and_none_is_started() {
    let house = House::new();
    let ran = touches_nothing(&house, || house.run(&["down"])).ok();
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", "no relay is running; nothing to stop\n"));
    let down = versioned(&touches_nothing(&house, || house.run(&["down", "--json"])), &["sessions"]);
    assert_eq!(down["sessions"].as_array().map(Vec::len), Some(0));
}

/// PX-8, NB-9: nothing that the bundle started is left, and saying it again is no error.
#[test]
fn everything_stops_and_no_process_is_left_also_in_the_middle_of_a_turn() {
    let team = Team::of(&["lead", "reviewer"]);
    let (house, model) = (&team.house, &team.model);
    model.script([
        support::Rule::user("first").exec("sleep 1000 & sleep 1000"),
        support::Rule::user("second").reply("done").held_by("gate"),
    ]);
    let _ = house.run(&["send", "lead", "first", "--wait"]).ok();
    let _ = house.run(&["send", "reviewer", "second", "--wait"]).ok();
    model.wait_until_held("gate", SOON);
    assert!(house.processes().len() >= 2, "a relay and a child");
    let begun = Instant::now();
    let ran = house.run(&["down", "--json"]);
    let down = versioned(&ran, &["sessions"]);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    for session in down["sessions"].as_array().into_iter().flatten() {
        assert_eq!(session["state"], "stopped", "{down}");
        assert!(session["threadId"].is_string(), "{down}");
    }
    assert_eq!(house.processes(), Vec::<i32>::new(), "{}", house.relay_log());
    assert!(!house.bundle_dir().join("relay.sock").exists());
    let again = touches_nothing(house, || house.run(&["down"])).ok();
    assert_eq!(again.stderr, "no relay is running; nothing to stop\n");
    // What was wanted is remembered: the next relay brings nothing up by itself.
    let _ = house.run(&["send", "lead", "later"]).ok();
    assert_eq!(session(house, "lead")["state"], "stopped");
}

#[test]
fn a_stopped_session_keeps_its_mail_queued_and_the_others_run_on() {
    let team = Team::of(&["lead", "reviewer"]);
    let house = &team.house;
    let ran = house.run(&["down", "reviewer"]).ok();
    assert!(
        ran.stdout.starts_with("reviewer is stopped; outside agentmux: codex resume "),
        "{}",
        ran.evidence()
    );
    let id = sent_id(&house.run(&["send", "reviewer", "later"]).ok());
    let _ = house.run(&["send", "lead", "now", "--wait"]).ok();
    assert_eq!(state(house, &id), "queued");
    assert_eq!(session(house, "reviewer")["pending"], 1);
    let again = house.run(&["down", "reviewer", "--json"]).json();
    assert_eq!(again["sessions"][0]["state"], "stopped");
}

/// PX-8: a child that outlived its relay is still the bundle's, and `down` ends it.
#[test]
fn a_child_left_behind_by_a_killed_relay_is_ended() {
    let team = Team::of(&["reviewer"]);
    let house = &team.house;
    house.kill_nine(house.relay_pid().expect("a relay runs"));
    house.poll("the relay to be gone", SOON, || match house.processes().as_slice() {
        [] => Err("the child did not outlive its relay".to_owned()),
        [_, ..] if house.run(&["list", "--json"]).json()["sessions"].is_null() => Ok(()),
        left => Err(format!("{left:?}")),
    });
    let _ = house.run(&["down"]).ok();
    assert_eq!(house.processes(), Vec::<i32>::new(), "{}", house.relay_log());
}

#[test]
fn an_unknown_session_is_refused_and_an_agent_may_stop_nothing() {
    let house = House::new();
    let text = refused(house.run(&["down", "reviewer"]), 3);
    assert!(text.contains("there is no `reviewer`"), "{text}");
    let error = refused_json(agent(&house, &["down", "--json"]).run(), 1, "refused");
    assert!(error["message"].as_str().is_some_and(|m| m.contains("only the operator")), "{error}");
    assert!(house.run(&["list", "--json"]).json()["sessions"].is_array(), "the relay runs on");
    let nowhere = House::new();
    let _ = refused(touches_nothing(&nowhere, || nowhere.run(&["down", ".."])), 2);
}

/// users 9, users 19: a relay that lives and cannot be reached is never said to be gone, and nothing is said to be stopped.
#[test]
fn a_stopped_relay_whose_socket_was_removed_is_busy_and_not_absent() {
    let house = House::new();
    std::fs::create_dir_all(house.config_dir()).expect("the house is writable");
    std::fs::write(house.config_dir().join("config.toml"), "start_timeout = \"500ms\"\n")
        .expect("the house is writable");
    let _ = house.run(&["up"]).ok();
    let pid = house.relay_pid().expect("a relay runs");
    let relay = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::kill(relay, nix::sys::signal::Signal::SIGSTOP).expect("ours");
    std::fs::remove_file(house.bundle_dir().join("relay.sock")).expect("ours");
    for verb in ["down", "status", "list"] {
        let text = refused(house.run(&[verb]), 75);
        assert!(
            text.contains(&format!("pid {pid} (stopped)")) && text.contains(&format!("kill -CONT {pid}")),
            "{verb}: {text}"
        );
    }
    assert_eq!(house.relay_pid(), Some(pid));
    nix::sys::signal::kill(relay, nix::sys::signal::Signal::SIGCONT).expect("ours");
    house.poll("the relay to be reached again", SOON, || match house.run(&["status", "--json"]) {
        ran if ran.code == 0 => Ok(()),
        ran => Err(ran.stderr),
    });
    let _ = house.run(&["down"]).ok();
    assert_eq!(house.processes(), Vec::<i32>::new());
}

/// Symptom: for a session with a `CODEX_HOME` of its coder's, `down` printed a command that finds no such thread, and who writes to it was
/// not named. Cause: the caller's environment was looked at. Now: the session's is.
#[test]
fn the_command_that_takes_a_thread_out_finds_it() {
    let team = Team::nobody();
    let house = &team.house;
    let home = house.dir().join("another home");
    std::fs::create_dir(&home).expect("the house is writable");
    std::fs::copy(house.codex_home().join("config.toml"), home.join("config.toml")).expect("likewise");
    let coder =
        format!("[coders.elsewhere]\nkind = \"codex\"\nenv = {{ CODEX_HOME = \"{}\" }}\n", home.display());
    std::fs::write(house.config_dir().join("config.toml"), coder).expect("likewise");
    let _ = house.run(&["spawn", "ann", "--coder", "elsewhere"]).ok();
    let thread = session(house, "ann")["threadId"].as_str().unwrap_or_default().to_owned();
    let second = ["-b", "second", "spawn", "bob", "--coder", "elsewhere", "--thread", &thread];
    let said = refused(house.run(&second), 7);
    assert!(said.contains(" writes it (") && said.contains("app-server"), "{said}");
    let ran = house.run(&["down", "ann"]).ok();
    let command = format!("outside agentmux: CODEX_HOME='{}' codex resume {thread}\n", home.display());
    assert!(ran.stdout.ends_with(&command), "{}", ran.evidence());
    let ran = house.run(&["remove", "ann"]).ok();
    assert!(
        ran.stdout.contains(&format!("CODEX_HOME='{}' codex resume {thread}", home.display())),
        "{}",
        ran.evidence()
    );
    let _ = house.run(&["-b", "second", "down"]).ok();
}

/// ^C while `down` still asks where threads lie: nothing is stopped, because nothing has been asked to stop.
#[test]
fn an_interrupt_before_anything_is_stopped_stops_nothing() {
    use crate::support::played::{Step, play};
    let (here, is_here) = std::sync::mpsc::sync_channel(1);
    let (go_on, told) = std::sync::mpsc::sync_channel(1);
    let house = House::new();
    let steps = vec![Step::Hear("session/list"), Step::Meet(here, told), Step::Silence];
    let playing = play(&house, vec![steps]);
    let down = house.spawn(&["down"]);
    is_here.recv_timeout(SOON).expect("it asks");
    down.signal(nix::sys::signal::Signal::SIGINT);
    go_on.send(()).expect("it plays");
    let _ = down.finish(SOON).fails(130);
    playing.join().expect("it was asked for nothing more");
}
