//! Mail: one durable addressed message, and where its delivery to one recipient stands.
//!
//! | State | Child may hold it | Sender is told | Leaves by |
//! | --- | --- | --- | --- |
//! | `queued` | no | queued | claim, cancel, expiry, late evidence of an earlier claim, removal of its recipient |
//! | `claimed` | maybe | queued | evidence, ack, refusal, lease over or child gone |
//! | `submitted` | yes | submitted | evidence, ack, turn ended without it, child gone |
//! | `unknown` | cannot tell | unknown | reconciliation, ack, or a person: ack (it was taken), requeue (it was not) |
//! | `consumed` | yes, inside a turn | delivered | ack; a reboot soon after, which makes it `unknown` once (`store/reboot.rs`) |
//! | `expired` `failed` | n/a | itself | requeue by a person |
//! | `acked` `cancelled` | n/a | itself | n/a |
//!
//! An ack of its recipient makes mail that is under way `consumed` first: it is its own word that it has it.
//!
//! **Invariant:** `consumed` is only ever reached by evidence.

use serde::{Deserialize, Serialize};

use super::clock::Millis;
use super::id::MailId;
use super::name::Name;

/// Where one delivery stands. See the table in this file's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the table above documents every variant")]
pub enum DeliveryState {
    Queued,
    Claimed,
    Submitted,
    Unknown,
    Consumed,
    Acked,
    Expired,
    Cancelled,
    Failed,
}

impl DeliveryState {
    /// Every state, in the order of the table.
    pub const ALL: [DeliveryState; 9] = [
        DeliveryState::Queued,
        DeliveryState::Claimed,
        DeliveryState::Submitted,
        DeliveryState::Unknown,
        DeliveryState::Consumed,
        DeliveryState::Acked,
        DeliveryState::Expired,
        DeliveryState::Cancelled,
        DeliveryState::Failed,
    ];

    /// Whether the delivery has yet to reach its recipient (the states that the core keeps in memory).
    pub fn is_open(self) -> bool {
        matches!(
            self,
            DeliveryState::Queued
                | DeliveryState::Claimed
                | DeliveryState::Submitted
                | DeliveryState::Unknown
        )
    }

    /// Whether the recipient has had the mail in a turn.
    pub fn is_delivered(self) -> bool {
        matches!(self, DeliveryState::Consumed | DeliveryState::Acked)
    }

    /// The word for it, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            DeliveryState::Queued => "queued",
            DeliveryState::Claimed => "claimed",
            DeliveryState::Submitted => "submitted",
            DeliveryState::Unknown => "unknown",
            DeliveryState::Consumed => "consumed",
            DeliveryState::Acked => "acked",
            DeliveryState::Expired => "expired",
            DeliveryState::Cancelled => "cancelled",
            DeliveryState::Failed => "failed",
        }
    }

    /// Reads what [`DeliveryState::as_str`] writes.
    pub fn parse(text: &str) -> Option<DeliveryState> {
        DeliveryState::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Whether a delivery may go from this state to `next`; the ledger refuses every other step.
    pub fn may_become(self, next: DeliveryState) -> bool {
        use DeliveryState::*;
        match self {
            Queued => matches!(next, Claimed | Consumed | Cancelled | Expired | Failed),
            Claimed => matches!(next, Submitted | Consumed | Queued | Unknown | Failed),
            Submitted => matches!(next, Consumed | Queued | Unknown | Failed),
            Unknown => matches!(next, Consumed | Queued | Failed | Acked),
            Consumed => matches!(next, Acked),
            Expired | Failed => matches!(next, Queued),
            Acked | Cancelled => false,
        }
    }
}

/// How soon a mail matters to its recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// The operator's own words, given by `prompt`: before all mail, alone, and without an envelope.
    Prompt,
    /// Goes before normal mail.
    Urgent,
    /// Waits for an idle session.
    #[default]
    Normal,
    /// Never starts a turn; goes along with the next one.
    Fyi,
}

