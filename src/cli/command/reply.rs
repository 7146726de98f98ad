//! `agentmux reply ID TEXT`: answers a mail.

use clap::Args;

use super::send::{self, MailOptions};
use crate::cli::context::Context;
use crate::client::{catch_interrupt, params};
use crate::model::fault::Fault;
use crate::protocol::answer::{Addressed, Sent};
use crate::protocol::check;
use crate::protocol::request::Reply as Request;

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

pub fn run(context: &Context, args: Reply) -> Result<u8, Fault> {
    if args.dry_run {
        let request = Request { id: args.id, dry_run: true, ..Request::default() };
        let addressed: Addressed = context.connect()?.call("mail/reply", &request)?;
        context.print(&addressed, |addressed| addressed.to.iter().map(|name| format!("{name}\n")).collect());
        return Ok(0);
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
        dry_run: false,
    };
    let mut connection = context.connect()?;
    if args.options.wait.is_some() {
        catch_interrupt();
    }
    let sent: Sent = context.target.call_again(&mut connection, "mail/reply", None, || params(&request))?;
    send::finish(context, &mut connection, sent, &args.options)
}
