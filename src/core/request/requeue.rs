//! `requeue`: dead mail waits again, and no longer expires; or the operator settles mail in doubt: it was not taken.

use super::super::conn::Ask;
use super::super::input::{Known, KnownDelivery, Lookup, Resolved};
use super::super::ledger::{Claim, Delivery};
use super::super::record::{DeliveryId, Record};
use super::super::{Core, Step};
use super::ack::settled;
use super::send::lookup_fault;
use crate::model::fault::Fault;
use crate::model::id::ClaimId;
use crate::model::mail::DeliveryState;
use crate::model::name::Name;
use crate::protocol::request::Settle;

const NOTE: &str = "the operator wants it delivered";

impl Core {
    pub(in crate::core) fn request_requeue(
        &mut self,
        step: &mut Step,
        ask: Ask,
        settle: &Settle,
        resolved: Resolved,
    ) {
        let Lookup::Found(known) = resolved.mail else {
            return step.refuse(ask, lookup_fault(&settle.id, &resolved.mail));
        };
        let id = known.mail.id;
        let named = |delivery: &&KnownDelivery| {
            settle.name.as_deref().is_none_or(|name| delivery.to.as_str() == name)
        };
        let dead = known.deliveries.iter().filter(named).filter(|delivery| {
            matches!(delivery.state, DeliveryState::Expired | DeliveryState::Failed)
                && self.has_mailbox(&delivery.to)
        });
        // All of it or nothing.
        let dead: Vec<Name> = dead.map(|delivery| delivery.to.clone()).collect();
        if let Some(fault) = self.admission_refusal("requeue", &dead, u64::from(known.bytes), false) {
            return step.refuse(ask, fault);
        }
        let (mut queued, mut gone): (Vec<Name>, Option<Name>) = (Vec::new(), None);
        for delivery in known.deliveries.iter().filter(named) {
            match delivery.state {
                DeliveryState::Unknown => {
                    let note = "the operator says that it was not taken";
                    self.settle_claim_of(step, delivery.id, DeliveryState::Queued, note);
                }
                DeliveryState::Expired | DeliveryState::Failed if !self.has_mailbox(&delivery.to) => {
                    gone = Some(delivery.to.clone());
                    continue;
                }
                DeliveryState::Expired | DeliveryState::Failed => {
                    self.revive(step, &known, delivery, &resolved.claims);
                }
                _ => continue,
            }
            queued.push(delivery.to.clone());
        }
        if queued.is_empty() {
            let fault = match gone {
                Some(to) => Fault::not_found(format!("requeue refused: there is no {to} any more"))
                    .hint(format!("create it: agentmux spawn {to}")),
                None => Fault::refused(format!("requeue refused: mail {id} is neither dead nor in doubt"))
                    .hint(format!("agentmux trace {id}")),
            };
            return step.refuse(ask, fault);
        }
        for name in &queued {
            self.touch(name);
            self.waiting_saw_mail(step, name);
        }
        step.reply(ask, settled(&known, DeliveryState::Queued, queued));
    }

    fn revive(
        &mut self,
        step: &mut Step,
        known: &Known,
        delivery: &KnownDelivery,
        claims: &[(DeliveryId, ClaimId, Claim)],
    ) {
        let mail = &known.mail;
        let claims: Vec<(ClaimId, Claim)> = claims
            .iter()
            .filter(|(of, _, _)| *of == delivery.id)
            .map(|(_, id, claim)| (*id, claim.clone()))
            .collect();
        let header = Delivery {
            mail: mail.id,
            to: delivery.to.clone(),
            from: mail.from.clone(),
            priority: mail.priority,
            bytes: known.bytes,
            sent_at: mail.sent_at,
            expires_at: None,
            when: mail.when,
            braked: false,
            state: DeliveryState::Queued,
            claims: claims.iter().map(|(id, _)| *id).collect(),
        };
        let (at, note) = (step.now, Some(NOTE.to_owned()));
        self.record(step, Record::DeliveryRevived { delivery: delivery.id, header, claims, at, note });
        self.waiting_saw_move(
            step,
            mail.id,
            &delivery.to,
            DeliveryState::Queued,
            None,
            Some(NOTE.to_owned()),
        );
    }
}
