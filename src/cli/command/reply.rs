//! `agentmux reply ID TEXT`: answers a mail.

use clap::Args;

use super::send::{self, MailOptions};
use crate::cli::context::Context;
use crate::client::params;
use crate::model::fault::Fault;
use crate::protocol::answer::Sent;
use crate::protocol::check;
use crate::protocol::request::Reply as Request;

/// Arguments of `reply`.
#[derive(Debug, Args)]
pub struct Reply {
    /// The mail to answer: its id, or a unique prefix or suffix of it
    id: String,
    /// The text; `-` reads it from stdin
    text: String,
    #[command(flatten)]
    options: MailOptions,
}

pub fn run(context: &Context, args: Reply) -> Result<u8, Fault> {
    let body = if args.text == "-" { send::read_stdin()? } else { args.text };
    check::check_mail(&body, args.options.subject.as_deref(), args.options.key.as_deref())?;
    let request = Request {
        id: args.id,
        body,
        subject: args.options.subject.clone(),
        priority: args.options.priority.of_mail(),
        key: Some(args.options.key()?),
    };
    let mut connection = context.connect()?;
    let sent: Sent = context.target.call_again(&mut connection, "mail/reply", None, || params(&request))?;
    send::finish(context, &mut connection, sent, &args.options)
}
