//! The person's hook: run when a session needs the person, told by variables, bounded in time and number, and never waited for.

use super::support::House;
use super::support::model::{Rule, ScriptedModel};
use super::support::write_script;
use super::{DEADLINE, deliver};

/// A house whose person has this hook, with `reviewer` up. The hook is a script of the house.
fn house_with_hook(script: &str, on: &str) -> (ScriptedModel, House) {
    let model = ScriptedModel::start();
    let house = House::real(&model);
    let program = house.dir().join("hook");
    write_script(&program, &format!("#!/bin/sh\n{script}\n"));
    let argument = "$(touch injected); `touch injected`";
    let config = format!("[hook]\ncommand = [{:?}, {argument:?}]\n{on}\n", program.display().to_string());
    std::fs::write(house.config_dir().join("config.toml"), config).expect("the house is writable");
    let _ = house.run(&["spawn", "reviewer"]).ok();
    (model, house)
}

fn asks() -> Rule {
    let wish = serde_json::json!({"cmd": "touch wanted", "sandbox_permissions": "require_escalated", "justification": "x"});
    Rule::user("ask me").call("exec_command", wish).reply("went on")
}

fn read(house: &House, name: &str) -> Result<String, String> {
    let text = std::fs::read_to_string(house.dir().join(name)).unwrap_or_default();
    if text.ends_with("end\n") { Ok(text) } else { Err(text) }
}

