//! The world of one seed: virtual time, the agenda of what will happen, and everything that stands around the relay.
//!
//! **Invariant:** time moves only here, from one entry of the agenda (or deadline of the core) to the next.
//! **Invariant:** equal seeds and options give equal worlds, so that a failing seed can be looked at again, traced.

use std::collections::{BTreeMap, VecDeque};

use agentmux::core::Core;
use agentmux::core::input::Input;
use agentmux::core::planted::Planted;
use agentmux::model::child::ChildCommand;
use agentmux::model::clock::Millis;
use agentmux::model::id::{ClaimId, Nonce, ThreadId, TurnId};
use agentmux::model::name::Name;

use crate::clients::Clients;
use crate::codex::Codex;
use crate::disk::Disk;
use crate::guarantee::{Breach, Guarantee};
use crate::orders::Orders;
use crate::random::Random;
use crate::shape::Shape;
use crate::shell::{CrashPoint, Held, ShellBug};
use crate::witness::Witness;

/// What will happen at some moment.
#[derive(Debug, Clone)]
pub enum Happening {
    /// Time goes by.
    Nothing,
    /// A relay is started.
    RelayStarts,
    /// A client does its next thing.
    ClientActs(usize),
    /// A started process is reported to the relay of that life, or that it could not be started.
    SpawnReported { life: u64, nonce: Nonce, pid: Option<u32> },
    /// The shell of that life gets through to a child.
    Connects { life: u64, nonce: Nonce },
    /// The shell of that life sees that a child's process has ended.
    ExitSeen { life: u64, nonce: Nonce },
    /// A child reads a command that was written to it on that connection.
    Reads { nonce: Nonce, link: u64, command: ChildCommand },
    /// A child leaves a thread that it was asked to leave on that connection.
    Leaves { nonce: Nonce, link: u64, session: Name },
    /// A child answers on that connection.
    Answers { nonce: Nonce, link: u64, opening: u64, command: ChildCommand },
    /// A child answers a request to start a turn.
    Accepts { nonce: Nonce, link: u64, thread: ThreadId, claim: ClaimId, turn: TurnId },
    /// A request that hung in a child is applied after all.
    Applies { nonce: Nonce, thread: ThreadId, claim: ClaimId },
    /// A turn becomes visible.
    TurnShows { nonce: Nonce, thread: ThreadId, turn: TurnId },
    /// A turn's next input becomes an item of the history.
    ItemIsWritten { nonce: Nonce, thread: ThreadId, turn: TurnId },
    /// Tools are put to work in a turn.
    ToolsBegin { nonce: Nonce, thread: ThreadId, turn: TurnId },
    /// The tools of a turn are done.
    ToolsEnd { nonce: Nonce, thread: ThreadId, turn: TurnId },
    /// A turn has nothing more to do.
    TurnIsOver { nonce: Nonce, thread: ThreadId, turn: TurnId },
    /// A pane answers an approval.
    PaneAnswers { nonce: Nonce, thread: ThreadId, key: String },
}

/// One relay's life.
#[derive(Debug)]
pub struct Relay {
    pub core: Core,
    pub life: u64,
    /// What has reached its descriptors and was not read yet.
    pub inbox: VecDeque<Input>,
}

/// What happened, in numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub seeds: u64,
    pub laps: u64,
    pub inputs: u64,
    pub mails: u64,
    pub crashes: [u64; 3],
    pub kills: u64,
    pub broken_connections: u64,
    pub duplicates: u64,
    pub unknowns: u64,
    pub unknowns_consumed: u64,
    pub unknowns_requeued: u64,
    pub steers: u64,
    /// Claims of ours that were steered into a running turn.
    pub our_steers: u64,
    /// Steers of ours that came too late for their turn.
    pub missed: u64,
    pub interrupts: u64,
    pub braked: u64,
    pub notices: u64,
    /// What a person settled: mail confirmed, taken back, revived or in doubt.
    pub settled: u64,
    /// Turns of sessions that mail had woken.
    pub woken: u64,
    pub lost_inputs: u64,
    /// Words of the person that were accepted, and closes that were answered.
    pub prompts: u64,
    pub closes: u64,
    /// Summaries that children gave.
    pub summaries: u64,
    /// Words of the person that a close took back.
    pub taken_back: u64,
    pub reboots: u64,
}

