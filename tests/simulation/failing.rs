//! Stories of sessions that have failed, or are stopped with their relay, in a child that others use or that does not answer.

use agentmux::core::input::Input;
use agentmux::model::limits;
use agentmux::model::mail::DeliveryState;
use agentmux::model::name::Name;
use agentmux::protocol::request::{Names, One, Request};

use crate::story::{Story, down, tell};

fn name(text: &str) -> Name {
    Name::parse(text).expect("a name in the grammar")
}

/// The context of `lead` is full, and so it is in the turn that would sum it up.
fn is_full(story: &mut Story) {
    story.world.shape.context_full = 1_000;
    let mail = story.sends("lead");
    story.until_state(mail, DeliveryState::Consumed);
    for _ in 0..100 {
        if state(story) == "failed" {
            return;
        }
        story.for_ms(200);
    }
    panic!("it is {}", state(story));
}

/// What `list` says of `lead`.
fn state(story: &mut Story) -> String {
    story.asks(0, Request::List);
    story.answered(0);
    let lead = story.world.clients.listed.iter().find(|session| session.name == name("lead"));
    lead.map(|session| session.state.as_str().to_owned()).unwrap_or_default()
}

/// Symptom: a session that had failed by a full context kept its thread loaded, and its child and relay for ever. Now: the thread is left,
/// and a child that nobody else needs ends; `up` begins anew.
#[test]
fn a_session_that_has_failed_holds_nothing() {
    for is_shared in [true, false] {
        tell(|story| {
            if is_shared {
                story.spawn("keeper");
            }
            let (child, since) = (story.child(), story.world.now);
            is_full(story);
            story.for_ms(1_000);
            let process = story.world.codex.processes.get(&child);
            assert_eq!(process.is_some(), is_shared, "its child is needed by another, or by nobody");
            // A child that ends may not read that any more.
            assert!(!is_shared || story.asked("close", since).len() == 1, "its thread is left");
            story.world.shape.context_full = 0;
            story.asks(0, Request::Up(Names { names: vec!["lead".to_owned()] }));
            story.answered(0);
            let mail = story.sends("lead");
            story.until_state(mail, DeliveryState::Consumed);
        });
    }
}

/// Symptom: `agentmux down` left child and turn running while the pause was long after which the child was asked again to end one. Now: a
/// child that ends anyway is not asked.
#[test]
fn the_end_of_the_relay_waits_for_no_pause() {
    tell(|story| {
        let (child, turn) = story.shared_turn();
        story.world.shape.too_busy = 1_000;
        story.asks(0, down("lead"));
        story.for_ms(60_000);
        assert!(story.runs(child, &turn));
        story.world.reaches_relay(Input::Leave { why: "SIGTERM".to_owned() });
        story.until("the end of the relay", |world| world.relay.is_none());
        assert!(story.world.codex.processes.is_empty(), "no child is left");
    });
}

/// Symptom: a child that answered hello and then hung while it opened a thread was asked again for ever. Now: it is killed when it has not
/// answered twice, and the next one opens the thread.
#[test]
fn a_child_that_hangs_while_it_opens_a_thread_is_killed() {
    tell(|story| {
        story.world.shape.says_nothing = 1_000;
        let first = story.child();
        story.world.child_dies(first);
        story.until("the next child", |world| world.codex.processes.keys().any(|nonce| *nonce != first));
        let (second, since) = (story.child(), story.world.now);
        story.until("its end", |world| !world.codex.processes.contains_key(&second));
        let took = story.world.now.since(since);
        let least = i64::from(limits::UNANSWERED_MAX) * limits::THREAD_OPEN_MS;
        assert!((least..least + limits::RETRY_MS_MAX).contains(&took), "{took} ms");
        story.world.shape.says_nothing = 0;
        let mail = story.sends("lead");
        story.until_state(mail, DeliveryState::Consumed);
        assert_eq!(story.told(mail), 1);
    });
}

/// Symptom: a session of a child that hung could be neither stopped nor removed while another session wanted that child: it was asked to
/// leave the thread for ever. Now: a child that says nothing for a whole lease meanwhile is killed.
#[test]
fn a_stop_in_a_child_that_hangs_comes_to_an_end() {
    tell(|story| {
        let (child, _) = story.shared_turn();
        story.world.shape.says_nothing = 1_000;
        let since = story.world.now;
        story.asks(0, down("lead"));
        story.until("the end of the child", |world| !world.codex.processes.contains_key(&child));
        let took = story.world.now.since(since);
        assert!((limits::LEASE_MS..3 * limits::LEASE_MS).contains(&took), "{took} ms");
        story.world.shape.says_nothing = 0;
        story.asks(1, Request::Remove(One { name: "lead".to_owned() }));
        story.answered(1);
        assert!(!story.world.disk.committed.sessions.contains_key(&name("lead")));
        let mail = story.sends("keeper");
        story.until_state(mail, DeliveryState::Consumed);
    });
}

/// Symptom: a session that was to be stopped, was wanted again and then removed, while its child refused everything for now, was called
/// removed, and its turn ran on in a child that another needed. Now: it is removed when its turn has ended, or stays, which is said.
#[test]
fn a_session_that_was_wanted_again_is_not_removed_before_its_turn_has_ended() {
    tell(|story| {
        let (child, turn) = story.shared_turn();
        story.world.shape.too_busy = 1_000;
        story.asks(0, down("lead"));
        story.for_ms(500);
        story.asks(1, Request::Up(Names { names: vec!["lead".to_owned()] }));
        story.for_ms(300);
        story.asks(1, Request::Remove(One { name: "lead".to_owned() }));
        story.for_ms(2_000);
        assert!(story.runs(child, &turn) && story.world.disk.committed.sessions.contains_key(&name("lead")));
        story.world.shape.too_busy = 0;
        story.answered(1);
        let is_left = story.world.disk.committed.sessions.contains_key(&name("lead"));
        assert!(is_left || !story.runs(child, &turn), "it is removed, and runs on");
    });
}
