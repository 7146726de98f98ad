//! `agentmux doctor`: looks at everything that the bundle stands on, and names what mends it. Never starts a relay.

use clap::Args;

use crate::cli::context::Context;
use crate::cli::print;
use crate::client::doctor::{self, Check, Report, Status};
use crate::model::fault::{Code, Fault};

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Mend what is provably ours and stale: modes of our files, the socket of a dead relay
    #[arg(long)]
    fix: bool,
}

pub fn run(context: &Context, args: &Doctor) -> Result<u8, Fault> {
    let report = doctor::examine(&context.target, context.state_rule, &context.config_faults, args.fix);
    context.print(&report, |report| words(report, context));
    Ok(if report.overall_status == Status::Fail { Code::Refused.exit() } else { 0 })
}

/// One line a check; below it, for those that are not well or when everything is wanted, the rest.
fn words(report: &Report, context: &Context) -> String {
    let mut text = String::new();
    for check in &report.checks {
        let status = print::padded(&status_word(check.status, context.color), 9);
        text.push_str(&format!("{status}{:<14}{}\n", check.id, print::safe(&check.summary)));
        let is_whole = context.verbose || check.status != Status::Ok;
        for line in rest(check, is_whole) {
            text.push_str(&format!("{:23}{}\n", "", print::safe(&line)));
        }
    }
    text
}

fn rest(check: &Check, is_whole: bool) -> Vec<String> {
    let mut lines: Vec<String> = check.fixed.iter().map(|what| format!("fixed: {what}")).collect();
    if is_whole {
        lines.extend(check.details.iter().flat_map(|detail| detail.lines()).map(str::to_owned));
        lines.extend(check.remediation.iter().flat_map(|fix| fix.lines()).map(|fix| format!("fix: {fix}")));
    }
    lines
}

fn status_word(status: Status, color: bool) -> String {
    let (word, code) = match status {
        Status::Ok => ("ok", "32"),
        Status::Warning => ("warning", "33"),
        Status::Fail => ("fail", "31"),
    };
    if color { format!("\x1b[{code}m{word}\x1b[0m") } else { word.to_owned() }
}
