//! One round: a start is broken at one system call, then the next command must work as if nothing had been.
//!
//! **Invariant:** whatever is checked is looked at from outside, as a person would: exit codes, processes, the lock's holder,
//! `status` and the inbox. **Invariant:** a round that did not reach its call counts for nothing.

use std::process::Child;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::scratch::{self, HUNG, Place, Ran};
use super::step::{SPAWN, STEPS, Track};
use crate::boot::tracer::{End, Role, Traced};

/// What is done to a process of the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Harm {
    /// SIGKILL.
    Killed,
    /// SIGKILL, to client and relay.
    BothKilled,
    /// SIGSTOP.
    Stopped,
    /// SIGTERM, SIGINT or SIGHUP.
    ToldToLeave,
}

/// What the place has when the start begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    /// Nothing at all.
    Fresh,
    /// A store with mail, and what a relay leaves that was killed.
    Stale,
}

/// Which call of whom, and what happens there.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// What was there before.
    pub ground: Ground,
    /// Whose call.
    pub role: Role,
    /// How many calls this process makes before.
    pub number: usize,
    /// The step that this call belonged to when the calls were counted.
    pub step: usize,
    /// What is done.
    pub harm: Harm,
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// A start without any harm, measured in this run.
    pub normal: Duration,
    /// How much longer the next command may take.
    pub more: Duration,
}

/// What came of a round.
#[derive(Debug)]
pub struct Played {
    /// Where the harm was done.
    pub at: String,
    /// The step, as an index into the table of steps.
    pub step: usize,
    /// How long the command took that had to succeed.
    pub took: Duration,
    /// What was wrong; nothing when the round went well.
    pub wrong: Vec<String>,
}

/// How long commands wait for a stopped process.
pub const START_TIMEOUT: Duration = Duration::from_millis(500);

/// Plays one round; `None` when the start was over before it came to that call.
///
/// # Errors
/// Why it could not be played; `EPERM` where tracing is forbidden.
pub fn play(place: &Place, plan: Plan, patience: Patience) -> std::io::Result<Option<Played>> {
    let mut round = Round { place, patience, mails: Vec::new(), wrong: Vec::new() };
    round.mails.extend(lay(place, plan.ground)?);
    // What hangs under the tracer is ended after a while, so that the round ends, too, and says what was wrong.
    let (over, is_over) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if is_over.recv_timeout(HUNG) == Err(mpsc::RecvTimeoutError::Timeout) {
                place.end_all();
            }
        });
        let played = round.play(plan);
        drop(over);
        played
    })
}

/// Makes the ground; returns the mail that is in the store then.
///
/// # Errors
/// Why it cannot be made.
pub fn lay(place: &Place, ground: Ground) -> std::io::Result<Option<String>> {
    if ground == Ground::Fresh {
        return Ok(None);
    }
    let ran = place.run(place.send())?;
    place.end_all();
    if ran.code == Some(0) { Ok(Some(ran.stdout)) } else { Err(std::io::Error::other(told(&ran))) }
}

fn name(role: Role) -> &'static str {
    match role {
        Role::Client => "client",
        Role::Relay => "relay",
    }
}

/// The command whose start is broken.
struct First {
    child: Child,
    begun: Instant,
}

struct Round<'a> {
    place: &'a Place,
    patience: Patience,
    /// Mails that somebody was told to be accepted.
    mails: Vec<String>,
    wrong: Vec<String>,
}

