//! `agentmux host mcp`: the tools of an agent. `agentmux host relay [--replace]`: the relay itself, in the foreground; clients
//! start it with `--spawned`, detached.
//!
//! Deliberately absent: `host keep`, which a relay starts its children with (`boot/keeper.rs`); it is told before the grammar is built.

use clap::{Args, Subcommand};

use crate::cli::context::Context;
use crate::mcp;
use crate::model::fault::Fault;
use crate::relay::{self, Options};

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
