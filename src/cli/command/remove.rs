//! `agentmux remove NAME`: removes a session.

use clap::Args;

use crate::cli::context::Context;
use crate::client::Homes;
use crate::model::fault::Fault;
use crate::protocol::answer::States;
use crate::protocol::check::check_name;
use crate::protocol::request::One;

/// Arguments of `remove`.
#[derive(Debug, Args)]
pub struct Remove {
    /// The session
    name: String,
}

pub fn run(context: &Context, args: Remove) -> Result<u8, Fault> {
    check_name(&args.name)?;
    let mut connection = context.connect()?;
    let homes = Homes::of(&mut connection, std::slice::from_ref(&args.name));
    let answer: States = connection.call("session/remove", &One { name: args.name })?;
    context.print(&answer, |answer| {
        let line = |session: &crate::protocol::answer::NamedState| {
            let thread = homes.resume(session);
            let thread = thread.map(|resume| format!("; its thread stays: {resume}")).unwrap_or_default();
            format!("{} is removed{thread}\n", session.name)
        };
        answer.sessions.iter().map(line).collect()
    });
    Ok(0)
}
