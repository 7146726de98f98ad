//! `agentmux log`: the history from the store, and what follows it.

use crate::*;
use serde_json::json;

/// Event words with the state, if there is one.
fn shape(lines: &[Value]) -> Vec<String> {
    let of = |event: &Value| {
        let word = event["event"].as_str().unwrap_or_default();
        event["state"].as_str().map_or(word.to_owned(), |state| format!("{word} {state}"))
    };
    lines.iter().map(of).collect()
}

/// users 13, users 24: every step of a mail and every child is in the history, in order, also for the next relay.
#[test]
fn the_history_outlives_its_relay() {
    let team = Team::of(&["reviewer"]);
    let id = sent_id(&team.house.run(&["send", "reviewer", "look", "--wait"]).ok());
    wait_until_idle(&team.house, "reviewer");
    let before = team.house.run(&["log", "--json"]).ok().json_lines();
    let wanted = ["childStarted", "mail queued", "mail claimed", "mail submitted", "mail consumed"];
    assert_eq!(shape(&before), wanted, "{before:?}");
    let last = &before[4];
    assert_eq!(keys(last)[..3], ["schemaVersion", "at", "event"], "{last}");
    assert_eq!((&last["mail"], &last["session"]), (&json!(id), &json!("reviewer")), "{last}");
    assert!(last["turnId"].is_string(), "{last}");
    team.house.kill_nine(team.house.relay_pid().expect("a relay runs"));
    assert_eq!(team.house.run(&["log", "--json"]).ok().json_lines(), before);
    let one = team.house.run(&["log", "-n", "1", "--json"]).ok().json_lines();
    assert_eq!(one, before[4..]);
    let words = team.house.run(&["log", "reviewer"]).ok();
    assert!(
        words.stdout.contains(&format!("reviewer  mail {id} from operator consumed in turn ")),
        "{}",
        words.evidence()
    );
    let other = mail_to_operator(&team.house, "beside it");
    let of_reviewer = team.house.run(&["log", "reviewer"]).ok();
    assert!(!of_reviewer.stdout.contains(&other), "{}", of_reviewer.evidence());
    let long_ago = team.house.run(&["log", "--since", "1ms", "--json"]).ok();
    assert_eq!(long_ago.stdout, "", "{}", long_ago.evidence());
}

/// users 25: one conversation, by any mail of it, and nothing else.
#[test]
fn the_history_of_a_conversation_is_found_by_any_mail_of_it() {
    let team = Team::asleep(&["reviewer"]);
    let house = &team.house;
    let first = sent_id(&house.run(&["send", "reviewer", "first"]).ok());
    let other = sent_id(&house.run(&["send", "reviewer", "beside it"]).ok());
    let second = sent_id(&agent(house, &["reply", &first, "an answer"]).run().ok());
    let _ = house.run(&["read", &second]).ok();
    for any in [&first, &second, &second[second.len() - 8..].to_owned()] {
        let told = house.run(&["log", "--thread", any, "--json"]).ok().json_lines();
        let of = |event: &Value| {
            (
                event["mail"].as_str().unwrap_or_default().to_owned(),
                event["state"].as_str().unwrap_or_default().to_owned(),
            )
        };
        let told: Vec<_> = told.iter().map(of).collect();
        assert_eq!(told[0], (first.clone(), "queued".to_owned()), "{told:?}");
        assert!(told.contains(&(second.clone(), "queued".to_owned())), "{told:?}");
        assert!(told.iter().all(|(mail, _)| *mail != other), "{told:?}");
    }
    let said = refused(house.run(&["log", "--thread", "ffffffff"]), 3);
    assert!(said.contains("there is no `ffffffff`"), "{said}");
    let said = refused(house.run(&["log", "reviewre"]), 3);
    assert!(said.contains("there is no `reviewre`"), "{said}");
    let _ = house.run(&["remove", "reviewer"]).ok();
    let told = house.run(&["log", "reviewer"]).ok();
    assert!(told.stdout.contains(&first), "who was removed has a history: {}", told.evidence());
}

/// G10, users 19: who settled an approval, how and why, is in the history.
#[test]
fn approvals_are_in_the_history_with_who_settled_them() {
    let team = Team::of(&["reviewer"]);
    team.model.script([approvals::asks_to_run("ask me", "touch wanted-file")]);
    let id = approvals::id_of(&approvals::asked(&team, "ask me"));
    let _ = team.house.run(&["deny", &id, "--reason", "not today"]).ok();
    let told = team.house.run(&["log", "--json"]).ok().json_lines();
    let of = |word: &str| told.iter().find(|event| event["event"] == word).cloned().unwrap_or_default();
    let (asked, settled) = (of("approvalAsked"), of("approvalSettled"));
    assert_eq!((&asked["approval"], &asked["session"]), (&json!(id), &json!("reviewer")), "{told:?}");
    let how = (&settled["decision"], &settled["by"], &settled["reason"]);
    assert_eq!(how, (&json!("denied"), &json!("operator"), &json!("not today")), "{told:?}");
}

/// Followed, the history goes on without gap, overlap or a second telling, also through a crash of the relay.
#[test]
fn a_followed_history_tells_each_line_once() {
    let house = House::new();
    let ids: Vec<String> = (0..2).map(|n| mail_to_operator(&house, &format!("{n}"))).collect();
    let log = house.spawn(&["log", "-f", "--json"]);
    log.wait_for_stdout(&ids[1], SOON);
    let third = mail_to_operator(&house, "live");
    log.wait_for_stdout(&third, SOON);
    let _ = house.run(&["--as", "ann", "whoami"]).ok();
    log.wait_for_stdout("\"event\":\"nameClaimed\"", SOON);
    house.kill_nine(house.relay_pid().expect("a relay runs"));
    let fourth = mail_to_operator(&house, "after the crash");
    log.wait_for_stdout(&fourth, SOON);
    let _ = house.run(&["read", &ids[0]]).ok();
    log.wait_for_stdout("\"state\":\"consumed\"", SOON);
    let _ = house.run(&["down"]).ok();
    let ran = log.finish(SOON).fails(4);
    let lines: Vec<Value> =
        ran.stdout.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect();
    let queued: Vec<&Value> =
        lines.iter().filter(|line| line["state"] == "queued").map(|line| &line["mail"]).collect();
    assert_eq!(queued, [&json!(ids[0]), &json!(ids[1]), &json!(third), &json!(fourth)], "{}", ran.evidence());
    assert_eq!(lines.iter().filter(|line| line["state"] == "consumed").count(), 1, "{}", ran.evidence());
}

#[test]
fn what_cannot_be_is_refused() {
    let house = House::new();
    let empty = house.run(&["log"]).ok();
    assert_eq!(empty.stdout, "", "{}", empty.evidence());
    let _ = refused(agent(&house, &["log"]).run(), 1);
    let nowhere = House::new();
    let _ = refused(touches_nothing(&nowhere, || nowhere.run(&["log", ".."])), 2);
    let _ = refused(touches_nothing(&nowhere, || nowhere.run(&["log", "--since", "soon"])), 2);
}
