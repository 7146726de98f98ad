//! Evidence: what a child's statements mean for the mails of a claim, and how doubt is resolved.
//!
//! | Heard | Mails of the claim |
//! | --- | --- |
//! | request answered | `claimed` → `submitted` |
//! | request refused, may pass | → `queued`, tried again later |
//! | request refused for good | → `failed` |
//! | the turn that it should join had ended | → `queued` |
//! | our input is inside a turn | → `consumed`, with the turn |
//! | the turn ended without it | in doubt until the history was read |
//! | no answer within the lease; child lost, exited, or the relay crashed | → `unknown`, in doubt |
//! | a reader without a child leaves before its next request, or the relay crashes | → `queued` |
//! | history has the claim, or an earlier one of the same mail | → `consumed` |
//! | its recipient says that it has it: by `ack`, or, without a child, by its next request | → `consumed`, that mail alone |
//! | history lacks it; the child that held it is dead | → `queued` |
//! | history lacks it; that child lives | believed when still so 2 s later with no turn running, then → `queued` |
//!
//! **Invariant:** an answer about a claim that is over moves nothing, because its mails may be in a newer claim; only
//! evidence still counts then.
//! **Invariant:** G5: no line of this file writes `consumed` but `consume`, for what a child states, and `confirm`, for what a
//! recipient does.
//! **Invariant:** G2: a claim ends when none of its mails is under way any more, and not before.

use super::planted::Planted;
use super::record::{DeliveryId, Record};
use super::timer::Timer;
use super::{Core, Step};
use crate::model::child::TurnOutcome;
use crate::model::clock::Millis;
use crate::model::id::{ClaimId, MailId, TurnId};
use crate::model::limits;
use crate::model::mail::DeliveryState;
use crate::model::name::Name;

impl Core {
    pub(super) fn on_turn_accepted(&mut self, step: &mut Step, name: &Name, claim: ClaimId, turn: &TurnId) {
        if self.is_planted(Planted::ConsumedFromResponse) {
            return self.on_input_taken(step, name, Some(claim), turn);
        }
        self.closing_saw_turn(name, claim, turn);
        for id in self.deliveries_held_by(claim) {
            if self.state_of(id) == Some(DeliveryState::Claimed) {
                self.move_delivery(step, id, DeliveryState::Submitted, Some(turn.clone()), None);
            }
        }
        let Some(running) = self.sessions.get_mut(name) else { return };
        if let Some(flight) = running.claim.as_mut().filter(|flight| flight.claim == claim) {
            flight.turn = Some(turn.clone());
            self.timers.clear(&Timer::Lease(name.clone()));
            if flight.ended.contains(turn) {
                self.end_flight(name);
            }
        }
        self.touch(name);
    }

    pub(super) fn on_turn_refused(
        &mut self,
        step: &mut Step,
        name: &Name,
        claim: ClaimId,
        temporary: bool,
        why: &str,
    ) {
        self.closing_saw_refusal(step, name, claim);
        if self.is_over(claim) {
            return self.forget_flight(name, claim);
        }
        let batch = self.deliveries_held_by(claim).len();
        // One mail that cannot go in must not fail those that shared its batch: they are tried again one by one.
        let to = if temporary || batch > 1 { DeliveryState::Queued } else { DeliveryState::Failed };
        if let Some(running) = self.sessions.get_mut(name).filter(|_| !temporary) {
            running.singly = batch;
        }
        for id in self.deliveries_held_by(claim) {
            self.move_delivery(step, id, to, None, Some(format!("refused by the child: {why}")));
        }
        self.end_claim(step, claim);
        self.forget_flight(name, claim);
        if let Some(running) = self.sessions.get_mut(name) {
            running.reason = Some(why.to_owned());
        }
        if temporary {
            self.back_off(step, name);
        }
        self.take_prompts_back(step, name);
        self.touch(name);
    }

    /// Input is inside a turn: ours, by its claim, or a person's.
    pub(super) fn on_input_taken(
        &mut self,
        step: &mut Step,
        name: &Name,
        claim: Option<ClaimId>,
        turn: &TurnId,
    ) {
        if let Some(running) = self.sessions.get_mut(name) {
            if running.ended_turn.as_ref() != Some(turn) {
                running.busy = true;
                running.turn = Some(turn.clone());
            }
            if let Some(flight) = running.claim.as_mut().filter(|flight| Some(flight.claim) == claim) {
                flight.turn = Some(turn.clone());
                self.timers.clear(&Timer::Lease(name.clone()));
            }
        }
        if let Some(claim) = claim {
            self.closing_saw_turn(name, claim, turn);
            self.consume(step, claim, turn, None);
        }
        self.touch(name);
    }

