//! `agentmux close NAME`: asks a session for a summary of its work, and stops it.

use clap::Args;

use crate::cli::context::Context;
use crate::cli::print;
use crate::client::catch_interrupt;
use crate::model::fault::Fault;
use crate::model::session::SessionState;
use crate::protocol::answer::Closed;
use crate::protocol::check::check_name;
use crate::protocol::request::Close as Request;

/// Arguments of `close`.
#[derive(Debug, Args)]
pub struct Close {
    /// The session
    name: String,
    /// Ask for no summary
    #[arg(long)]
    now: bool,
}

pub fn run(context: &Context, args: Close) -> Result<u8, Fault> {
    check_name(&args.name)?;
    let mut connection = context.connect()?;
    catch_interrupt();
    let answer: Closed = connection.call("session/close", &Request { name: args.name, now: args.now })?;
    context.print(&answer, |answer| {
        let states = answer.sessions.iter().map(|s| format!("{} is {}\n", s.name, s.state.as_str()));
        let states: String = states.collect();
        let summary = answer.summary.iter().flat_map(|text| text.lines());
        states + &summary.map(|line| format!("  {}\n", print::safe(line))).collect::<String>()
    });
    match answer.sessions.iter().find(|session| session.state != SessionState::Stopped) {
        Some(session) => Err(Fault::timeout(format!(
            "not closed yet: {} is still {}",
            session.name,
            session.state.as_str()
        ))
        .hint(format!("agentmux down {} --now", session.name))),
        None => Ok(0),
    }
}
