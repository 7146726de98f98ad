//! tmux, for panes: in the person's own server when there is one, else on a server of the bundle's own.
//!
//! Everything for one window is one command line of tmux, because a part of it then means the pane that the part before has made.
//!
//! **Invariant:** only options of windows and panes that we have made are set; the person's own are never touched.
//! **Invariant:** panes are known by the option [`MARK`], never by title or place.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::shell::quoted;
use crate::boot::process;
use crate::model::fault::Fault;
use crate::model::limits;
use crate::model::name::Name;

/// The bundle's own server.
pub const SOCKET: &str = "tmux.sock";
/// The option that marks a pane: the bundle's directory, `/`, and the session.
const MARK: &str = "@agentmux";
/// What the border of a pane shows.
const BORDER: &str = "#{?#{==:#{@agentmux_state},waiting},#[fg=yellow#,bold],#{?#{==:#{@agentmux_state},busy},#[fg=cyan],}} \
                      #{@agentmux_name} · #{@agentmux_label} #[default]";

/// A tmux server to show panes in.
#[derive(Debug)]
pub struct Tmux {
    /// The bundle's own server; `None` for the one that this process runs in.
    socket: Option<PathBuf>,
    /// The bundle's directory.
    dir: PathBuf,
}

/// One pane that there is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shown {
    pane: String,
    window: String,
    session: String,
    is_dead: bool,
}

/// A command line of tmux, in parts.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    parts: Vec<Vec<String>>,
}

impl Tmux {
    /// The server for panes of the bundle in `dir`.
    pub fn of(dir: &Path) -> Tmux {
        let inside = std::env::var_os("TMUX").is_some_and(|value| !value.is_empty());
        Tmux { socket: (!inside).then(|| dir.join(SOCKET)), dir: dir.to_owned() }
    }

    /// The bundle's own server, if this is it.
    pub fn socket(&self) -> Option<&Path> {
        self.socket.as_deref()
    }

    /// What makes each session have a pane, as far as it has none, with so many in a window: nothing when all have one.
    ///
    /// # Errors
    /// `refused` when there is no tmux.
    pub fn plan(
        &self,
        title: &str,
        sessions: &[Name],
        command: impl Fn(&Name) -> Vec<String>,
        size: (u16, u16),
        most: usize,
    ) -> Result<Plan, Fault> {
        let (shown, is_running) = self.panes()?;
        let of_mark =
            |name: &Name| shown.iter().find(|(mark, _)| *mark == self.mark(name)).map(|(_, pane)| pane);
        let mut plan = Plan::default();
        for name in sessions {
            if let Some(dead) = of_mark(name).filter(|pane| pane.is_dead) {
                plan.add(["respawn-pane", "-t", &dead.pane].map(str::to_owned).to_vec(), command(name));
            }
        }
        let ours = format!("{}/", self.dir.display());
        let of_us = || shown.iter().filter(|(mark, _)| mark.starts_with(&ours)).map(|(_, pane)| pane);
        let mut window = of_us().next_back().map(|pane| pane.window.clone());
        let mut panes = of_us().filter(|pane| Some(&pane.window) == window.as_ref()).count();
        for name in sessions.iter().filter(|name| of_mark(name).is_none()) {
            let begin: Vec<&str> = match &window {
                Some(window) if panes < most => vec!["split-window", "-t", window],
                _ if self.socket.is_some() && !is_running && window.is_none() => {
                    vec!["new-session", "-d", "-s", title, "-n", title]
                }
                _ => vec!["new-window", "-n", title],
            };
            let is_split = begin[0] == "split-window";
            let mut begin: Vec<String> = begin.into_iter().map(str::to_owned).collect();
            if begin[0] == "new-session" {
                let (columns, rows) = (size.0.to_string(), size.1.to_string());
                begin.extend(["-x".to_owned(), columns, "-y".to_owned(), rows]);
            }
            plan.add(begin, command(name));
            panes = if is_split { panes + 1 } else { 1 };
            self.dress(&mut plan, name, !is_split);
            // Later parts mean the window that this part has made.
            window = Some(String::new());
        }
        // An empty target is the pane that the part before has made.
        for part in &mut plan.parts {
            if part.first().is_some_and(|word| word == "split-window")
                && part.get(2).is_some_and(String::is_empty)
            {
                part.drain(1..3);
            }
        }
        Ok(plan)
    }

