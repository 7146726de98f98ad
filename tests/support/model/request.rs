//! One request to the model, and the questions a test asks of it: what was read, from whom, in which thread.
//!
//! **Invariant:** nothing is normalised: texts are returned exactly as Codex sent them, one entry per message, so that a
//! message that stands in the history twice is seen twice.
//!
//! Deliberately absent: the tools' schemas beyond their names.

use serde_json::{Map, Value, json};
use std::sync::Arc;

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A step of an agent's turn.
    Turn,
    /// Codex's screen wants a title for a thread; no agent reads the answer.
    Title,
}

impl Kind {
    /// The kind's name in records.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Turn => "turn",
            Kind::Title => "title",
        }
    }
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The answer is being written, or waits for a delay.
    Answering,
    /// The answer waits for a release under this name.
    Held(String),
    /// The scripted answer (a failure too) was written whole.
    Answered,
    /// Codex closed the connection before the answer was complete: a steer, an interrupt or its death.
    ClientGone,
}

/// One request as it arrived. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Request {
    /// Grows with every connection; orders requests by arrival.
    pub number: usize,
    pub kind: Kind,
    /// The `prompt_cache_key`, of which Codex has one per thread; empty when it sent none.
    pub thread: String,
    /// The parsed JSON; null in a long soak, when newer requests of the same thread have superseded it.
    pub body: Arc<Value>,
    pub outcome: Outcome,
}

impl Request {
    pub(super) fn new(number: usize, body: Value) -> Request {
        let thread = body["prompt_cache_key"].as_str().unwrap_or_default().to_owned();
        let kind = if asks_for_title(&body) { Kind::Title } else { Kind::Turn };
        Request { number, kind, thread, body: Arc::new(body), outcome: Outcome::Answering }
    }

    /// The history's items, oldest first.
    pub fn items(&self) -> &[Value] {
        self.body["input"].as_array().map_or(&[], Vec::as_slice)
    }

    /// The texts of the user-role messages, oldest first, without those that Codex writes itself.
    pub fn user_texts(&self) -> Vec<String> {
        self.items().iter().filter_map(user_text).collect()
    }

    /// The texts of all messages of a role (`developer`, `user`, `assistant`), Codex's own included.
    pub fn role_texts(&self, role: &str) -> Vec<String> {
        self.items().iter().filter(|item| item["role"] == role).map(content_text).collect()
    }

    /// The newest of [`user_texts`](Self::user_texts), answered or not.
    pub fn newest_user_text(&self) -> Option<String> {
        self.items().iter().rev().find_map(user_text)
    }

    /// The newest user text, if the model has said and called nothing since.
    pub fn unanswered_user_text(&self) -> Option<String> {
        self.unanswered().iter().rev().find_map(user_text)
    }

    /// The outputs of functions, oldest first.
    pub fn outputs(&self) -> Vec<String> {
        self.items().iter().filter(|item| is_output(item)).map(output_text).collect()
    }

    /// The newest item's text, if that item is a function's output.
    pub fn newest_output(&self) -> Option<String> {
        self.items().last().filter(|item| is_output(item)).map(output_text)
    }

    /// The id and text of the outputs since the model last spoke or called.
    pub(super) fn unanswered_outputs(&self) -> Vec<(String, String)> {
        let outputs = self.unanswered().iter().filter(|item| is_output(item));
        outputs
            .map(|item| (item["call_id"].as_str().unwrap_or_default().to_owned(), output_text(item)))
            .collect()
    }

    /// Every text of the history: messages of all roles, calls' arguments and outputs.
    pub fn texts(&self) -> Vec<String> {
        let text = |item: &Value| match item["type"].as_str() {
            Some("function_call") => item["arguments"].as_str().unwrap_or_default().to_owned(),
            _ if is_output(item) => output_text(item),
            _ => content_text(item),
        };
        self.items().iter().map(text).collect()
    }

    /// Whether the needle stands anywhere in the history.
    pub fn contains(&self, needle: &str) -> bool {
        self.texts().iter().any(|text| text.contains(needle))
    }

