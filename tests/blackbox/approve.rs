//! `agentmux approve`: the operator's yes, once or for ever, and nobody else's.

use super::approvals::{asked, asks_to_run, id_of, listed};
use crate::support::model::Rule;
use crate::*;

/// Users 6: approved once, the command runs, and the next one is asked again; mail waits meanwhile and answers nothing.
#[test]
fn approved_once_the_command_runs_and_the_next_one_is_asked() {
    let team = Team::of(&["reviewer"]);
    let house = &team.house;
    team.model
        .script([asks_to_run("first", "touch wanted-file"), asks_to_run("second", "touch wanted-file")]);
    let id = id_of(&asked(&team, "first"));
    for text in ["approve", "y", &format!("approve {id}")] {
        let _ = agent(house, &["send", "reviewer", text]).run().ok();
    }
    assert_eq!(listed(house).len(), 1, "mail answers nothing");
    let stderr = refused(agent(house, &["approve", &id]).run(), 1);
    assert!(stderr.contains("only the operator"), "{stderr}");
    assert!(!house.project().join("wanted-file").exists());
    let ran = house.run(&["approve", &id[..4], "--json"]);
    let settled = versioned(&ran, &["id", "session", "summary", "decision"]);
    assert_eq!((&settled["id"], &settled["decision"]), (&Value::from(id.as_str()), &Value::from("approved")));
    wait_until_idle(house, "reviewer");
    assert!(house.project().join("wanted-file").exists());
    assert!(
        house
            .relay_log()
            .contains(&format!("approval {id} of reviewer: approved by operator: by verb, once"))
    );
    for again in ["approve", "deny"] {
        let stderr = refused(house.run(&[again, &id]), 1);
        assert!(stderr.contains("settled already at 20"), "{stderr}");
        assert!(stderr.contains("approved by operator, by verb, once"), "{stderr}");
    }
    let second = asked(&team, "second");
    assert_ne!(id_of(&second), id, "once means once");
    let _ = house.run(&["deny", &id_of(&second)]).ok();
}

/// For ever changes a file that other agents obey: it is named first, and only `--yes` does it.
#[test]
fn approved_for_ever_it_is_not_asked_again() {
    let team = Team::of(&["reviewer"]);
    let house = &team.house;
    team.model
        .script([asks_to_run("first", "touch wanted-file"), asks_to_run("second", "touch wanted-file")]);
    let id = id_of(&asked(&team, "first"));
    let rules = house.codex_home().join("rules/default.rules");
    let stderr = refused(house.run(&["approve", &id, "--always"]), 2);
    assert!(stderr.contains(rules.to_str().unwrap_or_default()), "{stderr}");
    for part in [
        "$CODEX_HOME/rules/default.rules",
        "every agent of that CODEX_HOME",
        "prefix_rule(pattern=[\"touch\"",
    ] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
    assert!(stderr.contains(&format!("hint: agentmux approve {id} --always --yes")), "{stderr}");
    assert_eq!(listed(house).len(), 1, "nothing was settled");
    assert!(!rules.exists() && !house.project().join("wanted-file").exists());
    let ran = house.run(&["approve", &id, "--always", "--yes"]).ok();
    assert!(ran.stdout.starts_with("approved for ever: reviewer: "), "{}", ran.evidence());
    wait_until_idle(house, "reviewer");
    assert!(house.project().join("wanted-file").exists());
    let written = std::fs::read_to_string(&rules).expect("the file that was named");
    assert!(written.contains("prefix_rule(pattern=[\"touch\""), "{written}");
    std::fs::remove_file(house.project().join("wanted-file")).expect("the file of the first command");
    let _ = house.run(&["send", "reviewer", "second", "--wait"]).ok();
    house.poll("the second command to run", SOON, || match house.project().join("wanted-file").exists() {
        true => Ok(()),
        false => Err(format!("{:?}", listed(house))),
    });
    assert_eq!(listed(house), Vec::<Value>::new());
}

/// Symptom: what a tool would do was shown nowhere, and that its approval could be kept was not offered. Now: its arguments are listed, and
/// `--always` names the file that it changes.
#[test]
fn a_tool_is_approved_for_what_it_is_shown_to_do_and_for_ever_in_the_file_that_was_named() {
    const SERVER: &str = r#"require("readline").createInterface({input: process.stdin}).on("line", (line) => {
        const {id, method, params} = JSON.parse(line);
        const says = (result) => console.log(JSON.stringify({jsonrpc: "2.0", id, result}));
        if (method === "initialize") says({protocolVersion: params.protocolVersion, capabilities: {tools: {}},
            serverInfo: {name: "tool", version: "1"}});
        else if (method === "tools/list") says({tools: [{name: "wipe", description: "wipes", inputSchema: {type: "object"}}]});
        else if (method === "tools/call") says({content: [{type: "text", text: "wiped"}]});
        else if (id !== undefined) says({});
    });"#;
    let team = Team::nobody();
    let (model, house) = (&team.model, &team.house);
    let server = house.dir().join("server.js");
    std::fs::write(&server, SERVER).expect("the house is writable");
    let file = house.codex_home().join("config.toml");
    let known = std::fs::read_to_string(&file).expect("its configuration");
    let server = server.display();
    std::fs::write(
        &file,
        format!("{known}\n[mcp_servers.tool]\ncommand = \"node\"\nargs = [\"{server}\"]\n"),
    )
    .expect("likewise");
    model.script([Rule::user("wipe")
        .call_mcp("tool", "wipe", serde_json::json!({"what": "the disk"}))
        .reply("went on")]);
    let _ = house.run(&["spawn", "reviewer"]).ok();
    let approval = asked(&team, "wipe it");
    let id = id_of(&approval);
    assert_eq!(approval["command"], "wipe {\"what\":\"the disk\"}", "{approval}");
    assert!(approval["summary"].as_str().is_some_and(|text| text.contains("the disk")), "{approval}");
    assert_eq!(
        approval["decisions"],
        serde_json::json!(["accept", "always", "cancel", "session", "decline"])
    );
    let stderr = refused(house.run(&["approve", &id, "--always"]), 2);
    assert!(stderr.contains(file.to_str().unwrap_or_default()), "{stderr}");
    assert!(stderr.contains("[mcp_servers.tool.tools.wipe] approval_mode"), "{stderr}");
    let _ = house.run(&["approve", &id, "--always", "--yes"]).ok();
    wait_until_idle(house, "reviewer");
    let written = std::fs::read_to_string(&file).expect("the file that was named");
    assert!(written.contains("[mcp_servers.tool.tools.wipe]"), "{written}");
}

#[test]
fn an_unknown_approval_is_not_found_and_bad_usage_touches_nothing() {
    let house = House::new();
    for unknown in ["0000ffff", "0000", "00", "nothing like it", ""] {
        let error = refused_json(house.run(&["approve", unknown, "--json"]), 3, "not_found");
        assert!(error["hint"].as_str().is_some_and(|hint| hint.contains("agentmux approvals")), "{error}");
    }
    let nowhere = House::new();
    let _ = touches_nothing(&nowhere, || nowhere.run(&["approve", "0000ffff", "--yes"]).fails(2));
}
