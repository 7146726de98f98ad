//! Reaching a relay that runs, for commands that start none.
//!
//! **Invariant:** nobody is told that no relay runs while one holds its lock: one that is on its way is waited for, one that leaves is
//! seen off, and one that is neither is busy. All of that takes no longer than an answer to hello may.

use std::time::Instant;

use serde::de::DeserializeOwned;

use super::connection::CallError;
use super::start::{Reached, Target, holder_of};
use crate::boot::holder::Holder;
use crate::boot::lock::{self, Lock};
use crate::boot::process;
use crate::boot::statedir::{RELAY_LOCK, SPAWN_LOCK, StateDir};
use crate::model::fault::Fault;

impl Target {
    /// Connects to the relay if one runs, also one that is on its way; nobody is told that none runs while one holds the lock.
    ///
    /// # Errors
    /// As [`Target::reach`]; `busy` when a relay holds its lock and does not come to be reached within its deadline.
    pub fn reach_running(&self) -> Result<Reached, Fault> {
        let deadline = Instant::now() + self.answer_patience();
        let left = || deadline.saturating_duration_since(Instant::now());
        loop {
            if let Reached::Relay(connection) = self.reach()? {
                return Ok(Reached::Relay(connection));
            }
            let Some(dir) = StateDir::open(&self.state_root, &self.bundle.name)? else {
                return Ok(Reached::Nobody);
            };
            // One that is being started shares the spawn lock until it serves, or holds it itself.
            if dir.stat(SPAWN_LOCK)?.is_some() {
                drop(Lock::take(&dir, SPAWN_LOCK, left()));
            }
            if let Reached::Relay(connection) = self.reach_in(&dir)? {
                return Ok(Reached::Relay(connection));
            }
            let holder = holder_of(&dir).filter(Holder::is_alive_here).and_then(|holder| holder.pid);
            let Some(pid) = holder.filter(|pid| lock::is_held_by(&dir, RELAY_LOCK, *pid)) else {
                return Ok(Reached::Nobody);
            };
            // It may be leaving; then another one may follow.
            let has_ended = process::pidfd(pid).map_or(true, |ends| process::wait_for_end(&ends, left()));
            if !has_ended {
                return Err(self.busy(&dir));
            }
        }
    }

    /// Asks the relay, if one runs, for what it can tell at once; `None` when none does. When it leaves meanwhile the next one is asked.
    ///
    /// # Errors
    /// `busy` when it does not answer; else as [`Target::reach`].
    pub fn look<T: DeserializeOwned>(&self, method: &str) -> Result<Option<T>, Fault> {
        let give_up = Instant::now() + self.start_timeout;
        loop {
            let Reached::Relay(mut connection) = self.reach_running()? else { return Ok(None) };
            let deadline = Instant::now() + self.answer_patience();
            match connection.call_until(method, &serde_json::json!({}), Some(deadline)) {
                Err(CallError::TimedOut) => {
                    let dir = StateDir::open(&self.state_root, &self.bundle.name)?;
                    return Err(dir.map_or_else(|| CallError::TimedOut.into(), |dir| self.busy(&dir)));
                }
                Err(CallError::Lost { .. }) if Instant::now() < give_up => {}
                answered => return Ok(Some(answered?)),
            }
        }
    }
}
