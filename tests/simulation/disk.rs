//! The disk: tables as the real store has them, one open transaction, and the rows that a request names.
//!
//! **Invariant:** only `commit` changes what survives a crash; `lose` forgets the open transaction whole.
//! **Invariant:** rows are written from records without the ledger, so that comparing the two means something (G9).
//!
//! Deliberately absent: removal of mail. Rows of mail stay for ever.

use std::collections::BTreeMap;
use std::sync::Arc;

use agentmux::core::input::{Known, KnownDelivery, Lookup};
use agentmux::core::ledger::{Claim, OpenApproval, Outsider};
use agentmux::core::record::{DeliveryId, Record};
use agentmux::model::clock::Millis;
use agentmux::model::id::{ClaimId, MailId, Nonce, TurnId};
use agentmux::model::limits;
use agentmux::model::mail::{DeliveryState, FromKind, Mail};
use agentmux::model::name::Name;
use agentmux::model::session::{Child, Session};
use agentmux::model::token::TokenHash;

use crate::random::Random;

/// One row of the deliveries.
#[derive(Debug, Clone, PartialEq)]
pub struct DeliveryRow {
    pub mail: MailId,
    pub to: Name,
    pub state: DeliveryState,
    pub turn: Option<TurnId>,
    pub note: Option<String>,
    /// When it came to that state.
    pub at: Millis,
    /// Every state that it went to since it was accepted, in order.
    pub path: Vec<DeliveryState>,
    /// Whether it was revived, and so no longer expires.
    pub revived: bool,
    /// Whether the loop brake holds it.
    pub braked: bool,
    /// Whether the loop brake ever held it.
    pub was_braked: bool,
    /// Whether it is listed as dead no longer.
    pub discarded: bool,
}

/// One row of the claims.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimRow {
    pub session: Name,
    pub child: Option<Nonce>,
    pub deliveries: Vec<DeliveryId>,
    pub opened_at: Millis,
    pub ended_at: Option<Millis>,
    /// Its place in the order of writing.
    pub row: usize,
}

impl DeliveryRow {
    /// Whether it is a notice, and its reader has so many newer ones that it may make room.
    pub fn is_old_notice(&self, tables: &Tables) -> bool {
        let is_notice = |row: &&DeliveryRow| tables.mails[&row.mail].from_kind == FromKind::System;
        let sent_at = |row: &DeliveryRow| tables.mails[&row.mail].sent_at;
        let newer =
            tables.deliveries.values().filter(|row| row.to == self.to && sent_at(row) >= sent_at(self));
        let waiting = newer.filter(|row| row.state == DeliveryState::Queued).filter(is_notice);
        is_notice(&self) && waiting.count() >= limits::NOTICES_MAX
    }
}

impl ClaimRow {
    /// The row as a relay loads it.
    pub fn claim(&self) -> Claim {
        Claim {
            session: self.session.clone(),
            child: self.child,
            deliveries: self.deliveries.clone(),
            opened_at: self.opened_at,
            ended: self.ended_at.is_some(),
        }
    }
}

/// Everything that is stored.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tables {
    pub sessions: BTreeMap<Name, Session>,
    pub mails: BTreeMap<MailId, Arc<Mail>>,
    pub deliveries: BTreeMap<DeliveryId, DeliveryRow>,
    pub claims: BTreeMap<ClaimId, ClaimRow>,
    pub children: BTreeMap<Nonce, (Child, bool)>,
    pub approvals: BTreeMap<String, OpenApproval>,
    /// How approvals were settled: the decision, by whom, and why.
    pub settled: Vec<(String, String, String)>,
    /// Session, child, hash, and whether it was used; in the order of writing.
    pub tokens: Vec<(Name, Nonce, TokenHash, bool)>,
    pub outsiders: BTreeMap<Name, Outsider>,
}

/// The tables as they survive a crash, and as the open transaction sees them.
#[derive(Debug, Default)]
pub struct Disk {
    pub committed: Tables,
    pub open: Tables,
    pending: Vec<Record>,
}

