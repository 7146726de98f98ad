//! `agentmux dead`: mail that expired or failed, with reasons; `--discard` says that it need not be listed any more.

use clap::Args;

use super::inbox::tell_more;
use crate::cli::context::Context;
use crate::cli::print;
use crate::client::Connection;
use crate::model::clock::age;
use crate::model::fault::Fault;
use crate::protocol::answer::{Discarded, MailInfo, Mails};
use crate::protocol::check::check_cursor;
use crate::protocol::request::{Dead as Request, Discard};

/// Arguments of `dead`.
#[derive(Debug, Args)]
pub struct Dead {
    /// How many, newest first
    #[arg(short = 'n', long, value_name = "COUNT", conflicts_with = "discard", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Go on where a list ended that told this at its end
    #[arg(long, value_name = "CURSOR", conflicts_with = "discard")]
    cursor: Option<String>,
    /// List these no longer; the mail itself is kept
    #[arg(long)]
    discard: bool,
    /// All dead mail
    #[arg(long, requires = "discard", conflicts_with = "ids")]
    all: bool,
    /// Mails: ids, or unique prefixes or suffixes of them
    #[arg(requires = "discard", value_name = "ID")]
    ids: Vec<String>,
}

pub fn run(context: &Context, args: &Dead) -> Result<u8, Fault> {
    if args.discard && args.ids.is_empty() && !args.all {
        let fault = Fault::usage("discard refused: no mail is named");
        return Err(fault.hint("name some: agentmux dead --discard ID…, or --all"));
    }
    check_cursor(args.cursor.as_deref())?;
    let mut connection = context.connect()?;
    if args.discard {
        return discard(context, &mut connection, args);
    }
    let request = Request { limit: args.limit, cursor: args.cursor.clone() };
    let answer: Mails = connection.call("mail/dead", &request)?;
    context.print(&answer, |answer| table(context, &answer.mails));
    if answer.mails.is_empty() {
        context.tell("no dead mail");
    } else {
        context.tell(
            "hint: agentmux requeue ID delivers one after all; agentmux dead --discard ID lists it no longer",
        );
    }
    tell_more(context, &answer);
    Ok(0)
}

fn discard(context: &Context, connection: &mut Connection, args: &Dead) -> Result<u8, Fault> {
    let mut total = Discarded { discarded: 0 };
    let mut one = |id: Option<String>| -> Result<u64, Fault> {
        let Discarded { discarded } = connection.call("mail/discard", &Discard { id })?;
        total.discarded += discarded;
        Ok(discarded)
    };
    for id in &args.ids {
        one(Some(id.clone()))?;
    }
    // The relay takes so many at a time.
    while args.all && one(None)? > 0 {}
    context.print(&total, |total| format!("{}\n", total.discarded));
    Ok(0)
}

fn table(context: &Context, mails: &[MailInfo]) -> String {
    if mails.is_empty() {
        return String::new();
    }
    let head = ["ID", "FROM", "TO", "STATE", "AGE", "WHY"].map(str::to_owned).to_vec();
    let row = |mail: &MailInfo| {
        vec![
            context.id(mail.id),
            mail.from.to_string(),
            mail.recipient.as_ref().map(ToString::to_string).unwrap_or_default(),
            mail.state.as_str().to_owned(),
            age(mail.age_ms),
            mail.reason.as_deref().map(|why| print::first_line(why, 100)).unwrap_or_default(),
        ]
    };
    print::table(&[vec![head], mails.iter().map(row).collect()].concat())
}
