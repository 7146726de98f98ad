//! The store against the ledger: what the core records, by chance but on real SQLite, is what a restart loads (G9).
//!
//! The core is driven with requests of clients and statements of children drawn at random, true or not, in any order; the shell
//! here is the relay's lap without sockets. `AGENTMUX_STORE_SEEDS` sets how many seeds run.
//!
//! **Invariant:** equal seeds give equal runs. Deliberately absent: judging what the core decides, which is the simulation's.

use std::path::PathBuf;

use agentmux::core::action::{Action, Survivor};
use agentmux::core::input::{Input, Lookup, Moment, Resolved};
use agentmux::core::ledger::Ledger;
use agentmux::core::policy::Policy;
use agentmux::core::record::Record;
use agentmux::core::{Core, Settings};
use agentmux::model::child::{ChildCommand, ChildEvent, ToolServer, TurnOutcome, Underway};
use agentmux::model::clock::Millis;
use agentmux::model::id::{ConnId, MailId, Nonce, TurnId};
use agentmux::model::mail::{DeliveryState, Priority};
use agentmux::model::name::BundleName;
use agentmux::protocol::answer::Answer;
use agentmux::protocol::request::{
    Discard, Down, Hello, Hold, MailRef, Names, One, Release, Reply, Request, Send, Settle, Spawn, Stop,
};
use agentmux::store::Store;
use agentmux::wire::rpc::Id;

use super::plain;
use super::random::Random;

const NAMES: [&str; 4] = ["lead", "reviewer", "tester", "ann"];
const LAPS: u64 = 160;
const OPEN: &str = "the store is open";
/// Seeds of an ordinary run; each costs some hundred syncs.
const SEEDS_DEFAULT: u64 = 4;

/// SQ-4, SQ-13: after every commit the store holds what the ledger holds, and after every crash what was last committed.
#[test]
fn the_store_equals_the_ledger_after_every_commit_and_every_crash() {
    let seeds =
        std::env::var("AGENTMUX_STORE_SEEDS").map_or(SEEDS_DEFAULT, |text| text.parse().expect("a number"));
    let mut counts = Counts::default();
    for seed in 0..seeds {
        Shell::new(seed).run(&mut counts);
    }
    println!("{seeds} seeds: {counts:?}");
    assert!(counts.records > seeds * LAPS && counts.crashes > 0 && counts.consumed > 0, "{counts:?}");
    assert!(counts.reboots > 0 && counts.doubted > 0, "{counts:?}");
}

#[derive(Debug, Default)]
struct Counts {
    commits: u64,
    records: u64,
    reopened: u64,
    crashes: u64,
    lost_records: u64,
    mails: u64,
    consumed: u64,
    reboots: u64,
    doubted: u64,
}

/// The relay's lap over a real store in a directory of its own.
struct Shell {
    seed: u64,
    random: Random,
    now: Millis,
    file: PathBuf,
    _dir: tempfile::TempDir,
    /// Always there but for the moment of reopening.
    store: Option<Store>,
    core: Core,
    /// What may arrive next, in any order and more than once.
    pending: Vec<Input>,
    nonces: Vec<Nonce>,
    mails: Vec<MailId>,
    made: u64,
    leaving: bool,
}

impl Shell {
    fn new(seed: u64) -> Shell {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("mail.db");
        std::fs::File::create(&file).expect("the store's file");
        let mut store = Store::open(&file).expect("an empty file becomes a store");
        store.doubt_after_reboot("first", Millis(0)).expect("the boot is noted");
        let core = Core::new(store.load().expect("an empty store loads"), settings());
        let store = Some(store);
        let (random, now) = (Random::new(seed), Millis(1_777_629_600_000));
        let (pending, nonces, mails) = (Vec::new(), Vec::new(), Vec::new());
        Shell {
            seed,
            random,
            now,
            file,
            _dir: dir,
            store,
            core,
            pending,
            nonces,
            mails,
            made: 0,
            leaving: false,
        }
    }

