//! The history: every step of mail, every approval, claim of a name and child, as far as they are kept, in one order.
//!
//! There is no log beside the tables: a mail's steps live as long as the mail (`retention`), the others as long.
//!
//! **Invariant:** reads a bounded number of rows, however long the history is.

use rusqlite::{Connection, Params, Row, params};

use super::sql::Col;
use super::{Store, StoreError};
use crate::model::clock::Millis;
use crate::model::happening::{Happening, What};
use crate::model::id::{MailId, approval_id};
use crate::model::limits;
use crate::model::mail::DeliveryState;
use crate::model::name::Name;

impl Store {
    /// The last `limit` happenings that concern a name, or all of them, since a moment; oldest first.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn history(
        &self,
        session: Option<&Name>,
        since: Option<Millis>,
        limit: u32,
    ) -> Result<Vec<Happening>, StoreError> {
        let db = &self.db;
        let (name, since) = (session.map(Name::as_str), since.map_or(0, |since| since.0));
        let last_step: i64 = db
            .prepare_cached("SELECT coalesce(max(rowid), 0) FROM transitions")?
            .query_row([], |row| row.get(0))?;
        let from_step = last_step - limits::LOG_STEPS_LOOKED_AT_MAX;
        let last_delivery: i64 = db
            .prepare_cached("SELECT coalesce(max(id), 0) FROM deliveries")?
            .query_row([], |row| row.get(0))?;
        let from_delivery = last_delivery - limits::LOG_STEPS_LOOKED_AT_MAX;
        let mut found = Vec::new();
        read(
            db,
            "SELECT m.sent_at, m.id, m.sender, d.recipient, 'queued', NULL, NULL
             FROM deliveries d JOIN mails m ON m.id = d.mail
             WHERE d.id > ?1 AND (?2 IS NULL OR m.sender = ?2 OR d.recipient = ?2) AND m.sent_at >= ?3
             ORDER BY d.id DESC LIMIT ?4",
            params![from_delivery, name, since, limit],
            step,
            &mut found,
        )?;
        read(
            db,
            "SELECT t.at, m.id, m.sender, d.recipient, t.state, t.turn, t.note
             FROM transitions t JOIN deliveries d ON d.id = t.delivery JOIN mails m ON m.id = d.mail
             WHERE t.rowid > ?1 AND (?2 IS NULL OR m.sender = ?2 OR d.recipient = ?2) AND t.at >= ?3
             ORDER BY t.rowid DESC LIMIT ?4",
            params![from_step, name, since, limit],
            step,
            &mut found,
        )?;
        read(
            db,
            "SELECT asked_at, session, key, kind, summary FROM approvals
             WHERE (?1 IS NULL OR session = ?1) AND asked_at >= ?2 ORDER BY asked_at DESC LIMIT ?3",
            params![name, since, limit],
            asked,
            &mut found,
        )?;
        read(
            db,
            "SELECT settled_at, session, key, decision, settled_by, reason FROM approvals
             WHERE settled_at >= ?2 AND (?1 IS NULL OR session = ?1) ORDER BY settled_at DESC LIMIT ?3",
            params![name, since, limit],
            settled,
            &mut found,
        )?;
        read(
            db,
            "SELECT since, pid FROM children WHERE since >= ?1 AND pid IS NOT NULL ORDER BY since DESC LIMIT ?2",
            params![since, limit],
            |row| {
                Ok(Happening {
                    at: row.get::<_, Col<_>>(0)?.0,
                    what: What::ChildStarted { pid: row.get(1)? },
                })
            },
            &mut found,
        )?;
        read(
            db,
            "SELECT ended_at, pid, why FROM children WHERE ended_at >= ?1 ORDER BY ended_at DESC LIMIT ?2",
            params![since, limit],
            |row| {
                let what = What::ChildExited { pid: row.get(1)?, why: cut(row.get(2)?).unwrap_or_default() };
                Ok(Happening { at: row.get::<_, Col<_>>(0)?.0, what })
            },
            &mut found,
        )?;
        read(
            db,
            "SELECT at, name, epoch, by, taken_over FROM name_claims
             WHERE (?1 IS NULL OR name = ?1) AND at >= ?2 ORDER BY at DESC, row DESC LIMIT ?3",
            params![name, since, limit],
            claimed,
            &mut found,
        )?;
        // Parts come in the order in which things of one moment follow from each other; the sort keeps it.
        found.sort_by_key(|happening| happening.at);
        found.drain(..found.len().saturating_sub(limit as usize));
        Ok(found)
    }

    /// Whether anything that is kept concerns this name.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn has_history(&self, name: &Name) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM deliveries WHERE recipient = ?1)
                       OR EXISTS (SELECT 1 FROM mails WHERE sender = ?1)
                       OR EXISTS (SELECT 1 FROM approvals WHERE session = ?1)
                       OR EXISTS (SELECT 1 FROM name_claims WHERE name = ?1)";
        Ok(self.db.prepare_cached(sql)?.query_row([name.as_str()], |row| row.get(0))?)
    }

    /// The last `limit` steps of the mail of one conversation, since a moment; oldest first.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn thread_history(
        &self,
        thread: MailId,
        since: Option<Millis>,
        limit: u32,
    ) -> Result<Vec<Happening>, StoreError> {
        let wanted = params![Col(thread), since.map_or(0, |since| since.0), limit];
        let mut found = Vec::new();
        read(
            &self.db,
            "SELECT m.sent_at, m.id, m.sender, d.recipient, 'queued', NULL, NULL
             FROM mails m JOIN deliveries d ON d.mail = m.id
             WHERE m.thread = ?1 AND m.sent_at >= ?2 ORDER BY d.id DESC LIMIT ?3",
            wanted,
            step,
            &mut found,
        )?;
        read(
            &self.db,
            "SELECT t.at, m.id, m.sender, d.recipient, t.state, t.turn, t.note
             FROM mails m JOIN deliveries d ON d.mail = m.id JOIN transitions t ON t.delivery = d.id
             WHERE m.thread = ?1 AND t.at >= ?2 ORDER BY t.rowid DESC LIMIT ?3",
            wanted,
            step,
            &mut found,
        )?;
        found.sort_by_key(|happening| happening.at);
        found.drain(..found.len().saturating_sub(limit as usize));
        Ok(found)
    }

    /// Forgets approvals that were settled, children that ended and names that were claimed before a moment.
    ///
    /// # Errors
    /// When SQLite fails.
    pub(super) fn forget_history(db: &Connection, before: Millis) -> rusqlite::Result<()> {
        db.prepare_cached("DELETE FROM approvals WHERE settled_at < ?1")?.execute([before.0])?;
        db.prepare_cached("DELETE FROM children WHERE ended_at < ?1")?.execute([before.0])?;
        db.prepare_cached("DELETE FROM name_claims WHERE at < ?1")?.execute([before.0])?;
        Ok(())
    }
}

