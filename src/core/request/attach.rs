//! `attach`: tells a pane how to show a session's live thread, and counts it while its connection lives.

use super::super::conn::Ask;
use super::super::waiting::Wait;
use super::super::{Core, Step};
use crate::model::limits;

impl Core {
    pub(in crate::core) fn request_attach(&mut self, step: &mut Step, ask: Ask, name: &str) {
        let name = match self.session_named(name) {
            Ok(name) => name,
            Err(fault) => return step.refuse(ask, fault),
        };
        let number = self.wait(
            ask,
            Wait::Attach { name },
            step.now.plus(limits::CHILD_START_MS + limits::THREAD_OPEN_MS),
        );
        self.evaluate_wait(step, number);
    }
}
