//! The children's twin, outside: processes that start, hang, end and die, connections that break, commands that are read.
//!
//! **Invariant:** commands of one connection are read in the order of writing; what a broken connection still held is lost,
//! but for a few requests to start a turn (4 of 30 were measured to be applied all the same).

use std::collections::{BTreeMap, BTreeSet};

use agentmux::core::input::Input;
use agentmux::model::child::{ChildCommand, ChildEvent, Underway};
use agentmux::model::id::{ClaimId, Nonce, ThreadId, TurnId, approval_id};
use agentmux::model::name::Name;

use crate::codex::{Link, Process};
use crate::guarantee::Guarantee;
use crate::world::{Happening, World};

impl World {
    /// The shell starts a process.
    pub fn child_is_started(&mut self, life: u64, nonce: Nonce) {
        let pause = self.random.ms(0, 3);
        if self.chance(self.shape.child_hangs) && self.random.chance(300) {
            return self.in_ms(pause, Happening::SpawnReported { life, nonce, pid: None });
        }
        let pid = 1_000 + self.codex.next() as u32;
        let process = Process {
            pid,
            link: None,
            names: BTreeMap::new(),
            closing: BTreeMap::new(),
            loaded: BTreeMap::new(),
            terms: 0,
            reads_from: self.now,
            is_deaf: false,
        };
        self.codex.processes.insert(nonce, process);
        self.in_ms(pause, Happening::SpawnReported { life, nonce, pid: Some(pid) });
        if !self.chance(self.shape.child_hangs) && !self.chance(self.shape.never_ready) {
            let pause = self.random.ms(70, 260);
            self.in_ms(pause, Happening::Connects { life, nonce });
        }
    }

    /// The shell gets through to a process.
    pub fn child_connects(&mut self, nonce: Nonce) {
        let number = self.codex.next();
        let Some(process) = self.codex.processes.get_mut(&nonce) else { return };
        process.link =
            Some(Link { number, opened: BTreeSet::new(), openings: BTreeMap::new(), last_opening: 0 });
        self.child_says(nonce, ChildEvent::Ready { version: "0.169.0".to_owned() });
    }

    /// The connection breaks; the shell connects again, unless the child hangs.
    pub fn connection_breaks(&mut self, nonce: Nonce) {
        let Some(life) = self.life() else { return };
        let link = self.codex.processes.get_mut(&nonce).and_then(|process| process.link.take());
        if link.is_none() {
            return;
        }
        self.note(|| format!("the connection to {nonce} breaks"));
        self.counts.broken_connections += 1;
        self.reaches_relay(Input::ChildLost { nonce, why: "reset".to_owned() });
        if !self.chance(self.shape.child_hangs) {
            let pause = if self.random.chance(500) { self.random.ms(0, 5) } else { self.random.ms(5, 200) };
            self.in_ms(pause, Happening::Connects { life, nonce });
        }
    }

    pub fn child_is_signalled(&mut self, nonce: Nonce, kill: bool) {
        let Some(process) = self.codex.processes.get_mut(&nonce) else { return };
        process.terms += 1;
        if kill || process.terms > 1 {
            self.child_dies(nonce);
        } else {
            self.drains(nonce);
        }
    }

    /// A process that was asked to end does so when no turn runs.
    pub fn drains(&mut self, nonce: Nonce) {
        let Some(process) = self.codex.processes.get(&nonce) else { return };
        if process.terms > 0 && process.loaded.values().all(Option::is_none) {
            self.child_dies(nonce);
        }
    }

    /// The process is gone: inputs that are in no history are lost, all but some of them also for the model.
    pub fn child_dies(&mut self, nonce: Nonce) {
        let Some(process) = self.codex.processes.remove(&nonce) else { return };
        self.note(|| format!("child {nonce} dies"));
        self.counts.kills += 1;
        let pending = process.loaded.values().flatten().flat_map(|turn| turn.inputs.iter().flatten());
        for claim in pending.copied().collect::<Vec<ClaimId>>() {
            if self.chance(self.shape.hides_items) && self.witness.excuse(claim, &self.disk.open) {
                self.model_is_told(claim, true);
            } else {
                self.counts.lost_inputs += 1;
            }
        }
        if let Some(life) = self.life() {
            let pause = self.random.ms(0, 3);
            self.in_ms(pause, Happening::ExitSeen { life, nonce });
        }
    }

