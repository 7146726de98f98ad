//! The keeper of a child: a process between the relay and it that takes in what is orphaned below, as long as the child lives.
//!
//! A relay may be killed or replaced; its child goes on, and so does the child's keeper. What an agent's shell daemonises therefore
//! always has the keeper for an ancestor, however often it forks and whatever it drops from its environment, and is known for an
//! agent's (`descent.rs`). When the child has ended the keeper ends what is left below it, and then itself as the child did.
//!
//! **Invariant:** the child does not outlive its keeper: the kernel kills it. **Invariant:** nothing but a signal wakes the keeper,
//! and it has no descriptors but what its child is given.
//!
//! Deliberately absent: a log (its end says what its child's said), any policy, and relays or other keepers that came to be below
//! it: they are left alone.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::{Pid, getpid, getppid, setsid};

use super::descent::{KEEP, offspring, stands_alone};
use super::process;
use super::spawn::{THIRD, close_from, given, is_open};
use super::wait::{self, End};
use crate::model::fault::Fault;
use crate::model::limits;

/// What a keeper tells the relay that has started it, once, in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// The child runs, under this pid.
    Started(u32),
    /// Why it could not be started.
    Failed(String),
}

impl Word {
    /// As it is written.
    pub fn text(&self) -> String {
        match self {
            Word::Started(pid) => format!("pid={pid}\n"),
            Word::Failed(why) => format!("error={}\n", why.replace('\n', " ")),
        }
    }

    /// What was written; nothing when that is no word.
    pub fn parse(text: &str) -> Option<Word> {
        let (key, value) = text.trim_end().split_once('=')?;
        match key {
            "pid" => Some(Word::Started(value.parse().ok()?)),
            "error" => Some(Word::Failed(value.to_owned())),
            _ => None,
        }
    }
}

/// The child that a command line tells a keeper to keep: its program and arguments.
pub fn asked(words: &[String]) -> Option<&[String]> {
    words.get(1..)?.strip_prefix(KEEP.map(str::to_owned).as_slice())
}

/// Keeps a child to its end; returns the code that it has ended with, or ends by the signal that it was ended by.
///
/// # Errors
/// `usage` when nobody waits at descriptor 3.
pub fn keep(child: &[String]) -> Result<u8, Fault> {
    let Some((program, arguments)) = child.split_first().filter(|_| is_open(THIRD)) else {
        return Err(Fault::usage("keep refused: it is what a relay starts its children with"));
    };
    close_from(THIRD + 1);
    let mut relay = File::from(given(THIRD));
    let mut tell = |word: Word| {
        // A relay that died no longer wants to know; the next one finds the child by what it carries.
        let _ = relay.write_all(word.text().as_bytes());
    };
    match prepare().and_then(|()| start(program, arguments)) {
        Ok(pid) => {
            tell(Word::Started(pid));
            drop(relay);
            let end = watch(pid);
            end_what_is_left();
            Ok(end_as(end))
        }
        Err(error) => {
            tell(Word::Failed(format!("{program}: {error}")));
            Ok(1)
        }
    }
}

/// Signals wait until they are asked for, orphans come to this process, and no directory is held.
fn prepare() -> io::Result<()> {
    SigSet::all().thread_block()?;
    prctl::set_child_subreaper(true)?;
    std::env::set_current_dir("/")
}

/// Starts the child in a session of its own, bound to this process.
#[allow(unsafe_code, reason = "four system calls between fork and exec, which are async-signal-safe")]
fn start(program: &str, arguments: &[String]) -> io::Result<u32> {
    let keeper = getpid();
    let mut command = Command::new(program);
    command.args(arguments);
    let bind = move || {
        setsid()?;
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // One that had died before that line sends no signal any more.
        if getppid() != keeper {
            return Err(Errno::ESRCH.into());
        }
        SigSet::empty().thread_set_mask()?;
        Ok(())
    };
    // SAFETY: see above; nothing of them allocates or locks.
    unsafe { command.pre_exec(bind) };
    command.spawn().map(|child| child.id())
}

