//! Children that hang: found out by a question and a deadline, never by waiting for ever; told by name; followed by another one.
//!
//! **Invariant:** only the world's clock moves, so that the limits themselves are tested, and no test waits for them.

use agentmux::core::input::Input;
use agentmux::core::policy::Policy;
use agentmux::core::record::DeliveryId;
use agentmux::model::child::ChildEvent;
use agentmux::model::id::{Nonce, TurnId};
use agentmux::model::limits;
use agentmux::model::mail::DeliveryState;
use agentmux::model::name::Name;
use agentmux::protocol::request::{Names, Request};

use crate::story::{Story, tell};

/// Turns of the wheel beside a deadline: what comes close together is read in one lap.
const LAPS_MS: i64 = 200;

/// What `list` says of the first session.
fn listed(story: &mut Story) -> (String, String) {
    story.asks(0, Request::List);
    story.answered(0);
    let session = story.world.clients.listed.first().expect("there is a session");
    (session.state.as_str().to_owned(), session.reason.clone().unwrap_or_default())
}

fn ended(story: &Story, child: Nonce) -> bool {
    !story.world.codex.processes.contains_key(&child)
}

/// A child that hangs from now on, in a turn that would run for ever; when it is killed, what is asked of the next one is answered.
fn hangs_until_killed(story: &mut Story, child: Nonce) -> i64 {
    let since = story.world.now;
    story.world.shape.says_nothing = 1_000;
    story.until("the hung child's end", |world| !world.codex.processes.contains_key(&child));
    story.world.shape.says_nothing = 0;
    story.world.now.since(since)
}

/// The next child goes on in the same thread with the mail that waited, which it reads once; `list` says why the one before was killed.
fn goes_on(story: &mut Story, thread: &str, waits: DeliveryId, why: &str) {
    story.until("the next child", |world| world.codex.processes.len() == 1);
    let (state, reason) = listed(story);
    assert!(reason.contains(why), "{state}: {reason}");
    story.until_state(waits, DeliveryState::Consumed);
    assert_eq!((story.told(waits), &*story.thread("lead")), (1, thread));
}

/// NB-5, NB-6: a turn that is silent is asked about; who does not answer twice is hung: it is killed, that is told as the reason, and
/// the next child goes on in the same thread, with the mail that waited, once.
#[test]
fn a_child_that_hangs_while_a_turn_runs_is_asked_twice_killed_and_followed_by_another() {
    let (silent_ms, patience) = (Policy::default().silent_ms, limits::LEASE_MS);
    tell(|story| {
        let (child, _) = story.long_turn("lead");
        let thread = story.thread("lead");
        let waits = story.sends("lead");
        let took = hangs_until_killed(story, child);
        let exact = silent_ms + i64::from(limits::UNANSWERED_MAX) * patience;
        assert!((exact - LAPS_MS..exact + LAPS_MS).contains(&took), "{took} ms, not about {exact}");
        goes_on(story, &thread, waits, "no longer answered, and was killed: no room");
    });
}

/// NB-6: a child that never stops talking is ended, that is told as the reason, and the next one goes on with its threads and its mail.
#[test]
fn a_child_that_floods_is_killed_told_and_followed_by_another() {
    tell(|story| {
        let (child, _) = story.long_turn("lead");
        let thread = story.thread("lead");
        let waits = story.sends("lead");
        story.world.reaches_relay(Input::ChildFlooded { nonce: child, what: "7 messages".to_owned() });
        story.until("the end of the child", |world| !world.codex.processes.contains_key(&child));
        goes_on(story, &thread, waits, "it said 7 messages, and was killed: no room");
    });
}

/// NB-5: who wants to know sooner (`silent_after`) has the answer sooner, and a busy machine still has its time.
#[test]
fn a_silence_that_is_asked_about_sooner_is_judged_sooner() {
    tell(|story| {
        story.relay_with(Policy { silent_ms: 1_000, ..Policy::default() });
        let (child, _) = story.long_turn("lead");
        let took = hangs_until_killed(story, child);
        let answers = i64::from(limits::UNANSWERED_MAX) * limits::ANSWER_MS_MIN;
        // It may be asked for the first time in the moment in which it begins to hang.
        let range = answers - LAPS_MS..answers + 1_000 + LAPS_MS;
        assert!(range.contains(&took), "{took} ms is not in {range:?}");
    });
}

