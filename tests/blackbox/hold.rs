//! `agentmux hold`: mail waits while a person says so, and everybody can see it.

use crate::*;

/// Users 5: held mail is accepted, says `held`, and comes in order when it is released; the hold outlives the relay.
#[test]
fn held_mail_waits_and_says_so_and_comes_in_order_after_the_release() {
    let team = Team::of(&["reviewer"]);
    let (house, model) = (&team.house, &team.model);
    let ran = house.run(&["hold", "reviewer", "--json"]);
    assert_eq!(versioned(&ran, &["sessions"])["sessions"][0]["state"], "held");
    let sent = house.run(&["send", "reviewer", "first", "--json"]).ok().json();
    assert_eq!(sent["deliveries"][0]["reason"], "reviewer is held; release it: agentmux release reviewer");
    let urgent = sent_id(&house.run(&["send", "reviewer", "second", "--priority", "urgent"]).ok());
    let pid = house.relay_pid().expect("a relay runs");
    house.kill_nine(pid);
    assert_eq!(state(house, &urgent), "queued", "a hold is stored");
    house.poll("the session", SOON, || match session(house, "reviewer")["state"].as_str() {
        Some("held") => Ok(()),
        state => Err(format!("{state:?}")),
    });
    assert_eq!((model.times_read("first"), model.times_read("second")), (0, 0));
    let _ = house.run(&["release", "reviewer"]).ok();
    for text in ["first", "second"] {
        read_once(model, text);
    }
    assert_eq!(state(house, &urgent), "consumed");
}

#[test]
fn a_hold_for_a_time_ends_by_itself() {
    let team = Team::of(&["reviewer"]);
    let house = &team.house;
    let _ = house.run(&["hold", "reviewer", "--for", "1h"]).ok();
    let sent = house.run(&["send", "reviewer", "later", "--json"]).ok().json();
    let reason = sent["deliveries"][0]["reason"].as_str().unwrap_or_default().to_owned();
    assert!(reason.starts_with("reviewer is held until 20"), "{reason}");
    let _ = house.run(&["hold", "reviewer", "--for", "50ms"]).ok();
    read_once(&team.model, "later");
}

#[test]
fn an_unknown_session_cannot_be_held_and_an_agent_holds_nobody() {
    let house = House::new();
    let _ = refused_json(house.run(&["hold", "nobody", "--json"]), 3, "not_found");
    let _ = refused(agent(&house, &["hold", "nobody"]).run(), 1);
    let nowhere = House::new();
    let _ = refused(touches_nothing(&nowhere, || nowhere.run(&["hold", "a", "--for", "soon"])), 2);
}
