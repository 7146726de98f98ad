//! `agentmux send TO… TEXT`: sends mail, and waits for it if asked to.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use crate::cli::context::Context;
use crate::cli::print;
use crate::client::{CallError, Connection, catch_interrupt, forget_interrupt, params};
use crate::model::clock::parse_duration;
use crate::model::fault::{Code, Fault};
use crate::model::limits;
use crate::model::mail::{DeliveryState, Priority as MailPriority, When as MailWhen};
use crate::protocol::answer::{Delivery, Sent, Waited};
use crate::protocol::check::check_mail;
use crate::protocol::request::{Send as Request, Until as WaitUntil, Wait as WaitRequest};

/// How much longer than its timeout a wait goes on for a relay that does not answer.
const HANG: Duration = Duration::from_millis(limits::HELLO_ANSWER_MS);

/// Arguments of `send`.
#[derive(Debug, Args)]
#[command(
    after_help = "The text is best given on stdin, so that the shell leaves it alone:\n\n  agentmux send reviewer - <<'EOF'\n  run `make test` and look at $PATH\n  EOF"
)]
pub struct Send {
    /// Recipients, then the text; `-` reads the text from stdin
    #[arg(required = true, value_name = "TO… TEXT")]
    words: Vec<String>,
    /// Read the text from this file; then all words are recipients
    #[arg(long, value_name = "FILE")]
    body_file: Option<PathBuf>,
    #[command(flatten)]
    options: MailOptions,
    /// The mail that this one answers
    #[arg(long, value_name = "ID")]
    reply_to: Option<String>,
    /// When it is no longer wanted, such as 30m
    #[arg(long, value_name = "DUR", value_parser = duration)]
    expires: Option<u64>,
    /// When it may reach a busy session; its priority decides without it
    #[arg(long, value_enum)]
    when: Option<When>,
}

/// Flags that `send` and `reply` share.
#[derive(Debug, Args)]
pub struct MailOptions {
    /// The subject
    #[arg(long)]
    pub subject: Option<String>,
    /// How soon it matters
    #[arg(long, value_enum, default_value_t)]
    pub priority: Priority,
    /// A key that makes sending it again harmless
    #[arg(long, value_name = "IDEMPOTENCY-KEY")]
    pub key: Option<String>,
    /// Wait until it is submitted, consumed (without a value) or answered
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "consumed")]
    pub wait: Option<Until>,
    /// How long to wait at most
    #[arg(long, value_name = "DUR", value_parser = duration)]
    pub timeout: Option<u64>,
}

/// How soon a mail matters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Priority {
    /// Goes before normal mail
    Urgent,
    /// Waits for an idle session
    #[default]
    Normal,
    /// Never starts a turn
    Fyi,
}

/// When mail may reach a busy session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum When {
    /// When the session is idle
    Idle,
    /// At the next boundary of a running turn
    Boundary,
    /// At once, by interrupting
    Now,
}

/// How far to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Until {
    /// The agent program has it
    Submitted,
    /// The agent program states that it is inside a turn
    Consumed,
    /// Somebody answered it
    Reply,
}

impl MailOptions {
    /// The idempotency key: the given one, or one of our own, so that asking again after a lost connection cannot make
    /// two mails of one.
    pub fn key(&self) -> Result<String, Fault> {
        if let Some(key) = &self.key {
            return Ok(key.clone());
        }
        new_key()
    }
}

impl Priority {
    pub fn of_mail(self) -> MailPriority {
        match self {
            Priority::Urgent => MailPriority::Urgent,
            Priority::Normal => MailPriority::Normal,
            Priority::Fyi => MailPriority::Fyi,
        }
    }
}

pub fn run(context: &Context, args: Send) -> Result<u8, Fault> {
    let request = Request {
        when: args.when.map(When::of_mail),
        reply_to: args.reply_to,
        expires_ms: args.expires,
        ..written(context, args.words, args.body_file.as_deref(), &args.options)?
    };
    let mut connection = context.connect()?;
    if args.options.wait.is_some() {
        catch_interrupt();
    }
    let sent: Sent = context.target.call_again(&mut connection, "mail/send", None, || params(&request))?;
    finish(context, &mut connection, sent, &args.options)
}

