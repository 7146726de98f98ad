//! Started by systemd: the units say what agentmux means, the socket that it is given is served, and a wrong one refused.

use crate::support::{House, Spawned};
use crate::*;
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

/// A relay that systemd starts takes the socket that it is given, leaves it in its place, and refuses a wrong one.
#[test]
fn a_socket_activated_relay_serves_the_given_socket() {
    let house = House::new();
    let _ = house.run(&["up"]).ok(); // makes the directories as they must be
    let _ = house.run(&["down"]).ok();
    let (path, listener) = listening(&house.bundle_dir());
    let relay = activated(&house, &listener);
    let status = house.run(&["status", "--json"]).ok().json();
    assert_eq!(status["relay"]["pid"].as_i64(), Some(i64::from(relay.id())), "{status}");
    relay.signal(Signal::SIGTERM);
    let _ = relay.finish(SOON).ok();
    assert!(path.exists(), "the socket is systemd's");

    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("ours");
    let refused = start(&house, &listener, house.command("bash"), OWN).finish(SOON).fails(74);
    assert!(refused.stderr.contains("mode is 0666"), "{}", refused.evidence());
}

/// BS-2, users 10: a cleaner's removal cuts nobody off from a relay that systemd started: it binds a socket of its own there.
#[test]
fn a_socket_activated_relay_whose_socket_is_removed_binds_it_again() {
    let house = House::new();
    let _ = house.run(&["up"]).ok();
    let _ = house.run(&["down"]).ok();
    let (path, listener) = listening(&house.bundle_dir());
    let relay = activated(&house, &listener);
    for _ in 0..3 {
        fs::remove_file(&path).expect("ours");
        house.poll(
            "the socket to come back",
            SOON,
            || {
                if path.exists() { Ok(()) } else { Err(relay.stderr()) }
            },
        );
        assert_eq!(fs::metadata(&path).expect("bound").permissions().mode() & 0o777, 0o600);
        let status = house.run(&["status", "--json"]).ok().json();
        assert_eq!(status["relay"]["pid"].as_i64(), Some(i64::from(relay.id())), "{status}");
    }
    assert_eq!(house.processes().len(), 1, "no second relay");
    let _ = house.run(&["down"]).ok();
    let _ = relay.finish(SOON).ok();
    assert!(!path.exists(), "the last one was the relay's own");
}

/// Every line of the units is one that systemd knows, by its own word where it is installed; the socket is the person's alone.
#[test]
fn the_units_say_only_what_systemd_knows_and_keep_the_socket_private() {
    let (service, socket) = (unit("service"), unit("socket"));
    let known: [(&Unit, &[&str]); 2] = [
        (&service, &["Service.ExecStart", "Service.KillMode", "Service.TimeoutStopSec", "Unit.Description"]),
        (
            &socket,
            &[
                "Install.WantedBy",
                "Socket.DirectoryMode",
                "Socket.ListenStream",
                "Socket.SocketMode",
                "Unit.Description",
            ],
        ),
    ];
    for (unit, known) in known {
        assert!(unit.keys().map(String::as_str).eq(known.iter().copied()), "{:?}", unit.keys());
    }
    assert_eq!((&*socket["Socket.SocketMode"], &*socket["Socket.DirectoryMode"]), ("0600", "0700"));
    assert_eq!(&*socket["Install.WantedBy"], "sockets.target");
    // The relay is asked first, alone, and has longer than its own budget.
    assert_eq!((&*service["Service.KillMode"], &*service["Service.TimeoutStopSec"]), ("mixed", "15"));
    let house = House::new();
    match verified(&house, "web") {
        Some(said) => assert!(!said.contains("agentmux@"), "systemd-analyze: {said}"),
        None => eprintln!(
            "NOTE: systemd-analyze cannot be run here: the units were only compared with what they said when it could"
        ),
    }
}

