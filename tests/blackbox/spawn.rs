//! `agentmux spawn`: a session is there and durable when the command returns, or it is not there at all.

use crate::*;
use std::os::unix::fs::PermissionsExt;

const SESSION_KEYS: [&str; 12] = [
    "name",
    "coder",
    "state",
    "since",
    "threadId",
    "pending",
    "oldestPendingMs",
    "attached",
    "capabilities",
    "dir",
    "wanted",
    "reason",
];

#[test]
fn a_spawned_session_is_durable_and_printed_as_list_shows_it() {
    let team = Team::nobody();
    let house = &team.house;
    let ran = house.run(&["spawn", "reviewer", "--json"]);
    let session = versioned(&ran, &["session"])["session"].clone();
    has_keys(&session, &SESSION_KEYS);
    assert_eq!(session["name"], "reviewer");
    assert_eq!((&session["coder"], &session["state"]), (&"codex".into(), &"idle".into()));
    assert_eq!((&session["pending"], &session["attached"]), (&0.into(), &0.into()));
    assert!(session["threadId"].is_string() && is_time(&session["since"]), "{session}");
    assert_eq!(session["dir"].as_str(), house.project().to_str());
    has_keys(&session["capabilities"], &["steer", "interrupt", "approvals", "reconcile", "evidence"]);
    assert_eq!(session["capabilities"]["evidence"], "consumed");
    assert!(session["capabilities"]["reconcile"].is_boolean());

    assert_eq!(crate::session(house, "reviewer"), session);
    house.kill_nine(house.relay_pid().expect("a relay runs"));
    let after = house.run(&["up", "reviewer", "--json"]).json();
    assert_eq!(after["sessions"][0]["threadId"], session["threadId"], "{}", house.relay_log());

    // A second one in the same house: words for people, and the same name again is a conflict.
    std::fs::create_dir(house.project().join("sub")).expect("the house is writable");
    let ran = house.run(&["-C", "sub", "spawn", "lead"]).ok();
    let list = house.run(&["list"]).ok().stdout;
    let head = list.lines().next().expect("a head");
    let row = list.lines().find(|line| line.starts_with("lead ")).expect("a row");
    let cells = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<String>>();
    assert_eq!(cells(&ran.stdout), cells(&format!("{head}\n{row}")), "what `list` shows of it");
    assert!(
        ran.stderr.starts_with("thread ") && ran.stderr.ends_with("/project/sub\n"),
        "{}",
        ran.evidence()
    );
    let text = refused(house.run(&["spawn", "reviewer"]), 7);
    assert!(text.contains("there is a session `reviewer` already"), "{text}");
    assert!(text.contains("hint: `agentmux up reviewer` starts it"), "{text}");
    assert_eq!(crate::session(house, "reviewer")["threadId"], session["threadId"]);
}

#[test]
fn a_thread_that_is_taken_or_unknown_leaves_no_session_and_no_file() {
    let team = Team::of(&["reviewer"]);
    let house = &team.house;
    let children = listing(&house.bundle_dir().join("children"));
    let thread = session(house, "reviewer")["threadId"].as_str().unwrap_or_default().to_owned();
    let text = refused(house.run(&["spawn", "twin", "--thread", &thread]), 7);
    // Symptom: in capitals it passed that check and was stored so; Codex speaks lower case, so the session heard nothing of its turns.
    let shouted = refused(house.run(&["spawn", "twin", "--thread", &thread.to_uppercase()]), 7);
    assert_eq!(shouted, text);
    let none = refused(house.run(&["spawn", "twin", "--thread", "no-such-thing"]), 2);
    assert!(none.contains("spawn refused: `no-such-thing` is no id of a thread"), "{none}");
    assert!(text.contains("session `reviewer` has that thread"), "{text}");
    let text = refused(house.run(&["spawn", "ghost", "--thread", "0199a213-81c0-7800-8aa1-bbab2a035a53"]), 1);
    assert!(text.contains("spawn failed: "), "{text}");
    let list = house.run(&["list", "--json"]).json();
    assert_eq!(list["sessions"].as_array().map(Vec::len), Some(1), "{list}");
    let names = |listing: &[String]| -> Vec<String> {
        listing.iter().map(|line| line.split(' ').next().unwrap_or_default().to_owned()).collect()
    };
    let now = listing(&house.bundle_dir().join("children"));
    assert_eq!(names(&now), names(&children), "nothing of the two is left");
}

