//! Starting: which bundle, where its files are, the two locks, how a process is started detached, kept or traced, and who is
//! who in `/proc`.
//!
//! Plain blocking code, used by the relay and by its clients.
//!
//! **Invariant:** nobody probes a lock by taking it, and nothing is decided by a pid alone.

pub mod bundle;
pub mod config;
pub mod descent;
pub mod environment;
pub mod filesystem;
pub mod holder;
pub mod keeper;
pub mod lock;
pub mod process;
pub mod program;
pub mod project;
pub mod spawn;
pub mod statedir;
pub mod terminal;
pub mod tracer;
pub mod wait;
