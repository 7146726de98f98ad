//! The children's twin, inside: threads with histories that outlive processes, turns, items and approvals.
//!
//! It replays what was measured of Codex 0.169.0: a `turn/start` whose response was seen is lost when the process dies before
//! the item is written; a written item is never lost; a living child's history shows an input 9 to 36 ms after the response;
//! a start into a running turn is a steer with the same turn id; while tools work, inputs are answered at once and held until
//! they are done; an interrupted turn loses what was not written; an interrupt before the turn shows is refused; rarely the
//! model has had an input that no history ever shows; a thread that is left while its turn does not show yet is left when it does;
//! summing a context up is a turn without an input.
//!
//! **Invariant:** the model is told an input when its item is written, or hidden when its process dies; never else.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use agentmux::model::child::{ChildEvent, Item, TurnOutcome};
use agentmux::model::clock::Millis;
use agentmux::model::id::{ClaimId, Nonce, ThreadId, TurnId};
use agentmux::model::name::Name;

use crate::plain;
use crate::world::{Happening, World};

/// All processes, and what is on Codex's own disk.
#[derive(Debug, Default)]
pub struct Codex {
    pub threads: BTreeMap<ThreadId, Vec<Input>>,
    pub processes: BTreeMap<Nonce, Process>,
    pub last: u64,
    /// When turns were asked about, interrupted, summed up and left, and threads of questions looked for again, in order.
    pub asked: Vec<(Millis, &'static str)>,
}

/// One user message of a history.
#[derive(Debug, Clone)]
pub struct Input {
    pub claim: Option<ClaimId>,
    pub turn: TurnId,
}

/// One living process.
#[derive(Debug)]
pub struct Process {
    pub pid: u32,
    /// Its connection to the relay.
    pub link: Option<Link>,
    /// Which thread each session's name means in it.
    pub names: BTreeMap<Name, ThreadId>,
    /// Threads that are being left.
    pub closing: BTreeMap<Name, ThreadId>,
    pub loaded: BTreeMap<ThreadId, Option<Turn>>,
    /// How often it was asked to end.
    pub terms: u32,
    /// Commands are read in the order of writing.
    pub reads_from: Millis,
    /// Whether it has left the leaving of a thread undone, without a word: the relay has given up on that by its deadline.
    pub is_deaf: bool,
}

/// One connection of a relay to a process.
#[derive(Debug)]
pub struct Link {
    pub number: u64,
    /// Sessions whose threads it has opened.
    pub opened: BTreeSet<Name>,
    /// The last attempt to open each session's thread. As in the real transport, an answer to an earlier one, or after a close,
    /// is not reported.
    pub openings: BTreeMap<Name, u64>,
    pub last_opening: u64,
}

/// A turn in a loaded thread.
#[derive(Debug)]
pub struct Turn {
    pub id: TurnId,
    /// Whether anybody can see it yet.
    pub shown: bool,
    /// Inputs that are not in the history yet.
    pub inputs: VecDeque<Option<ClaimId>>,
    /// Every claim that ever was an input of it.
    pub ours: Vec<ClaimId>,
    /// The approval that it waits for.
    pub approval: Option<String>,
    /// Whether tools are at work in it; inputs wait for their end.
    pub at_work: bool,
    /// Whether it was asked to sum its work up.
    pub sums_up: bool,
}

impl Codex {
    /// A number that was not used before.
    pub fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// The running turn of a thread.
    pub fn turn(&mut self, nonce: Nonce, thread: &ThreadId) -> Option<&mut Turn> {
        self.processes.get_mut(&nonce)?.loaded.get_mut(thread)?.as_mut()
    }
}

impl Turn {
    fn new(number: u64) -> Turn {
        Turn {
            id: format!("turn-{number}").into(),
            shown: false,
            inputs: VecDeque::new(),
            ours: Vec::new(),
            approval: None,
            at_work: false,
            sums_up: false,
        }
    }

    /// Whether it is that turn, and neither inputs nor a person nor tools keep it.
    fn has_nothing_to_do(&self, id: &TurnId) -> bool {
        self.id == *id && self.inputs.is_empty() && self.approval.is_none() && !self.at_work
    }
}

impl World {
    /// Tells the relay something, if the child has a connection to it.
    pub fn child_says(&mut self, nonce: Nonce, event: ChildEvent) {
        if self.codex.processes.get(&nonce).is_some_and(|process| process.link.is_some()) {
            self.reaches_relay(agentmux::core::input::Input::Child { nonce, event });
        }
    }

