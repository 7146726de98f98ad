//! `agentmux trust`: what a project's file says to run is inert until a person trusted that very text.

use crate::*;

fn write(house: &House, text: &str) {
    std::fs::write(house.project().join("agentmux.toml"), text).expect("the house is writable");
}

fn names(house: &House) -> Vec<String> {
    let listed = house.run(&["list", "--json"]).ok().json();
    let sessions = listed["sessions"].as_array().cloned().unwrap_or_default();
    sessions.iter().filter_map(|session| session["name"].as_str().map(str::to_owned)).collect()
}

/// The direnv rule: nothing of a cloned repository is run by `up`, `spawn` or `send` before its file is trusted, nor after it
/// changed; groups and the bundle's name run nothing and always count.
#[test]
fn sessions_of_a_file_are_inert_until_it_is_trusted_as_it_reads() {
    let team = Team::nobody();
    let house = &team.house;
    write(
        house,
        "bundle = \"test\"\n[sessions.reviewer]\nsandbox = \"read-only\"\ninstructions = \"@how.md\"\n",
    );
    std::fs::write(house.project().join("how.md"), "Be kind.\n").expect("likewise");
    let up = house.run(&["up"]).ok();
    assert_eq!(up.stdout, "");
    assert!(
        up.stderr.contains("is not trusted") && up.stderr.contains("hint: read it, then: agentmux trust"),
        "{}",
        up.stderr
    );
    let _ = refused(house.run(&["send", "reviewer", "x"]), 3);
    assert!(names(house).is_empty());

    let text = refused(agent(house, &["trust"]).run(), 1);
    assert!(text.contains("only the operator"), "{text}");
    let trusted = versioned(&house.run(&["trust", "--json"]), &["path", "trusted", "sessions", "coders"]);
    assert_eq!((&trusted["trusted"], &trusted["sessions"]), (&true.into(), &serde_json::json!(["reviewer"])));
    let examined = house.run(&["doctor", "--json"]).stdout;
    assert!(!examined.contains("trusted-"), "what trust writes is ours: {examined}");
    let up = house.run(&["up"]).ok();
    assert_eq!((up.stdout.as_str(), up.stderr.as_str()), ("reviewer is idle\n", ""));
    let shown = house.run(&["show", "reviewer", "--json"]).ok().json()["session"].clone();
    assert_eq!((&shown["sandbox"], &shown["instructions"]), (&"read-only".into(), &"Be kind.\n".into()));
    assert_eq!(shown["dir"].as_str(), house.project().to_str());

    write(house, "bundle = \"test\"\n[sessions.reviewer]\n[sessions.added]\n");
    let up = house.run(&["up"]).ok();
    assert!(up.stderr.contains("is not trusted") && names(house) == ["reviewer"], "{}", up.stderr);
    let _ = house.run(&["trust"]).ok();
    let _ = house.run(&["up", "added"]).ok();
    assert_eq!(names(house), ["added", "reviewer"]);
    let _ = house.run(&["trust", "--revoke"]).ok();
    assert!(house.run(&["up"]).ok().stderr.contains("is not trusted"));
    let up = house.run(&["up", "--json"]).ok();
    let file = house.project().join("agentmux.toml");
    assert_eq!(up.json()["untrusted"].as_str(), file.to_str(), "scripts are told, too: {}", up.stdout);
}

/// Programs that leave a mark when they are run, and are the real Codex then.
fn marking_program(house: &House, name: &str) -> (String, std::path::PathBuf) {
    let (program, mark) = (house.dir().join(name), house.dir().join(format!("{name}-was-run")));
    let script =
        format!("#!/bin/sh\necho \"$@\" >>{}\nexec {} \"$@\"\n", mark.display(), house.codex().display());
    support::write_script(&program, &script);
    (program.to_str().expect("UTF-8").to_owned(), mark)
}

