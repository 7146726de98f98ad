//! `log`: the history that the store has, and what follows it.

use super::super::action::{Action, Logging};
use super::super::conn::Ask;
use super::super::input::{Lookup, Resolved};
use super::super::{Core, Step};
use super::send::lookup_fault;
use crate::model::limits;
use crate::model::name::Name;
use crate::protocol::request::Log;

impl Core {
    pub(in crate::core) fn request_log(&mut self, step: &mut Step, ask: Ask, log: &Log, resolved: &Resolved) {
        let thread = match (&log.thread, &resolved.mail) {
            (None, _) => None,
            (Some(_), Lookup::Found(known)) => Some(known.mail.thread),
            (Some(reference), lookup) => return step.refuse(ask, lookup_fault(reference, lookup)),
        };
        let session = log.name.as_deref().and_then(Name::parse);
        let is_known = session.as_ref().is_none_or(|name| self.has_mailbox(name));
        let since = log.since_ms.map(|ms| step.now.plus(-(ms.min(i64::MAX as u64) as i64)));
        let limit = log.limit.unwrap_or(limits::LIST_ROWS_DEFAULT).clamp(1, limits::LIST_ROWS_MAX);
        let logging = Logging { session, is_known, thread, since, limit, follow: log.follow };
        step.act(Action::Log { conn: ask.conn, id: ask.id, logging });
    }
}
