//! The pure core: decides what is stored and what is done, one input at a time.
//!
//! `handle` takes a moment and an input and returns records (what must be stored, already applied to the ledger) and actions
//! (what may be done once the records are committed). The shell applies the records to the open transaction, commits once per
//! lap, and only then performs the actions.
//!
//! **Invariant:** no clock, socket, SQL, environment, randomness or `Result`; equal inputs give equal effects.
//! **Invariant:** delivery is level-triggered: after every input each touched session is looked at again as a whole.

pub mod action;
pub mod envelope;
pub mod input;
pub mod ledger;
pub mod planted;
pub mod policy;
pub mod record;

mod approval;
mod block;
mod brake;
mod child;
mod circle;
mod closing;
pub mod conn;
mod deliver;
mod events;
mod evidence;
mod exit;
mod hold;
mod identity;
mod notice;
mod recovery;
mod refusal;
mod request;
mod running;
mod session;
mod silence;
mod statement;
mod stop;
mod timer;
mod view;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};

use action::Action;
use input::{Input, Moment};
use ledger::Ledger;
use planted::Planted;
use policy::Policy;
use record::Record;
use timer::{Timer, Timers};

use crate::model::child::{ChildCommand, ToolsState};
use crate::model::clock::Millis;
use crate::model::id::{ConnId, Mint};
use crate::model::limits;
use crate::model::name::{BundleName, Name};
use crate::model::session::{ChildKey, SessionState};

/// What the core needs to know of this relay; handed in once.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The bundle.
    pub bundle: BundleName,
    /// This process.
    pub pid: u32,
    /// The bundle's directory, for agents' shells and for panes.
    pub state_root: String,
    /// The program that gives agents their tools, and its arguments; none when there are no tools.
    pub tools: Option<(String, Vec<String>)>,
    /// After how long without anything to do the relay leaves; `None` for never.
    pub idle_exit_ms: Option<i64>,
    /// What a person may have set of delivery.
    pub policy: Policy,
}

/// What one input led to.
#[derive(Debug, Default)]
pub struct Effects {
    /// What must be stored, in order.
    pub records: Vec<Record>,
    /// What may be done after the commit, in order.
    pub actions: Vec<Action>,
}

/// The core. See the header of this file.
#[derive(Debug)]
pub struct Core {
    ledger: Ledger,
    settings: Settings,
    timers: Timers,
    conns: BTreeMap<ConnId, conn::Conn>,
    sessions: BTreeMap<Name, running::Running>,
    children: BTreeMap<ChildKey, child::Children>,
    approvals: BTreeMap<String, approval::Approval>,
    waiting: waiting::Waiting,
    brake: brake::Brake,
    stop: Option<stop::Stop>,
    touched: BTreeSet<Name>,
    /// What senders have yet to be told; empty between inputs.
    outcomes: Vec<notice::Outcome>,
    planted: Option<Planted>,
}

/// One `handle` in progress.
struct Step {
    now: Millis,
    mint: Mint,
    /// Random bits for tokens, and how many were made of them.
    secret: u128,
    tokens_drawn: u64,
    records: Vec<Record>,
    actions: Vec<Action>,
}

impl Step {
    fn act(&mut self, action: Action) {
        self.actions.push(action);
    }
}

impl Core {
    /// Makes a core over a loaded ledger.
    pub fn new(ledger: Ledger, settings: Settings) -> Core {
        Core {
            ledger,
            settings,
            timers: Timers::default(),
            conns: BTreeMap::new(),
            sessions: BTreeMap::new(),
            children: BTreeMap::new(),
            approvals: BTreeMap::new(),
            waiting: waiting::Waiting::default(),
            brake: brake::Brake::default(),
            stop: None,
            touched: BTreeSet::new(),
            outcomes: Vec::new(),
            planted: None,
        }
    }

    /// Plants a bug, so that the simulation can show that it would find it.
    #[cfg(feature = "planted")]
    pub fn plant(&mut self, bug: Planted) {
        self.planted = Some(bug);
    }

    /// The ledger, for comparing it with the store.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Who a connection speaks as, once it has said hello.
    pub fn speaker(&self, conn: ConnId) -> Option<Name> {
        self.conns.get(&conn)?.identity.as_ref().map(|identity| identity.name.clone())
    }

    /// When the core wants to be woken with [`Input::Tick`] at the latest.
    pub fn deadline(&self) -> Option<Millis> {
        self.timers.next()
    }

    /// Whether a turn runs anywhere.
    pub fn has_turn(&self) -> bool {
        self.sessions.values().any(|running| running.phase == running::Phase::Open && running.has_turn())
    }

    /// Whether the relay is on its way out.
    pub fn is_leaving(&self) -> bool {
        self.stop.is_some()
    }

