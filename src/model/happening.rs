//! Happenings: what the relay tells those who watch, in one shape for the live stream and for the history on disk.
//!
//! **Invariant:** a happening is written as one flat object that begins with `at` and `event`; keys are never renamed.
//!
//! Deliberately absent: bodies of mail. Who may read a mail asks for it.

use serde::{Deserialize, Serialize};

use super::clock::Millis;
use super::id::MailId;
use super::mail::DeliveryState;
use super::name::Name;
use super::session::SessionState;

/// Something that happened, and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Happening {
    /// When.
    pub at: Millis,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What happened; the name of the variant is the word in `event`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum What {
    /// A relay has started; what a former one told is only in its store.
    RelayStarted {
        /// Its process.
        pid: u32,
        /// Its program version.
        version: String,
    },
    /// The relay is leaving.
    RelayLeaving {
        /// Why.
        why: String,
    },
    /// A session was created.
    SessionSpawned {
        /// The session.
        session: Name,
    },
    /// A session was removed.
    SessionRemoved {
        /// The session.
        session: Name,
    },
    /// A session is in another state.
    State {
        /// The session.
        session: Name,
        /// The state that it was in.
        from: SessionState,
        /// The state that it is in.
        state: SessionState,
        /// Why, when that is not plain from the state.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// Mails that have not reached it.
        pending: u64,
    },
    /// A turn began, whoever began it.
    TurnStarted {
        /// The session.
        session: Name,
        /// The turn.
        turn_id: String,
    },
    /// A turn ended.
    TurnEnded {
        /// The session.
        session: Name,
        /// The turn.
        turn_id: String,
        /// `completed`, `interrupted`, `failed`, `blocked` or `overloaded`.
        outcome: String,
        /// The child's words for a failure.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// A delivery went to another state; `queued` is its acceptance, or its return to the queue.
    Mail {
        /// The recipient, when it is a session.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session: Option<Name>,
        /// The mail.
        mail: MailId,
        /// Its sender.
        from: Name,
        /// Its recipient.
        to: Name,
        /// The state that it is in.
        state: DeliveryState,
        /// The turn that it is in.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        turn_id: Option<String>,
        /// What there is to say of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
        /// Mails that have not reached the recipient now; only told live.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pending: Option<u64>,
    },
    /// A child asks a person.
    ApprovalAsked {
        /// The session whose turn waits.
        session: Name,
        /// The approval's id.
        approval: String,
        /// What kind of question.
        kind: String,
        /// What it wants to do.
        summary: String,
    },
    /// An approval was settled.
    ApprovalSettled {
        /// The session.
        session: Name,
        /// The approval's id.
        approval: String,
        /// How.
        decision: String,
        /// By whom.
        by: String,
        /// Why.
        reason: String,
    },
    /// A child asked something that nobody here answers, and was told so at once.
    QuestionRefused {
        /// The session, if it was about one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session: Option<Name>,
        /// What it asked, by its own name for it.
        method: String,
    },
    /// An outside agent claimed a name, or the operator took it over.
    NameClaimed {
        /// The name.
        name: Name,
        /// Which claim of the name this is; earlier ones are fenced.
        epoch: u64,
        /// By whom, in words for people.
        by: String,
        /// Whether it was taken from a holder.
        taken_over: bool,
    },
    /// Nobody holds a name any more; its mailbox stays.
    NameReleased {
        /// The name.
        name: Name,
    },
    /// A child process was started.
    ChildStarted {
        /// Its process.
        pid: Option<u32>,
    },
    /// A child process is gone.
    ChildExited {
        /// Its process.
        pid: Option<u32>,
        /// How it ended.
        why: String,
    },
    /// A pane shows a session.
    PaneAttached {
        /// The session.
        session: Name,
        /// Its panes now.
        attached: u32,
    },
    /// A pane shows a session no longer.
    PaneLeft {
        /// The session.
        session: Name,
        /// Its panes now.
        attached: u32,
    },
    /// A pane has left its session's thread, or has come back to it.
    PaneMoved {
        /// The session.
        session: Name,
        /// `new`, `fork` or `other`; nothing when it is back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        elsewhere: Option<String>,
        /// The thread that it shows, when it is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        thread_id: Option<String>,
    },
    /// Something was said or done inside a turn.
    Item {
        /// The session.
        session: Name,
        /// The turn.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        turn_id: Option<String>,
        /// As in `look`.
        kind: String,
        /// As in `look`.
        source: String,
        /// As in `look`.
        text: String,
    },
    /// A piece of an answer while it is written. Told only to those who ask for it by its word, and not kept.
    Delta {
        /// The session.
        session: Name,
        /// The turn.
        turn_id: String,
        /// The child's name for the message.
        item_id: String,
        /// How many bytes of the message come before it.
        offset: u64,
        /// The piece.
        text: String,
    },
    /// The reader was too slow for happenings that are no longer kept.
    Missed {
        /// How many.
        count: u64,
    },
}

impl What {
    /// The word in `event`.
    pub fn word(&self) -> &'static str {
        match self {
            What::RelayStarted { .. } => "relayStarted",
            What::RelayLeaving { .. } => "relayLeaving",
            What::SessionSpawned { .. } => "sessionSpawned",
            What::SessionRemoved { .. } => "sessionRemoved",
            What::State { .. } => "state",
            What::TurnStarted { .. } => "turnStarted",
            What::TurnEnded { .. } => "turnEnded",
            What::Mail { .. } => "mail",
            What::ApprovalAsked { .. } => "approvalAsked",
            What::ApprovalSettled { .. } => "approvalSettled",
            What::QuestionRefused { .. } => "questionRefused",
            What::NameClaimed { .. } => "nameClaimed",
            What::NameReleased { .. } => "nameReleased",
            What::ChildStarted { .. } => "childStarted",
            What::ChildExited { .. } => "childExited",
            What::PaneAttached { .. } => "paneAttached",
            What::PaneLeft { .. } => "paneLeft",
            What::PaneMoved { .. } => "paneMoved",
            What::Item { .. } => "item",
            What::Delta { .. } => DELTA,
            What::Missed { .. } => "missed",
        }
    }

    /// Whether it is about a session, also as the sender of a mail. What is about the relay is about every session.
    pub fn concerns(&self, name: &Name) -> bool {
        match self {
            What::RelayStarted { .. }
            | What::RelayLeaving { .. }
            | What::ChildStarted { .. }
            | What::ChildExited { .. }
            | What::Missed { .. } => true,
            What::QuestionRefused { session, .. } => session.as_ref().is_none_or(|session| session == name),
            What::Mail { from, to, .. } => from == name || to == name,
            What::NameClaimed { name: claimed, .. } | What::NameReleased { name: claimed } => claimed == name,
            What::SessionSpawned { session }
            | What::SessionRemoved { session }
            | What::State { session, .. }
            | What::TurnStarted { session, .. }
            | What::TurnEnded { session, .. }
            | What::ApprovalAsked { session, .. }
            | What::ApprovalSettled { session, .. }
            | What::PaneAttached { session, .. }
            | What::PaneLeft { session, .. }
            | What::PaneMoved { session, .. }
            | What::Item { session, .. }
            | What::Delta { session, .. } => session == name,
        }
    }

    /// Bytes of its texts, about.
    pub fn bytes(&self) -> usize {
        let of = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        100 + match self {
            What::RelayStarted { version, .. } => version.len(),
            What::RelayLeaving { why } | What::ChildExited { why, .. } => why.len(),
            What::State { reason, .. } => of(reason),
            What::TurnStarted { turn_id, .. } => turn_id.len(),
            What::TurnEnded { turn_id, why, .. } => turn_id.len() + of(why),
            What::Mail { turn_id, note, .. } => of(turn_id) + of(note),
            What::ApprovalAsked { summary, .. } => summary.len(),
            What::ApprovalSettled { reason, .. } => reason.len(),
            What::Item { text, .. } | What::Delta { text, .. } => text.len(),
            What::QuestionRefused { method, .. } => method.len(),
            What::NameClaimed { by, .. } => by.len(),
            What::NameReleased { .. }
            | What::SessionSpawned { .. }
            | What::SessionRemoved { .. }
            | What::ChildStarted { .. }
            | What::PaneAttached { .. }
            | What::PaneLeft { .. }
            | What::PaneMoved { .. }
            | What::Missed { .. } => 0,
        }
    }
}

