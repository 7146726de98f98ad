//! Events: what those who watch are told, as it follows from records and from what children say.
//!
//! **Invariant:** what a record stores is told where the record is made, so that nothing is stored and not told, or told and not
//! stored; the shell releases it after the commit, like every action.
//!
//! Deliberately absent: who watches, and what is kept for them. That is the shell's (`relay/feed.rs`).

use super::action::Action;
use super::record::{DeliveryId, Record};
use super::{Core, Step};
use crate::model::child::{ChildEvent, Item, TurnOutcome};
use crate::model::clock::Millis;
use crate::model::happening::{Happening, What};
use crate::model::id::{MailId, Nonce, TurnId, approval_id};
use crate::model::mail::{DeliveryState, Priority};
use crate::model::name::Name;
use crate::model::session::SessionState;

impl Core {
    /// Tells those who watch.
    pub(super) fn tell(&mut self, step: &mut Step, what: What) {
        self.tell_at(step, step.now, what);
    }

    pub(super) fn tell_at(&mut self, step: &mut Step, at: Millis, mut what: What) {
        if let What::Mail { to, pending, .. } = &mut what {
            *pending = Some(self.pending_of(to));
        }
        step.act(Action::Tell(Box::new(Happening { at, what })));
    }

    pub(super) fn pending_of(&self, name: &Name) -> u64 {
        self.ledger.queue(name).map_or(0, |queue| queue.open.len() as u64)
    }

    /// What a record tells, before it is applied.
    pub(super) fn told_of(&self, record: &Record) -> Vec<(Millis, What)> {
        match record {
            Record::SessionSpawned(session) => {
                vec![(session.created_at, What::SessionSpawned { session: session.name.clone() })]
            }
            Record::MailAccepted { mail, deliveries } => {
                let accepted = |(_, to): &(DeliveryId, Name)| {
                    let state = DeliveryState::Queued;
                    (mail.sent_at, step_of(mail.id, mail.from.clone(), to.clone(), state, None, None))
                };
                deliveries.iter().map(accepted).collect()
            }
            Record::DeliveryMoved { delivery, to, at, turn, note } => {
                self.told_of_delivery(*delivery, *at, *to, turn.as_ref(), note.as_ref())
            }
            Record::DeliveryBraked { delivery, at, note } => {
                self.told_of_delivery(*delivery, *at, DeliveryState::Queued, None, Some(note))
            }
            Record::DeliveryReleased { delivery, at } => {
                let note = "released by the operator".to_owned();
                self.told_of_delivery(*delivery, *at, DeliveryState::Queued, None, Some(&note))
            }
            Record::DeliveryRevived { header, at, note, .. } => {
                let (from, to) = (header.from.clone(), header.to.clone());
                vec![(*at, step_of(header.mail, from, to, DeliveryState::Queued, None, note.as_ref()))]
            }
            Record::ChildStarted { nonce, pid } => {
                let known = self.ledger.children.get(nonce).and_then(|child| child.pid);
                let since = self.ledger.children.get(nonce).map(|child| child.since);
                match since {
                    Some(since) if known.is_none() => vec![(since, What::ChildStarted { pid: Some(*pid) })],
                    _ => Vec::new(),
                }
            }
            Record::ChildEnded { nonce, at, why } => {
                let pid = self.ledger.children.get(nonce).and_then(|child| child.pid);
                vec![(*at, What::ChildExited { pid, why: why.clone() })]
            }
            Record::ApprovalAsked { session, key, kind, summary, at } => {
                let (kind, summary) = (kind.clone(), summary.clone());
                let approval = approval_id(key);
                vec![(*at, What::ApprovalAsked { session: session.clone(), approval, kind, summary })]
            }
            Record::ApprovalSettled { session, key, decision, by, reason, at } => {
                let (decision, by, reason) = (decision.clone(), by.clone(), reason.clone());
                let approval = approval_id(key);
                vec![(
                    *at,
                    What::ApprovalSettled { session: session.clone(), approval, decision, by, reason },
                )]
            }
            Record::NameClaimed { name, epoch, at, by, taken_over, .. } => {
                let (name, by) = (name.clone(), by.clone());
                vec![(*at, What::NameClaimed { name, epoch: *epoch, by, taken_over: *taken_over })]
            }
            Record::NameReleased { name, at } => vec![(*at, What::NameReleased { name: name.clone() })],
            // `ack` tells itself: what it confirms is no longer in the ledger. A removal has the removal's own moment.
            Record::SessionRemoved { .. }
            | Record::DeliveryAcked { .. }
            | Record::SessionConfigured(_)
            | Record::SessionSummarised { .. }
            | Record::SessionWanted { .. }
            | Record::SessionHeld { .. }
            | Record::SessionBlocked { .. }
            | Record::ThreadBound { .. }
            | Record::DeadDiscarded { .. }
            | Record::ClaimOpened { .. }
            | Record::ClaimNoted { .. }
            | Record::ClaimEnded { .. }
            | Record::ChildIntended(_)
            | Record::TokenIssued { .. }
            | Record::TokenUsed { .. }
            | Record::NameRemoved { .. } => Vec::new(),
        }
    }

    fn told_of_delivery(
        &self,
        id: DeliveryId,
        at: Millis,
        state: DeliveryState,
        turn: Option<&TurnId>,
        note: Option<&String>,
    ) -> Vec<(Millis, What)> {
        let Some(known) = self.ledger.deliveries.get(&id) else { return Vec::new() };
        vec![(at, step_of(known.mail, known.from.clone(), known.to.clone(), state, turn, note))]
    }

