//! `agentmux panes`: the team side by side, in real tmux, with the real Codex, looked at as a person sees it.

use super::support::House;
use super::support::model::{Rule, ScriptedModel};
use super::support::tmux::Pane;
use super::support::{codex_program, write_script};
use super::{DEADLINE, deliver};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::Path;

const AGENTMUX: &str = env!("CARGO_BIN_EXE_agentmux");

fn team() -> (ScriptedModel, House) {
    let model = ScriptedModel::start();
    let house = House::real(&model);
    for name in ["lead", "reviewer"] {
        let _ = house.run(&["spawn", name]).ok();
    }
    (model, house)
}

/// What tmux says on a socket; nothing when no server runs there.
fn tmux(house: &House, socket: &Path, words: &[&str]) -> String {
    let output = house.command("tmux").arg("-S").arg(socket).args(words).output().expect("tmux runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The panes of agentmux on a server: session, state, and whether the program has ended.
fn panes(house: &House, socket: &Path) -> Vec<String> {
    let format = "#{@agentmux_name} #{@agentmux_state} #{pane_dead}";
    let text = tmux(house, socket, &["list-panes", "-a", "-f", "#{!=:#{@agentmux},}", "-F", format]);
    let mut panes: Vec<String> = text.lines().map(str::to_owned).collect();
    panes.sort();
    panes
}

fn wait_for_panes(house: &House, socket: &Path, wanted: &[&str]) {
    house.poll("the panes", DEADLINE, || {
        let panes = panes(house, socket);
        if panes == wanted {
            return Ok(());
        }
        // tmux 3.3a can miss that a program of its own has ended (see `Pane::tell_of_ends`).
        if let Ok(server) = tmux(house, socket, &["display-message", "-p", "#{pid}"]).trim().parse() {
            let _ = kill(Pid::from_raw(server), Signal::SIGCHLD);
        }
        Err(format!("{panes:?}, not {wanted:?}"))
    });
}

fn attached(house: &House, name: &str) -> u64 {
    let list = house.run(&["list", "--json"]).ok().json();
    let own =
        list["sessions"].as_array().into_iter().flatten().find(|session| session["name"] == name).cloned();
    own.and_then(|session| session["attached"].as_u64()).expect("a count")
}

fn wait_attached(house: &House, name: &str, wanted: u64) {
    house.poll("the pane to be known", DEADLINE, || match attached(house, name) {
        count if count == wanted => Ok(()),
        count => Err(format!("{count} attached")),
    });
}

/// users 5, users 25: outside tmux the team stands on the bundle's own server; asked twice, nothing is doubled; a pane that was
/// closed comes back and its agent never stopped; `down` leaves no server.
#[test]
fn outside_tmux_each_session_has_one_pane_however_often_it_is_asked_for() {
    let (_model, house) = team();
    let socket = house.bundle_dir().join("tmux.sock");
    let ran = house.run(&["panes"]).ok();
    assert_eq!(ran.stdout, "lead\nreviewer\n", "{}", ran.evidence());
    assert!(ran.stderr.contains("attach-session"), "{}", ran.evidence());
    let screen = Pane::attach(&house, (160, 40), &socket);
    let seen = screen.wait_until("both borders", DEADLINE, |screen| {
        screen.contains("lead · idle")
            && screen.contains("reviewer · idle")
            && screen.matches("mock-model").count() >= 2
    });
    assert!(!seen.contains("starting"), "{seen}");
    for _ in 0..2 {
        let _ = house.run(&["panes"]).ok();
    }
    wait_for_panes(&house, &socket, &["lead idle 0", "reviewer idle 0"]);
    for name in ["lead", "reviewer"] {
        wait_attached(&house, name, 1);
    }
    deliver(&house, "seen in its pane");
    screen.wait_for("seen in its pane", DEADLINE);
    screen.resize(100, 30);
    house.poll("the window to follow the client", DEADLINE, || {
        let size = tmux(&house, &socket, &["display-message", "-p", "#{window_width}"]);
        if size.trim() == "100" { Ok(()) } else { Err(size) }
    });
    tmux(&house, &socket, &["kill-pane", "-t", "0"]);
    wait_attached(&house, "lead", 0);
    let _ = house.run(&["send", "lead", "still there?", "--wait"]).ok();
    let _ = house.run(&["panes"]).ok();
    wait_for_panes(&house, &socket, &["lead idle 0", "reviewer idle 0"]);
    drop(screen);
    let _ = house.run(&["down"]).ok();
    assert!(!socket.exists(), "no server of ours is left");
    house.wait_until_empty(DEADLINE);
}

/// users 24, users 25: the border says what the agent does and what waits for it, told by events.
#[test]
fn the_border_says_busy_waiting_and_how_much_mail_waits() {
    let (model, house) = team();
    let socket = house.bundle_dir().join("tmux.sock");
    model.script([
        Rule::user("hold").reply("done").held_by("gate"),
        Rule::user("ask me").call(
            "exec_command",
            serde_json::json!({"cmd": "touch wanted", "sandbox_permissions": "require_escalated", "justification": "a test"}),
        ),
    ]);
    let _ = house.run(&["panes"]).ok();
    let screen = Pane::attach(&house, (160, 40), &socket);
    screen.wait_for("reviewer · idle", DEADLINE);
    let _ = house.run(&["send", "reviewer", "hold", "--wait"]).ok();
    screen.wait_for("reviewer · busy", DEADLINE);
    for text in ["one", "two"] {
        let _ = house.run(&["send", "reviewer", text]).ok();
    }
    screen.wait_for("reviewer · busy, 2 mails wait", DEADLINE);
    model.release("gate");
    screen.wait_for("reviewer · idle", DEADLINE);
    let _ = house.run(&["send", "lead", "ask me"]).ok();
    screen.wait_for("lead · waiting for you", DEADLINE);
    let id =
        house.run(&["approvals", "--json"]).ok().json()["approvals"][0]["id"].as_str().map(str::to_owned);
    let _ = house.run(&["deny", &id.expect("one approval")]).ok();
    screen.wait_for("lead · idle", DEADLINE);
}

/// Inside tmux the team gets a window of the person's own session, none of the person's options changes, and `down` takes only the
/// window away.
#[test]
fn inside_tmux_it_is_a_window_of_the_persons_own_session() {
    let (_model, house) = team();
    let person = Pane::start(&house, (160, 40), &["sh"]);
    let own = person.socket().to_owned();
    let options = || ["-g", "-gw", "-s", "-q"].map(|scope| tmux(&house, &own, &["show-options", scope]));
    let before = options();
    person.type_text(&format!(
        "{AGENTMUX} panes --json > listed 2>&1; {AGENTMUX} panes >> listed 2>&1; echo ready"
    ));
    person.send_keys(&["Enter"]);
    wait_for_panes(&house, &own, &["lead idle 0", "reviewer idle 0"]);
    let screen = Pane::attach(&house, (160, 40), &own);
    screen.wait_until("the team", DEADLINE, |screen| {
        screen.contains("lead · idle") && screen.contains("reviewer · idle")
    });
    assert_eq!(options(), before, "the person's options");
    assert!(!house.bundle_dir().join("tmux.sock").exists(), "no server of our own");
    let windows = tmux(&house, &own, &["list-windows", "-a", "-F", "#{window_name}"]);
    assert_eq!(windows.lines().filter(|name| *name == "test").count(), 1, "{windows}");
    let _ = house.run(&["down"]).ok();
    house.poll("the window to close", DEADLINE, || {
        let windows = tmux(&house, &own, &["list-windows", "-a", "-F", "#{window_name}"]);
        if !windows.lines().any(|name| name == "test") {
            return Ok(());
        }
        person.tell_of_ends();
        Err(windows)
    });
    assert!(!tmux(&house, &own, &["list-windows", "-a"]).is_empty(), "the person's server lives on");
}

/// SQ-15: a screen that crashes comes back, three times; then its last words are the command, and the next `panes` starts it again.
#[test]
fn a_screen_that_crashes_comes_back_three_times_then_names_its_command() {
    let (_model, house) = team();
    let socket = house.bundle_dir().join("tmux.sock");
    let _ = house.run(&["panes", "reviewer"]).ok();
    let mut last = 0;
    for _ in 0..4 {
        let screen = house.poll("a screen", DEADLINE, || {
            let found = house.processes().into_iter().find(|pid| *pid != last && is_screen(*pid));
            found.ok_or_else(|| "none".to_owned())
        });
        house.kill_nine(screen);
        last = screen;
    }
    wait_for_panes(&house, &socket, &["reviewer idle 1"]);
    let words = tmux(&house, &socket, &["capture-pane", "-p", "-J", "-S", "-", "-t", "0"]);
    assert!(words.contains("the screen ended 4 times") && words.contains("--remote unix://"), "{words}");
    let _ = house.run(&["panes", "reviewer"]).ok();
    wait_for_panes(&house, &socket, &["reviewer idle 0"]);
}

/// SQ-15: so is one that its child turns away, as one of a version that the child does not understand would be: the child lives, and
/// nothing would be gained by starting it for ever.
#[test]
fn a_screen_that_its_living_child_turns_away_is_started_three_times_again_and_no_more() {
    let model = ScriptedModel::start();
    let mut house = House::real(&model);
    let (program, starts) = (house.dir().join("codex-with-another-screen"), house.dir().join("starts"));
    let screen = "const end = () => process.exit(1); \
                  const peer = require(\"net\").connect(process.argv[1].slice(7), () => peer.write(\"GET nothing\\r\\n\\r\\n\")); \
                  peer.on(\"error\", end).on(\"close\", end).resume()";
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = --remote ]; then echo start >>'{}'; exec node -e '{screen}' \"$2\"; fi\nexec '{}' \"$@\"\n",
        starts.display(),
        codex_program().display()
    );
    write_script(&program, &script);
    house.set_env("AGENTMUX_CODEX", program.to_str().expect("UTF-8"));
    let _ = house.run(&["spawn", "reviewer"]).ok();
    let pane = Pane::start(&house, (120, 40), &[AGENTMUX, "attach", "reviewer"]);
    let code = house
        .poll("the end of its tries", DEADLINE, || pane.exit_code().ok_or_else(|| "it tries".to_owned()));
    assert_eq!(code, 1);
    let count = std::fs::read_to_string(&starts).unwrap_or_default().lines().count();
    assert_eq!(count, 4, "once, and three times again");
}

