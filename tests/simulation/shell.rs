//! The shell's twin: one lap of the relay, with its crash points, and what it does with released actions.
//!
//! A lap: read, resolve, handle, apply to ledger and transaction; crash? commit; crash? release; crash?
//!
//! **Invariant:** nothing is performed before the commit of its lap, unless a planted bug does so.

use agentmux::core::Core;
use agentmux::core::action::{Action, Query, Signal, Survivor};
use agentmux::core::input::{Input, Lookup, Moment, Resolved};
use agentmux::core::record::Record;
use agentmux::core::{Effects, Settings};
use agentmux::model::child::ChildCommand;
use agentmux::model::name::{BundleName, Name};
use agentmux::protocol::request::{Discard, Request};

use crate::clients::Body;
use crate::disk::Disk;
use crate::guarantee::Guarantee;
use crate::loader;
use crate::orders::Asked;
use crate::shape::Shape;
use crate::world::{Happening, Relay, World};

/// An action that waits for its lap's commit.
pub type Held = Action;

/// A bug of the shell, planted to show that the simulation would find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShellBug {
    /// Replies leave before the commit.
    ReplyBeforeCommit,
    /// Now and then a record is applied to the ledger and not to the transaction.
    RecordDropped,
    /// Now and then a command reaches the child twice.
    CommandSentTwice,
}

/// Where a relay may crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashPoint {
    BeforeCommit,
    AfterCommit,
    AfterRelease,
}

/// Inputs that one lap reads at most.
const INPUTS_PER_LAP: usize = 64;

impl World {
    /// Starts a relay from disk, unless one runs.
    pub fn relay_starts(&mut self) {
        if self.relay.is_some() {
            return;
        }
        self.lives += 1;
        let life = self.lives;
        self.note(|| format!("relay {life} starts"));
        let survivors = self.survivors();
        self.check_recovery(&survivors);
        let mut core = Core::new(loader::load(&self.disk.committed), settings(&self.shape));
        if let Some(bug) = self.planted {
            core.plant(bug);
        }
        let inbox = [Input::Started { survivors }].into();
        self.relay = Some(Relay { core, life, inbox });
    }

    fn survivors(&self) -> Vec<Survivor> {
        let recorded = self.disk.committed.children.iter().filter(|(_, (_, lives))| *lives);
        recorded
            .filter_map(|(nonce, _)| {
                let process = self.codex.processes.get(nonce)?;
                Some(Survivor { nonce: *nonce, pid: process.pid })
            })
            .collect()
    }

    /// G8: a relay that recovers, and one that recovers from what that one stored, store the same.
    fn check_recovery(&mut self, survivors: &[Survivor]) {
        if self.disk.committed.deliveries.is_empty() {
            return;
        }
        let (now, seed) = (self.now, self.random.wide());
        let recover = |disk: &Disk| -> Vec<Record> {
            let mut core = Core::new(loader::load(&disk.committed), settings(&self.shape));
            if let Some(bug) = self.planted {
                core.plant(bug);
            }
            let survivors = survivors.to_vec();
            let records =
                core.handle(Moment { now, seed, secret: seed }, Input::Started { survivors }).records;
            // What recovery itself settles; a child that it starts afterwards is a new one each time.
            records.into_iter().filter(|record| !matches!(record, Record::ChildIntended(_))).collect()
        };
        let mut disk = Disk::of(&self.disk.committed);
        recover(&disk).iter().for_each(|record| disk.write(record));
        disk.commit();
        let again = recover(&disk);
        if !again.is_empty() {
            self.breach(Guarantee::RecoversOnce, format!("the second recovery still stores {again:?}"));
        }
    }

    /// Runs one lap, if there is a relay.
    pub fn lap(&mut self) {
        let Some(mut relay) = self.relay.take() else { return };
        self.held.clear();
        self.witness.a_lap_begins();
        self.orders.a_lap_begins();
        self.suspicions.clear();
        let due = relay.core.deadline().is_some_and(|at| at <= self.now);
        if relay.inbox.is_empty() && due {
            relay.inbox.push_back(Input::Tick);
        }
        for _ in 0..INPUTS_PER_LAP {
            let Some(input) = relay.inbox.pop_front() else { break };
            self.handle(&mut relay, input);
        }
        self.relay = Some(relay);
        // A crash is drawn more often where it hurts: around a claim's way to its child.
        let delivers = self.held.iter().any(|action| matches!(action, Action::Deliver(_)));
        let weight = if delivers { 6 } else { 1 };
        if self.bug == Some(ShellBug::ReplyBeforeCommit) {
            self.release();
        }
        if self.crashes(CrashPoint::BeforeCommit, weight) {
            return;
        }
        let records = self.disk.commit();
        self.check_commit(&records);
        if self.crashes(CrashPoint::AfterCommit, weight) {
            return;
        }
        self.release();
        self.crashes(CrashPoint::AfterRelease, weight);
    }