    /// Input came too late for the turn that it should join; that is nobody's fault, and it goes in with the next one.
    pub(super) fn on_turn_missed(&mut self, step: &mut Step, name: &Name, claim: ClaimId, why: &str) {
        if self.is_over(claim) {
            return self.forget_flight(name, claim);
        }
        for id in self.deliveries_held_by(claim) {
            let note = format!("too late for the running turn: {why}");
            self.move_delivery(step, id, DeliveryState::Queued, None, Some(note));
        }
        self.end_claim(step, claim);
        if let Some(running) = self.sessions.get_mut(name) {
            running.at_boundary = false;
        }
        self.forget_flight(name, claim);
        self.take_prompts_back(step, name);
        self.touch(name);
    }

    pub(super) fn on_boundary(&mut self, name: &Name, at_boundary: bool) {
        if let Some(running) = self.sessions.get_mut(name) {
            running.at_boundary = at_boundary;
        }
        self.touch(name);
    }

    pub(super) fn on_turn_started(&mut self, name: &Name, turn: &TurnId) {
        if let Some(running) = self.sessions.get_mut(name) {
            running.busy = true;
            running.turn = Some(turn.clone());
            running.ended_by = None;
        }
        self.touch(name);
    }

    pub(super) fn on_turn_ended(
        &mut self,
        step: &mut Step,
        name: &Name,
        turn: &TurnId,
        outcome: &TurnOutcome,
    ) {
        let at = step.now;
        let Some(running) = self.sessions.get_mut(name) else { return };
        running.busy = false;
        running.turn = None;
        running.at_boundary = false;
        running.interrupting = None;
        running.interrupt_wanted = false;
        running.end_refused = None;
        running.ask_not_before = None;
        running.status_refusals = 0;
        // Absence counts from the end of a turn at the earliest.
        running.missing.values_mut().for_each(|since| *since = at);
        running.ended_turn = Some(turn.clone());
        if let Some(flight) = running.claim.as_mut().filter(|flight| flight.turn.is_none()) {
            flight.ended.push(turn.clone());
        }
        running.struggles = false;
        running.reason = outcome.failure().map(|why| format!("the last turn failed: {why}"));
        let flight = running.claim.clone().filter(|flight| flight.turn.as_ref() == Some(turn));
        let note = match outcome.failure() {
            Some(why) => Some(format!("the turn failed: {why}")),
            None => (*outcome == TurnOutcome::Interrupted).then(|| "the turn was interrupted".to_owned()),
        };
        let ours = flight.is_some();
        if let Some(flight) = flight {
            for claim in note.iter().flat_map(|_| flight.earlier.iter().chain([&flight.claim])) {
                let note = note.clone().unwrap_or_default();
                self.record(step, Record::ClaimNoted { claim: *claim, at, turn: Some(turn.clone()), note });
            }
            self.end_flight(name);
        }
        match outcome {
            TurnOutcome::Completed => {
                if let Some(running) = self.sessions.get_mut(name) {
                    running.refusals = 0;
                    running.retry_at = None;
                    // The turn that sums a context up is not one of ours.
                    running.compacted &= !ours;
                    running.room_refusals = 0;
                }
                if self.blocked_until(name).is_some() {
                    self.unblock(step, name);
                }
                self.child_completed_a_turn(name);
            }
            TurnOutcome::Blocked { until, .. } => self.block(step, name, *until),
            TurnOutcome::Overloaded(_) => {
                self.back_off(step, name);
                if let Some(running) = self.sessions.get_mut(name) {
                    running.singly = 1;
                }
            }
            TurnOutcome::ContextFull(why) => self.make_room(step, name, why),
            TurnOutcome::Interrupted | TurnOutcome::Failed(_) => {}
        }
        self.timers.clear(&Timer::End(name.clone()));
        self.closing_saw_end(step, name, turn);
        if !self.is_planted(Planted::LostWakeUp) {
            self.touch(name);
        }
    }

    /// Our turn is over; without evidence its claim is in doubt.
    pub(super) fn end_flight(&mut self, name: &Name) {
        self.timers.clear(&Timer::Lease(name.clone()));
        if let Some(running) = self.sessions.get_mut(name) {
            running.claim = None;
        }
    }

    pub(super) fn handle_lease_over(&mut self, step: &mut Step, name: &Name) {
        let why = format!("the child did not respond within {} s", limits::LEASE_MS / 1000);
        self.doubt_claims(step, name, &why);
        if let Some(running) = self.sessions.get_mut(name) {
            running.claim = None;
        }
        self.touch(name);
    }

