//! `agentmux attach NAME`: Codex's own screen on the session's live thread, as the foreground child of this command.
//!
//! This process stays as the screen's parent and holds one relay connection, which is what `attached` counts. When the screen
//! ends with an error it is started again, at most three times; then the command is printed for the person to run.

use std::path::Path;
use std::process::{Command, ExitStatus};

use clap::Args;

use crate::boot::program;
use crate::cli::context::Context;
use crate::client::{Connection, Target};
use crate::model::fault::{Code, Fault};
use crate::protocol::answer::Attached;
use crate::protocol::check::check_name;
use crate::protocol::request::One;

/// Screens that are started again after an error.
const RELAUNCHES_MAX: u32 = 3;

/// Arguments of `attach`.
#[derive(Debug, Args)]
pub struct Attach {
    /// The session
    name: String,
    /// Print the command that would be run, and run nothing
    #[arg(long)]
    print: bool,
}

pub fn run(context: &Context, args: &Attach) -> Result<u8, Fault> {
    check_name(&args.name)?;
    let mut connection = context.connect()?;
    let mut attached: Attached = connection.call("session/attach", &One { name: args.name.clone() })?;
    if args.print {
        context.print(&attached, |attached| format!("{}\n", words_of(attached).join(" ")));
        return Ok(0);
    }
    hold(context.target.clone(), connection, args.name.clone());
    for _ in 0..=RELAUNCHES_MAX {
        let status = show(&attached)?;
        if status.success() {
            return Ok(0);
        }
        if status.code().is_none() {
            return Err(Fault::new(Code::Interrupted, "the screen was ended by a signal"));
        }
        let mut again = context.connect()?;
        attached = again.call("session/attach", &One { name: args.name.clone() })?;
    }
    let fault =
        Fault::refused(format!("attach failed: the screen ended {} times with an error", RELAUNCHES_MAX + 1));
    Err(fault.hint(format!("try it by hand: {}", words_of(&attached).join(" "))))
}

/// Keeps one connection, so that the relay knows of the pane; comes back after a crash of the relay, not after a stop.
fn hold(target: Target, connection: Connection, name: String) {
    std::thread::spawn(move || {
        let mut connection = connection;
        loop {
            while connection.next_notification().is_some() {}
            if connection.stopping {
                return;
            }
            let again = target.reach_or_start().and_then(|mut next| {
                let _: Attached = next.call("session/attach", &One { name: name.clone() })?;
                Ok(next)
            });
            match again {
                Ok(next) => connection = next,
                Err(_) => return,
            }
        }
    });
}

/// Runs the screen in the foreground until it ends. ^C and ^\ are the screen's business, as in a shell.
fn show(attached: &Attached) -> Result<ExitStatus, Fault> {
    outlive_terminal_signals();
    let words = words_of(attached);
    let status = Command::new(&words[0]).args(&words[1..]).current_dir(existing(&attached.dir)).status();
    status.map_err(|error| Fault::refused(format!("attach failed: {} cannot be run: {error}", words[0])))
}

/// The command that shows the thread: Codex's own screen, as a remote of the session's child.
fn words_of(attached: &Attached) -> Vec<String> {
    let native = program::native_behind(Path::new(&attached.program));
    let socket = format!("unix://{}", attached.socket);
    [
        native.display().to_string(),
        "--remote".to_owned(),
        socket,
        "resume".to_owned(),
        attached.thread_id.clone(),
    ]
    .to_vec()
}

fn existing(dir: &str) -> &Path {
    let dir = Path::new(dir);
    if dir.is_dir() { dir } else { Path::new("/") }
}

/// A handler that does nothing, not `SIG_IGN`: the screen shall not inherit it.
#[allow(unsafe_code, reason = "sigaction; the handler does nothing")]
fn outlive_terminal_signals() {
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
    extern "C" fn nothing(_: i32) {}
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGQUIT] {
        // SAFETY: a handler that does nothing is async-signal-safe.
        if let Err(error) = unsafe { sigaction(signal, &action) } {
            log::debug!("catching {signal} failed: {error}");
        }
    }
}