/// NB-5: a silent turn of a child that answers is never ended by us, however long it takes.
#[test]
fn a_child_that_answers_is_not_killed_for_a_silent_turn() {
    tell(|story| {
        let (child, turn) = story.long_turn("lead");
        story.for_ms(5 * Policy::default().silent_ms);
        assert!(story.runs(child, &turn), "it runs on");
        let (state, reason) = listed(story);
        assert!(state == "busy" && reason.contains("its child says that it goes on"), "{state}: {reason}");
    });
}

/// Symptom: with mail queued, a child that had called its silent turn running was asked again at each sweep. Cause: the silence went on
/// counting from its last word of the turn. Now: it is asked again after as long as the first time.
#[test]
fn a_silent_turn_is_asked_about_once_in_a_silence_whatever_waits() {
    tell(|story| {
        let (child, turn) = story.long_turn("lead");
        let since = story.world.now;
        let waits = story.sends("lead");
        let silent_ms = Policy::default().silent_ms;
        story.for_ms(2 * silent_ms + silent_ms / 2);
        assert!(story.runs(child, &turn), "it runs on");
        assert_eq!(story.state(waits), DeliveryState::Queued);
        let asked = story.asked("status", since);
        assert_eq!(asked.len(), 2, "in two and a half silences: {asked:?}");
    });
}

/// Symptom: a child that had accepted a turn, never began it and said that none runs was asked about it for ever, as fast as it answered,
/// and its mail stayed `submitted`. Now: that turn is over, and the mail, which is in no history, goes in again.
#[test]
fn an_accepted_turn_that_never_begins_is_over_when_its_child_says_so() {
    tell(|story| {
        let since = story.world.now;
        story.world.shape.says_nothing = 1_000;
        let mail = story.sends("lead");
        story.for_ms(LAPS_MS);
        story.world.shape.says_nothing = 0;
        let nonce = story.child();
        if story.world.counts.lost_inputs == 0 {
            return; // It has begun after all.
        }
        let claim = *story.world.disk.committed.claims.last_key_value().expect("it was claimed").0;
        let (session, turn) = (Name::parse("lead").expect("a name"), TurnId::from("turn-lost"));
        let event = ChildEvent::TurnAccepted { session, claim, turn };
        story.world.reaches_relay(Input::Child { nonce, event });
        story.until_state(mail, DeliveryState::Consumed);
        assert_eq!((story.told(mail), story.asked("status", since).len()), (1, 1));
        let took = story.world.now.since(since);
        assert!(took < Policy::default().silent_ms + limits::ABSENCE_MS + 2_000, "{took} ms");
    });
}

/// Symptom: the first turn after a long idle time was asked about as soon as it went out. Cause: the silence counted from the last word
/// before it.
#[test]
fn the_time_before_a_turn_is_no_silence() {
    tell(|story| {
        let silent_ms = Policy::default().silent_ms;
        story.for_ms(2 * silent_ms);
        let since = story.world.now;
        let _ = story.long_turn("lead");
        story.for_ms(silent_ms / 2);
        assert_eq!(story.asked("status", since), []);
    });
}

/// Symptom: a turn that had waited 9 s for an approval was called silent in the moment in which that was given, with `silent_after` of
/// 5 s. Cause: the silence counted from the question. Now: from its answer, because until then the turn could say nothing.
#[test]
fn the_time_of_an_approval_is_no_silence() {
    const SILENT_MS: i64 = 5_000;
    tell(|story| {
        story.relay_with(Policy { silent_ms: SILENT_MS, ..Policy::default() });
        let (child, _) = story.long_turn("lead");
        let (since, thread) = (story.world.now, story.thread("lead"));
        story.world.codex.turn(child, &thread).expect("it runs").approval = Some("sure".to_owned());
        story.world.approval_is_asked(child, &thread, "sure");
        story.for_ms(2 * SILENT_MS);
        story.world.approval_is_settled(child, &thread, "sure");
        let settled_at = story.world.now;
        story.for_ms(SILENT_MS - LAPS_MS);
        assert_eq!(
            story.asked("status", since),
            [],
            "it is not asked about before it was silent for so long"
        );
        assert_eq!(listed(story), ("busy".to_owned(), String::new()));
        story.for_ms(2 * LAPS_MS);
        let asked = story.asked("status", since);
        assert!(asked.len() == 1 && asked[0].since(settled_at) >= SILENT_MS, "{asked:?}, {settled_at:?}");
    });
}

