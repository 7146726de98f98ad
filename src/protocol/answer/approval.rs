//! Approvals: what waits for a person, and what became of one.
//!
//! **Invariant:** what a person decides about is shown whole: a command is cut only beyond reading, and says so.

use serde::{Deserialize, Serialize};

use crate::model::clock::Millis;
use crate::model::name::Name;

/// The answer to `approval/list`, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Approvals {
    /// What waits for a person.
    pub approvals: Vec<ApprovalInfo>,
}

/// One approval that waits for a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalInfo {
    /// Its id, the same whichever relay is asked.
    pub id: String,
    /// The session whose turn waits.
    pub session: Name,
    /// `command`, `change`, `permissions`, `question` or `elicitation`.
    pub kind: String,
    /// What it wants to do, in one line.
    pub summary: String,
    /// The command that it wants to run, whole.
    pub command: Option<String>,
    /// Where.
    pub cwd: Option<String>,
    /// When it was asked.
    pub asked_at: Millis,
    /// When it is declined unless somebody has answered; null waits for ever.
    pub deadline_at: Option<Millis>,
    /// The answers that the child offers, in its own words.
    pub decisions: Vec<String>,
}

/// The answer to `approval/settle`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApprovalSettled {
    /// The approval's id, whole.
    pub id: String,
    /// The session whose turn goes on.
    pub session: Name,
    /// What it was about.
    pub summary: String,
    /// `approved`, `approvedAlways` or `denied`.
    pub decision: String,
}
