//! `agentmux inbox [NAME]`: lists a recipient's mail; looking changes nothing.

use clap::Args;

use super::send::duration;
use crate::cli::context::Context;
use crate::cli::print;
use crate::model::clock::age;
use crate::model::fault::Fault;
use crate::model::limits;
use crate::protocol::answer::{MailInfo, Mails};
use crate::protocol::check::{check_cursor, check_name};
use crate::protocol::request::Inbox as Request;

/// Arguments of `inbox`.
#[derive(Debug, Args)]
pub struct Inbox {
    /// Whose mail; yours without a name
    name: Option<String>,
    /// Only what its recipient has not had yet
    #[arg(long)]
    unread: bool,
    /// Only from this sender
    #[arg(long, value_name = "NAME")]
    from: Option<String>,
    /// Only what came in the last such time, such as 2h
    #[arg(long, value_name = "DUR", value_parser = duration)]
    since: Option<u64>,
    /// How many, newest first
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Go on where a list ended that told this at its end
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

pub fn run(context: &Context, args: Inbox) -> Result<u8, Fault> {
    args.name.iter().chain(&args.from).try_for_each(|name| check_name(name))?;
    check_cursor(args.cursor.as_deref())?;
    let mut connection = context.connect()?;
    let mut request = Request {
        name: args.name,
        unread: args.unread,
        from: args.from,
        since_ms: args.since,
        limit: args.limit,
        cursor: args.cursor,
        take: false,
    };
    let wanted = args.limit.unwrap_or(limits::LIST_ROWS_DEFAULT) as usize;
    let mut answer: Mails = connection.call("mail/list", &request)?;
    // The relay looks at so much at a time, whether it fits or not.
    while answer.mails.len() < wanted
        && let Some(cursor) = answer.cursor.take()
    {
        request.limit = Some((wanted - answer.mails.len()) as u32);
        request.cursor = Some(cursor);
        let next: Mails = connection.call("mail/list", &request)?;
        answer.mails.extend(next.mails);
        answer.cursor = next.cursor;
    }
    context.print(&answer, |answer| table(context, &answer.mails));
    if answer.mails.is_empty() {
        context.tell("no mail");
    }
    tell_more(context, &answer);
    Ok(0)
}

/// Says that a list goes on, and where; for inbox, search and dead.
pub(super) fn tell_more(context: &Context, answer: &Mails) {
    if let Some(cursor) = &answer.cursor {
        context.tell(&format!("hint: there is more; the same command with --cursor {cursor} shows it"));
    }
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
