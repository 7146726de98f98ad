//! Writes one record into the open transaction; the twin of `Ledger::apply`.

use rusqlite::{Connection, params};

use super::sql::Col;
use crate::core::record::Record;
use crate::model::clock::Millis;
use crate::model::id::{ClaimId, TurnId, approval_id};
use crate::model::limits;
use crate::model::mail::{DeliveryState, Mail};
use crate::model::name::Name;
use crate::model::session::Session;

pub(super) fn apply(db: &Connection, record: &Record) -> rusqlite::Result<()> {
    match record {
        Record::SessionSpawned(session) | Record::SessionConfigured(session) => put_session(db, session),
        Record::SessionWanted { name, wanted, after } => {
            let sql = "UPDATE sessions SET wanted = ?2, stopped_after = ?3 WHERE name = ?1";
            run(db, sql, params![name.as_str(), wanted.as_str(), after.0])
        }
        Record::SessionSummarised { name, summary } => {
            run(db, "UPDATE sessions SET summary = ?2 WHERE name = ?1", params![name.as_str(), summary])
        }
        Record::SessionHeld { name, until } => {
            let sql = "UPDATE sessions SET held_until = ?2 WHERE name = ?1";
            run(db, sql, params![name.as_str(), until.map(|until| until.0)])
        }
        Record::SessionBlocked { name, until } => {
            let sql = "UPDATE sessions SET blocked_until = ?2 WHERE name = ?1";
            run(db, sql, params![name.as_str(), until.map(|until| until.0)])
        }
        Record::ThreadBound { name, thread } => {
            run(db, "UPDATE sessions SET thread = ?2 WHERE name = ?1", params![name.as_str(), &**thread])
        }
        Record::SessionRemoved { name } => {
            run(db, "DELETE FROM tokens WHERE session = ?1", params![name.as_str()])?;
            run(db, "DELETE FROM sessions WHERE name = ?1", params![name.as_str()])
        }
        Record::TokenIssued { session, child, hash } => {
            let sql = "DELETE FROM tokens WHERE session = ?1 AND child <> ?2";
            run(db, sql, params![session.as_str(), Col(*child)])?;
            let sql = "INSERT INTO tokens (session, child, hash) VALUES (?1, ?2, ?3)";
            run(db, sql, params![session.as_str(), Col(*child), Col(*hash)])?;
            let sql = "DELETE FROM tokens WHERE row = (SELECT row FROM tokens WHERE session = ?1 ORDER BY row LIMIT 1 OFFSET 1)
                       AND (SELECT count(*) FROM tokens WHERE session = ?1) > ?2";
            run(db, sql, params![session.as_str(), limits::TOKENS_PER_SESSION_MAX as i64])
        }
        Record::TokenUsed { session, hash } => {
            let sql = "DELETE FROM tokens WHERE session = ?1 AND hash <> ?2";
            run(db, sql, params![session.as_str(), Col(*hash)])?;
            run(db, "UPDATE tokens SET used = 1 WHERE session = ?1", params![session.as_str()])
        }
        Record::NameClaimed { name, hash, epoch, at, by, taken_over } => {
            let sql =
                "INSERT INTO outsiders (name, hash, epoch, held, since, by) VALUES (?1, ?2, ?3, 1, ?4, ?5)
                       ON CONFLICT (name) DO UPDATE SET hash = ?2, epoch = ?3, held = 1, since = ?4, by = ?5";
            run(db, sql, params![name.as_str(), Col(*hash), *epoch as i64, at.0, by])?;
            let sql = "INSERT INTO name_claims (at, name, epoch, by, taken_over) VALUES (?1, ?2, ?3, ?4, ?5)";
            run(db, sql, params![at.0, name.as_str(), *epoch as i64, by, taken_over])?;
            run(
                db,
                "DELETE FROM name_claims WHERE row <= last_insert_rowid() - ?1",
                params![limits::NAME_CLAIMS_KEPT],
            )
        }
        Record::NameReleased { name, at } => {
            let sql = "UPDATE outsiders SET held = 0, since = ?2 WHERE name = ?1";
            run(db, sql, params![name.as_str(), at.0])
        }
        Record::NameRemoved { name } => {
            run(db, "DELETE FROM outsiders WHERE name = ?1", params![name.as_str()])
        }
        Record::MailAccepted { mail, deliveries } => {
            insert_mail(db, mail)?;
            for (id, to) in deliveries {
                let state = Col(DeliveryState::Queued);
                let sql = "INSERT INTO deliveries (id, mail, recipient, state) VALUES (?1, ?2, ?3, ?4)";
                run(db, sql, params![id.0, Col(mail.id), to.as_str(), state])?;
            }
            Ok(())
        }
        Record::DeliveryMoved { delivery, to, at, turn, note } => {
            let (turn, note) = (turn.as_deref(), note.as_deref());
            let sql = "UPDATE deliveries SET state = ?2, turn = coalesce(?3, turn), note = ?4, braked = 0 WHERE id = ?1";
            run(db, sql, params![delivery.0, Col(*to), turn, note])?;
            if *to == DeliveryState::Consumed {
                let sql = "UPDATE sessions SET consumed_at = ?2
                           WHERE name = (SELECT recipient FROM deliveries WHERE id = ?1)";
                run(db, sql, params![delivery.0, at.0])?;
            }
            insert_transition(db, delivery.0, *to, *at, turn, note)
        }
        Record::DeliveryBraked { delivery, at, note } => {
            run(db, "UPDATE deliveries SET braked = 1, note = ?2 WHERE id = ?1", params![delivery.0, note])?;
            insert_transition(db, delivery.0, DeliveryState::Queued, *at, None, Some(note))
        }
        Record::DeliveryReleased { delivery, at } => {
            run(db, "UPDATE deliveries SET braked = 0, note = NULL WHERE id = ?1", params![delivery.0])?;
            let sql = "UPDATE mails SET hops = 0 WHERE id = (SELECT mail FROM deliveries WHERE id = ?1)";
            run(db, sql, params![delivery.0])?;
            let note = Some("released by the operator");
            insert_transition(db, delivery.0, DeliveryState::Queued, *at, None, note)
        }
        Record::DeliveryAcked { delivery, at, note } => {
            let (state, note) = (DeliveryState::Acked, note.as_deref());
            let sql = "UPDATE deliveries SET state = ?2, note = ?3 WHERE id = ?1";
            run(db, sql, params![delivery.0, Col(state), note])?;
            insert_transition(db, delivery.0, state, *at, None, note)
        }
        Record::DeliveryRevived { delivery, at, note, .. } => {
            let (state, note) = (DeliveryState::Queued, note.as_deref());
            let sql = "UPDATE deliveries SET state = ?2, note = ?3, revived = 1, discarded = 0 WHERE id = ?1";
            run(db, sql, params![delivery.0, Col(state), note])?;
            insert_transition(db, delivery.0, state, *at, None, note)
        }
        Record::DeadDiscarded { deliveries } => deliveries
            .iter()
            .try_for_each(|id| run(db, "UPDATE deliveries SET discarded = 1 WHERE id = ?1", params![id.0])),
        Record::ClaimOpened { claim, session, child, deliveries, at } => {
            let sql = "INSERT INTO claims (id, session, child, opened_at) VALUES (?1, ?2, ?3, ?4)";
            run(db, sql, params![Col(*claim), session.as_str(), child.map(Col), at.0])?;
            for (position, delivery) in deliveries.iter().enumerate() {
                let sql = "INSERT INTO claim_mails (claim, position, delivery) VALUES (?1, ?2, ?3)";
                run(db, sql, params![Col(*claim), position as i64, delivery.0])?;
            }
            Ok(())
        }
        Record::ClaimNoted { claim, at, turn, note } => note_claim(db, *claim, *at, turn.as_ref(), note),
        Record::ClaimEnded { claim, at } => {
            run(db, "UPDATE claims SET ended_at = ?2 WHERE id = ?1", params![Col(*claim), at.0])
        }
        Record::ChildIntended(child) => {
            let sql = "INSERT INTO children (nonce, key, slot, pid, since) VALUES (?1, ?2, ?3, ?4, ?5)";
            run(db, sql, params![Col(child.nonce), child.key.0 as i64, child.slot, child.pid, child.since.0])
        }
        Record::ChildStarted { nonce, pid } => {
            run(db, "UPDATE children SET pid = ?2 WHERE nonce = ?1", params![Col(*nonce), pid])
        }
        Record::ChildEnded { nonce, at, why } => {
            let sql = "UPDATE children SET ended_at = ?2, why = ?3 WHERE nonce = ?1";
            run(db, sql, params![Col(*nonce), at.0, why])?;
            run(db, "DELETE FROM tokens WHERE child = ?1", params![Col(*nonce)])?;
            // What it asked, it no longer asks; a relay that crashed meanwhile has not settled it.
            let sql =
                "UPDATE approvals SET settled_at = ?2, decision = 'elsewhere', settled_by = 'elsewhere', reason = 'its child ended'
                       WHERE settled_at IS NULL AND key LIKE ?1 || '/%'";
            run(db, sql, params![nonce.to_string(), at.0])
        }
        Record::ApprovalAsked { session, key, kind, summary, at } => {
            // A child that asks again has not had the answer; then it is open again.
            let sql =
                "INSERT INTO approvals (key, session, kind, summary, asked_at, id) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                       ON CONFLICT (key) DO UPDATE SET session = ?2, kind = ?3, summary = ?4, asked_at = ?5, settled_at = NULL, decision = NULL, reason = NULL, settled_by = NULL";
            run(db, sql, params![key, session.as_str(), kind, summary, at.0, approval_id(key)])
        }
        Record::ApprovalSettled { key, decision, by, reason, at, .. } => {
            // One that an older version stored has no id yet.
            let sql =
                "UPDATE approvals SET settled_at = ?2, decision = ?3, reason = ?4, settled_by = ?5, id = ?6
                       WHERE key = ?1 AND settled_at IS NULL";
            run(db, sql, params![key, at.0, decision, reason, by, approval_id(key)])
        }
    }
}

