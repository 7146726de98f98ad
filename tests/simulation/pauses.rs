//! Stories of children that refuse or say nothing: how long mail is left alone, and that it is not left for ever.

use std::cell::RefCell;
use std::collections::BTreeSet;

use agentmux::core::input::Input;
use agentmux::model::child::{ChildEvent, Underway};
use agentmux::model::clock::Millis;
use agentmux::model::limits;
use agentmux::model::mail::DeliveryState;
use agentmux::model::name::Name;
use agentmux::model::session::SessionState;
use agentmux::protocol::request::{Names, One, Request, Send};

use crate::shell::CrashPoint;
use crate::story::{Story, down, tell};

/// A fast refusal is an answer like any other (NB-3): the mail goes back, and is tried again.
#[test]
fn a_refusal_at_once_only_delays() {
    tell(|story| {
        story.world.shape.refuses_for_now = 1_000;
        let mail = story.sends("lead");
        story.for_ms(2_000);
        assert!(matches!(story.state(mail), DeliveryState::Queued | DeliveryState::Claimed));
        story.world.shape.refuses_for_now = 0;
        story.until_state(mail, DeliveryState::Consumed);
        assert_eq!(story.told(mail), 1);
    });
}

/// Users 24: who is refused again and again asks less and less often, and no two sessions of a machine ask in step.
#[test]
fn the_pauses_after_refusals_grow_and_have_jitter() {
    let all = RefCell::new(BTreeSet::new());
    tell(|story| {
        story.world.shape.refuses_for_now = 1_000;
        let mail = story.sends("lead");
        let pauses: Vec<i64> = (1..=5)
            .map(|refusals| {
                story.until_state(mail, DeliveryState::Claimed);
                story.until_state(mail, DeliveryState::Queued);
                let refused_at = story.world.now;
                story.until("the next attempt", |world| world.disk.committed.claims.len() > refusals);
                story.world.now.since(refused_at)
            })
            .collect();
        assert!(pauses.windows(2).all(|pair| pair[0] < pair[1]), "{pauses:?}");
        assert!(pauses[4] > 8 * pauses[0], "{pauses:?}");
        all.borrow_mut().insert(pauses);
        story.world.shape.refuses_for_now = 0;
        story.until_state(mail, DeliveryState::Consumed);
        assert_eq!(story.told(mail), 1);
    });
    let all = all.into_inner();
    let firsts: BTreeSet<i64> = all.iter().map(|pauses| pauses[0]).collect();
    assert!(firsts.len() > 10, "the same pause in every world: {all:?}");
}

/// A child that stays silent keeps nobody busy for ever (NB-4, NB-5).
#[test]
fn a_silent_child_loses_its_lease() {
    tell(|story| {
        story.world.shape.says_nothing = 1_000;
        let mail = story.sends("lead");
        story.for_ms(60_000);
        story.world.shape.says_nothing = 0;
        story.until_state(mail, DeliveryState::Consumed);
        assert_eq!(story.told(mail), 1);
    });
}

/// Whether what was asked since a moment was asked again later each time, up to the longest pause.
fn grows(story: &Story, what: &str, since: Millis) -> bool {
    let asked = story.asked(what, since);
    let pauses: Vec<i64> = asked.windows(2).map(|pair| pair[1].since(pair[0])).collect();
    let fits = |(n, pause): (usize, &i64)| {
        let longest = (limits::RETRY_MS_MIN << n).min(limits::RETRY_MS_MAX);
        (longest / 2..=longest + 100).contains(pause)
    };
    pauses.len() >= 4 && pauses.iter().enumerate().all(fits)
}

