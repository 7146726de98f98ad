//! The hook: a command of the person's own, started when a session waits, is blocked or has failed.
//!
//! It is an argument list and variables, never a line for a shell; what a child said is in one variable, without control characters.
//!
//! **Invariant:** the relay waits for no hook: it is started, watched through a pidfd, reaped, and killed with its process group when
//! its time is over. **Invariant:** few run at once, and few are started in a minute; what is too much is left out and logged.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use crate::boot::descent::HOOK_PREFIX;
use crate::boot::process;
use crate::boot::spawn::{Outer, Program, spawn_detached};
use crate::model::clock::Millis;
use crate::model::happening::{Happening, What};
use crate::model::limits;
use crate::model::name::Name;
use crate::model::session::SessionState;

/// What the person wants to be run, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// The program, absolute.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// The states that start it.
    pub on: Vec<SessionState>,
}

/// The hook and what runs of it.
#[derive(Debug, Default)]
pub struct Hooks {
    hook: Option<Hook>,
    /// What every run gets besides.
    environment: Vec<(String, String)>,
    /// What every run has as the person's own programs have it.
    outer: Outer,
    running: [Option<Run>; limits::HOOKS_AT_ONCE],
    /// When the last ones were started, and for what.
    started: VecDeque<(Millis, Name, SessionState)>,
    left_out: u64,
}

/// One run.
#[derive(Debug)]
struct Run {
    pid: u32,
    pidfd: OwnedFd,
    until: Millis,
    is_killed: bool,
}

/// The first of the tokens of runs; they are below those of clients.
const FIRST_TOKEN: usize = 4;

impl Hooks {
    /// A hook, if the person has one.
    pub fn new(hook: Option<Hook>, environment: Vec<(String, String)>, outer: Outer) -> Hooks {
        Hooks { hook, environment, outer, ..Hooks::default() }
    }

    /// Starts the hook if this is something to start it for.
    pub fn hear(&mut self, registry: &Registry, happening: &Happening, now: Millis) {
        let Some(hook) = &self.hook else { return };
        let What::State { session, from, state, reason, .. } = &happening.what else { return };
        if !hook.on.contains(state) {
            return;
        }
        while self.started.front().is_some_and(|(at, ..)| now.since(*at) >= limits::HOOK_WINDOW_MS) {
            self.started.pop_front();
        }
        let again = self.started.iter().any(|(at, name, before)| {
            name == session && before == state && now.since(*at) < limits::HOOK_AGAIN_MS
        });
        let slot = self.running.iter().position(Option::is_none);
        let (Some(slot), false, true) = (slot, again, self.started.len() < limits::HOOKS_PER_WINDOW) else {
            self.left_out += 1;
            log::warn!(
                "the hook is not run for {session} {}: too many; {} left out",
                state.as_str(),
                self.left_out
            );
            return;
        };
        let mut environment = self.environment.clone();
        let mut set =
            |name: &str, value: &str| environment.push((format!("{HOOK_PREFIX}{name}"), value.to_owned()));
        set("SESSION", session.as_str());
        set("STATE", state.as_str());
        set("FROM", from.as_str());
        set("AT", &happening.at.rfc3339());
        set("REASON", &plain(reason.as_deref().unwrap_or_default()));
        let program = Program {
            path: &hook.program,
            arguments: &hook.arguments,
            environment: &environment,
            stderr: None,
            outer: self.outer,
            given: &[],
        };
        self.started.push_back((now, session.clone(), *state));
        match spawn_detached(&program).and_then(|pid| watch(registry, pid, slot).map(|pidfd| (pid, pidfd))) {
            Ok((pid, pidfd)) => {
                let until = now.plus(limits::HOOK_MS);
                self.running[slot] = Some(Run { pid, pidfd, until, is_killed: false });
            }
            Err(why) => log::warn!("the hook could not be run: {}: {why}", hook.program.display()),
        }
    }

    /// Whether a token is a run's.
    pub fn owns(token: Token) -> bool {
        (FIRST_TOKEN..FIRST_TOKEN + limits::HOOKS_AT_ONCE).contains(&token.0)
    }

    /// A run has ended.
    pub fn on_exit(&mut self, registry: &Registry, token: Token) {
        let slot = token.0.checked_sub(FIRST_TOKEN).and_then(|slot| self.running.get_mut(slot));
        if let Some(run) = slot.and_then(Option::take) {
            let _ = registry.deregister(&mut SourceFd(&run.pidfd.as_raw_fd()));
            run.reap();
        }
    }

    /// Whether a process is a run's own.
    pub fn runs(&self, pid: u32) -> bool {
        self.running.iter().flatten().any(|run| run.pid == pid)
    }

    /// When the next run's time is over.
    pub fn deadline(&self) -> Option<Millis> {
        self.running.iter().flatten().filter(|run| !run.is_killed).map(|run| run.until).min()
    }

    /// Kills runs whose time is over; their end is told like any other.
    pub fn end_overdue(&mut self, now: Millis) {
        for run in self.running.iter_mut().flatten().filter(|run| run.until <= now && !run.is_killed) {
            log::warn!(
                "the hook (pid {}) is killed: it took longer than {} s",
                run.pid,
                limits::HOOK_MS / 1000
            );
            run.kill();
        }
    }

    /// Kills every run: the relay leaves.
    pub fn end_all(&mut self) {
        for run in self.running.iter_mut().filter_map(Option::take) {
            run.signal();
        }
    }
}