    /// Tells the relay something about a thread, if its connection has that thread open.
    fn thread_says(&mut self, nonce: Nonce, thread: &ThreadId, event: impl FnOnce(Name) -> ChildEvent) {
        let Some(process) = self.codex.processes.get(&nonce) else { return };
        let opened = |name: &Name| process.link.as_ref().is_some_and(|link| link.opened.contains(name));
        let name = process.names.iter().find(|(name, other)| *other == thread && opened(name));
        if let Some(name) = name.map(|(name, _)| name.clone()) {
            self.child_says(nonce, event(name));
        }
    }

    /// Puts an input into a thread: into its running turn, or into a new one. With `answer_on`, that connection is answered.
    pub fn apply_input(
        &mut self,
        nonce: Nonce,
        thread: &ThreadId,
        claim: Option<ClaimId>,
        answer_on: Option<u64>,
    ) {
        let id = self.codex.next();
        let Some(running) = self.codex.processes.get_mut(&nonce).and_then(|p| p.loaded.get_mut(thread))
        else {
            return;
        };
        let is_steer = running.is_some();
        let turn = running.get_or_insert_with(|| Turn::new(id));
        turn.inputs.push_back(claim);
        turn.ours.extend(claim);
        let (turn, waits) = (turn.id.clone(), turn.approval.is_some() || turn.at_work);
        self.note(|| format!("child takes {claim:?} into {turn}, steer: {is_steer}"));
        let base = self.random.ms(1, 5);
        if let (Some(link), Some(claim)) = (answer_on, claim)
            && !self.chance(self.shape.says_nothing)
        {
            let late = self.chance(self.shape.answers_late);
            let pause = if late { self.random.ms(20, 300) } else { base };
            let (thread, turn) = (thread.clone(), turn.clone());
            self.in_ms(pause, Happening::Accepts { nonce, link, thread, claim, turn });
        }
        let lag = self.random.ms(9, 36);
        let mut pause = base + lag;
        if is_steer {
            self.counts.steers += 1;
            if waits {
                return;
            }
        } else {
            let (thread, turn) = (thread.clone(), turn.clone());
            let shows = base + self.random.ms(1, lag);
            self.in_ms(shows, Happening::TurnShows { nonce, thread, turn });
            // The first turn waits about a second for slow tool servers, and its evidence with it.
            if self.random.chance(80) {
                pause += 1_000;
            }
        }
        self.in_ms(pause, Happening::ItemIsWritten { nonce, thread: thread.clone(), turn });
    }

    /// Sums a thread's context up: a turn in which nobody says anything. One that runs goes on.
    pub fn compacts(&mut self, nonce: Nonce, thread: &ThreadId) {
        let id = self.codex.next();
        let process = self.codex.processes.get_mut(&nonce);
        let Some(running) = process.and_then(|process| process.loaded.get_mut(thread)) else { return };
        if running.is_some() {
            return;
        }
        let turn = Turn::new(id);
        let id = turn.id.clone();
        *running = Some(turn);
        let (shows, ends) = (self.random.ms(1, 30), self.random.ms(40, 2_000));
        self.in_ms(shows, Happening::TurnShows { nonce, thread: thread.clone(), turn: id.clone() });
        self.in_ms(ends, Happening::TurnIsOver { nonce, thread: thread.clone(), turn: id });
    }

    /// The child answers a request to start a turn.
    pub fn child_accepts(
        &mut self,
        nonce: Nonce,
        link: u64,
        thread: &ThreadId,
        claim: ClaimId,
        turn: TurnId,
    ) {
        let Some(process) = self.codex.processes.get(&nonce) else { return };
        let Some(open) = process.link.as_ref().filter(|open| open.number == link) else { return };
        let name = process.names.iter().find(|(name, other)| *other == thread && open.opened.contains(*name));
        let Some(session) = name.map(|(name, _)| name.clone()) else { return };
        self.child_says(nonce, ChildEvent::TurnAccepted { session, claim, turn });
    }

