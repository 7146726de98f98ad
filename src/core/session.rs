//! Sessions as they run: opening and closing their threads, and what each is doing right now.
//!
//! | Phase | Child | Leaves by |
//! | --- | --- | --- |
//! | `Stopped` | not needed | wanted up |
//! | `Starting` | coming up, or asked to open the thread | thread open · thread refused · overdue |
//! | `Open` | has the thread | child lost or gone · thread gone · wanted down |
//! | `Closing` | asked to leave the thread | thread gone · overdue · child gone |
//! | `Failed` | refused the thread for good | `up` |
//!
//! **Invariant:** at most one turn of ours is in flight per session (G3): `claim` is set while it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::action::Action;
use super::closing::Closing;
use super::record::{DeliveryId, Record};
use super::timer::Timer;
use super::{Core, Step};
use crate::model::child::{ChildCommand, Tokens, ToolServer, ToolsState, Underway};
use crate::model::clock::Millis;
use crate::model::id::{ClaimId, Nonce, ThreadId, TurnId};
use crate::model::limits;
use crate::model::name::Name;
use crate::model::session::{SessionState, Wanted};

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
    /// Whether tools run in that turn, so that its model is not streaming.
    pub at_boundary: bool,
    /// The turn that the child was asked to interrupt.
    pub interrupting: Option<TurnId>,
    /// Until when the end of its turn, which the child has refused, is not asked for again; and how often it was refused in a row.
    pub end_refused: Option<(Millis, u32)>,
    /// Whether the child would not end the turn of a thread that shall be left, and has not been asked again since.
    pub still_in: bool,
    /// When its child last told anything of it, or an approval that its turn waited for was settled: until then it could say nothing.
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
    /// Whether a child that was adopted, or could not be heard for a while, may still have its thread open, with a turn in it: it is
    /// opened once, so that it can be left.
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
            heard_at: now,
            ask_not_before: None,
            status_refusals: 0,
            asked: None,
            compacted: false,
            room_due: false,
            room_refusals: 0,
            interrupt_wanted: false,
            ended_by: None,
            closing: None,
            closed: false,
            ended_turn: None,
            claim: None,
            finding: false,
            unread: 0,
            unanswered: 0,
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
        self.still_in = false;
        self.asked = None;
        self.ask_not_before = None;
        self.status_refusals = 0;
        self.closing = None;
        self.ended_by = None;
        self.ended_turn = None;
        self.claim = None;
        self.finding = false;
        self.unanswered = 0;
        self.missing.clear();
    }
}

impl Core {
    /// Whether a session shall be running now.
    pub(super) fn should_run(&self, name: &Name) -> bool {
        self.stop.is_none()
            && (self.ledger.sessions.get(name).is_some_and(|session| session.wanted == Wanted::Up)
                || self.sessions.get(name).is_some_and(|running| running.woken || running.closing.is_some()))
    }

    /// Whether a session's thread is open.
    pub(super) fn is_open(&self, name: &Name) -> bool {
        self.sessions.get(name).is_some_and(|running| running.phase == Phase::Open)
    }

    /// The child that a session runs on, when it answers requests.
    pub(super) fn ready_child_of(&self, name: &Name) -> Option<Nonce> {
        let key = self.ledger.sessions.get(name)?.child_key;
        self.children.get(&key)?.ready()
    }

