//! `agentmux prompt`: the person's own words, before all mail, with the answer.

mod lost;

use super::support::model::Rule;
use crate::*;

/// TQ: words of the person go in alone, as they are and before mail that waits, also while mail is held; the answer is printed.
#[test]
fn words_of_the_person_go_before_mail_and_the_answer_is_printed() {
    let team = Team::of(&["reviewer"]);
    let (house, model) = (&team.house, &team.model);
    model.script([Rule::user("what is left?").reply("Two tests.\nAnd the docs.")]);
    let _ = house.run(&["hold", "reviewer"]).ok();
    let mail = sent_id(&house.run(&["send", "reviewer", "mail that waits", "--priority", "urgent"]).ok());
    let ran = house.run(&["prompt", "reviewer", "what is left?", "--wait", "--json"]);
    let answer = versioned(&ran, &["session", "turnId", "status", "text", "id"]);
    assert_eq!((&answer["session"], &answer["status"]), (&"reviewer".into(), &"completed".into()));
    assert_eq!(answer["text"], "Two tests.\nAnd the docs.");
    assert!(answer["turnId"].as_str().is_some_and(is_id), "{answer}");
    assert!(
        model.user_texts().contains(&"what is left?".to_owned()),
        "without an envelope: {:?}",
        model.user_texts()
    );
    assert_eq!(state(house, &mail), "queued");
    let people = house.run_with_stdin(&["prompt", "reviewer", "-", "--wait"], "what is left?").ok();
    assert_eq!(people.stdout, "Two tests.\nAnd the docs.\n");
    let look = house.run(&["look", "reviewer", "--json"]).ok().json();
    assert_eq!(look["items"][0]["source"], "prompt", "{look}");
    let _ = house.run(&["release", "reviewer"]).ok();
    read_once(model, "mail that waits");
}

#[test]
fn without_wait_it_returns_with_the_turn() {
    let team = Team::of(&["reviewer"]);
    let (house, model) = (&team.house, &team.model);
    model.script([Rule::user("think").reply("done").held_by("thinking")]);
    let ran = house.run(&["prompt", "reviewer", "think", "--json"]);
    let answer = versioned(&ran, &["session", "turnId", "id"]);
    assert!(answer["turnId"].as_str().is_some_and(is_id), "{answer}");
    assert_eq!(session(house, "reviewer")["state"], "busy");
    let late = house.run(&["prompt", "reviewer", "and then?", "--wait", "--timeout", "200ms"]).fails(4);
    assert!(late.stderr.contains("do not send it again"), "{}", late.evidence());
    model.release("thinking");
    read_once(model, "and then?");
}

/// users 2: the answer is read as the model writes it, and what was said of one that is interrupted stays readable.
#[test]
fn an_answer_is_printed_while_it_is_written() {
    let team = Team::of(&["reviewer"]);
    let (house, model) = (&team.house, &team.model);
    let slowly = || Rule::user("think aloud").beginning("First, ").reply("then last.").held_by("thinking");
    model.script([slowly()]);
    let prompt = house.spawn(&["prompt", "reviewer", "think aloud", "--wait"]);
    prompt.wait_for_stdout("First, ", SOON);
    assert_eq!(prompt.stdout(), "First, ", "as it came, and no more");
    model.release("thinking");
    assert_eq!(prompt.finish(SOON).ok().stdout, "First, then last.\n");

    model.hold("thinking");
    let prompt = house.spawn(&["prompt", "reviewer", "think aloud", "--wait"]);
    prompt.wait_for_stdout("First, ", SOON);
    let _ = house.run(&["interrupt", "reviewer"]).ok();
    let ended = prompt.finish(SOON).fails(1);
    assert_eq!(ended.stdout, "First, \n");
    assert!(ended.stderr.contains("ended as interrupted"), "{}", ended.evidence());
}

/// Whoever waits for an answer comes back through the next relay, which has adopted the turn, and gets the whole of it.
#[test]
fn who_waits_for_an_answer_hears_its_end_from_the_next_relay() {
    let team = Team::of(&["reviewer"]);
    let (house, model) = (&team.house, &team.model);
    model.script([Rule::user("think aloud").beginning("First, ").reply("then last.").held_by("thinking")]);
    let prompt = house.spawn(&["prompt", "reviewer", "think aloud", "--wait"]);
    prompt.wait_for_stdout("First, ", SOON);
    let killed = house.relay_pid().expect("a relay runs");
    house.kill_nine(killed);
    house.poll("the next relay to have the turn", SOON, || {
        let list = house.run(&["list", "--json"]).ok().json()["sessions"][0].clone();
        if house.relay_pid() != Some(killed) && list["turnId"].is_string() {
            Ok(())
        } else {
            Err(list.to_string())
        }
    });
    model.release("thinking");
    let said = prompt.finish(SOON).ok().stdout;
    assert!(
        said.starts_with("First, ") && said.contains("the whole message:]\nFirst, then last.\n"),
        "{said}"
    );
}

/// Nothing is cut that a person asked for: `look` shows 8 KiB of a message, this all of it.
#[test]
fn a_long_answer_is_printed_whole() {
    let team = Team::of(&["reviewer"]);
    let (house, model) = (&team.house, &team.model);
    let lines: Vec<String> = (0..20_000).map(|n| format!("line {n}, ünd so on\n")).collect();
    let pieces: Vec<&str> = lines.iter().map(String::as_str).collect();
    let parts: Vec<String> = pieces.chunks(500).map(<[&str]>::concat).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    model.script([Rule::user("tell all").reply_in(&parts)]);
    let whole = lines.concat();
    let ran = house.run(&["prompt", "reviewer", "tell all", "--wait"]).ok();
    assert!(ran.stdout.trim_end() == whole.trim_end(), "{} of {} bytes", ran.stdout.len(), whole.len());
    let ran = house.run(&["prompt", "reviewer", "tell all", "--wait", "--json"]).ok().json();
    let text = ran["text"].as_str().unwrap_or_default();
    assert!(text.trim_end() == whole.trim_end(), "{} of {} bytes", text.len(), whole.len());
}

#[test]
fn a_turn_that_fails_is_no_success() {
    let team = Team::of(&["reviewer"]);
    team.model.script([Rule::user("fail").fail("invalid_prompt", "that was wrong\u{1b}[2J \u{202e}gnorw")]);
    let ran = team.house.run(&["prompt", "reviewer", "fail", "--wait", "--json"]);
    assert_eq!(ran.code, 1, "{}", ran.evidence());
    assert!(ran.stdout.contains("\"status\":\"failed\""), "{}", ran.evidence());
    assert!(ran.stderr.contains("ended as failed: that was wrong"), "{}", ran.evidence());
    let people = team.house.run(&["prompt", "reviewer", "fail", "--wait"]).fails(1);
    assert!(people.stderr.contains("that was wrong\\u{1b}[2J \\u{202e}gnorw"), "{}", people.evidence());
}

/// Users 6: mail and agents prompt nobody.
#[test]
fn only_the_operator_prompts_and_only_what_runs() {
    let team = Team::asleep(&["reviewer"]);
    let house = &team.house;
    let _ = refused_json(house.run(&["prompt", "nobody", "x", "--json"]), 3, "not_found");
    let text = refused(house.run(&["prompt", "reviewer", "x"]), 1);
    assert!(text.contains("reviewer is stopped") && text.contains("agentmux up reviewer"), "{text}");
    let _ = refused(agent(house, &["prompt", "reviewer", "x"]).run(), 1);
    let nowhere = House::new();
    let _ = refused(touches_nothing(&nowhere, || nowhere.run(&["prompt", "reviewer", ""])), 2);
}