    fn run(mut self, counts: &mut Counts) {
        self.start(false);
        for lap in 0..LAPS {
            let committed = self.core.ledger().clone();
            let mut records = 0;
            let mut actions = Vec::new();
            for _ in 0..=self.random.below(3) {
                let input = self.draw();
                let moment = Moment { now: self.now, seed: self.random.wide(), secret: self.random.wide() };
                let effects = self.core.handle(moment, input);
                for record in &effects.records {
                    self.store
                        .as_mut()
                        .expect(OPEN)
                        .apply(record)
                        .unwrap_or_else(|error| panic!("seed {}: {record:?}: {error}", self.seed));
                    counts.mails += u64::from(matches!(record, Record::MailAccepted { .. }));
                    counts.consumed += u64::from(matches!(
                        record,
                        Record::DeliveryMoved { to: DeliveryState::Consumed, .. }
                    ));
                }
                records += effects.records.len() as u64;
                actions.extend(effects.actions);
            }
            if self.random.chance(60) {
                // A crash before the commit: the open transaction is lost, and with it everything that it led to.
                counts.crashes += 1;
                counts.lost_records += records;
                self.reopen(&committed, lap, counts);
                continue;
            }
            self.store.as_mut().expect(OPEN).commit().expect("SQLite commits");
            counts.commits += 1;
            counts.records += records;
            self.compare(lap);
            if self.random.chance(60) {
                counts.reopened += 1;
                let ledger = self.core.ledger().clone();
                self.reopen(&ledger, lap, counts);
                continue;
            }
            actions.into_iter().for_each(|action| self.perform(action));
            if std::mem::take(&mut self.leaving) {
                let ledger = self.core.ledger().clone();
                self.reopen(&ledger, lap, counts);
            }
        }
    }

    #[track_caller]
    fn compare(&self, lap: u64) {
        let loaded = self.store.as_ref().expect(OPEN).load().expect("the store loads");
        assert_eq!(
            loaded,
            *self.core.ledger(),
            "seed {}, lap {lap}: stored left, in memory right",
            self.seed
        );
    }

    #[track_caller]
    fn reopen(&mut self, expected: &Ledger, lap: u64, counts: &mut Counts) {
        // The old one is closed first, with whatever was not committed, as its process' death would.
        drop(self.store.take());
        self.store = Some(Store::open(&self.file).expect("the store opens again"));
        let mut loaded = self.store.as_ref().expect(OPEN).load().expect("the store loads");
        assert_eq!(loaded, *expected, "seed {}, lap {lap}: after reopening", self.seed);
        let is_reboot = self.random.chance(400);
        if is_reboot {
            counts.reboots += 1;
            counts.doubted += self.reboot(counts.reboots);
            loaded = self.store.as_ref().expect(OPEN).load().expect("the store loads");
        }
        self.core = Core::new(loaded, settings());
        self.pending.clear();
        self.start(is_reboot);
    }

    /// Doubts what was consumed last, and checks that each mail is in one open claim as long as it is under way, and no other (G2).
    /// Returns how many are doubted.
    fn reboot(&mut self, boot: u64) -> u64 {
        let store = self.store.as_mut().expect(OPEN);
        let before = store.open_counts().expect("it counts")[1];
        let doubted = store.doubt_after_reboot(&boot.to_string(), self.now).expect("SQLite doubts");
        let loaded = store.load().expect("the store loads");
        assert_eq!(loaded.deliveries.len(), before + doubted, "seed {}", self.seed);
        assert_eq!(store.doubt_after_reboot(&boot.to_string(), self.now), Ok(0), "once per boot");
        for (id, delivery) in &loaded.deliveries {
            let open = loaded.claims.values().filter(|claim| !claim.ended && claim.deliveries.contains(id));
            let is_under_way = delivery.state != DeliveryState::Queued;
            assert_eq!(open.count(), usize::from(is_under_way), "seed {}: {delivery:?}", self.seed);
        }
        doubted as u64
    }

