//! `agentmux spawn NAME`: creates a session and brings it up.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::boot::project::{CoderConfig, ProjectFile, SessionConfig};
use crate::boot::{environment, program};
use crate::cli::context::Context;
use crate::client::{CallError, catch_interrupt, naming_the_writer};
use crate::model::fault::Fault;
use crate::protocol::answer::OneSession;
use crate::protocol::check;
use crate::protocol::request::Spawn as Request;

/// Arguments of `spawn`.
#[derive(Debug, Args)]
pub struct Spawn {
    /// The session's name, which is its address
    name: String,
    /// codex, or a coder of the configuration
    #[arg(long)]
    coder: Option<String>,
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
    /// Give it a child of its own
    #[arg(long)]
    isolated: bool,
    /// Let `$skill` in mail pull the skill in
    #[arg(long)]
    skills_in_mail: bool,
    /// The command of a coder that needs one
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Kinds of agent program that are planned.
const PLANNED: [&str; 4] = ["claude", "acp", "tmux", "stdin"];

pub fn run(context: &Context, args: Spawn) -> Result<u8, Fault> {
    check::check_new_name(&args.name)?;
    let project = context.trusted_project()?;
    let request = checked(context, project, args)?;
    let mut connection = context.connect()?;
    catch_interrupt();
    let answer: Result<OneSession, CallError> = connection.call("session/spawn", &request);
    let answer = answer.map_err(Fault::from).map_err(|fault| match &request.thread {
        Some(thread) => naming_the_writer(thread, &request.environment, fault),
        None => fault,
    })?;
    context.print(&answer, |answer| super::list::table(std::slice::from_ref(&answer.session), context.color));
    let session = &answer.session;
    context.tell(&format!(
        "thread {}  in {}",
        session.thread_id.as_deref().unwrap_or("none yet"),
        session.dir
    ));
    Ok(0)
}

/// Checks everything that can be checked before a relay is started or anything is written. A flag comes before the file.
fn checked(context: &Context, project: Option<&ProjectFile>, args: Spawn) -> Result<Request, Fault> {
    let coder = args.coder.as_deref();
    if !args.command.is_empty() && coder.is_none_or(|coder| !PLANNED.contains(&coder)) {
        return Err(Fault::usage("spawn refused: the coder codex takes no command")
            .hint("AGENTMUX_CODEX names the program"));
    }
    let file = project.and_then(|file| file.config.sessions.get(&args.name)).cloned().unwrap_or_default();
    let from_file = |text: String| project.map_or(Ok(text.clone()), |file| instructions(file.dir(), text));
    let wanted = SessionConfig {
        coder: args.coder.or(file.coder),
        dir: args.dir.map(|dir| context.dir.join(dir)).or(in_project(project, file.dir)),
        instructions: match args.instructions {
            Some(text) => Some(instructions(&context.dir, text)?),
            None => file.instructions.map(from_file).transpose()?,
        },
        model: args.model.or(file.model),
        sandbox: args.sandbox.or(file.sandbox),
        approval: args.approval.or(file.approval),
        wake_on_mail: args.wake_on_mail || file.wake_on_mail,
        isolated: args.isolated || file.isolated,
        skills_in_mail: args.skills_in_mail || file.skills_in_mail,
    };
    request(context, project, args.name, args.thread, wanted)
}

/// What a session of the project's file asks for.
pub(super) fn of_project(context: &Context, file: &ProjectFile, name: &str) -> Result<Request, Fault> {
    let wanted = file.config.sessions.get(name).cloned().unwrap_or_default();
    let dir = wanted.dir.unwrap_or_else(|| file.dir().to_owned());
    let wanted = SessionConfig {
        dir: in_project(Some(file), Some(dir)),
        instructions: wanted.instructions.map(|text| instructions(file.dir(), text)).transpose()?,
        ..wanted
    };
    check::check_new_name(name)?;
    request(context, Some(file), name.to_owned(), None, wanted)
}

fn in_project(project: Option<&ProjectFile>, dir: Option<PathBuf>) -> Option<PathBuf> {
    project.zip(dir).map(|(file, dir)| file.dir().join(dir))
}

fn request(
    context: &Context,
    project: Option<&ProjectFile>,
    name: String,
    thread: Option<String>,
    wanted: SessionConfig,
) -> Result<Request, Fault> {
    let coder = coder(context, project, wanted.coder.as_deref().unwrap_or("codex"))?;
    let dir = wanted.dir.unwrap_or_else(|| context.dir.clone());
    let real = std::fs::canonicalize(&dir).ok().filter(|real| real.is_dir());
    let dir =
        real.ok_or_else(|| Fault::usage(format!("spawn refused: {} is not a directory", dir.display())))?;
    let dir = dir
        .to_str()
        .ok_or_else(|| Fault::usage("spawn refused: the directory's path is not UTF-8"))?
        .to_owned();
    let named = std::env::var("AGENTMUX_CODEX").ok().filter(|named| !named.is_empty());
    let named = named.as_deref().map(|named| (named, "AGENTMUX_CODEX"));
    let of_coder = coder.program.as_deref().map(|program| (program, "the configuration of its coder"));
    let launcher = program::find(named.or(of_coder))?;
    program::check_version(&launcher)?;
    let launcher = launcher
        .to_str()
        .ok_or_else(|| Fault::usage("spawn refused: the path of codex is not UTF-8"))?
        .to_owned();
    let variables = std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
    let mut environment = environment::allowed(variables);
    environment.extend(environment::umask().map(|mask| (environment::UMASK.to_owned(), mask)));
    environment.extend(coder.env);
    let request = Request {
        name,
        dir,
        instructions: wanted.instructions,
        model: wanted.model,
        thread,
        sandbox: wanted.sandbox,
        approval: wanted.approval,
        program: launcher,
        wake: wanted.wake_on_mail,
        isolated: wanted.isolated,
        skills_in_mail: wanted.skills_in_mail,
        environment,
    };
    check::check_spawn(&request)?;
    Ok(request)
}

/// The program that a coder's name stands for.
fn coder(context: &Context, project: Option<&ProjectFile>, name: &str) -> Result<CoderConfig, Fault> {
    let known = context.coder(project, name);
    let kind = known.as_ref().and_then(|coder| coder.kind.clone()).unwrap_or_else(|| "codex".to_owned());
    let kind = if known.is_some() { kind.as_str() } else { name };
    if PLANNED.contains(&kind) {
        return Err(Fault::refused(format!("spawn refused: the coder `{kind}` is not supported yet"))
            .hint("codex is"));
    }
    if kind != "codex" {
        let kind: String = kind.chars().take(40).flat_map(char::escape_debug).collect();
        return Err(Fault::usage(format!("spawn refused: there is no coder `{kind}`"))
            .hint("codex is one, and those of the configuration are: [coders.NAME]"));
    }
    let coder = known.unwrap_or_default();
    let passing = environment::allowed(coder.env.clone().into_iter());
    match coder.env.keys().find(|key| !passing.contains_key(*key)) {
        Some(key) => Err(Fault::usage(format!(
            "configuration refused: the variable `{key}` of coder `{name}` is none that passes to a child"
        ))
        .hint("CODEX_HOME, PATH, proxies, certificates and OPENAI_… pass; a secret belongs into the agent's own login")),
        None => Ok(coder),
    }
}

/// Instructions as they stand, or out of a file.
fn instructions(dir: &Path, text: String) -> Result<String, Fault> {
    let Some(file) = text.strip_prefix('@') else { return Ok(text) };
    let path = dir.join(file);
    std::fs::read_to_string(&path).map_err(|error| {
        Fault::usage(format!("instructions refused: {} cannot be read: {error}", path.display()))
    })
}
