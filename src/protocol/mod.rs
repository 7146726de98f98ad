//! The wire contract of the relay: the verb table, requests as types, answers as types.
//!
//! **Invariant:** pure. What is not in `verb.rs` or `request/` is no method.

pub mod answer;
pub mod check;
pub mod request;
pub mod verb;

/// Lowest protocol version that this program speaks.
pub const PROTOCOL_MIN: u32 = 1;
/// Highest protocol version that this program speaks.
pub const PROTOCOL_MAX: u32 = 1;
/// This program's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
