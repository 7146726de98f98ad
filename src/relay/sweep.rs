//! Sweeps: what an ended child has left behind is asked to end, and killed after a moment.
//!
//! Its keeper has done so already, unless it was killed itself or the child had none: then whatever carries the child's nonce is
//! found by that, and what carries nothing is found below this relay.
//!
//! **Invariant:** nothing is signalled but through a pidfd of a process that carries the nonce or is this relay's own orphan.

use std::collections::BTreeMap;

use super::clock::Clock;
use crate::boot::{descent, process};
use crate::model::clock::Millis;
use crate::model::id::Nonce;
use crate::model::limits;

/// Ended children whose processes were asked to end, and when those that have not are killed.
#[derive(Debug, Default)]
pub struct Sweeps(BTreeMap<Nonce, Millis>);

impl Sweeps {
    /// Asks every process of an ended child to end. The shells of a model leave its process group, and a killed one may leave locks
    /// of its own behind, so it is asked first. Orphans carry no nonce, and while a child lives it cannot be told whose they are.
    pub fn begin(&mut self, nonce: Nonce, with_orphans: bool, now: Millis) {
        if signal_carriers(nonce, libc::SIGTERM) | (with_orphans && signal_orphans(libc::SIGTERM)) {
            self.0.insert(nonce, now.plus(limits::SWEEP_KILL_MS));
        }
    }

    /// When the next ones are killed.
    pub fn deadline(&self) -> Option<Millis> {
        self.0.values().copied().min()
    }

    /// Kills what has had its time.
    pub fn finish(&mut self, with_orphans: bool, now: Millis) {
        let before = self.0.len();
        self.0.retain(|nonce, at| {
            let due = *at <= now;
            if due {
                signal_carriers(*nonce, libc::SIGKILL);
            }
            !due
        });
        if self.0.len() < before && with_orphans {
            signal_orphans(libc::SIGKILL);
        }
    }

    /// Ends all at once when everything that was asked has ended, and at the latest when their time has come.
    pub fn end_all(&mut self, with_orphans: bool, clock: &mut Clock) {
        while let Some(at) = self.0.values().max().copied() {
            let now = clock.now();
            let left = self.0.keys().any(|nonce| process::carriers(*nonce).next().is_some())
                || (with_orphans && !orphans().is_empty());
            if !left || at <= now {
                return self.finish(with_orphans, at);
            }
            // A bounded wait at the very end of a relay's life, because the kernel tells nobody when a stranger's child ends.
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

/// What is below this relay, each with its parent, but for what is a person's or a relay's.
fn orphans() -> Vec<(u32, u32)> {
    let is_left_out = |pid| descent::stands_alone(pid, None) || descent::is_of_hook(pid);
    descent::offspring(std::process::id(), is_left_out)
}

/// Signals what lost its parent below this relay; true when there was one.
fn signal_orphans(signal: i32) -> bool {
    let mut found = false;
    for (pid, parent) in orphans() {
        if let Some(pidfd) = process::pidfd_of_child(pid, parent) {
            log::info!("process {pid} was left behind by an agent and gets signal {signal}");
            found |= process::signal(&pidfd, signal).is_ok();
        }
    }
    found
}

/// Signals every process that carries the nonce; true when there was one.
fn signal_carriers(nonce: Nonce, signal: i32) -> bool {
    let mut found = false;
    for pid in process::carriers(nonce) {
        // Between finding and signalling the pid may be used again: the pidfd pins the process, and it is asked once more.
        if let Ok(pidfd) = process::pidfd(pid)
            && process::carries(pid, nonce)
        {
            log::info!("process {pid} carries the nonce of ended child {nonce} and gets signal {signal}");
            found |= process::signal(&pidfd, signal).is_ok();
        }
    }
    found
}
