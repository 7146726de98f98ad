//! The ledger: live headers of everything that is stored, in memory. Bodies and history stay in the store.
//!
//! **Invariant:** `store.load() == ledger` after every commit (G9). A delivery is here only while its recipient has yet to
//! get it; a claim only while it is open or one of its mails is.
//!
//! Deliberately absent: decisions. `apply` does what a record says and asserts that it is possible.

use std::collections::{BTreeMap, BTreeSet};

use super::record::{DeliveryId, Record};
use crate::model::clock::Millis;
use crate::model::id::{ClaimId, MailId, Nonce};
use crate::model::limits;
use crate::model::mail::{DeliveryState, Priority, When};
use crate::model::name::Name;
use crate::model::session::{Child, Session};
use crate::model::token::TokenHash;

/// The header of one mail to one recipient that has yet to get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The mail.
    pub mail: MailId,
    /// Its recipient.
    pub to: Name,
    /// Its sender.
    pub from: Name,
    /// How soon it matters.
    pub priority: Priority,
    /// Bytes of its body.
    pub bytes: u32,
    /// When it was accepted.
    pub sent_at: Millis,
    /// When it is no longer wanted.
    pub expires_at: Option<Millis>,
    /// When it may reach a busy session; `None` leaves that to its priority.
    pub when: Option<When>,
    /// Whether the loop brake holds it back.
    pub braked: bool,
    /// Where it stands.
    pub state: DeliveryState,
    /// Every claim that it was ever in, oldest first.
    pub claims: Vec<ClaimId>,
}

/// One approval that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenApproval {
    /// The session whose turn waits.
    pub session: Name,
    /// When it was asked first.
    pub asked_at: Millis,
}

/// The tokens of one session's tools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// The child that they were given to; they end with it.
    pub child: Nonce,
    /// Whether the first of them was used.
    pub used: bool,
    /// Their hashes, oldest first.
    pub hashes: Vec<TokenHash>,
}

/// A name that an outside agent has claimed, and its mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outsider {
    /// The hash of its holder's token.
    pub hash: TokenHash,
    /// Which claim of the name is the last.
    pub epoch: u64,
    /// Whether somebody holds it, as far as is stored.
    pub held: bool,
    /// Since when it is held, or not.
    pub since: Millis,
}

/// One claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// To which session.
    pub session: Name,
    /// By which child.
    pub child: Option<Nonce>,
    /// Which mails, in order.
    pub deliveries: Vec<DeliveryId>,
    /// When.
    pub opened_at: Millis,
    /// Whether it is over; kept for late evidence then.
    pub ended: bool,
}

/// What waits for one recipient.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Queue {
    /// Queued mail in the order of delivery, without what the loop brake holds back.
    pub queued: BTreeSet<(Priority, DeliveryId)>,
    /// Those of them that interrupt a running turn.
    pub pressing: BTreeSet<DeliveryId>,
    /// Those of them that are notices.
    pub notices: BTreeSet<DeliveryId>,
    /// Everything open, queued or not, oldest first.
    pub open: BTreeSet<DeliveryId>,
    /// How many of those the loop brake holds back.
    pub braked: u32,
    /// Body bytes of everything open.
    pub bytes: u64,
}

/// See the header of this file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ledger {
    /// Sessions by name.
    pub sessions: BTreeMap<Name, Session>,
    /// Open deliveries.
    pub deliveries: BTreeMap<DeliveryId, Delivery>,
    /// What waits, by recipient.
    pub queues: BTreeMap<Name, Queue>,
    /// Queued deliveries that expire, soonest first.
    pub expiring: BTreeSet<(Millis, DeliveryId)>,
    /// Claims that are open, or have an open mail.
    pub claims: BTreeMap<ClaimId, Claim>,
    /// Children that have not ended.
    pub children: BTreeMap<Nonce, Child>,
    /// Approvals that nobody has settled, by key: the child's nonce, `/`, the child's own key.
    pub approvals: BTreeMap<String, OpenApproval>,
    /// Tokens of sessions' tools.
    pub tokens: BTreeMap<Name, Tokens>,
    /// Names of outside agents.
    pub outsiders: BTreeMap<Name, Outsider>,
    /// The last delivery number given out.
    pub last_delivery: i64,
    /// Body bytes of all open deliveries.
    pub bytes: u64,
}

impl Queue {
    fn enqueue(&mut self, id: DeliveryId, delivery: &Delivery) {
        self.queued.insert((delivery.priority, id));
        if delivery.when == Some(When::Now) {
            self.pressing.insert(id);
        }
        if delivery.from == Name::system() {
            self.notices.insert(id);
        }
    }

