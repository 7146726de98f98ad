//! The tables of `mail.db`, and the steps from one version of them to the next.
//!
//! **Invariant:** `user_version` is the number of steps that have been taken; a step, once released, is never edited.

use rusqlite::Connection;

/// One step per version. The first makes the tables of version 1. Then: holding, brakes, reviving and search, and the acceptance of
/// a mail is no longer kept as a step; approvals get an id to type, and who settled them; a session may have a child of its own, and
/// skills in its mail; the history can be read from its end; hashes of tokens and the names of outside agents are kept;
/// claims of names are in the history; that an account cannot run outlives the relay, and when mail last went in is kept.
const STEPS: &[&str] = &["
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID, STRICT;
CREATE TABLE sessions (
    name TEXT PRIMARY KEY, coder TEXT NOT NULL, program TEXT NOT NULL, child_key INTEGER NOT NULL, dir TEXT NOT NULL,
    instructions TEXT, model TEXT, sandbox TEXT, approval TEXT, thread TEXT, wanted TEXT NOT NULL, created_at INTEGER NOT NULL
) WITHOUT ROWID, STRICT;
CREATE TABLE mails (
    id BLOB PRIMARY KEY, sender TEXT NOT NULL, sender_kind TEXT NOT NULL, recipients TEXT NOT NULL, subject TEXT,
    body TEXT NOT NULL, reply_to BLOB, thread BLOB NOT NULL, priority TEXT NOT NULL, key TEXT, expires_at INTEGER,
    sent_at INTEGER NOT NULL, tag INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX mails_by_key ON mails (sender, key) WHERE key IS NOT NULL;
CREATE INDEX mails_by_parent ON mails (reply_to) WHERE reply_to IS NOT NULL;
CREATE TABLE deliveries (
    id INTEGER PRIMARY KEY AUTOINCREMENT, mail BLOB NOT NULL REFERENCES mails (id), recipient TEXT NOT NULL,
    state TEXT NOT NULL, turn TEXT, note TEXT
) STRICT;
CREATE INDEX deliveries_by_mail ON deliveries (mail);
CREATE INDEX deliveries_by_recipient ON deliveries (recipient, id);
CREATE INDEX deliveries_open ON deliveries (id) WHERE state IN ('queued', 'claimed', 'submitted', 'unknown');
CREATE INDEX deliveries_dead ON deliveries (id) WHERE state IN ('expired', 'failed');
CREATE TABLE claims (
    id BLOB PRIMARY KEY, session TEXT NOT NULL, child BLOB, opened_at INTEGER NOT NULL, ended_at INTEGER
) WITHOUT ROWID, STRICT;
CREATE INDEX claims_open ON claims (id) WHERE ended_at IS NULL;
CREATE TABLE claim_mails (
    claim BLOB NOT NULL REFERENCES claims (id), position INTEGER NOT NULL, delivery INTEGER NOT NULL REFERENCES deliveries (id),
    PRIMARY KEY (claim, position)
) WITHOUT ROWID, STRICT;
CREATE INDEX claim_mails_by_delivery ON claim_mails (delivery);
CREATE TABLE transitions (
    delivery INTEGER NOT NULL REFERENCES deliveries (id), state TEXT NOT NULL, at INTEGER NOT NULL, turn TEXT, note TEXT
) STRICT;
CREATE INDEX transitions_by_delivery ON transitions (delivery);
CREATE TABLE children (
    nonce BLOB PRIMARY KEY, key INTEGER NOT NULL, slot INTEGER NOT NULL, pid INTEGER, since INTEGER NOT NULL,
    ended_at INTEGER, why TEXT
) WITHOUT ROWID, STRICT;
CREATE INDEX children_living ON children (nonce) WHERE ended_at IS NULL;
CREATE TABLE approvals (
    key TEXT PRIMARY KEY, session TEXT NOT NULL, kind TEXT NOT NULL, summary TEXT NOT NULL, asked_at INTEGER NOT NULL,
    settled_at INTEGER, decision TEXT, reason TEXT
) STRICT;
CREATE INDEX approvals_open ON approvals (key) WHERE settled_at IS NULL;
", "
ALTER TABLE mails ADD COLUMN at_when TEXT;
ALTER TABLE mails ADD COLUMN hops INTEGER NOT NULL DEFAULT 0;
ALTER TABLE deliveries ADD COLUMN braked INTEGER NOT NULL DEFAULT 0;
ALTER TABLE deliveries ADD COLUMN revived INTEGER NOT NULL DEFAULT 0;
ALTER TABLE deliveries ADD COLUMN discarded INTEGER NOT NULL DEFAULT 0;
DELETE FROM transitions WHERE rowid IN (SELECT min(rowid) FROM transitions GROUP BY delivery);
DROP INDEX deliveries_dead;
CREATE INDEX deliveries_dead ON deliveries (id) WHERE state IN ('expired', 'failed') AND discarded = 0;
ALTER TABLE sessions ADD COLUMN held_until INTEGER;
ALTER TABLE sessions ADD COLUMN wake INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN stopped_after INTEGER NOT NULL DEFAULT 0;
CREATE VIRTUAL TABLE search USING fts5 (subject, body, content = '', contentless_delete = 1);
", "
ALTER TABLE approvals ADD COLUMN id TEXT NOT NULL DEFAULT '';
ALTER TABLE approvals ADD COLUMN settled_by TEXT;
CREATE INDEX approvals_by_id ON approvals (id);
", "
ALTER TABLE sessions ADD COLUMN isolated INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN skills_in_mail INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN summary TEXT;
", "
CREATE INDEX approvals_by_asked ON approvals (asked_at);
CREATE INDEX approvals_by_settled ON approvals (settled_at);
CREATE INDEX children_by_since ON children (since);
CREATE INDEX children_by_ended ON children (ended_at);
", "
CREATE TABLE tokens (
    row INTEGER PRIMARY KEY AUTOINCREMENT, session TEXT NOT NULL, child BLOB NOT NULL, hash BLOB NOT NULL, used INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE outsiders (
    name TEXT PRIMARY KEY, hash BLOB NOT NULL, epoch INTEGER NOT NULL, held INTEGER NOT NULL, since INTEGER NOT NULL, by TEXT NOT NULL
) WITHOUT ROWID, STRICT;
", "
CREATE TABLE name_claims (
    row INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, name TEXT NOT NULL, epoch INTEGER NOT NULL, by TEXT NOT NULL,
    taken_over INTEGER NOT NULL
) STRICT;
CREATE INDEX name_claims_by_at ON name_claims (at);
", "
ALTER TABLE sessions ADD COLUMN blocked_until INTEGER;
ALTER TABLE sessions ADD COLUMN consumed_at INTEGER;
"];

/// The version that this program writes.
pub const VERSION: i64 = STEPS.len() as i64;

/// Takes the missing steps, all in one transaction.
///
/// # Errors
/// What SQLite says, or a sentence when the file is newer than this program.
pub fn migrate(db: &mut Connection) -> Result<(), String> {
    let found: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(|e| e.to_string())?;
    if found == VERSION {
        return Ok(());
    }
    if !(0..VERSION).contains(&found) {
        return Err(format!("its version is {found}, this program knows versions up to {VERSION}"));
    }
    let steps = db.transaction().map_err(|e| e.to_string())?;
    for step in &STEPS[found as usize..] {
        steps.execute_batch(step).map_err(|e| e.to_string())?;
    }
    steps.pragma_update(None, "user_version", VERSION).map_err(|e| e.to_string())?;
    steps.commit().map_err(|e| e.to_string())
}
