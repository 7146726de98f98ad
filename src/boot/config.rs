//! The person's configuration file, `config.toml`, and how configuration files are read. It does not have to exist.
//!
//! **Invariant:** a file that does not parse, or that says something unknown, changes nothing: every command that would read it
//! fails first, with the line.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::project::Coders;
use crate::core::policy::{Policy, Rules};
use crate::model::clock::{parse_duration, written_duration};
use crate::model::fault::Fault;
use crate::model::hash::fnv1a;
use crate::model::limits;
use crate::model::name::{Name, nearest};
use crate::model::session::SessionState;
use crate::protocol::check::Groups;

/// What happens to an approval that nobody answers in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnTimeout {
    /// It is declined; its turn goes on.
    Decline,
    /// It is declined, and its turn ends, where the child offers that.
    Cancel,
}

/// What the person's file may say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserConfig {
    /// After how long without anything to do the relay leaves: a duration, or `0` for never.
    pub idle_exit: Option<toml::Value>,
    /// How long normal mail waits for an idle session before it may join a running turn.
    pub patience: Option<String>,
    /// After how long without a word a running turn is asked about.
    pub silent_after: Option<String>,
    /// How long finished mail is kept: a duration, or `0` for ever.
    pub retention: Option<toml::Value>,
    /// Above how much resident memory, in MiB, a child is ended and started again; `0` for no limit.
    pub child_memory_mib: Option<u64>,
    /// How long an approval waits for a person before it is declined: a duration, or `0` for ever.
    pub approval_timeout: Option<toml::Value>,
    /// What happens then: `decline`, or `cancel`, which ends the turn, too.
    pub approval_on_timeout: Option<OnTimeout>,
    /// See [`Policy::brake_hops`].
    pub brake_hops: Option<u32>,
    /// See [`Policy::brake_pair_per_minute`].
    pub brake_pair_per_minute: Option<usize>,
    /// See [`Policy::brake_thread_per_minute`].
    pub brake_thread_per_minute: Option<usize>,
    /// See [`Policy::wake_max`].
    pub wake_max: Option<usize>,
    /// As in the project's file, which comes first.
    #[serde(default)]
    pub groups: Groups,
    /// As in the project's file, which comes first.
    #[serde(default)]
    pub coders: Coders,
    /// Who may write to whom, and which agents may do what is else the operator's.
    #[serde(default)]
    pub policy: PolicyTable,
    /// How long a command waits for a relay to start or to answer before it says "busy": a duration.
    pub start_timeout: Option<String>,
    /// A command that is run when a session needs the person.
    pub hook: Option<HookConfig>,
}

/// `[hook]` of the person's file; a project's file has none, because a repository runs nothing.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookConfig {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The states that start it: `waiting`, `blocked`, `failed`.
    pub on: Option<Vec<SessionState>>,
}

/// The hook as it can be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookProgram {
    /// The program, absolute once it is resolved.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// The states that start it.
    pub on: Vec<SessionState>,
}

/// The table `[policy]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyTable {
    /// See [`Policy::mail`].
    #[serde(default)]
    pub mail: Rules,
    /// See [`Policy::allow`].
    #[serde(default, deserialize_with = "allowed")]
    pub allow: Rules,
}

/// The table `[policy.allow]`: the words of `core::policy::ALLOWABLE`, which a test compares.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AllowTable {
    prompt: Option<Vec<String>>,
    interrupt: Option<Vec<String>>,
    close: Option<Vec<String>>,
    look: Option<Vec<String>>,
}

/// Reads that table as one of keys that are known, so that another one is told with its line, and the nearest.
fn allowed<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Rules, D::Error> {
    let AllowTable { prompt, interrupt, close, look } = AllowTable::deserialize(from)?;
    let all = [("prompt", prompt), ("interrupt", interrupt), ("close", close), ("look", look)];
    Ok(all.into_iter().filter_map(|(word, names)| Some((word.to_owned(), names?))).collect())
}

