//! `agentmux attach NAME`: Codex's own screen on the session's live thread, as the foreground child of this command.
//!
//! This process stays as the screen's parent. A thread of it holds one relay connection, which is what `attached` counts; it
//! is told what happens to the session, shows it in the border of a pane that `panes` has made, and ends the screen when there
//! is nothing to show any more.
//!
//! | The screen | Then |
//! | --- | --- |
//! | ends well | so does this command |
//! | ends with an error, and its child has gone | it is started again when the session has its next child, as often as that happens |
//! | ends with an error otherwise | it is started again, at most three times in a row; then the command is printed for the person to run |
//! | has been without its child for too long (`client/absence.rs`) | it is ended and started again when the session is up again |
//! | answers a question of its child (`client/peek.rs`) | the relay is told first |
//! | asks for another thread (`client/peek.rs`) | the relay is told, the pane's border says so, and so does this command at its end |
//! | shows a bundle or a session that is stopped, or one that is removed | it is ended, and this command says so |

mod watching;

use std::io::IsTerminal;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use crate::boot::statedir::StateDir;
use crate::boot::{process, program, terminal};
use crate::cli::command::send::duration;
use crate::cli::context::Context;
use crate::cli::happening;
use crate::client::absence::Absence;
use crate::client::peek::{self, Door, Seen};
use crate::client::tmux::OwnPane;
use crate::client::{Connection, Sender, shell};
use crate::model::fault::{Code, Fault};
use crate::model::limits;
use crate::model::session::{SessionState, Wanted};
use crate::protocol::answer::{Attached, Shown};
use crate::protocol::check::check_name;
use crate::protocol::request::{Answered, Elsewhere, One, PaneReport};
use watching::Watching;

/// Screens that are started again after an error.
const RELAUNCHES_MAX: u32 = 3;

/// Arguments of `attach`.
#[derive(Debug, Args)]
pub struct Attach {
    /// The session
    name: String,
    /// Print the command that would be run, and run nothing
    #[arg(long)]
    print: bool,
    /// Show the session's state in the border of this pane, which `panes` has made
    #[arg(long, hide = true)]
    pane: bool,
    /// For how long the screen is believed to go on trying to reach its child (ms, s, m, h, d)
    #[arg(long, hide = true, value_name = "DUR", value_parser = duration)]
    patience: Option<u64>,
}

/// What `--print --json` shows.
#[derive(Debug, Serialize)]
struct Printed {
    #[serde(flatten)]
    attached: Attached,
    /// The command, word by word.
    command: Vec<String>,
}

/// The screen that is shown, and why it was ended, for both threads.
#[derive(Debug, Default)]
struct Stage(Mutex<Scene>);

#[derive(Debug, Default)]
struct Scene {
    screen: Option<OwnedFd>,
    ended: Option<Why>,
    /// What the screen shows in place of the session's thread.
    elsewhere: Option<Elsewhere>,
    /// Whether this screen has its child.
    absence: Arc<Mutex<Absence>>,
    /// Whether the child, or the relay that may have died with it, has gone while this screen was shown.
    is_bereft: bool,
    /// Tells the relay.
    relay: Option<Sender>,
}

/// Why the screen was ended by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// The relay was stopped, and its children with it.
    Stopped,
    /// The session was stopped or closed. Its child may live on for others, and a screen would go on starting turns in it.
    Down,
    /// There is no such session any more.
    Removed,
    /// It no longer tries to reach its child.
    Stale,
}

impl Scene {
    fn report(&self) {
        if let Some(relay) = &self.relay {
            relay.send("pane/report", &PaneReport { elsewhere: self.elsewhere.clone(), answered: None });
        }
    }
}

