//! `agentmux panes [NAME…]`: the team side by side in tmux, each pane with its agent's own screen.

use std::io::IsTerminal;

use clap::Args;
use serde::Serialize;

use crate::boot::lock::{Lock, Taken};
use crate::boot::statedir::{PANES_LOCK, StateDir};
use crate::boot::terminal;
use crate::cli::context::Context;
use crate::client::shell;
use crate::client::tmux::Tmux;
use crate::model::fault::Fault;
use crate::model::limits;
use crate::model::name::Name;
use crate::model::session::{Coder, SessionState, Wanted};
use crate::protocol::answer::{SessionInfo, Sessions};
use crate::protocol::check::check_name;

/// Arguments of `panes`.
#[derive(Debug, Args)]
pub struct Panes {
    /// The sessions; all that are up without names
    names: Vec<String>,
    /// Print the commands that would be run, and run nothing
    #[arg(long)]
    print: bool,
}

/// What `--json` shows.
#[derive(Debug, Serialize)]
struct Answer {
    /// The bundle's own tmux server; null in the person's own.
    socket: Option<String>,
    /// The sessions that have a pane.
    sessions: Vec<Name>,
    /// The command that shows them; null in the person's own tmux.
    attach: Option<String>,
}

/// What `--print` shows.
#[derive(Debug, Serialize)]
struct Printed {
    /// What would be run, for a shell.
    commands: Vec<String>,
}

pub fn run(context: &Context, args: Panes) -> Result<u8, Fault> {
    args.names.iter().try_for_each(|name| check_name(name))?;
    let mut connection = context.connect()?;
    let answer: Sessions = connection.call("session/list", &serde_json::json!({}))?;
    let sessions = chosen(answer.sessions.unwrap_or_default(), &args.names)?;
    let dir = context.target.dir();
    let tmux = Tmux::of(&dir);
    let attach = tmux.socket().map(|_| shell::line(&tmux.attach_words()));
    let state_dir = StateDir::create(&context.target.state_root, &context.target.bundle.name)?;
    // Two at once would each make every pane.
    let Taken::Ours(_lock) = Lock::take(&state_dir, PANES_LOCK, context.target.start_timeout)? else {
        return Err(Fault::busy("panes refused: another `agentmux panes` is at work"));
    };
    // A tmux target ends at a dot or a colon.
    let title = context.target.bundle.name.as_str().replace(['.', ':'], "_");
    let plan =
        |most| tmux.plan(&title, &sessions, |name| attach_command(context, name), terminal::size(), most);
    let mut most = limits::PANES_PER_WINDOW;
    if args.print {
        let commands = [tmux.written(&plan(most)?).trim_end().to_owned()].into_iter().chain(attach).collect();
        context.print(&Printed { commands }, |printed| {
            printed.commands.iter().map(|command| format!("{command}\n")).collect()
        });
        return Ok(0);
    }
    // A window that is full for its size is followed by another one.
    while let Some(count) = tmux.perform(&plan(most)?)? {
        if most == 1 {
            let fault = Fault::refused("panes failed: there is no room for a pane");
            return Err(fault.hint("make the terminal larger"));
        }
        most = count.clamp(1, most - 1);
    }
    tmux.select(&sessions)?;
    drop(_lock);
    let is_watched = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    if tmux.socket().is_some() && is_watched && !context.json {
        tmux.attach()?;
        return Ok(0);
    }
    let answer = Answer { socket: tmux.socket().map(|path| path.display().to_string()), sessions, attach };
    context.print(&answer, |answer| answer.sessions.iter().map(|name| format!("{name}\n")).collect());
    if let Some(attach) = &answer.attach {
        context.tell(&format!("hint: see them with: {attach}"));
    }
    Ok(0)
}

/// The sessions that get a pane.
fn chosen(mut sessions: Vec<SessionInfo>, names: &[String]) -> Result<Vec<Name>, Fault> {
    // An outside agent has a screen of its own already.
    sessions.retain(|session| session.coder != Coder::Outside);
    let mut chosen = Vec::new();
    for name in names {
        let session = sessions.iter().find(|session| session.name.as_str() == name).ok_or_else(|| {
            let near =
                crate::model::name::nearest(name, sessions.iter().map(|session| session.name.as_str()));
            let fault = Fault::not_found(format!("session not found: there is no `{name}`"));
            if near.is_empty() { fault } else { fault.hint(format!("did you mean {}", near.join(", "))) }
        })?;
        if matches!(session.state, SessionState::Stopped | SessionState::Failed) {
            let fault = Fault::refused(format!("panes refused: {name} is {}", session.state.as_str()));
            return Err(fault.hint(format!("start it: agentmux up {name}")));
        }
        if !chosen.contains(&session.name) {
            chosen.push(session.name.clone());
        }
    }
    if names.is_empty() {
        let is_up = |session: &&SessionInfo| {
            (session.wanted == Wanted::Up || session.state != SessionState::Stopped)
                && session.state != SessionState::Failed
        };
        chosen.extend(sessions.iter().filter(is_up).map(|session| session.name.clone()));
    }
    if chosen.is_empty() {
        let fault = Fault::refused("panes refused: no session is up");
        return Err(fault.hint("bring them up: agentmux up, or create one: agentmux spawn NAME"));
    }
    Ok(chosen)
}

/// The program of one pane, as this command was called.
fn attach_command(context: &Context, name: &Name) -> Vec<String> {
    let target = &context.target;
    let program = crate::boot::program::own().display().to_string();
    let (bundle, state_root) = (target.bundle.name.to_string(), target.state_root.display().to_string());
    let mut words = vec![program, "--bundle".to_owned(), bundle, "--state-dir".to_owned(), state_root];
    if let Some(dir) = &target.config_dir {
        words.extend(["--config-dir".to_owned(), dir.display().to_string()]);
    }
    words.extend(["attach".to_owned(), "--pane".to_owned(), name.to_string()]);
    words
}
