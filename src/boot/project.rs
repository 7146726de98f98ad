//! The project's file, `agentmux.toml`: the bundle's name, groups, sessions and the programs that they run.
//!
//! Its name and its groups only say how things are called and always count. Its sessions and coders say what is run, so they
//! are inert until `agentmux trust` has kept a copy of the very text ([`ProjectFile::is_trusted`]); a changed file is inert again.
//!
//! **Invariant:** nothing that a file says is run by a command that was not asked to: `spawn` and `up` read it, mail does not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::config::parse;
use super::statedir::StateDir;
use crate::model::fault::Fault;
use crate::model::hash::fnv1a;
use crate::protocol::check::Groups;

/// The file's name.
pub const PROJECT_FILE: &str = "agentmux.toml";
/// How the names of the copies begin that say which files a person has trusted.
pub const TRUSTED: &str = "trusted-";

/// What a new file looks like; it says nothing yet.
pub const TEMPLATE: &str = r#"# What agentmux knows of this project. Everything here may be left out.

# bundle = "web"                    # the team's name; the directory's without it

# [groups]
# reviewers = ["ann", "bob"]        # written `@reviewers` where mail is sent

# Sessions and coders count once you have said `agentmux trust`, and again after each change of this file.
# `agentmux up` brings these sessions up.

# [sessions.reviewer]
# instructions = "You review what others wrote."   # or "@docs/reviewer.md", from this directory
# dir = "."
# model = "gpt-5"
# sandbox = "read-only"             # or workspace-write, danger-full-access
# approval = "never"                # or on-request
# wake_on_mail = false              # mail wakes it when it is stopped
# isolated = false                  # a child of its own
# skills_in_mail = false            # `$skill` in mail pulls the skill in
# coder = "codex"                   # or a coder named below

# [coders.nightly]
# kind = "codex"
# program = "/opt/codex-nightly/bin/codex"
# env = { CODEX_HOME = "/opt/codex-nightly/home" }
"#;

/// What the project's file may say.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectConfig {
    /// The bundle's name.
    pub bundle: Option<String>,
    /// Names that stand for several recipients, such as `reviewers = ["ann", "bob"]`; written `@reviewers`.
    #[serde(default)]
    pub groups: Groups,
    /// Sessions by name.
    #[serde(default)]
    pub sessions: BTreeMap<String, SessionConfig>,
    /// Programs that sessions run, by name.
    #[serde(default)]
    pub coders: Coders,
}

/// Programs that sessions run, by name.
pub type Coders = BTreeMap<String, CoderConfig>;

/// One session; what is not said is left to the defaults of `spawn`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionConfig {
    /// A kind of agent program, or one of [`ProjectConfig::coders`].
    pub coder: Option<String>,
    /// The directory that it works in, from the file's.
    pub dir: Option<PathBuf>,
    /// Instructions, or `@FILE`, from the file's directory.
    pub instructions: Option<String>,
    /// The model.
    pub model: Option<String>,
    /// The sandbox.
    pub sandbox: Option<String>,
    /// The approval policy.
    pub approval: Option<String>,
    /// Whether mail wakes it when it is stopped.
    #[serde(default)]
    pub wake_on_mail: bool,
    /// Whether its child is its own.
    #[serde(default)]
    pub isolated: bool,
    /// Whether a `$` before a skill's name in mail pulls the skill in.
    #[serde(default)]
    pub skills_in_mail: bool,
}

/// One program that sessions run.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoderConfig {
    /// Its kind; `codex` without it.
    pub kind: Option<String>,
    /// The program: a path, or a name on PATH.
    pub program: Option<String>,
    /// Variables that its children get, beside those of the command that spawns them.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// A project's file as it was read.
#[derive(Debug, Clone)]
pub struct ProjectFile {
    /// Where it is, by its real path.
    pub path: PathBuf,
    /// What it says.
    pub config: ProjectConfig,
    text: String,
}

impl ProjectFile {
    /// Reads a file.
    ///
    /// # Errors
    /// `usage` when it cannot be read or does not parse, quoting the line.
    pub fn read(path: PathBuf) -> Result<ProjectFile, Fault> {
        let (text, config) = parse(&path)?;
        Ok(ProjectFile { path, config, text })
    }

    /// The directory that its paths start from.
    pub fn dir(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    /// Whether it says anything that is inert without trust.
    pub fn needs_trust(&self) -> bool {
        !self.config.sessions.is_empty() || !self.config.coders.is_empty()
    }

    /// Whether the person has trusted this very text at this very place.
    ///
    /// # Errors
    /// When the copy is not a file of ours.
    pub fn is_trusted(&self, dir: Option<&StateDir>) -> Result<bool, Fault> {
        let Some(dir) = dir else { return Ok(false) };
        Ok(dir.read(&self.copy_name())?.is_some_and(|copy| copy == self.copy()))
    }

    /// Keeps a copy: this text is trusted, whatever was before.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn trust(&self, dir: &StateDir) -> Result<(), Fault> {
        dir.write(&self.copy_name(), &self.copy())
    }

    /// Forgets the copy.
    pub fn distrust(&self, dir: &StateDir) {
        dir.unlink(&self.copy_name());
    }

    /// The copy's name tells checkouts of one bundle apart; the copy itself has the path and the text, so that nothing rests on
    /// a hash.
    fn copy_name(&self) -> String {
        format!("{TRUSTED}{:016x}", fnv1a(self.path.to_string_lossy().as_bytes()))
    }

    fn copy(&self) -> String {
        format!("{}\n{}", self.path.display(), self.text)
    }
}
