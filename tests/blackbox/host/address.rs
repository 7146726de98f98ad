//! One bundle, one relay: whoever asks, from wherever, with whatever environment, meets the same one; strangers never meet.

use crate::*;
use std::fs;
use std::path::PathBuf;

/// A house whose bundle is found by where a command runs, and whose state is below its home, as people have it.
struct Checkout {
    house: House,
    main: PathBuf,
}

impl Checkout {
    /// A repository of the real git with one commit.
    fn new() -> Checkout {
        let house = House::new();
        let main = house.dir().join("main");
        let checkout = Checkout { house, main };
        checkout.git(&["init", "--quiet", "--initial-branch=trunk", "main"], checkout.house.dir());
        let commit =
            ["-c", "user.name=n", "-c", "user.email=e@x", "commit", "--quiet", "--allow-empty", "-m", "x"];
        checkout.git(&commit, &checkout.main);
        checkout
    }

    fn git(&self, arguments: &[&str], dir: &Path) {
        let mut git = self.house.command("git");
        git.args(arguments).current_dir(dir);
        let _ = self.house.call_of(git).run().ok();
    }

    /// A call with an environment of nothing but these variables.
    fn bare(&self, variables: &[(&str, &str)], dir: &Path, arguments: &[&str]) -> Ran {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_agentmux"));
        command.env_clear().envs(variables.iter().copied()).args(arguments).current_dir(dir);
        self.house.call_of(command).run()
    }

    /// The relay that such a call meets; none is started by asking.
    #[track_caller]
    fn met(&self, variables: &[(&str, &str)], dir: &Path, arguments: &[&str]) -> Option<i64> {
        let status = self.bare(variables, dir, &[arguments, &["status", "--json"]].concat()).json();
        status["relay"]["pid"].as_i64()
    }

    fn home(&self) -> String {
        self.house.home().display().to_string()
    }
}

/// BS-13, users 10: the address depends on account and project alone.
#[test]
fn one_bundle_is_one_relay_from_everywhere() {
    let checkout = Checkout::new();
    let (home, main) = (checkout.home(), checkout.main.clone());
    let home = [("HOME", home.as_str())];
    let _ = checkout.bare(&home, &main, &["up"]).ok();
    let pid = checkout.met(&home, &main, &[]);
    assert!(pid.is_some(), "a relay runs");

    let tree = checkout.house.dir().join("another tree");
    checkout.git(&["worktree", "add", "--quiet", "--detach", &tree.display().to_string()], &main);
    let below = "d".repeat(48);
    let deep = [&below; 4].iter().fold(main.clone(), |dir, part| dir.join(part));
    fs::create_dir_all(&deep).expect("the house is writable");
    assert!(deep.as_os_str().len() >= 200);
    for dir in [&main, &tree, &deep] {
        assert_eq!(checkout.met(&home, dir, &[]), pid, "from {}", dir.display());
        let there = ["-C", &dir.display().to_string()];
        assert_eq!(checkout.met(&home, Path::new("/"), &there), pid, "-C {}", dir.display());
    }
    let elsewhere = checkout.house.dir().join("tmp").display().to_string();
    let state = checkout.house.home().join(".local/state");
    let (state, all) = (state.display().to_string(), state.join("agentmux").display().to_string());
    let environments: &[&[(&str, &str)]] = &[
        &[("HOME", home[0].1), ("PATH", "/usr/bin:/bin"), ("LOGNAME", "x"), ("SHELL", "/bin/sh")], // cron
        &[("HOME", home[0].1), ("TMPDIR", &elsewhere), ("XDG_RUNTIME_DIR", &elsewhere)],
        &[
            ("HOME", home[0].1),
            ("TERM", "xterm"),
            ("TMUX", "x"),
            ("SSH_CONNECTION", "x"),
            ("LANG", "de_DE.UTF-8"),
        ],
        &[("XDG_STATE_HOME", &state)],
        &[("AGENTMUX_STATE_DIR", &all)],
    ];
    for environment in environments {
        assert_eq!(checkout.met(environment, &tree, &[]), pid, "{environment:?}");
    }
    assert_eq!(checkout.met(&home, &main, &["-b", "another"]), None);
    let _ = checkout.bare(&home, &tree, &["down"]).ok();
    assert_eq!(checkout.house.processes(), Vec::<i32>::new());
}

