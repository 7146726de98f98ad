//! Turns that fail: the mail was read, the trace says what became of its turn, and the session goes on.

use agentmux::model::clock::Millis;
use agentmux::model::limits;
use serde_json::{Value, json};

use super::support::model::Rule;
use super::{
    DEADLINE, deliver, house_with_reviewer, house_with_reviewer_and, state_of, states, text_of, traced,
    wait_for_delivery, wait_for_state,
};

/// Users 24: a usage limit is a state, not an attempt: mail is held and says why, and goes in when the person says so.
#[test]
fn a_usage_limit_blocks_the_session_and_spends_no_mail() {
    let (model, house) = house_with_reviewer();
    model.script([Rule::user("the last straw").fail("insufficient_quota", "no more today")]);
    let _ = deliver(&house, "the last straw");
    wait_for_state(&house, "reviewer", "blocked");
    let sent = house.run(&["send", "reviewer", "held back", "--json"]).ok().json();
    let reason = text_of(&sent["deliveries"][0]["reason"]);
    assert!(reason.contains("is blocked since") && reason.contains("usageLimitExceeded"), "{reason}");
    assert!(reason.contains("tried again at") && reason.contains("agentmux up reviewer"), "{reason}");
    let id = text_of(&sent["id"]);
    assert_eq!(states(&traced(&house, &id)), ["queued"], "no attempt was made");
    let _ = house.run(&["up", "reviewer"]).ok();
    model.wait_until_read("held back", DEADLINE);
    assert_eq!(model.times_read("held back"), 1);
}

/// A rule whose answer is what the account's own service says when its limit is reached (0.169.0 reads the body and these headers).
fn limit_reached(text: &str, resets_at: u64) -> Rule {
    let error =
        json!({"error": {"type": "usage_limit_reached", "message": "no more", "resets_at": resets_at}});
    Rule::user(text)
        .times(1)
        .http(429, error)
        .header("x-codex-primary-used-percent", 100)
        .header("x-codex-primary-window-minutes", 300)
        .header("x-codex-primary-reset-at", resets_at)
        .header("x-codex-secondary-used-percent", 40)
        .header("x-codex-secondary-window-minutes", 10_080)
        .header("x-codex-secondary-reset-at", resets_at + 100_000)
}

fn now_s() -> u64 {
    std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_secs()
}

/// Users 24: until when a limit lasts is what the child was told; mail is held until then, also by a relay that was not there.
#[test]
fn a_usage_limit_lasts_until_the_account_resets_also_for_the_next_relay() {
    let (model, house) = house_with_reviewer();
    let resets_at = now_s() + 3_600;
    model.script([limit_reached("the last straw", resets_at)]);
    let _ = deliver(&house, "the last straw");
    let blocked = || {
        let list = house.run(&["list", "--json"]).ok().json()["sessions"][0].clone();
        if list["state"] == "blocked" { Ok(text_of(&list["until"])) } else { Err(list.to_string()) }
    };
    let until = house.poll("the block", DEADLINE, blocked);
    let at = Millis(resets_at as i64 * 1_000);
    assert_eq!(until, at.rfc3339());
    house.kill_nine(house.relay_pid().expect("a relay runs"));
    let sent = house.run(&["send", "reviewer", "held back", "--json"]).ok().json();
    assert_eq!(house.poll("the block, again", DEADLINE, blocked), until);
    let trace = traced(&house, &text_of(&sent["id"]));
    assert_eq!(states(&trace), ["queued"], "no attempt was made");
    assert!(
        text_of(&trace["reason"]).contains(&format!("tried again at {}", at.rfc3339_seconds())),
        "{trace}"
    );
    let _ = house.run(&["up", "reviewer"]).ok();
    model.wait_until_read("held back", DEADLINE);
}

/// Users 24: when the limit is over mail goes in by itself.
#[test]
fn mail_goes_in_when_the_account_has_reset() {
    let (model, house) = house_with_reviewer();
    let resets_at = now_s() + 4;
    model.script([limit_reached("the last straw", resets_at)]);
    let _ = deliver(&house, "the last straw");
    wait_for_state(&house, "reviewer", "blocked");
    let ids = ["one", "two", "three"].map(|text| {
        let sent = house.run(&["send", "reviewer", text, "--json"]).ok().json();
        text_of(&sent["id"])
    });
    for id in &ids {
        let consumed = house.poll("its delivery", DEADLINE, || {
            let trace = traced(&house, id);
            if trace["state"] == "consumed" { Ok(trace) } else { Err(trace.to_string()) }
        });
        let at = consumed["transitions"]
            .as_array()
            .and_then(|steps| steps.last())
            .map(|step| text_of(&step["at"]));
        let earliest = Millis(resets_at as i64 * 1_000).rfc3339();
        assert!(at.as_ref().is_some_and(|at| *at >= earliest), "not before {earliest}: {consumed}");
    }
}

