//! Measures a team: 20 sessions on one child, against a child for each; the relay beside its child while all of them stream; idleness.
//!
//! `scripts/bench` builds the house that this runs in. Everything is one run, and what is told are ratios.
//!
//! **Invariant:** memory is told as resident and as a process's own (anonymous, proportional), CPU in ticks of the kernel.
//! Deliberately absent: absolute goals, which would judge the machine; the goals stand in `src/README.md`.

#[path = "place.rs"]
mod place;

use std::io::BufReader;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use place::{Place, round_trip, status_field};
use serde_json::Value;

const SESSIONS: usize = 20;
const ALONE: usize = 3;
const LISTS: usize = 400;

fn main() {
    let mut words = std::env::args().skip(1);
    let place = Place::of(&mut words, "bench-team HOUSE AGENTMUX SECONDS", "team");
    let seconds: u64 = words.next().and_then(|text| text.parse().ok()).expect("seconds of idleness to watch");
    let run = |words: &[&str]| {
        let output =
            Command::new(&place.agentmux).args(words).stdin(Stdio::null()).output().expect("agentmux runs");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    run(&["inbox"]);
    let relay = place.relay_pid().expect("a relay runs");
    let bare = memory(relay);
    for n in 0..SESSIONS {
        run(&["spawn", &format!("s{n}")]);
    }
    let child = pids_of_children(&run(&["status", "--json"]))[0];
    run(&["send", "@all", "a first turn for everybody", "--wait"]);
    settle(&run);
    let (with, shared) = (memory(relay), memory(child));
    println!(
        "relay: {} KiB resident ({} its own) without sessions, {} ({}) with {SESSIONS}: {:+.1} MB",
        bare.0,
        bare.1,
        with.0,
        with.1,
        (with.0 as f64 - bare.0 as f64) / 1024.0
    );
    for n in 0..ALONE {
        run(&["spawn", &format!("alone{n}"), "--isolated"]);
        run(&["send", &format!("alone{n}"), "a first turn for it", "--wait"]);
    }
    settle(&run);
    let alone: Vec<(u64, u64)> = pids_of_children(&run(&["status", "--json"]))
        .into_iter()
        .filter(|pid| *pid != child)
        .map(memory)
        .collect();
    assert_eq!(alone.len(), ALONE);
    let mean = |of: fn(&(u64, u64)) -> u64| alone.iter().map(of).sum::<u64>() as f64 / ALONE as f64;
    let (resident, own) = (mean(|m| m.0), mean(|m| m.1));
    println!(
        "child of {SESSIONS} sessions: {} KiB resident ({} its own); a child for each: {resident:.0} ({own:.0}); {SESSIONS} of them are {:.1} ({:.1}) times as much",
        shared.0,
        shared.1,
        resident * SESSIONS as f64 / shared.0 as f64,
        own * SESSIONS as f64 / shared.1 as f64
    );
    for n in 0..ALONE {
        run(&["remove", &format!("alone{n}")]);
    }
    settle(&run);
    let ((mut idle, mut idle_alone), mut idle_asked) = (lists(&place.agentmux), asks(&place));
    let streaming = Arc::new(AtomicBool::new(true));
    let (flag, mut fed) = (Arc::clone(&streaming), place.connect());
    let feeder = std::thread::spawn(move || feed(&mut fed, &flag));
    // All have begun when the first mails are inside.
    run(&["send", "s0", "stream please", "--wait"]);
    let (before, began) = ((ticks(relay), ticks(child)), Instant::now());
    // A stretch of time is measured, because of which nothing is asked in it.
    std::thread::sleep(Duration::from_secs(10));
    let (after, took) = ((ticks(relay), ticks(child)), began.elapsed());
    let mut spread = (lists(&place.agentmux), asks(&place));
    confine(child);
    let mut confined = (lists(&place.agentmux), asks(&place));
    streaming.store(false, Ordering::Relaxed);
    let mails = feeder.join().expect("the feeder ends");
    let (ours, theirs) = (after.0 - before.0, after.1 - before.1);
    println!(
        "{SESSIONS} streaming at once for {:.0} s ({mails} turns asked for): relay {ours} ticks, child {theirs}: {:.1} %",
        took.as_secs_f64(),
        100.0 * ours as f64 / theirs.max(1) as f64
    );
    for (where_, ((busy, busy_alone), busy_asked)) in
        [("on every processor", &mut spread), ("on one processor", &mut confined)]
    {
        println!("while the child streams {where_}:");
        quantiles("  agentmux list, a process each", &mut idle, busy);
        quantiles("  agentmux --version, which asks nobody", &mut idle_alone, busy_alone);
        quantiles("  session/list over one connection", &mut idle_asked, busy_asked);
    }
    settle(&run);
    still(relay, seconds, &place.house);
}

/// Keeps every session streaming: mail for all whenever it may go in; returns how many turns were asked for.
fn feed(relay: &mut BufReader<UnixStream>, streaming: &AtomicBool) -> usize {
    let mut mails = 0;
    while streaming.load(Ordering::Relaxed) {
        for n in 0..SESSIONS {
            let line = format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"mail/send","params":{{"to":["s{n}"],"body":"stream please"}}}}"#
            );
            round_trip(relay, &line);
            mails += 1;
        }
        // Each wave is one batch per session at most; the pause keeps the queues from growing without end, because a turn takes longer.
        std::thread::sleep(Duration::from_millis(250));
    }
    mails
}

