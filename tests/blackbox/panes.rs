//! `agentmux panes`: what it would run, and what it refuses. Real panes are in `tests/real/panes.rs`.

use crate::*;

/// The commands are those of a window with a marked pane for each session, and printing them runs none.
#[test]
fn print_shows_the_commands_and_runs_nothing() {
    let team = Team::of(&["lead", "reviewer"]);
    let house = &team.house;
    let ran = house.run(&["panes", "--print"]).ok();
    let socket = house.bundle_dir().join("tmux.sock");
    let start = format!("tmux -S {} -f /dev/null new-session -d -s test -n test ", socket.display());
    assert!(ran.stdout.starts_with(&start), "{}", ran.evidence());
    assert!(ran.stdout.contains("\n  split-window -- "), "{}", ran.evidence());
    for name in ["lead", "reviewer"] {
        assert!(ran.stdout.contains(&format!(" attach --pane {name} ")), "{}", ran.evidence());
        let mark = house.bundle_dir().join(name);
        assert!(
            ran.stdout.contains(&format!("set-option -p @agentmux {} ", mark.display())),
            "{}",
            ran.evidence()
        );
    }
    assert!(!ran.stdout.contains(" -g "), "no option of the server or the person\n{}", ran.evidence());
    assert!(
        ran.stdout.ends_with(&format!("tmux -S {} -f /dev/null attach-session\n", socket.display())),
        "{}",
        ran.evidence()
    );
    let printed = versioned(&house.run(&["panes", "--print", "--json"]), &["commands"]);
    let commands: Vec<&str> =
        printed["commands"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    assert_eq!(format!("{}\n", commands.join("\n")), ran.stdout);
    let one = house.run(&["panes", "reviewer", "--print"]).ok();
    assert!(!one.stdout.contains("lead"), "{}", one.evidence());
    assert!(!socket.exists(), "nothing was run");
    let spaced = house.dir().join("sta te").display().to_string();
    let _ = house.run(&["--state-dir", &spaced, "spawn", "third"]).ok();
    let ran = house.run(&["--state-dir", &spaced, "panes", "--print"]).ok();
    let attach = format!("tmux -S '{spaced}/bundles/test/tmux.sock' -f /dev/null attach-session\n");
    assert!(ran.stdout.ends_with(&attach), "{}", ran.evidence());
}

#[test]
fn what_has_no_pane_is_refused() {
    let team = Team::asleep(&["reviewer"]);
    let text = refused(team.house.run(&["panes"]), 1);
    assert!(text.contains("no session is up") && text.contains("hint: "), "{text}");
    let text = refused(team.house.run(&["panes", "reviewer"]), 1);
    assert!(text.contains("reviewer is stopped") && text.contains("agentmux up reviewer"), "{text}");
    let _ = refused_json(team.house.run(&["panes", "reviwer", "--json"]), 3, "not_found");
    let _ = refused(agent(&team.house, &["panes"]).run(), 1);
    let nowhere = House::new();
    let _ = refused(touches_nothing(&nowhere, || nowhere.run(&["panes", ".."])), 2);
}

/// A tmux that does not end, because its server is stopped, holds no command up for ever.
#[test]
fn a_tmux_that_does_not_answer_is_given_up() {
    let team = Team::of(&["reviewer"]);
    let dir = tempfile::tempdir().expect("a directory");
    support::program::write_script(
        dir.path().join("tmux"),
        "#!/bin/sh\necho $$ > \"$0.pid\"\nexec sleep 600\n",
    );
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap_or_default());
    let text = refused(team.house.call(&["panes"]).env("PATH", &path).deadline(SOON).run(), 75);
    assert!(text.contains("panes failed: tmux has not ended within 5 s\nhint: "), "{text}");
    let pid = std::fs::read_to_string(dir.path().join("tmux.pid")).expect("it was run");
    let is_gone = || match Path::new(&format!("/proc/{}", pid.trim())).exists() {
        true => Err(pid.clone()),
        false => Ok(()),
    };
    team.house.poll("its end", SOON, is_gone);
}
