//! `agentmux cancel ID`: takes a mail back that has not been handed over.

use clap::Args;

use super::ack;
use crate::cli::context::Context;
use crate::model::fault::Fault;
use crate::protocol::answer::Settled;
use crate::protocol::request::MailRef;

/// Arguments of `cancel`.
#[derive(Debug, Args)]
pub struct Cancel {
    /// The mail: its id, or a unique prefix or suffix of it
    id: String,
}

pub fn run(context: &Context, args: Cancel) -> Result<u8, Fault> {
    let mut connection = context.connect()?;
    let answer: Settled = connection.call("mail/cancel", &MailRef { id: args.id })?;
    ack::print(context, &answer);
    Ok(0)
}
