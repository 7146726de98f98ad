//! The person presses Enter in a real pane in the very moment in which mail comes: both are told, each once and whole, one turn at a
//! time, and what the person wrote is known as the person's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use super::support::house::House;
use super::support::model::{Rule, ScriptedModel};
use super::support::rounds::{Draws, rounds};
use super::support::tmux::Pane;
use super::{DEADLINE, house_with_reviewer, text_of, traced, wait_for_state};

/// What stands in the pane, unsent, when the moment comes; with what a terminal or a model might change. No key that means something to
/// Codex's screen: typed as fast as this, `?` is now and then taken for the key that shows its help (0.169.0).
fn words_of(round: u64) -> String {
    format!("<person {round}> is it \"good\" & 'true' \\ déjà-vu, 日本")
}

/// TQ-9, SQ-9: Enter and mail within a few milliseconds of each other, in both orders, into an idle session and into a running turn:
/// nobody's words are lost, doubled or cut, no two turns run at once, and the person's are counted as the operator's.
#[test]
fn a_person_who_presses_enter_as_mail_comes_is_read_once_and_so_is_the_mail() {
    let (model, house) = house_with_reviewer();
    let watch = house.spawn(&["watch", "reviewer", "--events", "turnStarted,turnEnded,item", "--json"]);
    let pane = Pane::start(&house, (110, 40), &[env!("CARGO_BIN_EXE_agentmux"), "attach", "reviewer"]);
    pane.wait_for("Ask Codex", DEADLINE);
    let mut draws = Draws::of(21);
    let mut mails = Vec::new();
    let rounds = rounds(8);
    for round in 0..rounds {
        // In every other pair of rounds a turn runs already: Enter joins it, and the mail waits for its end.
        let hold = format!("turn {round}");
        let is_running = round % 4 >= 2;
        if is_running {
            let before = format!("<before {round}>");
            model.prepend(Rule::user(&before).reply("done with it").held_by(&hold));
            let _ = house.run(&["send", "reviewer", &before, "--wait"]).ok();
            model.wait_until_held(&hold, DEADLINE);
        }
        let (words, text) = (words_of(round), format!("<mail {round}>"));
        pane.type_text(&words);
        pane.wait_for(&words, DEADLINE);
        let longest = Duration::from_millis(24);
        let send = || house.spawn(&["send", "reviewer", &text, "--wait", "--json"]);
        let call = if round % 2 == 0 {
            let call = send();
            draws.moment(longest);
            pane.send_keys(&["Enter"]);
            call
        } else {
            pane.send_keys(&["Enter"]);
            draws.moment(longest);
            send()
        };
        if is_running {
            // Its composer is empty again: the screen has sent them. 0.169.0 lets the model read them at once, 0.157.0 at its next answer.
            pane.wait_for("Ask Codex", DEADLINE);
            model.release(&hold);
        }
        let sent = call.finish(DEADLINE).ok().json();
        assert_eq!(sent["deliveries"][0]["state"], "consumed", "{sent}");
        mails.push((text, text_of(&sent["id"])));
        model.wait_until_read(&words, DEADLINE);
        settle(&house);
    }
    let turns = Turns::told(&house, &watch, rounds as usize);
    let (mut shared, mut own) = (0, 0);
    for (round, (text, id)) in (0..rounds).zip(&mails) {
        let words = words_of(round);
        assert_eq!(model.times_read(text), 1, "{}", model.transcript());
        assert_eq!(model.times_read(&words), 1, "{}", model.transcript());
        assert!(
            model.user_texts().contains(&words),
            "not a byte of it was changed: {:?}",
            model.user_texts()
        );
        let turn =
            turns.of_operator.get(&words).unwrap_or_else(|| panic!("`{words}` is the operator's: {turns:?}"));
        // They may have shared a turn; then the trace says which.
        let mails_turn = text_of(&traced(&house, id)["turnId"]);
        *(if mails_turn == *turn { &mut shared } else { &mut own }) += 1;
    }
    println!("{rounds} times Enter and mail at once: {shared} shared a turn, {own} had turns of their own");
    looked(&house, &model, rounds);
    pane.wait_for("Ask Codex", DEADLINE);
    assert_eq!(pane.exit_code(), None);
}

/// Whoever looks at the session sees every word of the person with its source, and no mail among them.
fn looked(house: &House, model: &ScriptedModel, rounds: u64) {
    let look = house.run(&["look", "reviewer", "-n", "500", "--json"]).ok().json();
    let of_operator = |item: &&Value| item["source"] == "operator";
    let items = look["items"].as_array().cloned().unwrap_or_default();
    let texts: Vec<String> = items.iter().filter(of_operator).map(|item| text_of(&item["text"])).collect();
    let wanted: Vec<String> = (0..rounds).map(words_of).collect();
    // Of a long history only the end is shown.
    assert!(!texts.is_empty() && wanted.ends_with(&texts), "{look}\n{}", model.transcript());
}

fn settle(house: &House) {
    wait_for_state(house, "reviewer", "idle");
}

/// What those who watch were told of the turns.
#[derive(Debug, Default)]
struct Turns {
    /// The turns in which the person wrote, by the words.
    of_operator: BTreeMap<String, String>,
}

impl Turns {
    /// Reads the stream until the person's words have come so often; no turn begins in it while another one runs.
    fn told(house: &House, watch: &super::support::call::Spawned, wanted: usize) -> Turns {
        let all = house.poll("the person's words to be told", DEADLINE, || {
            let text = watch.stdout();
            let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            let of_operator = lines.iter().filter(|line| line["source"] == "operator").count();
            let ended = lines.iter().filter(|line| line["event"] == "turnEnded").count();
            let started = lines.iter().filter(|line| line["event"] == "turnStarted").count();
            if of_operator == wanted && started == ended { Ok(lines) } else { Err(text) }
        });
        let (mut turns, mut running, mut seen) = (Turns::default(), None, BTreeSet::new());
        for line in all {
            let turn = line["turnId"].as_str().map(str::to_owned);
            match line["event"].as_str() {
                Some("turnStarted") => {
                    assert_eq!(running, None, "{turn:?} began while another one ran");
                    assert!(seen.insert(turn.clone()), "{turn:?} began twice");
                    running = turn;
                }
                Some("turnEnded") => {
                    assert_eq!(running, turn, "the one that ran has ended");
                    assert_eq!(line["outcome"], "completed", "{line}");
                    running = None;
                }
                Some("item") if line["source"] == "operator" => {
                    assert_eq!(running, turn, "the person's words are in the turn that runs");
                    turns.of_operator.insert(text_of(&line["text"]), turn.expect("a turn"));
                }
                _ => {}
            }
        }
        turns
    }
}
