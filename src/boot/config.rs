//! Configuration files: `agentmux.toml` in the project, `config.toml` for the person. Neither has to exist.
//!
//! **Invariant:** a file that does not parse changes nothing: every command that would read it fails first, with the line.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::core::policy::Policy;
use crate::model::clock::parse_duration;
use crate::model::fault::Fault;
use crate::model::limits;
use crate::protocol::check::Groups;

/// The project's file.
pub const PROJECT_FILE: &str = "agentmux.toml";

/// What the project's file may say. It names no program, so it needs no trust.
#[derive(Debug, Default, Deserialize)]
pub struct ProjectConfig {
    /// The bundle's name.
    pub bundle: Option<String>,
    /// Names that stand for several recipients, such as `reviewers = ["ann", "bob"]`; written `@reviewers`.
    #[serde(default)]
    pub groups: Groups,
}

/// What the person's file may say.
#[derive(Debug, Default, Deserialize)]
pub struct UserConfig {
    /// After how long without anything to do the relay leaves: a duration, or `0` for never.
    pub idle_exit: Option<toml::Value>,
    /// How long normal mail waits for an idle session before it may join a running turn.
    pub patience: Option<String>,
    /// How long finished mail is kept: a duration, or `0` for ever.
    pub retention: Option<toml::Value>,
    /// How long an approval waits for a person before it is declined: a duration, or `0` for ever.
    pub approval_timeout: Option<toml::Value>,
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
    /// How long a command waits for a relay to start or to answer before it says "busy": a duration.
    pub start_timeout: Option<String>,
}

impl ProjectConfig {
    /// Reads the project's file.
    ///
    /// # Errors
    /// `usage` when it cannot be read or does not parse, quoting the line.
    pub fn read(path: &Path) -> Result<ProjectConfig, Fault> {
        parse(path)
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

    /// Reads the person's file in `dir`, if there is one.
    ///
    /// # Errors
    /// `usage` when it cannot be read or does not parse, quoting the line.
    pub fn read(dir: &Path) -> Result<UserConfig, Fault> {
        let path = dir.join("config.toml");
        if path.exists() { parse(&path) } else { Ok(UserConfig::default()) }
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

    /// What the person has set of delivery.
    ///
    /// # Errors
    /// `usage` when `patience` or `approval_timeout` is not a duration.
    pub fn policy(&self) -> Result<Policy, Fault> {
        let default = Policy::default();
        let patience_ms = match &self.patience {
            None => default.patience_ms,
            Some(text) => parse_duration(text).and_then(|ms| i64::try_from(ms).ok()).ok_or_else(|| {
                Fault::usage("configuration refused: `patience` is not a duration").hint("write it as \"5m\"")
            })?,
        };
        Ok(Policy {
            patience_ms,
            brake_hops: self.brake_hops.unwrap_or(default.brake_hops),
            brake_pair_per_minute: self.brake_pair_per_minute.unwrap_or(default.brake_pair_per_minute),
            brake_thread_per_minute: self.brake_thread_per_minute.unwrap_or(default.brake_thread_per_minute),
            wake_max: self.wake_max.unwrap_or(default.wake_max),
            approval_ms: duration_or_zero(
                "approval_timeout",
                self.approval_timeout.as_ref(),
                limits::APPROVAL_MS,
            )?,
        })
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
    let set = |key: &str| std::env::var_os(key).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CONFIG_HOME").or_else(|| super::bundle::home().map(|home| home.join(".config")))?;
    Some(base.join("agentmux"))
}

fn parse<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T, Fault> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Fault::usage(format!("configuration refused: {} cannot be read: {error}", path.display()))
    })?;
    toml::from_str(&text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start.min(text.len()));
        let number = text[..at].matches('\n').count() + 1;
        let line = text.lines().nth(number - 1).unwrap_or_default().trim();
        let why = error.message().lines().next().unwrap_or("it does not parse").to_owned();
        Fault::usage(format!("configuration refused: {} line {number}: `{line}`: {why}", path.display()))
    })
}
