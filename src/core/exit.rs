//! Children that end or do not serve: how often one is tried again, when it is given up, and who forgives that.
//!
//! | What happened | What follows |
//! | --- | --- |
//! | it ended and nobody had asked for that | the next start at once; after more of them a pause that doubles |
//! | so five times within a minute, or five starts that never answered | given up until somebody says `up` |
//! | a turn was completed | earlier exits no longer count |
//! | its connection broke, its process lives | the shell connects again |
//! | it can never serve (its version, its protocol) | ended, and given up at once |
//! | it has grown too big, never stops talking, cannot be read, does not answer | killed, told with that reason; the next has its threads |
//!
//! **Invariant:** mail waits while a child is backed off or given up; nothing here fails it.

use super::action::{Action, Signal};
use super::child::RunPhase;
use super::planted::Planted;
use super::record::Record;
use super::running::Phase;
use super::timer::Timer;
use super::{Core, Step};
use crate::model::id::Nonce;
use crate::model::limits;
use crate::model::name::Name;
use crate::model::session::ChildKey;

impl Core {
    /// A child that has grown too big is ended before the machine suffers; the next one goes on with its threads.
    pub(super) fn handle_child_grew(&mut self, step: &mut Step, nonce: Nonce, bytes: u64, most: u64) {
        let Some(key) = self.key_of(nonce) else { return };
        let mib = |bytes: u64| bytes / 1024 / 1024;
        let why = format!("it had {} MiB, more than {}, and was ended", mib(bytes), mib(most));
        self.kill_child(step, key, why);
    }

    /// A child that never stops talking, or whose words cannot be read, is ended, however harmless that is to others.
    pub(super) fn handle_child_flooded(&mut self, step: &mut Step, nonce: Nonce, what: &str) {
        let Some(key) = self.key_of(nonce) else { return };
        self.kill_child(step, key, format!("it said {what}, and was killed"));
    }

    /// A child that was asked twice and did not answer is hung; the next one settles what is in doubt.
    pub(super) fn kill_hung_child(&mut self, step: &mut Step, nonce: Nonce) {
        let Some(key) = self.key_of(nonce) else { return };
        self.kill_child(step, key, "it no longer answered, and was killed".to_owned());
    }

    /// Kills a child that does not serve, again if the first time is of no avail; its end is told with this reason, not with the signal.
    pub(super) fn kill_child(&mut self, step: &mut Step, key: ChildKey, why: String) {
        let Some(children) = self.children.get_mut(&key) else { return };
        let Some(run) = children.run.as_mut().filter(|run| !matches!(run.phase, RunPhase::Ending { .. }))
        else {
            return;
        };
        run.phase = RunPhase::Ending { signals: 3, until: step.now.plus(limits::DOWN_NOW_MS), wanted: false };
        let nonce = run.nonce;
        children.ended_for = Some(why);
        self.timers.set(Timer::Child(key), step.now.plus(limits::DOWN_NOW_MS));
        step.act(Action::SignalChild { nonce, signal: Signal::Kill });
    }

    pub(super) fn handle_child_not_spawned(&mut self, step: &mut Step, nonce: Nonce, why: &str) {
        step.act(Action::SweepChild { nonce });
        self.child_is_gone(step, nonce, &format!("could not be started: {why}"), "");
    }

    pub(super) fn handle_child_exited(&mut self, step: &mut Step, nonce: Nonce, why: &str, words: &str) {
        step.act(Action::SweepChild { nonce });
        self.child_is_gone(step, nonce, why, words);
    }

