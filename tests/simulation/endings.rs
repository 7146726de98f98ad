//! Stories of what ends: turns that are interrupted, sessions that are stopped, closed or removed, and those that come after them.

use agentmux::core::input::Input;
use agentmux::model::mail::{DeliveryState, Priority};
use agentmux::model::name::Name;
use agentmux::protocol::request::{Close, Down, Names, One, Prompt, Request, Until, Wait};

use crate::plain;
use crate::story::{down, tell};

/// Two who stop the same session both get an answer (TQ-3), and the turn that ran is over, not left running (NB-9).
#[test]
fn the_second_down_joins_the_first() {
    tell(|story| {
        story.sends("lead");
        story.turn_shows_first("lead");
        let down = Request::Down(Down { names: vec!["lead".to_owned()], now: true });
        story.asks(0, down.clone());
        story.asks(1, down);
        story.answered(0);
        story.answered(1);
        story.until("no child", |world| world.codex.processes.is_empty());
    });
}

/// A session that is closed and wanted again while its thread is opened gets no second thread (TQ-8).
#[test]
fn a_session_keeps_the_thread_that_its_mail_is_in() {
    tell(|story| {
        story.world.shape.answers_slowly = 1_000;
        story.asks_to_spawn("reviewer");
        story.for_a_moment();
        story.asks(1, Request::Down(Down { names: vec!["reviewer".to_owned()], now: true }));
        story.writes("reviewer", Priority::Normal);
        story.for_a_moment();
        story.asks(1, Request::Up(Names { names: vec!["reviewer".to_owned()] }));
        story.until("the mail", |world| world.disk.committed.deliveries.len() == 1);
        let mail = *story.world.disk.committed.deliveries.first_key_value().unwrap().0;
        story.until_state(mail, DeliveryState::Consumed);
        story.for_ms(10_000);
        assert_eq!(story.told(mail), 1);
    });
}

/// What a child says of a removed session's thread is not taken for the one of its name that came after it (TQ-8, NB-9).
#[test]
fn a_session_of_the_same_name_is_another_one() {
    tell(|story| {
        story.world.shape.answers_slowly = 1_000;
        story.spawn("reviewer");
        story.asks(0, Request::Remove(One { name: "reviewer".to_owned() }));
        story.answered(0);
        story.asks_to_spawn("reviewer");
        story.writes("reviewer", Priority::Normal);
        story.until("the mail", |world| world.disk.committed.deliveries.len() == 1);
        let mail = *story.world.disk.committed.deliveries.first_key_value().unwrap().0;
        story.until_state(mail, DeliveryState::Consumed);
        story.for_ms(10_000);
        let opened = story.world.codex.threads.len();
        assert_eq!((story.told(mail), opened), (1, 3), "one thread each");
    });
}

/// Who waits for a session that somebody removes is told at once (TQ-4), and has no say in the next one of that name.
#[test]
fn a_spawn_that_is_overtaken_by_a_removal_is_refused_at_once() {
    tell(|story| {
        story.world.shape.says_nothing = 1_000;
        story.asks_to_spawn("reviewer");
        story.for_ms(20_000);
        story.asks(1, Request::Remove(One { name: "reviewer".to_owned() }));
        story.answered(1);
        let removed_at = story.world.now;
        story.answered(0);
        assert!(story.world.now.since(removed_at) < 100, "the spawner is not left waiting");
        story.asks_to_spawn("reviewer");
        story.for_ms(35_000);
        let reviewer = Name::parse("reviewer").expect("a name in the grammar");
        assert!(story.world.disk.committed.sessions.contains_key(&reviewer), "the next one lives");
    });
}

/// Mail behind a removed session is not dropped (TQ-2): it fails, and whoever waits for it is told at once (TQ-4).
#[test]
fn removing_a_session_fails_its_mail_and_tells_who_waits() {
    tell(|story| {
        story.asks(0, down("lead"));
        story.answered(0);
        let mail = story.sends("lead");
        let id = story.world.disk.committed.deliveries[&mail].mail.to_string();
        story.asks(1, Request::Wait(Wait { id, until: Until::Consumed, timeout_ms: 600_000 }));
        story.asks(0, Request::Remove(One { name: "lead".to_owned() }));
        let asked_at = story.world.now;
        story.answered(1);
        assert!(story.state(mail) == DeliveryState::Failed && story.world.now.since(asked_at) < 100);
    });
}

