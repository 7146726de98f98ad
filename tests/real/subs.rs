//! Sub-agents: what the model of a session begins beside its own thread, with the real Codex.

use super::support::model::Rule;
use super::{DEADLINE, house_with_reviewer, state_of, text_of};
use serde_json::json;

/// Symptom: a sub-agent's command was rejected within milliseconds ("approval request failed"), and nobody had been asked. Now: it waits
/// for the operator like any other, under the session that the sub-agent works for.
#[test]
fn a_sub_agents_command_waits_for_the_operator() {
    let (model, house) = house_with_reviewer();
    let asks =
        json!({"cmd": "touch wanted", "sandbox_permissions": "require_escalated", "justification": "a test"});
    let begins = json!({"message": "child task"});
    model.script([
        Rule::user("child task").call("exec_command", asks).reply("the child is done"),
        Rule::user("delegate").call("spawn_agent", begins).in_namespace("multi_agent_v1").reply("delegated"),
    ]);
    let _ = house.run(&["send", "reviewer", "delegate", "--wait"]).ok();
    let listed = house.poll("the question", DEADLINE, || {
        let listed = house.run(&["approvals", "--json"]).ok().json()["approvals"].clone();
        if listed[0].is_object() { Ok(listed) } else { Err(listed.to_string()) }
    });
    assert_eq!(listed[0]["session"], "reviewer", "{listed}");
    assert!(text_of(&listed[0]["summary"]).ends_with("(asked by a sub-agent)"), "{listed}");
    assert!(!house.project().join("wanted").exists(), "nobody has said yes");
    let _ = house.run(&["approve", &text_of(&listed[0]["id"])]).ok();
    house.poll("the command", DEADLINE, || {
        if house.project().join("wanted").exists() { Ok(()) } else { Err("not run".to_owned()) }
    });
    house.poll("the session to be idle", DEADLINE, || match state_of(&house, "reviewer") {
        state if state == "idle" => Ok(()),
        state => Err(state),
    });
}

/// Symptom: `interrupt` of an idle session ended its sub-agents and said that nothing had been running; and a relay that had adopted the
/// child did not know their turns, so that they were not ended. Now: they are, and it says so.
#[test]
fn an_interrupt_ends_sub_agents_also_after_an_adoption_and_says_so() {
    let (model, house) = house_with_reviewer();
    let begins = json!({"message": "child task"});
    model.script([
        Rule::user("child task").reply("never").held_by("ever"),
        Rule::user("delegate").call("spawn_agent", begins).in_namespace("multi_agent_v1").reply("delegated"),
    ]);
    for adopts in [false, true] {
        let _ = house.run(&["send", "reviewer", "delegate", "--wait"]).ok();
        house.poll("the session to be idle", DEADLINE, || match state_of(&house, "reviewer") {
            state if state == "idle" => Ok(()),
            state => Err(state),
        });
        if adopts {
            house.kill_nine(house.relay_pid().expect("a relay runs"));
            let _ = house.run(&["up", "reviewer"]).ok();
        }
        let ran = house.run(&["interrupt", "reviewer"]).ok();
        assert_eq!(ran.stdout, "reviewer: no turn of its own was running; 1 of its sub-agents ended\n");
        let ran = house.run(&["interrupt", "reviewer"]).ok();
        assert_eq!(ran.stdout, "reviewer: no turn was running\n");
    }
}
