//! The Codex that the next `spawn` would use: found where, which version, in range or not.

use super::relay::Called;
use super::{Finding, Patient};
use crate::boot::program;
use crate::model::version::{CODEX_MIN, CODEX_TESTED, codex_is_untested};

const INSTALL: &str = "npm install -g @openai/codex@latest";

pub fn codex(patient: &Patient) -> Option<Finding> {
    let named = std::env::var("AGENTMUX_CODEX").ok().filter(|named| !named.is_empty());
    let origin = if named.is_some() { "AGENTMUX_CODEX" } else { "PATH" };
    let finding = match program::find(named.as_deref()) {
        Err(fault) if named.is_some() => {
            Finding::fail(fault.message).fix("unset AGENTMUX_CODEX").fix(INSTALL)
        }
        Err(fault) => Finding::fail(fault.message).fix(INSTALL),
        Ok(launcher) => {
            let place = format!("{} (by {origin})", launcher.display());
            match program::check_version(&launcher) {
                Err(fault) => Finding::fail(fault.message).detail(place).fix(INSTALL),
                Ok(version) if codex_is_untested(&version) => Finding::ok(format!("{version} at {place}"))
                    .detail(format!("newer than {CODEX_TESTED}, with which this agentmux was tested")),
                Ok(version) => Finding::ok(format!("{version} at {place}")),
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
