//! Where the rounds play: a scratch directory, a place in it for each round, and the janitor that clears up behind both.
//!
//! **Invariant:** nothing outlives the selftest, however it ends: the janitor waits at the end of a pipe whose other end only
//! this process holds, then ends every process of the scratch directory and removes it. **Invariant:** a process is of a place
//! only if its own command line says so; nothing of the person's is ever read, signalled or written.

use std::fs::{self, DirBuilder};
use std::io::Read;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, mkdtemp};

use crate::boot::process;
use crate::boot::program;
use crate::boot::spawn::{Outer, Program, THIRD, spawn_detached};
use crate::boot::statedir::{RELAY_LOCK, SOCKET};
use crate::model::fault::Fault;

/// How scratch directories are named; the janitor touches no other.
const PREFIX: &str = "amux-selftest.";
/// The bundle of every place.
const BUNDLE: &str = "st";
/// After this long a command is hung: far beyond what any of them may take.
pub const HUNG: Duration = Duration::from_secs(60);

/// The directory of one selftest.
#[derive(Debug)]
pub struct Scratch {
    dir: PathBuf,
    /// Closed to call the janitor.
    pipe: Option<OwnedFd>,
    janitor: u32,
}

/// The directory of one round, with a state directory, a home and a configuration of its own.
#[derive(Debug)]
pub struct Place {
    dir: PathBuf,
}

/// What a command left.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code; none when it was killed.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl Scratch {
    /// Makes the directory and starts its janitor.
    ///
    /// # Errors
    /// `io` when that is not possible.
    pub fn new() -> Result<Scratch, Fault> {
        let failed = |why: String| Fault::io(format!("scratch directory refused: {why}"));
        let temporary = fs::canonicalize(std::env::temp_dir()).map_err(|error| failed(error.to_string()))?;
        let dir = mkdtemp(&temporary.join(format!("{PREFIX}XXXXXX")))
            .map_err(|error| failed(format!("{}: {error}", temporary.display())))?;
        let (read, write) =
            nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|error| failed(error.to_string()))?;
        let words = ["selftest", "--janitor", &dir.display().to_string()].map(str::to_owned);
        let janitor = Program {
            path: &program::own(),
            arguments: &words,
            environment: &crate::boot::environment::for_relay(),
            stderr: None,
            outer: Outer::default(),
            given: &[read.as_fd()],
        };
        let janitor = spawn_detached(&janitor).map_err(failed)?;
        Ok(Scratch { dir, pipe: Some(write), janitor })
    }

    /// Makes the place of one round.
    ///
    /// # Errors
    /// Why it cannot be made.
    pub fn place(&self, number: usize) -> std::io::Result<Place> {
        let place = Place { dir: self.dir.join(number.to_string()) };
        for dir in [place.dir.clone(), place.dir.join("home"), place.dir.join("config")] {
            DirBuilder::new().mode(0o700).create(dir)?;
        }
        place.configure("")?;
        Ok(place)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(self.pipe.take());
        let _ = waitpid(Pid::from_raw(self.janitor as i32), None);
    }
}

impl Place {
    /// Writes the configuration; a relay that everybody forgot leaves by itself.
    ///
    /// # Errors
    /// What the file system says.
    pub fn configure(&self, more: &str) -> std::io::Result<()> {
        fs::write(self.dir.join("config/config.toml"), format!("idle_exit = \"2m\"\n{more}"))
    }

