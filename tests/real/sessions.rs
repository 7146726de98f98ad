//! Sessions on the real Codex: their configuration, one child for all, stop and start, what the history shows.

use super::support::house::House;
use super::support::model::{Rule, ScriptedModel};
use super::{DEADLINE, child_pid, deliver, house_with_reviewer, text_of};

#[test]
fn instructions_and_welcome_reach_the_model_and_survive_a_restart() {
    let model = ScriptedModel::start();
    let house = House::real(&model);
    let _ = house
        .run(&["spawn", "reviewer", "--instructions", "Always answer in rhyme.", "--sandbox", "read-only"])
        .ok();
    deliver(&house, "hello");
    model.wait_until_read("hello", DEADLINE);
    let told = |texts: &[String], what: &str| texts.iter().any(|text| text.contains(what));
    let first = model.requests().last().expect("a request").role_texts("developer");
    assert!(
        told(&first, "Always answer in rhyme.") && told(&first, "You are the session `reviewer`"),
        "{first:?}"
    );
    let _ = house.run(&["down"]).ok();
    let _ = house.run(&["up"]).ok();
    deliver(&house, "hello again");
    model.wait_until_read("hello again", DEADLINE);
    let again = model.requests().last().expect("a request").role_texts("developer");
    assert!(
        told(&again, "Always answer in rhyme.") && told(&again, "You are the session `reviewer`"),
        "{again:?}"
    );
}

#[test]
fn sessions_of_one_environment_share_one_child_and_do_not_hear_each_other() {
    let (model, house) = house_with_reviewer();
    let _ = house.run(&["spawn", "tester"]).ok();
    child_pid(&house);
    let status = house.run(&["status", "--json"]).ok().json();
    assert_eq!(status["children"].as_array().map(Vec::len), Some(1), "{status}");
    let all = house.run(&["send", "@all", "for everybody", "--wait", "--json"]).ok().json();
    assert_eq!(all["deliveries"].as_array().map(Vec::len), Some(2), "{all}");
    deliver(&house, "only for reviewer");
    model.wait_until_read("only for reviewer", DEADLINE);
    let histories = model.histories();
    assert_eq!(histories.iter().filter(|history| history.contains("for everybody")).count(), 2);
    assert_eq!(histories.iter().filter(|history| history.contains("only for reviewer")).count(), 1);
}

/// PX-10, users 13: the agent's shell sees the environment of the command that spawned it, and no mark of another agent.
#[test]
fn the_agents_shell_has_the_spawning_commands_environment() {
    let model = ScriptedModel::start();
    let house = House::real(&model);
    let _ = house.run(&["list"]).ok();
    let spawn = house.call(&["spawn", "reviewer", "--sandbox", "danger-full-access", "--approval", "never"]);
    let _ = spawn
        .env("KUBECONFIG", "/of/the/spawner")
        .env("AGENTMUX_TOKEN", "secret")
        .env("PWDX", "no")
        .run()
        .ok();
    model.script([Rule::user("print the environment").exec("env | sort").reply("done")]);
    deliver(&house, "print the environment");
    model.wait_for("the output", DEADLINE, |requests| requests.iter().any(|r| r.newest_output().is_some()));
    let output = model
        .requests()
        .iter()
        .filter_map(|r| r.newest_output().map(|o| o.to_string()))
        .next_back()
        .expect("an output");
    assert!(
        output.contains("KUBECONFIG=/of/the/spawner") && output.contains("AGENTMUX_SESSION=reviewer"),
        "{output}"
    );
    assert!(!output.contains("AGENTMUX_TOKEN") && !output.contains("PWDX"), "{output}");
}

#[test]
fn look_shows_mail_answers_and_commands_with_their_sources() {
    let (model, house) = house_with_reviewer();
    model.script([Rule::user("look at me").exec("echo seen").reply("I have looked.")]);
    deliver(&house, "look at me");
    let items = house.poll("the answer", DEADLINE, || {
        let look = house.run(&["look", "reviewer", "--json"]).ok().json();
        if look.to_string().contains("I have looked.") {
            Ok(look["items"].clone())
        } else {
            Err(look.to_string())
        }
    });
    let items: Vec<(String, String)> = items
        .as_array()
        .into_iter()
        .flatten()
        .map(|item| (text_of(&item["kind"]), text_of(&item["source"])))
        .collect();
    let has = |kind: &str, source: &str| items.contains(&(kind.to_owned(), source.to_owned()));
    assert!(has("message", "mail") && has("command", "tool") && has("answer", "model"), "{items:?}");
}

/// A Codex thread that was made elsewhere is brought in with its history.
#[test]
fn an_existing_thread_is_brought_in() {
    let (model, house) = house_with_reviewer();
    deliver(&house, "the secret number is 4711");
    let removed = house.run(&["remove", "reviewer", "--json"]).ok().json();
    let thread = text_of(&removed["sessions"][0]["threadId"]);
    // However a person spells its id, Codex speaks of it in lower case.
    let shouted = thread.to_uppercase();
    let spawned = house.run(&["spawn", "reviewer", "--thread", &shouted, "--json"]).ok().json();
    assert_eq!(spawned["session"]["threadId"], thread.as_str(), "{spawned}");
    deliver(&house, "which number?");
    model.wait_until_read("which number?", DEADLINE);
    assert!(model.requests().last().is_some_and(|request| request.contains("4711")));
}
