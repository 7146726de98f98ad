//! `list`: the sessions and what they are doing, from memory.

use super::super::conn::Ask;
use super::super::{Core, Step};
use crate::protocol::answer::{Answer, Sessions};

impl Core {
    pub(in crate::core) fn request_list(&mut self, step: &mut Step, ask: Ask) {
        let sessions = Some(self.session_infos(step.now));
        step.reply(ask, Answer::Sessions(Sessions { bundle: self.settings.bundle.clone(), sessions }));
    }
}
