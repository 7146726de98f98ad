//! Upkeep between laps: the index is brought up to date for those who search, and finished mail is forgotten after its time, both
//! in slices, so that nobody else waits; and the children's memory is looked at.
//!
//! **Invariant:** nothing here touches mail that is not finished, nor what the ledger knows of it.

use super::lap::Relay;
use crate::boot::process;
use crate::core::action::Page;
use crate::core::input::Input;
use crate::model::clock::Millis;
use crate::model::fault::Fault;
use crate::model::id::ConnId;
use crate::model::limits;
use crate::wire::rpc::{self, Id, RpcError};

/// A search that waits for the index.
#[derive(Debug)]
pub struct Search {
    pub conn: ConnId,
    pub id: Id,
    pub text: String,
    pub page: Page,
    pub at: Millis,
}

/// What there is to do.
#[derive(Debug, Default)]
pub struct Upkeep {
    searches: Vec<Search>,
    /// When the children are looked at next.
    weigh_at: Option<Millis>,
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

    /// Does one slice of what is due. On a disk that is nearly full nothing is indexed: who searches is answered from an index that is
    /// whole, and else refused.
    pub(super) fn upkeep(&mut self, now: Millis) {
        self.weigh_children(now);
        if self.upkeep.searches.is_empty() && !self.is_forgetting_due(now) {
            return;
        }
        if self.is_disk_low() {
            self.upkeep.more_to_forget = false;
            let may = match self.store.is_indexed() {
                Ok(true) => Ok(()),
                Ok(false) => Err(Fault::busy(
                    "search refused: the file system is nearly full, and newer mail is not indexed yet",
                )
                .hint("free some space")),
                Err(error) => Err(Fault::io(format!("search failed: {error}"))),
            };
            return self.answer_searches(&may);
        }
        if !self.upkeep.searches.is_empty() {
            match self.store.index_some() {
                Ok(false) => {}
                Ok(true) => self.answer_searches(&Ok(())),
                Err(error) => {
                    log::error!("indexing failed: {error}");
                    let fault = Fault::io(format!("search failed: {error}"));
                    self.answer_searches(&Err(fault));
                }
            }
        }
        if self.is_forgetting_due(now) {
            self.forget(now);
        }
    }

    /// When the children have to be looked at: while a turn runs, which may be silent for long and need ever more.
    pub(super) fn weighing_deadline(&self) -> Option<Millis> {
        self.upkeep.weigh_at.filter(|_| self.core.has_turn())
    }

    /// Looks how much memory the children have, and cuts what they complain of, once in a while as long as something happens or a
    /// turn runs.
    fn weigh_children(&mut self, now: Millis) {
        if self.upkeep.weigh_at.is_some_and(|at| at > now) {
            return;
        }
        self.upkeep.weigh_at = Some(now.plus(limits::MEMORY_EVERY_MS));
        self.children.bound_logs();
        let Some(most) = self.facts.child_bytes_max else { return };
        for child in self.core.ledger().children.values() {
            if let Some(bytes) = child.pid.and_then(process::rss_bytes).filter(|bytes| *bytes > most) {
                self.inputs.push(Input::ChildGrew { nonce: child.nonce, bytes, most });
            }
        }
    }

    /// Answers everybody who searches: with what is found, or with why nothing can be.
    fn answer_searches(&mut self, may: &Result<(), Fault>) {
        for search in std::mem::take(&mut self.upkeep.searches) {
            let found = may.clone().and_then(|()| {
                let found = self.store.search(&search.text, search.page, search.at);
                found.map_err(|error| Fault::io(format!("search failed: {error}")))
            });
            let line = match found {
                Ok(mails) => rpc::answer(&search.id, &mails),
                Err(fault) => rpc::refusal(Some(&search.id), &RpcError::of(&fault)),
            };
            self.clients.answer(search.conn, &line);
        }
    }

    fn is_forgetting_due(&self, now: Millis) -> bool {
        let due = self.upkeep.more_to_forget || self.upkeep.forget_at.is_none_or(|at| at <= now);
        due && self.facts.retention_ms.is_some()
    }

    fn forget(&mut self, now: Millis) {
        let Some(retention_ms) = self.facts.retention_ms else { return };
        // Whoever waits for the start of this relay is answered first.
        let first = self.upkeep.forget_at.replace(now.plus(limits::FORGET_EVERY_MS)).is_none();
        if first {
            self.upkeep.more_to_forget = true;
            return;
        }
        match self.store.forget_finished(now.plus(-retention_ms)) {
            Ok(count) => self.upkeep.more_to_forget = count >= limits::FORGET_MAILS_PER_SLICE,
            Err(error) => {
                log::error!("forgetting finished mail failed: {error}");
                self.upkeep.more_to_forget = false;
            }
        }
    }
}
