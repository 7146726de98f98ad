//! The relay dies between the start of its child and the record of it: the intent is on disk, the process runs, and no pid is written down.
//!
//! Under the tracer of `selftest` the real relay is stopped before a system call that lies between the two, and killed there; that the pid
//! was in no record is read from its store while it is stopped. The next relay finds the child by what it carries.

use std::path::Path;
use std::process::Stdio;

use agentmux::boot::tracer::{Boundary, End, Role, Traced};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::link::{DEADLINE, spawned};
use super::support::house::House;
use super::support::rounds::rounds;

/// Looks for the two ends of the gap in what a relay does.
#[derive(Debug, Default)]
struct Gap {
    /// The call that makes the keeper's process.
    spawn: Option<usize>,
    /// Whether the keeper's word was read since.
    heard: bool,
    /// The first write into the store after that.
    record: Option<usize>,
}

impl Gap {
    fn see(&mut self, at: &Boundary) {
        if at.role != Role::Relay || self.record.is_some() {
            return;
        }
        // `vfork` has a number of its own on some architectures only.
        if self.spawn.is_none() && ["clone", "clone3", "system call 58"].contains(&at.call.as_str()) {
            self.spawn = Some(at.number);
        }
        self.heard |= self.spawn.is_some() && at.call == "read" && at.object.starts_with("pipe:");
        if self.heard && at.call == "pwrite64" && at.object.contains("mail.db-wal") {
            self.record = Some(at.number);
        }
    }
}

/// Starts a relay that has to start a child, under the tracer; `Err` where tracing is forbidden.
fn start(house: &House) -> std::io::Result<(Traced, std::process::Child)> {
    let mut command = house.command(env!("CARGO_BIN_EXE_agentmux"));
    command
        .args(["send", "reviewer", "to begin with", "--wait"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Traced::start(command)
}

/// The pid in the record of the child that is alive or about to be, in a copy of the store.
fn recorded(house: &House, copy: &Path) -> Vec<Option<i64>> {
    for name in ["mail.db", "mail.db-wal"] {
        std::fs::copy(house.bundle_dir().join(name), copy.join(name)).expect("a copy");
    }
    let store = rusqlite::Connection::open(copy.join("mail.db")).expect("the copy can be opened");
    let mut rows = store.prepare("SELECT pid FROM children WHERE ended_at IS NULL").expect("a table");
    let rows = rows.query_map([], |row| row.get(0)).expect("rows");
    rows.collect::<Result<_, _>>().expect("pids")
}

/// The living processes behind children: each and its keeper.
fn behind_children(house: &House) -> Vec<i32> {
    let is_one = |pid: &i32| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&words).contains("app-server")
    };
    house.processes().into_iter().filter(is_one).collect()
}

fn child(house: &House) -> i32 {
    let status = house.run(&["status", "--json"]).ok().json();
    let pid = status["children"][0]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
    pid.unwrap_or_else(|| panic!("a child runs: {status}"))
}

/// Nothing runs, and the session is wanted up.
fn empty(house: &House) {
    let child = child(house);
    house.kill_nine(house.relay_pid().expect("a relay runs"));
    house.kill_nine(child);
    house.wait_until_empty(DEADLINE);
}

/// PX-8, BS-1: the very process that was started is adopted, there is no second one, and it does its work.
#[test]
fn a_relay_that_dies_between_the_start_of_its_child_and_the_record_of_it_leaves_one_child() {
    // The tracer waits for all children of its thread.
    std::thread::spawn(dies_in_the_gap).join().expect("it went well");
}

fn dies_in_the_gap() {
    let house = spawned("");
    let copy = tempfile::tempdir().expect("a temporary directory");
    empty(&house);
    let mut gap = Gap::default();
    let (mut traced, command) = match start(&house) {
        Ok(started) => started,
        Err(error) => {
            return eprintln!("NOTE: nothing was tried, because tracing is forbidden here: {error}");
        }
    };
    let _ = traced.run_until(|at| {
        gap.see(at);
        gap.record.is_some()
    });
    traced.run_to_the_end(&[Role::Client]);
    assert_eq!(traced.end(Role::Client), Some(End::Exited(0)));
    traced.release(None);
    drop(command);
    let (spawn, record) = gap.spawn.zip(gap.record).unwrap_or_else(|| panic!("both are seen: {gap:?}"));
    let (mut unrecorded, rounds) = (0, rounds(8) as usize);
    for round in 0..rounds {
        empty(&house);
        // What comes before the spawn depends on what else runs on the machine.
        let after = 1 + round * (record - spawn) / rounds;
        let mut gap = Gap::default();
        let (mut traced, command) = start(&house).expect("tracing is allowed");
        let reached = traced.run_until(|here| {
            gap.see(here);
            here.role == Role::Relay && gap.spawn.is_some_and(|spawn| here.number >= spawn + after)
        });
        let reached = reached.expect("the relay comes so far");
        // All stand still.
        let pids = recorded(&house, copy.path());
        assert_eq!(pids.len(), 1, "the intent is on disk: {reached:?}");
        unrecorded += usize::from(pids == [None]);
        // The relay goes on from the spawn when the keeper has its memory, a moment before its words can be read.
        let started = house.poll("its keeper", DEADLINE, || match behind_children(&house) {
            none if none.is_empty() => Err(format!("none, at {reached:?}")),
            started => Ok(started),
        });
        traced.signal(Role::Relay, Signal::SIGKILL);
        traced.run_to_the_end(&[Role::Client]);
        assert_eq!(
            traced.end(Role::Client),
            Some(End::Exited(0)),
            "the command comes back by the next relay"
        );
        traced.release(None);
        drop(command);
        let sent = house.run(&["send", "reviewer", "hello", "--wait", "--json"]).ok().json();
        assert_eq!(sent["deliveries"][0]["state"], "consumed", "{sent}");
        let found = behind_children(&house);
        assert_eq!(found.len(), 2, "one child and its keeper, killed at {reached:?}\n{}", house.relay_log());
        assert!(started.iter().all(|pid| found.contains(pid)), "{started:?} at {reached:?}, then {found:?}");
        assert!(found.contains(&child(&house)));
        let list = house.run(&["list", "--json"]).ok().json();
        assert_eq!(list["sessions"][0]["state"], Value::from("idle"));
    }
    println!(
        "{rounds} relays killed between spawn and record ({} calls), {unrecorded} without a pid on disk",
        record - spawn
    );
    assert!(unrecorded * 2 > rounds, "{unrecorded} of {rounds} were killed before the record");
    let _ = house.run(&["down"]).ok();
    house.wait_until_empty(DEADLINE);
}
