//! Stories: the named cases, each in a few lines, told in the same world that the seeds live in.
//!
//! **Invariant:** a story's name is the promise that it keeps; the fault that it answers stands above it.

use agentmux::core::policy::Policy;
use agentmux::model::limits;
use agentmux::model::mail::{DeliveryState, Priority, When};
use agentmux::model::name::Name;
use agentmux::protocol::request::{Down, Hold, MailRef, Names, One, Prompt, Release, Request, Send, Settle};

use crate::disk::DeliveryRow;
use crate::shell::CrashPoint;
use crate::story::{down, tell, tell_in};

/// Mail is not delivered because bytes were written (SQ-7): an interrupted turn never took it.
#[test]
fn a_turn_that_ends_without_our_input_goes_back_to_queued() {
    tell(|story| {
        let mail = story.sends("lead");
        let (child, thread) = (story.child(), story.thread("lead"));
        let interrupted = story.turn_shows_first("lead");
        if interrupted {
            story.world.interrupt_turn(child, &thread);
        }
        story.until_state(mail, DeliveryState::Consumed);
        assert_eq!((story.told(mail), story.went_through(mail, DeliveryState::Queued)), (1, interrupted));
    });
}

/// The child dies mid-turn (NB-6), its claim ends without the mail (SQ-4), and what it answered is no read mark (NB-8).
#[test]
fn child_dies_between_response_and_evidence() {
    tell(|story| {
        let mail = story.sends("lead");
        let died = story.turn_shows_first("lead");
        if died {
            let child = story.child();
            story.world.child_dies(child);
            story.until_state(mail, DeliveryState::Unknown);
        }
        let died_at = story.world.now;
        story.until_state(mail, DeliveryState::Consumed);
        assert!(story.world.now.since(died_at) < 2_000, "a dead child's history is believed at once");
        assert_eq!((story.told(mail), story.went_through(mail, DeliveryState::Queued)), (1, died));
    });
}

/// An outcome is recorded before its effect can be repeated (SQ-13): the second request meets the first one's row.
#[test]
fn two_equal_keys_in_one_lap_store_one_mail() {
    tell(|story| {
        let (to, body, key) = (vec!["lead".to_owned()], "once".to_owned(), Some("key".to_owned()));
        let send = Request::Send(Send { to, body, key, ..Send::default() });
        story.asks(0, send.clone());
        story.asks(1, send);
        story.answered(0);
        story.answered(1);
        assert_eq!(story.world.disk.committed.mails.len(), 1);
    });
}

/// A request hangs in a living child past its lease; a late answer still finds its mail (NB-4).
#[test]
fn late_evidence_settles_a_requeued_mail() {
    tell(|story| {
        story.world.shape.applies_slowly = 1_000;
        let mail = story.sends("lead");
        story.until_state(mail, DeliveryState::Unknown);
        story.world.shape.refuses_for_now = 1_000;
        story.until_state(mail, DeliveryState::Consumed);
        assert_eq!(story.told(mail), 1);
    });
}

/// Accepted means on disk, whoever heard of it (SQ-1, SQ-2).
#[test]
fn relay_crash_after_commit_before_release_tells_nobody_and_loses_nothing() {
    tell(|story| {
        story.writes("lead", Priority::Normal);
        story.crashes(CrashPoint::AfterCommit);
        assert!(story.world.witness.accepted.is_empty() && story.world.disk.committed.mails.len() == 1);
        let mail = *story.world.disk.committed.deliveries.first_key_value().unwrap().0;
        story.until_state(mail, DeliveryState::Consumed);
        assert_eq!(story.told(mail), 1);
    });
}

/// What was not committed was never promised (SQ-1).
#[test]
fn relay_crash_before_commit_tells_nobody_and_stores_nothing() {
    tell(|story| {
        story.writes("lead", Priority::Normal);
        story.crashes(CrashPoint::BeforeCommit);
        assert!(story.world.witness.accepted.is_empty() && story.world.disk.committed.mails.is_empty());
        assert_eq!(story.history("lead").len(), 0);
    });
}