/// users 24: who waits for a person says so by the person's own command; it is told who and what, and no shell reads its words.
#[test]
fn the_hook_is_run_when_a_session_waits_and_no_shell_reads_its_words() {
    let script = "dir=$(dirname \"$0\"); cd \"$dir\"\n\
                  { echo \"$1\"; env | grep ^AGENTMUX_ | sort; echo end; } > hooked.new; mv hooked.new hooked";
    let (model, house) = house_with_hook(script, "");
    model.script([asks()]);
    deliver(&house, "ask me");
    let told = house.poll("the hook", DEADLINE, || read(&house, "hooked"));
    assert!(told.starts_with("$(touch injected); `touch injected`\n"), "{told}");
    for line in [
        "AGENTMUX_HOOK_SESSION=reviewer\n",
        "AGENTMUX_HOOK_STATE=waiting\n",
        "AGENTMUX_HOOK_FROM=busy\n",
        "AGENTMUX_BUNDLE=test\n",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    for mark in ["AGENTMUX_SESSION=", "AGENTMUX_TOKEN", "AGENTMUX_CHILD"] {
        assert!(!told.contains(mark), "{told}");
    }
    assert!(!house.dir().join("injected").exists() && !house.project().join("injected").exists());
}

/// users 24: who is blocked by its account, or has failed, says so by the hook, too, with the reason; nobody else does.
#[test]
fn the_hook_is_run_when_a_session_is_blocked_and_when_it_fails() {
    let script = "cd \"$(dirname \"$0\")\"\n\
                  { env | grep ^AGENTMUX_HOOK | sort; echo end; } > new.$$; mv new.$$ \"on-$AGENTMUX_HOOK_STATE\"";
    let (model, house) = house_with_hook(script, "on = [\"blocked\", \"failed\"]");
    model.script([
        Rule::user("the last straw").times(1).fail("insufficient_quota", "no more today"),
        asks(),
        Rule::user("too much").fail("context_length_exceeded", "too long"),
        Rule::user("far too much").fail("context_length_exceeded", "too long"),
    ]);
    deliver(&house, "the last straw");
    let told = house.poll("the hook", DEADLINE, || read(&house, "on-blocked"));
    assert!(told.contains("AGENTMUX_HOOK_SESSION=reviewer\n"), "{told}");
    assert!(told.contains("usageLimitExceeded"), "the reason: {told}");
    let _ = house.run(&["up", "reviewer"]).ok();
    deliver(&house, "too much");
    deliver(&house, "far too much");
    let told = house.poll("the hook", DEADLINE, || read(&house, "on-failed"));
    assert!(told.contains("AGENTMUX_HOOK_SESSION=reviewer\n"), "{told}");
    assert!(told.contains("also after it was summed up"), "the reason: {told}");
    // What was not asked for is not run.
    let _ = house.run(&["up", "reviewer"]).ok();
    deliver(&house, "ask me");
    house.poll("the question", DEADLINE, || match super::state_of(&house, "reviewer").as_str() {
        "waiting" => Ok(()),
        state => Err(state.to_owned()),
    });
    let names = std::fs::read_dir(house.dir()).expect("the house").flatten();
    let names: Vec<String> = names.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    assert!(!names.iter().any(|name| name == "on-waiting" || name.starts_with("new.")), "{names:?}");
}

/// NB-5: a hook that never ends is killed with its children after its time; the relay serves meanwhile, and nothing is left of it.
#[test]
fn a_hook_that_hangs_is_ended_and_holds_nobody_up() {
    let (model, house) =
        house_with_hook("sleep 300 & echo $! > \"$(dirname \"$0\")/hung\"; wait", "on = [\"waiting\"]");
    model.script([asks()]);
    deliver(&house, "ask me");
    let hung = house.poll("the hook", DEADLINE, || {
        let text = std::fs::read_to_string(house.dir().join("hung")).unwrap_or_default();
        text.trim().parse::<i32>().map_err(|error| error.to_string())
    });
    assert!(house.processes().contains(&hung), "it runs");
    assert_eq!(house.run(&["list", "--json"]).ok().json()["sessions"][0]["state"], "waiting");
    house.poll("the hook's end", DEADLINE, || {
        if house.processes().contains(&hung) { Err("runs".to_owned()) } else { Ok(()) }
    });
    assert!(house.relay_log().contains("is killed: it took longer than 10 s"));
    let relay = house.relay_pid().expect("a relay runs");
    house.poll("the hook to be reaped", DEADLINE, || {
        let children =
            std::fs::read_to_string(format!("/proc/{relay}/task/{relay}/children")).unwrap_or_default();
        if children.split_whitespace().count() <= 1 { Ok(()) } else { Err(children) }
    });
}

/// A hook that cannot be run is refused before anything is, and one for every state is not offered.
#[test]
fn a_hook_that_cannot_be_is_refused_at_once() {
    let house = House::new();
    for (hook, why) in [
        ("command = [\"/no/such/program\"]", "there is no program /no/such/program"),
        ("command = [\"./program\"]", "there is no program ./program"),
        ("command = []", "`command` is empty"),
        ("command = [\"true\"]\non = [\"busy\"]", "it is not run for `busy`"),
        ("command = \"rm -rf x\"", "line 2"),
    ] {
        std::fs::write(house.config_dir().join("config.toml"), format!("[hook]\n{hook}\n"))
            .expect("writable");
        let ran = house.run(&["inbox"]).fails(2);
        assert!(ran.stderr.contains(why), "{hook}\n{}", ran.evidence());
    }
}

/// A hook that runs acts for the person, though the relay started it; what it leaves behind when it has ended does not, and is left alone.
#[test]
fn a_running_hook_is_the_person_and_what_it_leaves_behind_is_not() {
    let agentmux = env!("CARGO_BIN_EXE_agentmux");
    let script = format!(
        "cd \"$(dirname \"$0\")\"\nwho() {{ {agentmux} --state-dir state -b test whoami; echo end; }}\n\
         who > now.new; mv now.new now\nhook=$$\n\
         {{ while kill -0 $hook; do sleep 0.1; done; who > late.new; mv late.new late; exec sleep 30; }} 2>/dev/null &\n\
         echo $! > left"
    );
    let (model, house) = house_with_hook(&script, "on = [\"waiting\"]");
    model.script([asks()]);
    deliver(&house, "ask me");
    let now = house.poll("the hook", DEADLINE, || read(&house, "now"));
    assert!(now.starts_with("operator (operator)"), "{now}");
    let late = house.poll("what it left", DEADLINE, || read(&house, "late"));
    assert!(late.starts_with("outside (outside)"), "{late}");
    let left: i32 =
        std::fs::read_to_string(house.dir().join("left")).expect("a pid").trim().parse().expect("a pid");
    let _ = house.run(&["down"]).ok();
    assert!(house.processes().contains(&left), "it is the person's, and not ended with the agents");
}
