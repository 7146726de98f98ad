//! `agentmux up [NAME…]`: brings sessions up.

use clap::Args;

use super::down::words;
use crate::cli::context::Context;
use crate::model::fault::Fault;
use crate::model::session::SessionState;
use crate::protocol::answer::States;
use crate::protocol::check::check_name;
use crate::protocol::request::Names;

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
    let with =
        |wanted: &[SessionState]| answer.sessions.iter().find(|session| wanted.contains(&session.state));
    if let Some(session) = with(&[SessionState::Failed]) {
        let why = session.reason.as_deref().unwrap_or("no reason given");
        return Err(
            Fault::refused(format!("{} failed: {why}", session.name)).hint("`agentmux up` tries it again")
        );
    }
    if let Some(session) = with(&[SessionState::Starting, SessionState::Backoff, SessionState::Stopped]) {
        let state = session.state.as_str();
        return Err(Fault::timeout(format!(
            "not up yet: {} is still {state}; it goes on coming up",
            session.name
        )));
    }
    Ok(0)
}
