//! The desk: connections to the relay that are kept between calls, all of one identity.
//!
//! **Invariant:** a call outlives restarts and upgrades of the relay, by the same way to a new one as any client has.
//! **Invariant:** a connection is used by one call at a time, the last used first: the next call then confirms what the one
//! before was handed.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::client::{CallError, Connection, Reached, Target};
use crate::model::fault::{Code, Fault};
use crate::model::limits;
use crate::protocol::answer::{Sessions, Welcome};
use crate::protocol::check::Groups;

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
    /// The relay's last answer to hello.
    welcome: Option<Welcome>,
}

impl Desk {
    /// A desk without a connection.
    pub fn new(target: Target, groups: Groups) -> Desk {
        Desk { target, groups, state: Mutex::default(), opening: Mutex::new(()) }
    }

    /// Connects if a relay runs; that it does not, or does not want us, is heard by the first call.
    pub fn say_hello(&self) {
        let _one_at_a_time = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(Reached::Relay(connection)) = self.target.reach() {
            self.note(&connection);
            self.keep(*connection);
        }
    }

    /// The rule that chose the bundle.
    pub fn rule(&self) -> &'static str {
        self.target.bundle.rule
    }

    /// Who we are, as the relay says; it is asked something, so that the answer is of now.
    pub fn welcome(&self) -> Result<Welcome, Fault> {
        let soon = Some(Instant::now() + Duration::from_millis(limits::HELLO_ANSWER_MS));
        let _: Sessions = self.call("session/list", soon, || serde_json::json!({}))?;
        self.lock().welcome.clone().ok_or_else(|| Fault::bug("a connection without a welcome"))
    }

    /// Makes a call, on another relay if this one goes away. `params` is asked again each time.
    pub fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        deadline: Option<Instant>,
        params: impl Fn() -> Value,
    ) -> Result<T, Fault> {
        let kept = self.lock().idle.pop();
        let mut is_kept = kept.is_some();
        let mut connection = match kept {
            Some(connection) => connection,
            None => self.open()?,
        };
        loop {
            match connection.call_until(method, &params(), deadline) {
                Ok(answer) => {
                    self.keep(connection);
                    return Ok(answer);
                }
                // One that was kept may have ended long ago; whoever stopped a relay then does not mind this call.
                Err(CallError::Lost { stopping }) if !stopping || is_kept => {
                    self.lock().idle.clear();
                    is_kept = false;
                    connection = self.open()?;
                }
                Err(CallError::Refused(fault)) => {
                    // A fenced connection closes; its name has to be claimed anew.
                    if fault.code != Code::Conflict {
                        self.keep(connection);
                    }
                    return Err(fault);
                }
                Err(error) => return Err(Fault::from(error)),
            }
        }
    }

    /// A new connection, or one that somebody else has made meanwhile. Two at once would be in each other's way: the first gets
    /// the token with which the second is the same name.
    fn open(&self) -> Result<Connection, Fault> {
        let _one_at_a_time = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = self.lock().idle.pop() {
            return Ok(connection);
        }
        let connection = self.target.reach_or_start()?;
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
