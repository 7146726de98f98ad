//! `agentmux host relay`: the one relay of a bundle, by hand in the foreground or started by a command; its files, its
//! locks, its place among the processes.

mod address;
mod foreign;
mod mcp;
mod surroundings;
mod upgrade;

use crate::support::Spawned;
use crate::*;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

/// BS-2, BS-3: a second relay neither takes over nor disturbs the first one; it names it and goes.
#[test]
fn a_relay_in_the_foreground_serves_until_it_is_told_to_go_and_a_second_one_is_refused() {
    let house = House::new();
    let first = house.spawn(&["host", "relay"]);
    wait_until_it_serves(&house);
    let pid = first.id();
    assert_eq!(house.relay_pid(), Some(pid));
    for _ in 0..3 {
        let second = house.run(&["host", "relay"]).fails(7);
        let text = second.stderr.clone();
        assert!(
            text.contains(&format!("pid={pid}")) && text.contains("a relay of this bundle is running"),
            "{text}"
        );
        assert_eq!(second.stdout, "");
    }
    assert_eq!(house.run(&["status", "--json"]).json()["relay"]["pid"].as_i64(), Some(i64::from(pid)));
    assert!(first.stderr().contains(" started, pid "), "it logs to stderr: {}", first.stderr());
    first.signal(Signal::SIGTERM);
    let ran = first.finish(SOON).ok();
    assert_eq!(ran.stdout, "");
    assert!(!house.bundle_dir().join("relay.sock").exists(), "{}", ran.evidence());
    assert_eq!(house.processes(), Vec::<i32>::new());
    assert_eq!(fs::read_to_string(house.bundle_dir().join("relay.lock")).expect("the file stays"), "");
    let _ = house.run(&["status", "--json"]).json();
}

#[test]
fn a_signal_ends_the_children_too_and_what_was_wanted_comes_up_again() {
    let team = Team::nobody();
    let house = &team.house;
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let relay = house.spawn(&["host", "relay"]);
        wait_until_it_serves(house);
        let _ = match signal {
            Signal::SIGTERM => house.run(&["spawn", "reviewer"]).ok(),
            // It was up when the signal came, so the next relay brought it up by itself.
            _ => house.run(&["send", "reviewer", "hello again", "--wait"]).ok(),
        };
        relay.signal(signal);
        let _ = relay.finish(SOON).ok();
        assert_eq!(house.processes(), Vec::<i32>::new(), "{signal}: {}", house.relay_log());
    }
}

/// BS-8, BS-9, SQ-11, PX-14, LK-13: everything is the user's alone, from the first moment.
#[test]
fn directories_are_0700_and_files_and_socket_0600_whatever_the_umask_is() {
    let team = Team::nobody();
    let house = &team.house;
    let mut shell = house.command("sh");
    shell.args(["-c", "umask 000; exec \"$0\" spawn reviewer", env!("CARGO_BIN_EXE_agentmux")]);
    let _ = house.call_of(shell).run().ok();
    let _ = house.run(&["send", "reviewer", "hello", "--wait"]).ok();
    let mut seen = Vec::new();
    let mut left = vec![house.state_dir().join("bundles")];
    while let Some(path) = left.pop() {
        let meta = fs::symlink_metadata(&path).expect("it is there");
        let mode = meta.permissions().mode() & 0o7777;
        if meta.is_dir() {
            assert_eq!(mode, 0o700, "{}", path.display());
            left.extend(fs::read_dir(&path).expect("it is ours").flatten().map(|entry| entry.path()));
        } else if !meta.is_symlink() {
            assert_eq!(mode, 0o600, "{}", path.display());
        }
        seen.push(path.file_name().unwrap_or_default().to_string_lossy().into_owned());
    }
    for name in ["relay.sock", "relay.lock", "spawn.lock", "relay.log", "mail.db", "reviewer.env"] {
        assert!(seen.iter().any(|have| have == name), "{name} is among {seen:?}");
    }
}

