//! `agentmux search`: mail by its words, whoever it is to and wherever it stands.

use crate::*;

#[test]
fn mail_is_found_by_words_of_its_subject_and_body() {
    let team = Team::asleep(&["reviewer"]);
    let house = &team.house;
    let send = |text: &str, subject: &str| {
        sent_id(&house.run(&["send", "reviewer", text, "--subject", subject]).ok())
    };
    let first = send("the second branch of parse.rs\nis never taken", "a finding");
    let second = send("nothing to see here", "Parser, again");
    let found = |words: &[&str]| -> Vec<String> {
        let found = versioned(&house.run(&[&["search", "--json"], words].concat()), &["mails"]);
        let mails = found["mails"].as_array().cloned().unwrap_or_default();
        mails.iter().map(|mail| mail["id"].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(found(&["BRANCH"]), [first.as_str()]);
    assert_eq!(found(&["parse*"]), [second.as_str(), first.as_str()], "newest first");
    assert_eq!(found(&["never", "finding"]), [first.as_str()], "subject and body");
    assert_eq!(found(&["absent"]), Vec::<String>::new());
    // What came after the first search is found by the next; nothing that is written is syntax.
    let third = send("a \"quoted\" NEAR( thing: OR", "x");
    assert_eq!(found(&["\"quoted\"", "NEAR(", "OR"]), [third.as_str()]);
    let mail = house.run(&["search", "taken", "--json"]).json()["mails"][0].clone();
    has_keys(
        &mail,
        &["id", "from", "fromKind", "subject", "thread", "replyTo", "priority", "sentAt", "ageMs", "state"],
    );
    assert_eq!((&mail["excerpt"], &mail["state"]), (&"is never taken".into(), &"queued".into()));
    let ran = house.run(&["search", "branch"]).ok();
    assert!(ran.stdout.contains("a finding: the second branch of parse.rs"), "{}", ran.evidence());
    let _ = refused(house.run(&["search", "*"]), 2);
    let _ = refused(agent(house, &["search", "branch"]).run(), 1);
}

/// Retention forgets what is finished, and nothing else, however old it is.
#[test]
fn only_finished_mail_is_forgotten_after_its_time() {
    let team = Team::of(&["reviewer"]);
    let house = &team.house;
    let finished = sent_id(&house.run(&["send", "reviewer", "finished zebra", "--wait"]).ok());
    wait_until_idle(house, "reviewer");
    let _ = house.run(&["down", "reviewer"]).ok();
    let waits = sent_id(&house.run(&["send", "reviewer", "waiting zebra"]).ok());
    let dead = dead::expired(house, "dead zebra");
    let found = || house.run(&["search", "zebra", "--json"]).json()["mails"].as_array().map(Vec::len);
    assert_eq!(found(), Some(3));
    std::fs::write(house.config_dir().join("config.toml"), "retention = \"1ms\"\n").expect("writable");
    let again = || house.kill_nine(house.relay_pid().expect("a relay runs"));
    again();
    assert_eq!(found(), Some(2), "the next relay has forgotten what is finished");
    let _ = refused(house.run(&["trace", &finished]), 3);
    assert_eq!((state(house, &waits).as_str(), state(house, &dead).as_str()), ("queued", "expired"));
    let _ = house.run(&["dead", "--discard", "--all"]).ok();
    again();
    let _ = refused(house.run(&["trace", &dead]), 3);
    let _ = house.run(&["up"]).ok();
    read_once(&team.model, "waiting zebra");
}
