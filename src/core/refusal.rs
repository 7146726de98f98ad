//! Refusals: what a child would not do for now is asked of it again, later each time.
//!
//! | Refused | Then |
//! | --- | --- |
//! | a turn's start, a steer, an opening, a search | the session waits, whatever it has to do (`back_off`) |
//! | an interrupt | it is asked for again while somebody wants it; mail that nobody wants to interrupt for does not wait |
//! | an interrupt, in a thread that shall be left | it is not left before, unless its child ends anyway; silence is no answer |
//! | whose thread a question is about | it is looked for again, a few times (`transport/codex/seek.rs`) |
//! | whether a silent turn runs, summing a context up | `silence.rs` |
//!
//! **Invariant:** pauses double up to a longest one and have jitter, so that no two sessions of a machine ask in step.

use super::running::Phase;
use super::timer::Timer;
use super::{Core, Step};
use crate::model::clock::Millis;
use crate::model::id::Nonce;
use crate::model::limits;
use crate::model::name::Name;

impl Core {
    /// Waits longer after each refusal in a row, with jitter.
    pub(super) fn back_off(&mut self, step: &mut Step, name: &Name) {
        let Some(running) = self.sessions.get_mut(name) else { return };
        let at = step.now.plus(pause_ms(step, running.refusals));
        running.refusals += 1;
        running.retry_at = Some(at);
        self.timers.set(Timer::Retry(name.clone()), at);
    }

    /// The turn had not begun or had ended, or the child has too much to do: whoever wants it interrupted is looked at again, later.
    pub(super) fn on_interrupt_refused(&mut self, step: &mut Step, name: &Name) {
        if let Some(running) = self.sessions.get_mut(name) {
            running.interrupting = None;
            if running.has_turn() {
                self.put_end_off(step, name);
            }
        }
        self.touch(name);
    }

    /// The child would not end the turn of a thread that shall be left: it is asked again later, because the turn would run on; but for a
    /// child that is ended with it anyway.
    pub(super) fn on_close_refused(&mut self, step: &mut Step, name: &Name, why: &str) {
        let Some(running) = self.sessions.get_mut(name) else { return };
        match running.phase {
            Phase::Closing => running.reason = Some(format!("its child would not end its turn: {why}")),
            // Why it has failed is what people have to know.
            Phase::Failed => {}
            Phase::Stopped | Phase::Starting | Phase::Open => return,
        }
        running.still_in = true;
        running.unanswered_since = None;
        if running.phase == Phase::Failed {
            self.put_end_off(step, name);
            return self.touch(name);
        }
        if self.ends_with_child(name) {
            return self.thread_left(step, name, "the session was stopped");
        }
        let until = self.put_end_off(step, name);
        self.timers.set(Timer::Thread(name.clone()), until.plus(limits::DOWN_NOW_MS / 2));
        self.touch(name);
    }

    /// The child has not said that it has left a thread, nor that it would not: a turn may run on in it, so that it is asked again. What
    /// it does with the request that is on its way, it does once. A child that says nothing at all for a whole lease is hung.
    pub(super) fn handle_close_unanswered(&mut self, step: &mut Step, name: &Name) {
        let child = self.ready_child_of(name).filter(|_| !self.ends_with_child(name));
        let Some(nonce) = child else { return self.thread_left(step, name, "the session was stopped") };
        let Some(running) = self.sessions.get_mut(name) else { return };
        let lease_began = step.now.plus(-limits::LEASE_MS);
        let is_long = *running.unanswered_since.get_or_insert(step.now) <= lease_began;
        if is_long && !self.is_heard(name, lease_began) {
            return self.kill_hung_child(step, nonce);
        }
        let until = self.put_end_off(step, name);
        self.leave_thread(step, name, nonce);
        self.timers.set(Timer::Thread(name.clone()), until.plus(limits::DOWN_NOW_MS / 2));
        if let Some(running) = self.sessions.get_mut(name) {
            running.reason = Some("its child has not said that its turn has ended".to_owned());
        }
        self.touch(name);
    }

    /// Whether a session's child is ended with the session, because no other needs it.
    pub(super) fn ends_with_child(&self, name: &Name) -> bool {
        !self.on_child_of(name).iter().any(|other| self.needs_child(other))
    }

    /// Whether a session's child has said anything of any of its sessions since a moment.
    fn is_heard(&self, name: &Name, since: Millis) -> bool {
        let is_heard =
            |other: &Name| self.sessions.get(other).is_some_and(|running| running.heard_at > since);
        self.on_child_of(name).iter().any(is_heard)
    }

    /// A question whose thread nobody knows yet is placed within milliseconds, or when the child has time to say whose it is.
    pub(super) fn on_ask_unplaced(&mut self, step: &mut Step, nonce: Nonce, key: String, times: u32) {
        let at = step.now.plus(pause_ms(step, times));
        self.timers.set(Timer::Ask(nonce, key), at);
    }

    /// Whoever asks anew for the end of a turn is not made to wait for the end of a pause, nor for what the child has made of the last
    /// time.
    pub(super) fn end_without_pause(&mut self, now: Millis, name: &Name) {
        let Some(running) = self.sessions.get_mut(name) else { return };
        running.interrupting = None;
        if let Some((until, _)) = &mut running.end_refused {
            *until = now;
        }
    }

    /// The child would not end a turn: it is asked again later, and later each time.
    pub(super) fn put_end_off(&mut self, step: &mut Step, name: &Name) -> Millis {
        let Some(running) = self.sessions.get_mut(name) else { return step.now };
        let times = running.end_refused.map_or(0, |(_, times)| times);
        let until = step.now.plus(pause_ms(step, times));
        running.end_refused = Some((until, times + 1));
        self.timers.set(Timer::End(name.clone()), until);
        until
    }
}

/// How long to wait after so many refusals in a row before this one: longer each time, and nobody in step with others.
pub(super) fn pause_ms(step: &mut Step, refusals: u32) -> i64 {
    let ms = (limits::RETRY_MS_MIN << refusals.min(10)).min(limits::RETRY_MS_MAX);
    ms / 2 + step.mint.below(ms as u64 / 2) as i64
}