/// The socket is where commands look for it, whatever the bundle is called, and the service is the relay of that bundle.
#[test]
fn the_units_mean_the_very_socket_and_bundle_that_status_shows() {
    let house = House::new();
    for name in ["web", "a-b.c_d~0a1b2c", "0"] {
        let project = house.dir().join(format!("of {name}"));
        fs::create_dir(&project).expect("the house is writable");
        // A derived name has a tail that nobody may give by hand.
        let arguments: &[&str] = if name.contains('~') { &[] } else { &["-b", name] };
        let mut command = house.command(env!("CARGO_BIN_EXE_agentmux"));
        command.env_clear().env("HOME", house.home()).current_dir(&project);
        command.args(arguments).args(["status", "--json"]);
        let status = house.call_of(command).run().ok().json();
        let bundle = status["bundle"]["name"].as_str().expect("a name");
        let socket = Path::new(status["relay"]["stateDir"].as_str().expect("a directory")).join("relay.sock");
        assert_eq!(
            PathBuf::from(substituted(&house, bundle, &unit("socket")["Socket.ListenStream"])),
            socket
        );
        let command = substituted(&house, bundle, &unit("service")["Service.ExecStart"]);
        assert!(command.ends_with(&format!(" host relay --bundle {bundle}")), "{command}");
        let Some(said) = verified_in_detail(&house, bundle) else { continue };
        let listens = format!("ListenStream: {}", socket.display());
        let runs = format!("Command Line: {command}");
        for line in [listens, runs] {
            assert!(said.lines().any(|said| said.trim() == line), "{line}\n{said}");
        }
    }
}

/// The command of the service, run as systemd runs it: in the foreground, on the socket of the other unit, until it is told to leave.
#[test]
fn the_command_of_the_service_is_a_relay_in_the_foreground_on_the_socket_of_the_units() {
    let house = House::new();
    let place = |text: &str| PathBuf::from(substituted(&house, "web", text));
    let path = place(&unit("socket")["Socket.ListenStream"]);
    let mut dirs = fs::DirBuilder::new();
    dirs.recursive(true)
        .mode(0o700)
        .create(path.parent().expect("a directory"))
        .expect("the house is writable");
    let (_, listener) = listening(path.parent().expect("a directory"));
    let bin = house.home().join(".cargo/bin");
    fs::create_dir_all(&bin).expect("the house is writable");
    symlink(env!("CARGO_BIN_EXE_agentmux"), bin.join("agentmux")).expect("the house is writable");
    let surroundings = || {
        let mut command = house.command("bash");
        let path = house.environment().into_iter().find(|(key, _)| key == "PATH").expect("a house has one").1;
        command.env_clear().env("HOME", house.home()).env("PATH", path).current_dir(house.home());
        command
    };
    let relay = start(
        &house,
        &listener,
        surroundings(),
        &substituted(&house, "web", &unit("service")["Service.ExecStart"]),
    );
    wait_for_word(&house, &relay);
    let ask = |arguments: &[&str]| {
        let mut command = surroundings();
        command.args(["-c", "exec \"$0\" -b web \"$@\"", env!("CARGO_BIN_EXE_agentmux")]).args(arguments);
        house.call_of(command).run()
    };
    let status = ask(&["status", "--json"]).ok().json();
    assert_eq!(status["relay"]["pid"].as_i64(), Some(i64::from(relay.id())), "in the foreground: {status}");
    relay.signal(Signal::SIGTERM);
    let _ = relay.finish(SOON).ok();
    assert!(path.exists(), "the socket is systemd's");
    house.wait_until_empty(SOON);
}

/// A unit's settings, as `Section.Key`.
type Unit = BTreeMap<String, String>;

fn unit(kind: &str) -> Unit {
    let text = fs::read_to_string(unit_file(kind)).expect("it is in the tree");
    let mut found = Unit::new();
    let mut section = String::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name.to_owned();
        } else {
            let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("no setting: {line}"));
            let twice = found.insert(format!("{section}.{key}"), value.to_owned());
            assert_eq!(twice, None, "{key} is said twice");
        }
    }
    found
}

