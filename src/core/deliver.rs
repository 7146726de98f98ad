//! Delivery: when a session's mail goes into a turn, and which mail goes together.
//!
//! Level-triggered: `evaluate_mail` looks at the whole session each time. It starts a turn only when the thread is open, no
//! turn runs, no approval waits, no earlier claim is in doubt, and some mail that may start a turn is queued.
//!
//! **Invariant:** a mail is in at most one open claim (G2), and mail of one priority goes in the order of acceptance (G6).
//! **Invariant:** nothing is cut: a mail that is larger than a batch goes alone and whole.

use std::collections::{BTreeMap, BTreeSet};

use super::action::{Action, Deliver};
use super::ledger::{Delivery, Queue};
use super::notice::Outcome;
use super::planted::Planted;
use super::record::{DeliveryId, Record};
use super::running::{Flight, Phase};
use super::timer::Timer;
use super::{Core, Step};
use crate::model::child::{ChildCommand, ToolsState};
use crate::model::clock::Millis;
use crate::model::id::{ClaimId, Nonce, TurnId};
use crate::model::limits;
use crate::model::mail::{DeliveryState, Priority, When};
use crate::model::name::Name;
use crate::model::session::HELD_FOR_EVER;

impl Core {
    /// Resolves doubt first, then starts a turn, or joins the running one, if it is time for that.
    pub(super) fn evaluate_mail(&mut self, step: &mut Step, name: &Name) {
        if self.is_planted(Planted::OldMailDropped) {
            self.drop_old_mail(step, name);
        }
        self.evaluate_interrupt(step, name);
        let is_closing = self.evaluate_closing(step, name) && !self.is_planted(Planted::MailBesideClose);
        if is_closing || self.find_claims(step, name) {
            return;
        }
        let Some(nonce) = self.ready_child_of(name) else { return };
        if self.evaluate_room(step, name, nonce) {
            return;
        }
        let Some(running) = self.sessions.get(name) else { return };
        // What a person says goes in whatever holds mail back.
        let holds_mail = self.blocked_until(name).is_some() || self.is_held(name);
        let waits = running.retry_at.is_some_and(|at| at > step.now)
            || running.interrupt_wanted
            || running.subs_end_by.is_some_and(|at| at > step.now)
            || (holds_mail && self.next_prompt(name).is_none());
        if running.tools == Some(ToolsState::Starting) && !running.busy {
            return;
        }
        if waits || self.has_approval(name) {
            return;
        }
        match (running.busy, running.turn.clone()) {
            (false, _) if running.claim.is_none() || self.is_planted(Planted::TurnBesideOurs) => {
                let batch = self.next_batch(name);
                self.deliver(step, name, nonce, batch, None);
            }
            (true, Some(turn)) => self.evaluate_running_turn(step, name, nonce, turn, holds_mail),
            _ => {}
        }
    }

    /// The operator wants the running turn to end: it is interrupted as soon as its id is known.
    fn evaluate_interrupt(&mut self, step: &mut Step, name: &Name) {
        let nonce = self.ready_child_of(name);
        let Some(running) = self.sessions.get_mut(name).filter(|running| running.interrupt_wanted) else {
            return;
        };
        if !running.has_turn() {
            running.interrupt_wanted = false;
            return;
        }
        let turn = running.turn.clone().filter(|turn| running.interrupting.as_ref() != Some(turn));
        let turn = turn.filter(|_| running.may_end(step.now));
        if let (Some(nonce), Some(turn)) = (nonce, turn) {
            running.interrupting = Some(turn.clone());
            let command = ChildCommand::InterruptTurn { session: name.clone(), turn };
            step.act(Action::Command { nonce, command });
        }
    }

    /// The person's own words that are next, if there are any.
    fn next_prompt(&self, name: &Name) -> Option<DeliveryId> {
        let first = self.ledger.queue(name)?.queued.first();
        first.filter(|(priority, _)| *priority == Priority::Prompt).map(|(_, id)| *id)
    }

