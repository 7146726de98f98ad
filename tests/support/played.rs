//! A relay that is played: what it says to each connection, and how it leaves. For moments that a real one does not stay in.
//!
//! **Invariant:** it says of itself what ours says (`docs/protocol.md`), and its process is the test's, which is not stopped.

use super::house::{BUNDLE, House};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Lines, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::{Receiver, SyncSender};
use std::thread::JoinHandle;

/// One step on a connection; hello is answered before the first.
#[derive(Debug)]
pub enum Step {
    /// Reads a request of this method.
    Hear(&'static str),
    /// Answers the request that was read last.
    Say(Value),
    /// Refuses it as busy, in these words.
    Refuse(&'static str),
    /// Says something that nobody has asked for.
    Tell(&'static str, Value),
    /// Says it again and again, until the other one leaves.
    TellOnAndOn(&'static str, Value),
    /// Says that it has come so far, and goes on when it is told to.
    Meet(SyncSender<()>, Receiver<()>),
    /// Reads what comes, until the other one leaves.
    Stay,
    /// Hears nothing more, until the other one leaves.
    Silence,
}

/// Plays the relay of a house for these connections, in the order in which they come; its socket is gone when the last one is there.
pub fn play(house: &House, connections: Vec<Vec<Step>>) -> JoinHandle<()> {
    play_with(house, connections.into_iter().map(|steps| (true, steps)).collect())
}

/// As [`play`]; only those connections are answered hello of which it is said.
pub fn play_with(house: &House, connections: Vec<(bool, Vec<Step>)>) -> JoinHandle<()> {
    let mut dirs = fs::DirBuilder::new();
    dirs.recursive(true).mode(0o700).create(house.bundle_dir()).expect("the house is writable");
    let socket = house.bundle_dir().join("relay.sock");
    let listener = UnixListener::bind(&socket).expect("the path is free");
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o600)).expect("ours");
    let welcome = json!({"version": "0", "protocolMin": 1, "protocolMax": 1, "protocol": 1, "pid": std::process::id(),
        "bundle": BUNDLE, "name": "operator", "kind": "operator", "because": "it is a play"});
    std::thread::spawn(move || {
        let last = connections.len() - 1;
        let mut playing = Vec::new();
        for (place, (says_hello, steps)) in connections.into_iter().enumerate() {
            let (stream, _) = listener.accept().expect("a command connects");
            if place == last {
                fs::remove_file(&socket).expect("ours");
            }
            let welcome = says_hello.then(|| welcome.clone());
            playing.push(std::thread::spawn(move || play_on(&stream, welcome, steps)));
        }
        drop(listener);
        playing.into_iter().for_each(|played| played.join().expect("every step is taken"));
    })
}

fn play_on(stream: &UnixStream, welcome: Option<Value>, steps: Vec<Step>) {
    let mut lines = BufReader::new(stream).lines();
    let hear = |lines: &mut Lines<BufReader<&UnixStream>>, method: &str| -> Value {
        let line = lines.next().expect("a request").expect("text");
        let asked: Value = serde_json::from_str(&line).expect("a request");
        assert_eq!(asked["method"], method, "{asked}");
        asked["id"].clone()
    };
    // One that has left is what some steps are there for.
    let say = |mut line: Value| {
        line["jsonrpc"] = "2.0".into();
        writeln!(&*stream, "{line}").is_ok()
    };
    let mut id = hear(&mut lines, "hello");
    if let Some(welcome) = welcome {
        say(json!({"id": id, "result": welcome}));
    }
    for step in steps {
        match step {
            Step::Hear(method) => id = hear(&mut lines, method),
            Step::Say(result) => drop(say(json!({"id": id, "result": result}))),
            Step::Refuse(why) => {
                let data = json!({"code": "busy", "exit": 75});
                say(json!({"id": id, "error": {"code": -32_075, "message": why, "data": data}}));
            }
            Step::Tell(method, params) => drop(say(json!({"method": method, "params": params}))),
            Step::TellOnAndOn(method, params) => while say(json!({"method": method, "params": params})) {},
            Step::Meet(here, go_on) => {
                here.send(()).expect("the test waits");
                go_on.recv().expect("the test says so");
            }
            Step::Stay => lines.by_ref().for_each(drop),
            Step::Silence => assert!(lines.next().is_none_or(|line| line.is_err()), "nothing more is asked"),
        }
    }
}
