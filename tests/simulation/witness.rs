//! The witness: what clients, children and models have really seen, kept outside the relay, and the checks against it.
//!
//! **Invariant:** nothing here is learnt from the core; only from what reached clients and children, and from the disk.

use std::collections::{BTreeMap, BTreeSet};

use agentmux::core::action::Action;
use agentmux::core::input::{Input, Lookup};
use agentmux::core::record::{DeliveryId, Record};
use agentmux::model::child::{ChildCommand, ChildEvent};
use agentmux::model::id::{ClaimId, MailId, Nonce, ThreadId};
use agentmux::model::mail::{DeliveryState, FromKind, Mail, Priority, When};
use agentmux::model::name::Name;
use agentmux::model::session::Wanted;
use agentmux::protocol::request::Request;

use crate::disk::{ClaimRow, DeliveryRow, Tables};
use crate::guarantee::Guarantee;
use crate::loader;
use crate::world::World;

/// See the header of this file.
#[derive(Debug, Default)]
pub struct Witness {
    /// Mail that a sender was told is queued.
    pub accepted: BTreeSet<MailId>,
    /// Which mail a key became.
    pub by_key: BTreeMap<(Name, String), MailId>,
    /// Mail that the person has in hands, and has confirmed by a next request.
    pub confirmed: BTreeSet<MailId>,
    /// Claims of which some child has stated to a relay that they are inside a turn.
    stated: BTreeSet<ClaimId>,
    /// Claims that a child has refused for good.
    refused: BTreeSet<ClaimId>,
    /// Claims that have reached a child.
    received: BTreeSet<ClaimId>,
    /// The last mail that a recipient's child has received, by sender and priority.
    last_received: BTreeMap<(Name, Name, Priority), DeliveryId>,
    first_received: BTreeSet<DeliveryId>,
    /// How often each mail was told to a model.
    told: BTreeMap<DeliveryId, u32>,
    /// Claims whose fate nobody could know, and the mails in them.
    excused: BTreeSet<ClaimId>,
    excused_mails: BTreeSet<DeliveryId>,
    /// Approvals that the operator has said yes to, by id.
    pub approved: BTreeSet<String>,
    /// Deliveries that are `unknown` on disk.
    in_doubt: BTreeSet<DeliveryId>,
    /// How often a person said that a mail was not taken, or wanted a dead one delivered.
    words: BTreeMap<DeliveryId, u32>,
    /// What the person asked to be settled, in requests of this lap.
    asked: Vec<(Settling, MailId)>,
    /// What a recipient has said that it has.
    acked: BTreeSet<(Name, MailId)>,
    /// Whether the person asked, in this lap, to let a session's mail go.
    released: bool,
    /// How often notices told somebody of what became of a mail to somebody.
    notices: BTreeMap<(Name, MailId, Name, String), u32>,
}

/// What a person may ask to be done to a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settling {
    Ack,
    Cancel,
    Requeue,
}

impl Witness {
    /// A relay reads the inputs of another lap.
    pub fn a_lap_begins(&mut self) {
        self.asked.clear();
        self.released = false;
    }

    /// A relay reads what a child states, or what a client asks for.
    pub fn relay_reads(&mut self, input: &Input, by: Option<Name>) {
        match input {
            Input::Asked { request, resolved, .. } => {
                let Some(by) = by else { return };
                self.client_asked(request, &resolved.mail, &by);
            }
            Input::Child { event: ChildEvent::InputTaken { claim: Some(claim), .. }, .. } => {
                self.stated.insert(*claim);
            }
            Input::Child { event: ChildEvent::ClaimsFound { present, .. }, .. } => {
                self.stated.extend(present.iter().map(|(claim, _)| *claim));
            }
            _ => {}
        }
    }

    /// What somebody asked to be done to mail; refused or not, which the records say.
    fn client_asked(&mut self, request: &Request, mail: &Lookup, by: &Name) {
        let is_operator = *by == Name::operator();
        self.released |= is_operator && matches!(request, Request::Release(_));
        let Lookup::Found(known) = mail else { return };
        let id = known.mail.id;
        let settling = match request {
            Request::Ack(_) => {
                self.acked.insert((by.clone(), id));
                Settling::Ack
            }
            Request::Cancel(_) if known.mail.from == *by => return self.asked.push((Settling::Cancel, id)),
            Request::Cancel(_) => Settling::Cancel,
            Request::Requeue(_) => Settling::Requeue,
            _ => return,
        };
        if is_operator {
            self.asked.push((settling, id));
        }
    }

