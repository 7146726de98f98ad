//! Measures the mail: how fast it is accepted by one and by many, what a queue costs, how soon an idle agent has it.
//!
//! `scripts/bench mail` builds the house that this runs in (fake Codex: what is measured is the relay) and calls it. Ratios are of
//! figures of this run. `redis-server` with `appendfsync always` is asked for the same bytes over its own socket, if it is there.
//!
//! **Invariant:** an accepted mail is one that was answered `queued`, that is, synced. Deliberately absent: goals that judge the machine.

#[path = "place.rs"]
mod place;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use place::{Place, round_trip, status_field};

const CONNECTIONS: usize = 64;
const BODY: &str =
    "a short line of mail, as agents write it: look at src/parse.rs, the second branch is never taken";

fn main() {
    let mut words = std::env::args().skip(1);
    let place = Place::of(&mut words, "bench-mail HOUSE AGENTMUX", "bench");
    place.run(&["up", "idle"]);
    let one = place.one_connection();
    place.many_connections(one);
    place.until_a_turn();
    place.long_queue();
}

impl Place {
    /// One mail after the other over one connection.
    fn one_connection(&self) -> f64 {
        let mut relay = self.connect();
        let mut times: Vec<Duration> =
            (0..2_000).map(|at| round_trip(&mut relay, &send_line(at, "stopped"))).collect();
        let rate = times.len() as f64 / times.iter().sum::<Duration>().as_secs_f64();
        println!("accept, one connection: {rate:.0} a second, median {}", ms(median(&mut times)));
        rate
    }

    /// The same from 64 connections at once, the processor time of the relay, and redis in the same situation.
    fn many_connections(&self, one: f64) {
        const EACH: usize = 500;
        let pid = self.relay();
        let before = cpu(pid);
        let ours = many(|| self.connect().into_inner(), |at| send_line(at, "stopped") + "\n", 1, EACH);
        let spent = cpu(pid) - before;
        let each = spent.as_secs_f64() * 1e6 / (CONNECTIONS * EACH) as f64;
        println!(
            "accept, 64 connections: {ours:.0} a second, {:.1} x one; {each:.1} us of the relay's CPU a mail",
            ours / one
        );
        let Some((redis, socket)) = self.redis() else {
            return println!("  redis-server is not there");
        };
        // Its answer is a bulk string: a line with the length, a line with the id.
        let theirs = many(|| UnixStream::connect(&socket).expect("redis listens"), |_| xadd(), 2, EACH);
        drop(redis);
        println!(
            "  redis-server, appendfsync always, XADD of the same bytes: {theirs:.0} a second; ours is {:.2} x that",
            ours / theirs
        );
    }

    /// From the answer to `mail/send` to the child's reading of `turn/start`.
    fn until_a_turn(&self) {
        let stamps = self.house.join("codex/stamps");
        let mut relay = self.connect();
        let mut times = Vec::new();
        for at in 0..300 {
            let before = std::fs::read_to_string(&stamps).unwrap_or_default().lines().count();
            round_trip(&mut relay, &send_line(at, "idle"));
            let accepted = now_ns();
            let began = Instant::now();
            let stamp = loop {
                let text = std::fs::read_to_string(&stamps).unwrap_or_default();
                if let Some(line) = text.lines().nth(before).filter(|_| text.ends_with('\n')) {
                    break line.parse::<i64>().expect("a stamp");
                }
                assert!(began.elapsed() < Duration::from_secs(10), "no turn was started");
            };
            times.push(Duration::from_nanos((stamp - accepted).max(0) as u64));
            // The next one must meet an idle session again.
            while !ask_text(&mut relay, LIST)
                .contains("\"name\":\"idle\",\"coder\":\"codex\",\"state\":\"idle\"")
            {}
        }
        println!("from \"queued\" to turn/start at the child: median {}", ms(median(&mut times)));
    }

    /// What 100,000 mails for one session that does not take them cost.
    fn long_queue(&self) {
        let mut relay = self.connect();
        self.run(&["spawn", "late"]);
        self.run(&["down", "late"]);
        let (pid, rss) = (self.relay(), memory(self.relay()));
        many(|| self.connect().into_inner(), |at| send_line(at, "late") + "\n", 1, 100_000 / CONNECTIONS);
        let grown = memory(pid).saturating_sub(rss);
        // A second relay without any mail is asked in turn with this one, so that both meet the same disk.
        let other = self.empty_bundle();
        let mut empty = other.connect();
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for at in 0..1_000 {
            with.push(round_trip(&mut relay, &send_line(at, "late")));
            without.push(round_trip(&mut empty, &send_line(at, "late")));
        }
        let (full, empty) = (median(&mut with), median(&mut without));
        other.run(&["down", "--now"]);
        println!(
            "accept with 100,000 mails queued: median {}, {:.2} x as with none ({}); {} bytes of memory a mail",
            ms(full),
            full.as_secs_f64() / empty.as_secs_f64(),
            ms(empty),
            grown * 1024 / 100_000
        );
        let mut inbox: Vec<Duration> = (0..20)
            .map(|_| {
                let began = Instant::now();
                let text = ask_text(
                    &mut relay,
                    r#"{"jsonrpc":"2.0","id":1,"method":"mail/list","params":{"name":"late","limit":50}}"#,
                );
                assert!(text.contains("\"result\""), "{text}");
                began.elapsed()
            })
            .collect();
        println!("inbox of 50 out of 100,000: median {}", ms(median(&mut inbox)));
        drop(relay);
        self.run(&["down", "--now"]);
        let began = Instant::now();
        self.run(&["up", "idle"]);
        println!("start with 100,000 mails queued, until a session is up: {}", ms(began.elapsed()));
        println!("relay's memory after that start: {} KiB", memory(self.relay()));
    }

