//! `agentmux look`: the last items of a session's thread, as the child has them.

use crate::*;

#[test]
fn the_last_items_are_shown_oldest_first() {
    let team = Team::of(&["reviewer"]);
    let house = &team.house;
    for text in ["the first thing", "the second thing"] {
        let _ = house.run(&["send", "reviewer", text, "--wait"]).ok();
        wait_until_idle(house, "reviewer");
    }
    let ran = house.run(&["look", "reviewer", "--json"]);
    let looked = versioned(&ran, &["session", "items"]);
    assert_eq!(looked["session"], "reviewer");
    let items = looked["items"].as_array().cloned().unwrap_or_default();
    for item in &items {
        has_keys(item, &["at", "kind", "source", "text"]);
    }
    let place = |needle: &str| {
        items.iter().position(|item| item["text"].as_str().is_some_and(|t| t.contains(needle)))
    };
    let (first, second) = (place("the first thing"), place("the second thing"));
    assert!(first.is_some() && first < second, "{looked}");
    assert!(
        items.iter().any(|item| item["text"].as_str().is_some_and(|t| t.starts_with("ok: "))),
        "{looked}"
    );

    let last = house.run(&["look", "reviewer", "-n", "1", "--json"]).json();
    assert_eq!(last["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(last["items"][0], items[items.len() - 1], "the last one");
    let ran = house.run(&["look", "reviewer"]).ok();
    assert!(ran.stdout.contains("the second thing") && ran.stderr.is_empty(), "{}", ran.evidence());
    assert_eq!(team.model.requests().len(), 2, "looking starts no turn");

    let _ = house.run(&["down", "reviewer"]).ok();
    let text = refused(house.run(&["look", "reviewer"]), 1);
    assert!(
        text.contains("reviewer is stopped") && text.contains("hint: start it: agentmux up reviewer"),
        "{text}"
    );
}

/// Symptom: words of the person that begin like an envelope were shown as mail. Cause: their first words were believed. Now: their claim is
/// while the relay knows it, and after that only the head of an envelope.
#[test]
fn the_persons_words_are_no_mail_however_they_begin() {
    let team = Team::of(&["reviewer"]);
    let house = &team.house;
    let _ = house.run(&["prompt", "reviewer", "[agentmux mail 1 of 9] go", "--wait"]).ok();
    wait_until_idle(house, "reviewer");
    let _ = house.run(&["send", "reviewer", "true mail", "--wait"]).ok();
    wait_until_idle(house, "reviewer");
    let looked = house.run(&["look", "reviewer", "--json"]).json();
    let items = looked["items"].as_array().into_iter().flatten().filter(|item| item["kind"] == "message");
    let sources: Vec<&Value> = items.map(|item| &item["source"]).collect();
    assert_eq!(sources, ["prompt", "mail"], "{looked}");
}

#[test]
fn an_unknown_session_is_refused_and_an_agent_may_not() {
    let house = House::new();
    let _ = refused_json(house.run(&["look", "reviewer", "--json"]), 3, "not_found");
    let _ = refused(agent(&house, &["look", "reviewer"]).run(), 1);
    let nowhere = House::new();
    let _ = refused_json(touches_nothing(&nowhere, || nowhere.run(&["look", "..", "--json"])), 2, "usage");
    for count in ["many", "0"] {
        let _ = refused(touches_nothing(&nowhere, || nowhere.run(&["look", "a", "-n", count])), 2);
    }
}
