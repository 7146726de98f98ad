//! Children: when one is started, adopted, ended and started again, and what its statements mean for its sessions.
//!
//! | Phase | Process | Leaves by |
//! | --- | --- | --- |
//! | `Absent` | none | a session on it is wanted up (not while backing off or given up) |
//! | `Starting` | started or adopted, not answering yet | ready · overdue (killed) · exit |
//! | `Ready` | answers requests | lost (→ `Starting`) · no session wanted up (→ `Ending`) · exit |
//! | `Ending` | asked to end: TERM, TERM again, KILL within the budget | exit |
//!
//! **Invariant:** the intent to start a child is committed before it is started, so that no process of ours is ever unknown.

use std::collections::{BTreeSet, VecDeque};

use super::action::{Action, Signal, Survivor};
use super::planted::Planted;
use super::record::Record;
use super::session::Phase;
use super::timer::Timer;
use super::{Core, Step};
use crate::model::child::ChildEvent;
use crate::model::clock::Millis;
use crate::model::happening::What;
use crate::model::id::Nonce;
use crate::model::limits;
use crate::model::name::Name;
use crate::model::session::{Child, ChildKey, SessionState};
use crate::model::version;

/// All children of one key, one after the other.
#[derive(Debug, Default)]
pub(super) struct Children {
    run: Option<Run>,
    /// Until when no new one is started.
    backoff_until: Option<Millis>,
    /// Moments of the last exits without a completed turn.
    exits: VecDeque<Millis>,
    /// Starts in a row that never answered.
    unanswered_starts: usize,
    /// Why no new one is started until somebody says `up`.
    failed: Option<String>,
    /// Why we ended it, if it was not asked for; told in place of the signal that it died of.
    pub ended_for: Option<String>,
}

#[derive(Debug)]
struct Run {
    nonce: Nonce,
    slot: u32,
    phase: RunPhase,
    version: Option<String>,
    published: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RunPhase {
    Starting,
    Ready,
    /// How many signals have been sent, and when the budget is over.
    Ending {
        signals: u32,
        until: Millis,
        /// Whether it ends because nobody needs it; otherwise its end counts as a crash.
        wanted: bool,
    },
}

impl Children {
    /// The child that answers requests.
    pub fn ready(&self) -> Option<Nonce> {
        self.run.as_ref().filter(|run| run.phase == RunPhase::Ready).map(|run| run.nonce)
    }

    /// Whether a process exists, or may.
    pub fn is_running(&self) -> bool {
        self.run.is_some()
    }

    /// Whether the next start waits.
    pub fn is_backing_off(&self) -> bool {
        self.run.is_none() && self.backoff_until.is_some()
    }

