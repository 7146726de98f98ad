//! Sessions as they run: opening and closing their threads, and what each is doing right now.
//!
//! | Phase | Child | Leaves by |
//! | --- | --- | --- |
//! | `Stopped` | not needed | wanted up |
//! | `Starting` | coming up, or asked to open the thread | thread open · thread refused · overdue |
//! | `Open` | has the thread | child lost or gone · thread gone · wanted down |
//! | `Closing` | asked to leave the thread, again if it does not | thread gone · child gone, or not needed · wanted up |
//! | `Failed` | refused the thread for good, or its context is full for good | `up` · wanted down |
//!
//! What is known of each is in `running.rs`.

use super::action::Action;
use super::record::{DeliveryId, Record};
use super::running::{Phase, Running};
use super::timer::Timer;
use super::{Core, Step};
use crate::model::child::{ChildCommand, ToolServer, ToolsState, Underway};
use crate::model::clock::Millis;
use crate::model::id::{Nonce, ThreadId};
use crate::model::limits;
use crate::model::name::Name;
use crate::model::session::{SessionState, Wanted};

impl Core {
    /// Whether a session shall be running now.
    pub(super) fn should_run(&self, name: &Name) -> bool {
        self.stop.is_none()
            && (self.ledger.sessions.get(name).is_some_and(|session| session.wanted == Wanted::Up)
                || self.sessions.get(name).is_some_and(|running| running.woken || running.closing.is_some()))
    }

    /// Whether a session needs a child; one that has failed needs none until somebody wants it up.
    pub(super) fn needs_child(&self, name: &Name) -> bool {
        self.should_run(name) && self.sessions.get(name).is_some_and(|r| r.phase != Phase::Failed)
    }

    /// Whether a session's thread is open.
    pub(super) fn is_open(&self, name: &Name) -> bool {
        self.sessions.get(name).is_some_and(|running| running.phase == Phase::Open)
    }

    /// The child that a session runs on, when it answers requests.
    pub(super) fn ready_child_of(&self, name: &Name) -> Option<Nonce> {
        let key = self.ledger.sessions.get(name)?.child_key;
        self.children.get(&key)?.ready()
    }

    /// Brings one session nearer to what is wanted of it.
    pub(super) fn evaluate_session(&mut self, step: &mut Step, name: &Name) {
        self.evaluate_wake(step, name);
        let left_open = self.sessions.get(name).is_some_and(|running| running.left_open);
        let wanted = self.should_run(name) || (left_open && self.stop.is_none());
        let child = self.ready_child_of(name);
        let phase = self.sessions.get(name).map(|running| running.phase);
        let ends_with_child = phase == Some(Phase::Closing) && self.ends_with_child(name);
        let Some(running) = self.sessions.get_mut(name) else { return };
        match (running.phase, wanted) {
            (Phase::Stopped, true) => {
                running.phase = Phase::Starting;
                running.reason = None;
                self.open_thread(step, name);
            }
            (Phase::Starting, true) => self.open_thread(step, name),
            (Phase::Open, true) => self.evaluate_mail(step, name),
            // What could not be opened, or has failed, may be loaded in its child all the same.
            (Phase::Starting | Phase::Open | Phase::Failed, false) => {
                running.phase = Phase::Closing;
                match child {
                    Some(nonce) => self.leave_thread(step, name, nonce),
                    None => self.thread_left(step, name, "the session was stopped"),
                }
            }
            // It is wanted again, and has not been left: it is opened anew, because nobody knows what is in it now.
            (Phase::Closing, true) if running.still_in => {
                running.left_open = true;
                self.thread_unheard(step, name, "it was to be stopped, and is wanted again");
            }
            // An answer to the request to leave it may still come.
            (Phase::Closing, true) => {
                let soon = step.now.plus(limits::DOWN_NOW_MS / 2);
                self.timers.bring_forward(Timer::Thread(name.clone()), soon);
            }
            (Phase::Failed, true) if running.still_in && running.may_end(step.now) => {
                running.still_in = false;
                self.ask_to_leave(step, name);
            }
            (Phase::Closing, false) if running.still_in && ends_with_child => {
                self.thread_left(step, name, "the session was stopped");
            }
            (Phase::Closing, false) if running.still_in && running.may_end(step.now) => {
                if let Some(nonce) = child {
                    self.leave_thread(step, name, nonce);
                }
            }
            (Phase::Closing | Phase::Stopped, false) | (Phase::Failed, true) => {}
        }
        self.watch_silence(name);
        self.note_shown_state(step, name);
    }

