//! `agentmux ack ID`: confirms one's own mail, or settles mail in doubt as taken.

use clap::Args;

use crate::cli::context::Context;
use crate::model::fault::Fault;
use crate::protocol::answer::Settled;
use crate::protocol::check::check_name;
use crate::protocol::request::Settle;

/// Arguments of `ack`.
#[derive(Debug, Args)]
pub struct Ack {
    /// The mail: its id, or a unique prefix or suffix of it
    id: String,
    /// Whose delivery; yours, or the one in doubt, without it
    #[arg(long = "for", value_name = "NAME")]
    name: Option<String>,
}

pub fn run(context: &Context, args: Ack) -> Result<u8, Fault> {
    args.name.as_deref().map_or(Ok(()), check_name)?;
    let mut connection = context.connect()?;
    let answer: Settled = connection.call("mail/ack", &Settle { id: args.id, name: args.name })?;
    print(context, &answer);
    Ok(0)
}

/// Prints what became of a mail by hand: its id as data, the deliveries beside it.
pub fn print(context: &Context, settled: &Settled) {
    context.print(settled, |settled| format!("{}\n", settled.id));
    for delivery in &settled.deliveries {
        context.tell(&format!("{}: {}", delivery.state.as_str(), delivery.to));
    }
}
