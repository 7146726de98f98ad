//! Whose a thread is that nobody here has begun: the child is asked for its parent, and for that one's, until one is known.
//!
//! | Who wants to know | When it is a session's | When it is nobody's | When the child will not say for now |
//! | --- | --- | --- | --- |
//! | a question about the thread | it is that session's | it is refused | it is kept, and the child asked again |
//! | a session that opens, of all that are loaded | it is followed, and its question heard | n/a | the opening is tried again |
//!
//! **Invariant:** a thread is looked for once, however many want to know.
//! **Invariant:** a question is kept while its thread is looked for or being opened, and no longer than the core asks again for it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Codex;
use super::ask::thread_of;
use super::call::Call;
use super::opening::{Opening, is_temporary};
use super::sub::SubTurn;
use super::thread::waits_for_a_person;
use crate::model::child::ChildEvent;
use crate::model::limits;
use crate::model::name::Name;
use crate::wire::rpc::{Id, RpcError};

/// A question whose thread nobody knows yet.
#[derive(Debug)]
pub(super) struct Unplaced {
    thread: String,
    id: Id,
    method: String,
    params: Value,
    /// How often its thread was looked for.
    times: u32,
}

/// A thread that is looked for.
#[derive(Debug, Default)]
pub(super) struct Seek {
    /// The thread that the child was asked about: itself, or one that it descends from.
    at: String,
    /// Generations that were gone up so far.
    steps: u32,
    /// The openings that wait for it.
    openings: BTreeSet<(Name, Opening)>,
}

impl Codex {
    /// Keeps a question until it is known whose its thread is; gives it back when there is no room, or no thread.
    pub(super) fn seek_owner(&mut self, id: &Id, method: &str, params: &Value) -> bool {
        let Some(thread) = thread_of(params) else { return false };
        if self.unplaced.len() >= limits::ASKS_UNPLACED_MAX {
            return false;
        }
        let (key, thread) = (json!(id).to_string(), thread.to_owned());
        let (method, params) = (method.to_owned(), params.clone());
        let asked = Unplaced { thread: thread.clone(), id: id.clone(), method, params, times: 0 };
        self.unplaced.insert(key.clone(), asked);
        self.events.push_back(ChildEvent::AskUnplaced { key, times: 0 });
        self.seek(&thread, None);
        true
    }

    /// Looks once more for the thread of a question that is still kept, or gives it up.
    pub(super) fn place_ask(&mut self, key: String) {
        let Some(asked) = self.unplaced.get_mut(&key) else { return };
        asked.times += 1;
        let (thread, times) = (asked.thread.clone(), asked.times);
        if times < limits::ASK_SOUGHT_TIMES_MAX {
            self.events.push_back(ChildEvent::AskUnplaced { key, times });
            self.seek(&thread, None);
        } else if let Some(asked) = self.unplaced.remove(&key) {
            self.refuse_unknown(
                &asked.id,
                None,
                &asked.method,
                "the child does not say whose thread that is",
            );
        }
    }

    /// Looks for a thread, unless that is done already. An opening that is made anew does not rely on an answer that has not come.
    fn seek(&mut self, thread: &str, opening: Option<(Name, Opening)>) {
        let mut asks_again = false;
        if let Some(opening) = opening {
            let seek = self.seeks.entry(thread.to_owned()).or_default();
            asks_again = seek.openings.iter().any(|(session, _)| *session == opening.0);
            seek.openings.retain(|(session, number)| *session != opening.0 || *number == opening.1);
            if seek.openings.insert(opening.clone()) {
                self.looks_for(&opening.0);
            }
        }
        let seek = self.seeks.entry(thread.to_owned()).or_default();
        if seek.at.is_empty() {
            seek.at = thread.to_owned();
        } else if !asks_again {
            return;
        }
        let at = seek.at.clone();
        self.read_parent(thread.to_owned(), &at);
    }

    fn read_parent(&mut self, thread: String, at: &str) {
        self.call("thread/read", json!({"threadId": at}), Call::Parent { thread });
    }

    /// A resumed thread may have sub-agents at work from before: their questions come again when they are resumed, too.
    pub(super) fn look_for_subs(&mut self, session: Name, opening: Opening) {
        self.looks_for(&session);
        self.list_loaded(session, opening, &Value::Null, 1);
    }

    fn list_loaded(&mut self, session: Name, opening: Opening, cursor: &Value, page: u32) {
        let params = if cursor.is_null() { json!({}) } else { json!({"cursor": cursor}) };
        self.call("thread/loaded/list", params, Call::Loaded { session, opening, page });
    }