    /// The first input of a life, with those children that outlived the last.
    fn start(&mut self, is_reboot: bool) {
        self.now = self.now.plus(self.random.ms(0, 3_000));
        let children: Vec<Nonce> = self.core.ledger().children.keys().copied().collect();
        let survivors: Vec<Survivor> = children
            .into_iter()
            .filter(|_| !is_reboot && self.random.chance(600))
            .map(|nonce| Survivor { nonce, pid: 77 })
            .collect();
        self.nonces = survivors.iter().map(|survivor| survivor.nonce).collect();
        for nonce in self.nonces.clone() {
            self.pending
                .push(Input::Child { nonce, event: ChildEvent::Ready { version: "0.169.0".to_owned() } });
        }
        let hello = |conn: u64| asked(conn, 0, Request::Hello(plain::hello()));
        let visitor = |name: &str| {
            let hello = Hello { identity: Some(name.to_owned()), take_over: true, ..plain::hello() };
            asked(3, 0, Request::Hello(hello))
        };
        // One that claims a name, goes, and comes again under the same or another one.
        if self.random.chance(300) {
            let name = *self.random.pick(&["ann", "bob"]);
            let pid = Some(7);
            self.pending.push(Input::ConnOpened { conn: ConnId(3), descends: false, pid });
            self.pending.push(visitor(name));
            self.pending.push(Input::ConnClosed { conn: ConnId(3) });
        }
        let mut first = vec![Input::Started { survivors }];
        for conn in [1, 2] {
            first.extend([
                Input::ConnOpened { conn: ConnId(conn), descends: conn == 2, pid: None },
                hello(conn),
            ]);
        }
        for input in first {
            let moment = Moment { now: self.now, seed: self.random.wide(), secret: self.random.wide() };
            let effects = self.core.handle(moment, input);
            effects
                .records
                .iter()
                .for_each(|record| self.store.as_mut().expect(OPEN).apply(record).expect("SQLite applies"));
            self.store.as_mut().expect(OPEN).commit().expect("SQLite commits");
            effects.actions.into_iter().for_each(|action| self.perform(action));
        }
        self.compare(u64::MAX);
    }

    fn draw(&mut self) -> Input {
        let far = self.random.chance(80);
        self.now = self.now.plus(if far { self.random.ms(0, 40_000) } else { self.random.ms(0, 300) });
        if self.core.deadline().is_some_and(|at| at <= self.now) && self.random.chance(700) {
            return Input::Tick;
        }
        if !self.pending.is_empty() && self.random.chance(650) {
            let at = self.random.below(self.pending.len() as u64) as usize;
            // Some things arrive twice.
            return if self.random.chance(100) {
                self.pending[at].clone()
            } else {
                self.pending.swap_remove(at)
            };
        }
        if !self.nonces.is_empty() && self.random.chance(60) {
            let nonce = *self.random.pick(&self.nonces);
            let why = "chance".to_owned();
            return match self.random.below(3) {
                0 => Input::ChildExited { nonce, why, words: String::new() },
                1 => Input::ChildLost { nonce, why },
                _ => Input::Child { nonce, event: ChildEvent::Ready { version: "0.169.0".to_owned() } },
            };
        }
        self.made += 1;
        let (conn, request) = (1 + self.random.below(2), self.request());
        let Input::Asked { conn, id, request, .. } = asked(conn, self.made as i64, request) else {
            unreachable!()
        };
        let resolved = self.resolve(conn, &request);
        Input::Asked { conn, id, request, resolved }
    }

