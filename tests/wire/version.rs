//! Two programs of different versions: they work together while they have a protocol in common, and else say so, both.

use super::hostile::error;
use super::socket::Socket;
use crate::support::House;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixListener;

/// BS-15: both sides are told which versions the other one speaks, and how to get out of it.
#[test]
fn a_client_of_another_protocol_is_told_both_versions_and_the_way_out() {
    let house = House::new();
    let mut socket = Socket::open(&house);
    let params = json!({ "client": "test", "version": "9.9.9", "protocolMin": 99, "protocolMax": 100 });
    let refused = error(&socket.ask("hello", params), -32_008, "version");
    let text = refused["message"].as_str().unwrap_or_default().to_owned();
    for part in
        ["speaks protocol 1 to 1", "version 9.9.9", "speaks 99 to 100", env!("CARGO_PKG_VERSION"), "pid "]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(
        refused["data"]["hint"].as_str().is_some_and(|hint| hint.contains("agentmux host relay --replace"))
    );
    socket.ended();
    // The other way round: one that is older than anything that this relay still speaks.
    let mut socket = Socket::open(&house);
    let params = json!({ "client": "test", "version": "0.0.1", "protocolMin": 0, "protocolMax": 0 });
    let refused = error(&socket.ask("hello", params), -32_008, "version");
    assert!(refused["message"].as_str().is_some_and(|text| text.contains("speaks 0 to 0")), "{refused}");
    socket.ended();
    // A later program that still speaks ours is welcome.
    let mut socket = Socket::open(&house);
    let params =
        json!({ "client": "test", "version": "9.9.9", "protocolMin": 1, "protocolMax": 100, "later": {} });
    assert_eq!(socket.ask("hello", params)["result"]["protocol"], 1);
}

/// BS-15: the command line ends with 8 when the relay refuses its protocol. The relay is played here: it says what ours says
/// to a client that it has no version in common with (the test above).
#[test]
fn a_command_that_meets_a_relay_of_another_protocol_exits_8() {
    let house = House::new();
    let mut dirs = std::fs::DirBuilder::new();
    dirs.recursive(true).mode(0o700).create(house.bundle_dir()).expect("the house is writable");
    let socket = house.bundle_dir().join("relay.sock");
    let listener = UnixListener::bind(&socket).expect("the path is free");
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600)).expect("ours");
    let playing = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("the command connects");
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).expect("it says hello");
        let data = json!({ "code": "version", "hint": "replace the relay: it is older", "exit": 8 });
        let error = json!({ "code": -32_008, "message": "hello refused: the relay speaks 7", "data": data });
        let id = serde_json::from_str::<Value>(&line).expect("a request")["id"].clone();
        writeln!(&stream, "{}", json!({ "jsonrpc": "2.0", "id": id, "error": error })).expect("it reads");
        line
    });
    let ran = house.run(&["send", "operator", "x"]).fails(8);
    let said: Value = serde_json::from_str(&playing.join().expect("the relay of the test")).expect("JSON");
    assert_eq!(said["method"], "hello");
    assert!(said["params"]["protocolMin"].is_u64() && said["params"]["version"].is_string(), "{said}");
    assert_eq!(
        ran.stderr,
        "error: hello refused: the relay speaks 7\nhint: replace the relay: it is older\n"
    );
}