/// See the header of this file.
#[derive(Debug)]
pub struct World {
    pub random: Random,
    pub now: Millis,
    pub shape: Shape,
    pub disk: Disk,
    pub relay: Option<Relay>,
    pub lives: u64,
    pub codex: Codex,
    pub clients: Clients,
    pub witness: Witness,
    pub orders: Orders,
    pub counts: Counts,
    pub breach: Option<Breach>,
    pub planted: Option<Planted>,
    pub bug: Option<ShellBug>,
    /// Where the next lap crashes, in a story that says so.
    pub crash_at: Option<CrashPoint>,
    pub trace: Option<VecDeque<String>>,
    /// What the current lap wants to release.
    pub held: Vec<Held>,
    /// What the current lap decided against a rule; said once it is committed.
    pub suspicions: Vec<(Guarantee, String)>,
    agenda: BTreeMap<(Millis, u64), Happening>,
    entries: u64,
}

impl Counts {
    /// Adds the counts of another world.
    pub fn add(&mut self, other: &Counts) {
        self.seeds += other.seeds;
        self.laps += other.laps;
        self.inputs += other.inputs;
        self.mails += other.mails;
        self.crashes.iter_mut().zip(other.crashes).for_each(|(sum, more)| *sum += more);
        self.kills += other.kills;
        self.broken_connections += other.broken_connections;
        self.duplicates += other.duplicates;
        self.unknowns += other.unknowns;
        self.unknowns_consumed += other.unknowns_consumed;
        self.unknowns_requeued += other.unknowns_requeued;
        self.steers += other.steers;
        self.our_steers += other.our_steers;
        self.missed += other.missed;
        self.interrupts += other.interrupts;
        self.braked += other.braked;
        self.notices += other.notices;
        self.settled += other.settled;
        self.woken += other.woken;
        self.lost_inputs += other.lost_inputs;
        self.prompts += other.prompts;
        self.closes += other.closes;
        self.summaries += other.summaries;
        self.taken_back += other.taken_back;
        self.reboots += other.reboots;
    }
}

/// Steps that a trace shows.
const TRACE_STEPS: usize = 60;

impl World {
    /// Makes the world of a seed.
    pub fn new(seed: u64) -> World {
        let mut random = Random::new(seed);
        let shape = Shape::draw(&mut random);
        World::with(random, shape)
    }

    /// Makes a world of a given shape.
    pub fn with(random: Random, shape: Shape) -> World {
        World {
            clients: Clients::new(&shape),
            random,
            now: Millis(1_777_629_600_000),
            shape,
            disk: Disk::default(),
            relay: None,
            lives: 0,
            codex: Codex::default(),
            witness: Witness::default(),
            orders: Orders::default(),
            counts: Counts { seeds: 1, ..Counts::default() },
            breach: None,
            planted: None,
            bug: None,
            crash_at: None,
            trace: None,
            held: Vec::new(),
            suspicions: Vec::new(),
            agenda: BTreeMap::new(),
            entries: 0,
        }
    }

    /// Puts something on the agenda, `ms` from now.
    pub fn in_ms(&mut self, ms: i64, happening: Happening) {
        self.entries += 1;
        self.agenda.insert((self.now.plus(ms), self.entries), happening);
    }

