//! The steps of a start, as people know them: each begins with a landmark among the system calls and lasts until the next one.

use crate::boot::tracer::{Boundary, Role};

/// One step.
#[derive(Debug)]
pub struct Step {
    /// Whose step.
    pub role: Role,
    /// Its place in ids.
    pub id: &'static str,
    /// What the process does in it.
    pub name: &'static str,
    /// The call, and how the name that it works on ends or begins.
    landmark: (&'static str, &'static str),
}

/// The step in which the relay's process is still a copy of the client, which waits for it in the kernel (posix_spawn).
pub const SPAWN: &str = "relay-spawn";

/// Every step, in order for each role; the first one of a role begins with its first call.
#[rustfmt::skip]
pub const STEPS: &[Step] = &[
    Step { role: Role::Client, id: "client-begins", name: "client reads its configuration", landmark: ("", "") },
    Step { role: Role::Client, id: "client-looks", name: "client looks for a relay", landmark: ("openat", "bundles/st") },
    Step { role: Role::Client, id: "client-locks", name: "client takes spawn.lock", landmark: ("openat", "spawn.lock") },
    Step { role: Role::Client, id: "client-starts", name: "client starts the relay and waits for its word", landmark: ("pipe2", "") },
    Step { role: Role::Client, id: "client-notes", name: "client notes the attempt, lets the lock go", landmark: ("ftruncate", "spawn.lock") },
    Step { role: Role::Client, id: "client-sends", name: "client connects and sends", landmark: ("connect", "relay.sock") },
    Step { role: Role::Relay, id: SPAWN, name: "relay's process is made", landmark: ("", "") },
    Step { role: Role::Relay, id: "relay-begins", name: "relay comes up", landmark: ("brk", "") },
    Step { role: Role::Relay, id: "relay-opens", name: "relay opens its directory and log", landmark: ("openat", "bundles/st") },
    Step { role: Role::Relay, id: "relay-locks", name: "relay takes relay.lock", landmark: ("openat", "relay.lock") },
    Step { role: Role::Relay, id: "relay-loads", name: "relay opens the store", landmark: ("openat", "mail.db") },
    Step { role: Role::Relay, id: "relay-binds", name: "relay binds its socket", landmark: ("socket", "") },
    Step { role: Role::Relay, id: "relay-listens", name: "relay listens and sets up", landmark: ("listen", "") },
    Step { role: Role::Relay, id: "relay-tells", name: "relay says that it is ready", landmark: ("write", "pipe:") },
    Step { role: Role::Relay, id: "relay-serves", name: "relay takes the mail", landmark: ("accept4", "") },
];

/// Follows both processes from step to step.
#[derive(Debug, Default)]
pub struct Track([usize; 2]);

impl Track {
    /// The step that a call belongs to, as an index into [`STEPS`].
    pub fn step(&mut self, boundary: &Boundary) -> usize {
        let at = &mut self.0[boundary.role as usize];
        let first = STEPS.iter().position(|step| step.role == boundary.role).expect("each role has steps");
        *at = (*at).max(first);
        let next = STEPS.get(*at + 1).filter(|next| next.role == boundary.role);
        if next.is_some_and(|next| begins(next.landmark, boundary)) {
            *at += 1;
        }
        *at
    }
}

fn begins((call, object): (&str, &str), boundary: &Boundary) -> bool {
    boundary.call == call && (boundary.object.ends_with(object) || boundary.object.starts_with(object))
}
