//! `cancel`: takes a mail back from every recipient that has not been handed it.

use super::super::conn::{Ask, Identity};
use super::super::input::{Lookup, Resolved};
use super::super::{Core, Step};
use super::ack::settled;
use super::send::lookup_fault;
use crate::model::fault::Fault;
use crate::model::mail::{DeliveryState, FromKind};
use crate::model::name::Name;

impl Core {
    pub(in crate::core) fn request_cancel(
        &mut self,
        step: &mut Step,
        ask: Ask,
        by: &Identity,
        id: &str,
        resolved: Resolved,
    ) {
        let Lookup::Found(known) = resolved.mail else {
            return step.refuse(ask, lookup_fault(id, &resolved.mail));
        };
        let id = known.mail.id;
        let own = by.has_name() && known.mail.from == by.name;
        if by.kind != FromKind::Operator && !own {
            return step.refuse(ask, Fault::refused(format!("cancel refused: mail {id} is not yours")));
        }
        let mut cancelled: Vec<Name> = Vec::new();
        for delivery in &known.deliveries {
            if self.state_of(delivery.id) == Some(DeliveryState::Queued) {
                let note = Some(format!("by {}", by.name));
                self.move_delivery(step, delivery.id, DeliveryState::Cancelled, None, note);
                cancelled.push(delivery.to.clone());
            }
        }
        if cancelled.is_empty() {
            let states: Vec<String> =
                known.deliveries.iter().map(|d| format!("{} to {}", d.state.as_str(), d.to)).collect();
            let fault = Fault::refused(format!("cancel refused: mail {id} is {}", states.join(", ")));
            return step.refuse(ask, fault.hint("only mail that is queued can be taken back"));
        }
        step.reply(ask, settled(&known, DeliveryState::Cancelled, cancelled));
    }
}