    /// Whether no start is tried any more.
    pub fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// Version of the child that runs.
    pub fn version(&self) -> Option<String> {
        self.run.as_ref().and_then(|run| run.version.clone())
    }
}

impl Core {
    pub(super) fn handle_started(&mut self, step: &mut Step, survivors: &[Survivor]) {
        let now = step.now;
        let (pid, version) = (self.settings.pid, crate::protocol::VERSION.to_owned());
        self.tell(step, What::RelayStarted { pid, version });
        for name in self.ledger.sessions.keys() {
            self.sessions.insert(name.clone(), super::session::Running::new(now));
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
            let phase = RunPhase::Starting;
            let run = Run { nonce: child.nonce, slot: child.slot, phase, version: None, published: false };
            self.children.entry(child.key).or_default().run = Some(run);
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

    /// Starts and ends children as their sessions need them, and lets panes in when every thread is open.
    pub(super) fn evaluate_children(&mut self, step: &mut Step) {
        let keys: BTreeSet<ChildKey> =
            self.ledger.sessions.values().map(|s| s.child_key).chain(self.children.keys().copied()).collect();
        for key in keys {
            let of_key =
                |session: &&Name| self.ledger.sessions.get(*session).is_some_and(|s| s.child_key == key);
            let wanted: Vec<Name> =
                self.sessions.keys().filter(of_key).filter(|name| self.should_run(name)).cloned().collect();
            let leaving = self.sessions.iter().any(|(name, running)| {
                of_key(&name) && !matches!(running.phase, Phase::Stopped | Phase::Failed)
            });
            let children = self.children.entry(key).or_default();
            match &mut children.run {
                None if children.failed.is_some() => {}
                None if children.backoff_until.is_some_and(|until| until > step.now) => {}
                None => {
                    children.backoff_until = None;
                    if let Some(first) = wanted.first() {
                        self.start_child(step, key, first);
                    }
                }
                Some(run)
                    if wanted.is_empty() && !leaving && !matches!(run.phase, RunPhase::Ending { .. }) =>
                {
                    let (nonce, budget) = (
                        run.nonce,
                        self.stop.as_ref().map_or(limits::DOWN_MS, |stop| stop.left_ms(step.now)),
                    );
                    run.phase = RunPhase::Ending { signals: 1, until: step.now.plus(budget), wanted: true };
                    self.withdraw_panes(step, key);
                    step.act(Action::SignalChild { nonce, signal: Signal::Term });
                    self.timers.set(Timer::Child(key), step.now.plus(budget / 2));
                }
                Some(run) if run.phase == RunPhase::Ready && !run.published => {
                    let opening = wanted.iter().any(|name| {
                        self.sessions
                            .get(name)
                            .is_some_and(|r| r.phase == Phase::Starting && r.retry_at.is_none())
                    });
                    if !opening {
                        run.published = true;
                        step.act(Action::PublishPanes { slot: run.slot });
                        self.touched.extend(wanted);
                    }
                }
                Some(_) => {}
            }
        }
        self.children.retain(|_, children| {
            children.run.is_some()
                || children.failed.is_some()
                || children.backoff_until.is_some()
                || !children.exits.is_empty()
        });
    }

    fn start_child(&mut self, step: &mut Step, key: ChildKey, session: &Name) {
        let Some(program) = self.ledger.sessions.get(session).map(|session| session.program.clone()) else {
            return;
        };
        let nonce = step.mint.nonce();
        let taken: Vec<u32> =
            self.children.values().filter_map(|c| c.run.as_ref()).map(|run| run.slot).collect();
        let slot = (0..).find(|slot| !taken.contains(slot)).expect("slots are not exhausted by 256 sessions");
        self.record(step, Record::ChildIntended(Child { nonce, key, slot, pid: None, since: step.now }));
        step.act(Action::SpawnChild { nonce, slot, program, environment_of: session.clone() });
        let run = Run { nonce, slot, phase: RunPhase::Starting, version: None, published: false };
        self.children.entry(key).or_default().run = Some(run);
        self.timers.set(Timer::Child(key), step.now.plus(limits::CHILD_START_MS));
    }

    pub(super) fn handle_child_spawned(&mut self, step: &mut Step, nonce: Nonce, pid: u32) {
        if self.ledger.children.contains_key(&nonce) {
            self.record(step, Record::ChildStarted { nonce, pid });
        }
    }

    /// A child that has grown too big is ended before the machine suffers; the next one goes on with its threads.
    pub(super) fn handle_child_grew(&mut self, step: &mut Step, nonce: Nonce, bytes: u64, most: u64) {
        let Some(key) = self.key_of(nonce) else { return };
        let Some(children) = self.children.get_mut(&key) else { return };
        let Some(run) = children.run.as_mut().filter(|run| !matches!(run.phase, RunPhase::Ending { .. }))
        else {
            return;
        };
        run.phase = RunPhase::Ending { signals: 3, until: step.now.plus(limits::DOWN_NOW_MS), wanted: false };
        let mib = |bytes: u64| bytes / 1024 / 1024;
        children.ended_for =
            Some(format!("it had {} MiB, more than {}, and was ended", mib(bytes), mib(most)));
        self.timers.set(Timer::Child(key), step.now.plus(limits::DOWN_NOW_MS));
        step.act(Action::SignalChild { nonce, signal: Signal::Kill });
    }

    pub(super) fn handle_child_not_spawned(&mut self, step: &mut Step, nonce: Nonce, why: &str) {
        step.act(Action::SweepChild { nonce });
        self.child_is_gone(step, nonce, &format!("could not be started: {why}"));
    }

    pub(super) fn handle_child_exited(&mut self, step: &mut Step, nonce: Nonce, why: &str) {
        step.act(Action::SweepChild { nonce });
        self.child_is_gone(step, nonce, why);
    }

    fn child_is_gone(&mut self, step: &mut Step, nonce: Nonce, why: &str) {
        let Some(key) = self.key_of(nonce) else { return };
        let ended_for = self.children.get_mut(&key).and_then(|children| children.ended_for.take());
        let why = ended_for.as_deref().unwrap_or(why);
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
            self.thread_unheard(step, &name, &format!("the connection to the child broke: {why}"));
        }
    }

    pub(super) fn handle_child_overdue(&mut self, step: &mut Step, key: ChildKey) {
        let Some(children) = self.children.get_mut(&key) else { return };
        let Some(run) = children.run.as_mut() else {
            children.backoff_until = None;
            return;
        };
        let nonce = run.nonce;
        match run.phase {
            RunPhase::Ready => {}
            RunPhase::Starting => {
                run.phase =
                    RunPhase::Ending { signals: 3, until: step.now.plus(limits::DOWN_NOW_MS), wanted: false };
                let reason = format!("the child did not answer within {} s", limits::CHILD_START_MS / 1000);
                for name in self.sessions_on(key) {
                    if let Some(running) = self.sessions.get_mut(&name) {
                        running.reason = Some(reason.clone());
                    }
                }
                step.act(Action::SignalChild { nonce, signal: Signal::Kill });
            }
            RunPhase::Ending { signals, until, wanted } => {
                run.phase = RunPhase::Ending { signals: signals + 1, until, wanted };
                let signal = if signals == 1 { Signal::Term } else { Signal::Kill };
                step.act(Action::SignalChild { nonce, signal });
                let pause = (until.since(step.now) / 2).max(200);
                self.timers.set(Timer::Child(key), step.now.plus(pause));
            }
        }
    }

    pub(super) fn handle_child_event(&mut self, step: &mut Step, nonce: Nonce, event: ChildEvent) {
        let Some(key) = self.key_of(nonce) else { return };
        // A name may be used again on another child while the first one still speaks of its former session.
        let of_session = event.session().and_then(|name| self.ledger.sessions.get(name));
        if of_session.is_some_and(|session| session.child_key != key) {
            return;
        }
        match event {
            ChildEvent::Ready { version } => self.on_child_ready(step, key, version),
            ChildEvent::Unusable { why } => self.give_up_child(step, key, &why),
            ChildEvent::Garbled { .. } => {}
            ChildEvent::ThreadIdle { session } => self.on_thread_idle(&session),
            ChildEvent::ThreadOpened { session, thread, busy } => {
                self.on_thread_opened(step, &session, &thread, busy)
            }
            ChildEvent::ThreadFailed { session, temporary, why } => {
                self.on_thread_failed(step, &session, temporary, &why)
            }
            ChildEvent::ThreadGone { session } => self.on_thread_gone(step, &session),
            ChildEvent::TurnAccepted { session, claim, turn } => {
                self.on_turn_accepted(step, &session, claim, &turn)
            }
            ChildEvent::TurnRefused { session, claim, temporary, why } => {
                self.on_turn_refused(step, &session, claim, temporary, &why);
            }
            ChildEvent::TurnMissed { session, claim, why } => {
                self.on_turn_missed(step, &session, claim, &why)
            }
            ChildEvent::InterruptRefused { session, .. } => self.on_interrupt_refused(&session),
            ChildEvent::ToolsRunning { session, running } => self.on_tools_running(&session, running),
            ChildEvent::InputTaken { session, claim, turn } => {
                self.on_input_taken(step, &session, claim, &turn)
            }
            ChildEvent::TurnStarted { session, turn } => self.on_turn_started(&session, &turn),
            ChildEvent::TurnEnded { session, turn, outcome } => {
                self.on_turn_ended(step, &session, &turn, &outcome)
            }
            ChildEvent::ClaimsFound { session, present, absent, busy } => {
                self.on_claims_found(step, &session, &present, &absent, busy);
            }
            ChildEvent::StatusTold { session, busy } => self.on_status_told(step, &session, busy),
            ChildEvent::HistoryUnread { session, why } => self.on_history_unread(step, &session, &why),
            ChildEvent::ApprovalAsked(asked) => self.on_approval_asked(step, nonce, asked),
            ChildEvent::ApprovalResolved { key } => self.on_approval_resolved(step, nonce, &key),
            ChildEvent::OwnTools { session, state } => self.on_own_tools(step.now, &session, state),
            ChildEvent::SkillsListed { session, names } => {
                if let Some(running) = self.sessions.get_mut(&session) {
                    running.skills = names.into_iter().take(limits::SKILLS_MAX).collect();
                }
            }
            // Told to those who watch; nothing else follows from it.
            ChildEvent::Said { .. } => {}
            ChildEvent::ItemDone { session, turn, item } => {
                self.closing_saw_item(&session, turn.as_ref(), &item);
            }
            ChildEvent::TokensUsed { session, tokens } => {
                if let Some(running) = self.sessions.get_mut(&session) {
                    running.tokens = Some(tokens);
                }
            }
            ChildEvent::ItemsRead { token, items } => self.waiting_got_items(step, token, items),
        }
    }

    fn on_child_ready(&mut self, step: &mut Step, key: ChildKey, version: String) {
        if let Some(why) = version::codex_too_old(&version) {
            return self.give_up_child(step, key, &why);
        }
        let Some(children) = self.children.get_mut(&key) else { return };
        if let Some(run) = children.run.as_mut().filter(|run| run.phase == RunPhase::Starting) {
            run.phase = RunPhase::Ready;
            run.version = Some(version);
            children.unanswered_starts = 0;
            self.timers.clear(&Timer::Child(key));
        }
        for name in self.sessions_on(key) {
            self.touch(&name);
        }
    }

    /// A child that can never serve: its sessions fail until somebody says `up`.
    fn give_up_child(&mut self, step: &mut Step, key: ChildKey, why: &str) {
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
    pub(super) fn forgive(&mut self, name: &Name) {
        let key = self.ledger.sessions.get(name).map(|session| session.child_key);
        if let Some(children) = key.and_then(|key| self.children.get_mut(&key)) {
            children.failed = None;
            children.backoff_until = None;
            children.exits.clear();
            children.unanswered_starts = 0;
        }
        self.unblock(name);
        if let Some(running) = self.sessions.get_mut(name) {
            running.retry_at = None;
            if running.phase == Phase::Failed {
                running.phase = Phase::Stopped;
            }
        }
    }

    fn withdraw_panes(&mut self, step: &mut Step, key: ChildKey) {
        let Some(run) = self.children.get_mut(&key).and_then(|children| children.run.as_mut()) else {
            return;
        };
        if std::mem::take(&mut run.published) {
            step.act(Action::WithdrawPanes { slot: run.slot });
            for (conn, known) in &self.conns {
                let gone = known
                    .attached
                    .as_ref()
                    .filter(|name| self.ledger.sessions.get(*name).is_some_and(|s| s.child_key == key));
                if let Some(session) = gone {
                    step.act(Action::Notify {
                        conn: *conn,
                        event: super::action::Event::ChildGone { session: session.clone() },
                    });
                }
            }
        }
    }

    fn key_of(&self, nonce: Nonce) -> Option<ChildKey> {
        self.ledger.children.get(&nonce).map(|child| child.key)
    }

    fn sessions_on(&self, key: ChildKey) -> Vec<Name> {
        self.ledger
            .sessions
            .values()
            .filter(|session| session.child_key == key)
            .map(|session| session.name.clone())
            .collect()
    }

    /// The place of the child that a session runs on, while panes may reach it.
    pub(super) fn published_slot_of(&self, name: &Name) -> Option<u32> {
        let key = self.ledger.sessions.get(name)?.child_key;
        let run = self.children.get(&key)?.run.as_ref()?;
        (run.published && self.shown_state(name) != SessionState::Starting).then_some(run.slot)
    }
}
