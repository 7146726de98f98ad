//! The house: a state directory, a home, a Codex home and a project of a test's own, and the real `agentmux` run in them.
//!
//! **Invariant:** a program started here sees nothing of the person who runs the tests: its environment is emptied, and
//! every path in it but `PATH` lies inside the house. **Invariant:** nothing outlives the house, even when the test process is killed with
//! -9: the janitor (`tests/support/janitor`) waits at the end of a pipe that only this process holds open. **Invariant:**
//! only processes that carry the house's mark in their environment are ever signalled.
//!
//! Deliberately absent: sleeps, and anything that starts a relay by itself.

use super::call::Call;
use super::model::ScriptedModel;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

/// The bundle that every call in a house means unless it says otherwise.
pub const BUNDLE: &str = "test";

/// One hermetic place, removed with everything in it when dropped.
#[derive(Debug)]
pub struct House {
    dir: PathBuf,
    codex: PathBuf,
    environment: Vec<(String, String)>,
    janitor: Child,
    janitor_pipe: Option<ChildStdin>,
}

impl House {
    /// A house without Codex: a test that needs none must not start one by accident.
    pub fn new() -> House {
        House::build(None)
    }

    /// A house whose `AGENTMUX_CODEX` is this program: a fake, or another version.
    pub fn with_codex(program: &Path) -> House {
        House::build(Some(program.to_owned()))
    }

    /// A house with the real Codex, configured to ask the scripted model.
    pub fn real(model: &ScriptedModel) -> House {
        let house = House::with_codex(&codex_program());
        house.write_codex_config(model);
        house
    }

    fn build(codex: Option<PathBuf>) -> House {
        let temporary = fs::canonicalize(std::env::temp_dir()).expect("the temporary directory exists");
        // A short name: the sockets inside must stay within the 100 bytes of a socket address.
        let dir = tempfile::Builder::new().prefix("amx").rand_bytes(6).tempdir_in(temporary);
        let dir = dir.expect("a temporary directory").keep(); // the janitor removes it
        // The mark comes first: without it the janitor touches nothing.
        fs::write(dir.join("house"), format!("test process {}\n", std::process::id()))
            .expect("the house's mark");
        let mut janitor = Command::new("setsid") // a session of its own, so that ^C ends the test and not the janitor
            .arg(support().join("janitor"))
            .args([dir.as_os_str(), OsStr::new(AGENTMUX)])
            .env_clear()
            .env("PATH", path())
            .env("LANG", "C.UTF-8")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("the janitor (tests/support/janitor) starts");
        let janitor_pipe = janitor.stdin.take();
        for place in ["state", "config", "home", "codex", "project", "tmp"] {
            fs::create_dir(dir.join(place)).expect("the rooms of a fresh house");
        }
        let codex = codex.unwrap_or_else(|| dir.join("no-codex-in-this-house"));
        House { dir, codex, environment: Vec::new(), janitor, janitor_pipe }
    }

    /// The house's own directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// `AGENTMUX_STATE_DIR`.
    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// `AGENTMUX_CONFIG_DIR`.
    pub fn config_dir(&self) -> PathBuf {
        self.dir.join("config")
    }

    /// `HOME`.
    pub fn home(&self) -> PathBuf {
        self.dir.join("home")
    }

    /// `CODEX_HOME`.
    pub fn codex_home(&self) -> PathBuf {
        self.dir.join("codex")
    }

    /// The directory that calls are made in.
    pub fn project(&self) -> PathBuf {
        self.dir.join("project")
    }

    /// Where the relay of [`BUNDLE`] keeps its files.
    pub fn bundle_dir(&self) -> PathBuf {
        self.state_dir().join("bundles").join(BUNDLE)
    }

    /// The program in `AGENTMUX_CODEX`.
    pub fn codex(&self) -> &Path {
        &self.codex
    }

