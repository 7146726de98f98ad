//! The command line: words in, words and exit codes out.
//!
//! **Invariant:** stdout carries data only; a failure is one place's business (`main`), printed once, with the exit code of its
//! kind.

mod args;
mod command;
mod context;
mod happening;
mod print;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches};

use crate::boot::keeper;
use crate::model::fault::{Code, Fault};
use crate::protocol::verb::VERBS;
use args::{Cli, Command};
use context::Context;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        print::errors(&format!(
            "error: a bug in agentmux: {panic}\nhint: please report it, with this line\n"
        ));
        std::process::exit(Code::Bug.exit().into());
    }));
    let words: Vec<String> = match std::env::args_os().map(|word| word.into_string()).collect() {
        Ok(words) => words,
        Err(word) => return fail(false, &Fault::usage(format!("argument refused: {word:?} is not UTF-8"))),
    };
    // A keeper lives long and needs none of what follows.
    if let Some(child) = keeper::asked(&words) {
        return keeper::keep(child).map_or_else(|fault| fail(false, &fault), ExitCode::from);
    }
    let json = wants_json(words.iter().map(String::as_str));
    let cli = match grammar().try_get_matches_from(&words).and_then(|matches| Cli::from_arg_matches(&matches))
    {
        Ok(cli) => cli,
        Err(error) => return usage(json, &error),
    };
    let outcome = match &cli.command {
        // The same wherever it is asked for, and in whatever state things are.
        Command::Completions(args) => command::completions::run(args),
        command => {
            let is_lenient = matches!(command, Command::Doctor(_));
            Context::new(cli.globals, is_lenient).and_then(|context| command::run(&context, cli.command))
        }
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(fault) => fail(json, &fault),
    }
}

/// The grammar, with each verb's help from the verb table.
pub(crate) fn grammar() -> clap::Command {
    VERBS
        .iter()
        .fold(Cli::command(), |grammar, verb| grammar.mut_subcommand(verb.name, |sub| sub.about(verb.help)))
}

/// Help and version go to stdout with exit 0; everything else is a usage fault with exit 2.
fn usage(json: bool, error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        print::data(&error.to_string());
        return ExitCode::SUCCESS;
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand && !json {
        print::errors(&error.to_string());
        return ExitCode::from(Code::Usage.exit());
    }
    let text = error.to_string();
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let ends =
        |line: &&str| ["tip:", "Usage:", "For more information"].iter().any(|end| line.starts_with(end));
    let told = lines().take_while(|line| !ends(line)).collect::<Vec<_>>();
    let message = told.join(" ").trim_start_matches("error: ").to_owned();
    let tip = lines().find_map(|line| line.strip_prefix("tip: ")).map(str::to_owned);
    let hint = tip
        .unwrap_or_else(|| "`agentmux --help` lists the verbs, `agentmux VERB --help` its flags".to_owned());
    fail(json, &Fault::usage(message).hint(hint))
}

fn wants_json<'a>(words: impl Iterator<Item = &'a str>) -> bool {
    words.take_while(|word| *word != "--").any(|word| word == "--json")
}

/// Ends the command because its data could not be printed.
fn fail_to_print(why: &str) -> ! {
    let words: Vec<String> = std::env::args_os().filter_map(|word| word.into_string().ok()).collect();
    let fault = Fault::io(format!("writing to stdout failed: {why}"));
    fail(
        wants_json(words.iter().map(String::as_str)),
        &fault.hint("what the command did is done; `agentmux log` shows it"),
    );
    std::process::exit(Code::Io.exit().into());
}

/// What to do about a failure of which its own words do not say it.
fn hint_for(code: Code) -> &'static str {
    match code {
        Code::Usage => "`agentmux VERB --help` says what a verb takes",
        Code::Refused => "`agentmux status` and `agentmux log` show how things stand",
        Code::NotFound => "`agentmux list` shows the sessions, `agentmux inbox` the mail",
        Code::Timeout => "nothing is lost; `agentmux status` shows how things stand",
        Code::Conflict => "`agentmux status` shows who is there",
        Code::Io => "`agentmux doctor` looks at everything that agentmux stands on",
        Code::Busy => "try again in a moment; `agentmux status` shows how things stand",
        Code::Interrupted => "what was accepted goes on; `agentmux list` shows it",
        Code::NoRelay => "any command without --no-start starts one",
        Code::Sandbox => "run it outside the sandbox, or use the agentmux tools",
        Code::Version => "replace the relay: agentmux host relay --replace",
        Code::Bug => "please report it, with this line",
    }
}

/// Prints a failure to stderr; the only place that does.
fn fail(json: bool, fault: &Fault) -> ExitCode {
    let hint = fault.hint.as_deref().unwrap_or(hint_for(fault.code));
    if json {
        let error = serde_json::json!({
            "code": fault.code, "message": fault.message, "hint": hint, "exit": fault.code.exit(),
        });
        print::errors(&format!("{}\n", serde_json::json!({"schemaVersion": 1, "error": error})));
    } else {
        // A child, a provider or a relay may have put anything into it.
        print::errors(&format!("error: {}\nhint: {}\n", print::safe(&fault.message), print::safe(hint)));
    }
    ExitCode::from(fault.code.exit())
}
