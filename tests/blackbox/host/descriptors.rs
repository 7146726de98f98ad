//! Descriptors: the relay takes as many as it may, gives its children what they would have had, and turns away whom it has none for.

use crate::*;
use serde_json::json;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

/// A command of `agentmux` under these limits of descriptors, as the shell sets them.
fn limited(house: &House, limits: &str, arguments: &str) -> Ran {
    let mut shell = house.command("sh");
    shell.args([
        "-c",
        &format!("ulimit {limits} && exec \"$0\" {arguments}"),
        env!("CARGO_BIN_EXE_agentmux"),
    ]);
    house.call_of(shell).run()
}

/// Soft and hard limit of descriptors of a process.
fn limits_of(pid: i64) -> (u64, u64) {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).expect("ours");
    let line = text.lines().find(|line| line.starts_with("Max open files")).expect("a Linux /proc");
    let mut words = line.split_whitespace().skip(3).map(|word| word.parse().unwrap_or(u64::MAX));
    (words.next().expect("soft"), words.next().expect("hard"))
}

/// SQ-14: a shell's small soft limit does not limit the relay; its agents and the person's hook have that very limit, because a
/// program that counts on `select` must not get descriptors above it.
#[test]
fn the_soft_limit_is_raised_for_the_relay_and_not_for_its_children() {
    let team = Team::nobody();
    let (house, model) = (&team.house, &team.model);
    let (hook, heard) = (house.dir().join("hook"), house.dir().join("heard"));
    support::write_script(&hook, &format!("#!/bin/sh\nulimit -Sn >>{}\n", heard.display()));
    let hook = format!("[hook]\ncommand = [{:?}]\n", hook.display().to_string());
    fs::write(house.config_dir().join("config.toml"), hook).expect("the house is writable");
    let _ = limited(house, "-Sn 250", "spawn reviewer").ok();
    let status = house.run(&["status", "--json"]).ok().json();
    let (relay, hard) = limits_of(status["relay"]["pid"].as_i64().expect("a pid"));
    assert!(hard > 250, "this machine's hard limit shows nothing");
    assert_eq!(relay, hard.min(65_536));
    let child = status["children"][0]["pid"].as_i64().expect("a child");
    let stat = fs::read_to_string(format!("/proc/{child}/stat")).expect("ours");
    let keeper = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
    assert_eq!(limits_of(keeper.expect("a parent")), (250, hard));
    assert_eq!(limits_of(child), (250, hard));

    // An approval is what calls the person.
    let wish = json!({"cmd": "touch x", "sandbox_permissions": "require_escalated", "justification": "x"});
    model.script([support::Rule::user("ask me").call("exec_command", wish).reply("went on")]);
    let _ = house.run(&["send", "reviewer", "ask me", "--wait"]).ok();
    house.poll("the hook", SOON, || match fs::read_to_string(&heard).unwrap_or_default() {
        text if text == "250\n" => Ok(()),
        text => Err(text),
    });
}

/// SQ-14, BS-12: at the hard limit the next client hears why, in a type of its own, and starts nothing; when others leave, it is served.
#[test]
fn a_client_that_meets_the_hard_limit_is_refused_and_the_next_one_is_served() {
    let house = House::new();
    let _ = limited(&house, "-n 64", "up").ok();
    let pid = house.relay_pid().expect("a relay runs");
    assert_eq!(limits_of(pid.into()), (64, 64));
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "hello", "params":
        {"client": "test", "version": "1", "protocolMin": 1, "protocolMax": 1, "agentMark": "TEST"}});
    for _ in 0..3 {
        let mut served = Vec::new();
        loop {
            let stream = UnixStream::connect(house.bundle_dir().join("relay.sock")).expect("it listens");
            stream.set_read_timeout(Some(SOON)).expect("a socket");
            // A relay that has turned this client away may have closed already.
            let _ = writeln!(&stream, "{hello}");
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).expect("a word");
            let said: Value = serde_json::from_str(&line).expect("JSON");
            if said["result"].is_object() {
                served.push(stream);
                assert!(served.len() < 64, "the limit does not hold");
                continue;
            }
            assert_eq!(said["error"]["data"]["code"], "busy", "{said}");
            break;
        }
        assert!(served.len() > 20, "{} were served", served.len());
        let text = refused(agent(&house, &["send", "operator", "x"]).run(), 75);
        assert!(text.contains("the relay is out of descriptors"), "{text}");
        assert_eq!(house.processes(), [pid], "no second relay");
        drop(served);
        house.poll("room", SOON, || match agent(&house, &["send", "operator", "x"]).run() {
            ran if ran.code == 0 => Ok(()),
            ran => Err(ran.stderr),
        });
    }
    assert_eq!(house.relay_pid(), Some(pid));
}
