//! A relay that leaves: told by a signal, without anything left to serve, or with nothing to do.

use super::wait_until_it_serves;
use crate::support::House;
use crate::support::rounds::{Draws, rounds};
use crate::*;
use nix::sys::signal::Signal;
use std::fs;
use std::os::unix::fs::symlink;

/// What asks a relay to leave.
const LEAVE: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

#[test]
fn a_signal_ends_the_children_too_and_what_was_wanted_comes_up_again() {
    let team = Team::nobody();
    let house = &team.house;
    for signal in LEAVE {
        let relay = house.spawn(&["host", "relay"]);
        wait_until_it_serves(house);
        let _ = match signal {
            Signal::SIGTERM => house.run(&["spawn", "reviewer"]).ok(),
            // It was up when the signal came, so the next relay brought it up by itself.
            _ => house.run(&["send", "reviewer", "hello again", "--wait"]).ok(),
        };
        relay.signal(signal);
        let _ = relay.finish(SOON).ok();
        assert_eq!(house.processes(), Vec::<i32>::new(), "{signal}: {}", house.relay_log());
    }
}

/// Users 19: a relay whose directory is removed has nothing left to serve, and leaves.
#[test]
fn a_relay_whose_directory_is_moved_away_leaves() {
    let house = House::new();
    let _ = house.run(&["up"]).ok();
    let away = house.state_dir().join("away");
    fs::rename(house.bundle_dir(), &away).expect("ours");
    house.wait_until_empty(SOON);
    fs::remove_dir_all(&away).expect("nobody is in it");
    let _ = house.run(&["up"]).ok();
}

/// Users 19: a project that is removed takes its relay and its agents with it; a bundle that was named by hand is nobody's
/// project, and goes on.
#[test]
fn a_relay_whose_project_is_removed_leaves() {
    let team = Team::nobody();
    let house = &team.house;
    let own = |arguments: &[&str], dir: &Path| {
        let mut command = house.command(env!("CARGO_BIN_EXE_agentmux"));
        command.env_remove("AGENTMUX_BUNDLE").args(arguments).current_dir(dir);
        house.call_of(command).run()
    };
    let project = house.dir().join("short-lived");
    fs::create_dir(&project).expect("the house is writable");
    let _ = own(&["spawn", "reviewer"], &project).ok();
    assert!(house.processes().len() >= 2, "a relay and its child, which may have shells");
    fs::remove_dir_all(&project).expect("ours");
    house.wait_until_empty(SOON);

    fs::create_dir(&project).expect("the house is writable");
    let _ = own(&["-b", "by-hand", "up"], &project).ok();
    fs::remove_dir_all(&project).expect("ours");
    let status = own(&["-b", "by-hand", "status", "--json"], &house.project()).ok().json();
    assert_eq!(status["relay"]["running"], true, "{status}");
    // What was noted of a root that is gone keeps nobody from stopping or reading the bundle.
    let _ = own(&["-b", "by-hand", "down"], &house.project()).ok();
}

#[test]
fn an_idle_relay_leaves_by_itself_and_the_next_command_starts_another() {
    let house = House::new();
    fs::write(house.config_dir().join("config.toml"), "idle_exit = \"100ms\"\n")
        .expect("the house is writable");
    let id = mail_to_operator(&house, "kept");
    house.wait_until_empty(SOON);
    assert_eq!(state(&house, &id), "queued");
    house.wait_until_empty(SOON);
}

/// BS-1, PX-1: a relay that is told to leave before it is one leaves nothing behind, not in its first millisecond either. At every system
/// call of its start: `agentmux selftest`.
#[test]
fn a_relay_that_is_told_to_leave_in_its_first_moments_is_in_nobodys_way() {
    let house = House::new();
    let mut draws = Draws::of(9);
    for round in 0..rounds(6) {
        for signal in LEAVE {
            let relay = house.spawn(&["host", "relay"]);
            // The first ones come at once, the others anywhere in the start.
            if round > 1 {
                draws.moment(Duration::from_millis(30));
            }
            relay.signal(signal);
            let ran = relay.finish(SOON);
            // The kernel's own way before the program's first instruction, else the relay's.
            assert!([0, 128 + signal as i32].contains(&ran.code), "{signal}\n{}", ran.evidence());
            assert_eq!(house.processes(), Vec::<i32>::new(), "{signal}\n{}", ran.evidence());
        }
        let id = mail_to_operator(&house, "kept");
        assert_eq!(state(&house, &id), "queued");
        let _ = house.run(&["down"]).ok();
    }
}

