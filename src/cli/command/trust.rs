//! `agentmux trust`: lets the project's file say what is run, as it reads now. Never starts a relay.

use clap::Args;
use serde::Serialize;

use crate::boot::environment;
use crate::boot::project::{PROJECT_FILE, ProjectFile};
use crate::boot::statedir::StateDir;
use crate::cli::context::Context;
use crate::model::fault::Fault;
use crate::protocol::check::{check_limits, check_new_name};

/// Arguments of `trust`.
#[derive(Debug, Args)]
pub struct Trust {
    /// Trust it no longer
    #[arg(long)]
    revoke: bool,
}

#[derive(Debug, Serialize)]
struct Trusted {
    path: String,
    trusted: bool,
    sessions: Vec<String>,
    coders: Vec<String>,
}

pub fn run(context: &Context, args: &Trust) -> Result<u8, Fault> {
    let bundle = &context.target.bundle;
    let Some(file) = &bundle.project else {
        return Err(Fault::not_found(format!("trust refused: there is no {PROJECT_FILE} here or above"))
            .hint("`agentmux init` writes one"));
    };
    if let Some(mark) = environment::agent_mark() {
        let why = format!(
            "trust refused: only the operator may do this, and this command runs inside an agent ({mark})"
        );
        return Err(Fault::refused(why).hint("run it from your own shell"));
    }
    if !args.revoke {
        check(file)?;
    }
    let dir = StateDir::create(&context.target.state_root, &bundle.name)?;
    if args.revoke {
        file.distrust(&dir)
    } else {
        file.trust(&dir)?
    }
    context.print(&answer(file, !args.revoke), words);
    Ok(0)
}

/// What `up` would refuse is not trusted first.
fn check(file: &ProjectFile) -> Result<(), Fault> {
    file.config.sessions.iter().try_for_each(|(name, session)| {
        let checked = check_new_name(name)
            .and_then(|()| check_limits(session.sandbox.as_deref(), session.approval.as_deref()));
        checked.map_err(|fault| {
            let message =
                format!("trust refused: {}: [sessions.{name}]: {}", file.path.display(), fault.message);
            Fault { message, ..fault }
        })
    })
}

fn answer(file: &ProjectFile, trusted: bool) -> Trusted {
    let config = &file.config;
    Trusted {
        path: file.path.display().to_string(),
        trusted,
        sessions: config.sessions.keys().cloned().collect(),
        coders: config.coders.keys().cloned().collect(),
    }
}

fn words(answer: &Trusted) -> String {
    let of = |what: &str, names: &[String]| match names {
        [] => format!("no {what}"),
        names => format!("{what} {}", names.join(", ")),
    };
    let verb = if answer.trusted { "trusted as it reads now" } else { "no longer trusted" };
    format!(
        "{} is {verb}: {}; {}\n",
        answer.path,
        of("sessions", &answer.sessions),
        of("coders", &answer.coders)
    )
}
