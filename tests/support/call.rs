//! One call of a program: how it is made, how it is guarded while it runs, what it left.
//!
//! **Invariant:** every wait has a deadline and is woken by its event (exit, output, end of a stream), never by a timer.
//! **Invariant:** a program whose guard is dropped is killed and reaped. **Invariant:** a failed expectation prints the
//! command, the exit code, both streams and the relay's log.
//!
//! Deliberately absent: terminals; those are panes (`tmux.rs`).

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use serde_json::Value;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A program about to be run.
#[derive(Debug)]
pub struct Call {
    command: Command,
    stdin: Vec<u8>,
    deadline: Duration,
    relay_log: PathBuf,
}

impl Call {
    pub(super) fn new(command: Command, relay_log: PathBuf) -> Call {
        Call { command, stdin: Vec::new(), deadline: DEADLINE, relay_log }
    }

    /// Gives these bytes, then the end of the stream, on stdin.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Call {
        self.stdin = bytes.into();
        self
    }

    /// Sets one variable, over the house's own.
    pub fn env(mut self, name: &str, value: &str) -> Call {
        self.command.env(name, value);
        self
    }

    /// Takes one variable away.
    pub fn without_env(mut self, name: &str) -> Call {
        self.command.env_remove(name);
        self
    }

    /// Runs it in this directory in place of the project's.
    pub fn dir(mut self, dir: &Path) -> Call {
        self.command.current_dir(dir);
        self
    }

    /// Gives it this long in place of the usual minute.
    pub fn deadline(mut self, deadline: Duration) -> Call {
        self.deadline = deadline;
        self
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// At the deadline, when the program is killed; and when something keeps its stdout or stderr open after its exit.
    #[track_caller]
    pub fn run(mut self) -> Ran {
        let bytes = std::mem::take(&mut self.stdin);
        let deadline = self.deadline;
        let mut spawned = self.spawn();
        let pipe = spawned.stdin.take();
        // A thread of its own, because a program may write much before it reads at all.
        let feeding = std::thread::spawn(move || pipe.map(|mut pipe| pipe.write_all(&bytes)));
        let ran = spawned.finish(deadline);
        let _ = feeding.join();
        ran
    }

    /// Starts it, with its stdin open in the guard.
    #[track_caller]
    pub fn spawn(mut self) -> Spawned {
        let words = std::iter::once(self.command.get_program()).chain(self.command.get_args());
        let words: Vec<String> = words.map(|word| word.to_string_lossy().into_owned()).collect();
        let command = words.join(" ");
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            self.command.spawn().unwrap_or_else(|error| panic!("cannot start {command}: {error}"));
        let watched = Arc::new(Watched::default());
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid fits"));
        let stdin = child.stdin.take();
        watched.read(child.stdout.take().expect("piped above"), |seen| &mut seen.stdout);
        watched.read(child.stderr.take().expect("piped above"), |seen| &mut seen.stderr);
        let waiting = watched.clone();
        std::thread::spawn(move || {
            // Without reaping, so that the pid stays the child's until the guard itself reaps it.
            let _ = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
            waiting.change(|seen| seen.exited = true);
        });
        Spawned { child, stdin, watched, pid, command, relay_log: self.relay_log, reaped: false }
    }
}

/// A running program; killed and reaped when dropped.
#[derive(Debug)]
pub struct Spawned {
    child: Child,
    /// Its stdin; take and drop it to end it.
    pub stdin: Option<ChildStdin>,
    watched: Arc<Watched>,
    pid: Pid,
    command: String,
    relay_log: PathBuf,
    reaped: bool,
}

impl Spawned {
    /// The process id.
    pub fn id(&self) -> i32 {
        self.pid.as_raw()
    }

    /// What it has written to stdout so far.
    pub fn stdout(&self) -> String {
        self.watched.lock().stdout.text()
    }

    /// What it has written to stderr so far.
    pub fn stderr(&self) -> String {
        self.watched.lock().stderr.text()
    }

    /// Whether it has ended.
    pub fn has_exited(&self) -> bool {
        self.watched.lock().exited
    }

    /// Waits until its stdout contains this.
    #[track_caller]
    pub fn wait_for_stdout(&self, needle: &str, deadline: Duration) {
        let done = |seen: &Seen| seen.stdout.text().contains(needle) || seen.stdout.ended;
        let seen = self.watched.wait(deadline, done);
        let found = seen.stdout.text().contains(needle);
        drop(seen);
        assert!(found, "`{needle}` did not come on stdout\n{}", self.evidence());
    }

    /// Sends a signal, unless it has ended.
    pub fn signal(&self, signal: Signal) {
        let seen = self.watched.lock();
        // Not reaped yet as long as this guard lives, so the pid cannot have become another's.
        if !seen.exited && !self.reaped {
            let _ = kill(self.pid, signal);
        }
    }

