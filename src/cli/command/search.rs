//! `agentmux search WORDS…`: mail by the words in its subject and body.

use clap::Args;

use super::inbox::tell_more;
use crate::cli::context::Context;
use crate::cli::print;
use crate::model::clock::age;
use crate::model::fault::Fault;
use crate::protocol::answer::{MailInfo, Mails};
use crate::protocol::check::{check_cursor, check_search};
use crate::protocol::request::Search as Request;

/// Arguments of `search`.
#[derive(Debug, Args)]
pub struct Search {
    /// Words that the mail has, all of them; one may end in `*`
    #[arg(required = true)]
    words: Vec<String>,
    /// How many, newest first
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Go on where a list ended that told this at its end
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

pub fn run(context: &Context, args: Search) -> Result<u8, Fault> {
    let text = args.words.join(" ");
    check_search(&text)?;
    check_cursor(args.cursor.as_deref())?;
    let mut connection = context.connect()?;
    let request = Request { text, limit: args.limit, cursor: args.cursor };
    let answer: Mails = connection.call("mail/search", &request)?;
    context.print(&answer, |answer| table(context, &answer.mails));
    if answer.mails.is_empty() {
        context.tell("no mail has that");
    }
    tell_more(context, &answer);
    Ok(0)
}

fn table(context: &Context, mails: &[MailInfo]) -> String {
    if mails.is_empty() {
        return String::new();
    }
    let row = |mail: &MailInfo| {
        let to: Vec<&str> = mail.to.iter().map(crate::model::name::Name::as_str).collect();
        let subject = mail.subject.as_deref().map(|subject| format!("{subject}: ")).unwrap_or_default();
        let text = format!("{subject}{}", mail.excerpt.as_deref().unwrap_or_default());
        vec![
            context.id(mail.id),
            mail.from.to_string(),
            to.join(" "),
            age(mail.age_ms),
            print::first_line(&text, 100),
        ]
    };
    let head = ["ID", "FROM", "TO", "AGE", "TEXT"].map(str::to_owned).to_vec();
    print::table(&[vec![head], mails.iter().map(row).collect()].concat())
}
