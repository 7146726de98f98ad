//! `agentmux ask TO TEXT`: sends a mail and waits for the answer to it, also across relays and connections.

use std::path::PathBuf;

use clap::Args;

use super::read::print_and_confirm;
use super::send::{MailOptions, not_reached, wait_for, written};
use crate::cli::context::Context;
use crate::client::{Connection, catch_interrupt, params};
use crate::model::fault::Fault;
use crate::protocol::answer::{OneMail, Sent, Waited};
use crate::protocol::request::{MailRef, Send as Request, Until};

/// Arguments of `ask`.
#[derive(Debug, Args)]
pub struct Ask {
    /// Recipients, then the text; `-` reads the text from stdin
    #[arg(required = true, value_name = "TO… TEXT")]
    words: Vec<String>,
    /// Read the text from this file; then all words are recipients
    #[arg(long, value_name = "FILE")]
    body_file: Option<PathBuf>,
    #[command(flatten)]
    options: MailOptions,
}

pub fn run(context: &Context, args: Ask) -> Result<u8, Fault> {
    if args.options.wait.is_some() {
        return Err(Fault::usage("ask refused: it always waits for the answer").hint("leave --wait away"));
    }
    let request =
        Request { ask: true, ..written(context, args.words, args.body_file.as_deref(), &args.options)? };
    let mut connection = context.connect()?;
    catch_interrupt();
    let sent: Sent = context.target.call_again(&mut connection, "mail/send", None, || params(&request))?;
    let waited = wait_for(context, &mut connection, &sent, Until::Reply, args.options.timeout)?;
    print_answer(context, &mut connection, &waited)
}

/// Prints the mail that answers another, or says why there is none.
pub fn print_answer(context: &Context, connection: &mut Connection, waited: &Waited) -> Result<u8, Fault> {
    if let Some(fault) = not_reached(waited) {
        return Err(fault);
    }
    let Some(reply) = waited.reply_id else {
        return Err(Fault::bug("an answer came without its id"));
    };
    let answer: OneMail = context
        .target
        .call_again(connection, "mail/read", None, || params(&MailRef { id: reply.to_string() }))?;
    print_and_confirm(context, connection, &answer);
    Ok(0)
}
