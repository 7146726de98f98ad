//! Lines and JSON-RPC messages: what is common to every socket that speaks newline-delimited JSON.
//!
//! **Invariant:** pure; bytes in, lines and messages out.

pub mod call;
pub mod lines;
mod raw;
pub mod rpc;
