//! Requests of clients as types, read from a method and its parameters.
//!
//! **Invariant:** a `Request` that exists has names, ids and sizes inside their grammar; the core checks meaning only.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::check::{
    Groups, check_elsewhere, check_events, check_mail, check_name, check_reason, check_recipient,
    check_search, check_spawn,
};
use crate::model::fault::Fault;
use crate::model::limits;
use crate::model::mail::{Priority, When};

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

/// `hello`: the first request of a connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hello {
    /// What kind of client, such as `cli`.
    pub client: String,
    /// Its program version.
    pub version: String,
    /// Lowest protocol version that it speaks.
    pub protocol_min: u32,
    /// Highest protocol version that it speaks.
    pub protocol_max: u32,
    /// The environment mark of an agent, when the client was started by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_mark: Option<String>,
    /// The name that it wants to speak as: a session's, with its token, or a free one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// What proves that the name is its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Whether the operator takes the name from whoever holds it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub take_over: bool,
}

/// `session/spawn`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spawn {
    /// The session's name, as given; its grammar is checked so that the refusal can quote it.
    pub name: String,
    /// The directory it works in, absolute.
    pub dir: String,
    /// The person's instructions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// The model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// An existing thread to bring in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    /// The sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
    /// The approval policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<String>,
    /// The Codex program, absolute.
    pub program: String,
    /// Whether mail wakes it when it is stopped.
    #[serde(default)]
    pub wake: bool,
    /// Whether its child is its own, and not shared with sessions of the same program and environment.
    #[serde(default)]
    pub isolated: bool,
    /// Whether a `$` before a skill's name in mail pulls the skill in.
    #[serde(default)]
    pub skills_in_mail: bool,
    /// The environment that the child gets; allow-listed again by the relay.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
}

/// Some sessions; none named means all.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Names {
    /// Their names.
    #[serde(default)]
    pub names: Vec<String>,
}

/// `session/down`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Down {
    /// The sessions; none named means all of them and the relay.
    #[serde(default)]
    pub names: Vec<String>,
    /// With the short budget.
    #[serde(default)]
    pub now: bool,
}

/// One session.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct One {
    /// Its name.
    pub name: String,
}

/// `mail/send`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Send {
    /// Recipients as given: names, `@all`.
    pub to: Vec<String>,
    /// The text.
    pub body: String,
    /// The subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// How soon it matters.
    #[serde(default)]
    pub priority: Priority,
    /// When it may reach a busy session; its priority decides without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<When>,
    /// Whether the sender will wait for the answer; a circle of such senders is refused.
    #[serde(default)]
    pub ask: bool,
    /// The mail that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// After how long it is no longer wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
    /// The sender's idempotency key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// `mail/reply`: mail to the sender of another.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reply {
    /// The mail that it answers.
    pub id: String,
    /// The text.
    pub body: String,
    /// The subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// How soon it matters.
    #[serde(default)]
    pub priority: Priority,
    /// The sender's idempotency key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// `session/close`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Close {
    /// The session.
    pub name: String,
    /// Without asking it for a summary.
    #[serde(default)]
    pub now: bool,
}

/// `session/prompt`: the operator's own words.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Prompt {
    /// The session.
    pub name: String,
    /// The words, which the model reads as they are.
    pub text: String,
    /// The idempotency key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// `mail/list`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Inbox {
    /// Whose mail; the caller's without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Only what its recipient has not had yet.
    #[serde(default)]
    pub unread: bool,
    /// Only from this sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Only what was accepted in the last so many milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "sinceMs")]
    pub since_ms: Option<u64>,
    /// How many, newest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Hands the caller what waits for it, oldest first and with bodies; its next request confirms that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub take: bool,
}

/// One mail.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct MailRef {
    /// Its id, or a unique prefix or suffix of it.
    pub id: String,
}

/// `mail/ack` and `mail/requeue`: one mail, to one of its recipients.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Settle {
    /// Its id, or a unique prefix or suffix of it.
    pub id: String,
    /// Whose delivery; the caller's, or every one that can be meant, without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// `mail/dead`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Dead {
    /// How many, newest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// `mail/discard`: dead mail that nobody needs to see any more.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Discard {
    /// One mail; all dead mail without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// `mail/search`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Search {
    /// Words that the subject or body has, all of them; one may end in `*`.
    pub text: String,
    /// How many, newest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// `mail/next`: the caller's next mail, handed over.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Next {
    /// Only from this sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// How long to wait at most.
    pub timeout_ms: u64,
}

/// `session/hold`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    /// The session.
    pub name: String,
    /// For how long; until it is released without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
}

/// `session/release`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Release {
    /// A session, or a mail that the loop brake holds.
    pub target: String,
}

/// How far a sender wants to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Until {
    /// The child answered.
    Submitted,
    /// The child stated that the mail is inside a turn.
    #[default]
    Consumed,
    /// Somebody answered the mail.
    Reply,
}

/// `mail/wait`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Wait {
    /// The mail.
    pub id: String,
    /// How far.
    #[serde(default)]
    pub until: Until,
    /// How long at most.
    pub timeout_ms: u64,
}

/// `session/look`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Look {
    /// The session.
    pub name: String,
    /// How many items.
    pub limit: u32,
}