/// Symptom: an interrupt that the child refused (`-32001`, users 24) was sent again thousands of times a second. Now: later each time.
#[test]
fn an_interrupt_that_is_refused_for_now_is_asked_for_later_each_time() {
    tell(|story| {
        let (child, turn) = story.long_turn("lead");
        let since = story.world.now;
        story.world.shape.too_busy = 1_000;
        story.asks(0, Request::Interrupt(One { name: "lead".to_owned() }));
        story.for_ms(9_000);
        assert!(grows(story, "interrupt", since), "{:?}", story.asked("interrupt", since));
        assert!(story.runs(child, &turn));
        story.world.shape.too_busy = 0;
        story.asks(1, Request::Interrupt(One { name: "lead".to_owned() }));
        story.answered(1);
        assert!(!story.runs(child, &turn), "it is interrupted in the end");
    });
}

/// Symptom: a child that answered with `-32001` whether its silent turn runs was killed, because "it no longer answered". Now: it is asked
/// again later each time, and lives.
#[test]
fn a_child_that_answers_that_it_cannot_say_is_not_hung() {
    tell(|story| {
        let (child, turn) = story.long_turn("lead");
        let since = story.world.now;
        story.world.shape.too_busy = 1_000;
        story.for_ms(agentmux::core::policy::Policy::default().silent_ms + 60_000);
        assert!(story.runs(child, &turn), "it runs on in the same child");
        assert!(grows(story, "status", since), "{:?}", story.asked("status", since));
        story.asks(0, Request::List);
        story.answered(0);
        let reason = story.world.clients.listed[0].reason.clone().unwrap_or_default();
        assert!(reason.contains("does not say whether it goes on: Server overloaded"), "{reason}");
    });
}

/// Symptom: `down` of a session whose turn the child would not interrupt for now said `stopped`, and the turn ran on. Now: it is stopped
/// when its turn has ended, and not before.
#[test]
fn a_session_is_stopped_only_when_its_turn_could_be_ended() {
    tell(|story| {
        let (child, turn) = story.shared_turn();
        let since = story.world.now;
        story.world.shape.too_busy = 1_000;
        story.asks(0, down("lead"));
        story.for_ms(8_000);
        assert!(
            story.runs(child, &turn) && !story.world.clients.all[0].asked.is_empty(),
            "nobody says stopped"
        );
        assert!(grows(story, "close", since), "{:?}", story.asked("close", since));
        story.world.shape.too_busy = 0;
        story.until("the end of the turn", |world| {
            world.codex.processes[&child].loaded.values().flatten().all(|running| running.id != turn)
        });
        story.until("the session to be stopped", |world| world.clients.all[0].asked.is_empty());
    });
}

/// Symptom: a `down` whose child said nothing was done after a second, and the turn ran on in the child that others needed. Now: the child
/// is asked again, and the session is stopped when its turn has ended.
#[test]
fn a_stop_that_the_child_does_not_answer_is_not_done() {
    tell(|story| {
        let (child, turn) = story.shared_turn();
        let since = story.world.now;
        story.world.shape.says_nothing = 1_000;
        story.asks(0, down("lead"));
        story.for_ms(4_000);
        assert!(
            story.runs(child, &turn) && !story.world.clients.all[0].asked.is_empty(),
            "nobody says stopped"
        );
        let asked = story.asked("close", since);
        let pauses: Vec<i64> = asked.windows(2).map(|pair| pair[1].since(pair[0])).collect();
        assert!(pauses.len() >= 2 && pauses.windows(2).all(|pair| pair[0] < pair[1]), "{pauses:?}");
        story.world.shape.says_nothing = 0;
        story.until("the session to be stopped", |world| world.clients.all[0].asked.is_empty());
        assert!(!story.runs(child, &turn));
        let mail = story.sends("keeper");
        story.until_state(mail, DeliveryState::Consumed);
    });
}

