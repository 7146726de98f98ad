//! `approvals`: what waits for a person, from memory; a new relay first hears from the children what they still ask.

use super::super::conn::Ask;
use super::super::waiting::Wait;
use super::super::{Core, Step};
use crate::model::limits;

impl Core {
    pub(in crate::core) fn request_approvals(&mut self, step: &mut Step, ask: Ask) {
        if self.has_unheard_approvals() {
            self.wait(ask, Wait::Approvals, step.now.plus(limits::APPROVALS_KNOWN_MS));
            return;
        }
        let answer = self.listed_approvals();
        step.reply(ask, answer);
    }
}
