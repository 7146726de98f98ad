//! Codex: `codex app-server`, many threads in one child, JSON-RPC without the version field.
//!
//! | Command | Requests, in order |
//! | --- | --- |
//! | (open) | `initialize`, `initialized` |
//! | `OpenThread`, new | `thread/start`, `thread/inject_items` (makes it durable), `thread/name/set`, `skills/list` |
//! | `OpenThread`, known | `thread/resume`, a reminder by `thread/inject_items`, `skills/list`; in a turn `thread/turns/list`, for its id |
//! | `StartTurn` | `turn/start` with the claim as `clientUserMessageId` |
//! | `SteerTurn` | `turn/steer`, likewise, with the turn that is meant |
//! | `InterruptTurn` | `turn/interrupt` |
//! | `FindClaims` | `thread/items/list`, newest first, page by page |
//! | `AskStatus`, `Compact` | `thread/read`, `thread/compact/start` |
//! | `CloseThread` | `turn/interrupt` if a turn runs, as soon as its id is known, `thread/unsubscribe` |
//!
//! **Invariant:** evidence is `item/completed` of a `userMessage`, never the answer to `turn/start` (measured: 14 of 45 kills
//! after that answer lost the message; after the item none did).
//! **Invariant:** every request of the child gets an answer: approvals when the core says so, all others an error at once.

mod ask;
mod history;
mod notice;
mod stream;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Value, json};

use super::Transport;
use crate::model::child::{ChildCommand, ChildEvent, ToolServer, ToolsState};
use crate::model::id::{ClaimId, ThreadId, TurnId};
use crate::model::name::Name;
use crate::model::session::ThreadSetup;
use crate::wire::rpc::{self, Id, Message, RpcError};

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
    /// Where our own tools stand, by thread.
    own_tools: BTreeMap<String, ToolsState>,
    /// The sessions whose answers somebody reads as they are written.
    heard: BTreeSet<Name>,
    out: VecDeque<String>,
    events: VecDeque<ChildEvent>,
}

/// A thread of ours.
#[derive(Debug)]
struct Thread {
    id: ThreadId,
    /// The turn that runs, as far as the child has told.
    turn: Option<TurnId>,
    /// Whether it was busy when it was resumed, with a turn whose id we have not heard.
    busy: bool,
    /// Whether a turn was asked for that has not shown itself yet.
    expected: bool,
    /// The directory whose skills count.
    dir: String,
    /// Items of the running turn that are tools at work.
    tools: BTreeSet<String>,
    /// The message that is being written, while somebody listens.
    saying: Option<stream::Saying>,
    /// The last change of files that began: its item and its paths, for when it is asked about.
    change: Option<(String, String)>,
    /// Whether it waits for a person, as its status says, and the question has not come to us yet.
    asking: bool,
    /// Whether it shall be left as soon as the id of its turn is known, to interrupt that.
    closing: bool,
}

/// The number of an attempt to open a session's thread.
type Opening = u64;

/// An attempt to open a session's thread.
#[derive(Debug)]
struct Attempt {
    number: Opening,
    /// The directory whose skills count.
    dir: String,
    /// The thread that it resumes.
    resumes: Option<ThreadId>,
    /// Whether only questions that the child has yet to repeat are missing.
    is_ready: bool,
}

/// A request of ours that waits for its answer.
#[derive(Debug)]
enum Call {
    Initialize,
    StartThread {
        session: Name,
        opening: Opening,
        welcome: String,
    },
    Inject {
        session: Name,
        opening: Opening,
        thread: ThreadId,
    },
    Name {
        session: Name,
        opening: Opening,
        thread: ThreadId,
    },
    Resume {
        session: Name,
        opening: Opening,
        thread: ThreadId,
        reminder: Option<String>,
    },
    Skills {
        session: Name,
        opening: Option<Opening>,
    },
    Turn {
        session: Name,
        claim: ClaimId,
    },
    Steer {
        session: Name,
        claim: ClaimId,
    },
    Interrupt {
        session: Name,
    },
    RunningTurn {
        session: Name,
    },
    Status {
        session: Name,
    },
    Compact {
        session: Name,
    },
    Find(history::Find),
    Look {
        token: u64,
    },
    Unsubscribe {
        session: Name,
    },
    /// Answers that change nothing: interrupt, leaving a thread that nobody waits for.
    Plain,
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
            ChildCommand::InterruptTurn { session, turn } => self.interrupt_turn(session, &turn),
            ChildCommand::FindClaims { session, claims } => self.find_claims(session, claims),
            ChildCommand::AskStatus { session } => {
                self.call_of(session, "thread/read", |session| Call::Status { session })
            }
            ChildCommand::Compact { session } => {
                self.call_of(session, "thread/compact/start", |session| Call::Compact { session })
            }
            ChildCommand::Approve { key, always } => self.approve(&key, always),
            ChildCommand::Decline { key, reason } => self.decline(&key, &reason),
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

