//! The environment that a session's child gets: an allow-list of the spawning command's, and nothing else.
//!
//! **Invariant:** no mark of an agent and no token of ours ever passes (users ask: no `CODEX_THREAD_ID` leaks).

use std::collections::BTreeMap;

/// Variables that pass by their whole name, beside those of [`SHOWN`].
const NAMES: &[&str] = &[
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "CARGO_HOME",
    "RUSTUP_HOME",
    "GOPATH",
    "GOROOT",
    "JAVA_HOME",
    "NVM_DIR",
    "PYENV_ROOT",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "DATABASE_URL",
    "KUBECONFIG",
    "DOCKER_HOST",
    "AWS_PROFILE",
    "AWS_REGION",
    "GOOGLE_APPLICATION_CREDENTIALS",
];

/// Variables that pass by how their name begins.
const PREFIXES: &[&str] = &["LC_", "OPENAI_", "AZURE_OPENAI_", "CODEX_API_"];

/// Variables that tell that a command was started by an agent.
const MARKS: &[&str] = &["AGENTMUX_SESSION", "CODEX_THREAD_ID", "CLAUDECODE"];
/// How such variables begin.
const MARK_PREFIXES: &[&str] = &["CODEX_SANDBOX"];

/// Keeps what may pass to a child.
pub fn allowed(environment: impl Iterator<Item = (String, String)>) -> BTreeMap<String, String> {
    environment.filter(|(key, _)| is_allowed(key)).collect()
}

fn is_allowed(key: &str) -> bool {
    SHOWN.contains(&key) || NAMES.contains(&key) || PREFIXES.iter().any(|prefix| key.starts_with(prefix))
}

/// Variables that pass, and whose values name places and manners and may be shown; every other value may be a secret.
const SHOWN: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    "EDITOR",
    "VISUAL",
    "CODEX_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_CACHE_HOME",
    "XDG_STATE_HOME",
    "XDG_RUNTIME_DIR",
    UMASK,
];

/// The variable in which the umask of the spawning command travels, in octal: files that an agent makes have the modes that the
/// person's own have, not those of the relay's.
pub const UMASK: &str = "AGENTMUX_UMASK";

/// This process's umask, in octal.
pub fn umask() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("Umask:")).map(|mask| mask.trim().to_owned())
}

/// The umask that an environment asks for.
pub fn umask_of(environment: &[(String, String)]) -> Option<u32> {
    let (_, mask) = environment.iter().find(|(key, _)| key == UMASK)?;
    u32::from_str_radix(mask, 8).ok().filter(|mask| *mask <= 0o777)
}

/// An environment for people to look at: of what may be a secret only the length.
pub fn redacted(environment: &[(String, String)]) -> BTreeMap<String, String> {
    let shown = |key: &str| SHOWN.contains(&key) || key.starts_with("LC_");
    let show = |(key, value): &(String, String)| {
        let value = if shown(key) { value.clone() } else { format!("<{} bytes, not shown>", value.len()) };
        (key.clone(), value)
    };
    environment.iter().map(show).collect()
}

/// The first mark of an agent in this process's environment.
pub fn agent_mark() -> Option<String> {
    agent_mark_of(&names())
}

fn agent_mark_of(names: &[String]) -> Option<String> {
    let is_mark = |key: &&String| {
        MARKS.contains(&key.as_str()) || MARK_PREFIXES.iter().any(|prefix| key.starts_with(prefix))
    };
    names.iter().find(is_mark).cloned()
}

/// What tells that this process is in a sandbox: the variable of its agent, else the filter of system calls that it runs under.
pub fn sandbox_mark() -> Option<String> {
    let is_filtered = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        status.lines().any(|line| line.starts_with("Seccomp:") && line.ends_with('2'))
    };
    sandbox_mark_of(&names()).or_else(|| is_filtered().then(|| "a filter of system calls".to_owned()))
}

/// The variable among these that tells of a sandbox: its own, else that of an agent, whose commands may run in one.
pub fn sandbox_mark_of(names: &[String]) -> Option<String> {
    let is_mark = |key: &&String| MARK_PREFIXES.iter().any(|prefix| key.starts_with(prefix));
    names.iter().find(is_mark).cloned().or_else(|| agent_mark_of(names))
}

/// The names of this process's variables.
fn names() -> Vec<String> {
    std::env::vars_os().filter_map(|(key, _)| key.into_string().ok()).collect()
}

/// The environment that a relay runs with: enough to find programs, its home and the time zone.
pub fn for_relay() -> Vec<(String, String)> {
    const KEPT: &[&str] = &[
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "LANG",
        "TZ",
        "TMPDIR",
        "AGENTMUX_LOG",
        "AGENTMUX_CONFIG_DIR",
        "XDG_CONFIG_HOME",
    ];
    let texts = std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
    texts.filter(|(key, _)| KEPT.contains(&key.as_str()) || key.starts_with("LC_")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_tokens_do_not_pass() {
        let all = [
            "PATH",
            "CODEX_HOME",
            "LC_ALL",
            "OPENAI_API_KEY",
            "CODEX_THREAD_ID",
            "CLAUDECODE",
            "AGENTMUX_TOKEN",
            "PWD",
        ];
        let kept = allowed(all.iter().map(|key| ((*key).to_owned(), "x".to_owned())));
        assert_eq!(kept.keys().collect::<Vec<_>>(), ["CODEX_HOME", "LC_ALL", "OPENAI_API_KEY", "PATH"]);
    }
}