    fn request(&mut self) -> Request {
        let name = (*self.random.pick(&NAMES)).to_owned();
        let body = "é".repeat(1 + self.random.below(40) as usize);
        let mail = (!self.mails.is_empty()).then(|| self.random.pick(&self.mails).to_string());
        match (self.random.below(20), mail) {
            (0..=2, _) => {
                let program = format!("/bin/codex-{}", self.random.below(2));
                let thread = self.random.chance(200).then(|| format!("brought-{name}"));
                let model = self.random.chance(300).then(|| "m".to_owned());
                Request::Spawn(Spawn {
                    name,
                    dir: "/project".to_owned(),
                    program,
                    thread,
                    model,
                    ..Spawn::default()
                })
            }
            (3, _) if self.random.chance(500) => {
                let (dir, program) = ("/project".to_owned(), "/bin/codex-0".to_owned());
                let isolated = self.random.chance(500);
                Request::Configure(Spawn {
                    name,
                    dir,
                    program,
                    isolated,
                    wake: !isolated,
                    ..Spawn::default()
                })
            }
            (3, _) => Request::Up(Names { names: vec![name] }),
            (4, _) => Request::Down(Down { names: vec![name], now: self.random.chance(500) }),
            (5, _) if self.random.chance(500) => Request::Remove(One { name }),
            (6, _) if self.random.chance(100) => Request::Stop(Stop { now: true }),
            (7 | 8, Some(id)) => Request::Read(MailRef { id }),
            (10, Some(id)) => Request::Ack(Settle { id, name: self.random.chance(300).then_some(name) }),
            (11, Some(id)) => Request::Requeue(Settle { id, name: self.random.chance(300).then_some(name) }),
            (12, Some(id)) if self.random.chance(500) => Request::Cancel(MailRef { id }),
            (12, id) => Request::Discard(Discard { id }),
            (13, _) => Request::Hold(Hold { name, for_ms: self.random.chance(500).then_some(20_000) }),
            (14, _) if self.random.chance(700) => Request::Release(Release { target: name }),
            (9, Some(id)) => Request::Reply(Reply { id, body, ..Reply::default() }),
            (_, mail) => {
                let everybody =
                    vec![vec!["@all".to_owned()], vec!["operator".to_owned()], vec![name.clone()]];
                let to =
                    if self.random.chance(400) { self.random.pick(&everybody).clone() } else { vec![name] };
                Request::Send(Send {
                    to,
                    body,
                    subject: self.random.chance(300).then(|| "subject".to_owned()),
                    priority: *self.random.pick(&[Priority::Urgent, Priority::Normal, Priority::Fyi]),
                    reply_to: mail.filter(|_| self.random.chance(200)),
                    expires_ms: self.random.chance(200).then(|| 1 + self.random.below(20_000)),
                    key: self.random.chance(200).then(|| format!("key-{}", self.random.below(30))),
                    ..Send::default()
                })
            }
        }
    }

