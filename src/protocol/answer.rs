//! Answers of the relay as types; the command line's `--json` prints them with `schemaVersion` in front.
//!
//! **Invariant:** keys are camelCase and are never renamed; new ones may appear.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::child::{Capabilities, Item, Tokens};
use crate::model::clock::Millis;
use crate::model::happening::Happening;
use crate::model::id::MailId;
use crate::model::mail::{DeliveryState, FromKind, Priority};
use crate::model::name::{BundleName, Name};
use crate::model::session::{Coder, SessionState, Wanted};

/// Any answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
#[allow(missing_docs, reason = "each variant carries the documented type of its answer")]
pub enum Answer {
    Welcome(Welcome),
    Session(OneSession),
    Shown(Box<Shown>),
    Configured(Configured),
    Sessions(Sessions),
    States(States),
    Status(Box<Status>),
    Sent(Sent),
    Waited(Waited),
    Interrupted(Interrupted),
    Closed(Closed),
    Mails(Mails),
    Mail(OneMail),
    Trace(Trace),
    Settled(Settled),
    Discarded(Discarded),
    Released(Released),
    Look(Looked),
    Approvals(Approvals),
    ApprovalSettled(ApprovalSettled),
    Attach(Attached),
    Nothing(Nothing),
}

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

/// One session as `list` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionInfo {
    /// Its name.
    pub name: Name,
    /// The kind of agent program.
    pub coder: Coder,
    /// What it is doing.
    pub state: SessionState,
    /// Since when.
    pub since: Option<Millis>,
    /// Why, when that is not plain from the state.
    pub reason: Option<String>,
    /// Until when it is blocked or held, when that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Millis>,
    /// Its thread.
    pub thread_id: Option<String>,
    /// The turn that runs.
    pub turn_id: Option<String>,
    /// For how long the relay has known of that turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn_age_ms: Option<i64>,
    /// What its thread has cost so far, once its child has said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Box<Tokens>>,
    /// Mails that have not reached it.
    pub pending: u64,
    /// Age of the oldest of them.
    pub oldest_pending_ms: Option<i64>,
    /// Panes attached.
    pub attached: u32,
    /// Of those, panes that show another thread now.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub elsewhere: u32,
    /// What its child can really do.
    pub capabilities: Capabilities,
    /// The directory it works in.
    pub dir: String,
    /// What is wanted of it.
    pub wanted: Wanted,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// The answer to `session/spawn`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OneSession {
    /// The session.
    pub session: SessionInfo,
}

/// The answer to `session/interrupt`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Interrupted {
    /// The session.
    pub session: Name,
    /// The turn that was ended; null when none ran.
    pub turn_id: Option<String>,
}

/// The answer to `session/close`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Closed {
    /// The session, which is stopped.
    pub sessions: Vec<NamedState>,
    /// What it said of its work; it is told that again when it next comes up.
    pub summary: Option<String>,
}

/// The answer to `session/configure`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Configured {
    /// The session.
    pub name: Name,
    /// Whether its settings are others now.
    pub change: Change,
}

/// What became of new settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// They are what it has.
    None,
    /// It has them, and will start with them.
    Made,
    /// It runs with others, and is not stopped for them; ask again when it is down.
    Later,
}

/// The answer to `session/show`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shown {
    /// The session.
    pub session: SessionDetails,
}

/// One session whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionDetails {
    /// What `list` shows of it.
    #[serde(flatten)]
    pub info: SessionInfo,
    /// When it was spawned.
    pub created_at: Millis,
    /// The program of its child.
    pub program: String,
    /// The process of its child, when it has one.
    pub child_pid: Option<u32>,
    /// The person's instructions.
    pub instructions: Option<String>,
    /// The model; null leaves it to the child's own configuration, as do the next two.
    pub model: Option<String>,
    /// The sandbox.
    pub sandbox: Option<String>,
    /// The approval policy.
    pub approval: Option<String>,
    /// Whether its child is its own.
    pub isolated: bool,
    /// Whether mail wakes it when it is stopped.
    pub wake_on_mail: bool,
    /// Whether a `$` before a skill's name in mail pulls the skill in.
    pub skills_in_mail: bool,
    /// The environment that its child gets; what may be a secret shows its length only. Null when its file is missing.
    pub environment: Option<BTreeMap<String, String>>,
}

/// The answer to `session/list`; `sessions` is null when no relay runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sessions {
    /// The bundle.
    pub bundle: BundleName,
    /// Its sessions, by name.
    pub sessions: Option<Vec<SessionInfo>>,
}

/// The answer to `session/up`, `session/down` and `session/remove`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct States {
    /// The sessions that were asked for.
    pub sessions: Vec<NamedState>,
}

/// A session and its state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamedState {
    /// The session.
    pub name: Name,
    /// What it is doing.
    pub state: SessionState,
    /// Why, when that is not plain from the state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Its thread, which `codex resume` takes once the session is down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<String>,
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

/// The answer to `session/release`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Released {
    /// The session, when one was meant.
    pub sessions: Vec<NamedState>,
    /// Mails that the loop brake had held and that go on now.
    pub mails: Vec<MailId>,
}

/// The answer to `mail/discard`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Discarded {
    /// How many dead deliveries are no longer listed.
    pub discarded: u64,
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

/// The answer to `session/look`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Looked {
    /// The session.
    pub session: Name,
    /// Its last items, oldest first.
    pub items: Vec<Item>,
}

/// The answer to `pane/report`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Nothing {}

/// The answer to `events/subscribe`; events follow as notifications.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Subscribed {
    /// The relay's stream.
    pub stream: String,
    /// The number of the event before the first that follows.
    pub seq: u64,
}

/// The answer to `events/log`, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// What happened.
    pub events: Vec<Happening>,
}

/// The answer to `session/attach`: what a pane needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attached {
    /// The session.
    pub session: Name,
    /// Its thread.
    pub thread_id: String,
    /// The socket that panes use.
    pub socket: String,
    /// The program to run.
    pub program: String,
    /// The directory it works in.
    pub dir: String,
}
