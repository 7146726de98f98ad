//! The keeper between the real relay and a program that ends in every way: what is reported is what became of the child.

use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::link::{DEADLINE, FAKE, house, spawned, wait_for_state};
use super::support::copy_program;
use super::support::house::House;

fn child(house: &House) -> i32 {
    let status = house.run(&["status", "--json"]).ok().json();
    let pid = status["children"][0]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
    pid.unwrap_or_else(|| panic!("a child runs: {status}"))
}

/// The word at this place behind the program's name in `/proc/PID/stat`: 0 is the state, 1 the parent.
fn stat(pid: i32, field: usize) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let rest = stat.rsplit(')').next().unwrap_or_default().trim_start().to_owned();
    rest.split(' ').nth(field).unwrap_or_default().to_owned()
}

fn keeper_of(child: i32) -> i32 {
    stat(child, 1).parse().expect("the child runs")
}

/// Waits for the report of a child's end, and for the next child.
fn report(house: &House, ended: i32) -> String {
    let why = house.poll("the report", DEADLINE, || {
        let log = house.run(&["log", "--json"]).ok().json_lines();
        let of_child = log.iter().find(|line| line["event"] == "childExited" && line["pid"] == ended);
        let why = of_child.and_then(|line| line["why"].as_str().map(str::to_owned));
        why.ok_or_else(|| format!("{log:?}"))
    });
    let _ = wait_for_state(house, "idle");
    why
}

/// A child's end is told as it was, though its keeper stands between: any signal, with or without a core, and a code.
#[test]
fn the_end_of_a_child_is_reported_as_it_was() {
    let nameless = libc::SIGRTMIN() + 5;
    for (signal, told) in [
        (libc::SIGKILL, "was ended by SIGKILL".to_owned()),
        (libc::SIGTERM, "was ended by SIGTERM".to_owned()),
        (libc::SIGQUIT, "was ended by SIGQUIT".to_owned()),
        (libc::SIGUSR1, "was ended by SIGUSR1".to_owned()),
        (nameless, format!("was ended by signal {nameless}")),
    ] {
        let house = spawned("");
        let child = child(&house);
        let sent = Command::new("/bin/kill").args([format!("-{signal}"), child.to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "it is ours");
        assert_eq!(report(&house, child), told);
    }
    let house = spawned("");
    let child = child(&house);
    std::fs::write(house.codex_home().join("fake"), "exit").expect("the Codex home is writable");
    kill(Pid::from_raw(child), Signal::SIGKILL).expect("it is ours");
    let failed = wait_for_state(&house, "failed");
    assert!(
        failed["reason"]
            .as_str()
            .unwrap_or_default()
            .contains("exited with code 3: starting up | Error: the conf"),
        "{failed}"
    );
}

/// What is shown and signalled is the child, not its keeper; a keeper that is asked to end passes that on, and ends with it.
#[test]
fn a_keeper_passes_on_what_asks_it_to_end() {
    let house = spawned("");
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let child = child(&house);
        let words = std::fs::read(format!("/proc/{child}/cmdline")).expect("it runs");
        assert!(String::from_utf8_lossy(&words).starts_with(&FAKE.display().to_string()), "{words:?}");
        kill(Pid::from_raw(keeper_of(child)), signal).expect("it is ours");
        assert_eq!(report(&house, child), format!("was ended by {signal}"));
    }
    // What does not ask for an end means nothing to it.
    let child = child(&house);
    for signal in [Signal::SIGUSR1, Signal::SIGPIPE, Signal::SIGALRM, Signal::SIGQUIT, Signal::SIGTSTP] {
        kill(Pid::from_raw(keeper_of(child)), signal).expect("it is ours");
    }
    let sent = house.run(&["send", "reviewer", "hello", "--wait", "--json"]).ok().json();
    assert_eq!(sent["deliveries"][0]["state"], "consumed", "{sent}");
    assert_eq!(self::child(&house), child);
}

/// NB-5: a keeper that is stopped holds nobody up when its child dies: it is killed after its time.
#[test]
fn a_keeper_that_hangs_is_given_up() {
    let house = spawned("");
    let child = child(&house);
    let keeper = keeper_of(child);
    kill(Pid::from_raw(keeper), Signal::SIGSTOP).expect("it is ours");
    kill(Pid::from_raw(child), Signal::SIGKILL).expect("it is ours");
    assert_eq!(report(&house, child), "was ended by SIGKILL");
    assert!(house.relay_log().contains("did not end after its child and is killed"));
    assert!(!house.processes().contains(&keeper));
}

