//! The relay's socket as a program of any language meets it: hostile input, and the page that describes the protocol.
//!
//! **Invariant:** whatever one connection sends, it gets a typed answer or its end, and no other connection notices.
//!
//! Deliberately absent: the command line (`tests/blackbox`).

#[path = "../support/mod.rs"]
mod support;

mod crowd;
mod docs;
mod envelope;
mod generated;
mod hostile;
mod identity;
mod siege;
mod socket;
mod version;
