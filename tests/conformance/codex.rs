//! A scripted `codex app-server`, message by message.
//!
//! All shapes are those of 0.169.0 on its Unix socket, seen with the real program:
//!
//! | What is replayed | Seen |
//! | --- | --- |
//! | no `jsonrpc` in anything it says; ids of its own questions count from 0 | 0.169.0 |
//! | `turn/start` answers with the turn, then `turn/started`, `item/started`, `item/completed` of the `userMessage` | 0.157.0 to 0.169.0 |
//! | `clientUserMessageId` comes back as `clientId`; a person's is a random UUID, a program's without one `null` | 0.157.0 to 0.169.0 |
//! | `thread/status/changed` before each `turn/completed`; `systemError` before a failed one | 0.169.0 |
//! | `-32001` under load; `thread not found: X` once unloaded; `no rollout found for thread id X` for a thread that is gone | 0.169.0 |
//! | `thread/items/list` in rows of `{turnId, item}` with `nextCursor`, newest first when asked so | 0.169.0 |
//! | questions as in the table of `transport/codex/ask.rs`; the two older ones are of 0.131.0 | 0.131.0, 0.169.0 |
//! | a sub-agent's thread is told of by the item of the call that began it, its parent by `thread/read`, and its turns, items and
//!   questions go to whoever follows the parent; `thread/resume` repeats a question | 0.169.0 |
//! | turns and items are told to subscribers only: who started or resumed the thread and has not left it | 0.169.0 |
//!
//! Deliberately absent: threads of other clients, and anything that a model does.

mod questions;
mod subs;

use std::collections::{BTreeMap, VecDeque};

use agentmux::model::child::TurnOutcome;
use agentmux::model::id::{ClaimId, ThreadId};
use serde_json::{Value, json};

use super::kind::{Fake, Question, Refusal, What};

/// See the header of this file.
#[derive(Debug, Default)]
pub struct FakeCodex {
    /// Everything that it heard, as JSON.
    pub heard: Vec<Value>,
    threads: BTreeMap<String, Thread>,
    said: VecDeque<String>,
    held: Option<VecDeque<String>>,
    /// What is refused once, and for which thread if not for any.
    refusals: Vec<(What, Option<String>, Refusal)>,
    page: Option<usize>,
    asked: i64,
    made: u64,
}

#[derive(Debug, Default)]
struct Thread {
    /// Turn and client id of every message in it, oldest first.
    items: Vec<(String, Value)>,
    turn: Option<String>,
    /// Whether we are told what happens in it.
    subscribed: bool,
    /// The thread whose model began it.
    parent: Option<String>,
    /// The question that waits in it.
    asks: Option<Value>,
}

impl FakeCodex {
    /// Methods of the requests and notifications that it heard, in order.
    pub fn methods(&self) -> Vec<&str> {
        self.heard.iter().filter_map(|message| message["method"].as_str()).collect()
    }

    /// The parameters of the last request with this method.
    #[track_caller]
    pub fn last(&self, method: &str) -> &Value {
        let found = self.heard.iter().rev().find(|message| message["method"] == method);
        &found.unwrap_or_else(|| panic!("{method} was heard"))["params"]
    }

    fn out(&mut self, message: &Value) {
        let queue = self.held.as_mut().unwrap_or(&mut self.said);
        queue.push_back(message.to_string());
    }

    fn notice(&mut self, method: &str, params: Value) {
        self.out(&json!({"method": method, "params": params}));
    }

    /// What only subscribers of the thread are told.
    fn tell(&mut self, method: &str, params: Value) {
        let thread = params["threadId"].as_str().unwrap_or_default();
        if self.threads.get(thread).is_some_and(|thread| thread.subscribed) {
            self.notice(method, params);
        }
    }

    fn fresh(&mut self, what: &str) -> String {
        self.made += 1;
        match what {
            "thread" => format!("0199a213-81c0-7800-8000-{:012}", self.made),
            _ => format!("{what}-{}", self.made),
        }
    }

