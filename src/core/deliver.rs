//! Delivery: when a session's mail goes into a turn, and which mail goes together.
//!
//! Level-triggered: `evaluate_mail` looks at the whole session each time. It starts a turn only when the thread is open, no
//! turn runs, no approval waits, no earlier claim is in doubt, and some mail that may start a turn is queued.
//!
//! **Invariant:** a mail is in at most one open claim (G2), and mail of one priority goes in the order of acceptance (G6).
//! **Invariant:** nothing is cut: a mail that is larger than a batch goes alone and whole.

use super::action::{Action, Deliver};
use super::notice::Outcome;
use super::record::{DeliveryId, Record};
use super::session::{Flight, Phase};
use super::timer::Timer;
use super::{Core, Step};
use crate::model::child::ChildCommand;
use crate::model::clock::Millis;
use crate::model::id::ClaimId;
use crate::model::limits;
use crate::model::mail::{DeliveryState, Priority};
use crate::model::name::Name;

impl Core {
    /// Resolves doubt first, then starts a turn if it is time for one.
    pub(super) fn evaluate_mail(&mut self, step: &mut Step, name: &Name) {
        if self.find_claims(step, name) {
            return;
        }
        let Some(nonce) = self.ready_child_of(name) else { return };
        let Some(running) = self.sessions.get(name) else { return };
        let waits =
            running.busy || running.claim.is_some() || running.retry_at.is_some_and(|at| at > step.now);
        if waits || self.has_approval(name) {
            return;
        }
        let batch = self.next_batch(name);
        if batch.is_empty() {
            return;
        }
        let (claim, at) = (step.mint.claim(), step.now);
        self.open_claim(step, claim, name, Some(nonce), &batch);
        let Some(running) = self.sessions.get_mut(name) else { return };
        running.claim = Some(Flight { claim, turn: None, ended: Vec::new() });
        running.retry_at = None;
        running.singly = running.singly.saturating_sub(1);
        let skills = running.skills.clone();
        self.timers.set(Timer::Lease(name.clone()), at.plus(limits::LEASE_MS));
        step.act(Action::Deliver(Deliver {
            nonce,
            session: name.clone(),
            claim,
            deliveries: batch,
            skills,
            at,
        }));
    }

    /// Opens a claim and moves its mails to `claimed`.
    pub(super) fn open_claim(
        &mut self,
        step: &mut Step,
        claim: ClaimId,
        session: &Name,
        child: Option<crate::model::id::Nonce>,
        deliveries: &[DeliveryId],
    ) {
        let at = step.now;
        let session = session.clone();
        self.record(step, Record::ClaimOpened { claim, session, child, deliveries: deliveries.to_vec(), at });
        for delivery in deliveries {
            self.move_delivery(step, *delivery, DeliveryState::Claimed, None, None);
        }
    }

    /// The mails that would go into the next turn, in order; empty when none may start one.
    fn next_batch(&self, name: &Name) -> Vec<DeliveryId> {
        let Some(queue) = self.ledger.queue(name) else { return Vec::new() };
        let starts_a_turn = queue.queued.first().is_some_and(|(priority, _)| *priority != Priority::Fyi);
        if !starts_a_turn {
            return Vec::new();
        }
        let singly = self.sessions.get(name).is_some_and(|running| running.singly > 0);
        let mails_max = if singly { 1 } else { limits::BATCH_MAILS_MAX };
        let (mut batch, mut bytes) = (Vec::new(), 0u64);
        for (_, id) in &queue.queued {
            let size = u64::from(self.ledger.deliveries.get(id).map_or(0, |delivery| delivery.bytes));
            let fits = batch.len() < mails_max && bytes + size <= limits::BATCH_BYTES_MAX;
            if !batch.is_empty() && !fits {
                break;
            }
            batch.push(*id);
            bytes += size;
        }
        batch
    }

