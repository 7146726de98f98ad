//! What we tell a child and what a child tells us, in our words whatever the child speaks.
//!
//! **Invariant:** evidence (`InputTaken`) is a statement of the child that input is inside a turn, never our inference.

mod told;

use serde::{Deserialize, Serialize};

pub use told::{Always, ApprovalAsked, Choice, Item, Tokens, ToolsState, TurnOutcome, Underway};

use super::id::{ClaimId, ThreadId, TurnId};
use super::name::Name;
use super::session::ThreadSetup;
use super::token::Token;

/// What a kind of child can really do; reported, never pretended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Input can be added to a running turn at a boundary.
    pub steer: bool,
    /// A running turn can be interrupted.
    pub interrupt: bool,
    /// It asks for approvals in a way that we can answer.
    pub approvals: bool,
    /// After a crash its history tells which input it took.
    pub reconcile: bool,
    /// What its evidence is worth.
    pub evidence: Evidence,
}

/// What a child's evidence is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Evidence {
    /// The child states that input is inside a turn.
    Consumed,
    /// The child only answers that it got the input.
    Submitted,
}

/// A command to a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChildCommand {
    /// Open a session's thread: resume `thread`, or start a new one with `welcome` as its first message.
    OpenThread {
        /// The session.
        session: Name,
        /// Its thread, unless it shall be a new one.
        thread: Option<ThreadId>,
        /// Its configuration, the same at every opening.
        setup: ThreadSetup,
        /// What a new thread is told first: who it is and how mail reaches it.
        welcome: String,
        /// What a known thread is told as it opens again.
        reminder: Option<String>,
        /// Variables for the shells that the model starts.
        shell_env: Vec<(String, String)>,
        /// The program that gives the thread our own tools.
        tools: Option<Box<ToolServer>>,
    },
    /// Leave a session's thread; its running turn is interrupted first.
    CloseThread {
        /// The session.
        session: Name,
    },
    /// Start a turn with one message that carries the claim's id.
    StartTurn {
        /// The session.
        session: Name,
        /// The claim, which is the message's client id.
        claim: ClaimId,
        /// The message.
        text: String,
    },
    /// Add a message that carries the claim's id to a running turn.
    SteerTurn {
        /// The session.
        session: Name,
        /// The claim, which is the message's client id.
        claim: ClaimId,
        /// The turn; refused when another one runs, or none.
        turn: TurnId,
        /// The message.
        text: String,
    },
    /// End a running turn.
    InterruptTurn {
        /// The session.
        session: Name,
        /// The turn.
        turn: TurnId,
    },
    /// End the turns of agents that a thread's own model has begun beside it.
    InterruptSubs {
        /// The session.
        session: Name,
    },
    /// Look for claims in a thread's history.
    FindClaims {
        /// The session.
        session: Name,
        /// The claims to look for.
        claims: Vec<ClaimId>,
    },
    /// Say yes to an approval; only the operator's own word leads here.
    Approve {
        /// The approval's key (see [`ApprovalAsked::key`]).
        key: String,
        /// With the answer that persists (see [`ApprovalAsked::always`]), not just once.
        always: bool,
    },
    /// Settle an approval with one of the answers that it offers, by its name; only the operator's own word leads to a yes.
    Choose {
        /// The approval's key.
        key: String,
        /// The answer, one of [`ApprovalAsked::decisions`].
        decision: String,
    },
    /// Decline an approval; its turn goes on.
    Decline {
        /// The approval's key.
        key: String,
        /// Why, for the kinds of questions whose answer has a place for it.
        reason: String,
    },
    /// Look once more for the thread of a question (see [`ChildEvent::AskUnplaced`]).
    PlaceAsk {
        /// The question's key.
        key: String,
    },
    /// Say whether a turn still runs in a thread.
    AskStatus {
        /// The session.
        session: Name,
    },
    /// Sum a thread's context up, so that there is room again.
    Compact {
        /// The session.
        session: Name,
    },
    /// Read the last items of a thread.
    ReadItems {
        /// The session.
        session: Name,
        /// Who asked, given back with the answer.
        token: u64,
        /// How many at most.
        limit: u32,
    },
}

/// The MCP server that a thread gets for writing to its peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolServer {
    /// The program.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// The session that it speaks as.
    pub session: Name,
    /// What proves that.
    pub token: Token,
}

