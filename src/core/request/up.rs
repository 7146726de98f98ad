//! `up`: brings sessions up, and tries again what was given up.

use super::super::conn::Ask;
use super::super::waiting::Wait;
use super::super::{Core, Step};
use crate::model::limits;
use crate::model::session::Wanted;

impl Core {
    pub(in crate::core) fn request_up(&mut self, step: &mut Step, ask: Ask, names: &[String]) {
        let names = match self.named_sessions(names) {
            Ok(names) => names,
            Err(fault) => return step.refuse(ask, fault),
        };
        for name in &names {
            if self.ledger.sessions.get(name).is_some_and(|session| session.wanted == Wanted::Down) {
                self.want(step, name, Wanted::Up);
            }
            self.forgive(name);
            self.touch(name);
        }
        let deadline = step.now.plus(limits::CHILD_START_MS + limits::THREAD_OPEN_MS);
        let number = self.wait(ask, Wait::Up { names: names.clone() }, deadline);
        if names.is_empty() {
            self.evaluate_wait(step, number);
        }
    }
}