/// LK-5, LK-9: the lock names its holder so that nobody else can be mistaken for it; people read it, nothing decides by it.
#[test]
fn the_lock_tells_people_who_holds_it() {
    let house = House::new();
    let _ = house.run(&["up"]).ok();
    let pid = house.relay_pid().expect("a relay runs");
    let text = fs::read_to_string(house.bundle_dir().join("relay.lock")).expect("it is there");
    let keys: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    assert_eq!(keys, ["pid", "start", "boot", "host", "machine", "version", "since"]);
    let value =
        |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().to_owned();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let ticks = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(19)).unwrap_or_default();
    assert_eq!(value("start="), ticks);
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("a Linux /proc");
    assert_eq!(value("boot="), boot.trim());
    assert_eq!(value("version="), env!("CARGO_PKG_VERSION"));
    assert!(is_time(&value("since=").into()), "{text}");
}

/// LK-5, LK-9, users 10: where a home is shared, a pid of another host is nobody here; its relay is named with its host, at once
/// by the relay that would start and by the command that wanted one.
#[test]
fn a_relay_of_another_host_is_named_with_its_host() {
    let house = House::new();
    let _ = house.run(&["up"]).ok();
    let _ = house.run(&["down"]).ok();
    let path = house.bundle_dir().join("relay.lock");
    let file = File::options().read(true).write(true).open(&path).expect("it was made");
    // The flock of this process stands for that of the other host's relay.
    let held = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error).expect("nobody has it");
    let own = nix::unistd::gethostname().expect("a host has a name").to_string_lossy().into_owned();
    let text = |host: &str| {
        format!(
            "pid=1\nstart=1\nboot=b\nhost={host}\nmachine=of-another-machine\nversion=0.1.0\nsince=then\n"
        )
    };
    for (host, place) in [("elsewhere", "elsewhere"), (&own, &format!("{own} (machine of-another-machine)"))]
    {
        fs::write(&path, text(host)).expect("ours");
        let named = format!("is running on another host: pid 1 on host {place} (running since then)");
        for command in [&["host", "relay"][..], &["up"]] {
            let ran = house.run(command).fails(7);
            assert!(ran.stderr.contains(&named), "{named}\n{}", ran.evidence());
            assert!(
                ran.stderr.contains(&format!("hint: stop it there (on {host}: agentmux down)")),
                "{}",
                ran.evidence()
            );
        }
    }
    house.wait_until_empty(SOON);
    drop(held);
    let _ = house.run(&["up"]).ok();
}

/// SQ-11: what a crash left of a spawn or a child that was never stored is removed by the relay, which alone can know.
#[test]
fn files_of_what_was_never_stored_are_removed_at_the_next_start() {
    let team = Team::asleep(&["reviewer"]);
    let house = &team.house;
    let children = house.bundle_dir().join("children");
    let leftovers = ["ghost.env", "reviewer.env.new", "00000000000000000000000000000007.log"];
    for name in leftovers {
        fs::write(children.join(name), "{}").expect("ours");
    }
    fs::write(children.join("notes"), "mine").expect("ours");
    let _ = house.run(&["doctor", "--fix"]);
    assert!(leftovers.iter().all(|name| children.join(name).exists()), "doctor cannot know");
    let _ = house.run(&["up"]).ok();
    assert!(!leftovers.iter().any(|name| children.join(name).exists()), "{}", house.relay_log());
    assert!(children.join("reviewer.env").exists() && children.join("notes").exists());
    let _ = house.run(&["send", "reviewer", "hello", "--wait"]).ok();
}

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

/// BS-7: what a dead relay left behind is in nobody's way.
#[test]
fn after_kill_nine_the_next_command_starts_a_relay_over_the_stale_socket() {
    let house = House::new();
    let id = mail_to_operator(&house, "kept");
    let socket = house.bundle_dir().join("relay.sock");
    for _ in 0..3 {
        let pid = house.relay_pid().expect("a relay runs");
        house.kill_nine(pid);
        assert!(
            fs::symlink_metadata(&socket).is_ok_and(|meta| meta.file_type().is_socket()),
            "it is stale now"
        );
        assert_eq!(state(&house, &id), "queued");
        assert_ne!(house.relay_pid(), Some(pid));
    }
}

