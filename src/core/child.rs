//! Children: when one is started, asked to end and reached by panes. How one ends and is tried again: `exit`; how one is found by a
//! new relay: `recovery`; where what it says goes: `statement`.
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

use super::action::{Action, Signal};
use super::record::Record;
use super::running::Phase;
use super::timer::Timer;
use super::{Core, Step};
use crate::model::clock::Millis;
use crate::model::id::Nonce;
use crate::model::limits;
use crate::model::name::Name;
use crate::model::session::{Child, ChildKey, SessionState};
use crate::model::version;

/// All children of one key, one after the other.
#[derive(Debug, Default)]
pub(super) struct Children {
    pub run: Option<Run>,
    /// Until when no new one is started.
    pub backoff_until: Option<Millis>,
    /// Moments of the last exits without a completed turn.
    pub exits: VecDeque<Millis>,
    /// Starts in a row that never answered.
    pub unanswered_starts: usize,
    /// Why no new one is started until somebody says `up`.
    pub failed: Option<String>,
    /// Why we ended it, if it was not asked for; told in place of the signal that it died of.
    pub ended_for: Option<String>,
}

/// One child process.
#[derive(Debug)]
pub(super) struct Run {
    pub nonce: Nonce,
    pub slot: u32,
    pub phase: RunPhase,
    pub version: Option<String>,
    pub published: bool,
}

/// Where it is in its life, as in the table above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunPhase {
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

impl Run {
    /// A process that was started or adopted, and does not answer yet.
    pub fn starting(nonce: Nonce, slot: u32) -> Run {
        Run { nonce, slot, phase: RunPhase::Starting, version: None, published: false }
    }
}

impl Core {
    /// Starts and ends children as their sessions need them, and lets panes in when every thread is open.
    pub(super) fn evaluate_children(&mut self, step: &mut Step) {
        let keys: BTreeSet<ChildKey> =
            self.ledger.sessions.values().map(|s| s.child_key).chain(self.children.keys().copied()).collect();
        for key in keys {
            let of_key =
                |session: &&Name| self.ledger.sessions.get(*session).is_some_and(|s| s.child_key == key);
            let wanted: Vec<Name> =
                self.sessions.keys().filter(of_key).filter(|name| self.needs_child(name)).cloned().collect();
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
        self.children.entry(key).or_default().run = Some(Run::starting(nonce, slot));
        self.timers.set(Timer::Child(key), step.now.plus(limits::CHILD_START_MS));
    }

    pub(super) fn handle_child_spawned(&mut self, step: &mut Step, nonce: Nonce, pid: u32) {
        if self.ledger.children.contains_key(&nonce) {
            self.record(step, Record::ChildStarted { nonce, pid });
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
                let why =
                    format!("it did not answer within {} s, and was killed", limits::CHILD_START_MS / 1000);
                self.kill_child(step, key, why);
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

    pub(super) fn on_child_ready(&mut self, step: &mut Step, key: ChildKey, version: String) {
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

    pub(super) fn withdraw_panes(&mut self, step: &mut Step, key: ChildKey) {
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

    pub(super) fn key_of(&self, nonce: Nonce) -> Option<ChildKey> {
        self.ledger.children.get(&nonce).map(|child| child.key)
    }

    /// The sessions of the child of this one, with it.
    pub(super) fn on_child_of(&self, name: &Name) -> Vec<Name> {
        let session = self.ledger.sessions.get(name);
        session.map(|session| self.sessions_on(session.child_key)).unwrap_or_default()
    }

    pub(super) fn sessions_on(&self, key: ChildKey) -> Vec<Name> {
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
