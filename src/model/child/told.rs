//! What a child's words carry: tokens, the state of our tools, how a turn ended, questions to a person, items of a thread.
//!
//! **Invariant:** plain values; what follows from them is decided in `core`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::clock::Millis;
use crate::model::id::{ClaimId, TurnId};
use crate::model::name::Name;

/// What a thread has cost so far, as its child counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tokens {
    /// All of them.
    pub total: i64,
    /// Read by the model.
    pub input: i64,
    /// Of those, from its cache.
    pub cached_input: i64,
    /// Written by the model.
    pub output: i64,
    /// Of those, not shown.
    pub reasoning_output: i64,
    /// In the last request and its answer: how full the model's context is.
    pub in_context: i64,
    /// What fits into that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_window: Option<i64>,
}

/// Where the program that gives a thread our own tools stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolsState {
    /// It is coming up; a turn that began now would be without them.
    Starting,
    /// The model has them.
    Ready,
    /// It did not come up; turns go on without them.
    Gone,
}

/// A turn that ran already when its thread was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Underway {
    /// The turn.
    pub turn: TurnId,
    /// Since when it runs, if the child says.
    pub since: Option<Millis>,
    /// Whether it is known to be at a boundary, as [`Boundary`](super::ChildEvent::Boundary) tells it.
    pub at_boundary: bool,
}

/// How a turn ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TurnOutcome {
    /// The model finished.
    Completed,
    /// Somebody interrupted it.
    Interrupted,
    /// It failed; the child's words.
    Failed(String),
    /// It failed because the account cannot run now: usage limit, authentication.
    Blocked {
        /// The child's words.
        why: String,
        /// When it can again, if the child knows.
        until: Option<Millis>,
    },
    /// It failed because the model or the way to it has too much to do; that may pass by itself.
    Overloaded(String),
    /// It failed because the model's context is full.
    ContextFull(String),
}

impl TurnOutcome {
    /// The child's words for a failure.
    pub fn failure(&self) -> Option<&str> {
        match self {
            TurnOutcome::Completed | TurnOutcome::Interrupted => None,
            TurnOutcome::Failed(why)
            | TurnOutcome::Blocked { why, .. }
            | TurnOutcome::Overloaded(why)
            | TurnOutcome::ContextFull(why) => Some(why),
        }
    }
}

/// One question of a child to a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalAsked {
    /// Unique among the child's open approvals; the child's request id.
    pub key: String,
    /// The session whose turn waits.
    pub session: Name,
    /// The child's name for the kind of question.
    pub kind: String,
    /// What it wants to do, in one line.
    pub summary: String,
    /// The command that it wants to run, whole.
    pub command: Option<String>,
    /// Where it wants to do so.
    pub cwd: Option<String>,
    /// The answers that the child offers, in its own words.
    pub decisions: Vec<String>,
    /// Whether a plain yes is an answer to it.
    pub can_approve: bool,
    /// What a yes for ever would change, if the child offers one.
    pub always: Option<Always>,
    /// What the answers beside a plain yes, a yes for ever and a plain no mean, by their names.
    pub choices: BTreeMap<String, Choice>,
}

/// What one of the offered answers means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Whether it says no.
    pub is_no: bool,
    /// What it changes for longer than the child lives, if it does.
    pub lasting: Option<Always>,
}

/// What a yes for ever changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Always {
    /// The file; it may begin with a variable of the child's environment, such as `$CODEX_HOME`.
    pub file: String,
    /// What is written there.
    pub rule: String,
    /// For whom it holds then.
    pub reach: String,
}

/// One item of a thread's history, readable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// When, if the child says.
    pub at: Option<Millis>,
    /// What it is: `message`, `answer`, `command`, `change`, `tool`, or the child's own word.
    pub kind: String,
    /// Where it comes from: `mail`, `operator`, `prompt`, `model`, `tool`.
    pub source: String,
    /// Its text.
    pub text: String,
    /// Our claim that it carries; whose words those are the core knows while it knows the claim.
    #[serde(skip)]
    pub claim: Option<ClaimId>,
}
