//! What can go wrong, as data: a code, what failed before why, a hint; and the exit code that belongs to it.
//!
//! **Invariant:** every code has one name, one exit code and one JSON-RPC number; users and scripts may rely on all three.

use serde::{Deserialize, Serialize};

/// A failure that a user or a client is told about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// What kind of failure.
    pub code: Code,
    /// What failed, then why; lower case, no full stop.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The kinds of failure.
///
/// | Code | Exit | Means |
/// | --- | --- | --- |
/// | `refused` | 1 | refused, permanently: policy, Codex missing or too old, mail ended otherwise |
/// | `usage` | 2 | usage and grammar: flags, names, bodies, directories, configuration |
/// | `not_found` | 3 | no such session, mail or bundle |
/// | `timeout` | 4 | timed out waiting; the mail keeps its state |
/// | `no_relay` | 5 | no relay, and not allowed to start one |
/// | `sandbox` | 6 | blocked by a sandbox |
/// | `conflict` | 7 | name or thread held elsewhere, key reused |
/// | `version` | 8 | version mismatch with the relay |
/// | `bug` | 70 | a bug in agentmux |
/// | `io` | 74 | local IO failed: disk, lock, start, foreign file |
/// | `busy` | 75 | temporary: full, busy, held |
/// | `interrupted` | 130 | interrupted by the person |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the table above documents every variant")]
pub enum Code {
    Refused,
    Usage,
    NotFound,
    Timeout,
    NoRelay,
    Sandbox,
    Conflict,
    Version,
    Bug,
    Io,
    Busy,
    Interrupted,
}

impl Code {
    /// The exit code of a command that fails so.
    pub fn exit(self) -> u8 {
        match self {
            Code::Refused => 1,
            Code::Usage => 2,
            Code::NotFound => 3,
            Code::Timeout => 4,
            Code::NoRelay => 5,
            Code::Sandbox => 6,
            Code::Conflict => 7,
            Code::Version => 8,
            Code::Bug => 70,
            Code::Io => 74,
            Code::Busy => 75,
            Code::Interrupted => 130,
        }
    }

    /// The number in a JSON-RPC error object: the exit code below -32000, but JSON-RPC's own for bad parameters.
    pub fn rpc(self) -> i64 {
        match self {
            Code::Usage => -32_602,
            Code::Bug => -32_603,
            other => -32_000 - i64::from(other.exit()),
        }
    }
}

impl Fault {
    /// Makes a fault without a hint.
    pub fn new(code: Code, message: impl Into<String>) -> Fault {
        Fault { code, message: one_line(message.into()), hint: None }
    }

    /// Adds what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Fault {
        self.hint = Some(one_line(hint.into()));
        self
    }
}

/// What is quoted of a caller's text may hold anything; a message is one line that changes no terminal.
fn one_line(text: String) -> String {
    if !text.chars().any(char::is_control) {
        return text;
    }
    text.chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}

macro_rules! shorthand {
    ($($(#[$doc:meta])* $name:ident => $code:ident;)*) => {
        impl Fault {$(
            $(#[$doc])*
            pub fn $name(message: impl Into<String>) -> Fault {
                Fault::new(Code::$code, message)
            }
        )*}
    };
}
shorthand! {
    /// Refused, permanently.
    refused => Refused;
    /// Usage or grammar.
    usage => Usage;
    /// No such thing.
    not_found => NotFound;
    /// Timed out waiting.
    timeout => Timeout;
    /// Held elsewhere.
    conflict => Conflict;
    /// Local IO failed.
    io => Io;
    /// Temporary.
    busy => Busy;
    /// A bug of ours.
    bug => Bug;
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}
