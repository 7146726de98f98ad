//! Turns that fail: the mail was read, the trace says what became of its turn, and the session goes on.

use serde_json::json;

use super::support::model::Rule;
use super::{DEADLINE, deliver, house_with_reviewer, state_of, traced};

#[test]
fn a_failed_turn_is_told_and_the_next_one_works() {
    let (model, house) = house_with_reviewer();
    model.script([
        Rule::user("bad request").http(400, json!({"error": {"message": "the model says no"}})),
        Rule::user("quota").fail("insufficient_quota", "no more today"),
        Rule::user("dropped").drop_stream(),
    ]);
    for (text, words) in
        [("bad request", "the model says no"), ("quota", "usageLimitExceeded"), ("dropped", "disconnected")]
    {
        let id = deliver(&house, text);
        house.poll("the end of the turn", DEADLINE, || {
            let trace = traced(&house, &id).to_string();
            if trace.contains("the turn failed") && trace.contains(words) { Ok(()) } else { Err(trace) }
        });
        assert_eq!(traced(&house, &id)["state"], "consumed", "the model's history has the mail");
    }
    let id = deliver(&house, "and now a good one");
    assert_eq!(traced(&house, &id)["state"], "consumed");
    house.poll("the session to be idle", DEADLINE, || match state_of(&house, "reviewer") {
        state if state == "idle" => Ok(()),
        state => Err(state),
    });
}