    fn dequeue(&mut self, id: DeliveryId, priority: Priority) {
        self.queued.remove(&(priority, id));
        self.pressing.remove(&id);
        self.notices.remove(&id);
    }
}

impl Ledger {
    /// Applies one record.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::SessionSpawned(session) => {
                let before = self.sessions.insert(session.name.clone(), session.clone());
                assert!(before.is_none(), "a session is spawned once");
            }
            Record::SessionConfigured(session) => *self.session_mut(&session.name) = session.clone(),
            Record::SessionWanted { name, wanted, after } => {
                let session = self.session_mut(name);
                (session.wanted, session.stopped_after) = (*wanted, after.0);
            }
            Record::SessionSummarised { name, summary } => self.session_mut(name).summary = summary.clone(),
            Record::SessionHeld { name, until } => self.session_mut(name).held_until = *until,
            Record::SessionBlocked { name, until } => self.session_mut(name).blocked_until = *until,
            Record::ThreadBound { name, thread } => self.session_mut(name).thread = Some(thread.clone()),
            Record::SessionRemoved { name } => {
                self.sessions.remove(name);
                self.tokens.remove(name);
                assert!(!self.queues.contains_key(name), "a removed session has no open mail");
            }
            Record::TokenIssued { session, child, hash } => {
                let fresh = || Tokens { child: *child, used: false, hashes: Vec::new() };
                let tokens = self.tokens.entry(session.clone()).or_insert_with(fresh);
                if tokens.child != *child {
                    *tokens = fresh();
                }
                tokens.hashes.push(*hash);
                if tokens.hashes.len() > limits::TOKENS_PER_SESSION_MAX {
                    // The first is the one in use, if any is.
                    tokens.hashes.remove(1);
                }
            }
            Record::TokenUsed { session, hash } => {
                if let Some(tokens) = self.tokens.get_mut(session) {
                    (tokens.used, tokens.hashes) = (true, vec![*hash]);
                }
            }
            Record::NameClaimed { name, hash, epoch, at, .. } => {
                let outsider = Outsider { hash: *hash, epoch: *epoch, held: true, since: *at };
                self.outsiders.insert(name.clone(), outsider);
            }
            Record::NameReleased { name, at } => {
                let outsider = self.outsiders.get_mut(name).expect("only a claimed name is released");
                (outsider.held, outsider.since) = (false, *at);
            }
            Record::NameRemoved { name } => {
                self.outsiders.remove(name);
                assert!(!self.queues.contains_key(name), "a removed name has no open mail");
            }
            Record::MailAccepted { mail, deliveries } => {
                for (id, to) in deliveries {
                    assert!(id.0 > self.last_delivery, "delivery numbers grow");
                    self.last_delivery = id.0;
                    self.restore(
                        *id,
                        Delivery {
                            mail: mail.id,
                            to: to.clone(),
                            from: mail.from.clone(),
                            priority: mail.priority,
                            bytes: mail.body.len() as u32,
                            sent_at: mail.sent_at,
                            expires_at: mail.expires_at,
                            when: mail.when,
                            braked: false,
                            state: DeliveryState::Queued,
                            claims: Vec::new(),
                        },
                    );
                }
            }
            Record::DeliveryMoved { delivery, to, at, .. } => {
                let recipient = self.deliveries.get(delivery).map(|delivery| &delivery.to);
                if *to == DeliveryState::Consumed
                    && let Some(session) = recipient.and_then(|name| self.sessions.get_mut(name))
                {
                    session.consumed_at = Some(*at);
                }
                self.move_delivery(*delivery, *to);
            }
            Record::ClaimOpened { claim, session, child, deliveries, at } => {
                for id in deliveries {
                    self.deliveries.get_mut(id).expect("only open mail is claimed").claims.push(*claim);
                }
                let (session, deliveries) = (session.clone(), deliveries.clone());
                self.claims.insert(
                    *claim,
                    Claim { session, child: *child, deliveries, opened_at: *at, ended: false },
                );
            }
            Record::ClaimEnded { claim, .. } => {
                if let Some(found) = self.claims.get_mut(claim) {
                    found.ended = true;
                    self.drop_settled(*claim);
                }
            }
            Record::ChildIntended(child) => {
                self.children.insert(child.nonce, child.clone());
            }
            Record::ChildStarted { nonce, pid } => {
                self.children.get_mut(nonce).expect("a started child was intended").pid = Some(*pid);
            }
            Record::ChildEnded { nonce, .. } => {
                self.children.remove(nonce);
                self.tokens.retain(|_, tokens| tokens.child != *nonce);
                // What it asked, it no longer asks.
                let of_child = format!("{nonce}/");
                self.approvals.retain(|key, _| !key.starts_with(&of_child));
            }
            Record::ApprovalAsked { session, key, at, .. } => {
                let open = OpenApproval { session: session.clone(), asked_at: *at };
                self.approvals.insert(key.clone(), open);
            }
            Record::ApprovalSettled { key, .. } => {
                self.approvals.remove(key);
            }
            Record::DeliveryBraked { delivery, .. } => self.brake(*delivery, true),
            Record::DeliveryReleased { delivery, .. } => self.brake(*delivery, false),
            Record::DeliveryRevived { delivery, header, claims, .. } => {
                self.claims.extend(claims.iter().cloned());
                self.restore(*delivery, header.clone());
            }
            Record::DeliveryAcked { .. } | Record::DeadDiscarded { .. } | Record::ClaimNoted { .. } => {}
        }
    }

    /// Puts an open delivery in its place; the store uses it when it loads.
    pub fn restore(&mut self, id: DeliveryId, delivery: Delivery) {
        let queue = self.queues.entry(delivery.to.clone()).or_default();
        queue.open.insert(id);
        queue.bytes += u64::from(delivery.bytes);
        self.bytes += u64::from(delivery.bytes);
        if delivery.state == DeliveryState::Queued {
            match delivery.braked {
                true => queue.braked += 1,
                false => queue.enqueue(id, &delivery),
            }
            self.expiring.extend(delivery.expires_at.map(|at| (at, id)));
        }
        self.deliveries.insert(id, delivery);
    }

    /// The claims of a session that are not over.
    pub fn open_claims<'a>(&'a self, session: &'a Name) -> impl Iterator<Item = (ClaimId, &'a Claim)> {
        self.claims
            .iter()
            .filter(move |(_, claim)| !claim.ended && claim.session == *session)
            .map(|(id, claim)| (*id, claim))
    }

    /// What is open for a recipient, if anything is.
    pub fn queue(&self, name: &Name) -> Option<&Queue> {
        self.queues.get(name)
    }

    fn session_mut(&mut self, name: &Name) -> &mut Session {
        self.sessions.get_mut(name).expect("a record names a session that exists")
    }

    fn brake(&mut self, id: DeliveryId, braked: bool) {
        let delivery = self.deliveries.get_mut(&id).expect("only open mail is braked");
        let queue = self.queues.get_mut(&delivery.to).expect("an open delivery has a queue");
        queue.braked = queue.braked + u32::from(braked) - u32::from(delivery.braked);
        delivery.braked = braked;
        if braked {
            queue.dequeue(id, delivery.priority);
        } else if delivery.state == DeliveryState::Queued {
            queue.enqueue(id, delivery);
        }
    }

    fn move_delivery(&mut self, id: DeliveryId, to: DeliveryState) {
        let delivery = self.deliveries.get_mut(&id).expect("only an open delivery moves");
        let from = delivery.state;
        assert!(from.may_become(to), "{} may not become {}", from.as_str(), to.as_str());
        delivery.state = to;
        let expires_at = delivery.expires_at;
        let queue = self.queues.get_mut(&delivery.to).expect("an open delivery has a queue");
        queue.braked -= u32::from(std::mem::take(&mut delivery.braked));
        if to == DeliveryState::Queued {
            queue.enqueue(id, delivery);
            self.expiring.extend(expires_at.map(|at| (at, id)));
        } else {
            queue.dequeue(id, delivery.priority);
            if let Some(at) = expires_at {
                self.expiring.remove(&(at, id));
            }
        }
        if !to.is_open() {
            self.settle(id);
        }
    }

    /// Forgets a delivery that has reached its end or its recipient, and the claims that it kept alive.
    fn settle(&mut self, id: DeliveryId) {
        let delivery = self.deliveries.remove(&id).expect("a delivery settles once");
        self.bytes -= u64::from(delivery.bytes);
        let queue = self.queues.get_mut(&delivery.to).expect("an open delivery has a queue");
        queue.open.remove(&id);
        queue.bytes -= u64::from(delivery.bytes);
        if queue.open.is_empty() {
            self.queues.remove(&delivery.to);
        }
        for claim in delivery.claims {
            self.drop_settled(claim);
        }
    }

    fn drop_settled(&mut self, id: ClaimId) {
        let over = self.claims.get(&id).is_some_and(|claim| {
            claim.ended && claim.deliveries.iter().all(|delivery| !self.deliveries.contains_key(delivery))
        });
        if over {
            self.claims.remove(&id);
        }
    }
}
