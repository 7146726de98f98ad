//! The history of a thread: looking for our claims, and reading the last items for a person.
//!
//! **Invariant:** a claim is reported absent only after the whole history was read, or as much as was allowed.

use serde_json::{Value, json};

use super::Codex;
use super::call::Call;
use crate::model::child::{ChildEvent, Item};
use crate::model::clock::Millis;
use crate::model::id::{CLAIM_PREFIX, ClaimId, TurnId};
use crate::model::limits;
use crate::model::name::Name;
use crate::wire::rpc::RpcError;

/// One search under way.
#[derive(Debug)]
pub(super) struct Find {
    session: Name,
    missing: Vec<ClaimId>,
    present: Vec<(ClaimId, TurnId)>,
    pages: u32,
}

impl Codex {
    pub(super) fn find_claims(&mut self, session: Name, claims: Vec<ClaimId>) {
        self.find_next(Find { session, missing: claims, present: Vec::new(), pages: 0 }, None);
    }

    fn find_next(&mut self, find: Find, cursor: Option<&str>) {
        let Some(thread) = self.threads.get(&find.session) else {
            let why = "the thread is not open".to_owned();
            return self.events.push_back(ChildEvent::HistoryUnread { session: find.session, why });
        };
        let params = page(&thread.id, limits::HISTORY_PAGE_ITEMS as usize, cursor);
        self.call("thread/items/list", params, Call::Find(find));
    }

    pub(super) fn on_history_page(&mut self, mut find: Find, answer: Result<Value, RpcError>) {
        let page = match answer {
            Ok(page) => page,
            Err(error) => {
                let event = ChildEvent::HistoryUnread { session: find.session, why: error.message };
                return self.events.push_back(event);
            }
        };
        find.pages += 1;
        for row in page["data"].as_array().into_iter().flatten() {
            let claim = row["item"]["clientId"].as_str().and_then(ClaimId::parse);
            let (Some(claim), Some(turn)) = (claim, super::notice::turn_id(&row["turnId"])) else { continue };
            if let Some(at) = find.missing.iter().position(|missing| *missing == claim) {
                find.missing.remove(at);
                find.present.push((claim, turn));
            }
        }
        match page["nextCursor"].as_str() {
            Some(cursor) if !find.missing.is_empty() && find.pages < limits::HISTORY_PAGES_MAX => {
                self.find_next(find, Some(cursor));
            }
            _ => {
                let busy =
                    self.threads.get(&find.session).is_none_or(|thread| thread.busy || thread.turn.is_some());
                let event = ChildEvent::ClaimsFound {
                    session: find.session,
                    present: find.present,
                    absent: find.missing,
                    busy,
                };
                self.events.push_back(event);
            }
        }
    }

    pub(super) fn read_items(&mut self, session: &Name, token: u64, limit: u32) {
        let look = Look { session: session.clone(), token, limit: limit as usize, found: Vec::new() };
        self.look_further(look, None);
    }

    fn look_further(&mut self, look: Look, cursor: Option<&str>) {
        let Some(thread) = self.threads.get(&look.session) else {
            let items = Err("the thread is not open".to_owned());
            return self.events.push_back(ChildEvent::ItemsRead { token: look.token, items });
        };
        let params = page(&thread.id, look.limit - look.found.len(), cursor);
        self.call("thread/items/list", params, Call::Look(look));
    }

    /// A page of what somebody looks at; Codex gives out 100 items at a time, however many are asked for (0.169.0).
    pub(super) fn on_look_page(&mut self, mut look: Look, answer: Result<Value, RpcError>) {
        let page = match answer {
            Ok(page) => page,
            Err(error) => {
                let event = ChildEvent::ItemsRead { token: look.token, items: Err(error.message) };
                return self.events.push_back(event);
            }
        };
        let before = look.found.len();
        let rows = page["data"].as_array().into_iter().flatten();
        look.found.extend(rows.take(look.limit - before).map(item));
        match page["nextCursor"].as_str() {
            Some(cursor) if look.found.len() < look.limit && look.found.len() > before => {
                self.look_further(look, Some(cursor));
            }
            _ => {
                let items = Ok(look.found.into_iter().rev().collect());
                self.events.push_back(ChildEvent::ItemsRead { token: look.token, items });
            }
        }
    }
}

/// What asks for a page of a thread's items, newest first.
fn page(thread: &str, limit: usize, cursor: Option<&str>) -> Value {
    let mut params = json!({"threadId": thread, "limit": limit, "sortDirection": "desc"});
    if let Some(cursor) = cursor {
        params["cursor"] = json!(cursor);
    }
    params
}

/// A look at the last items of a thread.
#[derive(Debug)]
pub struct Look {
    session: Name,
    token: u64,
    limit: usize,
    /// What was read so far, newest first.
    found: Vec<Item>,
}

