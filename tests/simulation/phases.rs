//! The two phases of a seed: safety, with everything going wrong, then liveness, in which everything must converge.
//!
//! **Invariant:** liveness has a bound in virtual time; what has not happened by then is a breach of G7.

use agentmux::core::ledger::Delivery;
use agentmux::model::mail::{DeliveryState, Priority, When};
use agentmux::model::session::SessionState;
use agentmux::protocol::request::{Down, MailRef, Names, Release, Request, Send};

use crate::guarantee::Guarantee;
use crate::shell::CrashPoint;
use crate::world::{Happening, World};

/// For how long a session may be on its way when everything has settled.
const MOMENT_MS: i64 = 1_000;
/// Old trouble is over by then: a hanging child is killed after 20 s, a lease ends after 30 s, a stop after 10 s.
const SETTLE_MS: i64 = 100_000;
/// Everything that was asked for has happened by then.
const CONVERGE_MS: i64 = 600_000;

impl World {
    /// Lives through both phases.
    pub fn run(&mut self) {
        self.safety();
        if self.breach.is_none() {
            self.liveness();
        }
    }

    fn safety(&mut self) {
        for client in 0..self.clients.all.len() {
            let pause = self.random.ms(0, self.shape.think_ms);
            self.in_ms(pause, Happening::ClientActs(client));
        }
        for _ in 0..self.shape.laps {
            if self.breach.is_some() || !self.turn_the_wheel() {
                break;
            }
            self.nature();
        }
        self.check_accepted();
    }

    fn liveness(&mut self) {
        self.note(|| "faults stop".to_owned());
        self.shape = self.shape.without_faults();
        self.clients.all.iter_mut().for_each(|client| client.left = 0);
        self.panes_answer_everything();
        let until = self.now.plus(SETTLE_MS);
        self.run_until(SETTLE_MS, |world| world.now >= until);
        self.check_settled();
        self.everybody_is_wanted();
        let converged = self.run_until(CONVERGE_MS, World::has_converged);
        if !converged && self.breach.is_none() {
            let what = self.what_is_open();
            return self.breach(Guarantee::Converges, what);
        }
        self.check_quiet();
        self.check_accepted();
        self.check_none_missing();
        if self.random.chance(300) {
            self.check_leaving();
        }
        if self.random.chance(300) && self.breach.is_none() {
            self.crash(CrashPoint::AfterRelease);
            self.relay_starts();
            self.lap();
        }
    }

    /// Long after the last fault every request has its reply, and no session is still on its way.
    fn check_settled(&mut self) {
        if self.relay.is_none() || self.breach.is_some() {
            return;
        }
        let unanswered = self.clients.all.iter().flat_map(|client| client.asked.values()).next().cloned();
        if let Some(request) = unanswered {
            self.breach(Guarantee::OneReply, format!("no reply to {request:?}"));
        }
        self.clients_hang_up();
        self.client_connects(0, true);
        let mut moving =
            self.sessions_in(&[SessionState::Starting, SessionState::Backoff, SessionState::Waiting]);
        // One that mail has woken in this very moment, because another fell asleep, is on its way for a good reason.
        let a_moment_ago = Some(self.now.plus(-MOMENT_MS));
        let listed = &self.clients.listed;
        moving.retain(|name| {
            listed.iter().any(|session| session.name.as_str() == name && session.since < a_moment_ago)
        });
        if !moving.is_empty() && self.relay.is_some() {
            self.breach(Guarantee::Converges, format!("{moving:?} are still on their way"));
        }
    }

    /// The sessions that `list` shows in one of these states.
    fn sessions_in(&mut self, states: &[SessionState]) -> Vec<String> {
        self.clients.listed.clear();
        self.client_asks(0, Request::List);
        self.run_until(3_000, |world| world.clients.all[0].asked.is_empty());
        let listed = self.clients.listed.iter().filter(|session| states.contains(&session.state));
        listed.map(|session| session.name.to_string()).collect()
    }

    fn panes_answer_everything(&mut self) {
        let mut pending = Vec::new();
        for (nonce, process) in &self.codex.processes {
            for (thread, turn) in &process.loaded {
                let key = turn.as_ref().and_then(|turn| turn.approval.clone());
                pending.extend(key.map(|key| (*nonce, thread.clone(), key)));
            }
        }
        for (nonce, thread, key) in pending {
            self.in_ms(1_000, Happening::PaneAnswers { nonce, thread, key });
        }
    }

