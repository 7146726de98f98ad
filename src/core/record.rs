//! Records: what must be stored, in the past tense. The ledger and the store apply the same ones, alike.
//!
//! **Invariant:** a record carries everything that its application needs; applying reads no clock and decides nothing.

use std::sync::Arc;

use super::ledger::{Claim, Delivery};
use crate::model::clock::Millis;
use crate::model::id::{ClaimId, Nonce, ThreadId, TurnId};
use crate::model::mail::{DeliveryState, Mail};
use crate::model::name::Name;
use crate::model::session::{Child, Session, Wanted};
use crate::model::token::TokenHash;

/// One delivery: one mail to one recipient. Numbers are given in order of acceptance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId(pub i64);

/// Something that has happened and must be stored.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// A session was created.
    SessionSpawned(Session),
    /// A session that is not running got other settings.
    SessionConfigured(Session),
    /// A session that is closed said what it was doing, or was told it again.
    SessionSummarised {
        /// The session.
        name: Name,
        /// What it said; `None` once it was told that.
        summary: Option<String>,
    },
    /// What is wanted of a session changed.
    SessionWanted {
        /// The session.
        name: Name,
        /// What is wanted now.
        wanted: Wanted,
        /// The last delivery that was accepted before.
        after: DeliveryId,
    },
    /// A session's mail is held back, or no longer.
    SessionHeld {
        /// The session.
        name: Name,
        /// Until when; `None` when it is no longer.
        until: Option<Millis>,
    },
    /// A session's account cannot run, or can again.
    SessionBlocked {
        /// The session.
        name: Name,
        /// Until when; `None` when it can again.
        until: Option<Millis>,
    },
    /// A session got its thread.
    ThreadBound {
        /// The session.
        name: Name,
        /// The thread.
        thread: ThreadId,
    },
    /// A session was removed.
    SessionRemoved {
        /// The session.
        name: Name,
    },
    /// A session's own tools were given a token, for as long as their child lives.
    TokenIssued {
        /// The session.
        session: Name,
        /// The child that it was given to.
        child: Nonce,
        /// Its hash.
        hash: TokenHash,
    },
    /// A session's tools said hello with a token: those that were given out before are over.
    TokenUsed {
        /// The session.
        session: Name,
        /// Its hash.
        hash: TokenHash,
    },
    /// An outside agent claimed a name.
    NameClaimed {
        /// The name.
        name: Name,
        /// The hash of its token.
        hash: TokenHash,
        /// Which claim of the name this is; earlier ones are fenced.
        epoch: u64,
        /// When.
        at: Millis,
        /// Who claimed it, in words for people.
        by: String,
        /// Whether the operator took it from a holder.
        taken_over: bool,
    },
    /// The last connection of an outside agent is gone; its mailbox stays.
    NameReleased {
        /// The name.
        name: Name,
        /// When.
        at: Millis,
    },
    /// An outside agent's mailbox was removed.
    NameRemoved {
        /// The name.
        name: Name,
    },
    /// A mail was accepted.
    MailAccepted {
        /// The mail.
        mail: Arc<Mail>,
        /// One delivery per recipient.
        deliveries: Vec<(DeliveryId, Name)>,
    },
    /// A delivery went to another state.
    DeliveryMoved {
        /// The delivery.
        delivery: DeliveryId,
        /// The new state.
        to: DeliveryState,
        /// When.
        at: Millis,
        /// In which turn.
        turn: Option<TurnId>,
        /// What there is to say of it.
        note: Option<String>,
    },
    /// The loop brake holds a delivery back.
    DeliveryBraked {
        /// The delivery.
        delivery: DeliveryId,
        /// When.
        at: Millis,
        /// Which limit.
        note: String,
    },
    /// The operator let go what the loop brake held back; the conversation counts from here.
    DeliveryReleased {
        /// The delivery.
        delivery: DeliveryId,
        /// When.
        at: Millis,
    },
    /// A recipient confirmed a mail that it had had.
    DeliveryAcked {
        /// The delivery.
        delivery: DeliveryId,
        /// When.
        at: Millis,
        /// What there is to say of it.
        note: Option<String>,
    },
    /// A delivery that had expired or failed waits again.
    DeliveryRevived {
        /// The delivery.
        delivery: DeliveryId,
        /// As it waits now; it no longer expires.
        header: Delivery,
        /// The claims that it was in, for late evidence.
        claims: Vec<(ClaimId, Claim)>,
        /// When.
        at: Millis,
        /// What there is to say of it.
        note: Option<String>,
    },
    /// A person no longer wants to see these dead deliveries.
    DeadDiscarded {
        /// The deliveries.
        deliveries: Vec<DeliveryId>,
    },
    /// The exclusive right to deliver some mails was given out.
    ClaimOpened {
        /// The claim.
        claim: ClaimId,
        /// To which session.
        session: Name,
        /// By which child; `None` when a reader without a child holds it.
        child: Option<Nonce>,
        /// Which mails, in order.
        deliveries: Vec<DeliveryId>,
        /// When.
        at: Millis,
    },
    /// Something about a claim's mails that changes no state: a failed turn, marks made inert.
    ClaimNoted {
        /// The claim.
        claim: ClaimId,
        /// When.
        at: Millis,
        /// In which turn.
        turn: Option<TurnId>,
        /// What.
        note: String,
    },
    /// A claim is over: its mails are each settled or back in the queue.
    ClaimEnded {
        /// The claim.
        claim: ClaimId,
        /// When.
        at: Millis,
    },
    /// A child is about to be started.
    ChildIntended(Child),
    /// A child was started.
    ChildStarted {
        /// The child.
        nonce: Nonce,
        /// Its process.
        pid: u32,
    },
    /// A child is gone.
    ChildEnded {
        /// The child.
        nonce: Nonce,
        /// When.
        at: Millis,
        /// How.
        why: String,
    },
    /// A child asked a person.
    ApprovalAsked {
        /// The session whose turn waits.
        session: Name,
        /// The child's key for it.
        key: String,
        /// What kind of question.
        kind: String,
        /// What it wants to do.
        summary: String,
        /// When.
        at: Millis,
    },
    /// An approval was settled.
    ApprovalSettled {
        /// The session.
        session: Name,
        /// The child's key for it.
        key: String,
        /// How: `approved` or `approvedAlways`, `denied`, `declined` by the deadline, or `elsewhere` (a pane, or the turn's end).
        decision: String,
        /// Who: `operator`, `deadline`, or `elsewhere`.
        by: String,
        /// Why.
        reason: String,
        /// When.
        at: Millis,
    },
}