/// Users 24: what follows a turn that failed of overload waits, is told until when, goes in by itself and once. That the pauses grow is a
/// story of `tests/simulation`.
#[test]
fn an_overloaded_model_is_left_alone_for_a_while() {
    let (model, house) = house_with_reviewer();
    let overloaded = || json!({"error": {"message": "come back later"}});
    model.script([Rule::user("into the storm").times(1).http(503, overloaded())]);
    let id = deliver(&house, "into the storm");
    house.poll("the end of the turn", DEADLINE, || {
        let trace = traced(&house, &id).to_string();
        if trace.contains("the turn failed") { Ok(()) } else { Err(trace) }
    });
    // What comes next waits, and is told until when, if the pause is not over by then.
    let sent = house.run(&["send", "reviewer", "after the storm", "--json"]).ok().json();
    let reason =
        sent["deliveries"][0]["reason"].as_str().unwrap_or("tried again at once: the pause was over");
    assert!(reason.contains("tried again at"), "{sent}");
    let first = text_of(&sent["id"]);
    let delivered = house.poll("its delivery", DEADLINE, || {
        let trace = traced(&house, &first);
        if trace["state"] == "consumed" { Ok(trace) } else { Err(trace.to_string()) }
    });
    let moment = |trace: &Value, is_it: &dyn Fn(&Value) -> bool| {
        let steps = trace["transitions"].as_array().cloned().unwrap_or_default();
        let step = steps.into_iter().find(|step| is_it(step)).unwrap_or_else(|| panic!("{trace}"));
        Millis::parse(&text_of(&step["at"])).expect("a time")
    };
    let failed = moment(&traced(&house, &id), &|step| {
        step["note"].as_str().is_some_and(|note| note.contains("the turn failed"))
    });
    let tried = moment(&delivered, &|step| step["state"] == "claimed");
    let pause = tried.since(failed);
    assert!(pause >= limits::RETRY_MS_MIN / 2, "after {pause} ms already: {delivered}");
    model.wait_until_read("after the storm", DEADLINE);
    assert_eq!(model.times_read("after the storm"), 1);
}

/// Users 24: with no way to its model a turn never fails by itself; everybody can see that, nobody judges it, and an interrupt ends it.
#[test]
fn a_turn_that_does_not_reach_its_model_says_so_and_can_be_interrupted() {
    let (model, house) = house_with_reviewer();
    drop(model);
    let _ = deliver(&house, "is anybody there?");
    let listed = house.poll("the child's word", DEADLINE, || {
        let listed = house.run(&["list", "--json"]).ok().json()["sessions"][0].clone();
        match listed["reason"].as_str() {
            Some(why) if why.contains("its model is not reached") => Ok(listed),
            _ => Err(listed.to_string()),
        }
    });
    assert_eq!(listed["state"], "busy", "{listed}");
    let _ = house.run(&["interrupt", "reviewer"]).ok();
    wait_for_state(&house, "reviewer", "idle");
}

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
        let _ = house.run(&["up", "reviewer"]).ok();
    }
    let id = deliver(&house, "and now a good one");
    assert_eq!(traced(&house, &id)["state"], "consumed");
    wait_for_state(&house, "reviewer", "idle");
}

/// Symptom: while the way to the model broke off again and again, thirty mails went into three failing turns within 0.3 s. Cause: Codex has
/// no kind for a broken stream. Now: it is met like overload: after a pause that grows one mail is tried alone, and the rest waits.
#[test]
fn a_broken_stream_costs_one_mail_at_a_time_and_a_pause() {
    let (model, house) = house_with_reviewer();
    let broken = |text: &str| Rule::user(text).drop_stream().held_by(text);
    model.script([broken("first"), broken("second")]);
    let send = |text: &str| {
        let sent = house.run(&["send", "reviewer", text, "--json"]).ok().json();
        text_of(&sent["id"])
    };
    let first = send("first");
    model.wait_until_read("first", DEADLINE);
    let waiting: Vec<String> = ["second", "third", "fourth"].map(send).into();
    model.release("first");
    model.wait_until_read("second", DEADLINE);
    assert!(traced(&house, &first).to_string().contains("the turn failed: stream disconnected"));
    wait_for_delivery(&house, &waiting[0], "consumed");
    let states: Vec<String> = waiting.iter().map(|id| text_of(&traced(&house, id)["state"])).collect();
    assert_eq!(states, ["consumed", "queued", "queued"], "one is tried alone\n{}", model.transcript());
    model.release("second");
    for id in &waiting[1..] {
        wait_for_delivery(&house, id, "consumed");
    }
}

