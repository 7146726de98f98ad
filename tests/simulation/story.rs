//! What a story is told with: a calm world with one session, in which only that happens which the story says.
//!
//! **Invariant:** a story is told in many worlds (seeds), so that it depends on no millisecond.

use agentmux::core::policy::Policy;
use agentmux::core::record::DeliveryId;
use agentmux::model::clock::Millis;
use agentmux::model::id::{ClaimId, Nonce, ThreadId, TurnId};
use agentmux::model::mail::{DeliveryState, Priority};
use agentmux::protocol::request::{Down, Request, Send, Spawn};

use crate::random::Random;
use crate::shape::Shape;
use crate::shell::CrashPoint;
use crate::world::{Happening, World};

/// One telling.
#[derive(Debug)]
pub struct Story {
    pub world: World,
}

/// The order to stop a session.
pub fn down(name: &str) -> Request {
    Request::Down(Down { names: vec![name.to_owned()], now: false })
}

/// Tells a story in many worlds.
pub fn tell(story: impl Fn(&mut Story)) {
    tell_in(TELLINGS, story);
}

/// Tells a story in so many worlds, because it is a long one.
pub fn tell_in(worlds: u64, story: impl Fn(&mut Story)) {
    for seed in 0..worlds {
        let mut telling = Story::begin(seed);
        story(&mut telling);
        telling.world.check_accepted();
        assert_eq!(telling.world.breach, None, "world {seed}\n{}", crate::run::steps(&telling.world));
    }
}

impl Story {
    fn begin(seed: u64) -> Story {
        let shape = Shape { kind: "story", clients: 3, sessions: 2, programs: 1, ..Shape::default() };
        let mut world = World::with(Random::new(seed), shape);
        world.trace = Some(Default::default());
        world.relay_starts();
        (0..2).for_each(|client| world.client_connects(client, true));
        let mut story = Story { world };
        story.spawn("lead");
        story
    }

    /// A person creates a session, and it comes up.
    pub fn spawn(&mut self, name: &str) {
        self.asks_to_spawn(name);
        self.answered(0);
    }

    /// A person asks for a session; nothing else happens yet.
    pub fn asks_to_spawn(&mut self, name: &str) {
        let (name, dir, program) = (name.to_owned(), "/project".to_owned(), "/bin/codex".to_owned());
        self.asks(0, Request::Spawn(Spawn { name, dir, program, ..Spawn::default() }));
    }

    /// A person creates a session that mail wakes, and puts it to sleep.
    pub fn spawn_sleeper(&mut self, name: &str) {
        let (owned, dir, program) = (name.to_owned(), "/project".to_owned(), "/bin/codex".to_owned());
        self.asks(0, Request::Spawn(Spawn { name: owned, dir, program, wake: true, ..Spawn::default() }));
        self.answered(0);
        self.asks(0, down(name));
        self.answered(0);
    }

    /// A relay with another policy takes over.
    pub fn relay_with(&mut self, policy: Policy) {
        self.world.shape.policy = policy;
        self.world.crash(CrashPoint::AfterRelease);
        self.world.relay_starts();
        (0..2).for_each(|client| self.world.client_connects(client, true));
    }

    /// A client asks for something.
    pub fn asks(&mut self, client: usize, request: Request) {
        self.world.client_asks(client, request);
    }

    /// Everything that a client asked for is answered.
    pub fn answered(&mut self, client: usize) {
        self.until("the client has its answer", |world| world.clients.all[client].asked.is_empty());
    }

    /// A person asks to send a mail; nothing else happens yet.
    pub fn writes(&mut self, to: &str, priority: Priority) {
        let (to, body) = (vec![to.to_owned()], "look at the diff".to_owned());
        self.asks(0, Request::Send(Send { to, body, priority, ..Send::default() }));
    }

    /// A person sends a mail and is told that it is queued.
    pub fn sends(&mut self, to: &str) -> DeliveryId {
        self.writes(to, Priority::Normal);
        self.answered(0);
        *self.world.disk.committed.deliveries.last_key_value().expect("accepted means on disk").0
    }

    /// Where a delivery stands on disk.
    pub fn state(&self, id: DeliveryId) -> DeliveryState {
        self.world.disk.committed.deliveries[&id].state
    }

