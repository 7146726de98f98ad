//! Opening a session's thread, new or known: with which configuration, what it is told, and when it counts as open.
//!
//! **Invariant:** a thread is open only when its skills are known (before, a `$` could pull one in), the child has repeated what it
//! asks, and has said which turn runs; what a newer opening or a close has superseded is not reported.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Codex;
use super::call::Call;
use super::end::{last_turn_of, running_turn};
use super::sub::SubTurn;
use super::thread::{Thread, waits_for_a_person};
use crate::model::child::{ChildEvent, ToolServer, Underway};
use crate::model::clock::Millis;
use crate::model::id::{ThreadId, thread_id};
use crate::model::name::Name;
use crate::model::session::ThreadSetup;
use crate::wire::rpc::RpcError;

/// "Server overloaded; retry later."
const OVERLOADED: i64 = -32_001;
/// What our own MCP server is called in a thread's configuration.
pub(super) const TOOLS: &str = "agentmux";

/// The number of an attempt to open a session's thread.
pub(super) type Opening = u64;

/// An attempt to open a session's thread.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) number: Opening,
    /// The directory whose skills count.
    dir: String,
    /// The thread that it resumes.
    pub(super) resumes: Option<ThreadId>,
    /// Whether the skills are known.
    knows_skills: bool,
    /// Whether a turn runs whose id was asked for.
    awaits_turn: bool,
    /// Answers about its sub-agents that are missing.
    looking: u32,
    /// Its thread and those of its sub-agents that wait for a person, as their status says, and have not asked us yet.
    asking: BTreeSet<String>,
}

impl Attempt {
    fn is_ready(&self) -> bool {
        self.knows_skills && !self.awaits_turn && self.looking == 0 && self.asking.is_empty()
    }
}

