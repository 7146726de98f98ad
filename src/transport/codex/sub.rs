//! Sub-agents: threads that the model of a session's thread, or of another such thread, has begun beside it.
//!
//! Measured with 0.169.0: whoever follows a thread follows what it begins, too, and is asked about it. No `thread/started` tells of one;
//! the item of the call that began it (`collabAgentToolCall`) names it when it is done, and `thread/read` its parent.
//!
//! | A question names | Then |
//! | --- | --- |
//! | a session's thread, or one that such a thread began | it is that session's |
//! | another | the child is asked for its parent, and for that one's, until one is known; without one it is refused |
//!
//! **Invariant:** a sub-agent's turn ends with what its session is doing: by interrupt, and when the session's thread is left.
//! **Invariant:** what is kept of them is bounded; one that was forgotten is found again when it asks.
//!
//! Deliberately absent: what they say. Their parent's thread has what became of it.

use serde_json::{Value, json};

use super::Codex;
use super::call::Call;
use super::notice::turn_id;
use super::thread::{changed_paths, waits_for_a_person};
use crate::model::id::TurnId;
use crate::model::limits;
use crate::model::name::Name;
use crate::wire::rpc::{Id, RpcError};

/// A thread that a sub-agent works in.
#[derive(Debug)]
pub(super) struct Sub {
    /// Whose thread it descends from.
    pub(super) session: Name,
    /// The turn that runs, as far as the child has told.
    turn: Option<TurnId>,
    /// The last change of files that began: its item and its paths.
    pub(super) change: Option<(String, String)>,
}

/// A question whose thread nobody knows yet.
#[derive(Debug)]
pub(super) struct Unplaced {
    id: Id,
    method: String,
    params: Value,
}

/// Why the child is asked whose a thread is.
#[derive(Debug)]
pub(super) struct Search {
    /// The thread that is to be known.
    thread: String,
    /// The question about it that waits, by its key; none when a session's thread is being opened and looks for its own.
    asked: Option<String>,
    /// The session that looks, when one does.
    opening: Option<Name>,
    /// Generations that were gone up so far.
    steps: u32,
}

impl Codex {
    /// The session that a thread belongs to, itself or by descent.
    pub(super) fn owner_of(&self, thread: &str) -> Option<Name> {
        self.session_of(thread).or_else(|| self.subs.get(thread).map(|sub| sub.session.clone()))
    }

    /// A tool call of a session's thread may have begun another thread.
    pub(super) fn on_call(&mut self, session: &Name, item: &Value) {
        let begins = item["type"] == "collabAgentToolCall"
            && ["spawnAgent", "resumeAgent"].iter().any(|tool| item["tool"] == *tool);
        let threads = item["receiverThreadIds"].as_array().filter(|_| begins);
        for thread in threads.into_iter().flatten().filter_map(Value::as_str) {
            self.know_sub(thread, session.clone());
        }
    }

    fn know_sub(&mut self, thread: &str, session: Name) {
        if self.owner_of(thread).is_some() {
            return;
        }
        if self.subs.len() >= limits::SUB_THREADS_MAX {
            // The ids of threads are in the order of time, so that the first is the oldest.
            let idle = self.subs.iter().find(|(_, sub)| sub.turn.is_none());
            let Some(oldest) = idle.or(self.subs.iter().next()).map(|(thread, _)| thread.clone()) else {
                return;
            };
            self.subs.remove(&oldest);
        }
        self.subs.insert(thread.to_owned(), Sub { session, turn: None, change: None });
    }

    /// What is told of a sub-agent's thread, if it is one.
    pub(super) fn on_sub_notice(&mut self, thread: &str, method: &str, params: &Value) {
        let Some(sub) = self.subs.get_mut(thread) else { return };
        match method {
            "turn/started" => sub.turn = turn_id(&params["turn"]["id"]),
            "turn/completed" => sub.turn = None,
            "item/started" | "item/completed" => {
                sub.turn = turn_id(&params["turnId"]).or(sub.turn.take());
                let item = &params["item"];
                sub.change = changed_paths(item).or(sub.change.take());
                let session = sub.session.clone();
                self.on_call(&session, item);
            }
            "thread/status/changed" if params["status"]["type"] == "notLoaded" => {
                self.subs.remove(thread);
            }
            "thread/closed" => {
                self.subs.remove(thread);
            }
            _ => {}
        }
    }

    /// A question names the turn that waits; without having heard of its beginning nothing else does.
    pub(super) fn learn_sub_turn(&mut self, params: &Value) {
        let thread = params["threadId"].as_str().unwrap_or_default();
        if let Some(sub) = self.subs.get_mut(thread) {
            sub.turn = turn_id(&params["turnId"]).or(sub.turn.take());
        }
    }

    /// Ends the turns of a session's sub-agents, as far as they are known.
    pub(super) fn interrupt_subs(&mut self, session: &Name) {
        let of_it = self.subs.iter().filter(|(_, sub)| sub.session == *session);
        let turns: Vec<(String, TurnId)> =
            of_it.filter_map(|(thread, sub)| Some((thread.clone(), sub.turn.clone()?))).collect();
        for (thread, turn) in turns {
            self.call("turn/interrupt", json!({"threadId": thread, "turnId": &*turn}), Call::Plain);
        }
    }

