//! The kinds of children, what the suite needs of the fake of each, and the bench that joins a transport to one.
//!
//! **Invariant:** the bench moves whole messages in order and nothing else; time, sockets and chance are absent.

use std::fmt::Debug;

use agentmux::model::child::{ChildCommand, ChildEvent, Item, TurnOutcome};
use agentmux::model::id::{ClaimId, Mint, ThreadId};
use agentmux::model::name::Name;
use agentmux::model::session::ThreadSetup;
use agentmux::transport::Transport;

/// Every kind: its name, its transport, its fake.
pub const KINDS: &[(&str, NewTransport, NewFake)] = &[(
    "codex",
    || Box::new(agentmux::transport::codex::Codex::default()),
    || Box::new(super::codex::FakeCodex::default()),
)];

type NewTransport = fn() -> Box<dyn Transport>;
type NewFake = fn() -> Box<dyn Fake>;

/// A scripted child on the other side of a transport.
pub trait Fake: Debug {
    /// Takes a message of ours and, unless told otherwise, does what the real one does.
    fn hear(&mut self, message: &str);
    /// The next message to us.
    fn say(&mut self) -> Option<String>;
    /// Keeps what it says from now on, and gives it up at once here.
    fn hold(&mut self) -> Vec<String>;
    /// Stops keeping; what it kept is said.
    fn release(&mut self);
    /// Refuses the next request of this kind.
    fn refuse(&mut self, what: What, how: Refusal);
    /// Answers pages of its history with this many rows.
    fn set_page(&mut self, rows: usize);
    /// A turn that we did not start runs in the thread.
    fn runs_a_turn(&mut self, thread: &ThreadId);
    /// Ends the running turn.
    fn ends_turn(&mut self, thread: &ThreadId, outcome: &TurnOutcome);
    /// A person types a message; `marked` as its own screen marks it, or by a program that gives no id.
    fn person_types(&mut self, thread: &ThreadId, marked: bool);
    /// The thread is no longer loaded.
    fn unloads(&mut self, thread: &ThreadId);
    /// Asks each of its questions about the thread; returns how each is declined.
    fn asks_everything(&mut self, thread: &ThreadId) -> Vec<Question>;
    /// Asks something that no version of today knows; returns the text that must stand in the refusal.
    fn asks_the_unknown(&mut self, thread: Option<&ThreadId>) -> String;
    /// A question was answered somewhere else; `at` counts from the first asked.
    fn settled_elsewhere(&mut self, thread: &ThreadId, at: usize);
    /// What we answered to its questions, in order.
    fn answers(&self) -> Vec<String>;
    /// Client ids of messages that it took from us, in order.
    fn taken(&self) -> Vec<String>;
    /// Statements that only a later version makes: new kinds, new fields, and items of which none is evidence.
    fn novelties(&self, thread: &ThreadId, claim: ClaimId) -> Vec<String>;
    /// Real messages of every sort about this thread and claim.
    fn corpus(&self, thread: &ThreadId, claim: ClaimId) -> Vec<String>;
    /// Whether a message states that input is inside a turn, judged without the transport.
    fn is_evidence(&self, message: &str) -> bool;
    /// Texts that are no messages at all.
    fn garbage(&self) -> Vec<String>;
}

/// What a fake can be told to refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Hello,
    NewThread,
    Introduction,
    Naming,
    Resuming,
    Turn,
    History,
    RunningTurn,
    Status,
    Loaded,
    Leaving,
    Summing,
    Interrupt,
}

/// How a fake refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It has too much to do now.
    Overloaded,
    /// It does not know the thread (any more).
    Unloaded,
    /// It will never take it.
    ForGood,
}

/// A question that a fake has asked.
#[derive(Debug, Clone)]
pub struct Question {
    /// Our word for its kind.
    pub kind: &'static str,
    /// The answer that approves it once, if a plain yes is one.
    pub approved: Option<String>,
    /// The answer that approves it for ever, if that is offered.
    pub always: Option<String>,
    /// The answer that declines it, as the fake hears it.
    pub declined: String,
    /// What it is about, as a person shall read it.
    pub summary: &'static str,
}

/// A transport and the fake on its other side.
#[derive(Debug)]
pub struct Bench {
    pub transport: Box<dyn Transport>,
    pub fake: Box<dyn Fake>,
    events: Vec<ChildEvent>,
    kind: usize,
}

impl Bench {
    /// Runs a test on every kind.
    pub fn each(test: impl Fn(Bench)) {
        for (kind, (name, _, _)) in KINDS.iter().enumerate() {
            println!("kind {name}");
            test(Bench::of(kind));
        }
    }

