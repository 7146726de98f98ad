//! `agentmux trace ID`: where a mail is, and every step it took.

use clap::Args;

use crate::cli::context::Context;
use crate::cli::print;
use crate::model::fault::Fault;
use crate::protocol::answer::{Trace as Answer, TracedDelivery};
use crate::protocol::request::MailRef;

/// Arguments of `trace`.
#[derive(Debug, Args)]
pub struct Trace {
    /// The mail: its id, or a unique prefix or suffix of it
    id: String,
}

pub fn run(context: &Context, args: &Trace) -> Result<u8, Fault> {
    let mut connection = context.connect()?;
    let answer: Answer = connection.call("mail/trace", &MailRef { id: args.id.clone() })?;
    context.print(&answer, words);
    Ok(0)
}

fn words(answer: &Answer) -> String {
    let subject =
        answer.subject.as_deref().map(|subject| format!(": {}", print::safe(subject))).unwrap_or_default();
    let mut text = format!("{} from {}{subject}\n", answer.id, answer.from);
    for delivery in &answer.deliveries {
        text.push_str(&way(delivery));
    }
    text
}

fn way(delivery: &TracedDelivery) -> String {
    let turn =
        delivery.turn_id.as_deref().map(|turn| format!(" in turn {}", print::safe(turn))).unwrap_or_default();
    let reason = delivery
        .reason
        .as_deref()
        .map(|why| format!(" ({})", print::first_line(why, 200)))
        .unwrap_or_default();
    let mut text = format!("to {}: {}{turn}{reason}\n", delivery.to, delivery.state.as_str());
    let rows: Vec<Vec<String>> = delivery
        .transitions
        .iter()
        .map(|step| {
            let note = step.note.as_deref().map(|note| print::first_line(note, 200)).unwrap_or_default();
            vec![format!("  {}", step.at.rfc3339()), step.state.as_str().to_owned(), note]
        })
        .collect();
    text.push_str(&print::table(&rows));
    text
}
