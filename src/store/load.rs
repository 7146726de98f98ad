//! Loads the ledger from the tables, when a relay starts and whenever a test compares the two.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, Row};

use super::sql::Col;
use super::{Store, StoreError};
use crate::core::ledger::{Claim, Delivery, Ledger, OpenApproval, Outsider, Tokens};
use crate::core::record::DeliveryId;
use crate::model::id::{ClaimId, MailId, Nonce};
use crate::model::mail::{DeliveryState, Priority, When};
use crate::model::name::Name;
use crate::model::session::{Child, ChildKey, Coder, Session, ThreadSetup, Wanted};
use crate::model::token::TokenHash;

impl Store {
    /// Loads the ledger.
    ///
    /// # Errors
    /// When SQLite fails or a row does not fit its type.
    pub fn load(&self) -> Result<Ledger, StoreError> {
        let mut ledger = Ledger::default();
        self.each("SELECT * FROM sessions", |row| {
            let session = session(row)?;
            ledger.sessions.insert(session.name.clone(), session);
            Ok(())
        })?;
        self.each("SELECT nonce, key, slot, pid, since FROM children WHERE ended_at IS NULL", |row| {
            let child = child(row)?;
            ledger.children.insert(child.nonce, child);
            Ok(())
        })?;
        self.each("SELECT key, session, asked_at FROM approvals WHERE settled_at IS NULL", |row| {
            let session = row.get::<_, Col<Name>>(1)?.0;
            let open = OpenApproval { session, asked_at: row.get::<_, Col<_>>(2)?.0 };
            ledger.approvals.insert(row.get(0)?, open);
            Ok(())
        })?;
        self.each("SELECT session, child, used, hash FROM tokens ORDER BY row", |row| {
            let fresh =
                Tokens { child: row.get::<_, Col<Nonce>>(1)?.0, used: row.get(2)?, hashes: Vec::new() };
            let tokens = ledger.tokens.entry(row.get::<_, Col<Name>>(0)?.0).or_insert(fresh);
            tokens.hashes.push(row.get::<_, Col<TokenHash>>(3)?.0);
            Ok(())
        })?;
        self.each("SELECT name, hash, epoch, held, since FROM outsiders", |row| {
            let outsider = Outsider {
                hash: row.get::<_, Col<_>>(1)?.0,
                epoch: row.get::<_, i64>(2)? as u64,
                held: row.get(3)?,
                since: row.get::<_, Col<_>>(4)?.0,
            };
            ledger.outsiders.insert(row.get::<_, Col<Name>>(0)?.0, outsider);
            Ok(())
        })?;
        let mut claims_of = self.claims_of_open_deliveries()?;
        let open = "SELECT d.id, d.mail, d.recipient, m.sender, m.priority, length(CAST(m.body AS BLOB)), m.sent_at, CASE WHEN d.revived THEN NULL ELSE m.expires_at END, d.state, m.at_when, d.braked
                    FROM deliveries d JOIN mails m ON m.id = d.mail
                    WHERE d.state IN ('queued', 'claimed', 'submitted', 'unknown')";
        self.each(open, |row| {
            let id = DeliveryId(row.get(0)?);
            ledger.restore(id, delivery(row, claims_of.remove(&id).unwrap_or_default())?);
            Ok(())
        })?;
        self.load_claims(&mut ledger)?;
        let last =
            self.db
                .query_row("SELECT seq FROM sqlite_sequence WHERE name = 'deliveries'", [], |row| row.get(0));
        ledger.last_delivery = last.optional()?.unwrap_or(0);
        Ok(ledger)
    }

    fn claims_of_open_deliveries(&self) -> Result<BTreeMap<DeliveryId, Vec<ClaimId>>, StoreError> {
        let mut claims_of: BTreeMap<DeliveryId, Vec<ClaimId>> = BTreeMap::new();
        let sql = "SELECT d.id, c.id FROM deliveries d JOIN claim_mails l ON l.delivery = d.id JOIN claims c ON c.id = l.claim
                   WHERE d.state IN ('queued', 'claimed', 'submitted', 'unknown') ORDER BY c.ended_at IS NULL, c.opened_at, c.id";
        self.each(sql, |row| {
            claims_of.entry(DeliveryId(row.get(0)?)).or_default().push(row.get::<_, Col<ClaimId>>(1)?.0);
            Ok(())
        })?;
        Ok(claims_of)
    }