/// BS-5, BS-6, BS-9, BS-12, PX-14: what is not a plain file of the user's own is refused by name, and is left as it is.
#[test]
fn a_foreign_thing_at_the_name_of_a_file_is_refused_and_not_touched() {
    let house = House::new();
    let _ = house.run(&["up"]).ok();
    let _ = house.run(&["down"]).ok();
    let victim = house.dir().join("victim");
    fs::write(&victim, "mine").expect("the house is writable");
    for name in ["relay.lock", "spawn.lock", "relay.log", "mail.db"] {
        let path = house.bundle_dir().join(name);
        let _ = fs::remove_file(&path);
        symlink(&victim, &path).expect("the house is writable");
        let text = refused(house.run(&["up"]), 74);
        assert!(text.contains(name) && text.contains("it is a symbolic link"), "{name}: {text}");
        assert_eq!(fs::read_to_string(&victim).expect("still there"), "mine");
        fs::remove_file(&path).expect("ours");
        fs::create_dir(&path).expect("ours");
        let text = refused(house.run(&["up"]), 74);
        assert!(text.contains(name), "{name}: {text}");
        fs::remove_dir(&path).expect("ours");
        fs::write(&path, "").expect("ours");
        fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).expect("ours");
        let text = refused(house.run(&["up"]), 74);
        assert!(
            text.contains("its mode is 0644, not 0600") && text.contains("hint: chmod 600"),
            "{name}: {text}"
        );
        fs::remove_file(&path).expect("ours");
    }
    // At the socket's name: a link that leads nowhere is not bound through, a plain file is not removed.
    let socket = house.bundle_dir().join("relay.sock");
    let nowhere = house.dir().join("nowhere");
    symlink(&nowhere, &socket).expect("the house is writable");
    let text = refused(house.run(&["up"]), 74);
    assert!(text.contains("relay.sock") && text.contains("not a socket"), "{text}");
    assert!(!nowhere.exists());
    fs::remove_file(&socket).expect("ours");
    fs::write(&socket, "mine").expect("ours");
    let text = refused(house.run(&["up"]), 74);
    assert!(text.contains("relay.sock"), "{text}");
    assert_eq!(fs::read_to_string(&socket).expect("still there"), "mine");
    fs::remove_file(&socket).expect("ours");
    let _ = house.run(&["up"]).ok();
}

#[test]
fn a_directory_that_others_can_enter_is_refused_with_the_command_that_mends_it() {
    let house = House::new();
    let _ = house.run(&["up"]).ok();
    let _ = house.run(&["down"]).ok();
    let dir = house.bundle_dir();
    fs::set_permissions(&dir, PermissionsExt::from_mode(0o755)).expect("ours");
    for verb in ["up", "list", "status"] {
        let text = refused(house.run(&[verb]), 74);
        assert!(text.contains("its mode is 0755, not 0700"), "{text}");
        assert!(text.contains(&format!("hint: chmod 700 {}", dir.display())), "{text}");
    }
    fs::set_permissions(&dir, PermissionsExt::from_mode(0o700)).expect("ours");
    let _ = house.run(&["up"]).ok();
}

/// BS-10, PX-7: a relay that cannot start says why to the command that started it, at once.
#[test]
fn a_relay_that_cannot_start_is_quoted_by_the_command_that_needed_it() {
    let house = House::new();
    let _ = house.run(&["up"]).ok();
    let _ = house.run(&["down"]).ok();
    let db = house.bundle_dir().join("mail.db");
    fs::write(&db, "this is not a database, and is long enough to be looked at as one").expect("ours");
    let text = refused(agent(&house, &["send", "operator", "x"]).run(), 74);
    assert!(text.contains("mail.db refused: "), "{text}");
    let error = refused_json(agent(&house, &["send", "operator", "x", "--json"]).run(), 74, "io");
    assert!(error["message"].as_str().is_some_and(|m| m.contains("mail.db refused: ")), "{error}");
    house.wait_until_empty(SOON);
}

/// BS-1, PX-2: who waits for another's start takes over as soon as that one is gone, without polling.
#[test]
fn a_waiter_takes_over_when_the_holder_of_the_spawn_lock_is_gone() {
    let house = House::new();
    let _ = house.run(&["up"]).ok();
    let _ = house.run(&["down"]).ok();
    let path = house.bundle_dir().join("spawn.lock");
    let file = File::options().read(true).write(true).open(&path).expect("it was made");
    let inode = file.metadata().expect("open").ino();
    let held = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error).expect("nobody has it");
    let sender = agent(&house, &["send", "operator", "x"]).spawn();
    wait_for_waiters(&house, inode, 1);
    assert!(!sender.has_exited() && house.relay_log().matches(" started, pid ").count() == 1);
    drop(held);
    let ran = sender.finish(SOON).ok();
    assert!(is_id(ran.stdout.trim_end()), "{}", ran.evidence());
}