/// LK-7, SQ-12: a name is never joined to a path unless it is one.
#[test]
fn a_name_outside_the_grammar_is_refused_before_anything_changes() {
    let house = House::new();
    let long = "a".repeat(33);
    for name in ["..", "/x", "Reviewer", &long, "1a", "a.b", "", "-"] {
        let text = refused(touches_nothing(&house, || house.run(&["spawn", name])), 2);
        assert!(
            text.contains("is not a session name") && text.contains("hint: a name is"),
            "{name:?}: {text}"
        );
    }
    for name in ["operator", "outside", "system", "all"] {
        let text = refused(touches_nothing(&house, || house.run(&["spawn", name])), 2);
        assert!(text.contains("is a reserved name"), "{name:?}: {text}");
    }
    let error = refused_json(house.run(&["spawn", "..", "--json"]), 2, "usage");
    assert!(error["message"].as_str().is_some_and(|m| m.contains("`..`")), "{error}");
}

#[test]
fn arguments_that_cannot_be_kept_are_refused_before_anything_changes() {
    let house = House::with_codex(&support::codex_program());
    for (arguments, code, part) in [
        (&["spawn", "a", "--dir", "no-such-directory"][..], 2, "no-such-directory is not a directory"),
        (&["-C", "no-such-directory", "spawn", "a"], 2, "no-such-directory"),
        (&["spawn", "a", "--coder", "claude"], 1, "the coder `claude` is not supported yet"),
        (&["spawn", "a", "--coder", "emacs"], 2, "emacs"),
        (&["spawn", "a", "--sandbox", "none"], 2, "`none` is not one of read-only"),
        (&["spawn", "a", "--approval", "yes"], 2, "`yes` is not one of on-request, never"),
        (&["spawn", "a", "--instructions", "@no-such-file"], 2, "no-such-file"),
        (&["spawn", "a", "--", "vi"], 2, "takes no command"),
        (&["spawn"], 2, "NAME"),
    ] {
        let text = refused(touches_nothing(&house, || house.run(arguments)), code);
        assert!(text.contains(part), "{arguments:?}: {text}");
    }
}

/// PX-13: the program is the one that is named, or none; nothing is looked for elsewhere or fetched.
#[test]
fn a_missing_codex_is_named_before_anything_changes() {
    let house = House::new();
    let text = refused(touches_nothing(&house, || house.run(&["spawn", "reviewer"])), 1);
    assert!(text.contains("codex not found") && text.contains("AGENTMUX_CODEX names it"), "{text}");
    assert!(text.contains("hint: install Codex 0.157.0 or newer"), "{text}");
    let without =
        || house.call(&["spawn", "reviewer"]).without_env("AGENTMUX_CODEX").env("PATH", "/nowhere").run();
    let text = refused(touches_nothing(&house, without), 1);
    assert!(text.contains("no program `codex` (it is not on PATH)"), "{text}");
    let config = house.config_dir().join("config.toml");
    std::fs::write(config, "[coders.nightly]\nprogram = \"/nowhere/nightly\"\n")
        .expect("the house is writable");
    let nightly = || {
        let call = house.call(&["spawn", "reviewer", "--coder", "nightly"]).without_env("AGENTMUX_CODEX");
        call.run()
    };
    let text = refused(touches_nothing(&house, nightly), 1);
    let why = "no program `/nowhere/nightly` (the configuration of its coder names it)";
    assert!(text.contains(why), "{text}");
}