    /// The shell writes a command to a child; without a connection there is nothing to write to.
    pub fn write_to_child(&mut self, nonce: Nonce, command: ChildCommand) {
        let pause = self.random.ms(0, 3);
        let Some(process) = self.codex.processes.get_mut(&nonce) else { return };
        let Some(link) = process.link.as_ref().map(|link| link.number) else { return };
        process.reads_from = process.reads_from.max(self.now.plus(pause));
        let pause = process.reads_from.since(self.now);
        self.in_ms(pause, Happening::Reads { nonce, link, command });
    }

    pub fn child_reads(&mut self, nonce: Nonce, link: u64, command: ChildCommand) {
        let Some(process) = self.codex.processes.get_mut(&nonce) else { return };
        let lives = process.link.as_ref().is_some_and(|open| open.number == link);
        let what = match command {
            ChildCommand::AskStatus { .. } => Some("status"),
            ChildCommand::InterruptTurn { .. } => Some("interrupt"),
            ChildCommand::Compact { .. } => Some("compact"),
            ChildCommand::CloseThread { .. } => Some("close"),
            ChildCommand::PlaceAsk { .. } => Some("place"),
            _ => None,
        };
        self.codex.asked.extend(what.map(|what| (self.now, what)));
        if what.is_some() && lives && self.chance(self.shape.too_busy) {
            return self.child_is_too_busy(nonce, command);
        }
        let Some(process) = self.codex.processes.get_mut(&nonce) else { return };
        match command {
            ChildCommand::StartTurn { session, claim, text } => {
                if lives || self.random.chance(130) {
                    // Mail has no text here; what has is the relay's own question.
                    self.child_reads_start(nonce, link, session, claim, !text.is_empty());
                }
            }
            ChildCommand::SteerTurn { session, claim, turn, .. } => {
                if lives || self.random.chance(130) {
                    self.child_reads_steer(nonce, link, session, claim, &turn);
                }
            }
            _ if !lives => {}
            ChildCommand::InterruptTurn { .. } if self.random.chance(self.shape.says_nothing) => {}
            ChildCommand::InterruptTurn { session, .. } if self.random.chance(self.shape.refuses_for_now) => {
                let why = "no active turn to interrupt".to_owned();
                self.child_says(nonce, ChildEvent::InterruptRefused { session, why });
            }
            ChildCommand::InterruptTurn { session, turn } => {
                let thread = process.names.get(&session).cloned();
                let runs = |thread: &ThreadId| {
                    let running = process.loaded.get(thread).and_then(Option::as_ref);
                    running.is_some_and(|running| running.shown && running.id == turn)
                };
                match thread.filter(runs) {
                    Some(thread) => {
                        self.counts.interrupts += 1;
                        self.interrupt_turn(nonce, &thread);
                    }
                    None => {
                        let why = "no active turn to interrupt".to_owned();
                        self.child_says(nonce, ChildEvent::InterruptRefused { session, why });
                    }
                }
            }
            ChildCommand::CloseThread { .. } if self.random.chance(self.shape.says_nothing) => {
                process.is_deaf = true;
            }
            // As in the real transport: what is not open is gone, with an opening that is under way.
            ChildCommand::CloseThread { ref session }
                if process.link.as_ref().is_none_or(|open| !open.opened.contains(session)) =>
            {
                let session = session.clone();
                let _ = self.attempt_to_open(nonce, &command);
                self.child_says(nonce, ChildEvent::ThreadGone { session });
            }
            ChildCommand::CloseThread { ref session } => {
                if let Some(thread) = process.names.get(session).cloned() {
                    process.closing.insert(session.clone(), thread.clone());
                }
                let _ = self.attempt_to_open(nonce, &command);
                self.in_ms(0, Happening::Leaves { nonce, link, session: session.clone() });
            }
            ChildCommand::Approve { ref key, .. }
            | ChildCommand::Choose { ref key, .. }
            | ChildCommand::Decline { ref key, .. } => {
                let id = approval_id(&format!("{nonce}/{key}"));
                if matches!(command, ChildCommand::Approve { .. }) && !self.witness.approved.contains(&id) {
                    self.breach(Guarantee::ApprovedByOperator, format!("{id} is approved by nobody"));
                }
                let Some(process) = self.codex.processes.get_mut(&nonce) else { return };
                let waits = |turn: &crate::codex::Turn| turn.approval.as_deref() == Some(key);
                let mut loaded = process.loaded.iter();
                let thread = loaded.find(|(_, turn)| turn.as_ref().is_some_and(waits));
                if let Some(thread) = thread.map(|(thread, _)| thread.clone()) {
                    self.approval_is_settled(nonce, &thread, key);
                }
            }
            // Nothing here begins threads beside its own.
            ChildCommand::InterruptSubs { .. } if self.random.chance(self.shape.says_nothing) => {}
            ChildCommand::InterruptSubs { session } => {
                self.child_says(nonce, ChildEvent::SubsInterrupted { session, turns: 0, refused: None });
            }
            ChildCommand::PlaceAsk { .. } => {}
            ChildCommand::Compact { .. } if self.random.chance(self.shape.says_nothing) => {}
            ChildCommand::Compact { session } => {
                if let Some(thread) = process.names.get(&session).cloned() {
                    self.compacts(nonce, &thread);
                }
                self.child_says(nonce, ChildEvent::CompactBegun { session });
            }
            ChildCommand::OpenThread { .. }
            | ChildCommand::FindClaims { .. }
            | ChildCommand::AskStatus { .. }
            | ChildCommand::ReadItems { .. } => {
                self.answer_later(nonce, link, command);
            }
        }
    }

