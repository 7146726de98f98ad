//! One connection to the relay: hello, then requests and their answers, one at a time.
//!
//! **Invariant:** connecting and hello have a deadline; a relay that accepts and does not answer is "busy", never "gone" (BS-4).
//! **Invariant:** an answer is waited for while the relay can give it, which it does within deadlines of its own; one that is
//! stopped cannot.

use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::interrupt::{interrupted, wait_to_read};
use super::shell;
use crate::boot::{environment, process};
use crate::model::fault::{Code, Fault};
use crate::model::limits;
use crate::protocol::answer::{SessionInfo, Sessions, Welcome};
use crate::protocol::request::Hello;
use crate::protocol::{PROTOCOL_MAX, PROTOCOL_MIN, VERSION};
use crate::wire::lines::Lines;
use crate::wire::rpc::{self, Id, Message};

/// Who a client says that it is.
#[derive(Debug, Clone)]
pub struct Speaker {
    /// What kind of client.
    pub client: &'static str,
    /// The name that it wants to speak as.
    pub name: Option<String>,
    /// What proves that the name is its own.
    pub token: Option<String>,
    /// Whether the operator takes the name from whoever holds it.
    pub take_over: bool,
}

impl Default for Speaker {
    fn default() -> Speaker {
        Speaker { client: "cli", name: None, token: None, take_over: false }
    }
}

/// A connection that has said hello.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    lines: Lines,
    last_id: i64,
    /// After how long without an answer the relay's process is looked at.
    patience: Duration,
    /// For how long an answer is waited for when the person has pressed ^C: mail may have been accepted, and its id is wanted.
    last_word: Duration,
    interrupted_at: Option<Instant>,
    /// Whether the last request was written whole, so that the relay may do it although no answer comes.
    pub is_asked: bool,
    /// The relay's process, as it says.
    pub relay_pid: u32,
    /// Its answer to hello; there is none before.
    pub welcome: Option<Box<Welcome>>,
    /// Whether the relay has told that it is being stopped.
    pub stopping: bool,
}

/// See [`Connection::sender`].
#[derive(Debug)]
pub struct Sender(UnixStream);

impl Sender {
    /// Sends a request whose answer nobody waits for.
    pub fn send(&self, method: &str, params: &impl Serialize) {
        let line = rpc::request(&Id::Text("unheard".to_owned()), method, params);
        if let Err(error) = (&self.0).write_all(line.as_bytes()) {
            log::debug!("the relay is gone: {error}");
        }
    }
}

/// Why a call did not bring an answer.
#[derive(Debug)]
pub enum CallError {
    /// The relay refused it.
    Refused(Fault),
    /// The connection is gone; `stopping` when the relay had said that it was being stopped.
    Lost {
        /// See above.
        stopping: bool,
    },
    /// The deadline passed.
    TimedOut,
    /// The relay's process, which has this pid, is stopped: what was asked may still be done.
    Stalled(u32),
    /// The person pressed ^C.
    Interrupted,
}

impl CallError {
    /// The same of a request that had this key and was written, so that it may have been accepted.
    pub(super) fn in_doubt(self, key: &str) -> CallError {
        let is_stalled = matches!(self, CallError::Stalled(_));
        let fault = Fault::from(self);
        let then = fault.hint.clone().filter(|_| is_stalled);
        let then = then.unwrap_or_else(|| "it may have been accepted, `agentmux log` shows it".to_owned());
        let key = shell::quoted(key);
        CallError::Refused(fault.hint(format!("{then}; sending it again with --key {key} is harmless")))
    }
}

impl From<CallError> for Fault {
    fn from(error: CallError) -> Fault {
        match error {
            CallError::Refused(fault) => fault,
            CallError::Lost { stopping: true } => {
                Fault::timeout("the relay was stopped while this command waited")
            }
            CallError::Lost { stopping: false } => {
                Fault::busy("the relay went away while this command waited")
                    .hint("`agentmux status` shows what became of it")
            }
            CallError::TimedOut => Fault::busy("the relay did not answer in time"),
            CallError::Stalled(pid) => stopped(pid),
            CallError::Interrupted => Fault::new(Code::Interrupted, "interrupted"),
        }
    }
}

/// What came of connecting.
#[derive(Debug)]
pub enum Connected {
    /// A stream to a listening socket.
    Stream(UnixStream),
    /// Nobody listens.
    Nobody,
}

