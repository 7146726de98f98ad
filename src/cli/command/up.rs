//! `agentmux up [NAME…]`: brings sessions up, those of a trusted project's file too.

use clap::Args;
use serde::Serialize;

use super::down::words;
use super::spawn;
use crate::cli::context::Context;
use crate::client::{Connection, catch_interrupt};
use crate::model::fault::Fault;
use crate::model::name::Name;
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

/// The relay's answer, and what a person is told beside it.
#[derive(Debug, Serialize)]
struct Outcome {
    #[serde(flatten)]
    states: States,
    /// The project's file whose sessions are left out, because it is not trusted as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    untrusted: Option<String>,
    /// Sessions that run with other settings than the file's, until they are started anew.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    outdated: Vec<Name>,
}

pub fn run(context: &Context, args: Up) -> Result<u8, Fault> {
    args.names.iter().try_for_each(|name| check_name(name))?;
    let project = context.trusted_project()?;
    let file = context.target.bundle.project.as_ref().filter(|file| file.needs_trust());
    let untrusted = file.filter(|_| project.is_none()).map(|file| file.path.display().to_string());
    let in_file =
        project.into_iter().flat_map(|file| file.config.sessions.keys().map(move |name| (file, name)));
    let wanted: Vec<Request> = in_file
        .filter(|(_, name)| args.names.is_empty() || args.names.contains(name))
        .map(|(file, name)| spawn::of_project(context, file, name))
        .collect::<Result<_, _>>()?;
    let mut connection = context.connect()?;
    catch_interrupt();
    let outdated = if wanted.is_empty() { Vec::new() } else { bring_in(context, &mut connection, wanted)? };
    let states: States = connection.call("session/up", &Names { names: args.names })?;
    let outcome = Outcome { states, untrusted, outdated };
    context.print(&outcome, |outcome| words(&outcome.states));
    let sessions = &outcome.states.sessions;
    let with = |wanted: &[SessionState]| sessions.iter().find(|session| wanted.contains(&session.state));
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

/// Sessions of the project's file: those that are not there are spawned, the others get its settings when they next start. Returns
/// those that run with others until then.
fn bring_in(
    context: &Context,
    connection: &mut Connection,
    wanted: Vec<Request>,
) -> Result<Vec<Name>, Fault> {
    let mut outdated = Vec::new();
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
            outdated.push(name);
        }
    }
    Ok(outdated)
}
