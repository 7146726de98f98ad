//! One lap of the relay, and the relay as a whole.
//!
//! 1 wait for readiness or the earliest deadline; 2 read every ready descriptor, bounded; 3 for each input, with one `now` per
//! lap: resolve, handle, apply; 4 commit once; 5 release all actions; 6 flush buffers, close the doomed.
//!
//! **Invariant:** only step 4 makes anything durable and only step 5 makes anything visible; if the commit fails nothing is
//! released and the process exits with 74.

use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::net::{UnixListener, UnixStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sys::signalfd::SignalFd;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use super::child::{Children, Source};
use super::clients::{Asked, Clients, turned_away};
use super::clock::Clock;
use super::entropy::Entropy;
use super::feed::Feed;
use super::hook::Hooks;
use super::names::Names;
use super::orphans::Orphans;
use super::perform::Facts;
use super::upkeep::Upkeep;
use super::watch::Watch;
use crate::boot::descent;
use crate::boot::lock::Lock;
use crate::boot::statedir::StateDir;
use crate::core::Core;
use crate::core::action::Action;
use crate::core::input::{Input, Moment};
use crate::core::record::Record;
use crate::model::fault::Code;
use crate::model::id::{ConnId, approval_id};
use crate::model::limits;
use crate::store::Store;

const LISTENER: Token = Token(0);
const SIGNALS: Token = Token(1);
const DIRECTORY: Token = Token(2);
const FIRST_CLIENT: usize = 16;

/// Why the relay must leave at once, with nothing released.
#[derive(Debug)]
pub struct Fatal(pub String);

/// A running relay.
#[derive(Debug)]
pub struct Relay {
    pub(super) poll: Poll,
    pub(super) dir: StateDir,
    pub(super) store: Store,
    pub(super) core: Core,
    pub(super) clients: Clients,
    pub(super) children: Children,
    pub(super) facts: Facts,
    pub(super) listener: UnixListener,
    /// The inode of the socket's name, to know it again when leaving; `None` when systemd holds the socket.
    pub(super) socket_inode: Option<u64>,
    pub(super) signals: SignalFd,
    pub(super) lock: Option<Lock>,
    /// The locks of names in use.
    pub(super) names: Names,
    pub(super) clock: Clock,
    pub(super) entropy: Entropy,
    /// What performing actions led to; handled in the next lap.
    pub(super) inputs: Vec<Input>,
    pub(super) next_client: usize,
    /// Somebody may be waiting to be accepted.
    pub(super) at_the_door: bool,
    pub(super) leaving: bool,
    /// Tells when a name in the directory goes.
    pub(super) watch: Option<Watch>,
    /// Whether the file system is nearly full, once somebody has asked in this lap.
    pub(super) disk_low: Option<bool>,
    /// What is done between laps.
    pub(super) upkeep: Upkeep,
    /// What happened, for those who watch.
    pub(super) feed: Feed,
    /// The person's own command.
    pub(super) hooks: Hooks,
    /// What was orphaned below this relay.
    pub(super) orphans: Orphans,
    /// A descriptor kept for turning a client away when there are no others.
    pub(super) spare: Option<std::fs::File>,
}

/// Something to be handled in this lap.
#[derive(Debug)]
enum Arrived {
    Input(Input),
    Asked(Asked),
}

impl Relay {
    /// Registers the descriptors that are there from the start.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn register(&mut self) -> std::io::Result<()> {
        self.next_client = FIRST_CLIENT;
        self.register_listener()?;
        // Where a bundle that was named by hand was first used means nothing to it.
        let root = self.facts.root.as_ref().filter(|root| !root.named_by_hand);
        let root = root.map(|root| root.path.clone().into());
        self.watch = Some(Watch::start(self.poll.registry(), &self.dir, root, DIRECTORY)?);
        self.poll.registry().register(&mut SourceFd(&self.signals.as_raw_fd()), SIGNALS, Interest::READABLE)
    }

    /// Registers the socket that clients connect to.
    pub(super) fn register_listener(&mut self) -> std::io::Result<()> {
        self.poll.registry().register(&mut self.listener, LISTENER, Interest::READABLE)
    }

    /// Runs laps until it is time to leave.
    ///
    /// # Errors
    /// [`Fatal`] when the store failed; nothing of that lap was released.
    pub fn run(&mut self) -> Result<(), Fatal> {
        let mut events = Events::with_capacity(256);
        while !self.leaving {
            let timeout = self.timeout();
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != std::io::ErrorKind::Interrupted => {
                    return Err(Fatal(format!("waiting for events failed: {error}")));
                }
                _ => {}
            }
            let arrived = self.collect(&events);
            self.lap(arrived)?;
        }
        self.farewell();
        Ok(())
    }

    /// Handles inputs that come from the start itself, before the first wait.
    ///
    /// # Errors
    /// As [`Relay::run`].
    pub fn first_lap(&mut self, input: Input) -> Result<(), Fatal> {
        self.lap(vec![Arrived::Input(input)])
    }

    /// How long to wait: not at all when something was left over, for ever when nothing is due.
    fn timeout(&mut self) -> Option<Duration> {
        if self.upkeep.is_due()
            || self.at_the_door
            || !self.inputs.is_empty()
            || self.clients.has_unread()
            || self.children.has_unread()
            || self.feed.is_due(&self.clients)
            || self.orphans.is_due()
        {
            return Some(Duration::ZERO);
        }
        let deadlines = [
            self.core.deadline(),
            self.children.deadline(),
            self.clients.deadline(),
            self.hooks.deadline(),
            self.weighing_deadline(),
        ];
        let deadline = deadlines.into_iter().flatten().min()?;
        Some(Duration::from_millis(deadline.since(self.clock.now()) as u64))
    }

    /// Step 2: reads every ready descriptor, each up to its share.
    fn collect(&mut self, events: &Events) -> Vec<Arrived> {
        let now = self.clock.now();
        let mut inputs = std::mem::take(&mut self.inputs);
        let mut asked = Vec::new();
        let mut exits = Vec::new();
        self.disk_low = None;
        let mut readable = self.clients.take_unread();
        for event in events {
            match event.token() {
                LISTENER => self.at_the_door = true,
                SIGNALS => self.read_signals(&mut inputs),
                DIRECTORY => self.on_directory(&mut inputs),
                token if Hooks::owns(token) => self.hooks.on_exit(self.poll.registry(), token),
                token => match self.children.source(token) {
                    Some(Source::Process(nonce)) => exits.push(nonce),
                    Some(Source::Word(nonce)) => {
                        self.children.on_word(self.poll.registry(), nonce, &mut inputs);
                    }
                    Some(Source::Socket(nonce)) => self.children.on_socket(nonce, now, &mut inputs),
                    None => {
                        let conn = ConnId(token.0 as u64);
                        if event.is_read_closed() {
                            self.clients.on_read_closed(conn);
                        }
                        if event.is_readable() || event.is_read_closed() {
                            readable.insert(conn);
                        }
                        self.clients.on_writable(conn, event.is_write_closed() && event.is_read_closed());
                    }
                },
            }
        }
        self.hooks.end_overdue(now);
        if self.at_the_door {
            self.at_the_door = self.accept(&mut inputs);
        }
        self.clients.read_all(&readable, &mut asked);
        self.children.advance(self.poll.registry(), &self.dir, now, &mut inputs);
        for nonce in exits {
            self.children.on_exit(self.poll.registry(), nonce, now, &mut inputs);
        }
        self.orphans.reap(|pid| self.children.owns(pid) || self.hooks.runs(pid));
        if self.core.deadline().is_some_and(|at| at <= now) {
            inputs.push(Input::Tick);
        }
        // What a pane tells it has told before its child had it, and so before what the child says of that.
        let (told, asked): (Vec<Asked>, Vec<Asked>) = asked.into_iter().partition(Asked::is_told_before);
        let told = told.into_iter().map(Arrived::Asked);
        told.chain(inputs.into_iter().map(Arrived::Input))
            .chain(asked.into_iter().map(Arrived::Asked))
            .collect()
    }

    /// Steps 3 to 6.
    fn lap(&mut self, arrived: Vec<Arrived>) -> Result<(), Fatal> {
        let now = self.clock.now();
        let fatal = |error: crate::store::StoreError| Fatal(format!("the store failed: {error}"));
        let mut actions: Vec<Action> = Vec::new();
        for arrived in arrived {
            let input = match arrived {
                Arrived::Input(input) => input,
                Arrived::Asked(asked) => self.resolve(asked).map_err(fatal)?,
            };
            let mut draw = || self.entropy.draw().map_err(|error| Fatal(format!("no random bits: {error}")));
            let moment = Moment { now, seed: draw()?, secret: draw()? };
            let effects = self.core.handle(moment, input);
            for record in &effects.records {
                self.store.apply(record).map_err(fatal)?;
                log_approval(record);
                log_identity(record);
                self.names.note(record);
            }
            actions.extend(effects.actions);
        }
        self.store.commit().map_err(fatal)?;
        #[cfg(debug_assertions)]
        self.check_counts();
        for action in actions {
            self.perform(action, now);
        }
        self.names.settle(&self.dir, &self.core);
        self.upkeep(now);
        self.begin_watches();
        self.feed.pump(&mut self.clients);
        for conn in self.clients.flush(self.poll.registry(), self.clock.now()) {
            self.feed.forget(conn);
            self.inputs.push(Input::ConnClosed { conn });
        }
        self.children.hear(self.feed.listened_to());
        Ok(())
    }

    /// Takes as many clients as a lap may take; true when there may be more.
    fn accept(&mut self, inputs: &mut Vec<Input>) -> bool {
        for _ in 0..limits::ACCEPTS_PER_LAP {
            match self.listener.accept() {
                Ok((stream, _)) => self.welcome(stream, inputs),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return false,
                Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                    if !self.turn_one_away() {
                        return false;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    log::warn!("accepting a client failed: {error}");
                    return false;
                }
            }
        }
        true
    }

    fn welcome(&mut self, stream: UnixStream, inputs: &mut Vec<Input>) {
        let credentials = getsockopt(&stream, PeerCredentials);
        let own = credentials.is_ok_and(|peer| peer.uid() == nix::unistd::geteuid().as_raw());
        if !own || self.clients.count() >= limits::CLIENTS_MAX {
            let line = if own {
                turned_away(Code::Busy, "connection refused: too many clients are connected")
            } else {
                turned_away(Code::Refused, "connection refused: this relay serves another user")
            };
            let _ = std::io::Write::write_all(&mut &stream, line.as_bytes());
            return;
        }
        let pid = credentials.ok().and_then(|peer| u32::try_from(peer.pid()).ok());
        let descends = pid.is_some_and(|pid| self.descends(pid));
        let token = Token(self.next_client);
        self.next_client += 1;
        match self.clients.add(self.poll.registry(), stream, token) {
            Ok(conn) => inputs.push(Input::ConnOpened { conn, descends, pid }),
            Err(error) => log::warn!("watching a client failed: {error}"),
        }
    }

    /// Whether a process is an agent's: it comes from a child or a keeper, or from this relay at all, which starts nothing else but hooks.
    fn descends(&self, pid: u32) -> bool {
        let agents: Vec<u32> = self.children.pids().chain([std::process::id()]).collect();
        descent::descends_from(pid, &agents, |pid| self.hooks.runs(pid))
    }

    /// Out of descriptors: gives up the spare one for as long as it takes to turn a client away.
    fn turn_one_away(&mut self) -> bool {
        self.spare = None;
        let accepted = self.listener.accept();
        if let Ok((stream, _)) = &accepted {
            let line = turned_away(Code::Busy, "connection refused: the relay is out of descriptors");
            let _ = std::io::Write::write_all(&mut &*stream, line.as_bytes());
        }
        let turned = accepted.is_ok();
        drop(accepted);
        self.spare = std::fs::File::open("/dev/null").ok();
        turned
    }

    fn read_signals(&mut self, inputs: &mut Vec<Input>) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            if signal.ssi_signo == libc::SIGCHLD as u32 {
                self.orphans.on_signal();
                continue;
            }
            let name = nix::sys::signal::Signal::try_from(signal.ssi_signo as i32)
                .map_or("a signal", |signal| signal.as_str());
            log::info!("{name} from pid {}", signal.ssi_pid);
            inputs.push(Input::Leave { why: format!("got {name}") });
        }
    }

    /// Writes what clients are still owed, for a short time, and gives the socket and the lock back.
    fn farewell(&mut self) {
        let until = self.clock.now().plus(limits::HELLO_MS / 2);
        let mut events = Events::with_capacity(64);
        while !self.clients.is_flushed() {
            let left = until.since(self.clock.now());
            if left == 0 || self.poll.poll(&mut events, Some(Duration::from_millis(left as u64))).is_err() {
                break;
            }
            for event in &events {
                self.clients.on_writable(ConnId(event.token().0 as u64), false);
            }
            self.clients.flush(self.poll.registry(), self.clock.now());
        }
        self.hooks.end_all();
        self.children.end_sweeps(&mut self.clock);
        super::start::unbind(&self.dir, self.socket_inode);
        log::info!("the relay has left");
    }

    /// G9, by counts: cheap enough for every lap of a debug build.
    #[cfg(debug_assertions)]
    fn check_counts(&self) {
        let ledger = self.core.ledger();
        let counts = self.store.open_counts().expect("a debug build can count");
        assert_eq!(
            counts,
            [ledger.sessions.len(), ledger.deliveries.len(), ledger.children.len()],
            "the store equals the ledger"
        );
    }
}

/// Who asked what, and who settled it, is for people to read, too.
fn log_approval(record: &Record) {
    match record {
        Record::ApprovalAsked { session, key, kind, summary, .. } => {
            log::info!("approval {}: {session} asks ({kind}): {summary}", approval_id(key));
        }
        Record::ApprovalSettled { session, key, decision, by, reason, .. } => {
            log::info!("approval {} of {session}: {decision} by {by}: {reason}", approval_id(key));
        }
        _ => {}
    }
}

/// Who claimed a name, and from whom it was taken, is for people to read.
fn log_identity(record: &Record) {
    match record {
        Record::NameClaimed { name, epoch, by, taken_over, .. } => {
            let how = if *taken_over { "taken over" } else { "claimed" };
            log::info!("name {name} was {how} by {by} (claim {epoch})");
        }
        Record::NameReleased { name, .. } => log::info!("name {name} is free"),
        Record::NameRemoved { name } => log::info!("name {name} was removed"),
        _ => {}
    }
}
