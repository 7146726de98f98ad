//! `ack`: a recipient confirms a mail, or the operator settles one in doubt: it was taken.
//!
//! **Invariant:** a claim is one message, so what a person knows of one of its mails is true of all of them.

use super::super::conn::{Ask, Identity};
use super::super::input::{Known, KnownDelivery, Lookup, Resolved};
use super::super::record::{DeliveryId, Record};
use super::super::{Core, Step};
use super::send::lookup_fault;
use crate::model::fault::Fault;
use crate::model::mail::{DeliveryState, FromKind, Mail};
use crate::model::name::Name;
use crate::protocol::answer::{Answer, Delivery, Settled};
use crate::protocol::request::Settle;

impl Core {
    pub(in crate::core) fn request_ack(
        &mut self,
        step: &mut Step,
        ask: Ask,
        by: &Identity,
        settle: &Settle,
        resolved: Resolved,
    ) {
        let Lookup::Found(known) = resolved.mail else {
            return step.refuse(ask, lookup_fault(&settle.id, &resolved.mail));
        };
        let delivery = match self.meant_by(by, settle, &known) {
            Ok(delivery) => delivery.clone(),
            Err(fault) => return step.refuse(ask, fault),
        };
        let outcome = if delivery.to == by.name {
            self.ack_own(step, &known.mail, &delivery)
        } else {
            self.settle_as_taken(step, known.mail.id, &delivery)
        };
        match outcome {
            Ok(()) => step.reply(ask, settled(&known, DeliveryState::Acked, vec![delivery.to])),
            Err(fault) => step.refuse(ask, fault),
        }
    }

    /// The delivery that is meant: the caller's own, the named one, or the one in doubt.
    fn meant_by<'a>(
        &self,
        by: &Identity,
        settle: &Settle,
        known: &'a Known,
    ) -> Result<&'a KnownDelivery, Fault> {
        let mut deliveries = known.deliveries.iter();
        let id = known.mail.id;
        let found = match settle.name.as_deref() {
            Some(name) => deliveries.find(|delivery| delivery.to.as_str() == name),
            None => deliveries
                .clone()
                .find(|delivery| delivery.to == by.name)
                .or_else(|| deliveries.find(|delivery| delivery.state == DeliveryState::Unknown)),
        };
        let found = found.ok_or_else(|| {
            let whose = settle.name.as_deref().unwrap_or("you");
            Fault::refused(format!("ack refused: mail {id} is not to {whose}"))
                .hint("a recipient confirms its own mail; the operator settles mail in doubt")
        })?;
        if found.to != by.name && by.kind != FromKind::Operator {
            return Err(Fault::refused(format!("ack refused: only {} can confirm mail {id}", found.to)));
        }
        Ok(found)
    }

    /// A recipient says that it has its mail, which is evidence enough wherever the mail is on its way; unless its sender was told that
    /// it never came.
    fn ack_own(&mut self, step: &mut Step, known: &Mail, delivery: &KnownDelivery) -> Result<(), Fault> {
        let (mail, id, state) = (known.id, delivery.id, delivery.state);
        if !state.is_open() && !state.is_delivered() {
            let fault = Fault::refused(format!("ack refused: mail {mail} to you is {}", state.as_str()));
            return Err(fault.hint(format!("agentmux trace {mail}")));
        }
        match self.state_of(id) {
            Some(DeliveryState::Queued) => {
                let claim = step.mint.claim();
                self.open_claim(step, claim, &delivery.to, None, &[id], None);
                self.confirm(step, id, "taken without being read here");
            }
            Some(_) => {
                self.confirm(step, id, "its recipient says that it has it");
                self.touch(&delivery.to);
            }
            None => {}
        }
        if state != DeliveryState::Acked {
            self.record(step, Record::DeliveryAcked { delivery: id, at: step.now, note: None });
            self.tell_acked(step, mail, &known.from, &delivery.to);
        }
        Ok(())
    }

    /// A person says that a child took mail in doubt.
    fn settle_as_taken(
        &mut self,
        step: &mut Step,
        mail: crate::model::id::MailId,
        delivery: &KnownDelivery,
    ) -> Result<(), Fault> {
        if delivery.state != DeliveryState::Unknown {
            let (to, state) = (&delivery.to, delivery.state.as_str());
            return Err(Fault::refused(format!("ack refused: mail {mail} to {to} is {state}, not in doubt"))
                .hint(format!("only {to} can confirm it")));
        }
        self.settle_claim_of(step, delivery.id, DeliveryState::Acked, "the operator says that it was taken");
        Ok(())
    }

    /// Settles, by a person's word, every mail of the claim in doubt that a delivery is in.
    pub(super) fn settle_claim_of(&mut self, step: &mut Step, id: DeliveryId, to: DeliveryState, note: &str) {
        let Some((claim, session)) = self
            .ledger
            .deliveries
            .get(&id)
            .and_then(|delivery| Some((*delivery.claims.last()?, delivery.to.clone())))
        else {
            return;
        };
        for id in self.open_deliveries_of(claim) {
            if self.state_of(id) == Some(DeliveryState::Unknown) {
                self.move_delivery(step, id, to, None, Some(note.to_owned()));
            }
        }
        self.end_claim(step, claim);
        self.touch(&session);
    }
}

/// The answer to a settling verb.
pub(super) fn settled(known: &Known, state: DeliveryState, to: Vec<Name>) -> Answer {
    let delivery = |to| Delivery { to, state, reason: None, turn_id: None };
    Answer::Settled(Settled { id: known.mail.id, state, deliveries: to.into_iter().map(delivery).collect() })
}
