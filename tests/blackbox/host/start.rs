//! Starting a relay while others start one, too: who waits, who takes over, and who is told why there is none.
//!
//! **Invariant:** who waits, waits in the kernel; the tests look at `/proc/locks` for that, not at a clock.

use super::lock_file;
use crate::support::Spawned;
use crate::*;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

/// BS-10, PX-7: a relay that cannot start says why to the command that started it, at once.
#[test]
fn a_relay_that_cannot_start_is_quoted_by_the_command_that_needed_it() {
    let house = House::new();
    let _ = house.run(&["up"]).ok();
    let _ = house.run(&["down"]).ok();
    let db = house.bundle_dir().join("mail.db");
    fs::write(&db, "this is not a database, and is long enough to be looked at as one").expect("ours");
    let text = refused(agent(&house, &["send", "operator", "x"]).run(), 74);
    assert!(text.contains("mail.db refused: "), "{text}");
    let error = refused_json(agent(&house, &["send", "operator", "x", "--json"]).run(), 74, "io");
    assert!(error["message"].as_str().is_some_and(|m| m.contains("mail.db refused: ")), "{error}");
    house.wait_until_empty(SOON);
}

/// BS-1, BS-11, PX-2: who waits for another's start takes over as soon as that one is gone, without polling.
#[test]
fn a_waiter_takes_over_when_the_holder_of_the_spawn_lock_is_gone() {
    let house = House::new();
    let _ = house.run(&["up"]).ok();
    let _ = house.run(&["down"]).ok();
    let path = house.bundle_dir().join("spawn.lock");
    let file = File::options().read(true).write(true).open(&path).expect("it was made");
    let inode = file.metadata().expect("open").ino();
    let held = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error).expect("nobody has it");
    let sender = agent(&house, &["send", "operator", "x"]).spawn();
    wait_for_waiters(&house, inode, 1);
    assert!(!sender.has_exited() && house.relay_log().matches(" started, pid ").count() == 1);
    drop(held);
    let ran = sender.finish(SOON).ok();
    assert!(is_id(ran.stdout.trim_end()), "{}", ran.evidence());
}

/// BS-1, BS-2, PX-2, PX-8: a killed starter leaves its relay on its way; that one holds the start's lock itself, so the next
/// command waits for it, in the kernel, and starts no second one.
#[test]
fn a_killed_starter_lets_nobody_start_a_second_relay() {
    let house = House::new();
    let _ = house.run(&["up"]).ok();
    let _ = house.run(&["down"]).ok();
    // The relay cannot get on: for the time of this test its own lock is held, as by one that is leaving.
    let (leaving, spawn) = (lock_file(&house, "relay.lock"), lock_file(&house, "spawn.lock"));
    let held =
        Flock::lock(leaving, FlockArg::LockExclusive).map_err(|(_, error)| error).expect("nobody has it");
    let inode = held.metadata().expect("open").ino();
    let mut starter = agent(&house, &["send", "operator", "never"]).spawn();
    wait_for_waiters(&house, inode, 1);
    starter.kill();
    let next = agent(&house, &["send", "operator", "x"]).spawn();
    wait_for_waiters(&house, spawn.metadata().expect("open").ino(), 1);
    drop(held);
    let _ = sent_id(&next.finish(SOON).ok());
    let log = house.relay_log();
    assert_eq!((log.matches(" started, pid ").count(), log.matches("start failed").count()), (2, 0), "{log}");
}