/// A connection that breaks ends no turn: who wants one ended is told so when it has, and not before (TQ-5).
#[test]
fn an_interrupt_outlives_a_broken_connection() {
    tell(|story| {
        let (nonce, turn) = story.long_turn("lead");
        story.asks(0, Request::Interrupt(One { name: "lead".to_owned() }));
        story.world.connection_breaks(nonce);
        story.answered(0);
        assert!(!story.runs(nonce, &turn), "the person is told that it was interrupted");
    });
}

/// What is stopped while its child cannot be heard is left when it can be: no turn runs on in a session that is down (NB-9, TQ-8).
#[test]
fn a_stop_while_the_connection_is_broken_leaves_no_turn() {
    for closes in [true, false] {
        tell(|story| {
            story.spawn("reviewer");
            let (nonce, turn) = story.long_turn("lead");
            story.world.connection_breaks(nonce);
            let name = "lead".to_owned();
            story.asks(
                0,
                match closes {
                    true => Request::Close(Close { name, now: false }),
                    false => Request::Down(Down { names: vec![name], now: false }),
                },
            );
            story.answered(0);
            assert!(!story.runs(nonce, &turn), "it runs on, and nobody knows");
        });
    }
}

/// Words of the person whose turn a close interrupts before it had them do not go in at the next start (TQ-4, TQ-8); mail behind
/// them is kept, and does (TQ-2).
#[test]
fn words_that_a_close_cut_off_are_not_met_at_the_next_start() {
    tell(|story| {
        story.asks(0, Request::Prompt(Prompt { name: "lead".to_owned(), text: "go".to_owned(), key: None }));
        story.answered(0);
        let said = *story.world.disk.committed.deliveries.last_key_value().expect("accepted means on disk").0;
        story.until_state(said, DeliveryState::Claimed);
        story.for_a_moment();
        let mail = story.sends("lead");
        story.asks(0, Request::Close(Close { name: "lead".to_owned(), now: false }));
        story.answered(0);
        let state = story.state(said);
        story.asks(0, Request::Up(Names { names: vec!["lead".to_owned()] }));
        story.until_state(mail, DeliveryState::Consumed);
        assert!(matches!(state, DeliveryState::Cancelled | DeliveryState::Consumed), "{state:?}");
        assert_eq!(story.told(said), usize::from(state == DeliveryState::Consumed));
    });
}

/// Mail that comes while a session that mail wakes is being closed waits until it is down and its closer was told (TQ-8).
#[test]
fn mail_does_not_undo_a_close() {
    tell(|story| {
        story.spawn_sleeper("reviewer");
        story.asks(0, Request::Up(Names { names: vec!["reviewer".to_owned()] }));
        story.answered(0);
        let before = story.world.now;
        story.asks(0, Request::Close(Close { name: "reviewer".to_owned(), now: false }));
        story.writes("reviewer", Priority::Normal);
        story.answered(0);
        assert!(story.world.now.since(before) < 15_000, "the closer is told when it is down");
        let mail = *story.world.disk.committed.deliveries.last_key_value().expect("accepted means on disk").0;
        assert!(!story.went_through(mail, DeliveryState::Claimed), "it goes in when that is over");
        story.until_state(mail, DeliveryState::Consumed);
    });
}

/// Who wants a session up while it is being closed gets it, and the closer is told at once that it is not down (TQ-8).
#[test]
fn a_session_that_is_wanted_again_is_not_closed() {
    tell(|story| {
        let _ = story.long_turn("lead");
        story.asks(0, Request::Close(Close { name: "lead".to_owned(), now: false }));
        story.for_a_moment();
        let before = story.world.now;
        story.asks(0, Request::Up(Names { names: vec!["lead".to_owned()] }));
        story.answered(0);
        assert!(story.world.now.since(before) < 5_000, "both are answered as soon as it is up");
        let mail = story.sends("lead");
        story.until_state(mail, DeliveryState::Consumed);
    });
}

/// A late question of a removed session's turn does not hold up the next session of that name (TQ-8, NB-9).
#[test]
fn an_approval_of_a_removed_session_is_not_the_next_ones() {
    tell(|story| {
        story.spawn("reviewer");
        let nonce = story.child();
        story.asks(0, Request::Remove(One { name: "reviewer".to_owned() }));
        story.answered(0);
        let session = Name::parse("reviewer").expect("a name in the grammar");
        let event = plain::approval_asked(session, "late");
        story.world.reaches_relay(Input::Child { nonce, event });
        story.spawn("reviewer");
        let mail = story.sends("reviewer");
        let sent_at = story.world.now;
        story.until_state(mail, DeliveryState::Consumed);
        assert!(story.world.now.since(sent_at) < 2_000, "nobody has to answer for the other one first");
    });
}
