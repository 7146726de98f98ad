//! Holding and waking: a person holds a session's mail back, and mail wakes a session that sleeps.
//!
//! | Session | Mail that may start a turn |
//! | --- | --- |
//! | held | waits until the hold is over or released; a turn that runs goes on |
//! | stopped, `wake` not set | waits until somebody says `up` |
//! | stopped, `wake` set | wakes it (also mail in doubt), if it came after the stop and a place is free; it sleeps again when idle |
//!
//! **Invariant:** what is wanted of a session is not changed by waking it; only `up` and `down` change it.

use super::record::{DeliveryId, Record};
use super::running::{Phase, Running};
use super::timer::Timer;
use super::{Core, Step};
use crate::model::clock::Millis;
use crate::model::limits;
use crate::model::mail::{DeliveryState, Priority, When};
use crate::model::name::Name;
use crate::model::session::{ChildKey, HELD_FOR_EVER, Session, SessionState, Wanted};

impl Core {
    /// Whether a session's mail is held back. A hold that is over ends by its timer.
    pub(super) fn is_held(&self, name: &Name) -> bool {
        self.ledger.sessions.get(name).is_some_and(|session| session.held_until.is_some())
    }

    /// Holds a session's mail back until a moment, or releases it.
    pub(super) fn hold(&mut self, step: &mut Step, name: &Name, until: Option<Millis>) {
        if self.ledger.sessions.get(name).is_some_and(|session| session.held_until != until) {
            self.record(step, Record::SessionHeld { name: name.clone(), until });
        }
        self.arm_hold(name);
        self.touch(name);
    }

    /// Sets the timer that ends a session's hold.
    pub(super) fn arm_hold(&mut self, name: &Name) {
        let until = self.ledger.sessions.get(name).and_then(|session| session.held_until);
        match until.filter(|until| *until != HELD_FOR_EVER) {
            Some(until) => self.timers.set(Timer::Hold(name.clone()), until),
            None => self.timers.clear(&Timer::Hold(name.clone())),
        }
    }

    /// Wakes a sleeping session for new mail, and lets it sleep again when it has had nothing to do for a while.
    pub(super) fn evaluate_wake(&mut self, step: &mut Step, name: &Name) {
        let Some(session) = self.ledger.sessions.get(name) else { return };
        let sleeps = session.wake && session.wanted == Wanted::Down && self.stop.is_none();
        let woken = self.sessions.get(name).is_some_and(|running| running.woken);
        if !sleeps {
            if woken {
                self.set_woken(name, false);
            }
            return;
        }
        let wakes = self.has_mail_that_wakes(name);
        let has_work = wakes || self.ledger.open_claims(name).next().is_some();
        match woken {
            // A stop is not undone by what comes meanwhile: first the session is down, and whoever waits for that is told.
            false if wakes && (self.has_open_thread(name) || self.is_awaited_down(name)) => {}
            false if wakes && self.has_a_place_to_wake() => {
                self.set_woken(name, true);
            }
            true if has_work || self.is_in_use(name) => self.timers.clear(&Timer::Linger(name.clone())),
            true => self.timers.set_once(Timer::Linger(name.clone()), step.now.plus(limits::WAKE_LINGER_MS)),
            false => {}
        }
    }

    /// A child that outlived its relay may be in the turn of a session that mail had woken: it goes on, and sleeps in its time.
    pub(super) fn wake_survivors(&mut self, key: ChildKey) {
        let of_child =
            |session: &&Session| session.child_key == key && session.wake && session.wanted == Wanted::Down;
        let names: Vec<Name> =
            self.ledger.sessions.values().filter(of_child).map(|session| session.name.clone()).collect();
        names.iter().for_each(|name| self.set_woken(name, true));
    }

    /// A woken session has had nothing to do for a while.
    pub(super) fn handle_linger_over(&mut self, name: &Name) {
        let has_doubt = self.ledger.open_claims(name).next().is_some();
        if !self.is_in_use(name) && !self.has_mail_that_wakes(name) && !has_doubt {
            self.set_woken(name, false);
        }
        self.touch(name);
    }

    pub(super) fn set_woken(&mut self, name: &Name, woken: bool) {
        self.timers.clear(&Timer::Linger(name.clone()));
        if let Some(running) = self.sessions.get_mut(name) {
            running.woken = woken;
            running.closed &= !woken;
        }
        self.touch(name);
        if !woken {
            self.touch_sleepers();
        }
    }

    /// A place may be free for another session that mail waits to wake.
    pub(super) fn touch_sleepers(&mut self) {
        let sleepers: Vec<Name> =
            self.ledger.sessions.values().filter(|s| s.wake).map(|s| s.name.clone()).collect();
        sleepers.iter().for_each(|name| self.touch(name));
    }

    /// Whether a session has mail that came after its stop and may start a turn, or that is on its way: a relay that crashed has
    /// forgotten whom it woke, and doubt is only settled by a child.
    pub(super) fn has_mail_that_wakes(&self, name: &Name) -> bool {
        !self.is_held(name) && self.has_later_mail(name)
    }

    fn has_later_mail(&self, name: &Name) -> bool {
        let (Some(session), Some(queue)) = (self.ledger.sessions.get(name), self.ledger.queue(name)) else {
            return false;
        };
        let wakes = |id: &DeliveryId| {
            self.ledger.deliveries.get(id).is_some_and(|delivery| match delivery.state {
                DeliveryState::Queued => {
                    (delivery.priority != Priority::Fyi || delivery.when == Some(When::Now))
                        && !delivery.braked
                }
                _ => true,
            })
        };
        let mut later = queue.open.range(DeliveryId(session.stopped_after.saturating_add(1))..);
        session.wake && later.any(wakes)
    }

    /// Whether a sleeping session has mail that wakes it, now or when its hold is over.
    pub(super) fn is_to_wake(&self, name: &Name) -> bool {
        let held = self.ledger.sessions.get(name).and_then(|session| session.held_until);
        held != Some(HELD_FOR_EVER)
            && self.shown_state(name) != SessionState::Failed
            && self.has_later_mail(name)
    }

    pub(super) fn has_a_place_to_wake(&self) -> bool {
        self.woken_count() < self.settings.policy.wake_max
    }

    /// Sessions that mail has woken; one that was given up takes nobody's place.
    fn woken_count(&self) -> usize {
        let counts = |(name, running): &(&Name, &Running)| {
            running.woken && self.shown_state(name) != SessionState::Failed
        };
        self.sessions.iter().filter(counts).count()
    }

    fn has_open_thread(&self, name: &Name) -> bool {
        self.sessions.get(name).is_some_and(|running| matches!(running.phase, Phase::Open | Phase::Closing))
    }

    fn is_in_use(&self, name: &Name) -> bool {
        let attached = self.conns.values().any(|conn| conn.attached.as_ref() == Some(name));
        let busy =
            |running: &Running| running.busy || running.claim.is_some() || running.phase == Phase::Starting;
        attached || self.sessions.get(name).is_some_and(busy)
    }
}
