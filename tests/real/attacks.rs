//! An agent that tries: from its own shell, outside any sandbox, against approvals, names and its relay.

use serde_json::json;

use super::keeper::parent_of as keeper_of;
use super::support::house::House;
use super::support::model::{Rule, ScriptedModel};
use super::{DEADLINE, child_pid, wait_for_state};

/// LK-8, users 8: an unsandboxed agent's shell that drops or forges every variable still approves nothing, settles nothing, stops
/// nothing, and speaks as nobody else.
#[test]
fn an_unsandboxed_agent_cannot_act_as_the_operator_or_as_another() {
    let model = ScriptedModel::start();
    let house = House::real(&model);
    let agentmux = env!("CARGO_BIN_EXE_agentmux");
    let state = house.state_dir();
    let bare = format!("env -i {agentmux} --state-dir {} -b test", state.display());
    let escalated =
        json!({"cmd": "touch never", "sandbox_permissions": "require_escalated", "justification": "a test"});
    let _ = house.run(&["spawn", "reviewer", "--sandbox", "read-only"]).ok();
    let _ = house.run(&["spawn", "lead", "--sandbox", "danger-full-access", "--approval", "never"]).ok();
    model.script([Rule::user("ask me").call("exec_command", escalated).reply("went on")]);
    let _ = house.run(&["send", "reviewer", "ask me", "--wait"]).ok();
    let id = house.poll("the approval", DEADLINE, || {
        let approvals = house.run(&["approvals", "--json"]).ok().json();
        approvals["approvals"][0]["id"].as_str().map(str::to_owned).ok_or_else(|| "none".to_owned())
    });
    let attempts = [
        format!("{bare} approve {id}"),
        format!("{bare} deny {id}"),
        format!("env -u AGENTMUX_CHILD -u AGENTMUX_SESSION -u CODEX_THREAD_ID {agentmux} approve {id}"),
        format!("{bare} down --now"),
        format!("{bare} --as reviewer send operator forged"),
        format!("AGENTMUX_SESSION=reviewer AGENTMUX_TOKEN=0 {agentmux} --as reviewer send operator forged"),
        format!("{bare} --as somebody send operator forged"),
        format!("{bare} --as reviewer --take-over whoami"),
        format!("{bare} host relay --replace"),
        // A process of its own session and group is still a child of its shell.
        format!("setsid -w {bare} approve {id}"),
    ];
    for (number, attempt) in attempts.iter().enumerate() {
        let marker = format!("attempt {number}");
        model.prepend(Rule::user(&marker).exec(&format!("{attempt}; echo code=$?")).reply("tried"));
        let _ = house.run(&["send", "lead", &marker, "--wait"]).ok();
        wait_for_state(&house, "lead", "idle");
        let outputs: Vec<String> = model.histories().iter().flat_map(|history| history.outputs()).collect();
        let output = outputs.iter().filter(|output| output.contains("code=")).nth(number);
        let output = output.unwrap_or_else(|| panic!("no output of {attempt}\n{}", model.transcript()));
        assert!(output.contains("refused") && output.contains("code=1"), "{attempt}\n{output}");
    }
    // Speaking without a name is possible, and is what it is: not the name that a variable claims.
    model.prepend(
        Rule::user("without a name")
            .exec(&format!("AGENTMUX_SESSION=reviewer {agentmux} send operator forged"))
            .reply("x"),
    );
    let _ = house.run(&["send", "lead", "without a name", "--wait"]).ok();
    let mails = house.poll("its mail", DEADLINE, || {
        let inbox = house.run(&["inbox", "--json"]).ok().json();
        let mails = inbox["mails"].as_array().cloned().unwrap_or_default();
        if mails.is_empty() { Err("none".to_owned()) } else { Ok(mails) }
    });
    assert!(mails.iter().all(|mail| mail["from"] == "outside" && mail["fromKind"] == "outside"), "{mails:?}");
    let approvals = house.run(&["approvals", "--json"]).ok().json();
    assert_eq!(approvals["approvals"][0]["id"], *id, "it still waits");
    assert!(!house.project().join("never").exists());
    let _ = house.run(&["deny", &id]).ok();
}

