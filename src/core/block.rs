//! Accounts that cannot run for a while: a usage limit, a login that is over. Mail waits without being spent.
//!
//! | | Then |
//! | --- | --- |
//! | a turn fails, because the account cannot run | the session is blocked until when its child says, else for ten minutes |
//! | that time is over, a turn completes, or somebody says `up` | one mail is tried alone, then the rest |
//!
//! **Invariant:** a block is in the store, so that the next relay spends no mail on it.

use super::record::Record;
use super::timer::Timer;
use super::{Core, Step};
use crate::model::clock::Millis;
use crate::model::limits;
use crate::model::name::Name;

impl Core {
    /// Until when a session's account cannot run, if it cannot.
    pub(super) fn blocked_until(&self, name: &Name) -> Option<Millis> {
        self.ledger.sessions.get(name)?.blocked_until
    }

    /// The account cannot run now: mail waits, and one is tried when the child has said that it can again, else much later, or when
    /// somebody says `up`. That is stored, so that a new relay spends no mail on it either.
    pub(super) fn block(&mut self, step: &mut Step, name: &Name, until: Option<Millis>) {
        let told = until.filter(|until| *until > step.now && *until < step.now.plus(limits::BLOCKED_MS_MAX));
        let until = told.unwrap_or(step.now.plus(limits::BLOCKED_MS));
        self.record(step, Record::SessionBlocked { name: name.clone(), until: Some(until) });
        self.arm_block(step, name);
    }

    /// Sets what ends a block, also one that an earlier relay met.
    pub(super) fn arm_block(&mut self, step: &mut Step, name: &Name) {
        let Some(until) = self.blocked_until(name) else { return };
        // Written by a clock that was wrong.
        if until > step.now.plus(limits::BLOCKED_MS_MAX) {
            return self.unblock(step, name);
        }
        self.timers.set(Timer::Unblock(name.clone()), until);
        if let Some(running) = self.sessions.get_mut(name) {
            running.singly = 1;
        }
    }

    /// A session's mail goes in again: its time is over, a turn went through, or somebody said `up`.
    pub(super) fn unblock(&mut self, step: &mut Step, name: &Name) {
        self.timers.clear(&Timer::Unblock(name.clone()));
        if self.blocked_until(name).is_some() {
            self.record(step, Record::SessionBlocked { name: name.clone(), until: None });
        }
        self.touch(name);
    }
}
