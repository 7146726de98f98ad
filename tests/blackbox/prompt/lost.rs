//! `agentmux prompt --wait` whose relay goes away: what it then knows of the turn, and when it no longer waits. The relay is played.

use crate::support::played::{Step, play};
use crate::*;
use serde_json::json;

const TURN: &str = "019ac7d2-7e8b-7f2a-9d3c-00000000aaaa";

/// What the words' own connection hears: they are in a turn.
fn accepted() -> Vec<Step> {
    let id = "019ac7d2-7e8b-7f2a-9d3c-0123456789ab";
    let said = |state: &str| json!({"id": id, "thread": id, "reached": true, "deliveries": [{"to": "reviewer", "state": state, "turnId": TURN}]});
    let answers = [("session/prompt", said("queued")), ("mail/wait", said("consumed"))];
    let steps = answers.into_iter().flat_map(|(method, answer)| [Step::Hear(method), Step::Say(answer)]);
    steps.chain([Step::Stay]).collect()
}

/// A connection that is told of the session, and what becomes of it then.
fn listening(then: Option<Step>) -> Vec<Step> {
    let answer = Step::Say(json!({"stream": "s", "seq": 0}));
    [Step::Hear("events/subscribe"), answer].into_iter().chain(then).collect()
}

/// A connection that asks how the session is.
fn asking(state: &str, turn: Option<&str>) -> Vec<Step> {
    let session = json!({"name": "reviewer", "coder": "codex", "state": state, "since": null, "reason": null, "threadId": null,
        "turnId": turn, "pending": 0, "oldestPendingMs": null, "attached": 0, "dir": "", "wanted": "up", "capabilities":
        {"steer": true, "interrupt": true, "approvals": true, "reconcile": true, "evidence": "consumed"}});
    vec![Step::Hear("session/list"), Step::Say(json!({"bundle": "test", "sessions": [session]})), Step::Stay]
}

#[test]
fn only_a_turn_that_is_known_to_be_over_is_told_as_ended() {
    let other =
        || json!({"event": "delta", "turnId": "another", "offset": 0, "text": "x", "session": "reviewer"});
    for (state, turn, then, told) in [
        ("idle", None, Step::Stay, "the turn ended while there was no relay"),
        ("busy", Some("another"), Step::Stay, "the turn ended while there was no relay"),
        // Which turn it is has yet to be heard.
        ("busy", None, Step::Stay, "the turn has not ended in time"),
        ("waiting", None, Step::Stay, "the turn has not ended in time"),
        // What goes on in another turn keeps nobody waiting for this one.
        (
            "busy",
            Some("another"),
            Step::TellOnAndOn("event", other()),
            "the turn ended while there was no relay",
        ),
    ] {
        let house = House::new();
        let connections = vec![accepted(), listening(None), listening(Some(then)), asking(state, turn)];
        let playing = play(&house, connections);
        let words = ["prompt", "reviewer", "x", "--wait", "--timeout", "2s", "--no-start"];
        let text = refused(house.call(&words).deadline(Duration::from_secs(20)).run(), 4);
        playing.join().expect("the relay of the test");
        assert!(text.contains(told), "{state} {turn:?}: {text}");
    }
}

/// A relay that goes each time somebody listens is not started for ever.
#[test]
fn a_relay_that_goes_whenever_it_is_heard_is_given_up() {
    let house = House::new();
    let again = || [listening(None), asking("busy", Some(TURN))];
    let connections =
        [accepted(), listening(None)].into_iter().chain((0..40).flat_map(|_| again())).collect();
    let _playing = play(&house, connections);
    let text = refused(house.run(&["prompt", "reviewer", "x", "--wait", "--no-start"]), 74);
    assert!(text.contains("30 in a row have gone away"), "{text}");
}
