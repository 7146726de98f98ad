//! What is asked of sessions: to be there, to run or rest, to do something now, and to be looked at.
//!
//! **Invariant:** a name is text here, as it was given, so that a refusal can quote it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::fault::Fault;
use crate::protocol::check::{check_mail, check_name};

/// `session/spawn`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spawn {
    /// The session's name, as given; its grammar is checked so that the refusal can quote it.
    pub name: String,
    /// The directory it works in, absolute.
    pub dir: String,
    /// The person's instructions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// The model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// An existing thread to bring in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    /// The sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
    /// The approval policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<String>,
    /// The Codex program, absolute.
    pub program: String,
    /// Whether mail wakes it when it is stopped.
    #[serde(default)]
    pub wake: bool,
    /// Whether its child is its own, and not shared with sessions of the same program and environment.
    #[serde(default)]
    pub isolated: bool,
    /// Whether a `$` before a skill's name in mail pulls the skill in.
    #[serde(default)]
    pub skills_in_mail: bool,
    /// The environment that the child gets; allow-listed again by the relay.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
}

/// Some sessions; none named means all.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Names {
    /// Their names.
    #[serde(default)]
    pub names: Vec<String>,
}

/// `session/down`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Down {
    /// The sessions; none named means all of them and the relay.
    #[serde(default)]
    pub names: Vec<String>,
    /// With the short budget.
    #[serde(default)]
    pub now: bool,
}

/// One session.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct One {
    /// Its name.
    pub name: String,
}

/// `session/prompt`: the operator's own words.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Prompt {
    /// The session.
    pub name: String,
    /// The words, which the model reads as they are.
    pub text: String,
    /// The idempotency key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

impl Prompt {
    pub(super) fn check(&self) -> Result<(), Fault> {
        check_name(&self.name)?;
        check_mail(&self.text, None, self.key.as_deref())
    }
}

/// `session/close`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Close {
    /// The session.
    pub name: String,
    /// Without asking it for a summary.
    #[serde(default)]
    pub now: bool,
}

/// `session/hold`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    /// The session.
    pub name: String,
    /// For how long; until it is released without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
}

/// `session/release`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Release {
    /// A session, or a mail that the loop brake holds.
    pub target: String,
}

/// `session/look`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Look {
    /// The session.
    pub name: String,
    /// How many items.
    pub limit: u32,
}
