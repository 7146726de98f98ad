//! `agentmux down [NAME…]`: stops sessions; without names all of them and the relay.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use clap::Args;

use crate::boot::{descent, process};
use crate::cli::context::Context;
use crate::cli::print;
use crate::client::{CallError, Homes, catch_interrupt, let_go_on, tmux};
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
        None if !everything || child_left_behind(context).is_some() => Some(context.connect()?),
        None => None,
    };
    let Some(mut connection) = connection else {
        context.print(&States { sessions: Vec::new() }, |_| String::new());
        context.tell("no relay is running; nothing to stop");
        return Ok(0);
    };
    catch_interrupt();
    let budget_ms = if args.now { limits::DOWN_NOW_MS } else { limits::DOWN_MS } + limits::DOWN_GRACE_MS;
    let deadline = Instant::now() + Duration::from_millis(budget_ms as u64);
    let relay = process::pidfd(connection.relay_pid);
    let homes = Homes::of(&mut connection, &args.names);
    let request = Request { names: args.names, now: args.now };
    let answer: States = match connection.call_until("session/down", &request, Some(deadline)) {
        Err(CallError::TimedOut) => return Err(still_there(connection.relay_pid, "has not answered")),
        answered => answered?,
    };
    if everything {
        // The answer is the relay's last word; it has left when its process is gone, a moment after the connection.
        while connection.next_notice(Some(deadline)).is_ok() {}
        let ends = |process: &OwnedFd| {
            process::wait_for_end(process, deadline.saturating_duration_since(Instant::now()))
        };
        if relay.is_ok_and(|relay| !ends(&relay)) {
            return Err(still_there(connection.relay_pid, "has not ended"));
        }
        // A relay whose time is over leaves before the last of its children has ended.
        while let Some(pid) = child_left_behind(context) {
            if process::pidfd(pid).is_ok_and(|child| !ends(&child)) || Instant::now() >= deadline {
                let why = format!("down failed: the relay has left, but its child, pid {pid}, has not ended");
                return Err(Fault::busy(why).hint("run it again: agentmux down"));
            }
        }
        tmux::end_if_unused(&context.target.dir());
    }
    context.print(&answer, |answer| words_with(answer, &homes));
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

/// The refusal for a relay that takes longer than it may; nothing is said of its sessions.
fn still_there(pid: u32, what: &str) -> Fault {
    let stopped = process::is_stopped(pid);
    let state = if stopped { " (stopped)" } else { "" };
    let fault = Fault::busy(format!("down failed: the relay, pid {pid}{state}, {what} in time"));
    match stopped {
        true => fault.hint(let_go_on(Some(pid))),
        false => fault.hint("it may still be ending agents; `agentmux status` says so"),
    }
}

/// A child of this bundle that runs although no relay does.
fn child_left_behind(context: &Context) -> Option<u32> {
    // By its real path, which is what children are started with.
    let dir = std::fs::canonicalize(context.target.dir()).ok()?;
    descent::serving(&dir).into_values().next()
}

/// One line per session, for those whose threads lie where they are looked for.
pub fn words(answer: &States) -> String {
    words_with(answer, &Homes::default())
}

fn words_with(answer: &States, homes: &Homes) -> String {
    let line = |session: &crate::protocol::answer::NamedState| {
        let reason = session.reason.as_deref();
        let reason = reason.map(|why| format!(" ({})", print::first_line(why, 200))).unwrap_or_default();
        let resume = homes.resume(session).filter(|_| session.state == SessionState::Stopped);
        let resume = resume.map(|resume| format!("; outside agentmux: {resume}")).unwrap_or_default();
        format!("{} is {}{reason}{resume}\n", session.name, session.state.as_str())
    };
    answer.sessions.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::answer::NamedState;

    /// What a provider or a child gave as its reason is shown, and does nothing to the terminal.
    #[test]
    fn a_reason_of_somebody_else_changes_no_terminal() {
        let session: NamedState = serde_json::from_value(serde_json::json!({
            "name": "reviewer", "state": "failed", "reason": "\u{1b}]0;owned\u{7} bad \u{202e}request\nand more",
        }))
        .expect("a session");
        let told = words(&States { sessions: vec![session] });
        assert_eq!(told, "reviewer is failed (\\u{1b}]0;owned\\u{7} bad \\u{202e}request)\n");
    }
}
