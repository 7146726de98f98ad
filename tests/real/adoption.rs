//! Adoption: what a relay that was killed leaves running is taken over as it is, and what leaves agentmux leaves it whole.
//!
//! **Invariant:** the processes are told by their numbers, so that one that was replaced is not taken for one that was kept.

use std::collections::BTreeSet;

use super::keeper::parent_of;
use super::support::house::House;
use super::support::model::{Rule, ScriptedModel};
use super::support::{codex_program, write_script};
use super::{
    DEADLINE, deliver, house_with_reviewer, state_of, text_of, traced, wait_for_delivery, wait_for_state,
    wait_for_tool, wait_until_handed,
};

/// The processes of all children, in ascending order.
fn children(house: &House) -> Vec<i32> {
    let status = house.run(&["status", "--json"]).ok().json();
    let children = status["children"].as_array().into_iter().flatten();
    let pids: BTreeSet<i32> = children.filter_map(|child| child["pid"].as_i64()?.try_into().ok()).collect();
    pids.into_iter().collect()
}

/// Waits until the children are these again; one that was replaced has another number for ever.
#[track_caller]
fn wait_for_children(house: &House, wanted: &[i32]) {
    house.poll("the same children", DEADLINE, || match children(house) {
        pids if pids == wanted => Ok(()),
        pids => Err(format!("{pids:?}, not {wanted:?}")),
    });
}

fn keepers(children: &[i32]) -> BTreeSet<i32> {
    children.iter().map(|child| parent_of(*child)).collect()
}

/// Waits until nothing runs but the relay, these children and their keepers, and one process of agentmux's tools below each child.
#[track_caller]
fn wait_for_nothing_else(house: &House, children: &[i32]) {
    let known: BTreeSet<i32> =
        children.iter().copied().chain(keepers(children)).chain(house.relay_pid()).collect();
    house.poll("children, keepers and tools alone", DEADLINE, || {
        let others: Vec<i32> = house.processes().into_iter().filter(|pid| !known.contains(pid)).collect();
        let words = |pid: i32| {
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&words).replace('\0', " ")
        };
        let parent = |pid: i32| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
            line.and_then(|pid| pid.trim().parse().ok())
        };
        let mut parents: Vec<i32> = others.iter().filter_map(|pid| parent(*pid)).collect();
        parents.sort_unstable();
        let are_tools = others.iter().all(|pid| words(*pid).contains(" host mcp"));
        if are_tools && parents == children {
            Ok(())
        } else {
            Err(others
                .iter()
                .map(|pid| format!("[{pid} below {:?}: {}]", parent(*pid), words(*pid)))
                .collect())
        }
    });
}

/// Users 19, PX-1: five agents with a child each, two of them at work, and a relay that is killed: the next command finds the same
/// five children and keepers, every turn goes on, nothing else runs than before, and after `down` nothing at all.
#[test]
fn five_children_and_their_keepers_are_the_same_ones_after_kill_nine_of_the_relay() {
    const NAMES: [&str; 5] = ["one", "two", "three", "four", "five"];
    let model = ScriptedModel::start();
    let house = House::real(&model);
    for name in NAMES {
        let _ = house.run(&["spawn", name, "--isolated"]).ok();
        let _ = house.run(&["send", name, &format!("hello {name}"), "--wait"]).ok();
    }
    let all_idle = || {
        house.poll("all to be idle", DEADLINE, || {
            let states: Vec<String> = NAMES.iter().map(|name| state_of(&house, name)).collect();
            if states.iter().all(|state| state == "idle") { Ok(()) } else { Err(format!("{states:?}")) }
        });
    };
    all_idle();
    let before = children(&house);
    assert_eq!(before.len(), NAMES.len(), "a child each");
    let kept = keepers(&before);
    assert_eq!(kept.len(), NAMES.len(), "a keeper each");
    wait_for_nothing_else(&house, &before);
    for name in ["one", "two"] {
        let work = format!("touch began-{name}; until [ -e go ]; do sleep 0.02; done; echo worked");
        model.prepend(Rule::user(&format!("work {name}")).exec(&work).reply("done: {output}"));
        let _ = house.run(&["send", name, &format!("work {name}"), "--wait"]).ok();
        wait_for_tool(&house, &format!("began-{name}"));
    }

    house.kill_nine(house.relay_pid().expect("a relay runs"));
    let _ = house.run(&["send", "three", "after the kill", "--wait"]).ok();
    wait_for_children(&house, &before);
    assert_eq!(keepers(&before), kept, "the keepers, too");
    std::fs::write(house.project().join("go"), "").expect("the project is writable");
    all_idle();
    wait_for_nothing_else(&house, &before);
    assert_eq!((children(&house), keepers(&before)), (before, kept), "to the end");
    for text in ["work one", "work two", "after the kill"] {
        assert_eq!(model.times_read(text), 1, "{text}\n{}", model.transcript());
    }
    let outputs: Vec<String> = model.histories().iter().flat_map(|request| request.outputs()).collect();
    assert_eq!(outputs.iter().filter(|output| output.contains("worked")).count(), 2, "{outputs:?}");
    let log = house.relay_log();
    assert_eq!(log.matches("adopted: pid").count(), NAMES.len(), "{log}");
    let _ = house.run(&["down"]).ok();
    house.wait_until_empty(DEADLINE);
}

