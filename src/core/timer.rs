//! The core's deadlines: one small table, set and cleared by name.
//!
//! **Invariant:** an empty table means that nothing will ever wake the relay but the world.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::clock::Millis;
use crate::model::id::{ConnId, Nonce};
use crate::model::name::Name;
use crate::model::session::ChildKey;

/// What a deadline is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// A connection has to say hello.
    Hello(ConnId),
    /// A waiting request ends.
    Pending(u64),
    /// A child has to respond to a claim.
    Lease(Name),
    /// A session may be tried again.
    Retry(Name),
    /// A child that would not end a session's turn is asked again.
    End(Name),
    /// A session's claims are looked for again; the child was asked and has not answered, or said that they are missing.
    Find(Name),
    /// A thread has to open, or to close.
    Thread(Name),
    /// A child has to come up, to end, or may be started again.
    Child(ChildKey),
    /// A session whose account could not run may be tried again.
    Unblock(Name),
    /// A session's hold is over.
    Hold(Name),
    /// A turn has been silent for long; its child is asked whether it runs.
    Silence(Name),
    /// A session that is being closed has had its time for a summary.
    Close(Name),
    /// A woken session may sleep again.
    Linger(Name),
    /// A session's own tools have to be ready.
    Tools(Name),
    /// A name is no longer kept for its token.
    Name(Name),
    /// The thread of a child's question is looked for again.
    Ask(Nonce, String),
    /// An approval is declined.
    Approval(String),
    /// The soonest mail expires.
    Expire,
    /// Sessions with mail that could move are looked at again.
    Sweep,
    /// The relay has nothing left to do.
    IdleExit,
    /// The relay leaves, whatever is left.
    Leave,
}

/// The table.
#[derive(Debug, Default)]
pub struct Timers {
    by_name: BTreeMap<Timer, Millis>,
    by_time: BTreeSet<(Millis, Timer)>,
}

impl Timers {
    /// Sets a deadline, in place of an earlier one of the same name.
    pub fn set(&mut self, timer: Timer, at: Millis) {
        self.clear(&timer);
        self.by_time.insert((at, timer.clone()));
        self.by_name.insert(timer, at);
    }

    /// Sets a deadline unless there is one of that name.
    pub fn set_once(&mut self, timer: Timer, at: Millis) {
        if !self.by_name.contains_key(&timer) {
            self.set(timer, at);
        }
    }

    /// Brings a deadline forward, if there is one of that name and it is later.
    pub fn bring_forward(&mut self, timer: Timer, at: Millis) {
        if self.by_name.get(&timer).is_some_and(|later| *later > at) {
            self.set(timer, at);
        }
    }

    /// Clears a deadline.
    pub fn clear(&mut self, timer: &Timer) {
        if let Some(at) = self.by_name.remove(timer) {
            self.by_time.remove(&(at, timer.clone()));
        }
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Millis> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes one deadline that has passed.
    pub fn expired(&mut self, now: Millis) -> Option<Timer> {
        let (at, timer) = self.by_time.first()?.clone();
        if at > now {
            return None;
        }
        self.clear(&timer);
        Some(timer)
    }
}
