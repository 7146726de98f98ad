//! ^C while a command waits: it is caught once, so that the command can say what goes on without it.
//!
//! **Invariant:** the second ^C ends the process, whatever it is doing.

use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Whether the person has pressed ^C since [`catch_interrupt`].
pub(super) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
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