impl Disk {
    /// A disk that holds these tables.
    pub fn of(tables: &Tables) -> Disk {
        Disk { committed: tables.clone(), open: tables.clone(), pending: Vec::new() }
    }

    /// Writes a record into the open transaction.
    pub fn write(&mut self, record: &Record) {
        self.open.write(record);
        self.pending.push(record.clone());
    }

    /// Makes the open transaction durable; returns what it held.
    pub fn commit(&mut self) -> Vec<Record> {
        let records = std::mem::take(&mut self.pending);
        records.iter().for_each(|record| self.committed.write(record));
        records
    }

    /// Loses the open transaction.
    pub fn lose(&mut self) {
        if !self.pending.is_empty() {
            self.pending.clear();
            self.open = self.committed.clone();
        }
    }

    /// What the next relay does first after a reboot: what was consumed last is in doubt again, each mail by a claim of its own. Returns
    /// which.
    pub fn reboot(&mut self, now: Millis, random: &mut Random) -> Vec<DeliveryId> {
        let last = self.committed.deliveries.values().map(|row| row.at).max().unwrap_or(now);
        let is_recent = |row: &DeliveryRow| {
            row.state == DeliveryState::Consumed && last.since(row.at) <= limits::RECHECK_MS
        };
        let recent = self.committed.deliveries.iter().filter(|(_, row)| is_recent(row));
        let of_session = |(id, row): (&DeliveryId, &DeliveryRow)| {
            self.committed.sessions.get(&row.to).map(|session| (*id, session.created_at))
        };
        let recent: Vec<(DeliveryId, Millis)> = recent.filter_map(of_session).collect();
        let mut doubted = Vec::new();
        for (id, since) in recent {
            let claims = self.committed.claims.values().filter(|claim| claim.opened_at >= since);
            let held = claims.filter(|claim| claim.child.is_some() && claim.deliveries.contains(&id));
            let Some(claim) = held.max_by_key(|claim| claim.row).cloned() else { continue };
            let row = self.committed.claims.len();
            if claim.ended_at.is_some() {
                let doubt = ClaimRow { deliveries: vec![id], opened_at: now, ended_at: None, row, ..claim };
                self.committed.claims.insert(ClaimId(uuid::Uuid::from_u128(random.wide())), doubt);
            }
            let delivery = self.committed.deliveries.get_mut(&id).expect("it was just found");
            delivery.state = DeliveryState::Unknown;
            delivery.path.push(DeliveryState::Unknown);
            doubted.push(id);
        }
        self.open = self.committed.clone();
        doubted
    }

    /// Looks a mail up by its id, a prefix or a suffix of it.
    pub fn lookup(&self, reference: &str) -> Lookup {
        if let Some(mail) = MailId::parse(reference) {
            let known = self.open.known(mail);
            return known.map_or(Lookup::Missing, |known| Lookup::Found(Box::new(known)));
        }
        let fits = |id: &&MailId| {
            let text = id.to_string();
            text.starts_with(reference) || text.ends_with(reference)
        };
        let found: Vec<MailId> = self.open.mails.keys().filter(fits).copied().collect();
        match found[..] {
            [] => Lookup::Missing,
            [one] => self.open.known(one).map_or(Lookup::Missing, |known| Lookup::Found(Box::new(known))),
            _ => Lookup::Ambiguous(found),
        }
    }

    /// The claims that the deliveries of a mail were ever in, oldest first.
    pub fn claims_of(&self, mail: MailId) -> Vec<(DeliveryId, ClaimId, Claim)> {
        let mut rows: Vec<(&ClaimId, &ClaimRow)> = self.open.claims.iter().collect();
        rows.sort_by_key(|(_, row)| row.row);
        let of = |(id, row): (&ClaimId, &ClaimRow)| {
            let claim = row.claim();
            let of_mail = |delivery: &&DeliveryId| self.open.deliveries[delivery].mail == mail;
            row.deliveries
                .iter()
                .filter(of_mail)
                .map(|delivery| (*delivery, *id, claim.clone()))
                .collect::<Vec<_>>()
        };
        rows.into_iter().flat_map(of).collect()
    }

