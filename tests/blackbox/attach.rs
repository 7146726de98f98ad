//! `agentmux attach`: Codex's own screen on the very thread that the mail goes into.

use crate::*;
use serde_json::json;
use support::Pane;

#[test]
fn print_shows_the_command_and_runs_nothing() {
    let team = Team::of(&["reviewer"]);
    let house = &team.house;
    let thread = session(house, "reviewer")["threadId"].as_str().unwrap_or_default().to_owned();
    let ran = house.run(&["attach", "reviewer", "--print"]).ok();
    let socket = house.bundle_dir().join("panes.sock");
    let wanted = format!(" --remote unix://{} resume {thread}\n", socket.display());
    assert!(ran.stdout.starts_with('/') && ran.stdout.ends_with(&wanted), "{}", ran.evidence());
    assert!(socket.exists());
    let ran = house.run(&["attach", "reviewer", "--print", "--json"]);
    let attached = versioned(&ran, &["session", "threadId", "socket", "program", "dir", "command"]);
    assert_eq!(attached["command"].as_array().map(Vec::len), Some(5), "{attached}");
    assert_eq!((&attached["session"], &attached["threadId"]), (&"reviewer".into(), &thread.as_str().into()));
    assert_eq!(session(house, "reviewer")["attached"], 0, "printing attaches nobody for longer");

    let text = refused(house.run(&["attach", "reviewer"]), 1);
    assert!(text.contains("a screen needs a terminal") && text.contains("agentmux look reviewer"), "{text}");
    let _ = house.run(&["down", "reviewer"]).ok();
    let ran = house.run(&["attach", "reviewer", "--print"]);
    let text = refused(ran, 1);
    assert!(text.contains("reviewer is stopped") && text.contains("hint: "), "{text}");
    assert!(text.contains("agentmux up reviewer"), "{text}");
}

/// What is printed for a shell is read by it as it was meant.
#[test]
fn the_printed_command_is_one_for_a_shell() {
    use crate::support::played::{Step, play};
    let house = House::new();
    let attached = json!({"session": "reviewer", "threadId": "$(x)", "socket": "/a b/panes.sock", "program": "/it's/codex",
        "dir": "/"});
    let playing = play(&house, vec![vec![Step::Hear("session/attach"), Step::Say(attached)]]);
    let ran = house.run(&["attach", "reviewer", "--print"]).ok();
    playing.join().expect("the relay of the test");
    assert_eq!(
        ran.stdout,
        "'/it'\\''s/codex' --remote 'unix:///a b/panes.sock' resume '$(x)'\n",
        "{}",
        ran.evidence()
    );
}

/// SQ-15: the person sees the mail arrive in the pane, and is counted as long as it is open.
#[test]
fn a_pane_shows_the_live_thread_and_is_counted_while_it_is_open() {
    let team = Team::of(&["reviewer"]);
    let house = &team.house;
    let pane = Pane::start(house, (120, 40), &[env!("CARGO_BIN_EXE_agentmux"), "attach", "reviewer"]);
    pane.wait_for("mock-model", SOON);
    assert_eq!(session(house, "reviewer")["attached"], 1);
    let _ = house.run(&["send", "reviewer", "seen in the pane", "--wait"]).ok();
    pane.wait_for("seen in the pane", SOON);
    pane.kill();
    house.poll("the pane to be gone", SOON, || match session(house, "reviewer")["attached"].as_i64() {
        Some(0) => Ok(()),
        attached => Err(format!("{attached:?} attached")),
    });
    let _ = house.run(&["send", "reviewer", "and still delivered", "--wait"]).ok();
    read_once(&team.model, "seen in the pane");
}

#[test]
fn an_unknown_session_is_refused_and_an_agent_may_not() {
    let house = House::new();
    let text = refused(house.run(&["attach", "reviewer"]), 3);
    assert!(text.contains("there is no `reviewer`"), "{text}");
    let _ = refused_json(house.run(&["attach", "reviewer", "--print", "--json"]), 3, "not_found");
    let _ = refused(agent(&house, &["attach", "reviewer", "--print"]).run(), 1);
    let nowhere = House::new();
    let _ = refused(touches_nothing(&nowhere, || nowhere.run(&["attach", "../x"])), 2);
    let _ = refused(touches_nothing(&nowhere, || nowhere.run(&["attach", "a", "--no-start"])), 5);
}

/// A relay that is slow, or refuses, for a while leaves no screen behind that nothing ends any more; and one that was being stopped is not
/// started again. The relay is played.
#[test]
fn a_screen_is_still_ended_with_its_session_after_a_relay_that_was_slow_or_refused() {
    use crate::support::played::{Step, play_with};
    let session = |state: &str, wanted: &str| {
        json!({"name": "reviewer", "coder": "codex", "state": state, "since": null, "reason": null, "threadId": "x", "turnId": null,
            "pending": 0, "oldestPendingMs": null, "attached": 1, "dir": "/", "wanted": wanted, "capabilities":
            {"steer": true, "interrupt": true, "approvals": true, "reconcile": true, "evidence": "consumed"},
            "createdAt": "2026-01-01T00:00:00.000Z", "program": "x", "childPid": 1, "wakeOnMail": false, "isolated": false, "skillsInMail": false,
            "instructions": null, "model": null, "sandbox": null, "approval": null, "environment": {}})
    };
    let asked = |method, answer| [Step::Hear(method), Step::Say(answer)];
    let subscribed = || asked("events/subscribe", json!({"stream": "s", "seq": 0}));
    let stopped = || {
        let list = json!({"bundle": "test", "sessions": [session("stopped", "down")]});
        let shown = asked("session/show", json!({"session": session("stopped", "down")}));
        [subscribed(), asked("session/list", list), shown].into_iter().flatten().collect::<Vec<Step>>()
    };
    let refuses = || [Step::Hear("events/subscribe"), Step::Refuse("request refused: the relay is stopping")];
    for (what, last_of_first, others, told) in [
        (
            "slow",
            vec![Step::Hear("events/subscribe")],
            vec![(false, vec![Step::Stay]), (true, stopped())],
            "reviewer was stopped",
        ),
        ("full", refuses().into(), vec![(true, refuses().into()), (true, stopped())], "reviewer was stopped"),
        ("stopping", refuses().into(), vec![], "the relay was stopped, and the session with it"),
    ] {
        let house = House::new();
        std::fs::write(house.config_dir().join("config.toml"), "start_timeout = \"300ms\"\n")
            .expect("writable");
        let screen = house.dir().join("screen");
        support::write_script(&screen, "#!/bin/sh\necho the screen\nexec cat\n");
        let attached = json!({"session": "reviewer", "threadId": "x", "socket": house.bundle_dir().join("panes.sock"), "program": screen,
            "dir": "/"});
        let shown = json!({"session": session("idle", "up")});
        let first = [asked("session/attach", attached), asked("session/show", shown)].into_iter().flatten();
        let first = first.chain(last_of_first).collect();
        let playing = play_with(&house, [vec![(true, first)], others].into_iter().flatten().collect());
        let pane = Pane::start(&house, (120, 20), &[env!("CARGO_BIN_EXE_agentmux"), "attach", "reviewer"]);
        pane.wait_for(told, SOON);
        assert_eq!(pane.wait_for_exit(SOON), 0, "{what}");
        playing.join().expect("the relay of the test");
        assert_eq!(house.relay_pid(), None, "{what}: nobody started one");
    }
}