impl Round<'_> {
    fn play(&mut self, plan: Plan) -> std::io::Result<Option<Played>> {
        if plan.harm == Harm::Stopped {
            self.place.configure(&format!("start_timeout = \"{}ms\"\n", START_TIMEOUT.as_millis()))?;
        }
        let begun = Instant::now();
        let (mut traced, child) = Traced::start(self.place.send())?;
        let mut track = Track::default();
        let mut step = plan.step;
        let reached = traced.run_until(|boundary| {
            let here = track.step(boundary);
            let is_wanted = (boundary.role, boundary.number) == (plan.role, plan.number);
            if is_wanted {
                step = here;
            }
            is_wanted
        });
        let Some(boundary) = reached else {
            traced.release(None);
            return Ok(None);
        };
        let client = First { child, begun };
        let took = match plan.harm {
            Harm::Killed | Harm::BothKilled => self.killed(traced, client, plan)?,
            Harm::ToldToLeave => self.told(traced, client, plan)?,
            Harm::Stopped => self.stopped(traced, client, plan)?,
        };
        self.look()?;
        let at =
            format!("call {} of the {}: {} {}", plan.number, name(plan.role), boundary.call, boundary.object);
        if !self.wrong.is_empty() {
            self.wrong.push(format!("the relay's log: {}", self.place.log_tail()));
        }
        Ok(Some(Played { at, step, took, wrong: std::mem::take(&mut self.wrong) }))
    }

    fn check(&mut self, is_right: bool, wrong: impl FnOnce() -> String) {
        if !is_right {
            self.wrong.push(wrong());
        }
    }

    /// A command that must succeed, in time.
    fn must_send(&mut self, who: &str) -> std::io::Result<Duration> {
        let ran = self.place.run(self.place.send())?;
        let limit = self.patience.normal + self.patience.more;
        self.check(ran.code == Some(0), || format!("{who} failed: {}", told(&ran)));
        self.check(ran.took <= limit, || format!("{who} took {} ms", ran.took.as_millis()));
        self.accepted(&ran);
        Ok(ran.took)
    }

    fn accepted(&mut self, ran: &Ran) {
        if ran.code == Some(0) {
            self.check(ran.stdout.len() == 36, || format!("no id: {}", told(ran)));
            self.mails.push(ran.stdout.clone());
        }
    }

    /// What the broken command says: it may have got through; if not it says why, at once.
    fn hear(&mut self, first: First) {
        let First { mut child, begun } = first;
        let took = begun.elapsed();
        let (stdout, stderr) = scratch::streams(&mut child);
        let code = if stdout.is_empty() { None } else { Some(0) };
        let ran = Ran { code, stdout, stderr, took };
        let waited = ["was not ready within", "has been under way"].iter().any(|w| ran.stderr.contains(w));
        self.check(!waited, || format!("the broken command waited in vain: {}", told(&ran)));
        self.check(took < HUNG, || "the broken command hung".to_owned());
        self.accepted(&ran);
    }

    fn killed(&mut self, mut traced: Traced, first: First, plan: Plan) -> std::io::Result<Duration> {
        let both = [Role::Client, Role::Relay];
        let victims = if plan.harm == Harm::BothKilled { &both[..] } else { &[plan.role][..] };
        for role in victims {
            traced.signal(*role, Signal::SIGKILL);
        }
        match victims {
            [Role::Client] => traced.run_to_the_end(&[Role::Client]),
            _ => traced.run_to_the_end(&both),
        }
        traced.release(None);
        self.hear(first);
        self.must_send("the next command")
    }

    fn told(&mut self, mut traced: Traced, first: First, plan: Plan) -> std::io::Result<Duration> {
        let signal = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP][plan.number % 3];
        traced.signal(Role::Relay, signal);
        traced.run_to_the_end(&[Role::Relay, Role::Client]);
        let end = traced.end(Role::Relay);
        // The program's own first call for signals is among the calls of its first step.
        let is_early = [SPAWN, "relay-begins"].contains(&STEPS[plan.step].id);
        let is_clean = end == Some(End::Exited(0)) || (is_early && end == Some(End::Killed(signal)));
        self.check(is_clean, || format!("the relay that got {signal} ended as {end:?}"));
        traced.release(None);
        self.hear(first);
        if self.place.relays().is_empty() {
            let left = self.place.has_socket() && plan.ground == Ground::Fresh;
            self.check(!left, || format!("the relay that got {signal} left its socket"));
        }
        self.must_send("the next command")
    }

    fn stopped(&mut self, traced: Traced, first: First, plan: Plan) -> std::io::Result<Duration> {
        let Some(pid) = traced.pid(plan.role) else { return Ok(Duration::ZERO) };
        traced.release(Some(plan.role));
        let next = self.place.run(self.place.send())?;
        let limit = START_TIMEOUT + self.patience.normal + self.patience.more;
        let names_it = next.stderr.contains(&format!("pid {pid} (stopped)"));
        let is_right = match plan.role {
            Role::Relay => next.code == Some(75) && names_it,
            Role::Client => next.code == Some(0) || (next.code == Some(75) && names_it),
        };
        self.check(is_right, || format!("with pid {pid} stopped the next command said: {}", told(&next)));
        self.check(next.took <= limit, || format!("with pid {pid} stopped it took {:?}", next.took));
        self.accepted(&next);
        let relays = self.place.relays();
        self.check(relays.len() <= 1, || format!("beside a stopped process there are relays {relays:?}"));
        self.place.configure("")?;
        let goes_on = plan.number.is_multiple_of(2);
        let signal = if goes_on { Signal::SIGCONT } else { Signal::SIGKILL };
        let _ = kill(Pid::from_raw(pid as i32), signal);
        let took = self.must_send("the command after")?;
        let ran = scratch::finish(first.child, first.begun);
        self.check(ran.took < HUNG, || "the broken command hung".to_owned());
        self.accepted(&ran);
        Ok(took)
    }

    /// What must be true after every round: one relay, by processes and by lock; reachable; every accepted mail in its store.
    fn look(&mut self) -> std::io::Result<()> {
        let relays = self.place.relays();
        self.check(relays.len() == 1, || format!("{} relays run: {relays:?}", relays.len()));
        let holders = self.place.lock_holders();
        self.check(holders == relays, || format!("{holders:?} hold the lock of relays {relays:?}"));
        let status = self.place.run(self.place.command(&["status", "--json"]))?;
        let answer: serde_json::Value = serde_json::from_str(&status.stdout).unwrap_or_default();
        let pid = answer["relay"]["pid"].as_u64();
        let is_reached = pid.is_some() && pid == relays.first().map(|pid| u64::from(*pid));
        self.check(is_reached, || format!("relay {relays:?} cannot be reached: {}", told(&status)));
        let inbox = self.place.run(self.place.command(&["inbox", "operator", "-n", "100", "--json"]))?;
        for mail in std::mem::take(&mut self.mails) {
            self.check(inbox.stdout.contains(&mail), || format!("accepted mail {mail} is lost"));
        }
        Ok(())
    }
}

fn told(ran: &Ran) -> String {
    let code = ran.code.map_or("killed".to_owned(), |code| format!("exit {code}"));
    format!("{code} after {} ms: {}{}", ran.took.as_millis(), ran.stdout, ran.stderr)
}
