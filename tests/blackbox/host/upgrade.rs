//! The program or the relay is replaced under those who use it: commands, names and tools go on.

use crate::support::House;
use crate::*;
use std::fs;

/// A house with a copy of the program, and a command that waits, run from it.
fn waiting_from_a_copy(house: &House) -> (std::path::PathBuf, support::Spawned, i32) {
    let copy = house.dir().join("agentmux-to-be-upgraded");
    support::copy_program(env!("CARGO_BIN_EXE_agentmux"), &copy);
    let mut command = house.command(&copy);
    command.args(["wait", "--timeout", "1h"]);
    let waiting = house.call_of(command).spawn();
    let pid = house.poll("its relay", SOON, || house.relay_pid().ok_or_else(|| waiting.stderr()));
    (copy, waiting, pid)
}

/// users 11: a program that was upgraded by renaming is started anew from its path, and what it starts has all that it had before.
#[test]
fn a_relay_that_is_started_after_an_upgrade_is_the_new_one_and_gives_agents_their_tools() {
    let team = Team::nobody();
    let (house, model) = (&team.house, &team.model);
    let (copy, _waiting, pid) = waiting_from_a_copy(house);
    let newer = house.dir().join("agentmux-newer");
    support::copy_program(&copy, &newer);
    fs::rename(&newer, &copy).expect("ours");
    house.kill_nine(pid);
    let again = house.poll("another relay", SOON, || match house.relay_pid() {
        Some(again) if again != pid => Ok(again),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(
        fs::read_link(format!("/proc/{again}/exe")).expect("ours"),
        copy,
        "the file that is there now"
    );
    has_tools(house, model);
}

/// The same when the program is gone: the relay runs on from the file that nobody can name, and so do its tools.
#[test]
fn agents_have_their_tools_when_the_program_of_the_relay_was_removed() {
    let team = Team::nobody();
    let (house, model) = (&team.house, &team.model);
    let (copy, _waiting, pid) = waiting_from_a_copy(house);
    fs::remove_file(&copy).expect("ours");
    house.kill_nine(pid);
    house.poll("another relay", SOON, || match house.relay_pid() {
        Some(again) if again != pid => Ok(()),
        other => Err(format!("{other:?}")),
    });
    has_tools(house, model);
}

/// A new session can call a tool of ours.
fn has_tools(house: &House, model: &ScriptedModel) {
    model.script([
        support::model::Rule::user("who are you?")
            .call_mcp("agentmux", "whoami", serde_json::json!({}))
            .reply("{output}"),
        support::model::Rule::output("").reply("{output}"),
    ]);
    let _ = house.run(&["spawn", "reviewer"]).ok();
    let said = house.run(&["prompt", "reviewer", "who are you?", "--wait"]).ok();
    assert!(said.stdout.contains("\"name\":\"reviewer\""), "{}\n{}", said.evidence(), model.transcript());
}

/// Who waits under a name of its own keeps it through a crash and a replacement of the relay: the name is kept for it, and it knows the
/// token. LK-5: nobody else gets it meanwhile.
#[test]
fn who_waits_under_a_claimed_name_keeps_it_when_the_relay_is_killed_or_replaced() {
    let house = House::new();
    let waiting = house.spawn(&["--as", "bob", "wait", "--timeout", "1h"]);
    let is_there = |after: Option<i32>| {
        house.poll("bob", SOON, || {
            let pid = house.relay_pid().filter(|pid| Some(*pid) != after).ok_or("no relay")?;
            let listed = house.run(&["list", "--json"]).json();
            let bob = listed["sessions"].as_array().into_iter().flatten().find(|row| row["name"] == "bob");
            match bob.map(|row| row["state"].clone()) {
                Some(state) if state == "idle" => Ok(pid),
                other => Err(format!("{other:?}; {}", waiting.stderr())),
            }
        })
    };
    let first = is_there(None);
    house.kill_nine(first);
    let second = is_there(Some(first));
    assert!(refused(house.run(&["--as", "bob", "whoami"]), 7).contains("is held"));
    let replacing = house.spawn(&["host", "relay", "--replace"]);
    is_there(Some(second));
    let id = sent_id(&house.run(&["send", "bob", "a question"]).ok());
    assert!(waiting.finish(SOON).ok().stdout.contains("a question"));
    assert_eq!(state(&house, &id), "consumed");
    let _ = house.run(&["down"]).ok();
    let _ = replacing.finish(SOON).ok();
}
