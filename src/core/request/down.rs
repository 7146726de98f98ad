//! `down`: stops sessions; without names all of them and the relay.

use super::super::conn::Ask;
use super::super::waiting::Wait;
use super::super::{Core, Step};
use crate::model::limits;
use crate::model::session::Wanted;
use crate::protocol::request::Down;

impl Core {
    pub(in crate::core) fn request_down(&mut self, step: &mut Step, ask: Ask, down: &Down) {
        let names = match self.named_sessions(&down.names) {
            Ok(names) => names,
            Err(fault) => return step.refuse(ask, fault),
        };
        for name in &names {
            self.note_end(name, &ask, "its session was stopped");
            // Mail that waits now does not wake it; mail that comes later may.
            if self
                .ledger
                .sessions
                .get(name)
                .is_some_and(|session| session.wanted == Wanted::Up || session.wake)
            {
                self.want(step, name, Wanted::Down);
                self.set_woken(name, false);
            }
            self.end_without_pause(step.now, name);
            self.touch(name);
        }
        if down.names.is_empty() {
            return self.request_stop(step, ask, down.now);
        }
        let budget = if down.now { limits::DOWN_NOW_MS } else { limits::DOWN_MS };
        self.wait(ask, Wait::Down { names }, step.now.plus(budget));
    }
}