    /// A person brings up every session, sends last mail into whatever runs then, and reads what came for them.
    fn everybody_is_wanted(&mut self) {
        self.relay_starts();
        self.clients_hang_up();
        self.client_connects(0, true);
        for name in self.disk.committed.sessions.keys().cloned().collect::<Vec<_>>() {
            self.client_asks(0, Request::Release(Release { target: name.to_string() }));
        }
        self.run_until(1_000, |world| world.clients.all[0].asked.is_empty());
        // Only who was stopped or given up has to be asked for; the others are up by themselves, and mail wakes some of them.
        let mut down = self.sessions_in(&[SessionState::Stopped, SessionState::Failed]);
        let leaves_asleep = self.random.chance(500);
        down.retain(|name| !(leaves_asleep && self.is_woken_by_all_its_mail(name)));
        self.asks_up(down);
        let writes = !leaves_asleep || self.random.chance(500);
        if !self.disk.committed.sessions.is_empty() && self.shape.kind != "quiet" && writes {
            for _ in 0..3 {
                let (to, body) = (vec!["@all".to_owned()], "last".to_owned());
                self.client_asks(0, Request::Send(Send { to, body, ..Send::default() }));
                let until = self.now.plus(self.random.ms(1, 60));
                self.run_until(100, |world| world.now >= until);
            }
        }
        // What was given up while it slept is not woken by mail, and what fell asleep meanwhile not by all of it.
        let mut failed = self.sessions_in(&[SessionState::Failed]);
        let mut asleep = self.sessions_in(&[SessionState::Stopped]);
        asleep.retain(|name| !self.is_woken_by_all_its_mail(name));
        failed.append(&mut asleep);
        self.asks_up(failed);
        let for_operator = |world: &World| {
            let rows = world.disk.committed.deliveries.values();
            rows.filter(|row| row.to.as_str() == "operator" && row.state.is_open()).map(|row| row.mail).next()
        };
        while let Some(mail) = for_operator(self) {
            self.client_asks(0, Request::Read(MailRef { id: mail.to_string() }));
            self.run_until(1_000, |world| world.clients.all[0].asked.is_empty());
            self.client_asks(0, Request::List);
            self.run_until(1_000, |world| world.clients.all[0].asked.is_empty());
            if self.breach.is_some() || for_operator(self) == Some(mail) {
                break;
            }
        }
    }

    fn asks_up(&mut self, names: Vec<String>) {
        if !names.is_empty() {
            self.client_asks(0, Request::Up(Names { names }));
            self.run_until(60_000, |world| world.clients.all[0].asked.is_empty());
        }
    }

    /// Whether a session that sleeps wakes for everything that waits for it.
    fn is_woken_by_all_its_mail(&self, name: &str) -> bool {
        let disk = &self.disk.committed;
        let Some(session) = disk.sessions.values().find(|session| session.name.as_str() == name) else {
            return false;
        };
        let mut rows = disk.deliveries.iter().filter(|(_, row)| row.to == session.name);
        session.wake && rows.all(|(id, row)| !row.state.is_open() || id.0 > session.stopped_after)
    }

    fn has_converged(&self) -> bool {
        let open = |world: &World| {
            let relay = world.relay.as_ref()?;
            let ledger = relay.core.ledger();
            let waits = ledger.deliveries.values().any(|delivery| !is_patient(delivery));
            let claimed = ledger.claims.values().any(|claim| !claim.ended);
            Some(waits || claimed)
        };
        open(self) == Some(false) && self.clients.all.iter().all(|client| client.asked.is_empty())
    }

    fn what_is_open(&self) -> String {
        let Some(relay) = &self.relay else { return "there is no relay".to_owned() };
        let ledger = relay.core.ledger();
        let open = ledger.deliveries.iter().find(|(_, delivery)| !is_patient(delivery));
        let claim = ledger.claims.iter().find(|(_, claim)| !claim.ended);
        let asked = self.clients.all.iter().flat_map(|client| client.asked.values()).next();
        format!("still open {open:?} {claim:?} {asked:?}")
    }

    /// Nothing wakes a relay in which nothing is pending.
    fn check_quiet(&mut self) {
        self.clients_hang_up();
        let is_quiet = |world: &World| world.is_still() && world.wakes_up_in().is_none();
        if !self.run_until(200_000, is_quiet) && self.breach.is_none() && self.relay.is_some() {
            let ms = self.wakes_up_in();
            self.breach(Guarantee::Converges, format!("the quiet relay still wakes up, in {ms:?} ms"));
        }
    }

    /// In how many milliseconds a relay with children wakes up, other than for mail that expires.
    fn wakes_up_in(&self) -> Option<i64> {
        let relay = self.relay.as_ref().filter(|_| !self.codex.processes.is_empty())?;
        let expires = relay.core.ledger().expiring.first().map(|(at, _)| *at);
        relay.core.deadline().filter(|at| Some(*at) != expires).map(|at| at.since(self.now))
    }

    /// `down` without names ends every child within its budget, and then the relay.
    fn check_leaving(&mut self) {
        if self.relay.is_none() {
            return;
        }
        // In half of the worlds children are stubborn: a turn waits for an approval, and nothing is answered any more.
        if self.random.chance(500) {
            let mut threads = Vec::new();
            for (nonce, process) in &self.codex.processes {
                threads.extend(process.loaded.keys().map(|thread| (*nonce, thread.clone())));
            }
            self.shape.asks_approval = 1_000;
            for (nonce, thread) in threads {
                self.apply_input(nonce, &thread, None, None);
            }
            self.run_until(2_000, World::is_still);
            self.shape.says_nothing = 1_000;
        }
        self.client_connects(0, true);
        self.client_asks(0, Request::Down(Down::default()));
        let left = self.run_until(12_000, |world| world.relay.is_none());
        if self.breach.is_none() && (!left || !self.codex.processes.is_empty()) {
            let what = format!("after `down` {} children live, left: {left}", self.codex.processes.len());
            self.breach(Guarantee::NoOrphan, what);
        }
        self.relay_starts();
    }
}

/// Mail that may wait for ever: it never starts a turn.
fn is_patient(delivery: &Delivery) -> bool {
    let fyi = delivery.priority == Priority::Fyi && delivery.when != Some(When::Now);
    delivery.state == DeliveryState::Queued && fyi && !delivery.braked
}
