//! A siege of a relay: hostile inputs, one after the other and many open at once, while a healthy client goes on asking.
//!
//! **Invariant:** whatever is read back is a typed message, and as many of them as the input deserves; else the siege panics with the
//! input's kind, its number and the seed. **Invariant:** the healthy client does in its undisturbed time what it does under siege.
//!
//! Deliberately absent: judging times; a caller compares the two of one run, or leaves it.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::inputs::{Answers, Input, Inputs, Way, hello, request};

/// What a siege came to.
#[derive(Debug)]
pub struct Siege {
    /// Inputs played.
    pub inputs: usize,
    /// Refusals read, by their word.
    pub refusals: BTreeMap<String, usize>,
    /// The relay's resident memory before, when all inputs had left, and at its highest.
    pub rss_kib: (u64, u64, u64),
    /// The healthy client's times, sorted: undisturbed, under siege.
    pub times: (Vec<Duration>, Vec<Duration>),
    /// Those of a client of something that echoes and is not besieged, so that the machine's share in the above can be seen.
    pub echoes: (Vec<Duration>, Vec<Duration>),
    /// How long it all took.
    pub took: Duration,
}

impl Siege {
    /// Plays so many inputs of a seed against the relay that listens at a socket. The healthy client is one connection that stays, or,
    /// with a program, that command run again and again, which must print a list of sessions.
    ///
    /// # Panics
    /// When anything comes back that should not, nothing comes back that should, or the relay is another one in the end.
    pub fn play(socket: &Path, inputs: usize, seed: u64, program: Option<&Path>) -> Siege {
        let began = Instant::now();
        let mut healthy = Healthy::connect(socket);
        healthy.program = program.map(Path::to_owned);
        let pid = healthy.relay_pid;
        // What the relay needs for its first answers and its first thousand is no growth.
        let undisturbed = (0..UNDISTURBED).map(|_| healthy.ask()).collect::<Vec<Duration>>();
        let mut echo = Echo::start();
        let unheard = (0..UNDISTURBED).map(|_| echo.ask()).collect::<Vec<Duration>>();
        let before = memory(pid, "VmRSS:");
        let over = AtomicBool::new(false);
        let mut besieger = Besieger::new(socket, seed);
        let (disturbed, heard) = std::thread::scope(|scope| {
            let asking = scope.spawn(|| times_until(&over, || healthy.ask()));
            let echoing = scope.spawn(|| times_until(&over, || echo.ask()));
            // The healthy client stops, too, when an input panics.
            let _over = Raised(&over);
            (Inputs::of(seed).take(inputs).enumerate())
                .for_each(|(number, input)| besieger.play(number, &input));
            over.store(true, Ordering::Relaxed);
            let asked = asking.join().expect("the healthy client was served");
            (asked, echoing.join().expect("the echo was heard"))
        });
        let refusals = besieger.leave();
        let mut last = Healthy::connect(socket);
        assert_eq!(last.relay_pid, pid, "the relay is another one");
        last.wait_until_alone_but_for(1);
        let rss_kib = (before, memory(pid, "VmRSS:"), memory(pid, "VmHWM:"));
        let (mut times, mut echoes) = ((undisturbed, disturbed), (unheard, heard));
        [&mut times.0, &mut times.1, &mut echoes.0, &mut echoes.1].into_iter().for_each(|times| times.sort());
        Siege { inputs, refusals, rss_kib, times, echoes, took: began.elapsed() }
    }

    /// What the relay has grown by.
    pub fn growth_kib(&self) -> u64 {
        self.rss_kib.1.saturating_sub(self.rss_kib.0)
    }

    /// The healthy client's 99th percentile under siege by the undisturbed one.
    pub fn ratio(&self) -> f64 {
        ratio(&self.times)
    }

    /// The counts, in three lines.
    pub fn text(&self) -> String {
        let words: Vec<String> =
            self.refusals.iter().map(|(word, count)| format!("{count} {word}")).collect();
        let shown = |times: &[Duration]| {
            let at = |percent| percentile(times, percent).as_secs_f64() * 1e6;
            format!("{:.0} / {:.0} us ({})", at(50), at(99), times.len())
        };
        format!(
            "{} hostile inputs in {:.1} s: no crash, refusals: {}\n\
             relay grew by {} KiB (from {}, at most to {}); a healthy client's median / p99: undisturbed {}, besieged {}, \
             ratio of p99 {:.2}\n\
             beside it an echo that nobody besieges: {}, then {}, ratio of p99 {:.2}",
            self.inputs,
            self.took.as_secs_f64(),
            words.join(", "),
            self.growth_kib(),
            self.rss_kib.0,
            self.rss_kib.2,
            shown(&self.times.0),
            shown(&self.times.1),
            self.ratio(),
            shown(&self.echoes.0),
            shown(&self.echoes.1),
            ratio(&self.echoes)
        )
    }
}