    /// A turn runs: mail for now interrupts it, and at a boundary other mail may join it.
    fn evaluate_running_turn(
        &mut self,
        step: &mut Step,
        name: &Name,
        nonce: Nonce,
        turn: TurnId,
        holds_mail: bool,
    ) {
        // What is held back interrupts nothing, also when words of the person may go in.
        let pressing = self.ledger.queue(name).filter(|_| !holds_mail);
        let pressing = pressing.and_then(|queue| queue.pressing.last().copied());
        let Some(running) = self.sessions.get_mut(name) else { return };
        let is_open = |claim| self.ledger.claims.get(&claim).is_some_and(|known| !known.ended);
        let in_flight = running.claim.as_ref().is_some_and(|flight| is_open(flight.claim));
        // A turn that is about to take our mail is not interrupted before it has; else mail for now would chase mail for now.
        let takes_ours = in_flight && !running.at_boundary;
        if running.interrupting.as_ref() == Some(&turn) || takes_ours {
            return;
        }
        let for_it = running.claim.as_ref().filter(|flight| flight.turn.as_ref() == Some(&turn));
        if pressing.is_some() && pressing > for_it.and_then(|flight| flight.for_now) {
            if !running.may_end(step.now) {
                return;
            }
            running.interrupting = Some(turn.clone());
            // Only the operator's mail can be for now.
            running.ended_by = Some((Name::operator(), "mail for now interrupted its turn"));
            let command = ChildCommand::InterruptTurn { session: name.clone(), turn };
            return step.act(Action::Command { nonce, command });
        }
        if running.at_boundary && !in_flight {
            let batch = self.steerable_batch(step.now, name);
            self.deliver(step, name, nonce, batch, Some(turn));
        }
    }

    /// Claims a batch and gives it to the child, as a turn of its own or into a running one.
    fn deliver(
        &mut self,
        step: &mut Step,
        name: &Name,
        nonce: Nonce,
        batch: Vec<DeliveryId>,
        into: Option<TurnId>,
    ) {
        if batch.is_empty() {
            return;
        }
        let (claim, at) = (step.mint.claim(), step.now);
        let for_now = self.ledger.queue(name).and_then(|queue| queue.pressing.last().copied());
        let note = into.is_some().then_some("into the running turn");
        self.open_claim(step, claim, name, Some(nonce), &batch, note);
        let Some(running) = self.sessions.get_mut(name) else { return };
        let before = running.claim.take().filter(|flight| flight.turn.is_some() && flight.turn == into);
        let before_now = before.as_ref().and_then(|flight| flight.for_now);
        let earlier = before.map(|flight| [flight.earlier, vec![flight.claim]].concat()).unwrap_or_default();
        let for_now = for_now.or(before_now);
        running.claim = Some(Flight { claim, turn: into.clone(), ended: Vec::new(), for_now, earlier });
        if into.is_none() {
            running.heard_at = at;
        }
        running.retry_at = None;
        running.singly = running.singly.saturating_sub(1);
        let as_written = self.ledger.sessions.get(name).is_some_and(|session| session.skills_in_mail);
        let skills = if as_written { Default::default() } else { running.skills.clone() };
        let tools = self.has_tools(name);
        self.timers.set(Timer::Lease(name.clone()), at.plus(limits::LEASE_MS));
        let (session, deliveries) = (name.clone(), batch);
        step.act(Action::Deliver(Deliver { nonce, session, claim, deliveries, into, skills, tools, at }));
    }

    /// Opens a claim and moves its mails to `claimed`.
    pub(super) fn open_claim(
        &mut self,
        step: &mut Step,
        claim: ClaimId,
        session: &Name,
        child: Option<Nonce>,
        deliveries: &[DeliveryId],
        note: Option<&str>,
    ) {
        let at = step.now;
        let session = session.clone();
        self.record(step, Record::ClaimOpened { claim, session, child, deliveries: deliveries.to_vec(), at });
        for delivery in deliveries {
            self.move_delivery(step, *delivery, DeliveryState::Claimed, None, note.map(str::to_owned));
        }
    }

    /// The mails that would go into the next turn, in order; empty when none may start one.
    fn next_batch(&self, name: &Name) -> Vec<DeliveryId> {
        let Some(queue) = self.ledger.queue(name) else { return Vec::new() };
        if self.is_planted(Planted::UrgentBeforePrompt)
            && let Some((_, urgent)) = queue.queued.iter().find(|(priority, _)| *priority == Priority::Urgent)
        {
            return vec![*urgent];
        }
        if let Some(prompt) = self.next_prompt(name) {
            return vec![prompt];
        }
        let starts_a_turn = queue.queued.first().is_some_and(|(priority, _)| *priority != Priority::Fyi);
        // What interrupted a turn goes in before everything else.
        let for_now = self.mail_for_now(name);
        if !for_now.is_empty() {
            return self.cut_to_batch(name, for_now.into_iter());
        }
        if !starts_a_turn {
            return Vec::new();
        }
        self.cut_to_batch(name, queue.queued.iter().map(|(_, id)| *id))
    }

