//! `agentmux deny ID`: the operator's no; the agent's turn goes on without.

use clap::Args;

use super::approve::words;
use crate::cli::context::Context;
use crate::model::fault::Fault;
use crate::protocol::answer::ApprovalSettled;
use crate::protocol::check::check_reason;
use crate::protocol::request::{Decision, SettleApproval};

/// Arguments of `deny`.
#[derive(Debug, Args)]
pub struct Deny {
    /// The approval, as `agentmux approvals` lists it; its first 4 digits are enough
    id: String,
    /// Why; it is kept with the approval
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Another no that the agent's program offers, as `approvals --json` lists it; `cancel` ends the turn, too
    #[arg(long, value_name = "WORD")]
    decision: Option<String>,
    /// Yes, also one that persists
    #[arg(long, requires = "decision")]
    yes: bool,
}

pub fn run(context: &Context, args: Deny) -> Result<u8, Fault> {
    let Deny { id, reason, decision: choice, yes: confirmed } = args;
    check_reason(reason.as_deref())?;
    let decision = Decision::Deny;
    let request = SettleApproval { id, decision, always: false, confirmed, choice, reason };
    let mut connection = context.connect()?;
    let answer: ApprovalSettled = connection.call("approval/settle", &request)?;
    context.print(&answer, words);
    Ok(0)
}