    /// Asks for claims in doubt; true while there are any, because nothing may overtake them.
    fn find_claims(&mut self, step: &mut Step, name: &Name) -> bool {
        let Some(running) = self.sessions.get(name) else { return false };
        let in_flight = running.claim.as_ref().map(|flight| flight.claim);
        let doubted: Vec<ClaimId> =
            self.ledger.open_claims(name).map(|(id, _)| id).filter(|id| Some(*id) != in_flight).collect();
        if doubted.is_empty() {
            return false;
        }
        let again_at = doubted
            .iter()
            .filter_map(|id| running.missing.get(id))
            .max()
            .map(|since| since.plus(limits::ABSENCE_MS));
        let idle = !running.busy;
        let finding = running.finding || running.retry_at.is_some_and(|at| at > step.now);
        match (self.ready_child_of(name), again_at) {
            _ if finding => {}
            (None, _) => {}
            (Some(_), Some(at)) if at > step.now => self.timers.set(Timer::Find(name.clone()), at),
            (Some(_), Some(_)) if !idle => {}
            (Some(nonce), _) => {
                if let Some(running) = self.sessions.get_mut(name) {
                    running.finding = true;
                }
                self.timers.set(Timer::Find(name.clone()), step.now.plus(limits::LEASE_MS));
                let command = ChildCommand::FindClaims { session: name.clone(), claims: doubted };
                step.act(Action::Command { nonce, command });
            }
        }
        true
    }

    /// Whether a session has mail that the relay could move without hearing from anybody.
    pub(super) fn has_mail_that_could_move(&self, name: &Name) -> bool {
        let open = self.sessions.get(name).is_some_and(|running| running.phase == Phase::Open);
        open && self.should_run(name)
            && (self.ledger.open_claims(name).next().is_some()
                || self
                    .ledger
                    .queue(name)
                    .is_some_and(|queue| queue.queued.first().is_some_and(|(p, _)| *p != Priority::Fyi)))
    }

    /// Moves a delivery and tells those who wait for it.
    pub(super) fn move_delivery(
        &mut self,
        step: &mut Step,
        id: DeliveryId,
        to: DeliveryState,
        turn: Option<crate::model::id::TurnId>,
        note: Option<String>,
    ) {
        let Some(delivery) = self.ledger.deliveries.get(&id) else { return };
        let (mail, recipient, at) = (delivery.mail, delivery.to.clone(), step.now);
        if matches!(to, DeliveryState::Expired | DeliveryState::Failed) {
            let why = note.clone().unwrap_or_default();
            let (from, to, what) = (delivery.from.clone(), recipient.clone(), to.as_str());
            self.outcomes.push(Outcome { from, mail, to, what, why });
        }
        self.record(
            step,
            Record::DeliveryMoved { delivery: id, to, at, turn: turn.clone(), note: note.clone() },
        );
        self.waiting_saw_move(step, mail, &recipient, to, turn, note);
    }

    /// Ends queued mail whose time has passed.
    pub(super) fn expire_mail(&mut self, step: &mut Step) {
        while let Some((at, id)) = self.ledger.expiring.first().copied().filter(|(at, _)| *at <= step.now) {
            let note = format!("not delivered before {}", at.rfc3339_seconds());
            self.move_delivery(step, id, DeliveryState::Expired, None, Some(note));
        }
    }

    /// Why a recipient's mail is not further, in one line; `None` when nothing stands in its way.
    pub(super) fn why_not_further(&self, name: &Name, now: Millis) -> Option<String> {
        let Some(running) = self.sessions.get(name) else {
            return (*name == Name::operator()).then(|| "waits to be read".to_owned());
        };
        let since = format!("since {}", running.shown.1.rfc3339_seconds());
        let state = self.shown_state(name);
        let reason = running.reason.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
        let text = match state {
            crate::model::session::SessionState::Idle => {
                return running
                    .retry_at
                    .filter(|at| *at > now)
                    .map(|at| format!("tried again at {}{reason}", at.rfc3339_seconds()));
            }
            crate::model::session::SessionState::Stopped => {
                format!("{name} is stopped {since}; start it: agentmux up {name}")
            }
            crate::model::session::SessionState::Waiting => format!("{name} waits for an approval {since}"),
            other => format!("{name} is {} {since}{reason}", other.as_str()),
        };
        Some(text)
    }
}
