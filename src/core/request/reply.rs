//! `reply`: mail to the sender of another mail, in the same conversation.

use super::super::conn::{Ask, Identity};
use super::super::input::{Lookup, Resolved};
use super::super::{Core, Step};
use super::send::{Parent, answer_repeated, lookup_fault};
use crate::model::fault::Fault;
use crate::model::mail::FromKind;
use crate::model::name::Name;
use crate::protocol::answer::{Addressed, Answer};
use crate::protocol::request::{Reply, Send};

impl Core {
    pub(in crate::core) fn request_reply(
        &mut self,
        step: &mut Step,
        ask: Ask,
        from: &Identity,
        reply: Reply,
        mut resolved: Resolved,
    ) {
        let known = match std::mem::take(&mut resolved.mail) {
            Lookup::Found(known) => known,
            not_found => return step.refuse(ask, lookup_fault(&reply.id, &not_found)),
        };
        let mail = known.mail;
        if let Some(fault) = self.foreign_answer_refusal(from, &mail) {
            return step.refuse(ask, fault);
        }
        let to = if mail.from == from.name { mail.to.clone() } else { vec![mail.from.clone()] };
        if matches!(mail.from_kind, FromKind::System) || !to.iter().all(|name| self.has_mailbox(name)) {
            let fault = Fault::refused(format!(
                "reply refused: {} ({}) has no mailbox",
                mail.from,
                mail.from_kind.as_str()
            ));
            return step.refuse(ask, fault.hint("write to somebody who has one: agentmux send NAME -"));
        }
        if reply.dry_run {
            return step.reply(ask, Answer::Addressed(Addressed { reply_to: mail.id, to }));
        }
        let send = Send {
            to: to.iter().map(Name::to_string).collect(),
            body: reply.body,
            subject: reply.subject,
            priority: reply.priority,
            when: None,
            ask: false,
            reply_to: None,
            expires_ms: None,
            key: reply.key,
        };
        let parent = Parent::of(&mail);
        match &resolved.keyed {
            Some(known) => answer_repeated(step, ask, known, &send, Some(&parent)),
            None => self.accept(step, ask, from, to, send, Some(parent), resolved.disk_low),
        }
    }
}
