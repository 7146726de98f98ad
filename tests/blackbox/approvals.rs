//! `agentmux approvals`: what waits for the operator, whichever relay is asked, and until when.

use crate::support::model::Rule;
use crate::*;
use serde_json::json;

/// A rule by which the model asks to run a command outside of its sandbox when it reads the text.
pub fn asks_to_run(text: &str, command: &str) -> Rule {
    let escalated =
        json!({"cmd": command, "sandbox_permissions": "require_escalated", "justification": "a test"});
    Rule::user(text).call("exec_command", escalated).reply("went on")
}

/// Has the reviewer ask to run a command, and returns the approval as `approvals` shows it.
#[track_caller]
pub fn asked(team: &Team, text: &str) -> Value {
    let _ = team.house.run(&["send", "reviewer", text, "--wait"]).ok();
    team.house.poll("the approval", SOON, || listed(&team.house).pop().ok_or("nothing".to_owned()))
}

/// What `approvals` lists.
#[track_caller]
pub fn listed(house: &House) -> Vec<Value> {
    let list = versioned(&house.run(&["approvals", "--json"]), &["approvals"]);
    list["approvals"].as_array().cloned().unwrap_or_default()
}

pub fn id_of(approval: &Value) -> String {
    approval["id"].as_str().unwrap_or_default().to_owned()
}

/// Users 6: what an agent wants is listed with everything that a person decides by, and without one there is nothing.
#[test]
fn what_waits_is_listed_with_everything_a_person_needs() {
    let team = Team::of(&["reviewer"]);
    team.model.script([asks_to_run("ask me", "touch wanted-file")]);
    assert_eq!(listed(&team.house), Vec::<Value>::new());
    let ran = team.house.run(&["approvals"]).ok();
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", "no agent waits for an approval\n"));
    let approval = asked(&team, "ask me");
    let wanted = ["id", "session", "kind", "summary", "command", "cwd", "askedAt", "deadlineAt", "decisions"];
    assert_eq!(keys(&approval), wanted, "{approval}");
    let id = id_of(&approval);
    assert!(id.len() == 8 && id.chars().all(|c| c.is_ascii_hexdigit()), "{approval}");
    assert_eq!((&approval["session"], &approval["kind"]), (&json!("reviewer"), &json!("command")));
    let command = approval["command"].as_str().unwrap_or_default();
    assert!(command.contains("touch wanted-file"), "{approval}");
    assert_eq!(approval["summary"], format!("{command}: a test"));
    assert_eq!(approval["cwd"], json!(team.house.project()));
    assert!(is_time(&approval["askedAt"]) && is_time(&approval["deadlineAt"]), "{approval}");
    let decisions = approval["decisions"].as_array().cloned().unwrap_or_default();
    for offered in ["accept", "acceptWithExecpolicyAmendment", "cancel", "decline"] {
        assert!(decisions.contains(&json!(offered)), "{approval}");
    }
    let ran = team.house.run(&["approvals"]).ok();
    assert!(ran.stdout.contains(&id) && ran.stdout.contains("touch wanted-file"), "{}", ran.evidence());
    assert!(ran.stderr.contains(&format!("agentmux approve {id}")), "{}", ran.evidence());
    assert!(session(&team.house, "reviewer")["capabilities"]["approvals"] == true);
    assert!(team.house.relay_log().contains(&format!("approval {id}: reviewer asks (command): ")));
    let _ = refused_json(agent(&team.house, &["approvals", "--json"]).run(), 1, "refused");
}

/// The child goes on asking when its relay is killed: the next one lists the same approval, asked at the same time, and
/// its id still works.
#[test]
fn an_approval_outlives_its_relay() {
    let team = Team::of(&["reviewer"]);
    team.model.script([asks_to_run("ask me", "touch wanted-file")]);
    let before = asked(&team, "ask me");
    team.house.kill_nine(team.house.relay_pid().expect("a relay runs"));
    assert_eq!(listed(&team.house), std::slice::from_ref(&before), "the first answer of the next relay");
    team.house.kill_nine(team.house.relay_pid().expect("a relay runs"));
    let _ = team.house.run(&["inbox"]).ok();
    let status = team.house.run(&["status", "--json"]).ok().json();
    assert_eq!(status["approvals"], 1, "also what the child has yet to repeat: {status}");
    let ran = team.house.run(&["approve", &id_of(&before)]).ok();
    assert!(ran.stdout.starts_with("approved: reviewer: "), "{}", ran.evidence());
    wait_until_idle(&team.house, "reviewer");
    assert!(team.house.project().join("wanted-file").exists());
    assert_eq!(listed(&team.house), Vec::<Value>::new());
}

/// What ended while no relay ran is not listed for ever: the child no longer asks, and that is stored.
#[test]
fn what_is_no_longer_asked_is_settled_by_the_next_relay() {
    let team = Team::of(&["reviewer"]);
    team.model.script([asks_to_run("ask me", "touch wanted-file")]);
    let id = id_of(&asked(&team, "ask me"));
    let status = team.house.run(&["status", "--json"]).ok().json();
    let child = status["children"][0]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
    team.house.kill_nine(team.house.relay_pid().expect("a relay runs"));
    team.house.kill_nine(child.expect("a child runs"));
    assert_eq!(listed(&team.house), Vec::<Value>::new());
    let stderr = refused(team.house.run(&["approve", &id]), 1);
    assert!(stderr.contains("settled already at"), "{stderr}");
    assert!(!team.house.project().join("wanted-file").exists());
}

