//! Ending turns: those of a session's sub-agents, with what their session is doing, and those of threads that nobody here has any more.
//!
//! | Asked for | First | Then |
//! | --- | --- | --- |
//! | an interrupt | the sub-agents' turns are ended | the session's own |
//! | an interrupt where no turn of its own runs | the same | it is told how many there were |
//! | the end of a session's thread | its own turn is ended | the sub-agents', and all these threads are left |
//! | nothing: nobody has the thread any more | its turn is ended | it is left |
//!
//! **Invariant:** a thread is left only when its turn has ended, or could not be ended after some attempts and nobody is there to be told.

use serde_json::{Value, json};

use super::Codex;
use super::call::Call;
use super::notice::turn_id;
use super::opening::{Opening, is_temporary};
use super::sub::SubTurn;
use crate::model::child::ChildEvent;
use crate::model::id::TurnId;
use crate::model::limits;
use crate::model::name::Name;
use crate::wire::rpc::RpcError;

/// The turns of a session's sub-agents that are being ended.
#[derive(Debug)]
pub(super) struct Ending {
    session: Name,
    then: Then,
    /// Answers that are missing.
    left: u32,
    /// Turns that were ended.
    ended: u32,
    /// Why one could not be ended for now.
    refused: Option<String>,
}

/// What follows when they have ended.
#[derive(Debug)]
pub(super) enum Then {
    Tell,
    Interrupt(TurnId),
    Leave(Opening),
}

/// What was asked of a thread whose turn shall end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// Which turn runs in it.
    Turn,
    /// To interrupt that.
    End,
}

impl Codex {
    /// Ends the turns of a session's sub-agents.
    pub(super) fn end_subs(&mut self, session: Name, then: Then) {
        let works = |sub: &super::sub::Sub| sub.session == session && sub.turn != SubTurn::Ended;
        let at_work: Vec<(String, Option<TurnId>)> = self
            .subs
            .iter()
            .filter(|(_, sub)| works(sub))
            .map(|(thread, sub)| (thread.clone(), sub.turn.id()))
            .collect();
        self.last_ending += 1;
        let (number, left) = (self.last_ending, at_work.len() as u32);
        self.endings.insert(number, Ending { session, then, left, ended: 0, refused: None });
        for (thread, turn) in at_work {
            let (method, params, asked) = end_of(&thread, turn.as_ref());
            self.call(method, params, Call::EndSub { ending: number, thread, turn, asked });
        }
        self.conclude(number);
    }

    /// The child has said which turn runs in a sub-agent's thread, or ended that.
    pub(super) fn on_sub_ended(
        &mut self,
        number: u64,
        thread: String,
        turn: Option<TurnId>,
        asked: Asked,
        answer: Result<Value, RpcError>,
    ) {
        if asked == Asked::Turn
            && let Some(turn) = answer.as_ref().ok().and_then(running_turn)
        {
            let (method, params, asked) = end_of(&thread, Some(&turn));
            return self.call(
                method,
                params,
                Call::EndSub { ending: number, thread, turn: Some(turn), asked },
            );
        }
        let Some(ending) = self.endings.get_mut(&number) else { return };
        ending.left -= 1;
        match answer {
            Err(error) if is_temporary(&error) => ending.refused = Some(error.message),
            answer => {
                ending.ended += u32::from(asked == Asked::End && answer.is_ok());
                // Another one may have begun since.
                let is_meant = |sub: &&mut super::sub::Sub| sub.turn.id().is_none() || sub.turn.id() == turn;
                if let Some(sub) = self.subs.get_mut(&thread).filter(is_meant) {
                    sub.turn = SubTurn::Ended;
                }
            }
        }
        self.conclude(number);
    }

    fn conclude(&mut self, number: u64) {
        if self.endings.get(&number).is_none_or(|ending| ending.left > 0) {
            return;
        }
        let Some(Ending { session, then, ended, refused, .. }) = self.endings.remove(&number) else { return };
        match (then, refused) {
            (Then::Tell, refused) => {
                self.events.push_back(ChildEvent::SubsInterrupted { session, turns: ended, refused });
            }
            (Then::Interrupt(_), Some(why)) => {
                self.events.push_back(ChildEvent::InterruptRefused { session, why });
            }
            (Then::Interrupt(turn), None) => self.interrupt_own(session, &turn),
            (Then::Leave(number), refused) => self.leaves(session, number, refused),
        }
    }

    /// Leaves the threads of a session's sub-agents; what still works in one ends.
    pub(super) fn leave_subs(&mut self, session: &Name) {
        let of_it = self.subs.iter().filter(|(_, sub)| sub.session == *session);
        let left: Vec<String> = of_it.map(|(thread, _)| thread.clone()).collect();
        for thread in left {
            match self.subs.remove(&thread).map(|sub| sub.turn) {
                Some(SubTurn::Ended) | None => {
                    self.call("thread/unsubscribe", json!({"threadId": thread}), Call::Plain);
                }
                Some(turn) => self.abandon(&thread, turn.id()),
            }
        }
    }

    /// Nobody has a thread any more: the turn that may run in it ends, and it is left to unload.
    pub(super) fn abandon(&mut self, thread: &str, turn: Option<TurnId>) {
        let (method, params, asked) = end_of(thread, turn.as_ref());
        self.call(method, params, Call::Abandon { thread: thread.to_owned(), turn, asked, times: 0 });
    }

    pub(super) fn on_abandoned(
        &mut self,
        thread: String,
        turn: Option<TurnId>,
        asked: Asked,
        times: u32,
        answer: Result<Value, RpcError>,
    ) {
        // Somebody has it again.
        if self.owner_of(&thread).is_some() || self.is_being_opened(&thread) {
            return;
        }
        let again = answer.as_ref().is_err_and(is_temporary) && times < limits::ABANDON_TIMES_MAX;
        let turn = match asked {
            _ if again => turn,
            Asked::Turn => answer.as_ref().ok().and_then(running_turn),
            Asked::End => None,
        };
        if turn.is_some() || again {
            let (method, params, asked) = end_of(&thread, turn.as_ref());
            let times = times + u32::from(again);
            return self.call(method, params, Call::Abandon { thread, turn, asked, times });
        }
        self.call("thread/unsubscribe", json!({"threadId": thread}), Call::Plain);
    }
}

/// How a thread's turn is ended: by its id, which has to be known first.
fn end_of(thread: &str, turn: Option<&TurnId>) -> (&'static str, Value, Asked) {
    match turn {
        Some(turn) => ("turn/interrupt", json!({"threadId": thread, "turnId": &**turn}), Asked::End),
        None => ("thread/turns/list", last_turn_of(thread), Asked::Turn),
    }
}

/// Parameters that ask for the last turn of a thread.
pub(super) fn last_turn_of(thread: &str) -> Value {
    json!({"threadId": thread, "limit": 1, "sortDirection": "desc"})
}

/// The turn that runs, when the last one does.
pub(super) fn running_turn(answer: &Value) -> Option<TurnId> {
    let last = &answer["data"][0];
    turn_id(&last["id"]).filter(|_| last["status"] == "inProgress")
}
