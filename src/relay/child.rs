//! Child processes: started or adopted, connected to, watched, signalled, swept.
//!
//! **Invariant:** a child is gone when its process and its keeper's are (`kept.rs`), and not before.
//!
//! Deliberately absent: what is said to one and heard from it (`channel.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::fd::RawFd;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::fcntl::OFlag;

use super::channel::Channel;
use super::clock::Clock;
use super::kept::Kept;
use super::link::Link;
use super::sweep::Sweeps;
use crate::boot::environment;
use crate::boot::process::{self, NONCE_VARIABLE};
use crate::boot::program;
use crate::boot::spawn::{Outer, Program};
use crate::boot::statedir::StateDir;
use crate::core::action::Signal;
use crate::core::input::Input;
use crate::model::child::ChildCommand;
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
    kept: Kept,
    channel: Channel,
}

/// What a token of a child stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Its process or its keeper's has ended.
    Process(Nonce),
    /// Its keeper tells which process it is.
    Word(Nonce),
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
    sweeps: Sweeps,
    /// What this relay was started with; the umask is that of a child whose session was spawned without one.
    outer: Outer,
    /// The sessions whose answers somebody reads as they are written.
    heard: BTreeSet<Name>,
    next_token: usize,
}

/// Tokens of children are above all tokens of clients.
const FIRST_TOKEN: usize = usize::MAX / 2;

impl Children {
    /// No children; `outer` is what this relay was started with.
    pub fn new(outer: Outer) -> Children {
        Children { outer, ..Children::default() }
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
    ) -> Result<(), String> {
        let log = dir
            .file(&format!("{DIRECTORY}/{nonce}.log"), OFlag::O_RDWR | OFlag::O_APPEND, true)
            .map_err(|fault| fault.message)?
            .expect("created if missing");
        let mut environment = environment;
        environment.push((NONCE_VARIABLE.to_owned(), nonce.to_string()));
        let name = child_socket(slot);
        dir.check_child_socket(&name).map_err(|fault| fault.message)?;
        // A link that leads nowhere (its target went with a reboot) is in the way of some that listen.
        if dir.socket_target(&name).is_none() {
            dir.unlink(&name);
        }
        let socket = dir.path().join(name);
        let arguments =
            ["app-server".to_owned(), "--listen".to_owned(), format!("unix://{}", socket.display())];
        let native = program::native_behind(program.as_ref());
        let program = Program {
            path: &native,
            arguments: &arguments,
            environment: &environment,
            stderr: Some(&log),
            outer: Outer { umask: environment::umask_of(&environment).or(self.outer.umask), ..self.outer },
            given: &[],
        };
        let kept = Kept::spawn(&program).map_err(|why| format!("its keeper: {why}"))?;
        log::info!("child {nonce} is started: keeper {}, {}", kept.pid(), native.display());
        self.watch(registry, nonce, slot, kept, Some(log)).map_err(|error| error.to_string())
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
        let adopted = Kept::adopt(pid, nonce).and_then(|kept| self.watch(registry, nonce, slot, kept, log));
        adopted.map_err(|error| error.to_string())?;
        log::info!("child {nonce} adopted: pid {pid}");
        Ok(())
    }

    fn watch(
        &mut self,
        registry: &Registry,
        nonce: Nonce,
        slot: u32,
        kept: Kept,
        log: Option<File>,
    ) -> io::Result<()> {
        for fd in [kept.keeper_fd(), kept.child_fd()] {
            self.listen(registry, fd, Source::Process(nonce))?;
        }
        self.listen(registry, kept.ear(), Source::Word(nonce))?;
        let mut transport = Box::new(Codex::default());
        transport.hear(&self.heard);
        self.all.insert(nonce, Child { slot, kept, channel: Channel::new(transport, log) });
        Ok(())
    }

    /// Is told of a descriptor until it is closed.
    fn listen(&mut self, registry: &Registry, fd: Option<RawFd>, source: Source) -> io::Result<()> {
        let Some(fd) = fd else { return Ok(()) };
        registry.register(&mut SourceFd(&fd), self.token(source), Interest::READABLE)
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
        let of_child = |child: &Child| [child.channel.retry, child.kept.overdue];
        self.all.values().flat_map(of_child).flatten().chain(self.sweeps.deadline()).min()
    }

    /// Keeps what the children write to their stderr short.
    pub fn bound_logs(&self) {
        self.all.values().for_each(|child| child.channel.bound_log());
    }

    /// Whether something was left for the next lap.
    pub fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Does what is due: connections, sweeps, keepers that hang; and goes on with what was left from the lap before.
    pub fn advance(&mut self, registry: &Registry, dir: &StateDir, now: Millis, inputs: &mut Vec<Input>) {
        let due = |child: &Child| child.channel.retry.is_some_and(|at| at <= now);
        let nonces: Vec<Nonce> =
            self.all.iter().filter(|(_, child)| due(child)).map(|(nonce, _)| *nonce).collect();
        for nonce in nonces {
            self.connect(registry, dir, nonce, now, inputs);
        }
        for child in self.all.values_mut().filter(|child| child.kept.overdue.is_some_and(|at| at <= now)) {
            child.kept.kill_keeper();
        }
        self.sweeps.finish(self.all.is_empty(), now);
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
        let ours = |link: &Link| {
            link.peer().is_some_and(|pid| child.kept.pid() == pid || process::carries(pid, nonce))
        };
        match linked.filter(ours) {
            Some(link) => {
                let met = link.peer().filter(|pid| child.kept.meet(*pid, nonce));
                child.channel.open(link, now);
                if let Some(pid) = met {
                    self.on_known(registry, nonce, pid, inputs);
                }
                self.on_socket(nonce, now, inputs);
            }
            None => {
                self.sources.remove(&token);
                child.channel.wait(now, limits::CHILD_CONNECT_MS_MAX);
            }
        }
    }

