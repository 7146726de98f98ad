//! `agentmux remove`: the session goes, and whoever wrote to it can see what became of the mail.

use crate::*;

/// TQ-2, TQ-4: undelivered mail of a removed session ends as failed, with the reason; who waits for it is answered.
#[test]
fn undelivered_mail_of_a_removed_session_ends_as_failed_with_the_reason() {
    let team = Team::of(&["reviewer"]);
    let house = &team.house;
    let delivered = sent_id(&house.run(&["send", "reviewer", "read", "--wait"]).ok());
    let _ = house.run(&["down", "reviewer"]).ok();
    let id = sent_id(&house.run(&["send", "reviewer", "never read", "--key", "k"]).ok());
    let waiting = house.spawn(&["send", "reviewer", "never read", "--key", "k", "--wait"]);
    house.poll("the sender to wait", SOON, || {
        match house.run(&["status", "--json"]).json()["clients"].as_i64() {
            Some(2) => Ok(()),
            clients => Err(format!("{clients:?} clients")),
        }
    });
    let ran = house.run(&["remove", "reviewer", "--json"]);
    let removed = versioned(&ran, &["sessions"]);
    assert_eq!(removed["sessions"][0]["name"], "reviewer");
    assert!(removed["sessions"][0]["threadId"].is_string(), "{removed}");

    let ran = waiting.finish(SOON).fails(1);
    assert!(worded(&ran).contains(&format!("mail {id} to reviewer ended as failed")), "{}", ran.evidence());
    let traced = trace(house, &id);
    assert_eq!(traced["deliveries"][0]["state"], "failed");
    assert_eq!(traced["deliveries"][0]["reason"], "the recipient was removed", "{traced}");
    assert_eq!(state(house, &delivered), "consumed", "what was delivered stays so");
    assert_eq!(counts(house)["dead"], 1);

    assert_eq!(house.run(&["list", "--json"]).json()["sessions"].as_array().map(Vec::len), Some(0));
    assert!(!house.bundle_dir().join("children/reviewer.env").exists(), "its environment is forgotten");
    let _ = refused(house.run(&["send", "reviewer", "x"]), 3);
    let _ = refused(house.run(&["remove", "reviewer"]), 3);
    // The name is free again, and the new session has nothing of the old one's.
    let _ = house.run(&["spawn", "reviewer"]).ok();
    assert_eq!(session(house, "reviewer")["pending"], 0);
    assert_eq!(state(house, &id), "failed");
}

#[test]
fn a_running_session_can_be_removed_and_its_thread_stays() {
    let team = Team::of(&["lead", "reviewer"]);
    let (house, model) = (&team.house, &team.model);
    let _ = house.run(&["send", "reviewer", "hello", "--wait"]).ok();
    let thread = session(house, "reviewer")["threadId"].as_str().unwrap_or_default().to_owned();
    let ran = house.run(&["remove", "reviewer"]).ok();
    assert_eq!(ran.stdout, format!("reviewer is removed; its thread stays: codex resume {thread}\n"));
    let _ = house.run(&["send", "lead", "still here", "--wait"]).ok();
    let _ = house.run(&["spawn", "again", "--thread", &thread]).ok();
    let _ = house.run(&["send", "again", "remember", "--wait"]).ok();
    model.wait_until_read("remember", SOON);
    let remembers = |request: &support::Request| {
        let texts = request.user_texts();
        texts.iter().any(|text| text.contains("hello")) && texts.iter().any(|text| text.contains("remember"))
    };
    assert!(model.histories().iter().any(remembers), "{}", model.transcript());
}

#[test]
fn an_unknown_session_is_refused_and_an_agent_may_not() {
    let house = House::new();
    let error = refused_json(house.run(&["remove", "reviewer", "--json"]), 3, "not_found");
    assert!(error["message"].as_str().is_some_and(|m| m.contains("no `reviewer`")), "{error}");
    let _ = refused(agent(&house, &["remove", "reviewer"]).run(), 1);
    let nowhere = House::new();
    let _ = refused(touches_nothing(&nowhere, || nowhere.run(&["remove", "a/b"])), 2);
    let _ = refused(touches_nothing(&nowhere, || nowhere.run(&["remove"])), 2);
}
