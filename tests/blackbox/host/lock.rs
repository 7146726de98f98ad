//! Exactly one relay: `relay.lock` refuses a second one, names the first to people, and is not lost with its file.

use super::wait_until_it_serves;
use crate::*;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use std::fs::{self, File};

/// BS-2, BS-3: a second relay neither takes over nor disturbs the first one; it names it and goes.
#[test]
fn a_relay_in_the_foreground_serves_until_it_is_told_to_go_and_a_second_one_is_refused() {
    let house = House::new();
    let first = house.spawn(&["host", "relay"]);
    wait_until_it_serves(&house);
    let pid = first.id();
    assert_eq!(house.relay_pid(), Some(pid));
    for _ in 0..3 {
        let second = house.run(&["host", "relay"]).fails(7);
        let text = second.stderr.clone();
        assert!(
            text.contains(&format!("pid={pid}")) && text.contains("a relay of this bundle is running"),
            "{text}"
        );
        assert_eq!(second.stdout, "");
    }
    assert_eq!(house.run(&["status", "--json"]).json()["relay"]["pid"].as_i64(), Some(i64::from(pid)));
    assert!(first.stderr().contains(" started, pid "), "it logs to stderr: {}", first.stderr());
    first.signal(Signal::SIGTERM);
    let ran = first.finish(SOON).ok();
    assert_eq!(ran.stdout, "");
    assert!(!house.bundle_dir().join("relay.sock").exists(), "{}", ran.evidence());
    assert_eq!(house.processes(), Vec::<i32>::new());
    assert_eq!(fs::read_to_string(house.bundle_dir().join("relay.lock")).expect("the file stays"), "");
    let _ = house.run(&["status", "--json"]).json();
}

/// LK-5, LK-9: the lock names its holder so that nobody else can be mistaken for it; people read it, nothing decides by it.
#[test]
fn the_lock_tells_people_who_holds_it() {
    let house = House::new();
    let _ = house.run(&["up"]).ok();
    let pid = house.relay_pid().expect("a relay runs");
    let text = fs::read_to_string(house.bundle_dir().join("relay.lock")).expect("it is there");
    let keys: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    assert_eq!(keys, ["pid", "start", "boot", "host", "machine", "version", "since"]);
    let value =
        |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().to_owned();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let ticks = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(19)).unwrap_or_default();
    assert_eq!(value("start="), ticks);
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("a Linux /proc");
    assert_eq!(value("boot="), boot.trim());
    assert_eq!(value("version="), env!("CARGO_PKG_VERSION"));
    assert!(is_time(&value("since=").into()), "{text}");
}

/// LK-5, LK-9, users 10: where a home is shared, a pid of another host is nobody here; its relay is named with its host, at once
/// by the relay that would start and by the command that wanted one.
#[test]
fn a_relay_of_another_host_is_named_with_its_host() {
    let house = House::new();
    let _ = house.run(&["up"]).ok();
    let _ = house.run(&["down"]).ok();
    let path = house.bundle_dir().join("relay.lock");
    let file = File::options().read(true).write(true).open(&path).expect("it was made");
    // The flock of this process stands for that of the other host's relay.
    let held = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error).expect("nobody has it");
    let own = nix::unistd::gethostname().expect("a host has a name").to_string_lossy().into_owned();
    let text = |host: &str| {
        format!(
            "pid=1\nstart=1\nboot=b\nhost={host}\nmachine=of-another-machine\nversion=0.1.0\nsince=then\n"
        )
    };
    for (host, place) in [("elsewhere", "elsewhere"), (&own, &format!("{own} (machine of-another-machine)"))]
    {
        fs::write(&path, text(host)).expect("ours");
        let named = format!("is running on another host: pid 1 on host {place} (running since then)");
        for command in [&["host", "relay"][..], &["up"]] {
            let ran = house.run(command).fails(7);
            assert!(ran.stderr.contains(&named), "{named}\n{}", ran.evidence());
            assert!(
                ran.stderr.contains(&format!("hint: stop it there (on {host}: agentmux down)")),
                "{}",
                ran.evidence()
            );
        }
    }
    house.wait_until_empty(SOON);
    drop(held);
    let _ = house.run(&["up"]).ok();
}

/// BS-14: a lock file that a cleaner removes does not let two relays in: the running one takes it again under its name.
#[test]
fn a_removed_lock_file_is_taken_again() {
    let house = House::new();
    let _ = house.run(&["up"]).ok();
    let pid = house.relay_pid().expect("a relay runs");
    fs::remove_file(house.bundle_dir().join("relay.lock")).expect("ours");
    house.poll("the lock to come back", SOON, || match house.relay_pid() {
        Some(again) if again == pid => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let second = house.run(&["host", "relay"]).fails(7);
    assert!(second.stderr.contains(&format!("pid={pid}")), "{}", second.evidence());
    assert_eq!(house.processes(), [pid]);
}
