//! The tests' own tools, tested: the scripted model against a plain client and the real Codex, the house and its janitor.
//!
//! **Invariant:** what other tests rely on without saying so is a promise here, by name.
//!
//! Deliberately absent: agentmux's own behaviour.

#[path = "../support/mod.rs"]
mod support;

mod client;
mod codex;
mod house;
mod scripted;

use std::time::Duration;

/// Far beyond what a loaded machine needs; nothing here waits that long unless it fails.
const SOON: Duration = Duration::from_secs(30);
