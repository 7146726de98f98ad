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
