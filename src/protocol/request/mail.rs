//! What is asked of mail: to send it, to have it, to follow it, and to settle what became of it.
//!
//! **Invariant:** who sends is no parameter; the relay knows that from the connection.

use serde::{Deserialize, Serialize};

use crate::model::fault::Fault;
use crate::model::limits;
use crate::model::mail::{Priority, When};
use crate::protocol::check::{Groups, check_cursor, check_mail, check_name, check_priority, check_recipient};

/// `mail/send`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Send {
    /// Recipients as given: names, `@all`.
    pub to: Vec<String>,
    /// The text.
    pub body: String,
    /// The subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// How soon it matters.
    #[serde(default)]
    pub priority: Priority,
    /// When it may reach a busy session; its priority decides without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<When>,
    /// Whether the sender will wait for the answer; a circle of such senders is refused.
    #[serde(default)]
    pub ask: bool,
    /// The mail that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// After how long it is no longer wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
    /// The sender's idempotency key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

impl Send {
    pub(super) fn check(&self) -> Result<(), Fault> {
        if self.to.is_empty() || self.to.len() > limits::RECIPIENTS_MAX {
            let (is, most) = (self.to.len(), limits::RECIPIENTS_MAX);
            return Err(Fault::usage(format!("mail refused: {is} recipients, 1 to {most} are possible")));
        }
        self.to.iter().try_for_each(|to| check_recipient(to, &Groups::new()))?;
        check_mail(&self.body, self.subject.as_deref(), self.key.as_deref())?;
        check_priority(self.priority)
    }
}

/// `mail/reply`: mail to the sender of another.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reply {
    /// The mail that it answers.
    pub id: String,
    /// The text.
    #[serde(default)]
    pub body: String,
    /// Only say to whom it would go; nothing is sent.
    #[serde(default, rename = "dryRun", skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// The subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// How soon it matters.
    #[serde(default)]
    pub priority: Priority,
    /// The sender's idempotency key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

impl Reply {
    pub(super) fn check(&self) -> Result<(), Fault> {
        if self.dry_run {
            return Ok(());
        }
        check_mail(&self.body, self.subject.as_deref(), self.key.as_deref())?;
        check_priority(self.priority)
    }
}

/// `mail/list`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Inbox {
    /// Whose mail; the caller's without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Only what its recipient has not had yet.
    #[serde(default)]
    pub unread: bool,
    /// Only from this sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Only what was accepted in the last so many milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "sinceMs")]
    pub since_ms: Option<u64>,
    /// How many, newest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Go on where the answer that had this as its `cursor` ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Hands the caller what waits for it, oldest first and with bodies; its next request confirms that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub take: bool,
}

impl Inbox {
    pub(super) fn check(&self) -> Result<(), Fault> {
        self.name.iter().chain(&self.from).try_for_each(|name| check_name(name))?;
        check_cursor(self.cursor.as_deref())
    }
}

/// One mail.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct MailRef {
    /// Its id, or a unique prefix or suffix of it.
    pub id: String,
}

/// `mail/ack` and `mail/requeue`: one mail, to one of its recipients.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Settle {
    /// Its id, or a unique prefix or suffix of it.
    pub id: String,
    /// Whose delivery; the caller's, or every one that can be meant, without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// `mail/dead`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Dead {
    /// How many, newest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Go on where the answer that had this as its `cursor` ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// `mail/discard`: dead mail that nobody needs to see any more.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Discard {
    /// One mail; all dead mail without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// `mail/search`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Search {
    /// Words that the subject or body has, all of them; one may end in `*`.
    pub text: String,
    /// How many, newest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Go on where the answer that had this as its `cursor` ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// `mail/next`: the caller's next mail, handed over.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Next {
    /// Only from this sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// How long to wait at most.
    pub timeout_ms: u64,
}

/// How far a sender wants to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Until {
    /// The child answered.
    Submitted,
    /// The child stated that the mail is inside a turn.
    #[default]
    Consumed,
    /// Somebody answered the mail.
    Reply,
}

/// `mail/wait`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Wait {
    /// The mail.
    pub id: String,
    /// How far.
    #[serde(default)]
    pub until: Until,
    /// How long at most.
    pub timeout_ms: u64,
}