    pub fn turn_shows(&mut self, nonce: Nonce, thread: &ThreadId, id: &TurnId) {
        let Some(turn) = self.codex.turn(nonce, thread).filter(|turn| turn.id == *id && !turn.shown) else {
            return;
        };
        turn.shown = true;
        let turn = id.clone();
        self.thread_says(nonce, thread, |session| ChildEvent::TurnStarted { session, turn });
    }

    /// The turn's next input becomes an item: durable, visible, and told to the model.
    pub fn item_is_written(&mut self, nonce: Nonce, thread: &ThreadId, id: &TurnId) {
        self.turn_shows(nonce, thread, id);
        let Some(turn) = self.codex.turn(nonce, thread).filter(|turn| turn.id == *id) else { return };
        if turn.approval.is_some() || turn.at_work {
            return;
        }
        let Some(claim) = turn.inputs.pop_front() else { return };
        let more = !turn.inputs.is_empty();
        self.codex.threads.entry(thread.clone()).or_default().push(Input { claim, turn: id.clone() });
        if let Some(claim) = claim {
            self.model_is_told(claim, false);
        }
        self.thread_says(nonce, thread, |session| ChildEvent::InputTaken {
            session,
            claim,
            turn: id.clone(),
        });
        if self.chance(self.shape.asks_approval) {
            let key = format!("approval-{}", self.codex.next());
            if let Some(turn) = self.codex.turn(nonce, thread) {
                turn.approval = Some(key.clone());
            }
            self.approval_is_asked(nonce, thread, &key);
            if !self.random.chance(100) {
                let pause = self.random.ms(50, 20_000);
                self.in_ms(pause, Happening::PaneAnswers { nonce, thread: thread.clone(), key });
            }
        } else if !more {
            self.turn_will_end(nonce, thread, id);
        }
    }

    /// The turn goes on, with tools or to its end.
    fn turn_will_end(&mut self, nonce: Nonce, thread: &ThreadId, turn: &TurnId) {
        if self.chance(self.shape.tools) {
            let pause = self.random.ms(1, 30);
            let (thread, turn) = (thread.clone(), turn.clone());
            return self.in_ms(pause, Happening::ToolsBegin { nonce, thread, turn });
        }
        let long = self.random.chance(100);
        let pause = if long { self.random.ms(400, 9_000) } else { self.random.ms(5, 400) };
        self.in_ms(pause, Happening::TurnIsOver { nonce, thread: thread.clone(), turn: turn.clone() });
    }

    /// Tools are put to work, unless an input came first.
    pub fn tools_begin(&mut self, nonce: Nonce, thread: &ThreadId, id: &TurnId) {
        let Some(turn) = self.codex.turn(nonce, thread).filter(|turn| turn.has_nothing_to_do(id)) else {
            return;
        };
        turn.at_work = true;
        self.thread_says(nonce, thread, |session| ChildEvent::Boundary { session, at_boundary: true });
        let long = self.random.chance(100);
        let pause = if long { self.random.ms(2_000, 12_000) } else { self.random.ms(5, 600) };
        self.in_ms(pause, Happening::ToolsEnd { nonce, thread: thread.clone(), turn: id.clone() });
    }

    /// The tools are done: what came meanwhile goes to the model together with their output.
    pub fn tools_end(&mut self, nonce: Nonce, thread: &ThreadId, id: &TurnId) {
        let works = |turn: &&mut Turn| turn.id == *id && turn.at_work;
        let Some(turn) = self.codex.turn(nonce, thread).filter(works) else { return };
        turn.at_work = false;
        let held = turn.inputs.len();
        self.thread_says(nonce, thread, |session| ChildEvent::Boundary { session, at_boundary: false });
        self.writes_held(nonce, thread, id, held);
    }

    /// Inputs that waited become items one after the other; without any the turn goes on.
    fn writes_held(&mut self, nonce: Nonce, thread: &ThreadId, id: &TurnId, held: usize) {
        for number in 0..held as i64 {
            let (thread, turn) = (thread.clone(), id.clone());
            self.in_ms(2 + number, Happening::ItemIsWritten { nonce, thread, turn });
        }
        if held == 0 {
            self.turn_will_end(nonce, thread, id);
        }
    }

