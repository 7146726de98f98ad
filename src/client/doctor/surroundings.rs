//! What is around us: an agent's sandbox, and what becomes of processes when the user logs out.

use std::path::Path;

use super::relay::Called;
use super::{Finding, Patient};
use crate::boot::environment;
use crate::model::fault::Code;

pub fn sandbox(patient: &Patient) -> Option<Finding> {
    let mark = environment::agent_mark();
    let finding = match (mark, patient.called()) {
        (None, _) => Finding::ok("not inside an agent's sandbox"),
        (Some(mark), Called::Refused(fault)) if fault.code == Code::Sandbox => {
            Finding::fail(format!("a sandbox ({mark}) keeps this command from the relay"))
                .fix("codex -c sandbox_workspace_write.network_access=true")
        }
        (Some(mark), Called::Answered(_)) => {
            Finding::ok(format!("started by an agent ({mark}); nothing keeps it from the relay"))
        }
        (Some(mark), _) => Finding::ok(format!("started by an agent ({mark}); no relay answered to try it")),
    };
    let dir = patient.target.dir();
    Some(finding.details(WAYS_OUT.iter().map(|line| line.replace("DIR", &dir.display().to_string()))))
}

/// What lets a sandboxed command reach the relay. Codex 0.169.0, measured: with a network its commands may use any Unix
/// socket, without one none, whatever its path; the state directory need not be writable, and should not be.
const WAYS_OUT: &[&str] = &[
    "sockets are in DIR",
    "Codex on Linux allows no socket by its path; all of them with the network, in ~/.codex/config.toml:",
    "  [sandbox_workspace_write]\n  network_access = true",
    "Claude Code on Linux cannot tell sockets apart either; in .claude/settings.json:",
    "  {\"sandbox\": {\"network\": {\"allowAllUnixSockets\": true}}}",
    "a sandboxed command starts no relay: it cannot write there; start it outside: agentmux up",
    "where that is too much, run the command outside the sandbox, with an approval; MCP servers run outside of it, too",
];

/// Only where systemd may end what a login has started.
pub fn logout(patient: &Patient) -> Option<Finding> {
    if !Path::new("/run/systemd/system").is_dir() {
        return None;
    }
    let texts: Vec<String> =
        settings().iter().filter_map(|path| std::fs::read_to_string(path).ok()).collect();
    if !kills_user_processes(&texts) {
        return Some(Finding::ok("processes go on after a logout"));
    }
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten()?.name;
    let lingers = Path::new("/var/lib/systemd/linger").join(&user).exists();
    let finding = Finding::warning("systemd ends relay and agents at logout (KillUserProcesses=yes)")
        .detail("no mail is lost; the next command brings them back")
        .detail("a relay that is started in a scope of the user's manager outlives the login, while that manager lingers");
    let finding = if lingers { finding } else { finding.fix("loginctl enable-linger") };
    Some(finding.fix(format!("systemd-run --user --scope {}", patient.command("up"))))
}

/// The files that configure logins, the ones that win last.
fn settings() -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for base in ["/usr/lib/systemd", "/run/systemd", "/etc/systemd"] {
        files.push(Path::new(base).join("logind.conf"));
    }
    let mut parts = Vec::new();
    for base in ["/usr/lib/systemd", "/run/systemd", "/etc/systemd"] {
        let entries =
            std::fs::read_dir(Path::new(base).join("logind.conf.d")).into_iter().flatten().flatten();
        parts.extend(entries.map(|entry| entry.path()));
    }
    parts.sort_by_key(|path| path.file_name().map(std::ffi::OsStr::to_owned));
    files.extend(parts);
    files
}

fn kills_user_processes(texts: &[String]) -> bool {
    let value = texts.iter().rev().flat_map(|text| text.lines().rev()).find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == "KillUserProcesses").then(|| value.trim().to_ascii_lowercase())
    });
    value.is_some_and(|value| ["yes", "true", "on", "1"].contains(&value.as_str()))
}

#[cfg(test)]
mod tests {
    use super::kills_user_processes;

    #[test]
    fn the_last_setting_wins_and_comments_say_nothing() {
        let of = |texts: &[&str]| {
            kills_user_processes(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
        };
        assert!(!of(&[]) && !of(&["[Login]\n#KillUserProcesses=yes\n"]));
        assert!(of(&["[Login]\nKillUserProcesses = yes\n"]));
        assert!(!of(&["KillUserProcesses=yes\n", "KillUserProcesses=no\n"]));
    }
}
