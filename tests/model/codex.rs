//! The scripted model, asked by the real Codex: what every test with a real session relies on.

use crate::SOON;
use crate::support::{House, Outcome, Pane, Ran, Rule, ScriptedModel, codex_program};
use serde_json::json;

#[test]
fn the_real_codex_reads_the_prompt_and_prints_the_answer() {
    let model = ScriptedModel::start();
    let house = House::real(&model);
    let ran = codex_exec(&house, "hello").ok();
    assert_eq!(ran.stdout.trim(), "ok: hello");
    assert_eq!(model.user_texts(), ["hello"], "{}", model.transcript());
    assert_eq!((model.times_read("hello"), model.requests().len()), (1, 1));
    let tools = model.requests()[0].tools();
    assert!(tools.iter().any(|tool| tool == "exec_command"), "{tools:?}");
    assert!(model.faults().is_empty(), "{:?}", model.faults());
}

#[test]
fn the_real_codex_runs_the_scripted_command_and_brings_its_output_back() {
    let model = ScriptedModel::start();
    model.script([Rule::user("work").exec("echo from-$((40+2)); pwd").reply("read {output}")]);
    let house = House::real(&model);
    let ran = codex_exec(&house, "work").ok();
    assert!(ran.stdout.contains("from-42") && ran.stdout.contains("/project"), "{}", ran.evidence());
    let requests = model.requests();
    assert_eq!(requests.len(), 2, "{}", model.transcript());
    assert!(requests[1].newest_output().expect("the output is newest").contains("from-42"));
}

#[test]
fn the_real_codex_fails_its_turn_on_a_scripted_failure() {
    let model = ScriptedModel::start();
    model.script([
        Rule::user("refused").http(400, json!({ "error": { "message": "scripted refusal" } })),
        Rule::user("cut").drop_stream(),
        Rule::user("limit").fail("context_length_exceeded", "scripted limit"),
    ]);
    let house = House::real(&model);
    let ran = codex_exec(&house, "refused").fails(1);
    assert!(ran.stderr.contains("scripted refusal"), "{}", ran.evidence());
    let ran = codex_exec(&house, "cut").fails(1);
    assert!(ran.stderr.contains("stream closed before response.completed"), "{}", ran.evidence());
    let ran = codex_exec(&house, "limit").fails(1);
    assert!(ran.stderr.contains("context window"), "{}", ran.evidence());
    assert_eq!(model.requests().len(), 3, "no retries\n{}", model.transcript());
}

#[test]
fn the_screens_title_request_is_not_an_agents_turn() {
    let model = ScriptedModel::start();
    let (house, pane) = asked_about_bees(&model, "a bee.");
    model.release("gate");
    pane.wait_for("Once upon a bee.", SOON);
    assert_eq!(model.user_texts(), ["tell me about bees"], "{}", model.transcript());
    // The title is asked for beside the turn, so it may still be on its way; the pane's title shows that it was taken.
    house.poll("a title", SOON, || match pane.format("#{pane_title}") {
        title if title.contains("Scripted title") => Ok(()),
        title => Err(title),
    });
    assert_eq!((model.title_requests().len(), model.requests().len()), (1, 1), "{}", model.transcript());
}

#[test]
fn an_interrupt_in_the_real_screen_is_seen_as_a_client_that_went_away() {
    let model = ScriptedModel::start();
    let (_house, pane) = asked_about_bees(&model, "never");
    pane.send_keys(&["Escape"]);
    model.wait_for("the interrupt", SOON, |requests| requests[0].outcome == Outcome::ClientGone);
    pane.wait_for("interrupted", SOON);
}

/// A house whose Codex shows its screen, with `tell me about bees` typed and sent; the model's answer has begun.
fn asked_about_bees(model: &ScriptedModel, answer: &str) -> (House, Pane) {
    model.script([Rule::user("bees").beginning("Once upon ").reply(answer).held_by("gate")]);
    let house = House::real(model);
    let codex = codex_program();
    let pane = Pane::start(&house, (100, 30), &[codex.to_str().expect("UTF-8"), "--no-daemon"]);
    pane.wait_for("mock-model", SOON);
    pane.type_text("tell me about bees");
    pane.wait_for("tell me about bees", SOON);
    pane.send_keys(&["Enter"]);
    model.wait_until_held("gate", SOON);
    pane.wait_for("Once upon", SOON);
    (house, pane)
}

fn codex_exec(house: &House, prompt: &str) -> Ran {
    let mut codex = house.command(house.codex());
    codex.args(["exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", prompt]);
    house.call_of(codex).run()
}
