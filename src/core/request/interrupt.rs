//! `interrupt`: ends a session's running turn; what waits goes on afterwards.

use super::super::action::Action;
use super::super::conn::Ask;
use super::super::waiting::Wait;
use super::super::{Core, Step};
use crate::model::child::ChildCommand;
use crate::model::fault::Fault;
use crate::model::limits;
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
        let Some(running) = self.sessions.get_mut(&name).filter(|running| running.has_turn()) else {
            // What its model has begun beside it may be at work when it is not.
            if let Some(nonce) = self.ready_child_of(&name).filter(|_| self.is_open(&name)) {
                let command = ChildCommand::InterruptSubs { session: name.clone() };
                step.act(Action::Command { nonce, command });
            }
            return step.reply(ask, Answer::Interrupted(Interrupted { session: name, turn_id: None }));
        };
        running.interrupt_wanted = true;
        // Whoever asks anew is not made to wait for the end of a pause.
        if let Some((until, _)) = &mut running.end_refused {
            *until = step.now;
        }
        let turn = running.turn.clone();
        self.touch(&name);
        self.wait(ask, Wait::Interrupted { name, turn }, step.now.plus(limits::DOWN_MS));
    }
}