/// Symptom: a pane of a session that was stopped, closed or removed stayed: words that were typed into it started turns nobody could see,
/// and its screen kept the thread from being let go. Cause: only the end of the whole relay ended a screen. Now: each session's end does;
/// the pane closes, its neighbour stays.
#[test]
fn a_pane_goes_with_its_session_however_that_ends() {
    let (_model, house) = team();
    let _ = house.run(&["spawn", "tester"]).ok();
    let socket = house.bundle_dir().join("tmux.sock");
    let _ = house.run(&["panes"]).ok();
    wait_for_panes(&house, &socket, &["lead idle 0", "reviewer idle 0", "tester idle 0"]);
    let pane = Pane::start(&house, (110, 40), &[AGENTMUX, "attach", "lead"]);
    pane.wait_for("Ask Codex", DEADLINE);
    wait_attached(&house, "lead", 2);
    let _ = house.run(&["down", "lead"]).ok();
    assert_eq!(pane.wait_for_exit(DEADLINE), 0);
    assert!(pane.capture_all().contains("lead was stopped"), "{}", pane.capture_all());
    wait_for_panes(&house, &socket, &["reviewer idle 0", "tester idle 0"]);
    let _ = house.run(&["close", "tester"]).ok();
    wait_for_panes(&house, &socket, &["reviewer idle 0"]);
    let pane = Pane::start(&house, (110, 40), &[AGENTMUX, "attach", "reviewer"]);
    pane.wait_for("Ask Codex", DEADLINE);
    wait_attached(&house, "reviewer", 2);
    let _ = house.run(&["remove", "reviewer"]).ok();
    assert_eq!(pane.wait_for_exit(DEADLINE), 0);
    assert!(pane.capture_all().contains("reviewer was removed"), "{}", pane.capture_all());
    wait_for_panes(&house, &socket, &[]);
}

