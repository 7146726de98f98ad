//! Approvals: questions of a child that wait for a person, in a pane or by verb, or for their deadline.
//!
//! | Settled by | Recorded as |
//! | --- | --- |
//! | `approve`, `deny` | `approved`, `approvedAlways`, `denied` by `operator` |
//! | a pane, which told before it passed the answer on | `approved`, `approvedAlways`, `denied` by `operator`, in a pane |
//! | two panes at once, with different answers | `elsewhere`: nobody knows which the child took |
//! | the end of its turn by `interrupt`, `close`, `down`, `remove` or mail for now | `cancelled` by who asked for that |
//! | something else (`serverRequest/resolved` of Codex): another screen, the turn's own end | `elsewhere` |
//! | the deadline | `declined` by `deadline`; `cancelled`, with the turn, where that is wanted and offered |
//!
//! What is open is in the ledger, too: the child goes on asking when a relay is killed, and the next one is told again. Until
//! then an approval is *unheard*: known, but nothing can be answered.
//!
//! **Invariant:** G10: `Approve`, and any `Choose` that says yes, is commanded in `core/request/approve.rs` and nowhere else (but for
//! the planted bug), for the operator's own request.

use std::collections::{BTreeMap, BTreeSet};

use super::action::Action;
use super::conn::Ask;
use super::planted::Planted;
use super::record::Record;
use super::running::Phase;
use super::timer::Timer;
use super::{Core, Step};
use crate::model::child::{Always, ApprovalAsked, ChildCommand, Choice};
use crate::model::clock::{Millis, age};
use crate::model::id::{Nonce, approval_id, is_approval};
use crate::model::limits;
use crate::model::name::Name;
use crate::protocol::answer::{Answer, ApprovalInfo, Approvals};

/// The answer that ends the turn, too.
const CANCEL: &str = "cancel";

/// Answers that say no, by the names that children have for them.
const NOES: &[&str] = &["decline", CANCEL, "denied", "abort"];

/// One open approval that its child is known to ask.
#[derive(Debug)]
pub(super) struct Approval {
    pub nonce: Nonce,
    pub session: Name,
    pub child_key: String,
    pub kind: String,
    pub summary: String,
    command: Option<String>,
    cwd: Option<String>,
    pub decisions: Vec<String>,
    pub can_approve: bool,
    pub always: Option<Always>,
    pub choices: BTreeMap<String, Choice>,
    asked_at: Millis,
    deadline_at: Option<Millis>,
    pane: Option<PaneAnswer>,
    /// Whether its session was gone when it was asked; a later one of that name has nothing to do with it.
    is_orphan: bool,
}

/// What a pane was heard to answer. It passes that on at once, so that the child settles the approval soon; but a pane may die.
#[derive(Debug)]
struct PaneAnswer {
    /// By the child's name for it; `None` when two panes gave different answers.
    word: Option<String>,
    at: Millis,
}

impl Approval {
    /// Until when the answer of a pane is on its way to the child, so that any other would come too late and be called the one.
    pub fn answered_until(&self, now: Millis) -> Option<Millis> {
        let until = self.pane.as_ref()?.at.plus(limits::PANE_ANSWER_MS);
        (now < until).then_some(until)
    }

    /// What an answer by that name is recorded as.
    fn decision_of(&self, word: &str) -> &'static str {
        match self.choices.get(word) {
            Some(choice) if choice.is_no => "denied",
            Some(choice) if choice.lasting.is_some() => "approvedAlways",
            Some(_) => "approved",
            None if NOES.contains(&word) => "denied",
            None if word.contains("mendment") || word == "always" => "approvedAlways",
            None => "approved",
        }
    }
}

impl Core {
    pub(super) fn has_approval(&self, name: &Name) -> bool {
        self.approvals.values().any(|approval| approval.session == *name && !approval.is_orphan)
    }

    /// The session that an approval is of, if a reference leads to a single one.
    pub fn approval_session(&self, reference: &str) -> Option<Name> {
        let mut found = self.ledger.approvals.iter().filter(|(key, _)| is_approval(reference, key));
        let (_, open) = found.next()?;
        found.next().is_none().then(|| open.session.clone())
    }

    /// Whether a child may still ask what it asked a former relay, and has not been heard yet.
    pub(super) fn has_unheard_approvals(&self) -> bool {
        let starts = |name| self.sessions.get(name).is_some_and(|running| running.phase == Phase::Starting);
        let mut open = self.ledger.approvals.iter();
        open.any(|(key, open)| !self.approvals.contains_key(key) && starts(&open.session))
    }