pub(super) fn item(row: &Value) -> Item {
    let item = &row["item"];
    let at = row["startedAtMs"].as_i64().or(item["startedAtMs"].as_i64()).map(Millis);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, source, text) = match item["type"].as_str().unwrap_or("item") {
        "userMessage" => {
            let text = content(&item["content"]);
            ("message", source(&item["clientId"], &text), text)
        }
        "agentMessage" => ("answer", "model", text(&item["text"])),
        "commandExecution" => ("command", "tool", command(item)),
        "fileChange" => ("change", "tool", paths(&item["changes"])),
        "mcpToolCall" => ("tool", "tool", tool_call(&format!("{}.", text(&item["server"])), item)),
        kind @ "dynamicToolCall" => (kind, "tool", tool_call("", item)),
        kind @ "webSearch" => (kind, "tool", search(item)),
        kind @ "collabAgentToolCall" => (kind, "tool", delegation(item)),
        kind @ ("imageView" | "imageGeneration") => {
            (kind, "tool", text(if item["path"].is_null() { &item["savedPath"] } else { &item["path"] }))
        }
        "reasoning" => ("reasoning", "model", item["summary"].as_array().map_or(String::new(), |s| join(s))),
        other => (other, "model", text(&item["text"])),
    };
    let claim = item["clientId"].as_str().and_then(ClaimId::parse);
    Item { at, kind: kind.to_owned(), source: source.to_owned(), text: cut(text), claim }
}

/// A person looks at this; what is long is cut, and says so.
fn cut(mut text: String) -> String {
    if text.len() > limits::LOOK_TEXT_BYTES_MAX {
        let room = limits::LOOK_TEXT_BYTES_MAX - 32;
        let end = (0..=room).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push_str("\n… (cut for this view)");
    }
    text
}

/// Ours by its claim, and mail if it is in an envelope, unless the core knows better; a person's in a pane by any other id; a program's
/// without one.
fn source(client_id: &Value, text: &str) -> &'static str {
    let is_envelope = || {
        let mut lines = text.lines();
        let begins = |line: Option<&str>, with: &str| line.is_some_and(|line| line.starts_with(with));
        begins(lines.next(), "[agentmux mail ") && begins(lines.next(), "id: ")
    };
    match client_id.as_str() {
        Some(id) if id.starts_with(CLAIM_PREFIX) && is_envelope() => "mail",
        Some(id) if !id.starts_with(CLAIM_PREFIX) => "operator",
        _ => "prompt",
    }
}

fn content(parts: &Value) -> String {
    let texts = parts.as_array().into_iter().flatten().map(|part| match part["text"].as_str() {
        Some(text) => text.to_owned(),
        None => format!("[{}]", part["type"].as_str().unwrap_or("attachment")),
    });
    texts.collect::<Vec<_>>().join("\n")
}

fn command(item: &Value) -> String {
    let mut text = item["command"].as_str().unwrap_or_default().to_owned();
    if let Some(code) = item["exitCode"].as_i64() {
        text.push_str(&format!("\nexit code {code}"));
    }
    if let Some(output) = item["aggregatedOutput"].as_str().filter(|output| !output.is_empty()) {
        text.push('\n');
        text.push_str(output.trim_end());
    }
    text
}

/// A call of a tool: what, with what, and what came of it.
fn tool_call(server: &str, item: &Value) -> String {
    let mut text = format!("{server}{}", item["tool"].as_str().unwrap_or_default());
    if !item["arguments"].is_null() {
        text.push_str(&format!(" {}", item["arguments"]));
    }
    let parts = [&item["result"]["content"], &item["contentItems"]].map(Value::as_array);
    let texts = parts.into_iter().flatten().flatten().filter_map(|part| part["text"].as_str());
    for came in texts.chain(item["error"]["message"].as_str()).filter(|came| !came.is_empty()) {
        text.push('\n');
        text.push_str(came.trim_end());
        if text.len() > limits::LOOK_TEXT_BYTES_MAX {
            break;
        }
    }
    text
}

/// A search: its words, or what was opened.
fn search(item: &Value) -> String {
    let action = &item["action"];
    let queries = join(action["queries"].as_array().map_or(&[], Vec::as_slice));
    let all =
        [item["query"].as_str(), Some(queries.as_str()), action["url"].as_str(), action["pattern"].as_str()];
    let mut told: Vec<&str> = Vec::new();
    for text in all.into_iter().flatten().filter(|text| !text.is_empty()) {
        if !told.contains(&text) {
            told.push(text);
        }
    }
    if told.is_empty() { action["type"].as_str().unwrap_or("search").to_owned() } else { told.join("\n") }
}

/// What is asked of sub-agents, and what they have said.
fn delegation(item: &Value) -> String {
    let mut text = item["tool"].as_str().unwrap_or("call").to_owned();
    if let Some(prompt) = item["prompt"].as_str() {
        text.push_str(&format!(": {prompt}"));
    }
    for state in item["agentsStates"].as_object().into_iter().flat_map(|states| states.values()) {
        let parts = [state["status"].as_str(), state["message"].as_str()];
        text.push_str(&format!("\n{}", parts.into_iter().flatten().collect::<Vec<_>>().join(": ")));
    }
    text
}

fn paths(changes: &Value) -> String {
    let of = |change: &Value| change["path"].as_str().map(str::to_owned);
    changes.as_array().into_iter().flatten().filter_map(of).collect::<Vec<_>>().join(", ")
}

fn join(parts: &[Value]) -> String {
    parts.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
}
