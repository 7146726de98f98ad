//! A session as it runs: everything that is known of one between two inputs, and of nothing longer than the relay lives.
//!
//! **Invariant:** at most one turn of ours is in flight per session (G3): `claim` is set while it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::closing::Closing;
use super::record::DeliveryId;
use crate::model::child::{Tokens, ToolsState};
use crate::model::clock::Millis;
use crate::model::id::{ClaimId, TurnId};
use crate::model::name::Name;
use crate::model::session::SessionState;

/// Where a session's thread stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Stopped,
    Starting,
    Open,
    Closing,
    Failed,
}

/// What is known of a session beyond what is stored.
#[derive(Debug)]
pub(super) struct Running {
    pub phase: Phase,
    /// Whether the child was asked to open the thread and has not answered.
    pub opening: bool,
    /// Why it failed, or why it is not further.
    pub reason: Option<String>,
    /// Whether the child has said that the turn does not reach its model, and has shown no progress since.
    pub struggles: bool,
    /// Whether a turn runs in the thread, ours or a person's.
    pub busy: bool,
    /// That turn, once its id is known.
    pub turn: Option<TurnId>,
    /// Since when that turn is known.
    pub turn_since: Option<Millis>,
    /// What its thread has cost so far, once its child has said.
    pub tokens: Option<Tokens>,
    /// Whether a tool is at work in that turn and nothing is being written, so that input can join it.
    pub at_boundary: bool,
    /// The turn that the child was asked to interrupt.
    pub interrupting: Option<TurnId>,
    /// Until when the end of its turn, which the child has refused, is not asked for again; and how often it was refused in a row.
    pub end_refused: Option<(Millis, u32)>,
    /// Whether the child would not end the turn of a thread that shall be left, and has not been asked again since.
    pub still_in: bool,
    /// Since when the child has not answered the request to leave its thread, however often it was made.
    pub unanswered_since: Option<Millis>,
    /// When its child last told anything of it, a turn of ours went out, or an approval was settled that its turn waited for: before, it
    /// could say nothing.
    pub heard_at: Millis,
    /// Until when a silent turn is not asked about again, because its child has just called it running.
    pub ask_not_before: Option<Millis>,
    /// How often in a row the child would not say whether its turn runs.
    pub status_refusals: u32,
    /// Since when it was asked, without an answer, whether a silent turn still runs; and how often.
    pub asked: Option<(Millis, u32)>,
    /// Whether its context was summed up because it was full, and no turn has gone through since.
    pub compacted: bool,
    /// Whether its context is full, and the child would not sum it up when it was asked last; and how often in a row.
    pub room_due: bool,
    pub room_refusals: u32,
    /// Whether the operator wants the running turn to end.
    pub interrupt_wanted: bool,
    /// Until when nothing goes in, because the operator wants the turns of its sub-agents to end.
    pub subs_end_by: Option<Millis>,
    /// Who ended its turn last, and how, until it has another one: what that turn asked is over by their word.
    pub ended_by: Option<(Name, &'static str)>,
    /// The close that is on its way.
    pub closing: Option<Closing>,
    /// Whether it was closed, and not wanted up since.
    pub closed: bool,
    /// The last turn that ended.
    pub ended_turn: Option<TurnId>,
    /// Our turn in flight.
    pub claim: Option<Flight>,
    /// Whether the child was asked for claims and has not answered.
    pub finding: bool,
    /// Searches in a row that could not read the history.
    pub unread: u32,
    /// Such searches in a row that it left unanswered for a whole lease.
    pub unanswered: u32,
    /// Openings of its thread in a row that its child has not answered in time.
    pub overdue: u32,
    /// Since when claims have been missing in a living child's history, and when to look again.
    pub missing: BTreeMap<ClaimId, Millis>,
    /// Until when nothing is tried, after a refusal that may pass.
    pub retry_at: Option<Millis>,
    /// Refusals in a row, of turns or by their failure.
    pub refusals: u32,
    /// How many of the next mails go alone, because a batch with them was refused.
    pub singly: usize,
    /// Names that must not follow a `$` directly.
    pub skills: Arc<[String]>,
    /// Where our own tools in its thread stand, as far as the child has told.
    pub tools: Option<ToolsState>,
    /// Whether mail has woken it, although it is not wanted up.
    pub woken: bool,
    /// Whether a child that was adopted, could not be heard for a while, or was asked to leave its thread in vain may still have that
    /// open, with a turn in it: it is opened once, so that it can be left.
    pub left_open: bool,
    /// The state that was last shown, and since when.
    pub shown: (SessionState, Millis),
}

/// Our turn in flight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flight {
    pub claim: ClaimId,
    /// The turn that the child said it would be in.
    pub turn: Option<TurnId>,
    /// Turns that ended before the child said so; its own may be one of them.
    pub ended: Vec<TurnId>,
    /// The last mail for now that was queued when it went in: this turn is for it, and is not interrupted for it.
    pub for_now: Option<DeliveryId>,
    /// Claims of ours that went into the same turn before, each taken.
    pub earlier: Vec<ClaimId>,
}

impl Running {
    pub fn new(now: Millis) -> Running {
        Running {
            phase: Phase::Stopped,
            opening: false,
            reason: None,
            struggles: false,
            busy: false,
            turn: None,
            turn_since: None,
            tokens: None,
            at_boundary: false,
            interrupting: None,
            end_refused: None,
            still_in: false,
            unanswered_since: None,
            heard_at: now,
            ask_not_before: None,
            status_refusals: 0,
            asked: None,
            compacted: false,
            room_due: false,
            room_refusals: 0,
            interrupt_wanted: false,
            subs_end_by: None,
            ended_by: None,
            closing: None,
            closed: false,
            ended_turn: None,
            claim: None,
            finding: false,
            unread: 0,
            unanswered: 0,
            overdue: 0,
            missing: BTreeMap::new(),
            retry_at: None,
            refusals: 0,
            singly: 0,
            skills: Arc::from([]),
            tools: None,
            woken: false,
            left_open: false,
            shown: (SessionState::Stopped, now),
        }
    }

    /// A claim did not get into its turn; what went in before stays.
    pub fn drop_flight(&mut self, claim: ClaimId) -> bool {
        let Some(flight) = self.claim.as_mut().filter(|flight| flight.claim == claim) else { return false };
        match flight.earlier.pop() {
            Some(earlier) => flight.claim = earlier,
            None => self.claim = None,
        }
        true
    }

    /// Whether a turn runs, or one of ours is about to.
    pub fn has_turn(&self) -> bool {
        self.busy || self.claim.is_some()
    }

    /// Whether the child may be asked to end its turn, or has refused that a moment ago.
    pub fn may_end(&self, now: Millis) -> bool {
        self.end_refused.is_none_or(|(until, _)| until <= now)
    }

    /// Forgets everything that only the connection to the child made true.
    pub fn disconnect(&mut self) {
        self.opening = false;
        self.busy = false;
        self.turn = None;
        self.at_boundary = false;
        self.interrupting = None;
        self.end_refused = None;
        self.subs_end_by = None;
        self.still_in = false;
        self.unanswered_since = None;
        self.asked = None;
        self.ask_not_before = None;
        self.status_refusals = 0;
        self.closing = None;
        self.ended_by = None;
        self.ended_turn = None;
        self.claim = None;
        self.finding = false;
        self.unread = 0;
        self.unanswered = 0;
        self.overdue = 0;
        self.missing.clear();
        self.compacted = false;
    }
}
