//! `agentmux interrupt NAME`: ends a session's running turn; what waits goes on afterwards.

use clap::Args;

use crate::cli::context::Context;
use crate::model::fault::Fault;
use crate::protocol::answer::Interrupted;
use crate::protocol::check::check_name;
use crate::protocol::request::One;

/// Arguments of `interrupt`.
#[derive(Debug, Args)]
pub struct Interrupt {
    /// The session
    name: String,
}

pub fn run(context: &Context, args: Interrupt) -> Result<u8, Fault> {
    check_name(&args.name)?;
    let mut connection = context.connect()?;
    let answer: Interrupted = connection.call("session/interrupt", &One { name: args.name })?;
    context.print(&answer, |answer| match &answer.turn_id {
        Some(turn) => format!("{}: turn {turn} was interrupted\n", answer.session),
        None => match answer.sub_turns.unwrap_or(0) {
            0 => format!("{}: no turn was running\n", answer.session),
            n => format!("{}: no turn of its own was running; {n} of its sub-agents ended\n", answer.session),
        },
    });
    Ok(0)
}
