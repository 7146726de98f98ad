//! The Codex that the next `spawn` would use: found where, which version, in range or not.

use std::path::Path;

use super::relay::Called;
use super::{Finding, Patient};
use crate::boot::program;
use crate::model::version::{CODEX_MIN, CODEX_TESTED, codex_is_untested};
use crate::transport::codex::{NOTICE_PARTS, NOTICES, QUESTIONS, REQUEST_FIELDS, REQUESTS};

const INSTALL: &str = "npm install -g @openai/codex@latest";

pub fn codex(patient: &Patient) -> Option<Finding> {
    let named = std::env::var("AGENTMUX_CODEX").ok().filter(|named| !named.is_empty());
    let origin = if named.is_some() { "AGENTMUX_CODEX" } else { "PATH" };
    let finding = match program::find(named.as_deref().map(|named| (named, "AGENTMUX_CODEX"))) {
        Err(fault) if named.is_some() => {
            Finding::fail(fault.message).fix("unset AGENTMUX_CODEX").fix(INSTALL)
        }
        Err(fault) => Finding::fail(fault.message).fix(INSTALL),
        Ok(launcher) => {
            let place = format!("{} (by {origin})", launcher.display());
            match program::check_version(&launcher) {
                Err(fault) => Finding::fail(fault.message).detail(place).fix(INSTALL),
                Ok(version) => {
                    let newer = codex_is_untested(&version)
                        .then(|| format!("newer than {CODEX_TESTED}, with which this agentmux was tested"));
                    judge(&launcher, format!("{version} at {place}")).details(newer)
                }
            }
        }
    };
    let finding = finding.detail(format!("supported from {CODEX_MIN}, tested with {CODEX_TESTED}"));
    let Called::Answered(status) = patient.called() else { return Some(finding) };
    let children = status.children.iter().map(|child| {
        let pid = child.pid.map_or("starting".to_owned(), |pid| format!("pid {pid}"));
        format!("running child: {pid}, version {}", child.version.as_deref().unwrap_or("not told yet"))
    });
    Some(finding.details(children))
}

/// A Codex of a version that is supported: whether it still knows every word that is spoken with it, by its own schema.
fn judge(launcher: &Path, what: String) -> Finding {
    let wanted = [
        ("ClientRequest.json", REQUESTS),
        ("ClientRequest.json", REQUEST_FIELDS),
        ("ServerNotification.json", NOTICES),
        ("ServerNotification.json", NOTICE_PARTS),
        ("ServerRequest.json", QUESTIONS),
    ];
    match program::missing_words(launcher, &wanted) {
        Ok(missing) if missing.is_empty() => {
            let words: usize = wanted.iter().map(|(_, words)| words.len()).sum();
            Finding::ok(what).detail(format!("its schema has all {words} words that are spoken with it"))
        }
        Ok(missing) => Finding::fail(format!("{what} no longer knows: {}", missing.join(", ")))
            .fix(format!("npm install -g @openai/codex@{CODEX_TESTED}")),
        Err(why) => Finding::warning(format!("{what} does not tell its protocol: {why}"))
            .fix(format!("npm install -g @openai/codex@{CODEX_TESTED}")),
    }
}
