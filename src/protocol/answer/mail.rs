//! Mail: where each delivery stands, listings, one mail whole, and its way step by step.
//!
//! **Invariant:** every state here is the store's at the time of the answer, never a forecast.

use serde::{Deserialize, Serialize};

use crate::model::clock::Millis;
use crate::model::id::MailId;
use crate::model::mail::{DeliveryState, FromKind, Priority};
use crate::model::name::Name;

/// The answer to `mail/send` and `mail/reply`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sent {
    /// The mail.
    pub id: MailId,
    /// Its conversation.
    pub thread: MailId,
    /// Where each delivery stands.
    pub deliveries: Vec<Delivery>,
}

/// The answer to `mail/reply` with `dryRun`: to whom it would go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Addressed {
    /// The mail that would be answered.
    pub reply_to: MailId,
    /// To whom.
    pub to: Vec<Name>,
}

/// Where one delivery stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// The recipient.
    pub to: Name,
    /// The state.
    pub state: DeliveryState,
    /// Why it is not further, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The turn that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn_id: Option<String>,
}

/// The answer to `mail/wait`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Waited {
    /// What `mail/send` answered, as it stands now.
    #[serde(flatten)]
    pub sent: Sent,
    /// Whether the wait ended because what was waited for came true.
    pub reached: bool,
    /// The mail that answers it, when that was waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_id: Option<MailId>,
}

/// One mail of a listing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MailInfo {
    /// Its id.
    pub id: MailId,
    /// Who sent it.
    pub from: Name,
    /// What kind of sender.
    pub from_kind: FromKind,
    /// Everybody it went to.
    pub to: Vec<Name>,
    /// Its subject.
    pub subject: Option<String>,
    /// Its text, where it is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Its conversation.
    pub thread: MailId,
    /// The mail that it answers.
    pub reply_to: Option<MailId>,
    /// How soon it matters.
    pub priority: Priority,
    /// When it was accepted.
    pub sent_at: Millis,
    /// How long ago.
    pub age_ms: i64,
    /// Where its delivery to this recipient stands.
    pub state: DeliveryState,
    /// Whether this recipient has not had it yet.
    pub unread: bool,
    /// The recipient of this delivery, where it is not plain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<Name>,
    /// Why it stands there, where that is listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// A piece of its body, where it was searched for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excerpt: Option<String>,
}

/// The answer to `mail/list`, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mails {
    /// The mails.
    pub mails: Vec<MailInfo>,
    /// Where the next answer would begin, when there is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// The answer to `mail/read`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OneMail {
    /// The mail, with its body.
    pub mail: MailInfo,
}

/// The answer to `mail/trace`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trace {
    /// The mail.
    pub id: MailId,
    /// Who sent it.
    pub from: Name,
    /// Its subject.
    pub subject: Option<String>,
    /// When it was accepted.
    pub sent_at: Millis,
    /// Its way to each recipient.
    pub deliveries: Vec<TracedDelivery>,
}

/// One mail's way to one recipient.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TracedDelivery {
    /// The recipient.
    pub to: Name,
    /// Where it stands.
    pub state: DeliveryState,
    /// Why it is not further, in one line.
    pub reason: Option<String>,
    /// The turn that it is in.
    pub turn_id: Option<String>,
    /// Every step, oldest first.
    pub transitions: Vec<Transition>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Transition {
    /// The state that it led to.
    pub state: DeliveryState,
    /// When.
    pub at: Millis,
    /// In which turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn_id: Option<String>,
    /// What there is to say of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// The answer to `mail/ack`, `mail/cancel` and `mail/requeue`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settled {
    /// The mail.
    pub id: MailId,
    /// The state that it was brought to.
    pub state: DeliveryState,
    /// The deliveries that were brought there.
    pub deliveries: Vec<Delivery>,
}

/// The answer to `mail/discard`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Discarded {
    /// How many dead deliveries are no longer listed.
    pub discarded: u64,
}