    pub(super) fn on_loaded(
        &mut self,
        session: Name,
        opening: Opening,
        page: u32,
        answer: Result<Value, RpcError>,
    ) {
        if !self.is_current(&session, opening) {
            return;
        }
        let answer = match answer {
            Err(error) if is_temporary(&error) => return self.opening_failed(session, error.message),
            answer => answer.unwrap_or_default(),
        };
        let loaded = answer["data"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let unknown: Vec<&str> = loaded
            .filter(|thread| self.owner_of(thread).is_none() && !self.is_being_opened(thread))
            .take(limits::SUB_THREADS_MAX)
            .collect();
        let own = |thread: &&str| {
            let sub = self.subs.get(*thread);
            sub.is_some_and(|sub| sub.session == session && !sub.is_followed)
        };
        let loaded = answer["data"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let own: Vec<&str> = loaded.filter(own).collect();
        for thread in own {
            self.rejoin(thread, session.clone());
        }
        for thread in unknown {
            self.seek(thread, Some((session.clone(), opening)));
        }
        let next = &answer["nextCursor"];
        if next.is_string() && page < limits::LOADED_PAGES_MAX {
            return self.list_loaded(session, opening, next, page + 1);
        }
        self.has_looked(&session, opening);
    }

    /// The child has said what the parent of a thread is, or that it does not know the thread.
    pub(super) fn on_parent(&mut self, thread: String, answer: Result<Value, RpcError>) {
        let Some(mut seek) = self.seeks.remove(&thread) else { return };
        if answer.as_ref().is_err_and(is_temporary) {
            let why = answer.err().map(|error| error.message).unwrap_or_default();
            for (session, opening) in seek.openings {
                if self.is_current(&session, opening) {
                    self.opening_failed(session, why.clone());
                }
            }
            return;
        }
        let answer = answer.unwrap_or_default();
        let parent = answer["thread"]["parentThreadId"].as_str();
        // Some may have become known while the child was asked.
        let line = || [Some(thread.as_str()), Some(seek.at.as_str()), parent].into_iter().flatten();
        let owner = line().find_map(|thread| self.owner_of(thread));
        let is_being_opened = line().any(|thread| self.is_being_opened(thread));
        seek.steps += 1;
        if let (None, Some(parent)) = (&owner, parent.filter(|_| seek.steps < limits::SUB_THREAD_STEPS_MAX)) {
            seek.at = parent.to_owned();
            self.seeks.insert(thread.clone(), seek);
            return self.read_parent(thread, parent);
        }
        match owner {
            Some(owner) => {
                let is_new = self.owner_of(&thread).is_none();
                self.know_sub(&thread, owner.clone());
                // Its questions are repeated to who follows it anew, whoever has found it.
                if is_new && !seek.openings.is_empty() {
                    self.rejoin(&thread, owner);
                }
            }
            None if is_being_opened => {}
            None => self.refuse_kept(&thread),
        }
        for (session, opening) in seek.openings {
            self.has_looked(&session, opening);
        }
    }

    fn rejoin(&mut self, thread: &str, session: Name) {
        if let Some(sub) = self.subs.get_mut(thread) {
            sub.is_followed = true;
        }
        let opening = self.looks_for(&session);
        let params = json!({"threadId": thread, "excludeTurns": true});
        self.call("thread/resume", params, Call::Rejoin { session, opening, thread: thread.to_owned() });
    }

    /// A sub-agent's thread is followed again.
    pub(super) fn on_rejoined(
        &mut self,
        session: Name,
        opening: Option<Opening>,
        thread: &str,
        answer: Result<Value, RpcError>,
    ) {
        let opening = opening.filter(|opening| self.is_current(&session, *opening));
        match answer {
            Err(error) if is_temporary(&error) && opening.is_some() => {
                return self.opening_failed(session, error.message);
            }
            Err(_) => {}
            Ok(answer) => {
                let status = &answer["thread"]["status"];
                if let Some(sub) = self.subs.get_mut(thread)
                    && sub.turn == SubTurn::Unheard
                    && status["type"] != "active"
                {
                    sub.turn = SubTurn::Ended;
                }
                if waits_for_a_person(status) {
                    self.awaits_ask(&session, thread);
                }
            }
        }
        if let Some(opening) = opening {
            self.has_looked(&session, opening);
        }
    }

    /// What was asked about a thread while nobody knew whose it is; somebody does now.
    pub(super) fn ask_kept(&mut self, thread: &str) {
        for Unplaced { id, method, params, .. } in self.take_kept(thread) {
            self.on_ask(&id, &method, &params);
        }
    }

    fn refuse_kept(&mut self, thread: &str) {
        for Unplaced { id, method, .. } in self.take_kept(thread) {
            self.refuse_unknown(&id, None, &method, "agentmux does not know that thread");
        }
    }

    fn take_kept(&mut self, thread: &str) -> Vec<Unplaced> {
        let of_it: Vec<String> = self
            .unplaced
            .iter()
            .filter(|(_, asked)| asked.thread == thread)
            .map(|(key, _)| key.clone())
            .collect();
        of_it.iter().filter_map(|key| self.unplaced.remove(key)).collect()
    }
}