    /// Brings one session nearer to what is wanted of it.
    pub(super) fn evaluate_session(&mut self, step: &mut Step, name: &Name) {
        self.evaluate_wake(step, name);
        let left_open = self.sessions.get(name).is_some_and(|running| running.left_open);
        let wanted = self.should_run(name) || (left_open && self.stop.is_none());
        let child = self.ready_child_of(name);
        let Some(running) = self.sessions.get_mut(name) else { return };
        match (running.phase, wanted) {
            (Phase::Stopped, true) => {
                running.phase = Phase::Starting;
                running.reason = None;
                self.open_thread(step, name);
            }
            (Phase::Starting, true) => self.open_thread(step, name),
            (Phase::Open, true) => self.evaluate_mail(step, name),
            (Phase::Starting, false) if !running.opening => running.phase = Phase::Stopped,
            (Phase::Failed, false) => running.phase = Phase::Stopped,
            (Phase::Starting | Phase::Open, false) => match child {
                Some(nonce) => {
                    running.phase = Phase::Closing;
                    self.leave_thread(step, name, nonce);
                }
                None => self.thread_left(step, name, "the session was stopped"),
            },
            // It is wanted again, and has not been left.
            (Phase::Closing, true) if running.still_in => {
                running.still_in = false;
                running.phase = Phase::Open;
                self.timers.clear(&Timer::Thread(name.clone()));
                self.touch(name);
            }
            (Phase::Closing, false) if running.still_in && running.may_end(step.now) => {
                if let Some(nonce) = child {
                    self.leave_thread(step, name, nonce);
                }
            }
            (Phase::Closing, _) | (Phase::Stopped, false) | (Phase::Failed, true) => {}
        }
        self.watch_silence(name);
        self.note_shown_state(step, name);
    }

    /// Stores what is wanted of a session, before anything acts on it.
    pub(super) fn want(&mut self, step: &mut Step, name: &Name, wanted: Wanted) {
        let after = DeliveryId(self.ledger.last_delivery);
        self.record(step, Record::SessionWanted { name: name.clone(), wanted, after });
    }

    /// Asks a ready child to open the session's thread, once.
    fn open_thread(&mut self, step: &mut Step, name: &Name) {
        let Some(nonce) = self.ready_child_of(name) else { return };
        let Some(running) = self.sessions.get_mut(name) else { return };
        if running.opening || running.retry_at.is_some_and(|at| at > step.now) {
            return;
        }
        running.opening = true;
        let tools = self.tools_of(step, name, nonce);
        let Some(session) = self.ledger.sessions.get(name) else { return };
        let command = ChildCommand::OpenThread {
            tools,
            session: name.clone(),
            thread: session.thread.clone(),
            setup: session.setup.clone(),
            // What is opened only to be left keeps its summary for the next start.
            reminder: session
                .summary
                .as_deref()
                .filter(|_| self.should_run(name))
                .map(super::envelope::reminder),
            welcome: super::envelope::welcome(
                name,
                &self.settings.bundle,
                self.ledger.sessions.keys(),
                false,
            ),
            shell_env: vec![
                ("AGENTMUX_SESSION".to_owned(), name.to_string()),
                ("AGENTMUX_BUNDLE".to_owned(), self.settings.bundle.to_string()),
                ("AGENTMUX_STATE_DIR".to_owned(), self.settings.state_root.clone()),
            ],
        };
        step.act(Action::Command { nonce, command });
        self.timers.set(Timer::Thread(name.clone()), step.now.plus(limits::THREAD_OPEN_MS));
    }

    /// The program that gives a session's thread its tools, with a token of its own.
    fn tools_of(&mut self, step: &mut Step, name: &Name, child: Nonce) -> Option<Box<ToolServer>> {
        let (command, args) = self.settings.tools.clone()?;
        let token = self.issue_token(step, name, child);
        Some(Box::new(ToolServer { command, args, session: name.clone(), token }))
    }

    /// The child tells where our own tools stand. While they come up no turn begins, for a while.
    pub(super) fn on_own_tools(&mut self, now: Millis, name: &Name, state: ToolsState) {
        let Some(running) = self.sessions.get_mut(name) else { return };
        running.tools = Some(state);
        let timer = Timer::Tools(name.clone());
        match state {
            ToolsState::Starting => self.timers.set(timer, now.plus(limits::TOOLS_READY_MS)),
            ToolsState::Ready | ToolsState::Gone => self.timers.clear(&timer),
        }
        self.touch(name);
    }

