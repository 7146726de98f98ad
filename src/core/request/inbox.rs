//! `inbox`: a recipient's mail. Looking changes nothing; bodies that a session with a child has not got are not shown.

use super::super::action::{Action, Page, Query};
use super::super::conn::{Ask, Identity};
use super::super::{Core, Step};
use crate::model::fault::Fault;
use crate::model::id::MailId;
use crate::model::limits;
use crate::model::mail::{DeliveryState, FromKind};
use crate::model::name::{Name, OPERATOR};
use crate::protocol::request::Inbox;

impl Core {
    pub(in crate::core) fn request_inbox(
        &mut self,
        step: &mut Step,
        ask: Ask,
        caller: &Identity,
        inbox: &Inbox,
    ) {
        if inbox.take && !self.ledger.sessions.contains_key(&caller.name) {
            return self.take_waiting_mail(step, ask, caller, inbox.limit);
        }
        let name = match inbox.name.as_deref() {
            None => caller.name.clone(),
            Some(name) if caller.kind != FromKind::Operator && name != caller.name.as_str() => {
                let fault = Fault::refused(format!("inbox refused: you are {}, not {name}", caller.name));
                return step.refuse(ask, fault.hint("without a name it is your own"));
            }
            Some(OPERATOR) => Name::operator(),
            Some(name) if Name::parse(name).is_some_and(|name| self.ledger.outsiders.contains_key(&name)) => {
                Name::parse(name).expect("just parsed")
            }
            Some(name) => match self.session_named(name) {
                Ok(name) => name,
                Err(fault) => return step.refuse(ask, fault),
            },
        };
        let page = Page::of(inbox.limit, inbox.cursor.as_deref());
        let since = inbox.since_ms.map(|ms| step.now.plus(-(ms.min(i64::MAX as u64) as i64)));
        let from = inbox.from.as_deref().and_then(Name::parse);
        let query = Query::Inbox { name, unread: inbox.unread, from, since, page, at: step.now };
        step.act(Action::Query { conn: ask.conn, id: ask.id, query });
    }

    /// Hands a reader without a child what waits for it, as many and as much as one answer takes.
    fn take_waiting_mail(&mut self, step: &mut Step, ask: Ask, reader: &Identity, limit: Option<u32>) {
        let rows = Page::of(limit, None).rows as usize;
        let open = self.ledger.queue(&reader.name).into_iter().flat_map(|queue| &queue.open);
        let queued = open.filter_map(|id| self.ledger.deliveries.get(id));
        let queued = queued.filter(|delivery| delivery.state == DeliveryState::Queued && !delivery.braked);
        let mut bytes = 0;
        let mails: Vec<MailId> = queued
            .take_while(|delivery| {
                let room = bytes < limits::TOOL_INBOX_BYTES;
                bytes += delivery.bytes as usize;
                room
            })
            .take(rows)
            .map(|delivery| delivery.mail)
            .collect();
        for mail in &mails {
            if self.hand_over(step, &reader.name, *mail)
                && let Some(conn) = self.conns.get_mut(&ask.conn)
            {
                conn.handed.push(*mail);
            }
        }
        let query = Query::Taken { mails, reader: reader.name.clone(), at: step.now };
        step.act(Action::Query { conn: ask.conn, id: ask.id, query });
    }
}
