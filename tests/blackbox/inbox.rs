//! `agentmux inbox`: lists mail; looking, into one's own box or another's, changes nothing.

use crate::*;

const MAIL_KEYS: [&str; 11] =
    ["id", "from", "fromKind", "to", "subject", "thread", "replyTo", "priority", "sentAt", "ageMs", "unread"];

#[test]
fn the_operators_mail_is_listed_unread_and_without_bodies() {
    let house = House::new();
    let first = mail_to_operator(&house, "the first body");
    let arguments = ["send", "operator", "-", "--subject", "second", "--priority", "fyi"];
    let second = sent_id(&agent(&house, &arguments).stdin("the second body").run().ok());
    let ran = house.run(&["inbox", "--json"]);
    let inbox = versioned(&ran, &["mails"]);
    let mails = inbox["mails"].as_array().cloned().unwrap_or_default();
    assert_eq!(mails.len(), 2);
    assert_eq!(
        (mails[0]["id"].as_str(), mails[1]["id"].as_str()),
        (Some(&*second), Some(&*first)),
        "newest first"
    );
    for mail in &mails {
        has_keys(mail, &MAIL_KEYS);
        assert_eq!((&mail["state"], &mail["unread"]), (&"queued".into(), &true.into()));
        assert_eq!((&mail["from"], &mail["fromKind"]), (&"outside".into(), &"outside".into()));
        assert_eq!(mail["to"], serde_json::json!(["operator"]));
        assert!(is_time(&mail["sentAt"]) && mail["ageMs"].is_u64(), "{mail}");
        assert!(mail.get("body").is_none(), "{mail}");
    }
    assert!(!ran.stdout.contains("body"), "{}", ran.evidence());
    assert_eq!((&mails[0]["subject"], &mails[0]["priority"]), (&"second".into(), &"fyi".into()));
    assert!(mails[1]["subject"].is_null() && mails[1]["replyTo"].is_null(), "{}", mails[1]);

    let again = house.run(&["inbox", "operator", "--unread", "--json"]).json();
    assert_eq!(again["mails"].as_array().map(Vec::len), Some(2), "looking took nothing");
    assert_eq!(state(&house, &first), "queued");
    let one = house.run(&["inbox", "-n", "1", "--json"]).json();
    assert_eq!(one["mails"].as_array().map(Vec::len), Some(1));

    let ran = house.run(&["inbox"]).ok();
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(lines[0].starts_with("ID") && lines.len() == 3, "{}", ran.evidence());
    assert!(
        lines[1].starts_with(&second) && lines[1].ends_with("second"),
        "piped: whole ids\n{}",
        ran.evidence()
    );
}

#[test]
fn what_was_read_is_no_longer_unread() {
    let house = House::new();
    let read = mail_to_operator(&house, "read");
    let unread = mail_to_operator(&house, "unread");
    let _ = house.run(&["read", &read]).ok();
    let inbox = house.run(&["inbox", "--unread", "--json"]).json();
    assert_eq!(inbox["mails"].as_array().map(Vec::len), Some(1));
    assert_eq!(inbox["mails"][0]["id"], unread.as_str());
    let all = house.run(&["inbox", "--json"]).json();
    assert_eq!((&all["mails"][1]["state"], &all["mails"][1]["unread"]), (&"consumed".into(), &false.into()));
}

/// NB-8: mail is read when the agent has it in a turn, not when somebody looks.
#[test]
fn looking_into_a_sessions_inbox_changes_nothing() {
    let team = Team::asleep(&["reviewer"]);
    let house = &team.house;
    let id = sent_id(&house.run(&["send", "reviewer", "for the reviewer"]).ok());
    let before = trace(house, &id);
    for _ in 0..2 {
        let inbox = house.run(&["inbox", "reviewer", "--json"]).json();
        assert_eq!(inbox["mails"][0]["unread"], true, "{inbox}");
        assert_eq!(inbox["mails"][0]["fromKind"], "operator", "{inbox}");
    }
    assert_eq!(trace(house, &id), before);
}