/// BS-10, PX-7: of many commands that wait for one start, each hears why it failed, and none starts the next failing one.
#[test]
fn the_cause_of_a_failed_start_is_quoted_by_everybody_who_waited_for_it() {
    const COMMANDS: usize = 24;
    let house = House::new();
    let _ = house.run(&["up"]).ok();
    let _ = house.run(&["down"]).ok();
    fs::write(house.bundle_dir().join("mail.db"), "this is not a database ".repeat(100)).expect("ours");
    for round in 1..=support::rounds::rounds(1) {
        let file = lock_file(&house, "spawn.lock");
        let inode = file.metadata().expect("open").ino();
        let held =
            Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error).expect("nobody has it");
        let senders: Vec<Spawned> =
            (0..COMMANDS).map(|_| agent(&house, &["send", "operator", "x"]).spawn()).collect();
        wait_for_waiters(&house, inode, COMMANDS);
        let begun = std::time::Instant::now();
        drop(held);
        for sender in senders {
            let text = refused(sender.finish(SOON), 74);
            assert!(text.contains("mail.db refused: "), "{text}");
        }
        println!("{COMMANDS} commands heard why within {} ms", begun.elapsed().as_millis());
        assert_eq!(house.relay_log().matches("start failed").count() as u64, round, "one relay for all");
    }
    house.wait_until_empty(SOON);
}

/// BS-4, PX-1: who holds up a start is named, and how long a command waits is the person's to say.
/// Symptom: a relay that was started by hand as clients start theirs could not be ended by a signal. Cause: it took a descriptor that
/// nobody had given it, and with it lost the one that signals come by.
#[test]
fn a_relay_is_not_started_as_by_a_client_where_no_client_waits() {
    let house = House::new();
    let text = refused(house.call(&["host", "relay", "--spawned"]).deadline(SOON).run(), 2);
    assert!(text.contains("start refused: ") && text.contains("hint: start one by hand"), "{text}");
    assert_eq!(house.processes(), Vec::<i32>::new());
}

#[test]
fn who_holds_up_a_start_is_named() {
    let house = House::new();
    let _ = house.run(&["up"]).ok();
    let _ = house.run(&["down"]).ok();
    let config = house.config_dir().join("config.toml");
    fs::write(&config, "start_timeout = \"300ms\"\n").expect("the house is writable");
    let file = lock_file(&house, "spawn.lock");
    let held = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error).expect("nobody has it");
    let text = refused(agent(&house, &["send", "operator", "x"]).run(), 75);
    let me = format!("another start has been under way for 300 ms: pid {}\n", std::process::id());
    assert!(text.contains(&me), "{text}");
    drop(held);
    fs::remove_file(&config).expect("ours");
    let _ = mail_to_operator(&house, "x");
    let pid = house.relay_pid().expect("a relay runs");
    fs::write(&config, "start_timeout = \"300ms\"\n").expect("the house is writable");
    let relay = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::kill(relay, Signal::SIGSTOP).expect("ours");
    let text = refused(agent(&house, &["send", "operator", "x"]).run(), 75);
    assert!(text.contains(&format!("pid {pid} (stopped)")) && text.contains("within 300 ms"), "{text}");
    assert!(text.contains("hint: ") && text.contains("kill -CONT"), "{text}");
    nix::sys::signal::kill(relay, Signal::SIGCONT).expect("ours");
    fs::write(&config, "start_timeout = \"60s\"\n").expect("the house is writable");
    let _ = mail_to_operator(&house, "x");
    assert_eq!(house.processes(), [pid]);
    for bad in ["\"1ms\"", "\"1d\"", "\"soon\""] {
        fs::write(&config, format!("start_timeout = {bad}\n")).expect("the house is writable");
        let text = refused(house.run(&["status"]), 2);
        assert!(text.contains("`start_timeout`") && text.contains("hint: "), "{bad}: {text}");
    }
}

/// Waits until so many processes wait for the lock on this file.
fn wait_for_waiters(house: &House, inode: u64, count: usize) {
    house.poll("commands to wait for the lock", SOON, || {
        let locks = fs::read_to_string("/proc/locks").expect("a Linux /proc");
        let waits = |line: &&str| line.contains("->") && line.contains(&format!(":{inode} "));
        if locks.lines().filter(waits).count() >= count { Ok(()) } else { Err(locks) }
    });
}
