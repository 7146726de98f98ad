//! `agentmux list`: the sessions and what they are doing; without a relay it says so and starts none.

use crate::*;

/// LK-10: a query changes nothing.
#[test]
fn without_a_relay_sessions_is_null_and_none_is_started() {
    let house = House::new();
    let ran = touches_nothing(&house, || house.run(&["list", "--json"]));
    let list = versioned(&ran, &["bundle"]);
    assert!(
        list["sessions"].is_null() && list.get("sessions").is_some(),
        "null, not absent or empty: {list}"
    );
    assert_eq!(list["bundle"], "test");
    let ran = touches_nothing(&house, || house.run(&["list"])).ok();
    assert_eq!(ran.stdout, "");
    assert!(ran.stderr.starts_with("no relay of bundle test is running\nhint: "), "{}", ran.evidence());
    assert_eq!(house.run(&["list", "-q"]).ok().stderr, "");
}

#[test]
fn a_relay_without_sessions_lists_none() {
    let house = House::new();
    let _ = house.run(&["up"]).ok();
    let list = versioned(&house.run(&["list", "--json"]), &["bundle", "sessions"]);
    assert_eq!(list["sessions"].as_array().map(Vec::len), Some(0));
    let ran = house.run(&["list"]).ok();
    assert_eq!(
        (ran.stdout.as_str(), ran.stderr.as_str()),
        ("", "no sessions\nhint: create one: agentmux spawn NAME\n")
    );
}

/// users 24: how old the turn is while it runs, and what the thread has cost once the child has said.
#[test]
fn the_age_of_the_turn_and_the_tokens_are_listed() {
    let team = Team::of(&["reviewer"]);
    team.model.script([support::Rule::user("hold").reply("done").held_by("gate")]);
    let idle = session(&team.house, "reviewer");
    assert!(idle.get("turnAgeMs").is_none(), "{idle}");
    let _ = team.house.run(&["send", "reviewer", "hold", "--wait"]).ok();
    let busy = session(&team.house, "reviewer");
    assert!(busy["turnAgeMs"].as_i64().is_some_and(|ms| (0..60_000).contains(&ms)), "{busy}");
    team.model.release("gate");
    wait_until_idle(&team.house, "reviewer");
    let idle = session(&team.house, "reviewer");
    assert!(idle.get("turnAgeMs").is_none(), "{idle}");
    let tokens = &idle["tokens"];
    assert_eq!(
        (&tokens["total"], &tokens["input"], &tokens["output"]),
        (&15.into(), &10.into(), &5.into()),
        "{idle}"
    );
    has_keys(tokens, &["cachedInput", "reasoningOutput", "inContext"]);
    let ran = team.house.run(&["list"]).ok();
    assert!(
        ran.stdout.starts_with("NAME      STATE  SINCE") && ran.stdout.contains("  15  "),
        "{}",
        ran.evidence()
    );
}

#[test]
fn each_session_is_listed_by_name_with_what_waits_for_it() {
    let team = Team::of(&["reviewer", "lead"]);
    let house = &team.house;
    let _ = house.run(&["down", "reviewer"]).ok();
    let _ = house.run(&["send", "reviewer", "one"]).ok();
    let _ = house.run(&["send", "reviewer", "two"]).ok();
    let list = versioned(&house.run(&["list", "--json"]), &["bundle", "sessions"]);
    let names: Vec<&str> =
        list["sessions"].as_array().into_iter().flatten().filter_map(|s| s["name"].as_str()).collect();
    assert_eq!(names, ["lead", "reviewer"]);
    let (lead, reviewer) = (&list["sessions"][0], &list["sessions"][1]);
    assert_eq!((&lead["state"], &lead["pending"]), (&"idle".into(), &0.into()));
    assert!(lead["oldestPendingMs"].is_null());
    assert_eq!((&reviewer["state"], &reviewer["pending"]), (&"stopped".into(), &2.into()));
    assert!(reviewer["oldestPendingMs"].as_i64().is_some_and(|ms| (0..60_000).contains(&ms)), "{reviewer}");

    let ran = house.run(&["list"]).ok();
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(lines[0].starts_with("NAME") && lines[1].starts_with("lead"), "{}", ran.evidence());
    assert!(lines[2].starts_with("reviewer") && lines[2].contains("stopped"), "{}", ran.evidence());
    assert!(!ran.stdout.contains('\x1b'), "no colour in a pipe");
    assert!(house.run(&["list", "--color", "always"]).ok().stdout.contains("\x1b["));

    let busy = team.model.requests().len();
    team.model.script([support::Rule::user("hold").reply("done").held_by("gate")]);
    let _ = house.run(&["send", "lead", "hold", "--wait"]).ok();
    team.model.wait_for("the turn", SOON, |requests| requests.len() > busy);
    let lead = session(house, "lead");
    assert_eq!(lead["state"], "busy");
    assert!(lead["turnId"].is_string(), "{lead}");
}

#[test]
fn an_agent_may_list() {
    let house = House::new();
    let _ = house.run(&["up"]).ok();
    assert!(agent(&house, &["list", "--json"]).run().json()["sessions"].is_array());
}
