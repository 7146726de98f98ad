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

/// users 5: `/new`, `/fork` and `/resume` take the pane out of the session, and `list`, `watch` and `attach` say so; `/compact` and going
/// back stay in the session's thread; mail goes into that thread all the time. Measured with Codex 0.169.0.
#[test]
fn a_pane_that_leaves_the_session_is_told_and_one_that_comes_back_too() {
    let (model, house) = house_with_reviewer();
    deliver(&house, "first mail");
    let watch = house.spawn(&["watch", "--events", "paneMoved", "--json"]);
    let pane = Pane::start(&house, (110, 40), &[env!("CARGO_BIN_EXE_agentmux"), "attach", "reviewer"]);
    pane.wait_for("Ask Codex", DEADLINE);
    let elsewhere =
        || house.run(&["list", "--json"]).ok().json()["sessions"][0]["elsewhere"].as_u64().unwrap_or(0);
    let moves = |wanted: u64| {
        house.poll("the pane's word", DEADLINE, || match elsewhere() {
            count if count == wanted => Ok(()),
            count => Err(format!("{count} elsewhere\n{}", pane.capture())),
        });
    };
    let types = |command: &str| {
        pane.type_text(command);
        pane.wait_for(command, DEADLINE);
        pane.send_keys(&["Enter"]);
    };
    types("/compact");
    pane.wait_for("Context compacted", DEADLINE);
    moves(0);
    types("/new");
    moves(1);
    let list = house.run(&["list"]).ok();
    assert!(list.stdout.contains("1 (1 elsewhere)"), "{}", list.evidence());
    deliver(&house, "mail for the session");
    model.wait_until_read("mail for the session", DEADLINE);
    assert!(!pane.capture().contains("mail for the session"), "{}", pane.capture());
    types("/resume");
    pane.wait_for("Resume a previous session", DEADLINE);
    pane.wait_for("reviewer", DEADLINE);
    pane.send_keys(&["Enter"]);
    moves(0);
    pane.wait_for("mail for the session", DEADLINE);
    types("/fork");
    moves(1);
    pane.wait_for("Fork created", DEADLINE);
    watch.wait_for_stdout("\"elsewhere\":\"new\"", DEADLINE);
    watch.wait_for_stdout("\"elsewhere\":\"fork\"", DEADLINE);
    pane.send_keys(&["C-c"]);
    let last = pane.wait_until("the last words", DEADLINE, |screen| {
        screen.contains("had left reviewer and showed a fork") || screen.contains("again to quit")
    });
    if !last.contains("had left") {
        pane.send_keys(&["C-c"]);
    }
    assert_eq!(pane.wait_for_exit(DEADLINE), 0);
    assert!(pane.capture_all().contains("had left reviewer and showed a fork"), "{}", pane.capture_all());
    let names = std::fs::read_dir(house.bundle_dir()).expect("the bundle's directory").flatten();
    let left: Vec<_> = names
        .map(|entry| entry.file_name())
        .filter(|name| name.to_string_lossy().starts_with("screen-"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// SQ-15: going back (Esc Esc) unloads the thread for a moment; the session takes it up again and mail goes on.
#[test]
fn going_back_in_the_pane_keeps_the_session_in_its_thread() {
    let (_model, house) = house_with_reviewer();
    deliver(&house, "first mail");
    deliver(&house, "second mail");
    let thread = house.run(&["list", "--json"]).ok().json()["sessions"][0]["threadId"].clone();
    let pane = Pane::start(&house, (110, 40), &[env!("CARGO_BIN_EXE_agentmux"), "attach", "reviewer"]);
    pane.wait_for("Ask Codex", DEADLINE);
    let watch = house.spawn(&["watch", "reviewer", "--events", "state", "--replay", "1", "--json"]);
    watch.wait_for_stdout("idle", DEADLINE);
    pane.press_until("Escape", "the earlier prompts", DEADLINE, |screen| screen.contains("rewind"));
    pane.send_keys(&["Enter"]);
    watch.wait_for_stdout("\"from\":\"starting\",\"state\":\"idle\"", DEADLINE);
    deliver(&house, "third mail");
    pane.wait_for("third mail", DEADLINE);
    let session = house.run(&["list", "--json"]).ok().json()["sessions"][0].clone();
    assert_eq!((&session["threadId"], session.get("elsewhere")), (&thread, None), "{session}");
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

/// users 5: mail comes before, between and after the keys of a person who types; what the model then reads as the person's words is what
/// was typed, byte for byte, and nothing of the mail.
#[test]
fn a_draft_is_sent_byte_for_byte_as_it_was_typed_while_mail_came() {
    const DRAFT: [&str; 3] = [
        "half a thou",
        "ght:  two blanks, \\n, \"quo'tes\" & <tags> ",
        "\u{e4}\u{df}\u{20ac} \u{65e5}\u{672c} 100% #1;|end.",
    ];
    let (model, house) = house_with_reviewer();
    let pane = Pane::start(&house, (160, 40), &[env!("CARGO_BIN_EXE_agentmux"), "attach", "reviewer"]);
    pane.wait_for("Ask Codex", DEADLINE);
    for (number, part) in DRAFT.iter().enumerate() {
        pane.type_text(part);
        pane.wait_for(part.trim_end(), DEADLINE);
        let mail = format!("mail beside part {number}");
        deliver(&house, &mail);
        pane.wait_for(&mail, DEADLINE);
        model.wait_until_read(&mail, DEADLINE);
    }
    let draft = DRAFT.concat();
    pane.wait_for(&draft, DEADLINE);
    pane.send_keys(&["Enter"]);
    model.wait_until_read("half a thou", DEADLINE);
    let texts = model.user_texts();
    let about: Vec<&String> = texts.iter().filter(|text| text.contains("half a thou")).collect();
    assert_eq!(about, [&draft], "{texts:?}");
}

/// The child dies under the pane: the screen comes back by itself and shows the next mail, and the relay's configuration won.
#[test]
fn a_pane_comes_back_when_its_child_does() {
    let (model, house) = house_with_reviewer();
    let pane = Pane::start(&house, (110, 40), &[env!("CARGO_BIN_EXE_agentmux"), "attach", "reviewer"]);
    pane.wait_for("Ask Codex", DEADLINE);
    house.kill_nine(child_pid(&house));
    model.script([Rule::user("after the child's death")
        .call_mcp("agentmux", "whoami", serde_json::json!({}))
        .reply("I am: {output}")]);
    deliver(&house, "after the child's death");
    pane.wait_for("after the child's death", DEADLINE);
    // A screen that resumed the thread first would have it without our tools.
    model.wait_for("the tool's answer", DEADLINE, |requests| {
        requests
            .iter()
            .flat_map(|request| request.outputs())
            .any(|output| output.contains("\"name\":\"reviewer\""))
    });
    assert_eq!(model.times_read("after the child's death"), 1);
}
