//! Measures agentmux against the cheapest thing that does a comparable job, in one run, so that the figures are ratios.
//!
//! `scripts/bench` builds the house that this runs in (real Codex, scripted model) and calls it. The two commands of a pair alternate,
//! so that whatever else the machine does hits both; a ratio is one of medians.
//!
//! **Invariant:** whatever is timed has ended before the next is timed. Deliberately absent: absolute goals, which would judge the machine.

#[path = "place.rs"]
mod place;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use place::{Place, round_trip, status_field};

fn main() {
    let mut words = std::env::args().skip(1);
    let usage = "bench HOUSE AGENTMUX SECONDS [cold|warm|rate|crowd|pipe|mcp|idle]...";
    let place = Place::of(&mut words, usage, "bench");
    let seconds: u64 = words.next().and_then(|text| text.parse().ok()).expect("seconds of idleness to watch");
    let chosen: Vec<String> = words.collect();
    let wants = |part: &str| chosen.is_empty() || chosen.iter().any(|word| word == part);
    println!("{:<54} {:>6} {:>21} {:>21} {:>6}", "", "N", "ours median/p99", "theirs median/p99", "ratio");
    if wants("warm") {
        warm(&place, "stopped", 300);
        warm(&place, "s1", 60);
    }
    if wants("rate") {
        rate(&place);
        many(&place);
    }
    if wants("cold") {
        cold(&place, 40);
    }
    if wants("crowd") {
        crowd(&place, "stopped", 20);
        crowd(&place, "s1", 20);
    }
    if wants("pipe") {
        pipe(&place, 30);
    }
    if wants("mcp") {
        tools(&place, 100);
    }
    if wants("idle") {
        idle(&place, seconds);
    }
}

fn warm(place: &Place, to: &str, count: usize) {
    let n = count + 1_000;
    let mut server = place.tmux(n);
    server.args(["new-session", "-d"]);
    timed(&mut server);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    timed(&mut place.send(to)); // the relay runs from here on
    for _ in 0..count {
        ours.push(timed(&mut place.send(to)));
        let mut has = place.tmux(n);
        theirs.push(timed(has.arg("has-session")));
    }
    timed(place.tmux(n).arg("kill-server"));
    row(&format!("warm: send {to} | tmux has-session"), &mut ours, &mut theirs);
}

fn cold(place: &Place, count: usize) {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for n in 0..count {
        place.end_relay();
        ours.push(timed(&mut place.send("s1")));
        place.end_relay();
        let mut server = place.tmux(n);
        theirs.push(timed(server.args(["new-session", "-d"])));
        timed(place.tmux(n).arg("kill-server"));
    }
    row("cold: send s1 | tmux new-session -d", &mut ours, &mut theirs);
}

/// From the start of an agent's tools to the answer to `initialize`, beside a shell that answers as much without understanding it.
fn tools(place: &Place, count: usize) {
    timed(&mut place.send("stopped")); // the relay runs from here on
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let mut server = Command::new(&place.agentmux);
        ours.push(initialized(server.args(["host", "mcp", "--as", "visitor"])));
        let mut shell = Command::new("sh");
        theirs.push(initialized(
            shell.args(["-c", "read -r line; echo '{\"id\":1,\"result\":{}}'; read -r end"]),
        ));
    }
    row("host mcp until initialize | sh: read; echo", &mut ours, &mut theirs);
}

fn initialized(server: &mut Command) -> Duration {
    const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}"#;
    let began = Instant::now();
    let mut child =
        server.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    writeln!(stdin, "{INITIALIZE}").expect("it reads");
    let mut answer = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut answer).expect("it answers");
    let took = began.elapsed();
    assert!(answer.contains("\"result\""), "{answer}");
    drop(stdin);
    child.wait().expect("it ends");
    took
}