    fn answer(&mut self, id: &Value, method: &str, params: &Value) -> Result<Value, (i64, String)> {
        let thread = params["threadId"].as_str().unwrap_or("?");
        if let Some(how) = what(method).and_then(|what| self.take_refusal(what, thread)) {
            return Err(match how {
                Refusal::Overloaded => (-32_001, "Server overloaded; retry later.".to_owned()),
                Refusal::Unloaded => (-32_600, format!("thread not found: {thread}")),
                Refusal::ForGood => {
                    (-32_602, "Input exceeds the maximum length of 1048576 characters.".to_owned())
                }
            });
        }
        let thread = params["threadId"].as_str().unwrap_or_default().to_owned();
        Ok(match method {
            "initialize" => {
                json!({"userAgent": "agentmux/0.169.0 (Debian 12.0.0; x86_64) unknown (agentmux; 0.1.0)", "codexHome": "/h"})
            }
            "thread/start" => {
                let thread = self.fresh("thread");
                self.threads.insert(thread.clone(), Thread { subscribed: true, ..Thread::default() });
                self.notice("thread/started", json!({"thread": {"id": thread}}));
                json!({"thread": {"id": thread, "path": "/r.jsonl", "status": {"type": "idle"}, "name": null}, "model": "m"})
            }
            "thread/resume" => {
                let Some(known) = self.threads.get_mut(&thread) else {
                    return Err((-32_600, format!("no rollout found for thread id {thread}")));
                };
                known.subscribed = true;
                let asks = known.asks.clone();
                let status = match (&asks, &known.turn) {
                    (Some(_), _) => json!({"type": "active", "activeFlags": ["waitingOnApproval"]}),
                    (None, Some(_)) => json!({"type": "active", "activeFlags": []}),
                    (None, None) => json!({"type": "idle"}),
                };
                self.out(&json!({"id": id, "result": {"thread": {"id": thread, "status": status}}}));
                asks.iter().for_each(|asks| self.out(asks));
                return Ok(Value::Null);
            }
            "thread/loaded/list" => {
                let all: Vec<&String> = self.threads.keys().collect();
                let from =
                    params["cursor"].as_str().map_or(0, |cursor| cursor.parse().expect("our own cursor"));
                let to = self.page.map_or(all.len(), |rows| (from + rows).min(all.len()));
                let next = (to < all.len()).then(|| to.to_string());
                json!({"data": all[from..to], "nextCursor": next})
            }
            "thread/read" => {
                let Some(known) = self.threads.get(&thread) else {
                    return Err((-32_600, format!("thread not loaded: {thread}")));
                };
                json!({"thread": {"id": thread, "parentThreadId": known.parent, "status": {"type": "idle"}}})
            }
            "turn/start" => {
                // While a turn runs this is a steer: the answer has the same turn.
                let running = self.threads.get(&thread).and_then(|thread| thread.turn.clone());
                let turn = running.clone().unwrap_or_else(|| self.fresh("turn"));
                self.out(
                    &json!({"id": id, "result": {"turn": {"id": turn, "status": "inProgress", "items": []}}}),
                );
                if running.is_none() {
                    self.begin(&thread, &turn);
                }
                self.takes(&thread, &turn, &params["clientUserMessageId"]);
                return Ok(Value::Null);
            }
            "thread/items/list" => self.page(&thread, params),
            "thread/turns/list" => {
                let running = self.threads.get(&thread).and_then(|thread| thread.turn.as_ref());
                let turn =
                    |id: &String| json!({"id": id, "status": "inProgress", "startedAt": 1_777_629_600});
                json!({"data": running.map(turn).into_iter().collect::<Vec<Value>>()})
            }
            "skills/list" => json!({"data": [{"skills": [{"name": "deploy", "enabled": true}]}]}),
            "thread/unsubscribe" => {
                if let Some(known) = self.threads.get_mut(&thread) {
                    known.subscribed = false;
                }
                json!({"status": "unsubscribed"})
            }
            _ => json!({}),
        })
    }

