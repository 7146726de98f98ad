//! Kills with -9 at any moment of a turn that begins, of mail that joins one and of an approval that is given, while a person looks on:
//! each of the two agents has a real pane in real tmux throughout, and in the end each pane shows its agent's live thread.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::support::house::House;
use super::support::model::{Rule, ScriptedModel};
use super::support::rounds::{Draws, rounds};
use super::support::tmux::Pane;
use super::{DEADLINE, child_pid, states, text_of, traced};

/// The agents; the rounds are played with them in turn.
const TEAM: [&str; 2] = ["reviewer", "lead"];

/// Who is killed with -9.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Relay,
    Child,
    Both,
}

/// NB-6, NB-8, PX-1, users 19: whenever the relay dies, each mail is told exactly once, by the same child.
#[test]
fn a_relay_that_dies_at_any_point_of_turn_steer_or_approval_loses_nothing() {
    killed_at_any_point(Victim::Relay);
}

/// NB-6, NB-8, users 19: whenever the child dies, each mail is told, and its shells do not outlive the next command.
#[test]
fn a_child_that_dies_at_any_point_of_turn_steer_or_approval_loses_nothing() {
    killed_at_any_point(Victim::Child);
}

/// NB-6, NB-8, PX-1, users 19: nor does any mail get lost when both die, one closely after the other.
#[test]
fn both_that_die_at_any_point_of_turn_steer_or_approval_lose_nothing() {
    killed_at_any_point(Victim::Both);
}

/// Kills at seeded moments of a turn that begins, of mail that joins one, and of an approval that is given, in turn.
fn killed_at_any_point(victim: Victim) {
    let model = ScriptedModel::start();
    let house = House::real(&model);
    for name in TEAM {
        let _ = house.run(&["spawn", name, "--sandbox", "read-only", "--approval", "on-request"]).ok();
    }
    let panes = TEAM.map(|name| (name, look_on(&house, name)));
    settle(&house);
    let usual = house.processes().len();
    let mut draws = Draws::of(victim as u64 + 7);
    let (mut mails, mut killed) = (BTreeMap::new(), 0);
    for round in 0..rounds(6) {
        // One that was killed may still be on its way out when all else is settled.
        let child = house.poll("a child that was not killed", DEADLINE, || match child_pid(&house) {
            child if child == killed => Err(format!("{child} is still told")),
            child => Ok(child),
        });
        let name = TEAM[(round / 3 % 2) as usize];
        let work = format!("until [ -e go{round} ]; do sleep 0.02; done");
        let asks =
            json!({"cmd": work, "sandbox_permissions": "require_escalated", "justification": "a test"});
        model.script([
            Rule::user(&format!("<work {round}>")).exec(&work).reply("worked"),
            Rule::user(&format!("<ask {round}>")).call("exec_command", asks).reply("was allowed"),
        ]);
        let send = |text: String, flags: &[&str]| {
            let words = [&["send", name, &text, "--json"], flags].concat();
            (house.spawn(&words), text)
        };
        let go = || std::fs::write(house.project().join(format!("go{round}")), "").expect("writable");
        let mut sent = Vec::new();
        let mut approving = None;
        match round % 3 {
            0 => sent.push(send(format!("<turn {round}>"), &[])),
            1 => {
                let _ = house.run(&["send", name, &format!("<work {round}>"), "--wait"]).ok();
                house.poll("the tool to run", DEADLINE, || match shells(&house, round).len() {
                    0 => Err("none".to_owned()),
                    _ => Ok(()),
                });
                sent.push(send(format!("<steer {round}>"), &["--priority", "urgent"]));
                draws.moment(Duration::from_millis(40));
                // The tool ends in some rounds before the kill: the boundary passes while the steer is on its way.
                if draws.below(2) == 0 {
                    go();
                }
            }
            _ => {
                let _ = house.run(&["send", name, &format!("<ask {round}>"), "--wait"]).ok();
                let approval = house.poll("the approval", DEADLINE, || {
                    let listed = house.run(&["approvals", "--json"]).ok().json();
                    listed["approvals"].get(0).cloned().ok_or_else(|| listed.to_string())
                });
                sent.push(send(format!("<behind {round}>"), &[]));
                approving = Some(house.spawn(&["approve", &text_of(&approval["id"])]));
            }
        }
        draws.moment(Duration::from_millis(60));
        let theirs = shells(&house, round);
        if victim != Victim::Child {
            house.kill_nine(house.relay_pid().expect("a relay runs"));
        }
        if victim != Victim::Relay {
            draws.moment(Duration::from_millis(10));
            house.kill_nine(child);
            killed = child;
        }
        // What was accepted was accepted; what was not is asked again by the same command.
        for (call, text) in sent {
            mails.insert(text, text_of(&call.finish(DEADLINE).ok().json()["id"]));
        }
        if let Some(call) = approving {
            let _ = call.finish(DEADLINE); // too late when its approval died
        }
        let _ = house.run(&["up"]).ok();
        if victim == Victim::Relay {
            assert_eq!(child_pid(&house), child, "the child was adopted, not replaced");
        } else {
            house.poll("the dead child's shells to be gone", DEADLINE, || {
                let left: Vec<i32> =
                    shells(&house, round).into_iter().filter(|pid| theirs.contains(pid)).collect();
                if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
            });
        }
        go();
        settle(&house);
        house.poll("nothing to be left behind", DEADLINE, || {
            let all = house.processes();
            if all.len() <= usual { Ok(()) } else { Err(format!("{usual} usually, now {all:?}")) }
        });
    }
    // A mail that was taken in just before its child died is read by the model with the next one.
    for (name, pane) in &panes {
        shows_live_thread(&house, &model, name, pane);
    }
    let (mut twice, mut doubted) = (0, 0);
    for (text, id) in &mails {
        let delivery = traced(&house, id);
        assert_eq!(delivery["state"], "consumed", "{text}");
        doubted += usize::from(states(&delivery).iter().any(|state| state == "unknown"));
        model.wait_until_read(text, DEADLINE);
        let times = model.times_read(text);
        let most = if victim == Victim::Relay { 1 } else { 2 };
        assert!((1..=most).contains(&times), "{text} was told {times} times: {}", model.transcript());
        twice += usize::from(times == 2);
    }
    println!(
        "{victim:?} killed: {} mails at a random point, all consumed, {doubted} were in doubt, {twice} told twice",
        mails.len()
    );
    let _ = house.run(&["down", "--now"]).ok();
    drop(panes);
    house.wait_until_empty(DEADLINE);
}