    /// What waits for a person, oldest first.
    pub(super) fn listed_approvals(&self) -> Answer {
        let info = |(key, approval): (&String, &Approval)| ApprovalInfo {
            id: approval_id(key),
            session: approval.session.clone(),
            kind: approval.kind.clone(),
            summary: approval.summary.clone(),
            command: approval.command.clone(),
            cwd: approval.cwd.clone(),
            asked_at: approval.asked_at,
            deadline_at: approval.deadline_at,
            decisions: approval.decisions.clone(),
        };
        let mut approvals: Vec<ApprovalInfo> = self.approvals.iter().map(info).collect();
        approvals.sort_by_key(|approval| approval.asked_at);
        Answer::Approvals(Approvals { approvals })
    }

    pub(super) fn on_approval_asked(&mut self, step: &mut Step, nonce: Nonce, asked: ApprovalAsked) {
        let key = format!("{nonce}/{}", asked.key);
        if self.approvals.contains_key(&key) {
            return;
        }
        if self.approvals.values().filter(|open| open.nonce == nonce).count()
            >= limits::APPROVALS_PER_CHILD_MAX
        {
            let reason = format!("{} approvals wait already", limits::APPROVALS_PER_CHILD_MAX);
            let command = ChildCommand::Decline { key: asked.key, reason };
            return step.act(Action::Command { nonce, command });
        }
        let ApprovalAsked { key: child_key, session, kind, summary, .. } = asked;
        let known = self.ledger.approvals.get(&key).map(|open| open.asked_at);
        let asked_at = known.unwrap_or(step.now);
        if known.is_none() {
            let (session, key) = (session.clone(), key.clone());
            let (kind, summary) = (kind.clone(), summary.clone());
            self.record(step, Record::ApprovalAsked { session, key, kind, summary, at: asked_at });
        }
        let deadline_at = self.settings.policy.approval_ms.map(|ms| asked_at.plus(ms));
        if let Some(at) = deadline_at {
            self.timers.set(Timer::Approval(key.clone()), at);
        }
        self.touch(&session);
        if let Some(running) = self.sessions.get_mut(&session) {
            running.ended_by = None;
        }
        let is_orphan = !self.ledger.sessions.contains_key(&session);
        let (command, cwd, decisions) = (asked.command, asked.cwd, asked.decisions);
        let (can_approve, always, choices) = (asked.can_approve, asked.always, asked.choices);
        self.approvals.insert(
            key,
            Approval {
                nonce,
                session,
                child_key,
                kind,
                summary,
                command,
                cwd,
                decisions,
                can_approve,
                always,
                choices,
                asked_at,
                deadline_at,
                pane: None,
                is_orphan,
            },
        );
    }

    pub(super) fn on_approval_resolved(&mut self, step: &mut Step, nonce: Nonce, child_key: &str) {
        let key = format!("{nonce}/{child_key}");
        let approval = self.approvals.get(&key);
        match approval.and_then(|approval| Some((approval, approval.pane.as_ref()?))) {
            None => self.settle_with_turn(step, &key, "answered elsewhere, or its turn ended"),
            Some((_, PaneAnswer { word: None, .. })) => {
                let why = "answered in two panes at once, and not alike";
                self.settle_approval(step, &key, "elsewhere", "elsewhere", why);
            }
            Some((approval, PaneAnswer { word: Some(word), .. })) => {
                let (decision, why) = (approval.decision_of(word), format!("in a pane, with `{word}`"));
                self.settle_approval(step, &key, decision, "operator", &why);
            }
        }
    }

    /// A pane of a session is about to answer what a child asks. Only the child's own word settles it; this says who did.
    pub(super) fn note_answer(&mut self, at: Millis, session: &Name, child_key: &str, word: &str) {
        let mut approvals = self.approvals.values_mut();
        let is_meant =
            |approval: &&mut Approval| approval.session == *session && approval.child_key == child_key;
        let Some(approval) = approvals.find(is_meant) else { return };
        let is_other = |before: &PaneAnswer| before.word.as_deref() != Some(word);
        let differs = approval.answered_until(at).is_some() && approval.pane.as_ref().is_some_and(is_other);
        approval.pane = Some(PaneAnswer { word: (!differs).then(|| word.to_owned()), at });
    }

    /// Somebody ends what a session's turn does, and with it what it asks.
    pub(super) fn note_end(&mut self, name: &Name, ask: &Ask, how: &'static str) {
        let by = self.speaker(ask.conn).unwrap_or_else(Name::operator);
        if let Some(running) = self.sessions.get_mut(name) {
            running.ended_by = Some((by, how));
        }
    }

