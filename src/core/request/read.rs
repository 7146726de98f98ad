//! `read`: shows one mail whole. For its recipient without a child this is delivery: claim and submitted now, consumed with
//! the reader's next request; for anybody else it changes nothing.

use super::super::action::{Action, Query};
use super::super::conn::{Ask, Identity};
use super::super::input::{Lookup, Resolved};
use super::super::{Core, Step};
use super::send::lookup_fault;
use crate::model::id::MailId;
use crate::model::mail::DeliveryState;
use crate::model::name::Name;

impl Core {
    pub(in crate::core) fn request_read(
        &mut self,
        step: &mut Step,
        ask: Ask,
        reader: &Identity,
        id: &str,
        resolved: Resolved,
    ) {
        let mail = match &resolved.mail {
            Lookup::Found(known) => match self.foreign_refusal("read", reader, &known.mail) {
                Some(fault) => return step.refuse(ask, fault),
                None => known.mail.id,
            },
            other => return step.refuse(ask, lookup_fault(id, other)),
        };
        if let Some(fault) = self.braked_refusal("read", &reader.name, mail) {
            return step.refuse(ask, fault);
        }
        if !self.ledger.sessions.contains_key(&reader.name) {
            return self.hand_next(step, ask, &reader.name, mail);
        }
        let query = Query::Read { mail, reader: reader.name.clone(), at: step.now };
        step.act(Action::Query { conn: ask.conn, id: ask.id, query });
    }

    /// Claims a mail for a reader without a child; true when it is in the reader's hands now, this time or before.
    pub(super) fn hand_over(&mut self, step: &mut Step, reader: &Name, mail: MailId) -> bool {
        let Some(queue) = self.ledger.queue(reader) else { return false };
        let of_mail = |id: &&super::super::record::DeliveryId| {
            self.ledger.deliveries.get(*id).is_some_and(|d| d.mail == mail)
        };
        let Some(id) = queue.open.iter().find(of_mail).copied() else { return false };
        if self.ledger.deliveries.get(&id).is_some_and(|delivery| delivery.state == DeliveryState::Queued) {
            let claim = step.mint.claim();
            self.open_claim(step, claim, reader, None, &[id], None);
            self.move_delivery(
                step,
                id,
                DeliveryState::Submitted,
                None,
                Some("handed to its reader".to_owned()),
            );
        }
        true
    }
}