    /// The mails that may join a running turn at its boundary, in order.
    fn steerable_batch(&self, now: Millis, name: &Name) -> Vec<DeliveryId> {
        if let Some(prompt) = self.next_prompt(name) {
            return vec![prompt];
        }
        let patience_ms = self.settings.policy.patience_ms;
        let may_join = |delivery: &Delivery| match (delivery.when, delivery.priority) {
            (Some(When::Idle), _) | (None, Priority::Fyi) => false,
            (Some(When::Boundary | When::Now), _) | (None, Priority::Prompt | Priority::Urgent) => true,
            (None, Priority::Normal) => now.since(delivery.sent_at) >= patience_ms,
        };
        let all = self.in_order(name, may_join);
        self.cut_to_batch(name, all.into_iter())
    }

    /// Queued mails that fit, none of which would overtake one of the same sender and priority (G6). Looks at the first ones
    /// only: this happens at every boundary, and a queue may be very long.
    fn in_order(&self, name: &Name, fits: impl Fn(&Delivery) -> bool) -> Vec<DeliveryId> {
        let mut passed_over: BTreeSet<(Priority, &Name)> = BTreeSet::new();
        let queued = self.ledger.queue(name).into_iter().flat_map(|queue| &queue.queued);
        let queued = queued.take(limits::STEER_LOOK_MAX);
        let mut found = Vec::new();
        for (priority, id) in queued {
            let Some(delivery) = self.ledger.deliveries.get(id) else { continue };
            if !fits(delivery) {
                if !self.is_planted(Planted::SteerOvertakes) {
                    passed_over.insert((*priority, &delivery.from));
                }
            } else if !passed_over.contains(&(*priority, &delivery.from)) {
                found.push(*id);
                if found.len() == limits::BATCH_MAILS_MAX {
                    break;
                }
            }
        }
        found
    }

    /// As many as go in together: up to so many mails and bytes; the first one always, whole.
    fn cut_to_batch(&self, name: &Name, ids: impl Iterator<Item = DeliveryId>) -> Vec<DeliveryId> {
        let singly = self.sessions.get(name).is_some_and(|running| running.singly > 0);
        let mails_max = if singly { 1 } else { limits::BATCH_MAILS_MAX };
        let (mut batch, mut bytes) = (Vec::new(), 0u64);
        for id in ids {
            let size = u64::from(self.ledger.deliveries.get(&id).map_or(0, |delivery| delivery.bytes));
            let fits = batch.len() < mails_max && bytes + size <= limits::BATCH_BYTES_MAX;
            if !batch.is_empty() && !fits {
                break;
            }
            batch.push(id);
            bytes += size;
        }
        batch
    }

    /// Mail that interrupts, and what its senders wrote before it in the same priority (G6).
    fn mail_for_now(&self, name: &Name) -> Vec<DeliveryId> {
        let Some(queue) = self.ledger.queue(name).filter(|queue| !queue.pressing.is_empty()) else {
            return Vec::new();
        };
        let header = |id: &DeliveryId| self.ledger.deliveries.get(id);
        let mut last_of: BTreeMap<(Priority, &Name), DeliveryId> = BTreeMap::new();
        for (id, delivery) in queue.pressing.iter().filter_map(|id| Some((*id, header(id)?))) {
            last_of.insert((delivery.priority, &delivery.from), id);
        }
        let goes = |(priority, id): &&(Priority, DeliveryId)| {
            let from = header(id).map(|delivery| &delivery.from);
            from.and_then(|from| last_of.get(&(*priority, from))).is_some_and(|last| id <= last)
        };
        queue.queued.iter().filter(goes).map(|(_, id)| *id).collect()
    }

