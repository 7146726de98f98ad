//! What stands at the names of our files and is not ours: refused by name, not followed, left as it is.

use crate::support::House;
use crate::*;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

fn stopped() -> House {
    let house = House::new();
    let _ = house.run(&["up"]).ok();
    let _ = house.run(&["down"]).ok();
    house
}

/// BS-9, LK-9: a link at the socket's name is not followed, not even to a relay that lives: mail for one bundle is not taken by another's.
#[test]
fn a_link_to_another_bundles_socket_is_refused() {
    let house = stopped();
    let _ = house.run(&["-b", "other", "up"]).ok();
    let theirs = house.state_dir().join("bundles/other/relay.sock");
    let ours = house.bundle_dir().join("relay.sock");
    symlink(&theirs, &ours).expect("the house is writable");
    for verb in [&["whoami"][..], &["send", "operator", "x"], &["status"], &["host", "relay", "--replace"]] {
        let text = refused(house.run(verb), 74);
        assert!(text.contains("relay.sock refused: it is a symbolic link, not a socket"), "{verb:?}: {text}");
    }
    fs::remove_file(&ours).expect("ours");
    // The very socket, under our name: who answers says whose it is.
    fs::hard_link(&theirs, &ours).expect("the house is writable");
    let text = refused(house.run(&["send", "operator", "x"]), 74);
    assert!(text.contains("a relay of bundle other answers there, not of test"), "{text}");
    fs::remove_file(&ours).expect("ours");
    let inbox = house.run(&["-b", "other", "inbox", "--json"]).ok().json();
    assert_eq!(inbox["mails"].as_array().map(Vec::len), Some(0), "{inbox}");
    let _ = house.run(&["-b", "other", "down"]).ok();
}

/// BS-12: a socket that others can reach is none to speak to.
#[test]
fn a_socket_that_others_can_reach_is_refused() {
    let house = stopped();
    let path = house.bundle_dir().join("relay.sock");
    let _listener = UnixListener::bind(&path).expect("nobody has the name");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("ours");
    let text = refused(house.run(&["whoami"]), 74);
    assert!(text.contains("its mode is 0666, not 0600"), "{text}");
}

/// BS-5, BS-6: pipes, which would make whoever opens them wait for ever, and files of another account.
#[test]
fn pipes_and_files_of_others_at_our_names_are_refused_at_once() {
    let house = stopped();
    let is_root = nix::unistd::geteuid().is_root();
    for name in ["relay.lock", "spawn.lock", "relay.log", "mail.db", "root", "relay.sock"] {
        let path = house.bundle_dir().join(name);
        let kept = house.dir().join("kept");
        let was_there = fs::rename(&path, &kept).is_ok();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).expect("ours");
        let text = refused(house.run(&["up"]), 74);
        assert!(text.contains(name), "a pipe at {name}: {text}");
        fs::remove_file(&path).expect("ours");
        if is_root && name != "relay.sock" {
            fs::write(&path, "").expect("ours");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("ours");
            std::os::unix::fs::chown(&path, Some(65_534), None).expect("root may");
            let text = refused(house.run(&["up"]), 74);
            assert!(text.contains(name) && text.contains("it belongs to user 65534"), "{name}: {text}");
            fs::remove_file(&path).expect("ours");
        }
        if was_there {
            fs::rename(&kept, &path).expect("ours");
        }
    }
    if !is_root {
        eprintln!("NOTE: files of another account were not tried: this is not root");
    }
    let _ = house.run(&["up"]).ok();
}

/// BS-5, BS-6: the sockets of children are links by their nature, and only such as nobody else can reach; locks of names are plain files.
#[test]
fn a_foreign_thing_at_the_name_of_a_childs_socket_or_of_a_names_lock_is_refused_and_not_touched() {
    let team = Team::of(&["reviewer"]);
    let house = &team.house;
    let dir = house.bundle_dir();
    symlink("/dev/null", dir.join("identities/lead.lock")).expect("ours");
    let text = refused(house.run(&["spawn", "lead"]), 74);
    assert!(text.contains("lead.lock refused: it is a symbolic link"), "{text}");
    fs::remove_file(dir.join("identities/lead.lock")).expect("ours");
    let _ = house.run(&["down"]).ok();
    let victim = house.dir().join("victim");
    fs::write(&victim, "mine").expect("the house is writable");
    for name in ["codex.sock", "panes.sock", "codex-3.sock"] {
        let path = dir.join(name);
        let _ = fs::remove_file(&path);
        let refused_by_name = |what: &str| {
            let text = refused(house.run(&["up"]), 74);
            assert!(text.contains(&format!("{name} refused: ")), "{what} at {name}: {text}");
        };
        fs::write(&path, "theirs").expect("ours");
        refused_by_name("a file");
        assert_eq!(fs::read_to_string(&path).expect("left as it is"), "theirs");
        fs::remove_file(&path).expect("ours");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).expect("ours");
        refused_by_name("a pipe");
        fs::remove_file(&path).expect("ours");
        symlink(&victim, &path).expect("ours");
        refused_by_name("a link to a file");
        assert_eq!(fs::read_to_string(&victim).expect("left as it is"), "mine");
        fs::remove_file(&path).expect("ours");
        // What a dead child leaves.
        symlink(house.dir().join("nowhere"), &path).expect("ours");
    }
    let _ = house.run(&["up"]).ok();
    let _ = house.run(&["send", "reviewer", "hello", "--wait"]).ok();
}

/// BS-5, BS-8: so are the directories below, and what SQLite keeps beside the store.
#[test]
fn a_foreign_thing_in_the_place_of_a_directory_or_beside_the_store_is_refused_by_name() {
    let house = stopped();
    let elsewhere = house.dir().join("elsewhere");
    fs::create_dir(&elsewhere).expect("the house is writable");
    for name in ["children", "identities"] {
        let (path, kept) = (house.bundle_dir().join(name), house.dir().join("kept"));
        fs::rename(&path, &kept).expect("it was made");
        symlink(&elsewhere, &path).expect("ours");
        let text = refused(house.run(&["up"]), 74);
        assert!(text.contains(&format!("{name} refused")), "{text}");
        assert_eq!(listing(&elsewhere), Vec::<String>::new());
        fs::remove_file(&path).expect("ours");
        fs::create_dir(&path).expect("ours");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("ours");
        let text = refused(house.run(&["up"]), 74);
        assert!(text.contains(&format!("{name} refused")) && text.contains("0755"), "{text}");
        fs::remove_dir(&path).expect("ours");
        fs::rename(&kept, &path).expect("ours");
    }
    let beside = house.bundle_dir().join("mail.db-wal");
    let _ = fs::remove_file(&beside);
    let victim = house.dir().join("victim");
    fs::write(&victim, "mine").expect("the house is writable");
    symlink(&victim, &beside).expect("ours");
    let text = refused(house.run(&["up"]), 74);
    assert!(text.contains("mail.db-wal refused: it is a symbolic link"), "{text}");
    assert_eq!(fs::read_to_string(&victim).expect("left as it is"), "mine");
    fs::remove_file(&beside).expect("ours");
    let _ = house.run(&["up"]).ok();
}
