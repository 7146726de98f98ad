//! `agentmux host`: the relay as a process, with what it has of the command that started it and what it has not; one file below
//! for each other promise of the relay, and one for the tools of an agent.

mod account;
mod address;
mod busy;
mod crash;
mod descriptors;
mod files;
mod foreign;
mod leaving;
mod lock;
mod mcp;
mod mount;
mod start;
mod surroundings;
mod systemd;
mod upgrade;
mod verbs;

use crate::*;
use std::fs::{self, File};
use std::path::PathBuf;

/// PX-10, PX-11: a relay has nothing of the command that started it: no terminal, no pipe, no directory, no secrets.
#[test]
fn a_started_relay_is_detached_from_the_command_that_started_it() {
    let house = House::new();
    let kept_open = house.dir().join("kept-open");
    let script = "exec 7<\"$1\" 9>>\"$1\"; exec \"$0\" send operator hello";
    let mut shell = house.command("sh");
    shell.args(["-c", script, env!("CARGO_BIN_EXE_agentmux")]).arg(&kept_open);
    fs::write(&kept_open, "").expect("the house is writable");
    let marks = [
        ("CLAUDECODE", "1"),
        ("CODEX_THREAD_ID", "mark-of-a-thread"),
        ("CODEX_SANDBOX", "seatbelt"),
        ("AGENTMUX_SESSION", "mark-of-a-session"),
        ("AGENTMUX_TOKEN", "secret-token"),
        ("OPENAI_API_KEY", "secret-key"),
    ];
    shell.envs(marks);
    let _ = house.call_of(shell).run().ok();
    let pid = house.relay_pid().expect("a relay was started");
    let proc = PathBuf::from(format!("/proc/{pid}"));
    assert_eq!(fs::read_link(proc.join("cwd")).expect("ours"), PathBuf::from("/"));
    let stat = fs::read_to_string(proc.join("stat")).expect("it runs");
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let of = |index: usize| fields[index].parse::<i32>().unwrap_or(-2);
    assert_eq!((of(2), of(3), of(4)), (pid, pid, 0), "group and session of its own, no terminal: {stat}");
    let mut links = Vec::new();
    for entry in fs::read_dir(proc.join("fd")).expect("ours").flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        links.push((entry.file_name().to_string_lossy().into_owned(), target));
    }
    for number in ["0", "1", "2"] {
        let target = links.iter().find(|(name, _)| name == number).map(|(_, target)| target.clone());
        assert_eq!(target, Some(PathBuf::from("/dev/null")), "{links:?}");
    }
    let foreign = |target: &PathBuf| {
        target == &kept_open || (target.starts_with(house.dir()) && !target.starts_with(house.bundle_dir()))
    };
    assert!(!links.iter().any(|(_, target)| foreign(target)), "{links:?}");
    assert!(!links.iter().any(|(_, target)| target.to_string_lossy().starts_with("pipe:")), "{links:?}");
    let environ = fs::read(proc.join("environ")).expect("ours");
    let environ = String::from_utf8_lossy(&environ);
    for (name, value) in marks {
        assert!(!environ.contains(name) && (value == "1" || !environ.contains(value)), "{name} in {environ}");
    }
    let cmdline = fs::read(proc.join("cmdline")).expect("ours");
    assert!(!String::from_utf8_lossy(&cmdline).contains("secret"));
}

fn lock_file(house: &House, name: &str) -> File {
    File::options().read(true).write(true).open(house.bundle_dir().join(name)).expect("it was made")
}

fn wait_until_it_serves(house: &House) {
    house.poll("the relay to serve", SOON, || match house.run(&["status", "--json"]).json() {
        status if status["relay"]["running"] == true => Ok(()),
        status => Err(status.to_string()),
    });
}