    /// A child has too much to do for a question of ours, and says so.
    fn child_is_too_busy(&mut self, nonce: Nonce, command: ChildCommand) {
        let why = "Server overloaded; retry later.".to_owned();
        let refused = match command {
            ChildCommand::AskStatus { session } => ChildEvent::StatusRefused { session, why },
            ChildCommand::InterruptTurn { session, .. } => ChildEvent::InterruptRefused { session, why },
            ChildCommand::Compact { session } => ChildEvent::CompactRefused { session, temporary: true, why },
            ChildCommand::CloseThread { session } => ChildEvent::CloseRefused { session, why },
            _ => return,
        };
        self.child_says(nonce, refused);
    }

    /// A thread is left, its turn interrupted; a turn that does not show yet can only be interrupted when it does.
    pub fn child_leaves(&mut self, nonce: Nonce, link: u64, session: Name) {
        let Some(process) = self.codex.processes.get(&nonce) else { return };
        if process.link.as_ref().is_none_or(|open| open.number != link) {
            return;
        }
        if let Some(thread) = process.closing.get(&session).cloned() {
            let turn = process.loaded.get(&thread).and_then(Option::as_ref);
            if turn.is_some_and(|turn| !turn.shown) {
                return self.in_ms(2, Happening::Leaves { nonce, link, session });
            }
            self.interrupt_turn(nonce, &thread);
        }
        self.answer_later(nonce, link, ChildCommand::CloseThread { session });
    }

    fn answer_later(&mut self, nonce: Nonce, link: u64, command: ChildCommand) {
        let opening = self.attempt_to_open(nonce, &command);
        if !self.chance(self.shape.says_nothing) {
            // Mostly as fast as measured, so that a new relay can look before an input shows.
            let slow = self.chance(self.shape.answers_slowly);
            let pause = if slow { self.random.ms(5, 30) } else { self.random.ms(1, 4) };
            self.in_ms(pause, Happening::Answers { nonce, link, opening, command });
        } else if let ChildCommand::CloseThread { .. } = command
            && let Some(process) = self.codex.processes.get_mut(&nonce)
        {
            process.is_deaf = true;
        }
    }

    /// Numbers an attempt to open a thread; a close ends the one that is under way.
    fn attempt_to_open(&mut self, nonce: Nonce, command: &ChildCommand) -> u64 {
        let Some(open) = self.codex.processes.get_mut(&nonce).and_then(|process| process.link.as_mut())
        else {
            return 0;
        };
        match command {
            ChildCommand::OpenThread { session, tools, .. } => {
                open.last_opening += 1;
                open.openings.insert(session.clone(), open.last_opening);
                let token = tools.as_ref().map(|tools| (session.clone(), tools.token.clone()));
                self.clients.tokens.extend(token);
            }
            ChildCommand::CloseThread { session } => {
                open.openings.remove(session);
            }
            _ => {}
        }
        open.last_opening
    }

