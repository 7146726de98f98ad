//! A relay that leaves: told by a signal, without anything left to serve, or with nothing to do.

use super::wait_until_it_serves;
use crate::*;
use nix::sys::signal::Signal;
use std::fs;

#[test]
fn a_signal_ends_the_children_too_and_what_was_wanted_comes_up_again() {
    let team = Team::nobody();
    let house = &team.house;
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
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