/// The direnv rule, for programs: those that a cloned repository names are run by no command before its file was trusted as it reads,
/// neither by their own name nor in the place of Codex; afterwards they are, and what is put in their place later is not.
#[test]
fn a_program_that_an_untrusted_file_names_is_never_run() {
    let team = Team::nobody();
    let house = &team.house;
    let (program, mark) = marking_program(house, "nightly");
    let write_programs = |program: &str| {
        write(
            house,
            &format!(
                "bundle = \"test\"\n[coders.nightly]\nprogram = {program:?}\n[coders.codex]\nprogram = {program:?}\n\
                 [sessions.reviewer]\ncoder = \"nightly\"\n"
            ),
        );
    };
    // The person's own Codex is the one on PATH.
    let bin = house.codex().parent().expect("a directory").display().to_string();
    let path = format!("{bin}:{}", std::env::var("PATH").expect("a PATH"));
    let run = |words: &[&str]| house.call(words).without_env("AGENTMUX_CODEX").env("PATH", &path).run();
    let child_of = |name: &str| run(&["show", name, "--json"]).ok().json()["session"].clone();

    write_programs(&program);
    let is_unknown = |name: &str| {
        let ran = run(&["spawn", name, "--coder", "nightly"]).fails(2);
        let says = |text: &str| assert!(ran.stderr.contains(text), "{}", ran.evidence());
        says("the sessions and coders of ");
        says("is not trusted as it is");
        says("error: spawn refused: there is no coder `nightly`");
    };
    is_unknown("one");
    let _ = run(&["spawn", "plain"]).ok();
    for words in [
        &["up"][..],
        &["send", "plain", "hello", "--wait"],
        &["list"],
        &["status"],
        &["config", "show"],
        &["doctor"],
        &["down", "--now"],
        &["up"],
    ] {
        let ran = run(words);
        assert!(ran.code == 0 || words == ["doctor"], "{}", ran.evidence());
    }
    let _ = refused(run(&["send", "reviewer", "hello"]), 3);
    assert_eq!(names(house), ["plain"]);
    assert_eq!(child_of("plain")["program"], format!("{bin}/codex"), "the person's own");
    assert!(!mark.exists(), "{}", std::fs::read_to_string(&mark).unwrap_or_default());

    let _ = run(&["trust"]).ok();
    let _ = run(&["spawn", "one", "--coder", "nightly"]).ok();
    let _ = run(&["up", "reviewer"]).ok();
    for name in ["one", "reviewer"] {
        assert_eq!(child_of(name)["program"], program, "{name}");
    }
    let _ = run(&["send", "one", "hello", "--wait"]).ok();
    let told = std::fs::read_to_string(&mark).expect("it was run");
    assert!(told.lines().any(|line| line.starts_with("app-server ")), "the child is that program: {told}");

    let (other, mark) = marking_program(house, "other");
    write_programs(&other);
    is_unknown("two");
    let _ = run(&["spawn", "two"]).ok();
    let _ = run(&["down", "--now"]).ok();
    let _ = run(&["up"]).ok();
    assert_eq!(child_of("one")["program"], program, "what was trusted when it was spawned");
    assert_eq!(child_of("two")["program"], format!("{bin}/codex"));
    assert!(!mark.exists(), "{}", std::fs::read_to_string(&mark).unwrap_or_default());
}

