//! `remove`: removes a session; what it has not got ends as failed, with the reason, for its senders to see.

use super::super::conn::Ask;
use super::super::{Core, Step};
use crate::model::name::Name;
use crate::model::session::SessionState;
use crate::protocol::answer::{Answer, NamedState, States};

impl Core {
    pub(in crate::core) fn request_remove(&mut self, step: &mut Step, ask: Ask, name: &str) {
        if let Some(name) = Name::parse(name).filter(|name| self.ledger.outsiders.contains_key(name)) {
            self.remove_outsider(step, &name, "the recipient was removed");
            let (state, reason) = (SessionState::Stopped, Some("removed".to_owned()));
            let removed = NamedState { name, state, reason, thread_id: None };
            return step.reply(ask, Answer::States(States { sessions: vec![removed] }));
        }
        let name = match self.session_named(name) {
            Ok(name) => name,
            Err(fault) => return step.refuse(ask, fault),
        };
        let thread_id =
            self.ledger.sessions.get(&name).and_then(|session| session.thread.as_deref().map(str::to_owned));
        if let Some(nonce) = self.ready_child_of(&name) {
            let command = crate::model::child::ChildCommand::CloseThread { session: name.clone() };
            step.act(super::super::action::Action::Command { nonce, command });
        }
        self.note_end(&name, &ask, "its session was removed");
        self.remove_session(step, &name, "the recipient was removed");
        let removed =
            NamedState { name, state: SessionState::Stopped, reason: Some("removed".to_owned()), thread_id };
        step.reply(ask, Answer::States(States { sessions: vec![removed] }));
    }
}