    /// Leaves the threads of a session's sub-agents, which end what they do.
    pub(super) fn leave_subs(&mut self, session: &Name) {
        self.interrupt_subs(session);
        let of_it = self.subs.iter().filter(|(_, sub)| sub.session == *session);
        let left: Vec<String> = of_it.map(|(thread, _)| thread.clone()).collect();
        self.subs.retain(|_, sub| sub.session != *session);
        for thread in left {
            self.call("thread/unsubscribe", json!({"threadId": thread}), Call::Plain);
        }
    }

    /// Keeps a question until it is known whose its thread is; gives it back when there is no room, or no thread.
    pub(super) fn seek_owner(&mut self, id: &Id, method: &str, params: &Value) -> bool {
        let Some(thread) = params["threadId"].as_str() else { return false };
        if self.unplaced.len() >= limits::ASKS_UNPLACED_MAX {
            return false;
        }
        let key = json!(id).to_string();
        let (method, params, thread) = (method.to_owned(), params.clone(), thread.to_owned());
        self.unplaced.insert(key.clone(), Unplaced { id: id.clone(), method, params });
        self.seek(&thread.clone(), Search { thread, asked: Some(key), opening: None, steps: 0 });
        true
    }

    fn seek(&mut self, of: &str, search: Search) {
        self.call("thread/read", json!({"threadId": of}), Call::Parent(search));
    }

    /// A resumed thread may have sub-agents at work from before: their questions come again when they are resumed, too.
    pub(super) fn look_for_subs(&mut self, session: Name) {
        self.looks_for(&session);
        self.call("thread/loaded/list", json!({}), Call::Loaded { session });
    }

    pub(super) fn on_loaded(&mut self, session: Name, answer: Result<Value, RpcError>) {
        let answer = answer.unwrap_or_default();
        let loaded = answer["data"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let is_known = |thread: &&str| {
            let opens = |attempt: &super::Attempt| attempt.resumes.as_deref() == Some(*thread);
            self.owner_of(thread).is_some() || self.openings.values().any(opens)
        };
        let unknown: Vec<String> = loaded
            .filter(|thread| !is_known(thread))
            .take(limits::SUB_THREADS_MAX)
            .map(str::to_owned)
            .collect();
        for thread in unknown {
            self.looks_for(&session);
            let opening = Some(session.clone());
            self.seek(&thread.clone(), Search { thread, asked: None, opening, steps: 0 });
        }
        self.has_looked(&session);
    }

    /// The child has said what the parent of a thread is, or that it does not know the thread.
    pub(super) fn on_parent(&mut self, mut search: Search, answer: Result<Value, RpcError>) {
        let answer = answer.unwrap_or_default();
        let parent = answer["thread"]["parentThreadId"].as_str();
        let owner = parent.and_then(|parent| self.owner_of(parent));
        search.steps += 1;
        if let (None, Some(parent)) = (&owner, parent.filter(|_| search.steps < limits::SUB_THREAD_STEPS_MAX))
        {
            return self.seek(parent, search);
        }
        if let Some(owner) = &owner {
            self.know_sub(&search.thread, owner.clone());
        }
        // One that was settled meanwhile is no longer kept.
        if let Some(Unplaced { id, method, params }) =
            search.asked.as_ref().and_then(|key| self.unplaced.remove(key))
        {
            match owner {
                Some(_) => self.on_ask(&id, &method, &params),
                None => self.refuse_unknown(&id, None, &method, "agentmux does not know that thread"),
            }
        } else if let Some(session) = search.opening {
            if owner.as_ref() == Some(&session) {
                self.looks_for(&session);
                let params = json!({"threadId": search.thread, "excludeTurns": true});
                let call = Call::Rejoin { session: session.clone(), thread: search.thread };
                self.call("thread/resume", params, call);
            }
            self.has_looked(&session);
        }
    }

    /// A sub-agent's thread is followed again.
    pub(super) fn on_rejoined(&mut self, session: Name, thread: &str, answer: Result<Value, RpcError>) {
        let waits = answer.is_ok_and(|answer| waits_for_a_person(&answer["thread"]["status"]));
        let asked = self.asks.values().any(|ask| ask.thread.as_deref() == Some(thread));
        if let Some(own) = self.threads.get_mut(&session).filter(|_| waits && !asked) {
            own.asking = true;
        }
        self.has_looked(&session);
    }

    /// A session that opens has yet to hear something of its sub-agents.
    fn looks_for(&mut self, session: &Name) {
        if let Some(thread) = self.threads.get_mut(session) {
            thread.looking += 1;
        }
    }

    fn has_looked(&mut self, session: &Name) {
        if let Some(thread) = self.threads.get_mut(session) {
            // Answers to what an earlier opening asked count for this one, too: at worst it counts as open a moment too soon.
            thread.looking = thread.looking.saturating_sub(1);
            if thread.looking == 0 {
                self.finish_opening(session.clone());
            }
        }
    }
}
