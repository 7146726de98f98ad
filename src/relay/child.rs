//! Child processes: started or adopted, connected to, watched through a pidfd, signalled, swept.
//!
//! **Invariant:** nothing is signalled but through a pidfd of a process that our record or our nonce names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::fcntl::OFlag;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};

use super::clock::Clock;
use super::link::Link;
use crate::boot::environment;
use crate::boot::process::{self, NONCE_VARIABLE};
use crate::boot::program;
use crate::boot::spawn::{Program, spawn_detached};
use crate::boot::statedir::StateDir;
use crate::core::action::Signal;
use crate::core::input::Input;
use crate::model::child::{ChildCommand, ChildEvent};
use crate::model::clock::Millis;
use crate::model::id::Nonce;
use crate::model::limits;
use crate::model::name::Name;
use crate::model::session::child_socket;
use crate::transport::Transport;
use crate::transport::codex::Codex;

/// Where children keep their logs and sessions their environments.
pub const DIRECTORY: &str = "children";

/// One living child.
#[derive(Debug)]
struct Child {
    slot: u32,
    pid: u32,
    pidfd: OwnedFd,
    /// Whether it is a process of this relay's own, to be reaped.
    own: bool,
    log: Option<File>,
    link: Option<Link>,
    /// When to try to connect next.
    retry: Option<Millis>,
    /// How long to wait after an attempt that fails.
    pause_ms: i64,
    /// When the last connection was made.
    linked_at: Millis,
    transport: Box<dyn Transport>,
}

/// What a token of a child stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Its process has ended.
    Process(Nonce),
    /// Its socket is ready.
    Socket(Nonce),
}

/// All living children.
#[derive(Debug, Default)]
pub struct Children {
    all: BTreeMap<Nonce, Child>,
    sources: BTreeMap<Token, Source>,
    /// Children with messages that were left for the next lap.
    unread: BTreeSet<Nonce>,
    /// Ended children whose shells were asked to end, and when those that have not are killed.
    sweeps: BTreeMap<Nonce, Millis>,
    /// The umask of a child whose session was spawned without one.
    umask: u32,
    /// The sessions whose answers somebody reads as they are written.
    heard: BTreeSet<Name>,
    next_token: usize,
}

/// Tokens of children are above all tokens of clients.
const FIRST_TOKEN: usize = usize::MAX / 2;

impl Children {
    /// No children; `umask` is what this relay was started with.
    pub fn new(umask: u32) -> Children {
        Children { umask, ..Children::default() }
    }

    /// Starts a child.
    ///
    /// # Errors
    /// Why it could not be started.
    pub fn spawn(
        &mut self,
        registry: &Registry,
        dir: &StateDir,
        nonce: Nonce,
        slot: u32,
        program: &str,
        environment: Vec<(String, String)>,
    ) -> Result<u32, String> {
        let log = dir
            .file(&format!("{DIRECTORY}/{nonce}.log"), OFlag::O_RDWR | OFlag::O_APPEND, true)
            .map_err(|fault| fault.message)?
            .expect("created if missing");
        let mut environment = environment;
        environment.push((NONCE_VARIABLE.to_owned(), nonce.to_string()));
        let socket = dir.path().join(child_socket(slot));
        let arguments =
            ["app-server".to_owned(), "--listen".to_owned(), format!("unix://{}", socket.display())];
        let native = program::native_behind(program.as_ref());
        let program = Program {
            path: &native,
            arguments: &arguments,
            environment: &environment,
            stderr: Some(&log),
            umask: environment::umask_of(&environment).or(Some(self.umask)),
            given: &[],
        };
        let pid = spawn_detached(&program).map_err(|why| format!("{}: {why}", native.display()))?;
        self.watch(registry, nonce, slot, pid, true, Some(log)).map_err(|error| error.to_string())?;
        log::info!("child {nonce} started: pid {pid}, {}", native.display());
        Ok(pid)
    }

