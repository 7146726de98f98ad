//! `agentmux up [NAME…]`: brings sessions up.

use clap::Args;

use super::down::words;
use crate::cli::context::Context;
use crate::model::fault::Fault;
use crate::model::session::SessionState;
use crate::protocol::answer::States;
use crate::protocol::request::{Names, check_name};

/// Arguments of `up`.
#[derive(Debug, Args)]
pub struct Up {
    /// The sessions; all of them without names
    names: Vec<String>,
}

pub fn run(context: &Context, args: Up) -> Result<u8, Fault> {
    args.names.iter().try_for_each(|name| check_name(name))?;
    let mut connection = context.connect()?;
    let answer: States = connection.call("session/up", &Names { names: args.names })?;
    context.print(&answer, words);
    let failed = answer.sessions.iter().any(|session| session.state == SessionState::Failed);
    Ok(u8::from(failed))
}