    /// Whether a session has our own tools: its child says so, or they have spoken to us since that child was started.
    pub(super) fn has_tools(&self, name: &Name) -> bool {
        let told = self.sessions.get(name).and_then(|running| running.tools);
        let heard = self.ledger.tokens.get(name).is_some_and(|tokens| tokens.used);
        told.map_or(heard, |state| state == ToolsState::Ready || heard)
    }

    pub(super) fn on_thread_opened(
        &mut self,
        step: &mut Step,
        name: &Name,
        thread: &ThreadId,
        busy: bool,
        turn: Option<Underway>,
    ) {
        let Some(session) = self.ledger.sessions.get(name) else { return };
        match &session.thread {
            None => self.record(step, Record::ThreadBound { name: name.clone(), thread: thread.clone() }),
            Some(bound) if bound == thread => {}
            Some(_) => return self.on_other_thread_opened(step, name, thread),
        }
        self.timers.clear(&Timer::Thread(name.clone()));
        let Some(running) = self.sessions.get_mut(name) else { return };
        running.disconnect();
        running.left_open = false;
        running.phase = Phase::Open;
        running.reason = None;
        running.refusals = 0;
        running.retry_at = None;
        running.busy = busy;
        if let Some(Underway { turn, since, at_boundary }) = turn {
            running.turn_since = Some(since.map_or(step.now, |since| since.min(step.now)));
            running.turn = Some(turn);
            running.at_boundary = at_boundary;
        }
        let has_summary = self.ledger.sessions.get(name).is_some_and(|session| session.summary.is_some());
        if has_summary && self.should_run(name) {
            self.record(step, Record::SessionSummarised { name: name.clone(), summary: None });
        }
        self.reconcile_approvals_of(step, name);
        self.touch(name);
    }

    /// The answer to a second opening that was on its way: a session keeps the thread that it is bound to, because mail may
    /// be in it, and asks for that one again.
    fn on_other_thread_opened(&mut self, step: &mut Step, name: &Name, other: &ThreadId) {
        self.back_off(step, name);
        self.thread_left(step, name, &format!("the child opened another thread, {other}"));
    }

    pub(super) fn on_thread_failed(&mut self, step: &mut Step, name: &Name, temporary: bool, why: &str) {
        let Some(running) = self.sessions.get_mut(name) else { return };
        running.opening = false;
        running.left_open = false;
        // An answer to an opening that was given up meanwhile; what came after it has its own answer and deadline.
        if running.phase != Phase::Starting {
            return;
        }
        self.timers.clear(&Timer::Thread(name.clone()));
        running.reason = Some(why.to_owned());
        // Who brings a thread in that another program writes to wants to hear it now, not wait.
        if temporary && !(is_held_elsewhere(why) && self.is_being_spawned(name)) {
            self.back_off(step, name);
        } else if let Some(running) = self.sessions.get_mut(name) {
            running.phase = Phase::Failed;
        }
        self.touch(name);
    }

    /// The child unloaded a thread, because we left it or by itself. Before ours is open it is one of an earlier life (a
    /// removed session of this name, a close that took too long), and the answer to our opening is still to come.
    pub(super) fn on_thread_gone(&mut self, step: &mut Step, name: &Name) {
        if self.sessions.get(name).is_some_and(|running| running.phase != Phase::Starting) {
            self.thread_left(step, name, "the thread was unloaded");
        }
    }

    pub(super) fn handle_thread_overdue(&mut self, step: &mut Step, name: &Name) {
        let Some(running) = self.sessions.get(name) else { return };
        match running.phase {
            Phase::Closing => self.thread_left(step, name, "the session was stopped"),
            Phase::Starting if running.opening => {
                let s = limits::THREAD_OPEN_MS / 1000;
                self.on_thread_failed(
                    step,
                    name,
                    true,
                    &format!("the child did not open the thread within {s} s"),
                );
            }
            _ => {}
        }
    }