    /// Another bench of the same kind, before its first word.
    pub fn fresh(&self) -> Bench {
        Bench::of(self.kind)
    }

    fn of(kind: usize) -> Bench {
        let (_, transport, fake) = KINDS[kind];
        Bench { transport: transport(), fake: fake(), events: Vec::new(), kind }
    }

    /// Runs a test on every kind, connected, with one open thread of `reviewer`.
    pub fn each_open(test: impl Fn(Bench, ThreadId)) {
        Bench::each(|mut bench| {
            bench.connect();
            let thread = bench.opens("reviewer", None);
            test(bench, thread);
        });
    }

    /// Connects, to the event that it answers.
    pub fn connect(&mut self) {
        self.transport.on_open();
        self.run();
        assert!(matches!(self.take().as_slice(), [ChildEvent::Ready { .. }]));
    }

    /// Opens a thread and expects that this works.
    #[track_caller]
    pub fn opens(&mut self, session: &str, thread: Option<&ThreadId>) -> ThreadId {
        self.command(open(session, thread));
        let events = self.take();
        let opened = events.iter().find_map(|event| match event {
            ChildEvent::ThreadOpened { thread, .. } => Some(thread.clone()),
            _ => None,
        });
        opened.unwrap_or_else(|| panic!("{session} is open: {events:?}"))
    }

    /// Gives a command and lets everything that follows happen.
    pub fn command(&mut self, command: ChildCommand) {
        self.transport.command(command);
        self.run();
    }

    /// Moves messages until nobody has any.
    pub fn run(&mut self) {
        for _ in 0..10_000 {
            let mut moved = false;
            while let Some(message) = self.transport.next_message() {
                self.fake.hear(&message);
                moved = true;
            }
            if let Some(message) = self.fake.say() {
                self.hears(&message);
                moved = true;
            }
            if !moved {
                return;
            }
        }
        panic!("they never stop talking");
    }

    /// Gives the transport one message.
    pub fn hears(&mut self, message: &str) {
        self.transport.on_message(message);
        self.collect();
    }

    fn collect(&mut self) {
        while let Some(event) = self.transport.next_event() {
            self.events.push(event);
        }
    }

    /// The events so far, without the skills, which come when they come, and without what only those who watch hear.
    pub fn take(&mut self) -> Vec<ChildEvent> {
        self.collect();
        let mut events = std::mem::take(&mut self.events);
        events.retain(|event| !is_beside(event));
        events
    }

    /// The items so far, for those who watch; everything else is dropped.
    pub fn take_items(&mut self) -> Vec<Item> {
        self.collect();
        let events = std::mem::take(&mut self.events).into_iter();
        events
            .filter_map(|event| match event {
                ChildEvent::ItemDone { item, .. } => Some(item),
                _ => None,
            })
            .collect()
    }
}

/// What a transport tells beside what follows from commands.
pub fn is_beside(event: &ChildEvent) -> bool {
    matches!(
        event,
        ChildEvent::SkillsListed { .. } | ChildEvent::ItemDone { .. } | ChildEvent::TokensUsed { .. }
    )
}

/// The command that opens a thread, with a configuration in which nothing is left out.
pub fn open(session: &str, thread: Option<&ThreadId>) -> ChildCommand {
    let setup = ThreadSetup {
        dir: "/project".to_owned(),
        instructions: Some("You review code.".to_owned()),
        model: Some("mock-model".to_owned()),
        sandbox: Some("read-only".to_owned()),
        approval: Some("on-request".to_owned()),
    };
    let shell_env = vec![("AGENTMUX_SESSION".to_owned(), session.to_owned())];
    let welcome = format!("You are {session}.");
    ChildCommand::OpenThread {
        session: name(session),
        thread: thread.cloned(),
        setup,
        welcome,
        reminder: None,
        shell_env,
        tools: None,
    }
}

/// The command that starts a turn in `reviewer`.
pub fn turn(claim: ClaimId) -> ChildCommand {
    ChildCommand::StartTurn {
        session: name("reviewer"),
        claim,
        text: "[agentmux mail 1 of 1]\nhello".to_owned(),
    }
}

/// The `n`th claim; equal numbers are equal claims.
pub fn claim(n: u64) -> ClaimId {
    Mint::new(agentmux::model::clock::Millis(1_777_629_600_000), u128::from(n)).claim()
}

pub fn name(text: &str) -> Name {
    Name::parse(text).expect("a name in the grammar")
}