/// Symptom: in a small terminal `panes` left some of the team and ended with "no space for new pane". Now: a window that is full for its
/// size is followed by another one.
#[test]
fn in_a_small_terminal_the_team_takes_more_windows() {
    let (_model, house) = team();
    for name in ["tester", "writer", "zoe"] {
        let _ = house.run(&["spawn", name]).ok();
    }
    let person = Pane::start(&house, (40, 4), &["sh"]);
    let own = person.socket().to_owned();
    person.type_text(&format!("{AGENTMUX} panes > listed 2>&1; echo rc=$? >> listed"));
    person.send_keys(&["Enter"]);
    let listed = house.project().join("listed");
    let said = house.poll("panes to end", DEADLINE, || {
        let said = std::fs::read_to_string(&listed).unwrap_or_default();
        if said.contains("rc=") { Ok(said) } else { Err(said) }
    });
    assert_eq!(said, "lead\nreviewer\ntester\nwriter\nzoe\nrc=0\n");
    let names =
        tmux(&house, &own, &["list-panes", "-a", "-f", "#{!=:#{@agentmux},}", "-F", "#{@agentmux_name}"]);
    let mut names: Vec<&str> = names.lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["lead", "reviewer", "tester", "writer", "zoe"], "each once");
    let windows = tmux(&house, &own, &["list-windows", "-a", "-F", "#{window_name}"]);
    assert!(windows.lines().filter(|name| *name == "test").count() > 1, "{windows}");
}

/// Whether a process is Codex's screen.
fn is_screen(pid: i32) -> bool {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = String::from_utf8_lossy(&words).into_owned();
    words.contains("--remote\0") && words.contains("\0resume\0")
}
