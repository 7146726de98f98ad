//! ^C while a command waits: it is caught once, so that the command can say what goes on without it.
//!
//! **Invariant:** the second ^C ends the process, whatever it is doing.
//! **Invariant:** a ^C between the look for one and the wait ends the wait; it is only let through while the wait lasts.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::time::TimeSpec;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Whether the person has pressed ^C since [`catch_interrupt`].
pub(super) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Waits until something can be read, at most `left`, or until `interrupted` does not say any more what it said when it was `seen`.
///
/// # Errors
/// What the kernel says; an interrupted wait is none.
pub(super) fn wait_to_read(fd: BorrowedFd<'_>, left: Option<Duration>, seen: bool) -> io::Result<()> {
    let mut sigint = SigSet::empty();
    sigint.add(Signal::SIGINT);
    let before = sigint.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK)?;
    let waited = if interrupted() == seen {
        ppoll(&mut [PollFd::new(fd, PollFlags::POLLIN)], left.map(TimeSpec::from), Some(before))
    } else {
        Ok(0)
    };
    before.thread_set_mask()?;
    match waited {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Turns the first ^C into [`super::CallError::Interrupted`]; the second one ends the process. Where ^C is ignored, as in a script's
/// background, it stays so.
#[allow(unsafe_code, reason = "sigaction; the handler only stores to an atomic")]
pub fn catch_interrupt() {
    extern "C" fn handler(_: i32) {
        INTERRUPTED.store(true, Ordering::Relaxed);
    }
    let action = SigAction::new(SigHandler::Handler(handler), SaFlags::SA_RESETHAND, SigSet::empty());
    // SAFETY: storing to an atomic is async-signal-safe, and what is put back is what was there.
    let before = unsafe { sigaction(Signal::SIGINT, &action) };
    match before {
        Ok(before) if matches!(before.handler(), SigHandler::SigIgn) => {
            // SAFETY: as above.
            let _ = unsafe { sigaction(Signal::SIGINT, &before) };
        }
        Ok(_) => {}
        Err(error) => log::debug!("catching ^C failed: {error}"),
    }
}

/// The ^C that was caught has been answered; what is asked after it is not cut short by it. A second one ends the process.
pub fn forget_interrupt() {
    INTERRUPTED.store(false, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    /// A ^C that came after the look for one: what was seen is no longer so, and nothing may be waited for.
    #[test]
    fn a_change_between_the_look_and_the_wait_ends_the_wait() {
        let (silent, _other) = UnixStream::pair().expect("a pair");
        let before = SigSet::thread_get_mask().expect("a mask");
        wait_to_read(silent.as_fd(), None, !interrupted()).expect("it does not wait");
        assert_eq!(SigSet::thread_get_mask().expect("a mask"), before, "^C comes through again");
    }
}