/// What an agent's shell daemonises, with an empty environment, a session of its own and no parent left, is an agent's all the same;
/// the keeper of the agent's child reaps it, and `down` ends it, though it carries no nonce.
#[test]
fn an_orphan_of_an_agents_shell_is_an_agents() {
    let model = ScriptedModel::start();
    let house = House::real(&model);
    let agentmux = env!("CARGO_BIN_EXE_agentmux");
    let bare = format!("{agentmux} --state-dir {} -b test", house.state_dir().display());
    let daemon = |script: &str| {
        format!("env -i PATH=/usr/bin:/bin setsid -f setsid -f sh -c '{script}' </dev/null >/dev/null 2>&1")
    };
    let escalated =
        json!({"cmd": "touch never", "sandbox_permissions": "require_escalated", "justification": "a test"});
    model.script([Rule::user("ask me").call("exec_command", escalated).reply("went on")]);
    let _ = house.run(&["spawn", "reviewer", "--sandbox", "read-only"]).ok();
    let _ = house.run(&["spawn", "lead", "--sandbox", "danger-full-access", "--approval", "never"]).ok();
    let _ = house.run(&["send", "reviewer", "ask me", "--wait"]).ok();
    let id = house.poll("the approval", DEADLINE, || {
        let approvals = house.run(&["approvals", "--json"]).ok().json();
        approvals["approvals"][0]["id"].as_str().map(str::to_owned).ok_or_else(|| "none".to_owned())
    });
    // It waits until it has the keeper of its child for a parent, then it tries.
    let keeper = keeper_of(child_pid(&house));
    let adopted = format!("until [ $(ps -o ppid= -p $$) -eq {keeper} ]; do sleep 0.05; done");
    let tries = format!(
        "{adopted}; {bare} approve {id} >tried 2>&1; echo code=$? >>tried; {bare} whoami >>tried 2>&1; \
         {bare} down --now >>tried 2>&1; echo code=$? >>tried; mv tried done; echo $$ >stays; exec sleep 300"
    );
    let read = |name: &str| std::fs::read_to_string(house.project().join(name)).unwrap_or_default();
    model.prepend(Rule::user("daemonise").exec(&daemon(&tries)).reply("tried"));
    let _ = house.run(&["send", "lead", "daemonise", "--wait"]).ok();
    let stays: u32 = house.poll("the daemon to have tried", DEADLINE, || {
        read("stays").trim().parse().map_err(|_| format!("{}{}", read("tried"), read("done")))
    });
    let tried = read("done");
    assert_eq!(tried.matches("refused").count(), 2, "{tried}");
    assert_eq!(tried.matches("code=1").count(), 2, "{tried}");
    assert!(tried.contains("outside"), "{tried}");
    assert!(!house.project().join("never").exists());
    let approvals = house.run(&["approvals", "--json"]).ok().json();
    assert_eq!(approvals["approvals"][0]["id"], *id, "it still waits");
    // Many that end at once leave nothing behind.
    model.prepend(
        Rule::user("many")
            .exec("for n in $(seq 100); do env -i /usr/bin/setsid -f /bin/true; done")
            .reply("done"),
    );
    let _ = house.run(&["send", "lead", "many", "--wait"]).ok();
    house.poll("all to be reaped", DEADLINE, || {
        let children = std::fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children"));
        let children = children.unwrap_or_default();
        // The child, and the daemon.
        if children.split_whitespace().count() == 2 { Ok(()) } else { Err(children) }
    });
    let _ = house.run(&["down"]).ok();
    house.poll("the daemon's end", DEADLINE, || {
        let words = std::fs::read(format!("/proc/{stays}/cmdline")).unwrap_or_default();
        if words.is_empty() { Ok(()) } else { Err(String::from_utf8_lossy(&words).into_owned()) }
    });
}

/// The token of a session's tools, from their environment.
fn token_of_tools(house: &House) -> Result<String, String> {
    let state = house.state_dir().display().to_string();
    let pids = std::fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    let read = |path: std::path::PathBuf| std::fs::read(path).unwrap_or_default();
    let of_house = |pid: &std::path::PathBuf| {
        let words = String::from_utf8_lossy(&read(pid.join("cmdline"))).replace('\0', " ");
        words.contains("host mcp") && words.contains(&state)
    };
    let tokens = pids.filter(of_house).filter_map(|pid| {
        let environment = read(pid.join("environ"));
        let entry = environment.split(|byte| *byte == 0).find_map(|e| e.strip_prefix(b"AGENTMUX_TOKEN="))?;
        Some(String::from_utf8_lossy(entry).into_owned())
    });
    tokens.last().ok_or_else(|| "no tools yet".to_owned())
}

/// Every file below a directory that holds these bytes.
fn holding(dir: &std::path::Path, needle: &[u8], found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => holding(&entry.path(), needle, found),
            Ok(kind) if kind.is_file() => {
                let bytes = std::fs::read(entry.path()).unwrap_or_default();
                if bytes.windows(needle.len()).any(|window| window == needle) {
                    found.push(entry.path());
                }
            }
            _ => {}
        }
    }
}

/// A token is in the environment of its tools and nowhere else: no file of ours or of Codex, no argument list, no shell of the model, no
/// request to it, and nothing that we print.
#[test]
fn a_token_is_nowhere_but_in_the_environment_of_its_tools() {
    let model = ScriptedModel::start();
    let house = House::real(&model);
    let _ = house.run(&["spawn", "lead", "--sandbox", "danger-full-access", "--approval", "never"]).ok();
    model.script([Rule::user("look around")
        .exec("env; set")
        .call_mcp("agentmux", "whoami", json!({}))
        .reply("looked")]);
    let sent = house.run(&["send", "lead", "look around", "--wait", "--json"]).ok().json();
    wait_for_state(&house, "lead", "idle");
    let token = house.poll("the tools", DEADLINE, || token_of_tools(&house));
    assert_eq!(token.len(), 32);
    let mut files = Vec::new();
    holding(house.dir(), token.as_bytes(), &mut files);
    assert_eq!(files, [] as [std::path::PathBuf; 0], "files with a token");
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&words).contains(&token), "{}", entry.path().display());
    }
    let outputs: Vec<String> = model.histories().iter().flat_map(|history| history.outputs()).collect();
    assert!(outputs.iter().any(|output| output.contains("PATH=")), "the shell has printed what it has");
    assert!(!format!("{outputs:?}{}", model.transcript()).contains(&token), "the model has read it");
    let id = sent["id"].as_str().expect("an id").to_owned();
    for command in [
        vec!["show", "lead", "--json"],
        vec!["list", "--json"],
        vec!["status", "--json"],
        vec!["log", "--json"],
        vec!["look", "lead", "--json"],
        vec!["trace", &id, "--json"],
        vec!["instructions", "lead"],
        vec!["doctor", "-v"],
    ] {
        let ran = house.run(&command);
        assert!(!ran.stdout.contains(&token) && !ran.stderr.contains(&token), "{command:?}");
    }
    let watch = house.spawn(&["watch", "--replay", "2000", "--json"]);
    watch.wait_for_stdout("turnEnded", DEADLINE);
    assert!(!watch.stdout().contains(&token));
}
