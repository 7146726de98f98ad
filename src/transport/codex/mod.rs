//! Codex: `codex app-server`, many threads in one child, JSON-RPC without the version field.
//!
//! | Command | Requests, in order |
//! | --- | --- |
//! | (open) | `initialize`, `initialized` |
//! | `OpenThread`, new | `thread/start`, `thread/inject_items` (makes it durable), `thread/name/set`, `skills/list` |
//! | `OpenThread`, known | `thread/resume`, a reminder by `thread/inject_items`, `skills/list`; in a turn `thread/turns/list`, for its id |
//! | then, for its sub-agents | `thread/loaded/list`, `thread/read` of each that is unknown, `thread/resume` of each that is its own |
//! | `StartTurn` | `turn/start` with the claim as `clientUserMessageId` |
//! | `SteerTurn` | `turn/steer`, likewise, with the turn that is meant |
//! | `InterruptTurn`, `InterruptSubs` | of its sub-agents `turn/interrupt`, after `thread/turns/list` where needed; then of its own |
//! | `FindClaims` | `thread/items/list`, newest first, page by page |
//! | `AskStatus`, `Compact` | `thread/read`, `thread/compact/start` |
//! | `CloseThread` | `turn/interrupt` if a turn runs, as soon as its id is known, then of the sub-agents, `thread/unsubscribe` |
//! | `PlaceAsk` | `thread/read`, again |
//!
//! **Invariant:** evidence is `item/completed` of a `userMessage`, never the answer to `turn/start` (measured: 14 of 45 kills
//! after that answer lost the message; after the item none did).
//! **Invariant:** every request of the child gets an answer: approvals when the core says so, all others an error at once.

mod ask;
mod call;
mod end;
mod history;
mod notice;
mod offer;
mod opening;
mod seek;
mod stream;
mod sub;
mod thread;
mod turn;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Value, json};

use self::call::Call;
use self::end::Then;
use self::opening::{Attempt, TOOLS, thread_params};
use self::thread::Thread;
use super::Transport;
use crate::model::child::{ChildCommand, ChildEvent, ToolsState};
use crate::model::clock::Millis;
use crate::model::name::Name;
use crate::wire::rpc::{self, Id, Message};

/// Every request that is made of Codex.
pub const REQUESTS: &[&str] = &[
    "initialize",
    "thread/start",
    "thread/resume",
    "thread/inject_items",
    "thread/name/set",
    "thread/items/list",
    "thread/turns/list",
    "thread/read",
    "thread/loaded/list",
    "thread/compact/start",
    "thread/unsubscribe",
    "skills/list",
    "turn/start",
    "turn/steer",
    "turn/interrupt",
];

/// Every notification of Codex that means something to us.
pub const NOTICES: &[&str] = &[
    "turn/started",
    "turn/completed",
    "item/started",
    "item/completed",
    "item/agentMessage/delta",
    "thread/tokenUsage/updated",
    "thread/status/changed",
    "thread/closed",
    "serverRequest/resolved",
    "skills/changed",
    "mcpServer/startupStatus/updated",
    "account/rateLimits/updated",
    "error",
];

/// Fields of our requests without which nothing would be proven or could join a turn.
pub const REQUEST_FIELDS: &[&str] = &["clientUserMessageId", "expectedTurnId"];

/// Kinds of items, fields, flags and failures in what Codex tells that everything here hangs on, each there since before 0.157.0.
pub const NOTICE_PARTS: &[&str] = &[
    "userMessage",
    "agentMessage",
    "commandExecution",
    "fileChange",
    "mcpToolCall",
    "clientId",
    "waitingOnApproval",
    "usageLimitExceeded",
    "contextWindowExceeded",
];

/// Questions that a person settles.
pub const QUESTIONS: &[&str] = &["item/commandExecution/requestApproval", "item/fileChange/requestApproval"];