/// The word of [`What::Delta`], which nobody is told who does not ask for it.
pub const DELTA: &str = "delta";

/// Every word that `event` may have.
pub const WORDS: &[&str] = &[
    "relayStarted",
    "relayLeaving",
    "sessionSpawned",
    "sessionRemoved",
    "state",
    "turnStarted",
    "turnEnded",
    "mail",
    "approvalAsked",
    "approvalSettled",
    "questionRefused",
    "nameClaimed",
    "nameReleased",
    "childStarted",
    "childExited",
    "paneAttached",
    "paneLeft",
    "paneMoved",
    "item",
    DELTA,
    "missed",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_happening_is_one_flat_object_that_begins_with_when_and_what() {
        let what = What::State {
            session: Name::parse("reviewer").unwrap(),
            from: SessionState::Idle,
            state: SessionState::Busy,
            reason: None,
            pending: 2,
        };
        let text = serde_json::to_string(&Happening { at: Millis(0), what: what.clone() }).unwrap();
        assert_eq!(
            text,
            r#"{"at":"1970-01-01T00:00:00.000Z","event":"state","session":"reviewer","from":"idle","state":"busy","pending":2}"#
        );
        assert_eq!(serde_json::from_str::<Happening>(&text).unwrap().what, what);
        assert!(WORDS.contains(&what.word()));
    }
}
