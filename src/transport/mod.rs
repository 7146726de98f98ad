//! Transports: how each kind of child is spoken to, as pure state machines over whole messages.
//!
//! **Invariant:** pure. A transport sees messages and commands and gives messages and events; bytes, sockets and time are the
//! shell's.
//!
//! Deliberately absent: policy. A transport translates; what is delivered when is decided in `core`.

pub mod codex;

use std::collections::BTreeSet;

use crate::model::child::{ChildCommand, ChildEvent};
use crate::model::name::Name;

/// What the shell needs of every kind of child.
pub trait Transport: std::fmt::Debug {
    /// A connection has been made; whatever was under way on an earlier one is forgotten.
    fn on_open(&mut self);
    /// A whole message has arrived.
    fn on_message(&mut self, text: &str);
    /// The core commands something.
    fn command(&mut self, command: ChildCommand);
    /// From now on somebody reads the answers of these sessions as they are written, and of no others.
    fn hear(&mut self, sessions: &BTreeSet<Name>);
    /// The next message to send.
    fn next_message(&mut self) -> Option<String>;
    /// The next thing that happened.
    fn next_event(&mut self) -> Option<ChildEvent>;
}
