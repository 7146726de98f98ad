//! Connecting, opening, resuming and leaving threads.

use agentmux::model::child::{ChildCommand, ChildEvent};
use agentmux::transport::Transport;
use serde_json::json;

use super::kind::{Bench, Fake, Refusal, What, claim, name, open, turn};
use super::pair::Pair;

#[test]
fn a_child_that_answers_tells_its_version() {
    Bench::each(|mut bench| {
        bench.transport.on_open();
        bench.run();
        let [ChildEvent::Ready { version }] = &bench.take()[..] else {
            panic!("one event, that it is ready")
        };
        assert!(version.starts_with(char::is_numeric), "{version}");
    });
}

/// PX-7: a child that refuses the first word is not called ready.
#[test]
fn a_child_that_refuses_hello_is_unusable() {
    Bench::each(|mut bench| {
        bench.fake.refuse(What::Hello, Refusal::ForGood);
        bench.transport.on_open();
        bench.run();
        assert!(matches!(&bench.take()[..], [ChildEvent::Unusable { .. }]));
    });
}

#[test]
fn a_new_session_gets_a_thread_of_its_own() {
    Bench::each(|mut bench| {
        bench.connect();
        let (one, two) = (bench.opens("reviewer", None), bench.opens("lead", None));
        assert_ne!(one, two);
    });
}

#[test]
fn a_known_thread_is_resumed_and_says_whether_it_is_busy() {
    Bench::each_open(|mut bench, thread| {
        for busy in [false, true] {
            if busy {
                bench.fake.runs_a_turn(&thread);
            }
            bench.connect();
            bench.command(open("reviewer", Some(&thread)));
            let events = bench.take();
            let [ChildEvent::ThreadOpened { session, thread: opened, busy: told, turn }] = &events[..] else {
                panic!("one opening: {events:?}")
            };
            assert_eq!((session, opened, *told), (&name("reviewer"), &thread, busy));
            assert_eq!(
                turn.is_some(),
                busy,
                "which turn runs is known before anybody can want it interrupted"
            );
        }
    });
}

/// A refused name is no reason to be without a session.
#[test]
fn a_thread_whose_name_is_refused_is_open() {
    Bench::each(|mut bench| {
        bench.connect();
        bench.fake.refuse(What::Naming, Refusal::ForGood);
        bench.opens("reviewer", None);
    });
}

#[test]
fn a_refused_opening_says_whether_to_try_again() {
    Bench::each_open(|mut bench, thread| {
        for what in [What::NewThread, What::Introduction, What::Resuming] {
            for (how, again) in [(Refusal::Overloaded, true), (Refusal::ForGood, false)] {
                bench.connect();
                bench.fake.refuse(what, how);
                bench.command(open("reviewer", (what == What::Resuming).then_some(&thread)));
                let events = bench.take();
                let [ChildEvent::ThreadFailed { temporary, why, session }] = &events[..] else {
                    panic!("one failure: {events:?}")
                };
                assert_eq!((*temporary, session), (again, &name("reviewer")), "{why}");
                assert!(!why.is_empty());
            }
        }
    });
}

/// An opening that was given up (overdue, or closed meanwhile) is not reported, whatever its answer is, and the newer one is.
#[test]
fn an_opening_that_was_given_up_is_not_reported() {
    for how in [None, Some(Refusal::Overloaded), Some(Refusal::ForGood)] {
        for closed in [false, true] {
            Bench::each_open(|mut bench, thread| {
                bench.connect();
                bench.fake.hold();
                if let Some(how) = how {
                    bench.fake.refuse(What::NewThread, how);
                }
                bench.command(open("lead", None));
                if closed {
                    bench.command(ChildCommand::CloseThread { session: name("lead") });
                    assert_eq!(bench.take(), [ChildEvent::ThreadGone { session: name("lead") }]);
                }
                bench.command(open("lead", Some(&thread)));
                bench.fake.release();
                bench.run();
                let opened =
                    ChildEvent::ThreadOpened { session: name("lead"), thread, busy: false, turn: None };
                assert_eq!(bench.take(), [opened]);
            });
        }
    }
}

