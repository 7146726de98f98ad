//! `agentmux release NAME|ID`: ends a hold, or lets go what the loop brake holds.

use clap::Args;

use crate::cli::context::Context;
use crate::model::fault::Fault;
use crate::protocol::answer::Released;
use crate::protocol::request::Release as Request;

/// Arguments of `release`.
#[derive(Debug, Args)]
pub struct Release {
    /// A session, or a mail that the loop brake holds
    #[arg(value_name = "NAME|ID")]
    target: String,
}

pub fn run(context: &Context, args: Release) -> Result<u8, Fault> {
    let mut connection = context.connect()?;
    let answer: Released = connection.call("session/release", &Request { target: args.target })?;
    context.print(&answer, words);
    Ok(0)
}

fn words(answer: &Released) -> String {
    let mut text = String::new();
    for session in &answer.sessions {
        text.push_str(&format!("mail to {} goes on\n", session.name));
    }
    for mail in &answer.mails {
        text.push_str(&format!("{mail} goes on\n"));
    }
    text
}
