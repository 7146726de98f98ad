//! Sub-agents: threads that the model of a session's thread, or of another such thread, has begun beside it.
//!
//! Measured with 0.169.0: whoever follows a thread follows what it begins, too, and is asked about it. No `thread/started` tells of one;
//! the item of the call that began it (`collabAgentToolCall`) names it when it is done, and `thread/read` its parent (`seek.rs`); what a
//! person forks has none (`forkedFromId` instead).
//!
//! | Its turn | Then `interrupt` and `close` (`end.rs`) |
//! | --- | --- |
//! | runs, by its id | interrupt it |
//! | may run, nobody has heard | ask which, and interrupt that |
//! | has ended | leave it alone |
//!
//! **Invariant:** a sub-agent's turn ends with what its session is doing: by interrupt, and when the session's thread is left.
//! **Invariant:** what is kept of them is bounded; one that was forgotten is found again when it asks, and ended when it runs.
//!
//! Deliberately absent: what they say. Their parent's thread has what became of it.

use serde_json::Value;

use super::Codex;
use super::notice::turn_id;
use super::thread::{changed_paths, waits_for_a_person};
use crate::model::id::TurnId;
use crate::model::limits;
use crate::model::name::Name;

/// A thread that a sub-agent works in.
#[derive(Debug)]
pub(super) struct Sub {
    /// Whose thread it descends from.
    pub(super) session: Name,
    pub(super) turn: SubTurn,
    /// Whether its session's opening has heard what it asks, or was there when it began.
    pub(super) is_followed: bool,
    /// The last change of files that began: its item and its paths.
    pub(super) change: Option<(String, String)>,
}

/// What is known of a sub-agent's turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SubTurn {
    /// One may have begun before anybody here listened.
    Unheard,
    Runs(TurnId),
    Ended,
}

impl SubTurn {
    pub(super) fn id(&self) -> Option<TurnId> {
        match self {
            SubTurn::Runs(turn) => Some(turn.clone()),
            SubTurn::Unheard | SubTurn::Ended => None,
        }
    }
}

impl Codex {
    /// The session that a thread belongs to, itself or by descent.
    pub(super) fn owner_of(&self, thread: &str) -> Option<Name> {
        self.session_of(thread).or_else(|| self.subs.get(thread).map(|sub| sub.session.clone()))
    }

    /// A tool call of a session's thread, or of its sub-agent's, may have begun other threads.
    pub(super) fn learn_subs(&mut self, session: &Name, item: &Value) {
        let begins = item["type"] == "collabAgentToolCall"
            && ["spawnAgent", "resumeAgent"].iter().any(|tool| item["tool"] == *tool);
        let threads = item["receiverThreadIds"].as_array().filter(|_| begins);
        for thread in threads.into_iter().flatten().filter_map(Value::as_str) {
            self.know_sub(thread, session.clone());
        }
    }

    /// A thread is a session's sub-agent's; what it has asked is asked now.
    pub(super) fn know_sub(&mut self, thread: &str, session: Name) {
        if self.owner_of(thread).is_none() {
            if self.subs.len() >= limits::SUB_THREADS_MAX {
                self.forget_a_sub();
            }
            let sub = Sub { session, turn: SubTurn::Unheard, is_followed: true, change: None };
            self.subs.insert(thread.to_owned(), sub);
        }
        self.ask_kept(thread);
    }

    /// Makes room for another one.
    fn forget_a_sub(&mut self) {
        // The ids of threads are in the order of time, so that the first is the oldest.
        let ended = self.subs.iter().find(|(_, sub)| sub.turn == SubTurn::Ended);
        let Some(oldest) = ended.or(self.subs.iter().next()).map(|(thread, _)| thread.clone()) else {
            return;
        };
        if let Some(Sub { turn: turn @ (SubTurn::Runs(_) | SubTurn::Unheard), .. }) =
            self.subs.remove(&oldest)
        {
            self.abandon(&oldest, turn.id());
        }
    }

    /// What is told of a sub-agent's thread, if it is one.
    pub(super) fn on_sub_notice(&mut self, thread: &str, method: &str, params: &Value) {
        let Some(sub) = self.subs.get_mut(thread) else { return };
        let session = sub.session.clone();
        match method {
            "turn/started" => sub.hear(&params["turn"]["id"]),
            "turn/completed" => sub.turn = SubTurn::Ended,
            "item/started" | "item/completed" => {
                sub.hear(&params["turnId"]);
                let item = &params["item"];
                sub.change = changed_paths(item).or(sub.change.take());
                self.learn_subs(&session, item);
            }
            "thread/status/changed" if params["status"]["type"] == "notLoaded" => {
                self.subs.remove(thread);
            }
            "thread/status/changed"
                if params["status"]["type"] != "active" && sub.turn == SubTurn::Unheard =>
            {
                sub.turn = SubTurn::Ended;
            }
            "thread/closed" => {
                self.subs.remove(thread);
            }
            _ => {}
        }
        // What it asked was settled, or is over with its thread.
        let is_status = method == "thread/status/changed" && !waits_for_a_person(&params["status"]);
        if is_status || method == "thread/closed" {
            self.asks_no_more(&session, thread);
        }
    }

    /// A question names the turn that waits; without having heard of its beginning nothing else does.
    pub(super) fn learn_sub_turn(&mut self, params: &Value) {
        let thread = params["threadId"].as_str().unwrap_or_default();
        if let Some(sub) = self.subs.get_mut(thread) {
            sub.hear(&params["turnId"]);
        }
    }
}

impl Sub {
    /// Something names the turn that runs in it.
    fn hear(&mut self, turn: &Value) {
        if let Some(turn) = turn_id(turn) {
            self.turn = SubTurn::Runs(turn);
        }
    }
}
