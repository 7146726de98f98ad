//! `trace`: where a mail is, every step it took, and why it is not further.

use super::super::action::{Action, Query};
use super::super::conn::{Ask, Identity};
use super::super::input::{Lookup, Resolved};
use super::super::{Core, Step};
use super::send::lookup_fault;
use crate::model::mail::DeliveryState;
use crate::model::name::Name;

impl Core {
    pub(in crate::core) fn request_trace(
        &mut self,
        step: &mut Step,
        ask: Ask,
        by: &Identity,
        id: &str,
        resolved: Resolved,
    ) {
        let known = match &resolved.mail {
            Lookup::Found(known) => known,
            other => return step.refuse(ask, lookup_fault(id, other)),
        };
        if let Some(fault) = self.foreign_refusal("trace", by, &known.mail) {
            return step.refuse(ask, fault);
        }
        // What the loop brake holds has its reason on disk.
        let is_braked = |id| self.ledger.deliveries.get(&id).is_some_and(|delivery| delivery.braked);
        let open = known.deliveries.iter().filter(|d| d.state.is_open() && !is_braked(d.id));
        let reasons = open
            .filter_map(|d| Some((d.to.clone(), self.why_open(step, &d.to, d.state, known.mail.id)?)))
            .collect();
        let query = Query::Trace { mail: known.mail.id, reasons };
        step.act(Action::Query { conn: ask.conn, id: ask.id, query });
    }

    /// Why an open delivery is not further, in one line.
    fn why_open(
        &self,
        step: &Step,
        to: &Name,
        state: DeliveryState,
        mail: crate::model::id::MailId,
    ) -> Option<String> {
        match state {
            DeliveryState::Queued => {
                let behind = self.ledger.queue(to).map_or(0, |queue| {
                    let before = |entry: &&(_, super::super::record::DeliveryId)| {
                        self.ledger.deliveries.get(&entry.1).is_some_and(|delivery| delivery.mail != mail)
                    };
                    queue.queued.iter().take_while(before).count()
                });
                let behind = (behind > 0).then(|| format!("behind {behind} mails"));
                let parts: Vec<String> =
                    self.why_not_further(to, step.now).into_iter().chain(behind).collect();
                (!parts.is_empty()).then(|| parts.join("; "))
            }
            DeliveryState::Claimed => Some("handed to the child, which has not answered yet".to_owned()),
            DeliveryState::Submitted if !self.ledger.sessions.contains_key(to) => {
                Some("handed to its reader, not confirmed yet".to_owned())
            }
            DeliveryState::Submitted => {
                Some("the child has it; no evidence yet that it is inside a turn".to_owned())
            }
            DeliveryState::Unknown => Some("in doubt until the child's history can be read".to_owned()),
            _ => None,
        }
    }
}