    /// Asks for claims in doubt; true while there are any that can be settled, because nothing may overtake them. What cannot be
    /// settled, because the history cannot be read, holds nobody back for ever.
    pub(super) fn find_claims(&mut self, step: &mut Step, name: &Name) -> bool {
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
        let can_be_settled = running.unread < limits::UNREAD_MAX;
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
                let claims = self.with_earlier_claims(doubted);
                let command = ChildCommand::FindClaims { session: name.clone(), claims };
                step.act(Action::Command { nonce, command });
            }
        }
        can_be_settled
    }

    /// These claims, and those that their mails were in before, the last ones of each: what was believed absent may have come to light.
    fn with_earlier_claims(&self, claims: Vec<ClaimId>) -> Vec<ClaimId> {
        let mails = claims.iter().flat_map(|claim| self.open_deliveries_of(*claim));
        let mails = mails.filter_map(|id| self.ledger.deliveries.get(&id));
        let earlier = mails.flat_map(|mail| mail.claims.iter().rev().take(limits::EARLIER_CLAIMS_MAX));
        let all: BTreeSet<ClaimId> = claims.iter().chain(earlier).copied().collect();
        all.into_iter().collect()
    }

    /// Whether a session has mail that the relay could move without hearing from anybody.
    pub(super) fn has_mail_that_could_move(&self, name: &Name) -> bool {
        let open = self.sessions.get(name).is_some_and(|running| running.phase == Phase::Open);
        let moves = |queue: &Queue| {
            queue.queued.first().is_some_and(|(priority, _)| *priority != Priority::Fyi)
                || !queue.pressing.is_empty()
        };
        open && self.should_run(name)
            && (!self.is_held(name) || self.next_prompt(name).is_some())
            && (self.ledger.open_claims(name).next().is_some() || self.ledger.queue(name).is_some_and(moves))
    }

    /// Moves a delivery and tells those who wait for it.
    pub(super) fn move_delivery(
        &mut self,
        step: &mut Step,
        id: DeliveryId,
        to: DeliveryState,
        turn: Option<TurnId>,
        note: Option<String>,
    ) {
        let Some(delivery) = self.ledger.deliveries.get(&id) else { return };
        let (mail, recipient, at) = (delivery.mail, delivery.to.clone(), step.now);
        if matches!(to, DeliveryState::Expired | DeliveryState::Failed) {
            let why = note.clone().unwrap_or_default();
            let (from, to, what) = (delivery.from.clone(), recipient.clone(), to.as_str());
            self.outcomes.push(Outcome { tell: from.clone(), from, mail, to, what, why });
        }
        self.record(
            step,
            Record::DeliveryMoved { delivery: id, to, at, turn: turn.clone(), note: note.clone() },
        );
        self.waiting_saw_move(step, mail, &recipient, to, turn, note);
    }

    /// The planted bug of that name.
    fn drop_old_mail(&mut self, step: &mut Step, name: &Name) {
        let queued = self.ledger.queue(name).into_iter().flat_map(|queue| &queue.queued);
        let is_old = |id: &DeliveryId| {
            self.ledger.deliveries.get(id).is_some_and(|delivery| step.now.since(delivery.sent_at) > 5_000)
        };
        let old: Vec<DeliveryId> = queued.map(|(_, id)| *id).filter(is_old).collect();
        for id in old {
            self.move_delivery(step, id, DeliveryState::Expired, None, None);
        }
    }

    /// Ends queued mail whose time has passed.
    pub(super) fn expire_mail(&mut self, step: &mut Step) {
        for _ in 0..limits::EXPIRED_PER_INPUT {
            let due = self.ledger.expiring.first().copied().filter(|(at, _)| *at <= step.now);
            let Some((at, id)) = due else { break };
            let note = format!("not delivered before {}", at.rfc3339_seconds());
            self.move_delivery(step, id, DeliveryState::Expired, None, Some(note));
        }
    }

    /// Why a recipient's mail is not further, in one line; `None` when nothing stands in its way.
    pub(super) fn why_not_further(&self, name: &Name, now: Millis) -> Option<String> {
        let Some(running) = self.sessions.get(name) else {
            return Some("waits to be read".to_owned());
        };
        if let Some(until) = self.ledger.sessions.get(name).and_then(|session| session.held_until) {
            let end = if until == HELD_FOR_EVER {
                String::new()
            } else {
                format!(" until {}", until.rfc3339_seconds())
            };
            return Some(format!("{name} is held{end}; release it: agentmux release {name}"));
        }
        let since = format!("since {}", running.shown.1.rfc3339_seconds());
        let state = self.shown_state(name);
        let reason = running.reason.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
        let text = match state {
            crate::model::session::SessionState::Idle if running.tools == Some(ToolsState::Starting) => {
                format!("the tools of {name} are coming up")
            }
            crate::model::session::SessionState::Idle => {
                return running
                    .retry_at
                    .filter(|at| *at > now)
                    .map(|at| format!("tried again at {}{reason}", at.rfc3339_seconds()));
            }
            crate::model::session::SessionState::Stopped
                if self.has_a_place_to_wake() && self.has_mail_that_wakes(name) =>
            {
                format!("{name} is woken for it")
            }
            crate::model::session::SessionState::Stopped if self.has_mail_that_wakes(name) => {
                format!("{name} sleeps {since}, and {} others are awake", self.settings.policy.wake_max)
            }
            crate::model::session::SessionState::Stopped => {
                format!("{name} is stopped {since}; start it: agentmux up {name}")
            }
            crate::model::session::SessionState::Blocked => {
                let until = self.blocked_until(name).unwrap_or(now).rfc3339_seconds();
                format!(
                    "{name} is blocked {since}{reason}; tried again at {until}, or now: agentmux up {name}"
                )
            }
            crate::model::session::SessionState::Waiting => format!("{name} waits for an approval {since}"),
            other => format!("{name} is {} {since}{reason}", other.as_str()),
        };
        Some(text)
    }
}
