//! Closing: a session's turn is ended, it is asked what it was doing, and then it is stopped.
//!
//! | Step | Leaves by |
//! | --- | --- |
//! | a turn runs | it is interrupted, and ends |
//! | idle | what is in doubt is looked for, then a turn that asks for the summary begins |
//! | that turn runs | it ends, is refused, or 10 s have passed since `close` |
//! | `up` comes meanwhile | the close is over, whoever waits for it is told so, and mail goes in again |
//! | over | the thread is left, as by `down`; the summary is kept and told when the thread is next opened |
//!
//! **Invariant:** from the first step on the session is wanted down, so that a crash in between leaves it closed.
//! **Invariant:** nothing else goes into the session meanwhile: mail stays queued, words of the person are taken back at once, or as
//! soon as it is known that they did not go in.

use super::action::Action;
use super::record::{DeliveryId, Record};
use super::timer::Timer;
use super::{Core, Step};
use crate::model::child::{ChildCommand, Item};
use crate::model::id::{ClaimId, TurnId};
use crate::model::limits;
use crate::model::mail::{DeliveryState, Priority};
use crate::model::name::Name;
use crate::model::session::Wanted;

/// What a session is asked when it is closed.
const QUESTION: &str = "You are about to be closed and started again later. In at most ten lines, for your own use then: what were \
you doing, what is done, what is left? Do not use any tools.";

/// A close on its way.
#[derive(Debug)]
pub(super) struct Closing {
    /// The id of the question, once it was asked.
    asked: Option<ClaimId>,
    /// The turn that answers it.
    turn: Option<TurnId>,
    /// The answer so far.
    summary: String,
}

impl Core {
    /// Whether a session is being closed.
    pub(super) fn is_closing(&self, name: &Name) -> bool {
        self.sessions.get(name).is_some_and(|running| running.closing.is_some())
    }

    /// Begins to close a session, or hurries a close that has begun.
    pub(super) fn close(&mut self, step: &mut Step, name: &Name, now: bool) {
        let is_up = self.should_run(name);
        if self.ledger.sessions.get(name).is_some_and(|session| session.wanted == Wanted::Up || session.wake)
        {
            self.want(step, name, Wanted::Down);
            self.set_woken(name, false);
        }
        let is_open = is_up && self.is_open(name);
        let Some(running) = self.sessions.get_mut(name) else { return };
        running.closed = true;
        if now || !is_open {
            running.closing = None;
            self.timers.clear(&Timer::Close(name.clone()));
        } else if running.closing.is_none() {
            running.closing = Some(Closing { asked: None, turn: None, summary: String::new() });
            running.interrupt_wanted = running.has_turn();
            self.timers.set(Timer::Close(name.clone()), step.now.plus(limits::CLOSE_MS));
        }
        self.take_prompts_back(step, name);
        self.touch(name);
    }

    /// Asks for the summary as soon as no turn runs; true while the session is being closed.
    pub(super) fn evaluate_closing(&mut self, step: &mut Step, name: &Name) -> bool {
        let Some(nonce) = self.ready_child_of(name) else { return self.is_closing(name) };
        let Some(running) = self.sessions.get_mut(name) else { return false };
        let idle = !running.has_turn();
        let Some(closing) = running.closing.as_ref() else { return false };
        if closing.asked.is_some() || !idle || self.find_claims(step, name) {
            return true;
        }
        if let Some(closing) = self.sessions.get_mut(name).and_then(|running| running.closing.as_mut()) {
            let claim = step.mint.claim();
            closing.asked = Some(claim);
            let command = ChildCommand::StartTurn { session: name.clone(), claim, text: QUESTION.to_owned() };
            step.act(Action::Command { nonce, command });
        }
        true
    }

    /// The child has taken the question into a turn.
    pub(super) fn closing_saw_turn(&mut self, name: &Name, claim: ClaimId, turn: &TurnId) {
        let closing = self.sessions.get_mut(name).and_then(|running| running.closing.as_mut());
        if let Some(closing) = closing.filter(|closing| closing.asked == Some(claim)) {
            closing.turn = Some(turn.clone());
        }
    }

    /// The child will not take the question.
    pub(super) fn closing_saw_refusal(&mut self, step: &mut Step, name: &Name, claim: ClaimId) {
        let closing = self.sessions.get(name).and_then(|running| running.closing.as_ref());
        if closing.is_some_and(|closing| closing.asked == Some(claim)) {
            self.finish_closing(step, name);
        }
    }

    /// Something was said in a turn.
    pub(super) fn closing_saw_item(&mut self, name: &Name, turn: Option<&TurnId>, item: &Item) {
        let closing = self.sessions.get_mut(name).and_then(|running| running.closing.as_mut());
        let Some(closing) = closing.filter(|closing| closing.turn.is_some() && closing.turn.as_ref() == turn)
        else {
            return;
        };
        if item.kind == "answer" {
            let room = limits::SUMMARY_BYTES_MAX.saturating_sub(closing.summary.len());
            let end = (0..=room.min(item.text.len())).rev().find(|at| item.text.is_char_boundary(*at));
            closing.summary.push_str(&item.text[..end.unwrap_or(0)]);
        }
    }

    /// A turn ended; if it was the one that was asked for, the session can go.
    pub(super) fn closing_saw_end(&mut self, step: &mut Step, name: &Name, turn: &TurnId) {
        let closing = self.sessions.get(name).and_then(|running| running.closing.as_ref());
        if closing.is_some_and(|closing| closing.turn.as_ref() == Some(turn)) {
            self.finish_closing(step, name);
        }
    }

    /// The time for a summary is over, or there is one.
    pub(super) fn finish_closing(&mut self, step: &mut Step, name: &Name) {
        self.timers.clear(&Timer::Close(name.clone()));
        let closing = self.sessions.get_mut(name).and_then(|running| running.closing.take());
        let summary =
            closing.map(|closing| closing.summary.trim().to_owned()).filter(|text| !text.is_empty());
        if summary.is_some() {
            self.record(step, Record::SessionSummarised { name: name.clone(), summary });
        }
        self.touch(name);
    }

    /// What a session said of its work when it was closed, for it to read again.
    pub(super) fn summary_of(&self, name: &Name) -> Option<String> {
        self.ledger.sessions.get(name)?.summary.clone()
    }

    /// Words of the person that have not gone in will not: nobody wants to meet them at the next start. Some come back while the
    /// session is being left, because their turn was interrupted or refused before it had them. What the person wants again
    /// after the close stays.
    pub(super) fn take_prompts_back(&mut self, step: &mut Step, name: &Name) {
        if !self.sessions.get(name).is_some_and(|running| running.closed) {
            return;
        }
        let queued = self.ledger.queue(name).into_iter().flat_map(|queue| &queue.queued);
        let prompts: Vec<DeliveryId> =
            queued.take_while(|(priority, _)| *priority == Priority::Prompt).map(|(_, id)| *id).collect();
        for id in prompts {
            let note = Some("the session was closed before it went in".to_owned());
            self.move_delivery(step, id, DeliveryState::Cancelled, None, note);
        }
    }
}
