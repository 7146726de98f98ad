//! `agentmux trace`: where a mail is, every step it took, and why it is not further.

use crate::*;

#[test]
fn a_delivered_mail_has_every_step_and_the_turn_it_is_in() {
    let team = Team::of(&["reviewer"]);
    let house = &team.house;
    let id = sent_id(&house.run(&["send", "reviewer", "hello", "--subject", "greeting", "--wait"]).ok());
    let ran = house.run(&["trace", &id, "--json"]);
    let traced = versioned(&ran, &["id", "from", "deliveries"]);
    assert_eq!((&traced["id"], &traced["from"]), (&id.as_str().into(), &"operator".into()));
    let delivery = &traced["deliveries"][0];
    has_keys(delivery, &["to", "state", "reason", "turnId", "transitions"]);
    assert_eq!((&delivery["to"], &delivery["state"]), (&"reviewer".into(), &"consumed".into()));
    assert!(delivery["turnId"].is_string(), "{delivery}");
    let steps = delivery["transitions"].as_array().cloned().unwrap_or_default();
    let states: Vec<&str> = steps.iter().filter_map(|step| step["state"].as_str()).collect();
    assert_eq!(states.first(), Some(&"queued"), "{delivery}");
    assert!(states.contains(&"claimed") && states.last() == Some(&"consumed"), "{delivery}");
    assert!(steps.iter().all(|step| is_time(&step["at"])), "{delivery}");
    let times: Vec<&str> = steps.iter().filter_map(|step| step["at"].as_str()).collect();
    assert!(times.is_sorted(), "{delivery}");
    assert_eq!(steps.last().map(|step| &step["turnId"]), Some(&delivery["turnId"]));

    let ran = house.run(&["trace", &id[28..]]).ok();
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines[0], format!("{id} from operator: greeting"));
    assert!(lines[1].starts_with("to reviewer: consumed in turn "), "{}", ran.evidence());
    assert_eq!((lines.len(), ran.stderr.as_str()), (2 + steps.len(), ""), "{}", ran.evidence());
}

#[test]
fn mail_that_waits_tells_why() {
    let team = Team::asleep(&["reviewer"]);
    let house = &team.house;
    let _ = house.run(&["send", "reviewer", "first"]).ok();
    let id = sent_id(&house.run(&["send", "reviewer", "second"]).ok());
    let traced = trace(house, &id);
    let delivery = &traced["deliveries"][0];
    let reason = delivery["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("reviewer is stopped since "), "{delivery}");
    assert!(reason.contains("agentmux up reviewer") && reason.ends_with("behind 1 mails"), "{delivery}");
    assert!(delivery["turnId"].is_null(), "{delivery}");
    assert_eq!(delivery["transitions"].as_array().map(Vec::len), Some(1));
}

#[test]
fn each_recipient_has_a_way_of_its_own() {
    let team = Team::of(&["lead", "reviewer"]);
    let house = &team.house;
    let _ = house.run(&["down", "reviewer"]).ok();
    let ran = house.run(&["send", "lead", "reviewer", "both", "--wait", "--timeout", "3s"]).fails(4);
    let id = sent_id(&ran);
    let traced = trace(house, &id);
    let states: Vec<&Value> =
        traced["deliveries"].as_array().into_iter().flatten().map(|delivery| &delivery["state"]).collect();
    assert_eq!(states, ["consumed", "queued"], "{traced}");
    assert!(worded(&ran).contains("delivered to lead, queued to reviewer"), "{}", ran.evidence());
}

#[test]
fn unknown_mail_is_refused_and_an_agent_may_not_trace() {
    let house = House::new();
    let id = mail_to_operator(&house, "private");
    let error =
        refused_json(house.run(&["trace", "0199a213-81c0-7800-8aa1-bbab2a035a53", "--json"]), 3, "not_found");
    assert!(error["hint"].is_string(), "{error}");
    let _ = refused(agent(&house, &["trace", &id]).run(), 1);
    let nowhere = House::new();
    let _ = refused(touches_nothing(&nowhere, || nowhere.run(&["trace", &id, "--no-start"])), 5);
}
