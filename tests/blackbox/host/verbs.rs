//! The verb table against the program: what its columns say of starting a relay and of changing anything is so.

use agentmux::protocol::verb::{VERBS, Verb};

use crate::*;

/// Words that a verb is called with, so that it gets as far as its relay.
fn words(verb: &Verb, id: &str) -> Vec<String> {
    let more: &[&str] = match verb.name {
        "spawn" | "close" | "remove" | "show" | "interrupt" | "hold" | "release" | "look"
        | "instructions" => &["reviewer"],
        "send" | "ask" | "prompt" => &["reviewer", "text"],
        "reply" => &[id, "text"],
        "read" | "trace" | "ack" | "cancel" | "requeue" => &[id],
        "wait" => &["--timeout", "1ms"],
        "search" => &["word"],
        "attach" => &["reviewer", "--print"],
        "panes" => &["--print"],
        "approve" | "deny" => &["0000"],
        "config" => &["show"],
        "completions" => &["bash"],
        // They ask no relay for anything, and take long or change the person's files.
        "install" | "uninstall" | "selftest" | "host" => &["--help"],
        _ => &[],
    };
    std::iter::once(&verb.name).chain(more).map(|word| (*word).to_owned()).collect()
}

/// Design §4: without a relay and with `--no-start`, who would start one says so (exit 5), and nobody else does; nothing is started.
#[test]
fn the_table_says_which_verbs_start_a_relay() {
    for verb in VERBS {
        let house = House::with_codex(&support::codex_program());
        let mut words = words(verb, "0192f000-0000-7000-8000-000000000001");
        words.push("--no-start".to_owned());
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let ran = house.run(&words);
        assert_eq!(ran.code == 5, verb.starts_relay, "{}: {}", verb.name, ran.evidence());
        assert_eq!(house.processes(), Vec::<i32>::new(), "{}", verb.name);
    }
}

/// Design §4: a verb that changes nothing has the store write nothing. (A search brings its own index up to date, and no more.)
#[test]
fn the_table_says_which_verbs_change_nothing() {
    let team = Team::asleep(&["reviewer"]);
    let house = &team.house;
    let id = mail_to_operator(house, "a word");
    let _ = house.run(&["search", "word"]).ok();
    let written = || {
        let log = std::fs::metadata(house.bundle_dir().join("mail.db-wal")).expect("a relay runs");
        (log.len(), log.modified().ok())
    };
    for verb in VERBS.iter().filter(|verb| !verb.mutates && verb.name != "watch") {
        let before = written();
        let words = words(verb, &id);
        let _ = house.run(&words.iter().map(String::as_str).collect::<Vec<&str>>());
        assert_eq!(written(), before, "{} wrote", verb.name);
    }
    for words in [&["send", "reviewer", "text"][..], &["read", &id], &["hold", "reviewer"]] {
        let before = written();
        let _ = house.run(words).ok();
        assert_ne!(written(), before, "{words:?} wrote nothing");
    }
}
