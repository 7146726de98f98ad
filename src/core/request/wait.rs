//! `wait`: the caller's next mail, at once or when it comes; getting it is taking it, as with `read`. `mail/wait`, which `send`,
//! `ask` and `wait ID` use, waits for what becomes of a mail.

use super::super::action::{Action, Query};
use super::super::conn::{Ask, Identity};
use super::super::input::{Lookup, Resolved};
use super::super::waiting::Wait;
use super::super::{Core, Step};
use super::send::{lookup_fault, sent_of};
use crate::model::fault::Fault;
use crate::model::id::MailId;
use crate::model::limits;
use crate::model::mail::DeliveryState;
use crate::model::name::Name;
use crate::protocol::request::{Next, Until, Wait as Request};

impl Core {
    pub(in crate::core) fn request_next(
        &mut self,
        step: &mut Step,
        ask: Ask,
        reader: &Identity,
        next: &Next,
    ) {
        if self.ledger.sessions.contains_key(&reader.name) {
            let fault = Fault::refused(format!("wait refused: mail to {} comes into its turns", reader.name));
            return step.refuse(
                ask,
                fault.hint("end the turn, and mail starts the next; for an answer name the mail's id"),
            );
        }
        let from = next.from.as_deref().and_then(Name::parse);
        if let Some(mail) = self.next_mail_for(&reader.name, from.as_ref()) {
            return self.hand_next(step, ask, &reader.name, mail);
        }
        let deadline = step.now.plus(next.timeout_ms.min(limits::WAIT_MS_MAX) as i64);
        self.wait(ask, Wait::Next { name: reader.name.clone(), from }, deadline);
    }

    /// The oldest mail that a reader without a child has not been handed.
    pub(in crate::core) fn next_mail_for(&self, reader: &Name, from: Option<&Name>) -> Option<MailId> {
        let open = &self.ledger.queue(reader)?.open;
        open.iter().find_map(|id| {
            let delivery = self.ledger.deliveries.get(id)?;
            let wanted = delivery.state == DeliveryState::Queued
                && !delivery.braked
                && from.is_none_or(|from| delivery.from == *from);
            wanted.then_some(delivery.mail)
        })
    }

    /// Hands a mail to its reader, in answer to a request.
    pub(in crate::core) fn hand_next(&mut self, step: &mut Step, ask: Ask, reader: &Name, mail: MailId) {
        if self.hand_over(step, reader, mail)
            && let Some(conn) = self.conns.get_mut(&ask.conn)
        {
            conn.handed.push(mail);
        }
        let query = Query::Read { mail, reader: reader.clone(), at: step.now };
        step.act(Action::Query { conn: ask.conn, id: ask.id, query });
    }

    /// `mail/wait`: answers when the mail has come as far as was asked, has ended otherwise, or the time is over.
    pub(in crate::core) fn request_wait(
        &mut self,
        step: &mut Step,
        ask: Ask,
        by: &Identity,
        wait: &Request,
        resolved: Resolved,
    ) {
        let Lookup::Found(known) = resolved.mail else {
            return step.refuse(ask, lookup_fault(&wait.id, &resolved.mail));
        };
        if let Some(fault) = self.foreign_refusal("wait", by, &known.mail) {
            return step.refuse(ask, fault);
        }
        let to: Vec<Name> = known.deliveries.iter().map(|delivery| delivery.to.clone()).collect();
        if wait.until == Until::Reply
            && known.answered_by.is_none()
            && let Some(fault) = self.circle_refusal("wait", by, &to)
        {
            return step.refuse(ask, fault);
        }
        let deadline = step.now.plus(wait.timeout_ms.min(limits::WAIT_MS_MAX) as i64);
        let state = Wait::Mail { sent: sent_of(&known), until: wait.until, reply_id: known.answered_by };
        let number = self.wait(ask, state, deadline);
        self.evaluate_wait(step, number);
    }
}