impl Codex {
    pub(super) fn open_thread(
        &mut self,
        session: Name,
        thread: Option<ThreadId>,
        setup: &ThreadSetup,
        (welcome, reminder): (String, Option<String>),
        mut params: Value,
    ) {
        // A thread of an earlier session of this name has nobody any more.
        if let Some(other) = self.threads.get(&session).filter(|open| Some(&open.id) != thread.as_ref()) {
            let (id, turn) = (other.id.clone(), other.turn.clone());
            self.threads.remove(&session);
            self.abandon(&id, turn);
            self.leave_subs(&session);
        }
        if let Some(kept) = self.threads.get_mut(&session) {
            kept.stay();
        }
        self.last_opening += 1;
        let opening = self.last_opening;
        let attempt = Attempt {
            number: opening,
            dir: setup.dir.clone(),
            resumes: thread.clone(),
            knows_skills: false,
            awaits_turn: false,
            looking: 0,
            asking: BTreeSet::new(),
        };
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

    pub(super) fn on_thread_started(
        &mut self,
        session: Name,
        opening: Opening,
        welcome: &str,
        answer: &Value,
    ) {
        let Some(thread) = answer["thread"]["id"].as_str().and_then(thread_id) else {
            if self.is_current(&session, opening) {
                self.openings.remove(&session);
                let why = "it answered thread/start without a thread".to_owned();
                self.events.push_back(ChildEvent::ThreadFailed { session, temporary: false, why });
            }
            return;
        };
        self.call("thread/inject_items", told(&thread, welcome), Call::Inject { session, opening, thread });
    }

    pub(super) fn on_thread_open(&mut self, session: Name, opening: Opening, id: ThreadId, busy: bool) {
        let Some(attempt) = self.openings.get_mut(&session).filter(|attempt| attempt.number == opening)
        else {
            // Nobody waits for this thread any more; unless it is one that is open or being opened, it is left to unload.
            let is_wanted = self.is_being_opened(&id) || self.owner_of(&id).is_some();
            match busy {
                _ if is_wanted => {}
                true => self.abandon(&id, None),
                false => self.call("thread/unsubscribe", json!({"threadId": &*id}), Call::Plain),
            }
            return;
        };
        attempt.awaits_turn = busy;
        let dir = attempt.dir.clone();
        self.threads.insert(session.clone(), Thread::new(id.clone(), opening, dir, busy));
        if busy {
            let call = Call::RunningTurn { session: session.clone(), opening };
            self.call("thread/turns/list", last_turn_of(&id), call);
        }
        self.list_skills(session, Some(opening));
        self.ask_kept(&id);
    }

    /// A thread was resumed; what it asks, and which sub-agents of it are at work, is known before it counts as open.
    pub(super) fn on_resumed(&mut self, session: Name, opening: Opening, id: ThreadId, status: &Value) {
        self.on_thread_open(session.clone(), opening, id.clone(), status["type"] == "active");
        if self.is_current(&session, opening) {
            if waits_for_a_person(status) {
                self.awaits_ask(&session, &id);
            }
            self.look_for_subs(session, opening);
        }
    }

    pub(super) fn list_skills(&mut self, session: Name, opening: Option<Opening>) {
        let Some(thread) = self.threads.get(&session) else { return };
        self.call("skills/list", json!({"cwds": [thread.dir]}), Call::Skills { session, opening });
    }

    /// The skills are known, and only now a thread that was being opened is open: before, a `$` could pull one in.
    pub(super) fn on_skills(
        &mut self,
        session: Name,
        opening: Option<Opening>,
        answer: Result<Value, RpcError>,
    ) {
        let opened = opening.is_some_and(|opening| self.is_current(&session, opening));
        match answer {
            Ok(answer) => {
                let names = skill_names(&answer);
                self.events.push_back(ChildEvent::SkillsListed { session: session.clone(), names });
            }
            Err(error) if opened && is_temporary(&error) => {
                return self.opening_failed(session, error.message);
            }
            Err(_) => {}
        }
        if let Some(attempt) = self.openings.get_mut(&session).filter(|_| opened) {
            attempt.knows_skills = true;
            self.finish_opening(session);
        }
    }

    /// The child has said which turn ran when the thread was resumed. What cannot tell for good shows the id with the turn's next word.
    pub(super) fn on_running_turn(
        &mut self,
        session: Name,
        opening: Opening,
        answer: Result<Value, RpcError>,
    ) {
        if !self.is_current(&session, opening) {
            return;
        }
        match answer {
            Ok(answer) => {
                let last = &answer["data"][0];
                if let (Some(id), Some(thread)) = (running_turn(&answer), self.threads.get_mut(&session))
                    && thread.busy
                    && thread.turn.as_ref().is_none_or(|known| *known == id)
                {
                    thread.turn_since = last["startedAt"].as_i64().map(|s| Millis(s.saturating_mul(1_000)));
                    self.turn_is_known(&session, id);
                }
            }
            Err(error) if is_temporary(&error) => return self.opening_failed(session, error.message),
            Err(_) => {}
        }
        if let Some(attempt) = self.openings.get_mut(&session) {
            attempt.awaits_turn = false;
            self.finish_opening(session);
        }
    }

    /// The child would not open a thread.
    pub(super) fn opening_refused(&mut self, session: Name, opening: Opening, error: RpcError) {
        if self.is_current(&session, opening) {
            self.openings.remove(&session);
            let (temporary, why) = (is_temporary(&error), error.message);
            self.events.push_back(ChildEvent::ThreadFailed { session, temporary, why });
        }
    }

    /// What belongs to an opening was refused for now: the whole of it is tried again later, and follows its sub-agents anew. Until then
    /// its threads are loaded, so that they can be left.
    pub(super) fn opening_failed(&mut self, session: Name, why: String) {
        self.openings.remove(&session);
        for sub in self.subs.values_mut().filter(|sub| sub.session == session) {
            (sub.turn, sub.is_followed) = (SubTurn::Unheard, false);
        }
        self.events.push_back(ChildEvent::ThreadFailed { session, temporary: true, why });
    }

    /// A thread is open when all that whoever looks then wants to see of it is known.
    pub(super) fn finish_opening(&mut self, session: Name) {
        let is_ready = self.openings.get(&session).is_some_and(Attempt::is_ready);
        let Some(thread) = self.threads.get(&session).filter(|_| is_ready) else { return };
        let (id, busy) = (thread.id.clone(), thread.busy || thread.turn.is_some());
        let turn = thread.turn.clone().map(|turn| Underway {
            turn,
            since: thread.turn_since,
            at_boundary: thread.is_at_boundary(),
        });
        let state = self.own_tools.get(&*id).copied();
        self.openings.remove(&session);
        self.events.push_back(ChildEvent::ThreadOpened { session: session.clone(), thread: id, busy, turn });
        self.events.extend(state.map(|state| ChildEvent::OwnTools { session, state }));
    }

    /// A thread waits for a person: what it asks comes in a moment, unless it was asked already.
    pub(super) fn awaits_ask(&mut self, session: &Name, thread: &str) {
        let is_asked = self.asks.values().any(|ask| ask.thread.as_deref() == Some(thread));
        if let Some(attempt) = self.openings.get_mut(session).filter(|_| !is_asked) {
            attempt.asking.insert(thread.to_owned());
        }
    }

    /// A thread has asked, or no longer waits for a person.
    pub(super) fn asks_no_more(&mut self, session: &Name, thread: &str) {
        if self.openings.get_mut(session).is_some_and(|attempt| attempt.asking.remove(thread)) {
            self.finish_opening(session.clone());
        }
    }

    /// A session that opens has yet to hear something of its sub-agents; the number of its opening, if it does.
    pub(super) fn looks_for(&mut self, session: &Name) -> Option<Opening> {
        let attempt = self.openings.get_mut(session)?;
        attempt.looking += 1;
        Some(attempt.number)
    }

    pub(super) fn has_looked(&mut self, session: &Name, opening: Opening) {
        if let Some(attempt) = self.openings.get_mut(session).filter(|attempt| attempt.number == opening) {
            attempt.looking -= 1;
            self.finish_opening(session.clone());
        }
    }

    /// Whether somebody waits for this thread to be open.
    pub(super) fn is_being_opened(&self, thread: &str) -> bool {
        self.openings.values().any(|attempt| attempt.resumes.as_deref() == Some(thread))
    }

    /// Whether nothing has superseded this attempt to open a thread.
    pub(super) fn is_current(&self, session: &Name, opening: Opening) -> bool {
        self.openings.get(session).is_some_and(|attempt| attempt.number == opening)
    }
}

/// What start and resume have in common: equal configuration at every opening.
pub(super) fn thread_params(
    setup: &ThreadSetup,
    shell_env: &[(String, String)],
    tools: Option<&ToolServer>,
) -> Value {
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
pub(super) fn told(thread: &ThreadId, text: &str) -> Value {
    let content = json!([{"type": "input_text", "text": text}]);
    json!({"threadId": &**thread, "items": [{"type": "message", "role": "developer", "content": content}]})
}

/// Whether trying again may help: overload, and a writer that has yet to let go.
pub(super) fn is_temporary(error: &RpcError) -> bool {
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
