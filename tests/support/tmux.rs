//! One terminal pane on a tmux server of its own inside a house: what a person at a screen would see and type.
//!
//! **Invariant:** the socket lies in the house and is named `pane*.sock`, so that the janitor finds it. **Invariant:** the
//! person's tmux configuration and server are never touched.
//!
//! Deliberately absent: colours, the mouse, several panes per server.

use super::house::House;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A detached session with one program in it; its server is killed when dropped.
#[derive(Debug)]
pub struct Pane {
    socket: PathBuf,
    environment: Vec<(String, String)>,
}

impl Pane {
    /// Starts a program, without a shell between, on a screen of so many columns and rows, in the project directory.
    #[track_caller]
    pub fn start(house: &House, (columns, rows): (u16, u16), command: &[&str]) -> Pane {
        Pane::start_with(house, (columns, rows), command, &[])
    }

    /// As [`start`](Self::start), with more variables.
    #[track_caller]
    pub fn start_with(
        house: &House,
        (columns, rows): (u16, u16),
        command: &[&str],
        variables: &[(&str, &str)],
    ) -> Pane {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let configuration = house.dir().join("pane.conf");
        std::fs::write(&configuration, CONFIGURATION).expect("the house is writable");
        let socket = house.dir().join(format!("pane{number}.sock"));
        let more = variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        let pane = Pane { socket, environment: house.environment().into_iter().chain(more).collect() };
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let mut tmux = pane.tmux();
        tmux.arg("-f").arg(configuration).args(["new-session", "-d", "-x", &columns, "-y", &rows, "-c"]);
        tmux.arg(house.project()).arg("--");
        match command {
            // A single word would be taken for a shell's command line.
            [word] => tmux.args(["env", word]),
            words => tmux.args(words),
        };
        output(tmux);
        pane
    }

    /// Lets the pane show `tmux attach` of another server, for instance the relay's `tmux.sock`.
    #[track_caller]
    pub fn attach(house: &House, size: (u16, u16), socket: &Path) -> Pane {
        let socket = socket.to_str().expect("the house's paths are UTF-8");
        Pane::start(house, size, &["env", "-u", "TMUX", "tmux", "-S", socket, "attach"])
    }

    /// Where its server listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The screen's text; wrapped lines are joined.
    #[track_caller]
    pub fn capture(&self) -> String {
        let mut tmux = self.tmux();
        tmux.args(["capture-pane", "-p", "-J"]);
        output(tmux)
    }

    /// The screen's text and all that has scrolled off it.
    #[track_caller]
    pub fn capture_all(&self) -> String {
        let mut tmux = self.tmux();
        tmux.args(["capture-pane", "-p", "-J", "-S", "-"]);
        output(tmux)
    }

    /// Waits until the screen shows this.
    #[track_caller]
    pub fn wait_for(&self, needle: &str, deadline: Duration) -> String {
        self.wait_until(&format!("`{needle}`"), deadline, |screen| screen.contains(needle))
    }

    /// Waits until the screen satisfies the condition, and returns it.
    ///
    /// Looks at the screen every 30 ms, because tmux has no event for "the screen now shows this text": control mode
    /// delivers the program's raw bytes, and only the screen they make is what a person sees.
    ///
    /// # Panics
    /// After the deadline, or when the program ends without, with the screen.
    #[track_caller]
    pub fn wait_until(&self, what: &str, deadline: Duration, condition: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + deadline;
        loop {
            // Asked before the look, so that a program's last words are still seen.
            let exit = self.exit_code();
            let screen = self.capture();
            if condition(&screen) {
                return screen;
            }
            assert!(
                exit.is_none(),
                "the program ended ({exit:?}) without {what}\n{}",
                framed(&self.capture_all())
            );
            assert!(Instant::now() < end, "no {what} on the screen in {deadline:?}\n{}", framed(&screen));
            // A bounded poll, because tmux has no event for what a screen shows.
            std::thread::sleep(LOOK);
        }
    }