/// A changed file never stops a running session; it gets its settings when it is next brought up.
#[test]
fn changed_settings_wait_until_the_session_is_down() {
    let team = Team::nobody();
    let house = &team.house;
    write(house, "bundle = \"test\"\n[sessions.reviewer]\nsandbox = \"read-only\"\n");
    let _ = house.run(&["trust"]).ok();
    let _ = house.run(&["up"]).ok();
    let thread = |house: &House| house.run(&["show", "reviewer", "--json"]).ok().json()["session"].clone();
    let before = thread(house);
    write(
        house,
        "bundle = \"test\"\n[sessions.reviewer]\nsandbox = \"workspace-write\"\nisolated = true\nwake_on_mail = true\n",
    );
    let _ = house.run(&["trust"]).ok();
    let up = house.run(&["up"]).ok();
    assert_eq!(up.stdout, "reviewer is idle\n");
    assert!(
        up.stderr.contains("is not stopped for them") && up.stderr.contains("hint: agentmux down reviewer"),
        "{}",
        up.stderr
    );
    let up = house.run(&["up", "--json"]).ok().json();
    assert_eq!(up["outdated"], serde_json::json!(["reviewer"]), "scripts are told, too");
    let now = thread(house);
    assert_eq!((&now["sandbox"], &now["childPid"]), (&before["sandbox"], &before["childPid"]), "as it was");
    let _ = house.run(&["down", "reviewer"]).ok();
    let up = house.run(&["up"]).ok();
    assert_eq!((up.stdout.as_str(), up.stderr.as_str()), ("reviewer is idle\n", ""));
    let after = thread(house);
    assert_eq!(
        (&after["sandbox"], &after["isolated"], &after["wakeOnMail"]),
        (&"workspace-write".into(), &true.into(), &true.into())
    );
    assert_eq!(after["threadId"], before["threadId"], "the same agent");
    // What is stored is what a new relay loads.
    house.kill_nine(house.relay_pid().expect("a relay"));
    assert_eq!(thread(house)["sandbox"], "workspace-write");
}

#[test]
fn what_is_unknown_in_a_file_is_named_with_its_line_and_the_nearest_key() {
    let house = House::new();
    write(&house, "bundle = \"test\"\n[sessions.reviewer]\nsandbx = \"read-only\"\n");
    let text = refused(house.run(&["trust"]), 2);
    assert!(text.contains("agentmux.toml line 3: `sandbx = \"read-only\"`: unknown key `sandbx`"), "{text}");
    assert!(text.contains("hint: perhaps `sandbox` was meant"), "{text}");
    write(&house, "");
    std::fs::write(house.config_dir().join("config.toml"), "idle_exti = \"1h\"\n").expect("writable");
    let text = refused(house.run(&["list"]), 2);
    assert!(text.contains("config.toml line 1") && text.contains("perhaps `idle_exit` was meant"), "{text}");
    std::fs::write(house.config_dir().join("config.toml"), "[policy.allow]\nprompts = [\"lead\"]\n")
        .expect("writable");
    let text = refused(house.run(&["list"]), 2);
    assert!(text.contains("config.toml line 2") && text.contains("perhaps `prompt` was meant"), "{text}");
    std::fs::write(house.config_dir().join("config.toml"), "").expect("writable");
    write(&house, "[sessions.reviewer]\ndri = \"x\"\n");
    let text = refused(house.run(&["trust"]), 2);
    assert!(text.contains("perhaps `dir` was meant"), "letters that changed places: {text}");
}

#[test]
fn without_a_file_there_is_nothing_to_trust() {
    let house = House::new();
    let _ = refused_json(house.run(&["trust", "--json"]), 3, "not_found");
}

/// What `up` would refuse is not trusted first; the refusal names the file and the session.
#[test]
fn a_file_with_a_session_that_could_never_be_is_not_trusted() {
    let house = House::new();
    let file = house.project().join("agentmux.toml");
    for (text, why) in [
        ("[sessions.Bad]\n", "[sessions.Bad]"),
        ("[sessions.operator]\n", "reserved name"),
        ("[sessions.ann]\nsandbox = \"bogus\"\n", "`bogus` is not one of read-only"),
        ("[sessions.ann]\napproval = \"always\"\n", "`always` is not one of on-request"),
    ] {
        std::fs::write(&file, text).expect("writable");
        let said = refused(house.run(&["trust"]), 2);
        assert!(said.contains(why) && said.contains(&file.display().to_string()), "{said}");
    }
    std::fs::write(&file, "[sessions.ann]\nsandbox = \"read-only\"\n").expect("writable");
    let _ = house.run(&["trust"]).ok();
}
