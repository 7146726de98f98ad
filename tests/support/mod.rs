//! What the tests share: the house they run in, the calls they make, the panes they look at, the model behind Codex.
//!
//! Deliberately absent: anything that a test asserts; these are the stand-ins and the tools only.

#![allow(dead_code, reason = "several test binaries share this folder, and none uses all of it")]
#![allow(unused_imports, reason = "likewise: a front door names everything, and each binary takes its part")]

pub mod call;
pub mod house;
pub mod inputs;
pub mod mcp;
pub mod model;
pub mod played;
pub mod program;
pub mod rounds;
pub mod seeded;
pub mod siege;
pub mod tmux;

pub use call::{Call, Ran, Spawned};
pub use house::{House, codex_program};
pub use mcp::McpClient;
pub use model::{Envelope, Outcome, Request, Rule, ScriptedModel, envelopes};
pub use program::{copy_program, write_script};
pub use tmux::Pane;