    /// A command of ours in this place, with nothing of the person's environment.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(program::own());
        command
            .env_clear()
            .env("HOME", self.dir.join("home"))
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .current_dir(self.dir.join("home"))
            .args(words)
            .args(["--bundle", BUNDLE, "--state-dir"])
            .arg(self.state())
            .arg("--config-dir")
            .arg(self.dir.join("config"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// The command that every round turns on: an agent from outside sends mail, which needs a relay and no session.
    pub fn send(&self) -> Command {
        let mut command = self.command(&["send", "operator", "selftest"]);
        command.env("CODEX_THREAD_ID", "selftest");
        command
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    /// Why it cannot be started.
    pub fn run(&self, mut command: Command) -> std::io::Result<Ran> {
        let begun = Instant::now();
        Ok(finish(command.spawn()?, begun))
    }

    /// The relay processes of this place, serving or not.
    pub fn relays(&self) -> Vec<u32> {
        let is_relay = |pid: &u32| process::arguments(*pid).iter().skip(1).take(2).eq(["host", "relay"]);
        self.processes().filter(is_relay).collect()
    }

    /// Who holds the relay's lock.
    pub fn lock_holders(&self) -> Vec<u32> {
        let Ok(lock) = fs::metadata(self.bundle().join(RELAY_LOCK)) else { return Vec::new() };
        process::lockers(lock.dev(), lock.ino()).collect()
    }

    /// Whether the socket has its name.
    pub fn has_socket(&self) -> bool {
        self.bundle().join(SOCKET).exists()
    }

    /// The last lines of the relay's log, in one.
    pub fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.bundle().join("relay.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(6).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }

    /// Ends every process of this place.
    pub fn end_all(&self) {
        end(|| self.processes());
    }

    fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    fn bundle(&self) -> PathBuf {
        self.state().join("bundles").join(BUNDLE)
    }

    fn processes(&self) -> impl Iterator<Item = u32> {
        let state = self.state();
        within(move |dir| dir == state)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.end_all();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Waits for a command's end; one that hangs is killed.
pub fn finish(mut child: Child, begun: Instant) -> Ran {
    if let Ok(pidfd) = process::pidfd(child.id()) {
        process::wait_for_end(&pidfd, HUNG);
    }
    let took = begun.elapsed();
    let _ = child.kill();
    let code = child.wait().ok().and_then(|status| status.code());
    let (stdout, stderr) = streams(&mut child);
    Ran { code, stdout, stderr, took }
}

/// What an ended command has written; little enough to have fit its pipes.
pub fn streams(child: &mut Child) -> (String, String) {
    let (mut out, mut err) = (String::new(), String::new());
    let _ = child.stdout.take().map(|mut pipe| pipe.read_to_string(&mut out));
    let _ = child.stderr.take().map(|mut pipe| pipe.read_to_string(&mut err));
    (out.trim().to_owned(), err.trim().replace('\n', "; "))
}

/// The janitor: waits until the selftest is over or dead, then ends what is left of its processes and removes its directory.
///
/// # Errors
/// `usage` when the directory is none of ours.
#[allow(
    unsafe_code,
    reason = "descriptor 3 was given to this process and nothing else in it has used it yet"
)]
pub fn janitor(dir: &Path) -> Result<(), Fault> {
    let named = dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
    if !named || fs::metadata(dir).map_or(true, |dir| dir.uid() != nix::unistd::geteuid().as_raw()) {
        return Err(Fault::usage(format!("{} refused: it is no scratch directory", dir.display())));
    }
    // SAFETY: see above; a descriptor that is not open only fails to be read.
    let mut pipe = unsafe { fs::File::from_raw_fd(THIRD) };
    let _ = pipe.read_to_end(&mut Vec::new());
    let below = dir.to_owned();
    end(|| within(|state| state.starts_with(&below)));
    fs::remove_dir_all(dir).map_err(|error| Fault::io(format!("{} stays: {error}", dir.display())))
}

/// Processes whose state directory is wanted.
fn within(is_wanted: impl Fn(&Path) -> bool) -> impl Iterator<Item = u32> {
    process::all_pids().filter(move |pid| {
        let words = process::arguments(*pid);
        let mut pairs = words.windows(2);
        pairs.any(|pair| pair[0] == "--state-dir" && is_wanted(Path::new(&pair[1])))
    })
}

/// Kills processes and those that they were just starting, until there are none.
fn end<P: Iterator<Item = u32>>(left: impl Fn() -> P) {
    loop {
        let pidfds: Vec<OwnedFd> = left().filter_map(|pid| process::pidfd(pid).ok()).collect();
        if pidfds.is_empty() {
            return;
        }
        for pidfd in &pidfds {
            let _ = process::signal(pidfd, Signal::SIGKILL as i32);
        }
        for pidfd in &pidfds {
            process::wait_for_end(pidfd, HUNG);
        }
    }
}