/// `events/subscribe`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Watch {
    /// Only what concerns this session, or `operator`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Only these events; all without any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<String>,
    /// How many past events first, at most.
    #[serde(default)]
    pub replay: u32,
    /// Go on after this one, in place of `replay`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Place>,
}

/// `pane/report`: what the pane of this connection shows.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PaneReport {
    /// Another thread than its session's; nothing when it shows that.
    #[serde(default)]
    pub elsewhere: Option<Elsewhere>,
}

/// What a pane shows that has left its session.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Elsewhere {
    /// `new`, `fork` or `other`.
    pub how: String,
    /// The thread, when it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<String>,
}

/// A place in the stream of events.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Place {
    /// The relay's stream.
    pub stream: String,
    /// The number of an event in it.
    pub seq: u64,
}

/// `events/log`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Log {
    /// Only what concerns this session, or `operator`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Only what happened in the last so many milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
    /// How many, the last ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Whether to go on with what happens.
    #[serde(default)]
    pub follow: bool,
}

/// `approval/settle`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SettleApproval {
    /// The approval's id, or the beginning of it.
    pub id: String,
    /// What the operator says.
    pub decision: Decision,
    /// Not just once: with the answer that persists.
    #[serde(default)]
    pub always: bool,
    /// Whether the operator has read what `always` changes.
    #[serde(default)]
    pub confirmed: bool,
    /// Why it is denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What the operator says to an approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// Yes.
    Approve,
    /// No.
    Deny,
}

/// `relay/stop`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Stop {
    /// With the short budget.
    #[serde(default)]
    pub now: bool,
}

impl Request {
    /// Reads a request.
    ///
    /// # Errors
    /// `usage` for an unknown method, for parameters that do not fit, and for what is outside its grammar.
    pub fn parse(method: &str, params: Value) -> Result<Request, Fault> {
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
            Request::Send(send) => {
                if send.to.is_empty() || send.to.len() > limits::RECIPIENTS_MAX {
                    let most = limits::RECIPIENTS_MAX;
                    return Err(Fault::usage(format!(
                        "mail refused: {} recipients, 1 to {most} are possible",
                        send.to.len()
                    )));
                }
                send.to.iter().try_for_each(|to| check_recipient(to, &Groups::new()))?;
                check_mail(&send.body, send.subject.as_deref(), send.key.as_deref())?;
                check_priority(send.priority)?;
            }
            Request::Prompt(prompt) => {
                check_name(&prompt.name)?;
                check_mail(&prompt.text, None, prompt.key.as_deref())?;
            }
            Request::Reply(reply) => {
                check_mail(&reply.body, reply.subject.as_deref(), reply.key.as_deref())?;
                check_priority(reply.priority)?;
            }
            Request::Interrupt(one) => check_name(&one.name)?,
            Request::Close(close) => check_name(&close.name)?,
            Request::Up(Names { names }) | Request::Down(Down { names, .. }) => {
                names.iter().try_for_each(|n| check_name(n))?
            }
            Request::Remove(one) | Request::Attach(one) | Request::Show(one) => check_name(&one.name)?,
            Request::Look(look) => check_name(&look.name)?,
            Request::Watch(watch) => {
                watch.name.iter().try_for_each(|name| check_name(name))?;
                check_events(&watch.events, watch.name.as_deref())?;
            }
            Request::Log(Log { name: Some(name), .. }) => check_name(name)?,
            Request::PaneReport(PaneReport { elsewhere: Some(elsewhere) }) => check_elsewhere(elsewhere)?,
            Request::SettleApproval(settle) => check_reason(settle.reason.as_deref())?,
            Request::Hold(hold) => check_name(&hold.name)?,
            Request::Search(search) => check_search(&search.text)?,
            Request::Next(Next { from: Some(from), .. }) => check_name(from)?,
            Request::Inbox(inbox) => {
                inbox.name.iter().chain(&inbox.from).try_for_each(|name| check_name(name))?;
            }
            Request::Ack(Settle { name: Some(name), .. })
            | Request::Requeue(Settle { name: Some(name), .. }) => check_name(name)?,
            _ => {}
        }
        Ok(self)
    }
}

/// A person's own words are no mail; only `session/prompt` makes them.
fn check_priority(priority: Priority) -> Result<(), Fault> {
    match priority {
        Priority::Prompt => Err(Fault::usage("mail refused: `prompt` is no priority of mail")
            .hint("urgent, normal and fyi are; a person gives words of their own by `agentmux prompt`")),
        _ => Ok(()),
    }
}

fn read<T: DeserializeOwned>(method: &str, params: Value) -> Result<T, Fault> {
    let params = match params {
        Value::Null => Value::Object(serde_json::Map::new()),
        Value::Object(_) => params,
        _ => {
            return Err(Fault::usage(format!(
                "request refused: parameters of `{method}`: they are no object"
            )));
        }
    };
    serde_json::from_value(params)
        .map_err(|error| Fault::usage(format!("request refused: parameters of `{method}`: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_of_the_table_is_read_and_no_other() {
        for method in crate::protocol::verb::methods() {
            let refused = Request::parse(method, Value::Null).err();
            assert!(!refused.is_some_and(|fault| fault.message.contains("no method")), "{method}");
        }
        assert!(Request::parse("mail/sned", Value::Null).unwrap_err().message.contains("no method"));
    }
}