/// The mail that the words of a command mean, checked before a relay is started for it.
pub fn written(
    context: &Context,
    words: Vec<String>,
    body_file: Option<&Path>,
    options: &MailOptions,
) -> Result<Request, Fault> {
    let (to, body) = split(words, body_file, &context.dir)?;
    let to = context.recipients(to)?;
    check_mail(&body, options.subject.as_deref(), options.key.as_deref())?;
    let (subject, priority) = (options.subject.clone(), options.priority.of_mail());
    Ok(Request { to, body, subject, priority, key: Some(options.key()?), ..Request::default() })
}

/// Prints what became of a mail, after waiting for it if that was asked for.
pub fn finish(
    context: &Context,
    connection: &mut Connection,
    sent: Sent,
    options: &MailOptions,
) -> Result<u8, Fault> {
    // The id is said at once: whoever ends this command while it waits has it.
    if !context.json {
        print::data(&format!("{}\n", sent.id));
    }
    let (stands, ended) = match options.wait {
        None => (sent, None),
        Some(until) => match wait_for(context, connection, &sent, until.of_wait(), options.timeout) {
            Ok(waited) => {
                let fault = not_reached(&waited);
                if context.json {
                    print::json(&waited);
                }
                tell_all(context, &waited.sent);
                return fault.map_or(Ok(0), Err);
            }
            Err(Unmet { fault, stands }) => (stands, Some(fault)),
        },
    };
    if context.json {
        print::json(&stands);
    }
    tell_all(context, &stands);
    ended.map_or(Ok(0), Err)
}

/// A wait that ended without what it waited for.
#[derive(Debug)]
pub struct Unmet {
    /// Why.
    pub fault: Fault,
    /// Where the mail stood when that was last heard.
    pub stands: Sent,
}

impl From<Unmet> for Fault {
    fn from(unmet: Unmet) -> Fault {
        unmet.fault
    }
}

/// Waits for a mail, across relays if need be.
///
/// # Errors
/// [`Unmet`], with where the mail stands.
pub fn wait_for(
    context: &Context,
    connection: &mut Connection,
    sent: &Sent,
    until: WaitUntil,
    timeout: Option<u64>,
) -> Result<Waited, Unmet> {
    catch_interrupt();
    let id = sent.id;
    let timeout_ms = timeout.unwrap_or(limits::WAIT_DEFAULT_MS).min(limits::WAIT_MS_MAX);
    let deadline = Instant::now() + Duration::from_millis(timeout_ms);
    let request = || {
        let left = deadline.saturating_duration_since(Instant::now());
        params(&WaitRequest { id: id.to_string(), until, timeout_ms: left.as_millis() as u64 })
    };
    let waited = context.target.call_again(connection, "mail/wait", Some(deadline + HANG), request);
    waited.map_err(|error| {
        let fault = Fault::from(error);
        let stands = ask_where(connection, sent);
        let was = states(&stands);
        let fault = match fault.code {
            Code::Interrupted => {
                Fault::new(Code::Interrupted, format!("interrupted; mail {id} goes on its way; it was {was}"))
                    .hint(format!("do not send it again; agentmux trace {id}"))
            }
            Code::Timeout => {
                Fault::timeout(format!("not there yet: {}; mail {id} stays; it was {was}", fault.message))
                    .hint(format!("it goes on with the relay, do not send it again; agentmux trace {id}"))
            }
            Code::NoRelay | Code::Busy => {
                Fault::new(fault.code, format!("{}; mail {id} stays; it was {was}", fault.message))
                    .hint(format!("do not send it again; agentmux trace {id}"))
            }
            _ => fault,
        };
        Unmet { fault, stands }
    })
}

/// Where a mail stands now, if the relay says so at once; else what it said last.
fn ask_where(connection: &mut Connection, sent: &Sent) -> Sent {
    forget_interrupt();
    let question = WaitRequest { id: sent.id.to_string(), until: WaitUntil::Submitted, timeout_ms: 0 };
    let soon = Some(Instant::now() + Duration::from_millis(limits::LAST_WORD_MS));
    let answer: Result<Waited, CallError> = connection.call_until("mail/wait", &question, soon);
    answer.map_or_else(|_| sent.clone(), |waited| waited.sent)
}

/// Where a mail stood when that was last heard.
fn states(sent: &Sent) -> String {
    let states: Vec<String> =
        sent.deliveries.iter().map(|d| format!("{} to {}", word(d.state), d.to)).collect();
    states.join(", ")
}