/// The thread of a session that was opened twice is still ours: the answer to the first opening must not make the child stop
/// telling us about the second.
#[test]
fn a_thread_that_was_asked_for_twice_stays_subscribed() {
    Bench::each_open(|mut bench, thread| {
        bench.connect();
        bench.fake.hold();
        bench.command(open("reviewer", Some(&thread)));
        bench.command(ChildCommand::CloseThread { session: name("reviewer") });
        bench.command(open("reviewer", Some(&thread)));
        bench.take();
        bench.fake.release();
        bench.run();
        bench.command(turn(claim(1)));
        let taken = |event: &ChildEvent| matches!(event, ChildEvent::InputTaken { claim: Some(c), .. } if *c == claim(1));
        let events = bench.take();
        assert!(events.iter().any(taken), "{events:?}");
    });
}

/// NB-9: a closed session's turn does not run on, and the close is answered.
#[test]
fn a_closed_thread_is_gone_and_tells_nothing_more() {
    Bench::each_open(|mut bench, thread| {
        bench.command(turn(claim(1)));
        bench.take();
        bench.command(ChildCommand::CloseThread { session: name("reviewer") });
        assert_eq!(bench.take(), [ChildEvent::ThreadGone { session: name("reviewer") }]);
        bench.fake.person_types(&thread, true);
        bench.run();
        assert_eq!(bench.take(), []);
    });
}

#[test]
fn a_thread_that_the_child_unloads_is_gone_once() {
    Bench::each_open(|mut bench, thread| {
        bench.fake.unloads(&thread);
        bench.run();
        assert_eq!(bench.take(), [ChildEvent::ThreadGone { session: name("reviewer") }]);
    });
}

/// A connection that broke takes everything under way with it; late answers of the old one mean nothing on the new one.
#[test]
fn a_new_connection_starts_from_nothing() {
    Bench::each_open(|mut bench, thread| {
        bench.fake.hold();
        bench.command(turn(claim(1)));
        bench.command(open("lead", None));
        let late = bench.fake.hold();
        bench.fake.release();
        bench.connect();
        for message in late {
            bench.hears(&message);
            bench.run();
        }
        assert_eq!(bench.take(), [], "no thread is open on the new connection");
        bench.command(open("reviewer", Some(&thread)));
        assert!(matches!(bench.take()[..], [ChildEvent::ThreadOpened { busy: true, .. }]));
    });
}

/// Symptom: a session whose turn the child would not interrupt for now was called stopped, and its turn ran on. Now: it is not left, and
/// that is told.
#[test]
fn a_thread_whose_turn_cannot_be_ended_for_now_is_not_left() {
    Bench::each_open(|mut bench, _| {
        bench.command(turn(claim(1)));
        bench.take();
        for _ in 0..2 {
            bench.fake.refuse(What::Interrupt, Refusal::Overloaded);
            bench.command(ChildCommand::CloseThread { session: name("reviewer") });
            assert!(matches!(&bench.take()[..], [ChildEvent::CloseRefused { .. }]));
        }
        bench.command(ChildCommand::CloseThread { session: name("reviewer") });
        assert_eq!(bench.take(), [ChildEvent::ThreadGone { session: name("reviewer") }]);
    });
}

/// An opening that cannot tell for now which turn runs is tried again as a whole; one that never can is told without it.
#[test]
fn an_opening_that_does_not_learn_its_turn_says_whether_to_try_again() {
    Bench::each_open(|mut bench, thread| {
        bench.fake.runs_a_turn(&thread);
        bench.connect();
        bench.fake.refuse(What::RunningTurn, Refusal::Overloaded);
        bench.command(open("reviewer", Some(&thread)));
        assert!(matches!(&bench.take()[..], [ChildEvent::ThreadFailed { temporary: true, .. }]));
        bench.fake.refuse(What::RunningTurn, Refusal::ForGood);
        bench.command(open("reviewer", Some(&thread)));
        assert!(matches!(&bench.take()[..], [ChildEvent::ThreadOpened { busy: true, turn: None, .. }]));
        // It shows itself with its next word.
        bench.fake.person_types(&thread, true);
        bench.run();
        let events = bench.take();
        assert!(events.iter().any(|event| matches!(event, ChildEvent::TurnStarted { .. })), "{events:?}");
    });
}

/// The child answers in whatever order: a thread whose turn runs is not open before it is known which.
#[test]
fn a_thread_is_not_open_before_its_turn_is_known() {
    Bench::each_open(|mut bench, thread| {
        bench.fake.runs_a_turn(&thread);
        bench.connect();
        bench.fake.hold();
        bench.command(open("reviewer", Some(&thread)));
        for resumed in bench.fake.hold() {
            bench.hears(&resumed);
        }
        bench.run();
        let mut answers = bench.fake.hold();
        let last = answers.remove(0);
        answers.iter().for_each(|answer| bench.hears(answer));
        assert_eq!(bench.take(), [], "{last} is still to come");
        bench.hears(&last);
        assert!(matches!(&bench.take()[..], [ChildEvent::ThreadOpened { turn: Some(_), .. }]));
    });
}

