//! `agentmux reply ID TEXT`: answers a mail.

use clap::Args;

use serde::Serialize;

use super::send::{self, MailOptions};
use crate::cli::context::Context;
use crate::client::params;
use crate::model::fault::Fault;
use crate::model::id::MailId;
use crate::model::name::Name;
use crate::protocol::answer::{Sent, Trace};
use crate::protocol::check;
use crate::protocol::request::{MailRef, Reply as Request};

/// Arguments of `reply`.
#[derive(Debug, Args)]
pub struct Reply {
    /// The mail to answer: its id, or a unique prefix or suffix of it
    id: String,
    /// The text; `-` reads it from stdin
    #[arg(required_unless_present = "dry_run")]
    text: Option<String>,
    /// Say to whom it would go, and send nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    options: MailOptions,
}

/// What `--dry-run` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Addressed {
    reply_to: MailId,
    to: Vec<Name>,
}

pub fn run(context: &Context, args: Reply) -> Result<u8, Fault> {
    if args.dry_run {
        return say_to_whom(context, args.id);
    }
    let text = args.text.unwrap_or_default();
    let body = if text == "-" { send::read_stdin()? } else { text };
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

/// The rule of the relay, for people to see: to the sender, or again to the recipients of one's own mail.
fn say_to_whom(context: &Context, id: String) -> Result<u8, Fault> {
    let mut connection = context.connect()?;
    let traced: Trace = connection.call("mail/trace", &MailRef { id })?;
    let is_own = connection.welcome.is_some_and(|welcome| welcome.name == traced.from);
    let to = match is_own {
        true => traced.deliveries.into_iter().map(|delivery| delivery.to).collect(),
        false => vec![traced.from],
    };
    context.print(&Addressed { reply_to: traced.id, to }, |addressed| {
        addressed.to.iter().map(|name| format!("{name}\n")).collect()
    });
    Ok(0)
}
