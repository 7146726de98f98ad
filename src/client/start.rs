//! Reaching the relay: connect; if nobody listens and we may, take `spawn.lock`, connect again, start one, wait for its word.
//!
//! **Invariant:** the starter waits on the pipe of that child, never on a path (PX-7); whoever waited for a failed attempt
//! quotes its reason instead of starting the next failing one. **Invariant:** the started relay inherits `spawn.lock` and holds
//! it until it serves, so that a killed starter lets nobody start a second one beside it.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::connection::{CallError, Connected, Connection, Speaker, check_for_sandbox};
use crate::boot::bundle::Bundle;
use crate::boot::environment;
use crate::boot::holder::Holder;
use crate::boot::lock::{self, Lock, Taken};
use crate::boot::process;
use crate::boot::program;
use crate::boot::spawn::{Outer, Program, spawn_detached};
use crate::boot::statedir::{LOG, RELAY_LOCK, SOCKET, SPAWN_LOCK, StateDir, refused};
use crate::model::fault::{Code, Fault};
use crate::model::limits;

/// Which relay a command means, and whether it may start it.
#[derive(Debug, Clone)]
pub struct Target {
    /// The bundle.
    pub bundle: Bundle,
    /// Where all bundles keep their state.
    pub state_root: PathBuf,
    /// The person's configuration, if it is not where it usually is.
    pub config_dir: Option<PathBuf>,
    /// Whether starts are forbidden (`--no-start`, `AGENTMUX_NO_START`).
    pub no_start: bool,
    /// Who to speak as.
    pub speaker: Speaker,
    /// How long to wait for a relay to start (`start_timeout`).
    pub start_timeout: Duration,
    /// The name that this program has claimed, on whatever connection.
    pub claimed: Claimed,
}

/// The token of a claimed name: with it every later connection of this program is the same name, also to the next relay.
#[derive(Debug, Clone, Default)]
pub struct Claimed(Arc<Mutex<Option<String>>>);

impl Claimed {
    /// Who to say that we are: what was claimed already is not claimed, or taken over, once more.
    fn speaker(&self, speaker: &Speaker) -> Speaker {
        match self.lock().clone() {
            Some(token) => Speaker { token: Some(token), take_over: false, ..speaker.clone() },
            None => speaker.clone(),
        }
    }