/// SQ-7, NB-5: mail that was on its way into a child that hangs is in doubt, is looked for in the next child's history, and goes in once.
#[test]
fn mail_on_its_way_into_a_child_that_hangs_is_settled_by_the_next_one() {
    tell(|story| {
        let child = story.child();
        story.world.shape.says_nothing = 1_000;
        let mail = story.sends("lead");
        story.until("the end of the hung child, or the mail's", |world| {
            let consumed = world.disk.committed.deliveries[&mail].state == DeliveryState::Consumed;
            consumed || !world.codex.processes.contains_key(&child)
        });
        story.world.shape.says_nothing = 0;
        if ended(story, child) {
            assert!(story.went_through(mail, DeliveryState::Unknown));
            story.until("the report", |world| world.codex.processes.len() == 1);
            let (state, reason) = listed(story);
            assert!(reason.contains("no longer answered, and was killed"), "{state}: {reason}");
        }
        story.until_state(mail, DeliveryState::Consumed);
        assert_eq!(story.told(mail), 1);
    });
}

/// NB-5, BS-4: a child that is started and never ready is killed when its 20 s are over, and told so; five in a row are given up, the
/// mail waits, and `up` begins anew.
#[test]
fn a_child_that_is_never_ready_is_killed_after_its_time_and_given_up_after_five() {
    tell(|story| {
        let first = story.child();
        story.world.shape.never_ready = 1_000;
        story.world.child_dies(first);
        story.until("the next child", |world| !world.codex.processes.is_empty());
        let mail = story.sends("lead");
        let mut killed = Vec::new();
        while listed(story).0 != "failed" {
            story.until("the next child", |world| !world.codex.processes.is_empty());
            let (child, since) = (story.child(), story.world.now);
            assert!(!killed.contains(&child), "each is another one");
            story.until("its end", |world| !world.codex.processes.contains_key(&child));
            let took = story.world.now.since(since);
            let exact = limits::CHILD_START_MS;
            assert!((exact - LAPS_MS..exact + LAPS_MS).contains(&took), "{took} ms, not about {exact}");
            killed.push(child);
            story.for_ms(LAPS_MS);
            let (state, reason) = listed(story);
            assert!(reason.contains("did not answer within 20 s, and was killed"), "{state}: {reason}");
        }
        assert_eq!(killed.len(), limits::CRASH_LOOP_EXITS);
        let (_, reason) = listed(story);
        assert!(reason.contains("given up after 5 exits: it did not answer within 20 s"), "{reason}");
        story.for_ms(600_000);
        assert!(story.world.codex.processes.is_empty(), "it is given up");
        assert_eq!(story.state(mail), DeliveryState::Queued);
        story.world.shape.never_ready = 0;
        story.asks(0, Request::Up(Names { names: vec!["lead".to_owned()] }));
        story.until_state(mail, DeliveryState::Consumed);
        assert_eq!(story.told(mail), 1);
    });
}

/// Users 24: who is refused for now (`-32001`, server overloaded) tries again later each time, and never all at the same moment.
#[test]
fn a_child_that_is_overloaded_is_tried_again_later_each_time_with_jitter() {
    let pauses = std::cell::RefCell::new(std::collections::BTreeSet::new());
    tell(|story| {
        story.world.shape.refuses_for_now = 1_000;
        let mail = story.sends("lead");
        let mut refused_at = Vec::new();
        for times in 1..=10 {
            let refusals = |world: &crate::world::World| {
                let path = &world.disk.committed.deliveries[&mail].path;
                path.iter().filter(|state| **state == DeliveryState::Claimed).count()
            };
            story.until("the next attempt", |world| refusals(world) >= times);
            refused_at.push(story.world.now);
        }
        let waited: Vec<i64> = refused_at.windows(2).map(|pair| pair[1].since(pair[0])).collect();
        for (number, pause) in waited.iter().enumerate() {
            let longest = (limits::RETRY_MS_MIN << number).min(limits::RETRY_MS_MAX);
            let range = longest / 2..=longest + LAPS_MS;
            assert!(range.contains(pause), "pause {number} of {waited:?} is not in {range:?}");
        }
        pauses.borrow_mut().insert(waited[8] / 10);
        story.world.shape.refuses_for_now = 0;
        story.until_state(mail, DeliveryState::Consumed);
        assert_eq!(story.told(mail), 1);
    });
    let different = pauses.borrow().len();
    assert!(different > 50, "of 100 last pauses only {different} are different ones");
}
