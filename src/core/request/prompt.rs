//! `prompt`: the operator's own words, before all mail and as they are. They are stored and proven like mail, and have its states.

use super::super::conn::{Ask, Identity};
use super::super::input::Resolved;
use super::super::{Core, Step};
use super::send::answer_repeated;
use super::stopped_refusal;
use crate::model::fault::Fault;
use crate::model::mail::Priority;
use crate::protocol::request::{Prompt, Send};

impl Core {
    pub(in crate::core) fn request_prompt(
        &mut self,
        step: &mut Step,
        ask: Ask,
        from: &Identity,
        prompt: Prompt,
        resolved: Resolved,
    ) {
        let name = match self.session_named(&prompt.name) {
            Ok(name) => name,
            Err(fault) => return step.refuse(ask, fault),
        };
        let send = Send {
            to: vec![prompt.name],
            body: prompt.text,
            priority: Priority::Prompt,
            key: prompt.key,
            ..Send::default()
        };
        if let Some(known) = &resolved.keyed {
            return answer_repeated(step, ask, known, &send, None);
        }
        if self.is_closing(&name) {
            return step.refuse(ask, Fault::busy(format!("prompt refused: {name} is being closed")));
        }
        if !self.should_run(&name) {
            return step.refuse(ask, stopped_refusal("prompt refused", &name));
        }
        self.accept(step, ask, from, vec![name], send, None, resolved.disk_low);
    }
}
