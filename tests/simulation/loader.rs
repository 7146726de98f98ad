//! The loader: makes a ledger from the tables, by asking what is still open, as the real store does with SQL.
//!
//! **Invariant:** independent of `Ledger::apply` and `Ledger::restore`; every field is worked out here from rows.

use agentmux::core::ledger::{Delivery, Ledger, Tokens};
use agentmux::model::mail::{DeliveryState, When};
use agentmux::model::name::Name;

use crate::disk::Tables;

/// Loads the ledger that a relay would start with.
pub fn load(tables: &Tables) -> Ledger {
    let mut ledger = Ledger { sessions: tables.sessions.clone(), ..Ledger::default() };
    ledger.approvals = tables.approvals.clone();
    ledger.outsiders = tables.outsiders.clone();
    for (session, child, hash, used) in &tables.tokens {
        let fresh = Tokens { child: *child, used: *used, hashes: Vec::new() };
        ledger.tokens.entry(session.clone()).or_insert(fresh).hashes.push(*hash);
    }
    let children = tables.children.iter().filter(|(_, (_, lives))| *lives);
    ledger.children = children.map(|(nonce, (child, _))| (*nonce, child.clone())).collect();
    ledger.last_delivery = tables.deliveries.last_key_value().map_or(0, |(id, _)| id.0);
    for (id, row) in tables.deliveries.iter().filter(|(_, row)| row.state.is_open()) {
        let mail = &tables.mails[&row.mail];
        let bytes = mail.body.len();
        let expires_at = mail.expires_at.filter(|_| !row.revived);
        let queue = ledger.queues.entry(row.to.clone()).or_default();
        queue.open.insert(*id);
        queue.bytes += bytes as u64;
        ledger.bytes += bytes as u64;
        if row.state == DeliveryState::Queued {
            queue.braked += u32::from(row.braked);
            if !row.braked {
                queue.queued.insert((mail.priority, *id));
                queue.pressing.extend((mail.when == Some(When::Now)).then_some(*id));
                queue.notices.extend((mail.from == Name::system()).then_some(*id));
            }
            ledger.expiring.extend(expires_at.map(|at| (at, *id)));
        }
        let delivery = Delivery {
            mail: row.mail,
            to: row.to.clone(),
            from: mail.from.clone(),
            priority: mail.priority,
            bytes: bytes as u32,
            sent_at: mail.sent_at,
            expires_at,
            when: mail.when,
            braked: row.braked,
            state: row.state,
            claims: Vec::new(),
        };
        ledger.deliveries.insert(*id, delivery);
    }
    let mut claims: Vec<_> = tables.claims.iter().collect();
    claims.sort_by_key(|(_, row)| row.row);
    for (id, row) in claims {
        let mut is_live = row.ended_at.is_none();
        for delivery in &row.deliveries {
            if let Some(delivery) = ledger.deliveries.get_mut(delivery) {
                delivery.claims.push(*id);
                is_live = true;
            }
        }
        if is_live {
            ledger.claims.insert(*id, row.claim());
        }
    }
    ledger
}
