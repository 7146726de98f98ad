//! Crashes: `kill -9` of relay, child and both, at bad moments; nothing is lost, and nothing is told twice beyond what nobody
//! can decide.

use std::time::Duration;

use super::support::house::House;
use super::support::model::{Outcome, Request, Rule, ScriptedModel};
use super::support::rounds::{Draws, rounds};
use super::{
    DEADLINE, child_pid, deliver, house_with_reviewer, state_of, states, text_of, traced, wait_for_delivery,
    wait_for_tool,
};

fn kill_relay(house: &House) {
    house.kill_nine(house.relay_pid().expect("a relay runs"));
}

/// BS-1, PX-1: the next command starts a relay without any repair, and it adopts the child: the turn goes on.
#[test]
fn a_turn_with_a_tool_running_survives_the_relay() {
    let (model, house) = house_with_reviewer();
    model.script([Rule::user("use the tool")
        .exec("touch began; while [ ! -e go ]; do sleep 0.05; done; echo tool-is-done")
        .reply("finished: {output}")]);
    let child = child_pid(&house);
    let sent = house.run(&["send", "reviewer", "use the tool", "--wait", "--json"]).ok().json();
    wait_for_tool(&house, "began");
    kill_relay(&house);
    assert_eq!(child_pid_after_restart(&house), child, "the child was adopted, not replaced");
    std::fs::write(house.project().join("go"), "").expect("the project is writable");
    model.wait_for("the tool's output", DEADLINE, |requests| {
        requests.iter().any(|request| request.contains("tool-is-done"))
    });
    let id = deliver(&house, "and now?");
    assert_eq!(model.times_read("use the tool"), 1, "{}", model.transcript());
    assert_eq!(traced(&house, &text_of(&sent["id"]))["state"], "consumed");
    assert_eq!(traced(&house, &id)["state"], "consumed");
}

fn child_pid_after_restart(house: &House) -> i32 {
    let _ = house.run(&["up"]).ok();
    child_pid(house)
}

/// The relay is killed between `turn/start` and evidence, at seeded moments: every mail is consumed, and the model was told
/// each exactly once (the child lives on, so nothing is undecidable).
#[test]
fn mail_in_flight_when_the_relay_dies_is_told_once() {
    let (model, house) = house_with_reviewer();
    let rounds = rounds(12);
    for round in 0..rounds {
        let _ = house.run(&["up"]).ok();
        let sent = house.run(&["send", "reviewer", &format!("round {round} of the storm")]).ok();
        assert!(!sent.stdout.is_empty());
        // 0 to 22 ms: from before the request is written to after the evidence.
        let moment = std::time::Instant::now() + Duration::from_millis(round % 12 * 2);
        while std::time::Instant::now() < moment {
            std::hint::spin_loop();
        }
        kill_relay(&house);
    }
    deliver(&house, "after the storm");
    model.wait_until_read("after the storm", DEADLINE);
    house.poll("every mail to be consumed", DEADLINE, || {
        let status = house.run(&["status", "--json"]).ok().json();
        let mail = &status["mail"];
        let open = mail["queued"].as_u64().zip(mail["claimed"].as_u64()).zip(mail["unknown"].as_u64());
        if open == Some(((0, 0), 0)) { Ok(()) } else { Err(mail.to_string()) }
    });
    let inbox = house.run(&["inbox", "reviewer", "-n", "1000", "--json"]).ok().json();
    let consumed =
        inbox["mails"].as_array().into_iter().flatten().filter(|mail| mail["state"] == "consumed").count();
    assert_eq!(consumed as u64, rounds + 1, "{inbox}");
    for round in 0..rounds {
        let needle = format!("round {round} of the storm");
        // The evidence comes before the model is asked.
        model.wait_until_read(&needle, DEADLINE);
        assert_eq!(model.times_read(&needle), 1, "{needle}: {}", model.transcript());
    }
}

