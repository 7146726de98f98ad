//! A thread of a session that is open, and how it is left.
//!
//! **Invariant:** a thread is left only when no turn runs in it or its turn can be interrupted, which needs the turn's id.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Codex;
use super::call::Call;
use super::end::{Then, last_turn_of, running_turn};
use super::opening::{Opening, is_temporary};
use super::stream::Saying;
use crate::model::child::ChildEvent;
use crate::model::clock::Millis;
use crate::model::id::{ThreadId, TurnId};
use crate::model::limits;
use crate::model::name::Name;
use crate::wire::rpc::RpcError;

/// A thread of ours.
#[derive(Debug)]
pub(super) struct Thread {
    pub(super) id: ThreadId,
    /// The opening that it was opened by.
    number: Opening,
    /// The turn that runs, as far as the child has told.
    pub(super) turn: Option<TurnId>,
    /// Since when that turn runs, if it ran before the thread was opened and the child has said so.
    pub(super) turn_since: Option<Millis>,
    /// Whether it was busy when it was resumed, with a turn whose id we have not heard.
    pub(super) busy: bool,
    /// Whether a turn was asked for that has not shown itself yet.
    pub(super) expected: bool,
    /// The directory whose skills count.
    pub(super) dir: String,
    /// Items of the running turn that are tools at work.
    pub(super) tools: BTreeSet<String>,
    /// Whether an item of the model's own is being written, so that its response still streams.
    pub(super) writing: bool,
    /// The message that is being written, while somebody listens.
    pub(super) saying: Option<Saying>,
    /// The last change of files that began: its item and its paths, for when it is asked about.
    pub(super) change: Option<(String, String)>,
    /// Whether it shall be left as soon as the id of its turn is known, to interrupt that.
    pub(super) closing: bool,
    /// Whether the child has said once that no turn runs in it, since it shall be left.
    seems_idle: bool,
    /// Whether it is left as soon as its turn and those of its sub-agents are interrupted.
    leaving: bool,
}

impl Thread {
    /// A thread that was just opened, in which a turn may run.
    pub(super) fn new(id: ThreadId, number: Opening, dir: String, busy: bool) -> Thread {
        Thread {
            id,
            number,
            turn: None,
            turn_since: None,
            busy,
            expected: false,
            dir,
            tools: BTreeSet::new(),
            writing: false,
            saying: None,
            change: None,
            closing: false,
            seems_idle: false,
            leaving: false,
        }
    }
}

impl Thread {
    /// Whether input can join the turn without a stream being thrown away. Codex starts a tool when the response has named it, and the
    /// response may go on; that it is complete is told only when the tools are done (`thread/tokenUsage/updated`, 0.157.0 to 0.169.0).
    /// So what counts is whether an item is being written. A second call whose arguments stream beside a tool at work is not seen.
    pub(super) fn is_at_boundary(&self) -> bool {
        !self.tools.is_empty() && !self.writing
    }
}

impl Thread {
    /// It shall not be left after all.
    pub(super) fn stay(&mut self) {
        (self.closing, self.seems_idle, self.leaving) = (false, false, false);
    }

    /// Whether this opening has opened it.
    pub(super) fn is_of(&self, opening: Opening) -> bool {
        self.number == opening
    }
}

impl Codex {
    pub(super) fn close_thread(&mut self, session: Name) {
        self.openings.remove(&session);
        let Some(thread) = self.threads.get_mut(&session) else {
            self.leave_subs(&session);
            return self.events.push_back(ChildEvent::ThreadGone { session });
        };
        // A turn can only be interrupted by its id, and an interrupt before it has begun is refused.
        if thread.turn.is_none() && (thread.busy || thread.expected) {
            thread.closing = true;
            let (params, number) = (last_turn_of(&thread.id), thread.number);
            return self.call("thread/turns/list", params, Call::TurnToLeave { session, number });
        }
        self.leave_thread(session);
    }

    /// The child has said which turn runs in a thread that shall be left, or that none does; which is believed the second time, because
    /// its history comes a moment after its words.
    pub(super) fn on_turn_to_leave(
        &mut self,
        session: Name,
        number: Opening,
        answer: Result<Value, RpcError>,
    ) {
        let closing =
            |thread: &&mut Thread| thread.number == number && thread.closing && thread.turn.is_none();
        let Some(thread) = self.threads.get_mut(&session).filter(closing) else { return };
        match answer {
            Err(error) if is_temporary(&error) => {
                thread.closing = false;
                self.events.push_back(ChildEvent::CloseRefused { session, why: error.message });
            }
            Ok(answer) => match running_turn(&answer) {
                Some(turn) => self.turn_is_known(&session, turn),
                None if std::mem::replace(&mut thread.seems_idle, true) => self.has_no_turn(session),
                None => {}
            },
            // It shows itself with its next word.
            Err(error) => self.events.push_back(ChildEvent::CloseRefused { session, why: error.message }),
        }
    }