    fn open_thread(
        &mut self,
        session: Name,
        thread: Option<ThreadId>,
        setup: &ThreadSetup,
        (welcome, reminder): (String, Option<String>),
        mut params: Value,
    ) {
        self.last_opening += 1;
        let opening = self.last_opening;
        let (dir, resumes) = (setup.dir.clone(), thread.clone());
        let attempt = Attempt { number: opening, dir, resumes, is_ready: false };
        self.openings.insert(session.clone(), attempt);
        match thread {
            Some(thread) => {
                params["threadId"] = json!(&*thread);
                params["excludeTurns"] = json!(true);
                self.call("thread/resume", params, Call::Resume { session, opening, thread, reminder });
            }
            None => self.call("thread/start", params, Call::StartThread { session, opening, welcome }),
        }
    }

    fn close_thread(&mut self, session: Name) {
        self.openings.remove(&session);
        let Some(thread) = self.threads.get_mut(&session) else {
            return self.events.push_back(ChildEvent::ThreadGone { session });
        };
        // A turn can only be interrupted by its id, and an interrupt before it has begun is refused.
        if thread.turn.is_none() && (thread.busy || thread.expected) {
            thread.closing = true;
            return;
        }
        self.leave_thread(session);
    }

    /// Interrupts a thread's turn, if its id is known, and unsubscribes from it.
    fn leave_thread(&mut self, session: Name) {
        let Some(thread) = self.threads.get_mut(&session) else { return };
        thread.closing = false;
        let id = thread.id.clone();
        if let Some(turn) = thread.turn.clone() {
            self.call("turn/interrupt", json!({"threadId": &*id, "turnId": &*turn}), Call::Plain);
        }
        self.call("thread/unsubscribe", json!({"threadId": &*id}), Call::Unsubscribe { session });
    }

    /// Asks for something that only the thread's id says.
    fn call_of(&mut self, session: Name, method: &str, call: impl FnOnce(Name) -> Call) {
        if let Some(thread) = self.threads.get(&session) {
            let params = json!({"threadId": &*thread.id});
            self.call(method, params, call(session));
        }
    }

    fn start_turn(&mut self, session: Name, claim: ClaimId, text: &str) {
        let Some(thread) = self.threads.get_mut(&session) else {
            let why = "the thread is not open".to_owned();
            return self.events.push_back(ChildEvent::TurnRefused { session, claim, temporary: true, why });
        };
        thread.expected = true;
        let params = json!({
            "threadId": &*thread.id,
            "input": [{"type": "text", "text": text}],
            "clientUserMessageId": claim.to_string(),
        });
        self.call("turn/start", params, Call::Turn { session, claim });
    }

    fn steer_turn(&mut self, session: Name, claim: ClaimId, turn: &TurnId, text: &str) {
        let Some(thread) = self.threads.get(&session) else {
            let why = "the thread is not open".to_owned();
            return self.events.push_back(ChildEvent::TurnMissed { session, claim, why });
        };
        let params = json!({
            "threadId": &*thread.id,
            "expectedTurnId": &**turn,
            "input": [{"type": "text", "text": text}],
            "clientUserMessageId": claim.to_string(),
        });
        self.call("turn/steer", params, Call::Steer { session, claim });
    }

    fn interrupt_turn(&mut self, session: Name, turn: &TurnId) {
        let Some(thread) = self.threads.get(&session) else {
            let why = "the thread is not open".to_owned();
            return self.events.push_back(ChildEvent::InterruptRefused { session, why });
        };
        let params = json!({"threadId": &*thread.id, "turnId": &**turn});
        self.call("turn/interrupt", params, Call::Interrupt { session });
    }

