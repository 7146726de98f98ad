//! `look`: the last items of a session's thread, as the child has them.

use super::super::action::Action;
use super::super::conn::Ask;
use super::super::waiting::Wait;
use super::super::{Core, Step};
use super::stopped_refusal;
use crate::model::child::ChildCommand;
use crate::model::fault::Fault;
use crate::model::limits;
use crate::protocol::request::Look;

impl Core {
    pub(in crate::core) fn request_look(&mut self, step: &mut Step, ask: Ask, look: &Look) {
        let name = match self.session_named(&look.name) {
            Ok(name) => name,
            Err(fault) => return step.refuse(ask, fault),
        };
        if !self.should_run(&name) {
            return step.refuse(ask, stopped_refusal("look refused", &name));
        }
        let state = self.shown_state(&name);
        let Some(nonce) = self.ready_child_of(&name).filter(|_| self.is_open(&name)) else {
            let fault = Fault::busy(format!("look refused: {name} is {}", state.as_str()));
            return step.refuse(ask, fault.hint(format!("bring it up: agentmux up {name}")));
        };
        let limit = look.limit.clamp(1, limits::LOOK_ITEMS_MAX);
        let token = self.wait(ask, Wait::Look { name: name.clone() }, step.now.plus(limits::LEASE_MS));
        step.act(Action::Command { nonce, command: ChildCommand::ReadItems { session: name, token, limit } });
    }
}