    fn handle(&mut self, relay: &mut Relay, mut input: Input) {
        self.counts.inputs += 1;
        self.resolved(&mut input);
        if input != Input::Tick {
            self.note(|| format!("relay reads {}", brief(&input)));
        }
        let by = match &input {
            Input::Asked { conn, .. } => Some(self.clients.speaker(*conn).clone()),
            _ => None,
        };
        let by_operator = by == Some(Name::operator());
        self.witness.relay_reads(&input, by);
        let asked = Asked::of(&input, by_operator);
        if let Some(asked) = &asked {
            self.orders_read(asked);
        }
        let moment = Moment { now: self.now, seed: self.random.wide(), secret: self.random.wide() };
        let Effects { records, actions } = relay.core.handle(moment, input);
        for record in &records {
            self.note(|| format!("  stores {}", brief_record(record)));
            self.suspects_record(record);
            if self.bug == Some(ShellBug::RecordDropped) && self.random.chance(20) {
                self.note(|| "  (dropped)".to_owned());
                continue;
            }
            self.disk.write(record);
        }
        self.orders_see(asked.as_ref(), &actions);
        actions.iter().for_each(|action| self.suspects_action(action));
        self.held.extend(actions);
    }

    fn crashes(&mut self, point: CrashPoint, weight: u64) -> bool {
        let per_mille = match point {
            CrashPoint::BeforeCommit => self.shape.crash_before_commit,
            CrashPoint::AfterCommit => self.shape.crash_after_commit,
            CrashPoint::AfterRelease => self.shape.crash_after_release,
        };
        let told_to = self.crash_at.take_if(|at| *at == point).is_some();
        let crashes = told_to || self.chance(per_mille * weight);
        if crashes {
            self.crash(point);
        }
        crashes
    }

    /// The relay dies: its memory, its connections and its open transaction are gone.
    pub fn crash(&mut self, point: CrashPoint) {
        self.note(|| format!("relay crashes {point:?}"));
        self.counts.crashes[point as usize] += 1;
        self.relay_is_gone();
        if self.chance(self.shape.reboots) {
            self.reboot();
        }
        // A client that waits starts the next one at once; else the next client does.
        if self.random.chance(500) {
            let pause = self.random.ms(0, 5);
            self.in_ms(pause, Happening::RelayStarts);
        }
    }

    /// The machine starts again: no child has outlived it.
    pub fn reboot(&mut self) {
        self.note(|| "the machine reboots".to_owned());
        self.counts.reboots += 1;
        for nonce in self.codex.processes.keys().copied().collect::<Vec<_>>() {
            self.child_dies(nonce);
        }
        let doubted = self.disk.reboot(self.now, &mut self.random);
        self.witness.doubts(&doubted);
    }

    fn relay_is_gone(&mut self) {
        self.relay = None;
        self.held.clear();
        self.disk.lose();
        self.orders.forget();
        self.codex.processes.values_mut().for_each(|process| process.link = None);
        self.clients.hang_up_all();
    }

    /// Looks up the rows that a request names, in the open transaction.
    pub fn resolve(&mut self, client: usize, request: &Request) -> Resolved {
        let mail = request.reference().map_or(Lookup::None, |reference| self.disk.lookup(reference));
        let claims = match (request, &mail) {
            (Request::Requeue(_), Lookup::Found(known)) => self.disk.claims_of(known.mail.id),
            _ => Vec::new(),
        };
        let dead = match request {
            Request::Discard(Discard { id: None }) => self.disk.dead(),
            _ => Vec::new(),
        };
        Resolved {
            hung_up: Vec::new(),
            name_locked: None,
            mail,
            claims,
            dead,
            keyed: self.disk.keyed(&self.clients.all[client].name(), request.key()),
            disk_low: self.random.chance(self.shape.disk_low),
            spawn_refused: None,
            pipelined: false,
            settled_approvals: Vec::new(),
            variables: Vec::new(),
        }
    }

