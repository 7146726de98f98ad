//! `close`: ends what a session does, asks it for a short summary, and stops it.

use super::super::conn::Ask;
use super::super::planted::Planted;
use super::super::waiting::Wait;
use super::super::{Core, Step};
use crate::model::limits;
use crate::protocol::request::Close;

impl Core {
    pub(in crate::core) fn request_close(&mut self, step: &mut Step, ask: Ask, close: &Close) {
        let name = match self.session_named(&close.name) {
            Ok(name) => name,
            Err(fault) => return step.refuse(ask, fault),
        };
        // Mail that wakes it when the first closer has gone would show that before the missing answer does.
        let wakes = self.ledger.sessions.get(&name).is_some_and(|session| session.wake);
        if self.is_planted(Planted::SecondCloseForgotten) && self.is_closing(&name) && !wakes {
            return;
        }
        self.note_end(&name, &ask, "its session was closed");
        // A second close joins the first, or hurries it.
        self.close(step, &name, close.now);
        self.refuse_waits_behind(step, &name);
        let number = self.wait(ask, Wait::Closed { name }, step.now.plus(limits::CLOSE_MS + limits::DOWN_MS));
        self.evaluate_wait(step, number);
    }
}
