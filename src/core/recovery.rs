//! What a new relay finds: sessions of its store, claims that nobody answers for any more, and children that live on.
//!
//! **Invariant:** what was under way is in doubt until a child's history was read; nothing is taken for lost or for done here.
//! **Invariant:** recovering twice equals recovering once: what is recorded here is not recorded again by the next relay.

use super::action::{Action, Survivor};
use super::child::Run;
use super::planted::Planted;
use super::record::Record;
use super::running::Running;
use super::timer::Timer;
use super::{Core, Step};
use crate::model::happening::What;
use crate::model::id::Nonce;
use crate::model::limits;

impl Core {
    pub(super) fn handle_started(&mut self, step: &mut Step, survivors: &[Survivor]) {
        let now = step.now;
        let (pid, version) = (self.settings.pid, crate::protocol::VERSION.to_owned());
        self.tell(step, What::RelayStarted { pid, version });
        for name in self.ledger.sessions.keys() {
            self.sessions.insert(name.clone(), Running::new(now));
        }
        for name in self.ledger.sessions.keys().cloned().collect::<Vec<_>>() {
            if self.is_planted(Planted::RecoveryRepeated) {
                for claim in self.ledger.open_claims(&name).map(|(id, _)| id).collect::<Vec<_>>() {
                    let note = "the relay was restarted".to_owned();
                    self.record(step, Record::ClaimNoted { claim, at: now, turn: None, note });
                }
            }
            self.doubt_claims(step, &name, "the relay was restarted");
            self.arm_hold(&name);
            self.arm_block(step, &name);
            self.touch(&name);
        }
        self.keep_names(step);
        let of_readers = self.ledger.claims.iter().filter(|(_, claim)| !claim.ended && claim.child.is_none());
        for claim in of_readers.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.take_back(step, claim, "the relay was restarted before its reader confirmed it");
        }
        for child in self.ledger.children.values().cloned().collect::<Vec<_>>() {
            let Some(survivor) = survivors.iter().find(|survivor| survivor.nonce == child.nonce) else {
                let why = "it was gone when the relay started".to_owned();
                self.record(step, Record::ChildEnded { nonce: child.nonce, at: now, why });
                step.act(Action::SweepChild { nonce: child.nonce });
                step.act(Action::WithdrawPanes { slot: child.slot });
                continue;
            };
            if child.pid != Some(survivor.pid) {
                self.record(step, Record::ChildStarted { nonce: child.nonce, pid: survivor.pid });
            }
            step.act(Action::AdoptChild { nonce: child.nonce, slot: child.slot, pid: survivor.pid });
            self.children.entry(child.key).or_default().run = Some(Run::starting(child.nonce, child.slot));
            self.wake_survivors(child.key);
            self.suspect_threads_of(child.nonce);
            self.timers.set(Timer::Child(child.key), now.plus(limits::CHILD_START_MS));
        }
    }

    /// A session that was stopped while no relay ran, or is before its thread is open again, may have a turn running in an adopted
    /// child: whoever has a token of that child had a thread in it.
    fn suspect_threads_of(&mut self, nonce: Nonce) {
        for (name, running) in &mut self.sessions {
            let has_thread = self.ledger.sessions.get(name).is_some_and(|session| session.thread.is_some());
            let was_in_it = self.ledger.tokens.get(name).is_some_and(|tokens| tokens.child == nonce);
            running.left_open |= has_thread && was_in_it;
        }
    }
}
