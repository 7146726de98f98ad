//! A relay that dies without warning: the next command starts another, and what was accepted is there.

use crate::*;
use std::fs;
use std::os::unix::fs::FileTypeExt;

/// What a dead relay left behind is in nobody's way.
#[test]
fn after_kill_nine_the_next_command_starts_a_relay_over_the_stale_socket() {
    let house = House::new();
    let id = mail_to_operator(&house, "kept");
    let socket = house.bundle_dir().join("relay.sock");
    for _ in 0..3 {
        let pid = house.relay_pid().expect("a relay runs");
        house.kill_nine(pid);
        assert!(
            fs::symlink_metadata(&socket).is_ok_and(|meta| meta.file_type().is_socket()),
            "it is stale now"
        );
        assert_eq!(state(&house, &id), "queued");
        assert_ne!(house.relay_pid(), Some(pid));
    }
}

/// Users 9: the program that a waiting command runs from is upgraded under it; it still brings the relay back.
#[test]
fn a_command_whose_own_program_was_removed_still_starts_a_relay() {
    let team = Team::asleep(&["reviewer"]);
    let house = &team.house;
    let copy = house.dir().join("agentmux-to-be-upgraded");
    support::copy_program(env!("CARGO_BIN_EXE_agentmux"), &copy);
    let mut command = house.command(&copy);
    command.args(["send", "reviewer", "hello", "--wait", "--json"]);
    let waiting = house.call_of(command).spawn();
    house.poll("the mail", SOON, || match counts(house)["queued"].as_i64() {
        Some(1) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let pid = house.relay_pid().expect("a relay runs");
    let program = fs::read_link(format!("/proc/{pid}/exe")).expect("ours");
    assert_eq!(program, copy, "the waiting command started it");
    fs::remove_file(&copy).expect("ours");
    house.kill_nine(pid);
    house.poll("another relay", SOON, || match house.relay_pid() {
        Some(again) if again != pid => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let _ = house.run(&["up"]).ok();
    let sent = waiting.finish(SOON).ok().json();
    assert_eq!(sent["deliveries"][0]["state"], "consumed", "{sent}");
}

/// A relay that runs out of memory ends like one that is killed: what was accepted is on disk, and the next one goes on.
#[test]
fn a_relay_that_runs_out_of_memory_loses_nothing_that_it_accepted() {
    let team = Team::asleep(&["reviewer"]);
    let house = &team.house;
    let _ = house.run(&["up", "reviewer"]).ok();
    let _ = house.run(&["down", "reviewer"]).ok();
    let pid = house.relay_pid().expect("a relay runs");
    let pages: u64 = fs::read_to_string(format!("/proc/{pid}/statm"))
        .ok()
        .and_then(|text| text.split(' ').next()?.parse().ok())
        .expect("a Linux /proc");
    let mut limit = house.command("prlimit");
    limit.args(["--pid", &pid.to_string(), &format!("--as={}", pages * 4096 + 2_000_000)]);
    let _ = house.call_of(limit).run().ok();
    let mut accepted = Vec::new();
    let body = "x".repeat(900_000);
    for _ in 0..12 {
        let ran = house.run_with_stdin(&["send", "reviewer", "-"], body.clone());
        if ran.code == 0 {
            accepted.push(sent_id(&ran));
        }
    }
    assert_ne!(house.relay_pid(), Some(pid), "it did not survive\n{}", house.relay_log());
    assert!(!accepted.is_empty());
    for id in &accepted {
        assert_eq!(state(house, id), "queued");
    }
    println!("{} of 12 mails accepted", accepted.len());
}
