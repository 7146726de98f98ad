//! The scripted model: a Responses API server on loopback that answers Codex from rules and remembers what it was asked.
//!
//! **Invariant:** every request is recorded before its first answer byte is written, so that a test that has seen an
//! answer also finds the request. **Invariant:** nothing here sleeps: every pause is a wait on the one condition
//! variable, and ends at once when the client goes away or the model is dropped. **Invariant:** threads, bodies and
//! recorded bytes are bounded (constants below). **Invariant:** dropping the model joins every thread it started.
//!
//! Deliberately absent: TLS, authentication, compression and WebSocket (Codex uses none of them with a plain provider),
//! keep-alive (every answer says `Connection: close`), and any judgement of the request's validity.
//!
//! It stands in for the model only; the Codex that talks to it is the real one (observed with 0.157.0 and 0.169.0).

#[path = "model/http.rs"]
mod http;
#[path = "model/request.rs"]
mod request;
#[path = "model/script.rs"]
mod script;

pub use request::{Envelope, Kind, Outcome, Request, envelopes};
pub use script::{Rule, Step};

use script::{Answer, Script};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A Responses API server on `127.0.0.1` that lives as long as this value.
#[derive(Debug)]
pub struct ScriptedModel {
    shared: Arc<Shared>,
    address: SocketAddr,
    accepting: Option<JoinHandle<()>>,
}

impl ScriptedModel {
    /// Starts the server on a port of its own, with no rules: everything is answered `ok: …`.
    pub fn start() -> ScriptedModel {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a loopback port for the scripted model");
        let address = listener.local_addr().expect("the address of a bound listener");
        let shared =
            Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), port: address.port() });
        let accepting = std::thread::spawn({
            let shared = shared.clone();
            move || accept(&shared, &listener)
        });
        ScriptedModel { shared, address, accepting: Some(accepting) }
    }

    /// The `base_url` of Codex's model provider.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Replaces the rules. The first rule that matches (and has uses left) answers; none: `ok: <first 60 characters>`.
    pub fn script(&self, rules: impl IntoIterator<Item = Rule>) {
        self.shared.lock().script.replace(rules.into_iter().collect());
    }

    /// Puts a rule before all others, for a turn in the middle of a test.
    pub fn prepend(&self, rule: Rule) {
        self.shared.lock().script.prepend(rule);
    }

    /// Appends every later request to a file, one JSON object per line.
    pub fn record_to(&self, path: &Path) {
        let file = File::options().create(true).append(true).open(path);
        self.shared.lock().record = Some(file.unwrap_or_else(|error| panic!("{}: {error}", path.display())));
    }

    /// Lets every answer held under this name go on, now and later.
    pub fn release(&self, name: &str) {
        self.shared.lock().released.insert(name.to_owned());
        self.shared.changed.notify_all();
    }

    /// Holds answers under this name again, after a [`release`](Self::release).
    pub fn hold(&self, name: &str) {
        self.shared.lock().released.remove(name);
    }

    /// The requests of agents' turns so far, in order of arrival. Title requests are not among them.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.lock().turns.clone()
    }

    /// The requests with which Codex's screen asked for a thread's title.
    pub fn title_requests(&self) -> Vec<Request> {
        self.shared.lock().titles.clone()
    }

    /// Requests that could not be served (not HTTP, not JSON, unknown path), in words. A healthy test has none.
    pub fn faults(&self) -> Vec<String> {
        self.shared.lock().faults.clone()
    }

    /// The newest request of every thread, ordered by the thread's first request: its history as the model last read it.
    pub fn histories(&self) -> Vec<Request> {
        histories(&self.shared.lock().turns)
    }

    /// The people's and peers' messages in every thread's final history; a message that stands there twice is listed twice.
    pub fn user_texts(&self) -> Vec<String> {
        self.histories().iter().flat_map(Request::user_texts).collect()
    }

    /// In how many user messages of the threads' final histories the needle occurs: 1 is exactly once, 2 a duplicate.
    pub fn times_read(&self, needle: &str) -> usize {
        self.user_texts().iter().filter(|text| text.contains(needle)).count()
    }

    /// Waits until the turns' requests so far satisfy the condition.
    ///
    /// # Panics
    /// After the deadline, with every request in short.
    #[track_caller]
    pub fn wait_for(&self, what: &str, deadline: Duration, condition: impl Fn(&[Request]) -> bool) {
        let end = Instant::now() + deadline;
        let mut state = self.shared.lock();
        while !condition(&state.turns) {
            let left = end.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "the model waited {deadline:?} in vain for {what}\n{}",
                transcript(&state)
            );
            state = self.shared.wait(state, left);
        }
    }

    /// Waits until some request is held under this name: its turn is certainly running, and stays so.
    #[track_caller]
    pub fn wait_until_held(&self, name: &str, deadline: Duration) {
        let held = |requests: &[Request]| requests.iter().any(|request| request.is_held_by(name));
        self.wait_for(&format!("an answer held by `{name}`"), deadline, held);
    }

    /// Waits until the needle stands in a user message of some thread's newest request.
    #[track_caller]
    pub fn wait_until_read(&self, needle: &str, deadline: Duration) {
        let read = |request: &Request| request.user_texts().iter().any(|text| text.contains(needle));
        self.wait_for(&format!("`{needle}` to be read"), deadline, |requests| requests.iter().any(read));
    }

    /// Every request and what became of it, one line each, for the text of a failing test.
    pub fn transcript(&self) -> String {
        transcript(&self.shared.lock())
    }
}