/// PX-8: a relay that dies at once after it has started a keeper leaves no second child: the next relay adopts that one.
#[test]
fn a_relay_that_dies_while_its_child_starts_leaves_one_child() {
    let house = spawned("");
    for _ in 0..8 {
        let before = child(&house);
        house.kill_nine(before);
        // The next child is being started.
        house.poll("the next start", DEADLINE, || {
            let starts = house.relay_log().matches("is started: keeper").count();
            let ends = house.relay_log().matches("was ended by SIGKILL").count();
            if starts > ends { Ok(()) } else { Err(format!("{starts} {ends}")) }
        });
        house.kill_nine(house.relay_pid().expect("a relay runs"));
        let sent = house.run(&["send", "reviewer", "hello", "--wait", "--json"]).ok().json();
        assert_eq!(sent["deliveries"][0]["state"], "consumed", "{sent}");
        let of_bundle = |pid: &i32| {
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&words).contains("app-server")
        };
        house.poll("one child and its keeper", DEADLINE, || {
            let found: Vec<i32> = house.processes().into_iter().filter(of_bundle).collect();
            if found.len() == 2 { Ok(()) } else { Err(format!("{found:?}")) }
        });
    }
    let _ = house.run(&["down"]).ok();
    house.wait_until_empty(DEADLINE);
}

/// Users 9: a child that a relay of an earlier version has started, without a keeper, is adopted all the same; the next one has one.
#[test]
fn a_child_without_a_keeper_is_adopted() {
    let house = spawned("");
    let logs = std::fs::read_dir(house.bundle_dir().join("children")).expect("it is there").flatten();
    let names = logs.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let log = names.into_iter().find(|name| name.ends_with(".log")).expect("the child's log");
    let kept = child(&house);
    house.kill_nine(house.relay_pid().expect("a relay runs"));
    house.kill_nine(keeper_of(kept));
    house.poll("the child's end", DEADLINE, || match stat(kept, 0).as_str() {
        "" | "Z" => Ok(()),
        state => Err(state.to_owned()),
    });
    let address = format!("unix://{}", house.bundle_dir().join("codex.sock").display());
    let mut bare = house.command(&*FAKE);
    bare.args(["app-server", "--listen", &address]).env("AGENTMUX_CHILD", log.trim_end_matches(".log"));
    let mut bare = bare.spawn().expect("the fake starts");
    let pid = i32::try_from(bare.id()).expect("a pid");
    let sent = house.run(&["send", "reviewer", "hello", "--wait", "--json"]).ok().json();
    assert_eq!(sent["deliveries"][0]["state"], "consumed", "{sent}");
    assert_eq!(child(&house), pid, "it was adopted");
    bare.kill().expect("it is ours");
    assert_eq!(report(&house, pid), "ended");
    bare.wait().expect("it is ours");
    let words = std::fs::read(format!("/proc/{}/cmdline", keeper_of(child(&house)))).expect("it runs");
    assert!(String::from_utf8_lossy(&words).contains("host\0keep\0"), "the next one has a keeper");
    let _ = house.run(&["down"]).ok();
    house.wait_until_empty(DEADLINE);
}

/// Users 9: a relay whose program was deleted under it starts its next child like any.
#[test]
fn a_relay_whose_program_is_gone_starts_children() {
    let house = house("");
    let copy = house.dir().join("agentmux-to-be-deleted");
    copy_program(env!("CARGO_BIN_EXE_agentmux"), &copy);
    let by = |program: &Path, words: &[&str]| {
        let mut command = house.command(program);
        command.args(words);
        house.call_of(command).run()
    };
    let _ = by(&copy, &["spawn", "reviewer"]).ok();
    std::fs::remove_file(&copy).expect("it is ours");
    let child = child(&house);
    house.kill_nine(child);
    assert_eq!(report(&house, child), "was ended by SIGKILL");
    let sent = house.run(&["send", "reviewer", "hello", "--wait", "--json"]).ok().json();
    assert_eq!(sent["deliveries"][0]["state"], "consumed", "{sent}");
    let _ = house.run(&["down"]).ok();
    house.wait_until_empty(DEADLINE);
}

/// BS-10: a child that cannot be run says why, and which program it was; a keeper is nothing to be started by hand.
#[test]
fn a_child_that_cannot_be_run_says_why() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = dir.path().join("codex");
    copy_program(&*FAKE, &program);
    let house = House::with_codex(&program);
    let _ = house.run(&["spawn", "reviewer"]).ok();
    let _ = house.run(&["down"]).ok();
    std::fs::remove_file(&program).expect("it is ours");
    let _ = house.run(&["up", "reviewer"]);
    let failed = wait_for_state(&house, "failed");
    let reason = failed["reason"].as_str().unwrap_or_default();
    let why = format!("could not be started: {}: No such file or directory", program.display());
    assert!(reason.contains(&why), "{failed}");
    let ran = house.run(&["host", "keep", "--", "/bin/true"]).fails(2);
    assert!(ran.stderr.contains("keep refused"), "{}", ran.evidence());
}