    /// The names of the tools that were offered, an MCP server's as `namespace.name`.
    pub fn tools(&self) -> Vec<String> {
        let mut names = Vec::new();
        for tool in self.body["tools"].as_array().map_or(&[][..], Vec::as_slice) {
            let name = tool["name"].as_str().or(tool["type"].as_str()).unwrap_or_default();
            match tool["tools"].as_array() {
                Some(inner) => {
                    names.extend(inner.iter().filter_map(|t| Some(format!("{name}.{}", t["name"].as_str()?))))
                }
                None => names.push(name.to_owned()),
            }
        }
        names
    }

    /// Whether the answer is being held under this name right now.
    pub fn is_held_by(&self, name: &str) -> bool {
        matches!(&self.outcome, Outcome::Held(held) if held == name)
    }

    /// The request in one line, for a failing test's text.
    pub fn describe(&self) -> String {
        let newest = self.items().last().map(|item| match item["role"].as_str() {
            Some(role) => format!("{role} {:?}", short(&content_text(item))),
            None if is_output(item) => format!("output {:?}", short(&output_text(item))),
            None => item["type"].to_string(),
        });
        let thread = self.thread.get(self.thread.len().saturating_sub(6)..).unwrap_or_default();
        let items = self.items().len();
        let newest = newest.unwrap_or_else(|| "nothing".to_owned());
        format!(
            "{} {} …{thread}: {items} items, newest {newest}: {:?}",
            self.number,
            self.kind.word(),
            self.outcome
        )
    }

    /// Fills `{text}`, `{output}` and the fields of the newest message's last envelope into a reply.
    pub(super) fn render(&self, template: &str) -> String {
        if !template.contains('{') {
            return template.to_owned();
        }
        let text = self.newest_user_text().unwrap_or_default();
        let output = self.outputs().pop().unwrap_or_default();
        let envelope = envelopes(&text).pop().unwrap_or_default();
        let fields = [
            ("id", &envelope.id),
            ("from", &envelope.from),
            ("to", &envelope.to),
            ("bundle", &envelope.bundle),
            ("thread", &envelope.thread),
            ("subject", &envelope.subject),
            ("body", &envelope.body),
            ("text", &text),
            ("output", &output),
        ];
        // One pass, so that braces inside a filled-in value stay as they are.
        let mut rendered = String::new();
        let mut rest = template;
        while let Some(start) = rest.find('{') {
            rendered.push_str(&rest[..start]);
            rest = &rest[start..];
            let field = fields.iter().find(|(name, _)| rest[1..].starts_with(&format!("{name}}}")));
            let (filled, length) = field.map_or(("{", 1), |(name, value)| (value.as_str(), name.len() + 2));
            rendered.push_str(filled);
            rest = &rest[length..];
        }
        rendered + rest
    }

    /// Fills templates inside the strings of a JSON value.
    pub(super) fn render_value(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.render(text)),
            Value::Array(values) => values.iter().map(|value| self.render_value(value)).collect(),
            Value::Object(map) => {
                let entries = map.iter().map(|(key, value)| (key.clone(), self.render_value(value)));
                Value::Object(entries.collect::<Map<_, _>>())
            }
            value => value.clone(),
        }
    }

    /// A title in the form that the request asks for.
    pub(super) fn title(&self) -> String {
        let structured = self.body["text"]["format"]["type"] == "json_schema";
        if structured { json!({ "title": TITLE }).to_string() } else { TITLE.to_owned() }
    }

    /// The items after the last thing that the model itself said or called.
    fn unanswered(&self) -> &[Value] {
        let items = self.items();
        let own = |item: &Value| item["role"] == "assistant" || (item["role"].is_null() && !is_output(item));
        let start = items.iter().rposition(own).map_or(0, |index| index + 1);
        &items[start..]
    }
}

/// One mail as the model reads it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Envelope {
    /// Its place in the batch, and the batch's size.
    pub place: (usize, usize),
    pub id: String,
    /// The sender's name, without its kind.
    pub from: String,
    /// `agent`, `operator`, `outside` or `system`.
    pub from_kind: String,
    pub to: String,
    pub bundle: String,
    pub sent: String,
    pub thread: String,
    pub subject: String,
    pub note: String,
    /// The body as sent, without the newline that the envelope adds.
    pub body: String,
    /// The last line, when there is one: how to reply.
    pub reply: String,
}