    fn take_refusal(&mut self, what: What, thread: &str) -> Option<Refusal> {
        let is_meant = |(refused, of, _): &(What, Option<String>, Refusal)| {
            *refused == what && of.as_ref().is_none_or(|of| of == thread)
        };
        let at = self.refusals.iter().position(is_meant)?;
        Some(self.refusals.remove(at).2)
    }

    /// Refuses the next request of this kind about this thread.
    pub fn refuse_of(&mut self, what: What, thread: &str, how: Refusal) {
        self.refusals.push((what, Some(thread.to_owned()), how));
    }

    pub fn begin(&mut self, thread: &str, turn: &str) {
        if let Some(known) = self.threads.get_mut(thread) {
            known.turn = Some(turn.to_owned());
        }
        let status = json!({"type": "active", "activeFlags": []});
        self.notice("thread/status/changed", json!({"threadId": thread, "status": status}));
        self.tell("turn/started", json!({"threadId": thread, "turn": {"id": turn, "status": "inProgress"}}));
    }

    /// A message enters the turn: the two statements about it, and its place in the history.
    fn takes(&mut self, thread: &str, turn: &str, client_id: &Value) {
        let item = user_message(client_id);
        self.tell("item/started", json!({"threadId": thread, "turnId": turn, "item": item}));
        self.tell("item/completed", json!({"threadId": thread, "turnId": turn, "item": item}));
        if let Some(known) = self.threads.get_mut(thread) {
            known.items.push((turn.to_owned(), client_id.clone()));
        }
    }

    /// A page, newest first; beside each message of a user stands an answer of the agent, as in life.
    fn page(&self, thread: &str, params: &Value) -> Value {
        let rows: Vec<Value> = self.threads[thread]
            .items
            .iter()
            .rev()
            .flat_map(|(turn, client_id)| {
                let answer = json!({"type": "agentMessage", "id": "m", "text": "done"});
                [
                    json!({"turnId": turn, "item": answer}),
                    json!({"turnId": turn, "item": user_message(client_id)}),
                ]
            })
            .collect();
        let from: usize =
            params["cursor"].as_str().map_or(0, |cursor| cursor.parse().expect("our own cursor"));
        let limit = params["limit"].as_u64().map_or(25, |limit| limit as usize);
        let to = (from + self.page.unwrap_or(limit).min(limit)).min(rows.len());
        let next = (to < rows.len()).then(|| to.to_string());
        json!({"data": rows[from..to], "nextCursor": next, "backwardsCursor": "x"})
    }
}

impl Fake for FakeCodex {
    fn hear(&mut self, message: &str) {
        let message: Value = serde_json::from_str(message).expect("we send JSON");
        self.heard.push(message.clone());
        let (Some(method), id) = (message["method"].as_str(), &message["id"]) else { return };
        if id.is_null() {
            return;
        }
        assert!(message["params"].is_object(), "`params` is required, also when empty: {message}");
        match self.answer(id, method, &message["params"]) {
            Ok(Value::Null) => {}
            Ok(result) => self.out(&json!({"id": id, "result": result})),
            Err((code, words)) => self.out(&json!({"id": id, "error": {"code": code, "message": words}})),
        }
    }

    fn say(&mut self) -> Option<String> {
        self.said.pop_front()
    }

    fn hold(&mut self) -> Vec<String> {
        self.held.replace(VecDeque::new()).unwrap_or_default().into()
    }

    fn release(&mut self) {
        self.said.extend(self.held.take().unwrap_or_default());
    }

    fn refuse(&mut self, what: What, how: Refusal) {
        self.refusals.push((what, None, how));
    }

    fn set_page(&mut self, rows: usize) {
        self.page = Some(rows);
    }

    fn runs_a_turn(&mut self, thread: &ThreadId) {
        let turn = self.fresh("turn");
        self.begin(thread, &turn);
    }