impl Connection {
    /// Connects to a socket, if anybody listens, waiting up to `patience` for a place in its backlog.
    ///
    /// # Errors
    /// `sandbox` when a sandbox forbids it, `busy` when the relay does not take connections, `io` for anything else.
    pub fn open(path: &Path, patience: Duration) -> Result<Connected, Fault> {
        let failed =
            |error: nix::Error| Fault::io(format!("connecting to {} failed: {error}", path.display()));
        let flags = SockFlag::SOCK_CLOEXEC;
        let fd: OwnedFd = match socket(AddressFamily::Unix, SockType::Stream, flags, None) {
            Ok(fd) => fd,
            Err(error) => return Err(sandboxed(path, error).unwrap_or_else(|| failed(error))),
        };
        // A full backlog blocks connect for as long as a send may block.
        let wait = TimeVal::new(patience.as_secs() as _, patience.subsec_micros().into());
        if let Err(error) = setsockopt(&fd, sockopt::SendTimeout, &wait) {
            // The sandbox of Codex forbids this call first.
            return Err(sandboxed(path, error).unwrap_or_else(|| failed(error)));
        }
        let address = UnixAddr::new(path).map_err(failed)?;
        match connect(fd.as_raw_fd(), &address) {
            Ok(()) => Ok(Connected::Stream(UnixStream::from(fd))),
            Err(nix::Error::ENOENT | nix::Error::ECONNREFUSED) => Ok(Connected::Nobody),
            Err(nix::Error::EAGAIN) => {
                Err(Fault::busy(format!("the relay is busy: {} takes no more connections", path.display())))
            }
            Err(error) => Err(sandboxed(path, error).unwrap_or_else(|| failed(error))),
        }
    }

    /// Says hello on a stream, waiting up to `patience` for the answer.
    ///
    /// # Errors
    /// What the relay refuses; `Lost` when it goes away, `TimedOut` when it does not answer.
    pub fn hello(stream: UnixStream, patience: Duration, speaker: &Speaker) -> Result<Connection, CallError> {
        Connection::introduce(stream, patience, speaker, PROTOCOL_MIN, PROTOCOL_MAX)
    }

    /// Says hello for one of the methods that are the same in every version.
    ///
    /// # Errors
    /// As [`Connection::hello`].
    pub fn hello_of_any_version(stream: UnixStream, patience: Duration) -> Result<Connection, CallError> {
        Connection::introduce(stream, patience, &Speaker::default(), 1, u32::MAX)
    }

    fn introduce(
        stream: UnixStream,
        patience: Duration,
        speaker: &Speaker,
        protocol_min: u32,
        protocol_max: u32,
    ) -> Result<Connection, CallError> {
        check_peer(&stream).map_err(CallError::Refused)?;
        let lines = Lines::new(limits::CLIENT_OUT_BYTES_MAX);
        let mut connection = Connection {
            stream,
            lines,
            last_id: 0,
            patience,
            last_word: Duration::ZERO,
            interrupted_at: None,
            is_asked: false,
            relay_pid: 0,
            welcome: None,
            stopping: false,
        };
        let hello = Hello {
            client: speaker.client.to_owned(),
            version: VERSION.to_owned(),
            protocol_min,
            protocol_max,
            agent_mark: environment::agent_mark(),
            identity: speaker.name.clone(),
            token: speaker.token.clone(),
            take_over: speaker.take_over,
        };
        let deadline = Instant::now() + patience;
        let welcome: Welcome = connection.call_until("hello", &hello, Some(deadline))?;
        connection.relay_pid = welcome.pid;
        connection.welcome = Some(Box::new(welcome));
        Ok(connection)
    }

    /// Asks the relay for something and waits for the answer, which every request gets within a deadline of the relay's.
    ///
    /// # Errors
    /// What the relay refuses; `Lost` when it goes away, `busy` when its process is stopped.
    pub fn call<T: DeserializeOwned>(
        &mut self,
        method: &str,
        params: &impl Serialize,
    ) -> Result<T, CallError> {
        self.call_until(method, params, None)
    }