/// BS-1, BS-2, PX-2, PX-8: a killed starter leaves its relay on its way; that one holds the start's lock itself, so the next
/// command waits for it, in the kernel, and starts no second one.
#[test]
fn a_killed_starter_lets_nobody_start_a_second_relay() {
    let house = House::new();
    let _ = house.run(&["up"]).ok();
    let _ = house.run(&["down"]).ok();
    // The relay cannot get on: for the time of this test its own lock is held, as by one that is leaving.
    let (leaving, spawn) = (lock_file(&house, "relay.lock"), lock_file(&house, "spawn.lock"));
    let held =
        Flock::lock(leaving, FlockArg::LockExclusive).map_err(|(_, error)| error).expect("nobody has it");
    let inode = held.metadata().expect("open").ino();
    let mut starter = agent(&house, &["send", "operator", "never"]).spawn();
    wait_for_waiters(&house, inode, 1);
    starter.kill();
    let next = agent(&house, &["send", "operator", "x"]).spawn();
    wait_for_waiters(&house, spawn.metadata().expect("open").ino(), 1);
    drop(held);
    let _ = sent_id(&next.finish(SOON).ok());
    let log = house.relay_log();
    assert_eq!((log.matches(" started, pid ").count(), log.matches("start failed").count()), (2, 0), "{log}");
}

/// BS-10, PX-7: of many commands that wait for one start, each hears why it failed, and none starts the next failing one.
#[test]
fn the_cause_of_a_failed_start_is_quoted_by_everybody_who_waited_for_it() {
    const COMMANDS: usize = 24;
    let house = House::new();
    let _ = house.run(&["up"]).ok();
    let _ = house.run(&["down"]).ok();
    fs::write(house.bundle_dir().join("mail.db"), "this is not a database ".repeat(100)).expect("ours");
    for round in 1..=support::rounds::rounds(1) {
        let file = lock_file(&house, "spawn.lock");
        let inode = file.metadata().expect("open").ino();
        let held =
            Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error).expect("nobody has it");
        let senders: Vec<Spawned> =
            (0..COMMANDS).map(|_| agent(&house, &["send", "operator", "x"]).spawn()).collect();
        wait_for_waiters(&house, inode, COMMANDS);
        let begun = std::time::Instant::now();
        drop(held);
        for sender in senders {
            let text = refused(sender.finish(SOON), 74);
            assert!(text.contains("mail.db refused: "), "{text}");
        }
        println!("{COMMANDS} commands heard why within {} ms", begun.elapsed().as_millis());
        assert_eq!(house.relay_log().matches("start failed").count() as u64, round, "one relay for all");
    }
    house.wait_until_empty(SOON);
}

/// BS-4, PX-1: who holds up a start is named, and how long a command waits is the person's to say.
#[test]
fn who_holds_up_a_start_is_named() {
    let house = House::new();
    let _ = house.run(&["up"]).ok();
    let _ = house.run(&["down"]).ok();
    let config = house.config_dir().join("config.toml");
    fs::write(&config, "start_timeout = \"300ms\"\n").expect("the house is writable");
    let file = lock_file(&house, "spawn.lock");
    let held = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error).expect("nobody has it");
    let text = refused(agent(&house, &["send", "operator", "x"]).run(), 75);
    let me = format!("another start has been under way for 300 ms: pid {}\n", std::process::id());
    assert!(text.contains(&me), "{text}");
    drop(held);
    fs::remove_file(&config).expect("ours");
    let _ = mail_to_operator(&house, "x");
    let pid = house.relay_pid().expect("a relay runs");
    fs::write(&config, "start_timeout = \"300ms\"\n").expect("the house is writable");
    let relay = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::kill(relay, Signal::SIGSTOP).expect("ours");
    let text = refused(agent(&house, &["send", "operator", "x"]).run(), 75);
    assert!(text.contains(&format!("pid {pid} (stopped)")) && text.contains("within 300 ms"), "{text}");
    assert!(text.contains("hint: ") && text.contains("kill -CONT"), "{text}");
    nix::sys::signal::kill(relay, Signal::SIGCONT).expect("ours");
    fs::write(&config, "start_timeout = \"60s\"\n").expect("the house is writable");
    let _ = mail_to_operator(&house, "x");
    assert_eq!(house.processes(), [pid]);
    for bad in ["\"1ms\"", "\"1d\"", "\"soon\""] {
        fs::write(&config, format!("start_timeout = {bad}\n")).expect("the house is writable");
        let text = refused(house.run(&["status"]), 2);
        assert!(text.contains("`start_timeout`") && text.contains("hint: "), "{bad}: {text}");
    }
}