    /// Asks a child to leave a thread, and its turn to end first.
    pub(super) fn leave_thread(&mut self, step: &mut Step, name: &Name, nonce: Nonce) {
        if let Some(running) = self.sessions.get_mut(name) {
            running.still_in = false;
            running.reason.take_if(|_| running.end_refused.is_some());
        }
        step.act(Action::Command { nonce, command: ChildCommand::CloseThread { session: name.clone() } });
        self.timers.set(Timer::Thread(name.clone()), step.now.plus(limits::DOWN_NOW_MS / 2));
    }

    /// Asks a child that can be asked to leave a thread, and waits for nothing.
    pub(super) fn ask_to_leave(&self, step: &mut Step, name: &Name) {
        if let Some(nonce) = self.ready_child_of(name) {
            let command = ChildCommand::CloseThread { session: name.clone() };
            step.act(Action::Command { nonce, command });
        }
    }

    /// A session whose thread is open can do nothing any more: its child lets go of the thread.
    pub(super) fn fail_open(&mut self, step: &mut Step, name: &Name, why: String) {
        let Some(running) = self.sessions.get_mut(name) else { return };
        running.phase = Phase::Failed;
        running.reason = Some(why);
        self.ask_to_leave(step, name);
        self.touch(name);
    }

    /// Stores what is wanted of a session, before anything acts on it.
    pub(super) fn want(&mut self, step: &mut Step, name: &Name, wanted: Wanted) {
        let after = DeliveryId(self.ledger.last_delivery);
        self.record(step, Record::SessionWanted { name: name.clone(), wanted, after });
    }

    /// Asks a ready child to open the session's thread, once.
    fn open_thread(&mut self, step: &mut Step, name: &Name) {
        let Some(nonce) = self.ready_child_of(name) else { return };
        let Some(running) = self.sessions.get_mut(name) else { return };
        if running.opening || running.retry_at.is_some_and(|at| at > step.now) {
            return;
        }
        running.opening = true;
        let tools = self.tools_of(step, name, nonce);
        let Some(session) = self.ledger.sessions.get(name) else { return };
        let command = ChildCommand::OpenThread {
            tools,
            session: name.clone(),
            thread: session.thread.clone(),
            setup: session.setup.clone(),
            // What is opened only to be left keeps its summary for the next start.
            reminder: session
                .summary
                .as_deref()
                .filter(|_| self.should_run(name))
                .map(super::envelope::reminder),
            welcome: super::envelope::welcome(
                name,
                &self.settings.bundle,
                self.ledger.sessions.keys(),
                false,
            ),
            shell_env: vec![
                ("AGENTMUX_SESSION".to_owned(), name.to_string()),
                ("AGENTMUX_BUNDLE".to_owned(), self.settings.bundle.to_string()),
                ("AGENTMUX_STATE_DIR".to_owned(), self.settings.state_root.clone()),
            ],
        };
        step.act(Action::Command { nonce, command });
        self.timers.set(Timer::Thread(name.clone()), step.now.plus(limits::THREAD_OPEN_MS));
    }

    /// The program that gives a session's thread its tools, with a token of its own.
    fn tools_of(&mut self, step: &mut Step, name: &Name, child: Nonce) -> Option<Box<ToolServer>> {
        let (command, args) = self.settings.tools.clone()?;
        let token = self.issue_token(step, name, child);
        Some(Box::new(ToolServer { command, args, session: name.clone(), token }))
    }

    /// The child tells where our own tools stand. While they come up no turn begins, for a while.
    pub(super) fn on_own_tools(&mut self, now: Millis, name: &Name, state: ToolsState) {
        let Some(running) = self.sessions.get_mut(name) else { return };
        running.tools = Some(state);
        let timer = Timer::Tools(name.clone());
        match state {
            ToolsState::Starting => self.timers.set(timer, now.plus(limits::TOOLS_READY_MS)),
            ToolsState::Ready | ToolsState::Gone => self.timers.clear(&timer),
        }
        self.touch(name);
    }

    /// Whether a session has our own tools: its child says so, or they have spoken to us since that child was started.
    pub(super) fn has_tools(&self, name: &Name) -> bool {
        let told = self.sessions.get(name).and_then(|running| running.tools);
        let heard = self.ledger.tokens.get(name).is_some_and(|tokens| tokens.used);
        told.map_or(heard, |state| state == ToolsState::Ready || heard)
    }

