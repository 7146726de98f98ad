//! `agentmux host mcp`: the tools of an agent. `agentmux host relay [--replace]`: the relay itself, in the foreground; clients
//! start it with `--spawned`, detached.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use clap::{Args, Subcommand};

use crate::boot::{environment, program};
use crate::cli::context::Context;
use crate::mcp;
use crate::model::fault::Fault;
use crate::relay::{self, Options};

/// What systemd says to the process that it starts.
const OF_SYSTEMD: &[&str] = &["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// What to host.
#[derive(Debug, Subcommand)]
pub enum Host {
    /// Run the relay of the bundle in the foreground, logging to stderr
    Relay(Relay),
    /// Run the MCP server of an agent on stdin and stdout
    Mcp,
}

/// Arguments of `host relay`.
#[derive(Debug, Args)]
pub struct Relay {
    /// Take over from the running relay, without ending its children
    #[arg(long)]
    replace: bool,
    /// A client started this and waits for a word at descriptor 3
    #[arg(long, hide = true)]
    spawned: bool,
}

pub fn run(context: &Context, host: &Host) -> Result<u8, Fault> {
    let args = match host {
        Host::Relay(args) => args,
        Host::Mcp => {
            mcp::serve(context.place())?;
            return Ok(0);
        }
    };
    if !args.spawned {
        leave_the_caller(context, args)?;
    }
    let options = Options {
        bundle: context.target.bundle.name.clone(),
        state_root: context.target.state_root.clone(),
        config_dir: context.target.config_dir.clone(),
        replace: args.replace,
        spawned: args.spawned,
    };
    let lock = if args.replace { Some(context.target.hand_over()?) } else { None };
    relay::run(&options, || drop(lock))?;
    Ok(0)
}

/// Makes this process what a relay is that a client starts: in `/`, with few variables of the caller's, as `/proc` shows them, too. The
/// process stays the same one, for whoever supervises it.
///
/// # Errors
/// `io` when the program cannot be run again.
fn leave_the_caller(context: &Context, args: &Relay) -> Result<(), Fault> {
    let mut kept = environment::for_relay();
    kept.extend(OF_SYSTEMD.iter().filter_map(|key| Some(((*key).to_owned(), std::env::var(key).ok()?))));
    let is_left = std::env::current_dir().is_ok_and(|dir| dir == Path::new("/"))
        && std::env::vars_os().all(|(key, _)| kept.iter().any(|(known, _)| key == known.as_str()));
    if is_left {
        return Ok(());
    }
    let mut command = Command::new("/proc/self/exe");
    command.arg0(program::own()).args(["host", "relay", "--bundle", context.target.bundle.name.as_str()]);
    command.arg("--state-dir").arg(&context.target.state_root);
    if let Some(dir) = &context.target.config_dir {
        command.arg("--config-dir").arg(dir);
    }
    command.args(args.replace.then_some("--replace")).args(context.json.then_some("--json"));
    command.env_clear().envs(kept).current_dir("/");
    Err(Fault::io(format!("start failed: this program cannot be run again: {}", command.exec())))
}
