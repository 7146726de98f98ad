//! Full-text search over subjects and bodies. Mail is indexed when somebody searches, never before it is answered: who does not
//! search pays nothing.
//!
//! **Invariant:** the index holds every mail up to the row in `facts`, and no other. It has no copy of the texts.

use rusqlite::{OptionalExtension, params};

use super::query::{LISTED, info, listed};
use super::{Store, StoreError};
use crate::core::action::Page;
use crate::model::clock::Millis;
use crate::model::limits;
use crate::protocol::answer::{MailInfo, Mails};

impl Store {
    /// Whether all mail is indexed.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn is_indexed(&self) -> Result<bool, StoreError> {
        let sql = "SELECT coalesce((SELECT max(rowid) FROM mails), 0) <= \
                   coalesce((SELECT CAST(value AS INTEGER) FROM facts WHERE name = 'indexed'), 0)";
        Ok(self.db.query_row(sql, [], |row| row.get(0))?)
    }

    /// Indexes some of the mail that is not indexed yet, in a transaction of its own; true when nothing is left.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn index_some(&mut self) -> Result<bool, StoreError> {
        let slice = self.db.transaction()?;
        let mut indexed: i64 = slice
            .query_row("SELECT value FROM facts WHERE name = 'indexed'", [], |row| row.get::<_, String>(0))
            .optional()?
            .and_then(|row| row.parse().ok())
            .unwrap_or(0);
        let mut bytes = 0;
        let done = {
            let mut next = slice.prepare_cached(
                "SELECT rowid, coalesce(subject, ''), body FROM mails WHERE rowid > ?1 ORDER BY rowid LIMIT ?2",
            )?;
            let mut insert =
                slice.prepare_cached("INSERT INTO search (rowid, subject, body) VALUES (?1, ?2, ?3)")?;
            let mut rows = next.query(params![indexed, limits::INDEX_MAILS_PER_SLICE as i64])?;
            let mut count = 0;
            while bytes < limits::INDEX_BYTES_PER_SLICE {
                let Some(row) = rows.next()? else { break };
                let body = row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?;
                insert.execute(params![
                    row.get::<_, i64>(0)?,
                    row.get_ref(1)?.as_str().unwrap_or_default(),
                    body
                ])?;
                (indexed, bytes, count) = (row.get(0)?, bytes + body.len(), count + 1);
            }
            count < limits::INDEX_MAILS_PER_SLICE && bytes < limits::INDEX_BYTES_PER_SLICE
        };
        let sql =
            "INSERT INTO facts (name, value) VALUES ('indexed', ?1) ON CONFLICT DO UPDATE SET value = ?1";
        slice.execute(sql, [indexed.to_string()])?;
        slice.commit()?;
        Ok(done)
    }

    /// Mail that has all these words, newest first, each with a piece of its body; a word may end in `*`.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn search(&self, text: &str, page: Page, now: Millis) -> Result<Mails, StoreError> {
        let mut statement = self.db.prepare_cached(&format!(
            "SELECT s.rowid AS place, {LISTED}, substr(m.body, 1, ?3) AS beginning,
             (SELECT state FROM deliveries d WHERE d.mail = m.id ORDER BY d.id LIMIT 1) AS delivery_state
             FROM search s JOIN mails m ON m.rowid = s.rowid
             WHERE search MATCH ?1 AND s.rowid < ?2 ORDER BY s.rowid DESC"
        ))?;
        let beginning = limits::EXCERPT_CHARS_READ as i64;
        let rows = statement.query(params![expression(text), page.before, beginning])?;
        listed(rows, page, |row| {
            let excerpt = Some(excerpt(row.get_ref("beginning")?.as_str()?, text));
            Ok(MailInfo { body: None, excerpt, ..info(row, now)? })
        })
    }

    /// Deletes some finished mail that was accepted before a moment; returns how much. Mail is finished when each recipient
    /// has had it, or it was taken back, or it is dead and was discarded.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn forget_finished(&mut self, before: Millis) -> Result<usize, StoreError> {
        let is_old = "SELECT 1 FROM mails WHERE id < ?1 LIMIT 1";
        Store::forget_history(&self.db, before)?;
        if !self.db.prepare_cached(is_old)?.exists([first_id(before)])? {
            return Ok(0);
        }
        let slice = self.db.transaction()?;
        slice.execute_batch(
            "CREATE TEMP TABLE IF NOT EXISTS forgotten (mail BLOB, row INTEGER); DELETE FROM forgotten;
             CREATE TEMP TABLE IF NOT EXISTS loosened (claim BLOB); DELETE FROM loosened",
        )?;
        let count = slice.execute(
            "INSERT INTO forgotten SELECT m.id, m.rowid FROM mails m WHERE m.id < ?1
             AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.mail = m.id
                 AND NOT (d.state IN ('consumed', 'acked', 'cancelled') OR (d.state IN ('expired', 'failed') AND d.discarded)))
             AND NOT EXISTS (SELECT 1 FROM deliveries d JOIN claim_mails l ON l.delivery = d.id
                 JOIN claims c ON c.id = l.claim JOIN claim_mails o ON o.claim = c.id JOIN deliveries e ON e.id = o.delivery
                 WHERE d.mail = m.id AND (c.ended_at IS NULL OR e.state IN ('queued', 'claimed', 'submitted', 'unknown')))
             ORDER BY m.id LIMIT ?2",
            params![first_id(before), limits::FORGET_MAILS_PER_SLICE as i64],
        )?;
        if count > 0 {
            slice.execute_batch(
                "INSERT INTO loosened SELECT DISTINCT claim FROM claim_mails WHERE delivery IN
                 (SELECT id FROM deliveries WHERE mail IN (SELECT mail FROM forgotten));
                 DELETE FROM transitions WHERE delivery IN (SELECT id FROM deliveries WHERE mail IN (SELECT mail FROM forgotten));
                 DELETE FROM claim_mails WHERE delivery IN (SELECT id FROM deliveries WHERE mail IN (SELECT mail FROM forgotten));
                 DELETE FROM claims WHERE id IN (SELECT claim FROM loosened)
                 AND NOT EXISTS (SELECT 1 FROM claim_mails l WHERE l.claim = claims.id);
                 DELETE FROM deliveries WHERE mail IN (SELECT mail FROM forgotten);
                 DELETE FROM search WHERE rowid IN (SELECT row FROM forgotten);
                 DELETE FROM mails WHERE id IN (SELECT mail FROM forgotten);
                 UPDATE facts SET value = CAST(min(CAST(value AS INTEGER), (SELECT coalesce(max(rowid), 0) FROM mails)) AS TEXT)
                 WHERE name = 'indexed'",
            )?;
        }
        slice.commit()?;
        Ok(count)
    }
}

