//! `agentmux requeue ID`: delivers dead mail after all, or settles mail in doubt as not taken.

use clap::Args;

use super::ack;
use crate::cli::context::Context;
use crate::model::fault::Fault;
use crate::protocol::answer::Settled;
use crate::protocol::check::check_name;
use crate::protocol::request::Settle;

/// Arguments of `requeue`.
#[derive(Debug, Args)]
pub struct Requeue {
    /// The mail: its id, or a unique prefix or suffix of it
    id: String,
    /// To this recipient only
    #[arg(long = "for", value_name = "NAME")]
    name: Option<String>,
}

pub fn run(context: &Context, args: Requeue) -> Result<u8, Fault> {
    args.name.as_deref().map_or(Ok(()), check_name)?;
    let mut connection = context.connect()?;
    let answer: Settled = connection.call("mail/requeue", &Settle { id: args.id, name: args.name })?;
    ack::print(context, &answer);
    Ok(0)
}