/// The mails in a user message, in order. What stands inside a body is never taken for an envelope.
pub fn envelopes(text: &str) -> Vec<Envelope> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((envelope, after)) = next_envelope(rest) {
        found.push(envelope);
        rest = after;
    }
    found
}

fn next_envelope(text: &str) -> Option<(Envelope, &str)> {
    let start = if text.starts_with(MARK) { 0 } else { text.find(&format!("\n{MARK}"))? + 1 };
    let (head, after) = text[start..].split_once("\n--- body ")?;
    let (tag, after) = after.split_once(" ---\n")?;
    let end = format!("\n--- end {tag} ---");
    // An empty body would leave the end marker directly behind the start marker.
    let (body, after) = match after.strip_prefix(&end[1..]) {
        Some(after) => ("", after),
        None => after.split_once(&end)?,
    };
    let mut envelope = Envelope { body: body.to_owned(), ..Envelope::default() };
    let mut lines = head.lines();
    let place = lines.next()?.strip_prefix(MARK)?.trim().trim_end_matches(']');
    let (index, count) = place.split_once(" of ")?;
    envelope.place = (index.trim().parse().ok()?, count.trim().parse().ok()?);
    for line in lines {
        if let Some(note) = line.strip_prefix("note: ") {
            envelope.note = note.to_owned();
        } else if let Some((left, subject)) =
            line.split_once("subject: ").filter(|_| line.starts_with("thread: "))
        {
            envelope.subject = subject.to_owned(); // may hold anything, so it is never split at spaces
            envelope.take_fields(left);
        } else {
            envelope.take_fields(line);
        }
    }
    let after = after.strip_prefix('\n').unwrap_or(after);
    let line = after.lines().next().unwrap_or_default();
    if line.starts_with("reply with: ") {
        envelope.reply = line.to_owned();
    }
    Some((envelope, after))
}

impl Envelope {
    fn take_fields(&mut self, line: &str) {
        for field in line.split("   ") {
            let Some((name, value)) = field.trim().split_once(": ") else { continue };
            match name {
                "id" => value.clone_into(&mut self.id),
                "to" => value.clone_into(&mut self.to),
                "bundle" => value.clone_into(&mut self.bundle),
                "sent" => value.clone_into(&mut self.sent),
                "thread" => value.clone_into(&mut self.thread),
                "from" => {
                    let (from, kind) = value.split_once(" (").unwrap_or((value, ""));
                    from.clone_into(&mut self.from);
                    kind.trim_end_matches(')').clone_into(&mut self.from_kind);
                }
                _ => {}
            }
        }
    }
}

/// The text of a user-role message that somebody wrote; `None` for Codex's own context and for other items.
fn user_text(item: &Value) -> Option<String> {
    let text = (item["role"] == "user").then(|| content_text(item))?;
    (!CODEX_OWN.iter().any(|start| text.starts_with(start))).then_some(text)
}

fn content_text(item: &Value) -> String {
    let parts = item["content"].as_array().map_or(&[][..], Vec::as_slice);
    parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n")
}

fn is_output(item: &Value) -> bool {
    item["type"].as_str().is_some_and(|kind| kind.ends_with("_call_output"))
}

/// An output is a string, or (MCP tools with structured content) a list of text parts.
fn output_text(item: &Value) -> String {
    match &item["output"] {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n")
        }
        other => other.to_string(),
    }
}

/// Recognises the request by what 0.169.0 puts into its metadata, or by an output schema of nothing but a title.
fn asks_for_title(body: &Value) -> bool {
    let metadata = body["client_metadata"]["x-codex-turn-metadata"].as_str().unwrap_or_default();
    let metadata: Value = serde_json::from_str(metadata).unwrap_or_default();
    let properties = body["text"]["format"]["schema"]["properties"].as_object();
    metadata["thread_source"] == "thread_title"
        || properties.is_some_and(|p| p.len() == 1 && p.contains_key("title"))
}

fn short(text: &str) -> String {
    text.chars().take(60).collect()
}

const MARK: &str = "[agentmux mail ";
const TITLE: &str = "Scripted title";

/// How the user-role messages begin that Codex writes itself.
const CODEX_OWN: [&str; 5] =
    ["<environment_context>", "<user_instructions>", "<turn_aborted>", "<skill>", "# AGENTS.md instructions"];