/// The smallest id of a mail that was accepted at a moment: ids begin with it, and are in order in their index.
fn first_id(at: Millis) -> Vec<u8> {
    let ms = at.0.clamp(0, (1 << 48) - 1).to_be_bytes();
    [&ms[2..], &[0; 10]].concat()
}

/// A person's words as an expression of FTS5 in which nothing but a final `*` is special.
fn expression(text: &str) -> String {
    let word = |word: &str| {
        let (word, prefix) = word.strip_suffix('*').map_or((word, ""), |word| (word, "*"));
        format!("\"{}\"{prefix}", word.replace('"', "\"\""))
    };
    text.split_whitespace().map(word).collect::<Vec<String>>().join(" ")
}

/// The line of the beginning of a body that the first word stands in, or its first one, cut.
fn excerpt(body: &str, text: &str) -> String {
    let first = text.split_whitespace().next().unwrap_or_default().trim_end_matches('*').to_lowercase();
    let has_it = |line: &&str| line.to_lowercase().contains(&first);
    let line = body.lines().find(has_it).or(body.lines().next()).unwrap_or_default();
    line.trim().chars().take(limits::EXCERPT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_person_writes_is_syntax() {
        assert_eq!(expression(r#"a "b OR c) NEAR"#), r#""a" """b" "OR" "c)" "NEAR""#);
        assert_eq!(expression("pars* x"), r#""pars"* "x""#);
        assert_eq!(excerpt("first\n  the Branch is here \nlast", "branch*"), "the Branch is here");
    }
}
