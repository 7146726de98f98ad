//! Requests of clients as types, read from a method and its parameters; one file for each noun.
//!
//! **Invariant:** a `Request` that exists has names, ids and sizes inside their grammar; the core checks meaning only.

mod approval;
mod events;
mod hello;
mod mail;
mod session;

use serde::de::DeserializeOwned;

pub use self::approval::{Decision, SettleApproval};
pub use self::events::{Answered, Elsewhere, Log, PaneReport, Place, Watch};
pub use self::hello::{Hello, Stop};
pub use self::mail::{Dead, Discard, Inbox, MailRef, Next, Reply, Search, Send, Settle, Until, Wait};
pub use self::session::{Close, Down, Hold, Look, Names, One, Prompt, Release, Spawn};
use super::check::{check_cursor, check_name, check_reason, check_report, check_search, check_spawn};
use crate::model::fault::Fault;

/// What a client asks of the relay.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "each variant carries the documented type of its parameters")]
pub enum Request {
    Hello(Hello),
    Spawn(Spawn),
    Configure(Spawn),
    Up(Names),
    Down(Down),
    Remove(One),
    List,
    Status,
    Show(One),
    Send(Send),
    Reply(Reply),
    Prompt(Prompt),
    Interrupt(One),
    Close(Close),
    Inbox(Inbox),
    Read(MailRef),
    Trace(MailRef),
    Wait(Wait),
    Ack(Settle),
    Cancel(MailRef),
    Requeue(Settle),
    Dead(Dead),
    Discard(Discard),
    Search(Search),
    Next(Next),
    Hold(Hold),
    Release(Release),
    Look(Look),
    Watch(Watch),
    PaneReport(PaneReport),
    Log(Log),
    Approvals,
    SettleApproval(SettleApproval),
    Attach(One),
    Stop(Stop),
    Replace,
}

impl Request {
    /// Reads a request from its method and its parameters, one JSON value.
    ///
    /// # Errors
    /// `usage` for an unknown method, for parameters that do not fit, and for what is outside its grammar.
    pub fn parse(method: &str, params: &str) -> Result<Request, Fault> {
        let request = match method {
            "hello" => Request::Hello(read(method, params)?),
            "session/spawn" => Request::Spawn(read(method, params)?),
            "session/configure" => Request::Configure(read(method, params)?),
            "session/up" => Request::Up(read(method, params)?),
            "session/down" => Request::Down(read(method, params)?),
            "session/remove" => Request::Remove(read(method, params)?),
            "session/list" => Request::List,
            "session/look" => Request::Look(read(method, params)?),
            "events/subscribe" => Request::Watch(read(method, params)?),
            "pane/report" => Request::PaneReport(read(method, params)?),
            "events/log" => Request::Log(read(method, params)?),
            "approval/list" => Request::Approvals,
            "approval/settle" => Request::SettleApproval(read(method, params)?),
            "session/show" => Request::Show(read(method, params)?),
            "session/attach" => Request::Attach(read(method, params)?),
            "mail/send" => Request::Send(read(method, params)?),
            "session/prompt" => Request::Prompt(read(method, params)?),
            "session/close" => Request::Close(read(method, params)?),
            "session/interrupt" => Request::Interrupt(read(method, params)?),
            "mail/reply" => Request::Reply(read(method, params)?),
            "mail/list" => Request::Inbox(read(method, params)?),
            "mail/read" => Request::Read(read(method, params)?),
            "mail/trace" => Request::Trace(read(method, params)?),
            "mail/wait" => Request::Wait(read(method, params)?),
            "mail/search" => Request::Search(read(method, params)?),
            "mail/next" => Request::Next(read(method, params)?),
            "session/hold" => Request::Hold(read(method, params)?),
            "session/release" => Request::Release(read(method, params)?),
            "mail/ack" => Request::Ack(read(method, params)?),
            "mail/cancel" => Request::Cancel(read(method, params)?),
            "mail/requeue" => Request::Requeue(read(method, params)?),
            "mail/dead" => Request::Dead(read(method, params)?),
            "mail/discard" => Request::Discard(read(method, params)?),
            "relay/status" => Request::Status,
            "relay/replace" => Request::Replace,
            "relay/stop" => Request::Stop(read(method, params)?),
            _ => {
                let known = super::verb::methods().collect::<Vec<_>>().join(", ");
                let method: String = method.chars().take(64).collect();
                return Err(Fault::usage(format!("request refused: no method `{method}`"))
                    .hint(format!("there are: {known}")));
            }
        };
        request.checked()
    }

