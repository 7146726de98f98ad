//! Lines and JSON-RPC messages: what is common to every socket that speaks newline-delimited JSON.
//!
//! **Invariant:** pure; bytes in, lines and messages out.

pub mod lines;
pub mod rpc;
