//! The pane: Codex's own screen on the live thread, in real tmux.

use super::support::model::Rule;
use super::support::tmux::Pane;
use super::{DEADLINE, child_pid, deliver, house_with_reviewer};

fn attached(house: &super::support::house::House) -> u64 {
    let list = house.run(&["list", "--json"]).ok().json();
    list["sessions"][0]["attached"].as_u64().expect("a count")
}

/// Attached before the session's first mail, the screen shows the mail arriving and the answer coming; closing it stops nothing.
#[test]
fn a_pane_shows_mail_and_answer_live() {
    let (model, house) = house_with_reviewer();
    model.script([Rule::user("hello pane").reply("greetings from the model")]);
    let agentmux = env!("CARGO_BIN_EXE_agentmux");
    let pane = Pane::start(&house, (110, 40), &[agentmux, "attach", "reviewer"]);
    pane.wait_for("Ask Codex", DEADLINE);
    assert_eq!(attached(&house), 1);
    deliver(&house, "hello pane");
    let screen = pane.wait_for("greetings from the model", DEADLINE);
    assert!(screen.contains("[agentmux mail 1 of 1]") && screen.contains("hello pane"), "{screen}");
    pane.kill();
    house.poll("the pane to be gone", DEADLINE, || match attached(&house) {
        0 => Ok(()),
        n => Err(format!("{n} attached")),
    });
    deliver(&house, "still there?");
}

/// A person's half-typed draft survives mail.
#[test]
fn a_draft_in_the_pane_survives_mail() {
    let (_model, house) = house_with_reviewer();
    let pane = Pane::start(&house, (110, 40), &[env!("CARGO_BIN_EXE_agentmux"), "attach", "reviewer"]);
    pane.wait_for("Ask Codex", DEADLINE);
    pane.type_text("half a thou");
    pane.wait_for("half a thou", DEADLINE);
    deliver(&house, "mail beside the draft");
    pane.wait_for("ok: [agentmux mail", DEADLINE);
    let screen = pane.wait_for("half a thou", DEADLINE);
    assert!(screen.contains("mail beside the draft"), "{screen}");
}

/// The child dies under the pane: the screen comes back by itself and shows the next mail, and the relay's configuration won.
#[test]
fn a_pane_comes_back_when_its_child_does() {
    let (_model, house) = house_with_reviewer();
    let pane = Pane::start(&house, (110, 40), &[env!("CARGO_BIN_EXE_agentmux"), "attach", "reviewer"]);
    pane.wait_for("Ask Codex", DEADLINE);
    house.kill_nine(child_pid(&house));
    deliver(&house, "after the child's death");
    pane.wait_for("after the child's death", DEADLINE);
}
