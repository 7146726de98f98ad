//! The desk: connections to the relay that are kept between calls, all of one identity.
//!
//! **Invariant:** a call outlives restarts and upgrades of the relay, by the same way to a new one as any client has.
//! **Invariant:** a connection is used by one call at a time, the last used first: the next call then confirms what the one
//! before was handed. **Invariant:** a visit has an end: whatever it asks, and however often a relay goes away, it takes no longer
//! than [`limits::TOOL_CALL_MS`].

use std::io::Read;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::doubt::Doubts;
use crate::client::{CallError, Connection, Reached, Target, params};
use crate::model::fault::{Code, Fault};
use crate::model::limits;
use crate::protocol::answer::{Sent, Sessions, Welcome};
use crate::protocol::check::Groups;
use crate::protocol::request::Send;

/// See the header of this file.
#[derive(Debug)]
pub struct Desk {
    target: Target,
    /// Names that stand for several recipients.
    pub groups: Groups,
    state: Mutex<State>,
    /// Held while a connection is made.
    opening: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<Connection>,
    doubts: Doubts,
    /// The relay's last answer to hello.
    welcome: Option<Welcome>,
}

/// One call of a tool at the desk.
#[derive(Debug)]
pub struct Visit<'a> {
    /// The desk.
    pub desk: &'a Desk,
    /// When it ends.
    over: Instant,
}

/// How long an answer is waited for.
#[derive(Debug, Clone, Copy)]
pub enum Patience {
    /// As long as a relay that is there takes for what needs no waiting, counted from when it is asked.
    Soon,
    /// Until then, whoever is asked.
    Until(Instant),
}

/// A request without the answer that it wants.
#[derive(Debug)]
struct Unanswered {
    fault: Fault,
    /// Whether it may have been done all the same.
    is_open: bool,
}

impl Desk {
    /// A desk without a connection.
    pub fn new(target: Target, groups: Groups) -> Desk {
        Desk { target, groups, state: Mutex::default(), opening: Mutex::new(()) }
    }

    /// Connects if a relay runs; that it does not, or does not want us, is heard by the first call.
    pub fn say_hello(&self) {
        let _one_at_a_time = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        // The first call may have come before this.
        if self.lock().welcome.is_none()
            && let Ok(Reached::Relay(connection)) = self.target.reach()
        {
            self.note(&connection);
            self.keep(*connection);
        }
    }

    /// The rule that chose the bundle.
    pub fn rule(&self) -> &'static str {
        self.target.bundle.rule
    }

    /// Begins a call of a tool.
    pub fn visit(&self) -> Visit<'_> {
        Visit { desk: self, over: Instant::now() + Duration::from_millis(limits::TOOL_CALL_MS) }
    }

    /// A new connection, or one that somebody else has made meanwhile. Two at once would be in each other's way: the first gets
    /// the token with which the second is the same name.
    fn open(&self, over: Instant) -> Result<Connection, Fault> {
        let _one_at_a_time = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = self.lock().idle.pop() {
            return Ok(connection);
        }
        let left = over.saturating_duration_since(Instant::now());
        let least = Duration::from_millis(limits::START_MS_MIN);
        if left < least {
            return Err(Fault::busy("the relay did not come up in time"));
        }
        let start_timeout = self.target.start_timeout.min(left);
        let connection = Target { start_timeout, ..self.target.clone() }.reach_or_start()?;
        self.note(&connection);
        Ok(connection)
    }

    fn note(&self, connection: &Connection) {
        self.lock().welcome = connection.welcome.as_deref().cloned();
    }

    fn keep(&self, connection: Connection) {
        let mut state = self.lock();
        if state.idle.len() < limits::TOOL_CONNECTIONS_KEPT {
            state.idle.push(connection);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Visit<'_> {
    /// Who we are, as the relay says; it is asked something, so that the answer is of now.
    pub fn welcome(&self) -> Result<Welcome, Fault> {
        let _: Sessions = self.call("session/list", Patience::Soon, || serde_json::json!({}))?;
        self.desk.lock().welcome.clone().ok_or_else(|| Fault::bug("a connection without a welcome"))
    }

    /// Makes a call, on another relay if this one goes away. `params` is asked again each time.
    pub fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        patience: Patience,
        params: impl Fn() -> Value,
    ) -> Result<T, Fault> {
        self.try_call(method, patience, 0, params).map_err(|unanswered| unanswered.fault)
    }

    /// Sends mail. Whoever sends the same once more, because it was not known whether it was accepted, does not send it twice.
    pub fn send(&self, request: Send) -> Result<Sent, Fault> {
        let kept = self.desk.lock().doubts.take(&request, Instant::now());
        let was_open = kept.is_some();
        let request = Send { key: Some(kept.map_or_else(new_key, Ok)?), ..request };
        // With its key it may be asked once more where there was no answer.
        let sent = self.try_call("mail/send", Patience::Soon, 1, || params(&request));
        sent.map_err(|Unanswered { fault, is_open }| {
            if !is_open && !was_open {
                return fault;
            }
            self.desk.lock().doubts.note(&request, Instant::now());
            Fault::new(fault.code, format!("{}; the mail may have been accepted", fault.message))
                .hint("call this again with the very same arguments: the mail is not sent twice")
        })
    }

    fn try_call<T: DeserializeOwned>(
        &self,
        method: &str,
        patience: Patience,
        mut repeats: u32,
        params: impl Fn() -> Value,
    ) -> Result<T, Unanswered> {
        let mut is_open = false;
        let kept = self.desk.lock().idle.pop();
        let mut is_kept = kept.is_some();
        let mut next = kept.map_or_else(|| self.desk.open(self.over), Ok);
        let mut lost = 0;
        loop {
            let mut connection = next.map_err(|fault| Unanswered { fault, is_open })?;
            let error = match connection.call_until(method, &params(), Some(self.deadline(patience))) {
                Ok(answer) => {
                    self.desk.keep(connection);
                    return Ok(answer);
                }
                Err(CallError::Refused(fault)) => {
                    // A fenced connection closes; its name has to be claimed anew.
                    if fault.code != Code::Conflict {
                        self.desk.keep(connection);
                    }
                    return Err(Unanswered { fault, is_open });
                }
                Err(error) => error,
            };
            is_open |= connection.is_asked;
            match error {
                // One that was kept may have ended long ago; whoever stopped a relay then does not mind this call.
                CallError::Lost { stopping } if (!stopping || is_kept) && lost < limits::CALL_LOST_MAX => {
                    (lost, is_kept) = (lost + 1, false);
                }
                CallError::TimedOut if repeats > 0 => repeats -= 1,
                error => return Err(Unanswered { fault: Fault::from(error), is_open }),
            }
            self.desk.lock().idle.clear();
            next = self.desk.open(self.over);
        }
    }

    fn deadline(&self, patience: Patience) -> Instant {
        match patience {
            Patience::Soon => Instant::now() + Duration::from_millis(limits::HELLO_ANSWER_MS),
            Patience::Until(at) => at,
        }
        .min(self.over)
    }
}

/// A key that nobody else has.
fn new_key() -> Result<String, Fault> {
    let mut bits = [0; 16];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut device| device.read_exact(&mut bits))
        .map_err(|error| Fault::io(format!("send failed: no random bits: {error}")))?;
    Ok(format!("~{:032x}", u128::from_le_bytes(bits)))
}