    /// Takes over a child of a former relay.
    ///
    /// # Errors
    /// That it is gone.
    pub fn adopt(
        &mut self,
        registry: &Registry,
        dir: &StateDir,
        nonce: Nonce,
        slot: u32,
        pid: u32,
    ) -> Result<(), String> {
        let log = dir
            .file(&format!("{DIRECTORY}/{nonce}.log"), OFlag::O_RDWR | OFlag::O_APPEND, false)
            .ok()
            .flatten();
        self.watch(registry, nonce, slot, pid, false, log).map_err(|error| error.to_string())?;
        if !process::carries(pid, nonce) {
            self.all.remove(&nonce);
            return Err("its pid belongs to somebody else".to_owned());
        }
        log::info!("child {nonce} adopted: pid {pid}");
        Ok(())
    }

    fn watch(
        &mut self,
        registry: &Registry,
        nonce: Nonce,
        slot: u32,
        pid: u32,
        own: bool,
        log: Option<File>,
    ) -> io::Result<()> {
        let pidfd = process::pidfd(pid)?;
        let token = self.token(Source::Process(nonce));
        registry.register(&mut SourceFd(&pidfd.as_raw_fd()), token, Interest::READABLE)?;
        let mut transport = Box::new(Codex::default());
        transport.hear(&self.heard);
        let child = Child {
            slot,
            pid,
            pidfd,
            own,
            log,
            link: None,
            retry: Some(Millis(0)),
            pause_ms: limits::CHILD_CONNECT_MS_MIN,
            linked_at: Millis(0),
            transport,
        };
        self.all.insert(nonce, child);
        Ok(())
    }

    fn token(&mut self, source: Source) -> Token {
        self.next_token += 1;
        let token = Token(FIRST_TOKEN + self.next_token);
        self.sources.insert(token, source);
        token
    }

    /// What a token stands for, if it is a child's.
    pub fn source(&self, token: Token) -> Option<Source> {
        self.sources.get(&token).copied()
    }

    /// When a child has to be connected to next.
    pub fn deadline(&self) -> Option<Millis> {
        let retries = self.all.values().filter_map(|child| child.retry);
        retries.chain(self.sweeps.values().copied()).min()
    }

    /// Whether something was left for the next lap.
    pub fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Tries the connections whose time has come, and goes on with what was left from the lap before.
    pub fn advance(&mut self, registry: &Registry, dir: &StateDir, now: Millis, inputs: &mut Vec<Input>) {
        let due = |child: &Child| child.retry.is_some_and(|at| at <= now);
        let nonces: Vec<Nonce> =
            self.all.iter().filter(|(_, child)| due(child)).map(|(nonce, _)| *nonce).collect();
        for nonce in nonces {
            self.connect(registry, dir, nonce, now, inputs);
        }
        self.finish_sweeps(now);
        for nonce in std::mem::take(&mut self.unread) {
            self.on_socket(nonce, now, inputs);
        }
    }

    fn connect(
        &mut self,
        registry: &Registry,
        dir: &StateDir,
        nonce: Nonce,
        now: Millis,
        inputs: &mut Vec<Input>,
    ) {
        let Some(slot) = self.all.get(&nonce).map(|child| child.slot) else { return };
        let token = self.token(Source::Socket(nonce));
        let linked = dir
            .socket_target(&child_socket(slot))
            .and_then(|path| Link::connect(registry, token, &path).ok());
        let Some(child) = self.all.get_mut(&nonce) else { return };
        let ours =
            |link: &Link| link.peer().is_some_and(|pid| pid == child.pid || process::carries(pid, nonce));
        match linked.filter(ours) {
            Some(link) => {
                child.retry = None;
                child.linked_at = now;
                let open = link.is_open();
                child.link = Some(link);
                if open {
                    child.transport.on_open();
                }
                self.on_socket(nonce, now, inputs);
            }
            None => {
                self.sources.remove(&token);
                child.wait(now, limits::CHILD_CONNECT_MS_MAX);
            }
        }
    }

    /// A child's socket is ready: shakes hands, writes, reads.
    pub fn on_socket(&mut self, nonce: Nonce, now: Millis, inputs: &mut Vec<Input>) {
        let Some(child) = self.all.get_mut(&nonce) else { return };
        match child.exchange(nonce, inputs) {
            Ok(true) => {
                self.unread.insert(nonce);
            }
            Ok(false) => {}
            Err(why) => self.lose(nonce, now, why, inputs),
        }
    }

