//! `remove`: stops a session as `down` does, then removes it; what it has not got ends as failed, with the reason, for its senders to see.
//!
//! **Invariant:** while a turn may run in a session's thread, in whatever child, the session stays: who else would end that turn?

use super::super::conn::Ask;
use super::super::timer::Timer;
use super::super::waiting::Wait;
use super::super::{Core, Step};
use crate::model::fault::Fault;
use crate::model::id::ThreadId;
use crate::model::limits;
use crate::model::name::Name;
use crate::model::session::{SessionState, Wanted};
use crate::protocol::answer::{Answer, NamedState, States};

impl Core {
    pub(in crate::core) fn request_remove(&mut self, step: &mut Step, ask: Ask, name: &str) {
        if let Some(name) = Name::parse(name).filter(|name| self.ledger.outsiders.contains_key(name)) {
            self.remove_outsider(step, &name, "the recipient was removed");
            return step.reply(ask, removed(name, None));
        }
        let name = match self.session_named(name) {
            Ok(name) => name,
            Err(fault) => return step.refuse(ask, fault),
        };
        self.note_end(&name, &ask, "its session was removed");
        let thread = self.ledger.sessions.get(&name).and_then(|session| session.thread.clone());
        if self.may_have_turn(&name) {
            self.stop_to_remove(step, &name);
            self.wait(ask, Wait::Removed { name, thread }, step.now.plus(limits::DOWN_MS));
        } else {
            self.finish_removal(step, ask, name, thread);
        }
    }

    /// What the session does is over, a close of it, too: that has no summary to wait for.
    fn stop_to_remove(&mut self, step: &mut Step, name: &Name) {
        let session = self.ledger.sessions.get(name);
        if session.is_some_and(|session| session.wanted == Wanted::Up || session.wake) {
            self.want(step, name, Wanted::Down);
        }
        self.set_woken(name, false);
        self.timers.clear(&Timer::Close(name.clone()));
        if let Some(running) = self.sessions.get_mut(name) {
            running.closing = None;
        }
        self.end_without_pause(step.now, name);
    }

    /// Whether a session that is stopped to be removed can be removed, was removed meanwhile, or is wanted again.
    pub(in crate::core) fn is_removal_over(&self, name: &Name) -> bool {
        !self.may_have_turn(name) || self.should_run(name)
    }

    /// Answers whoever waited for that.
    pub(in crate::core) fn finish_removal(
        &mut self,
        step: &mut Step,
        ask: Ask,
        name: Name,
        thread: Option<ThreadId>,
    ) {
        if self.may_have_turn(&name) {
            let fault = Fault::busy(format!("remove refused: {name} is wanted up again"));
            return step.refuse(ask, fault);
        }
        if self.ledger.sessions.contains_key(&name) {
            self.remove_session(step, &name, "the recipient was removed");
        }
        step.reply(ask, removed(name, thread));
    }

    /// The time of a removal is over: the session stays, and is wanted down.
    pub(in crate::core) fn refuse_removal(&mut self, step: &mut Step, ask: Ask, name: &Name) {
        let why = self.sessions.get(name).and_then(|running| running.reason.as_deref());
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        let s = limits::DOWN_MS / 1000;
        let fault = Fault::busy(format!("remove refused: {name} could not be stopped within {s} s{why}"));
        step.refuse(ask, fault.hint("it is being stopped all the same; remove it again later"));
    }
}

fn removed(name: Name, thread: Option<ThreadId>) -> Answer {
    let (state, reason) = (SessionState::Stopped, Some("removed".to_owned()));
    let thread_id = thread.as_deref().map(str::to_owned);
    Answer::States(States { sessions: vec![NamedState { name, state, reason, thread_id }] })
}