    /// Decides what one input leads to.
    pub fn handle(&mut self, moment: Moment, input: Input) -> Effects {
        let mint = Mint::new(moment.now, moment.seed);
        let mut step = Step {
            now: moment.now,
            mint,
            secret: moment.secret,
            tokens_drawn: 0,
            records: Vec::new(),
            actions: Vec::new(),
        };
        match input {
            Input::Started { survivors } => self.handle_started(&mut step, &survivors),
            Input::ConnOpened { conn, descends, pid } => {
                self.handle_conn_opened(&mut step, conn, descends, pid);
            }
            Input::ConnClosed { conn } => self.handle_conn_closed(&mut step, conn),
            Input::Asked { conn, id, request, resolved } => {
                self.handle_asked(&mut step, conn, id, *request, resolved)
            }
            Input::ChildSpawned { nonce, pid } => self.handle_child_spawned(&mut step, nonce, pid),
            Input::ChildNotSpawned { nonce, why } => self.handle_child_not_spawned(&mut step, nonce, &why),
            Input::Child { nonce, event } => self.hear_child(&mut step, nonce, event),
            Input::ChildLost { nonce, why } => self.handle_child_lost(&mut step, nonce, &why),
            Input::ChildFlooded { nonce, what } => self.handle_child_flooded(&mut step, nonce, &what),
            Input::ChildGrew { nonce, bytes, most } => self.handle_child_grew(&mut step, nonce, bytes, most),
            Input::ChildExited { nonce, why, words } => {
                self.handle_child_exited(&mut step, nonce, &why, &words);
            }
            Input::Rendered { claim, note } => {
                let at = step.now;
                self.record(&mut step, Record::ClaimNoted { claim, at, turn: None, note });
            }
            Input::Tick => {}
            Input::Leave { why } => self.leave(&mut step, limits::DOWN_MS, &why),
        }
        while let Some(timer) = self.timers.expired(step.now) {
            self.handle_timer(&mut step, timer);
        }
        self.settle(&mut step);
        self.send_notices(&mut step);
        Effects { records: step.records, actions: step.actions }
    }

    /// Looks at everything that the input touched until nothing more follows.
    fn settle(&mut self, step: &mut Step) {
        if self.is_replaced() {
            return;
        }
        loop {
            while let Some(name) = self.touched.pop_first() {
                self.evaluate_session(step, &name);
                self.evaluate_waiting_for_session(step, &name);
            }
            self.evaluate_children(step);
            if self.touched.is_empty() {
                break;
            }
        }
        self.evaluate_stop(step);
        self.arm_standing_timers(step.now);
    }

    fn handle_timer(&mut self, step: &mut Step, timer: Timer) {
        match timer {
            Timer::Hello(conn) => self.handle_hello_missing(step, conn),
            Timer::Pending(pending) => self.handle_wait_over(step, pending),
            Timer::Lease(name) => self.handle_lease_over(step, &name),
            Timer::Retry(name) | Timer::End(name) => self.touch(&name),
            Timer::Unblock(name) => self.unblock(step, &name),
            Timer::Find(name) => self.handle_find_due(step, &name),
            Timer::Thread(name) => self.handle_thread_overdue(step, &name),
            Timer::Child(key) => self.handle_child_overdue(step, key),
            Timer::Hold(name) => self.hold(step, &name, None),
            Timer::Silence(name) => self.handle_silence(step, &name),
            Timer::Close(name) => self.finish_closing(step, &name),
            Timer::Linger(name) => self.handle_linger_over(&name),
            Timer::Tools(name) => self.on_own_tools(step.now, &name, ToolsState::Gone),
            Timer::Name(name) => self.handle_name_kept(step, &name),
            Timer::Ask(nonce, key) => {
                step.act(Action::Command { nonce, command: ChildCommand::PlaceAsk { key } });
            }
            Timer::Approval(key) => self.handle_approval_overdue(step, &key),
            Timer::Expire => self.expire_mail(step),
            Timer::Sweep => {
                if !self.is_planted(Planted::LostWakeUp) {
                    let names: Vec<Name> = self.sessions.keys().cloned().collect();
                    names.iter().for_each(|name| self.touch(name));
                }
            }
            // A client of this very lap is served.
            Timer::IdleExit if self.has_clients() => {}
            Timer::IdleExit => self.leave(step, limits::DOWN_NOW_MS, "nothing to do"),
            Timer::Leave => self.handle_leave_overdue(step),
        }
    }

    /// Sets the timers that follow from the state as a whole: expiry, sweep, idle exit.
    fn arm_standing_timers(&mut self, now: Millis) {
        match self.ledger.expiring.first() {
            Some((at, _)) => self.timers.set(Timer::Expire, *at),
            None => self.timers.clear(&Timer::Expire),
        }
        if self.sessions.keys().any(|name| self.has_mail_that_could_move(name)) {
            self.timers.set_once(Timer::Sweep, now.plus(limits::SWEEP_MS));
        } else {
            self.timers.clear(&Timer::Sweep);
        }
        // One that was given up waits for a person, who brings a relay along.
        let is_needed = |name: &Name| {
            self.should_run(name) && self.shown_state(name) != SessionState::Failed || self.is_to_wake(name)
        };
        let busy = self.has_clients()
            || self.stop.is_some()
            || self.children.values().any(child::Children::is_running)
            || self.sessions.keys().any(is_needed);
        match self.settings.idle_exit_ms {
            Some(ms) if !busy => self.timers.set_once(Timer::IdleExit, now.plus(ms)),
            _ => self.timers.clear(&Timer::IdleExit),
        }
    }

    /// Whether anybody is connected for whom the relay stays; the tools of agents come back when they need it.
    fn has_clients(&self) -> bool {
        self.count_clients() > 0
    }

    /// How many are connected, without the tools of agents.
    fn count_clients(&self) -> u64 {
        self.conns.values().filter(|conn| !conn.is_tools).count() as u64
    }

    /// Stores a record: applied to the ledger here, to the transaction by the shell.
    fn record(&mut self, step: &mut Step, record: Record) {
        let told = self.told_of(&record);
        self.ledger.apply(&record);
        step.records.push(record);
        for (at, what) in told {
            self.tell_at(step, at, what);
        }
    }

    /// Marks a session to be looked at before `handle` returns.
    fn touch(&mut self, name: &Name) {
        if self.sessions.contains_key(name) {
            self.touched.insert(name.clone());
        }
    }

    fn is_planted(&self, bug: Planted) -> bool {
        cfg!(feature = "planted") && self.planted == Some(bug)
    }
}