/// BS-14: a lock file that a cleaner removes does not let two relays in: the running one takes it again under its name.
#[test]
fn a_removed_lock_file_is_taken_again() {
    let house = House::new();
    let _ = house.run(&["up"]).ok();
    let pid = house.relay_pid().expect("a relay runs");
    fs::remove_file(house.bundle_dir().join("relay.lock")).expect("ours");
    house.poll("the lock to come back", SOON, || match house.relay_pid() {
        Some(again) if again == pid => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let second = house.run(&["host", "relay"]).fails(7);
    assert!(second.stderr.contains(&format!("pid={pid}")), "{}", second.evidence());
    assert_eq!(house.processes(), [pid]);
}

/// BS-2, users 10: a socket whose name a cleaner removes under a living relay is bound again; nobody starts a second relay.
#[test]
fn a_removed_socket_is_bound_again() {
    let house = House::new();
    let _ = house.run(&["up"]).ok();
    let pid = house.relay_pid().expect("a relay runs");
    let socket = house.bundle_dir().join("relay.sock");
    for _ in 0..3 {
        fs::remove_file(&socket).expect("ours");
        house.poll("the socket to come back", SOON, || {
            if socket.exists() { Ok(()) } else { Err("not yet".into()) }
        });
        let status = house.run(&["status", "--json"]).json();
        assert_eq!(status["relay"]["pid"].as_i64(), Some(i64::from(pid)), "{status}");
    }
    assert_eq!(fs::metadata(&socket).expect("bound").permissions().mode() & 0o777, 0o600);
    let _ = house.run(&["down"]).ok();
    assert!(!socket.exists(), "the last one is removed by its relay");
}

/// Users 19: a relay whose directory is removed has nothing left to serve, and leaves.
#[test]
fn a_relay_whose_directory_is_moved_away_leaves() {
    let house = House::new();
    let _ = house.run(&["up"]).ok();
    let away = house.state_dir().join("away");
    fs::rename(house.bundle_dir(), &away).expect("ours");
    house.wait_until_empty(SOON);
    fs::remove_dir_all(&away).expect("nobody is in it");
    let _ = house.run(&["up"]).ok();
}

/// Users 19: a project that is removed takes its relay and its agents with it; a bundle that was named by hand is nobody's
/// project, and goes on.
#[test]
fn a_relay_whose_project_is_removed_leaves() {
    let team = Team::nobody();
    let house = &team.house;
    let own = |arguments: &[&str], dir: &Path| {
        let mut command = house.command(env!("CARGO_BIN_EXE_agentmux"));
        command.env_remove("AGENTMUX_BUNDLE").args(arguments).current_dir(dir);
        house.call_of(command).run()
    };
    let project = house.dir().join("short-lived");
    fs::create_dir(&project).expect("the house is writable");
    let _ = own(&["spawn", "reviewer"], &project).ok();
    assert!(house.processes().len() >= 2, "a relay and its child, which may have shells");
    fs::remove_dir_all(&project).expect("ours");
    house.wait_until_empty(SOON);

    fs::create_dir(&project).expect("the house is writable");
    let _ = own(&["-b", "by-hand", "up"], &project).ok();
    fs::remove_dir_all(&project).expect("ours");
    let status = own(&["-b", "by-hand", "status", "--json"], &house.project()).ok().json();
    assert_eq!(status["relay"]["running"], true, "{status}");
    // What was noted of a root that is gone keeps nobody from stopping or reading the bundle.
    let _ = own(&["-b", "by-hand", "down"], &house.project()).ok();
}

/// Users 9: the program that a waiting command runs from is upgraded under it; it still brings the relay back.
#[test]
fn a_command_whose_own_program_was_removed_still_starts_a_relay() {
    let team = Team::asleep(&["reviewer"]);
    let house = &team.house;
    let copy = house.dir().join("agentmux-to-be-upgraded");
    fs::copy(env!("CARGO_BIN_EXE_agentmux"), &copy).expect("the house is writable");
    let mut command = house.command(&copy);
    command.args(["send", "reviewer", "hello", "--wait", "--json"]);
    let waiting = house.call_of(command).spawn();
    house.poll("the mail", SOON, || match counts(house)["queued"].as_i64() {
        Some(1) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let pid = house.relay_pid().expect("a relay runs");
    let program = fs::read_link(format!("/proc/{pid}/exe")).expect("ours");
    assert_eq!(program, copy, "the waiting command started it");
    fs::remove_file(&copy).expect("ours");
    house.kill_nine(pid);
    house.poll("another relay", SOON, || match house.relay_pid() {
        Some(again) if again != pid => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let _ = house.run(&["up"]).ok();
    let sent = waiting.finish(SOON).ok().json();
    assert_eq!(sent["deliveries"][0]["state"], "consumed", "{sent}");
}

/// A relay that runs out of memory ends like one that is killed: what was accepted is on disk, and the next one goes on.
#[test]
fn a_relay_that_runs_out_of_memory_loses_nothing_that_it_accepted() {
    let team = Team::asleep(&["reviewer"]);
    let house = &team.house;
    let _ = house.run(&["up", "reviewer"]).ok();
    let _ = house.run(&["down", "reviewer"]).ok();
    let pid = house.relay_pid().expect("a relay runs");
    let pages: u64 = fs::read_to_string(format!("/proc/{pid}/statm"))
        .ok()
        .and_then(|text| text.split(' ').next()?.parse().ok())
        .expect("a Linux /proc");
    let mut limit = house.command("prlimit");
    limit.args(["--pid", &pid.to_string(), &format!("--as={}", pages * 4096 + 2_000_000)]);
    let _ = house.call_of(limit).run().ok();
    let mut accepted = Vec::new();
    let body = "x".repeat(900_000);
    for _ in 0..12 {
        let ran = house.run_with_stdin(&["send", "reviewer", "-"], body.clone());
        if ran.code == 0 {
            accepted.push(sent_id(&ran));
        }
    }
    assert_ne!(house.relay_pid(), Some(pid), "it did not survive\n{}", house.relay_log());
    assert!(!accepted.is_empty());
    for id in &accepted {
        assert_eq!(state(house, id), "queued");
    }
    println!("{} of 12 mails accepted", accepted.len());
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

/// BS-13: a socket's path that no address can hold is reached all the same.
#[test]
fn a_state_directory_with_a_long_path_works() {
    let house = House::new();
    let long = house.dir().join("l".repeat(90)).join("m".repeat(60));
    let long = long.to_str().expect("UTF-8");
    let mail = || agent(&house, &["send", "operator", "x", "--state-dir", long]).run();
    let (first, second) = (sent_id(&mail().ok()), sent_id(&mail().ok()));
    assert_ne!(first, second);
    let inbox = house.run(&["inbox", "--json", "--state-dir", long]).json();
    assert_eq!(inbox["mails"].as_array().map(Vec::len), Some(2));
    let _ = house.run(&["down", "--state-dir", long]).ok();
    assert_eq!(house.processes(), Vec::<i32>::new());
}

#[test]
fn an_idle_relay_leaves_by_itself_and_the_next_command_starts_another() {
    let house = House::new();
    fs::write(house.config_dir().join("config.toml"), "idle_exit = \"100ms\"\n")
        .expect("the house is writable");
    let id = mail_to_operator(&house, "kept");
    house.wait_until_empty(SOON);
    assert_eq!(state(&house, &id), "queued");
    house.wait_until_empty(SOON);
}

fn lock_file(house: &House, name: &str) -> File {
    File::options().read(true).write(true).open(house.bundle_dir().join(name)).expect("it was made")
}

/// Waits until so many processes wait for the lock on this file.
fn wait_for_waiters(house: &House, inode: u64, count: usize) {
    house.poll("commands to wait for the lock", SOON, || {
        let locks = fs::read_to_string("/proc/locks").expect("a Linux /proc");
        let waits = |line: &&str| line.contains("->") && line.contains(&format!(":{inode} "));
        if locks.lines().filter(waits).count() >= count { Ok(()) } else { Err(locks) }
    });
}

fn wait_until_it_serves(house: &House) {
    house.poll("the relay to serve", SOON, || match house.run(&["status", "--json"]).json() {
        status if status["relay"]["running"] == true => Ok(()),
        status => Err(status.to_string()),
    });
}
