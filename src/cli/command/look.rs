//! `agentmux look NAME`: the last items of a session's thread, readable.

use clap::Args;

use crate::cli::context::Context;
use crate::cli::print;
use crate::model::fault::Fault;
use crate::protocol::answer::Looked;
use crate::protocol::check::check_name;
use crate::protocol::request::Look as Request;

/// Arguments of `look`.
#[derive(Debug, Args)]
pub struct Look {
    /// The session
    name: String,
    /// How many items
    #[arg(short = 'n', value_name = "ITEMS", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    items: u32,
}

pub fn run(context: &Context, args: &Look) -> Result<u8, Fault> {
    check_name(&args.name)?;
    let mut connection = context.connect()?;
    let answer: Looked =
        connection.call("session/look", &Request { name: args.name.clone(), limit: args.items })?;
    context.print(&answer, words);
    Ok(0)
}

fn words(answer: &Looked) -> String {
    let mut text = String::new();
    for item in &answer.items {
        let at = item.at.map(print::moment).unwrap_or_default();
        text.push_str(&format!("{at}  {} ({})\n", print::safe(&item.kind), item.source));
        for line in print::safe(item.text.trim_end()).lines() {
            text.push_str(&format!("  {line}\n"));
        }
    }
    text
}
