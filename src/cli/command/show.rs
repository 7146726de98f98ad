//! `agentmux show NAME`: one session whole, its child's environment included; what may be a secret is not printed.

use clap::Args;

use crate::cli::context::Context;
use crate::cli::print;
use crate::model::fault::Fault;
use crate::protocol::answer::{SessionDetails, Shown};
use crate::protocol::check::check_name;
use crate::protocol::request::One;

/// Arguments of `show`.
#[derive(Debug, Args)]
pub struct Show {
    /// The session
    name: String,
}

pub fn run(context: &Context, args: &Show) -> Result<u8, Fault> {
    check_name(&args.name)?;
    let mut connection = context.connect()?;
    let answer: Shown = connection.call("session/show", &One { name: args.name.clone() })?;
    context.print(&answer, |answer| words(&answer.session));
    Ok(0)
}

fn words(session: &SessionDetails) -> String {
    let own = "the child's own configuration decides";
    let info = &session.info;
    let since = info.since.map(|since| format!(" since {}", print::moment(since))).unwrap_or_default();
    let reason = info.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let child = session.child_pid.map_or("none".to_owned(), |pid| format!("pid {pid}"));
    let rows = [
        ("session", format!("{}, {}", info.name, info.coder.as_str())),
        ("state", format!("{}{since}{reason}", info.state.as_str())),
        ("wanted", info.wanted.as_str().to_owned()),
        ("created", print::moment(session.created_at)),
        ("thread", info.thread_id.clone().unwrap_or_else(|| "none yet".to_owned())),
        ("directory", info.dir.clone()),
        ("program", session.program.clone()),
        ("child", child),
        ("model", session.model.clone().unwrap_or_else(|| own.to_owned())),
        ("sandbox", session.sandbox.clone().unwrap_or_else(|| own.to_owned())),
        ("approval", session.approval.clone().unwrap_or_else(|| own.to_owned())),
        ("instructions", session.instructions.clone().unwrap_or_else(|| "none".to_owned())),
    ];
    let mut text = String::new();
    for (key, value) in rows {
        text.push_str(&format!("{key:<13} {}\n", print::safe(&value).replace('\n', "\n              ")));
    }
    match &session.environment {
        None => text.push_str("environment   its file is missing; remove and spawn the session\n"),
        Some(environment) => {
            text.push_str("environment\n");
            for (key, value) in environment {
                text.push_str(&format!("  {key}={}\n", print::safe(value)));
            }
        }
    }
    text
}
