//! Turns of a thread: starting one, joining or interrupting it, and which one runs.
//!
//! **Invariant:** a refusal here means that the child does not hold the input; evidence that it does is only in `notice`.

use serde_json::json;

use super::Codex;
use super::call::Call;
use crate::model::child::ChildEvent;
use crate::model::id::{ClaimId, TurnId};
use crate::model::name::Name;
use crate::wire::rpc::RpcError;

/// The input is too large.
const INVALID_PARAMS: i64 = -32_602;

impl Codex {
    pub(super) fn start_turn(&mut self, session: Name, claim: ClaimId, text: &str) {
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

    /// Whether the child has yet to answer a request to start a turn.
    pub(super) fn is_turn_asked_for(&self, of: &Name) -> bool {
        self.calls.values().any(|call| matches!(call, Call::Turn { session, .. } if session == of))
    }

    pub(super) fn steer_turn(&mut self, session: Name, claim: ClaimId, turn: &TurnId, text: &str) {
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

    pub(super) fn interrupt_own(&mut self, session: Name, turn: &TurnId) {
        let Some(thread) = self.threads.get(&session) else {
            let why = "the thread is not open".to_owned();
            return self.events.push_back(ChildEvent::InterruptRefused { session, why });
        };
        let params = json!({"threadId": &*thread.id, "turnId": &**turn});
        self.call("turn/interrupt", params, Call::Interrupt { session });
    }

    pub(super) fn on_turn_refused(&mut self, session: Name, claim: ClaimId, error: RpcError) {
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
    pub(super) fn on_steer_refused(&mut self, session: Name, claim: ClaimId, error: RpcError) {
        let missed = ["no active turn", "expected active turn"].iter().any(|how| error.message.contains(how));
        if missed {
            let why = error.message;
            return self.events.push_back(ChildEvent::TurnMissed { session, claim, why });
        }
        self.on_turn_refused(session, claim, error);
    }

    /// A thread's running turn is known now; a thread that only waited for that is left.
    pub(super) fn turn_is_known(&mut self, session: &Name, turn: TurnId) {
        let Some(thread) = self.threads.get_mut(session) else { return };
        thread.turn = Some(turn);
        thread.expected = false;
        if thread.closing {
            self.leave_thread(session.clone());
        }
    }
}
