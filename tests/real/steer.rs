//! Mail and a running turn: what joins it at a boundary, what interrupts it, what waits.

use super::support::house::House;
use super::support::model::{Rule, ScriptedModel};
use super::{
    DEADLINE, house_with_reviewer, house_with_reviewer_and, text_of, traced, wait_for_delivery,
    wait_for_state, wait_until_handed,
};

/// A command of the model's that ends when the test says so.
const WORK: &str = "until [ -e go ]; do sleep 0.02; done; echo worked";

/// Sends `work` to `reviewer`, whose model then runs a command that goes on until [`go`]; returns the mail's id.
fn at_work(model: &ScriptedModel, house: &House) -> String {
    model.script([Rule::user("work").times(1).exec(WORK).reply("done with it")]);
    let sent = house.run(&["send", "reviewer", "work", "--wait", "--json"]).ok().json();
    house.poll("the command to run", DEADLINE, || {
        let shells = house.processes();
        let runs = |pid: &i32| {
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&words).contains("[ -e go ]")
        };
        if shells.iter().any(runs) { Ok(()) } else { Err(format!("{shells:?}")) }
    });
    text_of(&sent["id"])
}

fn go(house: &House) {
    std::fs::write(house.project().join("go"), "").expect("the project is writable");
}

fn send(house: &House, text: &str, flags: &[&str]) -> String {
    let words = [&["send", "reviewer", text, "--json"], flags].concat();
    text_of(&house.run(&words).ok().json()["id"])
}

fn wait_until_consumed(house: &House, id: &str) -> String {
    text_of(&wait_for_delivery(house, id, "consumed")["turnId"])
}

/// Users 15: urgent mail joins a running turn while a tool runs, so that no stream of the model is thrown away; normal mail
/// waits for its own turn, and says why.
#[test]
fn urgent_mail_joins_the_running_turn_and_normal_mail_waits() {
    let (model, house) = house_with_reviewer();
    let work = at_work(&model, &house);
    let normal = send(&house, "ordinary news", &[]);
    let urgent = send(&house, "stop at the next step", &["--priority", "urgent"]);
    let waits = send(&house, "pressing, but it can wait", &["--priority", "urgent", "--when", "idle"]);
    wait_until_handed(&house, &urgent);
    let reason = text_of(&traced(&house, &normal)["reason"]);
    assert!(reason.contains("reviewer is busy since"), "{reason}");
    go(&house);
    let turn = wait_until_consumed(&house, &urgent);
    assert_eq!(turn, text_of(&traced(&house, &work)["turnId"]), "it is in the turn that ran");
    for id in [&normal, &waits] {
        assert_ne!(wait_until_consumed(&house, id), turn, "it has a turn of its own");
    }
    model.wait_until_read("stop at the next step", DEADLINE);
    let joined = |request: &super::support::model::Request| {
        request.contains("worked")
            && request.contains("stop at the next step")
            && !request.contains("ordinary news")
    };
    assert!(model.requests().iter().any(joined), "tool output and mail together\n{}", model.transcript());
    for text in ["stop at the next step", "ordinary news", "pressing, but"] {
        model.wait_until_read(text, DEADLINE);
        assert_eq!(model.times_read(text), 1, "{text}");
    }
}

/// Symptom: urgent mail threw away what the model was still writing behind the call of a tool. Cause: Codex starts the tool as soon as the
/// response has named it, and that alone counted as a boundary. Now: it waits until the message is written, and joins the tool then.
#[test]
fn urgent_mail_waits_for_what_is_written_behind_the_call_of_a_tool() {
    let (model, house) = house_with_reviewer();
    // A tool that works until the operator answers, and can be seen at work.
    let question = serde_json::json!({"to": "operator", "body": "may I?"});
    let rule = Rule::user("work").times(1).call_mcp("agentmux", "ask", question);
    model.script([rule.ending("while it works: ").held_by("the stream").reply("done with it")]);
    let work = house.run(&["send", "reviewer", "work", "--wait", "--json"]).ok().json();
    let asked = house.poll("the tool to ask", DEADLINE, || {
        let inbox = house.run(&["inbox", "--json"]).ok().json();
        inbox["mails"][0]["id"].as_str().map(str::to_owned).ok_or_else(|| inbox.to_string())
    });
    // The child is heard to the end of what it has said before its answer to this.
    let _ = house.run(&["look", "reviewer"]).ok();
    let urgent = send(&house, "stop at the next step", &["--priority", "urgent"]);
    assert_eq!(traced(&house, &urgent)["state"], "queued", "the model still writes");
    model.release("the stream");
    wait_until_handed(&house, &urgent);
    let _ = house.run(&["reply", &asked, "you may"]).ok();
    let turn = text_of(&traced(&house, &text_of(&work["id"]))["turnId"]);
    assert_eq!(wait_until_consumed(&house, &urgent), turn);
    model.wait_until_read("stop at the next step", DEADLINE);
    let whole = |request: &super::support::model::Request| {
        ["while it works: ", "you may", "stop at the next step"].iter().all(|text| request.contains(text))
    };
    assert!(model.requests().iter().any(whole), "nothing of it is lost\n{}", model.transcript());
}

