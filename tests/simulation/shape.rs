//! The shape of a seed's workload: how much of everything happens in its world, and how often what goes wrong.
//!
//! **Invariant:** chances are per 1,000 draws; a shape without faults (`calm`) is what the liveness phase runs under.

use agentmux::core::policy::Policy;

use crate::random::Random;

/// What one world is like.
#[derive(Debug, Clone, Default)]
pub struct Shape {
    pub kind: &'static str,
    pub laps: u64,
    pub sessions: usize,
    pub programs: u64,
    pub clients: usize,
    /// Requests of each client.
    pub requests: u64,
    /// Longest pause between two requests of a client.
    pub think_ms: i64,
    /// Relative weight of sending among a client's requests (of about 100).
    pub sending: u64,
    pub idle_exit_ms: Option<i64>,
    pub crash_before_commit: u64,
    pub crash_after_commit: u64,
    pub crash_after_release: u64,
    /// How often a crash is that of the whole machine.
    pub reboots: u64,
    pub client_closes: u64,
    pub child_dies: u64,
    pub connection_breaks: u64,
    pub child_hangs: u64,
    /// How often a child is started and then never gets ready; only in stories.
    pub never_ready: u64,
    pub refuses_for_now: u64,
    pub refuses_for_good: u64,
    /// How often what is asked beside input (to end a turn, open or leave a thread, sum it up, say whether a turn runs) is refused
    /// for now.
    pub too_busy: u64,
    pub says_nothing: u64,
    pub answers_late: u64,
    /// How often a command other than the start of a turn is answered later than measured, and so out of order.
    pub answers_slowly: u64,
    pub applies_slowly: u64,
    pub hides_items: u64,
    pub turn_fails: u64,
    /// How often a turn ends because the context is full; only in stories.
    pub context_full: u64,
    pub person: u64,
    pub asks_approval: u64,
    pub thread_unloads: u64,
    pub thread_refused: u64,
    pub disk_low: u64,
    /// How often a turn puts tools to work before it goes on.
    pub tools: u64,
    /// How often a request settles, holds or takes back mail, of those that do not send.
    pub settling: u64,
    /// How often a spawned session is one that mail wakes.
    pub wakes: u64,
    /// How often a request is an order to a session: a prompt, an interrupt, a close.
    pub orders: u64,
    pub policy: Policy,
}

impl Shape {
    /// Draws the shape of a seed.
    pub fn draw(random: &mut Random) -> Shape {
        let base = Shape {
            kind: "mixed",
            laps: 40 + random.below(120),
            sessions: 1 + random.below(4) as usize,
            programs: 1 + random.below(2),
            clients: 1 + random.below(4) as usize,
            requests: 4 + random.below(12),
            think_ms: 400,
            sending: 60,
            idle_exit_ms: random.chance(500).then_some(60_000),
            crash_before_commit: 6,
            crash_after_commit: 6,
            crash_after_release: 6,
            reboots: 100,
            client_closes: 40,
            child_dies: 8,
            connection_breaks: 8,
            child_hangs: 10,
            never_ready: 0,
            refuses_for_now: 60,
            refuses_for_good: 15,
            too_busy: 60,
            says_nothing: 30,
            answers_late: 150,
            answers_slowly: 200,
            applies_slowly: 15,
            hides_items: 30,
            turn_fails: 60,
            context_full: 0,
            person: 60,
            asks_approval: 60,
            thread_unloads: 6,
            thread_refused: 30,
            disk_low: 10,
            tools: 300,
            settling: 450,
            wakes: 250,
            orders: 80,
            policy: policy(random),
        };
        match random.below(12) {
            0 => Shape { kind: "quiet", clients: 1, requests: 4, sending: 0, ..base.without_faults() },
            1 => Shape {
                kind: "one mail",
                clients: 1,
                requests: 3,
                sessions: 1,
                sending: 50,
                laps: 60,
                ..base
            },
            2 => Shape { kind: "storm", requests: 40, think_ms: 15, sending: 90, ..base },
            3 => Shape {
                kind: "relay crashes",
                crash_before_commit: 40,
                crash_after_commit: 40,
                crash_after_release: 40,
                ..base
            },
            4 => Shape { kind: "disconnects", connection_breaks: 60, client_closes: 200, ..base },
            5 => Shape { kind: "children die", child_dies: 50, child_hangs: 60, hides_items: 150, ..base },
            6 => Shape { kind: "persons", person: 350, asks_approval: 250, thread_unloads: 30, ..base },
            7 => Shape {
                kind: "refusals",
                refuses_for_now: 250,
                refuses_for_good: 60,
                says_nothing: 150,
                answers_late: 400,
                applies_slowly: 60,
                ..base
            },
            8 => Shape {
                kind: "tools",
                tools: 850,
                sending: 85,
                requests: 30,
                think_ms: 120,
                turn_fails: 20,
                ..base
            },
            9 => Shape {
                kind: "churn",
                sending: 30,
                think_ms: 12,
                requests: 40,
                sessions: 1 + random.below(2) as usize,
                thread_refused: 60,
                answers_slowly: 700,
                ..base
            },
            10 => Shape {
                kind: "orders",
                orders: 550,
                requests: 30,
                think_ms: 60,
                sending: 70,
                tools: 500,
                ..base
            },
            _ => base,
        }
    }

    /// The same world with nothing going wrong.
    pub fn without_faults(&self) -> Shape {
        Shape {
            kind: self.kind,
            laps: self.laps,
            sessions: self.sessions,
            programs: self.programs,
            clients: self.clients,
            requests: self.requests,
            think_ms: self.think_ms,
            sending: self.sending,
            idle_exit_ms: self.idle_exit_ms,
            tools: self.tools,
            policy: self.policy.clone(),
            ..Shape::default()
        }
    }
}

/// Limits so low that brakes and patience are met in the short life of a world; in some worlds the usual ones.
fn policy(random: &mut Random) -> Policy {
    if random.chance(200) {
        return Policy::default();
    }
    Policy {
        patience_ms: random.ms(0, 1_500),
        brake_hops: 1 + random.below(4) as u32,
        brake_pair_per_minute: 2 + random.below(6) as usize,
        brake_thread_per_minute: 2 + random.below(6) as usize,
        wake_max: 1 + random.below(3) as usize,
        approval_ms: Some(random.ms(100, 5_000)),
        ..Policy::default()
    }
}
