//! `interrupt`: ends a session's running turn, and those of its sub-agents; what waits goes on afterwards.

use super::super::action::Action;
use super::super::conn::Ask;
use super::super::waiting::Wait;
use super::super::{Core, Step};
use crate::model::child::ChildCommand;
use crate::model::fault::Fault;
use crate::model::limits;
use crate::model::name::Name;
use crate::protocol::answer::{Answer, Interrupted};

impl Core {
    pub(in crate::core) fn request_interrupt(&mut self, step: &mut Step, ask: Ask, name: &str) {
        let name = match self.session_named(name) {
            Ok(name) => name,
            Err(fault) => return step.refuse(ask, fault),
        };
        if self.is_closing(&name) {
            return step.refuse(ask, Fault::busy(format!("interrupt refused: {name} is being closed")));
        }
        self.note_end(&name, &ask, "its turn was interrupted");
        let deadline = step.now.plus(limits::DOWN_MS);
        let child = self.ready_child_of(&name).filter(|_| self.is_open(&name));
        let Some(running) = self.sessions.get_mut(&name) else { return };
        if !running.has_turn() {
            // What its model has begun beside it may be at work when it is not.
            let Some(nonce) = child else { return step.reply(ask, subs_interrupted(name, 0)) };
            running.subs_end_by = Some(deadline);
            let command = ChildCommand::InterruptSubs { session: name.clone() };
            step.act(Action::Command { nonce, command });
            self.wait(ask, Wait::SubsInterrupted { name }, deadline);
            return;
        }
        running.interrupt_wanted = true;
        let turn = running.turn.clone();
        self.end_without_pause(step.now, &name);
        self.touch(&name);
        self.wait(ask, Wait::Interrupted { name, turn }, deadline);
    }

    /// The turns of a session's sub-agents have ended, or the child would not end one for now.
    pub(in crate::core) fn on_subs_interrupted(
        &mut self,
        step: &mut Step,
        name: &Name,
        turns: u32,
        refused: Option<&str>,
    ) {
        if let Some(running) = self.sessions.get_mut(name) {
            running.subs_end_by = None;
        }
        for ask in self.take_interrupting_subs_of(name) {
            match refused {
                Some(why) => step.refuse(ask, Fault::busy(format!("interrupt failed: {why}"))),
                None => step.reply(ask, subs_interrupted(name.clone(), turns)),
            }
        }
        self.touch(name);
    }
}

fn subs_interrupted(session: Name, turns: u32) -> Answer {
    Answer::Interrupted(Interrupted { session, turn_id: None, sub_turns: Some(turns) })
}