    /// As [`Connection::call`], but no longer than until `deadline`.
    ///
    /// # Errors
    /// As [`Connection::call`]; `TimedOut` when the relay has not answered by then.
    pub fn call_until<T: DeserializeOwned>(
        &mut self,
        method: &str,
        params: &impl Serialize,
        deadline: Option<Instant>,
    ) -> Result<T, CallError> {
        self.is_asked = false;
        if interrupted() {
            return Err(CallError::Interrupted);
        }
        let is_mail = ["mail/send", "mail/reply", "session/prompt"].contains(&method);
        self.last_word = Duration::from_millis(if is_mail { limits::LAST_WORD_MS } else { 0 });
        self.last_id += 1;
        let id = Id::Number(self.last_id);
        let line = rpc::request(&id, method, params);
        match self.stream.write_all(line.as_bytes()) {
            Ok(()) => self.is_asked = true,
            // It has only half a request, which it will never answer.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let is_stopped = process::is_stopped(self.relay_pid);
                return Err(if is_stopped {
                    CallError::Stalled(self.relay_pid)
                } else {
                    CallError::TimedOut
                });
            }
            // A refusal may have been sent before the relay closed.
            Err(error) => log::debug!("the relay no longer reads: {error}"),
        }
        loop {
            let message = match self.next_message(deadline.or_else(|| Some(Instant::now() + self.patience))) {
                Err(CallError::TimedOut) if deadline.is_none() => match process::is_stopped(self.relay_pid) {
                    true => return Err(CallError::Stalled(self.relay_pid)),
                    false => continue,
                },
                message => message?,
            };
            match message {
                Message::Response { id: answered, result } if answered == id => {
                    let value = result.map_err(|error| CallError::Refused(error.fault()))?;
                    return read_answer(method, value);
                }
                Message::Notification { method, .. } if method == "relay/stopping" => self.stopping = true,
                _ => {}
            }
        }
    }

    /// What the relay lists of a session; `None` when there is no such session.
    ///
    /// # Errors
    /// As [`Connection::call`].
    pub fn listed(&mut self, name: &str) -> Result<Option<SessionInfo>, CallError> {
        let list: Sessions = self.call("session/list", &serde_json::json!({}))?;
        Ok(list.sessions.into_iter().flatten().find(|session| session.name.as_str() == name))
    }

    /// A second handle that can only ask; nobody waits for the answers.
    pub fn sender(&self) -> Option<Sender> {
        self.stream.try_clone().ok().map(Sender)
    }

    /// Waits for the next notification: its method and parameters.
    ///
    /// # Errors
    /// `Lost` when the relay goes away, `TimedOut` when nothing has come by the deadline.
    pub fn next_notice(&mut self, deadline: Option<Instant>) -> Result<(String, Value), CallError> {
        loop {
            if let Message::Notification { method, params } = self.next_message(deadline)? {
                self.stopping |= method == "relay/stopping";
                return Ok((method, params));
            }
        }
    }

    /// Waits for the next event that this connection has subscribed to.
    ///
    /// # Errors
    /// `Lost` when the relay goes away; what it refuses.
    pub fn next_event(&mut self) -> Result<Value, CallError> {
        self.next_event_until(None)
    }

    /// As [`Connection::next_event`], with a deadline.
    ///
    /// # Errors
    /// `TimedOut` when it has passed; else as there.
    pub fn next_event_until(&mut self, deadline: Option<Instant>) -> Result<Value, CallError> {
        loop {
            let (method, params) = self.next_notice(deadline)?;
            if method == "event" {
                return Ok(params);
            }
        }
    }

    fn next_message(&mut self, deadline: Option<Instant>) -> Result<Message, CallError> {
        loop {
            if let Some(line) = self.lines.next_line() {
                let line =
                    line.map_err(|_| CallError::Refused(Fault::bug("the relay's answer is too long")))?;
                match rpc::parse(line, true) {
                    Ok(message) => return Ok(message),
                    // A refusal of a line that could not be read carries no id.
                    Err(_) => return Err(unaddressed(line)),
                }
            }
            let seen = interrupted();
            let given_up_at =
                seen.then(|| *self.interrupted_at.get_or_insert_with(Instant::now) + self.last_word);
            if given_up_at.is_some_and(|at| at <= Instant::now()) {
                return Err(CallError::Interrupted);
            }
            let deadline = deadline.into_iter().chain(given_up_at).min();
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(CallError::TimedOut);
            }
            let lost = CallError::Lost { stopping: self.stopping };
            if wait_to_read(self.stream.as_fd(), left, seen).is_err() {
                return Err(lost);
            }
            let mut buffer = [0; 64 * 1024];
            // The wait may have ended for another reason.
            match recv(self.stream.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => return Err(lost),
                Ok(count) => self.lines.push(&buffer[..count]),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(_) => return Err(lost),
            }
        }
    }
}

/// The refusal for a relay that was stopped before it answered: what was asked of it may still be done.
fn stopped(pid: u32) -> Fault {
    Fault::busy(format!("the relay is busy: pid {pid} (stopped) has not answered")).hint(format!(
        "let it go on with `kill -CONT {pid}`; what was asked may be done then, `agentmux log` shows it"
    ))
}