    fn on_answer(&mut self, call: Call, result: Result<Value, RpcError>) {
        match (call, result) {
            (Call::Initialize, Ok(answer)) => self.on_initialized(&answer),
            (Call::Initialize, Err(error)) => {
                self.events.push_back(ChildEvent::Unusable {
                    why: format!("it refused initialize: {}", error.message),
                });
            }
            (Call::StartThread { session, opening, welcome }, Ok(answer)) => {
                self.on_thread_started(session, opening, &welcome, &answer);
            }
            (Call::Inject { session, opening, thread }, Ok(_)) => {
                let params = json!({"threadId": &*thread, "name": session.as_str()});
                self.call("thread/name/set", params, Call::Name { session, opening, thread });
            }
            // A name is a convenience; a thread without one works.
            (Call::Name { session, opening, thread }, _) => {
                self.on_thread_open(session, opening, thread, false)
            }
            (Call::Resume { session, opening, thread, reminder }, Ok(answer)) => {
                if let Some(reminder) = reminder.filter(|_| self.is_current(&session, opening)) {
                    self.call("thread/inject_items", told(&thread, &reminder), Call::Plain);
                }
                let status = &answer["thread"]["status"];
                self.on_thread_open(session.clone(), opening, thread, status["type"] == "active");
                let asked = self.asks.values().any(|ask| ask.session == session);
                if let Some(thread) = self.threads.get_mut(&session) {
                    thread.asking = waits_for_a_person(status) && !asked;
                }
            }
            (
                Call::StartThread { session, opening, .. }
                | Call::Inject { session, opening, .. }
                | Call::Resume { session, opening, .. },
                Err(error),
            ) => {
                if self.is_current(&session, opening) {
                    self.openings.remove(&session);
                    let (temporary, why) = (is_temporary(&error), error.message);
                    self.events.push_back(ChildEvent::ThreadFailed { session, temporary, why });
                }
            }
            (Call::Skills { session, opening }, answer) => self.on_skills(session, opening, answer),
            (Call::Turn { session, claim }, Ok(answer)) => match answer["turn"]["id"].as_str() {
                Some(turn) => {
                    self.events.push_back(ChildEvent::TurnAccepted { session, claim, turn: turn.into() })
                }
                None => self
                    .events
                    .push_back(ChildEvent::Unusable { why: "it answered turn/start without a turn".into() }),
            },
            (Call::Turn { session, claim }, Err(error)) => self.on_turn_refused(session, claim, error),
            (Call::Steer { session, claim }, Ok(answer)) => match answer["turnId"].as_str() {
                Some(turn) => {
                    self.events.push_back(ChildEvent::TurnAccepted { session, claim, turn: turn.into() })
                }
                None => self
                    .events
                    .push_back(ChildEvent::Unusable { why: "it answered turn/steer without a turn".into() }),
            },
            (Call::Steer { session, claim }, Err(error)) => self.on_steer_refused(session, claim, error),
            (Call::Interrupt { .. }, Ok(_)) => {}
            (Call::Interrupt { session }, Err(error)) => {
                self.events.push_back(ChildEvent::InterruptRefused { session, why: error.message });
            }
            (Call::RunningTurn { session }, answer) => self.on_running_turn(session, answer),
            (Call::Status { session }, Ok(answer)) => {
                let busy = answer["thread"]["status"]["type"] == "active";
                self.events.push_back(ChildEvent::StatusTold { session, busy });
            }
            // What cannot tell is asked again.
            (Call::Status { .. }, Err(_)) => {}
            (Call::Compact { .. }, Ok(_)) => {}
            (Call::Compact { session }, Err(error)) => {
                let why = format!("the context could not be summed up: {}", error.message);
                self.events.push_back(ChildEvent::ThreadFailed { session, temporary: true, why });
            }
            (Call::Find(find), answer) => self.on_history_page(find, answer),
            (Call::Look { token }, Ok(answer)) => {
                let items = Ok(history::items(&answer));
                self.events.push_back(ChildEvent::ItemsRead { token, items });
            }
            (Call::Look { token }, Err(error)) => {
                self.events.push_back(ChildEvent::ItemsRead { token, items: Err(error.message) });
            }
            (Call::Unsubscribe { session }, _) => {
                self.threads.remove(&session);
                self.events.push_back(ChildEvent::ThreadGone { session });
            }
            (Call::Plain, _) => {}
        }
    }

    fn on_initialized(&mut self, answer: &Value) {
        self.send(&json!({"method": "initialized"}));
        let agent = answer["userAgent"].as_str().unwrap_or_default();
        let version =
            agent.split_once('/').map_or("", |(_, rest)| rest.split(' ').next().unwrap_or_default());
        self.events.push_back(ChildEvent::Ready { version: version.to_owned() });
    }