/// Why a wait has not got what it waited for, if it has not.
pub fn not_reached(waited: &Waited) -> Option<Fault> {
    if waited.reached {
        return None;
    }
    let Sent { id, deliveries, .. } = &waited.sent;
    let stands = states(&waited.sent);
    let ended = deliveries.iter().find(|d| !d.state.is_open() && !d.state.is_delivered());
    if let Some(delivery) = ended {
        let (to, state) = (&delivery.to, delivery.state.as_str());
        return Some(Fault::refused(format!("mail {id} to {to} ended as {state}")));
    }
    let fault = Fault::timeout(format!("not there yet: mail {id} is {stands}"));
    Some(fault.hint(format!("it stays on its way, do not send it again; agentmux trace {id}")))
}

impl When {
    fn of_mail(self) -> MailWhen {
        match self {
            When::Idle => MailWhen::Idle,
            When::Boundary => MailWhen::Boundary,
            When::Now => MailWhen::Now,
        }
    }
}

impl Until {
    fn of_wait(self) -> WaitUntil {
        match self {
            Until::Submitted => WaitUntil::Submitted,
            Until::Consumed => WaitUntil::Consumed,
            Until::Reply => WaitUntil::Reply,
        }
    }
}

/// Tells recipients and text apart.
fn split(
    mut words: Vec<String>,
    body_file: Option<&Path>,
    dir: &Path,
) -> Result<(Vec<String>, String), Fault> {
    if let Some(file) = body_file {
        let body = if file.as_os_str() == "-" { read_stdin()? } else { read_file(&dir.join(file))? };
        return Ok((words, body));
    }
    let text = words.pop().unwrap_or_default();
    if words.is_empty() {
        let fault = Fault::usage(format!("send refused: `{}` has no text", text.escape_debug()));
        return Err(fault.hint("give it: agentmux send NAME TEXT, or `-` to read it from stdin"));
    }
    let body = if text == "-" { read_stdin()? } else { text };
    Ok((words, body))
}

/// Reads a body from stdin, which is touched only when asked for.
pub fn read_stdin() -> Result<String, Fault> {
    read_body(&mut std::io::stdin().lock(), "stdin")
}

fn read_file(path: &Path) -> Result<String, Fault> {
    let mut file = std::fs::File::open(path)
        .map_err(|error| Fault::usage(format!("body refused: {} cannot be read: {error}", path.display())))?;
    read_body(&mut file, &path.display().to_string())
}

fn read_body(source: &mut dyn Read, name: &str) -> Result<String, Fault> {
    let mut bytes = Vec::new();
    source
        .take(limits::BODY_BYTES_MAX as u64 * 2)
        .read_to_end(&mut bytes)
        .map_err(|error| Fault::usage(format!("body refused: {name} cannot be read: {error}")))?;
    String::from_utf8(bytes).map_err(|_| {
        Fault::usage(format!("body refused: {name} is not UTF-8")).hint("send the path of a file")
    })
}

fn tell_all(context: &Context, sent: &Sent) {
    sent.deliveries.iter().for_each(|delivery| tell(context, delivery));
}

/// The state for people, beside the id: the word "delivered" only for what has evidence.
fn tell(context: &Context, delivery: &Delivery) {
    let reason = delivery
        .reason
        .as_deref()
        .map(|why| format!(" ({})", print::first_line(why, 120)))
        .unwrap_or_default();
    let turn = delivery.turn_id.as_deref().map(|turn| format!(" in turn {turn}")).unwrap_or_default();
    context.tell(&format!("{}: {}{turn}{reason}", word(delivery.state), delivery.to));
}

/// What a sender is told of a state.
fn word(state: DeliveryState) -> &'static str {
    match state {
        DeliveryState::Consumed => "delivered",
        DeliveryState::Claimed => "queued",
        other => other.as_str(),
    }
}

/// An idempotency key that nobody else has, so that asking again after a lost connection cannot make two mails of one.
pub fn new_key() -> Result<String, Fault> {
    let mut bits = [0; 16];
    let mut device = std::fs::File::open("/dev/urandom");
    let drawn = device
        .as_mut()
        .map_err(|error| error.to_string())
        .and_then(|d| d.read_exact(&mut bits).map_err(|e| e.to_string()));
    drawn.map_err(|why| Fault::io(format!("send failed: no random bits: {why}")))?;
    Ok(format!("~{:032x}", u128::from_le_bytes(bits)))
}

/// Reads a duration of the command line.
pub fn duration(text: &str) -> Result<u64, String> {
    parse_duration(text).ok_or_else(|| "a duration is a whole number with ms, s, m, h or d".to_owned())
}
