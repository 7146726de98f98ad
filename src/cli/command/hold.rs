//! `agentmux hold NAME`: a session's mail waits, for a time or until it is released.

use clap::Args;

use super::send::duration;
use crate::cli::context::Context;
use crate::model::fault::Fault;
use crate::protocol::answer::States;
use crate::protocol::check::check_name;
use crate::protocol::request::Hold as Request;

/// Arguments of `hold`.
#[derive(Debug, Args)]
pub struct Hold {
    /// The session
    name: String,
    /// For this long; until it is released without it
    #[arg(long = "for", value_name = "DUR", value_parser = duration)]
    time: Option<u64>,
}

pub fn run(context: &Context, args: Hold) -> Result<u8, Fault> {
    check_name(&args.name)?;
    let mut connection = context.connect()?;
    let request = Request { name: args.name.clone(), for_ms: args.time };
    let answer: States = connection.call("session/hold", &request)?;
    context.print(&answer, |_| format!("mail to {} is held\n", args.name));
    context.tell(&format!("hint: agentmux release {}", args.name));
    Ok(0)
}