/// Passes on what asks the child to end, and reaps whatever ends, until the child has.
fn watch(child: u32) -> End {
    loop {
        match next_signal(None) {
            Some(libc::SIGCHLD) => {
                if let Some(end) = reap_all(child) {
                    return end;
                }
            }
            // Until it is reaped its number is its own.
            Some(asked) => {
                let _ = kill(Pid::from_raw(child as i32), Signal::try_from(asked).ok());
            }
            None => {}
        }
    }
}

/// Reaps what has ended; the end of this one, if it is among them.
fn reap_all(child: u32) -> Option<End> {
    let mut found = None;
    while let Some(pid) = wait::first_ended() {
        let end = wait::reap(pid);
        if pid == child {
            found = end;
        }
    }
    found
}

/// Asks everything that is left below this process to end, and kills what has not after a moment. What forks meanwhile is found
/// again; what cannot be killed in time (it hangs in the kernel) is left.
fn end_what_is_left() {
    let me = getpid().as_raw() as u32;
    let nonce = process::nonce_of(me);
    let mut asked = BTreeSet::new();
    for deadly in [false, true] {
        let until = Instant::now() + Duration::from_millis(limits::SWEEP_KILL_MS as u64);
        loop {
            reap_all(me);
            let left = offspring(me, |pid| stands_alone(pid, nonce));
            if left.is_empty() {
                return;
            }
            for (pid, parent) in left {
                if (deadly || asked.insert(pid))
                    && let Some(pidfd) = process::pidfd_of_child(pid, parent)
                {
                    let _ = process::signal(&pidfd, if deadly { libc::SIGKILL } else { libc::SIGTERM });
                }
            }
            // Whatever is below has an ancestor that is a child of this process, whose end wakes it.
            let patience = until.saturating_duration_since(Instant::now());
            if next_signal(Some(patience)).is_none() {
                break;
            }
        }
    }
}

/// Ends as the child did, but without a core: whoever waits for this process learns what became of that one.
#[allow(unsafe_code, reason = "nix has no name for real-time signals; the default disposition runs no code")]
fn end_as(end: End) -> u8 {
    match end {
        End::Exited(code) => code as u8,
        End::Killed(number) => {
            let _ = prctl::set_dumpable(false);
            // SAFETY: the set lives through the calls, and no handler is installed. The signal waits until it is let in, alone:
            // others that came before it still wait then.
            unsafe {
                let mut alone: libc::sigset_t = std::mem::zeroed();
                libc::sigemptyset(&raw mut alone);
                libc::sigaddset(&raw mut alone, number);
                libc::signal(number, libc::SIG_DFL);
                libc::raise(number);
                libc::sigprocmask(libc::SIG_UNBLOCK, &raw const alone, std::ptr::null_mut());
            }
            (128 + number) as u8
        }
    }
}

/// The next signal that means something to a keeper; `None` when the time is over first.
#[allow(unsafe_code, reason = "sigtimedwait has no wrapper in nix")]
fn next_signal(patience: Option<Duration>) -> Option<i32> {
    let wanted: SigSet =
        [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().collect();
    let time = patience.map(|patience| libc::timespec {
        tv_sec: patience.as_secs() as libc::time_t,
        tv_nsec: patience.subsec_nanos().into(),
    });
    let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    loop {
        // SAFETY: set and time live through the call; no information is asked for, and no time means to wait for ever.
        let signal = unsafe { libc::sigtimedwait(wanted.as_ref(), std::ptr::null_mut(), time) };
        match Errno::result(signal) {
            Ok(signal) => return Some(signal),
            // It was stopped and went on.
            Err(Errno::EINTR) => {}
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_keeper_says_is_understood() {
        for word in [Word::Started(7), Word::Failed("no such file".to_owned())] {
            assert_eq!(Word::parse(&word.text()), Some(word));
        }
        assert_eq!(Word::parse("pid=many\n"), None);
    }

    #[test]
    fn only_the_whole_words_ask_for_a_keeper() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<String>>();
        assert_eq!(asked(&words("agentmux host keep -- a -b")), Some(words("a -b").as_slice()));
        for other in ["agentmux host keep", "agentmux host relay", "agentmux", "agentmux send host keep --"] {
            assert_eq!(asked(&words(other)), None);
        }
    }
}