    fn ends_turn(&mut self, thread: &ThreadId, outcome: &TurnOutcome) {
        let Some(turn) = self.threads.get_mut(&**thread).and_then(|thread| thread.turn.take()) else {
            return;
        };
        let (status, error) = match outcome {
            TurnOutcome::Completed => ("completed", Value::Null),
            TurnOutcome::Interrupted => ("interrupted", Value::Null),
            TurnOutcome::Failed(words) => ("failed", failure(words, "other")),
            TurnOutcome::Blocked { why: words, .. } => ("failed", failure(words, "usageLimitExceeded")),
            TurnOutcome::Overloaded(words) => ("failed", failure(words, "serverOverloaded")),
            TurnOutcome::ContextFull(words) => ("failed", failure(words, "contextWindowExceeded")),
        };
        let of_thread = if status == "failed" { "systemError" } else { "idle" };
        self.notice("thread/status/changed", json!({"threadId": &**thread, "status": {"type": of_thread}}));
        let turn = json!({"id": turn, "status": status, "error": error, "items": []});
        self.tell("turn/completed", json!({"threadId": &**thread, "turn": turn}));
    }

    fn person_types(&mut self, thread: &ThreadId, marked: bool) {
        let running = self.threads.get(&**thread).and_then(|thread| thread.turn.clone());
        let turn = running.clone().unwrap_or_else(|| self.fresh("turn"));
        if running.is_none() {
            self.begin(thread, &turn);
        }
        let id = if marked { json!("0f0c2a52-65a7-4a02-9d3e-0a3e4f1c2b7d") } else { Value::Null };
        self.takes(thread, &turn, &id);
    }

    fn unloads(&mut self, thread: &ThreadId) {
        self.notice("thread/status/changed", json!({"threadId": &**thread, "status": {"type": "notLoaded"}}));
        self.notice("thread/closed", json!({"threadId": &**thread}));
    }

    fn asks_everything(&mut self, thread: &ThreadId) -> Vec<Question> {
        let ask = |(method, params, question): (&'static str, Value, Question)| {
            self.ask(method, params);
            question
        };
        questions::all(thread).into_iter().map(ask).collect()
    }

    fn asks_the_unknown(&mut self, thread: Option<&ThreadId>) -> String {
        match thread {
            Some(thread) => {
                self.ask(
                    "item/tool/call",
                    json!({"threadId": &**thread, "tool": "send_mail", "arguments": {}}),
                );
                "agentmux does not answer `item/tool/call`".to_owned()
            }
            None => {
                self.ask("item/fileChange/requestApproval", json!({"threadId": "somebody else's"}));
                "agentmux does not know that thread".to_owned()
            }
        }
    }

    fn settled_elsewhere(&mut self, thread: &ThreadId, at: usize) {
        self.notice("serverRequest/resolved", json!({"threadId": &**thread, "requestId": at}));
    }

    fn answers(&self) -> Vec<String> {
        let answers = self.heard.iter().filter(|message| message["method"].is_null());
        answers
            .map(|message| {
                let mut message = message.clone();
                message.as_object_mut().map(|object| object.shift_remove("id"));
                message.to_string()
            })
            .collect()
    }

    fn taken(&self) -> Vec<String> {
        let items = self.threads.values().flat_map(|thread| &thread.items);
        items.filter_map(|(_, id)| id.as_str().map(str::to_owned)).collect()
    }

    fn novelties(&self, thread: &ThreadId, claim: ClaimId) -> Vec<String> {
        let of = |kind: &str, item: Value| {
            json!({"method": kind, "params": {"threadId": &**thread, "turnId": "turn-9", "item": item}})
                .to_string()
        };
        let ours = json!(claim.to_string());
        let all = [
            // Only `item/completed` is evidence, and only of a `userMessage` (SQ-7, NB-8).
            of("item/started", user_message(&ours)),
            of("item/updated", user_message(&ours)),
            of("item/completed", json!({"type": "agentMessage", "id": "i", "clientId": ours, "text": "x"})),
            of("item/completed", json!({"type": "userMessageDraft", "id": "i", "clientId": ours})),
            of("item/completed", json!({"type": "hologram", "id": "i", "new": {"deep": [1, 2, {"x": null}]}})),
            json!({"method": "turn/diff/updated", "params": {"threadId": &**thread, "diff": "x", "new": 1}}).to_string(),
            json!({"method": "account/rateLimits/updated", "params": {"rateLimits": {}}}).to_string(),
            json!({"method": "thread/status/changed", "params": {"threadId": &**thread, "status": {"type": "dreaming"}}})
                .to_string(),
            json!({"method": "brand/new", "params": null}).to_string(),
            json!({"method": "brand/new", "emittedAtMs": 1, "trace": {"a": 1}}).to_string(),
            json!({"method": "error", "params": {"threadId": &**thread, "willRetry": true,
                "error": {"message": "Reconnecting... 1/5"}}}).to_string(),
            json!({"id": 9_999, "result": {}}).to_string(),
            json!({"id": "a text", "result": {}}).to_string(),
        ];
        all.into()
    }

