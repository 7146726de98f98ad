//! `agentmux watch [NAME]`: what happens, as it happens. Comes back after a crash of the relay, not after a stop.

use clap::Args;

use crate::cli::context::Context;
use crate::cli::happening;
use crate::client::{CallError, Connection, Losses, catch_interrupt};
use crate::model::fault::{Code, Fault};
use crate::protocol::answer::Subscribed;
use crate::protocol::check::{check_events, check_name};
use crate::protocol::request::{Place, Watch as Request};

/// Arguments of `watch`.
#[derive(Debug, Args)]
pub struct Watch {
    /// Only what concerns this session
    name: Option<String>,
    /// Show so many past events first, as far as the relay remembers them
    #[arg(long, value_name = "N", default_value_t = 0)]
    replay: u32,
    /// Only these events, such as state,mail
    #[arg(long, value_name = "EVENT", value_delimiter = ',')]
    events: Vec<String>,
}

pub fn run(context: &Context, args: Watch) -> Result<u8, Fault> {
    args.name.as_deref().map_or(Ok(()), check_name)?;
    check_events(&args.events, args.name.as_deref())?;
    let mut connection = context.connect()?;
    let mut request = Request { name: args.name, events: args.events, replay: args.replay, after: None };
    catch_interrupt();
    let mut losses = Losses::new(&context.target);
    loop {
        match follow(context, &mut connection, &mut request) {
            CallError::Lost { stopping: false } => connection = losses.again()?,
            // ^C is how one leaves; there is nothing to say of it.
            CallError::Interrupted => return Ok(Code::Interrupted.exit()),
            // A stopping relay refuses new requests; to the watcher that is the stop.
            _ if connection.stopping => return Err(Fault::from(CallError::Lost { stopping: true })),
            other => return Err(Fault::from(other)),
        }
    }
}

/// Subscribes and prints what comes, until the connection ends; remembers the place in the stream.
fn follow(context: &Context, connection: &mut Connection, request: &mut Request) -> CallError {
    let subscribed: Subscribed = match connection.call("events/subscribe", request) {
        Ok(subscribed) => subscribed,
        Err(error) => return error,
    };
    let mut place = Place { stream: subscribed.stream, seq: subscribed.seq };
    loop {
        request.after = Some(place.clone());
        match connection.next_event() {
            Ok(event) => {
                place.seq = event["seq"].as_u64().unwrap_or(place.seq);
                happening::print(context, &event);
            }
            Err(error) => return error,
        }
    }
}
