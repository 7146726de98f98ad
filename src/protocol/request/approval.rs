//! What the operator says to an approval.
//!
//! **Invariant:** an answer that persists is two words, `always` or such a `choice`, and `confirmed`; without the second the relay only
//! shows what it would change.

use serde::{Deserialize, Serialize};

/// `approval/settle`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SettleApproval {
    /// The approval's id, or the beginning of it.
    pub id: String,
    /// What the operator says.
    pub decision: Decision,
    /// Not just once: with the answer that persists.
    #[serde(default)]
    pub always: bool,
    /// Whether the operator has read what `always`, or a `choice` that persists, changes.
    #[serde(default)]
    pub confirmed: bool,
    /// Another of the answers that are offered, by its name, in place of the plain one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choice: Option<String>,
    /// Why it is denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What the operator says to an approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// Yes.
    Approve,
    /// No.
    Deny,
}