    /// Whatever a child may or may not hold is `unknown` from now on.
    pub(super) fn doubt_claims(&mut self, step: &mut Step, name: &Name, why: &str) {
        let claims: Vec<ClaimId> = self.ledger.open_claims(name).map(|(id, _)| id).collect();
        for claim in claims {
            for id in self.open_deliveries_of(claim) {
                if matches!(self.state_of(id), Some(DeliveryState::Claimed | DeliveryState::Submitted)) {
                    self.move_delivery(step, id, DeliveryState::Unknown, None, Some(why.to_owned()));
                }
            }
        }
    }

    pub(super) fn on_claims_found(
        &mut self,
        step: &mut Step,
        name: &Name,
        present: &[(ClaimId, TurnId)],
        absent: &[ClaimId],
        busy: bool,
    ) {
        self.timers.clear(&Timer::Find(name.clone()));
        if let Some(running) = self.sessions.get_mut(name) {
            running.finding = false;
            running.unanswered = 0;
            running.unread = 0;
        }
        for (claim, turn) in present {
            self.consume(step, *claim, turn, Some("found in the child's history"));
        }
        let is_open = |claim: &&ClaimId| self.ledger.claims.get(*claim).is_some_and(|known| !known.ended);
        let absent: Vec<ClaimId> = absent.iter().filter(is_open).copied().collect();
        for claim in &absent {
            if self.absence_is_proof(step.now, name, *claim, busy) {
                for id in self.deliveries_held_by(*claim) {
                    self.move_delivery(
                        step,
                        id,
                        DeliveryState::Queued,
                        None,
                        Some("not in the child's history".to_owned()),
                    );
                }
                self.end_claim(step, *claim);
            }
        }
        self.take_prompts_back(step, name);
        self.touch(name);
    }

    /// Nothing was learned; the claims stay in doubt and are looked for again later.
    pub(super) fn on_history_unread(&mut self, step: &mut Step, name: &Name, why: &str) {
        if let Some(running) = self.sessions.get_mut(name) {
            running.finding = false;
            running.unanswered = 0;
            running.unread += 1;
            running.reason = Some(format!("the child's history could not be read: {why}"));
        }
        self.back_off(step, name);
        self.touch(name);
    }

    /// It is time to look for claims again, also when the child has not answered the last time.
    /// A child that leaves several searches in a row unanswered is hung, and is killed; the next one settles the doubt.
    pub(super) fn handle_find_due(&mut self, step: &mut Step, name: &Name) {
        let mut is_hung = false;
        if let Some(running) = self.sessions.get_mut(name) {
            if std::mem::take(&mut running.finding) {
                running.unanswered += 1;
            }
            is_hung = running.unanswered >= limits::UNANSWERED_MAX;
        }
        if let Some(nonce) = self.ready_child_of(name).filter(|_| is_hung) {
            self.kill_hung_child(step, nonce);
        }
        self.touch(name);
    }

    /// No turn runs, although none that we know of has ended.
    pub(super) fn on_thread_idle(&mut self, name: &Name) {
        if let Some(running) = self.sessions.get_mut(name).filter(|running| running.turn.is_none()) {
            running.busy = false;
        }
        self.touch(name);
    }

    /// Whether absence proves that the child never took the claim: at once when the child that got it is dead, else when it
    /// has lasted long enough with no turn running.
    fn absence_is_proof(&mut self, now: Millis, name: &Name, claim: ClaimId, busy: bool) -> bool {
        let held_by = self.ledger.claims.get(&claim).and_then(|claim| claim.child);
        // A child that drains, or is about to end, may still write what it took.
        let is_dead = held_by.is_none_or(|nonce| !self.ledger.children.contains_key(&nonce));
        if is_dead || self.is_planted(Planted::AbsenceBelievedAtOnce) {
            return true;
        }
        let Some(running) = self.sessions.get_mut(name) else { return false };
        if busy || running.busy {
            running.missing.insert(claim, now);
            return false;
        }
        let since = *running.missing.entry(claim).or_insert(now);
        now.since(since) >= limits::ABSENCE_MS
    }

    /// Writes `consumed` for the mails of a claim and ends it.
    fn consume(&mut self, step: &mut Step, claim: ClaimId, turn: &TurnId, note: Option<&str>) {
        for id in self.open_deliveries_of(claim) {
            let newer = self.ledger.deliveries.get(&id).and_then(|delivery| delivery.claims.last().copied())
                != Some(claim);
            let note = note.or(newer.then_some("evidence of an earlier attempt"));
            self.move_delivery(
                step,
                id,
                DeliveryState::Consumed,
                Some(turn.clone()),
                note.map(str::to_owned),
            );
        }
        self.end_claim(step, claim);
    }