    /// Draws whether something happens.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        per_mille > 0 && self.random.chance(per_mille)
    }

    /// Records a breach; the first one counts.
    pub fn breach(&mut self, guarantee: Guarantee, what: impl Into<String>) {
        if self.breach.is_none() {
            let what = what.into();
            self.note(|| format!("BREACH {guarantee}: {what}"));
            self.breach = Some(Breach { guarantee, what });
        }
    }

    /// Adds a step to the trace, if there is one.
    pub fn note(&mut self, step: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(trace) = &mut self.trace {
            if trace.len() == TRACE_STEPS {
                trace.pop_front();
            }
            trace.push_back(format!("{} ms: {}", now.0 - 1_777_629_600_000, step()));
        }
    }

    /// Gives the relay something to read; nothing while there is none.
    pub fn reaches_relay(&mut self, input: Input) {
        if let Some(relay) = &mut self.relay {
            relay.inbox.push_back(input);
        }
    }

    /// The relay's life; `None` while there is none.
    pub fn life(&self) -> Option<u64> {
        self.relay.as_ref().map(|relay| relay.life)
    }

    /// Moves on to the next moment at which anything happens, and lets the relay run one lap; false when nothing will.
    pub fn turn_the_wheel(&mut self) -> bool {
        self.counts.laps += 1;
        let waiting = self.relay.as_ref().is_some_and(|relay| !relay.inbox.is_empty());
        let deadline = self.relay.as_ref().and_then(|relay| relay.core.deadline());
        let next = self.agenda.first_key_value().map(|((at, _), _)| *at);
        let next = next.into_iter().chain(deadline).min();
        match next {
            _ if waiting => {}
            Some(at) => self.now = self.now.max(at),
            None => return false,
        }
        // What comes close together is read in one lap, as behind one wake-up of a busy machine.
        if self.random.chance(300) {
            self.now = self.now.plus(self.random.ms(0, 12));
        }
        while let Some(entry) = self.agenda.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let happening = entry.remove();
            self.happens(happening);
        }
        self.lap();
        true
    }

    /// Runs until `done`, for `ms` of virtual time at most; false when it was not done by then.
    pub fn run_until(&mut self, ms: i64, mut done: impl FnMut(&World) -> bool) -> bool {
        let until = self.now.plus(ms);
        while self.breach.is_none() {
            if done(self) {
                return true;
            }
            if self.now > until || !self.turn_the_wheel() {
                return done(self);
            }
        }
        false
    }

    /// Whether nothing is on the agenda and nothing waits to be read.
    pub fn is_still(&self) -> bool {
        self.agenda.is_empty() && self.relay.as_ref().is_none_or(|relay| relay.inbox.is_empty())
    }

    fn happens(&mut self, happening: Happening) {
        match happening {
            Happening::Nothing => {}
            Happening::RelayStarts => self.relay_starts(),
            Happening::ClientActs(client) => self.client_acts(client),
            Happening::SpawnReported { life, nonce, pid } if self.life() == Some(life) => {
                let input = match pid {
                    Some(pid) => Input::ChildSpawned { nonce, pid },
                    None => Input::ChildNotSpawned { nonce, why: "no such file".to_owned() },
                };
                self.reaches_relay(input);
            }
            Happening::Connects { life, nonce } if self.life() == Some(life) => self.child_connects(nonce),
            Happening::ExitSeen { life, nonce } if self.life() == Some(life) => {
                self.reaches_relay(Input::ChildExited {
                    nonce,
                    why: "signal 9".to_owned(),
                    words: "no room".to_owned(),
                });
            }
            Happening::SpawnReported { .. } | Happening::Connects { .. } | Happening::ExitSeen { .. } => {}
            Happening::Reads { nonce, link, command } => self.child_reads(nonce, link, command),
            Happening::Leaves { nonce, link, session } => self.child_leaves(nonce, link, session),
            Happening::Answers { nonce, link, opening, command } => {
                self.child_answers(nonce, link, opening, &command)
            }
            Happening::Accepts { nonce, link, thread, claim, turn } => {
                self.child_accepts(nonce, link, &thread, claim, turn);
            }
            Happening::Applies { nonce, thread, claim } => {
                self.note(|| format!("child applies {claim} after all"));
                self.apply_input(nonce, &thread, Some(claim), None);
            }
            Happening::TurnShows { nonce, thread, turn } => self.turn_shows(nonce, &thread, &turn),
            Happening::ItemIsWritten { nonce, thread, turn } => self.item_is_written(nonce, &thread, &turn),
            Happening::ToolsBegin { nonce, thread, turn } => self.tools_begin(nonce, &thread, &turn),
            Happening::ToolsEnd { nonce, thread, turn } => self.tools_end(nonce, &thread, &turn),
            Happening::TurnIsOver { nonce, thread, turn } => self.turn_is_over(nonce, &thread, &turn),
            Happening::PaneAnswers { nonce, thread, key } => self.approval_is_settled(nonce, &thread, &key),
        }
    }
}