impl PolicyTable {
    fn check(&self) -> Result<(), Fault> {
        let bad = |what: String| {
            Err(Fault::usage(format!("configuration refused: {what}")).hint("see `[policy]` in the README"))
        };
        let is_name = |name: &str| name == "*" || Name::parse(name).is_some();
        for (from, to) in &self.mail {
            if let Some(odd) = [from].into_iter().chain(to).find(|name| !is_name(name)) {
                return bad(format!("`policy.mail` names `{}`, which is no name", odd.escape_debug()));
            }
        }
        for (word, names) in &self.allow {
            if let Some(odd) = names.iter().find(|name| Name::parse(name).is_none()) {
                return bad(format!(
                    "`policy.allow.{word}` names `{}`, which is no name",
                    odd.escape_debug()
                ));
            }
        }
        Ok(())
    }
}

impl UserConfig {
    /// Reads the person's file in a directory, if there are both.
    ///
    /// # Errors
    /// As [`UserConfig::read`].
    pub fn of(dir: Option<&Path>) -> Result<UserConfig, Fault> {
        dir.map_or_else(|| Ok(UserConfig::default()), UserConfig::read)
    }

    /// The same, when all that is said in words means something.
    ///
    /// # Errors
    /// `usage`, naming the key.
    pub fn checked(self) -> Result<UserConfig, Fault> {
        self.idle_exit_ms()?;
        self.policy()?;
        self.retention_ms()?;
        self.hook_as_written()?;
        self.start_timeout()?;
        Ok(self)
    }

    /// Reads the person's file in `dir`, if there is one.
    ///
    /// # Errors
    /// `usage` when it cannot be read or does not parse, quoting the line.
    pub fn read(dir: &Path) -> Result<UserConfig, Fault> {
        let path = UserConfig::path(dir);
        if path.exists() { parse(&path).map(|(_, config)| config) } else { Ok(UserConfig::default()) }
    }

    /// The person's file in a directory.
    pub fn path(dir: &Path) -> PathBuf {
        dir.join("config.toml")
    }

    /// What counts when no file says anything.
    pub fn defaults() -> Vec<(&'static str, serde_json::Value)> {
        let policy = Policy::default();
        let duration = |ms: i64| serde_json::Value::from(written_duration(ms));
        vec![
            ("idle_exit", duration(limits::IDLE_EXIT_MS)),
            ("patience", duration(policy.patience_ms)),
            ("silent_after", duration(policy.silent_ms)),
            ("retention", duration(limits::RETENTION_MS)),
            ("approval_timeout", duration(limits::APPROVAL_MS)),
            ("approval_on_timeout", "decline".into()),
            ("start_timeout", duration(limits::START_MS as i64)),
            ("child_memory_mib", limits::CHILD_MIB_MAX.into()),
            ("brake_hops", policy.brake_hops.into()),
            ("brake_pair_per_minute", policy.brake_pair_per_minute.into()),
            ("brake_thread_per_minute", policy.brake_thread_per_minute.into()),
            ("wake_max", policy.wake_max.into()),
        ]
    }

    /// After how long the relay leaves; `None` for never.
    ///
    /// # Errors
    /// `usage` when it is not a duration.
    pub fn idle_exit_ms(&self) -> Result<Option<i64>, Fault> {
        duration_or_zero("idle_exit", self.idle_exit.as_ref(), limits::IDLE_EXIT_MS)
    }

    /// How long finished mail is kept; `None` for ever.
    ///
    /// # Errors
    /// `usage` when it is not a duration.
    pub fn retention_ms(&self) -> Result<Option<i64>, Fault> {
        duration_or_zero("retention", self.retention.as_ref(), limits::RETENTION_MS)
    }

    /// Above how many bytes of resident memory a child is ended; `None` for no limit.
    pub fn child_bytes_max(&self) -> Option<u64> {
        let mib = self.child_memory_mib.unwrap_or(limits::CHILD_MIB_MAX);
        (mib > 0).then(|| mib.saturating_mul(1024 * 1024))
    }

