//! Turns that go wrong without an end: one that is silent, and one whose context is full.
//!
//! | Turn | Then |
//! | --- | --- |
//! | silent for `silent_after` | the child is asked whether it runs; nobody judges before |
//! | it runs, says the child | it goes on, and the session says since when it is silent; it is asked about again after as long |
//! | it answers, but does not say that | as if it ran; it is asked again later each time, and the session says why |
//! | it does not | it is over, or never began; what it had not shown to have taken is looked for in the history |
//! | no answer, twice in a row | the child is hung, and is killed; the next one settles what is in doubt |
//! | its model is not reached, and the child tries on | the session says so, until the child says more; it is left alone |
//! | context full | it is summed up (compacted) once; full again before a turn went through: the session fails, with the reason |
//! | the child would not sum it up | nothing goes in; it is asked again later each time; who refuses that for good five times: as above |
//!
//! **Invariant:** an approval that waits is no silence, and nothing is asked while no turn runs: an idle relay has no timer.

use super::action::Action;
use super::running::Phase;
use super::timer::Timer;
use super::{Core, Step};
use crate::model::child::{ChildCommand, TurnOutcome};
use crate::model::id::Nonce;
use crate::model::limits;
use crate::model::name::Name;

impl Core {
    /// Keeps a deadline for the next word of a running turn.
    pub(super) fn watch_silence(&mut self, name: &Name) {
        let timer = Timer::Silence(name.clone());
        let waits = self.has_approval(name);
        match self.sessions.get(name) {
            Some(running) if running.phase == Phase::Open && running.has_turn() && !waits => {
                let silent_ms = self.settings.policy.silent_ms;
                if running.asked.is_none() {
                    let silent_at = running.heard_at.plus(silent_ms);
                    self.timers.set(timer, running.ask_not_before.map_or(silent_at, |at| at.max(silent_at)));
                }
            }
            _ => {
                self.timers.clear(&timer);
                if let Some(running) = self.sessions.get_mut(name) {
                    running.asked = None;
                }
            }
        }
    }

    pub(super) fn handle_silence(&mut self, step: &mut Step, name: &Name) {
        let nonce = self.ready_child_of(name);
        let Some(running) = self.sessions.get_mut(name).filter(|running| running.has_turn()) else { return };
        let heard_since = running.asked.is_some_and(|(at, _)| running.heard_at > at);
        let times = running.asked.filter(|_| !heard_since).map_or(0, |(_, times)| times);
        let Some(nonce) = nonce else { return };
        if times >= limits::UNANSWERED_MAX {
            running.asked = None;
            return self.kill_hung_child(step, nonce);
        }
        running.asked = Some((step.now, times + 1));
        step.act(Action::Command { nonce, command: ChildCommand::AskStatus { session: name.clone() } });
        // Who looks sooner is answered sooner, but a busy machine has its time.
        let patience = self.settings.policy.silent_ms.clamp(limits::ANSWER_MS_MIN, limits::LEASE_MS);
        self.timers.set(Timer::Silence(name.clone()), step.now.plus(patience));
    }

    /// The child has said whether the turn that it was asked about still runs.
    pub(super) fn on_status_told(&mut self, step: &mut Step, name: &Name, busy: bool) {
        let Some(running) = self.sessions.get_mut(name) else { return };
        let Some((asked_at, _)) = running.asked.take() else { return };
        running.status_refusals = 0;
        let silent = running.heard_at <= asked_at && running.has_turn();
        let turn = running.turn.clone();
        if silent && busy {
            let since = running.heard_at.rfc3339_seconds();
            running.reason =
                Some(format!("its turn is silent since {since}; its child says that it goes on"));
            running.ask_not_before = Some(step.now.plus(self.settings.policy.silent_ms));
            self.watch_silence(name);
            self.note_shown_state(step, name);
            return;
        }
        let is_accepted = running.claim.as_ref().is_none_or(|flight| flight.turn.is_some());
        match turn {
            Some(turn) if silent => {
                let outcome =
                    TurnOutcome::Failed("its child says that it is over, and never said how".to_owned());
                self.on_turn_ended(step, name, &turn, &outcome);
            }
            // It never began.
            None if silent && is_accepted => {
                running.busy = false;
                self.end_flight(name);
                self.touch(name);
            }
            // The lease of what the child has not answered judges that.
            None if silent => {
                running.ask_not_before = Some(step.now.plus(self.settings.policy.silent_ms));
                self.touch(name);
            }
            _ => self.touch(name),
        }
    }