    /// Marks the newest pane and gives it its border; a new window's borders are shown.
    fn dress(&self, plan: &mut Plan, name: &Name, is_window: bool) {
        let mut set = |scope: &str, option: &str, value: &str| {
            plan.parts.push(["set-option", scope, option, value].map(str::to_owned).to_vec());
        };
        set("-p", MARK, &self.mark(name));
        set("-p", "@agentmux_name", name.as_str());
        set("-p", "@agentmux_label", "starting");
        // A pane whose screen ended well closes; one that gave up keeps its last words.
        set("-p", "remain-on-exit", "failed");
        if is_window {
            set("-w", "pane-border-status", "top");
            set("-w", "pane-border-format", BORDER);
            set("-w", "automatic-rename", "off");
            set("-w", "allow-rename", "off");
        }
        plan.parts.push(["select-pane", "-T", name.as_str()].map(str::to_owned).to_vec());
        plan.parts.push(["select-layout", "tiled"].map(str::to_owned).to_vec());
    }

    fn mark(&self, name: &Name) -> String {
        format!("{}/{name}", self.dir.display())
    }

    /// Does what was planned. When a window has no room for another pane it tells how many it has, and the panes after that are missing.
    ///
    /// # Errors
    /// `refused` with tmux's own words.
    pub fn perform(&self, plan: &Plan) -> Result<Option<usize>, Fault> {
        if plan.parts.is_empty() {
            return Ok(None);
        }
        let words: Vec<&str> = plan.words();
        // A server that was ended a moment ago takes the new one's first client with it.
        let mut left = limits::TMUX_TRIES;
        loop {
            let output = self.run(&words)?;
            left -= 1;
            if output.status.success() {
                return Ok(None);
            }
            let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            if why.contains("no space for new pane") {
                return self.newest_count().map(Some);
            }
            if left == 0 || !why.contains("server exited unexpectedly") {
                return Err(Fault::refused(format!("panes failed: tmux says: {why}")));
            }
        }
    }

    /// How many panes the newest window of ours has.
    fn newest_count(&self) -> Result<usize, Fault> {
        let ours = format!("{}/", self.dir.display());
        let shown = self.shown()?;
        let panes: Vec<&Shown> =
            shown.iter().filter(|(mark, _)| mark.starts_with(&ours)).map(|(_, pane)| pane).collect();
        let newest = panes.last().map(|pane| &pane.window);
        Ok(panes.iter().filter(|pane| Some(&pane.window) == newest).count())
    }

    /// Shows the person the window that has these panes.
    ///
    /// # Errors
    /// `refused` with tmux's own words.
    pub fn select(&self, sessions: &[Name]) -> Result<(), Fault> {
        let shown = self.shown()?;
        let first = sessions.iter().find_map(|name| shown.iter().find(|(mark, _)| *mark == self.mark(name)));
        let Some((_, pane)) = first else { return Ok(()) };
        let output = self.run(&["select-window", "-t", &pane.window])?;
        if self.socket.is_none() && output.status.success() {
            // The panes may be in another session of the person's server; that fails when nobody is attached to it.
            self.run(&["switch-client", "-t", &pane.session])?;
        }
        Ok(())
    }

    /// The words that show the bundle's own server in a terminal.
    pub fn attach_words(&self) -> Vec<String> {
        let mut words = self.program();
        words.push("attach-session".to_owned());
        words
    }

    /// Shows the bundle's own server in this terminal, until the person leaves it.
    ///
    /// # Errors
    /// `refused` when tmux cannot be run.
    pub fn attach(&self) -> Result<(), Fault> {
        let words = self.attach_words();
        let status =
            Command::new(&words[0]).args(&words[1..]).env_remove("TMUX").current_dir(&self.dir).status();
        status.map(|_| ()).map_err(|error| missing(&error))
    }