fn times_until(over: &AtomicBool, mut ask: impl FnMut() -> Duration) -> Vec<Duration> {
    let mut times = Vec::new();
    while !over.load(Ordering::Relaxed) {
        times.push(ask());
    }
    times
}

/// The 99th percentile of the second by that of the first.
fn ratio(times: &(Vec<Duration>, Vec<Duration>)) -> f64 {
    percentile(&times.1, 99).as_secs_f64() / percentile(&times.0, 99).as_secs_f64()
}

/// A thread that sends back what it gets, and a client of it.
struct Echo(BufReader<UnixStream>);

impl Echo {
    fn start() -> Echo {
        let (ours, theirs) = UnixStream::pair().expect("descriptors are left");
        std::thread::spawn(move || {
            let mut peer = BufReader::new(theirs);
            let mut line = String::new();
            // Ends when the client is dropped.
            while peer.read_line(&mut line).is_ok_and(|count| count > 0) {
                let _ = peer.get_mut().write_all(line.as_bytes());
                line.clear();
            }
        });
        Echo(BufReader::new(ours))
    }

    fn ask(&mut self) -> Duration {
        // A pace and no wait, because the healthy client has the same.
        std::thread::sleep(Duration::from_millis(1));
        let began = Instant::now();
        self.0.get_mut().write_all(b"a line\n").expect("the echo reads");
        let mut line = String::new();
        self.0.read_line(&mut line).expect("the echo answers");
        began.elapsed()
    }
}

struct Raised<'a>(&'a AtomicBool);

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A client that asks small questions, about a thousand a second, and insists on the right answers.
struct Healthy {
    peer: BufReader<UnixStream>,
    relay_pid: u64,
    asked: usize,
    /// Asks in its place.
    program: Option<PathBuf>,
}

impl Healthy {
    fn connect(socket: &Path) -> Healthy {
        let mut peer = BufReader::new(connect(socket));
        peer.get_mut().write_all(&hello(None)).expect("the relay reads");
        let welcome = read(&mut peer).expect("a welcome");
        let relay_pid = welcome["result"]["pid"].as_u64().unwrap_or_else(|| panic!("no welcome: {welcome}"));
        Healthy { peer, relay_pid, asked: 0, program: None }
    }

    fn ask(&mut self) -> Duration {
        // A pace and no wait, because people and programs pause between questions, too.
        std::thread::sleep(Duration::from_millis(1));
        let began = Instant::now();
        if let Some(program) = &self.program {
            let ran = Command::new(program).args(["list", "--json"]).output().expect("it starts");
            let took = began.elapsed();
            let listed =
                serde_json::from_slice::<Value>(&ran.stdout).is_ok_and(|list| list["sessions"].is_array());
            assert!(listed, "{}", String::from_utf8_lossy(&ran.stderr));
            return took;
        }
        let (method, field) = [("relay/status", "mail"), ("session/list", "sessions")][self.asked % 2];
        let answer = self.answer(method);
        let took = began.elapsed();
        assert!(!answer["result"][field].is_null(), "{method}: {answer}");
        took
    }

    fn answer(&mut self, method: &str) -> Value {
        self.asked += 1;
        let question = format!("{}\n", request(self.asked, method, &json!({})));
        self.peer.get_mut().write_all(question.as_bytes()).expect("the relay reads");
        let answer = read(&mut self.peer).expect("an answer");
        assert_eq!(answer["id"], self.asked, "{answer}");
        answer
    }

    /// Waits until the relay has no other client than this one and so many more.
    fn wait_until_alone_but_for(&mut self, others: u64) {
        let end = Instant::now() + PATIENCE;
        loop {
            let clients = self.answer("relay/status")["result"]["clients"].as_u64();
            if clients.is_some_and(|clients| clients <= 1 + others) {
                return;
            }
            assert!(Instant::now() < end, "{clients:?} clients are left");
        }
    }
}

struct Besieger {
    socket: PathBuf,
    seed: u64,
    /// Connections that stay open for a while, the oldest first; with what they have yet to write.
    open: VecDeque<(UnixStream, VecDeque<u8>)>,
    refusals: BTreeMap<String, usize>,
}

