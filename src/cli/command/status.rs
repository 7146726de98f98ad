//! `agentmux status`: bundle, relay, children, sessions and mail. Never starts a relay.

use clap::Args;

use super::list::{Hinted, STARTED_BY};
use crate::cli::context::Context;
use crate::cli::print;
use crate::model::fault::Fault;
use crate::protocol::VERSION;
use crate::protocol::answer::{BundleInfo, RelayInfo, Status as Answer};

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct Status {}

pub fn run(context: &Context) -> Result<u8, Fault> {
    let bundle = &context.target.bundle;
    let mut answer: Answer = context.target.look("relay/status")?.unwrap_or_else(|| stopped(context));
    answer.bundle = BundleInfo {
        name: bundle.name.clone(),
        root: answer.bundle.root.or_else(|| Some(bundle.root.display().to_string())),
        rule: Some(bundle.rule.to_owned()),
    };
    let answer = Hinted { hint: (!answer.relay.running).then_some(STARTED_BY), answer };
    context.print(&answer, |hinted| words(&hinted.answer, context.color));
    let Hinted { answer, hint } = answer;
    if let Some(hint) = hint {
        context.tell(&format!("hint: {hint}"));
    } else if answer.relay.version.as_deref() != Some(VERSION) {
        context.tell(&format!(
            "hint: this program is {VERSION}; the relay goes on with its own version until it is stopped"
        ));
    }
    Ok(0)
}

fn stopped(context: &Context) -> Answer {
    let bundle = &context.target.bundle;
    Answer {
        bundle: BundleInfo { name: bundle.name.clone(), root: None, rule: None },
        relay: RelayInfo {
            running: false,
            pid: None,
            version: None,
            protocol: None,
            started_at: None,
            state_dir: context.target.dir().display().to_string(),
            settings_hash: None,
        },
        children: Vec::new(),
        sessions: None,
        mail: None,
        approvals: 0,
        clients: 0,
    }
}

fn words(answer: &Answer, color: bool) -> String {
    let (bundle, relay) = (&answer.bundle, &answer.relay);
    let mut text = format!(
        "bundle  {} at {} (by {})\n",
        bundle.name,
        bundle.root.as_deref().unwrap_or("an unknown root"),
        bundle.rule.as_deref().unwrap_or("an unknown rule")
    );
    match (relay.pid, &relay.version, relay.started_at) {
        (Some(pid), Some(version), Some(at)) => {
            let protocol = relay.protocol.unwrap_or_default();
            text.push_str(&format!(
                "relay   pid {pid}, version {version}, protocol {protocol}, since {}\n",
                print::moment(at)
            ));
        }
        _ => text.push_str("relay   not running\n"),
    }
    text.push_str(&format!("state   {}\n", relay.state_dir));
    for child in &answer.children {
        let pid = child.pid.map_or("starting".to_owned(), |pid| format!("pid {pid}"));
        let version = child.version.as_deref().unwrap_or("?");
        let mib = child.rss_bytes.map_or(0, |bytes| bytes / 1024 / 1024);
        text.push_str(&format!(
            "child   {} {version}, {pid}, {mib} MiB, {} below it, since {}\n",
            child.coder.as_str(),
            child.descendants.unwrap_or_default(),
            print::moment(child.started_at)
        ));
    }
    if let Some(mail) = answer.mail {
        let (queued, claimed, unknown, dead) = (mail.queued, mail.claimed, mail.unknown, mail.dead);
        text.push_str(&format!(
            "mail    {queued} queued, {claimed} on its way, {unknown} unknown, {dead} dead\n"
        ));
        text.push_str(&format!(
            "waits   {} approvals to settle; clients: {}\n",
            answer.approvals, answer.clients
        ));
    }
    // A child says its version, and a directory may have any name.
    let mut text = print::safe(&text);
    if let Some(sessions) = &answer.sessions {
        text.push('\n');
        text.push_str(&super::list::table(sessions, color));
    }
    text
}