impl Drop for ScriptedModel {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.stopping = true;
        for stream in state.connections.values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.shared.changed.notify_all();
        // The accepting thread sees `stopping` when this last connection wakes it.
        let _ = TcpStream::connect(self.address);
        while state.threads > 0 {
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

/// What all threads of one model share.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    port: u16,
}

#[derive(Debug, Default)]
struct State {
    stopping: bool,
    script: Script,
    released: HashSet<String>,
    turns: Vec<Request>,
    titles: Vec<Request>,
    faults: Vec<String>,
    recorded_bytes: usize,
    record: Option<File>,
    /// Open connections by number, so that a drop can close them.
    connections: HashMap<usize, TcpStream>,
    /// Connections whose client has closed while its answer was still being made.
    gone: HashSet<usize>,
    connections_ever: usize,
    threads: usize,
}

/// The client went away, or the model is being dropped: nobody is left to answer.
struct Gone;

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, limit: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, limit).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Waits for a time, or without a time until the hold is released; ends early when nobody listens any more.
    fn pause(&self, connection: usize, time: Option<Duration>, hold: Option<&str>) -> Result<(), Gone> {
        let end = Instant::now() + time.unwrap_or(HOLD_MAX);
        let mut state = self.lock();
        loop {
            if state.stopping || state.gone.contains(&connection) {
                return Err(Gone);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || hold.is_some_and(|name| state.released.contains(name)) {
                return Ok(());
            }
            state = self.wait(state, left);
        }
    }

    fn set_outcome(&self, request: &Request, outcome: Outcome) {
        let mut state = self.lock();
        let list = if request.kind == Kind::Title { &mut state.titles } else { &mut state.turns };
        if let Some(recorded) = list.iter_mut().find(|recorded| recorded.number == request.number) {
            recorded.outcome = outcome;
        }
        self.changed.notify_all();
    }

    fn fault(&self, text: String) {
        let mut state = self.lock();
        if state.faults.len() < FAULTS_MAX {
            state.faults.push(text);
        }
    }
}

impl State {
    /// Notes a request and picks its answer, in one step, so that the two never disagree.
    fn admit(&mut self, body: Value, bytes: usize, connection: usize, port: u16) -> (Request, Step) {
        let mut request = Request::new(connection, body);
        let step = if request.kind == Kind::Title {
            Step::new(Answer::Title)
        } else {
            self.script.choose(&request, &format!("call_{port}_{connection}"))
        };
        request.outcome = Outcome::Answering;
        if let Some(file) = &mut self.record {
            let line = json!({ "number": request.number, "kind": request.kind.word(), "thread": request.thread,
                               "answer": step.describe(), "body": *request.body });
            writeln!(file, "{line}").expect("the record of requests can be written");
        }
        let list = if request.kind == Kind::Title { &mut self.titles } else { &mut self.turns };
        list.push(request.clone());
        self.recorded_bytes += bytes;
        if self.recorded_bytes > RECORDED_BYTES_MAX {
            self.forget_superseded();
        }
        (request, step)
    }

