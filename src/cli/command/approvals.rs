//! `agentmux approvals`: what agents want to do and may not without the operator.

use clap::Args;

use crate::cli::context::Context;
use crate::cli::print;
use crate::model::fault::Fault;
use crate::protocol::answer::{ApprovalInfo, Approvals as Answer};

/// Arguments of `approvals`.
#[derive(Debug, Args)]
pub struct Approvals {}

pub fn run(context: &Context) -> Result<u8, Fault> {
    let mut connection = context.connect()?;
    let answer: Answer = connection.call("approval/list", &serde_json::json!({}))?;
    context.print(&answer, |answer| table(&answer.approvals));
    match answer.approvals.first() {
        None => context.tell("no agent waits for an approval"),
        Some(first) => context.tell(&format!("hint: agentmux approve {0} or: agentmux deny {0}", first.id)),
    }
    Ok(0)
}

fn table(approvals: &[ApprovalInfo]) -> String {
    if approvals.is_empty() {
        return String::new();
    }
    let head = ["ID", "SESSION", "KIND", "ASKED", "DECLINED", "WHAT"].map(str::to_owned).to_vec();
    let row = |approval: &ApprovalInfo| {
        vec![
            approval.id.clone(),
            approval.session.to_string(),
            approval.kind.clone(),
            print::moment(approval.asked_at),
            approval.deadline_at.map_or("never".to_owned(), print::moment),
            what(approval),
        ]
    };
    print::table(&[vec![head], approvals.iter().map(row).collect()].concat())
}

/// What it wants, whole: nobody approves what is cut.
fn what(approval: &ApprovalInfo) -> String {
    let place = approval.cwd.as_deref().map(|cwd| format!("  (in {cwd})")).unwrap_or_default();
    let command = approval.command.as_deref().filter(|command| !approval.summary.contains(*command));
    let command = command.map(|command| format!(": {command}")).unwrap_or_default();
    print::safe(&format!("{}{command}{place}", approval.summary)).replace('\n', "\\n")
}
