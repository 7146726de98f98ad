//! `agentmux read ID`: shows one mail whole. Reading one's own mail is taking it.

use std::io::IsTerminal;

use clap::Args;

use crate::cli::context::Context;
use crate::cli::print;
use crate::client::Connection;
use crate::model::clock::age;
use crate::model::fault::Fault;
use crate::protocol::answer::{OneMail, Sessions};
use crate::protocol::request::MailRef;

/// Arguments of `read`.
#[derive(Debug, Args)]
pub struct Read {
    /// The mail: its id, or a unique prefix or suffix of it
    id: String,
}

pub fn run(context: &Context, args: &Read) -> Result<u8, Fault> {
    let mut connection = context.connect()?;
    let answer: OneMail = connection.call("mail/read", &MailRef { id: args.id.clone() })?;
    print_and_confirm(context, &mut connection, &answer);
    Ok(0)
}

/// Prints a mail that was handed over; the reader's next request then tells the relay that it has arrived here.
pub fn print_and_confirm(context: &Context, connection: &mut Connection, answer: &OneMail) {
    context.print(answer, words);
    let _: Result<Sessions, _> = connection.call("session/list", &serde_json::json!({}));
}

fn words(answer: &OneMail) -> String {
    let mail = &answer.mail;
    let to: Vec<&str> = mail.to.iter().map(crate::model::name::Name::as_str).collect();
    let mut text = format!(
        "id:      {}\nfrom:    {} ({})\nto:      {}\n",
        mail.id,
        mail.from,
        mail.from_kind.as_str(),
        to.join(", ")
    );
    text.push_str(&format!("sent:    {} ({} ago)\n", print::moment(mail.sent_at), age(mail.age_ms)));
    text.push_str(&format!("thread:  {}\n", mail.thread));
    if let Some(parent) = mail.reply_to {
        text.push_str(&format!("answers: {parent}\n"));
    }
    if let Some(subject) = &mail.subject {
        text.push_str(&format!("subject: {}\n", print::safe(subject)));
    }
    let body = mail.body.as_deref().unwrap_or_default();
    let body = if std::io::stdout().is_terminal() { print::safe(body) } else { body.to_owned() };
    text.push_str(&format!("\n{body}"));
    if !body.ends_with('\n') {
        text.push('\n');
    }
    text
}