/// The relay crashes while a turn of ours runs; the next one finds it, and tells nobody twice (SQ-4, SQ-5).
#[test]
fn relay_crash_during_our_turn_finds_the_claim_again() {
    tell(|story| {
        let mail = story.sends("lead");
        story.turn_shows_first("lead");
        let child = story.child();
        story.world.crash(CrashPoint::AfterRelease);
        story.world.relay_starts();
        story.until_state(mail, DeliveryState::Consumed);
        assert_eq!((story.told(mail), story.child()), (1, child), "the child outlives the relay");
    });
}

/// A turn that waits for an approval for a quarter of an hour costs no mail (SQ-3), and mail is not refused meanwhile (TQ-7).
#[test]
fn mail_outlives_a_turn_that_takes_longer_than_anybody_waits() {
    tell(|story| {
        story.world.shape.asks_approval = 1_000;
        let (first, later) = (story.sends("lead"), story.sends("lead"));
        story.until_state(first, DeliveryState::Consumed);
        story.until_state(later, DeliveryState::Consumed);
        assert_eq!((story.told(first), story.told(later)), (1, 1));
    });
}

/// Urgent before normal before fyi, first in first out inside each, whatever the order of sending (TQ-1, SQ-6).
#[test]
fn mail_goes_by_priority_and_then_in_the_order_of_sending() {
    tell(|story| {
        let down = Down { names: vec!["lead".to_owned()], now: false };
        story.asks(0, Request::Down(down));
        story.answered(0);
        for priority in [Priority::Fyi, Priority::Normal, Priority::Normal, Priority::Urgent, Priority::Fyi] {
            story.writes("lead", priority);
        }
        story.asks(0, Request::Up(Names::default()));
        story.until("a turn", |world| world.disk.committed.claims.len() == 1);
        let claim = story.world.disk.committed.claims.values().next().unwrap();
        assert_eq!(claim.deliveries.iter().map(|id| id.0).collect::<Vec<_>>(), [4, 2, 3, 1, 5]);
    });
}

/// Mail of two sessions never meets: each goes into its own thread (NB-1).
#[test]
fn each_session_gets_its_own_mail() {
    tell(|story| {
        story.spawn("reviewer");
        let (to_lead, to_reviewer) = (story.sends("lead"), story.sends("reviewer"));
        let sent_at = story.world.now;
        story.until_state(to_lead, DeliveryState::Consumed);
        story.until_state(to_reviewer, DeliveryState::Consumed);
        assert!(story.world.now.since(sent_at) < 1_500, "an idle session is told at once");
        for (name, mail) in [("lead", to_lead), ("reviewer", to_reviewer)] {
            let claims = story.history(name);
            assert_eq!(story.world.disk.committed.claims[&claims[0]].deliveries, [mail]);
        }
    });
}

/// A place of those that mail may wake is free again when its session is removed, or given up: nobody waits for ever (TQ-7).
#[test]
fn a_place_of_a_woken_session_is_free_when_it_is_gone() {
    for removes in [true, false] {
        tell(|story| {
            story.relay_with(Policy { wake_max: 1, ..Policy::default() });
            story.spawn_sleeper("scout");
            story.spawn_sleeper("tester");
            story.world.shape.says_nothing = if removes { 1_000 } else { 0 };
            story.world.shape.thread_refused = if removes { 0 } else { 1_000 };
            let _ = story.sends("scout");
            story.for_ms(if removes { 100 } else { 1_000_000 });
            (story.world.shape.says_nothing, story.world.shape.thread_refused) = (0, 0);
            let mail = story.sends("tester");
            story.for_ms(100);
            if removes {
                story.asks(0, Request::Remove(One { name: "scout".to_owned() }));
            }
            story.until_state(mail, DeliveryState::Consumed);
            assert_eq!(story.told(mail), 1);
        });
    }
}