impl Run {
    fn kill(&mut self) {
        self.is_killed = true;
        self.signal();
    }

    /// Until it is reaped its number is its own, and so is its group's.
    fn signal(&self) {
        let _ = killpg(Pid::from_raw(self.pid as i32), Signal::SIGKILL);
    }

    fn reap(&self) {
        // Its pidfd said that it has ended.
        let _ = waitpid(Pid::from_raw(self.pid as i32), Some(WaitPidFlag::WNOHANG));
    }
}

fn watch(registry: &Registry, pid: u32, slot: usize) -> Result<OwnedFd, String> {
    let pidfd = process::pidfd(pid).map_err(|error| error.to_string())?;
    let token = Token(FIRST_TOKEN + slot);
    registry
        .register(&mut SourceFd(&pidfd.as_raw_fd()), token, Interest::READABLE)
        .map_err(|error| error.to_string())?;
    Ok(pidfd)
}

/// One line without control characters, cut.
fn plain(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(limits::HOOK_REASON_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mio::{Events, Poll};

    use super::*;

    /// Hooks that run this, and what their ends are heard by.
    fn hooks(words: &[&str]) -> (Hooks, Poll) {
        let arguments = words[1..].iter().map(|&word| word.to_owned()).collect();
        let on = vec![SessionState::Waiting, SessionState::Blocked];
        let hook = Hook { program: PathBuf::from(words[0]), arguments, on };
        (Hooks::new(Some(hook), Vec::new(), Outer::default()), Poll::new().expect("a poll"))
    }

    impl Hooks {
        /// A session comes into a state; whether a run was started for it.
        fn starts(&mut self, poll: &Poll, session: &str, state: SessionState, at_ms: i64) -> bool {
            let session = Name::parse(session).expect("a name");
            let what = What::State { session, from: SessionState::Busy, state, reason: None, pending: 0 };
            let (before, left_out) = (self.count(), self.left_out);
            self.hear(poll.registry(), &Happening { at: Millis(at_ms), what }, Millis(at_ms));
            assert_eq!(
                self.left_out - left_out,
                u64::from(self.count() == before),
                "run, or left out and counted"
            );
            self.count() > before
        }

        fn count(&self) -> usize {
            self.running.iter().flatten().count()
        }

        /// Waits until all runs have ended, and reaps them.
        fn wait(&mut self, poll: &mut Poll) {
            let mut events = Events::with_capacity(8);
            while self.count() > 0 {
                poll.poll(&mut events, Some(Duration::from_secs(20))).expect("readiness");
                assert!(!events.is_empty(), "a run does not end");
                events.iter().for_each(|event| self.on_exit(poll.registry(), event.token()));
            }
        }
    }

    /// Users 24: a session that goes to and fro tells once in five seconds, each state by itself; others are told meanwhile.
    #[test]
    fn the_same_is_told_again_only_after_a_while() {
        let (mut hooks, mut poll) = hooks(&["/bin/true"]);
        let mut at = |session, state, at_ms| {
            let starts = hooks.starts(&poll, session, state, at_ms);
            hooks.wait(&mut poll);
            starts
        };
        assert!(at("lead", SessionState::Waiting, 0));
        assert!(!at("lead", SessionState::Waiting, limits::HOOK_AGAIN_MS - 1));
        assert!(at("lead", SessionState::Blocked, limits::HOOK_AGAIN_MS - 1));
        assert!(at("reviewer", SessionState::Waiting, limits::HOOK_AGAIN_MS - 1));
        assert!(at("lead", SessionState::Waiting, limits::HOOK_AGAIN_MS));
    }

    /// Users 24: at most so many in a minute, however many sessions there are; then they are told again.
    #[test]
    fn no_more_are_run_in_a_minute_than_a_person_can_bear() {
        let (mut hooks, mut poll) = hooks(&["/bin/true"]);
        let mut at = |number: usize, at_ms| {
            let starts = hooks.starts(&poll, &format!("s{number}"), SessionState::Waiting, at_ms);
            hooks.wait(&mut poll);
            starts
        };
        let many = limits::HOOKS_PER_WINDOW;
        assert_eq!((0..many * 2).filter(|number| at(*number, 1)).count(), many);
        assert!(!at(many * 2, limits::HOOK_WINDOW_MS));
        assert!(at(many * 2, limits::HOOK_WINDOW_MS + 1));
    }

    /// Users 24: runs that do not end are few; the next one comes when one has ended.
    #[test]
    fn few_run_at_once_and_one_that_ends_makes_room() {
        let (mut hooks, mut poll) = hooks(&["/bin/sleep", "60"]);
        let waits = SessionState::Waiting;
        let started = (0..10).filter(|number| hooks.starts(&poll, &format!("s{number}"), waits, 0));
        assert_eq!(started.count(), limits::HOOKS_AT_ONCE);
        assert_eq!(hooks.deadline(), Some(Millis(limits::HOOK_MS)));
        hooks.end_overdue(Millis(limits::HOOK_MS - 1));
        assert!(hooks.running.iter().flatten().all(|run| !run.is_killed), "their time is not over");
        hooks.end_overdue(Millis(limits::HOOK_MS));
        hooks.wait(&mut poll);
        assert!(hooks.starts(&poll, "s9", waits, limits::HOOK_MS));
        hooks.end_overdue(Millis(2 * limits::HOOK_MS));
        hooks.wait(&mut poll);
    }
}
