//! `agentmux deny`: the operator's no; the turn goes on and hears of it.

use super::approvals::{asked, asks_to_run, id_of, listed};
use crate::*;

#[test]
fn a_denied_command_does_not_run_and_the_turn_goes_on() {
    let team = Team::of(&["reviewer"]);
    let house = &team.house;
    team.model.script([asks_to_run("ask me", "touch wanted-file")]);
    let id = id_of(&asked(&team, "ask me"));
    let behind = sent_id(&house.run(&["send", "reviewer", "behind it"]).ok());
    assert_eq!(state(house, &behind), "queued", "mail waits behind an approval");
    let _ = refused(agent(house, &["deny", &id]).run(), 1);
    let ran = house.run(&["deny", &id, "--reason", "not on a Friday"]).ok();
    assert!(ran.stdout.starts_with("denied: reviewer: "), "{}", ran.evidence());
    read_once(&team.model, "behind it");
    wait_until_idle(house, "reviewer");
    assert!(!house.project().join("wanted-file").exists());
    assert_eq!(listed(house), Vec::<Value>::new());
    assert!(
        house
            .relay_log()
            .contains(&format!("approval {id} of reviewer: denied by operator: not on a Friday"))
    );
    house.kill_nine(house.relay_pid().expect("a relay runs"));
    let stderr = refused(house.run(&["approve", &id]), 1);
    assert!(stderr.contains("denied by operator, not on a Friday"), "who, when and why is stored: {stderr}");
}

#[test]
fn an_unknown_approval_and_a_bad_reason_are_refused() {
    let house = House::new();
    let _ = refused_json(house.run(&["deny", "0000ffff", "--json"]), 3, "not_found");
    let nowhere = House::new();
    let _ = refused(touches_nothing(&nowhere, || nowhere.run(&["deny", "0000ffff", "--reason", "a\nb"])), 2);
}
