//! `agentmux completions SHELL`: completions from the same grammar as the command line. Never starts a relay.

use clap::Args;
use clap_complete::Shell;

use crate::cli::{grammar, print};
use crate::model::fault::Fault;

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub fn run(args: &Completions) -> Result<u8, Fault> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut grammar(), "agentmux", &mut text);
    print::data(&String::from_utf8_lossy(&text));
    Ok(0)
}
