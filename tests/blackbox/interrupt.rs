//! `agentmux interrupt`: a turn ends, and what waits goes on.

use super::support::model::Rule;
use crate::*;

/// TQ: the turn ends at the operator's word, what it had taken stays taken, and what waited behind it goes in.
#[test]
fn a_running_turn_ends_and_what_waits_goes_on() {
    let team = Team::of(&["reviewer"]);
    let (house, model) = (&team.house, &team.model);
    model.script([
        Rule::user("for ever").reply("never").held_by("ever"),
        Rule::user("behind").reply("at last"),
    ]);
    let first = sent_id(&house.run(&["send", "reviewer", "for ever", "--wait"]).ok());
    let behind = sent_id(&house.run(&["send", "reviewer", "behind it"]).ok());
    let turn = house.run(&["trace", &first, "--json"]).ok().json()["deliveries"][0]["turnId"].clone();
    let ran = house.run(&["interrupt", "reviewer", "--json"]);
    let answer = versioned(&ran, &["session", "turnId"]);
    assert_eq!((&answer["session"], &answer["turnId"]), (&"reviewer".into(), &turn));
    read_once(model, "behind it");
    assert_eq!((state(house, &first).as_str(), state(house, &behind).as_str()), ("consumed", "consumed"));
    let trace = house.run(&["trace", &first]).ok().stdout;
    assert!(trace.contains("the turn was interrupted"), "{trace}");
}

#[test]
fn where_no_turn_runs_nothing_is_interrupted() {
    let team = Team::of(&["reviewer"]);
    let house = &team.house;
    let answer = versioned(&house.run(&["interrupt", "reviewer", "--json"]), &["session", "turnId"]);
    assert_eq!(answer["turnId"], Value::Null);
    let _ = refused_json(house.run(&["interrupt", "nobody", "--json"]), 3, "not_found");
    let _ = refused(agent(house, &["interrupt", "reviewer"]).run(), 1);
}