/// SQ-7, NB-6, NB-8: the child is killed while mail is in flight; the mail goes in again with the same id unless the history has it,
/// and nothing is called consumed that the model never got.
#[test]
fn mail_in_flight_when_the_child_dies_is_not_lost() {
    let (model, house) = house_with_reviewer();
    let mut ids = Vec::new();
    let mut killed = 0;
    for round in 0..rounds(6) {
        // Five deaths without a completed turn would give the child up (they are meant here); and only with the thread open can
        // mail be in flight.
        let _ = house.run(&["up", "reviewer"]).ok();
        let next = house.poll("the next child", DEADLINE, || {
            let status = house.run(&["status", "--json"]).ok().json();
            let pid = status["children"][0]["pid"].as_i64().filter(|pid| *pid != killed);
            pid.ok_or_else(|| status["children"].to_string())
        });
        let sent = house.run(&["send", "reviewer", &format!("round {round} for a mortal")]).ok();
        ids.push(sent.stdout.trim().to_owned());
        let moment = std::time::Instant::now() + Duration::from_millis(round % 6 * 7);
        while std::time::Instant::now() < moment {
            std::hint::spin_loop();
        }
        house.kill_nine(i32::try_from(next).expect("a pid"));
        killed = next;
    }
    deliver(&house, "after the deaths");
    model.wait_until_read("after the deaths", DEADLINE);
    let mut twice = 0;
    for (round, id) in ids.iter().enumerate() {
        wait_for_delivery(&house, id, "consumed");
        let needle = format!("round {round} for a mortal");
        model.wait_until_read(&needle, DEADLINE);
        let times = model.times_read(&needle);
        assert!((1..=2).contains(&times), "told {times} times: {}", model.transcript());
        twice += usize::from(times == 2);
    }
    println!("{} mails in flight at a child's death, {twice} told twice", ids.len());
}

/// Relay and child die together; the next command brings both back, and the session goes on in its old thread.
#[test]
fn relay_and_child_die_together_and_come_back() {
    let (model, house) = house_with_reviewer();
    deliver(&house, "remember the word heron");
    let child = child_pid(&house);
    kill_relay(&house);
    house.kill_nine(child);
    let id = deliver(&house, "which word was it?");
    model.wait_until_read("which word was it?", DEADLINE);
    let requests = model.requests();
    assert!(
        requests.last().is_some_and(|request| request.contains("heron")),
        "the thread's history came back"
    );
    assert_eq!(states(&traced(&house, &id)).last().map(String::as_str), Some("consumed"));
}

/// Users 19: after `down` nothing is left, not even what the model's shell started in a session of its own.
#[test]
fn down_leaves_nothing_behind() {
    let (model, house) = house_with_reviewer();
    model.script([Rule::user("start something")
        .exec("touch began; setsid sleep 600 & sleep 600")
        .reply("never said")]);
    let sent = house.run(&["send", "reviewer", "start something"]).ok();
    assert!(sent.stdout.len() > 30);
    wait_for_tool(&house, "began");
    let _ = house.run(&["down", "--now"]).ok();
    house.wait_until_empty(DEADLINE);
}

/// Symptom: after a crash of the relay a command that named the state directory by another path (a link) killed the living
/// child. Cause: children were known by the path as it was given. Now: by its real one.
#[test]
fn a_child_is_adopted_whatever_the_directory_is_called() {
    let (model, house) = house_with_reviewer();
    deliver(&house, "before");
    let child = child_pid(&house);
    kill_relay(&house);
    let alias = house.dir().join("another-name");
    std::os::unix::fs::symlink(house.state_dir(), &alias).expect("the house is writable");
    let state_dir = alias.to_str().expect("UTF-8").to_owned();
    let _ = house.run(&["send", "reviewer", "by another name", "--wait", "--state-dir", &state_dir]).ok();
    assert_eq!(child_pid(&house), child, "the child was adopted");
    model.wait_until_read("by another name", DEADLINE);
    assert_eq!(model.times_read("by another name"), 1);
}