    fn corpus(&self, thread: &ThreadId, claim: ClaimId) -> Vec<String> {
        let mut twin = FakeCodex {
            threads: [(thread.to_string(), Thread { subscribed: true, ..Thread::default() })].into(),
            ..FakeCodex::default()
        };
        let ours = json!(claim.to_string());
        for (id, method) in [
            (1, "initialize"),
            (2, "thread/start"),
            (3, "thread/resume"),
            (4, "turn/start"),
            (5, "thread/items/list"),
        ] {
            let params = json!({"threadId": &**thread, "clientUserMessageId": ours});
            twin.hear(&json!({"id": id, "method": method, "params": params}).to_string());
        }
        twin.person_types(thread, true);
        twin.ends_turn(thread, &TurnOutcome::Failed("no more".to_owned()));
        twin.asks_everything(thread);
        twin.settled_elsewhere(thread, 0);
        twin.unloads(thread);
        twin.said.extend(self.novelties(thread, claim));
        twin.out(&json!({"id": 4, "error": {"code": -32_001, "message": "Server overloaded; retry later."}}));
        twin.said.into()
    }

    fn is_evidence(&self, message: &str) -> bool {
        let Ok(message) = serde_json::from_str::<Value>(message) else { return false };
        message["method"] == "item/completed"
            && message["params"]["item"]["type"] == "userMessage"
            && message["params"]["turnId"].is_string()
    }

    fn garbage(&self) -> Vec<String> {
        let texts = [
            "",
            " ",
            "garbage",
            "[]",
            "{}",
            "7",
            "null",
            "{\"method\":",
            "{\"id\":{}}",
            "\u{0}\u{1}",
            "{\"method\":7}",
        ];
        texts.map(str::to_owned).into()
    }
}

impl FakeCodex {
    /// What it heard with this method, in order.
    pub fn all(&self, method: &str) -> Vec<&Value> {
        let of_it = self.heard.iter().filter(|message| message["method"] == method);
        of_it.map(|message| &message["params"]).collect()
    }

    fn ask(&mut self, method: &str, params: Value) {
        let id = self.asked;
        self.asked += 1;
        self.out(&json!({"id": id, "method": method, "params": params}));
    }
}

fn user_message(client_id: &Value) -> Value {
    let ours = client_id.as_str().is_some_and(|id| id.starts_with("am-"));
    let text = if ours { "[agentmux mail 1 of 1]\nid: 1   from: lead (agent)\nhello" } else { "hello" };
    json!({"type": "userMessage", "id": "item-1", "clientId": client_id, "content": [{"type": "text", "text": text}]})
}

fn what(method: &str) -> Option<What> {
    Some(match method {
        "initialize" => What::Hello,
        "thread/start" => What::NewThread,
        "thread/inject_items" => What::Introduction,
        "thread/name/set" => What::Naming,
        "thread/resume" => What::Resuming,
        "turn/start" => What::Turn,
        "thread/items/list" => What::History,
        "thread/turns/list" => What::RunningTurn,
        "thread/read" => What::Status,
        "thread/loaded/list" => What::Loaded,
        "thread/unsubscribe" => What::Leaving,
        "thread/compact/start" => What::Summing,
        "turn/interrupt" => What::Interrupt,
        _ => return None,
    })
}

fn failure(words: &str, kind: &str) -> Value {
    json!({"message": words, "codexErrorInfo": kind, "additionalDetails": null})
}
