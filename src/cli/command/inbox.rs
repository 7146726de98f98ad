//! `agentmux inbox [NAME]`: lists a recipient's mail; looking changes nothing.

use clap::Args;

use crate::cli::context::Context;
use crate::cli::print;
use crate::model::clock::age;
use crate::model::fault::Fault;
use crate::protocol::answer::{MailInfo, Mails};
use crate::protocol::request::{Inbox as Request, check_name};

/// Arguments of `inbox`.
#[derive(Debug, Args)]
pub struct Inbox {
    /// Whose mail; yours without a name
    name: Option<String>,
    /// Only what its recipient has not had yet
    #[arg(long)]
    unread: bool,
    /// How many, newest first
    #[arg(short = 'n', long, value_name = "COUNT")]
    limit: Option<u32>,
}

pub fn run(context: &Context, args: Inbox) -> Result<u8, Fault> {
    args.name.as_deref().map_or(Ok(()), check_name)?;
    let mut connection = context.connect()?;
    let answer: Mails =
        connection.call("mail/list", &Request { name: args.name, unread: args.unread, limit: args.limit })?;
    context.print(&answer, |answer| table(context, &answer.mails));
    if answer.mails.is_empty() {
        context.tell("no mail");
    }
    Ok(0)
}

fn table(context: &Context, mails: &[MailInfo]) -> String {
    if mails.is_empty() {
        return String::new();
    }
    let head = ["ID", "FROM", "STATE", "AGE", "PRIORITY", "SUBJECT"].map(str::to_owned).to_vec();
    let row = |mail: &MailInfo| {
        let subject =
            mail.subject.as_deref().map(|subject| print::first_line(subject, 60)).unwrap_or_default();
        vec![
            context.id(mail.id),
            format!("{} ({})", mail.from, mail.from_kind.as_str()),
            mail.state.as_str().to_owned(),
            age(mail.age_ms),
            mail.priority.as_str().to_owned(),
            subject,
        ]
    };
    print::table(&[vec![head], mails.iter().map(row).collect()].concat())
}
