//! `agentmux reply`: an answer goes to who wrote, in the same conversation, and whoever waits for it is told.

use crate::*;

/// SQ-15: the whole way round with the real Codex: the model's shell answers, and the waiting sender returns.
#[test]
fn an_agent_answers_from_its_shell_and_the_sender_who_waits_is_told() {
    let team = Team::nobody();
    let (house, model) = (&team.house, &team.model);
    let answer = format!("{} reply {{id}} 'looks good'", env!("CARGO_BIN_EXE_agentmux"));
    model.script([support::Rule::user("look at the diff").exec(&answer).reply("answered")]);
    let free = ["--sandbox", "danger-full-access", "--approval", "never"];
    let _ = house.run(&[&["spawn", "reviewer"], &free[..]].concat()).ok();
    let ran = house.run(&["send", "reviewer", "look at the diff", "--wait=reply", "--json"]);
    let sent = versioned(&ran, &["id", "thread", "deliveries", "reached", "replyId"]);
    let id = sent["replyId"].as_str().unwrap_or_default();
    let reply = house.run(&["read", id, "--json"]).json()["mail"].clone();
    assert_eq!(reply["body"], "looks good");
    assert_eq!((&reply["from"], &reply["fromKind"]), (&"outside".into(), &"outside".into()));
    assert_eq!((&reply["replyTo"], &reply["thread"]), (&sent["id"], &sent["thread"]));
    assert_eq!(reply["to"], serde_json::json!(["operator"]));
}

#[test]
fn a_reply_is_mail_with_an_id_a_key_and_a_thread_of_its_parent() {
    let team = Team::asleep(&["reviewer"]);
    let house = &team.house;
    let first = sent_id(&house.run(&["send", "reviewer", "first"]).ok());
    // A reply to one's own mail goes on to those it went to.
    let ran = house.run(&["reply", &first, "and another thing", "--key", "k", "--json"]);
    let sent = versioned(&ran, &["id", "thread", "deliveries"]);
    assert_eq!((&sent["thread"], &sent["deliveries"][0]["to"]), (&first.as_str().into(), &"reviewer".into()));
    let again = house.run(&["reply", &first, "and another thing", "--key", "k", "--json"]).json();
    assert_eq!(again["id"], sent["id"]);
    let _ = refused(house.run(&["reply", &first, "something else", "--key", "k"]), 7);
    let second = sent_id(&house.run_with_stdin(&["reply", &first[28..], "-"], "from stdin").ok());
    let mail = house.run(&["read", &second, "--json"]).json()["mail"].clone();
    assert_eq!((&mail["body"], &mail["replyTo"]), (&"from stdin".into(), &first.as_str().into()));
    // An agent that has no name of its own answers the operator.
    let reply = sent_id(&agent(house, &["reply", &first, "done"]).run().ok());
    let waited =
        house.run(&["send", "reviewer", "first", "--key", "other", "--wait=reply", "--timeout", "50ms"]);
    let _ = waited.fails(4);
    let inbox = house.run(&["inbox", "--json"]).json();
    assert_eq!(inbox["mails"][0]["id"], reply.as_str());
}

#[test]
fn an_answer_that_came_before_the_wait_counts() {
    let team = Team::asleep(&["reviewer"]);
    let house = &team.house;
    let send = ["send", "reviewer", "question", "--key", "k"];
    let id = sent_id(&house.run(&send).ok());
    let reply = sent_id(&agent(house, &["reply", &id, "answer"]).run().ok());
    let waited = house.run(&[&send[..], &["--wait=reply", "--json"]].concat()).json();
    assert_eq!((&waited["reached"], &waited["replyId"]), (&true.into(), &reply.as_str().into()));
}

#[test]
fn a_sender_without_a_mailbox_cannot_be_answered() {
    let house = House::new();
    let id = mail_to_operator(&house, "from nowhere");
    let text = refused(house.run(&["reply", &id, "thanks"]), 1);
    assert!(text.contains("outside (outside) has no mailbox") && text.contains("hint: "), "{text}");
    assert_eq!(counts(&house)["queued"], 1);
}

#[test]
fn unknown_mail_and_bad_bodies_are_refused() {
    let house = House::new();
    let _ = refused(touches_nothing(&house, || house.run(&["reply", "0199", ""])), 2);
    let _ = refused(touches_nothing(&house, || house.run(&["reply", "0199"])), 2);
    let _ = refused(touches_nothing(&house, || house.run_with_stdin(&["reply", "0199", "-"], "a\0b")), 2);
    let _ = refused(touches_nothing(&house, || house.run(&["reply", "0199", "x", "--no-start"])), 5);
    let error = refused_json(house.run(&["reply", "0199a213", "text", "--json"]), 3, "not_found");
    assert!(error["message"].as_str().is_some_and(|m| m.contains("no `0199a213`")), "{error}");
    let (one, other) = (mail_to_operator(&house, "one"), mail_to_operator(&house, "other"));
    let text = refused(house.run(&["reply", &one[..4], "text"]), 3);
    assert!(text.contains("fits several mails") && text.contains(&one) && text.contains(&other), "{text}");
}

/// users 8: to whom an answer would go can be seen before it is written.
#[test]
fn a_dry_run_names_the_recipient_and_sends_nothing() {
    let team = Team::asleep(&["reviewer", "tester"]);
    let house = &team.house;
    let own = sent_id(&house.run(&["send", "reviewer", "tester", "first"]).ok());
    let theirs = sent_id(&house.run(&["--as", "visitor", "send", "operator", "and mine"]).ok());
    let nobodys = sent_id(&agent(house, &["reply", &own, "done"]).run().ok());
    let before = counts(house);
    let ran = house.run(&["reply", &own, "--dry-run", "--json"]);
    let said = versioned(&ran, &["replyTo", "to"]);
    assert_eq!(
        (&said["replyTo"], &said["to"]),
        (&own.as_str().into(), &serde_json::json!(["reviewer", "tester"]))
    );
    let ran = house.run(&["reply", &theirs[theirs.len() - 8..], "--dry-run"]).ok();
    assert_eq!(ran.stdout, "visitor\n");
    let said = refused(house.run(&["reply", &nobodys, "--dry-run"]), 1);
    assert!(said.contains("has no mailbox"), "as the answer itself would be: {said}");
    assert_eq!(counts(house), before);
    let ran = agent(house, &["reply", &own, "--dry-run"]).run().ok();
    assert_eq!(ran.stdout, "operator\n", "whoever may answer may ask");
    let _ = refused(house.run(&["reply", "ffffffff", "--dry-run"]), 3);
    let _ = refused(house.run(&["reply", &own]), 2);
}
