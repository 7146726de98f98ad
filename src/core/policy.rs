//! Policy: the numbers of delivery that a person may set. What nothing was said about has the default.

use crate::model::limits;

/// See the header of this file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// How long normal mail waits for an idle session before it may join a running turn.
    pub patience_ms: i64,
    /// Mails of agents in a row, each answering the one before, that go by without a word of the operator.
    pub brake_hops: u32,
    /// Mails of one agent to one other, in a minute.
    pub brake_pair_per_minute: usize,
    /// Mails of agents in one conversation, in a minute.
    pub brake_thread_per_minute: usize,
    /// Sessions that mail may have woken at once.
    pub wake_max: usize,
    /// How long an approval waits for a person before it is declined; `None` for ever.
    pub approval_ms: Option<i64>,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            patience_ms: limits::PATIENCE_MS,
            brake_hops: limits::BRAKE_HOPS,
            brake_pair_per_minute: limits::BRAKE_PAIR_PER_MINUTE,
            brake_thread_per_minute: limits::BRAKE_THREAD_PER_MINUTE,
            wake_max: limits::WAKE_MAX,
            approval_ms: Some(limits::APPROVAL_MS),
        }
    }
}