    pub(super) fn on_thread_opened(
        &mut self,
        step: &mut Step,
        name: &Name,
        thread: &ThreadId,
        busy: bool,
        turn: Option<Underway>,
    ) {
        let Some(session) = self.ledger.sessions.get(name) else { return };
        match &session.thread {
            None => self.record(step, Record::ThreadBound { name: name.clone(), thread: thread.clone() }),
            Some(bound) if bound == thread => {}
            Some(_) => return self.on_other_thread_opened(step, name, thread),
        }
        self.timers.clear(&Timer::Thread(name.clone()));
        let Some(running) = self.sessions.get_mut(name) else { return };
        running.disconnect();
        running.left_open = false;
        running.phase = Phase::Open;
        running.reason = None;
        running.retry_at = None;
        running.busy = busy;
        if let Some(Underway { turn, since, at_boundary }) = turn {
            // What cannot be so is not believed.
            let since = since.filter(|since| (Millis(0)..=step.now).contains(since));
            running.turn_since = Some(since.unwrap_or(step.now));
            running.turn = Some(turn);
            running.at_boundary = at_boundary;
        }
        let has_summary = self.ledger.sessions.get(name).is_some_and(|session| session.summary.is_some());
        if has_summary && self.should_run(name) {
            self.record(step, Record::SessionSummarised { name: name.clone(), summary: None });
        }
        self.reconcile_approvals_of(step, name);
        self.touch(name);
    }

    /// The answer to a second opening that was on its way: a session keeps the thread that it is bound to, because mail may
    /// be in it, and asks for that one again.
    fn on_other_thread_opened(&mut self, step: &mut Step, name: &Name, other: &ThreadId) {
        self.back_off(step, name);
        self.thread_left(step, name, &format!("the child opened another thread, {other}"));
    }

    pub(super) fn on_thread_failed(&mut self, step: &mut Step, name: &Name, temporary: bool, why: &str) {
        let Some(running) = self.sessions.get_mut(name) else { return };
        running.opening = false;
        // Who could not open it for now may have a turn in it as before; nobody has in what another program writes to.
        running.left_open &= temporary && !is_held_elsewhere(why);
        // An answer to an opening that was given up meanwhile; what came after it has its own answer and deadline.
        if running.phase != Phase::Starting {
            return;
        }
        self.timers.clear(&Timer::Thread(name.clone()));
        running.reason = Some(why.to_owned());
        // Who brings a thread in that another program writes to wants to hear it now, not wait.
        if temporary && !(is_held_elsewhere(why) && self.is_being_spawned(name)) {
            self.back_off(step, name);
        } else if let Some(running) = self.sessions.get_mut(name) {
            running.phase = Phase::Failed;
        }
        self.touch(name);
    }

    /// The child unloaded a thread, because we left it or by itself. Before ours is open it is one of an earlier life (a
    /// removed session of this name, a close that took too long), and the answer to our opening is still to come.
    pub(super) fn on_thread_gone(&mut self, step: &mut Step, name: &Name) {
        if self.sessions.get(name).is_some_and(|running| running.phase != Phase::Starting) {
            self.thread_left(step, name, "the thread was unloaded");
        }
    }

    pub(super) fn handle_thread_overdue(&mut self, step: &mut Step, name: &Name) {
        let is_wanted = self.should_run(name);
        let Some(running) = self.sessions.get_mut(name) else { return };
        match running.phase {
            // It is wanted again: opened again, it is left no more.
            Phase::Closing if is_wanted => {
                running.left_open = true;
                self.thread_left(step, name, "the session was stopped");
            }
            Phase::Closing => self.handle_close_unanswered(step, name),
            Phase::Starting if running.opening => self.handle_opening_overdue(step, name),
            _ => {}
        }
    }

    /// A child that has not opened a thread, twice in a row, is hung: where no thread is open, nothing else would show that.
    fn handle_opening_overdue(&mut self, step: &mut Step, name: &Name) {
        let s = limits::THREAD_OPEN_MS / 1000;
        self.on_thread_failed(step, name, true, &format!("the child did not open the thread within {s} s"));
        let Some(running) = self.sessions.get_mut(name) else { return };
        running.overdue += 1;
        let is_hung = running.overdue >= limits::UNANSWERED_MAX;
        if let Some(nonce) = self.ready_child_of(name).filter(|_| is_hung)
            && !self.on_child_of(name).iter().any(|other| self.is_open(other))
        {
            self.kill_hung_child(step, nonce);
        }
    }