    fn lose(&mut self, nonce: Nonce, now: Millis, why: String, inputs: &mut Vec<Input>) {
        let Some(child) = self.all.get_mut(&nonce) else { return };
        child.link = None;
        // One that hangs up again and again is called less and less often.
        if now.since(child.linked_at) >= limits::CHILD_LINK_STEADY_MS {
            child.pause_ms = limits::CHILD_CONNECT_MS_MIN;
        }
        child.wait(now, limits::RETRY_MS_MAX);
        self.sources.retain(|_, source| *source != Source::Socket(nonce));
        self.unread.remove(&nonce);
        inputs.push(Input::ChildLost { nonce, why });
    }

    /// Gives a child a command.
    pub fn command(&mut self, nonce: Nonce, command: ChildCommand, now: Millis, inputs: &mut Vec<Input>) {
        let Some(child) = self.all.get_mut(&nonce) else { return };
        child.transport.command(command);
        if let Err(why) = child.pump(nonce, inputs) {
            self.lose(nonce, now, why, inputs);
        }
    }

    /// Says whose answers are read as they are written.
    pub fn hear(&mut self, sessions: BTreeSet<Name>) {
        if sessions != self.heard {
            self.heard = sessions;
            self.all.values_mut().for_each(|child| child.transport.hear(&self.heard));
        }
    }

    /// A child's process has ended.
    pub fn on_exit(&mut self, registry: &Registry, nonce: Nonce, inputs: &mut Vec<Input>) {
        let Some(mut child) = self.all.remove(&nonce) else { return };
        let _ = registry.deregister(&mut SourceFd(&child.pidfd.as_raw_fd()));
        self.sources
            .retain(|_, source| !matches!(source, Source::Process(n) | Source::Socket(n) if *n == nonce));
        self.unread.remove(&nonce);
        // What it said before it ended is still evidence.
        let _ = child.exchange(nonce, inputs);
        let status = if child.own { reap(child.pid) } else { "ended".to_owned() };
        let words = child.log.as_ref().map(last_words).unwrap_or_default();
        let why = if words.is_empty() { status } else { format!("{status}: {words}") };
        log::info!("child {nonce} (pid {}) {why}", child.pid);
        inputs.push(Input::ChildExited { nonce, why });
    }

    /// Signals a child.
    pub fn signal(&self, nonce: Nonce, signal: Signal) {
        if let Some(child) = self.all.get(&nonce) {
            let signal = match signal {
                Signal::Term => libc::SIGTERM,
                Signal::Kill => libc::SIGKILL,
            };
            log::info!("child {nonce} (pid {}) gets signal {signal}", child.pid);
            if let Err(error) = process::signal(&child.pidfd, signal) {
                log::warn!("signalling child {nonce} failed: {error}");
            }
        }
    }

    /// Asks every process that carries the nonce of an ended child to end; what has not after a moment is killed. The shells
    /// of a model leave its process group, and a killed one may leave locks of its own behind, so it is asked first.
    pub fn sweep(&mut self, nonce: Nonce, now: Millis) {
        if signal_carriers(nonce, libc::SIGTERM) | self.signal_orphans(libc::SIGTERM) {
            self.sweeps.insert(nonce, now.plus(limits::SWEEP_KILL_MS));
        }
    }

    fn finish_sweeps(&mut self, now: Millis) {
        let before = self.sweeps.len();
        self.sweeps.retain(|nonce, at| {
            let due = *at <= now;
            if due {
                signal_carriers(*nonce, libc::SIGKILL);
            }
            !due
        });
        if self.sweeps.len() < before {
            self.signal_orphans(libc::SIGKILL);
        }
    }