/// How long `list` takes, and in turn with it a command that asks no relay: what a process costs on this machine right now.
fn lists(agentmux: &Path) -> (Vec<Duration>, Vec<Duration>) {
    let run = |word: &str| {
        let began = Instant::now();
        let status = Command::new(agentmux).arg(word).stdin(Stdio::null()).stdout(Stdio::null()).status();
        assert!(status.is_ok_and(|status| status.success()));
        began.elapsed()
    };
    (0..LISTS).map(|_| (run("list"), run("--version"))).unzip()
}

/// Leaves all processors but the first to everybody else: what the child does not take is what commands can have.
fn confine(child: i32) {
    let confined =
        Command::new("taskset").args(["-acp", "0", &child.to_string()]).stdout(Stdio::null()).status();
    assert!(confined.is_ok_and(|status| status.success()), "taskset runs");
}

fn asks(place: &Place) -> Vec<Duration> {
    let mut relay = place.connect();
    let line = r#"{"jsonrpc":"2.0","id":1,"method":"session/list"}"#;
    (0..LISTS).map(|_| round_trip(&mut relay, line)).collect()
}

fn quantiles(what: &str, idle: &mut [Duration], busy: &mut [Duration]) {
    let of = |all: &mut [Duration], percent: usize| {
        all.sort();
        all[(all.len() * percent / 100).min(all.len() - 1)].as_secs_f64() * 1e3
    };
    let (idle_99, busy_99) = (of(idle, 99), of(busy, 99));
    println!(
        "{what}: idle {:.2} / {idle_99:.2} ms (median/p99), streaming {:.2} / {busy_99:.2} ms: p99 {:.1} times",
        of(idle, 50),
        of(busy, 50),
        busy_99 / idle_99
    );
}

/// Waits until every session is idle with nothing pending.
fn settle(run: &impl Fn(&[&str]) -> String) {
    let is_quiet = || {
        let list: Value = serde_json::from_str(&run(&["list", "--json"])).expect("JSON");
        let sessions = list["sessions"].as_array().cloned().unwrap_or_default();
        sessions.iter().all(|session| session["state"] == "idle" && session["pending"] == 0)
    };
    while !is_quiet() {
        // A bounded number of turns is left, and the bench has nothing else to wait by, because an ended queue has no event.
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Counts what the relay asks of the kernel while nothing happens.
fn still(relay: i32, seconds: u64, house: &Path) {
    let trace = house.join("strace-team");
    let mut strace = Command::new("strace")
        .args(["-f", "-qq", "-o"])
        .arg(&trace)
        .args(["-p", &relay.to_string()])
        .stderr(Stdio::null())
        .spawn()
        .expect("strace runs");
    // Nothing is waited for: that nothing happens is what is measured, because of which there is no event.
    std::thread::sleep(Duration::from_secs(seconds));
    let pid = nix::unistd::Pid::from_raw(i32::try_from(strace.id()).expect("a pid"));
    let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
    let _ = strace.wait();
    let calls = std::fs::read_to_string(&trace).unwrap_or_default();
    println!("{SESSIONS} idle sessions for {seconds} s: {} system calls of the relay", calls.lines().count());
    calls.lines().take(12).for_each(|line| println!("    {}", line.chars().take(120).collect::<String>()));
}

fn pids_of_children(status: &str) -> Vec<i32> {
    let status: Value = serde_json::from_str(status).expect("JSON");
    let pid = |child: &Value| child["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
    status["children"].as_array().into_iter().flatten().filter_map(pid).collect()
}

/// Resident memory and the process's own, in KiB.
fn memory(pid: i32) -> (u64, u64) {
    (status_field(pid, "status", "VmRSS:"), status_field(pid, "smaps_rollup", "Pss_Anon:"))
}

/// CPU time of a process, in ticks of the kernel.
fn ticks(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    [11, 12].into_iter().filter_map(|at| fields.get(at)?.parse::<u64>().ok()).sum()
}
