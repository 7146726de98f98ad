//! Answers of the relay as types, one file for each noun; the command line's `--json` prints them with `schemaVersion` in front.
//!
//! **Invariant:** keys are camelCase and are never renamed; new ones may appear.

mod approval;
mod events;
mod mail;
mod relay;
mod session;

use serde::Serialize;

pub use self::approval::{ApprovalInfo, ApprovalSettled, Approvals};
pub use self::events::{History, Nothing, Subscribed};
pub use self::mail::{
    Addressed, Delivery, Discarded, MailInfo, Mails, OneMail, Sent, Settled, Trace, TracedDelivery,
    Transition, Waited,
};
pub use self::relay::{BundleInfo, ChildInfo, MailCounts, RelayInfo, Status, Welcome};
pub use self::session::{
    Attached, Change, Closed, Configured, Interrupted, Looked, NamedState, OneSession, Released,
    SessionDetails, SessionInfo, Sessions, Shown, States,
};

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
    Addressed(Addressed),
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