    /// Ends all sweeps at once when everything that was asked has ended, and at the latest when their time has come.
    pub fn end_sweeps(&mut self, clock: &mut Clock) {
        while let Some(at) = self.sweeps.values().max().copied() {
            let now = clock.now();
            let orphans = || process::offspring(std::process::id(), process::is_persons);
            let left = self.sweeps.keys().any(|nonce| process::carriers(*nonce).next().is_some())
                || (self.all.is_empty() && !orphans().is_empty());
            if !left || at <= now {
                return self.finish_sweeps(at);
            }
            // A bounded wait at the very end of a relay's life, because the kernel tells nobody when a stranger's child ends.
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// The pids of all children, for telling who descends from them.
    pub fn pids(&self) -> impl Iterator<Item = u32> {
        self.all.values().map(|child| child.pid)
    }

    /// Whether a process is a child that this relay started, whose end it reaps by itself.
    pub fn owns(&self, pid: u32) -> bool {
        self.all.values().any(|child| child.own && child.pid == pid)
    }

    /// Signals what lost its parent below this relay and carries no nonce. Whose it was cannot be told, so that it is left alone
    /// while any child lives. True when there was one.
    fn signal_orphans(&mut self, signal: i32) -> bool {
        if !self.all.is_empty() {
            return false;
        }
        let mut found = false;
        for (pid, parent) in process::offspring(std::process::id(), process::is_persons) {
            if let Some(pidfd) = process::pidfd_of_child(pid, parent) {
                log::info!("process {pid} was left behind by an agent and gets signal {signal}");
                found |= process::signal(&pidfd, signal).is_ok();
            }
        }
        found
    }
}

impl Child {
    /// Tries to connect after a pause, and after a longer one the next time.
    fn wait(&mut self, now: Millis, longest_ms: i64) {
        self.retry = Some(now.plus(self.pause_ms));
        self.pause_ms = (self.pause_ms * 2).min(longest_ms);
    }

    /// Does what can be done on the socket; true when messages were left for the next lap.
    fn exchange(&mut self, nonce: Nonce, inputs: &mut Vec<Input>) -> Result<bool, String> {
        self.bound_log();
        let Some(link) = &mut self.link else { return Ok(false) };
        if !link.is_open() {
            if !link.shake()? {
                return Ok(false);
            }
            self.transport.on_open();
        }
        self.pump(nonce, inputs)?;
        for _ in 0..limits::CHILD_MESSAGES_PER_LAP {
            let Some(link) = &mut self.link else { return Ok(false) };
            let Some(text) = link.read()? else { return Ok(false) };
            self.transport.on_message(&text);
            self.pump(nonce, inputs)?;
        }
        Ok(true)
    }

    /// Passes on what the transport has to say, in both directions.
    fn pump(&mut self, nonce: Nonce, inputs: &mut Vec<Input>) -> Result<(), String> {
        while let Some(event) = self.transport.next_event() {
            if let ChildEvent::Unusable { why } | ChildEvent::Garbled { why } = &event {
                log::warn!("child {nonce}: {why}");
            }
            if let ChildEvent::AskRefused { method, .. } = &event {
                log::warn!("child {nonce} asked what nobody here answers: {method}");
            }
            inputs.push(Input::Child { nonce, event });
        }
        let Some(link) = self.link.as_mut().filter(|link| link.is_open()) else { return Ok(()) };
        while let Some(message) = self.transport.next_message() {
            link.write(message)?;
        }
        link.flush()
    }

    fn bound_log(&self) {
        if let Some(log) = &self.log
            && log.metadata().is_ok_and(|meta| meta.len() > limits::CHILD_LOG_BYTES_MAX)
        {
            let _ = log.set_len(0);
        }
    }
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

fn reap(pid: u32) -> String {
    match waitid(Id::Pid(nix::unistd::Pid::from_raw(pid as i32)), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG)
    {
        Ok(WaitStatus::Exited(_, code)) => format!("exited with code {code}"),
        Ok(WaitStatus::Signaled(_, signal, _)) => format!("was ended by {signal}"),
        _ => "ended".to_owned(),
    }
}

/// The last line of a child's errors.
fn last_words(log: &File) -> String {
    use std::os::unix::fs::FileExt;
    let length = log.metadata().map_or(0, |meta| meta.len());
    let tail_bytes = length.min(2048);
    let mut tail = vec![0; tail_bytes as usize];
    if log.read_exact_at(&mut tail, length - tail_bytes).is_err() {
        return String::new();
    }
    let text = String::from_utf8_lossy(&tail);
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(300).collect()
}
