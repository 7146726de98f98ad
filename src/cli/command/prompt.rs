//! `agentmux prompt NAME TEXT`: the person's own words, before all mail; with `--wait` the answer is printed as it is written.
//!
//! **Invariant:** what is printed is of the very turn that took these words, and of no other; what is missing from it is said.

use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::send::{self, duration};
use crate::cli::context::Context;
use crate::cli::print;
use crate::client::{CallError, Connection, Losses, catch_interrupt};
use crate::model::fault::{Code, Fault};
use crate::model::happening::DELTA;
use crate::model::limits;
use crate::model::session::{SessionState, Wanted};
use crate::protocol::answer::{Sent, SessionInfo, Subscribed, Waited};
use crate::protocol::check::{check_mail, check_name};
use crate::protocol::request::{Prompt as Request, Until, Watch};

/// Arguments of `prompt`.
#[derive(Debug, Args)]
pub struct Prompt {
    /// The session
    name: String,
    /// What to say; `-` reads it from stdin
    text: String,
    /// Wait for the turn to end, and print its answer as it comes
    #[arg(long)]
    wait: bool,
    /// How long to wait
    #[arg(long, value_name = "DUR", value_parser = duration)]
    timeout: Option<u64>,
    /// Asking again with the same key says nothing twice
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Prompted {
    session: String,
    turn_id: Option<String>,
    /// `completed`, `interrupted`, `failed`, `blocked` or `overloaded`.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<String>,
    /// What the model answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    id: String,
}

impl Prompted {
    /// One more message of the model.
    fn add(&mut self, message: &str) {
        let text = self.text.get_or_insert_default();
        if !text.is_empty() {
            text.push_str("\n\n");
        }
        text.push_str(message);
    }
}

pub fn run(context: &Context, args: Prompt) -> Result<u8, Fault> {
    check_name(&args.name)?;
    let text = if args.text == "-" { send::read_stdin()? } else { args.text };
    let key = args.key.map_or_else(send::new_key, Ok)?;
    check_mail(&text, None, Some(&key))?;
    let mut connection = context.connect()?;
    // What is said in the turn is heard from before it can begin.
    let mut events = match args.wait {
        true => Some(listen(context.connect()?, &args.name)?),
        false => None,
    };
    let request = Request { name: args.name.clone(), text, key: Some(key) };
    catch_interrupt();
    let params = || crate::client::params(&request);
    let sent: Sent = context.target.call_again(&mut connection, "session/prompt", None, params)?;
    let timeout =
        Duration::from_millis(args.timeout.unwrap_or(limits::WAIT_DEFAULT_MS).min(limits::WAIT_MS_MAX));
    let deadline = Instant::now() + timeout;
    let waited =
        send::wait_for(context, &mut connection, &sent, Until::Consumed, Some(timeout.as_millis() as u64))?;
    send::not_reached(&waited).map_or(Ok(()), Err)?;
    let turn = turn_of(&waited);
    let mut answer =
        Prompted { session: args.name, turn_id: turn, status: None, text: None, id: sent.id.to_string() };
    let Some(events) = &mut events else {
        context.print(&answer, |answer| {
            format!("{}\n", print::safe(answer.turn_id.as_deref().unwrap_or(&answer.id)))
        });
        return Ok(0);
    };
    let ended = hear(context, events, &mut answer, deadline);
    if context.json {
        print::json(&answer);
    }
    ended.map(|()| 0)
}

fn turn_of(waited: &Waited) -> Option<String> {
    waited.sent.deliveries.first().and_then(|delivery| delivery.turn_id.clone())
}

/// A connection that is told of what is said in a session.
fn listen(mut connection: Connection, name: &str) -> Result<Connection, CallError> {
    let events = [DELTA, "item", "turnEnded", "state"].map(str::to_owned).to_vec();
    let watch = Watch { name: Some(name.to_owned()), events, replay: 0, after: None };
    let _: Subscribed = connection.call("events/subscribe", &watch)?;
    Ok(connection)
}

/// Prints what the model says in the turn, until it ends.
fn hear(
    context: &Context,
    events: &mut Connection,
    answer: &mut Prompted,
    deadline: Instant,
) -> Result<(), Fault> {
    let mut message = Message::default();
    let ended = hear_messages(context, events, answer, &mut message, deadline);
    // The turn, or the wait for it, has ended in the middle of a message.
    if message.told > 0 {
        answer.add(&message.text);
        if !context.json {
            print::data("\n");
        }
    }
    ended
}

fn hear_messages(
    context: &Context,
    events: &mut Connection,
    answer: &mut Prompted,
    message: &mut Message,
    deadline: Instant,
) -> Result<(), Fault> {
    let name = answer.session.clone();
    // Whether the next relay has yet to find out if the turn goes on.
    let mut unsure = false;
    // Until when what was told of its end is still read, once it is known to be over.
    let mut over_at: Option<Instant> = None;
    let soon = || Instant::now() + Duration::from_millis(limits::HEARD_MS);
    let mut losses = Losses::new(&context.target);
    loop {
        if unsure && over_at.is_none() {
            let goes_on = goes_on(context, answer)?;
            over_at = (goes_on == Some(false)).then(soon);
            unsure = goes_on.is_none();
        }
        let event = match events.next_event_until(Some(over_at.unwrap_or(deadline))) {
            Ok(event) => event,
            Err(CallError::TimedOut) if over_at.is_some() => {
                let fault = Fault::timeout("the turn ended while there was no relay to hear it");
                return Err(fault.hint(format!("what it said: agentmux look {name}")));
            }
            Err(CallError::Lost { stopping: false }) => {
                if Instant::now() >= deadline {
                    return Err(unheard(CallError::TimedOut, answer));
                }
                match listen(losses.again()?, &name) {
                    Ok(next) => *events = next,
                    // The old one is lost still, and counts as the next one that is.
                    Err(CallError::Lost { stopping: false }) => continue,
                    Err(error) => return Err(unheard(error, answer)),
                }
                message.is_broken = message.told > 0;
                unsure = true;
                continue;
            }
            Err(error) => return Err(unheard(error, answer)),
        };
        if event["turnId"].as_str() != answer.turn_id.as_deref() {
            continue;
        }
        // What it still tells of this turn is bounded, whatever else goes on in the session.
        over_at = over_at.map(|_| soon());
        match event["event"].as_str() {
            Some(DELTA) => {
                let said = message.next(&event);
                if !context.json {
                    print::data(&print::safe(&said));
                }
            }
            Some("item") if event["source"] == "model" && event["kind"] == "answer" => {
                let text = message.end(event["text"].as_str().unwrap_or_default());
                if !context.json {
                    print::data(&print::safe(&text.left));
                }
                answer.add(&text.whole);
            }
            Some("turnEnded") => {
                let outcome = event["outcome"].as_str().unwrap_or_default().to_owned();
                let why = event["why"].as_str().map(|why| format!(": {why}")).unwrap_or_default();
                answer.status = Some(outcome.clone());
                return match outcome.as_str() {
                    "completed" => Ok(()),
                    other => Err(Fault::refused(format!("the turn of {name} ended as {other}{why}"))),
                };
            }
            _ => {}
        }
    }
}

/// Why the end of the turn was not waited for.
fn unheard(error: CallError, answer: &Prompted) -> Fault {
    let look = format!("the turn goes on; agentmux look {}", answer.session);
    match error {
        CallError::TimedOut => Fault::timeout("the turn has not ended in time").hint(look),
        CallError::Interrupted => {
            let turn = answer.turn_id.as_deref().unwrap_or("unknown");
            let why = format!("interrupted; turn {turn} goes on with the words {}", answer.id);
            Fault::new(Code::Interrupted, why).hint(look)
        }
        CallError::Lost { .. } => Fault::timeout("the relay was stopped while the turn ran").hint(look),
        other => Fault::from(other),
    }
}

/// Whether the turn still runs; `None` while that is not known, of which an event will tell more.
fn goes_on(context: &Context, answer: &Prompted) -> Result<Option<bool>, Fault> {
    let own = match context.connect()?.listed(&answer.session) {
        // Whoever hears events hears of that, too.
        Err(CallError::Lost { stopping: false }) => return Ok(None),
        answered => answered.map_err(|error| unheard(error, answer))?,
    };
    let is_unknown = |own: &SessionInfo| match own.state {
        SessionState::Starting | SessionState::Backoff => true,
        SessionState::Stopped => own.wanted == Wanted::Up,
        // The child has not said yet which turn it is.
        SessionState::Busy | SessionState::Waiting => own.turn_id.is_none(),
        _ => false,
    };
    Ok(match own {
        Some(own) if is_unknown(&own) => None,
        own => Some(own.is_some_and(|own| own.turn_id.is_some() && own.turn_id == answer.turn_id)),
    })
}

/// Stands before a message that was told in part, and is told again from its beginning.
const TOLD_AGAIN: &str = "\n[some was said while there was no relay; the whole message:]\n";

/// One message of the model, as it is written.
#[derive(Debug, Default)]
struct Message {
    text: String,
    /// Whether some of it was said while there was no relay.
    is_broken: bool,
    /// Bytes of it that this reader was told of or has missed.
    told: u64,
}

/// A message that is done.
struct Done {
    whole: String,
    /// What has not been printed of it.
    left: String,
}

impl Message {
    /// The next piece, behind a word about what is missing before it.
    fn next(&mut self, event: &Value) -> String {
        let (offset, text) =
            (event["offset"].as_u64().unwrap_or(0), event["text"].as_str().unwrap_or_default());
        // The next relay knows nothing of what was told before, and tells the message from its beginning.
        let mut again = "";
        if self.is_broken && offset == 0 {
            (*self, again) = (Message::default(), TOLD_AGAIN);
        }
        let said = match offset.saturating_sub(self.told) {
            0 => text.to_owned(),
            missing => format!("[{missing} bytes missed: this reader was too slow]{text}"),
        };
        self.told = offset + text.len() as u64;
        self.text.push_str(&said);
        format!("{again}{said}")
    }