/// One connection to `codex app-server`, and what is known of its threads.
#[derive(Debug, Default)]
pub struct Codex {
    last_id: i64,
    calls: BTreeMap<i64, Call>,
    threads: BTreeMap<Name, Thread>,
    /// The opening of each session that is under way. An answer to an earlier one, or after a close, is not reported.
    openings: BTreeMap<Name, Attempt>,
    last_opening: u64,
    /// Questions of the child that wait for the core: request id as text, and how to answer.
    asks: BTreeMap<String, ask::Ask>,
    /// Threads of sub-agents.
    subs: BTreeMap<String, sub::Sub>,
    /// Questions about threads that are not known yet, by their keys.
    unplaced: BTreeMap<String, seek::Unplaced>,
    /// Threads that are looked for.
    seeks: BTreeMap<String, seek::Seek>,
    /// Turns of sub-agents that are being ended, by their numbers.
    endings: BTreeMap<u64, end::Ending>,
    last_ending: u64,
    /// Where our own tools stand, by thread.
    own_tools: BTreeMap<String, ToolsState>,
    /// Until when the account's two windows are used up, those that are.
    full_until: [Option<Millis>; 2],
    /// The sessions whose answers somebody reads as they are written.
    heard: BTreeSet<Name>,
    out: VecDeque<String>,
    events: VecDeque<ChildEvent>,
}

impl Transport for Codex {
    fn on_open(&mut self) {
        *self = Codex {
            last_id: self.last_id,
            events: std::mem::take(&mut self.events),
            heard: std::mem::take(&mut self.heard),
            ..Codex::default()
        };
        let client = json!({"name": "agentmux", "title": "agentmux", "version": env!("CARGO_PKG_VERSION")});
        self.call("initialize", json!({ "clientInfo": client }), Call::Initialize);
    }

    fn on_message(&mut self, text: &str) {
        if self.is_unheard(text) {
            return;
        }
        match rpc::parse(text.as_bytes(), false) {
            Ok(Message::Response { id: Id::Number(id), result }) => {
                if let Some(call) = self.calls.remove(&id) {
                    self.on_answer(call, result);
                }
            }
            Ok(Message::Response { .. }) => {}
            Ok(Message::Notification { method, params }) => self.on_notice(&method, &params),
            Ok(Message::Request { id, method, params }) => self.on_ask(&id, &method, &params),
            // An answer that is lost with it runs into its deadline.
            Err(bad) => self.events.push_back(ChildEvent::Garbled { why: bad.fault.message }),
        }
    }

    fn command(&mut self, command: ChildCommand) {
        match command {
            ChildCommand::OpenThread { session, thread, setup, welcome, reminder, shell_env, tools } => {
                let params = thread_params(&setup, &shell_env, tools.as_deref());
                self.open_thread(session, thread, &setup, (welcome, reminder), params);
            }
            ChildCommand::CloseThread { session } => self.close_thread(session),
            ChildCommand::StartTurn { session, claim, text } => self.start_turn(session, claim, &text),
            ChildCommand::SteerTurn { session, claim, turn, text } => {
                self.steer_turn(session, claim, &turn, &text);
            }
            ChildCommand::InterruptTurn { session, turn } => self.end_subs(session, Then::Interrupt(turn)),
            ChildCommand::InterruptSubs { session } => self.end_subs(session, Then::Tell),
            ChildCommand::FindClaims { session, claims } => self.find_claims(session, claims),
            ChildCommand::AskStatus { session } => {
                self.call_of(session, "thread/read", |session| Call::Status { session })
            }
            ChildCommand::Compact { session } => {
                self.call_of(session, "thread/compact/start", |session| Call::Compact { session })
            }
            ChildCommand::Approve { key, always } => self.approve(&key, always),
            ChildCommand::Choose { key, decision } => self.choose(&key, &decision),
            ChildCommand::Decline { key, reason } => self.decline(&key, &reason),
            ChildCommand::PlaceAsk { key } => self.place_ask(key),
            ChildCommand::ReadItems { session, token, limit } => self.read_items(&session, token, limit),
        }
    }

    fn hear(&mut self, sessions: &BTreeSet<Name>) {
        self.heard.clone_from(sessions);
    }

    fn next_message(&mut self) -> Option<String> {
        self.out.pop_front()
    }

    fn next_event(&mut self) -> Option<ChildEvent> {
        self.events.pop_front()
    }
}

impl Codex {
    fn call(&mut self, method: &str, params: Value, call: Call) {
        self.last_id += 1;
        self.calls.insert(self.last_id, call);
        self.send(&json!({"id": self.last_id, "method": method, "params": params}));
    }

    fn send(&mut self, message: &Value) {
        self.out.push_back(message.to_string());
    }
}
