//! Orphans: processes whose parents have ended somewhere below this relay, and which the kernel therefore gives to it.
//!
//! What an agent's shell daemonises goes to the keeper of its child (`boot/keeper.rs`). What was below a keeper that was killed comes
//! here, so that its descent is seen all the same (`boot/descent.rs`); so does what a hook leaves behind. What nobody else would
//! reap is reaped here.
//!
//! **Invariant:** a process that this relay started itself is never reaped here: its own watcher wants its end.
//!
//! Deliberately absent: orphans of a killed keeper that this relay has adopted. Those go to init, and nothing brings them back.

use nix::sys::prctl;

use crate::boot::wait;
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
            match wait::first_ended() {
                None => {
                    self.is_told = false;
                    return;
                }
                Some(pid) if is_watched(pid) => return,
                Some(pid) => {
                    wait::reap(pid);
                }
            }
        }
        self.is_due = true;
    }
}
