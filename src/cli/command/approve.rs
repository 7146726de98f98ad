//! `agentmux approve ID`: the operator's yes, once; for ever with `--always`.

use clap::Args;

use crate::cli::context::Context;
use crate::cli::print;
use crate::model::fault::Fault;
use crate::protocol::answer::ApprovalSettled;
use crate::protocol::request::{Decision, SettleApproval};

/// Arguments of `approve`.
#[derive(Debug, Args)]
pub struct Approve {
    /// The approval, as `agentmux approvals` lists it; its first 4 digits are enough
    id: String,
    /// Not just once: change the rules of every agent of that CODEX_HOME
    #[arg(long, group = "more")]
    always: bool,
    /// Yes, change them
    #[arg(long, requires = "more")]
    yes: bool,
    /// Another yes that the agent's program offers, as `approvals --json` lists it, such as acceptForSession; one that persists wants --yes
    #[arg(long, value_name = "WORD", group = "more")]
    decision: Option<String>,
}

pub fn run(context: &Context, args: Approve) -> Result<u8, Fault> {
    let Approve { id, always, yes: confirmed, decision: choice } = args;
    let request = SettleApproval { id, decision: Decision::Approve, always, confirmed, choice, reason: None };
    let mut connection = context.connect()?;
    let answer: ApprovalSettled = connection.call("approval/settle", &request)?;
    context.print(&answer, words);
    Ok(0)
}

/// What was settled, for people.
pub fn words(settled: &ApprovalSettled) -> String {
    let how = if settled.decision == "approvedAlways" { "approved for ever" } else { &settled.decision };
    let how = print::first_line(how, 80);
    format!("{how}: {}: {}\n", settled.session, print::first_line(&settled.summary, 200))
}
