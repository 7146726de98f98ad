//! Requests of ours that wait for an answer, and what each answer means.
//!
//! **Invariant:** an answer is taken once, by the number of its request; one that nothing here waits for means nothing.
//!
//! Deliberately absent: deadlines; the core has one for everything that it waits for.

use serde_json::{Value, json};

use super::end::Asked;
use super::opening::{Opening, is_temporary, told};
use super::{Codex, history};
use crate::model::child::ChildEvent;
use crate::model::id::{ClaimId, ThreadId, TurnId};
use crate::model::name::Name;
use crate::wire::rpc::RpcError;

/// A request of ours that waits for its answer.
#[derive(Debug)]
pub(super) enum Call {
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
    Remind {
        session: Name,
        opening: Opening,
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
        opening: Opening,
    },
    Status {
        session: Name,
    },
    Compact {
        session: Name,
    },
    /// The threads that are loaded, asked for by a session that opens.
    Loaded {
        session: Name,
        opening: Opening,
        page: u32,
    },
    /// What a thread that is looked for descends from.
    Parent {
        thread: String,
    },
    /// A sub-agent's thread is resumed, by an opening if its session waits for that.
    Rejoin {
        session: Name,
        opening: Option<Opening>,
        thread: String,
    },
    /// The turn of a sub-agent, or its end.
    EndSub {
        ending: u64,
        thread: String,
        turn: Option<TurnId>,
        asked: Asked,
    },
    /// The turn of a thread that nobody has any more, or its end; and how often that was refused for now.
    Abandon {
        thread: String,
        turn: Option<TurnId>,
        asked: Asked,
        times: u32,
    },
    Find(history::Find),
    Look(history::Look),
    /// The turn of a thread that is left as soon as that is known.
    TurnToLeave {
        session: Name,
        number: Opening,
    },
    /// The interrupt of a thread's turn, before the thread is left.
    Leave {
        session: Name,
        number: Opening,
    },
    Unsubscribe {
        session: Name,
        number: Opening,
    },
    /// Answers that change nothing: a reminder, leaving a thread that nobody waits for.
    Plain,
}

impl Codex {
    pub(super) fn on_answer(&mut self, call: Call, result: Result<Value, RpcError>) {
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
                    self.looks_for(&session);
                    let call = Call::Remind { session: session.clone(), opening };
                    self.call("thread/inject_items", told(&thread, &reminder), call);
                }
                self.on_resumed(session, opening, thread, &answer["thread"]["status"]);
            }
            (Call::Inject { session, opening, thread }, Err(error)) => {
                // The next attempt begins another thread.
                self.call("thread/unsubscribe", json!({"threadId": &*thread}), Call::Plain);
                self.opening_refused(session, opening, error);
            }
            (
                Call::StartThread { session, opening, .. } | Call::Resume { session, opening, .. },
                Err(error),
            ) => self.opening_refused(session, opening, error),
            // What a close has left is told for sure, or the opening is tried again.
            (Call::Remind { session, opening }, answer) => match answer {
                Err(error) if is_temporary(&error) && self.is_current(&session, opening) => {
                    self.opening_failed(session, error.message);
                }
                _ => self.has_looked(&session, opening),
            },
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
            (Call::RunningTurn { session, opening }, answer) => {
                self.on_running_turn(session, opening, answer);
            }
            (Call::Status { session }, Ok(answer)) => {
                let busy = answer["thread"]["status"]["type"] == "active";
                if !busy {
                    self.has_no_turn(session.clone());
                }
                self.events.push_back(ChildEvent::StatusTold { session, busy });
            }
            (Call::Status { session }, Err(error)) => {
                self.events.push_back(ChildEvent::StatusRefused { session, why: error.message });
            }
            (Call::Compact { session }, Ok(_)) => {
                self.events.push_back(ChildEvent::CompactBegun { session });
            }
            (Call::Compact { session }, Err(error)) => {
                let (temporary, why) = (is_temporary(&error), error.message);
                self.events.push_back(ChildEvent::CompactRefused { session, temporary, why });
            }
            (Call::Loaded { session, opening, page }, answer) => {
                self.on_loaded(session, opening, page, answer)
            }
            (Call::Parent { thread }, answer) => self.on_parent(thread, answer),
            (Call::Rejoin { session, opening, thread }, answer) => {
                self.on_rejoined(session, opening, &thread, answer);
            }
            (Call::EndSub { ending, thread, turn, asked }, answer) => {
                self.on_sub_ended(ending, thread, turn, asked, answer);
            }
            (Call::Abandon { thread, turn, asked, times }, answer) => {
                self.on_abandoned(thread, turn, asked, times, answer);
            }
            (Call::Find(find), answer) => self.on_history_page(find, answer),
            (Call::Look(look), answer) => self.on_look_page(look, answer),
            (Call::TurnToLeave { session, number }, answer) => self.on_turn_to_leave(session, number, answer),
            (Call::Leave { session, number }, answer) => {
                self.on_interrupted_to_leave(session, number, answer);
            }
            (Call::Unsubscribe { session, number }, answer) => self.on_unsubscribed(session, number, answer),
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
}