    fn on_thread_started(&mut self, session: Name, opening: Opening, welcome: &str, answer: &Value) {
        let Some(id) = answer["thread"]["id"].as_str() else {
            if self.is_current(&session, opening) {
                self.openings.remove(&session);
                let why = "it answered thread/start without a thread".to_owned();
                self.events.push_back(ChildEvent::ThreadFailed { session, temporary: false, why });
            }
            return;
        };
        let thread: ThreadId = id.into();
        self.call("thread/inject_items", told(&thread, welcome), Call::Inject { session, opening, thread });
    }

    fn on_thread_open(&mut self, session: Name, opening: Opening, id: ThreadId, busy: bool) {
        let Some(attempt) = self.openings.get(&session).filter(|attempt| attempt.number == opening) else {
            // Nobody waits for this thread any more; unless it is the one that is open or being opened, it is left to unload.
            let wanted = self.openings.values().any(|attempt| attempt.resumes.as_ref() == Some(&id));
            if !wanted && self.session_of(&id).is_none() {
                self.call("thread/unsubscribe", json!({"threadId": &*id}), Call::Plain);
            }
            return;
        };
        let dir = attempt.dir.clone();
        self.threads.insert(
            session.clone(),
            Thread {
                id: id.clone(),
                turn: None,
                busy,
                expected: false,
                dir,
                tools: BTreeSet::new(),
                saying: None,
                change: None,
                asking: false,
                closing: false,
            },
        );
        if busy {
            let params = json!({"threadId": &*id, "limit": 1, "sortDirection": "desc"});
            self.call("thread/turns/list", params, Call::RunningTurn { session: session.clone() });
        }
        self.list_skills(session, Some(opening));
    }

    fn list_skills(&mut self, session: Name, opening: Option<Opening>) {
        let Some(thread) = self.threads.get(&session) else { return };
        self.call("skills/list", json!({"cwds": [thread.dir]}), Call::Skills { session, opening });
    }

    /// The skills are known, and only now a thread that was being opened is open: before, a `$` could pull one in.
    fn on_skills(&mut self, session: Name, opening: Option<Opening>, answer: Result<Value, RpcError>) {
        let opened = opening.is_some_and(|opening| self.is_current(&session, opening));
        match answer {
            Ok(answer) => {
                let names = skill_names(&answer);
                self.events.push_back(ChildEvent::SkillsListed { session: session.clone(), names });
            }
            Err(error) if opened && is_temporary(&error) => {
                self.openings.remove(&session);
                self.threads.remove(&session);
                let why = error.message;
                return self.events.push_back(ChildEvent::ThreadFailed { session, temporary: true, why });
            }
            Err(_) => {}
        }
        if let Some(attempt) = self.openings.get_mut(&session).filter(|_| opened) {
            attempt.is_ready = true;
            self.finish_opening(session);
        }
    }

    /// A thread is open when its skills are known and the child has repeated what it asks: whoever looks then sees it.
    fn finish_opening(&mut self, session: Name) {
        let is_ready = self.openings.get(&session).is_some_and(|attempt| attempt.is_ready);
        let Some(thread) = self.threads.get(&session).filter(|thread| is_ready && !thread.asking) else {
            return;
        };
        let (id, busy) = (thread.id.clone(), thread.busy || thread.turn.is_some());
        let state = self.own_tools.get(&*id).copied();
        self.openings.remove(&session);
        self.events.push_back(ChildEvent::ThreadOpened { session: session.clone(), thread: id, busy });
        self.events.extend(state.map(|state| ChildEvent::OwnTools { session, state }));
    }

    /// The child has asked, or no longer waits for a person.
    fn asks_no_more(&mut self, session: Name) {
        if let Some(thread) = self.threads.get_mut(&session) {
            thread.asking = false;
            self.finish_opening(session);
        }
    }

    fn on_turn_refused(&mut self, session: Name, claim: ClaimId, error: RpcError) {
        let unloaded = error.message.starts_with("thread not found");
        // Only input that can never fit is refused for good; anything else may pass, and accepted mail is not given up for it.
        let (temporary, why) = (error.code != INVALID_PARAMS, error.message);
        self.events.push_back(ChildEvent::TurnRefused { session: session.clone(), claim, temporary, why });
        if unloaded {
            self.threads.remove(&session);
            return self.events.push_back(ChildEvent::ThreadGone { session });
        }
        if let Some(thread) = self.threads.get_mut(&session) {
            thread.expected = false;
            if thread.closing && thread.turn.is_none() && !thread.busy {
                self.leave_thread(session);
            }
        }
    }

