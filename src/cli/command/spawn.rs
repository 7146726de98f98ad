//! `agentmux spawn NAME`: creates a session and brings it up.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::boot::{environment, program};
use crate::cli::context::Context;
use crate::model::fault::Fault;
use crate::protocol::answer::OneSession;
use crate::protocol::check;
use crate::protocol::request::Spawn as Request;

/// Arguments of `spawn`.
#[derive(Debug, Args)]
pub struct Spawn {
    /// The session's name, which is its address
    name: String,
    /// The kind of agent program
    #[arg(long, value_enum, default_value_t)]
    coder: Coder,
    /// The directory it works in; the current one without it
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Instructions for the agent, or @FILE to read them from
    #[arg(long, value_name = "TEXT|@FILE")]
    instructions: Option<String>,
    /// The model; what the agent's own configuration says without it
    #[arg(long)]
    model: Option<String>,
    /// Bring in this existing thread
    #[arg(long, value_name = "ID")]
    thread: Option<String>,
    /// read-only, workspace-write or danger-full-access
    #[arg(long, value_name = "SANDBOX")]
    sandbox: Option<String>,
    /// on-request or never
    #[arg(long, value_name = "POLICY")]
    approval: Option<String>,
    /// Let mail wake it when it is stopped
    #[arg(long)]
    wake_on_mail: bool,
    /// The command of a coder that needs one
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// The kinds of agent program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Coder {
    /// OpenAI Codex, driven through its app-server
    #[default]
    Codex,
    /// Claude Code
    Claude,
    /// Any Agent Client Protocol agent
    Acp,
    /// Any terminal program, in a pane
    Tmux,
    /// Any program that reads its stdin
    Stdin,
}

pub fn run(context: &Context, args: Spawn) -> Result<u8, Fault> {
    let request = checked(context, args)?;
    let mut connection = context.connect()?;
    let answer: OneSession = connection.call("session/spawn", &request)?;
    context.print(&answer, |answer| {
        let session = &answer.session;
        let thread = session.thread_id.as_deref().unwrap_or("none yet");
        format!("{} is {}, thread {thread}, in {}\n", session.name, session.state.as_str(), session.dir)
    });
    Ok(0)
}

/// Checks everything that can be checked before a relay is started or anything is written.
fn checked(context: &Context, args: Spawn) -> Result<Request, Fault> {
    check::check_new_name(&args.name)?;
    if args.coder != Coder::Codex {
        let coder =
            args.coder.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        return Err(Fault::refused(format!("spawn refused: the coder `{coder}` is not supported yet"))
            .hint("codex is"));
    }
    if !args.command.is_empty() {
        return Err(Fault::usage("spawn refused: the coder codex takes no command")
            .hint("AGENTMUX_CODEX names the program"));
    }
    let dir = args.dir.map_or(context.dir.clone(), |dir| context.dir.join(dir));
    let real = std::fs::canonicalize(&dir).ok().filter(|real| real.is_dir());
    let dir =
        real.ok_or_else(|| Fault::usage(format!("spawn refused: {} is not a directory", dir.display())))?;
    let dir = dir
        .to_str()
        .ok_or_else(|| Fault::usage("spawn refused: the directory's path is not UTF-8"))?
        .to_owned();
    let instructions = args.instructions.map(|text| read_instructions(context, text)).transpose()?;
    let named = std::env::var("AGENTMUX_CODEX").ok().filter(|named| !named.is_empty());
    let launcher = program::find(named.as_deref())?;
    program::check_version(&launcher)?;
    let launcher = launcher
        .to_str()
        .ok_or_else(|| Fault::usage("spawn refused: the path of codex is not UTF-8"))?
        .to_owned();
    let variables = std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
    let request = Request {
        name: args.name,
        dir,
        instructions,
        model: args.model,
        thread: args.thread,
        sandbox: args.sandbox,
        approval: args.approval,
        program: launcher,
        wake: args.wake_on_mail,
        environment: environment::allowed(variables),
    };
    check::check_spawn(&request)?;
    Ok(request)
}

fn read_instructions(context: &Context, text: String) -> Result<String, Fault> {
    let Some(file) = text.strip_prefix('@') else { return Ok(text) };
    let path = context.dir.join(file);
    std::fs::read_to_string(&path).map_err(|error| {
        Fault::usage(format!("instructions refused: {} cannot be read: {error}", path.display()))
    })
}