/// TQ-7, users 3: a session that is always busy starves nobody: normal mail that has waited long enough joins the turn, too.
#[test]
fn normal_mail_joins_a_running_turn_when_its_patience_is_over() {
    let (model, house) = house_with_reviewer_and("patience = \"1ms\"\n");
    let work = at_work(&model, &house);
    let id = send(&house, "has waited", &[]);
    wait_until_handed(&house, &id);
    go(&house);
    assert_eq!(wait_until_consumed(&house, &id), text_of(&traced(&house, &work)["turnId"]));
}

#[test]
fn mail_for_now_interrupts_the_turn_and_both_say_so() {
    let (model, house) = house_with_reviewer();
    let work = at_work(&model, &house);
    let before = send(&house, "sent before it", &[]);
    let sent = house.run(&["send", "reviewer", "stop that", "--when", "now", "--json"]).ok().json();
    let reason = text_of(&sent["deliveries"][0]["reason"]);
    assert_eq!(reason, "the running turn of reviewer is interrupted for it");
    let turn = wait_until_consumed(&house, &text_of(&sent["id"]));
    assert_eq!(wait_until_consumed(&house, &before), turn, "one sender's mail goes in order");
    assert_ne!(turn, text_of(&traced(&house, &work)["turnId"]));
    assert!(
        traced(&house, &work).to_string().contains("the turn was interrupted"),
        "{}",
        traced(&house, &work)
    );
    // Only the person interrupts.
    let mut agent = house.call(&["send", "reviewer", "me too", "--when", "now"]);
    agent = agent.env("CODEX_THREAD_ID", "0199a213-81c0-7800-8aa1-bbab2a035a53");
    let refused = agent.run().fails(1);
    assert!(refused.stderr.contains("only the operator interrupts a turn"), "{}", refused.evidence());
}

/// A steer that the child accepted dies with its turn when that is interrupted (codex-facts §4): it goes back and is told
/// once, in a turn of its own.
#[test]
fn mail_whose_turn_is_interrupted_before_it_was_taken_comes_in_the_next_one() {
    let (model, house) = house_with_reviewer();
    let _ = at_work(&model, &house);
    let lost = send(&house, "joins the turn", &["--when", "boundary"]);
    wait_for_delivery(&house, &lost, "submitted");
    let now = send(&house, "interrupts it", &["--when", "now"]);
    let _ = wait_until_consumed(&house, &now);
    let _ = wait_until_consumed(&house, &lost);
    let states = super::states(&traced(&house, &lost));
    assert!(states.windows(2).any(|pair| pair == ["submitted", "queued"]), "{states:?}");
    model.wait_until_read("joins the turn", DEADLINE);
    assert_eq!(model.times_read("joins the turn"), 1);
    wait_for_state(&house, "reviewer", "idle");
}

/// Stopping a session in the moments before its turn shows its id interrupts that turn all the same.
#[test]
fn a_session_that_is_stopped_as_its_turn_begins_leaves_no_turn_behind() {
    let (model, house) = house_with_reviewer();
    let _ = house.run(&["spawn", "other"]).ok(); // keeps the child alive
    for round in 0..10 {
        // The model answers nothing, so that only an interrupt ends the turn.
        let text = format!("round {round}");
        model.script([Rule::user(&text).reply("never said").held_by("for ever")]);
        let _ = house.run(&["send", "reviewer", &text, "--wait=submitted"]).ok();
        let _ = house.run(&["down", "reviewer"]).ok();
        let _ = house.run(&["up", "reviewer"]).ok();
        wait_for_state(&house, "reviewer", "idle");
    }
}