/// What a child told us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChildEvent {
    /// It answers requests.
    Ready {
        /// Its version, such as `0.169.0`; empty when it did not say.
        version: String,
    },
    /// It does not speak our protocol; the connection is useless.
    Unusable {
        /// Why.
        why: String,
    },
    /// It sent something that cannot be read; nothing follows from it.
    Garbled {
        /// Why.
        why: String,
    },
    /// No turn runs in a thread, whatever was believed.
    ThreadIdle {
        /// The session.
        session: Name,
    },
    /// A thread is open.
    ThreadOpened {
        /// The session.
        session: Name,
        /// Its thread.
        thread: ThreadId,
        /// Whether a turn is running in it.
        busy: bool,
        /// That turn, if the child says which; else it shows itself with its next word.
        turn: Option<Underway>,
    },
    /// A thread could not be opened.
    ThreadFailed {
        /// The session.
        session: Name,
        /// Whether trying again may help.
        temporary: bool,
        /// The child's words.
        why: String,
    },
    /// The child would not end a thread's turn for now, so that the thread is not left.
    CloseRefused {
        /// The session.
        session: Name,
        /// The child's words.
        why: String,
    },
    /// A thread is no longer loaded in the child.
    ThreadGone {
        /// The session.
        session: Name,
    },
    /// The child answered our request to start a turn. Not evidence.
    TurnAccepted {
        /// The session.
        session: Name,
        /// The claim.
        claim: ClaimId,
        /// The turn that it shall be in.
        turn: TurnId,
    },
    /// The child refused our request; it does not hold the input.
    TurnRefused {
        /// The session.
        session: Name,
        /// The claim.
        claim: ClaimId,
        /// Whether trying again may help.
        temporary: bool,
        /// The child's words.
        why: String,
    },
    /// Evidence: input is inside a turn.
    InputTaken {
        /// The session.
        session: Name,
        /// Our claim, or `None` when a person typed it.
        claim: Option<ClaimId>,
        /// The turn that it is in.
        turn: TurnId,
    },
    /// A turn began.
    TurnStarted {
        /// The session.
        session: Name,
        /// The turn.
        turn: TurnId,
    },
    /// A turn ended.
    TurnEnded {
        /// The session.
        session: Name,
        /// The turn.
        turn: TurnId,
        /// How.
        outcome: TurnOutcome,
    },
    /// The input of a claim came too late for the turn that it was meant for; the child does not hold it.
    TurnMissed {
        /// The session.
        session: Name,
        /// The claim.
        claim: ClaimId,
        /// The child's words.
        why: String,
    },
    /// The child would not interrupt a turn.
    InterruptRefused {
        /// The session.
        session: Name,
        /// The child's words.
        why: String,
    },
    /// The answer to [`ChildCommand::InterruptSubs`].
    SubsInterrupted {
        /// The session.
        session: Name,
        /// How many turns of its sub-agents were ended.
        turns: u32,
        /// The child's words, if it would not end one for now.
        refused: Option<String>,
    },
    /// The child asks about a thread that nobody knows yet; it is looked for, and again when [`ChildCommand::PlaceAsk`] says so.
    AskUnplaced {
        /// The question's key.
        key: String,
        /// How often it was looked for again.
        times: u32,
    },
    /// A turn has come to a boundary (a tool is at work and nothing is being written), or has left it.
    Boundary {
        /// The session.
        session: Name,
        /// Whether it is at one now.
        at_boundary: bool,
    },
    /// The answer to [`ChildCommand::AskStatus`].
    StatusTold {
        /// The session.
        session: Name,
        /// Whether a turn runs in its thread.
        busy: bool,
    },
    /// The child answers, but not whether a turn runs.
    StatusRefused {
        /// The session.
        session: Name,
        /// The child's words.
        why: String,
    },
    /// The child sums a thread's context up.
    CompactBegun {
        /// The session.
        session: Name,
    },
    /// The child would not sum a thread's context up.
    CompactRefused {
        /// The session.
        session: Name,
        /// Whether trying again may help.
        temporary: bool,
        /// The child's words.
        why: String,
    },
    /// The answer to [`ChildCommand::FindClaims`].
    ClaimsFound {
        /// The session.
        session: Name,
        /// Claims that are in the history, with their turns.
        present: Vec<(ClaimId, TurnId)>,
        /// Claims that are not.
        absent: Vec<ClaimId>,
        /// Whether a turn was running when the history was read.
        busy: bool,
    },
    /// The history could not be read; nothing was learned about the claims.
    HistoryUnread {
        /// The session.
        session: Name,
        /// The child's words.
        why: String,
    },
    /// The child asks a person.
    ApprovalAsked(ApprovalAsked),
    /// An approval was settled: by us, in a pane, or by the turn's end.
    ApprovalResolved {
        /// The approval's key.
        key: String,
    },
    /// Where the program that gives a thread our own tools stands.
    OwnTools {
        /// The session.
        session: Name,
        /// Its state.
        state: ToolsState,
    },
    /// The names of the skills that a `$` would pull in.
    SkillsListed {
        /// The session.
        session: Name,
        /// Their names.
        names: Vec<String>,
    },
    /// Something was said or done inside a turn, whole.
    ItemDone {
        /// The session.
        session: Name,
        /// The turn, if the child says.
        turn: Option<TurnId>,
        /// What.
        item: Item,
    },
    /// A piece of an answer, for those who read it as it is written.
    Said {
        /// The session.
        session: Name,
        /// The turn.
        turn: TurnId,
        /// The child's name for the message.
        item: String,
        /// How many bytes of the message come before it.
        offset: u64,
        /// The piece.
        text: String,
    },
    /// A running turn does not reach its model; the child goes on trying by itself, maybe for ever.
    TurnStruggles {
        /// The session.
        session: Name,
        /// The child's words.
        why: String,
    },
    /// It asked something that is no approval, or about a thread that is not ours; it was told at once that nobody answers that.
    AskRefused {
        /// The session, if it is about one.
        session: Option<Name>,
        /// What it asked, by its own name for it.
        method: String,
    },
    /// What a thread has cost so far.
    TokensUsed {
        /// The session.
        session: Name,
        /// The counts.
        tokens: Tokens,
    },
    /// The answer to [`ChildCommand::ReadItems`].
    ItemsRead {
        /// Who asked.
        token: u64,
        /// The items, oldest first, or the child's words why not.
        items: Result<Vec<Item>, String>,
    },
}