    /// As the relay resolves: in the lap's open transaction.
    fn resolve(&self, conn: ConnId, request: &Request) -> Resolved {
        let mut resolved = Resolved::default();
        let store = self.store.as_ref().expect(OPEN);
        if let Some(reference) = request.reference() {
            resolved.mail = store.lookup(reference).expect("SQLite looks up");
        }
        if let (Some(key), Some(sender)) = (request.key(), self.core.speaker(conn)) {
            resolved.keyed = store.keyed(&sender, key).expect("SQLite looks up");
        }
        if let (Request::Requeue(_), Lookup::Found(known)) = (request, &resolved.mail) {
            resolved.claims = store.claims_of(known.mail.id).expect("SQLite looks up");
        }
        if matches!(request, Request::Discard(discard) if discard.id.is_none()) {
            resolved.dead = store.dead_ids(100).expect("SQLite looks up");
        }
        resolved
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Reply { answer: Answer::Sent(sent), .. } => self.mails.push(sent.id),
            Action::SpawnChild { nonce, .. } => {
                let ready = ChildEvent::Ready { version: "0.169.0".to_owned() };
                if self.random.chance(900) {
                    self.nonces.push(nonce);
                    self.pending.extend([
                        Input::ChildSpawned { nonce, pid: 42 },
                        Input::Child { nonce, event: ready },
                    ]);
                } else {
                    self.pending.push(Input::ChildNotSpawned { nonce, why: "no such file".to_owned() });
                }
            }
            Action::SignalChild { nonce, .. } => {
                let (why, words) = ("was ended by SIGTERM".to_owned(), String::new());
                self.pending.push(Input::ChildExited { nonce, why, words });
            }
            Action::Deliver(deliver) => {
                self.made += 1;
                let turn: TurnId = format!("turn-{}", self.made).into();
                let (nonce, session, claim) = (deliver.nonce, deliver.session, deliver.claim);
                let outcome = match self.random.below(3) {
                    0 => TurnOutcome::Interrupted,
                    1 => TurnOutcome::Failed("no more".to_owned()),
                    _ => TurnOutcome::Completed,
                };
                let mut all = vec![
                    ChildEvent::TurnAccepted { session: session.clone(), claim, turn: turn.clone() },
                    ChildEvent::InputTaken {
                        session: session.clone(),
                        claim: Some(claim),
                        turn: turn.clone(),
                    },
                    ChildEvent::TurnEnded { session: session.clone(), turn, outcome },
                ];
                if self.random.chance(250) {
                    let temporary = self.random.chance(700);
                    let why = "overloaded".to_owned();
                    all.push(ChildEvent::TurnRefused { session: session.clone(), claim, temporary, why });
                }
                if self.random.chance(200) {
                    let key = self.made.to_string();
                    all.push(plain::approval_asked(session, &key));
                    all.push(ChildEvent::ApprovalResolved { key });
                }
                self.pending.extend(all.into_iter().map(|event| Input::Child { nonce, event }));
            }
            Action::Command { nonce, command } => {
                let event = match command {
                    ChildCommand::OpenThread { session, thread, tools, .. } => {
                        self.tools_come(tools);
                        self.made += 1;
                        let thread = thread.unwrap_or_else(|| format!("thread-{}", self.made).into());
                        let busy = self.random.chance(200);
                        let (turn, since) = ("turn-found".into(), None);
                        let turn = busy.then_some(Underway { turn, since, at_boundary: false });
                        let turn = turn.filter(|_| self.random.chance(500));
                        match self.random.below(8) {
                            0 => {
                                ChildEvent::ThreadFailed { session, temporary: true, why: "busy".to_owned() }
                            }
                            1 => ChildEvent::ThreadGone { session },
                            _ => ChildEvent::ThreadOpened { session, thread, busy, turn },
                        }
                    }
                    ChildCommand::CloseThread { session } => ChildEvent::ThreadGone { session },
                    ChildCommand::FindClaims { session, claims } => {
                        let (present, absent): (Vec<_>, Vec<_>) =
                            claims.into_iter().partition(|_| self.random.chance(500));
                        let present = present.into_iter().map(|claim| (claim, "turn-found".into())).collect();
                        ChildEvent::ClaimsFound { session, present, absent, busy: self.random.chance(300) }
                    }
                    _ => return,
                };
                self.pending.push(Input::Child { nonce, event });
            }
            Action::Exit => self.leaving = true,
            _ => {}
        }
    }
}

impl Shell {
    /// The tools of a session say hello with their token, which may be an old one by then.
    fn tools_come(&mut self, tools: Option<Box<ToolServer>>) {
        let Some(tools) = tools.filter(|_| self.random.chance(300)) else { return };
        self.made += 1;
        let conn = 1_000 + self.made;
        let (identity, token) = (tools.session.to_string(), tools.token.reveal().to_owned());
        let hello = Hello { identity: Some(identity), token: Some(token), ..plain::hello() };
        self.pending.push(Input::ConnOpened { conn: ConnId(conn), descends: true, pid: Some(8) });
        self.pending.push(asked(conn, 0, Request::Hello(hello)));
    }
}

fn asked(conn: u64, id: i64, request: Request) -> Input {
    Input::Asked {
        conn: ConnId(conn),
        id: Id::Number(id),
        request: Box::new(request),
        resolved: Resolved::default(),
    }
}

fn settings() -> Settings {
    Settings {
        bundle: BundleName::parse("web").expect("a name in the grammar"),
        tools: Some(("agentmux".to_owned(), Vec::new())),
        pid: 1,
        state_root: "/state".to_owned(),
        idle_exit_ms: None,
        policy: Policy::default(),
    }
}