impl Besieger {
    fn new(socket: &Path, seed: u64) -> Besieger {
        Besieger { socket: socket.to_owned(), seed, open: VecDeque::new(), refusals: BTreeMap::new() }
    }

    fn play(&mut self, number: usize, input: &Input) {
        self.drip();
        let mut stream = connect(&self.socket);
        match input.way {
            Way::Read(answers) => {
                // The relay may close on what it has read so far.
                let _ = stream.write_all(&input.bytes);
                self.read_to_the_end(stream, answers, number, input.kind);
            }
            Way::Bytewise(answers) => {
                let written = input.bytes.iter().all(|byte| stream.write_all(&[*byte]).is_ok());
                assert!(written, "input {number} of seed {}, {}: not taken", self.seed, input.kind);
                self.read_to_the_end(stream, answers, number, input.kind);
            }
            Way::Deaf => {
                let _ = stream.write_all(&input.bytes);
                self.keep(stream, VecDeque::new());
            }
            Way::Drip => self.keep(stream, input.bytes.iter().copied().collect()),
            Way::Abort => {
                let _ = stream.write_all(&input.bytes);
                // Until the first answer is there, which then stays unread.
                let _ = BufReader::with_capacity(1, stream).fill_buf();
            }
        }
    }

    fn keep(&mut self, stream: UnixStream, rest: VecDeque<u8>) {
        self.open.push_back((stream, rest));
        if self.open.len() > OPEN_MAX {
            self.open.pop_front();
        }
    }

    fn drip(&mut self) {
        for (stream, rest) in &mut self.open {
            if let Some(byte) = rest.pop_front() {
                // Its two seconds for hello may be over.
                let _ = stream.write_all(&[byte]);
            }
        }
    }

    fn read_to_the_end(&mut self, stream: UnixStream, answers: Answers, number: usize, kind: &str) {
        let _ = stream.shutdown(Shutdown::Write);
        let mut peer = BufReader::new(stream);
        let (mut count, mut refused_last) = (0, false);
        while let Some(message) = read(&mut peer) {
            let word = refusal(&message).unwrap_or_else(|why| {
                panic!("input {number} of seed {}, {kind}: {why}: {message}", self.seed)
            });
            count += 1;
            refused_last = word.is_some();
            *word.map_or(&mut 0, |word| self.refusals.entry(word).or_default()) += 1;
        }
        let right = match answers {
            Answers::Exactly(wanted) => count == wanted,
            Answers::UpTo(wanted) => count == wanted && refused_last,
            Answers::Any => true,
        };
        assert!(right, "input {number} of seed {}, {kind}: {count} answers, not {answers:?}", self.seed);
    }

    fn leave(self) -> BTreeMap<String, usize> {
        self.refusals
    }
}

/// The word of a refusal, `None` for an answer; or what is wrong with a message.
fn refusal(message: &Value) -> Result<Option<String>, &'static str> {
    if message["jsonrpc"] != "2.0" {
        return Err("no JSON-RPC");
    }
    if message.get("result").is_some() || message.get("method").is_some() {
        return Ok(None);
    }
    let error = &message["error"];
    let is_typed = error["code"].is_i64()
        && error["message"].as_str().is_some_and(|text| !text.is_empty() && !text.contains('\0'))
        && error["data"]["exit"].as_u64().is_some_and(|exit| (1..=75).contains(&exit) && exit != 70);
    match error["data"]["code"].as_str() {
        Some(word) if is_typed => Ok(Some(word.to_owned())),
        _ => Err("an untyped refusal"),
    }
}

fn connect(socket: &Path) -> UnixStream {
    let stream = UnixStream::connect(socket).expect("a relay listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout is possible");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout is possible");
    stream
}

/// The next message; `None` at the end, which is a reset when the relay has left bytes unread.
fn read(peer: &mut BufReader<UnixStream>) -> Option<Value> {
    let mut line = String::new();
    match peer.read_line(&mut line) {
        Ok(0) => None,
        Ok(_) => Some(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
        Err(error) => panic!("reading failed: {error}"),
    }
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted
        .get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or_default()
}

/// A line of a process's `status`, in KiB.
pub fn memory(pid: u64, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or_else(|_| panic!("no {field} of process {pid}"))
}

/// Far beyond any answer of a healthy relay on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(40);
/// Connections that stay open at once.
const OPEN_MAX: usize = 64;
/// Questions of the healthy client before the siege begins.
const UNDISTURBED: usize = 2_000;