/// Every answer that the agent's program offers has a way: here the no that ends the turn, from a person and from the deadline.
#[test]
fn a_no_may_end_the_turn_where_that_is_offered() {
    let team = Team::nobody();
    let config = team.house.config_dir().join("config.toml");
    let _ = team.house.run(&["spawn", "reviewer"]).ok();
    team.model.script([asks_to_run("ask me", "touch wanted-file")]);
    let id = id_of(&asked(&team, "ask me"));
    let stderr = refused(team.house.run(&["approve", &id, "--decision", "cancel"]), 1);
    assert!(stderr.contains("does not offer `cancel`"), "a no is no yes: {stderr}");
    let stderr = refused(team.house.run(&["deny", &id, "--decision", "naps"]), 1);
    assert!(stderr.contains("does not offer `naps`") && stderr.contains("it offers: cancel"), "{stderr}");
    let asker = agent(&team.house, &["deny", &id, "--decision", "cancel"]).run();
    let _ = refused(asker, 1);
    let denied =
        team.house.run(&["deny", &id, "--decision", "cancel", "--reason", "not now", "--json"]).ok().json();
    assert_eq!(denied["decision"], "denied", "{denied}");
    wait_until_idle(&team.house, "reviewer");
    assert_eq!(team.model.requests().len(), 1, "the turn has ended: {}", team.model.transcript());

    std::fs::write(&config, "approval_timeout = \"1s\"\napproval_on_timeout = \"cancel\"\n")
        .expect("writable");
    let _ = team.house.run(&["down", "--now"]).ok();
    let _ = team.house.run(&["up"]).ok();
    let id = id_of(&asked(&team, "ask me"));
    wait_until_idle(&team.house, "reviewer");
    let stderr = refused(team.house.run(&["deny", &id]), 1);
    assert!(stderr.contains("cancelled by deadline, nobody answered within 1"), "{stderr}");
    assert!(!team.house.project().join("wanted-file").exists());
}

/// G10: the deadline of the configuration declines, the turn goes on, and both are told.
#[test]
fn the_deadline_of_the_configuration_declines() {
    let team = Team::nobody();
    let config = team.house.config_dir().join("config.toml");
    std::fs::write(&config, "approval_timeout = \"1500ms\"\n").expect("the person's configuration");
    let _ = team.house.run(&["spawn", "reviewer"]).ok();
    team.model.script([asks_to_run("ask me", "touch wanted-file")]);
    let id = id_of(&asked(&team, "ask me"));
    wait_until_idle(&team.house, "reviewer");
    assert_eq!(listed(&team.house), Vec::<Value>::new());
    let stderr = refused(team.house.run(&["deny", &id]), 1);
    assert!(stderr.contains("declined by deadline, nobody answered within 1"), "{stderr}");
    assert!(team.house.relay_log().contains(&format!("approval {id} of reviewer: declined by deadline: ")));
    assert!(!team.house.project().join("wanted-file").exists());
    std::fs::write(&config, "approval_timeout = \"soon\"\n").expect("the person's configuration");
    let stderr = refused(team.house.run(&["approvals"]), 2);
    assert!(stderr.contains("`approval_timeout` is not a duration"), "{stderr}");
}

/// `0` waits for ever.
#[test]
fn without_a_deadline_it_says_never() {
    let team = Team::nobody();
    let config = team.house.config_dir().join("config.toml");
    std::fs::write(config, "approval_timeout = \"0\"\n").expect("the person's configuration");
    let _ = team.house.run(&["spawn", "reviewer"]).ok();
    team.model.script([asks_to_run("ask me", "touch wanted-file")]);
    assert_eq!(asked(&team, "ask me")["deadlineAt"], Value::Null);
    assert!(team.house.run(&["approvals"]).ok().stdout.contains("  never  "));
}

/// Symptom: what `interrupt` or `close` had ended was settled `elsewhere by elsewhere`. Now: by whoever ended its turn, and how.
#[test]
fn what_the_end_of_its_turn_settles_says_who_ended_that() {
    let team = Team::of(&["reviewer"]);
    let house = &team.house;
    team.model.script([asks_to_run("ask me", "touch wanted-file")]);
    let ends: [(&[&str], &str); 2] = [
        (&["interrupt", "reviewer"], "cancelled by operator, its turn was interrupted"),
        (&["close", "reviewer", "--now"], "cancelled by operator, its session was closed"),
    ];
    for (verb, how) in ends {
        let id = id_of(&asked(&team, "ask me"));
        let _ = house.run(verb).ok();
        house.poll("nothing to wait", SOON, || match listed(house) {
            left if left.is_empty() => Ok(()),
            left => Err(format!("{left:?}")),
        });
        let stderr = refused(house.run(&["approve", &id]), 1);
        assert!(stderr.contains(how), "{stderr}");
    }
}
