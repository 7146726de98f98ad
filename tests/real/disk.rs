//! A disk that fails: what cannot be committed is not released, and the relay leaves with 74.

use super::DEADLINE;
use super::support::ScriptedModel;
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

/// A disk that is nearly full: new mail is refused as something that passes, and everything else goes on: what was accepted is
/// consumed, read, searched and confirmed.
#[test]
fn a_disk_that_is_nearly_full_takes_no_new_mail_and_all_else_goes_on() {
    let model = ScriptedModel::start();
    let mut house = House::real(&model);
    let disk = house.dir().join("disk");
    std::fs::create_dir(&disk).expect("the house is writable");
    house.set_env("AGENTMUX_STATE_DIR", disk.to_str().expect("UTF-8"));
    // A file system of 90 MB that only this shell and what it starts can see; what fills it is a sparse file made real.
    let script = r#"
        set -u
        mount -t tmpfs -o size=90m,mode=0700 tmpfs "$DISK" || { echo "no mount"; exit 0; }
        a="$0"
        "$a" spawn reviewer > /dev/null && "$a" hold reviewer > /dev/null || exit 9
        CODEX_THREAD_ID=t "$a" send operator "note for later"
        id=$("$a" send reviewer "accepted before") && "$a" search later > /dev/null || exit 8
        dd if=/dev/zero of="$DISK/fill" bs=1M count=60 2> /dev/null
        "$a" send reviewer "too late"; echo "send: $?"
        CODEX_THREAD_ID=t "$a" send operator "too late"; echo "send: $?"
        "$a" release reviewer > /dev/null; echo "release: $?"
        "$a" prompt reviewer "are you there?" ; echo "prompt: $?"
        tries=0
        until "$a" trace "$id" | grep -q consumed; do tries=$((tries + 1)); [ $tries -lt 400 ] || exit 7; sleep 0.05; done
        echo "consumed: 0"
        "$a" inbox | grep -q outside; echo "inbox: $?"
        mail=$("$a" inbox --json | sed -n 's/.*"id":"\([^"]*\)".*/\1/p')
        "$a" search later | grep -q "note for later"; echo "search: $?"
        "$a" read "$mail" | grep -q "note for later"; echo "read: $?"
        "$a" ack "$mail" > /dev/null; echo "ack: $?"
        rm "$DISK/fill"
        "$a" send reviewer "room again" > /dev/null; echo "send: $?"
        "$a" down > /dev/null; echo "down: $?"
    "#;
    let mut shell = house.command("unshare");
    let as_root = if nix::unistd::geteuid().is_root() { "-m" } else { "-rm" };
    shell.args([as_root, "sh", "-c", script, env!("CARGO_BIN_EXE_agentmux")]).env("DISK", &disk);
    let ran = house.call_of(shell).run();
    if ran.stdout.contains("no mount") || ran.stderr.starts_with("unshare:") {
        return eprintln!(
            "NOTE: a nearly full disk was not tried: nothing can be mounted here: {}",
            ran.evidence()
        );
    }
    let told: Vec<&str> = ran.stdout.lines().filter(|line| line.contains(": ")).collect();
    let expected = [
        "send: 75",
        "send: 75",
        "release: 0",
        "prompt: 75",
        "consumed: 0",
        "inbox: 0",
        "search: 0",
        "read: 0",
        "ack: 0",
        "send: 0",
        "down: 0",
    ];
    assert_eq!(told, expected, "{}", ran.evidence());
    assert!(ran.stderr.contains("less than 64 MiB are free"), "{}", ran.evidence());
}
