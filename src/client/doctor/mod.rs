//! `doctor`: looks at everything that a bundle stands on, one check after the other, and names what mends it.
//!
//! **Invariant:** an examination changes nothing and starts nothing but `codex --version`; it looks at what is there now, never
//! at what somebody noted earlier. **Invariant:** every check has an end: the relay and Codex are asked with a deadline.
//!
//! Deliberately absent: opening the store, which is the relay's, and signals. What only a relay can put right (children that
//! a dead one left behind) is named as the command that makes one do it.

mod children;
mod codex;
mod configuration;
mod files;
mod mail;
mod mend;
mod place;
mod program;
mod relay;
mod surroundings;

use std::cell::OnceCell;
use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use super::Target;
use super::shell::quoted;
use crate::boot::holder::Holder;
use crate::boot::statedir::{RELAY_LOCK, StateDir};
use crate::model::fault::Fault;

/// What was found, all in all and one by one.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The worst of all.
    pub overall_status: Status,
    /// One for each check that applies here.
    pub checks: Vec<Check>,
}

/// One check.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// Its name, the same for ever.
    pub id: &'static str,
    /// How bad it is.
    pub status: Status,
    /// What was found, in one line.
    pub summary: String,
    /// What more there is to say.
    pub details: Vec<String>,
    /// The commands that mend it, one a line.
    pub remediation: Option<String>,
    /// What `--fix` did about it just now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fixed: Vec<String>,
    /// How long it took.
    pub duration_ms: u64,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the words say it")]
pub enum Status {
    Ok,
    Warning,
    Fail,
}

/// A check: looks, and says what it found; nothing where it does not apply.
type Look = fn(&Patient) -> Option<Finding>;

/// The checks in the order of the report.
const CHECKS: &[(&str, Look)] = &[
    ("program", program::program),
    ("configuration", configuration::configuration),
    ("bundle", place::bundle),
    ("address", place::address),
    ("filesystem", place::filesystem),
    ("disk", place::disk),
    ("files", files::files),
    ("store", files::store),
    ("lock", relay::lock),
    ("relay", relay::relay),
    ("codex", codex::codex),
    ("children", children::children),
    ("sandbox", surroundings::sandbox),
    ("logout", surroundings::logout),
    ("mail", mail::mail),
];

/// Examines what `target` means; `state_rule` is the rule that chose its state directory. With `fix`, mends first what is
/// provably ours and stale.
pub fn examine(target: &Target, state_rule: &'static str, config_faults: &[Fault], fix: bool) -> Report {
    let mended = if fix { mend::mend(target) } else { Vec::new() };
    let patient = Patient {
        target,
        state_rule,
        config_faults,
        dir: StateDir::open(&target.state_root, &target.bundle.name),
        relay: OnceCell::new(),
    };
    let check = |(id, look): &(&'static str, Look)| {
        let begun = Instant::now();
        let finding = look(&patient)?;
        let of_this = mended.iter().filter(|(of, _)| of == id);
        Some(Check {
            id,
            status: finding.status,
            summary: finding.summary,
            details: finding.details,
            remediation: (!finding.fixes.is_empty()).then(|| finding.fixes.join("\n")),
            fixed: of_this.map(|(_, what)| what.clone()).collect(),
            duration_ms: begun.elapsed().as_millis() as u64,
        })
    };
    let checks: Vec<Check> = CHECKS.iter().filter_map(check).collect();
    let overall_status = checks.iter().map(|check| check.status).max().unwrap_or(Status::Ok);
    Report { overall_status, checks }
}

/// Who is examined.
struct Patient<'a> {
    target: &'a Target,
    state_rule: &'static str,
    /// What is wrong with the configuration.
    config_faults: &'a [Fault],
    /// The bundle's directory, `Ok(None)` when there is none yet.
    dir: Result<Option<StateDir>, Fault>,
    /// What came of calling the relay; asked once.
    relay: OnceCell<relay::Called>,
}

impl Patient<'_> {
    /// The bundle's directory, when there is one that is as it must be.
    fn dir(&self) -> Option<&StateDir> {
        self.dir.as_ref().ok()?.as_ref()
    }

    fn called(&self) -> &relay::Called {
        self.relay.get_or_init(|| relay::call(self))
    }

    /// Who wrote itself into the relay's lock last.
    fn holder(&self) -> Option<Holder> {
        Holder::parse(&self.dir()?.read(RELAY_LOCK).ok()??)
    }

    /// A command for this very bundle, to be pasted where `doctor` was run.
    fn command(&self, words: &str) -> String {
        let mut command = "agentmux".to_owned();
        if self.target.bundle.rule == "--bundle" {
            command.push_str(&format!(" --bundle {}", self.target.bundle.name));
        }
        if self.state_rule == "--state-dir" {
            command.push_str(&format!(" --state-dir {}", word(&self.target.state_root)));
        }
        format!("{command} {words}")
    }
}

/// What one check found.
struct Finding {
    status: Status,
    summary: String,
    details: Vec<String>,
    fixes: Vec<String>,
}

impl Finding {
    fn new(status: Status, summary: impl Into<String>) -> Finding {
        Finding { status, summary: summary.into(), details: Vec::new(), fixes: Vec::new() }
    }

    fn ok(summary: impl Into<String>) -> Finding {
        Finding::new(Status::Ok, summary)
    }

    fn warning(summary: impl Into<String>) -> Finding {
        Finding::new(Status::Warning, summary)
    }

    fn fail(summary: impl Into<String>) -> Finding {
        Finding::new(Status::Fail, summary)
    }

    fn detail(mut self, detail: impl Into<String>) -> Finding {
        self.details.push(detail.into());
        self
    }

    fn details(mut self, details: impl IntoIterator<Item = String>) -> Finding {
        self.details.extend(details);
        self
    }

    fn fix(mut self, command: impl Into<String>) -> Finding {
        self.fixes.push(command.into());
        self
    }
}

/// A path as one word of a shell's command.
fn word(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}
