//! Threads that an adopted child has, and how they are left: after an opening that failed, and without knowing which turn runs.

use agentmux::model::child::{ChildCommand, ChildEvent, TurnOutcome};
use agentmux::model::id::ThreadId;
use agentmux::transport::Transport;
use serde_json::json;

use super::kind::{Fake, Refusal, What, claim, name, open, turn};
use super::pair::Pair;

/// A thread that `reviewer` has, in the same child, as another relay finds it.
fn adopted(pair: &mut Pair, runs: bool) -> ThreadId {
    let thread = pair.opened("reviewer");
    if runs {
        pair.fake.runs_a_turn(&thread);
    }
    pair.starts_anew();
    thread
}

fn is_put_off(event: &ChildEvent) -> bool {
    matches!(event, ChildEvent::ThreadFailed { temporary: true, .. })
}

/// Symptom: each attempt to begin a thread that an overloaded child took only half left one behind, with its tools at work. Now: it is
/// left.
#[test]
fn a_thread_that_was_begun_for_nothing_is_left() {
    let mut pair = Pair::connected();
    pair.fake.refuse(What::Introduction, Refusal::Overloaded);
    pair.command(open("reviewer", None));
    assert!(pair.events().iter().any(is_put_off));
    let begun = pair.fake.last("thread/inject_items")["threadId"].clone();
    assert_eq!(pair.fake.last("thread/unsubscribe"), &json!({"threadId": begun}));
}

/// Symptom: a thread whose opening had failed for now stayed loaded, with its turn, in a child that others needed, when its session was
/// stopped before the next attempt. Now: it is left like any other.
#[test]
fn a_thread_whose_opening_failed_for_now_can_be_left() {
    let mut pair = Pair::connected();
    let thread = adopted(&mut pair, true);
    pair.fake.refuse(What::Loaded, Refusal::Overloaded);
    pair.command(open("reviewer", Some(&thread)));
    assert!(pair.events().iter().any(is_put_off));
    pair.command(ChildCommand::CloseThread { session: name("reviewer") });
    assert!(pair.events().contains(&ChildEvent::ThreadGone { session: name("reviewer") }));
    assert_eq!(pair.fake.last("turn/interrupt")["threadId"], json!(&*thread));
    assert_eq!(pair.fake.last("thread/unsubscribe"), &json!({"threadId": &*thread}));
}

/// Symptom: the summary of a close was lost when the child had too much to do to take it. Now: the opening is tried again, with it.
#[test]
fn a_reminder_that_is_refused_for_now_is_told_again() {
    let mut pair = Pair::connected();
    let thread = adopted(&mut pair, false);
    let mut reminding = open("reviewer", Some(&thread));
    let ChildCommand::OpenThread { reminder, .. } = &mut reminding else { panic!("it opens") };
    *reminder = Some("You were reading parse.rs.".to_owned());
    pair.fake.refuse(What::Introduction, Refusal::Overloaded);
    pair.command(reminding.clone());
    assert!(pair.events().iter().any(is_put_off));
    pair.command(reminding);
    assert!(pair.events().iter().any(|event| matches!(event, ChildEvent::ThreadOpened { .. })));
    assert!(pair.fake.last("thread/inject_items").to_string().contains("parse.rs"));
}

/// Symptom: a thread that was to be left when the id of its turn was known was not left when that turn had ended unheard. Now: it is,
/// when the child calls it idle.
#[test]
fn a_thread_whose_turn_ended_unheard_is_left() {
    let mut pair = Pair::connected();
    let thread = adopted(&mut pair, true);
    pair.fake.refuse(What::RunningTurn, Refusal::ForGood);
    pair.command(open("reviewer", Some(&thread)));
    pair.fake.refuse(What::RunningTurn, Refusal::ForGood);
    pair.command(ChildCommand::CloseThread { session: name("reviewer") });
    let gone = ChildEvent::ThreadGone { session: name("reviewer") };
    assert!(!pair.events().contains(&gone));
    let status = json!({"threadId": &*thread, "status": {"type": "idle"}});
    pair.hears(&[json!({"method": "thread/status/changed", "params": status}).to_string()]);
    pair.run();
    assert!(pair.events().contains(&gone));
}

/// A turn of the thread ends, and nobody hears of it.
fn ends_unheard(pair: &mut Pair, thread: &ThreadId) {
    let _ = pair.fake.hold();
    pair.fake.ends_turn(thread, &TurnOutcome::Completed);
    let _ = pair.answers();
    pair.hears(&[]);
}

