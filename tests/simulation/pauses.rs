//! Stories of children that refuse or say nothing: how long mail is left alone, and that it is not left for ever.

use std::cell::RefCell;
use std::collections::BTreeSet;

use agentmux::model::mail::DeliveryState;

use crate::story::tell;

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
