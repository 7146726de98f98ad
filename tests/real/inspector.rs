//! The MCP Inspector's command line, an independent client of the protocol, lists and calls every tool.
//!
//! `scripts/tools --inspector` installs it; it runs in Node, as Codex's own wrapper does.

use serde_json::Value;

use super::support::house::House;

/// Where `scripts/tools --inspector` puts it.
const INSPECTOR: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/.tools/inspector/node_modules/@modelcontextprotocol/inspector-cli/build/index.js"
);

fn inspect(house: &House, arguments: &[&str]) -> Value {
    let mut command = house.command("node");
    command.args([INSPECTOR, env!("CARGO_BIN_EXE_agentmux"), "host", "mcp", "--as", "ann"]);
    command.args(["--state-dir", house.state_dir().to_str().expect("UTF-8"), "-b", "test"]).args(arguments);
    house.call_of(command).run().json()
}

/// users 27: another implementation's client lists exactly the six tools, and calls each of them.
#[test]
fn the_inspector_lists_and_calls_every_tool() {
    assert!(std::path::Path::new(INSPECTOR).exists(), "missing: run scripts/tools --inspector");
    let house = House::new();
    let listed = inspect(&house, &["--method", "tools/list"]);
    let names: Vec<&str> =
        listed["tools"].as_array().into_iter().flatten().filter_map(|tool| tool["name"].as_str()).collect();
    assert_eq!(names, ["send", "inbox", "wait", "list", "ask", "whoami"]);
    for (tool, arguments, fails) in [
        ("whoami", &[][..], false),
        ("list", &[], false),
        ("send", &["to=operator", "body=hello from the inspector"], false),
        ("send", &["to=nobody", "body=x"], true),
        ("inbox", &["limit=3"], false),
        ("wait", &["timeoutMs=1"], false),
        ("ask", &["to=operator", "body=a question", "timeoutMs=1"], false),
    ] {
        let mut words = vec!["--method", "tools/call", "--tool-name", tool];
        words.extend(arguments.iter().flat_map(|argument| ["--tool-arg", argument]));
        let answer = inspect(&house, &words);
        assert_eq!(answer["isError"], fails, "{tool}: {answer}");
        assert_eq!(answer["structuredContent"]["schemaVersion"], 1, "{tool}: {answer}");
    }
    let inbox = house.run(&["inbox", "--json"]).ok().json();
    assert_eq!(inbox["mails"].as_array().map(Vec::len), Some(2), "{inbox}");
}
