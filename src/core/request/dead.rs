//! `dead`: what expired or failed, with reasons; and the explicit word that it need not be listed any more. The mail itself is
//! kept.

use super::super::action::{Action, Page, Query};
use super::super::conn::Ask;
use super::super::input::{Lookup, Resolved};
use super::super::record::{DeliveryId, Record};
use super::super::{Core, Step};
use super::send::lookup_fault;
use crate::model::mail::DeliveryState;
use crate::protocol::answer::{Answer, Discarded};
use crate::protocol::request::{Dead, Discard};

impl Core {
    pub(in crate::core) fn request_dead(&mut self, step: &mut Step, ask: Ask, dead: &Dead) {
        let page = Page::of(dead.limit, dead.cursor.as_deref());
        let query = Query::Dead { page, at: step.now };
        step.act(Action::Query { conn: ask.conn, id: ask.id, query });
    }

    pub(in crate::core) fn request_discard(
        &mut self,
        step: &mut Step,
        ask: Ask,
        discard: &Discard,
        resolved: Resolved,
    ) {
        let deliveries: Vec<DeliveryId> = match (&discard.id, &resolved.mail) {
            (None, _) => resolved.dead,
            (Some(_), Lookup::Found(known)) => known
                .deliveries
                .iter()
                .filter(|delivery| matches!(delivery.state, DeliveryState::Expired | DeliveryState::Failed))
                .map(|delivery| delivery.id)
                .collect(),
            (Some(id), other) => return step.refuse(ask, lookup_fault(id, other)),
        };
        let discarded = deliveries.len() as u64;
        if discarded > 0 {
            self.record(step, Record::DeadDiscarded { deliveries });
        }
        step.reply(ask, Answer::Discarded(Discarded { discarded }));
    }
}
