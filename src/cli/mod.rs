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
use args::Cli;
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
    let json = words.iter().take_while(|word| *word != "--").any(|word| word == "--json");
    let cli = match grammar().try_get_matches_from(&words).and_then(|matches| Cli::from_arg_matches(&matches))
    {
        Ok(cli) => cli,
        Err(error) => return usage(json, &error),
    };
    match Context::new(cli.globals).and_then(|context| command::run(&context, cli.command)) {
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

/// Prints a failure to stderr; the only place that does.
fn fail(json: bool, fault: &Fault) -> ExitCode {
    if json {
        let error = serde_json::json!({
            "code": fault.code, "message": fault.message, "hint": fault.hint, "exit": fault.code.exit(),
        });
        print::errors(&format!("{}\n", serde_json::json!({"schemaVersion": 1, "error": error})));
    } else {
        print::errors(&format!("error: {}\n", fault.message));
        if let Some(hint) = &fault.hint {
            print::errors(&format!("hint: {hint}\n"));
        }
    }
    ExitCode::from(fault.code.exit())
}
