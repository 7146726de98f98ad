//! A stand-in for the program `codex`, with a real Unix socket and real WebSocket frames, that can misbehave below the messages.
//!
//! `fake-codex --version` and `fake-codex app-server --listen unix://PATH`, as `codex-cli 0.169.0` (shapes as in
//! `tests/conformance/codex.rs`). What it shall do wrong stands in `$CODEX_HOME/fake`, read at every use, as words:
//!
//! | Word | What it does | Real behaviour that it stands for |
//! | --- | --- | --- |
//! | `dribble` | writes every byte by itself | a socket may split anywhere |
//! | `fragment` | splits each message into continuation frames | allowed by RFC 6455 |
//! | `ping` | pings before each frame, also between fragments | allowed by RFC 6455 |
//! | `flood` | 20,000 notices before each answer to `turn/start` | 0.169.0 buffers 6,600 for a slow reader |
//! | `torrent` | notices before that answer for as long as it is told so | the same, without end |
//! | `ask` | asks something unknown in each turn | `item/tool/call` of a newer version |
//! | `vanish-before`, `vanish-after` | once: half of the answer to `turn/start`, then the end; turn not taken, taken | seen at kill -9 |
//! | `close` | once: a close frame in place of that answer | RFC 6455 |
//! | `noise` | once: bytes that are no frame in place of that answer | a broken peer |
//! | `garbage` | once: a text that is not JSON in place of that answer | a broken peer |
//! | `babble` | texts that are not JSON after that answer, for as long as it is told so | a broken peer |
//! | `grow` | a turn without an end, in which it has 64 MiB more as soon as it is no longer told so, and complains on stderr | a leak |
//! | `complain` | a turn without an end, in which it writes 3 MiB to stderr as soon as it is no longer told so | a library that logs |
//! | `forget` | once: a turn whose `turn/completed` never comes | a notification that got lost, as on a link that broke |
//! | `drop` | ends every connection after `initialize` | a crash loop inside the server |
//! | `mute` | answers nothing | a hung start |
//! | `hang` | once: takes a turn's input, and then says nothing more, on any connection | 0.169.0 under SIGSTOP |
//! | `stamp` | writes when it reads `turn/start` (monotonic ns) to `$CODEX_HOME/stamps` | for `scripts/bench` |
//! | `exit` | says why on stderr and exits with 3 before it listens | 0.169.0 with an unusable configuration |
//! | `old` | is 0.156.9 | the release before the first supported one |
//!
//! What it hears is appended to `$CODEX_HOME/heard`, one line per message; `+` alone marks a connection.
//!
//! **Invariant:** nothing is shared between its processes but that folder. Deliberately absent: threads on disk (any thread can be
//! resumed, with an empty history), and signals: it dies of SIGTERM.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::{Message, WebSocket};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let version = if is_told("old") { "0.156.9" } else { "0.169.0" };
    match words.iter().map(String::as_str).collect::<Vec<&str>>()[..] {
        ["--version"] => println!("codex-cli {version}"),
        ["app-server", "--listen", address] => {
            if is_told("exit") {
                eprintln!("starting up");
                eprintln!("Error: the configuration is not to my taste");
                return ExitCode::from(3);
            }
            serve(address.strip_prefix("unix://").expect("a Unix socket"), version);
        }
        _ => {
            eprintln!("fake-codex: unknown arguments {words:?}");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// Whether this process has been told to hang.
static HANGS: AtomicBool = AtomicBool::new(false);

/// The turns and claims of every thread, oldest first.
type Threads = Arc<Mutex<BTreeMap<String, Vec<(String, String)>>>>;

fn serve(path: &str, version: &'static str) {
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).expect("the socket can be bound");
    let threads = Threads::default();
    for stream in listener.incoming().flatten() {
        let threads = threads.clone();
        std::thread::spawn(move || {
            note("+");
            let wire = Wire { stream, dribbles: is_told("dribble") };
            if let Ok(socket) = tungstenite::accept(wire) {
                let _ = Server { socket, threads, version }.run();
            }
        });
    }
}

/// One connection.
struct Server {
    socket: WebSocket<Wire>,
    threads: Threads,
    version: &'static str,
}

type Done = Result<(), tungstenite::Error>;

impl Server {
    fn run(mut self) -> Done {
        loop {
            let Message::Text(text) = self.socket.read()? else { continue };
            if text.contains("\"turn/start\"") && is_told("stamp") {
                stamp();
            }
            note(text.as_str());
            let message: Value = serde_json::from_str(text.as_str()).expect("the relay sends JSON");
            let Some(method) = message["method"].as_str().filter(|_| !message["id"].is_null()) else {
                continue;
            };
            if is_told("mute") || HANGS.load(Ordering::Relaxed) {
                continue;
            }
            if method == "turn/start" {
                self.turn(&message["id"], &message["params"])?;
            } else {
                let result = self.answer(method, &message["params"]);
                self.say(&json!({"id": message["id"], "result": result}))?;
            }
            if method == "initialize" && is_told("drop") {
                return Ok(());
            }
        }
    }

    fn answer(&self, method: &str, params: &Value) -> Value {
        let thread = params["threadId"].as_str().unwrap_or_default();
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        match method {
            "initialize" => json!({"userAgent": format!("agentmux/{} (fake)", self.version)}),
            "thread/start" => {
                let id = format!("0199a213-81c0-7800-8{:03x}-{:012x}", threads.len(), std::process::id());
                threads.insert(id.clone(), Vec::new());
                json!({"thread": {"id": id, "status": {"type": "idle"}}})
            }
            "thread/resume" => {
                threads.entry(thread.to_owned()).or_default();
                json!({"thread": {"id": thread, "status": {"type": "idle"}}})
            }
            "thread/read" => json!({"thread": {"id": thread, "status": {"type": "idle"}}}),
            "thread/items/list" => {
                let rows = threads.get(thread).into_iter().flatten().rev();
                let rows: Vec<Value> = rows
                    .map(|(turn, claim)| json!({"turnId": turn, "item": {"type": "userMessage", "clientId": claim}}))
                    .collect();
                json!({"data": rows, "nextCursor": null})
            }
            "skills/list" => json!({"data": []}),
            _ => json!({}),
        }
    }

    fn turn(&mut self, id: &Value, params: &Value) -> Done {
        let (thread, claim) = (&params["threadId"], &params["clientUserMessageId"]);
        let turn = format!("turn-of-{}", claim.as_str().unwrap_or_default());
        let answer = json!({"id": id, "result": {"turn": {"id": turn, "status": "inProgress"}}});
        if is_told_once("vanish-before") {
            return self.vanish(&answer);
        }
        if is_told_once("noise") {
            self.socket.get_mut().write_all(b"\xff\xff\xff\xff this is no frame")?;
            return Ok(());
        }
        if is_told_once("garbage") {
            return self.socket.send(Message::text("turn/start? never heard of it"));
        }
        if is_told_once("close") {
            return self.socket.close(None);
        }
        {
            let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
            let items = threads.entry(thread.as_str().unwrap_or_default().to_owned()).or_default();
            items.push((turn.clone(), claim.as_str().unwrap_or_default().to_owned()));
        }
        if is_told_once("vanish-after") {
            return self.vanish(&answer);
        }
        if is_told("flood") {
            for n in 0..20_000 {
                self.say(
                    &json!({"method": "item/agentMessage/delta", "params": {"threadId": thread, "delta": n}}),
                )?;
            }
        }
        while is_told("torrent") {
            for n in 0..1_000 {
                self.say(
                    &json!({"method": "item/agentMessage/delta", "params": {"threadId": thread, "delta": n}}),
                )?;
            }
        }
        if is_told("ask") {
            self.say(
                &json!({"method": "item/tool/call", "id": 0, "params": {"threadId": thread, "tool": "x"}}),
            )?;
        }
        self.say(&answer)?;
        let item = json!({"type": "userMessage", "id": "i", "clientId": claim, "content": []});
        let of_item = json!({"threadId": thread, "turnId": turn, "item": item});
        self.say(&json!({"method": "turn/started", "params": {"threadId": thread, "turn": {"id": turn}}}))?;
        self.say(&json!({"method": "item/started", "params": of_item}))?;
        self.say(&json!({"method": "item/completed", "params": of_item}))?;
        if is_told_once("hang") {
            HANGS.store(true, Ordering::Relaxed);
            return Ok(());
        }
        while is_told("babble") {
            for n in 0..1_000 {
                self.socket.send(Message::text(format!("{n} bottles")))?;
            }
        }
        if is_told("grow") {
            while is_told("grow") {
                std::thread::yield_now();
            }
            eprintln!("fake-codex: I need more room");
            std::mem::forget(std::hint::black_box(vec![1_u8; 64 << 20]));
            return Ok(());
        }
        if is_told("complain") {
            while is_told("complain") {
                std::thread::yield_now();
            }
            for n in 0..3 * 1024 {
                eprintln!("{n:1023}");
            }
            note("complained");
            return Ok(());
        }
        if is_told_once("forget") {
            return Ok(());
        }
        let ended = json!({"id": turn, "status": "completed", "error": null});
        self.say(&json!({"method": "turn/completed", "params": {"threadId": thread, "turn": ended}}))
    }

    /// Writes half of a frame and ends the connection without a word.
    fn vanish(&mut self, answer: &Value) -> Done {
        let text = answer.to_string();
        let length = u8::try_from(text.len()).unwrap_or(u8::MAX).min(125);
        let half = [&[0x81, length][..], &text.as_bytes()[..usize::from(length) / 2]].concat();
        self.socket.get_mut().write_all(&half)?;
        self.socket.get_ref().stream.shutdown(std::net::Shutdown::Both)?;
        Ok(())
    }

    fn say(&mut self, message: &Value) -> Done {
        let text = message.to_string();
        let (fragments, pings) = (is_told("fragment"), is_told("ping"));
        let pieces: Vec<&[u8]> =
            if fragments { text.as_bytes().chunks(7).collect() } else { vec![text.as_bytes()] };
        for (at, piece) in pieces.iter().enumerate() {
            if pings {
                self.socket.send(Message::Ping("are you there?".into()))?;
            }
            let kind = OpCode::Data(if at == 0 { Data::Text } else { Data::Continue });
            let frame = Frame::message(piece.to_vec(), kind, at + 1 == pieces.len());
            self.socket.send(Message::Frame(frame))?;
        }
        Ok(())
    }
}

/// The stream below the frames.
struct Wire {
    stream: UnixStream,
    dribbles: bool,
}

impl Read for Wire {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        self.stream.read(bytes)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if !self.dribbles || bytes.is_empty() {
            return self.stream.write(bytes);
        }
        std::thread::yield_now();
        self.stream.write(&bytes[..1])
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

fn room(name: &str) -> PathBuf {
    PathBuf::from(std::env::var_os("CODEX_HOME").expect("CODEX_HOME is set")).join(name)
}

fn told() -> String {
    std::fs::read_to_string(room("fake")).unwrap_or_default()
}

fn is_told(word: &str) -> bool {
    told().split_whitespace().any(|told| told == word)
}

/// Like `is_told`, and forgets the word.
fn is_told_once(word: &str) -> bool {
    let told = told();
    let is_told = told.split_whitespace().any(|told| told == word);
    if is_told {
        let rest: Vec<&str> = told.split_whitespace().filter(|told| *told != word).collect();
        std::fs::write(room("fake"), rest.join(" ")).expect("the Codex home is writable");
    }
    is_told
}

/// Writes down this moment.
fn stamp() {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).expect("a clock");
    let line = format!("{}\n", now.tv_sec() * 1_000_000_000 + now.tv_nsec());
    let file = std::fs::File::options().create(true).append(true).open(room("stamps"));
    file.and_then(|mut file| file.write_all(line.as_bytes())).expect("the folder is writable");
}

fn note(line: &str) {
    let file = std::fs::File::options().append(true).create(true).open(room("heard"));
    file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()))
        .expect("the Codex home is writable");
}
