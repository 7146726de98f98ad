//! `agentmux install TOOL`: puts our MCP server into the configuration of an agent program that is no session.

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::boot::program;
use crate::cli::context::Context;
use crate::client::install::{self, Change, Tool};
use crate::model::fault::Fault;
use crate::model::name::Name;

/// Arguments of `install`.
#[derive(Debug, Args)]
pub struct Install {
    /// The agent program; it speaks under its own name, or the one of --as
    #[arg(value_enum)]
    tool: Which,
    /// Print what the file would be, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// The programs whose configuration we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Which {
    /// OpenAI Codex
    Codex,
    /// Claude Code
    Claude,
    /// Gemini CLI
    Gemini,
    /// opencode
    Opencode,
}

impl Which {
    pub fn tool(self) -> Tool {
        match self {
            Which::Codex => Tool::Codex,
            Which::Claude => Tool::Claude,
            Which::Gemini => Tool::Gemini,
            Which::Opencode => Tool::Opencode,
        }
    }
}

/// What was done.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Done {
    tool: &'static str,
    file: String,
    changed: bool,
    backup: Option<String>,
    text: Option<String>,
}

pub fn run(context: &Context, args: &Install) -> Result<u8, Fault> {
    let tool = args.tool.tool();
    let name = context.target.speaker.name.as_deref().unwrap_or(tool.as_str());
    if Name::parse(name).is_none_or(|name| name.is_reserved()) {
        return Err(Fault::usage(format!("install refused: nobody may be called `{}`", name.escape_debug())));
    }
    let program = program::own();
    let program =
        program.to_str().ok_or_else(|| Fault::usage("install refused: our own path is not UTF-8"))?;
    let change = install::install(tool, program, name)?;
    finish(context, tool, &change, args.dry_run)
}

/// Writes a change, unless it is only to be shown, and says what was done.
pub fn finish(context: &Context, tool: Tool, change: &Change, dry_run: bool) -> Result<u8, Fault> {
    if change.changes && !dry_run {
        install::write(change)?;
    }
    let done = Done {
        tool: tool.as_str(),
        file: change.file.display().to_string(),
        changed: change.changes && !dry_run,
        backup: change.backup.as_ref().map(|backup| backup.display().to_string()),
        text: dry_run.then(|| change.text.clone().unwrap_or_default()),
    };
    context.print(&done, |done| match &done.text {
        Some(text) => text.clone(),
        None if done.changed => format!("changed: {}\n", done.file),
        None => format!("nothing to change: {}\n", done.file),
    });
    if done.changed {
        context.tell(&format!("{} reads it at its next start", done.tool));
    }
    Ok(0)
}
