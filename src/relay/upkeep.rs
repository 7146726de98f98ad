//! Upkeep between laps: the index is brought up to date for those who search, and finished mail is forgotten after its time. Both
//! in slices, so that nobody else waits.
//!
//! **Invariant:** nothing here touches mail that is not finished, nor what the ledger knows of it.

use super::lap::{Fatal, Relay};
use crate::model::clock::Millis;
use crate::model::fault::Fault;
use crate::model::id::ConnId;
use crate::model::limits;
use crate::store::StoreError;
use crate::wire::rpc::{self, Id, RpcError};

/// A search that waits for the index.
#[derive(Debug)]
pub struct Search {
    pub conn: ConnId,
    pub id: Id,
    pub text: String,
    pub limit: u32,
    pub at: Millis,
}

/// What there is to do.
#[derive(Debug, Default)]
pub struct Upkeep {
    searches: Vec<Search>,
    /// When finished mail is looked for again; `None` before the first time.
    forget_at: Option<Millis>,
    /// Whether the last look found as much as it may take at once.
    more_to_forget: bool,
}

impl Upkeep {
    /// Whether something was left for the next lap.
    pub fn is_due(&self) -> bool {
        !self.searches.is_empty() || self.more_to_forget
    }
}

impl Relay {
    /// Takes a search.
    pub(super) fn search(&mut self, search: Search) {
        if self.upkeep.searches.len() < limits::SEARCHES_MAX {
            return self.upkeep.searches.push(search);
        }
        let fault = Fault::busy(format!("search refused: {} searches wait already", limits::SEARCHES_MAX));
        self.clients.answer(search.conn, &rpc::refusal(Some(&search.id), &RpcError::of(&fault)));
    }

    /// Does one slice of what is due.
    pub(super) fn upkeep(&mut self, now: Millis) -> Result<(), Fatal> {
        let fatal = |error: StoreError| Fatal(format!("the store failed: {error}"));
        if !self.upkeep.searches.is_empty() && self.store.index_some().map_err(fatal)? {
            for search in std::mem::take(&mut self.upkeep.searches) {
                let line = match self.store.search(&search.text, search.limit, search.at) {
                    Ok(mails) => rpc::answer(&search.id, &mails),
                    Err(error) => {
                        let fault = Fault::io(format!("search failed: {error}"));
                        rpc::refusal(Some(&search.id), &RpcError::of(&fault))
                    }
                };
                self.clients.answer(search.conn, &line);
            }
        }
        let Some(retention_ms) = self.facts.retention_ms else { return Ok(()) };
        if self.upkeep.more_to_forget || self.upkeep.forget_at.is_none_or(|at| at <= now) {
            let count = self.store.forget_finished(now.plus(-retention_ms)).map_err(fatal)?;
            self.upkeep.more_to_forget = count >= limits::FORGET_MAILS_PER_SLICE;
            self.upkeep.forget_at = Some(now.plus(limits::FORGET_EVERY_MS));
        }
        Ok(())
    }
}
