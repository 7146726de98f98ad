//! The files of a bundle: whose they are, what may not be in their places, and what is mended without a word.

use crate::*;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

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
    // Another one, dead, in its place.
    let other = house.bundle_dir().join("other.sock");
    drop(std::os::unix::net::UnixListener::bind(&other).expect("the house is writable"));
    fs::rename(&other, &socket).expect("ours");
    house.poll("the socket to be bound again", SOON, || match house.relay_log() {
        text if text.matches("bound again").count() == 4 => Ok(()),
        text => Err(text),
    });
    let status = house.run(&["status", "--json"]).ok().json();
    assert_eq!(status["relay"]["pid"].as_i64(), Some(i64::from(pid)), "{status}");
    let _ = house.run(&["down"]).ok();
    assert!(!socket.exists(), "the last one is removed by its relay");
}

/// BS-2, users 9: a relay that leaves removes its own socket and nothing else that has the name by then.
#[test]
fn what_is_not_its_socket_is_left_by_a_relay_that_leaves() {
    let house = House::new();
    let _ = house.run(&["up"]).ok();
    let pid = house.relay_pid().expect("a relay runs");
    let socket = house.bundle_dir().join("relay.sock");
    // In one step, because a name that is free for a moment is bound again.
    let theirs = house.dir().join("theirs");
    fs::write(&theirs, "theirs").expect("the house is writable");
    fs::rename(&theirs, &socket).expect("ours");
    house.poll("the relay to say so", SOON, || match house.relay_log() {
        text if text.contains("relay.sock was removed or replaced and cannot be bound again") => Ok(()),
        text => Err(text),
    });
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM).expect("ours");
    house.wait_until_empty(SOON);
    assert_eq!(fs::read_to_string(&socket).expect("left as it is"), "theirs");
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