fn unit_file(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("scripts/systemd/agentmux@.{kind}"))
}

/// What systemd makes of a setting: `%h` is the home, `%I` the instance as it was before it was escaped.
fn substituted(house: &House, bundle: &str, text: &str) -> String {
    let text = text.replace("%h", &house.home().display().to_string()).replace("%I", bundle);
    assert!(!text.contains('%'), "{text}");
    text
}

/// As `systemd-escape` does it.
fn escaped(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || ":_.".contains(c);
    name.chars().map(|c| if plain(c) { c.to_string() } else { format!("\\x{:02x}", c as u32) }).collect()
}

/// What systemd complains of; `None` where it cannot be asked.
fn verified(house: &House, bundle: &str) -> Option<String> {
    verify(house, bundle, "warning")
}

/// What systemd understands.
fn verified_in_detail(house: &House, bundle: &str) -> Option<String> {
    verify(house, bundle, "debug")
}

fn verify(house: &House, bundle: &str, level: &str) -> Option<String> {
    let dir = house.dir().join("units");
    fs::create_dir_all(&dir).expect("the house is writable");
    let bin = house.home().join(".cargo/bin");
    fs::create_dir_all(&bin).expect("the house is writable");
    let _ = symlink(env!("CARGO_BIN_EXE_agentmux"), bin.join("agentmux"));
    let mut command = house.command("sh");
    command.args(["-c", "command -v systemd-analyze >/dev/null || exit 127; exec systemd-analyze verify --user --man=no \"$@\" 2>&1", "sh"]);
    command.env("SYSTEMD_LOG_LEVEL", level).env("XDG_RUNTIME_DIR", house.dir().join("tmp"));
    for kind in ["service", "socket"] {
        let copy = dir.join(format!("agentmux@{}.{kind}", escaped(bundle)));
        fs::copy(unit_file(kind), &copy).expect("the house is writable");
        command.arg(copy);
    }
    let ran = house.call_of(command).run();
    (ran.code == 0 || ran.stdout.contains("agentmux@")).then_some(ran.stdout)
}

/// A socket as systemd binds it.
fn listening(dir: &Path) -> (PathBuf, UnixListener) {
    let path = dir.join("relay.sock");
    let listener = UnixListener::bind(&path).expect("nobody has the name");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("ours");
    (path, listener)
}

/// Starts the house's relay as systemd does, and waits until it serves.
fn activated(house: &House, listener: &UnixListener) -> Spawned {
    let relay = start(house, listener, house.command("bash"), OWN);
    wait_for_word(house, &relay);
    relay
}

fn wait_for_word(house: &House, relay: &Spawned) {
    house.poll("the relay", SOON, || match relay.stderr() {
        text if text.contains(" started, pid ") => Ok(()),
        text if relay.has_exited() => panic!("{text}"),
        text => Err(text),
    });
}

/// Starts a command line in a shell as systemd does: the socket is descriptor 3, and the variables name this very process.
#[allow(unsafe_code, reason = "dup2 between fork and exec is async-signal-safe")]
fn start(house: &House, listener: &UnixListener, mut shell: std::process::Command, line: &str) -> Spawned {
    // Never 3 itself: dup2 onto itself would leave it to be closed at exec.
    let listener =
        nix::fcntl::fcntl(listener, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(10)).expect("descriptors are left");
    shell.args(["-c", &format!("export LISTEN_PID=$$ LISTEN_FDS=1; exec {line}")]);
    // SAFETY: only dup2 is called in the child.
    unsafe {
        shell.pre_exec(move || match libc::dup2(listener, 3) {
            3 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    let relay = house.call_of(shell).spawn();
    nix::unistd::close(listener).expect("ours");
    relay
}

/// The relay of the house's own bundle.
const OWN: &str = concat!(env!("CARGO_BIN_EXE_agentmux"), " host relay");