/// A person's pane on an agent's thread.
fn look_on(house: &House, name: &str) -> Pane {
    let pane = Pane::start(house, (110, 40), &[env!("CARGO_BIN_EXE_agentmux"), "attach", name]);
    pane.wait_for("Ask Codex", DEADLINE);
    pane
}

/// The next mail and its answer appear in the pane, and the relay counts it: whatever died, the person saw nothing but a pause.
fn shows_live_thread(house: &House, model: &ScriptedModel, name: &str, pane: &Pane) {
    let (last, answer) = (format!("<the last of {name}>"), format!("farewell from {name}"));
    model.prepend(Rule::user(&last).reply(&answer));
    let _ = house.run(&["send", name, &last, "--wait"]).ok();
    pane.wait_until(&format!("the live thread of {name}"), DEADLINE, |screen| {
        screen.contains(&last) && screen.contains(&answer)
    });
    house.poll("the pane to be counted", DEADLINE, || {
        let list = house.run(&["list", "--json"]).ok().json();
        let mut sessions = list["sessions"].as_array().into_iter().flatten();
        let own = sessions.find(|session| session["name"] == *name);
        if own.is_some_and(|session| session["attached"] == 1) { Ok(()) } else { Err(list.to_string()) }
    });
}

/// Says yes to whatever is asked until all mail has gone in and every session is idle.
fn settle(house: &House) {
    house.poll("all to settle", DEADLINE, || {
        let listed = house.run(&["approvals", "--json"]).ok().json();
        for approval in listed["approvals"].as_array().into_iter().flatten() {
            let _ = house.run(&["approve", &text_of(&approval["id"])]);
        }
        let status = house.run(&["status", "--json"]).ok().json();
        let list = house.run(&["list", "--json"]).ok().json();
        let (mail, sessions) = (&status["mail"], &list["sessions"]);
        let open = ["queued", "claimed", "unknown"].iter().any(|state| mail[state] != 0);
        let idle = sessions.as_array().into_iter().flatten().all(|session| session["state"] == "idle");
        if idle && !open { Ok(()) } else { Err(format!("{mail} {sessions}")) }
    });
}

/// The model's commands of this round that run.
fn shells(house: &House, round: u64) -> Vec<i32> {
    let needle = format!("[ -e go{round} ]");
    let runs = |pid: &i32| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&words).contains(&needle)
    };
    house.processes().into_iter().filter(runs).collect()
}
