//! Approvals: questions of a child that wait for a person in a pane, or for their deadline.
//!
//! **Invariant:** G10: nothing here answers yes. A pane may, at the child; the deadline declines and the reason is stored.
//!
//! Deliberately absent, until the verbs exist: `approvals`, `approve` and `deny`.

use super::action::Action;
use super::record::Record;
use super::timer::Timer;
use super::{Core, Step};
use crate::model::child::{ApprovalAsked, ChildCommand};
use crate::model::id::Nonce;
use crate::model::limits;
use crate::model::name::Name;

/// One open approval.
#[derive(Debug)]
pub(super) struct Approval {
    nonce: Nonce,
    session: Name,
    child_key: String,
    /// Whether its session was gone when it was asked; a later one of that name has nothing to do with it.
    is_orphan: bool,
}

impl Core {
    pub(super) fn has_approval(&self, name: &Name) -> bool {
        self.approvals.values().any(|approval| approval.session == *name && !approval.is_orphan)
    }

    pub(super) fn on_approval_asked(&mut self, step: &mut Step, nonce: Nonce, asked: ApprovalAsked) {
        let key = format!("{nonce}/{}", asked.key);
        if self.approvals.contains_key(&key) {
            return;
        }
        let ApprovalAsked { key: child_key, session, kind, summary } = asked;
        self.timers.set(Timer::Approval(key.clone()), step.now.plus(limits::APPROVAL_MS));
        let record =
            Record::ApprovalAsked { session: session.clone(), key: key.clone(), kind, summary, at: step.now };
        self.record(step, record);
        self.touch(&session);
        let is_orphan = !self.ledger.sessions.contains_key(&session);
        self.approvals.insert(key, Approval { nonce, session, child_key, is_orphan });
    }

    pub(super) fn on_approval_resolved(&mut self, step: &mut Step, nonce: Nonce, child_key: &str) {
        self.settle_approval(
            step,
            &format!("{nonce}/{child_key}"),
            "elsewhere",
            "answered in a pane, or its turn ended",
        );
    }

    pub(super) fn handle_approval_overdue(&mut self, step: &mut Step, key: &str) {
        let Some(approval) = self.approvals.get(key) else { return };
        let command = ChildCommand::Decline { key: approval.child_key.clone() };
        step.act(Action::Command { nonce: approval.nonce, command });
        let reason = format!("nobody answered within {} min", limits::APPROVAL_MS / 60_000);
        self.settle_approval(step, key, "declined", &reason);
    }

    /// The thread is gone, and with it whatever it asked.
    pub(super) fn forget_approvals_of(&mut self, step: &mut Step, name: &Name, why: &str) {
        self.forget_approvals(step, why, |approval| approval.session == *name);
    }

    /// The child is gone, and with it whatever its threads asked.
    pub(super) fn forget_approvals_by(&mut self, step: &mut Step, nonce: Nonce, why: &str) {
        self.forget_approvals(step, why, |approval| approval.nonce == nonce);
    }

    fn forget_approvals(&mut self, step: &mut Step, why: &str, is_over: impl Fn(&Approval) -> bool) {
        let over = self.approvals.iter().filter(|(_, approval)| is_over(approval));
        let keys: Vec<String> = over.map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.settle_approval(step, &key, "elsewhere", why);
        }
    }

    fn settle_approval(&mut self, step: &mut Step, key: &str, decision: &str, reason: &str) {
        let Some(approval) = self.approvals.remove(key) else { return };
        self.timers.clear(&Timer::Approval(key.to_owned()));
        let record = Record::ApprovalSettled {
            session: approval.session.clone(),
            key: key.to_owned(),
            decision: decision.to_owned(),
            reason: reason.to_owned(),
            at: step.now,
        };
        self.record(step, record);
        self.touch(&approval.session);
    }
}
