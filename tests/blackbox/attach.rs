//! `agentmux attach`: Codex's own screen on the very thread that the mail goes into.

use crate::*;
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
