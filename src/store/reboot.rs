//! After a reboot: what was consumed last is doubted again, because a child may not have synced its own history.
//!
//! **Invariant:** done once per boot, in one transaction with the note that it was done, before anything is loaded.
//! **Invariant:** a mail that is doubted again has exactly one open claim (G2): the last one, when it is open for others in it, else one
//! that is made for the doubt and holds no other mail, because those that went in with it may be queued again since, or in newer
//! claims. Reading the history settles it as it settles every doubt, because a mail's earlier claims are looked for, too.

use rusqlite::{OptionalExtension, params};

use super::sql::Col;
use super::{Store, StoreError};
use crate::model::clock::Millis;
use crate::model::id::ClaimId;
use crate::model::limits;
use crate::model::mail::DeliveryState;

const NOTE: &str = "the machine was restarted; the child's history is read again";

impl Store {
    /// Notes this boot. When it is another one than the last, mail that was consumed shortly before the last thing that is known
    /// is `unknown` again; returns how many. An empty id says nothing.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn doubt_after_reboot(&mut self, boot: &str, now: Millis) -> Result<usize, StoreError> {
        let step = self.db.transaction()?;
        let last: Option<String> =
            step.query_row("SELECT value FROM facts WHERE name = 'boot'", [], |row| row.get(0)).optional()?;
        if boot.is_empty() || last.as_deref() == Some(boot) {
            return Ok(0);
        }
        let doubted = if last.is_some() { consumed_last(&step)? } else { Vec::new() };
        for (delivery, claim) in &doubted {
            let state = Col(DeliveryState::Unknown);
            doubt_by_claim(&step, *delivery, *claim, now)?;
            step.prepare_cached("UPDATE deliveries SET state = ?2, note = ?3 WHERE id = ?1")?
                .execute(params![delivery, state, NOTE])?;
            step.prepare_cached(
                "INSERT INTO transitions (delivery, state, at, note) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![delivery, state, Col(now), NOTE])?;
        }
        let sql = "INSERT INTO facts (name, value) VALUES ('boot', ?1) ON CONFLICT DO UPDATE SET value = ?1";
        step.execute(sql, [boot])?;
        step.commit()?;
        Ok(doubted.len())
    }
}

/// Puts a mail that is doubted into an open claim, which the same child held as its last one.
fn doubt_by_claim(
    db: &rusqlite::Connection,
    delivery: i64,
    last: ClaimId,
    now: Millis,
) -> Result<(), StoreError> {
    let claim: Col<ClaimId> = db.query_row("SELECT randomblob(16)", [], |row| row.get(0))?;
    let sql = "INSERT INTO claims (id, session, child, opened_at)
               SELECT ?1, session, child, ?3 FROM claims WHERE id = ?2 AND ended_at IS NOT NULL";
    if db.prepare_cached(sql)?.execute(params![claim, Col(last), Col(now)])? == 1 {
        let sql = "INSERT INTO claim_mails (claim, position, delivery) VALUES (?1, 0, ?2)";
        db.prepare_cached(sql)?.execute(params![claim, delivery])?;
    }
    Ok(())
}

/// What was consumed within [`limits::RECHECK_MS`] of the last step of any mail, each with the last claim that a child held. What a
/// session took that had the name before is in a thread that nobody here reads.
fn consumed_last(db: &rusqlite::Connection) -> Result<Vec<(i64, ClaimId)>, StoreError> {
    let sql = "SELECT DISTINCT d.id, (SELECT c.id FROM claim_mails l JOIN claims c ON c.id = l.claim
                      WHERE l.delivery = d.id AND c.child IS NOT NULL AND c.opened_at >= s.created_at
                      ORDER BY c.opened_at DESC, c.id DESC LIMIT 1) AS claim
               FROM transitions t JOIN deliveries d ON d.id = t.delivery JOIN sessions s ON s.name = d.recipient
               WHERE t.state = 'consumed' AND d.state = 'consumed' AND claim IS NOT NULL
                 AND t.at >= (SELECT at FROM transitions ORDER BY rowid DESC LIMIT 1) - ?1";
    let mut statement = db.prepare(sql)?;
    let rows = statement
        .query_map([limits::RECHECK_MS], |row| Ok((row.get(0)?, row.get::<_, Col<ClaimId>>(1)?.0)))?;
    rows.collect::<Result<_, _>>().map_err(StoreError::from)
}
