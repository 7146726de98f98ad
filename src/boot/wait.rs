//! How children of this process have ended: looked at first, and reaped by whoever wants to know.
//!
//! **Invariant:** every end is told, also one by a signal that has no name (a real-time one): who cannot be told hides all others.
//!
//! Deliberately absent: waiting itself, which is its callers' way of learning that there is something to look at.

use std::fmt;

use nix::sys::signal::Signal;

/// How a process has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself, with this code.
    Exited(i32),
    /// By a signal.
    Killed(i32),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Exited(code) => write!(f, "exited with code {code}"),
            End::Killed(signal) => match Signal::try_from(*signal) {
                Ok(signal) => write!(f, "was ended by {signal}"),
                Err(_) => write!(f, "was ended by signal {signal}"),
            },
        }
    }
}

/// A child that has ended and is not reaped yet, if there is one; it stays so.
pub fn first_ended() -> Option<u32> {
    wait(libc::P_ALL, 0, libc::WNOWAIT).map(|(pid, _)| pid)
}

/// Reaps a child if it has ended.
pub fn reap(pid: u32) -> Option<End> {
    wait(libc::P_PID, pid, 0).map(|(_, end)| end)
}

#[allow(unsafe_code, reason = "nix's wrapper refuses ends by signals that it has no name for")]
fn wait(kind: libc::idtype_t, id: u32, flags: libc::c_int) -> Option<(u32, End)> {
    // SAFETY: a `siginfo_t` of zeroes is valid, lives through the call, and is filled in by it; its members are read only when a
    // child was found, as `waitid` says.
    let (pid, code, status) = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let result = libc::waitid(kind, id, &raw mut info, libc::WEXITED | libc::WNOHANG | flags);
        if result != 0 || info.si_pid() == 0 {
            return None;
        }
        (info.si_pid(), info.si_code, info.si_status())
    };
    Some((pid as u32, if code == libc::CLD_EXITED { End::Exited(status) } else { End::Killed(status) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_has_words() {
        assert_eq!(End::Exited(3).to_string(), "exited with code 3");
        assert_eq!(End::Killed(9).to_string(), "was ended by SIGKILL");
        assert_eq!(End::Killed(40).to_string(), "was ended by signal 40");
        assert!(reap(std::process::id()).is_none(), "it is no child of its own");
    }
}