    /// Claims that are open, or have a mail that is.
    fn load_claims(&self, ledger: &mut Ledger) -> Result<(), StoreError> {
        let sql =
            "SELECT id, session, child, opened_at, ended_at FROM claims WHERE ended_at IS NULL OR id IN (
                       SELECT l.claim FROM claim_mails l JOIN deliveries d ON d.id = l.delivery
                       WHERE d.state IN ('queued', 'claimed', 'submitted', 'unknown'))";
        let mut claims = Vec::new();
        self.each(sql, |row| {
            claims.push(claim(row)?);
            Ok(())
        })?;
        for (id, mut claim) in claims {
            claim.deliveries = self.deliveries_of(id)?;
            ledger.claims.insert(id, claim);
        }
        Ok(())
    }

    /// The claims that the deliveries of a mail were ever in, oldest first.
    ///
    /// # Errors
    /// When SQLite fails or a row does not fit its type.
    pub fn claims_of(&self, mail: MailId) -> Result<Vec<(DeliveryId, ClaimId, Claim)>, StoreError> {
        let sql = "SELECT c.id, c.session, c.child, c.opened_at, c.ended_at, d.id
                   FROM deliveries d JOIN claim_mails l ON l.delivery = d.id JOIN claims c ON c.id = l.claim
                   WHERE d.mail = ?1 ORDER BY c.ended_at IS NULL, c.opened_at, c.id";
        let mut by_mail = self.db.prepare_cached(sql)?;
        let rows = by_mail.query_map([Col(mail)], |row| {
            let (id, claim) = claim(row)?;
            Ok((DeliveryId(row.get(5)?), id, claim))
        })?;
        let mut found = rows.collect::<Result<Vec<_>, _>>()?;
        for (_, id, claim) in &mut found {
            claim.deliveries = self.deliveries_of(*id)?;
        }
        Ok(found)
    }

    fn deliveries_of(&self, claim: ClaimId) -> Result<Vec<DeliveryId>, StoreError> {
        let mut by_claim =
            self.db.prepare_cached("SELECT delivery FROM claim_mails WHERE claim = ?1 ORDER BY position")?;
        let rows = by_claim.query_map([Col(claim)], |row| row.get(0).map(DeliveryId))?;
        rows.collect::<Result<_, _>>().map_err(StoreError::from)
    }

    fn each(
        &self,
        sql: &str,
        mut each: impl FnMut(&Row<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), StoreError> {
        let mut statement = self.db.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            each(row)?;
        }
        Ok(())
    }
}

fn session(row: &Row<'_>) -> rusqlite::Result<Session> {
    let wanted: String = row.get("wanted")?;
    Ok(Session {
        name: row.get::<_, Col<Name>>("name")?.0,
        coder: Coder::Codex,
        program: row.get("program")?,
        child_key: ChildKey(row.get::<_, i64>("child_key")? as u64),
        setup: ThreadSetup {
            dir: row.get("dir")?,
            instructions: row.get("instructions")?,
            model: row.get("model")?,
            sandbox: row.get("sandbox")?,
            approval: row.get("approval")?,
        },
        thread: row.get::<_, Option<String>>("thread")?.map(Into::into),
        wanted: if wanted == Wanted::Up.as_str() { Wanted::Up } else { Wanted::Down },
        created_at: row.get::<_, Col<_>>("created_at")?.0,
        held_until: row.get::<_, Option<Col<_>>>("held_until")?.map(|until| until.0),
        blocked_until: row.get::<_, Option<Col<_>>>("blocked_until")?.map(|until| until.0),
        consumed_at: row.get::<_, Option<Col<_>>>("consumed_at")?.map(|at| at.0),
        wake: row.get("wake")?,
        isolated: row.get("isolated")?,
        skills_in_mail: row.get("skills_in_mail")?,
        summary: row.get("summary")?,
        stopped_after: row.get("stopped_after")?,
    })
}

/// Reads the first five columns of a claim; its mails are read apart.
fn claim(row: &Row<'_>) -> rusqlite::Result<(ClaimId, Claim)> {
    let claim = Claim {
        session: row.get::<_, Col<Name>>(1)?.0,
        child: row.get::<_, Option<Col<Nonce>>>(2)?.map(|nonce| nonce.0),
        deliveries: Vec::new(),
        opened_at: row.get::<_, Col<_>>(3)?.0,
        ended: row.get::<_, Option<i64>>(4)?.is_some(),
    };
    Ok((row.get::<_, Col<ClaimId>>(0)?.0, claim))
}

fn child(row: &Row<'_>) -> rusqlite::Result<Child> {
    Ok(Child {
        nonce: row.get::<_, Col<Nonce>>(0)?.0,
        key: ChildKey(row.get::<_, i64>(1)? as u64),
        slot: row.get(2)?,
        pid: row.get(3)?,
        since: row.get::<_, Col<_>>(4)?.0,
    })
}

fn delivery(row: &Row<'_>, claims: Vec<ClaimId>) -> rusqlite::Result<Delivery> {
    Ok(Delivery {
        mail: row.get::<_, Col<MailId>>(1)?.0,
        to: row.get::<_, Col<Name>>(2)?.0,
        from: row.get::<_, Col<Name>>(3)?.0,
        priority: row.get::<_, Col<Priority>>(4)?.0,
        bytes: row.get(5)?,
        sent_at: row.get::<_, Col<_>>(6)?.0,
        expires_at: row.get::<_, Option<Col<_>>>(7)?.map(|at| at.0),
        state: row.get::<_, Col<DeliveryState>>(8)?.0,
        when: row.get::<_, Option<Col<When>>>(9)?.map(|when| when.0),
        braked: row.get(10)?,
        claims,
    })
}
