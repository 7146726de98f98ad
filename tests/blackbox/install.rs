//! `agentmux install`: our server in another program's configuration, beside what was there.

use crate::*;
use std::fs;
use std::path::PathBuf;

/// Each program, its file in a house, and a configuration with something of the person's in it.
pub fn tools(house: &House) -> [(&'static str, PathBuf, &'static str); 4] {
    let home = house.home();
    let servers = "{\n  \"theme\": \"dark\",\n  \"mcpServers\": {\n    \"mine\": {\n      \"command\": \"x\"\n    }\n  }\n}\n";
    [
        (
            "codex",
            house.codex_home().join("config.toml"),
            "# my own\nmodel = \"m\" # kept\n\n[mcp_servers.mine]\ncommand = \"x\"\n",
        ),
        ("claude", home.join(".claude.json"), servers),
        ("gemini", home.join(".gemini/settings.json"), servers),
        (
            "opencode",
            home.join(".config/opencode/opencode.json"),
            "{\n  \"mcp\": {\n    \"mine\": {\n      \"type\": \"local\"\n    }\n  }\n}\n",
        ),
    ]
}

fn put(file: &Path, text: &str) {
    fs::create_dir_all(file.parent().expect("a directory")).expect("the house is writable");
    fs::write(file, text).expect("likewise");
}

/// users 27: what was there stays, byte for byte where it has a layout; one copy of before; a second time changes nothing.
#[test]
fn our_server_is_added_once_beside_the_persons_own() {
    let house = House::new();
    for (tool, file, text) in tools(&house) {
        put(&file, text);
        let shown = house.run(&["install", tool, "--dry-run"]).ok();
        assert_eq!(
            fs::read_to_string(&file).expect("it is there"),
            text,
            "{tool}: a dry run changes nothing"
        );
        assert!(shown.stdout.contains("mcp") && shown.stdout.contains("--as"), "{}", shown.evidence());
        let done =
            versioned(&house.run(&["install", tool, "--json"]), &["tool", "file", "changed", "backup"]);
        assert_eq!(done["changed"], true, "{done}");
        let installed = fs::read_to_string(&file).expect("it is there");
        assert!(
            shown.stdout == installed && installed.contains("mine") && installed.contains(tool),
            "{installed}"
        );
        if tool == "codex" {
            assert!(installed.starts_with(text), "{installed}");
        }
        let backup = done["backup"].as_str().expect("a copy");
        assert_eq!(fs::read_to_string(backup).expect("the copy"), text);
        assert_eq!(house.run(&["install", tool, "--json"]).json()["changed"], false, "a second time");
        let _ = house.run(&["--as", "other", "install", tool]).ok();
        assert!(
            fs::read_to_string(&file).is_ok_and(|now| now.contains("other")),
            "another name replaces ours"
        );
        assert_eq!(fs::read_to_string(backup).expect("the copy"), text, "the copy is made once");
    }
    assert!(house.processes().is_empty(), "no relay was started");
}

/// users 27. Symptom: what the person wrote below our lines was gone after `install` and `uninstall`, when an editor had ended those lines
/// in another way. Cause: it was only kept behind a bare line feed. Now: however the line of our mark ends.
#[test]
fn what_stands_below_our_lines_stays_however_they_end() {
    let house = House::new();
    let file = house.codex_home().join("config.toml");
    for end in ["\r\n", " \n", "\t\r\n", "\n"] {
        put(&file, "model = \"m\"\n");
        let _ = house.run(&["install", "codex"]).ok();
        let installed = fs::read_to_string(&file).expect("it is there");
        let below = "[projects.\"/mine\"]\ntrust_level = \"trusted\"\n";
        let edited = format!("{}{end}{below}", installed.trim_end());
        put(&file, &edited);
        let _ = house.run(&["--as", "other", "install", "codex"]).ok();
        let now = fs::read_to_string(&file).expect("it is there");
        assert!(now.contains(below) && now.contains("other"), "{end:?}: {now}");
        put(&file, &edited);
        let _ = house.run(&["uninstall", "codex"]).ok();
        assert_eq!(
            fs::read_to_string(&file).expect("it is there"),
            format!("model = \"m\"\n{below}"),
            "{end:?}"
        );
    }
}

/// users 27: a file that does not parse, and an entry of somebody else, are left as they are.
#[test]
fn what_does_not_parse_or_is_not_ours_is_left_as_it_is() {
    let house = House::new();
    for (tool, file, _) in tools(&house) {
        put(&file, "{ this is [ neither");
        let said = refused(house.run(&["install", tool]), 1);
        assert!(said.contains("was left as it is: it does not parse"), "{said}");
        let foreign = match tool {
            "codex" => "[mcp_servers.agentmux]\ncommand = \"theirs\"\n".to_owned(),
            "opencode" => "{\"mcp\": {\"agentmux\": {\"type\": \"local\"}}}".to_owned(),
            _ => "{\"mcpServers\": {\"agentmux\": {\"command\": \"theirs\"}}}".to_owned(),
        };
        put(&file, &foreign);
        let said = refused(house.run(&["install", tool]), 7);
        assert!(said.contains("that is not ours"), "{said}");
        let _ = house.run(&["uninstall", tool]).ok();
        assert_eq!(fs::read_to_string(&file).expect("it is there"), foreign);
        let beside = file.with_extension("agentmux-backup");
        assert!(!beside.exists(), "nothing is left beside it");
    }
    let _ = refused(house.run(&["--as", "operator", "install", "codex"]), 2);
    let _ = refused(house.run(&["install", "emacs"]), 2);
}
