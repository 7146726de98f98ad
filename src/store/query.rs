//! Answers to read-only questions, after the commit: listings, one mail, a mail's history, counts.

use rusqlite::{Row, params};

use super::sql::Col;
use super::{Store, StoreError};
use crate::core::record::DeliveryId;
use crate::model::clock::Millis;
use crate::model::id::MailId;
use crate::model::limits;
use crate::model::mail::DeliveryState;
use crate::model::name::Name;
use crate::protocol::answer::{MailInfo, Mails, OneMail, Trace, TracedDelivery, Transition};

impl Store {
    /// A recipient's mail, newest first. Bodies are not listed; `read` shows them.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn inbox(
        &self,
        name: &Name,
        unread: bool,
        from: Option<&Name>,
        since: Option<Millis>,
        limit: u32,
        now: Millis,
    ) -> Result<Mails, StoreError> {
        let filter = if unread { "AND d.state IN ('queued', 'claimed', 'submitted', 'unknown')" } else { "" };
        let sql = format!(
            "SELECT m.*, d.state AS delivery_state FROM deliveries d JOIN mails m ON m.id = d.mail
             WHERE d.recipient = ?1 {filter} AND (?3 IS NULL OR m.sender = ?3) AND (?4 IS NULL OR m.sent_at >= ?4)
             ORDER BY d.id DESC LIMIT ?2"
        );
        let mut statement = self.db.prepare_cached(&sql)?;
        let mut rows = statement.query(params![
            name.as_str(),
            limit,
            from.map(Name::as_str),
            since.map(|since| since.0)
        ])?;
        let mut mails = Vec::new();
        while let Some(row) = rows.next()? {
            mails.push(MailInfo { body: None, ..info(row, now)? });
        }
        Ok(Mails { mails })
    }

    /// One mail whole, seen by `reader`: its own delivery's state when it has one, else the least advanced one.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn read(&self, id: MailId, reader: &Name, now: Millis) -> Result<Option<OneMail>, StoreError> {
        let mut statement = self.db.prepare_cached(
            "SELECT m.*, d.state AS delivery_state FROM deliveries d JOIN mails m ON m.id = d.mail
             WHERE d.mail = ?1 ORDER BY d.recipient = ?2 DESC, d.id LIMIT 1",
        )?;
        let mut rows = statement.query(params![Col(id), reader.as_str()])?;
        Ok(match rows.next()? {
            Some(row) => Some(OneMail { mail: info(row, now)? }),
            None => None,
        })
    }

    /// Where a mail is, and every step it took.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn trace(&self, id: MailId, reasons: &[(Name, String)]) -> Result<Option<Trace>, StoreError> {
        let mut by_id = self.db.prepare_cached("SELECT * FROM mails WHERE id = ?1")?;
        let mut rows = by_id.query([Col(id)])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let mail = super::lookup::mail(row)?;
        let sql = "SELECT id, recipient, state, note, turn FROM deliveries WHERE mail = ?1 ORDER BY id";
        let mut by_mail = self.db.prepare_cached(sql)?;
        let mut rows = by_mail.query([Col(id)])?;
        let mut deliveries = Vec::new();
        while let Some(row) = rows.next()? {
            let to = row.get::<_, Col<Name>>(1)?.0;
            let reason = reasons.iter().find(|(name, _)| *name == to).map(|(_, why)| why.clone());
            deliveries.push(TracedDelivery {
                state: row.get::<_, Col<_>>(2)?.0,
                reason: reason.or(row.get(3)?),
                turn_id: row.get(4)?,
                transitions: self.transitions(row.get(0)?, mail.sent_at)?,
                to,
            });
        }
        Ok(Some(Trace { id, from: mail.from, subject: mail.subject, sent_at: mail.sent_at, deliveries }))
    }

    /// The steps of a delivery; the first is its acceptance, which is not stored apart.
    fn transitions(&self, delivery: i64, sent_at: Millis) -> Result<Vec<Transition>, StoreError> {
        let sql = "SELECT state, at, turn, note FROM transitions WHERE delivery = ?1 ORDER BY rowid LIMIT ?2";
        let mut statement = self.db.prepare_cached(sql)?;
        let transition = |row: &Row<'_>| {
            Ok(Transition {
                state: row.get::<_, Col<DeliveryState>>(0)?.0,
                at: row.get::<_, Col<_>>(1)?.0,
                turn_id: row.get(2)?,
                note: row.get(3)?,
            })
        };
        let accepted = Transition { state: DeliveryState::Queued, at: sent_at, turn_id: None, note: None };
        let rows = statement.query_map(params![delivery, limits::LIST_ROWS_MAX], transition)?;
        std::iter::once(Ok(accepted)).chain(rows).collect::<Result<_, _>>().map_err(StoreError::from)
    }

    /// Counts of sessions, open deliveries and living children, to be compared with the ledger's.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn open_counts(&self) -> Result<[usize; 3], StoreError> {
        let sql = "SELECT (SELECT count(*) FROM sessions),
                          (SELECT count(*) FROM deliveries WHERE state IN ('queued', 'claimed', 'submitted', 'unknown')),
                          (SELECT count(*) FROM children WHERE ended_at IS NULL)";
        let counts = |row: &Row<'_>| Ok([row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?]);
        Ok(self.db.prepare_cached(sql)?.query_row([], counts)?.map(|count| count as usize))
    }

    /// Deliveries that have expired or failed, newest first, one row each; bodies are not listed.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn dead(&self, limit: u32, now: Millis) -> Result<Mails, StoreError> {
        let mut statement = self.db.prepare_cached(
            "SELECT m.*, d.state AS delivery_state, d.recipient, d.note FROM deliveries d JOIN mails m ON m.id = d.mail
             WHERE d.state IN ('expired', 'failed') AND d.discarded = 0 ORDER BY d.id DESC LIMIT ?1",
        )?;
        let mut rows = statement.query([limit])?;
        let mut mails = Vec::new();
        while let Some(row) = rows.next()? {
            let recipient = Some(row.get::<_, Col<Name>>("recipient")?.0);
            mails.push(MailInfo { body: None, recipient, reason: row.get("note")?, ..info(row, now)? });
        }
        Ok(Mails { mails })
    }

    /// Numbers of the deliveries that `dead` lists, oldest first.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn dead_ids(&self, limit: u32) -> Result<Vec<DeliveryId>, StoreError> {
        let mut statement = self.db.prepare_cached(
            "SELECT id FROM deliveries WHERE state IN ('expired', 'failed') AND discarded = 0 ORDER BY id LIMIT ?1",
        )?;
        let rows = statement.query_map([limit], |row| row.get(0).map(DeliveryId))?;
        rows.collect::<Result<_, _>>().map_err(StoreError::from)
    }

    /// How many deliveries have expired or failed, and were not discarded.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn dead_count(&self) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) FROM deliveries WHERE state IN ('expired', 'failed') AND discarded = 0";
        let count: i64 = self.db.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
        Ok(count.unsigned_abs())
    }
}

pub(super) fn info(row: &Row<'_>, now: Millis) -> rusqlite::Result<MailInfo> {
    let mail = super::lookup::mail(row)?;
    let state: DeliveryState = row.get::<_, Col<_>>("delivery_state")?.0;
    Ok(MailInfo {
        id: mail.id,
        from: mail.from,
        from_kind: mail.from_kind,
        to: mail.to,
        subject: mail.subject,
        body: Some(mail.body),
        thread: mail.thread,
        reply_to: mail.reply_to,
        priority: mail.priority,
        sent_at: mail.sent_at,
        age_ms: now.since(mail.sent_at),
        state,
        unread: state.is_open(),
        recipient: None,
        reason: None,
        excerpt: None,
    })
}
