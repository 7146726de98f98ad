//! Approvals: mail waits behind one and never answers it; a person does, in the pane or by verb (`tests/blackbox/approve.rs`).

use serde_json::json;

use super::support::house::House;
use super::support::model::Rule;
use super::support::model::ScriptedModel;
use super::support::tmux::Pane;
use super::{
    DEADLINE, deliver, house_with_reviewer, state_of, text_of, traced, wait_for_delivery, wait_for_state,
};

/// NB-5, users 6: a turn that asks is `waiting`; mail sent meanwhile stays queued and says why; the pane's answer lets both go on.
#[test]
fn mail_waits_behind_an_approval_that_the_pane_answers() {
    let (model, house) = house_with_reviewer();
    let asks = json!({"cmd": "touch approved-file", "sandbox_permissions": "require_escalated", "justification": "a test"});
    model.script([Rule::user("ask me").call("exec_command", asks).reply("went on")]);
    let pane = Pane::start(&house, (110, 40), &[env!("CARGO_BIN_EXE_agentmux"), "attach", "reviewer"]);
    pane.wait_for("Ask Codex", DEADLINE);
    let _ = house.run(&["send", "reviewer", "ask me", "--wait"]).ok();
    wait_for_state(&house, "reviewer", "waiting");
    let status = house.run(&["status", "--json"]).ok().json();
    assert_eq!(status["approvals"], 1, "{status}");
    let listed = house.run(&["approvals", "--json"]).ok().json();
    let behind = house.run(&["send", "reviewer", "behind it"]).ok();
    let id = behind.stdout.trim().to_owned();
    let delivery = traced(&house, &id);
    assert_eq!(delivery["state"], "queued", "{delivery}");
    assert!(
        delivery["reason"].as_str().is_some_and(|why| why.contains("waits for an approval")),
        "{delivery}"
    );
    assert!(!house.project().join("approved-file").exists(), "mail answers nothing");
    pane.wait_for("Would you like to run", DEADLINE);
    pane.press_until("y", "the dialog to close", DEADLINE, |screen| {
        !screen.contains("Would you like to run")
    });
    model.wait_until_read("behind it", DEADLINE);
    wait_for_delivery(&house, &id, "consumed");
    assert!(house.project().join("approved-file").exists(), "the person said yes");
    let left = house.run(&["approvals", "--json"]).ok().json();
    assert_eq!(left["approvals"], json!([]), "what the pane settled is settled");
    let late = house.run(&["deny", &text_of(&listed["approvals"][0]["id"])]).fails(1);
    assert!(
        late.stderr.contains("settled already at")
            && late.stderr.contains("approved by operator, in a pane, with `accept`"),
        "{}",
        late.stderr
    );
}

/// users 26: a question that waits is on the screen of a person who attaches later, with what is asked, and is answered there.
#[test]
fn an_approval_that_waits_is_shown_to_who_attaches_after_it() {
    let (model, house) = house_with_reviewer();
    let asks = json!({"cmd": "touch approved-file", "sandbox_permissions": "require_escalated", "justification": "a test"});
    model.script([Rule::user("ask me").call("exec_command", asks).reply("went on")]);
    let _ = house.run(&["send", "reviewer", "ask me", "--wait"]).ok();
    wait_for_state(&house, "reviewer", "waiting");
    let pane = Pane::start(&house, (110, 40), &[env!("CARGO_BIN_EXE_agentmux"), "attach", "reviewer"]);
    let screen = pane.wait_for("Would you like to run", DEADLINE);
    assert!(screen.contains("touch approved-file"), "{screen}");
    assert_eq!(state_of(&house, "reviewer"), "waiting", "to look is to answer nothing");
    assert!(!house.project().join("approved-file").exists());
    pane.press_until("y", "the dialog to close", DEADLINE, |screen| {
        !screen.contains("Would you like to run")
    });
    wait_for_state(&house, "reviewer", "idle");
    assert!(house.project().join("approved-file").exists(), "the person said yes");
    assert_eq!(house.run(&["approvals", "--json"]).ok().json()["approvals"], json!([]));
}

/// A change of files is asked with the files that it changes, and is made when it is approved by verb.
#[test]
fn a_change_of_files_is_approved_by_verb() {
    let model = ScriptedModel::start();
    let house = House::real(&model);
    let _ = house.run(&["spawn", "reviewer", "--sandbox", "read-only", "--approval", "on-request"]).ok();
    let patch = "apply_patch <<'EOF'\n*** Begin Patch\n*** Add File: made.txt\n+hello\n*** End Patch\nEOF\n";
    let change = |text: &str| Rule::user(text).call("exec_command", json!({"cmd": patch})).reply("went on");
    model.script([change("first"), change("second")]);
    let made = house.project().join("made.txt");
    for (text, verb) in [("first", "deny"), ("second", "approve")] {
        let _ = deliver(&house, text);
        let approval = house.poll("the approval", DEADLINE, || {
            let listed = house.run(&["approvals", "--json"]).ok().json();
            listed["approvals"].get(0).cloned().ok_or(listed.to_string())
        });
        assert_eq!((&approval["kind"], &approval["command"]), (&json!("change"), &json!(null)), "{approval}");
        assert!(text_of(&approval["summary"]).contains("made.txt"), "{approval}");
        assert!(!made.exists());
        let id = text_of(&approval["id"]);
        let _ = house.run(&["approve", &id, "--always", "--yes"]).fails(1);
        let _ = house.run(&[verb, &id]).ok();
        wait_for_state(&house, "reviewer", "idle");
    }
    assert_eq!(std::fs::read_to_string(made).expect("the approved change"), "hello\n");
}