/// PX-1: who waits for its mail to be read waits through the death of the relay: what had joined the running turn and what comes behind
/// it are both told as delivered, and were told once.
#[test]
fn senders_that_wait_are_told_delivered_through_an_adoption_in_the_middle_of_a_turn() {
    let (model, house) = house_with_reviewer();
    model.script([Rule::user("use the tool")
        .exec("touch began; until [ -e go ]; do sleep 0.02; done; echo tool-is-done")
        .reply("finished")]);
    let _ = house.run(&["send", "reviewer", "use the tool", "--wait"]).ok();
    wait_for_tool(&house, "began");
    let before = children(&house);
    let urgent = house.spawn(&["send", "reviewer", "join the turn", "--priority", "urgent", "--wait"]);
    let normal = house.spawn(&["send", "reviewer", "behind the turn", "--wait"]);
    let stands = |text: &str, wanted: &str| {
        house.poll("the mail to be on its way", DEADLINE, || {
            let found = house.run(&["search", text, "--json"]).ok().json();
            let id = found["mails"].get(0).map(|mail| text_of(&mail["id"]));
            let id = id.filter(|id| traced(&house, id)["state"] == wanted);
            id.ok_or_else(|| found.to_string())
        })
    };
    let urgent_id = stands("join", "submitted");
    let normal_id = stands("behind", "queued");
    assert!(!urgent.has_exited() && !normal.has_exited(), "both wait");
    house.kill_nine(house.relay_pid().expect("a relay runs"));
    wait_for_children(&house, &before);
    std::fs::write(house.project().join("go"), "").expect("the project is writable");
    for (waiting, id, text) in [(urgent, urgent_id, "join the turn"), (normal, normal_id, "behind the turn")]
    {
        let ran = waiting.finish(DEADLINE).ok();
        assert!(ran.stderr.contains("delivered: reviewer in turn "), "{}", ran.evidence());
        assert_eq!(ran.stdout.trim_end(), id, "{}", ran.evidence());
        assert_eq!(traced(&house, &id)["state"], "consumed");
        model.wait_until_read(text, DEADLINE);
        assert_eq!(model.times_read(text), 1, "{}", model.transcript());
    }
    assert_eq!(model.times_read("use the tool"), 1, "{}", model.transcript());
}

/// A turn of two tools that the relay dies under, and its id; the next relay has adopted it while the first tool runs.
fn adopted_in_its_first_tool(model: &ScriptedModel, house: &House) -> String {
    let work = |n: u32| format!("touch began-{n}; until [ -e go-{n} ]; do sleep 0.02; done; echo worked");
    model.script([
        Rule::user("work").times(1).exec(&work(1)).exec(&work(2)).reply("done with it"),
        Rule::user("You are about to be closed").reply("I was at work."),
    ]);
    let sent = house.run(&["send", "reviewer", "work", "--wait", "--json"]).ok().json();
    wait_for_tool(house, "began-1");
    let before = children(house);
    house.kill_nine(house.relay_pid().expect("a relay runs"));
    let _ = house.run(&["up"]).ok();
    wait_for_children(house, &before);
    text_of(&traced(house, &text_of(&sent["id"]))["turnId"])
}

/// Symptom: after kill -9 of the relay in the middle of a tool, `list` had no `turnId`, `interrupt` ended with 4 after 10 s, and the turn
/// ran on. Cause: which turn runs was told before the thread was open, and its opening forgot that. Now: the opening waits for it.
#[test]
fn a_turn_that_was_adopted_in_a_tool_is_known_and_can_be_interrupted() {
    let (model, house) = house_with_reviewer();
    let turn = adopted_in_its_first_tool(&model, &house);
    let listed = house.run(&["list", "--json"]).ok().json()["sessions"][0].clone();
    assert_eq!((&listed["state"], &listed["turnId"]), (&"busy".into(), &turn.clone().into()), "{listed}");
    // Codex tells the start in whole seconds, so that the age is at least that of the tool.
    assert!(listed["turnAgeMs"].as_i64().is_some_and(|age| age > 0), "{listed}");
    let ended = house.run(&["interrupt", "reviewer", "--json"]).ok().json();
    assert_eq!(text_of(&ended["turnId"]), turn);
    assert_eq!(state_of(&house, "reviewer"), "idle");
    assert!(!house.project().join("began-2").exists(), "it did not run on");
}

/// As above: `close` waited its 10 s, got no summary, and left the turn running.
#[test]
fn a_session_that_was_adopted_in_a_tool_is_closed_with_its_summary() {
    let (model, house) = house_with_reviewer();
    let _ = adopted_in_its_first_tool(&model, &house);
    let closed = house.run(&["close", "reviewer", "--json"]).ok().json();
    assert_eq!(
        (&closed["sessions"][0]["state"], &closed["summary"]),
        (&"stopped".into(), &"I was at work.".into()),
        "{closed}"
    );
    assert!(!house.project().join("began-2").exists(), "it did not run on");
}

