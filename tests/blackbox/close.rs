//! `agentmux close`: a session says what it was doing, is stopped, and is told that again.

use super::support::model::Rule;
use crate::*;

fn asks_for_a_summary() -> Rule {
    Rule::user("You are about to be closed")
}

/// TQ-4: who waits for mail that a close has overtaken is told so at once, not when its own time is over; the mail stays.
#[test]
fn who_waits_behind_a_close_is_told_at_once_and_the_mail_stays() {
    let team = Team::of(&["reviewer"]);
    let house = &team.house;
    let _ = house.run(&["hold", "reviewer"]).ok();
    let waiting = ["--wait", "--wait=reply"].map(|wait| {
        let words = ["send", "reviewer", wait, "behind it", "--timeout", "1h", "--json"];
        let sender = house.spawn(&words);
        house.poll("its mail", SOON, || {
            let found = house.run(&["search", "behind", "--json"]).ok().json();
            let mails = found["mails"].as_array().map_or(0, Vec::len);
            if mails == 1 + usize::from(wait != "--wait") { Ok(()) } else { Err(found.to_string()) }
        });
        sender
    });
    let _ = house.run(&["close", "reviewer", "--now"]).ok();
    for sender in waiting {
        let ran = sender.finish(SOON).fails(75);
        assert!(ran.stderr.contains("reviewer is being closed"), "{}", ran.evidence());
        let sent: Value = serde_json::from_str(&ran.stdout).expect("JSON");
        assert_eq!(sent["deliveries"][0]["state"], "queued", "{sent}");
        assert_eq!(state(house, sent["id"].as_str().unwrap_or_default()), "queued");
    }
}

/// TQ: the running turn ends, the session sums up, mail stays queued, and the summary is among its instructions at the next start.
#[test]
fn a_closed_session_is_told_its_own_summary_when_it_comes_up() {
    let team = Team::of(&["reviewer"]);
    let (house, model) = (&team.house, &team.model);
    model.script([
        asks_for_a_summary().reply("I read half of the diff; store.rs is left."),
        Rule::user("for ever").reply("never").held_by("ever"),
    ]);
    let _ = house.run(&["send", "reviewer", "for ever", "--wait"]).ok();
    let waits = sent_id(&house.run(&["send", "reviewer", "behind it"]).ok());
    let ran = house.run(&["close", "reviewer", "--json"]);
    let closed = versioned(&ran, &["sessions", "summary"]);
    let sessions = &closed["sessions"];
    assert_eq!((&sessions[0]["name"], &sessions[0]["state"]), (&"reviewer".into(), &"stopped".into()));
    assert_eq!(closed["summary"], "I read half of the diff; store.rs is left.");
    assert_eq!(state(house, &waits), "queued");
    assert_eq!(session(house, "reviewer")["wanted"], "down");
    let _ = house.run(&["up", "reviewer"]).ok();
    read_once(model, "behind it");
    let last = model.requests().last().cloned().expect("the model was asked");
    assert!(
        last.contains("When you were last closed, you summed your work up like this"),
        "{}",
        last.describe()
    );
    // Told once: the next start has nothing to tell.
    let again = versioned(&house.run(&["close", "reviewer", "--now", "--json"]), &["sessions", "summary"]);
    assert_eq!(again["summary"], Value::Null);
}

/// Close comes before everything: words of the person behind it are refused at once, and a second close joins the first.
#[test]
fn what_comes_behind_a_close_is_refused_at_once_and_a_second_close_joins() {
    let team = Team::of(&["reviewer"]);
    let (house, model) = (&team.house, &team.model);
    model.script([
        asks_for_a_summary().reply("nothing is left").held_by("summing up"),
        Rule::user("for ever").reply("never").held_by("ever"),
    ]);
    let _ = house.run(&["send", "reviewer", "for ever", "--wait"]).ok();
    let behind = house.spawn(&["prompt", "reviewer", "behind", "--wait"]);
    house.poll("the words to wait", SOON, || match session(house, "reviewer")["pending"].as_i64() {
        Some(1) => Ok(()),
        pending => Err(format!("{pending:?}")),
    });
    let closing = house.spawn(&["close", "reviewer", "--json"]);
    let refused_words = behind.finish(SOON).fails(1);
    assert!(refused_words.stderr.contains("cancelled"), "{}", refused_words.evidence());
    model.wait_until_held("summing up", SOON);
    let text = refused(house.run(&["prompt", "reviewer", "too late"]), 75);
    assert!(text.contains("is being closed"), "{text}");
    let _ = refused(house.run(&["interrupt", "reviewer"]), 75);
    let joining = house.spawn(&["close", "reviewer", "--json"]);
    house.poll("the second close to wait", SOON, || match house.run(&["status", "--json"]).json()["clients"]
        .as_i64()
    {
        Some(3) => Ok(()),
        clients => Err(format!("{clients:?} clients")),
    });
    model.release("summing up");
    for call in [closing, joining] {
        assert_eq!(call.finish(SOON).ok().json()["summary"], "nothing is left");
    }
}

/// A session that does not sum up in time is closed without, and `--now` asks for nothing.
#[test]
fn a_close_does_not_wait_for_ever() {
    let team = Team::of(&["reviewer", "lead"]);
    let (house, model) = (&team.house, &team.model);
    model.script([asks_for_a_summary().reply("never").held_by("ever")]);
    let slow = house.spawn(&["close", "reviewer", "--json"]);
    model.wait_until_held("ever", SOON);
    let hurried = house.run(&["close", "reviewer", "--now", "--json"]).ok().json();
    assert_eq!((&hurried["sessions"][0]["state"], &hurried["summary"]), (&"stopped".into(), &Value::Null));
    assert_eq!(slow.finish(SOON).ok().json()["summary"], Value::Null);
    let late = house.run(&["close", "lead", "--json"]).ok().json();
    assert_eq!(
        (&late["sessions"][0]["state"], &late["summary"]),
        (&"stopped".into(), &Value::Null),
        "after 10 s"
    );
}

#[test]
fn only_the_operator_closes_and_only_what_exists() {
    let team = Team::asleep(&["reviewer"]);
    let house = &team.house;
    let closed = house.run(&["close", "reviewer", "--json"]).ok().json();
    assert_eq!(closed["sessions"][0]["state"], "stopped", "it is down already");
    let _ = refused_json(house.run(&["close", "nobody", "--json"]), 3, "not_found");
    let _ = refused(agent(house, &["close", "reviewer"]).run(), 1);
}