    /// Another bundle with a session that does not take its mail.
    fn empty_bundle(&self) -> Place {
        let (agentmux, house) = (self.agentmux.clone(), self.house.clone());
        let other = Place { agentmux, bundle: house.join("state/bundles/empty"), house };
        other.run(&["spawn", "late"]);
        other.run(&["down", "late"]);
        other
    }

    fn run(&self, words: &[&str]) {
        let bundle = self.bundle.file_name().expect("a bundle has a name");
        let output = Command::new(&self.agentmux)
            .arg("--bundle")
            .arg(bundle)
            .args(words)
            .stdin(Stdio::null())
            .output()
            .expect("it starts");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn relay(&self) -> i32 {
        self.relay_pid().expect("a relay runs")
    }

    fn redis(&self) -> Option<(Ended, PathBuf)> {
        let socket = self.house.join("redis.sock");
        let server = Command::new("redis-server")
            .args([
                "--port",
                "0",
                "--save",
                "",
                "--appendonly",
                "yes",
                "--appendfsync",
                "always",
                "--unixsocket",
            ])
            .arg(&socket)
            .args(["--dir"])
            .arg(&self.house)
            .stdout(Stdio::null())
            .spawn()
            .ok()?;
        let server = Ended(server);
        let began = Instant::now();
        while UnixStream::connect(&socket).is_err() {
            assert!(began.elapsed() < Duration::from_secs(10), "redis does not listen");
            std::thread::sleep(Duration::from_millis(5)); // a stranger's start announces itself by nothing else
        }
        Some((server, socket))
    }
}

/// A process that ends with its owner.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"session/list"}"#;

/// Keeps 64 connections busy, each `each` times, one request after the other; an answer has so many lines. Returns how many requests
/// that is in a second. One thread does it, so that the asked program has the other processor.
fn many(
    connect: impl Fn() -> UnixStream,
    request: impl Fn(usize) -> String,
    lines: usize,
    each: usize,
) -> f64 {
    let mut poll = mio::Poll::new().expect("a poll");
    let mut clients: Vec<Client> = (0..CONNECTIONS)
        .map(|number| {
            let stream = connect();
            stream.set_nonblocking(true).expect("a socket");
            let mut stream = mio::net::UnixStream::from_std(stream);
            poll.registry()
                .register(&mut stream, mio::Token(number), mio::Interest::READABLE)
                .expect("registered");
            Client { stream, asked: 0, lines: 0 }
        })
        .collect();
    let began = Instant::now();
    let ask = |client: &mut Client| {
        if client.asked < each {
            client.stream.write_all(request(client.asked).as_bytes()).expect("a request fits the socket");
            client.asked += 1;
        }
    };
    clients.iter_mut().for_each(ask);
    let (mut events, mut buffer, mut answered) = (mio::Events::with_capacity(CONNECTIONS), [0; 4096], 0);
    while answered < CONNECTIONS * each {
        poll.poll(&mut events, Some(Duration::from_secs(30))).expect("a poll");
        assert!(!events.is_empty(), "no answer for 30 s");
        for event in &events {
            let client = &mut clients[event.token().0];
            while let Ok(count @ 1..) = client.stream.read(&mut buffer) {
                let text = &buffer[..count];
                assert!(!text.windows(7).any(|word| word == b"\"error\"") && text[0] != b'-', "refused");
                client.lines += text.iter().filter(|byte| **byte == b'\n').count();
            }
            while client.lines >= lines {
                client.lines -= lines;
                answered += 1;
                ask(client);
            }
        }
    }
    (CONNECTIONS * each) as f64 / began.elapsed().as_secs_f64()
}

/// One of the connections that are kept busy.
struct Client {
    stream: mio::net::UnixStream,
    asked: usize,
    lines: usize,
}

fn send_line(id: usize, to: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"mail/send","params":{{"to":["{to}"],"body":"{BODY}"}}}}"#
    )
}

fn ask_text(peer: &mut BufReader<UnixStream>, line: &str) -> String {
    peer.get_mut().write_all(format!("{line}\n").as_bytes()).expect("the peer listens");
    let mut answer = String::new();
    peer.read_line(&mut answer).expect("the peer answers");
    answer
}

fn xadd() -> String {
    let words = ["XADD", "mail", "*", "to", "stopped", "body", BODY];
    let mut command = format!("*{}\r\n", words.len());
    words.iter().for_each(|word| command.push_str(&format!("${}\r\n{word}\r\n", word.len())));
    command
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn ms(time: Duration) -> String {
    format!("{:.3} ms", time.as_secs_f64() * 1e3)
}

/// Processor time of a process so far, user and system.
fn cpu(pid: i32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks: u64 = [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// Resident memory in KiB.
fn memory(pid: i32) -> u64 {
    status_field(pid, "status", "VmRSS:")
}

/// The clock that the fake child stamps with.
fn now_ns() -> i64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).expect("a clock");
    now.tv_sec() * 1_000_000_000 + now.tv_nsec()
}
