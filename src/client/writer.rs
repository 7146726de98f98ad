//! Who writes to a Codex thread: one process at a time, which holds a lock beside the threads.
//!
//! **Invariant:** the lock is looked at, never taken.

use std::path::PathBuf;

use crate::boot::bundle;
use crate::boot::process;
use crate::model::fault::{Code, Fault};
use nix::sys::stat::stat;

/// The refusal of a thread that somebody else writes to, with who that is.
pub fn naming_the_writer(thread: &str, fault: Fault) -> Fault {
    // A name that is taken is a conflict, too, and has nothing to do with who writes.
    if fault.code != Code::Conflict || !fault.message.contains("active writer") {
        return fault;
    }
    let hint = "a thread has one writer: end it there first (in its bundle: agentmux down), and try again";
    let message = match writer(thread) {
        Some(pid) => {
            let words = process::arguments(pid).join(" ");
            let words: String = words.trim().chars().filter(|c| !c.is_control()).take(200).collect();
            format!("{}: pid {pid} writes it ({words})", fault.message)
        }
        None => fault.message,
    };
    Fault::conflict(message).hint(hint)
}

fn writer(thread: &str) -> Option<u32> {
    let set = std::env::var_os("CODEX_HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    let home = set.or_else(|| Some(bundle::home()?.join(".codex")))?;
    let lock = stat(&home.join("thread-writer-locks").join(format!("{thread}.lock"))).ok()?;
    process::lockers(lock.st_dev, lock.st_ino).next()
}