#[test]
fn a_codex_that_is_too_old_or_says_nothing_is_refused_before_anything_changes() {
    for (prints, part) in [
        ("codex-cli 0.150.0", "found Codex 0.150.0, agentmux needs 0.157.0 or newer"),
        ("", "does not tell its version: it printed ``"),
        ("hello", "does not tell its version: it printed `hello`"),
    ] {
        let house = House::new();
        let fake = house.dir().join("fake-codex");
        support::write_script(&fake, &format!("#!/bin/sh\necho '{prints}'\n"));
        let fake = fake.to_str().expect("UTF-8");
        let spawn = || house.call(&["spawn", "reviewer"]).env("AGENTMUX_CODEX", fake).run();
        let text = refused(touches_nothing(&house, spawn), 1);
        assert!(text.contains(part) && text.contains("hint: "), "{text}");
    }
}

#[test]
fn configuration_that_does_not_parse_is_quoted_by_line_before_anything_changes() {
    let house = House::with_codex(&support::codex_program());
    let config = house.config_dir().join("config.toml");
    let project = house.project().join("agentmux.toml");
    for (file, content, part) in [
        (&config, "# mine\nidle_exit = = 1\n", "config.toml line 2: `idle_exit = = 1`"),
        (&config, "idle_exit = \"soon\"\n", "`idle_exit` is not a duration"),
        (&project, "bundle = 7\n", "agentmux.toml line 1: `bundle = 7`"),
        (&project, "bundle = \"Web\"\n", "`Web` is not a bundle name"),
    ] {
        std::fs::write(file, content).expect("the house is writable");
        for verb in [&["spawn", "reviewer"][..], &["send", "operator", "x"], &["up"]] {
            let call = || house.call(verb).without_env("AGENTMUX_BUNDLE").run();
            let text = refused(touches_nothing(&house, call), 2);
            assert!(text.contains(part), "{verb:?}: {text}");
        }
        std::fs::remove_file(file).expect("it was written above");
    }
}

#[test]
fn a_session_that_codex_cannot_start_leaves_nothing_and_says_why() {
    let team = Team::nobody();
    let house = &team.house;
    std::fs::write(house.codex_home().join("config.toml"), "model = = 1\n").expect("the house is writable");
    let text = refused(house.run(&["spawn", "reviewer"]), 1);
    assert!(text.contains("spawn failed: ") && text.contains("config.toml"), "{text}");
    let list = house.run(&["list", "--json"]).json();
    assert_eq!(list["sessions"].as_array().map(Vec::len), Some(0), "{list}");
    team.house.write_codex_config(&team.model);
    let _ = house.run(&["spawn", "reviewer"]).ok();
}

/// LK-1, LK-2: of those who want one name at once exactly one gets it, and the others are told.
#[test]
fn one_name_goes_to_one_of_those_who_ask_at_once() {
    let team = Team::nobody();
    let house = &team.house;
    let mut ran: Vec<Ran> = std::thread::scope(|scope| {
        let askers: Vec<_> = (0..4).map(|_| scope.spawn(|| house.run(&["spawn", "reviewer"]))).collect();
        askers.into_iter().map(|asker| asker.join().expect("an asker")).collect()
    });
    ran.sort_by_key(|ran| ran.code);
    let codes: Vec<i32> = ran.iter().map(|ran| ran.code).collect();
    assert_eq!(codes, [0, 7, 7, 7], "{}", ran[3].evidence());
    assert_eq!(session(house, "reviewer")["state"], "idle");
    assert_eq!(house.run(&["status", "--json"]).json()["children"].as_array().map(Vec::len), Some(1));
}

#[test]
fn an_agent_cannot_spawn_sessions() {
    let house = House::with_codex(&support::codex_program());
    let text = refused(agent(&house, &["spawn", "helper"]).run(), 1);
    assert!(text.contains("only the operator may do this") && text.contains("hint: "), "{text}");
}