    /// The machine was restarted, and these mails are in doubt again.
    pub fn doubts(&mut self, deliveries: &[DeliveryId]) {
        self.in_doubt.extend(deliveries);
    }

    /// A child refuses a claim.
    pub fn child_refuses(&mut self, claim: ClaimId, temporary: bool) {
        if !temporary {
            self.refused.insert(claim);
        }
    }

    /// Lets a claim's fate be one that nobody can know; refused when one of its mails had that before.
    pub fn excuse(&mut self, claim: ClaimId, disk: &Tables) -> bool {
        let Some(row) = disk.claims.get(&claim) else { return false };
        if row.deliveries.iter().any(|id| self.excused_mails.contains(id)) {
            return false;
        }
        self.excused_mails.extend(&row.deliveries);
        self.excused.insert(claim)
    }

    /// A model gets the mails of a claim. `None` when each for the first time, `Ok` when a second time was allowed.
    pub fn model_is_told(&mut self, claim: ClaimId, deliveries: &[DeliveryId]) -> Option<Result<(), String>> {
        let mut outcome = None;
        for id in deliveries {
            let told = self.told.entry(*id).or_default();
            *told += 1;
            let words = self.words.get(id).copied().unwrap_or_default();
            let most = 1 + u32::from(self.excused_mails.contains(id)) + words;
            if *told > most {
                return Some(Err(format!("{id:?} is told {told} times, {most} allowed, last in {claim}")));
            }
            if *told > 1 {
                outcome = Some(Ok(()));
            }
        }
        outcome
    }
}

impl World {
    /// G2, G3, G6: a child reads a request to start a turn, or to steer one.
    pub fn child_receives(&mut self, nonce: Nonce, thread: Option<&ThreadId>, claim: ClaimId, steers: bool) {
        let Some(row) = self.disk.open.claims.get(&claim).cloned() else {
            return self.breach(
                Guarantee::AcceptedIsOnDisk,
                format!("{claim} reached a child, the disk has it not"),
            );
        };
        if !self.witness.received.insert(claim) {
            return self.breach(Guarantee::OneOpenClaim, format!("{claim} reached a child twice"));
        }
        let running = thread.and_then(|thread| self.codex.turn(nonce, thread));
        let ours = running.map(|turn| turn.ours.clone()).unwrap_or_default();
        for other in ours {
            let given_up = self.disk.open.claims.get(&other).is_some_and(|row| row.ended_at.is_some());
            // A person may have said that it was not taken, before the child said that it was.
            let mails = self.disk.open.claims.get(&other).into_iter().flat_map(|row| &row.deliveries);
            let by_word = mails.into_iter().any(|id| self.witness.words.contains_key(id));
            // A steer may follow what is known to be inside; a turn of its own may not.
            if !given_up || self.witness.stated.contains(&other) && !steers && !by_word {
                self.breach(Guarantee::OneTurnInFlight, format!("{claim} starts while {other} is in a turn"));
            }
        }
        let mail_of = |id: &DeliveryId| &self.disk.open.mails[&self.disk.open.deliveries[id].mail];
        // What the same sender wrote before mail for now goes ahead of it.
        let is_ahead = |id: &DeliveryId| {
            let mail = mail_of(id);
            self.disk.open.deliveries.range(id..).any(|(later, other)| {
                let after = mail_of(later);
                let for_now = other.to == row.session && after.when == Some(When::Now);
                for_now && after.from == mail.from && after.priority == mail.priority
            })
        };
        let starts = |id: &DeliveryId| mail_of(id).priority != Priority::Fyi || is_ahead(id);
        let patience_ms = self.shape.policy.patience_ms;
        let joins = |mail: &Mail| match (mail.when, mail.priority) {
            (Some(when), _) => when != When::Idle,
            (None, Priority::Fyi) => false,
            (None, Priority::Prompt | Priority::Urgent) => true,
            (None, Priority::Normal) => row.opened_at.since(mail.sent_at) >= patience_ms,
        };
        if row.deliveries.len() > 1
            && row.deliveries.iter().any(|id| mail_of(id).priority == Priority::Prompt)
        {
            let what = format!("{claim} puts words of the person together with others");
            return self.breach(Guarantee::Precedence, what);
        }
        let has_starter = row.deliveries.iter().any(starts);
        let intruder = row.deliveries.iter().find(|id| !joins(mail_of(id)));
        match intruder {
            _ if !steers && !has_starter => {
                self.breach(Guarantee::FyiWaits, format!("{claim} has only fyi, and starts a turn"));
            }
            Some(id) if steers => {
                self.breach(Guarantee::FyiWaits, format!("{claim} puts {id:?} into a running turn"));
            }
            _ => {}
        }
        for id in &row.deliveries {
            let delivery = &self.disk.open.deliveries[id];
            // What a person lets go or wants again comes when they say so.
            let is_late = delivery.was_braked || delivery.revived;
            if !self.witness.first_received.insert(*id) || is_late {
                continue;
            }
            let mail = &self.disk.open.mails[&self.disk.open.deliveries[id].mail];
            let key = (row.session.clone(), mail.from.clone(), mail.priority);
            let last = self.witness.last_received.insert(key, *id);
            if let Some(last) = last.filter(|last| last > id) {
                self.breach(Guarantee::InOrder, format!("{id:?} arrives after {last:?}"));
            }
        }
    }