    fn note(&self, connection: &Connection) {
        if let Some(token) = connection.welcome.as_ref().and_then(|welcome| welcome.token.clone()) {
            *self.lock() = Some(token);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A relay that was reached, or not.
#[derive(Debug)]
pub enum Reached {
    /// A connection.
    Relay(Box<Connection>),
    /// No relay runs.
    Nobody,
}

/// One attempt to start a relay, as `spawn.lock` remembers it.
#[derive(Debug, Default, PartialEq)]
struct Attempt {
    number: u64,
    fault: Option<Fault>,
}

impl Target {
    /// The bundle's directory.
    pub fn dir(&self) -> PathBuf {
        StateDir::path_of(&self.state_root, &self.bundle.name)
    }

    /// Connects to the relay if one runs.
    ///
    /// # Errors
    /// `busy` when it does not answer, `version` when it speaks another protocol, `conflict` when the bundle is another
    /// project's, `io` and `sandbox` as they come.
    pub fn reach(&self) -> Result<Reached, Fault> {
        match StateDir::open(&self.state_root, &self.bundle.name)? {
            Some(dir) => {
                self.check_root(&dir)?;
                self.reach_in(&dir)
            }
            None => Ok(Reached::Nobody),
        }
    }

    /// Connects to the relay, starting it first if nobody has and we may.
    ///
    /// # Errors
    /// `no_relay` when we may not; what the new relay says when it cannot start; else as [`Target::reach`].
    pub fn reach_or_start(&self) -> Result<Connection, Fault> {
        if let Reached::Relay(connection) = self.reach()? {
            return Ok(*connection);
        }
        if self.no_start {
            let fault = Fault::new(
                Code::NoRelay,
                format!("no relay of bundle {} is running, and starting one is forbidden", self.bundle.name),
            );
            return Err(
                fault.hint("run without --no-start (or AGENTMUX_NO_START), or start it: agentmux host relay")
            );
        }
        check_for_sandbox(&self.dir().join(SOCKET))?;
        let deadline = Instant::now() + self.start_timeout;
        let dir = StateDir::create(&self.state_root, &self.bundle.name)?;
        loop {
            self.start_or_wait(&dir, deadline)?;
            if let Reached::Relay(connection) = self.reach_in(&dir)? {
                return Ok(*connection);
            }
            if Instant::now() >= deadline {
                return Err(Fault::io("start failed: relays come up and leave at once").hint(self.see_log()));
            }
        }
    }

    /// Makes the running relay, if there is one, leave for a new one; until the returned lock is dropped no client starts
    /// another. Works across protocol versions: hello, its refusal and `relay/replace` are the same in all of them.
    ///
    /// # Errors
    /// `busy` when another start is under way or the relay does not answer; what the relay refuses.
    pub fn hand_over(&self) -> Result<Lock, Fault> {
        let dir = StateDir::create(&self.state_root, &self.bundle.name)?;
        let lock = match Lock::take(&dir, SPAWN_LOCK, self.start_timeout)? {
            Taken::Ours(lock) => lock,
            Taken::Held => return Err(self.another_start(&dir, "replace")),
        };
        if let Connected::Stream(stream) = self.connect(&dir)? {
            let mut connection = match Connection::hello_of_any_version(stream, self.answer_patience()) {
                Ok(connection) => connection,
                Err(CallError::TimedOut) => return Err(self.busy(&dir)),
                Err(error) => return Err(Fault::from(error)),
            };
            let deadline = Some(Instant::now() + self.answer_patience());
            let replaced: Result<serde_json::Value, CallError> =
                connection.call_until("relay/replace", &serde_json::json!({}), deadline);
            replaced.map_err(|error| match error {
                CallError::TimedOut => {
                    self.busy(&dir).hint("it was asked and may still leave; `agentmux status` says so")
                }
                error => Fault::from(error),
            })?;
        }
        Ok(lock)
    }

    /// Makes a call that survives the loss of its connection: it is made again on the next one. A request that has a key and was
    /// written, but not answered, ends in the words that make sending it again harmless.
    ///
    /// # Errors
    /// What the relay refuses; `timeout` when the relay was stopped by a person while the request waited.
    pub fn call_again<T: DeserializeOwned>(
        &self,
        connection: &mut Connection,
        method: &str,
        deadline: Option<Instant>,
        params: impl Fn() -> serde_json::Value,
    ) -> Result<T, CallError> {
        let (mut times, mut is_asked) = (0, false);
        loop {
            let params = params();
            let key = params["key"].as_str();
            let error = match connection.call_until(method, &params, deadline) {
                // A stopping relay refuses what still waits; to the waiter that is the stop, not a reason to try again.
                Err(CallError::Refused(fault))
                    if key.is_none() && connection.stopping && fault.code == Code::Busy =>
                {
                    return Err(CallError::Lost { stopping: true });
                }
                Ok(answer) => return Ok(answer),
                Err(CallError::Refused(fault)) => return Err(CallError::Refused(fault)),
                Err(error) => error,
            };
            (times, is_asked) = (times + 1, is_asked || connection.is_asked);
            let error = match error {
                CallError::Lost { stopping: false } if times < limits::CALL_LOST_MAX => {
                    match self.reach_or_start() {
                        Ok(next) => {
                            *connection = next;
                            continue;
                        }
                        Err(fault) => CallError::Refused(fault),
                    }
                }
                CallError::Lost { stopping: false } => {
                    let fault = Fault::io(format!(
                        "{method} failed: {times} relays have gone away while it was asked"
                    ));
                    CallError::Refused(fault.hint(self.see_log()))
                }
                CallError::Lost { stopping: true } if key.is_some() => {
                    CallError::Refused(Fault::busy("the relay was stopped before it answered"))
                }
                error => error,
            };
            return Err(match key.filter(|_| is_asked) {
                Some(key) => error.in_doubt(key),
                None => error,
            });
        }
    }

    pub(super) fn reach_in(&self, dir: &StateDir) -> Result<Reached, Fault> {
        let stream = match self.connect(dir)? {
            Connected::Stream(stream) => stream,
            Connected::Nobody => return Ok(Reached::Nobody),
        };
        match Connection::hello(stream, self.answer_patience(), &self.claimed.speaker(&self.speaker)) {
            Ok(connection) => {
                self.claimed.note(&connection);
                self.check_bundle(dir, connection)
            }
            // It left between connect and hello.
            Err(CallError::Lost { .. }) => Ok(Reached::Nobody),
            Err(CallError::TimedOut) => Err(self.busy(dir)),
            Err(error) => Err(Fault::from(error)),
        }
    }

    /// Connects to what stands at the socket's name, if that is a socket of this user that nobody else can reach.
    fn connect(&self, dir: &StateDir) -> Result<Connected, Fault> {
        if !dir.check_socket(SOCKET)? {
            return Ok(Connected::Nobody);
        }
        match Connection::open(&dir.socket_path(SOCKET), self.answer_patience()) {
            Err(fault) if fault.code == Code::Busy => Err(self.busy(dir)),
            connected => connected,
        }
    }

    /// Mail for one bundle must not be taken by the relay of another, whoever moved its socket here.
    fn check_bundle(&self, dir: &StateDir, connection: Connection) -> Result<Reached, Fault> {
        match connection.welcome.as_ref().map(|welcome| &welcome.bundle) {
            Some(bundle) if *bundle != self.bundle.name => {
                let why = format!("a relay of bundle {bundle} answers there, not of {}", self.bundle.name);
                Err(refused(&dir.path().join(SOCKET), &why))
            }
            _ => Ok(Reached::Relay(Box::new(connection))),
        }
    }

    /// How long a relay that is there may take to answer hello.
    pub(super) fn answer_patience(&self) -> Duration {
        self.start_timeout.min(Duration::from_millis(limits::HELLO_ANSWER_MS))
    }

    /// The refusal while somebody else's start has taken all the time there was.
    fn another_start(&self, dir: &StateDir, what: &str) -> Fault {
        let holders = lock::holders(dir, SPAWN_LOCK).map(|holders| format!(": {holders}"));
        let message = format!(
            "{what} failed: another start has been under way for {}{}",
            shown(self.start_timeout),
            holders.unwrap_or_default()
        );
        let stopped = message.contains(STOPPED);
        Fault::busy(message).hint(if stopped { let_go_on(None) } else { self.see_log() })
    }

    /// The refusal for a relay that is there and does not answer.
    pub(super) fn busy(&self, dir: &StateDir) -> Fault {
        let holder = holder_of(dir);
        let stopped = holder.as_ref().filter(|holder| holder.is_stopped()).map(|holder| holder.pid);
        let who = holder.map_or("it".to_owned(), |holder| holder.named());
        Fault::busy(format!(
            "the relay is busy: {who} did not answer within {}",
            shown(self.answer_patience())
        ))
        .hint(match stopped {
            Some(pid) => let_go_on(pid),
            None => "it may be overloaded; nothing was changed, try again".to_owned(),
        })
    }

    /// Two projects that were given one bundle name by their files must not meet by accident.
    fn check_root(&self, dir: &StateDir) -> Result<(), Fault> {
        if self.bundle.rule != crate::boot::project::PROJECT_FILE {
            return Ok(());
        }
        let root = self.bundle.root.display().to_string();
        match dir.noted_root()? {
            Some(known) if known.path != root => {
                let fault = format!("bundle {} belongs to {}, not to {root}", self.bundle.name, known.path);
                Err(Fault::conflict(fault)
                    .hint("give one of the two another name in its agentmux.toml, or use --bundle"))
            }
            _ => Ok(()),
        }
    }

    /// Remembers the project's root, once; under `spawn.lock`, so that nobody else is writing it.
    fn note_root(&self, dir: &StateDir) -> Result<(), Fault> {
        match dir.noted_root()? {
            None => dir.note_root(&self.bundle.root, self.bundle.rule),
            Some(_) => self.check_root(dir),
        }
    }

    /// Under `spawn.lock`: starts a relay unless somebody has in the meantime.
    fn start_or_wait(&self, dir: &StateDir, deadline: Instant) -> Result<(), Fault> {
        let before = read_attempt(dir)?;
        let left = deadline.saturating_duration_since(Instant::now());
        let mut lock = match Lock::take(dir, SPAWN_LOCK, left)? {
            Taken::Ours(lock) => lock,
            // The relay of a starter that is stopped may serve by now.
            Taken::Held => match self.connect(dir)? {
                Connected::Stream(_) => return Ok(()),
                Connected::Nobody => return Err(self.another_start(dir, "start")),
            },
        };
        if let Connected::Stream(_) = self.connect(dir)? {
            return Ok(());
        }
        self.note_root(dir)?;
        let now = read_attempt(dir)?;
        if let Some(fault) = now.fault.filter(|_| now.number > before.number) {
            return Err(fault);
        }
        let started = match self.start(dir, &lock, deadline) {
            // A relay is running: one that a killed starter had left on its way. It is the one to reach.
            Err(fault) if fault.code == Code::Conflict && !is_held_elsewhere(dir) => Ok(()),
            started => started,
        };
        let attempt = Attempt { number: now.number + 1, fault: started.as_ref().err().cloned() };
        if let Err(error) = lock.write_text(&attempt.text()) {
            log::debug!("remembering the attempt failed: {error}");
        }
        started
    }

    /// Starts a relay and waits for its word; once more when it was killed before it could say any.
    fn start(&self, dir: &StateDir, lock: &Lock, deadline: Instant) -> Result<(), Fault> {
        match self.start_once(dir, lock, deadline)? {
            None => Ok(()),
            Some(_) => self.start_once(dir, lock, deadline)?.map_or(Ok(()), Err),
        }
    }

    /// Starts a relay, which shares the lock until it serves; the fault that is no error is that it ended without a word.
    fn start_once(&self, dir: &StateDir, lock: &Lock, deadline: Instant) -> Result<Option<Fault>, Fault> {
        let failed = |why: String| Fault::io(format!("start failed: {why}"));
        let (read, write) =
            nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|error| failed(error.to_string()))?;
        let mut arguments =
            vec!["host", "relay", "--spawned", "--bundle", self.bundle.name.as_str(), "--state-dir"];
        let state_root = self.state_root.display().to_string();
        arguments.push(&state_root);
        let config_dir = self.config_dir.as_ref().map(|dir| dir.display().to_string());
        arguments.extend(config_dir.iter().flat_map(|dir| ["--config-dir", dir]));
        let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
        let program = Program {
            path: &program::own(),
            arguments: &arguments,
            environment: &environment::for_relay(),
            stderr: None,
            outer: Outer::default(),
            given: &[write.as_fd(), lock.as_fd()],
        };
        let pid = spawn_detached(&program).map_err(failed)?;
        drop(write);
        match read_word(&read, deadline) {
            Word::Said(line) if line == "ready" => Ok(None),
            Word::Said(line) => Err(serde_json::from_str(&line).unwrap_or_else(|_| failed(line))),
            Word::Silent => Ok(Some(
                failed(format!("the relay (pid {pid}) ended without a word{}", last_log_line(dir)))
                    .hint(self.see_log()),
            )),
            Word::TimedOut => {
                let stopped = process::is_stopped(pid);
                let state = if stopped { STOPPED } else { "" };
                let within = shown(self.start_timeout);
                Err(Fault::busy(format!(
                    "start failed: the relay, pid {pid}{state}, was not ready within {within}"
                ))
                .hint(if stopped { let_go_on(Some(pid)) } else { self.see_log() }))
            }
        }
    }

    pub(super) fn see_log(&self) -> String {
        format!("see {}", self.dir().join(LOG).display())
    }
}

/// Who wrote itself into the relay's lock last.
pub(super) fn holder_of(dir: &StateDir) -> Option<Holder> {
    Holder::parse(&dir.read(RELAY_LOCK).ok()??)
}

/// Whether the relay's lock was last taken on another host, whose socket nobody here can reach.
fn is_held_elsewhere(dir: &StateDir) -> bool {
    holder_of(dir).is_some_and(|holder| holder.is_elsewhere())
}

impl Attempt {
    fn text(&self) -> String {
        let fault = self.fault.as_ref().and_then(|fault| serde_json::to_string(fault).ok());
        format!("attempt={}\nerror={}\n", self.number, fault.unwrap_or_default())
    }
}

fn read_attempt(dir: &StateDir) -> Result<Attempt, Fault> {
    let text = dir.read(SPAWN_LOCK)?.unwrap_or_default();
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
    let number = value("attempt=").and_then(|number| number.parse().ok()).unwrap_or(0);
    let fault = value("error=").and_then(|fault| serde_json::from_str(fault).ok());
    Ok(Attempt { number, fault })
}

enum Word {
    Said(String),
    Silent,
    TimedOut,
}

fn read_word(pipe: &OwnedFd, deadline: Instant) -> Word {
    let mut text = Vec::new();
    let Ok(clone) = pipe.try_clone() else { return Word::Silent };
    let mut file = File::from(clone);
    loop {
        if let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            return Word::Said(String::from_utf8_lossy(&text[..end]).into_owned());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(0) => return Word::TimedOut,
            Ok(_) => {}
            Err(nix::Error::EINTR) => continue,
            Err(_) => return Word::Silent,
        }
        let mut buffer = [0; 4096];
        match file.read(&mut buffer) {
            Ok(0) | Err(_) => return Word::Silent,
            Ok(count) => text.extend_from_slice(&buffer[..count]),
        }
        if text.len() > 64 * 1024 {
            return Word::Silent;
        }
    }
}

/// How a stopped process is marked where people read of it.
const STOPPED: &str = " (stopped)";

/// What to do about one.
pub fn let_go_on(pid: Option<u32>) -> String {
    let pid = pid.map_or("PID".to_owned(), |pid| pid.to_string());
    format!("let it go on with `kill -CONT {pid}` or end it with `kill -KILL {pid}`; nothing was changed")
}

/// A duration for people: in seconds when it is whole ones.
fn shown(time: Duration) -> String {
    match time.as_millis() {
        ms if ms % 1000 == 0 => format!("{} s", ms / 1000),
        ms => format!("{ms} ms"),
    }
}

fn last_log_line(dir: &StateDir) -> String {
    let text = dir.read_tail(LOG).ok().flatten().unwrap_or_default();
    text.lines().next_back().map(|line| format!("; its log ends with: {line}")).unwrap_or_default()
}

/// Parameters for a call, as JSON.
pub fn params(params: &impl Serialize) -> serde_json::Value {
    serde_json::to_value(params).expect("our own parameters have string keys and finite numbers")
}
