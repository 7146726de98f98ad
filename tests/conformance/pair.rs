//! The transport of Codex and its fake, message by message between them.

use agentmux::model::child::{ChildCommand, ChildEvent};
use agentmux::model::id::ThreadId;
use agentmux::transport::Transport;
use agentmux::transport::codex::Codex;

use super::codex::FakeCodex;
use super::kind::{Fake, open};

/// Codex and its fake, with the fake's memory in reach.
#[derive(Debug, Default)]
pub struct Pair {
    pub codex: Codex,
    pub fake: FakeCodex,
}

impl Pair {
    pub fn connected() -> Pair {
        let mut pair = Pair::default();
        pair.codex.on_open();
        pair.run();
        pair
    }

    pub fn run(&mut self) {
        loop {
            while let Some(message) = self.codex.next_message() {
                self.fake.hear(&message);
            }
            match self.fake.say() {
                Some(message) => self.codex.on_message(&message),
                None => return,
            }
        }
    }

    pub fn command(&mut self, command: ChildCommand) {
        self.codex.command(command);
        self.run();
    }

    /// A session gets a thread of its own.
    pub fn opened(&mut self, session: &str) -> ThreadId {
        self.command(open(session, None));
        self.fake.last("thread/inject_items")["threadId"].as_str().expect("an id").into()
    }

    /// Another relay takes over: nothing is known here, and the child tells us nothing before it is asked.
    pub fn starts_anew(&mut self) {
        self.fake.forgets_us();
        self.codex = Codex::default();
        self.codex.on_open();
        self.run();
        self.events();
    }

    /// What the child says to all that was asked of it so far, kept back, in order.
    pub fn answers(&mut self) -> Vec<String> {
        while let Some(message) = self.codex.next_message() {
            self.fake.hear(&message);
        }
        self.fake.hold()
    }

    /// Tells some of that, and goes on as usual.
    pub fn hears(&mut self, messages: &[String]) {
        messages.iter().for_each(|message| self.codex.on_message(message));
        self.fake.release();
        self.run();
    }

    pub fn events(&mut self) -> Vec<ChildEvent> {
        std::iter::from_fn(|| self.codex.next_event())
            .filter(|event| !matches!(event, ChildEvent::ItemDone { .. }))
            .collect()
    }
}
