//! `agentmux show`: one session whole, and no secret of its environment.

use crate::*;

/// Users 13: the child gets the allow-listed environment of the command that spawned it, and no mark or token of its caller;
/// `show` says what it gets without printing what may be a secret.
#[test]
fn the_environment_of_the_child_is_shown_and_its_secrets_are_not() {
    let team = Team::nobody();
    let house = &team.house;
    let spawn = house.call(&["spawn", "reviewer", "--model", "mock-model", "--sandbox", "read-only"]);
    let spawn = spawn.env("OPENAI_API_KEY", "sk-very-secret").env("DATABASE_URL", "postgres://u:hidden@h/d");
    let spawn =
        spawn.env("UNHEARD_OF", "not-allowed").env("AGENTMUX_TOKEN", "token-of-mine").env("LC_TIME", "C");
    let _ = spawn.run().ok();
    let ran = house.run(&["show", "reviewer", "--json"]);
    let shown = versioned(&ran, &["session"])["session"].clone();
    has_keys(
        &shown,
        &["name", "coder", "state", "threadId", "capabilities", "dir", "wanted", "createdAt", "childPid"],
    );
    assert_eq!(
        (&shown["name"], &shown["model"], &shown["sandbox"]),
        (&"reviewer".into(), &"mock-model".into(), &"read-only".into())
    );
    assert_eq!(shown["approval"], Value::Null, "what was not given is left to Codex");
    let environment = &shown["environment"];
    assert_eq!(environment["OPENAI_API_KEY"], "<14 bytes, not shown>");
    assert_eq!(environment["LC_TIME"], "C");
    assert_eq!(environment["CODEX_HOME"].as_str(), house.codex_home().to_str());
    let people = house.run(&["show", "reviewer"]).ok();
    assert!(people.stdout.contains("sandbox       read-only"), "{}", people.evidence());
    for text in [&ran.stdout, &people.stdout] {
        for hidden in ["very-secret", "hidden", "UNHEARD_OF", "AGENTMUX_TOKEN", "token-of-mine"] {
            assert!(!text.contains(hidden), "{hidden} in {text}");
        }
    }
    // What is shown is what the child really has.
    let pid = shown["childPid"].as_i64().expect("it runs");
    let environ = std::fs::read(format!("/proc/{pid}/environ")).expect("a process of ours");
    let environ = String::from_utf8_lossy(&environ);
    assert!(environ.contains("OPENAI_API_KEY=sk-very-secret") && !environ.contains("UNHEARD_OF"));
    // A stopped session is shown, too.
    let _ = house.run(&["down", "reviewer"]).ok();
    let stopped = house.run(&["show", "reviewer", "--json"]).ok().json()["session"].clone();
    assert_eq!((&stopped["state"], &stopped["childPid"]), (&"stopped".into(), &Value::Null));
    assert_eq!(stopped["environment"], *environment, "it survives its child");
}

#[test]
fn an_unknown_session_is_not_found_and_an_agent_may_not_look() {
    let house = House::new();
    let _ = refused_json(house.run(&["show", "nobody", "--json"]), 3, "not_found");
    let _ = refused(agent(&house, &["show", "nobody"]).run(), 1);
    let nowhere = House::new();
    let _ = refused(touches_nothing(&nowhere, || nowhere.run(&["show", "No"])), 2);
}
