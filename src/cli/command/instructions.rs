//! `agentmux instructions NAME`: what a session is told of itself, its peers and how to write to them.

use clap::Args;
use serde::Serialize;

use crate::cli::context::Context;
use crate::core::envelope;
use crate::model::fault::Fault;
use crate::model::name::Name;
use crate::model::session::Coder;
use crate::protocol::answer::Sessions;
use crate::protocol::check::check_name;

/// Arguments of `instructions`.
#[derive(Debug, Args)]
pub struct Instructions {
    /// The session, or the name of an outside agent
    name: String,
}

/// What it prints.
#[derive(Debug, Serialize)]
pub struct Told {
    /// Whom.
    pub session: Name,
    /// What it is told, now; a session was told so when its thread began.
    pub text: String,
}

pub fn run(context: &Context, args: &Instructions) -> Result<u8, Fault> {
    check_name(&args.name)?;
    let mut connection = context.connect()?;
    let answer: Sessions = connection.call("session/list", &serde_json::json!({}))?;
    let sessions = answer.sessions.unwrap_or_default();
    let Some(session) = sessions.iter().find(|session| session.name.as_str() == args.name) else {
        let fault = Fault::not_found(format!("session not found: there is no `{}`", args.name));
        return Err(fault.hint("`agentmux list` shows the sessions"));
    };
    let peers = sessions.iter().map(|session| &session.name);
    let is_outside = session.coder == Coder::Outside;
    let text = envelope::welcome(&session.name, &answer.bundle, peers, is_outside);
    let told = Told { session: session.name.clone(), text };
    context.print(&told, |told| format!("{}\n", told.text));
    Ok(0)
}
