//! `agentmux config show`: what counts, and where it was said. Never starts a relay.
//!
//! **Invariant:** the order is flag, environment, project, person, default; the first that speaks counts, and is named.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::boot::bundle::NAMED_BY_HAND;
use crate::boot::config::{self, UserConfig};
use crate::boot::statedir::StateDir;
use crate::cli::context::Context;
use crate::cli::print;
use crate::model::fault::Fault;

/// Arguments of `config`.
#[derive(Debug, Args)]
pub struct Config {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show every setting that counts
    Show {
        /// Say where each was said
        #[arg(long)]
        origin: bool,
    },
}

#[derive(Debug, Serialize)]
struct Shown {
    settings: Vec<Setting>,
}

#[derive(Debug, Serialize)]
struct Setting {
    key: String,
    value: serde_json::Value,
    /// A flag, a variable, a file's path, or `default`.
    origin: String,
    /// Whether it counts; what a project's file says to run does not until it is trusted.
    counts: bool,
}

pub fn run(context: &Context, args: &Config) -> Result<u8, Fault> {
    let What::Show { origin } = args.what;
    let shown = Shown { settings: settings(context)? };
    context.print(&shown, |shown| {
        let line = |setting: &Setting| {
            let of = if origin { format!("   # {}", setting.origin) } else { String::new() };
            let inert = if setting.counts { "" } else { "   # not trusted: agentmux trust" };
            format!("{} = {}{of}{inert}\n", setting.key, print::safe(&setting.value.to_string()))
        };
        shown.settings.iter().map(line).collect()
    });
    Ok(0)
}

fn settings(context: &Context) -> Result<Vec<Setting>, Fault> {
    let target = &context.target;
    let mut known: BTreeMap<String, Setting> = BTreeMap::new();
    let mut say = |key: &str, value: serde_json::Value, origin: &str, counts: bool| {
        let setting = Setting { key: key.to_owned(), value, origin: origin.to_owned(), counts };
        known.insert(key.to_owned(), setting);
    };
    // From the weakest to the strongest.
    for (key, value) in UserConfig::defaults() {
        say(key, value, "default", true);
    }
    if let Some(dir) = config::user_dir(target.config_dir.as_deref()) {
        let path = UserConfig::path(&dir);
        for (key, value) in config::entries(&path)? {
            say(&key, value, &path.display().to_string(), true);
        }
    }
    if let Some(file) = &target.bundle.project {
        let dir = StateDir::open(&target.state_root, &target.bundle.name)?;
        let trusted = file.is_trusted(dir.as_ref())?;
        for (key, value) in config::entries(&file.path)? {
            let needs_trust = key.starts_with("sessions.") || key.starts_with("coders.");
            say(&key, value, &file.path.display().to_string(), trusted || !needs_trust);
        }
    }
    let rule = target.bundle.rule;
    let of_bundle = match &target.bundle.project {
        Some(file) if !NAMED_BY_HAND.contains(&rule) => file.path.display().to_string(),
        _ => rule.to_owned(),
    };
    say("bundle", target.bundle.name.as_str().into(), &of_bundle, true);
    say("state_dir", target.state_root.display().to_string().into(), context.state_rule, true);
    if let Some(program) = std::env::var("AGENTMUX_CODEX").ok().filter(|program| !program.is_empty()) {
        say("coders.codex.program", program.into(), "AGENTMUX_CODEX", true);
    }
    say("no_start", target.no_start.into(), context.no_start_rule, true);
    Ok(known.into_values().collect())
}
