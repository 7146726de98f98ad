//! `hold`: a session's mail waits, for a time or until it is released; a turn that runs goes on.

use super::super::conn::Ask;
use super::super::{Core, Step};
use crate::model::session::HELD_FOR_EVER;
use crate::protocol::answer::{Answer, States};
use crate::protocol::request::Hold;

impl Core {
    pub(in crate::core) fn request_hold(&mut self, step: &mut Step, ask: Ask, hold: &Hold) {
        let name = match self.session_named(&hold.name) {
            Ok(name) => name,
            Err(fault) => return step.refuse(ask, fault),
        };
        let until = match hold.for_ms {
            None => HELD_FOR_EVER,
            Some(ms) => step.now.plus(i64::try_from(ms).unwrap_or(i64::MAX)),
        };
        self.hold(step, &name, Some(until));
        step.reply(ask, Answer::States(States { sessions: self.named_states(&[name]) }));
    }
}
