//! Views: what `list` and `status` show of the sessions, children and mail in memory.
//!
//! **Invariant:** read-only.

use super::Core;
use super::child::Children;
use super::conn::Conn;
use super::ledger::Outsider;
use crate::model::child::{CODEX_CAPABILITIES, OUTSIDE_CAPABILITIES};
use crate::model::clock::Millis;
use crate::model::mail::DeliveryState;
use crate::model::name::Name;
use crate::model::session::{Child, Coder, HELD_FOR_EVER, SessionState, Wanted};
use crate::protocol::answer::{ChildInfo, SessionInfo};

impl Core {
    /// One session, as `list` shows it.
    pub(super) fn session_info(&self, now: Millis, name: &Name) -> Option<SessionInfo> {
        let session = self.ledger.sessions.get(name)?;
        let running = self.sessions.get(name)?;
        let queue = self.ledger.queue(name);
        let oldest = queue.and_then(|queue| queue.open.first()).and_then(|id| self.ledger.deliveries.get(id));
        let attached = self.conns.values().filter(|conn| conn.attached.as_ref() == Some(name)).count();
        let is_elsewhere = |conn: &&Conn| conn.attached.as_ref() == Some(name) && conn.elsewhere.is_some();
        let elsewhere = self.conns.values().filter(is_elsewhere).count();
        Some(SessionInfo {
            name: name.clone(),
            coder: session.coder,
            state: self.shown_state(name),
            since: Some(running.shown.1),
            reason: running.reason.clone(),
            until: session.blocked_until.or(session.held_until).filter(|until| *until != HELD_FOR_EVER),
            thread_id: session.thread.as_deref().map(str::to_owned),
            turn_id: running.turn.as_deref().map(str::to_owned),
            turn_age_ms: running.turn.as_ref().and(running.turn_since).map(|since| now.since(since)),
            tokens: running.tokens.map(Box::new),
            pending: queue.map_or(0, |queue| queue.open.len() as u64),
            oldest_pending_ms: oldest.map(|delivery| now.since(delivery.sent_at)),
            braked: queue.map_or(0, |queue| queue.braked),
            last_consumed_at: session.consumed_at,
            attached: attached as u32,
            elsewhere: elsewhere as u32,
            capabilities: CODEX_CAPABILITIES,
            dir: session.setup.dir.clone(),
            wanted: session.wanted,
        })
    }

    /// All sessions by name, then all outside agents that have a mailbox.
    pub(super) fn session_infos(&self, now: Millis) -> Vec<SessionInfo> {
        let outsiders =
            self.ledger.outsiders.iter().map(|(name, outsider)| self.outsider_info(now, name, outsider));
        let sessions = self.ledger.sessions.keys().filter_map(|name| self.session_info(now, name));
        sessions.chain(outsiders).collect()
    }

    /// An outside agent, as `list` shows it: `idle` while it is connected.
    fn outsider_info(&self, now: Millis, name: &Name, outsider: &Outsider) -> SessionInfo {
        let queue = self.ledger.queue(name);
        let oldest = queue.and_then(|queue| queue.open.first()).and_then(|id| self.ledger.deliveries.get(id));
        let here = self.holders_of(name).next().is_some();
        SessionInfo {
            name: name.clone(),
            coder: Coder::Outside,
            state: if here { SessionState::Idle } else { SessionState::Stopped },
            since: Some(outsider.since),
            reason: (!here).then(|| "not connected; its mail waits".to_owned()),
            until: None,
            thread_id: None,
            turn_id: None,
            turn_age_ms: None,
            tokens: None,
            pending: queue.map_or(0, |queue| queue.open.len() as u64),
            oldest_pending_ms: oldest.map(|delivery| now.since(delivery.sent_at)),
            braked: queue.map_or(0, |queue| queue.braked),
            last_consumed_at: None,
            attached: 0,
            elsewhere: 0,
            capabilities: OUTSIDE_CAPABILITIES,
            dir: String::new(),
            wanted: if here { Wanted::Up } else { Wanted::Down },
        }
    }

    /// All children, without their memory, which only the shell can see.
    pub(super) fn child_infos(&self) -> Vec<ChildInfo> {
        let info = |child: &Child| ChildInfo {
            coder: Coder::Codex,
            pid: child.pid,
            started_at: child.since,
            rss_bytes: None,
            descendants: None,
            version: self.children.get(&child.key).and_then(Children::version),
        };
        self.ledger.children.values().map(info).collect()
    }

    /// Open deliveries: queued, claimed or submitted, unknown.
    pub(super) fn open_counts(&self) -> [u64; 3] {
        let mut counts = [0; 3];
        for delivery in self.ledger.deliveries.values() {
            let column = match delivery.state {
                DeliveryState::Queued => 0,
                DeliveryState::Unknown => 2,
                _ => 1,
            };
            counts[column] += 1;
        }
        counts
    }

    /// Approvals that wait for a person, also those that a child has yet to repeat to this relay.
    pub(super) fn open_approvals(&self) -> u64 {
        self.ledger.approvals.len() as u64
    }
}