/// Symptom: of a session that a new relay had to stop, and whose thread the child would not open for now, it was said that it was stopped,
/// and its turn ran on. Now: its thread is opened when it can be, and left then.
#[test]
fn a_stop_after_a_crash_outlasts_a_child_that_is_too_busy() {
    for asks_before in [true, false] {
        tell(|story| {
            let (child, turn) = story.shared_turn();
            story.world.crash(CrashPoint::AfterRelease);
            story.world.relay_starts();
            (0..2).for_each(|client| story.world.client_connects(client, true));
            story.world.shape.too_busy = 1_000;
            if asks_before {
                story.asks(0, down("lead"));
            }
            story.for_ms(1_000);
            if !asks_before {
                story.asks(0, down("lead"));
            }
            story.for_ms(2_000);
            assert!(story.runs(child, &turn) && !story.world.clients.all[0].asked.is_empty());
            let takes_long = story.world.random.chance(200);
            if takes_long {
                story.answered(0);
            }
            story.world.shape.too_busy = 0;
            story.answered(0);
            let says_stopped = story.world.clients.states[0].state == SessionState::Stopped;
            assert_eq!(says_stopped, !takes_long);
            assert!(takes_long || !story.runs(child, &turn), "it is stopped, and runs on");
            story.until("the end of the turn", |world| {
                world.codex.processes[&child].loaded.values().flatten().all(|other| other.id != turn)
            });
        });
    }
}

/// Symptom: `remove` said that a session was removed, and its turn ran on in the child that others needed: after a crash of the relay,
/// after a connection broke, and with a child that was too busy. Now: it is stopped before, or it stays, which is said.
#[test]
fn a_session_is_removed_only_when_no_turn_of_it_is_left() {
    for trouble in ["none", "crash", "broken connection", "too busy", "too busy for long"] {
        tell(|story| {
            let (child, turn) = story.shared_turn();
            match trouble {
                "crash" => {
                    story.world.crash(CrashPoint::AfterRelease);
                    story.world.relay_starts();
                    (0..2).for_each(|client| story.world.client_connects(client, true));
                }
                "broken connection" => story.world.connection_breaks(child),
                "none" => {}
                _ => story.world.shape.too_busy = 1_000,
            }
            let remove = Request::Remove(One { name: "lead".to_owned() });
            (0..2).for_each(|client| story.asks(client, remove.clone()));
            story.for_ms(if trouble == "too busy for long" { 11_000 } else { 2_000 });
            story.world.shape.too_busy = 0;
            (0..2).for_each(|client| story.answered(client));
            let name = Name::parse("lead").expect("a name in the grammar");
            let is_left = story.world.disk.committed.sessions.contains_key(&name);
            assert_eq!(
                (is_left, story.runs(child, &turn)),
                (trouble == "too busy for long", is_left),
                "{trouble}"
            );
            story.asks(0, remove);
            story.answered(0);
            assert!(!story.world.disk.committed.sessions.contains_key(&name) && !story.runs(child, &turn));
        });
    }
}

/// Whoever wants a session up while it is stopped to be removed keeps it, and whoever wanted it removed is told.
#[test]
fn a_session_that_is_wanted_again_is_not_removed() {
    tell(|story| {
        let _ = story.shared_turn();
        story.world.shape.too_busy = 1_000;
        story.asks(0, Request::Remove(One { name: "lead".to_owned() }));
        story.for_ms(500);
        story.asks(1, Request::Up(Names { names: vec!["lead".to_owned()] }));
        (0..2).for_each(|client| story.answered(client));
        story.world.shape.too_busy = 0;
        // Its thread is opened anew, because nobody knows what is in it.
        story.asks(1, Request::Up(Names { names: vec!["lead".to_owned()] }));
        story.answered(1);
        let mail = story.sends("lead");
        story.asks(0, Request::Interrupt(One { name: "lead".to_owned() }));
        story.until_state(mail, DeliveryState::Consumed);
    });
}