/// A relay that crashes forgets whom mail had woken; what was on its way is settled all the same (SQ-4).
#[test]
fn mail_in_doubt_wakes_a_sleeper_again() {
    tell(|story| {
        story.spawn_sleeper("scout");
        let mail = story.sends("scout");
        story.until("the claim", |world| world.disk.committed.deliveries[&mail].path.len() == 1);
        story.relay_with(Policy::default());
        story.until_state(mail, DeliveryState::Consumed);
        assert_eq!(story.told(mail), 1);
    });
}

/// What a person has had expire is not called delivered by a late word of the reader (SQ-3): its sender was told.
#[test]
fn mail_that_expired_cannot_be_acked() {
    tell(|story| {
        let (to, body, expires_ms) = (vec!["operator".to_owned()], "soon".to_owned(), Some(50));
        story.world.client_connects(2, true);
        story.asks(2, Request::Send(Send { to, body, expires_ms, ..Send::default() }));
        story.answered(2);
        let mail = *story.world.disk.committed.deliveries.last_key_value().unwrap().0;
        story.until_state(mail, DeliveryState::Expired);
        let id = story.world.disk.committed.deliveries[&mail].mail.to_string();
        story.asks(0, Request::Ack(Settle { id, name: None }));
        story.answered(0);
        assert_eq!(story.state(mail), DeliveryState::Expired);
    });
}

/// Symptom: notices of mail that expired piled up for a person who reads none, until mail to that person was refused. Now: the last
/// hundred wait; the older ones are taken back, and say why.
#[test]
fn notices_that_nobody_reads_make_room_for_newer_ones() {
    tell_in(4, |story| {
        story.asks(0, down("lead"));
        story.answered(0);
        for _ in 0..limits::NOTICES_MAX + 7 {
            let (to, body, expires_ms) = (vec!["lead".to_owned()], "soon".to_owned(), Some(5));
            story.asks(0, Request::Send(Send { to, body, expires_ms, ..Send::default() }));
            story.answered(0);
            story.for_ms(10);
        }
        let rows = story.world.disk.committed.deliveries.values();
        let notices: Vec<_> = rows.filter(|row| row.to == Name::operator()).collect();
        assert_eq!(notices.len(), limits::NOTICES_MAX + 7);
        let (old, newer) = notices.split_at(7);
        assert!(newer.iter().all(|row| row.state == DeliveryState::Queued), "{newer:?}");
        let is_told =
            |row: &DeliveryRow| row.note.as_deref() == Some("100 newer notices have not been read either");
        assert!(old.iter().all(|row| row.state == DeliveryState::Cancelled && is_told(row)), "{old:?}");
    });
}

/// Symptom: mail that had gone in with one that its recipient acked was `submitted` for ever when the child died, and what was acked on
/// its way was told again. Cause: an ack ended the claim of all of them, and moved none that the child had not answered for. Now: it is
/// about that one mail, wherever that is (G2, G9).
#[test]
fn an_ack_of_mail_on_its_way_is_about_that_mail_alone() {
    let under_way = std::cell::Cell::new(0);
    tell(|story| {
        let hold = Hold { name: "lead".to_owned(), for_ms: None };
        story.asks(0, Request::Hold(hold));
        let (acked, other) = (story.sends("lead"), story.sends("lead"));
        story.world.clients.all[2].agent = Name::parse("lead");
        story.world.client_connects(2, true);
        story.answered(2);
        story.asks(0, Request::Release(Release { target: "lead".to_owned() }));
        story.until("the claim of both", |world| {
            let path = |id| &world.disk.committed.deliveries[&id].path;
            path(acked).contains(&DeliveryState::Claimed) && path(other).contains(&DeliveryState::Claimed)
        });
        story.for_a_moment();
        let id = story.world.disk.committed.deliveries[&acked].mail.to_string();
        story.asks(2, Request::Ack(Settle { id, name: None }));
        under_way.set(under_way.get() + u32::from(story.state(acked).is_open()));
        let child = story.child();
        story.world.child_dies(child);
        story.until_state(acked, DeliveryState::Acked);
        story.until_state(other, DeliveryState::Consumed);
        assert!(story.told(other) == 1 && story.told(acked) <= 1);
        story.for_ms(10_000);
        assert_eq!(story.state(acked), DeliveryState::Acked, "it is not told again");
    });
    assert!(under_way.get() > 20, "in {} of 100 worlds only", under_way.get());
}

