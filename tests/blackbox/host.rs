//! `agentmux host`: the relay as a process, with what it has of the command or the systemd that started it and what it has not; one
//! file below for each other promise of the relay, and one for the tools of an agent.

mod account;
mod address;
mod crash;
mod busy;
mod files;
mod foreign;
mod descriptors;
mod leaving;
mod lock;
mod mcp;
mod mount;
mod start;
mod surroundings;
mod upgrade;

use crate::support::Spawned;
use crate::*;
use nix::sys::signal::Signal;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

/// PX-10, PX-11: a relay has nothing of the command that started it: no terminal, no pipe, no directory, no secrets.
#[test]
fn a_started_relay_is_detached_from_the_command_that_started_it() {
    let house = House::new();
    let kept_open = house.dir().join("kept-open");
    let script = "exec 7<\"$1\" 9>>\"$1\"; exec \"$0\" send operator hello";
    let mut shell = house.command("sh");
    shell.args(["-c", script, env!("CARGO_BIN_EXE_agentmux")]).arg(&kept_open);
    fs::write(&kept_open, "").expect("the house is writable");
    let marks = [
        ("CLAUDECODE", "1"),
        ("CODEX_THREAD_ID", "mark-of-a-thread"),
        ("CODEX_SANDBOX", "seatbelt"),
        ("AGENTMUX_SESSION", "mark-of-a-session"),
        ("AGENTMUX_TOKEN", "secret-token"),
        ("OPENAI_API_KEY", "secret-key"),
    ];
    shell.envs(marks);
    let _ = house.call_of(shell).run().ok();
    let pid = house.relay_pid().expect("a relay was started");
    let proc = PathBuf::from(format!("/proc/{pid}"));
    assert_eq!(fs::read_link(proc.join("cwd")).expect("ours"), PathBuf::from("/"));
    let stat = fs::read_to_string(proc.join("stat")).expect("it runs");
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let of = |index: usize| fields[index].parse::<i32>().unwrap_or(-2);
    assert_eq!((of(2), of(3), of(4)), (pid, pid, 0), "group and session of its own, no terminal: {stat}");
    let mut links = Vec::new();
    for entry in fs::read_dir(proc.join("fd")).expect("ours").flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        links.push((entry.file_name().to_string_lossy().into_owned(), target));
    }
    for number in ["0", "1", "2"] {
        let target = links.iter().find(|(name, _)| name == number).map(|(_, target)| target.clone());
        assert_eq!(target, Some(PathBuf::from("/dev/null")), "{links:?}");
    }
    let foreign = |target: &PathBuf| {
        target == &kept_open || (target.starts_with(house.dir()) && !target.starts_with(house.bundle_dir()))
    };
    assert!(!links.iter().any(|(_, target)| foreign(target)), "{links:?}");
    assert!(!links.iter().any(|(_, target)| target.to_string_lossy().starts_with("pipe:")), "{links:?}");
    let environ = fs::read(proc.join("environ")).expect("ours");
    let environ = String::from_utf8_lossy(&environ);
    for (name, value) in marks {
        assert!(!environ.contains(name) && (value == "1" || !environ.contains(value)), "{name} in {environ}");
    }
    let cmdline = fs::read(proc.join("cmdline")).expect("ours");
    assert!(!String::from_utf8_lossy(&cmdline).contains("secret"));
}

/// A relay that systemd starts takes the socket that it is given, leaves it in its place, and refuses a wrong one.
#[test]
fn a_socket_activated_relay_serves_the_given_socket() {
    let house = House::new();
    let _ = house.run(&["up"]).ok(); // makes the directories as they must be
    let _ = house.run(&["down"]).ok();
    let path = house.bundle_dir().join("relay.sock");
    let listener = UnixListener::bind(&path).expect("nobody has the name");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("ours");
    let relay = activated(&house, &listener);
    house.poll("the relay", SOON, || match relay.stderr() {
        text if text.contains(" started, pid ") => Ok(()),
        text if relay.has_exited() => panic!("{text}"),
        text => Err(text),
    });
    let status = house.run(&["status", "--json"]).ok().json();
    assert_eq!(status["relay"]["pid"].as_i64(), Some(i64::from(relay.id())), "{status}");
    relay.signal(Signal::SIGTERM);
    let _ = relay.finish(SOON).ok();
    assert!(path.exists(), "the socket is systemd's");

    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("ours");
    let refused = activated(&house, &listener).finish(SOON).fails(74);
    assert!(refused.stderr.contains("mode is 0666"), "{}", refused.evidence());
}

/// Starts a relay as systemd does: the socket is descriptor 3, and the variables name this very process.
#[allow(unsafe_code, reason = "dup2 between fork and exec is async-signal-safe")]
fn activated(house: &House, listener: &UnixListener) -> Spawned {
    // Never 3 itself: dup2 onto itself would leave it to be closed at exec.
    let listener =
        nix::fcntl::fcntl(listener, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(10)).expect("descriptors are left");
    let mut command = house.command("bash");
    let agentmux = env!("CARGO_BIN_EXE_agentmux");
    command.args(["-c", &format!("export LISTEN_PID=$$ LISTEN_FDS=1; exec {agentmux} host relay")]);
    // SAFETY: only dup2 is called in the child.
    unsafe {
        command.pre_exec(move || match libc::dup2(listener, 3) {
            3 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    let relay = house.call_of(command).spawn();
    nix::unistd::close(listener).expect("ours");
    relay
}

fn lock_file(house: &House, name: &str) -> File {
    File::options().read(true).write(true).open(house.bundle_dir().join(name)).expect("it was made")
}

fn wait_until_it_serves(house: &House) {
    house.poll("the relay to serve", SOON, || match house.run(&["status", "--json"]).json() {
        status if status["relay"]["running"] == true => Ok(()),
        status => Err(status.to_string()),
    });
}