    /// Drops the bodies that a newer request of the same thread repeats: a history grows, so the newest holds them all.
    fn forget_superseded(&mut self) {
        let newest: HashSet<usize> = histories(&self.turns).iter().map(|request| request.number).collect();
        for request in &mut self.turns {
            if !newest.contains(&request.number) {
                request.body = Arc::new(Value::Null);
            }
        }
        self.recorded_bytes = RECORDED_BYTES_MAX / 2;
    }
}

fn histories(turns: &[Request]) -> Vec<Request> {
    let mut order: Vec<&str> = Vec::new();
    let mut newest: HashMap<&str, &Request> = HashMap::new();
    for request in turns {
        if newest.insert(&request.thread, request).is_none() {
            order.push(&request.thread);
        }
    }
    order.iter().map(|thread| newest[thread].clone()).collect()
}

fn transcript(state: &State) -> String {
    let turns = state.turns.iter().map(Request::describe);
    let titles = state.titles.iter().map(Request::describe);
    let faults = state.faults.iter().map(|fault| format!("fault: {fault}"));
    let lines: Vec<String> = turns.chain(titles).chain(faults).collect();
    if lines.is_empty() { "the model was asked nothing".to_owned() } else { lines.join("\n") }
}

fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    for stream in listener.incoming() {
        let mut state = shared.lock();
        if state.stopping {
            return;
        }
        let Ok(stream) = stream else { continue };
        if state.connections.len() >= CONNECTIONS_MAX {
            let _ = http::write_json(
                &stream,
                503,
                &[],
                &json!({"error": {"message": "the scripted model is full"}}),
            );
            continue;
        }
        let Ok(twin) = stream.try_clone() else { continue };
        state.connections_ever += 1;
        let number = state.connections_ever;
        state.connections.insert(number, twin);
        let thread = {
            let shared = shared.clone();
            move || {
                serve(&shared, &stream, number);
                let _ = stream.shutdown(Shutdown::Both);
                let mut state = shared.lock();
                state.connections.remove(&number);
                state.gone.remove(&number);
                state.threads -= 1;
                shared.changed.notify_all();
            }
        };
        state.threads += 1;
        if std::thread::Builder::new().stack_size(STACK_BYTES).spawn(thread).is_err() {
            state.threads -= 1;
            state.connections.remove(&number);
        }
    }
}

/// Serves the one request of a connection.
fn serve(shared: &Arc<Shared>, stream: &TcpStream, connection: usize) {
    let _ = stream.set_nodelay(true);
    let _ = stream.set_read_timeout(Some(READ_MAX));
    let mut reader = BufReader::new(stream);
    let incoming = match http::read(&mut reader, stream, BODY_BYTES_MAX) {
        Ok(Some(incoming)) => incoming,
        Ok(None) => return, // connected and closed without a word
        Err(problem) => {
            shared.fault(problem.clone());
            let _ = http::write_json(stream, 400, &[], &json!({"error": {"message": problem}}));
            return;
        }
    };
    if incoming.method == "GET" {
        let _ = http::write_json(stream, 200, &[], &json!({"object": "list", "data": [], "models": []}));
        return;
    }
    let body = serde_json::from_slice::<Value>(&incoming.body);
    match body {
        Ok(body) if incoming.method == "POST" && incoming.path.ends_with("/responses") => {
            let (request, step) = shared.lock().admit(body, incoming.body.len(), connection, shared.port);
            drop(incoming); // the bytes are of no more use, and an answer can be held for long
            shared.changed.notify_all();
            watch(shared, stream, connection);
            let outcome = match answer(shared, stream, &request, &step) {
                Ok(()) => Outcome::Answered,
                Err(Gone) => Outcome::ClientGone,
            };
            shared.set_outcome(&request, outcome);
        }
        Ok(_) => {
            shared.fault(format!("{} {} is not served", incoming.method, incoming.path));
            let _ = http::write_json(stream, 404, &[], &json!({"error": {"message": "not served"}}));
        }
        Err(error) => {
            let encoding = incoming.header("content-encoding").unwrap_or("none").to_owned();
            shared.fault(format!(
                "{} {}: body is not JSON ({error}; encoding: {encoding})",
                incoming.method, incoming.path
            ));
            let _ = http::write_json(stream, 400, &[], &json!({"error": {"message": "body is not JSON"}}));
        }
    }
}

