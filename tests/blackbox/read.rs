//! `agentmux read`: shows one mail whole; for its reader that is delivery, for anybody else it is a look.

use crate::*;

/// NB-8: the reader has the mail before it counts as read.
#[test]
fn reading_ones_own_mail_shows_the_body_and_takes_it() {
    let house = House::new();
    let id = mail_to_operator(&house, "line one\nline two");
    let ran = house.run(&["read", &id, "--json"]);
    let mail = versioned(&ran, &["mail"])["mail"].clone();
    assert_eq!((&mail["id"], &mail["body"]), (&id.as_str().into(), &"line one\nline two".into()));
    has_keys(
        &mail,
        &["from", "fromKind", "to", "subject", "thread", "replyTo", "priority", "sentAt", "state"],
    );
    let traced = trace(&house, &id);
    let steps: Vec<&str> = traced["deliveries"][0]["transitions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|step| step["state"].as_str())
        .collect();
    assert_eq!(steps, ["queued", "claimed", "submitted", "consumed"], "{traced}");
    assert_eq!(counts(&house)["queued"], 0);
    // Reading again is a look at what was taken.
    let again = house.run(&["read", &id, "--json"]).json();
    assert_eq!((&again["mail"]["state"], &again["mail"]["unread"]), (&"consumed".into(), &false.into()));
    assert_eq!(trace(&house, &id)["deliveries"], traced["deliveries"]);
}

#[test]
fn people_see_a_header_and_the_bytes_as_they_were_sent() {
    let house = House::new();
    let arguments = ["send", "operator", "-", "--subject", "the subject"];
    let body = "caf\u{e9} \u{1b}[31mred\u{1b}[0m \u{202e}\ttail";
    let id = sent_id(&agent(&house, &arguments).stdin(body).run().ok());
    let ran = house.run(&["read", &id]).ok();
    let (header, shown) = ran.stdout.split_once("\n\n").expect("a header, an empty line, the body");
    assert_eq!(shown, format!("{body}\n"), "in a pipe nothing is changed");
    let mut lines = header.lines();
    assert_eq!(lines.next(), Some(&*format!("id:      {id}")));
    assert_eq!(lines.next(), Some("from:    outside (outside)"));
    assert_eq!(lines.next(), Some("to:      operator"));
    assert!(header.ends_with("subject: the subject"), "{}", ran.evidence());
    assert_eq!(ran.stderr, "");
}

#[test]
fn reading_another_ones_mail_changes_nothing() {
    let team = Team::asleep(&["reviewer"]);
    let house = &team.house;
    let id = sent_id(&house.run(&["send", "reviewer", "not for me"]).ok());
    let before = trace(house, &id);
    let mail = house.run(&["read", &id, "--json"]).json()["mail"].clone();
    assert_eq!(
        (&mail["body"], &mail["state"], &mail["unread"]),
        (&"not for me".into(), &"queued".into(), &true.into())
    );
    assert_eq!(trace(house, &id), before);
}

#[test]
fn a_mail_is_found_by_a_unique_beginning_or_the_last_digits() {
    let house = House::new();
    let id = mail_to_operator(&house, "one");
    for reference in [&id[..], &id[..18], &id[28..], &id[30..], &id.to_uppercase(), &id.replace('-', "")] {
        assert_eq!(
            house.run(&["read", reference, "--json"]).json()["mail"]["id"],
            id.as_str(),
            "{reference}"
        );
    }
    let other = mail_to_operator(&house, "two");
    let text = refused(house.run(&["read", &id[..4]]), 3);
    assert!(text.contains("fits several mails") && text.contains(&id) && text.contains(&other), "{text}");
}

#[test]
fn unknown_mail_is_refused_and_an_agent_may_not_read() {
    let house = House::new();
    let id = mail_to_operator(&house, "private");
    for reference in ["0199a213-81c0-7800-8aa1-bbab2a035a53", "abc", "../x", "", "%", "nonsense"] {
        let text = refused(house.run(&["read", reference]), 3);
        assert!(text.contains("mail not found") && text.contains("hint: "), "{reference:?}: {text}");
    }
    let _ = refused_json(house.run(&["read", "ffff", "--json"]), 3, "not_found");
    let _ = refused_json(agent(&house, &["read", &id, "--json"]).run(), 1, "refused");
    assert_eq!(state(&house, &id), "queued");
}