    /// A session has no open thread any more: its mail on the way is in doubt, and it stops or starts again.
    pub(super) fn thread_left(&mut self, step: &mut Step, name: &Name, why: &str) {
        self.forget_approvals_of(step, name, why);
        if let Some(running) = self.sessions.get_mut(name) {
            running.interrupt_wanted = false;
        }
        self.thread_unheard(step, name, why);
    }

    /// As [`Core::thread_left`], but the thread may live on, ask what it asks, and have a turn that the person wants ended.
    pub(super) fn thread_unheard(&mut self, step: &mut Step, name: &Name, why: &str) {
        self.doubt_claims(step, name, why);
        self.timers.clear(&Timer::Thread(name.clone()));
        self.timers.clear(&Timer::Lease(name.clone()));
        self.timers.clear(&Timer::End(name.clone()));
        let Some(running) = self.sessions.get_mut(name) else { return };
        running.disconnect();
        running.tools = None;
        self.timers.clear(&Timer::Tools(name.clone()));
        running.phase = match running.phase {
            Phase::Open | Phase::Starting => Phase::Starting,
            Phase::Closing | Phase::Stopped => Phase::Stopped,
            Phase::Failed => Phase::Failed,
        };
        self.touch(name);
    }

    /// Whether `up` has done what it could for a session.
    pub(super) fn is_up_or_failed(&self, name: &Name) -> bool {
        let open = self.sessions.get(name).is_none_or(|running| running.phase == Phase::Open);
        open || self.shown_state(name) == SessionState::Failed
    }

    /// Whether a session is stopped, and no turn of it can be left in a child.
    pub(super) fn is_down(&self, name: &Name) -> bool {
        self.shown_state(name) == SessionState::Stopped && !self.may_have_turn(name)
    }

    /// Whether its child may have a session's thread open, and a turn running in it.
    pub(super) fn may_have_turn(&self, name: &Name) -> bool {
        let of = |running: &Running| {
            running.left_open || running.still_in || matches!(running.phase, Phase::Open | Phase::Closing)
        };
        self.sessions.get(name).is_some_and(of)
    }

    /// What a session is doing, in the words of `list`.
    pub(super) fn shown_state(&self, name: &Name) -> SessionState {
        let Some(running) = self.sessions.get(name) else { return SessionState::Stopped };
        let key = self.ledger.sessions.get(name).map(|session| session.child_key);
        let children = key.and_then(|key| self.children.get(&key));
        match running.phase {
            Phase::Stopped => SessionState::Stopped,
            // It comes up only to be left.
            Phase::Starting if running.left_open && !self.should_run(name) => SessionState::Stopped,
            Phase::Failed => SessionState::Failed,
            Phase::Starting if children.is_some_and(super::child::Children::has_failed) => {
                SessionState::Failed
            }
            Phase::Starting if children.is_some_and(super::child::Children::is_backing_off) => {
                SessionState::Backoff
            }
            Phase::Starting => SessionState::Starting,
            Phase::Open | Phase::Closing if self.has_approval(name) => SessionState::Waiting,
            Phase::Open | Phase::Closing if running.busy || running.claim.is_some() => SessionState::Busy,
            Phase::Open if self.blocked_until(name).is_some() => SessionState::Blocked,
            Phase::Open if self.is_held(name) => SessionState::Held,
            Phase::Open => SessionState::Idle,
            Phase::Closing => SessionState::Busy,
        }
    }

    pub(super) fn note_shown_state(&mut self, step: &mut Step, name: &Name) {
        let state = self.shown_state(name);
        let Some(running) = self.sessions.get_mut(name).filter(|running| running.shown.0 != state) else {
            return;
        };
        // A turn that was found running has been running since it began, whoever looked.
        let is_found = state == SessionState::Busy && running.shown.0 == SessionState::Starting;
        let since = running.turn_since.filter(|_| is_found && running.turn.is_some()).unwrap_or(step.now);
        let (before, _) = std::mem::replace(&mut running.shown, (state, since));
        if state == SessionState::Failed && running.woken {
            self.touch_sleepers();
        }
        self.tell_state(step, name, before, state);
    }
}

/// Whether the child's words mean that another process writes to the thread.
pub(super) fn is_held_elsewhere(why: &str) -> bool {
    why.contains("active writer")
}