    /// What must hold after every commit.
    pub fn check_commit(&mut self, records: &[Record]) {
        let Some(relay) = &self.relay else { return };
        if *relay.core.ledger() != loader::load(&self.disk.committed) {
            let what = "after a commit the loaded store differs from the ledger";
            return self.breach(Guarantee::StoreIsLedger, what);
        }
        let mut broken: Option<(Guarantee, String)> = None;
        let mut breach = |guarantee, what| {
            broken.get_or_insert((guarantee, what));
        };
        if let Some((guarantee, what)) = self.suspicions.drain(..).next() {
            breach(guarantee, what);
        }
        let disk = &self.disk.committed;
        let asked = |settling, mail: MailId| self.witness.asked.contains(&(settling, mail));
        let has_said = |row: &DeliveryRow| self.witness.acked.contains(&(row.to.clone(), row.mail));
        // A claim is one message: a person's word about one of its mails is about all of them.
        let asked_of_claim = |settling, delivery: &DeliveryId| {
            let mut claims = disk.claims.values().filter(|claim| claim.deliveries.contains(delivery));
            claims.any(|claim| claim.deliveries.iter().any(|id| asked(settling, disk.deliveries[id].mail)))
        };
        for record in records {
            match record {
                Record::DeliveryAcked { delivery, .. } => {
                    let row = &disk.deliveries[delivery];
                    let was_consumed = row.path.iter().rev().nth(1) == Some(&DeliveryState::Consumed);
                    self.counts.settled += 1;
                    if !asked(Settling::Ack, row.mail) && !has_said(row) || !was_consumed {
                        let path = &row.path;
                        breach(Guarantee::EndsByNamedCause, format!("{delivery:?} acked, after {path:?}"));
                    }
                }
                Record::DeliveryRevived { delivery, .. } => {
                    self.counts.settled += 1;
                    if !asked(Settling::Requeue, disk.deliveries[delivery].mail) {
                        breach(Guarantee::EndsByNamedCause, format!("{delivery:?} revived by nobody"));
                    }
                }
                Record::DeliveryBraked { .. } => self.counts.braked += 1,
                Record::MailAccepted { mail, .. } if mail.from_kind == FromKind::System => {
                    self.counts.notices += 1;
                    if let Err(what) = check_notice(&mut self.witness.notices, disk, mail) {
                        breach(Guarantee::EndsByNamedCause, what);
                    }
                }
                _ => {}
            }
            let Record::DeliveryMoved { delivery, to, at, .. } = record else { continue };
            let row = &disk.deliveries[delivery];
            let mut claims = disk.claims.iter().filter(|(_, claim)| claim.deliveries.contains(delivery));
            let was_in_doubt = self.witness.in_doubt.remove(delivery);
            self.counts.unknowns_consumed += u64::from(was_in_doubt && *to == DeliveryState::Consumed);
            self.counts.unknowns_requeued += u64::from(was_in_doubt && *to == DeliveryState::Queued);
            match to {
                DeliveryState::Unknown => {
                    self.counts.unknowns += 1;
                    self.witness.in_doubt.insert(*delivery);
                }
                DeliveryState::Consumed => {
                    let stated = claims.clone().any(|(id, _)| self.witness.stated.contains(id));
                    let confirmed = has_said(row)
                        || self.witness.confirmed.contains(&row.mail)
                            && claims.any(|(_, claim)| claim.child.is_none());
                    if !stated && !confirmed {
                        breach(
                            Guarantee::ConsumedOnEvidence,
                            format!("{delivery:?} consumed, nobody said so"),
                        );
                    }
                }
                DeliveryState::Failed => {
                    let refused = claims.any(|(id, _)| self.witness.refused.contains(id));
                    let removed = records
                        .iter()
                        .any(|other| matches!(other, Record::SessionRemoved { name } if *name == row.to));
                    if !refused && !removed {
                        breach(Guarantee::EndsByNamedCause, format!("{delivery:?} failed without a cause"));
                    }
                }
                DeliveryState::Expired => {
                    if row.revived || disk.mails[&row.mail].expires_at.is_none_or(|expires| expires > *at) {
                        breach(Guarantee::EndsByNamedCause, format!("{delivery:?} expired before its time"));
                    }
                }
                DeliveryState::Cancelled | DeliveryState::Acked => {
                    self.counts.settled += 1;
                    let is_asked = match to {
                        DeliveryState::Cancelled if row.is_old_notice(disk) => true,
                        DeliveryState::Cancelled => {
                            let is_prompt = disk.mails[&row.mail].priority == Priority::Prompt;
                            let taken_back = is_prompt && self.orders.was_closed(&row.to);
                            self.counts.taken_back += u64::from(taken_back);
                            taken_back || asked(Settling::Cancel, row.mail)
                        }
                        _ => was_in_doubt && asked_of_claim(Settling::Ack, delivery),
                    };
                    if !is_asked {
                        let what = format!("{delivery:?} {to:?}, but nobody asked for it");
                        breach(Guarantee::EndsByNamedCause, what);
                    }
                }
                DeliveryState::Queued | DeliveryState::Claimed | DeliveryState::Submitted => {}
            }
        }
        let ledger = relay.core.ledger();
        let mut open: BTreeMap<DeliveryId, ClaimId> = BTreeMap::new();
        for (id, claim) in ledger.claims.iter().filter(|(_, claim)| !claim.ended) {
            let orphaned = claim.child.is_some_and(|nonce| !ledger.children.contains_key(&nonce));
            for delivery in &claim.deliveries {
                if let Some(other) = open.insert(*delivery, *id) {
                    breach(Guarantee::OneOpenClaim, format!("{delivery:?} is in {other} and in {id}"));
                }
                let state = ledger.deliveries.get(delivery).map(|delivery| delivery.state);
                if orphaned && matches!(state, Some(DeliveryState::Claimed | DeliveryState::Submitted)) {
                    breach(Guarantee::OneOpenClaim, format!("{id} is held by a child that is gone"));
                }
            }
        }
        for (id, delivery) in &ledger.deliveries {
            let queued = delivery.state == DeliveryState::Queued;
            if queued == open.contains_key(id) {
                let state = delivery.state;
                breach(Guarantee::OneOpenClaim, format!("{id:?} is {state:?}, its claim {:?}", open.get(id)));
            }
        }
        for nonce in self.codex.processes.keys() {
            if !ledger.children.contains_key(nonce) {
                breach(Guarantee::NoOrphan, format!("child {nonce} lives, the store does not know it"));
            }
        }
        if let Some((guarantee, what)) = broken {
            self.breach(guarantee, what);
        }
    }

