//! `agentmux release`: what was held goes on: a session's mail, or what the loop brake took for a loop.

use crate::*;

/// Users 21: agents that answer each other without end are stopped; nothing is lost, the operator is told, and lets it go on.
#[test]
fn a_loop_is_braked_told_and_released_by_the_operator() {
    let mut team = Team::asleep(&["reviewer"]);
    std::fs::write(team.house.config_dir().join("config.toml"), "brake_hops = 3\n").expect("writable");
    let _ = team.house.run(&["down"]).ok();
    let (house, model) = (&mut team.house, &team.model);
    let mut last = sent_id(&agent(house, &["send", "reviewer", "hop 0"]).run().ok());
    for hop in 1..=3 {
        let text = format!("hop {hop}");
        last = sent_id(&agent(house, &["send", "reviewer", &text, "--reply-to", &last]).run().ok());
    }
    let ran = agent(house, &["send", "reviewer", "one too many", "--reply-to", &last, "--json"]).run().ok();
    let sent = ran.json();
    assert_eq!(sent["deliveries"][0]["reason"], "held by the loop brake", "{sent}");
    let id = sent["id"].as_str().unwrap_or_default().to_owned();
    let traced = trace(house, &id)["deliveries"][0].clone();
    assert_eq!(traced["state"], "queued");
    assert!(
        traced["reason"].as_str().is_some_and(|why| why.contains("4 mails in a row answer each other")),
        "{traced}"
    );
    let inbox = house.run(&["inbox", "--json"]).json();
    assert_eq!(inbox["mails"][0]["subject"], "mail from outside to reviewer was held", "{inbox}");

    let pid = house.relay_pid().expect("a relay runs");
    house.kill_nine(pid);
    let _ = house.run(&["up"]).ok();
    read_once(model, "hop 3");
    wait_until_idle(house, "reviewer");
    assert_eq!(model.times_read("one too many"), 0, "a brake is stored");
    let ran = house.run(&["release", &id, "--json"]);
    assert_eq!(versioned(&ran, &["sessions", "mails"])["mails"][0], id.as_str());
    read_once(model, "one too many");
    let text = refused(house.run(&["release", &id]), 1);
    assert!(text.contains("nothing holds mail"), "{text}");
    // The conversation counts from there; and a word of the operator begins a new count.
    let next = agent(house, &["send", "reviewer", "goes on", "--reply-to", &id]).run().ok();
    read_once(model, "goes on");
    let mine = sent_id(&house.run(&["send", "reviewer", "my word", "--reply-to", &sent_id(&next)]).ok());
    let _ = agent(house, &["send", "reviewer", "after it", "--reply-to", &mine]).run().ok();
    read_once(model, "after it");
}

#[test]
fn nothing_else_can_be_released() {
    let team = Team::asleep(&["reviewer"]);
    let house = &team.house;
    let _ = refused(house.run(&["release", "nobody"]), 3);
    let _ = refused_json(house.run(&["release", "0123456789", "--json"]), 3, "not_found");
    let _ = refused(agent(house, &["release", "reviewer"]).run(), 1);
    assert_eq!(house.run(&["release", "reviewer"]).ok().stdout, "mail to reviewer goes on\n");
}
