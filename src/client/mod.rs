//! The client: a blocking connection to the relay, started first if nobody has.
//!
//! **Invariant:** a client never touches the store, the relay's lock or its socket's path; it connects, or it starts. The one
//! exception is `doctor --fix`, which removes a dead relay's socket as the holder of the lock.

pub mod absence;
mod connection;
pub mod doctor;
pub mod install;
mod interrupt;
mod losses;
pub mod peek;
mod running;
pub mod selftest;
pub mod shell;
mod start;
pub mod tmux;
mod writer;

pub use connection::{CallError, Connection, Sender, Speaker};
pub use interrupt::{catch_interrupt, forget_interrupt};
pub use losses::Losses;
pub use start::{Claimed, Reached, Target, let_go_on, params};
pub use writer::{Homes, naming_the_writer};