    /// Performs everything that the lap held back.
    fn release(&mut self) {
        for action in std::mem::take(&mut self.held) {
            self.perform(action);
            if self.relay.is_none() {
                return;
            }
        }
    }

    fn perform(&mut self, action: Action) {
        self.note(|| format!("  does {}", brief_action(&action)));
        let Some(life) = self.life() else { return };
        match action {
            Action::Reply { conn, id, answer } => self.client_gets(conn, &id, Body::Answer(answer)),
            Action::Refuse { conn, id, fault } => self.client_gets(conn, &id, Body::Fault(fault)),
            Action::Query { conn, id, query } => {
                let read = match query {
                    Query::Read { mail, .. } => Some(mail),
                    _ => None,
                };
                self.client_gets(conn, &id, Body::Rows(read));
            }
            Action::Watch { conn, id, .. } | Action::Log { conn, id, .. } => {
                self.client_gets(conn, &id, Body::Rows(None));
            }
            Action::Close { conn } => self.hang_up(conn),
            Action::SpawnChild { nonce, .. } => self.child_is_started(life, nonce),
            Action::AdoptChild { nonce, .. } => {
                let pause = self.random.ms(0, 10);
                if self.codex.processes.contains_key(&nonce) {
                    self.in_ms(pause, Happening::Connects { life, nonce });
                } else {
                    self.in_ms(pause, Happening::ExitSeen { life, nonce });
                }
            }
            Action::Command { nonce, command } => self.write_to_child(nonce, command),
            Action::Deliver(deliver) => {
                let (session, claim, text) = (deliver.session, deliver.claim, String::new());
                let command = match deliver.into {
                    None => ChildCommand::StartTurn { session, claim, text },
                    Some(turn) => ChildCommand::SteerTurn { session, claim, turn, text },
                };
                if self.bug == Some(ShellBug::CommandSentTwice) && self.random.chance(100) {
                    self.write_to_child(deliver.nonce, command.clone());
                }
                self.write_to_child(deliver.nonce, command);
            }
            Action::SignalChild { nonce, signal } => self.child_is_signalled(nonce, signal == Signal::Kill),
            Action::Exit => {
                self.note(|| "relay leaves".to_owned());
                self.relay_is_gone();
            }
            Action::Notify { .. }
            | Action::Tell(_)
            | Action::SweepChild { .. }
            | Action::PublishPanes { .. }
            | Action::WithdrawPanes { .. }
            | Action::KeepEnvironment { .. }
            | Action::ForgetEnvironment { .. } => {}
        }
    }
}

/// What every relay here is told.
pub fn settings(shape: &Shape) -> Settings {
    Settings {
        bundle: BundleName::parse("web").expect("a name in the grammar"),
        tools: Some(("agentmux".to_owned(), Vec::new())),
        pid: 1,
        state_root: "/state".to_owned(),
        idle_exit_ms: shape.idle_exit_ms,
        policy: shape.policy.clone(),
    }
}

fn brief(input: &Input) -> String {
    match input {
        Input::Asked { conn, id, request, .. } => format!("{conn:?} {id:?} {}", request.method()),
        Input::Child { event, .. } => format!("{event:?}"),
        other => format!("{other:?}"),
    }
}

fn brief_record(record: &Record) -> String {
    match record {
        Record::MailAccepted { mail, deliveries } => {
            format!("MailAccepted {} {deliveries:?} {:?}", mail.id, mail.priority)
        }
        Record::DeliveryMoved { delivery, to, note, .. } => format!("{delivery:?} to {to:?} {note:?}"),
        Record::SessionSpawned(session) => format!("SessionSpawned {}", session.name),
        other => format!("{other:?}"),
    }
}

fn brief_action(action: &Action) -> String {
    match action {
        Action::Command { command: ChildCommand::OpenThread { session, thread, .. }, .. } => {
            format!("OpenThread {session} {thread:?}")
        }
        Action::Reply { conn, id, .. } => format!("reply to {conn:?} {id:?}"),
        Action::Query { conn, id, .. } => format!("rows to {conn:?} {id:?}"),
        other => format!("{other:?}"),
    }
}