    /// Settles what is over without an answer that is known here: by whoever ended its turn, else elsewhere.
    fn settle_with_turn(&mut self, step: &mut Step, key: &str, otherwise: &str) {
        let session = self.ledger.approvals.get(key).map(|open| open.session.clone());
        let ended = session.and_then(|session| self.sessions.get(&session)?.ended_by.clone());
        match ended {
            Some((by, how)) => self.settle_approval(step, key, "cancelled", by.as_str(), how),
            None => self.settle_approval(step, key, "elsewhere", "elsewhere", otherwise),
        }
    }

    pub(super) fn handle_approval_overdue(&mut self, step: &mut Step, key: &str) {
        let Some(approval) = self.approvals.get(key) else { return };
        if let Some(until) = approval.answered_until(step.now) {
            return self.timers.set(Timer::Approval(key.to_owned()), until);
        }
        let waited = approval.deadline_at.map_or(0, |at| at.since(approval.asked_at));
        let reason = format!("nobody answered within {}", age(waited));
        let key_of_child = approval.child_key.clone();
        let cancels =
            self.settings.policy.approval_cancels && approval.decisions.iter().any(|one| one == CANCEL);
        let command = if self.is_planted(Planted::DeadlineApproves) {
            ChildCommand::Approve { key: key_of_child, always: false }
        } else if cancels {
            ChildCommand::Choose { key: key_of_child, decision: CANCEL.to_owned() }
        } else {
            ChildCommand::Decline { key: key_of_child, reason: reason.clone() }
        };
        step.act(Action::Command { nonce: approval.nonce, command });
        self.settle_approval(step, key, if cancels { "cancelled" } else { "declined" }, "deadline", &reason);
    }

    /// The connection broke; the child may go on asking, and is heard again when the thread is open again.
    pub(super) fn suspend_approvals_of(&mut self, name: &Name) {
        for key in self.keys_of(name) {
            self.timers.clear(&Timer::Approval(key.clone()));
            self.approvals.remove(&key);
        }
    }

    /// A thread is open again, and has said what it still asks; the rest was settled while nobody listened.
    pub(super) fn reconcile_approvals_of(&mut self, step: &mut Step, name: &Name) {
        let open = self.ledger.approvals.iter();
        let unheard: Vec<String> = open
            .filter(|(key, open)| open.session == *name && !self.approvals.contains_key(*key))
            .map(|(key, _)| key.clone())
            .collect();
        for key in unheard {
            let why = "answered while no relay listened, or its turn ended";
            self.settle_approval(step, &key, "elsewhere", "elsewhere", why);
        }
    }

    /// The thread is gone, and with it whatever it asked.
    pub(super) fn forget_approvals_of(&mut self, step: &mut Step, name: &Name, why: &str) {
        for key in self.keys_of(name) {
            self.settle_with_turn(step, &key, why);
        }
    }

    /// The child is gone, and with it whatever its threads asked.
    pub(super) fn forget_approvals_by(&mut self, step: &mut Step, nonce: Nonce, why: &str) {
        let of_it = format!("{nonce}/");
        let known = self.approvals.keys().chain(self.ledger.approvals.keys());
        let keys: BTreeSet<String> = known.filter(|key| key.starts_with(&of_it)).cloned().collect();
        for key in keys {
            self.settle_approval(step, &key, "elsewhere", "elsewhere", why);
        }
    }

    fn keys_of(&self, name: &Name) -> Vec<String> {
        let heard = self.approvals.iter().filter(|(_, approval)| approval.session == *name);
        let open = self.ledger.approvals.iter().filter(|(_, open)| open.session == *name);
        let mut keys: Vec<String> =
            heard.map(|(key, _)| key.clone()).chain(open.map(|(key, _)| key.clone())).collect();
        keys.sort();
        keys.dedup();
        keys
    }

    pub(super) fn settle_approval(
        &mut self,
        step: &mut Step,
        key: &str,
        decision: &str,
        by: &str,
        reason: &str,
    ) {
        self.timers.clear(&Timer::Approval(key.to_owned()));
        let heard = self.approvals.remove(key).map(|approval| approval.session);
        let open = self.ledger.approvals.get(key).map(|open| open.session.clone());
        let Some(session) = heard.or(open) else { return };
        if let Some(running) = self.sessions.get_mut(&session) {
            running.heard_at = step.now;
        }
        let record = Record::ApprovalSettled {
            session: session.clone(),
            key: key.to_owned(),
            decision: decision.to_owned(),
            by: by.to_owned(),
            reason: reason.to_owned(),
            at: step.now,
        };
        self.record(step, record);
        self.touch(&session);
    }
}
