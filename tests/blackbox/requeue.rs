//! `agentmux requeue`: dead mail is delivered after all.

use crate::dead::expired;
use crate::*;

/// SQ-4: what expired or failed is not lost; revived, it is delivered once and expires no more, also across a crash.
#[test]
fn dead_mail_is_revived_and_delivered_once() {
    let team = Team::asleep(&["reviewer"]);
    let (house, model) = (&team.house, &team.model);
    let id = expired(house, "after all");
    let ran = house.run(&["requeue", &id, "--json"]);
    let queued = versioned(&ran, &["id", "state", "deliveries"]);
    assert_eq!((&queued["state"], &queued["deliveries"][0]["to"]), (&"queued".into(), &"reviewer".into()));
    let pid = house.relay_pid().expect("a relay runs");
    house.kill_nine(pid);
    assert_eq!(state(house, &id), "queued", "it no longer expires");
    assert_eq!(counts(house)["dead"], 0);
    let _ = house.run(&["up"]).ok();
    house.poll("the mail", SOON, || match state(house, &id).as_str() {
        "consumed" => Ok(()),
        state => Err(state.to_owned()),
    });
    read_once(model, "after all");
    let text = refused(house.run(&["requeue", &id]), 1);
    assert!(text.contains("is neither dead nor in doubt"), "{text}");
}

/// Mail of a removed session is dead, and comes to life only when somebody has its name again.
#[test]
fn mail_to_nobody_stays_dead_until_the_name_is_back() {
    let team = Team::asleep(&["reviewer"]);
    let house = &team.house;
    let id = sent_id(&house.run(&["send", "reviewer", "still meant for you"]).ok());
    let _ = house.run(&["remove", "reviewer"]).ok();
    assert_eq!(state(house, &id), "failed");
    let text = refused(house.run(&["requeue", &id]), 3);
    assert!(text.contains("hint: create it: agentmux spawn reviewer"), "{text}");
    let _ = house.run(&["spawn", "reviewer"]).ok();
    let _ = house.run(&["requeue", &id, "--for", "reviewer"]).ok();
    house.poll("the mail", SOON, || match state(house, &id).as_str() {
        "consumed" => Ok(()),
        state => Err(state.to_owned()),
    });
    read_once(&team.model, "still meant for you");
    let _ = refused(agent(house, &["requeue", &id]).run(), 1);
}
