//! Names of outside agents over the death of a relay: kept for their token for a while, then free.
//!
//! The core alone, its disk, and a clock that the test moves; a stranger claims without a token, the owner with the one it was given.

use agentmux::core::action::Action;
use agentmux::core::input::{Input, Moment, Resolved};
use agentmux::core::{Core, Effects};
use agentmux::model::clock::Millis;
use agentmux::model::id::ConnId;
use agentmux::model::limits;
use agentmux::protocol::answer::Answer;
use agentmux::protocol::request::{Hello, Request};
use agentmux::wire::rpc::Id;

use crate::disk::Disk;
use crate::shape::Shape;
use crate::shell::settings;
use crate::{loader, plain};

/// One relay after the other, on one disk.
struct Relays {
    core: Core,
    disk: Disk,
    now: Millis,
    conns: u64,
}

impl Relays {
    fn begin() -> Relays {
        let disk = Disk::default();
        let core = Core::new(loader::load(&disk.committed), settings(&Shape::default()));
        let mut relays = Relays { core, disk, now: Millis(1_777_629_600_000), conns: 0 };
        relays.handle(Input::Started { survivors: Vec::new() });
        relays
    }

    /// One lap with one input.
    fn handle(&mut self, input: Input) -> Vec<Action> {
        let moment = Moment { now: self.now, seed: u128::from(self.conns), secret: u128::from(self.conns) };
        let Effects { records, actions } = self.core.handle(moment, input);
        records.iter().for_each(|record| self.disk.write(record));
        self.disk.commit();
        actions
    }

    /// The relay is killed, and the next one starts.
    fn die(&mut self) {
        self.core = Core::new(loader::load(&self.disk.committed), settings(&Shape::default()));
        self.handle(Input::Started { survivors: Vec::new() });
    }

    /// The clock moves, and every deadline that has passed meanwhile is met at its time.
    fn passes(&mut self, ms: i64) {
        let until = self.now.plus(ms);
        while let Some(at) = self.core.deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.handle(Input::Tick);
        }
        self.now = until;
    }

    /// A new connection says who it wants to be: its connection and the token that it is given, or the refusal.
    fn claims(&mut self, token: Option<&str>) -> Result<(ConnId, Option<String>), String> {
        self.conns += 1;
        let conn = ConnId(self.conns);
        self.handle(Input::ConnOpened { conn, descends: false, pid: None });
        let hello =
            Hello { identity: Some("ann".to_owned()), token: token.map(str::to_owned), ..plain::hello() };
        let request = Box::new(Request::Hello(hello));
        let asked = Input::Asked { conn, id: Id::Number(1), request, resolved: Resolved::default() };
        for action in self.handle(asked) {
            match action {
                Action::Reply { answer: Answer::Welcome(welcome), .. } => return Ok((conn, welcome.token)),
                Action::Refuse { fault, .. } => return Err(fault.message),
                _ => {}
            }
        }
        panic!("a hello is answered")
    }
}

/// LK-5: until its time is over a name that was held when the relay died is its token's alone; from then on it is anybody's, and the
/// token of before no longer opens it.
#[test]
fn a_name_is_kept_for_its_token_after_a_crash_of_the_relay_and_then_free() {
    let mut relays = Relays::begin();
    let (_, token) = relays.claims(None).expect("a free name");
    let token = token.expect("a token");
    relays.die();
    relays.passes(limits::NAME_KEPT_MS - 1);
    let refusal = relays.claims(None).expect_err("it is kept");
    assert!(refusal.contains("is kept for its holder for 10 s"), "{refusal}");
    relays.passes(1);
    let (stranger, _) = relays.claims(None).expect("it is free");
    let refusal = relays.claims(Some(&token)).expect_err("it is another's now");
    assert!(refusal.contains("is held since") && refusal.contains("claim 2"), "{refusal}");
    relays.handle(Input::ConnClosed { conn: stranger });
    let _ = relays.claims(None).expect("free at once when its holder is gone");
}

/// LK-5: the owner comes back in time, and keeps its name for as long as it stays, past the time and past the next crash.
#[test]
fn a_name_whose_owner_comes_back_in_time_stays_its_own() {
    let mut relays = Relays::begin();
    let (_, token) = relays.claims(None).expect("a free name");
    for _ in 0..3 {
        relays.die();
        relays.passes(limits::NAME_KEPT_MS - 1);
        let (_, given) = relays.claims(token.as_deref()).expect("its token opens it");
        assert_eq!(given, None, "it has its token");
        relays.passes(10 * limits::NAME_KEPT_MS);
        let refusal = relays.claims(None).expect_err("it is held");
        assert!(refusal.contains("is held since") && refusal.contains("claim 1"), "{refusal}");
    }
}

/// A name that nobody comes back for costs no wake-up when its time is over.
#[test]
fn a_name_that_became_free_leaves_no_deadline() {
    let mut relays = Relays::begin();
    let _ = relays.claims(None).expect("a free name");
    relays.die();
    relays.passes(limits::NAME_KEPT_MS);
    assert_eq!(relays.core.names_in_use().count(), 0);
    assert_eq!(relays.core.deadline(), None);
}
