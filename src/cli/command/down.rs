//! `agentmux down [NAME…]`: stops sessions; without names all of them and the relay.

use std::time::Duration;

use clap::Args;

use crate::boot::{descent, process};
use crate::cli::context::Context;
use crate::client::{catch_interrupt, tmux};
use crate::model::fault::{Code, Fault};
use crate::model::limits;
use crate::model::session::SessionState;
use crate::protocol::answer::States;
use crate::protocol::check::check_name;
use crate::protocol::request::Down as Request;

/// Arguments of `down`.
#[derive(Debug, Args)]
pub struct Down {
    /// The sessions; all of them and the relay without names
    names: Vec<String>,
    /// Give running turns 2 s instead of 10 s
    #[arg(long)]
    now: bool,
}

pub fn run(context: &Context, args: Down) -> Result<u8, Fault> {
    args.names.iter().try_for_each(|name| check_name(name))?;
    let everything = args.names.is_empty();
    let connection = match context.connect_if_running()? {
        Some(connection) => Some(connection),
        // Stopping one session has to be stored; ending children that a crashed relay left behind takes a relay, too.
        None if !everything || child_left_behind(context) => Some(context.connect()?),
        None => None,
    };
    let Some(mut connection) = connection else {
        context.print(&States { sessions: Vec::new() }, |_| String::new());
        context.tell("no relay is running; nothing to stop");
        return Ok(0);
    };
    catch_interrupt();
    let relay = process::pidfd(connection.relay_pid);
    let answer: States = connection.call("session/down", &Request { names: args.names, now: args.now })?;
    context.print(&answer, words);
    if everything {
        // The answer is the relay's last word; it has left when its process is gone, a moment after the connection.
        while connection.next_notification().is_some() {}
        if let Ok(relay) = relay
            && !process::wait_for_end(&relay, Duration::from_millis(limits::DOWN_NOW_MS as u64))
        {
            let why = format!("down timed out: the relay, pid {}, has not ended", connection.relay_pid);
            return Err(Fault::timeout(why).hint("it may still be ending agents; `agentmux status` says so"));
        }
        tmux::end_if_unused(&context.target.dir());
    }
    if !everything && answer.sessions.iter().any(|session| session.thread_id.is_some()) {
        context.tell("a child lets go of a thread a minute after its session has ended; `agentmux down` ends the child at once");
    }
    match answer.sessions.iter().find(|session| session.state != SessionState::Stopped) {
        Some(session) if !everything => Err(Fault::new(
            Code::Timeout,
            format!("stopping timed out: {} is still {}", session.name, session.state.as_str()),
        )),
        _ => Ok(0),
    }
}

/// Whether a child of this bundle runs although no relay does.
fn child_left_behind(context: &Context) -> bool {
    // By its real path, which is what children are started with.
    let dir = std::fs::canonicalize(context.target.dir());
    dir.is_ok_and(|dir| !descent::serving(&dir).is_empty())
}

/// One line per session.
pub fn words(answer: &States) -> String {
    let line = |session: &crate::protocol::answer::NamedState| {
        let reason = session.reason.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
        let resume = session.thread_id.as_deref().filter(|_| session.state == SessionState::Stopped);
        let resume =
            resume.map(|thread| format!("; outside agentmux: codex resume {thread}")).unwrap_or_default();
        format!("{} is {}{reason}{resume}\n", session.name, session.state.as_str())
    };
    answer.sessions.iter().map(line).collect()
}