/// As above: urgent mail joined none of the turn's later tools. Codex does not say which tools run already when a thread is resumed, so
/// that the first boundary is the next tool.
#[test]
fn urgent_mail_joins_the_next_tool_of_a_turn_that_was_adopted() {
    let (model, house) = house_with_reviewer();
    let turn = adopted_in_its_first_tool(&model, &house);
    let sent = house.run(&["send", "reviewer", "hurry", "--priority", "urgent", "--json"]).ok().json();
    let id = text_of(&sent["id"]);
    std::fs::write(house.project().join("go-1"), "").expect("the project is writable");
    wait_for_tool(&house, "began-2");
    wait_until_handed(&house, &id);
    std::fs::write(house.project().join("go-2"), "").expect("the project is writable");
    assert_eq!(text_of(&wait_for_delivery(&house, &id, "consumed")["turnId"]), turn);
    model.wait_until_read("hurry", DEADLINE);
    assert_eq!(model.times_read("hurry"), 1, "{}", model.transcript());
}

/// PX-1: the thread of a session that is down is the person's own: the line that `down` prints works by hand, with all that was said, and
/// what was said outside is there when the session is up again.
#[test]
fn what_down_prints_takes_the_thread_out_and_up_takes_it_back() {
    let (model, house) = house_with_reviewer();
    deliver(&house, "remember the word heron");
    model.wait_until_read("heron", DEADLINE);
    wait_for_state(&house, "reviewer", "idle");
    let by_hand = |thread: &str| {
        let mut codex = house.command(codex_program());
        codex.args(["exec", "--skip-git-repo-check", "resume", thread, "which word was it?"]);
        house.call_of(codex).run()
    };
    let own = house.run(&["list", "--json"]).ok().json()["sessions"][0]["threadId"].clone();
    let refused = by_hand(own.as_str().expect("a thread")).fails(1);
    assert!(refused.stderr.contains("active writer"), "while the session is up: {}", refused.evidence());
    let said = house.run(&["down", "reviewer"]).ok().stdout;
    let (_, thread) = said.trim_end().split_once("codex resume ").unwrap_or_else(|| panic!("{said}"));
    // The child lets go of the thread at its end, which is what `down` without a name is.
    let _ = house.run(&["down"]).ok();
    house.wait_until_empty(DEADLINE);
    assert_eq!(own, thread);
    let _ = by_hand(thread).ok();
    model.wait_until_read("which word was it?", DEADLINE);
    let newest = |needle: &str| {
        let requests = model.requests();
        requests.into_iter().rfind(|request| request.contains(needle)).expect("it was read")
    };
    assert!(newest("which word was it?").contains("remember the word heron"), "all that was said before");
    let _ = house.run(&["up", "reviewer"]).ok();
    deliver(&house, "back again");
    model.wait_until_read("back again", DEADLINE);
    assert!(newest("back again").contains("which word was it?"), "{}", model.transcript());
    assert_eq!(model.times_read("remember the word heron"), 1, "one thread, not two");
}

/// Users 13: the programs of an agent are those of the shell that spawned it, whoever started the relay.
#[test]
fn an_agents_shell_has_the_path_of_the_shell_that_spawned_it() {
    let model = ScriptedModel::start();
    let house = House::real(&model);
    let own = std::env::var("PATH").expect("a PATH");
    let path_of = |shell: &str| {
        let dir = house.dir().join(format!("bin-{shell}"));
        let program = dir.join("which-shell");
        std::fs::create_dir(&dir).expect("the house is writable");
        write_script(&program, &format!("#!/bin/sh\necho it-is-{shell}\n"));
        format!("{}:{own}", dir.display())
    };
    let (first, second) = (path_of("first"), path_of("second"));
    let _ = house.call(&["up"]).env("PATH", &first).run().ok();
    let relay = house.relay_pid();
    let _ = house.call(&["spawn", "other"]).env("PATH", &first).run().ok();
    let _ = house.call(&["spawn", "reviewer"]).env("PATH", &second).run().ok();
    assert_eq!(house.relay_pid(), relay, "one relay, of the first shell");
    for (name, wanted, not_wanted) in
        [("reviewer", "it-is-second", "it-is-first"), ("other", "it-is-first", "it-is-second")]
    {
        let text = format!("look around, {name}");
        // A login shell may set a PATH of its own, which is the person's to do.
        let look = serde_json::json!({"cmd": "which-shell", "login": false});
        model.prepend(Rule::user(&text).call("exec_command", look).reply("looked"));
        let _ = house.run(&["send", name, &text, "--wait"]).ok();
        model.wait_for("what the shell said", DEADLINE, |requests| {
            let of_it = requests.iter().filter(|request| request.contains(&text));
            of_it.flat_map(|request| request.outputs()).any(|output| output.contains(wanted))
        });
        let of_it = model.requests().into_iter().filter(|request| request.contains(&text));
        assert!(of_it.flat_map(|request| request.outputs()).all(|output| !output.contains(not_wanted)));
    }
}