    /// Whether a delivery has come to a state since it was accepted.
    pub fn went_through(&self, id: DeliveryId, state: DeliveryState) -> bool {
        self.world.disk.committed.deliveries[&id].path.contains(&state)
    }

    /// Lives on until a delivery stands so.
    pub fn until_state(&mut self, id: DeliveryId, state: DeliveryState) {
        self.until(state.as_str(), |world| world.disk.committed.deliveries[&id].state == state);
    }

    /// Lives on until something is so.
    pub fn until(&mut self, what: &str, is_so: impl Fn(&World) -> bool) {
        let is_so = self.world.run_until(1_000_000, is_so);
        assert!(is_so, "waits for: {what}\n{}", crate::run::steps(&self.world));
    }

    /// Lives on for some time.
    pub fn for_ms(&mut self, ms: i64) {
        let until = self.world.now.plus(ms);
        self.world.in_ms(ms, Happening::Nothing);
        self.world.run_until(ms, |world| world.now >= until);
    }

    /// Lives on for a moment, which is another one in each world.
    pub fn for_a_moment(&mut self) {
        let ms = self.world.random.ms(0, 25);
        self.for_ms(ms);
    }

    /// The next lap crashes there, and a new relay starts.
    pub fn crashes(&mut self, point: CrashPoint) {
        self.world.crash_at = Some(point);
        self.until("the crash", |world| world.relay.is_none());
        self.world.relay_starts();
    }

    /// The only child.
    pub fn child(&self) -> Nonce {
        *self.world.codex.processes.keys().next().expect("a child runs")
    }

    /// A session's thread.
    pub fn thread(&self, name: &str) -> ThreadId {
        let mut sessions = self.world.disk.committed.sessions.values();
        let session = sessions.find(|session| session.name.as_str() == name);
        session.and_then(|session| session.thread.clone()).expect("the session has its thread")
    }

    /// A turn of a session shows, and its input is not in the history yet; false when it already is.
    pub fn turn_shows_first(&mut self, name: &str) -> bool {
        let (nonce, thread) = (self.child(), self.thread(name));
        let turn_of = |world: &World| -> Option<(bool, usize)> {
            let turn = world.codex.processes.get(&nonce)?.loaded.get(&thread)?.as_ref()?;
            Some((turn.shown, turn.inputs.len()))
        };
        self.until("a turn", |world| turn_of(world).is_some_and(|(shown, _)| shown));
        turn_of(&self.world).is_some_and(|(_, inputs)| inputs > 0)
    }

    /// A turn that tools keep running for minutes, unless somebody ends it.
    pub fn long_turn(&mut self, name: &str) -> (Nonce, TurnId) {
        let mail = self.sends(name);
        self.until_state(mail, DeliveryState::Consumed);
        let (nonce, thread) = (self.child(), self.thread(name));
        let turn = self.world.codex.turn(nonce, &thread).expect("it runs");
        turn.at_work = true;
        (nonce, turn.id.clone())
    }

    /// The same in a child that another session needs, too.
    pub fn shared_turn(&mut self) -> (Nonce, TurnId) {
        self.spawn("keeper");
        self.long_turn("lead")
    }

    /// Whether a turn runs in a child.
    pub fn runs(&self, nonce: Nonce, turn: &TurnId) -> bool {
        let process = self.world.codex.processes.get(&nonce);
        process.is_some_and(|process| process.loaded.values().flatten().any(|running| running.id == *turn))
    }

    /// When children were asked for this, as `Codex::asked` calls it, since a moment.
    pub fn asked(&self, what: &str, since: Millis) -> Vec<Millis> {
        let of = |(at, kind): &&(Millis, &str)| *kind == what && *at >= since;
        self.world.codex.asked.iter().filter(of).map(|(at, _)| *at).collect()
    }

    /// The claims that are in a session's history, oldest first.
    pub fn history(&self, name: &str) -> Vec<ClaimId> {
        self.world.codex.threads[&self.thread(name)].iter().filter_map(|item| item.claim).collect()
    }

    /// How often a mail was told to a model, counted in histories.
    pub fn told(&self, id: DeliveryId) -> usize {
        let claims = &self.world.disk.committed.claims;
        let items = self.world.codex.threads.values().flatten();
        items
            .filter_map(|item| claims.get(&item.claim?))
            .filter(|claim| claim.deliveries.contains(&id))
            .count()
    }
}

/// In how many worlds a story is told.
const TELLINGS: u64 = 100;
