//! Requests that wait: for a mail's state, for a session to come up or go down, for a child's answer.
//!
//! **Invariant:** G4 and G7: every waiting request has a deadline and gets exactly one answer, or its connection closes.

use std::collections::{BTreeMap, BTreeSet};

use super::conn::{Ask, Identity};
use super::input::Resolved;
use super::planted::Planted;
use super::request::stopped_refusal;
use super::running::Phase;
use super::session::is_held_elsewhere;
use super::timer::Timer;
use super::{Core, Step};
use crate::model::child::Item;
use crate::model::clock::Millis;
use crate::model::fault::{Code, Fault};
use crate::model::id::{ConnId, MailId, ThreadId, TurnId};
use crate::model::limits;
use crate::model::mail::DeliveryState;
use crate::model::name::Name;
use crate::model::session::SessionState;
use crate::protocol::answer::{
    Answer, Attached, Closed, Delivery, Interrupted, Looked, OneSession, Sent, States, Waited,
};
use crate::protocol::request::{SettleApproval, Until};

/// All waiting requests.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    last: u64,
    all: BTreeMap<u64, Entry>,
    by_mail: BTreeMap<MailId, BTreeSet<u64>>,
    /// Those who wait for their next mail.
    by_reader: BTreeMap<Name, BTreeSet<u64>>,
}

#[derive(Debug)]
struct Entry {
    ask: Ask,
    wait: Wait,
}

/// What a request waits for.
#[derive(Debug)]
pub(super) enum Wait {
    /// A mail's deliveries, or its answer.
    Mail { sent: Sent, until: Until, reply_id: Option<MailId> },
    /// The next mail of a reader without a child.
    Next { name: Name, from: Option<Name> },
    /// A new session to have its thread.
    Spawned { name: Name },
    /// Sessions to be up or to have failed.
    Up { names: Vec<Name> },
    /// Sessions to be stopped.
    Down { names: Vec<Name> },
    /// A session that is being closed to be stopped.
    Closed { name: Name },
    /// A session to be stopped, so that it can be removed.
    Removed { name: Name, thread: Option<ThreadId> },
    /// A session's running turn to have ended.
    Interrupted { name: Name, turn: Option<TurnId> },
    /// The turns of a session's sub-agents to have ended, where no turn of its own runs.
    SubsInterrupted { name: Name },
    /// A session to be reachable for a pane.
    Attach { name: Name },
    /// A child to read a thread's items.
    Look { name: Name },
    /// A new relay to know which approvals are still asked, to list them.
    Approvals,
    /// The same, to settle one.
    Settle { settle: Box<SettleApproval>, resolved: Box<Resolved> },
}

impl Core {
    /// Lets a request wait until `deadline`; returns its number.
    pub(super) fn wait(&mut self, ask: Ask, wait: Wait, deadline: Millis) -> u64 {
        self.waiting.last += 1;
        let number = self.waiting.last;
        if let Wait::Mail { sent, .. } = &wait {
            self.waiting.by_mail.entry(sent.id).or_default().insert(number);
        }
        if let Wait::Next { name, .. } = &wait {
            self.waiting.by_reader.entry(name.clone()).or_default().insert(number);
        }
        if let Some(conn) = self.conns.get_mut(&ask.conn) {
            conn.waiting += 1;
        }
        self.waiting.all.insert(number, Entry { ask, wait });
        self.timers.set(Timer::Pending(number), deadline);
        number
    }

