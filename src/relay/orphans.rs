//! Orphans: processes whose parents have ended somewhere below this relay, and which the kernel therefore gives to it.
//!
//! What an agent's shell daemonises stays below the relay that way, so that its descent is seen (`boot/process.rs`), however
//! often it forks and whatever it drops from its environment; and what nobody else would reap is reaped here.
//!
//! **Invariant:** a process that this relay started itself is never reaped here: its own watcher wants its end.
//!
//! Deliberately absent: orphans of a child whose relay was killed. Those go to init, and nothing brings them back.

use nix::sys::prctl;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use crate::model::limits;

/// What there is to reap.
#[derive(Debug, Default)]
pub struct Orphans {
    /// A child of this process has ended, and it is not known to be reaped.
    is_told: bool,
    /// There may be more of them than a lap may take.
    is_due: bool,
}

impl Orphans {
    /// From now on what is orphaned below this process becomes its child.
    pub fn take_in() {
        if let Err(error) = prctl::set_child_subreaper(true) {
            log::warn!("orphans of agents' shells will not be seen: {error}");
        }
    }

    /// A signal has told that a child has ended, whichever it is.
    pub fn on_signal(&mut self) {
        self.is_told = true;
    }

    /// Whether some were left for the next lap.
    pub fn is_due(&self) -> bool {
        self.is_due
    }

    /// Reaps what has ended, but for what somebody else watches. After those of this lap were told, because who is not reaped
    /// hides the others: its own event is on its way, and brings the next lap.
    pub fn reap(&mut self, is_watched: impl Fn(u32) -> bool) {
        self.is_due = false;
        if !self.is_told {
            return;
        }
        for _ in 0..limits::ORPHANS_PER_LAP {
            match ended(Id::All, WaitPidFlag::WNOWAIT) {
                None => {
                    self.is_told = false;
                    return;
                }
                Some(pid) if is_watched(pid.as_raw() as u32) => return,
                Some(pid) => {
                    let _ = ended(Id::Pid(pid), WaitPidFlag::empty());
                }
            }
        }
        self.is_due = true;
    }
}

/// A child that has ended; reaped, unless it is only to be looked at.
fn ended(which: Id<'_>, flags: WaitPidFlag) -> Option<Pid> {
    match waitid(which, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | flags) {
        Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..)) => Some(pid),
        _ => None,
    }
}