/// A turn that says nothing is not judged before its child was asked: it goes on, and everybody can see since when it is silent.
#[test]
fn a_silent_turn_is_asked_about_and_goes_on() {
    let (model, house) = house_with_reviewer_and("silent_after = \"200ms\"\n");
    model.script([Rule::user("think long").reply("at last").held_by("thinking")]);
    let _ = deliver(&house, "think long");
    let listed = house.poll("the silence", DEADLINE, || {
        let listed = house.run(&["list", "--json"]).ok().json()["sessions"][0].clone();
        if listed["reason"].as_str().is_some_and(|why| why.contains("silent since")) {
            Ok(listed)
        } else {
            Err(listed.to_string())
        }
    });
    assert_eq!(listed["state"], "busy", "nobody judges: {listed}");
    assert!(text_of(&listed["reason"]).contains("its child says that it goes on"), "{listed}");
    model.release("thinking");
    wait_for_state(&house, "reviewer", "idle");
}

/// users 6: time at an approval is the person's, and no turn is called silent for it, though a turn beside it that says nothing is.
#[test]
fn a_turn_that_waits_for_a_person_is_never_called_silent() {
    let (model, house) = house_with_reviewer_and("silent_after = \"200ms\"\n");
    let _ = house.run(&["spawn", "control"]).ok();
    let asks =
        json!({"cmd": "touch wanted", "sandbox_permissions": "require_escalated", "justification": "a test"});
    model.script([
        Rule::user("ask me").call("exec_command", asks).reply("went on"),
        Rule::user("think long").reply("at last").held_by("thinking"),
    ]);
    let _ = deliver(&house, "ask me");
    wait_for_state(&house, "reviewer", "waiting");
    let reason = |name: &str| {
        let listed = house.run(&["list", "--json"]).ok().json();
        let sessions = listed["sessions"].as_array().into_iter().flatten();
        let own = sessions.into_iter().find(|session| session["name"] == name).expect("it is listed");
        own["reason"].as_str().unwrap_or_default().to_owned()
    };
    // Whoever is silent as long as `reviewer` waits, and more, is called so: three times, each one a silence later.
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..3 {
        model.hold("thinking");
        let _ = house.run(&["send", "control", &format!("think long {round}"), "--wait"]).ok();
        seen.insert(house.poll("the silence beside it", DEADLINE, || match reason("control") {
            why if why.contains("silent since") => Ok(why),
            why => Err(why),
        }));
        let why = reason("reviewer");
        assert!(!why.contains("silent") && state_of(&house, "reviewer") == "waiting", "{why}");
        model.release("thinking");
        wait_for_state(&house, "control", "idle");
    }
    let approvals = house.run(&["approvals", "--json"]).ok().json();
    let _ = house.run(&["approve", &text_of(&approvals["approvals"][0]["id"])]).ok();
    wait_for_state(&house, "reviewer", "idle");
    assert!(house.project().join("wanted").exists(), "its turn went on to its end");
}

/// A full context is summed up once, and the session goes on; full again at once, it fails and says so, and its mail waits.
#[test]
fn a_full_context_is_summed_up_once() {
    let (model, house) = house_with_reviewer();
    model.script([
        Rule::user("too much").times(1).fail("context_length_exceeded", "too long"),
        Rule::user("still too much").fail("context_length_exceeded", "too long"),
        Rule::user("far too much").fail("context_length_exceeded", "too long"),
    ]);
    let _ = deliver(&house, "too much");
    let _ = deliver(&house, "a little");
    model.wait_until_read("a little", DEADLINE);
    wait_for_state(&house, "reviewer", "idle");
    let _ = deliver(&house, "still too much");
    let _ = deliver(&house, "far too much");
    let listed = house.poll("the failure", DEADLINE, || {
        let listed = house.run(&["list", "--json"]).ok().json()["sessions"][0].clone();
        if listed["state"] == "failed" { Ok(listed) } else { Err(listed.to_string()) }
    });
    assert!(text_of(&listed["reason"]).contains("full, also after it was summed up"), "{listed}");
    let behind = house.run(&["send", "reviewer", "behind it"]).ok().stdout.trim().to_owned();
    assert_eq!(states(&traced(&house, &behind)), ["queued"]);
    let _ = house.run(&["up", "reviewer"]).ok();
    model.wait_until_read("behind it", DEADLINE);
}
