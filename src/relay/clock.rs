//! The relay's one clock: wall time that never goes backwards.
//!
//! **Invariant:** timers and timestamps of one relay's life are ordered, whatever somebody does to the wall clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::model::clock::Millis;

/// See the header of this file.
#[derive(Debug)]
pub struct Clock {
    base: Millis,
    started: Instant,
}

/// How far the wall may be ahead of us before we follow it (a laptop that slept).
const AHEAD_MS: i64 = 2_000;

impl Clock {
    /// Starts at the wall's time.
    pub fn new() -> Clock {
        Clock { base: wall(), started: Instant::now() }
    }

    /// The time now.
    pub fn now(&mut self) -> Millis {
        let now = self.base.plus(self.started.elapsed().as_millis() as i64);
        let wall = wall();
        if wall.since(now) > AHEAD_MS {
            *self = Clock { base: wall, started: Instant::now() };
            return wall;
        }
        now
    }
}

fn wall() -> Millis {
    Millis(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64))
}