impl Stage {
    fn with<T>(&self, act: impl FnOnce(&mut Scene) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The screen shows another thread, or the session's again.
    fn moved(&self, elsewhere: Option<Elsewhere>) {
        self.with(|scene| {
            if scene.elsewhere != elsewhere {
                scene.elsewhere = elsewhere;
                scene.report();
            }
        });
    }

    /// The screen answers what its child asks.
    fn answers(&self, answered: Answered) {
        self.with(|scene| {
            if let Some(relay) = &scene.relay {
                relay.send("pane/report", &PaneReport { elsewhere: None, answered: Some(answered) });
            }
        });
    }

    /// Whether the screen that is shown no longer tries to reach its child.
    fn is_stale(&self, patience: Duration) -> bool {
        let absence = self.with(|scene| Arc::clone(&scene.absence));
        let absence = absence.lock().unwrap_or_else(PoisonError::into_inner);
        absence.is_stale(Instant::now(), patience)
    }

    /// Ends the screen, if one is shown; what is not about this one alone holds for every later one, too.
    fn end(&self, why: Why) {
        let screen = self.with(|scene| {
            if scene.screen.is_some() || why != Why::Stale {
                scene.ended = Some(why);
            }
            scene.screen.as_ref().and_then(|screen| screen.try_clone().ok())
        });
        // One that cannot reach its child any more may not hear the first word.
        if let Some(screen) = screen {
            let _ = process::signal(&screen, libc::SIGTERM);
            process::wait_for_end(&screen, Duration::from_millis(limits::SCREEN_END_MS));
            let _ = process::signal(&screen, libc::SIGKILL);
        }
    }
}

pub fn run(context: &Context, args: &Attach) -> Result<u8, Fault> {
    check_name(&args.name)?;
    let mut connection = context.connect()?;
    let mut attached: Attached = connection.call("session/attach", &One { name: args.name.clone() })?;
    if args.print {
        let command = words_of(&attached);
        context
            .print(&Printed { attached, command }, |printed| format!("{}\n", shell::line(&printed.command)));
        return Ok(0);
    }
    if !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
        let fault = Fault::refused("attach refused: a screen needs a terminal on stdin and stdout");
        return Err(fault.hint(format!("without one: agentmux look {0} or: agentmux watch {0}", args.name)));
    }
    let mut child = child_of(&mut connection, &args.name)?;
    let stage = Arc::new(Stage::default());
    let pane = if args.pane { OwnPane::find(&context.target.dir()) } else { None };
    let patience = Duration::from_millis(args.patience.unwrap_or(limits::SCREEN_PATIENCE_MS));
    let watch = Watching::new(context.target.clone(), &args.name, Arc::clone(&stage), pane, patience);
    std::thread::spawn(move || watch.run(connection));
    let terminal = terminal::Saved::of_stdin();
    let mut relaunches = 0;
    loop {
        let started = Instant::now();
        let door = door(context, &attached, &stage)?;
        let status = show(&attached, &door.path().display().to_string(), &stage)?;
        drop(door);
        if let Some(elsewhere) = stage.with(|scene| scene.elsewhere.take()) {
            let (name, what) = (&args.name, happening::shown(&elsewhere.how));
            let thread = &attached.thread_id;
            context.tell(&format!(
                "the screen had left {name} and showed {what}; mail goes on into thread {thread}"
            ));
        }
        match stage.with(|scene| scene.ended.take()) {
            None if status.is_none_or(|status| status.success()) => return Ok(0),
            None if status.is_some_and(|status| status.signal().is_some_and(is_farewell)) => {
                return Err(Fault::new(Code::Interrupted, "the screen was ended by a signal"));
            }
            // A crash leaves the terminal as the screen had it.
            None | Some(Why::Stale) => terminal.restore(),
            Some(over) => {
                terminal.restore();
                context.tell(&farewell(&args.name, over));
                return Ok(0);
            }
        }
        if started.elapsed() >= Duration::from_millis(limits::SCREEN_STEADY_MS) {
            relaunches = 0;
        }
        let mut again = context.connect()?;
        attached = match again.call("session/attach", &One { name: args.name.clone() }) {
            Ok(attached) => attached,
            // The screen may hear of the end before the thread beside it does: the last session takes its child along.
            Err(refused) => match over(&mut again, &args.name)? {
                Some(over) => {
                    context.tell(&farewell(&args.name, over));
                    return Ok(0);
                }
                None => return Err(refused.into()),
            },
        };
        // A screen that went with its child has not crashed; one that lost it although the child lives on has.
        let child_now = child_of(&mut again, &args.name)?;
        relaunches += u32::from(child_now == child || !stage.with(|scene| scene.is_bereft));
        child = child_now;
        if relaunches > RELAUNCHES_MAX {
            let fault =
                Fault::refused(format!("attach failed: the screen ended {relaunches} times with an error"));
            return Err(fault.hint(format!("try it by hand: {}", shell::line(&words_of(&attached)))));
        }
    }
}