    /// No turn runs in a thread, although none that was heard of has ended, or one was to begin.
    pub(super) fn has_no_turn(&mut self, session: Name) {
        // The one that is asked for begins later.
        if self.is_turn_asked_for(&session) {
            return;
        }
        let Some(thread) = self.threads.get_mut(&session).filter(|thread| thread.turn.is_none()) else {
            return;
        };
        (thread.busy, thread.expected) = (false, false);
        if thread.closing {
            self.leave_thread(session);
        }
    }

    /// Interrupts a thread's turn, if its id is known, then those of its sub-agents, and unsubscribes from them all.
    pub(super) fn leave_thread(&mut self, session: Name) {
        let Some(thread) = self.threads.get_mut(&session) else { return };
        thread.closing = false;
        thread.seems_idle = false;
        thread.leaving = true;
        let number = thread.number;
        let Some(turn) = thread.turn.clone() else { return self.end_subs(session, Then::Leave(number)) };
        let params = json!({"threadId": &*thread.id, "turnId": &*turn});
        self.call("turn/interrupt", params, Call::Leave { session, number });
    }

    /// A thread whose turn was interrupted is left; one whose turn the child would not end for now is not, because it would run on.
    /// Any other refusal means that the turn is over.
    pub(super) fn on_interrupted_to_leave(
        &mut self,
        session: Name,
        number: Opening,
        answer: Result<Value, RpcError>,
    ) {
        match answer {
            Err(error) if is_temporary(&error) => self.leaves(session, number, Some(error.message)),
            _ => self.end_subs(session, Then::Leave(number)),
        }
    }

    /// No turn is left in a thread and those of its sub-agents, or the child would not end one for now.
    pub(super) fn leaves(&mut self, session: Name, number: Opening, refused: Option<String>) {
        // Who is opened again meanwhile is not left any more.
        let is_meant =
            |thread: &&mut Thread| thread.number == number && !self.openings.contains_key(&session);
        let Some(thread) = self.threads.get_mut(&session).filter(is_meant) else { return };
        if !std::mem::take(&mut thread.leaving) {
            return;
        }
        if let Some(why) = refused {
            return self.events.push_back(ChildEvent::CloseRefused { session, why });
        }
        self.leave_subs(&session);
        self.call_of(session, "thread/unsubscribe", |session| Call::Unsubscribe { session, number });
    }

    /// The child has let go of a thread, unless it was opened again meanwhile.
    pub(super) fn on_unsubscribed(
        &mut self,
        session: Name,
        number: Opening,
        answer: Result<Value, RpcError>,
    ) {
        if self.threads.get(&session).is_none_or(|thread| thread.number != number) {
            return;
        }
        if let Err(error) = answer
            && is_temporary(&error)
        {
            let why = error.message;
            return self.events.push_back(ChildEvent::CloseRefused { session, why });
        }
        self.threads.remove(&session);
        self.events.push_back(ChildEvent::ThreadGone { session });
    }

    /// Asks for something that only the thread's id says.
    pub(super) fn call_of(&mut self, session: Name, method: &str, call: impl FnOnce(Name) -> Call) {
        if let Some(thread) = self.threads.get(&session) {
            let params = json!({"threadId": &*thread.id});
            self.call(method, params, call(session));
        }
    }

    pub(super) fn session_of(&self, thread: &str) -> Option<Name> {
        self.threads.iter().find(|(_, known)| &*known.id == thread).map(|(name, _)| name.clone())
    }
}

/// The item of a change of files, and its paths, for when it is asked about.
pub(super) fn changed_paths(item: &Value) -> Option<(String, String)> {
    let id = item["id"].as_str().filter(|_| item["type"] == "fileChange")?;
    let changes = item["changes"].as_array().into_iter().flatten();
    let paths: Vec<&str> =
        changes.filter_map(|change| change["path"].as_str()).take(limits::CHANGED_PATHS_SHOWN).collect();
    Some((id.to_owned(), paths.join(", ")))
}

/// Whether a thread's status says that a person is asked.
pub(super) fn waits_for_a_person(status: &Value) -> bool {
    let flags = status["activeFlags"].as_array();
    flags.into_iter().flatten().any(|flag| flag == "waitingOnApproval" || flag == "waitingOnUserInput")
}
