//! Connections that are lost one after the other: who comes back each time must not start for ever a relay that dies of it.
//!
//! **Invariant:** only losses in a row count, each of a connection younger than [`limits::WATCH_STEADY_MS`]: whoever watches for months
//! and sees a relay go now and then never meets the bound.

use std::time::{Duration, Instant};

use super::connection::Connection;
use super::start::Target;
use crate::model::fault::Fault;
use crate::model::limits;

/// See the header of this file.
#[derive(Debug)]
pub struct Losses<'a> {
    target: &'a Target,
    count: u32,
    /// When the last connection was made.
    since: Instant,
}

impl Losses<'_> {
    /// None yet; the first connection is made now.
    pub fn new(target: &Target) -> Losses<'_> {
        Losses { target, count: 0, since: Instant::now() }
    }

    /// A connection is lost: the next one, to a relay that is started if nobody has.
    ///
    /// # Errors
    /// `io` when too many were lost in a row; else as [`Target::reach_or_start`].
    pub fn again(&mut self) -> Result<Connection, Fault> {
        if self.is_too_many(Instant::now()) {
            let fault =
                Fault::io(format!("the relay cannot be heard: {} in a row have gone away", self.count));
            return Err(fault.hint(self.target.see_log()));
        }
        let next = self.target.reach_or_start()?;
        self.since = Instant::now();
        Ok(next)
    }

    fn is_too_many(&mut self, now: Instant) -> bool {
        let steady = Duration::from_millis(limits::WATCH_STEADY_MS);
        self.count = if now.saturating_duration_since(self.since) >= steady { 1 } else { self.count + 1 };
        self.count >= limits::CALL_LOST_MAX
    }
}
