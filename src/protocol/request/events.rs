//! What is asked of those who watch, and what a pane tells: `events/subscribe`, `events/log`, `pane/report`.
//!
//! **Invariant:** a place in a stream names the stream, too, so that one of another relay is never taken for one of this.

use serde::{Deserialize, Serialize};

use crate::model::fault::Fault;
use crate::protocol::check::{check_events, check_name};

/// `events/subscribe`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Watch {
    /// Only what concerns this session, or `operator`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Only these events; all without any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<String>,
    /// How many past events first, at most.
    #[serde(default)]
    pub replay: u32,
    /// Go on after this one, in place of `replay`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Place>,
}

impl Watch {
    pub(super) fn check(&self) -> Result<(), Fault> {
        self.name.iter().try_for_each(|name| check_name(name))?;
        check_events(&self.events, self.name.as_deref())
    }
}

/// A place in the stream of events.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Place {
    /// The relay's stream.
    pub stream: String,
    /// The number of an event in it.
    pub seq: u64,
}

/// `events/log`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Log {
    /// Only what concerns this session, or `operator`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Only the mail of this conversation: the id, or a unique prefix or suffix, of any mail in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    /// Only what happened in the last so many milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
    /// How many, the last ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Whether to go on with what happens.
    #[serde(default)]
    pub follow: bool,
}

impl Log {
    pub(super) fn check(&self) -> Result<(), Fault> {
        self.name.iter().try_for_each(|name| check_name(name))?;
        match &self.thread {
            Some(_) if self.follow || self.name.is_some() => {
                Err(Fault::usage("log refused: a conversation is neither a session's nor followed")
                    .hint("leave `name` and `follow` away"))
            }
            _ => Ok(()),
        }
    }
}

/// `pane/report`: what the pane of this connection shows.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PaneReport {
    /// Another thread than its session's; nothing when it shows that.
    #[serde(default)]
    pub elsewhere: Option<Elsewhere>,
    /// In place of that: what it is about to answer its child.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<Answered>,
}

/// The answer of a pane to a question of its child, told before the child has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// The number of the question, which is the child's, as JSON text.
    pub request: String,
    /// The answer, by the child's name for it.
    pub decision: String,
}

/// What a pane shows that has left its session.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Elsewhere {
    /// `new`, `fork` or `other`.
    pub how: String,
    /// The thread, when it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<String>,
}
