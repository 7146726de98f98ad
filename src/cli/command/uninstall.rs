//! `agentmux uninstall TOOL`: takes out of an agent program's configuration what `install` put in, and nothing else.

use clap::Args;

use super::install::{Which, finish};
use crate::cli::context::Context;
use crate::client::install;
use crate::model::fault::Fault;

/// Arguments of `uninstall`.
#[derive(Debug, Args)]
pub struct Uninstall {
    /// The agent program
    #[arg(value_enum)]
    tool: Which,
    /// Print what the file would be, and change nothing
    #[arg(long)]
    dry_run: bool,
}

pub fn run(context: &Context, args: &Uninstall) -> Result<u8, Fault> {
    let tool = args.tool.tool();
    finish(context, tool, &install::uninstall(tool)?, args.dry_run)
}