/// So many clients at once find nothing running; what counts is when the last of them has been served.
fn crowd(place: &Place, to: &str, rounds: usize) {
    const CLIENTS: usize = 64;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        place.end_relay();
        ours.push(all_at_once((0..CLIENTS).map(|_| place.send(to)).collect()));
        let n = 10_000 + round;
        let client = |name: usize| {
            let mut client = place.tmux(n);
            client.args(["new-session", "-d", "-s", &name.to_string()]);
            client
        };
        theirs.push(all_at_once((0..CLIENTS).map(client).collect()));
        timed(place.tmux(n).arg("kill-server"));
    }
    row(&format!("crowd: last of 64 cold send {to} | tmux new-session"), &mut ours, &mut theirs);
}

/// A cold start in a pipeline: whoever reads the pipe sees its end when the command ends, and not when the relay does.
fn pipe(place: &Place, count: usize) {
    let script = |words: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", words]).arg(&place.agentmux);
        shell
    };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..count {
        place.end_relay();
        ours.push(timed(&mut script("out=$(\"$0\" send stopped hi | cat)")));
        place.end_relay();
        theirs.push(timed(&mut script("\"$0\" send stopped hi")));
    }
    row("pipe: out=$(send stopped hi | cat) | without", &mut ours, &mut theirs);
}

/// One connection, one mail after the other; against one round trip over a socket with an appended line and its fdatasync.
fn rate(place: &Place) {
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    let (mut relay, mut plain) = (place.connect(), plain_log(place));
    for at in 0..600 {
        let line = send_line(at);
        ours.push(round_trip(&mut relay, &line));
        theirs.push(round_trip(&mut plain, &line));
    }
    row("accept: mail/send | append, fdatasync, reply", &mut ours, &mut theirs);
}

/// The same from 64 connections at once; theirs is one connection of ours.
fn many(place: &Place) {
    const CONNECTIONS: usize = 64;
    const EACH: usize = 40;
    let one = {
        let mut relay = place.connect();
        let began = Instant::now();
        (0..EACH * 8).for_each(|at| {
            round_trip(&mut relay, &send_line(at));
        });
        (EACH * 8) as f64 / began.elapsed().as_secs_f64()
    };
    let barrier = Barrier::new(CONNECTIONS + 1);
    let began = std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                let mut relay = place.connect();
                barrier.wait();
                (0..EACH).for_each(|at| {
                    round_trip(&mut relay, &send_line(at));
                });
            });
        }
        barrier.wait();
        Instant::now()
    });
    let all = (CONNECTIONS * EACH) as f64 / began.elapsed().as_secs_f64();
    println!(
        "{:<54} {:>6} {:>15.0} per s {:>15.0} per s {:>6.2}",
        "accept: 64 connections | one",
        CONNECTIONS * EACH,
        all,
        one,
        all / one
    );
}

/// Nothing may happen in a relay to which nobody speaks.
fn idle(place: &Place, seconds: u64) {
    let pid = place.relay_pid().unwrap_or_else(|| {
        timed(Command::new(&place.agentmux).arg("up").arg("s1"));
        place.relay_pid().expect("a relay runs")
    });
    // Mail of the other parts is still on its way, and no event tells a bench that it has arrived; what counts begins afterwards.
    let mut quiet = 0;
    while quiet < 10 {
        std::thread::sleep(Duration::from_millis(500));
        let now = switches(pid).0;
        std::thread::sleep(Duration::from_millis(500));
        quiet = if switches(pid).0 == now { quiet + 1 } else { 0 };
    }
    let before = switches(pid);
    let strace = Command::new("strace")
        .args(["-f", "-qq", "-o"])
        .arg(place.house.join("strace"))
        .args(["-p", &pid.to_string()])
        .stderr(Stdio::null())
        .spawn();
    std::thread::sleep(Duration::from_secs(seconds));
    let after = switches(pid);
    let calls = strace.ok().map(|mut strace| {
        let strace_pid = nix::unistd::Pid::from_raw(i32::try_from(strace.id()).expect("a pid"));
        let _ = nix::sys::signal::kill(strace_pid, nix::sys::signal::Signal::SIGTERM);
        let _ = strace.wait();
        std::fs::read_to_string(place.house.join("strace")).unwrap_or_default()
    });
    println!(
        "idle for {seconds} s, five sessions: {} voluntary and {} other context switches",
        after.0 - before.0,
        after.1 - before.1
    );
    match calls {
        Some(calls) => {
            println!("  strace: {} lines", calls.lines().count());
            calls.lines().take(20).for_each(|line| println!("  {line}"));
        }
        None => println!("  strace: not there"),
    }
    println!("relay's memory: {}", memory(pid));
}

