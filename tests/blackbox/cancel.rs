//! `agentmux cancel`: mail is taken back until it is handed over, and not after.

use crate::*;

#[test]
fn queued_mail_is_taken_back_and_its_sender_sees_it() {
    let team = Team::asleep(&["lead", "reviewer"]);
    let house = &team.house;
    let id = sent_id(&house.run(&["send", "lead", "reviewer", "never mind"]).ok());
    let ran = house.run(&["cancel", &id, "--json"]);
    let cancelled = versioned(&ran, &["id", "state", "deliveries"]);
    assert_eq!((&cancelled["id"], &cancelled["state"]), (&id.as_str().into(), &"cancelled".into()));
    let deliveries = trace(house, &id)["deliveries"].clone();
    for at in [0, 1] {
        assert_eq!(deliveries[at]["state"], "cancelled", "{deliveries}");
    }
    assert_eq!(counts(house)["queued"], 0);
    let _ = house.run(&["up"]).ok();
    let _ = house.run(&["send", "reviewer", "something else", "--wait"]).ok();
    read_once(&team.model, "something else");
    assert_eq!(team.model.times_read("never mind"), 0);
}

#[test]
fn delivered_mail_cannot_be_taken_back_nor_can_mail_of_others() {
    let team = Team::of(&["reviewer"]);
    let house = &team.house;
    let id = sent_id(&house.run(&["send", "reviewer", "hello", "--wait"]).ok());
    let text = refused(house.run(&["cancel", &id]), 1);
    assert!(text.contains("is consumed to reviewer") && text.contains("only mail that is queued"), "{text}");
    let _ = refused(agent(house, &["cancel", &id]).run(), 1);
    let _ = refused_json(house.run(&["cancel", "0123456789", "--json"]), 3, "not_found");
}
