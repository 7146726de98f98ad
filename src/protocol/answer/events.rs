//! What those who watch are answered; the events themselves follow as notifications.
//!
//! **Invariant:** a stream and a number name a place for ever; a relay never takes up another's stream.

use serde::{Deserialize, Serialize};

use crate::model::happening::Happening;

/// The answer to `events/subscribe`; events follow as notifications.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Subscribed {
    /// The relay's stream.
    pub stream: String,
    /// The number of the event before the first that follows.
    pub seq: u64,
}

/// The answer to `events/log`, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// What happened.
    pub events: Vec<Happening>,
}

/// The answer to `pane/report`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Nothing {}