impl Place {
    fn send(&self, to: &str) -> Command {
        let mut command = Command::new(&self.agentmux);
        command.args(["send", to, "a short line of mail"]);
        command
    }

    /// The `n`th tmux server; each has its own socket, because an ended one may still be leaving.
    fn tmux(&self, n: usize) -> Command {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(self.house.join(format!("tmux-{n}.sock"))).args(["-f", "/dev/null"]);
        command
    }

    /// Ends the relay and its child as a signal does: what is wanted of the sessions stays.
    fn end_relay(&self) {
        let Some(pid) = self.relay_pid() else { return };
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
        while Path::new(&format!("/proc/{pid}")).exists() {
            // A stranger's process; nobody tells, and only the time of the next command counts, because that is what is measured.
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn send_line(id: usize) -> String {
    format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"mail/send\",\"params\":{{\"to\":[\"stopped\"],\"body\":\"a short line of mail\"}}}}",
        id + 1
    )
}

/// The least that keeps the same promise: a line is on disk before it is answered.
fn plain_log(place: &Place) -> BufReader<UnixStream> {
    let path = place.bundle.join("bench.sock");
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).expect("a socket beside the relay's");
    let mut log = File::create(place.bundle.join("bench.log")).expect("a file beside the store");
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("one client");
        let mut lines = BufReader::new(stream);
        let mut line = String::new();
        while lines.read_line(&mut line).is_ok_and(|count| count > 0) {
            log.write_all(line.as_bytes()).and_then(|()| log.sync_data()).expect("the line is on disk");
            lines
                .get_mut()
                .write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n")
                .expect("the client listens");
            line.clear();
        }
    });
    BufReader::new(UnixStream::connect(&path).expect("our own socket"))
}

fn timed(command: &mut Command) -> Duration {
    let began = Instant::now();
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
    let status = child.wait().expect("it ends");
    let took = began.elapsed();
    let mut words = String::new();
    if !status.success() {
        let _ = child.stderr.take().map(|mut stderr| stderr.read_to_string(&mut words));
        panic!("{command:?}: {words}");
    }
    took
}

/// Starts all of them, and tells how long it took until the last had ended well.
fn all_at_once(mut commands: Vec<Command>) -> Duration {
    let began = Instant::now();
    let start = |command: &mut Command| {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts")
    };
    let children: Vec<Child> = commands.iter_mut().map(start).collect();
    let ended: Vec<Output> =
        children.into_iter().map(|child| child.wait_with_output().expect("it ends")).collect();
    let took = began.elapsed();
    for output in ended {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    took
}

fn row(name: &str, ours: &mut [Duration], theirs: &mut [Duration]) {
    ours.sort();
    theirs.sort();
    let at = |all: &[Duration], percent: usize| {
        all[(all.len() * percent / 100).min(all.len() - 1)].as_secs_f64() * 1e3
    };
    let words = |all: &[Duration]| format!("{:.2} / {:.2} ms", at(all, 50), at(all, 99));
    let ratio = at(ours, 50) / at(theirs, 50);
    println!("{name:<54} {:>6} {:>21} {:>21} {ratio:>6.2}", ours.len(), words(ours), words(theirs));
}

fn switches(pid: i32) -> (u64, u64) {
    (
        status_field(pid, "status", "voluntary_ctxt_switches:"),
        status_field(pid, "status", "nonvoluntary_ctxt_switches:"),
    )
}

fn memory(pid: i32) -> String {
    let rss = status_field(pid, "status", "VmRSS:");
    let own = status_field(pid, "smaps_rollup", "Pss_Anon:");
    format!("{rss} KiB resident, {own} KiB of them its own")
}