    /// A child's socket is ready: shakes hands, writes, reads.
    pub fn on_socket(&mut self, nonce: Nonce, now: Millis, inputs: &mut Vec<Input>) {
        let Some(child) = self.all.get_mut(&nonce) else { return };
        let exchanged = child.channel.exchange(nonce, inputs);
        inputs.extend(child.channel.flood(now).map(|what| Input::ChildFlooded { nonce, what }));
        match exchanged {
            Ok(true) => {
                self.unread.insert(nonce);
            }
            Ok(false) => {}
            Err(why) => self.lose(nonce, now, why, inputs),
        }
    }

    fn lose(&mut self, nonce: Nonce, now: Millis, why: String, inputs: &mut Vec<Input>) {
        let Some(child) = self.all.get_mut(&nonce) else { return };
        child.channel.close(now);
        self.sources.retain(|_, source| *source != Source::Socket(nonce));
        self.unread.remove(&nonce);
        inputs.push(Input::ChildLost { nonce, why });
    }

    /// Gives a child a command.
    pub fn command(&mut self, nonce: Nonce, command: ChildCommand, now: Millis, inputs: &mut Vec<Input>) {
        let Some(child) = self.all.get_mut(&nonce) else { return };
        child.channel.transport.command(command);
        if let Err(why) = child.channel.pump(nonce, inputs) {
            self.lose(nonce, now, why, inputs);
        }
    }

    /// Says whose answers are read as they are written.
    pub fn hear(&mut self, sessions: BTreeSet<Name>) {
        if sessions != self.heard {
            self.heard = sessions;
            self.all.values_mut().for_each(|child| child.channel.transport.hear(&self.heard));
        }
    }

    /// A keeper tells which process its child is.
    pub fn on_word(&mut self, registry: &Registry, nonce: Nonce, inputs: &mut Vec<Input>) {
        if let Some(pid) = self.all.get_mut(&nonce).and_then(|child| child.kept.hear()) {
            self.on_known(registry, nonce, pid, inputs);
        }
    }

    fn on_known(&mut self, registry: &Registry, nonce: Nonce, pid: u32, inputs: &mut Vec<Input>) {
        log::info!("child {nonce} is pid {pid}");
        inputs.push(Input::ChildSpawned { nonce, pid });
        let fd = self.all.get(&nonce).and_then(|child| child.kept.child_fd());
        // Its keeper is watched, too, and ends after it.
        if let Err(error) = self.listen(registry, fd, Source::Process(nonce)) {
            log::warn!("watching child {nonce} failed: {error}");
        }
    }

    /// A child's process has ended, or its keeper has; when both have, it is gone.
    pub fn on_exit(&mut self, registry: &Registry, nonce: Nonce, now: Millis, inputs: &mut Vec<Input>) {
        self.on_word(registry, nonce, inputs);
        let Some(child) = self.all.get_mut(&nonce) else { return };
        match child.kept.has_ended() {
            (true, true) => self.bury(nonce, inputs),
            // The keeper ends what is left below it, which takes a moment.
            (true, false) => child.kept.overdue = Some(now.plus(limits::KEEPER_END_MS)),
            // The kernel kills it with its keeper, unless it has seen to that itself.
            (false, true) => self.signal(nonce, Signal::Kill),
            (false, false) => {}
        }
    }

    fn bury(&mut self, nonce: Nonce, inputs: &mut Vec<Input>) {
        let Some(mut child) = self.all.remove(&nonce) else { return };
        self.sources.retain(|_, source| {
            !matches!(source, Source::Process(n) | Source::Word(n) | Source::Socket(n) if *n == nonce)
        });
        self.unread.remove(&nonce);
        // What it said before it ended is still evidence.
        let _ = child.channel.exchange(nonce, inputs);
        let pid = child.kept.pid();
        inputs.push(match child.kept.end() {
            Ok(status) => {
                let words = child.channel.last_words();
                log::info!("child {nonce} (pid {pid}) {status}: {words}");
                Input::ChildExited { nonce, why: status, words }
            }
            Err(why) => Input::ChildNotSpawned { nonce, why },
        });
    }

    /// Signals a child.
    pub fn signal(&self, nonce: Nonce, signal: Signal) {
        if let Some(child) = self.all.get(&nonce) {
            let signal = match signal {
                Signal::Term => libc::SIGTERM,
                Signal::Kill => libc::SIGKILL,
            };
            log::info!("child {nonce} (pid {}) gets signal {signal}", child.kept.pid());
            if let Err(error) = child.kept.signal(signal) {
                log::warn!("signalling child {nonce} failed: {error}");
            }
        }
    }

    /// Ends what an ended child has left behind.
    pub fn sweep(&mut self, nonce: Nonce, now: Millis) {
        self.sweeps.begin(nonce, self.all.is_empty(), now);
    }

    /// Ends all sweeps, before the relay leaves.
    pub fn end_sweeps(&mut self, clock: &mut Clock) {
        self.sweeps.end_all(self.all.is_empty(), clock);
    }

    /// The pids of all children and keepers, for telling who descends from them.
    pub fn pids(&self) -> impl Iterator<Item = u32> {
        self.all.values().flat_map(|child| child.kept.pids())
    }

    /// Whether a process is a keeper that this relay started, whose end it reaps by itself.
    pub fn owns(&self, pid: u32) -> bool {
        self.all.values().any(|child| child.kept.owns(pid))
    }
}