    fn take_waiting(&mut self, number: u64) -> Option<Entry> {
        let entry = self.waiting.all.remove(&number)?;
        self.timers.clear(&Timer::Pending(number));
        if let Wait::Mail { sent, .. } = &entry.wait
            && let Some(numbers) = self.waiting.by_mail.get_mut(&sent.id)
        {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.waiting.by_mail.remove(&sent.id);
            }
        }
        if let Wait::Next { name, .. } = &entry.wait
            && let Some(numbers) = self.waiting.by_reader.get_mut(name)
        {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.waiting.by_reader.remove(name);
            }
        }
        if let Some(conn) = self.conns.get_mut(&entry.ask.conn) {
            conn.waiting -= 1;
        }
        // Mail may wake a session that somebody waited to see stopped.
        match &entry.wait {
            Wait::Down { names } => names.iter().for_each(|name| self.touch(name)),
            Wait::Closed { name } | Wait::Removed { name, .. } => self.touch(name),
            _ => {}
        }
        Some(entry)
    }

    pub(super) fn forget_waiting_of(&mut self, conn: ConnId) {
        let numbers: Vec<u64> =
            self.waiting.all.iter().filter(|(_, e)| e.ask.conn == conn).map(|(n, _)| *n).collect();
        for number in numbers {
            self.take_waiting(number);
        }
    }

    /// Refuses everything that a connection waits for.
    pub(super) fn refuse_waiting_of(&mut self, step: &mut Step, conn: ConnId, fault: &Fault) {
        let numbers: Vec<u64> =
            self.waiting.all.iter().filter(|(_, e)| e.ask.conn == conn).map(|(n, _)| *n).collect();
        for number in numbers {
            if let Some(entry) = self.take_waiting(number) {
                step.refuse(entry.ask, fault.clone());
            }
        }
    }

    pub(super) fn refuse_all_waiting(&mut self, step: &mut Step, fault: &Fault) {
        for number in self.waiting.all.keys().copied().collect::<Vec<u64>>() {
            if let Some(entry) = self.take_waiting(number) {
                if let Wait::Spawned { name } = &entry.wait
                    && self.sessions.contains_key(name)
                {
                    self.remove_session(step, name, "the session could not be started");
                }
                step.refuse(entry.ask, fault.clone());
            }
        }
    }

    /// A delivery moved: those who wait for its mail may have what they want.
    pub(super) fn waiting_saw_move(
        &mut self,
        step: &mut Step,
        mail: MailId,
        to: &Name,
        state: DeliveryState,
        turn: Option<TurnId>,
        note: Option<String>,
    ) {
        let numbers: Vec<u64> = self.waiting.by_mail.get(&mail).into_iter().flatten().copied().collect();
        for number in numbers {
            if let Some(Entry { wait: Wait::Mail { sent, .. }, .. }) = self.waiting.all.get_mut(&number)
                && let Some(delivery) = sent.deliveries.iter_mut().find(|delivery| delivery.to == *to)
            {
                delivery.state = state;
                delivery.turn_id = turn.as_deref().map(str::to_owned).or(delivery.turn_id.take());
                delivery.reason = note.clone();
            }
            self.evaluate_wait(step, number);
        }
    }

    /// A session is being closed: who waits for mail behind that hears it at once (TQ-4); the mail itself stays where it is.
    pub(super) fn refuse_waits_behind(&mut self, step: &mut Step, name: &Name) {
        let is_behind = |delivery: &Delivery| delivery.to == *name && delivery.state == DeliveryState::Queued;
        let waits = |entry: &Entry| match &entry.wait {
            Wait::Mail { sent, reply_id: None, .. } => sent.deliveries.iter().any(is_behind),
            _ => false,
        };
        let numbers: Vec<u64> =
            self.waiting.all.iter().filter(|(_, entry)| waits(entry)).map(|(n, _)| *n).collect();
        for number in numbers {
            let Some(entry) = self.take_waiting(number) else { continue };
            let fault = Fault::busy(format!("the wait is over: {name} is being closed"));
            step.refuse(
                entry.ask,
                fault.hint(format!("its mail stays queued until it is up again: agentmux up {name}")),
            );
        }
    }

    /// A mail was answered.
    pub(super) fn waiting_saw_reply(&mut self, step: &mut Step, answered: MailId, reply: MailId) {
        let numbers: Vec<u64> = self.waiting.by_mail.get(&answered).into_iter().flatten().copied().collect();
        for number in numbers {
            if let Some(Entry { wait: Wait::Mail { reply_id, .. }, .. }) = self.waiting.all.get_mut(&number) {
                reply_id.get_or_insert(reply);
            }
            self.evaluate_wait(step, number);
        }
    }

    /// Somebody has new mail: one who waits for it gets it.
    pub(super) fn waiting_saw_mail(&mut self, step: &mut Step, reader: &Name) {
        let numbers: Vec<u64> = self.waiting.by_reader.get(reader).into_iter().flatten().copied().collect();
        for number in numbers {
            let Some(Entry { wait: Wait::Next { from, .. }, .. }) = self.waiting.all.get(&number) else {
                continue;
            };
            let Some(mail) = self.next_mail_for(reader, from.as_ref()) else { continue };
            let Some(entry) = self.take_waiting(number) else { continue };
            self.hand_next(step, entry.ask, reader, mail);
        }
    }

    /// Who waits for an answer of whom.
    pub(super) fn askers(&self) -> impl Iterator<Item = (&Identity, &Name)> {
        let waits = self.waiting.all.values().filter_map(|entry| {
            let Wait::Mail { sent, until: Until::Reply, .. } = &entry.wait else { return None };
            Some((self.conns.get(&entry.ask.conn)?.identity.as_ref()?, sent))
        });
        waits.flat_map(|(identity, sent)| sent.deliveries.iter().map(move |d| (identity, &d.to)))
    }

    pub(super) fn evaluate_waiting_for_session(&mut self, step: &mut Step, name: &Name) {
        let concerns = |entry: &Entry| match &entry.wait {
            Wait::Spawned { name: other }
            | Wait::Attach { name: other }
            | Wait::Closed { name: other }
            | Wait::Removed { name: other, .. }
            | Wait::SubsInterrupted { name: other }
            | Wait::Interrupted { name: other, .. } => other == name,
            Wait::Up { names } | Wait::Down { names } => names.contains(name),
            Wait::Approvals | Wait::Settle { .. } => true,
            Wait::Mail { .. } | Wait::Next { .. } | Wait::Look { .. } => false,
        };
        // Whoever waits for it to be stopped is told before whoever wants it removed then makes it another answer.
        let removes = |entry: &Entry| matches!(entry.wait, Wait::Removed { .. });
        let concerned = self.waiting.all.iter().filter(|(_, entry)| concerns(entry));
        let mut numbers: Vec<(bool, u64)> =
            concerned.map(|(number, entry)| (removes(entry), *number)).collect();
        numbers.sort_unstable();
        for (_, number) in numbers {
            self.evaluate_wait(step, number);
        }
    }

    /// Answers a waiting request if what it waits for has come true or can no longer come true.
    pub(super) fn evaluate_wait(&mut self, step: &mut Step, number: u64) {
        if let Some(Entry { wait: Wait::Settle { .. }, .. }) = self.waiting.all.get(&number) {
            if !self.has_unheard_approvals()
                && let Some(entry) = self.take_waiting(number)
                && let Wait::Settle { settle, resolved } = entry.wait
            {
                self.settle_asked(step, entry.ask, &settle, &resolved);
            }
            return;
        }
        if let Some(Entry { wait: Wait::Removed { name, .. }, .. }) = self.waiting.all.get(&number) {
            if self.is_removal_over(name)
                && let Some(entry) = self.take_waiting(number)
                && let Wait::Removed { name, thread } = entry.wait
            {
                self.finish_removal(step, entry.ask, name, thread);
            }
            return;
        }
        let Some(outcome) =
            self.waiting.all.get(&number).and_then(|entry| self.outcome_of(step.now, &entry.wait))
        else {
            return;
        };
        let Some(entry) = self.take_waiting(number) else { return };
        match (outcome, entry.wait) {
            (Ok(Answer::Attach(attached)), Wait::Attach { name }) => {
                if let Some(conn) = self.conns.get_mut(&entry.ask.conn) {
                    let before = conn.attached.replace(name.clone());
                    if before.as_ref() != Some(&name) {
                        self.tell_panes(step, &name, true);
                    }
                    if let Some(before) = before.filter(|before| *before != name) {
                        self.tell_panes(step, &before, false);
                    }
                }
                step.reply(entry.ask, Answer::Attach(attached));
            }
            (Ok(answer), _) => step.reply(entry.ask, answer),
            (Err(fault), Wait::Spawned { name }) => {
                self.remove_session(step, &name, "the session could not be started");
                step.refuse(entry.ask, fault);
            }
            (Err(fault), _) => step.refuse(entry.ask, fault),
        }
    }

    fn outcome_of(&self, now: Millis, wait: &Wait) -> Option<Result<Answer, Fault>> {
        match wait {
            Wait::Mail { sent, until, reply_id } => {
                let over = match until {
                    Until::Submitted => sent
                        .deliveries
                        .iter()
                        .all(|d| d.state == DeliveryState::Submitted || d.state.is_delivered()),
                    Until::Consumed => sent.deliveries.iter().all(|d| d.state.is_delivered()),
                    Until::Reply => reply_id.is_some(),
                };
                let ended = |d: &Delivery| !d.state.is_open() && !d.state.is_delivered();
                let hopeless = reply_id.is_none() && sent.deliveries.iter().any(ended);
                (over || hopeless).then(|| {
                    Ok(Answer::Waited(Waited { sent: sent.clone(), reached: over, reply_id: *reply_id }))
                })
            }
            Wait::Spawned { name } if !self.sessions.contains_key(name) => {
                Some(Err(Fault::refused(format!("spawn failed: {name} was removed meanwhile"))))
            }
            Wait::Spawned { name } => match self.shown_state(name) {
                SessionState::Starting | SessionState::Backoff => None,
                SessionState::Failed => Some(Err(self.why_failed("spawn", name))),
                _ => self.session_info(now, name).map(|session| Ok(Answer::Session(OneSession { session }))),
            },
            Wait::Up { names } => {
                let settled = |name: &Name| self.is_up_or_failed(name);
                names
                    .iter()
                    .all(settled)
                    .then(|| Ok(Answer::States(States { sessions: self.named_states(names) })))
            }
            Wait::Down { names } => {
                let down = names.iter().all(|name| self.is_down(name));
                down.then(|| Ok(Answer::States(States { sessions: self.named_states(names) })))
            }
            Wait::Closed { name } => {
                // Whoever wants it up again overrules the close.
                let is_wanted = self.sessions.get(name).is_some_and(|running| !running.closed);
                (is_wanted || self.is_down(name)).then(|| Ok(self.closed_answer(name)))
            }
            Wait::Interrupted { name, turn } => {
                let over = self.sessions.get(name).is_none_or(|running| !running.interrupt_wanted);
                let turn_id = turn.as_deref().map(str::to_owned);
                over.then(|| {
                    Ok(Answer::Interrupted(Interrupted { session: name.clone(), turn_id, sub_turns: None }))
                })
            }
            // What its child is doing cannot be heard any more.
            Wait::SubsInterrupted { name } => (!self.is_open(name)).then(|| {
                let state = self.shown_state(name).as_str();
                Err(Fault::busy(format!("interrupt failed: {name} is {state} meanwhile")))
            }),
            Wait::Attach { name } => match (self.shown_state(name), self.attach_answer(name)) {
                (SessionState::Failed, _) => Some(Err(self.why_failed("attach", name))),
                (SessionState::Stopped, _) => Some(Err(stopped_refusal("attach failed", name))),
                (_, answer) => answer.map(|attached| Ok(Answer::Attach(attached))),
            },
            Wait::Approvals => (!self.has_unheard_approvals()).then(|| Ok(self.listed_approvals())),
            Wait::Next { .. } | Wait::Look { .. } | Wait::Settle { .. } | Wait::Removed { .. } => None,
        }
    }

    /// Whether somebody waits for a session to be stopped.
    pub(super) fn is_awaited_down(&self, name: &Name) -> bool {
        self.waiting.all.values().any(|entry| match &entry.wait {
            Wait::Down { names } => names.contains(name),
            Wait::Closed { name: other } | Wait::Removed { name: other, .. } => other == name,
            _ => false,
        })
    }

    /// Whether somebody waits for a new session to come up.
    pub(super) fn is_being_spawned(&self, name: &Name) -> bool {
        self.waiting
            .all
            .values()
            .any(|entry| matches!(&entry.wait, Wait::Spawned { name: other } if other == name))
    }

    /// Whether somebody waits for the end of a session's turn.
    pub(super) fn is_being_interrupted(&self, name: &Name) -> bool {
        self.waiting
            .all
            .values()
            .any(|entry| matches!(&entry.wait, Wait::Interrupted { name: other, .. } if other == name))
    }

    /// Those who wait for the turns of a session's sub-agents to end; they wait no more.
    pub(super) fn take_interrupting_subs_of(&mut self, name: &Name) -> Vec<Ask> {
        let waits = |wait: &Wait| matches!(wait, Wait::SubsInterrupted { name: other } if other == name);
        let numbers: Vec<u64> =
            self.waiting.all.iter().filter(|(_, entry)| waits(&entry.wait)).map(|(n, _)| *n).collect();
        numbers.into_iter().filter_map(|number| Some(self.take_waiting(number)?.ask)).collect()
    }

    fn why_failed(&self, what: &str, name: &Name) -> Fault {
        let reason = self.sessions.get(name).and_then(|running| running.reason.clone());
        let why = reason.unwrap_or_else(|| "the session failed".to_owned());
        let code = if is_held_elsewhere(&why) { Code::Conflict } else { Code::Refused };
        Fault::new(code, format!("{what} failed: {why}"))
    }

    fn closed_answer(&self, name: &Name) -> Answer {
        let sessions = self.named_states(std::slice::from_ref(name));
        Answer::Closed(Closed { sessions, summary: self.summary_of(name) })
    }

    fn attach_answer(&self, name: &Name) -> Option<Attached> {
        let session = self.ledger.sessions.get(name)?;
        let slot = self.published_slot_of(name)?;
        Some(Attached {
            session: name.clone(),
            thread_id: session.thread.as_deref()?.to_owned(),
            socket: crate::model::session::panes_socket(slot),
            program: session.program.clone(),
            dir: session.setup.dir.clone(),
        })
    }

    /// A waiting request's time is over.
    pub(super) fn handle_wait_over(&mut self, step: &mut Step, number: u64) {
        let Some(entry) = self.take_waiting(number) else { return };
        match entry.wait {
            Wait::Mail { .. } if self.is_planted(Planted::WaiterForgotten) => {}
            Wait::Mail { sent, reply_id, .. } => {
                step.reply(entry.ask, Answer::Waited(Waited { sent, reached: false, reply_id }));
            }
            Wait::Next { .. } => {
                step.refuse(entry.ask, Fault::timeout("wait over: no mail has come"));
            }
            Wait::Spawned { name } => {
                let reason = self.sessions.get(&name).and_then(|running| running.reason.clone());
                let why = reason.unwrap_or_else(|| "the child did not come up in time".to_owned());
                self.remove_session(step, &name, "the session could not be started");
                step.refuse(entry.ask, Fault::timeout(format!("spawn failed: {why}")));
            }
            Wait::Up { names } | Wait::Down { names } => {
                step.reply(entry.ask, Answer::States(States { sessions: self.named_states(&names) }));
            }
            Wait::Closed { name } => {
                let answer = self.closed_answer(&name);
                step.reply(entry.ask, answer);
            }
            Wait::Removed { name, .. } => self.refuse_removal(step, entry.ask, &name),
            Wait::Interrupted { name, .. } => {
                // Whatever runs when its thread is open again is not what was meant.
                let lost = self.sessions.get_mut(&name).filter(|running| running.phase != Phase::Open);
                if let Some(running) = lost {
                    running.interrupt_wanted = false;
                }
                let s = limits::DOWN_MS / 1000;
                let fault =
                    Fault::timeout(format!("interrupt failed: the turn of {name} did not end within {s} s"));
                step.refuse(entry.ask, fault.hint(format!("stop it: agentmux down {name} --now")));
            }
            Wait::SubsInterrupted { name } => {
                let s = limits::DOWN_MS / 1000;
                let what =
                    format!("the child of {name} has not ended the turns of its sub-agents within {s} s");
                let fault = Fault::timeout(format!("interrupt failed: {what}"));
                step.refuse(entry.ask, fault.hint(format!("stop it: agentmux down {name} --now")));
            }
            Wait::Attach { name } => {
                let state = self.shown_state(&name).as_str();
                step.refuse(entry.ask, Fault::timeout(format!("attach failed: {name} is still {state}")));
            }
            Wait::Approvals => {
                let answer = self.listed_approvals();
                step.reply(entry.ask, answer);
            }
            Wait::Settle { settle, resolved } => self.settle_asked(step, entry.ask, &settle, &resolved),
            Wait::Look { name } => {
                step.refuse(
                    entry.ask,
                    Fault::timeout(format!("look failed: the child of {name} did not answer in time")),
                );
            }
        }
    }

    pub(super) fn waiting_got_items(
        &mut self,
        step: &mut Step,
        token: u64,
        items: Result<Vec<Item>, String>,
    ) {
        let Some(Entry { ask, wait: Wait::Look { name } }) = self.take_waiting(token) else { return };
        match items {
            Ok(mut items) => {
                items.iter_mut().for_each(|item| self.name_source(item));
                step.reply(ask, Answer::Look(Looked { session: name, items }))
            }
            Err(why) => step.refuse(ask, Fault::refused(format!("look failed: {why}"))),
        }
    }
}