    /// Dead deliveries that are still listed.
    pub fn dead(&self) -> Vec<DeliveryId> {
        let is_dead = |row: &DeliveryRow| {
            matches!(row.state, DeliveryState::Expired | DeliveryState::Failed) && !row.discarded
        };
        self.open.deliveries.iter().filter(|(_, row)| is_dead(row)).map(|(id, _)| *id).collect()
    }

    /// Looks up the mail that has this sender and idempotency key.
    pub fn keyed(&self, from: &Name, key: Option<&str>) -> Option<Box<Known>> {
        let key = key?;
        let mail = self.open.mails.values().find(|m| m.from == *from && m.key.as_deref() == Some(key))?;
        self.open.known(mail.id).map(Box::new)
    }
}

impl Tables {
    /// A stored mail and where it stands.
    pub fn known(&self, id: MailId) -> Option<Known> {
        let mail = self.mails.get(&id)?;
        let row = |id: DeliveryId, row: &DeliveryRow| KnownDelivery {
            id,
            to: row.to.clone(),
            state: row.state,
            reason: row.note.clone(),
            turn: row.turn.as_deref().map(str::to_owned),
        };
        Some(Known {
            mail: (**mail).clone(),
            deliveries: self.of_mail(id).map(|(id, delivery)| row(id, delivery)).collect(),
            bytes: mail.body.len() as u32,
            answered_by: self.mails.values().find(|other| other.reply_to == Some(id)).map(|other| other.id),
        })
    }

    /// The deliveries of one mail.
    pub fn of_mail(&self, id: MailId) -> impl Iterator<Item = (DeliveryId, &DeliveryRow)> {
        self.deliveries.iter().filter(move |(_, row)| row.mail == id).map(|(id, row)| (*id, row))
    }

