//! What a relay and its children take over from whoever starts them, and what they do not.

use crate::support::House;
use crate::*;
use nix::sys::signal::Signal;
use std::fs;
use std::path::PathBuf;

fn variables_of(pid: i32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).expect("ours");
    bytes.split(|byte| *byte == 0).map(|entry| String::from_utf8_lossy(entry).into_owned()).collect()
}

/// PX-10: a relay that a person starts by hand, or that replaces another, keeps neither the directory nor the secrets of that shell.
#[test]
fn a_relay_in_the_foreground_leaves_the_directory_and_the_variables_of_its_shell() {
    let mut house = House::new();
    for (key, value) in
        [("CODEX_THREAD_ID", "thread"), ("OPENAI_API_KEY", "secret"), ("AGENTMUX_TOKEN", "secret")]
    {
        house.set_env(key, value);
    }
    for words in [&["host", "relay"][..], &["host", "relay", "--replace"]] {
        let relay = house.call(words).spawn();
        let pid = house.poll("the relay", SOON, || match house.relay_pid() {
            Some(pid) if pid.cast_unsigned() == relay.id().cast_unsigned() => Ok(pid),
            other => Err(format!("{other:?}: {}", relay.stderr())),
        });
        house.poll("its word", SOON, || match relay.stderr() {
            text if text.contains(" started, pid ") => Ok(()),
            text => Err(text),
        });
        assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).expect("ours"), PathBuf::from("/"));
        let variables = variables_of(pid);
        assert!(variables.iter().any(|entry| entry.starts_with("PATH=")), "{variables:?}");
        let foreign = ["CODEX_", "OPENAI_", "AGENTMUX_TOKEN", "PWD"];
        let found: Vec<&String> =
            variables.iter().filter(|entry| foreign.iter().any(|start| entry.starts_with(start))).collect();
        assert!(found.is_empty(), "{found:?}");
        relay.signal(Signal::SIGTERM);
        let _ = relay.finish(SOON).ok();
    }
}

/// Files of an agent have the modes that the person's own have: the umask is that of the command that spawned it, while the relay's
/// own files are for nobody else.
#[test]
fn an_agents_files_have_the_modes_that_its_person_wants() {
    let team = Team::nobody();
    let house = &team.house;
    for (name, umask) in [("open", "022"), ("shared", "002"), ("private", "077")] {
        let mut shell = house.command("sh");
        shell.args(["-c", "umask $1; exec \"$0\" spawn $2"]);
        shell.args([env!("CARGO_BIN_EXE_agentmux"), umask, name]);
        let _ = house.call_of(shell).run().ok();
    }
    let umask_of = |pid: i64| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("ours");
        status.lines().find_map(|line| line.strip_prefix("Umask:\t")).expect("a Linux /proc").to_owned()
    };
    let status = house.run(&["status", "--json"]).ok().json();
    let children = status["children"].as_array().expect("children");
    let mut found: Vec<String> =
        children.iter().map(|child| umask_of(child["pid"].as_i64().expect("a pid"))).collect();
    found.sort();
    assert_eq!(found, ["0002", "0022", "0077"]);
    assert_eq!(umask_of(status["relay"]["pid"].as_i64().expect("a pid")), "0077");
    let shown = house.run(&["show", "shared", "--json"]).ok().json();
    assert_eq!(shown["session"]["environment"]["AGENTMUX_UMASK"], "0002", "{shown}");
}
