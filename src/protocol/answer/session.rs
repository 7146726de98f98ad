//! Sessions: how a listing shows one, one whole, and what became of what was asked of them.
//!
//! **Invariant:** a session is shown the same wherever it is shown; what only `session/show` knows comes on top.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::child::{Capabilities, Item, Tokens};
use crate::model::clock::Millis;
use crate::model::id::MailId;
use crate::model::name::{BundleName, Name};
use crate::model::session::{Coder, SessionState, Wanted};

/// One session as `list` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionInfo {
    /// Its name.
    pub name: Name,
    /// The kind of agent program.
    pub coder: Coder,
    /// What it is doing.
    pub state: SessionState,
    /// Since when.
    pub since: Option<Millis>,
    /// Why, when that is not plain from the state.
    pub reason: Option<String>,
    /// Until when it is blocked or held, when that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Millis>,
    /// Its thread.
    pub thread_id: Option<String>,
    /// The turn that runs.
    pub turn_id: Option<String>,
    /// For how long the relay has known of that turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn_age_ms: Option<i64>,
    /// What its thread has cost so far, once its child has said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Box<Tokens>>,
    /// Mails that have not reached it.
    pub pending: u64,
    /// Age of the oldest of them.
    pub oldest_pending_ms: Option<i64>,
    /// Of those, mails that the loop brake holds back.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub braked: u32,
    /// When mail was last read into a turn of it.
    #[serde(default)]
    pub last_consumed_at: Option<Millis>,
    /// Panes attached.
    pub attached: u32,
    /// Of those, panes that show another thread now.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub elsewhere: u32,
    /// What its child can really do.
    pub capabilities: Capabilities,
    /// The directory it works in.
    pub dir: String,
    /// What is wanted of it.
    pub wanted: Wanted,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// The answer to `session/spawn`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OneSession {
    /// The session.
    pub session: SessionInfo,
}

/// The answer to `session/show`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shown {
    /// The session.
    pub session: SessionDetails,
}

/// One session whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionDetails {
    /// What `list` shows of it.
    #[serde(flatten)]
    pub info: SessionInfo,
    /// When it was spawned.
    pub created_at: Millis,
    /// The program of its child.
    pub program: String,
    /// The process of its child, when it has one.
    pub child_pid: Option<u32>,
    /// The person's instructions.
    pub instructions: Option<String>,
    /// The model; null leaves it to the child's own configuration, as do the next two.
    pub model: Option<String>,
    /// The sandbox.
    pub sandbox: Option<String>,
    /// The approval policy.
    pub approval: Option<String>,
    /// Whether its child is its own.
    pub isolated: bool,
    /// Whether mail wakes it when it is stopped.
    pub wake_on_mail: bool,
    /// Whether a `$` before a skill's name in mail pulls the skill in.
    pub skills_in_mail: bool,
    /// The environment that its child gets; what may be a secret shows its length only. Null when its file is missing.
    pub environment: Option<BTreeMap<String, String>>,
}

/// The answer to `session/list`; `sessions` is null when no relay runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sessions {
    /// The bundle.
    pub bundle: BundleName,
    /// Its sessions, by name.
    pub sessions: Option<Vec<SessionInfo>>,
}

/// The answer to `session/up`, `session/down` and `session/remove`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct States {
    /// The sessions that were asked for.
    pub sessions: Vec<NamedState>,
}

/// A session and its state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamedState {
    /// The session.
    pub name: Name,
    /// What it is doing.
    pub state: SessionState,
    /// Why, when that is not plain from the state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Its thread, which `codex resume` takes once the session is down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<String>,
}

/// The answer to `session/configure`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Configured {
    /// The session.
    pub name: Name,
    /// Whether its settings are others now.
    pub change: Change,
}

/// What became of new settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// They are what it has.
    None,
    /// It has them, and will start with them.
    Made,
    /// It runs with others, and is not stopped for them; ask again when it is down.
    Later,
}

/// The answer to `session/interrupt`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Interrupted {
    /// The session.
    pub session: Name,
    /// The turn that was ended; null when none ran.
    pub turn_id: Option<String>,
    /// How many turns of its sub-agents were ended, when none of its own ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub_turns: Option<u32>,
}

/// The answer to `session/close`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Closed {
    /// The session, which is stopped.
    pub sessions: Vec<NamedState>,
    /// What it said of its work; it is told that again when it next comes up.
    pub summary: Option<String>,
}

/// The answer to `session/release`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Released {
    /// The session, when one was meant.
    pub sessions: Vec<NamedState>,
    /// Mails that the loop brake had held and that go on now.
    pub mails: Vec<MailId>,
}

/// The answer to `session/look`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Looked {
    /// The session.
    pub session: Name,
    /// Its last items, oldest first.
    pub items: Vec<Item>,
}

/// The answer to `session/attach`: what a pane needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attached {
    /// The session.
    pub session: Name,
    /// Its thread.
    pub thread_id: String,
    /// The socket that panes use.
    pub socket: String,
    /// The program to run.
    pub program: String,
    /// The directory it works in.
    pub dir: String,
}