/// SQ-11, BS-9: what a child gets is kept in a file of the user's alone, and holds no mark and no token.
#[test]
fn the_environment_of_a_session_is_private_and_without_marks() {
    let team = Team::nobody();
    let house = &team.house;
    let ran = house
        .call(&["spawn", "reviewer"])
        .env("AGENTMUX_TOKEN", "secret-token")
        .env("OPENAI_API_KEY", "passes")
        .env("UNLISTED", "stays-out")
        .run();
    let _ = ran.ok();
    let path = house.bundle_dir().join("children/reviewer.env");
    let kept = std::fs::read_to_string(&path).expect("the environment is kept");
    assert!(
        kept.contains("passes") && !kept.contains("secret-token") && !kept.contains("stays-out"),
        "{kept}"
    );
    let mode = std::fs::metadata(&path).map(|meta| meta.permissions().mode() & 0o777).expect("it is there");
    assert_eq!(mode, 0o600);
    let status = house.run(&["status", "--json"]).json();
    let child = status["children"][0]["pid"].as_i64().unwrap_or_default();
    let environ = std::fs::read(format!("/proc/{child}/environ")).expect("the child runs");
    let environ = String::from_utf8_lossy(&environ);
    assert!(environ.contains("OPENAI_API_KEY=passes"));
    for absent in ["secret-token", "UNLISTED", "AGENTMUX_TOKEN"] {
        assert!(!environ.contains(absent), "{absent} reached the child");
    }
}

/// `--isolated` gives a session a child of its own; the others share theirs.
#[test]
fn an_isolated_session_has_its_own_child() {
    let team = Team::of(&["lead", "reviewer"]);
    let house = &team.house;
    let _ = house.run(&["spawn", "tester", "--isolated"]).ok();
    let pid = |name: &str| house.run(&["show", name, "--json"]).ok().json()["session"]["childPid"].clone();
    assert_eq!(pid("lead"), pid("reviewer"));
    assert_ne!(pid("lead"), pid("tester"));
    assert_eq!(house.run(&["status", "--json"]).ok().json()["children"].as_array().map(Vec::len), Some(2));
    let _ = house.run(&["send", "tester", "hello", "--wait"]).ok();
    let _ = house.run(&["down", "tester"]).ok();
    // Its child ends once it has ended the programs that its threads had.
    house.poll("its child to end", SOON, || {
        match house.run(&["status", "--json"]).ok().json()["children"].as_array().map(Vec::len) {
            Some(1) => Ok(()),
            other => Err(format!("{other:?} children")),
        }
    });
}

/// users 14: a thread that another process writes to is refused with who that is, at once, and no session, thread or fork comes of it.
#[test]
fn a_thread_that_somebody_else_writes_to_is_refused_with_the_holder() {
    let team = Team::of(&["reviewer"]);
    let house = &team.house;
    let thread = session(house, "reviewer")["threadId"].as_str().expect("a thread").to_owned();
    let status = house.run(&["status", "--json"]).ok().json();
    let child = status["children"][0]["pid"].as_i64().expect("a child");
    let spawn = || house.run(&["-b", "other", "spawn", "reviewer", "--thread", &thread]);
    let text = refused(spawn(), 7);
    assert!(text.contains(&format!("pid {child} writes it (")) && text.contains("app-server"), "{text}");
    assert!(text.contains("hint: a thread has one writer"), "{text}");
    let text = refused(house.run(&["spawn", "reviewer", "--thread", &thread]), 7);
    assert!(text.contains("there is a session `reviewer` already") && !text.contains("writes it"), "{text}");
    let none = house.run(&["-b", "other", "list", "--json"]).ok().json();
    assert_eq!(none["sessions"], serde_json::json!([]), "{none}");
    let down = house.run(&["down", "reviewer"]).ok();
    assert!(down.stderr.contains("a minute after its session has ended"), "{}", down.evidence());
    let _ = house.run(&["down"]).ok();
    let brought = spawn().ok();
    assert!(brought.stderr.contains(&thread), "{}", brought.evidence());
    let _ = house.run(&["-b", "other", "down"]).ok();
}
