//! `agentmux list`: the sessions and what they are doing. Never starts a relay.

use clap::Args;
use serde::Serialize;

use crate::cli::context::Context;
use crate::cli::print;
use crate::model::clock::age;
use crate::model::fault::Fault;
use crate::protocol::answer::{SessionInfo, Sessions};

/// Arguments of `list`.
#[derive(Debug, Args)]
pub struct List {}

pub fn run(context: &Context) -> Result<u8, Fault> {
    let none = || Sessions { bundle: context.target.bundle.name.clone(), sessions: None };
    let answer: Sessions = context.target.look("session/list")?.unwrap_or_else(none);
    let answer = Hinted { hint: answer.sessions.is_none().then_some(STARTED_BY), answer };
    context.print(&answer, |hinted| match &hinted.answer.sessions {
        Some(sessions) => table(sessions, context.color),
        None => String::new(),
    });
    let Hinted { answer, .. } = answer;
    match &answer.sessions {
        None => context.tell(&format!("no relay of bundle {} is running\nhint: {STARTED_BY}", answer.bundle)),
        Some(sessions) if sessions.is_empty() => {
            context.tell("no sessions\nhint: create one: agentmux spawn NAME");
        }
        Some(_) => {}
    }
    Ok(0)
}

/// An answer with what to do about it.
#[derive(Debug, Serialize)]
pub struct Hinted<T> {
    #[serde(flatten)]
    pub answer: T,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<&'static str>,
}

/// What to do where no relay runs.
pub const STARTED_BY: &str = "any command that needs a relay starts it, such as `agentmux up`";

/// The sessions as a table.
pub fn table(sessions: &[SessionInfo], color: bool) -> String {
    if sessions.is_empty() {
        return String::new();
    }
    let head = ["NAME", "STATE", "SINCE", "TURN", "PENDING", "OLDEST", "TOKENS", "PANES", "CODER", "WHY"]
        .map(str::to_owned)
        .to_vec();
    let row = |session: &SessionInfo| {
        vec![
            session.name.to_string(),
            print::state(session.state, color),
            session.since.map(print::moment).unwrap_or_default(),
            session.turn_age_ms.map_or("-".to_owned(), age),
            match session.braked {
                0 => session.pending.to_string(),
                braked => format!("{} ({braked} braked)", session.pending),
            },
            session.oldest_pending_ms.map_or("-".to_owned(), age),
            session.tokens.as_ref().map_or("-".to_owned(), |tokens| print::count(tokens.total)),
            match session.elsewhere {
                0 => session.attached.to_string(),
                away => format!("{} ({away} elsewhere)", session.attached),
            },
            session.coder.as_str().to_owned(),
            session.reason.as_deref().map(|why| print::first_line(why, 80)).unwrap_or_default(),
        ]
    };
    print::table(&[vec![head], sessions.iter().map(row).collect()].concat())
}
