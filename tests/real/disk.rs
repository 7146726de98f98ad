//! A disk that fails: what cannot be committed is not released, and the relay leaves with 74.

use super::DEADLINE;
use super::support::house::House;

/// SQ-2, SQ-11: the file system takes no more bytes in the middle of the work. Every mail that was told `queued` is there
/// afterwards, the relay has exited with 74, and the next command works without any repair.
#[test]
fn a_relay_that_cannot_commit_releases_nothing_and_exits_74() {
    let house = House::new();
    let agentmux = env!("CARGO_BIN_EXE_agentmux");
    // No file of this relay may grow past 600 KiB; with the signal ignored the write itself fails, as on a full disk.
    let script = format!("trap '' XFSZ; ulimit -f 600; exec {agentmux} host relay");
    let mut shell = house.command("bash");
    shell.args(["-c", &script]);
    let relay = house.call_of(shell).spawn();
    house.poll("the relay", DEADLINE, || {
        let status = house.run(&["status", "--json"]).ok().json();
        if status["relay"]["running"] == true { Ok(()) } else { Err(status.to_string()) }
    });
    let body = "x".repeat(20_000);
    let mut accepted = Vec::new();
    let refused = (0..100).find_map(|_| {
        // To the operator from an agent's shell, so that no session is needed.
        let sent = house
            .call(&["send", "operator", "-", "--no-start"])
            .env("CODEX_THREAD_ID", "t")
            .stdin(body.clone())
            .run();
        if sent.code == 0 {
            accepted.push(sent.stdout.trim().to_owned());
            return None;
        }
        Some(sent)
    });
    let refused = refused.expect("the limit is reached");
    assert_eq!(refused.code, 5, "the connection is gone, and so is the relay: {}", refused.evidence());
    let ended = relay.finish(DEADLINE);
    assert_eq!(ended.code, 74, "{}", ended.evidence());
    assert!(ended.stderr.contains("the store failed"), "{}", ended.stderr);
    assert!(accepted.len() > 3, "{accepted:?}");
    let inbox = house.run(&["inbox", "--json", "-n", "1000"]).ok().json();
    let stored: Vec<&str> =
        inbox["mails"].as_array().into_iter().flatten().filter_map(|mail| mail["id"].as_str()).collect();
    for id in &accepted {
        assert!(stored.contains(&id.as_str()), "{id} was accepted and is gone: {stored:?}");
    }
}
