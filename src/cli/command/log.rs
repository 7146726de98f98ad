//! `agentmux log [NAME]`: the history from the store: every step of mail, approvals, claims of names, children. With `-f` what follows,
//! too.

use clap::Args;
use serde_json::Value;

use super::send::duration;
use crate::cli::context::Context;
use crate::cli::happening;
use crate::client::{CallError, Connection, Losses, catch_interrupt};
use crate::model::clock::Millis;
use crate::model::fault::{Code, Fault};
use crate::model::limits;
use crate::protocol::check::check_name;
use crate::protocol::request::Log as Request;

/// Arguments of `log`.
#[derive(Debug, Args)]
pub struct Log {
    /// Only what concerns this session
    name: Option<String>,
    /// Only the mail of this conversation: the id of any mail in it
    #[arg(long, value_name = "ID", conflicts_with_all = ["name", "follow"])]
    thread: Option<String>,
    /// Go on with what happens
    #[arg(short, long)]
    follow: bool,
    /// How many lines at most, the last ones
    #[arg(short = 'n', value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    count: Option<u32>,
    /// Only what happened in this time
    #[arg(long, value_name = "DUR", value_parser = duration)]
    since: Option<u64>,
}

/// The lines of the last moment that were printed, so that none is printed again after a loss of the connection.
#[derive(Debug, Default)]
struct Printed {
    at: Option<Millis>,
    lines: Vec<Value>,
}

pub fn run(context: &Context, args: Log) -> Result<u8, Fault> {
    args.name.as_deref().map_or(Ok(()), check_name)?;
    let mut connection = context.connect()?;
    catch_interrupt();
    let mut request = Request {
        name: args.name,
        thread: args.thread,
        since_ms: args.since,
        limit: args.count,
        follow: args.follow,
    };
    let mut printed = Printed::default();
    let mut losses = Losses::new(&context.target);
    loop {
        match show(context, &mut connection, &request, &mut printed) {
            Ok(()) => return Ok(0),
            // ^C is how one leaves; there is nothing to say of it.
            Err(CallError::Interrupted) => return Ok(Code::Interrupted.exit()),
            Err(CallError::Lost { stopping: false }) if args.follow => connection = losses.again()?,
            // A stopping relay refuses new requests; to the follower that is the stop.
            Err(_) if connection.stopping => return Err(Fault::from(CallError::Lost { stopping: true })),
            Err(error) => return Err(Fault::from(error)),
        }
        // What was printed is skipped; the rest happened meanwhile.
        (request.since_ms, request.limit) = (None, Some(limits::LIST_ROWS_MAX));
    }
}

/// Prints the history, and what follows it if that is wanted.
fn show(
    context: &Context,
    connection: &mut Connection,
    request: &Request,
    printed: &mut Printed,
) -> Result<(), CallError> {
    let history: Value = connection.call("events/log", request)?;
    for event in history["events"].as_array().into_iter().flatten() {
        printed.print(context, event, false);
    }
    if !request.follow {
        return Ok(());
    }
    loop {
        let event = connection.next_event()?;
        printed.print(context, &event, true);
    }
}

impl Printed {
    /// Prints one line, unless it is one of a history that was printed before.
    fn print(&mut self, context: &Context, event: &Value, is_live: bool) {
        // What only the live stream has would make one event look like two.
        let mut event = event.clone();
        if let Some(event) = event.as_object_mut() {
            event.remove("seq");
            event.remove("pending");
        }
        let at = event["at"].as_str().and_then(Millis::parse);
        if !is_live && (at < self.at || (at == self.at && self.lines.contains(&event))) {
            return;
        }
        happening::print(context, &event);
        if at > self.at {
            (self.at, self.lines) = (at, Vec::new());
        }
        if at == self.at {
            self.lines.push(event);
        }
    }
}
