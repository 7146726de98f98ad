//! The real Codex hangs (SIGSTOP) while a turn runs: it is found out by asking it, told, killed, and the next one goes on.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::support::model::Rule;
use super::{
    DEADLINE, child_pid, house_with_reviewer_and, states, text_of, traced, wait_for_delivery, wait_for_tool,
};

/// NB-5, NB-6, SQ-7: what the turn had read is not told again, mail that was on its way into it is looked for and goes in once, as does
/// what waited behind it; the thread is the same, and the model's shells are gone with the child that ran them.
#[test]
fn a_child_that_is_stopped_in_a_turn_is_found_out_and_followed_by_another() {
    // The question comes at once, and each of two answers has 5 s.
    let (model, house) = house_with_reviewer_and("silent_after = \"200ms\"\n");
    let thread = || text_of(&house.run(&["list", "--json"]).ok().json()["sessions"][0]["threadId"]);
    let known = thread();
    model.script([Rule::user("use the tool")
        .exec("touch began; until [ -e go ]; do sleep 0.05; done")
        .reply("never said")]);
    let first = house.run(&["send", "reviewer", "use the tool", "--wait", "--json"]).ok().json();
    wait_for_tool(&house, "began");
    let hung = child_pid(&house);
    let send = |words: &[&str]| {
        text_of(&house.run(&[&["send", "reviewer"], words, &["--json"]].concat()).ok().json()["id"])
    };
    let joins = send(&["into the hung turn", "--priority", "urgent"]);
    wait_for_delivery(&house, &joins, "submitted");
    kill(Pid::from_raw(hung), Signal::SIGSTOP).expect("it is ours");
    let waits = send(&["behind the hung turn"]);
    let why = house.poll("the report", DEADLINE, || {
        let log = house.run(&["log", "--json"]).ok().json_lines();
        let exited = log.iter().find(|line| line["event"] == "childExited" && line["pid"] == hung);
        exited.map(|line| text_of(&line["why"])).ok_or_else(|| format!("{log:?}"))
    });
    // What it has said on stderr, at its start at the latest, stands behind it.
    assert!(why.starts_with("it no longer answered, and was killed: "), "{why}");
    for id in [&joins, &waits] {
        wait_for_delivery(&house, id, "consumed");
    }
    let doubted = states(&traced(&house, &joins));
    assert!(
        doubted.contains(&"unknown".to_owned()),
        "the hung child had it and never showed it: {doubted:?}"
    );
    assert_eq!(traced(&house, &text_of(&first["id"]))["state"], "consumed");
    for text in ["use the tool", "into the hung turn", "behind the hung turn"] {
        model.wait_until_read(text, DEADLINE);
        assert_eq!(model.times_read(text), 1, "{text}\n{}", model.transcript());
    }
    assert_eq!(thread(), known);
    assert_ne!(child_pid(&house), hung);
    let _ = house.run(&["down", "--now"]).ok();
    house.wait_until_empty(DEADLINE);
}
