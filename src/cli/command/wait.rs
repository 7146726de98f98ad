//! `agentmux wait [ID]`: the next mail to the caller, or the answer to a mail.

use std::time::{Duration, Instant};

use clap::Args;

use super::ask::print_answer;
use super::read::print_and_confirm;
use super::send::{duration, wait_for};
use crate::cli::context::Context;
use crate::client::{catch_interrupt, params};
use crate::model::fault::{Code, Fault};
use crate::model::limits;
use crate::protocol::answer::{Delivery, OneMail, Sent, Trace, TracedDelivery};
use crate::protocol::check::check_name;
use crate::protocol::request::{MailRef, Next, Until};

/// Arguments of `wait`.
#[derive(Debug, Args)]
pub struct Wait {
    /// Wait for the answer to this mail: its id, or a unique prefix or suffix of it
    id: Option<String>,
    /// Only mail from this sender
    #[arg(long, value_name = "NAME", conflicts_with = "id")]
    from: Option<String>,
    /// How long to wait at most
    #[arg(long, value_name = "DUR", value_parser = duration)]
    timeout: Option<u64>,
}

pub fn run(context: &Context, args: Wait) -> Result<u8, Fault> {
    args.from.as_deref().map_or(Ok(()), check_name)?;
    let mut connection = context.connect()?;
    if let Some(id) = args.id {
        let traced: Trace = connection.call("mail/trace", &MailRef { id })?;
        let waited = wait_for(context, &mut connection, &as_sent(traced), Until::Reply, args.timeout)?;
        return print_answer(context, &mut connection, &waited);
    }
    catch_interrupt();
    let timeout_ms = args.timeout.unwrap_or(limits::WAIT_DEFAULT_MS).min(limits::WAIT_MS_MAX);
    let deadline = Instant::now() + Duration::from_millis(timeout_ms);
    let request = || {
        let left = deadline.saturating_duration_since(Instant::now());
        params(&Next { from: args.from.clone(), timeout_ms: left.as_millis() as u64 })
    };
    let hang = Duration::from_millis(limits::HELLO_ANSWER_MS);
    let next = context.target.call_again(&mut connection, "mail/next", Some(deadline + hang), request);
    let answer: OneMail = next.map_err(|error| {
        let fault = Fault::from(error);
        match fault.code {
            Code::Interrupted => Fault::new(Code::Interrupted, "interrupted; no mail was taken"),
            _ => fault,
        }
    })?;
    print_and_confirm(context, &mut connection, &answer);
    Ok(0)
}

/// A mail that was sent before, as `send` answered it.
fn as_sent(traced: Trace) -> Sent {
    let delivery =
        |d: TracedDelivery| Delivery { to: d.to, state: d.state, reason: d.reason, turn_id: d.turn_id };
    Sent {
        id: traced.id,
        thread: traced.id,
        deliveries: traced.deliveries.into_iter().map(delivery).collect(),
    }
}
