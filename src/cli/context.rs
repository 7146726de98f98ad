//! What every verb needs: which bundle and relay, and how to print.

use std::io::IsTerminal;
use std::path::PathBuf;

use serde::Serialize;

use super::args::{Color, Globals};
use super::print;
use crate::boot::bundle::{self, Bundle};
use crate::boot::config::{self, UserConfig};
use crate::boot::project::{CoderConfig, Coders, ProjectFile};
use crate::boot::statedir::StateDir;
use crate::client::{Claimed, Connection, Reached, Speaker, Target};
use crate::mcp::Place;
use crate::model::fault::Fault;
use crate::model::id::MailId;
use crate::protocol::check::{self, Groups};

/// See the header of this file.
#[derive(Debug)]
pub struct Context {
    /// The relay that the command means.
    pub target: Target,
    /// What chose whether it may be started.
    pub no_start_rule: &'static str,
    /// The rule that chose where state is kept.
    pub state_rule: &'static str,
    /// The directory that the command acts in.
    pub dir: PathBuf,
    /// Whether to print JSON.
    pub json: bool,
    /// Whether to print only what was asked for.
    pub quiet: bool,
    /// Whether tables show ids whole.
    pub verbose: bool,
    /// Whether to colour stdout.
    pub color: bool,
    /// Names that stand for several recipients, from the configuration.
    groups: Groups,
    /// Programs that sessions run, from the person's configuration.
    coders: Coders,
    /// What is wrong with the configuration, for those who go on without it.
    pub config_faults: Vec<Fault>,
}

impl Context {
    /// Resolves the global flags; fails before anything on disk is changed. A configuration that is refused fails it, too, unless
    /// `is_lenient`: then it counts as empty, and what is wrong with it is kept.
    pub fn new(globals: Globals, is_lenient: bool) -> Result<Context, Fault> {
        let mut config_faults = Vec::new();
        let mut kept = |fault: Fault| match is_lenient {
            true => {
                config_faults.push(fault);
                Ok(())
            }
            false => Err(fault),
        };
        let here = std::env::current_dir()
            .map_err(|error| Fault::usage(format!("directory refused: the current one is gone: {error}")))?;
        let dir = globals.directory.map_or(here.clone(), |dir| here.join(dir));
        let variable = std::env::var("AGENTMUX_BUNDLE").ok();
        let named = (globals.bundle.as_deref(), variable.as_deref());
        let bundle: Bundle = match bundle::discover(named.0, named.1, &dir) {
            Ok(bundle) => bundle,
            Err(fault) => {
                let bundle =
                    bundle::discover_without_file(named.0, named.1, &dir).map_err(|_| fault.clone())?;
                kept(fault)?;
                bundle
            }
        };
        let state_root = bundle::state_root(globals.state_dir.as_deref(), &dir)?;
        let config_dir = globals.config_dir.map(|config_dir| dir.join(config_dir));
        let config = match UserConfig::of(config::user_dir(config_dir.as_deref()).as_deref())
            .and_then(UserConfig::checked)
        {
            Ok(config) => config,
            Err(fault) => {
                kept(fault)?;
                UserConfig::default()
            }
        };
        let start_timeout = config.start_timeout()?;
        let project = bundle.project.as_ref().map(|file| &file.config);
        let mut groups = config.groups;
        groups.extend(project.map(|config| config.groups.clone()).unwrap_or_default());
        let forbidden =
            std::env::var_os("AGENTMUX_NO_START").is_some_and(|value| !value.is_empty() && value != "0");
        let no_start_rule = match (globals.no_start, forbidden) {
            (true, _) => "--no-start",
            (false, true) => "AGENTMUX_NO_START",
            (false, false) => "default",
        };
        let color = match globals.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
                std::io::stdout().is_terminal()
                    && !no_color
                    && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
            }
        };
        Ok(Context {
            target: Target {
                bundle,
                state_root: state_root.path,
                config_dir,
                no_start: globals.no_start || forbidden,
                speaker: Speaker {
                    name: globals.speak_as,
                    take_over: globals.take_over,
                    ..Speaker::default()
                },
                start_timeout,
                claimed: Claimed::default(),
            },
            no_start_rule,
            state_rule: state_root.rule,
            dir,
            json: globals.json,
            quiet: globals.quiet,
            verbose: globals.verbose > 0,
            color,
            groups,
            coders: config.coders,
            config_faults,
        })
    }

    /// Recipients as the relay knows them: groups of the configuration are replaced by their members.
    pub fn recipients(&self, given: Vec<String>) -> Result<Vec<String>, Fault> {
        check::expand(given, &self.groups)
    }

    /// What the tools of an agent need to know of this command's place.
    pub fn place(&self) -> Place {
        let mut target = self.target.clone();
        target.speaker.client = "mcp";
        let set = |key: &str| std::env::var(key).ok().filter(|value| !value.is_empty());
        if target.speaker.name.is_none()
            && let Some(token) = set("AGENTMUX_TOKEN")
        {
            (target.speaker.name, target.speaker.token) = (set("AGENTMUX_SESSION"), Some(token));
        }
        Place { target, groups: self.groups.clone() }
    }

    /// The project's file, if it says what to run and the person has trusted it; if it is not trusted the person is told.
    pub fn trusted_project(&self) -> Result<Option<&ProjectFile>, Fault> {
        let Some(file) = self.target.bundle.project.as_ref().filter(|file| file.needs_trust()) else {
            return Ok(None);
        };
        let dir = StateDir::open(&self.target.state_root, &self.target.bundle.name)?;
        if file.is_trusted(dir.as_ref())? {
            return Ok(Some(file));
        }
        let path = file.path.display();
        self.tell(&format!("note: the sessions and coders of {path} are left out, because it is not trusted as it is\nhint: read it, then: agentmux trust"));
        Ok(None)
    }

    /// The coder of that name: the project's, when it is trusted, then the person's.
    pub fn coder(&self, project: Option<&ProjectFile>, name: &str) -> Option<CoderConfig> {
        let of_project = project.and_then(|file| file.config.coders.get(name));
        of_project.or_else(|| self.coders.get(name)).cloned()
    }

    /// Connects, starting the relay if nobody has.
    pub fn connect(&self) -> Result<Connection, Fault> {
        self.target.reach_or_start()
    }

    /// Connects if a relay runs; never starts one.
    pub fn connect_if_running(&self) -> Result<Option<Connection>, Fault> {
        Ok(match self.target.reach_running()? {
            Reached::Relay(connection) => Some(*connection),
            Reached::Nobody => None,
        })
    }

    /// Prints an answer: as JSON when asked for, else with `words`.
    pub fn print<T: Serialize>(&self, answer: &T, words: impl FnOnce(&T) -> String) {
        if self.json { print::json(answer) } else { print::data(&words(answer)) }
    }

    /// A mail id as tables show it: its last digits, whole when asked for or when nobody looks.
    pub fn id(&self, id: MailId) -> String {
        if self.verbose || !std::io::stdout().is_terminal() { id.to_string() } else { id.short() }
    }

    /// Tells the person something beside the data, unless that is not wanted.
    pub fn tell(&self, line: &str) {
        if !self.quiet && !self.json {
            print::errors(&format!("{}\n", print::safe(line)));
        }
    }
}