    fn write(&mut self, record: &Record) {
        match record {
            Record::SessionSpawned(session) | Record::SessionConfigured(session) => {
                self.sessions.insert(session.name.clone(), session.clone());
            }
            Record::SessionWanted { name, wanted, after } => {
                if let Some(session) = self.sessions.get_mut(name) {
                    (session.wanted, session.stopped_after) = (*wanted, after.0);
                }
            }
            Record::SessionSummarised { name, summary } => {
                if let Some(session) = self.sessions.get_mut(name) {
                    session.summary = summary.clone();
                }
            }
            Record::SessionHeld { name, until } => {
                if let Some(session) = self.sessions.get_mut(name) {
                    session.held_until = *until;
                }
            }
            Record::SessionBlocked { name, until } => {
                if let Some(session) = self.sessions.get_mut(name) {
                    session.blocked_until = *until;
                }
            }
            Record::ThreadBound { name, thread } => {
                if let Some(session) = self.sessions.get_mut(name) {
                    session.thread = Some(thread.clone());
                }
            }
            Record::SessionRemoved { name } => {
                self.sessions.remove(name);
                self.tokens.retain(|token| token.0 != *name);
            }
            Record::TokenIssued { session, child, hash } => {
                self.tokens.retain(|token| token.0 != *session || token.1 == *child);
                self.tokens.push((session.clone(), *child, *hash, false));
                let own: Vec<TokenHash> =
                    self.tokens.iter().filter(|token| token.0 == *session).map(|token| token.2).collect();
                if own.len() > limits::TOKENS_PER_SESSION_MAX {
                    self.tokens.retain(|token| token.2 != own[1]);
                }
            }
            Record::TokenUsed { session, hash } => {
                self.tokens.retain(|token| token.0 != *session || token.2 == *hash);
                self.tokens.iter_mut().filter(|token| token.0 == *session).for_each(|token| token.3 = true);
            }
            Record::NameClaimed { name, hash, epoch, at, .. } => {
                let outsider = Outsider { hash: *hash, epoch: *epoch, held: true, since: *at };
                self.outsiders.insert(name.clone(), outsider);
            }
            Record::NameReleased { name, at } => {
                if let Some(outsider) = self.outsiders.get_mut(name) {
                    (outsider.held, outsider.since) = (false, *at);
                }
            }
            Record::NameRemoved { name } => {
                self.outsiders.remove(name);
            }
            Record::MailAccepted { mail, deliveries } => {
                for (id, to) in deliveries {
                    let row = DeliveryRow {
                        mail: mail.id,
                        to: to.clone(),
                        state: DeliveryState::Queued,
                        turn: None,
                        note: None,
                        at: mail.sent_at,
                        path: Vec::new(),
                        revived: false,
                        braked: false,
                        was_braked: false,
                        discarded: false,
                    };
                    self.deliveries.insert(*id, row);
                }
                self.mails.insert(mail.id, mail.clone());
            }
            Record::DeliveryMoved { delivery, to, turn, note, at } => {
                if let Some(row) = self.deliveries.get_mut(delivery) {
                    if *to == DeliveryState::Consumed
                        && let Some(session) = self.sessions.get_mut(&row.to)
                    {
                        session.consumed_at = Some(*at);
                    }
                    (row.state, row.at) = (*to, *at);
                    row.braked = false;
                    row.path.push(*to);
                    row.turn = turn.clone();
                    row.note = note.clone();
                }
            }
            Record::DeliveryBraked { delivery, .. } => {
                if let Some(row) = self.deliveries.get_mut(delivery) {
                    (row.braked, row.was_braked) = (true, true);
                }
            }
            Record::DeliveryReleased { delivery, .. } => {
                if let Some(row) = self.deliveries.get_mut(delivery) {
                    row.braked = false;
                }
            }
            Record::DeliveryAcked { delivery, note, .. } => {
                if let Some(row) = self.deliveries.get_mut(delivery) {
                    row.state = DeliveryState::Acked;
                    row.path.push(DeliveryState::Acked);
                    row.note = note.clone();
                }
            }
            Record::DeliveryRevived { delivery, note, .. } => {
                if let Some(row) = self.deliveries.get_mut(delivery) {
                    row.state = DeliveryState::Queued;
                    row.path.push(DeliveryState::Queued);
                    row.note = note.clone();
                    (row.revived, row.discarded) = (true, false);
                }
            }
            Record::DeadDiscarded { deliveries } => {
                for id in deliveries {
                    if let Some(row) = self.deliveries.get_mut(id) {
                        row.discarded = true;
                    }
                }
            }
            Record::ClaimOpened { claim, session, child, deliveries, at } => {
                let row = ClaimRow {
                    session: session.clone(),
                    child: *child,
                    deliveries: deliveries.clone(),
                    opened_at: *at,
                    ended_at: None,
                    row: self.claims.len(),
                };
                self.claims.insert(*claim, row);
            }
            Record::ClaimEnded { claim, at } => {
                if let Some(row) = self.claims.get_mut(claim) {
                    row.ended_at = Some(*at);
                }
            }
            Record::ChildIntended(child) => {
                self.children.insert(child.nonce, (child.clone(), true));
            }
            Record::ChildStarted { nonce, pid } => {
                if let Some((child, _)) = self.children.get_mut(nonce) {
                    child.pid = Some(*pid);
                }
            }
            Record::ChildEnded { nonce, .. } => {
                if let Some((_, lives)) = self.children.get_mut(nonce) {
                    *lives = false;
                }
                self.tokens.retain(|token| token.1 != *nonce);
                self.approvals.retain(|key, _| !key.starts_with(&format!("{nonce}/")));
            }
            Record::ApprovalAsked { session, key, at, .. } => {
                let open = OpenApproval { session: session.clone(), asked_at: *at };
                self.approvals.insert(key.clone(), open);
            }
            Record::ApprovalSettled { key, decision, by, reason, .. } => {
                self.approvals.remove(key);
                self.settled.push((decision.clone(), by.clone(), reason.clone()));
            }
            Record::ClaimNoted { .. } => {}
        }
    }
}
