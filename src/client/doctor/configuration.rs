//! The configuration: that it is understood, and that the relay runs with what it says now.

use std::path::PathBuf;

use super::{Finding, Patient, word};
use crate::boot::config::{self, UserConfig};
use crate::client::doctor::relay::Called;

pub fn configuration(patient: &Patient) -> Option<Finding> {
    let dir = config::user_dir(patient.target.config_dir.as_deref());
    if let Some(fault) = patient.config_faults.first() {
        let more = patient.config_faults[1..].iter().map(|fault| fault.message.clone());
        let finding = Finding::fail(&fault.message).details(fault.hint.clone()).details(more).detail(
            "every other command is refused until it is mended; what follows was looked at without it",
        );
        // What is wrong with a value names no file: values that mean something are those of the person's.
        let named =
            fault.message.strip_prefix("configuration refused: ").filter(|rest| rest.starts_with('/'));
        let named = named.and_then(|rest| rest.split_once(" line ").or(rest.split_once(" cannot be read")));
        let file = named.map(|(file, _)| PathBuf::from(file)).or(dir.as_deref().map(UserConfig::path));
        return Some(finding.fix(format!("${{EDITOR:-vi}} {}", word(&file.unwrap_or_default()))));
    }
    let file = dir.as_deref().map(UserConfig::path).filter(|file| file.exists());
    let what = file.map_or("no config.toml; the defaults hold".to_owned(), |file| {
        format!("{} is understood", word(&file))
    });
    let hook = UserConfig::of(dir.as_deref()).and_then(|config| config.hook());
    if let Some(fault) = hook.err() {
        return Some(
            Finding::warning(&fault.message)
                .detail("a relay that is started from here runs no hook")
                .details(fault.hint),
        );
    }
    let Called::Answered(status) = patient.called() else { return Some(Finding::ok(what)) };
    Some(match status.relay.settings_hash.as_deref() {
        Some(running) if running != config::fingerprint(dir.as_deref()) => {
            Finding::warning("the relay runs with settings that config.toml no longer says")
                .detail("settings are read when a relay starts; no agent is ended by replacing it")
                .fix(patient.command("host relay --replace"))
        }
        _ => Finding::ok(what),
    })
}
