//! `agentmux ask`: mail and the answer to it, whatever happens in between.

use crate::*;
use nix::sys::signal::Signal;

/// Users 23: the answer is the mail that answers this one; it arrives although the relay that took the question was killed.
#[test]
fn the_answer_is_printed_although_the_relay_was_killed_meanwhile() {
    let team = Team::asleep(&["reviewer"]);
    let house = &team.house;
    let asking = house.spawn(&["ask", "reviewer", "which branch?", "--json", "--timeout", "2m"]);
    let id = question(house);
    for _ in 0..2 {
        let pid = house.relay_pid().expect("a relay runs");
        house.kill_nine(pid);
        house.poll("another relay", SOON, || match house.relay_pid() {
            Some(again) if again != pid => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }
    let _ = agent(house, &["send", "operator", "something else"]).run().ok();
    assert!(!asking.has_exited(), "other mail is no answer");
    let reply = sent_id(&agent(house, &["reply", &id, "the main one"]).run().ok());
    let ran = asking.finish(SOON);
    let mail = versioned(&ran, &["mail"])["mail"].clone();
    assert_eq!((&mail["id"], &mail["replyTo"]), (&reply.as_str().into(), &id.as_str().into()));
    assert_eq!(mail["body"], "the main one");
    assert_eq!(state(house, &reply), "consumed", "it was read");
}

/// Users 23: a timeout is told apart from a failure, and says that the mail stays, so that nobody sends it again.
#[test]
fn a_timeout_names_the_mail_and_its_state_and_wait_takes_it_up_again() {
    let team = Team::asleep(&["reviewer"]);
    let house = &team.house;
    let ran = house.run(&["ask", "reviewer", "are you there?", "--timeout", "100ms"]).fails(4);
    let id = question(house);
    assert_eq!(ran.stdout, "");
    assert!(ran.stderr.contains(&format!("mail {id} is queued to reviewer")), "{}", ran.evidence());
    assert!(ran.stderr.contains("do not send it again"), "{}", ran.evidence());
    assert_eq!(state(house, &id), "queued");
    let waiting = house.spawn(&["wait", &id[28..], "--json"]);
    house.poll("it to wait", SOON, || match house.run(&["status", "--json"]).json()["clients"].as_i64() {
        Some(2) => Ok(()),
        clients => Err(format!("{clients:?} clients")),
    });
    let _ = agent(house, &["reply", &id, "yes"]).run().ok();
    assert_eq!(waiting.finish(SOON).ok().json()["mail"]["body"], "yes");

    let asking = house.spawn(&["ask", "reviewer", "and now?", "--timeout", "2m"]);
    house.poll("the question", SOON, || if question(house) == id { Err(id.clone()) } else { Ok(()) });
    asking.signal(Signal::SIGINT);
    let ran = asking.finish(SOON).fails(130);
    assert!(
        ran.stderr.contains("goes on its way; it was queued to reviewer\nhint: do not send it again"),
        "{}",
        ran.evidence()
    );
}

#[test]
fn who_has_no_mailbox_cannot_ask_and_grammar_is_checked_first() {
    let house = House::new();
    let _ = house.run(&["up"]).ok();
    let text = refused(agent(&house, &["ask", "operator", "x"]).run(), 1);
    assert!(text.contains("has no mailbox"), "{text}");
    assert_eq!(house.run(&["inbox", "--json"]).json()["mails"].as_array().map(Vec::len), Some(0));
    let _ = refused(house.run(&["ask", "nobody", "x"]), 3);
    let nowhere = House::new();
    for arguments in [&["ask", "reviewer"][..], &["ask", "reviewer", ""], &["ask", "a", "x", "--wait"]] {
        let _ = refused(touches_nothing(&nowhere, || nowhere.run(arguments)), 2);
    }
}

/// The id of the newest mail to `reviewer`, once there is one.
#[track_caller]
fn question(house: &House) -> String {
    house.poll("the question", SOON, || {
        let inbox = house.run(&["inbox", "reviewer", "--json"]).json();
        inbox["mails"][0]["id"].as_str().map(str::to_owned).ok_or_else(|| inbox.to_string())
    })
}

/// users 8: what the asked agent writes to somebody else about the question is no answer to who asked.
#[test]
fn an_answer_counts_only_for_whom_it_is_addressed_to() {
    let house = &House::new();
    let _ = house.run(&["--as", "lead", "whoami"]).ok();
    let _ = house.run(&["--as", "other", "whoami"]).ok();
    let asking = house.spawn(&["--as", "mia", "ask", "lead", "which one?", "--timeout", "2m", "--json"]);
    let id = house.poll("the question", SOON, || {
        let inbox = house.run(&["inbox", "lead", "--json"]).ok().json();
        inbox["mails"][0]["id"].as_str().map(str::to_owned).ok_or(inbox.to_string())
    });
    let aside = house.run(&["--as", "lead", "send", "other", "mia asks which one", "--reply-to", &id]).ok();
    assert!(!asking.has_exited(), "{}", aside.evidence());
    let _ = house.run(&["--as", "lead", "reply", &id, "the second"]).ok();
    let answer = asking.finish(SOON).ok().json()["mail"].clone();
    assert_eq!(
        (&answer["body"], &answer["replyTo"]),
        (&"the second".into(), &id.as_str().into()),
        "{answer}"
    );
    // Asked for later it is still the same one.
    let again = house.run(&["--as", "mia", "wait", &id, "--json"]).ok().json();
    assert_eq!(again["mail"]["id"], answer["id"], "{again}");
}