    /// A recipient confirmed a mail that it had had.
    pub(super) fn tell_acked(&mut self, step: &mut Step, mail: MailId, from: &Name, to: &Name) {
        self.tell(step, step_of(mail, from.clone(), to.clone(), DeliveryState::Acked, None, None));
    }

    /// A session is in another state.
    pub(super) fn tell_state(&mut self, step: &mut Step, name: &Name, from: SessionState, to: SessionState) {
        let reason = self.sessions.get(name).and_then(|running| running.reason.clone());
        let pending = self.pending_of(name);
        self.tell(step, What::State { session: name.clone(), from, state: to, reason, pending });
    }

    /// The number of panes of a session has changed.
    pub(super) fn tell_panes(&mut self, step: &mut Step, session: &Name, more: bool) {
        let attached =
            self.conns.values().filter(|conn| conn.attached.as_ref() == Some(session)).count() as u32;
        let session = session.clone();
        self.tell(
            step,
            if more {
                What::PaneAttached { session, attached }
            } else {
                What::PaneLeft { session, attached }
            },
        );
    }

    /// Handles what a child said, and tells of the turns and items in it.
    pub(super) fn hear_child(&mut self, step: &mut Step, nonce: Nonce, mut event: ChildEvent) {
        if let ChildEvent::ItemDone { item, .. } = &mut event {
            self.name_source(item);
        }
        let name = event.session().cloned();
        let is_known = name.as_ref().is_some_and(|name| {
            let child = self.ledger.children.get(&nonce).map(|child| child.key);
            self.ledger.sessions.get(name).is_some_and(|session| Some(session.child_key) == child)
        });
        let Some(session) = name.filter(|_| is_known) else {
            return self.handle_child_event(step, nonce, event);
        };
        match &event {
            ChildEvent::ItemDone { turn, item, .. } => {
                let (kind, source, text) = (item.kind.clone(), item.source.clone(), item.text.clone());
                let turn_id = turn.as_deref().map(str::to_owned);
                self.tell(step, What::Item { session: session.clone(), turn_id, kind, source, text });
            }
            ChildEvent::Said { turn, item, offset, text, .. } => {
                let (turn_id, item_id, text) = (turn.to_string(), item.clone(), text.clone());
                self.tell(
                    step,
                    What::Delta { session: session.clone(), turn_id, item_id, offset: *offset, text },
                );
            }
            ChildEvent::TurnEnded { turn, outcome, .. } => {
                let (turn_id, why) = (turn.to_string(), outcome.failure().map(str::to_owned));
                let outcome = outcome_word(outcome).to_owned();
                self.tell(step, What::TurnEnded { session: session.clone(), turn_id, outcome, why });
            }
            _ => {}
        }
        if let Some(running) = self.sessions.get_mut(&session)
            && !matches!(event, ChildEvent::StatusTold { .. } | ChildEvent::StatusRefused { .. })
        {
            running.heard_at = step.now;
            if matches!(
                event,
                ChildEvent::ItemDone { .. } | ChildEvent::Said { .. } | ChildEvent::Boundary { .. }
            ) && std::mem::take(&mut running.struggles)
            {
                running.reason = None;
            }
        }
        let before = self.turn_of(&session);
        // What was found running tells itself since when.
        let is_found = matches!(event, ChildEvent::ThreadOpened { .. });
        self.handle_child_event(step, nonce, event);
        let after = self.turn_of(&session);
        if let Some(turn) = after.filter(|turn| Some(turn) != before.as_ref()) {
            if let Some(running) = self.sessions.get_mut(&session).filter(|_| !is_found) {
                running.turn_since = Some(step.now);
            }
            self.tell(step, What::TurnStarted { session, turn_id: turn.to_string() });
        }
    }

    /// Whether words of ours are mail or the person's own is known by their claim, not by how they begin.
    pub(super) fn name_source(&self, item: &mut Item) {
        let claim = item.claim.and_then(|claim| self.ledger.claims.get(&claim));
        let first = claim.and_then(|claim| self.ledger.deliveries.get(claim.deliveries.first()?));
        if let Some(first) = first {
            let is_bare = first.priority == Priority::Prompt && first.from == Name::operator();
            item.source = if is_bare { "prompt" } else { "mail" }.to_owned();
        }
    }

    fn turn_of(&self, name: &Name) -> Option<TurnId> {
        self.sessions.get(name)?.turn.clone()
    }
}

fn step_of(
    mail: MailId,
    from: Name,
    to: Name,
    state: DeliveryState,
    turn: Option<&TurnId>,
    note: Option<&String>,
) -> What {
    let session = (to != Name::operator()).then(|| to.clone());
    let (turn_id, note) = (turn.map(|turn| turn.to_string()), note.cloned());
    What::Mail { session, mail, from, to, state, turn_id, note, pending: None }
}

fn outcome_word(outcome: &TurnOutcome) -> &'static str {
    match outcome {
        TurnOutcome::Completed => "completed",
        TurnOutcome::Interrupted => "interrupted",
        TurnOutcome::Failed(_) => "failed",
        TurnOutcome::Blocked { .. } => "blocked",
        TurnOutcome::Overloaded(_) => "overloaded",
        TurnOutcome::ContextFull(_) => "contextFull",
    }
}