    /// A steer is too late when its turn has ended; anything else is a refusal like that of a turn's start.
    fn on_steer_refused(&mut self, session: Name, claim: ClaimId, error: RpcError) {
        let missed = ["no active turn", "expected active turn"].iter().any(|how| error.message.contains(how));
        if missed {
            let why = error.message;
            return self.events.push_back(ChildEvent::TurnMissed { session, claim, why });
        }
        self.on_turn_refused(session, claim, error);
    }

    /// The id of the turn that ran when the thread was resumed.
    fn on_running_turn(&mut self, session: Name, answer: Result<Value, RpcError>) {
        let Ok(answer) = answer else { return };
        let last = &answer["data"][0];
        let id = last["id"].as_str().filter(|_| last["status"] == "inProgress").map(TurnId::from);
        if let (Some(id), Some(thread)) = (id, self.threads.get(&session))
            && thread.busy
            && thread.turn.is_none()
        {
            self.turn_is_known(&session, id.clone());
            self.events.push_back(ChildEvent::TurnStarted { session, turn: id });
        }
    }

    /// A thread's running turn is known now; a thread that only waited for that is left.
    fn turn_is_known(&mut self, session: &Name, turn: TurnId) {
        let Some(thread) = self.threads.get_mut(session) else { return };
        thread.turn = Some(turn);
        thread.expected = false;
        if thread.closing {
            self.leave_thread(session.clone());
        }
    }

    /// Whether nothing has superseded this attempt to open a thread.
    fn is_current(&self, session: &Name, opening: Opening) -> bool {
        self.openings.get(session).is_some_and(|attempt| attempt.number == opening)
    }

    fn session_of(&self, thread: &str) -> Option<Name> {
        self.threads.iter().find(|(_, known)| &*known.id == thread).map(|(name, _)| name.clone())
    }
}

/// "Server overloaded; retry later."
const OVERLOADED: i64 = -32_001;
/// What our own MCP server is called in a thread's configuration.
const TOOLS: &str = "agentmux";
/// The input is too large.
const INVALID_PARAMS: i64 = -32_602;

/// What start and resume have in common: equal configuration at every opening.
fn thread_params(setup: &ThreadSetup, shell_env: &[(String, String)], tools: Option<&ToolServer>) -> Value {
    let set: serde_json::Map<String, Value> =
        shell_env.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    let mut params = json!({"cwd": setup.dir, "config": {"shell_environment_policy": {"set": set}}});
    if let Some(tools) = tools {
        // Nested, so that it is merged with the servers of the person's own configuration.
        params["config"]["mcp_servers"] = json!({ TOOLS: {
            "command": tools.command,
            "args": tools.args,
            "env": {"AGENTMUX_SESSION": tools.session, "AGENTMUX_TOKEN": tools.token.reveal()},
            "default_tools_approval_mode": "approve",
        }});
    }
    let settings = [
        ("developerInstructions", &setup.instructions),
        ("model", &setup.model),
        ("sandbox", &setup.sandbox),
        ("approvalPolicy", &setup.approval),
    ];
    for (key, value) in settings {
        if let Some(value) = value {
            params[key] = json!(value);
        }
    }
    params
}

/// Parameters that put a developer's message into a thread's context, without a turn.
fn told(thread: &ThreadId, text: &str) -> Value {
    let content = json!([{"type": "input_text", "text": text}]);
    json!({"threadId": &**thread, "items": [{"type": "message", "role": "developer", "content": content}]})
}

/// Whether a thread's status says that a person is asked.
fn waits_for_a_person(status: &Value) -> bool {
    let flags = status["activeFlags"].as_array();
    flags.into_iter().flatten().any(|flag| flag == "waitingOnApproval" || flag == "waitingOnUserInput")
}

/// Whether trying again may help: overload, and a writer that has yet to let go.
fn is_temporary(error: &RpcError) -> bool {
    error.code == OVERLOADED || error.message.contains("already has an active writer")
}

fn skill_names(answer: &Value) -> Vec<String> {
    let entries = answer["data"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|entry| entry["skills"].as_array().into_iter().flatten());
    let enabled = entries.filter(|skill| skill["enabled"] != json!(false));
    let mut names: Vec<String> =
        enabled.filter_map(|skill| skill["name"].as_str().map(str::to_owned)).collect();
    names.sort();
    names.dedup();
    names
}