    /// The method of this request.
    pub fn method(&self) -> &'static str {
        match self {
            Request::Hello(_) => "hello",
            Request::Spawn(_) => "session/spawn",
            Request::Configure(_) => "session/configure",
            Request::Up(_) => "session/up",
            Request::Down(_) => "session/down",
            Request::Remove(_) => "session/remove",
            Request::List => "session/list",
            Request::Look(_) => "session/look",
            Request::Watch(_) => "events/subscribe",
            Request::PaneReport(_) => "pane/report",
            Request::Log(_) => "events/log",
            Request::Approvals => "approval/list",
            Request::SettleApproval(_) => "approval/settle",
            Request::Show(_) => "session/show",
            Request::Attach(_) => "session/attach",
            Request::Send(_) => "mail/send",
            Request::Prompt(_) => "session/prompt",
            Request::Interrupt(_) => "session/interrupt",
            Request::Close(_) => "session/close",
            Request::Reply(_) => "mail/reply",
            Request::Inbox(_) => "mail/list",
            Request::Read(_) => "mail/read",
            Request::Trace(_) => "mail/trace",
            Request::Wait(_) => "mail/wait",
            Request::Search(_) => "mail/search",
            Request::Next(_) => "mail/next",
            Request::Hold(_) => "session/hold",
            Request::Release(_) => "session/release",
            Request::Ack(_) => "mail/ack",
            Request::Cancel(_) => "mail/cancel",
            Request::Requeue(_) => "mail/requeue",
            Request::Dead(_) => "mail/dead",
            Request::Discard(_) => "mail/discard",
            Request::Status => "relay/status",
            Request::Stop(_) => "relay/stop",
            Request::Replace => "relay/replace",
        }
    }

    /// The mail that the request refers to, as it was given.
    pub fn reference(&self) -> Option<&str> {
        match self {
            Request::Send(send) => send.reply_to.as_deref(),
            Request::Reply(reply) => Some(&reply.id),
            Request::Read(mail) | Request::Trace(mail) | Request::Cancel(mail) => Some(&mail.id),
            Request::Wait(wait) => Some(&wait.id),
            Request::Ack(settle) | Request::Requeue(settle) => Some(&settle.id),
            Request::Discard(discard) => discard.id.as_deref(),
            Request::Release(release) => Some(&release.target),
            Request::Log(log) => log.thread.as_deref(),
            _ => None,
        }
    }

    /// The idempotency key of the mail that the request sends.
    pub fn key(&self) -> Option<&str> {
        match self {
            Request::Send(send) => send.key.as_deref(),
            Request::Reply(reply) => reply.key.as_deref(),
            Request::Prompt(prompt) => prompt.key.as_deref(),
            _ => None,
        }
    }

    /// Checks sizes and grammar.
    fn checked(self) -> Result<Request, Fault> {
        match &self {
            Request::Spawn(spawn) | Request::Configure(spawn) => check_spawn(spawn)?,
            Request::Send(send) => send.check()?,
            Request::Prompt(prompt) => prompt.check()?,
            Request::Reply(reply) => reply.check()?,
            Request::Interrupt(one) => check_name(&one.name)?,
            Request::Close(close) => check_name(&close.name)?,
            Request::Up(Names { names }) | Request::Down(Down { names, .. }) => {
                names.iter().try_for_each(|n| check_name(n))?
            }
            Request::Remove(one) | Request::Attach(one) | Request::Show(one) => check_name(&one.name)?,
            Request::Look(look) => check_name(&look.name)?,
            Request::Watch(watch) => watch.check()?,
            Request::Log(log) => log.check()?,
            Request::PaneReport(report) => check_report(report)?,
            Request::SettleApproval(settle) => check_reason(settle.reason.as_deref())?,
            Request::Hold(hold) => check_name(&hold.name)?,
            Request::Search(search) => {
                check_search(&search.text)?;
                check_cursor(search.cursor.as_deref())?;
            }
            Request::Dead(dead) => check_cursor(dead.cursor.as_deref())?,
            Request::Next(Next { from: Some(from), .. }) => check_name(from)?,
            Request::Inbox(inbox) => inbox.check()?,
            Request::Ack(Settle { name: Some(name), .. })
            | Request::Requeue(Settle { name: Some(name), .. }) => check_name(name)?,
            _ => {}
        }
        Ok(self)
    }
}

fn read<T: DeserializeOwned>(method: &str, params: &str) -> Result<T, Fault> {
    let refused = |why: &str| Fault::usage(format!("request refused: parameters of `{method}`: {why}"));
    let object = match params.trim_start() {
        "null" => "{}",
        object if object.starts_with('{') => object,
        _ => return Err(refused("they are no object")),
    };
    serde_json::from_str(object).map_err(|error| {
        let text = error.to_string();
        // The place is one in the parameters, which nobody has written apart.
        refused(text.rsplit_once(" at line ").map_or(&text, |(what, _)| what))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_of_the_table_is_read_and_no_other() {
        for method in crate::protocol::verb::methods() {
            let refused = Request::parse(method, "null").err();
            assert!(!refused.is_some_and(|fault| fault.message.contains("no method")), "{method}");
        }
        assert!(Request::parse("mail/sned", "null").unwrap_err().message.contains("no method"));
    }
}