    /// All mail to somebody who is no more fails; of what had left its queue nobody can say that it was not read.
    pub(super) fn fail_mail_to(&mut self, step: &mut Step, name: &Name, why: &str) {
        let open: Vec<_> =
            self.ledger.queue(name).into_iter().flat_map(|queue| queue.open.iter().copied()).collect();
        for id in open {
            let queued = self.state_of(id) == Some(DeliveryState::Queued);
            let note = if queued { why.to_owned() } else { format!("{why}; it may have been delivered") };
            self.move_delivery(step, id, DeliveryState::Failed, None, Some(note));
        }
        let claims: Vec<_> = self.ledger.open_claims(name).map(|(id, _)| id).collect();
        for claim in claims {
            self.end_claim(step, claim);
        }
    }

    pub(super) fn end_claim(&mut self, step: &mut Step, claim: ClaimId) {
        let Some(known) = self.ledger.claims.get(&claim).filter(|known| !known.ended) else { return };
        let session = known.session.clone();
        if let Some(running) = self.sessions.get_mut(&session) {
            running.missing.remove(&claim);
        }
        let at = step.now;
        self.record(step, Record::ClaimEnded { claim, at });
    }

    /// The mails of a claim that its recipient has yet to get.
    pub(super) fn open_deliveries_of(&self, claim: ClaimId) -> Vec<DeliveryId> {
        let known = self.ledger.claims.get(&claim);
        known
            .into_iter()
            .flat_map(|claim| &claim.deliveries)
            .filter(|id| self.ledger.deliveries.contains_key(id))
            .copied()
            .collect()
    }

    /// The mails that a claim still has the right to: none once it is over, because they may be in a newer one by then.
    fn deliveries_held_by(&self, claim: ClaimId) -> Vec<DeliveryId> {
        if self.is_over(claim) { Vec::new() } else { self.open_deliveries_of(claim) }
    }

    fn is_over(&self, claim: ClaimId) -> bool {
        self.ledger.claims.get(&claim).is_none_or(|known| known.ended)
    }

    /// What the child has not taken is in flight no more, also when its mails have got there in another way.
    fn forget_flight(&mut self, name: &Name, claim: ClaimId) {
        if self.sessions.get_mut(name).is_some_and(|running| running.drop_flight(claim)) {
            self.timers.clear(&Timer::Lease(name.clone()));
        }
        self.touch(name);
    }

    pub(super) fn state_of(&self, id: DeliveryId) -> Option<DeliveryState> {
        self.ledger.deliveries.get(&id).map(|delivery| delivery.state)
    }

    /// The next request of a reader without a child confirms that it has taken what was handed to it.
    pub(super) fn confirm_handed(&mut self, step: &mut Step, reader: &Name, handed: &[MailId]) {
        for mail in handed {
            let Some((id, _)) = self.submitted_to(reader, *mail) else { continue };
            self.confirm(step, id, "read");
        }
    }

    /// Writes `consumed` for one mail that is under way, by its recipient's own word; the others of its claim stay as they are.
    pub(super) fn confirm(&mut self, step: &mut Step, id: DeliveryId, note: &str) {
        let claim = self.ledger.deliveries.get(&id).and_then(|delivery| delivery.claims.last().copied());
        self.move_delivery(step, id, DeliveryState::Consumed, None, Some(note.to_owned()));
        if let Some(claim) = claim.filter(|claim| self.open_deliveries_of(*claim).is_empty()) {
            self.end_claim(step, claim);
        }
    }

    /// A reader went away without having confirmed what was handed to it: it goes to the next one.
    pub(super) fn take_back(&mut self, step: &mut Step, claim: ClaimId, why: &str) {
        for id in self.deliveries_held_by(claim) {
            self.move_delivery(step, id, DeliveryState::Queued, None, Some(why.to_owned()));
        }
        self.end_claim(step, claim);
    }

    /// Takes back what some readers without a child were handed and have not confirmed.
    pub(super) fn take_back_handed(&mut self, step: &mut Step, reader: &Name, handed: &[MailId], why: &str) {
        for mail in handed {
            if let Some((_, claim)) = self.submitted_to(reader, *mail) {
                self.take_back(step, claim, why);
            }
        }
        self.waiting_saw_mail(step, reader);
    }

    fn submitted_to(&self, reader: &Name, mail: MailId) -> Option<(DeliveryId, ClaimId)> {
        let queue = self.ledger.queue(reader)?;
        queue.open.iter().find_map(|id| {
            let delivery = self.ledger.deliveries.get(id)?;
            let submitted = delivery.mail == mail && delivery.state == DeliveryState::Submitted;
            submitted.then_some(())?;
            Some((*id, *delivery.claims.last()?))
        })
    }
}
