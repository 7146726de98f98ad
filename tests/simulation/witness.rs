//! The witness: what clients, children and models have really seen, kept outside the relay, and the checks against it.
//!
//! **Invariant:** nothing here is learnt from the core; only from what reached clients and children, and from the disk.

use std::collections::{BTreeMap, BTreeSet};

use agentmux::core::input::Input;
use agentmux::core::record::{DeliveryId, Record};
use agentmux::model::child::ChildEvent;
use agentmux::model::id::{ClaimId, MailId, Nonce, ThreadId};
use agentmux::model::mail::{DeliveryState, Priority};
use agentmux::model::name::Name;

use crate::disk::Tables;
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
}

impl Witness {
    /// A relay reads what a child states.
    pub fn relay_reads(&mut self, input: &Input) {
        match input {
            Input::Child { event: ChildEvent::InputTaken { claim: Some(claim), .. }, .. } => {
                self.stated.insert(*claim);
            }
            Input::Child { event: ChildEvent::ClaimsFound { present, .. }, .. } => {
                self.stated.extend(present.iter().map(|(claim, _)| *claim));
            }
            _ => {}
        }
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
            let most = 1 + u32::from(self.excused_mails.contains(id));
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
    /// G2, G3, G6: a child reads a request to start a turn.
    pub fn child_receives(&mut self, nonce: Nonce, thread: Option<&ThreadId>, claim: ClaimId) {
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
            if !given_up || self.witness.stated.contains(&other) {
                self.breach(Guarantee::OneTurnInFlight, format!("{claim} starts while {other} is in a turn"));
            }
        }
        let mail_of = |id: &DeliveryId| &self.disk.open.mails[&self.disk.open.deliveries[id].mail];
        if row.deliveries.iter().all(|id| mail_of(id).priority == Priority::Fyi) {
            self.breach(Guarantee::FyiWaits, format!("{claim} has only fyi, and starts a turn"));
        }
        for id in &row.deliveries {
            if !self.witness.first_received.insert(*id) {
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
        let disk = &self.disk.committed;
        for record in records {
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
                    let confirmed = self.witness.confirmed.contains(&row.mail)
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
                    if disk.mails[&row.mail].expires_at.is_none_or(|expires| expires > *at) {
                        breach(Guarantee::EndsByNamedCause, format!("{delivery:?} expired before its time"));
                    }
                }
                DeliveryState::Cancelled | DeliveryState::Acked => {
                    breach(
                        Guarantee::EndsByNamedCause,
                        format!("{delivery:?} {to:?}, but nobody asked for it"),
                    );
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

    /// G1: whatever a sender was ever told is queued is still on disk.
    pub fn check_accepted(&mut self) {
        let lost = self.witness.accepted.iter().find(|id| !self.disk.committed.mails.contains_key(id));
        if let Some(lost) = lost {
            self.breach(Guarantee::AcceptedIsOnDisk, format!("{lost} was accepted and is gone"));
        }
    }
}