    /// The child does not say whether the turn still runs; but it answers, so that it is not hung.
    pub(super) fn on_status_refused(&mut self, step: &mut Step, name: &Name, why: &str) {
        let Some(running) = self.sessions.get_mut(name) else { return };
        if running.asked.take().is_none() {
            return;
        }
        let pause = super::refusal::pause_ms(step, running.status_refusals);
        running.status_refusals += 1;
        running.ask_not_before = Some(step.now.plus(pause));
        let since = running.heard_at.rfc3339_seconds();
        running.reason = Some(format!(
            "its turn is silent since {since}, and its child does not say whether it goes on: {why}"
        ));
        self.touch(name);
    }

    /// The child tries to reach the model again, by itself: people are told, because it may do so for ever.
    pub(super) fn on_turn_struggles(&mut self, step: &mut Step, name: &Name, why: &str) {
        let Some(running) = self.sessions.get_mut(name).filter(|running| running.has_turn()) else { return };
        running.struggles = true;
        running.reason = Some(format!("its model is not reached, and its child tries again: {why}"));
        self.note_shown_state(step, name);
    }

    /// A turn failed because the context is full: it is summed up once.
    pub(super) fn make_room(&mut self, step: &mut Step, name: &Name, why: &str) {
        let nonce = self.ready_child_of(name);
        let Some(running) = self.sessions.get_mut(name).filter(|running| running.phase == Phase::Open) else {
            return;
        };
        if running.compacted {
            running.compacted = false;
            let why = format!("the context is full, also after it was summed up: {why}");
            self.fail_open(step, name, why);
        } else if let Some(nonce) = nonce {
            self.sum_up(step, name, nonce);
        }
    }

    /// Asks for the context to be summed up. Until the child answers, or leaves its time for that, nothing goes in: it would not fit.
    fn sum_up(&mut self, step: &mut Step, name: &Name, nonce: Nonce) {
        let Some(running) = self.sessions.get_mut(name) else { return };
        (running.room_due, running.compacted) = (false, true);
        let until = step.now.plus(limits::LEASE_MS);
        running.retry_at = Some(until);
        self.timers.set(Timer::Retry(name.clone()), until);
        step.act(Action::Command { nonce, command: ChildCommand::Compact { session: name.clone() } });
    }

    pub(super) fn on_compact_begun(&mut self, name: &Name) {
        if let Some(running) = self.sessions.get_mut(name).filter(|running| running.compacted) {
            running.retry_at = None;
            self.touch(name);
        }
    }

    /// The child would not sum the context up: nothing goes in before it does, and it is asked again.
    pub(super) fn on_compact_refused(&mut self, step: &mut Step, name: &Name, temporary: bool, why: &str) {
        let Some(running) = self.sessions.get_mut(name).filter(|running| running.phase == Phase::Open) else {
            return;
        };
        running.compacted = false;
        running.room_refusals += 1;
        let why = format!("the context is full, and could not be summed up: {why}");
        if !temporary && running.room_refusals >= limits::ROOM_REFUSALS_MAX {
            (running.room_due, running.room_refusals) = (false, 0);
            self.fail_open(step, name, why);
        } else {
            running.reason = Some(why);
            running.room_due = true;
            self.back_off(step, name);
        }
        self.touch(name);
    }

    /// Asks again for a context to be summed up, when it is time for that; true while nothing may go in for it.
    pub(super) fn evaluate_room(&mut self, step: &mut Step, name: &Name, nonce: Nonce) -> bool {
        let Some(running) = self.sessions.get_mut(name).filter(|running| running.room_due) else {
            return false;
        };
        if running.has_turn() || running.retry_at.is_some_and(|at| at > step.now) {
            return true;
        }
        self.sum_up(step, name, nonce);
        true
    }
}
