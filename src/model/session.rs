//! Sessions: what is stored of one agent of a bundle, what its state is called, and which child it runs on.
//!
//! **Invariant:** a stored session says what is wanted of it (`up` or `down`); what it is doing is never stored.

use serde::{Deserialize, Serialize};

use super::clock::Millis;
use super::id::{Nonce, ThreadId};
use super::name::Name;

/// The kind of agent program a session runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Coder {
    /// `codex app-server`, many threads in one child.
    #[default]
    Codex,
    /// None of ours: an outside agent that has claimed a name, and reads its mail itself.
    Outside,
}

impl Coder {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Coder::Codex => "codex",
            Coder::Outside => "outside",
        }
    }
}

/// What the person wants of a session; stored before anybody acts on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wanted {
    /// It shall run, also after a crash or reboot.
    Up,
    /// It shall not.
    Down,
}

impl Wanted {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Wanted::Up => "up",
            Wanted::Down => "down",
        }
    }
}

/// What decides which child a session runs on: equal keys share one (see [`ChildKey::of`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChildKey(pub u64);

impl ChildKey {
    /// Hashes everything that makes children differ: coder, program, environment (`CODEX_HOME` is part of it), and the one
    /// session that has it for itself.
    pub fn of<'a>(
        coder: Coder,
        program: &str,
        isolated: Option<&Name>,
        environment: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> ChildKey {
        let mut text = format!("{}\0{program}\0", coder.as_str());
        if let Some(name) = isolated {
            // No variable's name begins so.
            text.push_str(&format!("=isolated={name}\0"));
        }
        for (key, value) in environment {
            text.push_str(key);
            text.push('=');
            text.push_str(value);
            text.push('\0');
        }
        ChildKey(super::hash::fnv1a(text.as_bytes()))
    }
}

/// One session, as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its name, which is its address.
    pub name: Name,
    /// The kind of agent program.
    pub coder: Coder,
    /// The program as it was found when the session was spawned (its launcher, not the native binary behind it).
    pub program: String,
    /// The child it runs on.
    pub child_key: ChildKey,
    /// The settings of its thread.
    pub setup: ThreadSetup,
    /// Its thread, once there is one.
    pub thread: Option<ThreadId>,
    /// What is wanted of it.
    pub wanted: Wanted,
    /// When it was spawned.
    pub created_at: Millis,
    /// Until when its mail is held back by a person, if it is.
    pub held_until: Option<Millis>,
    /// Until when its account cannot run, as its child said or as we suppose, if it cannot.
    pub blocked_until: Option<Millis>,
    /// When mail was last read into a turn of it.
    pub consumed_at: Option<Millis>,
    /// Whether mail wakes it when it is stopped.
    pub wake: bool,
    /// Whether its child is its own.
    pub isolated: bool,
    /// Whether a `$` before a skill's name in mail pulls the skill in, as the person's own words do.
    pub skills_in_mail: bool,
    /// What it said of its work when it was closed; told when its thread is next opened.
    pub summary: Option<String>,
    /// The last mail that was accepted before it was stopped; only later mail wakes it.
    pub stopped_after: i64,
}

/// A hold without an end.
pub const HELD_FOR_EVER: Millis = Millis(i64::MAX);

/// How a thread is configured; what is `None` is left to the child's own configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ThreadSetup {
    /// The directory it works in, absolute.
    pub dir: String,
    /// The person's instructions.
    pub instructions: Option<String>,
    /// The model.
    pub model: Option<String>,
    /// `read-only`, `workspace-write` or `danger-full-access`.
    pub sandbox: Option<String>,
    /// `on-request` or `never`.
    pub approval: Option<String>,
}

/// One child process of ours, as the store keeps it until it has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// What it carries in its environment.
    pub nonce: Nonce,
    /// Which sessions run on it.
    pub key: ChildKey,
    /// Its place among the bundle's children; place 0 has `codex.sock`.
    pub slot: u32,
    /// Its process id, once the spawn is known to have happened.
    pub pid: Option<u32>,
    /// When the intent to spawn it was stored.
    pub since: Millis,
}

/// What a session is doing, in the words of `list` and `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionState {
    /// Its child or its thread is coming up.
    Starting,
    /// Ready for mail.
    Idle,
    /// In a turn.
    Busy,
    /// In a turn that waits for an approval.
    Waiting,
    /// Cannot run now: usage limit, authentication.
    Blocked,
    /// Mail is held back by the person.
    Held,
    /// Its child exited and will be started again.
    Backoff,
    /// Not wanted up.
    Stopped,
    /// Given up; `up` tries again.
    Failed,
}

impl SessionState {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            SessionState::Starting => "starting",
            SessionState::Idle => "idle",
            SessionState::Busy => "busy",
            SessionState::Waiting => "waiting",
            SessionState::Blocked => "blocked",
            SessionState::Held => "held",
            SessionState::Backoff => "backoff",
            SessionState::Stopped => "stopped",
            SessionState::Failed => "failed",
        }
    }
}

/// The name of the socket that the child of a slot listens on, inside the bundle's directory.
pub fn child_socket(slot: u32) -> String {
    if slot == 0 { "codex.sock".to_owned() } else { format!("codex-{slot}.sock") }
}

/// The name of the alias of [`child_socket`] that is published for panes.
pub fn panes_socket(slot: u32) -> String {
    if slot == 0 { "panes.sock".to_owned() } else { format!("panes-{slot}.sock") }
}
