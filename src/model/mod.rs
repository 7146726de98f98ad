//! The nouns of agentmux and their limits: names, ids, mail, sessions, child commands and events, faults.
//!
//! **Invariant:** pure. Nothing here reads a clock, the environment or a file; ids and times are handed in.
//!
//! Deliberately absent: behaviour. What happens to a mail or a session is decided in `core`.

pub mod child;
pub mod clock;
pub mod fault;
pub mod happening;
pub mod hash;
pub mod id;
pub mod limits;
pub mod mail;
pub mod name;
pub mod session;
pub mod token;
pub mod version;