    /// Before a record is written: what the loop brake holds is given to nobody; and what a person says of a doubt counts.
    pub fn suspects_record(&mut self, record: &Record) {
        let (id, to) = match record {
            Record::DeliveryMoved { delivery, to, .. } => (*delivery, *to),
            Record::DeliveryRevived { delivery, .. } => (*delivery, DeliveryState::Queued),
            Record::DeliveryReleased { delivery, .. } => {
                if !self.witness.released {
                    let what = format!("{delivery:?} is let go, nobody asked for it");
                    self.suspicions.push((Guarantee::PersonDecides, what));
                }
                return;
            }
            _ => return,
        };
        let Some(row) = self.disk.open.deliveries.get(&id) else { return };
        if row.state == DeliveryState::Consumed && to != DeliveryState::Acked {
            self.suspicions
                .push((Guarantee::ConsumedOnEvidence, format!("{id:?} was consumed, and is {to:?}")));
        }
        // A recipient that says that it has it is given nothing.
        let has_said = self.witness.acked.contains(&(row.to.clone(), row.mail));
        if row.braked && to == DeliveryState::Claimed && !has_said {
            self.suspicions.push((Guarantee::PersonDecides, format!("{id:?} is braked, and claimed")));
        }
        let requeued = |mail: MailId| self.witness.asked.contains(&(Settling::Requeue, mail));
        let mut claims = self.disk.open.claims.values().filter(|claim| claim.deliveries.contains(&id));
        let of_claim =
            |claim: &ClaimRow| claim.deliveries.iter().any(|id| requeued(self.disk.open.deliveries[id].mail));
        if to == DeliveryState::Queued && claims.any(of_claim) {
            *self.witness.words.entry(id).or_default() += 1;
        }
    }