fn read_answer<T: DeserializeOwned>(method: &str, value: Value) -> Result<T, CallError> {
    serde_json::from_value(value).map_err(|error| {
        let fault =
            Fault::new(Code::Version, format!("the relay's answer to {method} is not understood: {error}"));
        CallError::Refused(fault.hint("replace the relay: agentmux down, then run the command again"))
    })
}

/// A refusal without an id: of the connection as a whole.
fn unaddressed(line: &[u8]) -> CallError {
    let value: Value = serde_json::from_slice(line).unwrap_or_default();
    match serde_json::from_value::<rpc::RpcError>(value["error"].clone()) {
        Ok(error) => CallError::Refused(error.fault()),
        Err(_) => CallError::Refused(Fault::bug("the relay sent something that is no message")),
    }
}

/// The process at the other end must be this user's.
fn check_peer(stream: &UnixStream) -> Result<(), Fault> {
    let peer = nix::sys::socket::getsockopt(stream, sockopt::PeerCredentials);
    let ours = nix::unistd::geteuid().as_raw();
    match peer {
        Ok(peer) if peer.uid() == ours => Ok(()),
        Ok(peer) => {
            Err(Fault::io(format!("relay refused: it belongs to user {}, not to {ours}", peer.uid())))
        }
        Err(error) => Err(Fault::io(format!("relay refused: its user cannot be told: {error}"))),
    }
}

/// The sentence for a socket that a sandbox forbids; `None` when there is no sign of a sandbox.
fn sandboxed(path: &Path, error: nix::Error) -> Option<Fault> {
    sandboxed_by(environment::sandbox_mark(), path, error)
}

fn sandboxed_by(mark: Option<String>, path: &Path, error: nix::Error) -> Option<Fault> {
    let forbidden = matches!(error, nix::Error::EPERM | nix::Error::EACCES);
    let mark = mark.filter(|_| forbidden)?;
    let fault = Fault::new(
        Code::Sandbox,
        format!("connecting to {} failed: the sandbox ({mark}) forbids it: {error}", path.display()),
    );
    Some(fault.hint("use the agentmux tools (`send`, `inbox`, `wait`, `list`, `ask`, `whoami`), which reach it from inside; or run the command outside the sandbox"))
}

/// The refusal where no relay runs and this process may not even open a connection: nothing is made and nothing is started.
///
/// # Errors
/// `sandbox`, naming the socket.
pub(super) fn check_for_sandbox(path: &Path) -> Result<(), Fault> {
    let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None);
    let limited = fd.and_then(|fd| setsockopt(&fd, sockopt::SendTimeout, &TimeVal::new(1, 0)));
    limited.map_or_else(|error| sandboxed(path, error).map_or(Ok(()), Err), Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(names: &[&str]) -> Option<String> {
        environment::sandbox_mark_of(&names.iter().map(|&name| name.to_owned()).collect::<Vec<String>>())
    }

    /// Users 7: an agent whose sandbox forbids the socket is told so, and that its tools reach further, by whatever variable it is known.
    #[test]
    fn a_socket_that_an_agents_sandbox_forbids_is_told_as_that() {
        let path = Path::new("/state/relay.sock");
        for (names, told) in [
            (&["PATH", "CLAUDECODE"][..], "CLAUDECODE"),
            (&["CODEX_THREAD_ID"], "CODEX_THREAD_ID"),
            (&["CLAUDECODE", "CODEX_SANDBOX_NETWORK_DISABLED"], "CODEX_SANDBOX_NETWORK_DISABLED"),
        ] {
            for error in [nix::Error::EPERM, nix::Error::EACCES] {
                let fault = sandboxed_by(mark(names), path, error).expect("a sandbox");
                assert_eq!(fault.code, Code::Sandbox);
                assert!(
                    fault.message.contains(&format!("/state/relay.sock failed: the sandbox ({told})")),
                    "{fault:?}"
                );
                assert!(
                    fault.hint.as_deref().is_some_and(|hint| hint.contains("the agentmux tools")),
                    "{fault:?}"
                );
            }
            // What is no refusal of the kernel's is no sandbox, and its own cause is told.
            assert!(sandboxed_by(mark(names), path, nix::Error::ECONNREFUSED).is_none());
        }
        assert!(sandboxed_by(mark(&["PATH", "HOME"]), path, nix::Error::EPERM).is_none(), "no sign of one");
    }
}