    /// The message is done. What the relay tells of it then may be cut, so that it counts only when nothing was told before.
    fn end(&mut self, item: &str) -> Done {
        let message = std::mem::take(self);
        if message.is_broken {
            let left = format!("{TOLD_AGAIN}{item}\n");
            return Done { whole: item.to_owned(), left };
        }
        match message.told {
            0 => Done { whole: item.to_owned(), left: format!("{item}\n") },
            _ => Done { whole: message.text, left: "\n".to_owned() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A message that was broken off is told again whole by the next relay: it is printed once more, and it counts whole and once.
    #[test]
    fn a_message_that_the_next_relay_tells_again_counts_once_and_whole() {
        let whole = "First, then last.";
        let mut message = Message::default();
        assert_eq!(message.next(&json!({"offset": 0, "text": "First, "})), "First, ");
        message.is_broken = true;
        let said = message.next(&json!({"offset": 0, "text": "First, then "}));
        assert_eq!(said, format!("{TOLD_AGAIN}First, then "));
        assert_eq!(message.next(&json!({"offset": 12, "text": "last."})), "last.");
        let done = message.end("First, th\u{2026}");
        assert_eq!((done.whole.as_str(), done.left.as_str()), (whole, "\n"));
        // One of which the next relay tells only the end is printed from that.
        let mut message = Message { text: "First, ".to_owned(), is_broken: true, told: 7 };
        let done = message.end(whole);
        assert_eq!((done.whole.as_str(), done.left), (whole, format!("{TOLD_AGAIN}{whole}\n")));
    }
}
