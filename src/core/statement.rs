//! What a child says, and whom it concerns: every statement goes to the one place that knows what follows from it.
//!
//! **Invariant:** a child speaks only of sessions that are on it.
//!
//! Deliberately absent: what a statement is worth for mail; that is `evidence`.

use super::{Core, Step};
use crate::model::child::ChildEvent;
use crate::model::happening::What;
use crate::model::id::Nonce;
use crate::model::limits;

impl Core {
    pub(super) fn handle_child_event(&mut self, step: &mut Step, nonce: Nonce, event: ChildEvent) {
        let Some(key) = self.key_of(nonce) else { return };
        // A name may be used again on another child while the first one still speaks of its former session.
        let of_session = event.session().and_then(|name| self.ledger.sessions.get(name));
        if of_session.is_some_and(|session| session.child_key != key) {
            return;
        }
        match event {
            ChildEvent::Ready { version } => self.on_child_ready(step, key, version),
            ChildEvent::Unusable { why } => self.give_up_child(step, key, &why),
            ChildEvent::Garbled { .. } => {}
            ChildEvent::AskRefused { session, method } => {
                self.tell(step, What::QuestionRefused { session, method });
            }
            ChildEvent::TurnStruggles { session, why } => self.on_turn_struggles(step, &session, &why),
            ChildEvent::ThreadIdle { session } => self.on_thread_idle(&session),
            ChildEvent::ThreadOpened { session, thread, busy, turn } => {
                self.on_thread_opened(step, &session, &thread, busy, turn)
            }
            ChildEvent::ThreadFailed { session, temporary, why } => {
                if let Some(running) = self.sessions.get_mut(&session) {
                    running.overdue = 0;
                }
                self.on_thread_failed(step, &session, temporary, &why)
            }
            ChildEvent::ThreadGone { session } => self.on_thread_gone(step, &session),
            ChildEvent::TurnAccepted { session, claim, turn } => {
                self.on_turn_accepted(step, &session, claim, &turn)
            }
            ChildEvent::TurnRefused { session, claim, temporary, why } => {
                self.on_turn_refused(step, &session, claim, temporary, &why);
            }
            ChildEvent::TurnMissed { session, claim, why } => {
                self.on_turn_missed(step, &session, claim, &why)
            }
            ChildEvent::InterruptRefused { session, .. } => self.on_interrupt_refused(step, &session),
            ChildEvent::SubsInterrupted { session, turns, refused } => {
                self.on_subs_interrupted(step, &session, turns, refused.as_deref());
            }
            ChildEvent::AskUnplaced { key, times } => self.on_ask_unplaced(step, nonce, key, times),
            ChildEvent::CloseRefused { session, why } => self.on_close_refused(step, &session, &why),
            ChildEvent::Boundary { session, at_boundary } => self.on_boundary(&session, at_boundary),
            ChildEvent::InputTaken { session, claim, turn } => {
                self.on_input_taken(step, &session, claim, &turn)
            }
            ChildEvent::TurnStarted { session, turn } => self.on_turn_started(&session, &turn),
            ChildEvent::TurnEnded { session, turn, outcome } => {
                self.on_turn_ended(step, &session, &turn, &outcome)
            }
            ChildEvent::ClaimsFound { session, present, absent, busy } => {
                self.on_claims_found(step, &session, &present, &absent, busy);
            }
            ChildEvent::StatusTold { session, busy } => self.on_status_told(step, &session, busy),
            ChildEvent::StatusRefused { session, why } => self.on_status_refused(step, &session, &why),
            ChildEvent::CompactBegun { session } => self.on_compact_begun(&session),
            ChildEvent::CompactRefused { session, temporary, why } => {
                self.on_compact_refused(step, &session, temporary, &why);
            }
            ChildEvent::HistoryUnread { session, why } => self.on_history_unread(step, &session, &why),
            ChildEvent::ApprovalAsked(asked) => self.on_approval_asked(step, nonce, asked),
            ChildEvent::ApprovalResolved { key } => self.on_approval_resolved(step, nonce, &key),
            ChildEvent::OwnTools { session, state } => self.on_own_tools(step.now, &session, state),
            ChildEvent::SkillsListed { session, names } => {
                if let Some(running) = self.sessions.get_mut(&session) {
                    running.skills = names.into_iter().take(limits::SKILLS_MAX).collect();
                }
            }
            // Told to those who watch; nothing else follows from it.
            ChildEvent::Said { .. } => {}
            ChildEvent::ItemDone { session, turn, item } => {
                self.closing_saw_item(&session, turn.as_ref(), &item);
            }
            ChildEvent::TokensUsed { session, tokens } => {
                if let Some(running) = self.sessions.get_mut(&session) {
                    running.tokens = Some(tokens);
                }
            }
            ChildEvent::ItemsRead { token, items } => self.waiting_got_items(step, token, items),
        }
    }
}
