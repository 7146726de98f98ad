//! A relay that is there and does not answer, or does not end: every command says so in time and names it, and none starts a
//! second one beside it.

use crate::support::House;
use crate::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;

/// Far beyond `start_timeout` below, and far below the 60 s that a call may take.
const BOUNDED: Duration = Duration::from_secs(20);

/// A process that is stopped until this is dropped.
pub struct Stopped(Pid);

impl Stopped {
    pub fn process(house: &House, pid: i32) -> Stopped {
        assert!(house.processes().contains(&pid), "{pid} is not a process of this house");
        kill(Pid::from_raw(pid), Signal::SIGSTOP).expect("ours");
        Stopped(Pid::from_raw(pid))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

/// Connects until the kernel says that there is no place left. Who connects and leaves keeps its place until it is accepted.
fn fill_backlog(house: &House) -> usize {
    let socket = house.bundle_dir().join("relay.sock");
    for count in 0..1_000_000 {
        match mio::net::UnixStream::connect(&socket) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return count,
            Err(error) => panic!("connection {count}: {error}"),
        }
    }
    panic!("a backlog without an end");
}

/// BS-4, PX-4, BS-11: a connect that is neither taken nor refused is somebody; nobody waits for it without an end, and nobody starts
/// another one.
#[test]
fn a_relay_with_a_full_backlog_is_called_busy_and_no_second_one_is_started() {
    let house = House::new();
    let before = mail_to_operator(&house, "before");
    let pid = house.relay_pid().expect("a relay runs");
    let lock = house.bundle_dir().join("relay.lock");
    let text = fs::read_to_string(&lock).expect("ours");
    let since = text.lines().find_map(|line| line.strip_prefix("since=")).expect("it says when").to_owned();
    let config = house.config_dir().join("config.toml");
    fs::write(&config, "start_timeout = \"300ms\"\n").expect("the house is writable");
    let stopped = Stopped::process(&house, pid);
    println!("the backlog took {} connections", fill_backlog(&house));

    let busy = format!(
        "error: the relay is busy: pid {pid} (stopped) (running since {since}) did not answer within 300 ms\n"
    );
    let senders: Vec<support::Spawned> =
        (0..8).map(|_| agent(&house, &["send", "operator", "x"]).spawn()).collect();
    for sender in senders {
        let text = refused(sender.finish(BOUNDED), 75);
        assert!(text.contains(&busy), "{text}");
    }
    for words in [&["list"][..], &["status"], &["down"], &["up"], &["inbox"], &["host", "relay", "--replace"]]
    {
        let text = refused(house.call(words).deadline(BOUNDED).run(), 75);
        assert!(text.contains(&busy) && text.contains("kill -CONT"), "{words:?}: {text}");
    }
    let _ = refused_json(house.call(&["status", "--json"]).deadline(BOUNDED).run(), 75, "busy");
    let doctor = house.call(&["doctor", "--json"]).deadline(BOUNDED).run().fails(1);
    let checks: Value = serde_json::from_str(&doctor.stdout).expect("JSON");
    let relay = checks["checks"].as_array().into_iter().flatten().find(|check| check["id"] == "relay");
    let relay = relay.unwrap_or_else(|| panic!("{checks}"));
    assert!(relay["status"] == "fail" && relay.to_string().contains(&format!("kill -CONT {pid}")), "{relay}");
    // One that is started by hand finds the lock held, and somebody at the socket.
    let second = house.call(&["host", "relay"]).deadline(BOUNDED).run().fails(7);
    assert!(second.stderr.contains(&format!("pid={pid}")), "{}", second.evidence());

    assert_eq!(house.processes(), [pid], "{}", house.relay_log());
    assert_eq!(house.relay_log().matches(" started, pid ").count(), 1, "{}", house.relay_log());
    assert_eq!((house.relay_pid(), holders(&lock)), (Some(pid), vec![pid]));
    drop(stopped);
    fs::write(&config, "start_timeout = \"60s\"\n").expect("the house is writable");
    let after = mail_to_operator(&house, "after");
    assert_eq!([state(&house, &before), state(&house, &after)], ["queued", "queued"]);
    assert_eq!(house.processes(), [pid]);
    let _ = house.run(&["down"]).ok();
}

/// Who holds the flock on a file, by the kernel's own table.
fn holders(path: &Path) -> Vec<i32> {
    let inode = format!(":{}", fs::metadata(path).expect("ours").ino());
    let table = fs::read_to_string("/proc/locks").expect("a Linux /proc");
    let held = table.lines().map(|line| line.split_whitespace().collect::<Vec<&str>>());
    let ours =
        held.filter(|words| !words.contains(&"->") && words.get(5).is_some_and(|at| at.ends_with(&inode)));
    ours.filter_map(|words| words.get(4)?.parse().ok()).collect()
}

/// BS-4: a relay that says hello and then no more is busy, too, for those who only look.
#[test]
fn a_relay_that_falls_silent_after_hello_is_called_busy() {
    let house = House::new();
    let _ = house.run(&["up"]).ok();
    let _ = house.run(&["down"]).ok();
    fs::write(house.config_dir().join("config.toml"), "start_timeout = \"300ms\"\n")
        .expect("the house is writable");
    let playing = play(&house, ended_pid(), 3, &[], true);
    for verb in ["list", "status"] {
        let text = refused(house.call(&[verb]).deadline(BOUNDED).run(), 75);
        assert!(text.contains("the relay is busy: ") && text.contains("within 300 ms"), "{verb}: {text}");
    }
    let text = refused(house.call(&["host", "relay", "--replace"]).deadline(BOUNDED).run(), 75);
    assert!(text.contains("the relay is busy: ") && text.contains("within 300 ms"), "{text}");
    playing.join().expect("the relay of the test");
    assert_eq!(house.processes(), Vec::<i32>::new());
}

/// BS-4: one that is stopped when it has said hello is waited for by nobody; each is told which process to let go on, and that what it
/// asked may still be done. The stopped relay is played by a process that sleeps.
#[test]
fn a_relay_that_is_stopped_after_hello_keeps_no_command_waiting() {
    let house = House::new();
    let _ = house.run(&["up"]).ok();
    let _ = house.run(&["down"]).ok();
    fs::write(house.config_dir().join("config.toml"), "start_timeout = \"300ms\"\n")
        .expect("the house is writable");
    let asleep = asleep(&house);
    let stopped = Stopped::process(&house, asleep.id());
    let commands: [&[&str]; 6] = [
        &["send", "operator", "hello"],
        &["inbox"],
        &["trace", "123456"],
        &["look", "reviewer"],
        &["watch"],
        &["remove", "reviewer"],
    ];
    let playing = play(&house, asleep.id().cast_unsigned(), commands.len(), &[], true);
    for command in commands {
        let text = refused(house.call(command).deadline(BOUNDED).run(), 75);
        let pid = asleep.id();
        assert!(
            text.contains(&format!("error: the relay is busy: pid {pid} (stopped) has not answered"))
                && text.contains(&format!(
                    "hint: let it go on with `kill -CONT {pid}`; what was asked may be done"
                )),
            "{command:?}: {text}"
        );
        assert_eq!(
            text.contains("sending it again with --key '~"),
            command[0] == "send",
            "{command:?}: {text}"
        );
    }
    playing.join().expect("the relay of the test");
    drop(stopped);
}

/// A process of this house that does nothing.
fn asleep(house: &House) -> support::Spawned {
    let mut sleep = house.command("sleep");
    sleep.arg("1000");
    house.call_of(sleep).spawn()
}

/// PX-8: a relay that was asked to stop and cannot go on is not down, and nobody says so.
#[test]
fn down_does_not_claim_that_a_relay_is_down_that_has_not_ended() {
    let team = Team::of(&["reviewer"]);
    let house = &team.house;
    let pid = house.relay_pid().expect("a relay runs");
    let status = house.run(&["status", "--json"]).ok().json();
    let child = status["children"][0]["pid"].as_i64().and_then(|pid| pid.try_into().ok()).expect("a child");
    let watch = house.spawn(&["watch", "--json", "--replay", "100"]);
    watch.wait_for_stdout("reviewer", SOON);
    // The relay waits for its child, which does not hear it, and meanwhile is stopped itself.
    let deaf = Stopped::process(house, child);
    let down = house.spawn(&["down", "--json"]);
    watch.wait_for_stdout("relayLeaving", SOON);
    let stopped = Stopped::process(house, pid);
    let error = refused_json(down.finish(SOON), 75, "busy");
    let text = error["message"].as_str().unwrap_or_default();
    assert_eq!(text, format!("down failed: the relay, pid {pid} (stopped), has not answered in time"));
    assert!(error["hint"].as_str().is_some_and(|hint| hint.contains("kill -CONT")), "{error}");
    assert!(house.processes().contains(&pid), "it was neither ended nor replaced");
    drop(stopped);
    drop(deaf);
    drop(watch);
    house.wait_until_empty(SOON);
    assert_eq!(house.run(&["down"]).ok().stderr, "no relay is running; nothing to stop\n");
}

/// PX-8: a relay that has said its last word and does not end is named; its process is played by one that sleeps.
#[test]
fn down_does_not_claim_that_a_relay_is_down_whose_process_goes_on() {
    let house = House::new();
    let _ = house.run(&["up"]).ok();
    let _ = house.run(&["down"]).ok();
    let asleep = asleep(&house);
    let list = ("session/list", json!({"bundle": support::house::BUNDLE, "sessions": []}));
    let down = ("session/down", json!({"sessions": []}));
    let playing = play(&house, asleep.id().cast_unsigned(), 1, &[list, down], false);
    let error = refused_json(house.run(&["down", "--now", "--json"]), 75, "busy");
    playing.join().expect("the relay of the test");
    let text = format!("down failed: the relay, pid {}, has not ended in time", asleep.id());
    assert_eq!(error["message"], text);
}

/// PX-8: a child that has not ended is named, also when the relay said that it is done and has left. The relay is played here, because
/// the real one kills what it can.
#[test]
fn down_does_not_claim_that_all_is_down_while_a_child_of_the_bundle_lives() {
    let team = Team::of(&["reviewer"]);
    let house = &team.house;
    let status = house.run(&["status", "--json"]).ok().json();
    let child = status["children"][0]["pid"].as_i64().expect("a child");
    house.kill_nine(house.relay_pid().expect("a relay runs"));
    fs::remove_file(house.bundle_dir().join("relay.sock")).expect("its relay is dead");
    let down = json!({"sessions": [{"name": "reviewer", "state": "stopped", "threadId": null}]});
    let list = ("session/list", json!({"bundle": support::house::BUNDLE, "sessions": []}));
    let playing = play(house, ended_pid(), 1, &[list, ("session/down", down)], false);
    let text = refused(house.run(&["down", "--now"]), 75);
    playing.join().expect("the relay of the test");
    assert!(text.contains(&format!("its child, pid {child}, has not ended")), "{text}");
    assert!(text.contains("hint: run it again: agentmux down"), "{text}");
    let _ = house.run(&["down"]).ok();
    assert_eq!(house.processes(), Vec::<i32>::new(), "{}", house.relay_log());
}

/// The pid of a process that has ended.
fn ended_pid() -> u32 {
    let mut gone = std::process::Command::new("true").spawn().expect("it is there");
    let _ = gone.wait();
    gone.id()
}

/// Plays the relay of a house, as this process, for so many connections: it says hello, gives these answers, and then leaves, or
/// stays without a word.
fn play(
    house: &House,
    relay_pid: u32,
    connections: usize,
    answers: &[(&'static str, Value)],
    stays: bool,
) -> std::thread::JoinHandle<()> {
    let socket = house.bundle_dir().join("relay.sock");
    let listener = UnixListener::bind(&socket).expect("the path is free");
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o600)).expect("ours");
    let welcome = json!({"version": "0", "protocolMin": 1, "protocolMax": 1, "protocol": 1, "pid": relay_pid,
        "bundle": support::house::BUNDLE, "name": "operator", "kind": "operator", "because": "it is a play"});
    let script = [&[("hello", welcome)][..], answers].concat();
    std::thread::spawn(move || {
        for stream in listener.incoming().take(connections) {
            let stream = stream.expect("a command connects");
            let mut lines = BufReader::new(&stream).lines();
            for (method, result) in &script {
                let line = lines.next().expect("a request").expect("text");
                let asked: Value = serde_json::from_str(&line).expect("a request");
                assert_eq!(asked["method"], *method);
                let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": result});
                writeln!(&stream, "{answer}").expect("it reads");
            }
            if stays {
                lines.for_each(drop);
            }
        }
    })
}
