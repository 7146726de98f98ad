//! `agentmux up [NAME…]`: brings sessions up, those of a trusted project's file too.

use clap::Args;

use super::down::words;
use super::spawn;
use crate::cli::context::Context;
use crate::client::{Connection, catch_interrupt};
use crate::model::fault::Fault;
use crate::model::session::SessionState;
use crate::protocol::answer::{Change, Configured, OneSession, Sessions, States};
use crate::protocol::check::check_name;
use crate::protocol::request::{Names, Spawn as Request};

/// Arguments of `up`.
#[derive(Debug, Args)]
pub struct Up {
    /// The sessions; all of them without names
    names: Vec<String>,
}

pub fn run(context: &Context, args: Up) -> Result<u8, Fault> {
    args.names.iter().try_for_each(|name| check_name(name))?;
    let project = context.trusted_project()?;
    let in_file =
        project.into_iter().flat_map(|file| file.config.sessions.keys().map(move |name| (file, name)));
    let wanted: Vec<Request> = in_file
        .filter(|(_, name)| args.names.is_empty() || args.names.contains(name))
        .map(|(file, name)| spawn::of_project(context, file, name))
        .collect::<Result<_, _>>()?;
    let mut connection = context.connect()?;
    catch_interrupt();
    if !wanted.is_empty() {
        bring_in(context, &mut connection, wanted)?;
    }
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

/// Sessions of the project's file: those that are not there are spawned, the others get its settings when they next start.
fn bring_in(context: &Context, connection: &mut Connection, wanted: Vec<Request>) -> Result<(), Fault> {
    let known: Sessions = connection.call("session/list", &serde_json::json!({}))?;
    let known = known.sessions.unwrap_or_default();
    for request in wanted {
        if !known.iter().any(|session| session.name.as_str() == request.name) {
            let _: OneSession = connection.call("session/spawn", &request)?;
            continue;
        }
        let answer: Configured = connection.call("session/configure", &request)?;
        if answer.change == Change::Later {
            let name = answer.name;
            context.tell(&format!(
                "note: {name} runs with other settings than the file's, and is not stopped for them\nhint: agentmux down {name}; agentmux up {name}"
            ));
        }
    }
    Ok(())
}