#[test]
fn an_empty_inbox_is_no_failure() {
    let house = House::new();
    let ran = house.run(&["inbox"]).ok();
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", "no mail\n"));
    let inbox = versioned(&house.run(&["inbox", "--json"]), &["mails"]);
    assert_eq!(inbox["mails"].as_array().map(Vec::len), Some(0));
}

#[test]
fn an_unknown_inbox_is_refused_and_an_agent_may_not_look() {
    let house = House::new();
    let _ = refused_json(house.run(&["inbox", "reviewer", "--json"]), 3, "not_found");
    let _ = refused_json(agent(&house, &["inbox", "--json"]).run(), 1, "refused");
    let _ = refused(agent(&house, &["inbox", "operator"]).run(), 1);
    let nowhere = House::new();
    let _ = refused(touches_nothing(&nowhere, || nowhere.run(&["inbox", ".."])), 2);
    let _ = refused(touches_nothing(&nowhere, || nowhere.run(&["inbox", "--no-start"])), 5);
}

/// Design §5: a list goes on where the one before ended, also when mail came meanwhile, and says so only while there is more.
#[test]
fn a_long_list_is_read_page_by_page() {
    let team = Team::asleep(&["reviewer"]);
    let house = &team.house;
    let sent: Vec<String> = (0..5).map(|n| mail_to_operator(house, &format!("zebra {n}"))).collect();
    let dead: Vec<String> = (0..3).map(|n| dead::expired(house, &format!("okapi {n}"))).collect();
    for (list, expected) in
        [(&["inbox", "--from", "outside"][..], &sent), (&["search", "zebra"], &sent), (&["dead"], &dead)]
    {
        let mut listed = Vec::new();
        let mut more: Vec<String> = Vec::new();
        loop {
            let mut words = [list, &["-n", "2", "--json"]].concat();
            words.extend(more.iter().map(String::as_str));
            let page = house.run(&words).ok().json();
            let ids = page["mails"].as_array().cloned().unwrap_or_default();
            listed.extend(ids.iter().filter_map(|mail| Some(mail["id"].as_str()?.to_owned())));
            let Some(cursor) = page["cursor"].as_str() else { break };
            assert_eq!(ids.len(), 2, "{page}");
            more = vec!["--cursor".to_owned(), cursor.to_owned()];
            if list[0] == "inbox" {
                let _ = mail_to_operator(house, "newer");
            }
        }
        listed.reverse();
        assert_eq!(&listed, expected, "{list:?}");
    }
    let told = house.run(&["inbox", "-n", "1"]).ok();
    assert!(
        told.stderr.contains("hint: there is more; the same command with --cursor "),
        "{}",
        told.evidence()
    );
    let nowhere = House::new();
    for list in [&["inbox"][..], &["search", "x"], &["dead"]] {
        let words = [list, &["--cursor", "yesterday"]].concat();
        let text = refused(touches_nothing(&nowhere, || nowhere.run(&words)), 2);
        assert!(text.contains("`yesterday` is no cursor"), "{text}");
    }
}

/// What fits is found however much does not: the relay looks at so much at a time, that others need not wait, and the command goes on.
#[test]
fn what_fits_is_found_behind_much_that_does_not() {
    let house = House::new();
    let first = sent_id(&house.run(&["--as", "ann", "send", "operator", "the oldest"]).ok());
    let bodies: Vec<String> = (0..10_500).map(|n| format!("mail {n}")).collect();
    let socket = house.bundle_dir().join("relay.sock");
    let mut socket = std::os::unix::net::UnixStream::connect(socket).expect("a relay");
    assert_eq!(watch::send_all(&mut socket, &bodies), bodies.len());
    for words in [&["--from", "ann"][..], &["--from", "ann", "--since", "1h"], &["--from", "ann", "--unread"]]
    {
        let found = house.run(&[&["inbox", "--json"], words].concat()).ok().json();
        assert_eq!(
            (&found["mails"][0]["id"], found["mails"].as_array().map(Vec::len)),
            (&first.as_str().into(), Some(1))
        );
        assert!(found["cursor"].is_null(), "{found}");
    }
    let all = house.run(&["inbox", "--json", "-n", "20000"]).ok().json();
    assert_eq!(all["mails"].as_array().map(Vec::len), Some(10_501));
}