    /// A session has no open thread any more: its mail on the way is in doubt, and it stops or starts again.
    pub(super) fn thread_left(&mut self, step: &mut Step, name: &Name, why: &str) {
        self.forget_approvals_of(step, name, why);
        if let Some(running) = self.sessions.get_mut(name) {
            running.interrupt_wanted = false;
        }
        self.thread_unheard(step, name, why);
    }

    /// As [`Core::thread_left`], but the thread may live on, ask what it asks, and have a turn that the person wants ended.
    pub(super) fn thread_unheard(&mut self, step: &mut Step, name: &Name, why: &str) {
        self.doubt_claims(step, name, why);
        self.timers.clear(&Timer::Thread(name.clone()));
        self.timers.clear(&Timer::Lease(name.clone()));
        self.timers.clear(&Timer::End(name.clone()));
        let Some(running) = self.sessions.get_mut(name) else { return };
        running.disconnect();
        running.tools = None;
        self.timers.clear(&Timer::Tools(name.clone()));
        running.phase = match running.phase {
            Phase::Open | Phase::Starting => Phase::Starting,
            Phase::Closing | Phase::Stopped => Phase::Stopped,
            Phase::Failed => Phase::Failed,
        };
        self.touch(name);
    }

    /// Whether `up` has done what it could for a session.
    pub(super) fn is_up_or_failed(&self, name: &Name) -> bool {
        let open = self.sessions.get(name).is_none_or(|running| running.phase == Phase::Open);
        open || self.shown_state(name) == SessionState::Failed
    }

    /// Whether a session is stopped, and no turn of it can be left in a child.
    pub(super) fn is_down(&self, name: &Name) -> bool {
        let left_open = self.sessions.get(name).is_some_and(|running| running.left_open);
        self.shown_state(name) == SessionState::Stopped && !left_open
    }

    /// What a session is doing, in the words of `list`.
    pub(super) fn shown_state(&self, name: &Name) -> SessionState {
        let Some(running) = self.sessions.get(name) else { return SessionState::Stopped };
        let key = self.ledger.sessions.get(name).map(|session| session.child_key);
        let children = key.and_then(|key| self.children.get(&key));
        match running.phase {
            Phase::Stopped => SessionState::Stopped,
            // It comes up only to be left.
            Phase::Starting if running.left_open && !self.should_run(name) => SessionState::Stopped,
            Phase::Failed => SessionState::Failed,
            Phase::Starting if children.is_some_and(super::child::Children::has_failed) => {
                SessionState::Failed
            }
            Phase::Starting if children.is_some_and(super::child::Children::is_backing_off) => {
                SessionState::Backoff
            }
            Phase::Starting => SessionState::Starting,
            Phase::Open | Phase::Closing if self.has_approval(name) => SessionState::Waiting,
            Phase::Open | Phase::Closing if running.busy || running.claim.is_some() => SessionState::Busy,
            Phase::Open if self.blocked_until(name).is_some() => SessionState::Blocked,
            Phase::Open if self.is_held(name) => SessionState::Held,
            Phase::Open => SessionState::Idle,
            Phase::Closing => SessionState::Busy,
        }
    }

    pub(super) fn note_shown_state(&mut self, step: &mut Step, name: &Name) {
        let state = self.shown_state(name);
        let Some(running) = self.sessions.get_mut(name).filter(|running| running.shown.0 != state) else {
            return;
        };
        // A turn that was found running has been running since it began, whoever looked.
        let found_since = running.turn.as_ref().and(running.turn_since);
        let found_since = found_since.filter(|_| running.shown.0 == SessionState::Starting);
        let since = found_since.filter(|_| state == SessionState::Busy).unwrap_or(step.now);
        let (before, _) = std::mem::replace(&mut running.shown, (state, since));
        if state == SessionState::Failed && running.woken {
            self.touch_sleepers();
        }
        self.tell_state(step, name, before, state);
    }
}

/// Whether the child's words mean that another process writes to the thread.
pub(super) fn is_held_elsewhere(why: &str) -> bool {
    why.contains("active writer")
}
