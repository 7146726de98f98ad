//! `agentmux dead`: what did not arrive, why, and the explicit word that it need not be listed.

use crate::*;

/// SQ-3, users 22: expiry happens only when it was asked for, is told to the sender once, and keeps the content.
#[test]
fn expired_mail_is_listed_and_its_sender_is_told_once() {
    let team = Team::asleep(&["reviewer"]);
    let house = &team.house;
    let id = expired(house, "too late");
    let ran = house.run(&["dead", "--json"]);
    let dead = versioned(&ran, &["mails"]);
    let mail = &dead["mails"][0];
    has_keys(
        mail,
        &[
            "id",
            "from",
            "fromKind",
            "subject",
            "thread",
            "priority",
            "sentAt",
            "ageMs",
            "state",
            "recipient",
            "reason",
        ],
    );
    assert_eq!(
        (&mail["id"], &mail["state"], &mail["recipient"]),
        (&id.as_str().into(), &"expired".into(), &"reviewer".into())
    );
    assert!(mail["reason"].as_str().is_some_and(|why| why.starts_with("not delivered before ")), "{mail}");
    assert_eq!(house.run(&["read", &id, "--json"]).json()["mail"]["body"], "too late", "the content is kept");

    let inbox = house.run(&["inbox", "--json"]).json();
    let notices = inbox["mails"].as_array().cloned().unwrap_or_default();
    assert_eq!(notices.len(), 1, "told once: {inbox}");
    assert_eq!((&notices[0]["from"], &notices[0]["fromKind"]), (&"system".into(), &"system".into()));
    assert_eq!(
        (&notices[0]["subject"], &notices[0]["priority"]),
        (&"your mail to reviewer expired".into(), &"fyi".into())
    );
    let notice = notices[0]["id"].as_str().unwrap_or_default();
    let body = house.run(&["read", notice]).ok().stdout;
    assert!(
        body.contains(&format!("mail {id} from operator to reviewer expired: not delivered before ")),
        "{body}"
    );
    let text = refused(house.run(&["reply", notice, "thanks"]), 1);
    assert!(text.contains("has no mailbox"), "{text}");
    let _ = house.run(&["up"]).ok();
    let _ = house.run(&["send", "reviewer", "in time", "--wait", "--expires", "1h"]).ok();
    assert_eq!(counts(house)["dead"], 1);
}

#[test]
fn discarding_is_explicit_and_keeps_the_mail() {
    let team = Team::asleep(&["reviewer"]);
    let house = &team.house;
    let ids: Vec<String> = ["one", "two", "three"].iter().map(|text| expired(house, text)).collect();
    let listed = |house: &House| {
        let dead = house.run(&["dead", "--json"]).json();
        dead["mails"].as_array().map_or(0, Vec::len)
    };
    assert_eq!(listed(house), 3);
    let ran = house.run(&["dead", "--discard", &ids[0], "--json"]);
    assert_eq!(versioned(&ran, &["discarded"])["discarded"], 1);
    assert_eq!((listed(house), counts(house)["dead"].as_i64()), (2, Some(2)));
    assert_eq!(state(house, &ids[0]), "expired", "only the list has changed");
    assert_eq!(house.run(&["dead", "--discard", "--all"]).ok().stdout, "2\n");
    let ran = house.run(&["dead"]).ok();
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", "no dead mail\n"));
    let _ = refused(house.run(&["dead", "--discard"]), 2);
    let _ = refused(house.run(&["dead", &ids[0]]), 2);
    let _ = refused(agent(house, &["dead"]).run(), 1);
}

/// Mail to a sleeping `reviewer` that has expired.
#[track_caller]
pub fn expired(house: &House, text: &str) -> String {
    let ran = house.run(&["send", "reviewer", text, "--expires", "1ms", "--wait"]).fails(1);
    assert!(worded(&ran).contains("to reviewer ended as expired"), "{}", ran.evidence());
    sent_id(&ran)
}