impl ChildEvent {
    /// The session that it is about.
    pub fn session(&self) -> Option<&Name> {
        match self {
            ChildEvent::ThreadOpened { session, .. }
            | ChildEvent::ThreadFailed { session, .. }
            | ChildEvent::ThreadGone { session }
            | ChildEvent::TurnAccepted { session, .. }
            | ChildEvent::TurnRefused { session, .. }
            | ChildEvent::InputTaken { session, .. }
            | ChildEvent::TurnStarted { session, .. }
            | ChildEvent::TurnEnded { session, .. }
            | ChildEvent::TurnMissed { session, .. }
            | ChildEvent::InterruptRefused { session, .. }
            | ChildEvent::SubsInterrupted { session, .. }
            | ChildEvent::Boundary { session, .. }
            | ChildEvent::ClaimsFound { session, .. }
            | ChildEvent::HistoryUnread { session, .. }
            | ChildEvent::StatusTold { session, .. }
            | ChildEvent::StatusRefused { session, .. }
            | ChildEvent::CompactBegun { session }
            | ChildEvent::CompactRefused { session, .. }
            | ChildEvent::CloseRefused { session, .. }
            | ChildEvent::ThreadIdle { session }
            | ChildEvent::ApprovalAsked(ApprovalAsked { session, .. })
            | ChildEvent::ItemDone { session, .. }
            | ChildEvent::Said { session, .. }
            | ChildEvent::TurnStruggles { session, .. }
            | ChildEvent::TokensUsed { session, .. }
            | ChildEvent::OwnTools { session, .. }
            | ChildEvent::SkillsListed { session, .. } => Some(session),
            ChildEvent::AskRefused { session, .. } => session.as_ref(),
            ChildEvent::Ready { .. }
            | ChildEvent::Unusable { .. }
            | ChildEvent::Garbled { .. }
            | ChildEvent::ApprovalResolved { .. }
            | ChildEvent::AskUnplaced { .. }
            | ChildEvent::ItemsRead { .. } => None,
        }
    }
}

/// What can be done with an outside agent: mail waits until it reads it, and its next request confirms that.
pub const OUTSIDE_CAPABILITIES: Capabilities = Capabilities {
    steer: false,
    interrupt: false,
    approvals: false,
    reconcile: false,
    evidence: Evidence::Consumed,
};

/// What a child can really do, as a function of its kind.
pub const CODEX_CAPABILITIES: Capabilities = Capabilities {
    steer: true,
    interrupt: true,
    approvals: true,
    reconcile: true,
    evidence: Evidence::Consumed,
};
