//! The relay itself: the answer to `hello`, and what `relay/status` shows.
//!
//! **Invariant:** with their requests these are frozen, so that any two versions can at least tell each other apart.

use serde::{Deserialize, Serialize};

use super::SessionInfo;
use crate::model::clock::Millis;
use crate::model::mail::FromKind;
use crate::model::name::{BundleName, Name};
use crate::model::session::Coder;

/// The answer to `hello`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Welcome {
    /// The relay's program version.
    pub version: String,
    /// Lowest protocol version that the relay speaks.
    pub protocol_min: u32,
    /// Highest protocol version that the relay speaks.
    pub protocol_max: u32,
    /// The version that this connection uses.
    pub protocol: u32,
    /// The relay's process.
    pub pid: u32,
    /// Its bundle.
    pub bundle: BundleName,
    /// Who the connection speaks as.
    pub name: Name,
    /// What kind of sender that is.
    pub kind: FromKind,
    /// Why it speaks as that, in words.
    #[serde(default)]
    pub because: String,
    /// The token of a name that this connection has claimed: with it, other connections of the same agent speak as it, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// The answer to `relay/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The bundle, as far as the relay knows it.
    pub bundle: BundleInfo,
    /// The relay.
    pub relay: RelayInfo,
    /// Its children.
    pub children: Vec<ChildInfo>,
    /// Its sessions; null when no relay runs.
    pub sessions: Option<Vec<SessionInfo>>,
    /// Counts of mail; null when no relay runs.
    pub mail: Option<MailCounts>,
    /// Approvals that wait for a person.
    pub approvals: u64,
    /// Connected clients, this one included.
    pub clients: u64,
}

/// Which bundle, and why this one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BundleInfo {
    /// Its name.
    pub name: BundleName,
    /// The project's root.
    pub root: Option<String>,
    /// The rule that chose it; filled in by the client.
    pub rule: Option<String>,
}

/// The relay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RelayInfo {
    /// Whether one runs.
    pub running: bool,
    /// Its process.
    pub pid: Option<u32>,
    /// Its program version.
    pub version: Option<String>,
    /// The protocol version in use.
    pub protocol: Option<u32>,
    /// When it started.
    pub started_at: Option<Millis>,
    /// The bundle's directory.
    pub state_dir: String,
    /// What tells the settings that it runs with from others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings_hash: Option<String>,
}

/// One child process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChildInfo {
    /// The kind of agent program.
    pub coder: Coder,
    /// Its process.
    pub pid: Option<u32>,
    /// When it was started.
    pub started_at: Millis,
    /// Its resident memory.
    pub rss_bytes: Option<u64>,
    /// Processes below it: tools, and what its models have started.
    #[serde(default)]
    pub descendants: Option<u32>,
    /// Its version.
    pub version: Option<String>,
}

/// Counts of mail.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct MailCounts {
    /// Waiting.
    pub queued: u64,
    /// Handed to a child, without evidence yet (`submitted` included).
    pub claimed: u64,
    /// In doubt.
    pub unknown: u64,
    /// Expired or failed.
    pub dead: u64,
}