/// Users 18: a worktree that is removed takes nothing along: no process is left in it, and the relay that was even started from it is the
/// one of the repository, and goes on.
#[test]
fn removing_a_worktree_leaves_no_process_and_the_relay_of_the_repository_goes_on() {
    let checkout = Checkout::new();
    let (home, main) = (checkout.home(), checkout.main.clone());
    let home = [("HOME", home.as_str())];
    let tree = checkout.house.dir().join("tree");
    checkout.git(&["worktree", "add", "--quiet", "--detach", &tree.display().to_string()], &main);
    let _ = checkout.bare(&home, &tree, &["up"]).ok();
    let pid = checkout.met(&home, &tree, &[]).expect("a relay runs");
    let agent = [home[0], ("CODEX_THREAD_ID", "0199a213-81c0-7800-8aa1-bbab2a035a53")];
    let sent = checkout.bare(&agent, &tree, &["send", "operator", "from the tree"]).ok();
    checkout.git(&["worktree", "remove", &tree.display().to_string()], &main);
    assert!(!tree.exists());
    assert_eq!(checkout.met(&home, &main, &[]), Some(pid), "the same one");
    let read = checkout.bare(&home, &main, &["read", &sent_id(&sent)]).ok().stdout;
    assert!(read.contains("from the tree"), "{read}");
    let left = checkout.house.processes();
    assert_eq!(left, [i32::try_from(pid).expect("a pid")], "and nothing else runs");
    let cwd = fs::read_link(format!("/proc/{pid}/cwd")).expect("it runs");
    assert_eq!(cwd, Path::new("/"), "which nobody removes");
    let _ = checkout.bare(&home, &main, &["down"]).ok();
    assert_eq!(checkout.house.processes(), Vec::<i32>::new());
}

/// Users 18: a directory's name is not its identity.
#[test]
fn two_checkouts_of_one_name_do_not_meet() {
    let checkout = Checkout::new();
    let home = checkout.home();
    let home = [("HOME", home.as_str())];
    let twin = checkout.house.dir().join("copy/main");
    checkout.git(&["clone", "--quiet", "main", "copy/main"], checkout.house.dir());
    let _ = checkout.bare(&home, &checkout.main, &["up"]).ok();
    assert_eq!(checkout.met(&home, &twin, &[]), None);
    let name = |dir: &Path| checkout.bare(&home, dir, &["status", "--json"]).json()["bundle"]["name"].clone();
    let (ours, theirs) = (name(&checkout.main), name(&twin));
    assert!(
        ours != theirs && theirs.as_str().is_some_and(|name| name.starts_with("main~")),
        "{ours} {theirs}"
    );
    let _ = checkout.bare(&home, &checkout.main, &["down"]).ok();
}

/// users 18: `-C` acts as if started there, for directories that are named relative to it, too.
#[test]
fn relative_directories_are_those_of_the_directory_that_a_command_acts_in() {
    let house = House::new();
    let state = |arguments: &[&str]| {
        let status = house.run(arguments).ok().json();
        status["relay"]["stateDir"].as_str().unwrap_or_default().to_owned()
    };
    let dir = house.dir().to_str().expect("UTF-8").to_owned();
    let there = state(&["-C", &dir, "--state-dir", "elsewhere", "status", "--json"]);
    assert_eq!(there, house.dir().join("elsewhere/bundles/test").display().to_string());
    fs::create_dir(house.dir().join("settings")).expect("the house is writable");
    fs::write(house.dir().join("settings/config.toml"), "idle_exit = \"7m\"\n")
        .expect("the house is writable");
    let shown = house.run(&["-C", &dir, "--config-dir", "settings", "config", "show", "--json"]).ok().stdout;
    assert!(shown.contains("7m"), "{shown}");
    let file = house.dir().join("settings/config.toml");
    let said = refused(house.run(&["-C", file.to_str().expect("UTF-8"), "status"]), 2);
    assert!(said.contains("is no directory"), "{said}");
}