/// BS-1, users 9: a relay that is killed while 16 clients start it at once leaves one relay and loses no client.
#[test]
fn many_clients_at_once_share_one_relay_and_one_child() {
    let model = ScriptedModel::start();
    let house = House::real(&model);
    let _ = house.run(&["spawn", "reviewer"]).ok();
    kill_relay(&house);
    let clients: Vec<_> = (0..16)
        .map(|n| house.spawn(&["send", "reviewer", &format!("client {n} was here"), "--wait"]))
        .collect();
    for client in clients {
        let _ = client.finish(DEADLINE).ok();
    }
    for n in 0..16 {
        model.wait_until_read(&format!("client {n} was here"), DEADLINE);
        assert_eq!(model.times_read(&format!("client {n} was here")), 1);
    }
    let log = house.relay_log();
    assert_eq!(log.matches("started, pid").count(), 2, "one before and one after the kill: {log}");
    assert_eq!(log.matches("adopted: pid").count(), 1, "{log}");
}

/// A turn that the model never ends by itself; its stream breaks off when somebody else does.
fn endless(house: &House, model: &ScriptedModel, round: u64) {
    let (text, hold) = (format!("<endless {round}>"), format!("endless {round}"));
    model.script([
        Rule::user("You are about to be closed").reply("half of it is done"),
        Rule::user(&text).beginning("so far").reply("never said").held_by(&hold),
    ]);
    let _ = house.run(&["send", "reviewer", &text, "--wait"]).ok();
    model.wait_until_held(&hold, DEADLINE);
}

fn wait_until_ended(model: &ScriptedModel, round: u64) {
    let text = format!("<endless {round}>");
    model.wait_for("the turn to end", DEADLINE, |requests| {
        let of_it =
            |request: &&Request| request.newest_user_text().is_some_and(|newest| newest.contains(&text));
        requests.iter().rfind(of_it).is_some_and(|request| request.outcome == Outcome::ClientGone)
    });
}

/// NB-9. Symptom: after a crash of the relay, `down NAME` as the next command said "stopped" while the session's turn ran on in the
/// child that another session kept alive. Cause: only what was opened was left. Now: what an adopted child may still hold is, too.
#[test]
fn a_session_that_is_stopped_after_a_crash_leaves_no_turn_behind() {
    let (model, house) = house_with_reviewer();
    let _ = house.run(&["spawn", "keeper"]).ok(); // keeps the child alive
    endless(&house, &model, 0);
    let child = child_pid(&house);
    kill_relay(&house);
    let _ = house.run(&["down", "reviewer"]).ok();
    wait_until_ended(&model, 0);
    assert_eq!(child_pid(&house), child, "the child was adopted");
    let _ = house.run(&["up", "reviewer"]).ok();
    deliver(&house, "and now?");
}

/// NB-9: a close that the relay's death interrupts leaves no turn running in a session that is stopped, and no mail is lost.
#[test]
fn a_close_that_the_death_of_the_relay_interrupts_leaves_no_turn_behind() {
    let (model, house) = house_with_reviewer();
    let _ = house.run(&["spawn", "keeper"]).ok();
    let mut draws = Draws::of(3);
    for round in 0..rounds(6) {
        let _ = house.run(&["up"]).ok();
        endless(&house, &model, round);
        let closing = house.spawn(&["close", "reviewer"]);
        draws.moment(Duration::from_millis(80));
        kill_relay(&house);
        let said = closing.finish(DEADLINE);
        let behind = house.run(&["send", "reviewer", &format!("<behind {round}>"), "--json"]).ok().json();
        let closed = state_of(&house, "reviewer") == "stopped";
        assert!(
            closed || said.code != 0,
            "who was told that it is closed was told the truth: {}",
            said.evidence()
        );
        if !closed {
            let _ = house.run(&["close", "reviewer", "--now"]).ok();
        }
        wait_until_ended(&model, round);
        let _ = house.run(&["up"]).ok();
        let id = text_of(&behind["id"]);
        wait_for_delivery(&house, &id, "consumed");
        model.wait_until_read(&format!("<behind {round}>"), DEADLINE);
        assert_eq!(model.times_read(&format!("<behind {round}>")), 1);
    }
}