    /// What the person has set of delivery.
    ///
    /// # Errors
    /// `usage` when `patience` or `approval_timeout` is not a duration.
    pub fn policy(&self) -> Result<Policy, Fault> {
        let default = Policy::default();
        let set = |key: &str, text: &Option<String>, default_ms: i64| match text {
            None => Ok(default_ms),
            Some(text) => parse_duration(text).and_then(|ms| i64::try_from(ms).ok()).ok_or_else(|| {
                Fault::usage(format!("configuration refused: `{key}` is not a duration"))
                    .hint("write it as \"5m\"")
            }),
        };
        self.policy.check()?;
        Ok(Policy {
            mail: self.policy.mail.clone(),
            allow: self.policy.allow.clone(),
            patience_ms: set("patience", &self.patience, default.patience_ms)?,
            silent_ms: set("silent_after", &self.silent_after, default.silent_ms)?.max(1),
            brake_hops: self.brake_hops.unwrap_or(default.brake_hops),
            brake_pair_per_minute: self.brake_pair_per_minute.unwrap_or(default.brake_pair_per_minute),
            brake_thread_per_minute: self.brake_thread_per_minute.unwrap_or(default.brake_thread_per_minute),
            wake_max: self.wake_max.unwrap_or(default.wake_max),
            approval_cancels: self.approval_on_timeout == Some(OnTimeout::Cancel),
            approval_ms: duration_or_zero(
                "approval_timeout",
                self.approval_timeout.as_ref(),
                limits::APPROVAL_MS,
            )?,
        })
    }

    /// The person's command for sessions that need the person.
    ///
    /// # Errors
    /// As [`UserConfig::checked`]; `usage` when its program is not found on this process's PATH.
    pub fn hook(&self) -> Result<Option<HookProgram>, Fault> {
        let Some(hook) = self.hook_as_written()? else { return Ok(None) };
        let name = hook.program.to_str().filter(|program| !program.contains('/'));
        let Some(name) = name else { return Ok(Some(hook)) };
        let found = super::program::on_path(name).filter(|path| path.is_absolute());
        let program = found.ok_or_else(|| {
            hook_refused(&format!("there is no program `{name}` on PATH")).hint("name it with its whole path")
        })?;
        Ok(Some(HookProgram { program, ..hook }))
    }

    /// The hook, its program as it is written: one without a path is looked for by whoever runs it, because a command may be run with
    /// any PATH (cron, a sandbox).
    fn hook_as_written(&self) -> Result<Option<HookProgram>, Fault> {
        const STATES: [SessionState; 3] =
            [SessionState::Waiting, SessionState::Blocked, SessionState::Failed];
        let Some(hook) = &self.hook else { return Ok(None) };
        let Some((program, arguments)) = hook.command.split_first() else {
            return Err(
                hook_refused("`command` is empty").hint("write command = [\"notify-send\", \"agentmux\"]")
            );
        };
        let on = hook.on.clone().unwrap_or_else(|| STATES.to_vec());
        if let Some(state) = on.iter().find(|state| !STATES.contains(state)) {
            let fault = hook_refused(&format!("it is not run for `{}`", state.as_str()));
            return Err(fault.hint("there are: waiting, blocked, failed"));
        }
        let path = Path::new(program);
        if program.contains('/') && !(path.is_absolute() && path.is_file()) {
            return Err(hook_refused(&format!("there is no program {program}"))
                .hint("name it with its whole path, or one that is on PATH"));
        }
        Ok(Some(HookProgram { program: path.to_owned(), arguments: arguments.to_vec(), on }))
    }

    /// How long a command waits for a relay.
    ///
    /// # Errors
    /// `usage` when it is no duration within its bounds.
    pub fn start_timeout(&self) -> Result<Duration, Fault> {
        let Some(text) = &self.start_timeout else { return Ok(Duration::from_millis(limits::START_MS)) };
        let bounds = limits::START_MS_MIN..=limits::START_MS_MAX;
        match parse_duration(text).filter(|ms| bounds.contains(ms)) {
            Some(ms) => Ok(Duration::from_millis(ms)),
            None => Err(Fault::usage(
                "configuration refused: `start_timeout` is not a duration within its bounds",
            )
            .hint("write it as \"10s\"; it is at least 200ms and at most 10m")),
        }
    }
}

fn hook_refused(why: &str) -> Fault {
    Fault::usage(format!("configuration refused: `hook`: {why}"))
}

/// A duration in milliseconds; `None` where a person wrote `0`, for never or for ever.
fn duration_or_zero(key: &str, value: Option<&toml::Value>, default_ms: i64) -> Result<Option<i64>, Fault> {
    let ms = match value {
        None => return Ok(Some(default_ms)),
        Some(toml::Value::Integer(0)) => return Ok(None),
        Some(toml::Value::String(text)) if text == "0" => return Ok(None),
        Some(toml::Value::String(text)) => parse_duration(text),
        Some(_) => None,
    };
    let bad = || {
        Fault::usage(format!("configuration refused: `{key}` is not a duration"))
            .hint("write it as \"30m\", or \"0\" for never")
    };
    ms.and_then(|ms| i64::try_from(ms).ok()).map(Some).ok_or_else(bad)
}

