//! The house of a test and its janitor: what a test sees of the machine, and what it leaves there, which is nothing.

use crate::SOON;
use crate::support::{House, Pane, Rule, ScriptedModel, codex_program};
use std::path::Path;

/// Tells the helper that it is one.
const HELPER: &str = "AGENTMUX_TEST_HELPER";

#[test]
fn a_call_in_the_house_sees_only_the_house() {
    let house = House::new();
    assert!(house.run(&["--version"]).ok().stdout.contains("agentmux"));
    let ran = house.call_of(house.command("env")).env("EXTRA", "1").run().ok();
    let mut names: Vec<&str> = ran.stdout.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    names.sort_unstable();
    let expected = [
        "AGENTMUX_BUNDLE",
        "AGENTMUX_CODEX",
        "AGENTMUX_CONFIG_DIR",
        "AGENTMUX_HOUSE",
        "AGENTMUX_STATE_DIR",
        "CODEX_HOME",
        "EXTRA",
        "HOME",
        "LANG",
        "PATH",
        "TMPDIR",
    ];
    assert_eq!(names, expected);
    let mut shell = house.command("sh");
    shell.args(["-c", "cat; echo oops >&2; exit 3"]);
    let ran = house.call_of(shell).stdin("{\"a\":1}").run().fails(3);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("{\"a\":1}", "oops\n"));
}

#[test]
fn a_dropped_house_leaves_neither_processes_nor_files() {
    let house = House::new();
    let dir = house.dir().to_owned();
    let stray = start_stray(&house);
    let pane = Pane::start(&house, (80, 24), &["sh", "-c", "echo shown; exec sleep 1000"]);
    pane.wait_for("shown", SOON);
    assert!(house.processes().contains(&stray));
    std::mem::forget(pane);
    drop(house);
    assert!(!dir.exists());
    assert!(!Path::new(&format!("/proc/{stray}/cmdline")).exists() || is_zombie(stray), "{stray} still runs");
}

/// A pid in a file may long belong to somebody else. Only the process's own environment or command line counts.
#[test]
fn the_janitor_spares_a_stranger_whose_pid_is_recorded() {
    let strangers_house = House::new();
    let mut stranger = strangers_house.command("sleep");
    stranger.arg("1000");
    let stranger = strangers_house.call_of(stranger).spawn();
    let house = House::new();
    std::fs::create_dir_all(house.bundle_dir().join("children")).expect("the house is writable");
    let pid = format!("pid={}\n", stranger.id());
    std::fs::write(house.bundle_dir().join("relay.lock"), &pid).expect("the house is writable");
    std::fs::write(house.bundle_dir().join("children/1"), &pid).expect("the house is writable");
    assert_eq!(house.relay_pid(), Some(stranger.id()));
    let stray = start_stray(&house); // so that the janitor has something to kill
    drop(house);
    assert!(!Path::new(&format!("/proc/{stray}/cmdline")).exists() || is_zombie(stray), "{stray} still runs");
    assert!(!stranger.has_exited() && strangers_house.processes().contains(&stranger.id()));
}

/// The test process killed with -9 runs no destructor; the janitor must notice by the end of its pipe alone.
///
/// The helper leaves what a real test would: a stray, a screen, an app-server on the relay's socket path (whose real
/// socket and lock lie outside the house), and a Codex in the middle of a turn, whose command runs in a session of its own.
#[test]
fn nothing_is_left_behind_when_the_test_process_is_killed_with_nine() {
    let house = House::new();
    let mut helper = house.command(std::env::current_exe().expect("this program"));
    helper.args(["--exact", "house::helper_that_is_killed", "--nocapture"]).env(HELPER, "1");
    let mut helper =
        house.call_of(helper).env("AGENTMUX_CODEX", codex_program().to_str().expect("UTF-8")).spawn();
    helper.wait_for_stdout("ready\n", SOON);
    let said = helper.stdout();
    let words = |name: &str| -> Vec<String> {
        let line = said.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {said}")).split_whitespace().map(str::to_owned).collect()
    };
    let (paths, processes) = (words("paths "), words("processes "));
    assert!(paths.iter().all(|path| Path::new(path).exists()) && processes.len() >= 5, "{said}");
    helper.kill();
    let left = || {
        let paths = paths.iter().filter(|path| Path::new(path).exists());
        let runs =
            |pid: &&String| Path::new("/proc").join(pid).exists() && !is_zombie(pid.parse().expect("a pid"));
        paths.chain(processes.iter().filter(runs)).cloned().collect::<Vec<_>>()
    };
    house.poll("the killed process's house to be gone", SOON, || match left() {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?} are still there")),
    });
}

/// Run again and killed by `nothing_is_left_behind_when_the_test_process_is_killed_with_nine`; by itself it only returns.
#[test]
fn helper_that_is_killed() {
    if std::env::var_os(HELPER).is_none() {
        return;
    }
    let model = ScriptedModel::start();
    model.script([Rule::user("work").exec("echo $$ > shell.pid; sleep 1000")]);
    let house = House::real(&model);
    let stray = start_stray(&house);
    let pane = Pane::start(&house, (80, 24), &["sh", "-c", "echo shown; exec sleep 1000"]);
    pane.wait_for("shown", SOON);
    let socket = house.bundle_dir().join("codex.sock");
    std::fs::create_dir_all(house.bundle_dir()).expect("the house is writable"); // Codex makes one level only
    let mut server = house.command(house.codex());
    server.args(["app-server", "--listen", &format!("unix://{}", socket.display())]);
    let server = house.call_of(server).spawn();
    let mut codex = house.command(house.codex());
    codex.args(["exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "work"]);
    let mut codex = house.call_of(codex).spawn();
    drop(codex.stdin.take()); // Codex reads a prompt's continuation from it first
    let shell = house.poll("the scripted command to run", SOON, || {
        let text = std::fs::read_to_string(house.project().join("shell.pid")).unwrap_or_default();
        text.trim().parse::<i32>().map_err(|_| format!("{text:?}; {}", codex.stderr()))
    });
    let real = house
        .poll("the app-server's socket", SOON, || std::fs::read_link(&socket).map_err(|e| e.to_string()));
    let processes = house.processes();
    assert!(
        [stray, server.id(), codex.id(), shell].iter().all(|pid| processes.contains(pid)),
        "{processes:?}"
    );
    let processes: Vec<String> = processes.iter().map(i32::to_string).collect();
    println!("\npaths {} {} {}.lock", house.dir().display(), real.display(), real.display());
    println!("processes {}\nready", processes.join(" "));
    std::thread::park_timeout(SOON);
}

/// Starts a process that its parent does not wait for, in a session of its own, as a relay is.
fn start_stray(house: &House) -> i32 {
    let mut shell = house.command("sh");
    shell.args(["-c", "setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo $!"]);
    house.call_of(shell).run().ok().stdout.trim().parse().expect("a pid")
}

/// A killed orphan stays in /proc until init reaps it, and some containers' init is slow to.
fn is_zombie(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}