    /// Presses a key until the screen satisfies the condition, as a person does who sees that a key was not taken.
    ///
    /// Codex 0.169 drops a key that arrives in the first milliseconds of an approval's dialog (7 of 48 at once after the
    /// dialog was on the screen, none of 48 after 100 ms or more).
    ///
    /// # Panics
    /// After the deadline, with the screen.
    #[track_caller]
    pub fn press_until(
        &self,
        key: &str,
        what: &str,
        deadline: Duration,
        condition: impl Fn(&str) -> bool,
    ) -> String {
        let end = Instant::now() + deadline;
        loop {
            self.send_keys(&[key]);
            let patience = Instant::now() + NOT_TAKEN;
            while Instant::now() < patience {
                let screen = self.capture();
                if condition(&screen) {
                    return screen;
                }
                assert!(Instant::now() < end, "no {what} on the screen in {deadline:?}\n{}", framed(&screen));
                // A bounded poll, because tmux has no event for what a screen shows.
                std::thread::sleep(LOOK);
            }
        }
    }

    /// Waits until the program in the pane has ended, and returns its exit code (128 + N after signal N).
    #[track_caller]
    pub fn wait_for_exit(&self, deadline: Duration) -> i32 {
        let end = Instant::now() + deadline;
        loop {
            if let Some(code) = self.exit_code() {
                return code;
            }
            assert!(Instant::now() < end, "still running after {deadline:?}\n{}", framed(&self.capture()));
            // A bounded poll, because tmux has no event for what a screen shows.
            std::thread::sleep(LOOK);
        }
    }

    /// The program's exit code, if it has ended and tmux has been told how: its terminal closes a moment before that.
    #[track_caller]
    pub fn exit_code(&self) -> Option<i32> {
        let text = self.format("#{pane_dead} #{pane_dead_status} #{pane_dead_signal}");
        let mut words = text.trim_end_matches('\n').split(' ');
        if words.next() != Some("1") {
            return None;
        }
        let code = words.next().and_then(|word| word.parse().ok());
        let signal = words.next().and_then(|word| word.parse::<i32>().ok());
        let code = code.or_else(|| Some(128 + signal?));
        if code.is_none() {
            self.tell_of_ends();
        }
        code
    }

    /// Tells tmux once more that a program of its own may have ended; no code is made up. tmux 3.3a can miss the signal (measured: the
    /// program a zombie, its terminal closed, nothing waited for until the next such signal, often when a test runs alone).
    pub fn tell_of_ends(&self) {
        if let Ok(server) = self.format("#{pid}").trim().parse() {
            let _ = kill(Pid::from_raw(server), Signal::SIGCHLD);
        }
    }

    /// The value of a tmux format in the pane, for instance `#{pane_title}` or `#{pane_pid}`.
    #[track_caller]
    pub fn format(&self, format: &str) -> String {
        let mut tmux = self.tmux();
        tmux.args(["display-message", "-p", format]);
        output(tmux)
    }

    /// Types this text, as it stands.
    #[track_caller]
    pub fn type_text(&self, text: &str) {
        let mut tmux = self.tmux();
        tmux.args(["send-keys", "-l", "--", text]);
        output(tmux);
    }

    /// Presses keys by tmux's names: `Enter`, `C-c`, `Escape`, `Tab`, `Up`.
    #[track_caller]
    pub fn send_keys(&self, keys: &[&str]) {
        let mut tmux = self.tmux();
        tmux.arg("send-keys").args(keys);
        output(tmux);
    }

    /// Changes the screen's size.
    #[track_caller]
    pub fn resize(&self, columns: u16, rows: u16) {
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let mut tmux = self.tmux();
        tmux.args(["resize-window", "-x", &columns, "-y", &rows]);
        output(tmux);
    }

    /// Closes the terminal, as a person closes a window: the program gets SIGHUP.
    pub fn kill(self) {}

    fn tmux(&self) -> Command {
        let mut tmux = Command::new("tmux");
        tmux.env_clear().envs(self.environment.iter().cloned()).arg("-S").arg(&self.socket);
        tmux
    }
}

impl Drop for Pane {
    fn drop(&mut self) {
        let _ = self.tmux().arg("kill-server").output();
    }
}

#[track_caller]
fn output(mut tmux: Command) -> String {
    let output = tmux.output().expect("tmux is installed; scripts/tools does it");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tmux:?}: {}", errors.trim());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn framed(screen: &str) -> String {
    format!("--- screen ---\n{}\n--- end of screen ---", screen.trim_end())
}

/// The screen of a program that has ended stays readable; Escape reaches the program at once.
const CONFIGURATION: &str = "set -g remain-on-exit on\nset -g status off\nset -g escape-time 0\n\
                             set -g default-terminal tmux-256color\nset -g history-limit 10000\n";
const LOOK: Duration = Duration::from_millis(30);
/// How long a key may go without effect before it is pressed again.
const NOT_TAKEN: Duration = Duration::from_millis(500);