fn run(db: &Connection, sql: &str, params: impl rusqlite::Params) -> rusqlite::Result<()> {
    db.prepare_cached(sql)?.execute(params).map(|_| ())
}

fn put_session(db: &Connection, session: &Session) -> rusqlite::Result<()> {
    let setup = &session.setup;
    run(
        db,
        "INSERT OR REPLACE INTO sessions (name, coder, program, child_key, dir, instructions, model, sandbox, approval, thread, wanted, created_at, held_until, wake, stopped_after, isolated, skills_in_mail, summary, blocked_until, consumed_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)",
        params![
            session.name.as_str(),
            session.coder.as_str(),
            session.program,
            session.child_key.0 as i64,
            setup.dir,
            setup.instructions,
            setup.model,
            setup.sandbox,
            setup.approval,
            session.thread.as_deref(),
            session.wanted.as_str(),
            session.created_at.0,
            session.held_until.map(|until| until.0),
            session.wake,
            session.stopped_after,
            session.isolated,
            session.skills_in_mail,
            session.summary,
            session.blocked_until.map(|until| until.0),
            session.consumed_at.map(|at| at.0),
        ],
    )
}

fn insert_mail(db: &Connection, mail: &Mail) -> rusqlite::Result<()> {
    run(
        db,
        "INSERT INTO mails (id, sender, sender_kind, recipients, subject, body, reply_to, thread, priority, key, expires_at, sent_at, tag, at_when, hops)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
        params![
            Col(mail.id),
            mail.from.as_str(),
            Col(mail.from_kind),
            mail.to.iter().map(Name::as_str).collect::<Vec<_>>().join(" "),
            mail.subject,
            mail.body,
            mail.reply_to.map(Col),
            Col(mail.thread),
            Col(mail.priority),
            mail.key,
            mail.expires_at.map(|at| at.0),
            mail.sent_at.0,
            mail.tag,
            mail.when.map(Col),
            mail.hops,
        ],
    )
}

fn insert_transition(
    db: &Connection,
    delivery: i64,
    state: DeliveryState,
    at: Millis,
    turn: Option<&str>,
    note: Option<&str>,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO transitions (delivery, state, at, turn, note) VALUES (?1, ?2, ?3, ?4, ?5)";
    run(db, sql, params![delivery, Col(state), at.0, turn, note])
}

/// Notes stand in the history of every mail of the claim, beside the state that it is in.
fn note_claim(
    db: &Connection,
    claim: ClaimId,
    at: Millis,
    turn: Option<&TurnId>,
    note: &str,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO transitions (delivery, state, at, turn, note)
               SELECT d.id, d.state, ?2, ?3, ?4 FROM claim_mails c JOIN deliveries d ON d.id = c.delivery WHERE c.claim = ?1";
    run(db, sql, params![Col(claim), at.0, turn.map(|turn| &**turn), note])
}
