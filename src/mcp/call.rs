//! What each tool does, as calls of the relay. Answers have the shapes of the verbs of the same names.
//!
//! **Invariant:** no call takes longer than 50 s; what takes longer is answered with `timedOut` and `resume`, which is no error.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::desk::{Patience, Visit};
use crate::client::params;
use crate::model::clock::parse_duration;
use crate::model::fault::{Code, Fault};
use crate::model::id::MailId;
use crate::model::limits;
use crate::model::mail::{FromKind, Priority};
use crate::protocol::answer::{MailInfo, Mails, OneMail, Sessions, Settled, Waited};
use crate::protocol::check::{self, check_mail};
use crate::protocol::request::{Inbox, MailRef, Next, Send, Settle, Until, Wait};

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum To {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MailArgs {
    to: To,
    body: String,
    subject: Option<String>,
    priority: Option<Priority>,
    reply_to: Option<String>,
    expires: Option<String>,
    timeout_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct InboxArgs {
    #[serde(default)]
    unread: bool,
    limit: Option<u32>,
    #[serde(default)]
    ack: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WaitArgs {
    id: Option<String>,
    from: Option<String>,
    timeout_ms: Option<u64>,
    resume: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoArgs {}

/// Makes one call.
///
/// # Errors
/// What the relay refuses, and arguments that do not fit.
pub fn call(desk: &Visit<'_>, tool: &str, arguments: Value) -> Result<Value, Fault> {
    match tool {
        "send" => send(desk, read(tool, arguments)?),
        "inbox" => inbox(desk, &read(tool, arguments)?),
        "wait" => wait(desk, read(tool, arguments)?),
        "list" => {
            let NoArgs {} = read(tool, arguments)?;
            let sessions: Sessions = desk.call("session/list", Patience::Soon, || json!({}))?;
            Ok(json!(sessions))
        }
        "ask" => ask(desk, read(tool, arguments)?),
        "whoami" => {
            let NoArgs {} = read(tool, arguments)?;
            let welcome = desk.welcome()?;
            Ok(json!({
                "name": welcome.name, "kind": welcome.kind, "bundle": welcome.bundle, "rule": desk.desk.rule(), "because": welcome.because,
            }))
        }
        _ => Err(Fault::bug("a tool without code")),
    }
}

fn read<T: DeserializeOwned>(tool: &str, arguments: Value) -> Result<T, Fault> {
    serde_json::from_value(arguments)
        .map_err(|error| Fault::usage(format!("arguments of `{tool}` refused: {error}")))
}

fn written(desk: &Visit<'_>, args: &MailArgs) -> Result<Send, Fault> {
    let to = match &args.to {
        To::One(name) => vec![name.clone()],
        To::Many(names) => names.clone(),
    };
    let to = check::expand(to, &desk.desk.groups)?;
    check_mail(&args.body, args.subject.as_deref(), None)?;
    let expires_ms = args.expires.as_deref().map(|text| {
        parse_duration(text).ok_or_else(|| {
            Fault::usage("mail refused: `expires` is not a duration").hint("write it as 30m, 2h or 1d")
        })
    });
    Ok(Send {
        to,
        body: args.body.clone(),
        subject: args.subject.clone(),
        priority: args.priority.unwrap_or_default(),
        reply_to: args.reply_to.clone(),
        expires_ms: expires_ms.transpose()?,
        ..Send::default()
    })
}

fn send(desk: &Visit<'_>, args: MailArgs) -> Result<Value, Fault> {
    let sent = desk.send(written(desk, &args)?)?;
    if let Some(parent) = args.reply_to {
        confirm(desk, &parent);
    }
    Ok(json!(sent))
}

/// Confirms a mail to us; that it was none, or was confirmed before, does not matter.
fn confirm(desk: &Visit<'_>, id: &str) {
    let request = Settle { id: id.to_owned(), name: None };
    let _: Result<Settled, Fault> = desk.call("mail/ack", Patience::Soon, || params(&request));
}

fn ask(desk: &Visit<'_>, args: MailArgs) -> Result<Value, Fault> {
    let timeout_ms = bounded(args.timeout_ms);
    let deadline = Instant::now() + Duration::from_millis(timeout_ms);
    let request = Send { ask: true, ..written(desk, &args)? };
    let sent = desk.send(request)?;
    await_answer(desk, &sent.id.to_string(), deadline)
}

fn bounded(timeout_ms: Option<u64>) -> u64 {
    timeout_ms.unwrap_or(limits::TOOL_WAIT_MS).min(limits::TOOL_WAIT_MS)
}

fn left(deadline: Instant) -> u64 {
    deadline.saturating_duration_since(Instant::now()).as_millis() as u64
}

/// By when even a hanging relay is given up.
fn hang(deadline: Instant) -> Patience {
    Patience::Until(deadline + Duration::from_millis(limits::TOOL_HANG_MS))
}

fn wait(desk: &Visit<'_>, args: WaitArgs) -> Result<Value, Fault> {
    let deadline = Instant::now() + Duration::from_millis(bounded(args.timeout_ms));
    let (mut id, mut from) = (args.id, args.from);
    if let Some(resume) = &args.resume {
        match resume.split_once(':') {
            Some(("answer", to)) => id = Some(to.to_owned()),
            Some(("next", "")) => {}
            Some(("next", name)) => from = Some(name.to_owned()),
            _ => {
                return Err(
                    Fault::usage("wait refused: `resume` is none of ours").hint("give it as it was answered")
                );
            }
        }
    }
    match id {
        Some(id) => await_answer(desk, &id, deadline),
        None => await_next(desk, from, deadline),
    }
}

/// Waits for the next mail of a reader that no child delivers to.
fn await_next(desk: &Visit<'_>, from: Option<String>, deadline: Instant) -> Result<Value, Fault> {
    let request = || params(&Next { from: from.clone(), timeout_ms: left(deadline) });
    match desk.call::<OneMail>("mail/next", hang(deadline), request) {
        Ok(answer) => Ok(json!(answer)),
        Err(fault) if fault.code == Code::Timeout => {
            Ok(json!({ "timedOut": true, "resume": format!("next:{}", from.unwrap_or_default()) }))
        }
        Err(fault) => Err(fault),
    }
}

/// Waits for the answer to a mail. A relay that gives none now, for a reason that passes, has the mail all the same: the wait goes on with
/// `resume`, and asking once more would be a second mail.
fn await_answer(desk: &Visit<'_>, id: &str, deadline: Instant) -> Result<Value, Fault> {
    answered(desk, id, deadline).or_else(|fault| match fault.code {
        Code::Busy | Code::Timeout | Code::NoRelay | Code::Io => Ok(json!({
            "timedOut": true, "id": id, "resume": format!("answer:{id}"), "reason": fault.message,
        })),
        _ => Err(fault),
    })
}

/// Waits for the answer to a mail. Having it here is having it: it does not come into a turn as well, if it has not already.
fn answered(desk: &Visit<'_>, id: &str, deadline: Instant) -> Result<Value, Fault> {
    let request = || params(&Wait { id: id.to_owned(), until: Until::Reply, timeout_ms: left(deadline) });
    let waited: Waited = desk.call("mail/wait", hang(deadline), request)?;
    let Some(reply) = waited.reply_id else {
        let ended = waited.sent.deliveries.iter().find(|d| !d.state.is_open() && !d.state.is_delivered());
        if let Some(delivery) = ended.filter(|_| !waited.reached) {
            let (to, state) = (&delivery.to, delivery.state.as_str());
            return Err(Fault::refused(format!("no answer can come: mail {id} to {to} ended as {state}")));
        }
        let deliveries = &waited.sent.deliveries;
        let resume = format!("answer:{}", waited.sent.id);
        return Ok(
            json!({ "timedOut": true, "id": waited.sent.id, "deliveries": deliveries, "resume": resume }),
        );
    };
    let answer = body_of(desk, reply)?;
    confirm(desk, &reply.to_string());
    Ok(json!(OneMail { mail: answer }))
}

fn body_of(desk: &Visit<'_>, id: MailId) -> Result<MailInfo, Fault> {
    let read: OneMail = desk.call("mail/read", Patience::Soon, || params(&MailRef { id: id.to_string() }))?;
    Ok(read.mail)
}

fn inbox(desk: &Visit<'_>, args: &InboxArgs) -> Result<Value, Fault> {
    let mut acked = Vec::new();
    for id in &args.ack {
        let request = Settle { id: id.clone(), name: None };
        let settled: Settled = desk.call("mail/ack", Patience::Soon, || params(&request))?;
        acked.push(settled.id);
    }
    let limit = Some(args.limit.unwrap_or(limits::TOOL_INBOX_ROWS));
    let request = Inbox { unread: args.unread, limit, ..Inbox::default() };
    let listed: Mails = desk.call("mail/list", Patience::Soon, || params(&request))?;
    let is_session = desk.welcome()?.kind == FromKind::Agent;
    let mut mails = listed.mails;
    if is_session {
        // What was delivered may be read again; what was not comes into a turn.
        let mut bytes = 0;
        for mail in mails.iter_mut().filter(|mail| mail.state.is_delivered()) {
            if bytes < limits::TOOL_INBOX_BYTES {
                mail.body = body_of(desk, mail.id)?.body;
                bytes += mail.body.as_ref().map_or(0, String::len);
            }
        }
    } else {
        // The last request of this call: the next one confirms what was handed over.
        let request = Inbox { take: true, limit, ..Inbox::default() };
        let taken: Mails = desk.call("mail/list", Patience::Soon, || params(&request))?;
        mails.retain(|mail| taken.mails.iter().all(|taken| taken.id != mail.id));
        mails.splice(0..0, taken.mails);
    }
    Ok(json!({ "mails": mails, "acked": acked }))
}