/// Symptom: a thread in which a turn was to run, or had run unheard, could not be left: each request to leave it waited for that turn's
/// next word. Now: the child is asked which turn runs, and believed the second time that none does, or when it calls the thread idle.
#[test]
fn a_thread_in_which_no_turn_runs_after_all_is_left() {
    for (was_told, is_asked) in [(false, false), (true, false), (true, true)] {
        let mut pair = Pair::connected();
        let thread = adopted(&mut pair, !was_told);
        if was_told {
            pair.command(open("reviewer", Some(&thread)));
            let _ = pair.fake.hold();
            pair.codex.command(turn(claim(1)));
            // It is accepted, and nothing more is heard of it.
            let said = pair.answers();
            let answers: Vec<String> = said.into_iter().filter(|text| text.contains("\"result\"")).collect();
            pair.hears(&answers);
        } else {
            pair.fake.refuse(What::RunningTurn, Refusal::ForGood);
            pair.command(open("reviewer", Some(&thread)));
        }
        pair.events();
        ends_unheard(&mut pair, &thread);
        if is_asked {
            pair.command(ChildCommand::AskStatus { session: name("reviewer") });
        }
        let gone = ChildEvent::ThreadGone { session: name("reviewer") };
        pair.command(ChildCommand::CloseThread { session: name("reviewer") });
        assert_eq!(pair.events().contains(&gone), is_asked, "its history may come a moment later");
        if !is_asked {
            pair.command(ChildCommand::CloseThread { session: name("reviewer") });
            assert!(pair.events().contains(&gone), "{:?}", pair.fake.methods());
        }
    }
}

/// What is asked for and not answered may begin a moment later: a thread is not left before that, whatever its status says.
#[test]
fn a_thread_is_not_left_before_the_turn_that_was_asked_for() {
    let mut pair = Pair::connected();
    let thread = adopted(&mut pair, false);
    pair.command(open("reviewer", Some(&thread)));
    pair.events();
    pair.codex.command(turn(claim(1)));
    let start = pair.codex.next_message().expect("a turn is asked for");
    for command in [
        ChildCommand::AskStatus { session: name("reviewer") },
        ChildCommand::CloseThread { session: name("reviewer") },
        ChildCommand::CloseThread { session: name("reviewer") },
    ] {
        pair.command(command);
    }
    let gone = ChildEvent::ThreadGone { session: name("reviewer") };
    assert!(!pair.events().contains(&gone), "{:?}", pair.fake.methods());
    pair.fake.hear(&start);
    pair.run();
    assert!(pair.events().contains(&gone), "{:?}", pair.fake.methods());
    assert_eq!(pair.fake.all("turn/interrupt").len(), 1);
}

/// Symptom: a turn of a session that was wanted up again was interrupted, because the thread was still to be left when its id was known.
/// Now: opened anew, it is not left any more.
#[test]
fn a_thread_that_is_opened_again_is_not_left_any_more() {
    let mut pair = Pair::connected();
    let thread = adopted(&mut pair, true);
    for _ in 0..2 {
        pair.fake.refuse(What::RunningTurn, Refusal::ForGood);
    }
    pair.command(open("reviewer", Some(&thread)));
    pair.command(ChildCommand::CloseThread { session: name("reviewer") });
    let _ = pair.fake.hold();
    pair.codex.command(open("reviewer", Some(&thread)));
    let resumed = pair.answers();
    pair.fake.person_types(&thread, true);
    let typed = pair.answers();
    pair.hears(&[typed, resumed].concat());
    assert!(pair.events().iter().any(|event| matches!(event, ChildEvent::ThreadOpened { .. })));
    assert!(pair.fake.all("turn/interrupt").is_empty(), "{:?}", pair.fake.methods());
}

/// Symptom: an opening whose thread was unloaded meanwhile was waited for in vain. Now: it is tried again.
#[test]
fn a_thread_that_is_unloaded_while_it_is_opened_is_opened_again() {
    let mut pair = Pair::connected();
    let thread = adopted(&mut pair, false);
    let _ = pair.fake.hold();
    pair.codex.command(open("reviewer", Some(&thread)));
    let resumed = pair.answers();
    resumed.iter().for_each(|answer| pair.codex.on_message(answer));
    pair.fake.unloads(&thread);
    let rest = pair.answers();
    pair.hears(&rest);
    assert!(pair.events().iter().any(is_put_off));
}