/// Writes the shortest `idle_exit` that there is a reason to wait for.
fn hasty(house: &House) {
    fs::write(house.config_dir().join("config.toml"), "idle_exit = \"100ms\"\n")
        .expect("the house is writable");
}

/// Lets the time pass in which a relay without anything to do comes and goes, twice: who was idle all the while is gone, too.
fn idle_relays_come_and_go() {
    let control = House::new();
    hasty(&control);
    for _ in 0..2 {
        let _ = control.run(&["up"]).ok();
        control.wait_until_empty(SOON);
    }
}

#[test]
fn a_relay_stays_while_a_client_is_connected_and_leaves_when_it_has_gone() {
    let house = House::new();
    hasty(&house);
    let waiting = house.spawn(&["wait", "--timeout", "1h"]);
    let pid = house.poll("its relay", SOON, || house.relay_pid().ok_or_else(|| waiting.stderr()));
    idle_relays_come_and_go();
    assert_eq!(house.processes(), sorted([pid, waiting.id()]), "{}", house.relay_log());
    assert_eq!(house.relay_log().matches(" started, pid ").count(), 1, "{}", house.relay_log());
    drop(waiting);
    house.wait_until_empty(SOON);
}

#[test]
fn a_relay_stays_while_a_session_is_up() {
    let team = Team::nobody();
    let house = &team.house;
    hasty(house);
    let _ = house.run(&["spawn", "reviewer"]).ok();
    let pid = house.relay_pid().expect("a relay runs");
    wait_until_idle(house, "reviewer");
    idle_relays_come_and_go();
    assert!(house.processes().contains(&pid), "{}", house.relay_log());
    assert_eq!(house.relay_log().matches(" started, pid ").count(), 1, "{}", house.relay_log());
    let _ = house.run(&["down"]).ok();
}

/// Mail that could still move keeps its relay: here its session cannot come up, and each attempt comes later than an idle relay would have
/// left. When the session is given up the mail cannot move, and the relay leaves; the mail stays.
#[test]
fn a_relay_stays_while_there_is_mail_that_could_move_and_leaves_when_it_cannot() {
    let model = ScriptedModel::start();
    let dir = House::new(); // for the program, which outlives the house that it is replaced in
    let program = dir.dir().join("its-codex");
    symlink(support::codex_program(), &program).expect("the house is writable");
    let house = House::with_codex(&program);
    house.write_codex_config(&model);
    hasty(&house);
    let _ = house.run(&["spawn", "reviewer", "--wake-on-mail"]).ok();
    let _ = house.run(&["down"]).ok();
    fs::remove_file(&program).expect("ours");
    support::write_script(&program, "#!/bin/sh\nexit 1\n");
    let id = sent_id(&house.run(&["send", "reviewer", "wake up"]).ok());
    let pid = house.relay_pid().expect("a relay runs");
    house.wait_until_empty(SOON);
    let log = house.relay_log();
    let of_it = log.split(&format!(" started, pid {pid}")).nth(1).expect("it was started");
    assert!(of_it.matches(" is started: keeper ").count() >= 3, "{log}");
    assert_eq!(of_it.matches(" started, pid ").count(), 0, "one relay did it all: {log}");
    assert_eq!(state(&house, &id), "queued");
    house.wait_until_empty(SOON);
}

#[test]
fn a_relay_whose_idle_exit_is_0_never_leaves_by_itself() {
    let house = House::new();
    fs::write(house.config_dir().join("config.toml"), "idle_exit = \"0\"\n").expect("the house is writable");
    let _ = house.run(&["up"]).ok();
    let pid = house.relay_pid().expect("a relay runs");
    idle_relays_come_and_go();
    assert_eq!(house.processes(), [pid]);
    assert_eq!(is_woken_at(pid), None, "it waits for the world alone");
    let _ = house.run(&["down"]).ok();
}

/// When the one thread of an idle relay will be woken, as the kernel has it: the last argument of the wait that it is in.
fn is_woken_at(pid: i32) -> Option<i64> {
    let words = fs::read_to_string(format!("/proc/{pid}/syscall")).ok()?;
    let words: Vec<&str> = words.split_whitespace().collect();
    if words.first()?.parse() != Ok(libc::SYS_epoll_wait) {
        return None;
    }
    let timeout = i64::from_str_radix(words.get(4)?.trim_start_matches("0x"), 16).ok()? as i32;
    (timeout >= 0).then(|| timeout.into())
}

fn sorted<const N: usize>(mut pids: [i32; N]) -> [i32; N] {
    pids.sort_unstable();
    pids
}