/// What is said of a session that there is nothing to show of any more.
fn farewell(name: &str, over: Why) -> String {
    match over {
        Why::Down => format!("{name} was stopped; to go on: agentmux up {name}, agentmux attach {name}"),
        Why::Removed => format!("{name} was removed"),
        Why::Stopped | Why::Stale => "the relay was stopped, and the session with it".to_owned(),
    }
}

/// Whether a session that cannot be attached to is over, and how.
fn over(connection: &mut Connection, name: &str) -> Result<Option<Why>, Fault> {
    Ok(match connection.listed(name)? {
        None => Some(Why::Removed),
        Some(own) if own.state == SessionState::Stopped && own.wanted == Wanted::Down => Some(Why::Down),
        Some(_) => None,
    })
}

/// The process of a session's child, which tells one child from the next.
fn child_of(connection: &mut Connection, name: &str) -> Result<Option<u32>, Fault> {
    let shown: Shown = connection.call("session/show", &One { name: name.to_owned() })?;
    Ok(shown.session.child_pid)
}

/// Runs the screen in the foreground until it ends; `None` when there was nothing to show any more. ^C and ^\ are the
/// screen's business, as in a shell.
fn show(attached: &Attached, socket: &str, stage: &Stage) -> Result<Option<ExitStatus>, Fault> {
    outlive_terminal_signals();
    let words = words_at(attached, socket);
    let failed =
        |error: std::io::Error| Fault::refused(format!("attach failed: {} cannot be run: {error}", words[0]));
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).current_dir(existing(&attached.dir));
    let begin = |scene: &mut Scene| {
        if scene.ended.is_some() {
            return Ok(None);
        }
        let child = command.spawn()?;
        scene.screen = process::pidfd(child.id()).ok();
        Ok(Some(child))
    };
    let Some(mut child) = stage.with(begin).map_err(failed)? else { return Ok(None) };
    let status = child.wait().map_err(failed);
    stage.with(|scene| scene.screen = None);
    status.map(Some)
}

/// The command that shows the thread: Codex's own screen, as a remote of the session's child.
fn words_of(attached: &Attached) -> Vec<String> {
    words_at(attached, &attached.socket)
}

/// A socket of this screen's own, so that it is known when it leaves the session's thread.
fn door(context: &Context, attached: &Attached, stage: &Arc<Stage>) -> Result<Door, Fault> {
    let target = &context.target;
    let dir = StateDir::create(&target.state_root, &target.bundle.name)?;
    peek::clear_up(&dir);
    let stage = Arc::clone(stage);
    let panes = Path::new(&attached.socket).file_name().map(|name| name.to_string_lossy().into_owned());
    let panes = dir.socket_path(&panes.unwrap_or_default());
    let absence = Arc::<Mutex<Absence>>::default();
    stage.with(|scene| (scene.absence, scene.is_bereft) = (Arc::clone(&absence), false));
    let told = Arc::new(move |seen| {
        let mut absence = absence.lock().unwrap_or_else(PoisonError::into_inner);
        match seen {
            Seen::Joined => absence.joined(),
            Seen::Left { by_child } => {
                absence.left(Instant::now());
                if by_child {
                    stage.with(|scene| scene.is_bereft = true);
                }
            }
            Seen::Shows(elsewhere) => stage.moved(elsewhere),
            Seen::Answers(answered) => stage.answers(answered),
        }
    });
    Door::open(dir, panes, attached.thread_id.clone(), told)
}

fn words_at(attached: &Attached, socket: &str) -> Vec<String> {
    let native = program::native_behind(Path::new(&attached.program));
    let socket = format!("unix://{socket}");
    [
        native.display().to_string(),
        "--remote".to_owned(),
        socket,
        "resume".to_owned(),
        attached.thread_id.clone(),
    ]
    .to_vec()
}

/// Whether a signal means that nobody wants the screen any more; any other is a crash.
fn is_farewell(signal: i32) -> bool {
    [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM].contains(&signal)
}

fn existing(dir: &str) -> &Path {
    let dir = Path::new(dir);
    if dir.is_dir() { dir } else { Path::new("/") }
}

/// A handler that does nothing, not `SIG_IGN`: the screen shall not inherit it.
#[allow(unsafe_code, reason = "sigaction; the handler does nothing")]
fn outlive_terminal_signals() {
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
    extern "C" fn nothing(_: i32) {}
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGQUIT] {
        // SAFETY: a handler that does nothing is async-signal-safe.
        if let Err(error) = unsafe { sigaction(signal, &action) } {
            log::debug!("catching {signal} failed: {error}");
        }
    }
}