    pub fn approval_is_asked(&mut self, nonce: Nonce, thread: &ThreadId, key: &str) {
        self.thread_says(nonce, thread, |session| plain::approval_asked(session, key));
    }

    /// Somebody answered the approval that a turn waits for; the turn goes on.
    pub fn approval_is_settled(&mut self, nonce: Nonce, thread: &ThreadId, key: &str) {
        let waits = |turn: &&mut Turn| turn.approval.as_deref() == Some(key);
        let Some(turn) = self.codex.turn(nonce, thread).filter(waits) else { return };
        turn.approval = None;
        let (id, held) = (turn.id.clone(), turn.inputs.len());
        self.thread_says(nonce, thread, |_| ChildEvent::ApprovalResolved { key: key.to_owned() });
        self.writes_held(nonce, thread, &id, held);
    }

    pub fn turn_is_over(&mut self, nonce: Nonce, thread: &ThreadId, id: &TurnId) {
        if self.codex.turn(nonce, thread).filter(|turn| turn.has_nothing_to_do(id)).is_none() {
            return;
        }
        let is_full = self.chance(self.shape.context_full);
        let outcome = match self.chance(self.shape.turn_fails).then(|| self.random.below(10)) {
            None if is_full => TurnOutcome::ContextFull("context window exceeded".to_owned()),
            None => TurnOutcome::Completed,
            Some(0 | 1) => TurnOutcome::ContextFull("context window exceeded".to_owned()),
            Some(2) => TurnOutcome::Overloaded("server overloaded".to_owned()),
            // As short as the world's other times; a relay that is killed meanwhile finds it in the store.
            Some(3) => {
                let until = self.now.plus(self.random.below(2_000) as i64);
                TurnOutcome::Blocked { why: "usage limit exceeded".to_owned(), until: Some(until) }
            }
            Some(_) => TurnOutcome::Failed("stream disconnected".to_owned()),
        };
        let sums_up = self.codex.turn(nonce, thread).is_some_and(|turn| turn.sums_up);
        if sums_up && outcome == TurnOutcome::Completed && self.random.chance(800) {
            self.counts.summaries += 1;
            let (turn, text) = (Some(id.clone()), format!("summary {}", self.codex.next()));
            let item =
                Item { at: None, kind: "answer".to_owned(), source: "model".to_owned(), text, claim: None };
            self.thread_says(nonce, thread, |session| ChildEvent::ItemDone { session, turn, item });
        }
        self.end_turn(nonce, thread, outcome);
    }

    /// Interrupts a turn that shows; what is not in the history is lost.
    pub fn interrupt_turn(&mut self, nonce: Nonce, thread: &ThreadId) {
        let Some(turn) = self.codex.turn(nonce, thread).filter(|turn| turn.shown) else { return };
        let (lost, approval) = (turn.inputs.iter().flatten().count() as u64, turn.approval.take());
        turn.inputs.clear();
        self.counts.lost_inputs += lost;
        self.note(|| format!("a turn of {thread} is interrupted, {lost} inputs lost"));
        if let Some(key) = approval {
            self.thread_says(nonce, thread, |_| ChildEvent::ApprovalResolved { key });
        }
        self.end_turn(nonce, thread, TurnOutcome::Interrupted);
    }

    pub fn end_turn(&mut self, nonce: Nonce, thread: &ThreadId, outcome: TurnOutcome) {
        let Some(turn) = self.codex.processes.get_mut(&nonce).and_then(|p| p.loaded.get_mut(thread)?.take())
        else {
            return;
        };
        self.thread_says(nonce, thread, |session| ChildEvent::TurnEnded { session, turn: turn.id, outcome });
        self.drains(nonce);
    }

    /// The model of a session gets the mails of a claim.
    pub fn model_is_told(&mut self, claim: ClaimId, hidden: bool) {
        let Some(row) = self.disk.open.claims.get(&claim) else { return };
        let deliveries = row.deliveries.clone();
        self.note(|| format!("model is told {claim} {deliveries:?}, hidden: {hidden}"));
        if let Some(told) = self.witness.model_is_told(claim, &deliveries) {
            self.counts.duplicates += u64::from(told.is_ok());
            if let Err(what) = told {
                self.breach(crate::guarantee::Guarantee::ToldOnce, what);
            }
        }
    }
}
