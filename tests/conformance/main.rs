//! Conformance: every transport against the same suite, the link through a real socket, the store against the ledger.
//!
//! **Invariant:** a test of the suite (`opening`, `turns`, `history`, `asks`, `hostile`) names no kind of child; what is peculiar to one
//! is in its fake (`codex`) and beside it (`codex_wire`, `subs`). Another kind is one line in `kind::KINDS` and one fake.
//! **Invariant:** a fake says only what its real program was seen to say; its doc comments name the version.

#[path = "../support/mod.rs"]
mod support;

mod asks;
mod codex;
mod codex_wire;
mod history;
mod hostile;
mod kept;
mod kind;
mod leaving;
mod ledger;
mod link;
mod migration;
mod opening;
mod pair;
#[path = "../simulation/plain.rs"]
mod plain;
#[path = "../simulation/random.rs"]
mod random;
mod subs;
mod turns;
mod unrecorded;