/// Reads one part, which comes newest first.
fn read(
    db: &Connection,
    sql: &str,
    params: impl Params,
    each: impl FnMut(&Row<'_>) -> rusqlite::Result<Happening>,
    found: &mut Vec<Happening>,
) -> rusqlite::Result<()> {
    let before = found.len();
    for row in db.prepare_cached(sql)?.query_map(params, each)? {
        found.push(row?);
    }
    found[before..].reverse();
    Ok(())
}

fn step(row: &Row<'_>) -> rusqlite::Result<Happening> {
    let to = row.get::<_, Col<Name>>(3)?.0;
    let what = What::Mail {
        session: (to != Name::operator()).then(|| to.clone()),
        mail: row.get::<_, Col<_>>(1)?.0,
        from: row.get::<_, Col<Name>>(2)?.0,
        to,
        state: row.get::<_, Col<DeliveryState>>(4)?.0,
        turn_id: row.get(5)?,
        note: cut(row.get(6)?),
        pending: None,
    };
    Ok(Happening { at: row.get::<_, Col<_>>(0)?.0, what })
}

fn claimed(row: &Row<'_>) -> rusqlite::Result<Happening> {
    let what = What::NameClaimed {
        name: row.get::<_, Col<Name>>(1)?.0,
        epoch: row.get::<_, i64>(2)? as u64,
        by: cut(row.get(3)?).unwrap_or_default(),
        taken_over: row.get(4)?,
    };
    Ok(Happening { at: row.get::<_, Col<_>>(0)?.0, what })
}

fn asked(row: &Row<'_>) -> rusqlite::Result<Happening> {
    let what = What::ApprovalAsked {
        session: row.get::<_, Col<Name>>(1)?.0,
        approval: approval_id(&row.get::<_, String>(2)?),
        kind: row.get(3)?,
        summary: cut(row.get(4)?).unwrap_or_default(),
    };
    Ok(Happening { at: row.get::<_, Col<_>>(0)?.0, what })
}

fn settled(row: &Row<'_>) -> rusqlite::Result<Happening> {
    let text = |column| row.get::<_, Option<String>>(column).map(Option::unwrap_or_default);
    let what = What::ApprovalSettled {
        session: row.get::<_, Col<Name>>(1)?.0,
        approval: approval_id(&row.get::<_, String>(2)?),
        decision: text(3)?,
        by: text(4)?,
        reason: cut(Some(text(5)?)).unwrap_or_default(),
    };
    Ok(Happening { at: row.get::<_, Col<_>>(0)?.0, what })
}

/// One text of a history line; what is long is cut.
fn cut(text: Option<String>) -> Option<String> {
    text.map(|mut text| {
        let most = limits::LOG_TEXT_BYTES_MAX / 2;
        if text.len() > most {
            let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            text.truncate(end);
            text.push('…');
        }
        text
    })
}