    /// Its last words stand behind the reason, also where the reason is ours: they may say what it was at.
    fn child_is_gone(&mut self, step: &mut Step, nonce: Nonce, why: &str, words: &str) {
        let Some(key) = self.key_of(nonce) else { return };
        let ended_for = self.children.get_mut(&key).and_then(|children| children.ended_for.take());
        let why = ended_for.as_deref().unwrap_or(why);
        let why = &if words.is_empty() { why.to_owned() } else { format!("{why}: {words}") };
        self.record(step, Record::ChildEnded { nonce, at: step.now, why: why.to_owned() });
        self.forget_approvals_by(step, nonce, why);
        self.withdraw_panes(step, key);
        self.timers.clear(&Timer::Child(key));
        let children = self.children.entry(key).or_default();
        let run = children.run.take();
        let was_ready = run.as_ref().is_some_and(|run| run.version.is_some());
        let ended = run.is_some_and(|run| matches!(run.phase, RunPhase::Ending { wanted: true, .. }));
        if !ended {
            children.exits.push_back(step.now);
            while children.exits.front().is_some_and(|at| step.now.since(*at) > limits::CRASH_LOOP_MS) {
                children.exits.pop_front();
            }
            if !was_ready {
                children.unanswered_starts += 1;
            }
            if children.exits.len().max(children.unanswered_starts) >= limits::CRASH_LOOP_EXITS {
                children.failed = Some(why.to_owned());
                children.backoff_until = None;
            } else {
                let doublings = children.exits.len().saturating_sub(1) as u32;
                let pause = if doublings == 0 { 0 } else { limits::RETRY_MS_MIN << doublings };
                children.backoff_until = Some(step.now.plus(pause));
                self.timers.set(Timer::Child(key), step.now.plus(pause));
            }
        }
        let failed = children.failed.is_some();
        for name in self.sessions_on(key) {
            if let Some(running) = self.sessions.get_mut(&name) {
                running.left_open = false;
            }
            if !self.is_planted(Planted::ClaimForgottenOnExit) {
                self.thread_left(step, &name, &format!("the child ended: {why}"));
            } else if let Some(running) = self.sessions.get_mut(&name) {
                running.phase = Phase::Starting;
                running.opening = false;
                running.busy = false;
            }
            if let Some(running) = self.sessions.get_mut(&name).filter(|_| !ended) {
                running.reason = Some(if failed {
                    format!("given up after {} exits: {why}", limits::CRASH_LOOP_EXITS)
                } else {
                    why.to_owned()
                });
            }
            self.touch(&name);
        }
    }

    /// The connection broke but the process lives; the shell connects again.
    pub(super) fn handle_child_lost(&mut self, step: &mut Step, nonce: Nonce, why: &str) {
        let Some(key) = self.key_of(nonce) else { return };
        self.withdraw_panes(step, key);
        let Some(run) = self.children.get_mut(&key).and_then(|children| children.run.as_mut()) else {
            return;
        };
        if run.phase == RunPhase::Ready {
            run.phase = RunPhase::Starting;
            self.timers.set(Timer::Child(key), step.now.plus(limits::CHILD_START_MS));
        }
        for name in self.sessions_on(key) {
            self.suspend_approvals_of(&name);
            // A turn may run on in it; whoever is stopped meanwhile is opened once more, so that it can be left.
            if let Some(running) = self.sessions.get_mut(&name) {
                running.left_open |= matches!(running.phase, Phase::Open | Phase::Closing);
            }
            self.thread_unheard(step, &name, &format!("the connection to the child broke: {why}"));
        }
    }

    /// A child that can never serve: its sessions fail until somebody says `up`.
    pub(super) fn give_up_child(&mut self, step: &mut Step, key: ChildKey, why: &str) {
        let Some(children) = self.children.get_mut(&key) else { return };
        children.failed = Some(why.to_owned());
        if let Some(run) = children.run.as_mut() {
            run.phase =
                RunPhase::Ending { signals: 1, until: step.now.plus(limits::DOWN_NOW_MS), wanted: true };
            step.act(Action::SignalChild { nonce: run.nonce, signal: Signal::Term });
            self.timers.set(Timer::Child(key), step.now.plus(limits::DOWN_NOW_MS));
        }
        for name in self.sessions_on(key) {
            if let Some(running) = self.sessions.get_mut(&name) {
                running.reason = Some(why.to_owned());
            }
            self.touch(&name);
        }
    }

    /// A completed turn proves that the child works: earlier exits no longer count.
    pub(super) fn child_completed_a_turn(&mut self, name: &Name) {
        let key = self.ledger.sessions.get(name).map(|session| session.child_key);
        if let Some(children) = key.and_then(|key| self.children.get_mut(&key)) {
            children.exits.clear();
        }
    }

    /// Somebody asked for these sessions: what was given up is tried again.
    pub(super) fn forgive(&mut self, step: &mut Step, name: &Name) {
        let key = self.ledger.sessions.get(name).map(|session| session.child_key);
        if let Some(children) = key.and_then(|key| self.children.get_mut(&key)) {
            children.failed = None;
            children.backoff_until = None;
            children.exits.clear();
            children.unanswered_starts = 0;
        }
        self.unblock(step, name);
        let interrupts = self.is_being_interrupted(name);
        if let Some(running) = self.sessions.get_mut(name) {
            // What only the close wanted to end goes on; whoever asked for an interrupt still gets it.
            running.interrupt_wanted &= interrupts || !running.closed;
            (running.closed, running.closing) = (false, None);
            self.timers.clear(&Timer::Close(name.clone()));
            running.retry_at = None;
            if running.phase == Phase::Failed {
                running.phase = Phase::Stopped;
            }
        }
    }
}