    fn child_reads_start(&mut self, nonce: Nonce, link: u64, session: Name, claim: ClaimId, asks: bool) {
        let process = &self.codex.processes[&nonce];
        let thread =
            process.names.get(&session).filter(|thread| process.loaded.contains_key(*thread)).cloned();
        if !asks {
            self.child_receives(nonce, thread.as_ref(), claim, false);
        }
        let (temporary, refused) = match thread {
            None => (true, true),
            Some(_) if self.chance(self.shape.refuses_for_now) => (true, true),
            Some(_) => (false, self.chance(self.shape.refuses_for_good)),
        };
        let Some(thread) = thread.filter(|_| !refused) else {
            self.witness.child_refuses(claim, temporary);
            let lives = self.codex.processes[&nonce].link.as_ref().is_some_and(|open| open.number == link);
            if lives {
                let why = "the child says no".to_owned();
                self.child_says(nonce, ChildEvent::TurnRefused { session, claim, temporary, why });
            }
            return;
        };
        if self.chance(self.shape.applies_slowly) && self.witness.excuse(claim, &self.disk.open) {
            let pause = self.random.ms(30_500, 45_000);
            return self.in_ms(pause, Happening::Applies { nonce, thread, claim });
        }
        if self.chance(self.shape.says_nothing) && self.random.chance(500) {
            self.counts.lost_inputs += 1;
            return;
        }
        // A person presses Enter in the same instant, and the inputs share a turn.
        if self.chance(self.shape.person / 4) {
            self.apply_input(nonce, &thread, None, None);
        }
        self.apply_input(nonce, &thread, Some(claim), Some(link));
        if let Some(turn) = self.codex.turn(nonce, &thread).filter(|_| asks) {
            turn.ours.retain(|other| *other != claim);
            turn.sums_up = true;
        }
    }

    /// A steer goes into the turn that it means, or is refused.
    fn child_reads_steer(&mut self, nonce: Nonce, link: u64, session: Name, claim: ClaimId, turn: &TurnId) {
        let process = &self.codex.processes[&nonce];
        let runs = |thread: &&ThreadId| {
            let running = process.loaded.get(*thread).and_then(Option::as_ref);
            running.is_some_and(|running| running.shown && running.id == *turn)
        };
        let thread = process.names.get(&session).filter(runs).cloned();
        let lives = process.link.as_ref().is_some_and(|open| open.number == link);
        self.child_receives(nonce, thread.as_ref(), claim, true);
        let Some(thread) = thread else {
            self.counts.missed += 1;
            let why = "no active turn to steer".to_owned();
            if lives {
                self.child_says(nonce, ChildEvent::TurnMissed { session, claim, why });
            }
            return;
        };
        let for_now = self.chance(self.shape.refuses_for_now);
        if for_now || self.chance(self.shape.refuses_for_good) {
            self.witness.child_refuses(claim, for_now);
            if lives {
                let why = "the child says no".to_owned();
                self.child_says(nonce, ChildEvent::TurnRefused { session, claim, temporary: for_now, why });
            }
            return;
        }
        if self.chance(self.shape.says_nothing) && self.random.chance(500) {
            self.counts.lost_inputs += 1;
            return;
        }
        self.counts.our_steers += 1;
        self.apply_input(nonce, &thread, Some(claim), Some(link));
    }

    /// A child answers a command other than the start of a turn.
    pub fn child_answers(&mut self, nonce: Nonce, link: u64, opening: u64, command: &ChildCommand) {
        let Some(process) = self.codex.processes.get_mut(&nonce) else { return };
        let Some(open) = process.link.as_mut().filter(|open| open.number == link) else { return };
        match command {
            ChildCommand::OpenThread { session, .. } if open.openings.get(session) != Some(&opening) => {}
            ChildCommand::OpenThread { session, thread, .. } => {
                self.child_opens(nonce, session.clone(), thread.clone());
            }
            ChildCommand::CloseThread { session } => {
                let closed = process.closing.remove(session);
                let is_current = process.names.get(session) == closed.as_ref();
                if is_current && (open.opened.remove(session) || closed.is_none()) {
                    self.child_says(nonce, ChildEvent::ThreadGone { session: session.clone() });
                }
            }
            ChildCommand::FindClaims { session, claims } => {
                let Some(thread) = process.names.get(session) else { return };
                let busy = process.loaded.get(thread).and_then(Option::as_ref).is_some_and(|turn| turn.shown);
                let items = self.codex.threads.get(thread).map_or(&[][..], Vec::as_slice);
                let turn_of = |claim: &ClaimId| items.iter().find(|item| item.claim == Some(*claim));
                let present =
                    claims.iter().filter_map(|c| Some((*c, turn_of(c)?.turn.clone()))).collect::<Vec<_>>();
                let absent = claims.iter().filter(|c| turn_of(c).is_none()).copied().collect();
                let session = session.clone();
                self.child_says(nonce, ChildEvent::ClaimsFound { session, present, absent, busy });
            }
            ChildCommand::AskStatus { session } => {
                let Some(thread) = process.names.get(session) else { return };
                let busy = process.loaded.get(thread).is_some_and(Option::is_some);
                self.child_says(nonce, ChildEvent::StatusTold { session: session.clone(), busy });
            }
            ChildCommand::ReadItems { token, .. } => {
                self.child_says(nonce, ChildEvent::ItemsRead { token: *token, items: Ok(Vec::new()) });
            }
            ChildCommand::StartTurn { .. }
            | ChildCommand::SteerTurn { .. }
            | ChildCommand::InterruptTurn { .. }
            | ChildCommand::InterruptSubs { .. }
            | ChildCommand::PlaceAsk { .. }
            | ChildCommand::Compact { .. }
            | ChildCommand::Approve { .. }
            | ChildCommand::Choose { .. }
            | ChildCommand::Decline { .. } => {}
        }
    }

