//! The store: everything durable, in one SQLite file that only the relay opens.
//!
//! WAL with `synchronous=FULL` and one transaction per lap: `begin` (by the first write), any number of `apply` and look-ups,
//! one `commit`. `locking_mode=EXCLUSIVE` keeps a second process out, below the relay's own lock.
//!
//! **Invariant:** what `commit` returned `Ok` for survives `kill -9` and power loss.
//! **Invariant:** `load` after any commit equals the core's ledger (G9).
//!
//! Deliberately absent: decisions. Records are written as they are.

mod apply;
mod history;
mod load;
mod lookup;
mod query;
mod reboot;
mod schema;
mod search;
mod sql;

use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::core::record::Record;

/// An open store.
#[derive(Debug)]
pub struct Store {
    db: Connection,
    writing: bool,
}

/// Why the store failed: what, then SQLite's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreError(pub String);

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> StoreError {
        StoreError(error.to_string())
    }
}

impl Store {
    /// Opens the store at `path`, which exists with its mode checked, and brings it to this program's version.
    ///
    /// # Errors
    /// When SQLite cannot open, lock or migrate the file.
    pub fn open(path: &Path) -> Result<Store, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut db = Connection::open_with_flags(path, flags)?;
        db.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        let mode: String = db.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        if mode != "wal" {
            return Err(StoreError(format!(
                "its file system cannot keep a write-ahead log (journal mode {mode})"
            )));
        }
        db.pragma_update(None, "synchronous", "FULL")?;
        db.pragma_update(None, "foreign_keys", "ON")?;
        db.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
        // A page that many mails change is copied into the file once for all of them.
        db.pragma_update(None, "wal_autocheckpoint", 4_000)?;
        db.set_prepared_statement_cache_capacity(64);
        // Without it SQLite compiles a prepared statement anew for each new set of bound values, in case another plan fits them better.
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        schema::migrate(&mut db).map_err(StoreError)?;
        Ok(Store { db, writing: false })
    }

    /// Applies one record to the lap's transaction, which begins with the first one.
    ///
    /// # Errors
    /// When SQLite refuses; the lap must then not be released.
    pub fn apply(&mut self, record: &Record) -> Result<(), StoreError> {
        if !self.writing {
            self.db.execute_batch("BEGIN IMMEDIATE")?;
            self.writing = true;
        }
        apply::apply(&self.db, record)?;
        Ok(())
    }

    /// Commits the lap's transaction, if there is one; only then may its actions be released.
    ///
    /// # Errors
    /// When SQLite cannot make it durable.
    pub fn commit(&mut self) -> Result<(), StoreError> {
        if std::mem::take(&mut self.writing) {
            self.db.execute_batch("COMMIT")?;
        }
        Ok(())
    }
}
