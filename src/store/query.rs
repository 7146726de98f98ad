//! Answers to read-only questions, after the commit: listings, one mail, a mail's history, counts.

use rusqlite::{OptionalExtension, Row, Rows, params};

use super::sql::Col;
use super::{Store, StoreError};
use crate::core::action::Page;
use crate::core::record::DeliveryId;
use crate::model::clock::Millis;
use crate::model::id::MailId;
use crate::model::limits;
use crate::model::mail::DeliveryState;
use crate::model::name::Name;
use crate::protocol::answer::{MailInfo, Mails, OneMail, Trace, TracedDelivery, Transition};

impl Store {
    /// A recipient's mail, newest first. Bodies are not listed; `read` shows them. So many of it are looked at for what fits, that others
    /// need not wait; then the page is a short one.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn inbox(
        &self,
        name: &Name,
        unread: bool,
        from: Option<&Name>,
        since: Option<Millis>,
        page: Page,
        now: Millis,
    ) -> Result<Mails, StoreError> {
        let filter = if unread { "AND d.state IN ('queued', 'claimed', 'submitted', 'unknown')" } else { "" };
        let sql = format!(
            "SELECT d.id AS place, {LISTED}, d.state AS delivery_state FROM
             (SELECT * FROM deliveries d WHERE d.recipient = ?1 AND d.id < ?2 {filter} ORDER BY d.id DESC LIMIT ?5) d
             JOIN mails m ON m.id = d.mail
             WHERE (?3 IS NULL OR m.sender = ?3) AND (?4 IS NULL OR m.sent_at >= ?4) ORDER BY d.id DESC"
        );
        let mut statement = self.db.prepare_cached(&sql)?;
        let rows = statement.query(params![
            name.as_str(),
            page.before,
            from.map(Name::as_str),
            since.map(|since| since.0),
            limits::LIST_LOOK_MAX
        ])?;
        let mut mails = listed(rows, page, |row| Ok(MailInfo { body: None, ..info(row, now)? }))?;
        if mails.cursor.is_none() {
            mails.cursor = self.looked_at(name, filter, since, page.before)?.map(|place| place.to_string());
        }
        Ok(mails)
    }

    /// Where the look ended that a list is from, if there may be more behind that.
    fn looked_at(
        &self,
        name: &Name,
        filter: &str,
        since: Option<Millis>,
        before: i64,
    ) -> Result<Option<i64>, StoreError> {
        let sql = format!(
            "SELECT d.id, m.sent_at FROM deliveries d JOIN mails m ON m.id = d.mail
             WHERE d.recipient = ?1 AND d.id < ?2 {filter} ORDER BY d.id DESC LIMIT 1 OFFSET ?3"
        );
        let mut statement = self.db.prepare_cached(&sql)?;
        let last = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, Millis(row.get(1)?)));
        let last = statement
            .query_row(params![name.as_str(), before, limits::LIST_LOOK_MAX - 1], last)
            .optional()?;
        Ok(last.filter(|(_, sent_at)| since.is_none_or(|since| *sent_at >= since)).map(|(place, _)| place))
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
    pub fn dead(&self, page: Page, now: Millis) -> Result<Mails, StoreError> {
        let mut statement = self.db.prepare_cached(&format!(
            "SELECT d.id AS place, {LISTED}, d.state AS delivery_state, d.recipient, d.note
             FROM deliveries d JOIN mails m ON m.id = d.mail
             WHERE d.state IN ('expired', 'failed') AND d.discarded = 0 AND d.id < ?1 ORDER BY d.id DESC"
        ))?;
        let rows = statement.query([page.before])?;
        listed(rows, page, |row| {
            let recipient = Some(row.get::<_, Col<Name>>("recipient")?.0);
            Ok(MailInfo { body: None, recipient, reason: row.get("note")?, ..info(row, now)? })
        })
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

/// The columns of `mails` for a list: a body may have a megabyte, and is not read where it is not shown.
pub(super) const LISTED: &str = "m.id, m.sender, m.sender_kind, m.recipients, m.subject, '' AS body, m.reply_to, m.thread, \
                                 m.priority, m.at_when, m.hops, m.key, m.expires_at, m.sent_at, m.tag";

/// Reads rows, whose number is in `place`, until there are as many as the page may have or an answer may carry; says where the next
/// page begins.
pub(super) fn listed(
    mut rows: Rows<'_>,
    page: Page,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<MailInfo>,
) -> Result<Mails, StoreError> {
    let (mut mails, mut bytes, mut place) = (Vec::new(), 0, 0);
    while let Some(row) = rows.next()? {
        let mail = read(row)?;
        bytes += serde_json::to_vec(&mail).map_or(0, |text| text.len());
        let is_full = mails.len() == page.rows as usize || bytes > limits::ANSWER_BYTES_MAX;
        if is_full && !mails.is_empty() {
            return Ok(Mails { mails, cursor: Some(i64::to_string(&place)) });
        }
        place = row.get("place")?;
        mails.push(mail);
    }
    Ok(Mails { mails, cursor: None })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::mail::{FromKind, Priority};

    fn some_mail() -> MailInfo {
        let id = MailId::parse("0192f000-0000-7000-8000-000000000001").expect("it is an id");
        MailInfo {
            id,
            from: Name::operator(),
            from_kind: FromKind::Operator,
            to: vec![],
            subject: None,
            body: None,
            thread: id,
            reply_to: None,
            priority: Priority::Normal,
            sent_at: Millis(0),
            age_ms: 0,
            state: DeliveryState::Queued,
            unread: true,
            recipient: None,
            reason: None,
            excerpt: None,
        }
    }

    /// Design §5: an answer ends where a page does, or before it grows too large, and the next one goes on there.
    #[test]
    fn a_list_ends_with_the_page_or_with_what_an_answer_may_carry() {
        let db = rusqlite::Connection::open_in_memory().expect("sqlite opens");
        let sql = "WITH RECURSIVE n(place) AS (SELECT 9 UNION ALL SELECT place - 1 FROM n WHERE place > 1)
                   SELECT place FROM n WHERE place < ?1";
        let mut statement = db.prepare(sql).expect("it is SQL");
        for (rows, bytes, pages) in [
            (4, 10, &[&[9, 8, 7, 6][..], &[5, 4, 3, 2], &[1]][..]),
            (9, 10, &[&[9, 8, 7, 6, 5, 4, 3, 2, 1]]),
            (9, limits::ANSWER_BYTES_MAX / 4, &[&[9, 8, 7], &[6, 5, 4], &[3, 2, 1]]),
            (9, limits::ANSWER_BYTES_MAX * 2, &[&[9], &[8], &[7], &[6], &[5], &[4], &[3], &[2], &[1]]),
        ] {
            let text = "x".repeat(bytes);
            let read = |row: &Row<'_>| {
                Ok(MailInfo {
                    subject: Some(row.get::<_, i64>(0)?.to_string()),
                    excerpt: Some(text.clone()),
                    ..some_mail()
                })
            };
            let mut before = i64::MAX;
            for (n, page) in pages.iter().enumerate() {
                let rows = statement.query([before]).map(|found| listed(found, Page { rows, before }, read));
                let mails = rows.expect("it is a query").expect("it is read");
                let places: Vec<String> =
                    mails.mails.iter().filter_map(|mail| mail.subject.clone()).collect();
                assert_eq!(places, page.iter().map(i32::to_string).collect::<Vec<_>>());
                let is_last = n + 1 == pages.len();
                assert_eq!(mails.cursor, (!is_last).then(|| page[page.len() - 1].to_string()));
                before = i64::from(page[page.len() - 1]);
            }
        }
    }
}