    /// Kills it with -9 and waits for its end.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        let _ = self.child.wait();
        self.reaped = true;
    }

    /// Ends its stdin and waits for it to end by itself.
    ///
    /// # Panics
    /// As [`Call::run`].
    #[track_caller]
    pub fn finish(mut self, deadline: Duration) -> Ran {
        drop(self.stdin.take());
        let exited = self.watched.wait(deadline, |seen| seen.exited).exited;
        if !exited {
            self.kill();
            panic!("still running after {deadline:?}, and killed\n{}", self.evidence());
        }
        let status = self.child.wait().expect("an ended child can be waited for");
        self.reaped = true;
        let ended = |seen: &Seen| seen.stdout.ended && seen.stderr.ended;
        let all_read = ended(&self.watched.wait(PIPE_DEADLINE, ended));
        assert!(
            all_read,
            "it ended, but another process holds its stdout or stderr open\n{}",
            self.evidence()
        );
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
        let (command, relay_log) = (self.command.clone(), self.relay_log.clone());
        Ran { code, stdout: self.stdout(), stderr: self.stderr(), command, relay_log }
    }

    fn evidence(&self) -> String {
        evidence(&self.command, None, &self.stdout(), &self.stderr(), &self.relay_log)
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        if !self.reaped {
            self.kill();
        }
    }
}

/// What a program left. A death by signal N has the code 128 + N, as in a shell.
#[derive(Debug, Clone)]
#[must_use = "say what is expected: .ok(), .fails(code) or .json()"]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    command: String,
    relay_log: PathBuf,
}

impl Ran {
    /// Expects exit code 0.
    #[track_caller]
    pub fn ok(self) -> Ran {
        self.fails(0)
    }

    /// Expects this exit code.
    #[track_caller]
    pub fn fails(self, code: i32) -> Ran {
        assert!(self.code == code, "exit code {code} was expected\n{}", self.evidence());
        self
    }

    /// Expects exit code 0 and one JSON value on stdout.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert!(self.code == 0, "exit code 0 was expected\n{}", self.evidence());
        self.parse("stdout", &self.stdout)
    }

    /// Expects exit code 0 and one JSON value per line of stdout.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<Value> {
        assert!(self.code == 0, "exit code 0 was expected\n{}", self.evidence());
        self.stdout.lines().map(|line| self.parse("a line of stdout", line)).collect()
    }

    /// Expects a failure with one JSON object on stderr, and returns its `error`.
    #[track_caller]
    pub fn json_error(&self) -> Value {
        assert!(self.code != 0, "a failure was expected\n{}", self.evidence());
        self.parse("stderr", &self.stderr)["error"].clone()
    }

    /// Everything about the call, for the text of a failing test.
    pub fn evidence(&self) -> String {
        evidence(&self.command, Some(self.code), &self.stdout, &self.stderr, &self.relay_log)
    }

    #[track_caller]
    fn parse(&self, what: &str, text: &str) -> Value {
        match serde_json::from_str(text) {
            Ok(value) => value,
            Err(error) => panic!("{what} is not one JSON value ({error})\n{}", self.evidence()),
        }
    }
}

fn evidence(command: &str, code: Option<i32>, stdout: &str, stderr: &str, relay_log: &Path) -> String {
    let code = code.map_or("none".to_owned(), |code| code.to_string());
    let log = std::fs::read_to_string(relay_log).unwrap_or_else(|error| format!("({error})"));
    format!(
        "$ {command}\nexit code: {code}\n--- stdout ---\n{stdout}\n--- stderr ---\n{stderr}\n--- relay.log ---\n{log}\n---"
    )
}

/// What the threads around a running program have seen of it.
#[derive(Debug, Default)]
struct Watched {
    seen: Mutex<Seen>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Seen {
    stdout: Stream,
    stderr: Stream,
    exited: bool,
}

#[derive(Debug, Default)]
struct Stream {
    bytes: Vec<u8>,
    ended: bool,
}

impl Stream {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

impl Watched {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn wait(&self, deadline: Duration, done: impl Fn(&Seen) -> bool) -> MutexGuard<'_, Seen> {
        let end = Instant::now() + deadline;
        let mut seen = self.lock();
        while !done(&seen) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            seen = self.changed.wait_timeout(seen, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        seen
    }

    fn read(self: &Arc<Watched>, mut pipe: impl Read + Send + 'static, stream: fn(&mut Seen) -> &mut Stream) {
        let watched = self.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 8192];
            while let Ok(count @ 1..) = pipe.read(&mut bytes) {
                watched.change(|seen| stream(seen).bytes.extend(&bytes[..count]));
            }
            watched.change(|seen| stream(seen).ended = true);
        });
    }
}

/// Far beyond any call of a healthy relay on a loaded machine; `--timeout` itself defaults to as much.
const DEADLINE: Duration = Duration::from_secs(60);
/// The streams of a program that has ended hold at most what a pipe holds.
const PIPE_DEADLINE: Duration = Duration::from_secs(5);