    /// What a plan looks like for a shell.
    pub fn written(&self, plan: &Plan) -> String {
        let program: Vec<String> = self.program().iter().map(|word| quoted(word)).collect();
        let parts: Vec<String> = plan
            .parts
            .iter()
            .map(|part| part.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "))
            .collect();
        if parts.is_empty() {
            String::new()
        } else {
            format!("{} {}\n", program.join(" "), parts.join(" \\; \\\n  "))
        }
    }

    /// Every marked pane, in tmux's order.
    fn shown(&self) -> Result<Vec<(String, Shown)>, Fault> {
        Ok(self.panes()?.0)
    }

    /// Every marked pane, and whether a server runs at all.
    fn panes(&self) -> Result<(Vec<(String, Shown)>, bool), Fault> {
        let format = "#{@agentmux}\t#{pane_id}\t#{window_id}\t#{session_id}\t#{pane_dead}";
        let output = self.run(&["list-panes", "-a", "-F", format])?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let pane = |line: &str| {
            let mut words = line.split('\t').map(str::to_owned);
            let mark = words.next().filter(|mark| !mark.is_empty())?;
            let (pane, window, session) = (words.next()?, words.next()?, words.next()?);
            Some((mark, Shown { pane, window, session, is_dead: words.next()? == "1" }))
        };
        Ok((text.lines().filter_map(pane).collect(), !text.is_empty()))
    }

    fn program(&self) -> Vec<String> {
        match &self.socket {
            None => vec!["tmux".to_owned()],
            Some(socket) => {
                // tmux runs in the bundle's directory, so that a path that is too long for a socket is never needed.
                let long = socket.as_os_str().len() > limits::SOCKET_PATH_BYTES_MAX;
                let socket = if long { format!("./{SOCKET}") } else { socket.display().to_string() };
                ["tmux", "-S", &socket, "-f", "/dev/null"].map(str::to_owned).to_vec()
            }
        }
    }

    fn run(&self, words: &[&str]) -> Result<Output, Fault> {
        let program = self.program();
        let mut command = Command::new(&program[0]);
        command.args(&program[1..]).args(words);
        if self.socket.is_some() {
            command.current_dir(&self.dir).env_remove("TMUX");
        }
        output_in_time(command)
    }
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    fn add(&mut self, mut part: Vec<String>, command: Vec<String>) {
        part.push("--".to_owned());
        part.extend(command);
        self.parts.push(part);
    }

    fn words(&self) -> Vec<&str> {
        let parts: Vec<Vec<&str>> =
            self.parts.iter().map(|part| part.iter().map(String::as_str).collect()).collect();
        parts.join(&";")
    }
}

/// The pane that this process runs in, when `panes` has made it.
#[derive(Debug)]
pub struct OwnPane {
    pane: String,
    dir: PathBuf,
    shown: Option<(String, String)>,
}

impl OwnPane {
    /// Finds it by what tmux tells its programs.
    pub fn find(dir: &Path) -> Option<OwnPane> {
        let pane = std::env::var("TMUX_PANE").ok().filter(|pane| pane.starts_with('%'))?;
        Some(OwnPane { pane, dir: dir.to_owned(), shown: None })
    }

    /// Shows a state in the pane's border, unless it is shown already.
    pub fn show(&mut self, state: &str, label: &str) {
        let shown = Some((state.to_owned(), label.to_owned()));
        if self.shown == shown {
            return;
        }
        let words = ["set-option", "-p", "-t", &self.pane, "@agentmux_state", state, ";"];
        let more = ["set-option", "-p", "-t", &self.pane, "@agentmux_label", label];
        let mut command = Command::new("tmux");
        command.args(words).args(more).current_dir(&self.dir);
        if output_in_time(command).is_ok_and(|output| output.status.success()) {
            self.shown = shown;
        }
    }
}

/// Ends the bundle's own server when no program runs in its panes any more; waits a moment for those that are about to end.
pub fn end_if_unused(dir: &Path) {
    let socket = dir.join(SOCKET);
    if !socket.exists() {
        return;
    }
    let tmux = Tmux { socket: Some(socket.clone()), dir: dir.to_owned() };
    for _ in 0..limits::PANES_END_LOOKS {
        let Ok(panes) = tmux.run(&["list-panes", "-a", "-F", "#{pane_dead}"]) else { return };
        if !panes.status.success() {
            // No server: only its socket's name is left.
            let _ = std::fs::remove_file(&socket);
            return;
        }
        if String::from_utf8_lossy(&panes.stdout).lines().all(|dead| dead == "1") {
            let _ = tmux.run(&["kill-server"]);
            let _ = std::fs::remove_file(&socket);
            return;
        }
        // A bounded look again, because tmux tells a stranger nothing of the end of a program.
        std::thread::sleep(Duration::from_millis(limits::PANES_END_LOOK_MS));
    }
}

/// Runs a command of tmux to its end: one whose server is stopped would wait for ever.
fn output_in_time(mut command: Command) -> Result<Output, Fault> {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().map_err(|error| missing(&error))?;
    let pidfd = process::pidfd(child.id());
    let (ended, end) = mpsc::channel();
    std::thread::spawn(move || ended.send(child.wait_with_output()));
    if let Ok(output) = end.recv_timeout(Duration::from_millis(limits::TMUX_MS)) {
        return output.map_err(|error| missing(&error));
    }
    if let Ok(pidfd) = pidfd {
        let _ = process::signal(&pidfd, libc::SIGKILL);
    }
    let fault = format!("panes failed: tmux has not ended within {} s", limits::TMUX_MS / 1000);
    Err(Fault::busy(fault).hint("its server may be stopped, or busy; the sessions go on without panes"))
}

fn missing(error: &std::io::Error) -> Fault {
    Fault::refused(format!("panes failed: tmux cannot be run: {error}"))
        .hint("install tmux, or open one terminal for each session: agentmux attach NAME")
}