/// Symptom: a turn went on in a thread whose opening nobody waited for any more. Now: it is ended before the thread is left, also by a
/// child that has too much to do at first.
#[test]
fn a_turn_in_a_thread_that_nobody_waits_for_is_ended() {
    for refusals in 0..3 {
        let mut pair = Pair::connected();
        let thread = pair.opened("reviewer");
        pair.fake.runs_a_turn(&thread);
        pair.starts_anew();
        for what in [What::RunningTurn, What::Interrupt].into_iter().take(refusals) {
            pair.fake.refuse(what, Refusal::Overloaded);
        }
        let _ = pair.fake.hold();
        pair.command(open("reviewer", Some(&thread)));
        pair.command(ChildCommand::CloseThread { session: name("reviewer") });
        assert_eq!(pair.events(), [ChildEvent::ThreadGone { session: name("reviewer") }]);
        pair.hears(&[]);
        let methods = pair.fake.methods();
        let ends = methods.iter().filter(|method| **method == "turn/interrupt").count();
        assert_eq!(ends, if refusals == 2 { 2 } else { 1 }, "{methods:?}");
        assert_eq!(methods.last(), Some(&"thread/unsubscribe"));
    }
}

/// Symptom: the late word that a thread was left made the relay forget the same thread, opened again meanwhile, and its opening hung. Now:
/// it is about the earlier one.
#[test]
fn a_late_word_of_a_thread_that_was_left_is_not_about_the_next_opening() {
    let mut pair = Pair::connected();
    let thread = pair.opened("reviewer");
    pair.events();
    let _ = pair.fake.hold();
    pair.codex.command(ChildCommand::CloseThread { session: name("reviewer") });
    let left = pair.answers();
    pair.codex.command(open("reviewer", Some(&thread)));
    let resumed = pair.answers();
    pair.hears(&[resumed, left].concat());
    let events = pair.events();
    let opened = |event: &ChildEvent| matches!(event, ChildEvent::ThreadOpened { .. });
    assert!(events.iter().any(opened), "{events:?}");
    pair.command(turn(claim(1)));
    assert!(pair.events().iter().any(|event| matches!(event, ChildEvent::InputTaken { .. })));
}

/// Symptom: the thread of a removed session stayed subscribed, and its turn ran on, when another session had its name before it was left.
/// Now: its turn is ended, and it is left.
#[test]
fn the_thread_of_an_earlier_session_is_left_when_its_name_is_used_again() {
    for shows in [true, false] {
        let mut pair = Pair::connected();
        let thread = pair.opened("reviewer");
        pair.fake.runs_a_turn(&thread);
        if shows {
            pair.run();
        } else {
            pair.command(turn(claim(1)));
        }
        let _ = pair.fake.hold();
        pair.codex.command(ChildCommand::CloseThread { session: name("reviewer") });
        let _ = pair.answers();
        pair.command(open("reviewer", None));
        pair.hears(&[]);
        let left = json!({"threadId": &*thread});
        assert!(pair.fake.all("turn/interrupt").iter().any(|ended| ended["threadId"] == left["threadId"]));
        assert!(pair.fake.all("thread/unsubscribe").contains(&&left), "{:?}", pair.fake.methods());
    }
}

/// Symptom: a thread that was opened without the id of its turn was not left before that turn's next word. Now: the child is asked again.
#[test]
fn a_thread_whose_turn_is_not_known_is_asked_for_it_when_it_is_left() {
    let mut pair = Pair::connected();
    let thread = pair.opened("reviewer");
    pair.fake.runs_a_turn(&thread);
    pair.starts_anew();
    pair.fake.refuse(What::RunningTurn, Refusal::ForGood);
    pair.command(open("reviewer", Some(&thread)));
    pair.events();
    pair.fake.refuse(What::RunningTurn, Refusal::Overloaded);
    pair.command(ChildCommand::CloseThread { session: name("reviewer") });
    assert!(matches!(&pair.events()[..], [ChildEvent::CloseRefused { .. }]));
    pair.command(ChildCommand::CloseThread { session: name("reviewer") });
    assert_eq!(pair.events(), [ChildEvent::ThreadGone { session: name("reviewer") }]);
    assert_eq!(pair.fake.all("turn/interrupt").len(), 1);
}
