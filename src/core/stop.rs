//! Leaving: sessions close, children end within one shared budget, waiting clients are told, then the relay exits.
//!
//! A relay that is replaced leaves at once and leaves its children running: the next one adopts them.
//!
//! **Invariant:** what is wanted of the sessions is not changed by leaving; only `down` changes it.

use super::action::{Action, Event};
use super::conn::Ask;
use super::timer::Timer;
use super::{Core, Step};
use crate::model::clock::Millis;
use crate::model::fault::Fault;
use crate::model::happening::What;
use crate::model::limits;
use crate::model::name::Name;
use crate::model::session::SessionState;
use crate::protocol::answer::{Answer, NamedState, States};

/// A relay on its way out.
#[derive(Debug)]
pub(super) struct Stop {
    until: Millis,
    /// Who asked and waits for it.
    asks: Vec<Ask>,
    exited: bool,
    /// The next relay takes over; children are left alone.
    replaced: bool,
}

impl Stop {
    /// What is left of the budget for the children; a part of it is kept for the last answers.
    pub fn left_ms(&self, now: Millis) -> i64 {
        (self.until.since(now) - 300).max(200)
    }
}

impl Core {
    pub(super) fn request_stop(&mut self, step: &mut Step, ask: Ask, now: bool) {
        self.leave(step, if now { limits::DOWN_NOW_MS } else { limits::DOWN_MS }, "asked to stop");
        if let Some(stop) = &mut self.stop {
            stop.asks.push(ask);
        }
    }

    /// `relay/replace`: leaves for a newer relay. Those who wait are not told that it stops: their connections close, and
    /// they come back through the next relay, which answers them.
    pub(super) fn request_replace(&mut self, step: &mut Step, ask: Ask) {
        if self.stop.is_some() {
            return step.refuse(ask, Fault::busy("replace refused: the relay is stopping"));
        }
        self.stop = Some(Stop { until: step.now, asks: Vec::new(), exited: true, replaced: true });
        self.tell(step, What::RelayLeaving { why: "a newer one takes over".to_owned() });
        let states = self.named_states(&self.sessions.keys().cloned().collect::<Vec<Name>>());
        step.reply(ask, Answer::States(States { sessions: states }));
        step.act(Action::Exit);
    }

    /// Whether a newer relay takes over, so that children are left alone.
    pub(super) fn is_replaced(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| stop.replaced)
    }

    /// Begins to leave, or shortens the budget if it has begun.
    pub(super) fn leave(&mut self, step: &mut Step, budget_ms: i64, why: &str) {
        let until = step.now.plus(budget_ms);
        if let Some(stop) = &mut self.stop {
            stop.until = stop.until.min(until);
        } else {
            self.stop = Some(Stop { until, asks: Vec::new(), exited: false, replaced: false });
            self.tell(step, What::RelayLeaving { why: why.to_owned() });
            self.notify_all(step, &Event::Stopping);
            self.refuse_all_waiting(
                step,
                &Fault::busy(format!("request refused: the relay is stopping: {why}")),
            );
            for name in self.sessions.keys().cloned().collect::<Vec<Name>>() {
                self.touch(&name);
            }
        }
        if let Some(stop) = &self.stop {
            self.timers.set(Timer::Leave, stop.until);
        }
    }

    /// Leaves once nothing of ours is running.
    pub(super) fn evaluate_stop(&mut self, step: &mut Step) {
        let running = self.children.values().any(super::child::Children::is_running);
        if self.stop.is_some() && !running {
            self.exit(step);
        }
    }

    pub(super) fn handle_leave_overdue(&mut self, step: &mut Step) {
        self.exit(step);
    }

    fn exit(&mut self, step: &mut Step) {
        let states = self.named_states(&self.sessions.keys().cloned().collect::<Vec<Name>>());
        let Some(stop) = &mut self.stop else { return };
        if std::mem::replace(&mut stop.exited, true) {
            return;
        }
        for ask in std::mem::take(&mut stop.asks) {
            step.reply(ask, Answer::States(States { sessions: states.clone() }));
        }
        self.timers.clear(&Timer::Leave);
        step.act(Action::Exit);
    }

    /// The states of some sessions, as `up` and `down` answer them.
    pub(super) fn named_states(&self, names: &[Name]) -> Vec<NamedState> {
        let of = |name: &Name| NamedState {
            name: name.clone(),
            state: match self.shown_state(name) {
                // A turn may run on in its child.
                SessionState::Stopped if !self.is_down(name) => SessionState::Busy,
                state => state,
            },
            reason: self.sessions.get(name).and_then(|running| running.reason.clone()),
            thread_id: self
                .ledger
                .sessions
                .get(name)
                .and_then(|session| session.thread.as_deref().map(str::to_owned)),
        };
        names.iter().map(of).collect()
    }
}