impl Priority {
    /// The word for it, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Priority::Prompt => "prompt",
            Priority::Urgent => "urgent",
            Priority::Normal => "normal",
            Priority::Fyi => "fyi",
        }
    }

    /// Reads what [`Priority::as_str`] writes.
    pub fn parse(text: &str) -> Option<Priority> {
        [Priority::Prompt, Priority::Urgent, Priority::Normal, Priority::Fyi]
            .into_iter()
            .find(|p| p.as_str() == text)
    }
}

/// When mail may reach a busy session, whatever its priority says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// When the session is idle.
    Idle,
    /// At the next boundary of a running turn.
    Boundary,
    /// At once: a running turn is interrupted for it.
    Now,
}

impl When {
    /// The word for it, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            When::Idle => "idle",
            When::Boundary => "boundary",
            When::Now => "now",
        }
    }

    /// Reads what [`When::as_str`] writes.
    pub fn parse(text: &str) -> Option<When> {
        [When::Idle, When::Boundary, When::Now].into_iter().find(|when| when.as_str() == text)
    }
}

/// What kind of sender a mail has; assigned by the relay from the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FromKind {
    /// A session, by its token.
    Agent,
    /// The person.
    Operator,
    /// Anything else on this account.
    Outside,
    /// agentmux itself.
    System,
}

impl FromKind {
    /// The word for it, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            FromKind::Agent => "agent",
            FromKind::Operator => "operator",
            FromKind::Outside => "outside",
            FromKind::System => "system",
        }
    }

    /// Reads what [`FromKind::as_str`] writes.
    pub fn parse(text: &str) -> Option<FromKind> {
        [FromKind::Agent, FromKind::Operator, FromKind::Outside, FromKind::System]
            .into_iter()
            .find(|k| k.as_str() == text)
    }
}

/// One accepted mail with its body, as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// Its id.
    pub id: MailId,
    /// Who sent it.
    pub from: Name,
    /// What kind of sender that is.
    pub from_kind: FromKind,
    /// Everybody it went to.
    pub to: Vec<Name>,
    /// Its subject, without control characters.
    pub subject: Option<String>,
    /// Its text, byte for byte.
    pub body: String,
    /// The mail that it answers.
    pub reply_to: Option<MailId>,
    /// The first mail of its conversation.
    pub thread: MailId,
    /// How soon it matters.
    pub priority: Priority,
    /// When it may reach a busy session; `None` leaves that to its priority.
    pub when: Option<When>,
    /// How many mails of agents in a row led to it, each answering the one before.
    pub hops: u32,
    /// The sender's idempotency key.
    pub key: Option<String>,
    /// When it is no longer wanted, if ever.
    pub expires_at: Option<Millis>,
    /// When it was accepted.
    pub sent_at: Millis,
    /// The tag that marks its body's end in the envelope.
    pub tag: u32,
}

#[cfg(test)]
mod tests {
    use super::DeliveryState::*;
    use super::*;

    #[test]
    fn the_transition_table_is_the_one_in_the_header() {
        let table: Vec<String> = DeliveryState::ALL
            .into_iter()
            .map(|from| {
                let next: Vec<&str> = DeliveryState::ALL
                    .into_iter()
                    .filter(|to| from.may_become(*to))
                    .map(DeliveryState::as_str)
                    .collect();
                format!("{}: {}", from.as_str(), next.join(" "))
            })
            .collect();
        assert_eq!(
            table,
            [
                "queued: claimed consumed expired cancelled failed",
                "claimed: queued submitted unknown consumed failed",
                "submitted: queued unknown consumed failed",
                "unknown: queued consumed acked failed",
                "consumed: acked",
                "acked: ",
                "expired: queued",
                "cancelled: ",
                "failed: queued",
            ]
        );
    }

    #[test]
    fn every_word_is_read_back() {
        for state in DeliveryState::ALL {
            assert_eq!(DeliveryState::parse(state.as_str()), Some(state));
        }
        assert!(!Consumed.is_open() && Unknown.is_open());
    }
}
