//! Who a client is, and stopping the relay: the requests about the connection and the relay itself.
//!
//! **Invariant:** with their answers these are frozen, so that any two versions can at least tell each other apart.

use serde::{Deserialize, Serialize};

/// `hello`: the first request of a connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hello {
    /// What kind of client, such as `cli`.
    pub client: String,
    /// Its program version.
    pub version: String,
    /// Lowest protocol version that it speaks.
    pub protocol_min: u32,
    /// Highest protocol version that it speaks.
    pub protocol_max: u32,
    /// The environment mark of an agent, when the client was started by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_mark: Option<String>,
    /// The name that it wants to speak as: a session's, with its token, or a free one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// What proves that the name is its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Whether the operator takes the name from whoever holds it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub take_over: bool,
}

/// `relay/stop`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Stop {
    /// With the short budget.
    #[serde(default)]
    pub now: bool,
}