    /// Sets a variable for every later call.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Any program with the house's environment, in the project directory.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(self.environment()).current_dir(self.project());
        command
    }

    /// The environment of everything that runs in the house.
    pub fn environment(&self) -> Vec<(String, String)> {
        let text = |path: &Path| path.to_str().expect("the house's paths are UTF-8").to_owned();
        let fixed = [
            ("PATH", path()),
            ("LANG", "C.UTF-8".to_owned()),
            ("HOME", text(&self.home())),
            ("TMPDIR", text(&self.dir.join("tmp"))),
            ("AGENTMUX_STATE_DIR", text(&self.state_dir())),
            ("AGENTMUX_CONFIG_DIR", text(&self.config_dir())),
            ("AGENTMUX_BUNDLE", BUNDLE.to_owned()),
            ("AGENTMUX_CODEX", text(&self.codex)),
            ("CODEX_HOME", text(&self.codex_home())),
            (MARK, text(&self.dir)),
        ];
        let fixed = fixed.into_iter().map(|(name, value)| (name.to_owned(), value));
        fixed.chain(self.environment.iter().cloned()).collect()
    }

    /// A call of `agentmux`, to be given stdin, variables or a deadline before it is run.
    pub fn call(&self, arguments: &[&str]) -> Call {
        let mut command = self.command(AGENTMUX);
        command.args(arguments);
        self.call_of(command)
    }

    /// Any program as a [`Call`]; begin with [`command`](Self::command).
    pub fn call_of(&self, command: Command) -> Call {
        Call::new(command, self.bundle_dir().join("relay.log"))
    }

    /// Runs `agentmux` to its end, with empty stdin.
    pub fn run(&self, arguments: &[&str]) -> super::call::Ran {
        self.call(arguments).run()
    }

    /// Runs `agentmux` to its end, with these bytes on stdin.
    pub fn run_with_stdin(&self, arguments: &[&str], stdin: impl Into<Vec<u8>>) -> super::call::Ran {
        self.call(arguments).stdin(stdin).run()
    }

    /// Starts `agentmux`; it is killed when the guard is dropped.
    pub fn spawn(&self, arguments: &[&str]) -> super::call::Spawned {
        self.call(arguments).spawn()
    }

    /// Writes `config.toml` in the Codex home: the scripted model as provider, no retries, no network, project trusted.
    pub fn write_codex_config(&self, model: &ScriptedModel) {
        let quoted = |text: &str| toml::Value::from(text).to_string();
        let project = self.project();
        let config = format!(
            "model = \"mock-model\"\nmodel_provider = \"mock\"\ncheck_for_update_on_startup = false\n\n\
             [model_providers.mock]\nname = \"mock\"\nbase_url = {}\nwire_api = \"responses\"\n\
             request_max_retries = 0\nstream_max_retries = 0\n\n\
             [features]\nplugins = false\n\n[analytics]\nenabled = false\n\n\
             [projects.{}]\ntrust_level = \"trusted\"\n",
            quoted(&model.base_url()),
            quoted(project.to_str().expect("the house's paths are UTF-8")),
        );
        fs::write(self.codex_home().join("config.toml"), config).expect("the Codex home is writable");
    }

    /// The relay's log so far; empty when there is none.
    pub fn relay_log(&self) -> String {
        fs::read_to_string(self.bundle_dir().join("relay.log")).unwrap_or_default()
    }

    /// The pid in `relay.lock`, whether or not that process still lives.
    pub fn relay_pid(&self) -> Option<i32> {
        let text = fs::read_to_string(self.bundle_dir().join("relay.lock")).ok()?;
        let digits = text.split("pid=").nth(1)?;
        digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    }

    /// The living processes of the house, whoever started them, in ascending order. The relay, Codex, shells, screens.
    pub fn processes(&self) -> Vec<i32> {
        let marks = [format!("{MARK}={}", self.dir.display()), format!("HOME={}", self.home().display())];
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").expect("a Linux /proc").flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let environ = fs::read(entry.path().join("environ")).unwrap_or_default();
            let mut variables = environ.split(|&byte| byte == 0);
            if variables.any(|variable| marks.iter().any(|mark| mark.as_bytes() == variable)) {
                found.push(pid);
            }
        }
        found.sort_unstable();
        found
    }

    /// Kills one process of the house with -9.
    #[track_caller]
    pub fn kill_nine(&self, pid: i32) {
        assert!(self.processes().contains(&pid), "{pid} is not a process of this house");
        let pid = nix::unistd::Pid::from_raw(pid);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL)
            .expect("a process of ours can be killed");
    }

    /// Waits until no process of the house is left; a call that is still guarded counts.
    #[track_caller]
    pub fn wait_until_empty(&self, deadline: Duration) {
        self.poll("the house to be empty", deadline, || {
            let left = self.processes();
            if left.is_empty() { Ok(()) } else { Err(left.iter().map(|&pid| describe(pid)).collect()) }
        });
    }

    /// Looks again and again until the look succeeds. For facts of the system that no event announces to a stranger (a
    /// process that is not our child, a file that another program writes); what has an event is waited for by it.
    ///
    /// # Panics
    /// After the deadline, with what the last look said and the relay's log.
    #[track_caller]
    pub fn poll<T>(&self, what: &str, deadline: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
        let end = Instant::now() + deadline;
        loop {
            match look() {
                Ok(found) => return found,
                Err(seen) if Instant::now() > end => {
                    panic!("waited {deadline:?} in vain for {what}; seen last: {seen}\n{}", self.evidence())
                }
                // A bounded poll, because what is waited for here offers no event to a stranger.
                Err(_) => std::thread::sleep(POLL),
            }
        }
    }

    /// Leaves the directory for a person to look at when the house is dropped.
    pub fn keep(&mut self) {
        if let Some(pipe) = &mut self.janitor_pipe {
            let _ = pipe.write_all(b"keep\n");
        }
    }

    fn evidence(&self) -> String {
        format!("--- relay.log of {} ---\n{}--- end of relay.log ---", self.dir.display(), self.relay_log())
    }
}

impl Default for House {
    fn default() -> House {
        House::new()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.evidence());
            if std::env::var_os(KEEP).is_some() {
                self.keep();
                eprintln!("kept: {}", self.dir.display());
            } else {
                eprintln!("hint: {KEEP}=1 keeps the directory of a failed test");
            }
        }
        drop(self.janitor_pipe.take());
        let _ = self.janitor.wait();
    }
}

/// The real Codex: `AGENTMUX_CODEX` of the test run, else what `scripts/tools` installed.
#[track_caller]
pub fn codex_program() -> PathBuf {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/codex/node_modules/.bin/codex");
    let program = std::env::var_os("AGENTMUX_CODEX").map_or(installed, PathBuf::from);
    assert!(program.is_file(), "no Codex at {}; run scripts/tools first", program.display());
    program
}

fn support() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support")
}

fn path() -> String {
    std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".to_owned())
}

fn describe(pid: i32) -> String {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = String::from_utf8_lossy(&words).replace('\0', " ");
    format!("[{pid} {}] ", words.trim())
}

const AGENTMUX: &str = env!("CARGO_BIN_EXE_agentmux");
/// The variable that marks every process of a house; its value is the house's directory.
const MARK: &str = "AGENTMUX_HOUSE";
const KEEP: &str = "AGENTMUX_KEEP_HOUSE";
const POLL: Duration = Duration::from_millis(10);