/// The person's configuration directory.
pub fn user_dir(named: Option<&Path>) -> Option<PathBuf> {
    if let Some(dir) = named {
        return Some(dir.to_owned());
    }
    let set = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|base| base.is_absolute());
    let base = set.or_else(|| super::bundle::home().map(|home| home.join(".config")))?;
    Some(base.join("agentmux"))
}

/// Reads a configuration file: its text, and what it says.
///
/// # Errors
/// `usage` when it cannot be read, does not parse or says something unknown, quoting the line.
pub(super) fn parse<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<(String, T), Fault> {
    let text = read(path).map_err(|why| {
        Fault::usage(format!("configuration refused: {} cannot be read: {why}", path.display()))
    })?;
    let parsed = toml::from_str(&text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start.min(text.len()));
        let number = text[..at].matches('\n').count() + 1;
        let line = text.lines().nth(number - 1).unwrap_or_default().trim();
        let why = error.message().lines().next().unwrap_or("it does not parse");
        let fault = Fault::usage(format!(
            "configuration refused: {} line {number}: `{line}`: {}",
            path.display(),
            why.replace("unknown field", "unknown key")
        ));
        match nearest_key(why) {
            Some(key) => fault.hint(format!("perhaps `{key}` was meant")),
            None => fault,
        }
    })?;
    Ok((text, parsed))
}

/// Reads a file that a person writes, which is a plain one: a pipe at its name would keep whoever opens it waiting for ever.
fn read(path: &Path) -> Result<String, String> {
    use std::os::unix::fs::OpenOptionsExt;
    let open = std::fs::File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = open.map_err(|error| error.to_string())?;
    if !file.metadata().is_ok_and(|found| found.is_file()) {
        return Err("it is not a plain file".to_owned());
    }
    let mut text = String::new();
    let read = std::io::Read::read_to_string(
        &mut std::io::Read::take(file, limits::CONFIG_BYTES_MAX + 1),
        &mut text,
    );
    match read {
        Ok(bytes) if bytes as u64 > limits::CONFIG_BYTES_MAX => {
            Err(format!("it is longer than {} bytes", limits::CONFIG_BYTES_MAX))
        }
        read => read.map(|_| text).map_err(|error| error.to_string()),
    }
}

/// What tells two states of the person's configuration apart; the same for none and for one that cannot be read.
pub fn fingerprint(dir: Option<&Path>) -> String {
    let text = dir.and_then(|dir| read(&UserConfig::path(dir)).ok()).unwrap_or_default();
    format!("{:016x}", fnv1a(text.as_bytes()))
}

/// What a configuration file says, key by key with dots between; nothing when there is no file.
///
/// # Errors
/// As [`parse`].
pub fn entries(path: &Path) -> Result<Vec<(String, serde_json::Value)>, Fault> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let (_, table): (_, serde_json::Value) = parse(path)?;
    let mut found = Vec::new();
    flatten("", table, &mut found);
    Ok(found)
}

fn flatten(key: &str, value: serde_json::Value, found: &mut Vec<(String, serde_json::Value)>) {
    match value {
        serde_json::Value::Object(table) => table.into_iter().for_each(|(name, value)| {
            let key = if key.is_empty() { name } else { format!("{key}.{name}") };
            flatten(&key, value, found);
        }),
        value => found.push((key.to_owned(), value)),
    }
}

/// The known key that is nearest to the unknown one that serde complains of.
fn nearest_key(why: &str) -> Option<String> {
    let mut words = why.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    let unknown = words.next()?;
    nearest(unknown, words).into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::policy::ALLOWABLE;

    #[test]
    fn every_word_that_may_be_allowed_can_be_written_and_no_other() {
        for (word, _) in ALLOWABLE {
            let config: UserConfig =
                toml::from_str(&format!("[policy.allow]\n{word} = [\"lead\"]\n")).unwrap();
            assert_eq!(config.policy.allow.keys().collect::<Vec<_>>(), [word]);
        }
        let all: AllowTable = toml::from_str("").unwrap();
        let count = format!("{all:?}").matches("None").count();
        assert_eq!(count, ALLOWABLE.len());
    }
}
