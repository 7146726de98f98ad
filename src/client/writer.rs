//! Codex threads outside agentmux: who writes to one (one process at a time, which holds a lock beside the threads), and the command
//! that takes one up there.
//!
//! **Invariant:** the lock is looked at, never taken. **Invariant:** where a thread lies is told by its session's environment, not by the
//! caller's.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::boot::bundle;
use crate::boot::process;
use crate::client::shell::quoted;
use crate::client::{CallError, Connection};
use crate::model::fault::{Code, Fault};
use crate::model::limits;
use crate::protocol::answer::{NamedState, Sessions, Shown};
use crate::protocol::request::One;
use nix::sys::stat::stat;

/// What of a session's environment counts here.
type Variables = BTreeMap<String, String>;

/// The refusal of a thread that somebody else writes to, with who that is; with the environment that its child would have.
pub fn naming_the_writer(thread: &str, variables: &Variables, fault: Fault) -> Fault {
    // A name that is taken is a conflict, too, and has nothing to do with who writes.
    if fault.code != Code::Conflict || !fault.message.contains("active writer") {
        return fault;
    }
    let hint = "a thread has one writer: end it there first (in its bundle: agentmux down), and try again";
    let message = match writer(thread, variables) {
        Some(pid) => {
            let words = process::arguments(pid).join(" ");
            let words: String = words.trim().chars().filter(|c| !c.is_control()).take(200).collect();
            format!("{}: pid {pid} writes it ({words})", fault.message)
        }
        None => fault.message,
    };
    Fault::conflict(message).hint(hint)
}

fn writer(thread: &str, variables: &Variables) -> Option<u32> {
    let lock = codex_home(variables)?.join("thread-writer-locks").join(format!("{thread}.lock"));
    let lock = stat(&lock).ok()?;
    process::lockers(lock.st_dev, lock.st_ino).next()
}

/// Where Codex keeps its threads with these variables.
fn codex_home(variables: &Variables) -> Option<PathBuf> {
    let of = |key: &str| variables.get(key).filter(|value| !value.is_empty()).map(PathBuf::from);
    of("CODEX_HOME").or_else(|| Some(of("HOME").or_else(bundle::home)?.join(".codex")))
}

/// Where each session's threads lie, when that is not where a Codex of the caller's would look.
#[derive(Debug, Default)]
pub struct Homes(BTreeMap<String, PathBuf>);

impl Homes {
    /// Asks the relay, while there is one; nothing is known of what it does not tell in time. No names are all sessions.
    pub fn of(connection: &mut Connection, names: &[String]) -> Homes {
        let deadline = Some(Instant::now() + Duration::from_millis(limits::HOMES_MS));
        let own = ["CODEX_HOME", "HOME"]
            .iter()
            .filter_map(|key| Some(((*key).to_owned(), std::env::var(key).ok()?)));
        let own = codex_home(&own.collect());
        let mut names = names.to_vec();
        if names.is_empty() {
            let list: Result<Sessions, CallError> =
                connection.call_until("session/list", &serde_json::json!({}), deadline);
            let sessions = list.ok().and_then(|list| list.sessions).unwrap_or_default();
            names = sessions.into_iter().map(|session| session.name.to_string()).collect();
        }
        let home = |name: String| {
            let shown: Shown =
                connection.call_until("session/show", &One { name: name.clone() }, deadline).ok()?;
            let home = codex_home(&shown.session.environment?)?;
            (Some(&home) != own.as_ref()).then_some((name, home))
        };
        Homes(names.into_iter().filter_map(home).collect())
    }

    /// The command that takes up the thread of a session.
    pub fn resume(&self, session: &NamedState) -> Option<String> {
        let resume = format!("codex resume {}", quoted(session.thread_id.as_deref()?));
        Some(match self.0.get(session.name.as_str()) {
            Some(home) => format!("CODEX_HOME={} {resume}", quoted(&home.display().to_string())),
            None => resume,
        })
    }
}