    fn child_opens(&mut self, nonce: Nonce, session: Name, thread: Option<ThreadId>) {
        if self.chance(self.shape.thread_refused) {
            let (temporary, why) = (self.random.chance(800), "no such model".to_owned());
            return self.child_says(nonce, ChildEvent::ThreadFailed { session, temporary, why });
        }
        if self.chance(self.shape.too_busy) {
            let why = "Server overloaded; retry later.".to_owned();
            return self.child_says(nonce, ChildEvent::ThreadFailed { session, temporary: true, why });
        }
        let thread = thread.unwrap_or_else(|| format!("thread-{}", self.codex.next()).into());
        self.codex.threads.entry(thread.clone()).or_default();
        let Some(process) = self.codex.processes.get_mut(&nonce) else { return };
        let turn = process.loaded.entry(thread.clone()).or_default();
        let (busy, approval, running) = (
            turn.as_ref().is_some_and(|turn| turn.shown),
            turn.as_ref().and_then(|turn| turn.approval.clone()),
            turn.as_ref().filter(|turn| turn.shown).map(|turn| turn.id.clone()),
        );
        process.names.insert(session.clone(), thread.clone());
        process.closing.remove(&session);
        if let Some(link) = &mut process.link {
            link.opened.insert(session.clone());
        }
        // Which turn runs is known with the opening, or with the turn's next word.
        let says_which = !self.chance(self.shape.says_nothing);
        let turn =
            running.filter(|_| says_which).map(|turn| Underway { turn, since: None, at_boundary: false });
        self.child_says(nonce, ChildEvent::ThreadOpened { session, thread: thread.clone(), busy, turn });
        if let Some(key) = approval {
            self.approval_is_asked(nonce, &thread, &key);
        }
    }

    /// What happens by itself between two laps: deaths, broken connections, persons at their panes.
    pub fn nature(&mut self) {
        let nonces: Vec<Nonce> = self.codex.processes.keys().copied().collect();
        if nonces.is_empty() {
            return;
        }
        let nonce = *self.random.pick(&nonces);
        // Trouble is drawn more often where it hurts: while inputs are on their way into a turn.
        let mut turns = self.codex.processes[&nonce].loaded.values().flatten();
        let weight = if turns.any(|turn| !turn.inputs.is_empty()) { 4 } else { 1 };
        if self.chance(self.shape.child_dies * weight) {
            return self.child_dies(nonce);
        }
        if self.chance(self.shape.connection_breaks * weight) {
            return self.connection_breaks(nonce);
        }
        let threads: Vec<ThreadId> = self.codex.processes[&nonce].loaded.keys().cloned().collect();
        if threads.is_empty() {
            return;
        }
        let thread = self.random.pick(&threads).clone();
        if self.chance(self.shape.person) {
            if self.random.chance(350) {
                self.interrupt_turn(nonce, &thread);
            } else {
                self.apply_input(nonce, &thread, None, None);
            }
        } else if self.chance(self.shape.thread_unloads) {
            self.thread_unloads(nonce, &thread);
        }
    }

    fn thread_unloads(&mut self, nonce: Nonce, thread: &ThreadId) {
        let Some(process) = self.codex.processes.get_mut(&nonce) else { return };
        if process.loaded.get(thread).is_some_and(Option::is_none) {
            process.loaded.remove(thread);
            let of_thread = |name: &&Name| process.names.get(*name) == Some(thread);
            let link = process.link.as_mut();
            let name = link.and_then(|link| {
                let name = link.opened.iter().find(of_thread).cloned()?;
                link.opened.remove(&name);
                Some(name)
            });
            if let Some(session) = name {
                self.child_says(nonce, ChildEvent::ThreadGone { session });
            }
        }
    }
}
