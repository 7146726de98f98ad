//! How long a screen has been without its child: Codex's screen gives up reconnecting after a while, and then has to be started again.
//!
//! Told by the connections that really lead through (`peek`), not by what the relay says of the child: relay and child may die together,
//! and a child that lives on through a relay's death was never away.
//!
//! **Invariant:** a screen that has a connection is never called stale, nor one that never had one: that one ends by itself.

use std::time::{Duration, Instant};

/// The connections of one screen to its child.
#[derive(Debug, Default)]
pub struct Absence {
    open: usize,
    /// Since when there has been none.
    since: Option<Instant>,
}

impl Absence {
    /// A connection leads through to the child.
    pub fn joined(&mut self) {
        self.open += 1;
        self.since = None;
    }

    /// A connection has ended.
    pub fn left(&mut self, now: Instant) {
        self.open = self.open.saturating_sub(1);
        if self.open == 0 {
            self.since = Some(now);
        }
    }

    /// Whether the screen has been without its child for so long that it tries no more.
    pub fn is_stale(&self, now: Instant, patience: Duration) -> bool {
        self.since.is_some_and(|since| now.saturating_duration_since(since) >= patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::limits;

    const PATIENCE: Duration = Duration::from_millis(limits::SCREEN_PATIENCE_MS);

    /// Some moments of a life, in milliseconds.
    fn at(ms: u64) -> Instant {
        static BEGIN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        *BEGIN.get_or_init(Instant::now) + Duration::from_millis(ms)
    }

    #[test]
    fn a_screen_is_stale_when_its_child_was_away_for_its_patience_and_no_sooner() {
        let mut absence = Absence::default();
        absence.joined();
        absence.left(at(5_000));
        assert!(!absence.is_stale(at(5_000 + limits::SCREEN_PATIENCE_MS - 1), PATIENCE));
        assert!(absence.is_stale(at(5_000 + limits::SCREEN_PATIENCE_MS), PATIENCE));
        assert!(absence.is_stale(at(3_600_000), PATIENCE), "and stays so until it is started again");
    }

    #[test]
    fn a_screen_that_came_back_in_time_is_not_stale_later() {
        let mut absence = Absence::default();
        for round in 0..5 {
            absence.joined();
            absence.left(at(round * 100_000));
        }
        assert!(
            !absence.is_stale(at(4 * 100_000 + limits::SCREEN_PATIENCE_MS - 1), PATIENCE),
            "counted anew"
        );
        absence.joined();
        assert!(!absence.is_stale(at(3_600_000), PATIENCE));
    }

    #[test]
    fn a_screen_with_any_connection_is_not_stale() {
        let mut absence = Absence::default();
        assert!(!absence.is_stale(at(3_600_000), PATIENCE), "it has not begun");
        absence.joined();
        absence.joined();
        absence.left(at(0));
        assert!(!absence.is_stale(at(3_600_000), PATIENCE));
        absence.left(at(10));
        assert!(absence.is_stale(at(10 + limits::SCREEN_PATIENCE_MS), PATIENCE));
    }
}