/// Mail for now that does not fit one turn does not interrupt its own first half before that was taken (TQ-7).
#[test]
fn mail_for_now_does_not_chase_itself() {
    tell(|story| {
        for _ in 0..15 {
            let (to, body, when) = (vec!["lead".to_owned()], "stop".to_owned(), Some(When::Now));
            story.asks(0, Request::Send(Send { to, body, when, ..Send::default() }));
        }
        story.answered(0);
        let sent_at = story.world.now;
        let all: Vec<_> = story.world.disk.committed.deliveries.keys().copied().collect();
        for mail in all {
            story.until_state(mail, DeliveryState::Consumed);
            assert!(
                !story.went_through(mail, DeliveryState::Queued),
                "{mail:?} went in at the first attempt"
            );
            assert_eq!(story.told(mail), 1);
        }
        assert!(story.world.now.since(sent_at) < 60_000);
    });
}

/// Cancelling is a request like any other (TQ-5): what waits is told to nobody, and what a child may hold is not taken back.
#[test]
fn mail_that_waits_is_taken_back_and_no_other() {
    tell(|story| {
        let first = story.sends("lead");
        story.until("the claim", |world| !world.disk.committed.deliveries[&first].path.is_empty());
        let second = story.sends("lead");
        for mail in [first, second] {
            let id = story.world.disk.committed.deliveries[&mail].mail.to_string();
            story.asks(0, Request::Cancel(MailRef { id }));
            story.answered(0);
        }
        let cancelled = story.state(second) == DeliveryState::Cancelled;
        story.until_state(first, DeliveryState::Consumed);
        if !cancelled {
            story.until_state(second, DeliveryState::Consumed);
        }
        story.for_ms(10_000);
        assert_eq!((story.told(first), story.told(second)), (1, usize::from(!cancelled)));
    });
}

/// A session that is always busy starves nobody (TQ-7): mail whose patience is over joins the running turn, in order.
#[test]
fn mail_whose_patience_is_over_joins_the_running_turn() {
    tell(|story| {
        story.relay_with(Policy { patience_ms: 0, ..Policy::default() });
        story.world.shape.tools = 1_000;
        let first = story.sends("lead");
        story.until_state(first, DeliveryState::Consumed);
        let second = story.sends("lead");
        story.until_state(second, DeliveryState::Consumed);
        let rows = &story.world.disk.committed.deliveries;
        assert!(
            rows[&first].turn.is_some() && rows[&first].turn == rows[&second].turn,
            "the turn never ends"
        );
        assert_eq!((story.told(first), story.told(second)), (1, 1));
        story.world.shape.tools = 0;
    });
}

/// A hold holds back mail for now, too: it interrupts nothing because the person's words may go in meanwhile (TQ-1).
#[test]
fn held_mail_for_now_interrupts_nothing() {
    tell(|story| {
        let (nonce, turn) = story.long_turn("lead");
        story.asks(0, Request::Hold(Hold { name: "lead".to_owned(), for_ms: None }));
        let (to, body, when) = (vec!["lead".to_owned()], "now".to_owned(), Some(When::Now));
        story.asks(0, Request::Send(Send { to, body, when, ..Send::default() }));
        story.asks(0, Request::Prompt(Prompt { name: "lead".to_owned(), text: "and".to_owned(), key: None }));
        story.answered(0);
        story.for_ms(100);
        assert!(story.runs(nonce, &turn), "nobody let that mail go");
    });
}
