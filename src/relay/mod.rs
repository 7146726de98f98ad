//! The relay: a plain mio shell around the pure core. One thread, one lap after the other (see `lap.rs`).
//!
//! **Invariant:** the shell has no policy; what it decides is only whether bytes fit and descriptors are what they must be.

mod channel;
mod child;
mod clients;
mod clock;
mod entropy;
mod feed;
mod hook;
mod kept;
mod lap;
mod link;
mod logfile;
mod names;
mod orphans;
mod perform;
mod resolve;
mod start;
mod sweep;
mod upkeep;
mod watch;

pub use start::{Options, run};
