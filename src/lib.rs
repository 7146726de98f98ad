//! agentmux: the relay that lets coding agents on one machine work as a team.
//!
//! Start with `src/README.md`: the floors, the lap, the state table and the guarantees are on its first page.
#![doc = include_str!("README.md")]

pub mod boot;
pub mod cli;
pub mod client;
pub mod core;
pub mod mcp;
pub mod model;
pub mod protocol;
pub mod relay;
pub mod store;
pub mod transport;
pub mod wire;
