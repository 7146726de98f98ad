//! The command in Codex's own sandboxes: it says what keeps it from the relay and what to do, quickly, and starts nothing.

use super::support::house::House;
use super::support::model::{Rule, ScriptedModel};
use super::wait_for_state;

/// users 7: from inside both sandboxes, with a relay, with one that has left, and with none that ever was.
#[test]
fn a_sandboxed_command_says_what_to_do_and_starts_nothing() {
    let model = ScriptedModel::start();
    let house = House::real(&model);
    let _ = house.run(&["-b", "left", "up"]).ok();
    let _ = house.run(&["-b", "left", "down"]).ok();
    let agentmux = env!("CARGO_BIN_EXE_agentmux");
    let state = house.state_dir();
    for sandbox in ["read-only", "workspace-write"] {
        let name = if sandbox == "read-only" { "reader" } else { "writer" };
        let _ = house.run(&["spawn", name, "--sandbox", sandbox, "--approval", "never"]).ok();
        for (place, bundle) in
            [("state", "test"), ("state", "left"), ("state", "never"), ("project/new", "never")]
        {
            for bare in ["", "env -i "] {
                let dir = house.dir().join(place);
                let marker = format!("try {bare}{bundle} of {place} in {sandbox}");
                let command = format!(
                    "{bare}timeout 1 {agentmux} --state-dir {} -b {bundle} send operator hello; echo code=$?",
                    dir.display()
                );
                model.prepend(Rule::user(&marker).exec(&command).reply("tried"));
                let _ = house.run(&["send", name, &marker, "--wait"]).ok();
                wait_for_state(&house, name, "idle");
                let outputs = model.histories().into_iter().flat_map(|history| history.outputs());
                let outputs: Vec<String> = outputs.filter(|output| output.contains("code=")).collect();
                let output =
                    outputs.iter().find(|output| output.contains("code=") && !output.contains("code=6"));
                assert!(output.is_none(), "{marker}\n{}", output.expect("some"));
                let socket = dir.join("bundles").join(bundle).join("relay.sock");
                let newest = outputs.iter().rfind(|output| output.contains(&socket.display().to_string()));
                let newest = newest.unwrap_or_else(|| panic!("{marker}\n{outputs:#?}"));
                for wanted in ["sandbox", "agentmux tools (`send`"] {
                    assert!(newest.contains(wanted), "{marker}\n{newest}");
                }
            }
        }
    }
    for unmade in [state.join("bundles/never"), house.project().join("new")] {
        assert!(!unmade.exists(), "{} was made", unmade.display());
    }
    assert!(!state.join("bundles/left/relay.sock").exists(), "no relay was started");
    assert_eq!(
        house.run(&["inbox", "--json"]).ok().json()["mails"],
        serde_json::json!([]),
        "nothing came through"
    );
}