/// Watches for the client's end of the connection, so that a held answer does not outlive its reader.
fn watch(shared: &Arc<Shared>, stream: &TcpStream, connection: usize) {
    let Ok(mut twin) = stream.try_clone() else { return };
    let _ = twin.set_read_timeout(None);
    let thread = {
        let shared = shared.clone();
        move || {
            let mut bytes = [0; 512];
            while matches!(twin.read(&mut bytes), Ok(count) if count > 0) {}
            let mut state = shared.lock();
            if state.connections.contains_key(&connection) {
                state.gone.insert(connection);
            }
            state.threads -= 1;
            shared.changed.notify_all();
        }
    };
    shared.lock().threads += 1;
    if std::thread::Builder::new().stack_size(STACK_BYTES).spawn(thread).is_err() {
        shared.lock().threads -= 1;
    }
}

fn answer(shared: &Arc<Shared>, stream: &TcpStream, request: &Request, step: &Step) -> Result<(), Gone> {
    let connection = request.number;
    if !step.first_byte_after.is_zero() {
        shared.pause(connection, Some(step.first_byte_after), None)?;
    }
    let hold = || -> Result<(), Gone> {
        let Some(name) = &step.held_by else { return Ok(()) };
        shared.set_outcome(request, Outcome::Held(name.clone()));
        shared.pause(connection, None, Some(name))?;
        shared.set_outcome(request, Outcome::Answering);
        Ok(())
    };
    if let Answer::Http { status, body, headers } = &step.answer {
        hold()?;
        return http::write_json(stream, *status, headers, body).map_err(|_| Gone);
    }
    let mut events =
        http::Events::start(stream, format!("resp_{}_{connection}", shared.port)).map_err(|_| Gone)?;
    let text = |text: &str| request.render(text);
    // The beginning of an answer is streamed before the hold, its rest after it.
    if let Some(beginning) = &step.beginning {
        events.text(&text(beginning)).map_err(|_| Gone)?;
    }
    if step.ending.is_none() {
        hold()?;
    }
    match &step.answer {
        Answer::Reply { chunks } => {
            for (index, chunk) in chunks.iter().enumerate() {
                if index > 0 && !step.between_chunks.is_zero() {
                    shared.pause(connection, Some(step.between_chunks), None)?;
                }
                events.text(&text(chunk)).map_err(|_| Gone)?;
            }
            events.complete()
        }
        Answer::Title => events.text(&request.title()).and_then(|()| events.complete()),
        Answer::Echo => {
            let newest = request.newest_user_text().unwrap_or_default();
            let short: String = newest.chars().take(ECHO_CHARACTERS).collect();
            events.text(&format!("ok: {short}")).and_then(|()| events.complete())
        }
        Answer::Call { name, namespace, arguments, call_id } => {
            let arguments = request.render_value(arguments);
            events.call(name, namespace.as_deref(), &arguments, call_id).map_err(|_| Gone)?;
            if let Some(ending) = &step.ending {
                events.text(&text(ending)).map_err(|_| Gone)?;
                hold()?;
            }
            events.complete()
        }
        Answer::Drop => Ok(()),
        Answer::Fail { code, message } => events.fail(code, &text(message)),
        Answer::Http { .. } => unreachable!("answered above"),
    }
    .map_err(|_| Gone)
}

/// How much of the newest message the default answer repeats.
const ECHO_CHARACTERS: usize = 60;
/// Codex opens one connection per running turn; the largest test runs a hundred sessions.
const CONNECTIONS_MAX: usize = 256;
const BODY_BYTES_MAX: usize = 64 << 20;
/// A soak's histories are repeated in every request; beyond this the superseded bodies are dropped.
const RECORDED_BYTES_MAX: usize = 256 << 20;
const FAULTS_MAX: usize = 1000;
/// Parsing nests at most 128 deep in serde_json, which fits easily.
const STACK_BYTES: usize = 1 << 20;
/// How long a client may take to send its request.
const READ_MAX: Duration = Duration::from_secs(30);
/// A hold that nobody releases ends with the test; this only bounds a forgotten demo.
const HOLD_MAX: Duration = Duration::from_secs(3600);
