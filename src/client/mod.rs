//! The client: a blocking connection to the relay, started first if nobody has.
//!
//! **Invariant:** a client never touches the store, the relay's lock or its socket's path; it connects, or it starts.

mod connection;
pub mod selftest;
mod start;

pub use connection::{CallError, Connection};
pub use start::{Reached, Target, catch_interrupt, params};