/// Symptom: a full context that the child would not sum up for now was not summed up at all, and the session failed at the next mail with
/// "also after it was summed up", which was not so. Now: it is asked for again, and nothing goes in before.
#[test]
fn a_full_context_that_cannot_be_summed_up_for_now_is_summed_up_later() {
    tell(|story| {
        let (child, _) = story.long_turn("lead");
        let thread = story.thread("lead");
        let since = story.world.now;
        story.world.shape.too_busy = 1_000;
        let full = agentmux::model::child::TurnOutcome::ContextFull("too long".to_owned());
        story.world.end_turn(child, &thread, full);
        let waits = story.sends("lead");
        story.for_ms(20_000);
        assert_eq!(story.state(waits), DeliveryState::Queued, "nothing goes into a full context");
        assert!(grows(story, "compact", since), "{:?}", story.asked("compact", since));
        story.world.shape.too_busy = 0;
        story.until_state(waits, DeliveryState::Consumed);
        assert_eq!(story.told(waits), 1);
    });
}

/// A question whose thread an overloaded child would not describe is looked for again, later each time.
#[test]
fn the_thread_of_a_question_is_looked_for_later_each_time() {
    tell(|story| {
        let child = story.child();
        for times in 0..4 {
            let since = story.world.now;
            let event = ChildEvent::AskUnplaced { key: "7".to_owned(), times };
            story.world.reaches_relay(Input::Child { nonce: child, event });
            story.until("the next look", |world| {
                let mut asked = world.codex.asked.iter();
                asked.any(|(at, what)| *what == "place" && *at > since)
            });
            let (took, longest) = (story.world.now.since(since), limits::RETRY_MS_MIN << times);
            assert!((longest / 2..=longest + 100).contains(&took), "{took} ms after {times}");
        }
    });
}

/// Symptom: an interrupt of a session without a turn of its own was answered before its sub-agents had ended. Now: when they have, and
/// nothing goes in before; a child that does not say so keeps nobody waiting for ever.
#[test]
fn an_interrupt_is_done_when_the_sub_agents_have_ended() {
    tell(|story| {
        story.world.shape.says_nothing = 1_000;
        let since = story.world.now;
        story.asks(0, Request::Interrupt(One { name: "lead".to_owned() }));
        story.for_ms(50);
        story.world.shape.says_nothing = 0;
        story.asks(
            1,
            Request::Send(Send { to: vec!["lead".to_owned()], body: "go".to_owned(), ..Send::default() }),
        );
        story.answered(1);
        let mail = *story.world.disk.committed.deliveries.last_key_value().expect("accepted means on disk").0;
        story.for_ms(5_000);
        assert!(!story.world.clients.all[0].asked.is_empty() && story.state(mail) == DeliveryState::Queued);
        story.answered(0);
        assert!((limits::DOWN_MS..limits::DOWN_MS + 100).contains(&story.world.now.since(since)));
        story.until_state(mail, DeliveryState::Consumed);
        story.asks(0, Request::Interrupt(One { name: "lead".to_owned() }));
        story.for_ms(1_000);
        assert!(story.world.clients.all[0].asked.is_empty(), "it is told at once");
    });
}

/// Symptom: a child that called its turn older than time itself made `list` fail for the whole bundle. Now: what cannot be so is not
/// believed.
#[test]
fn a_turn_that_cannot_be_so_old_is_as_old_as_its_first_word() {
    for since in [Millis(i64::MIN), Millis(-1), Millis(i64::MAX)] {
        tell(|story| {
            let (child, turn) = story.long_turn("lead");
            let (thread, session) =
                (story.thread("lead"), Name::parse("lead").expect("a name in the grammar"));
            story.world.connection_breaks(child);
            let broken_at = story.world.now;
            let turn = Some(Underway { turn, since: Some(since), at_boundary: true });
            let event = ChildEvent::ThreadOpened { session, thread, busy: true, turn };
            story.world.reaches_relay(Input::Child { nonce: child, event });
            story.asks(0, Request::List);
            story.answered(0);
            let since = story.world.clients.listed[0].since.expect("it is busy since then");
            assert!((broken_at..=story.world.now).contains(&since), "{since:?}");
        });
    }
}