    /// What a session must not get: anything while it is held, or stopped and not to be woken; an interrupt without mail for now,
    /// unless the person ordered it.
    pub fn suspects_action(&mut self, action: &Action) {
        let (name, interrupts) = match action {
            Action::Deliver(deliver) => (&deliver.session, false),
            Action::Command { command: ChildCommand::InterruptTurn { session, .. }, .. } => (session, true),
            _ => return,
        };
        let is_prompt = |id: &DeliveryId| {
            let row = &self.disk.open.deliveries[id];
            self.disk.open.mails[&row.mail].priority == Priority::Prompt
        };
        // Words of the person go in also while mail is held.
        let says = matches!(action, Action::Deliver(deliver) if deliver.deliveries.iter().all(is_prompt));
        let Some(session) = self.disk.open.sessions.get(name) else { return };
        let for_now = |row: &DeliveryRow| {
            let when = self.disk.open.mails[&row.mail].when;
            row.to == *name && row.state == DeliveryState::Queued && !row.braked && when == Some(When::Now)
        };
        let is_ordered = interrupts && self.orders.wants_its_end(name);
        let why = if session.held_until.is_some() && !says && !is_ordered {
            "is held"
        } else if session.wanted == Wanted::Down && !session.wake && !is_ordered {
            "is stopped"
        } else if interrupts && !self.disk.open.deliveries.values().any(for_now) && !is_ordered {
            "has no mail for now, and nobody interrupts it"
        } else {
            self.counts.woken += u64::from(session.wanted == Wanted::Down);
            return;
        };
        self.suspicions.push((Guarantee::PersonDecides, format!("{name} {why}, and gets {action:?}")));
    }

    /// Nothing that counts as delivered was never told, but for what a person, or its recipient, said was taken.
    pub fn check_none_missing(&mut self) {
        let missing = self.disk.committed.deliveries.iter().find(|(id, row)| {
            let was_consumed = row.path.contains(&DeliveryState::Consumed);
            let has_said = self.witness.acked.contains(&(row.to.clone(), row.mail));
            was_consumed && row.to != Name::operator() && !has_said && !self.witness.told.contains_key(id)
        });
        if let Some((id, row)) = missing {
            let what = format!("{id:?} is {:?}, and no model was told", row.state);
            self.breach(Guarantee::ConsumedOnEvidence, what);
        }
    }

    /// G1: whatever a sender was ever told is queued is still on disk.
    pub fn check_accepted(&mut self) {
        let lost = self.witness.accepted.iter().find(|id| !self.disk.committed.mails.contains_key(id));
        if let Some(lost) = lost {
            self.breach(Guarantee::AcceptedIsOnDisk, format!("{lost} was accepted and is gone"));
        }
    }
}

/// A notice tells of each end of a delivery once, of a braked one once, and never of another notice.
fn check_notice(
    told: &mut BTreeMap<(Name, MailId, Name, String), u32>,
    disk: &Tables,
    notice: &Mail,
) -> Result<(), String> {
    for line in notice.body.lines().filter(|line| line.starts_with("mail ")) {
        let words: Vec<&str> = line.split([' ', ':']).collect();
        let (mail, to) = (MailId::parse(words[1]), Name::parse(words[5]));
        let (Some(mail), Some(to)) = (mail, to) else { return Err(format!("a notice says `{line}`")) };
        if disk.mails[&mail].from_kind == FromKind::System {
            return Err(format!("a notice tells of the notice {mail}"));
        }
        let key = (notice.to[0].clone(), mail, to.clone(), words[6].to_owned());
        let told = told.entry(key).or_default();
        *told += 1;
        let (_, row) = disk.of_mail(mail).find(|(_, row)| row.to == to).ok_or("a notice of no mail")?;
        let ends = row.path.iter().filter(|state| state.as_str() == words[6]).count() as u32;
        let most = if words[6] == "was" { u32::from(row.was_braked) } else { ends };
        if *told > most {
            return Err(format!("notice {told} of {mail} to {to}, {most} allowed: {line}"));
        }
    }
    Ok(())
}
