//! The keeper: what an agent's shell daemonises stays an agent's, and is ended with its child, whatever becomes of the relay.
//!
//! **Invariant:** the daemons here have an empty environment, a session of their own and no parent left; only their descent tells
//! whose they are. Deliberately absent: how a child's end is reported (`tests/conformance/kept.rs`).

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::support::house::House;
use super::support::model::{Rule, ScriptedModel};
use super::{DEADLINE, child_pid, deliver, text_of, traced, wait_for_state};

/// A house with a `lead` whose shell is in no sandbox.
fn house_with_lead() -> (ScriptedModel, House) {
    let model = ScriptedModel::start();
    let house = House::real(&model);
    let _ = house.run(&["spawn", "lead", "--sandbox", "danger-full-access", "--approval", "never"]).ok();
    (model, house)
}

fn kill_relay(house: &House) {
    house.kill_nine(house.relay_pid().expect("a relay runs"));
}

/// A field of `/proc/PID/stat` behind the program's name: 0 is the state, 1 the parent.
fn stat(pid: i32, field: usize) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat[stat.rfind(')')? + 2..].split(' ').nth(field).map(str::to_owned)
}

/// The parent of a process; a child's is its keeper.
pub fn parent_of(pid: i32) -> i32 {
    stat(pid, 1).and_then(|parent| parent.parse().ok()).unwrap_or_else(|| panic!("{pid} runs"))
}

/// Whether a process has ended, reaped or not: in a container nobody may reap what init has taken in.
fn is_gone(pid: i32) -> bool {
    stat(pid, 0).is_none_or(|state| state == "Z" || state == "X")
}

#[track_caller]
fn gone(house: &House, pid: i32) {
    house.poll("a process to end", DEADLINE, || if is_gone(pid) { Ok(()) } else { Err(pid.to_string()) });
}

/// Has `lead` run a shell command, and waits until its turn is over.
fn lead_runs(model: &ScriptedModel, house: &House, marker: &str, command: &str) {
    model.prepend(Rule::user(marker).exec(command).reply("ran"));
    let _ = house.run(&["send", "lead", marker, "--wait"]).ok();
    wait_for_state(house, "lead", "idle");
}

/// Has the shell of `lead` leave a process behind that runs this script; returns its pid.
fn daemonise(model: &ScriptedModel, house: &House, name: &str, script: &str) -> i32 {
    let script = format!("echo $$ >{name}.new; mv {name}.new {name}; {script}");
    let command = format!(
        "env -i PATH=/usr/bin:/bin setsid -f setsid -f sh -c '{script}' {name} </dev/null >/dev/null 2>&1"
    );
    lead_runs(model, house, &format!("daemonise {name}"), &command);
    let path = house.project().join(name);
    house.poll("the daemon", DEADLINE, || {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        text.trim().parse().map_err(|_| text)
    })
}

/// One that tries to act as the person whenever it is told to, and writes what became of it.
fn daemon_that_tries(model: &ScriptedModel, house: &House, name: &str, approval: &str) -> i32 {
    let bare =
        format!("{} --state-dir {} -b test", env!("CARGO_BIN_EXE_agentmux"), house.state_dir().display());
    let attempts = [format!("approve {approval}"), "interrupt lead".to_owned(), "down --now".to_owned()];
    let attempts: String =
        attempts.iter().map(|words| format!("{bare} {words}; echo code=$?; ")).collect::<Vec<_>>().concat();
    let script = format!(
        "n=1; while :; do until [ -e try$n ]; do sleep 0.05; done; \
         {{ {attempts} {bare} whoami; }} >{name}.tries 2>&1; mv {name}.tries {name}.tried$n; n=$((n+1)); done"
    );
    let pid = daemonise(model, house, name, &script);
    let environment = std::fs::read(format!("/proc/{pid}/environ")).expect("it runs");
    let environment = String::from_utf8_lossy(&environment);
    assert!(!environment.contains("AGENTMUX") && !environment.contains("CODEX"), "{environment}");
    pid
}

/// Lets all daemons try once more; each is refused, and nothing has changed.
#[track_caller]
fn all_are_refused(house: &House, round: u32, names: &[&str], approval: &str) {
    let relay = house.relay_pid();
    std::fs::write(house.project().join(format!("try{round}")), "").expect("the project is writable");
    for name in names {
        let path = house.project().join(format!("{name}.tried{round}"));
        let tried = house.poll("the daemon to have tried", DEADLINE, || {
            std::fs::read_to_string(&path).map_err(|error| error.to_string())
        });
        assert_eq!(tried.matches("refused").count(), 3, "{name}: {tried}");
        assert_eq!(tried.matches("code=1").count(), 3, "{name}: {tried}");
        assert!(tried.contains("outside") && !tried.contains("operator (operator)"), "{name}: {tried}");
    }
    let approvals = house.run(&["approvals", "--json"]).ok().json();
    assert_eq!(approvals["approvals"][0]["id"], approval, "it still waits: {approvals}");
    assert_eq!(house.relay_pid(), relay, "nobody stopped it");
    assert!(!house.project().join("never").exists());
    assert!(house.run(&["whoami"]).ok().stdout.starts_with("operator"), "the person is the person");
}

/// LK-8, users 8: what an agent has daemonised before or after a crash of the relay, or before a newer one takes over, has no rights
/// of the person's after it, and `down` leaves neither it nor its keeper.
#[test]
fn a_daemon_of_an_agents_shell_stays_an_agents_when_its_relay_is_killed_or_replaced() {
    let (model, house) = house_with_lead();
    let escalated =
        json!({"cmd": "touch never", "sandbox_permissions": "require_escalated", "justification": "a test"});
    model.script([Rule::user("ask me").call("exec_command", escalated).reply("went on")]);
    let _ = house.run(&["spawn", "reviewer", "--sandbox", "read-only"]).ok();
    let _ = house.run(&["send", "reviewer", "ask me", "--wait"]).ok();
    let approval = house.poll("the approval", DEADLINE, || {
        let approvals = house.run(&["approvals", "--json"]).ok().json();
        approvals["approvals"][0]["id"].as_str().map(str::to_owned).ok_or_else(|| "none".to_owned())
    });
    let child = child_pid(&house);
    let keeper = parent_of(child);
    let early = daemon_that_tries(&model, &house, "early", &approval);
    assert_eq!(parent_of(early), keeper);
    all_are_refused(&house, 1, &["early"], &approval);

    kill_relay(&house);
    let _ = house.run(&["up"]).ok();
    assert_eq!((child_pid(&house), parent_of(child)), (child, keeper), "both were adopted");
    house.poll("the child to ask again", DEADLINE, || {
        let approvals = house.run(&["approvals", "--json"]).ok().json();
        if approvals["approvals"][0]["id"] == *approval { Ok(()) } else { Err(approvals.to_string()) }
    });
    let late = daemon_that_tries(&model, &house, "late", &approval);
    all_are_refused(&house, 1, &["late"], &approval);
    all_are_refused(&house, 2, &["early", "late"], &approval);

    let before = house.relay_pid();
    let relay = house.spawn(&["host", "relay", "--replace"]);
    house.poll("the next relay", DEADLINE, || match house.relay_pid() {
        pid if pid.is_some() && pid != before => Ok(()),
        pid => Err(format!("{pid:?}")),
    });
    let _ = house.run(&["up"]).ok();
    assert_eq!((child_pid(&house), parent_of(child)), (child, keeper), "both were handed on");
    house.poll("the child to ask again", DEADLINE, || {
        let approvals = house.run(&["approvals", "--json"]).ok().json();
        if approvals["approvals"][0]["id"] == *approval { Ok(()) } else { Err(approvals.to_string()) }
    });
    let last = daemon_that_tries(&model, &house, "last", &approval);
    all_are_refused(&house, 3, &["early", "late"], &approval);
    assert_eq!([parent_of(early), parent_of(late), parent_of(last)], [keeper; 3]);

    let _ = house.run(&["down"]).ok();
    for pid in [early, late, last, child, keeper] {
        assert!(is_gone(pid), "{pid} is left behind");
    }
    let _ = relay.finish(DEADLINE).ok();
}

/// Users 19, NB-9: `down` ends whatever a shell has left behind, however it went away: in a session of its own, with nothing in its
/// environment, forked twice, or deaf to what asks it to end; started before or after its child was adopted; with time and without.
#[test]
fn down_ends_what_a_shell_has_left_however_it_went_away() {
    let quiet = "</dev/null >/dev/null 2>&1";
    let ways = [
        ("session", "setsid sh NAME.script QUIET &"),
        ("bare", "env -i PATH=/usr/bin:/bin setsid nohup sh NAME.script QUIET &"),
        ("forked", "setsid sh -c '( ( exec env -i PATH=/usr/bin:/bin sh NAME.script ) & ) &' QUIET"),
        ("deaf", "env -i PATH=/usr/bin:/bin setsid -f sh NAME.script deaf QUIET"),
    ];
    for down in [&["down"][..], &["down", "--now"], &["down", "lead"]] {
        let (model, house) = house_with_lead();
        let mut left = Vec::new();
        for when in ["before", "after"] {
            if when == "after" {
                let child = child_pid(&house);
                kill_relay(&house);
                let _ = house.run(&["up"]).ok();
                assert_eq!(child_pid(&house), child, "it was adopted");
            }
            for (name, way) in ways {
                let name = format!("{name}.{when}");
                let script = format!(
                    "[ \"$1\" ] && trap : TERM HUP INT\necho $$ >{name}.new; mv {name}.new {name}\nwhile :; do sleep 1; done\n"
                );
                let file = house.project().join(format!("{name}.script"));
                std::fs::write(file, script).expect("the project is writable");
                // Codex ends the group of a shell that has ended, also of one that was just about to leave it.
                let command = format!("{way}\nuntil [ -e NAME ]; do sleep 0.02; done");
                let command = command.replace("NAME", &name).replace("QUIET", quiet);
                lead_runs(&model, &house, &format!("leave {name}"), &command);
                let path = house.project().join(&name);
                let pid = house.poll("what the shell leaves", DEADLINE, || {
                    let text = std::fs::read_to_string(&path).unwrap_or_default();
                    text.trim().parse::<i32>().map_err(|_| format!("{name}: {text}"))
                });
                left.push((pid, name));
            }
        }
        for (pid, name) in &left {
            assert!(!is_gone(*pid), "{name} outlives its shell and its turn");
        }
        let _ = house.run(down).ok();
        if down == ["down", "lead"] {
            // The relay stays, and its last child takes a moment.
            left.iter().for_each(|(pid, _)| gone(&house, *pid));
        }
        for (pid, name) in left {
            assert!(is_gone(pid), "{name} is left behind by {down:?}");
        }
        let _ = house.run(&["down"]).ok();
        house.wait_until_empty(DEADLINE);
    }
}

/// PX-8: `down` without a relay ends what a crashed one has left, to the last daemon, also one that does not want to end, or gives
/// itself out for a relay or a keeper.
#[test]
fn down_without_a_relay_ends_the_child_its_keeper_and_their_daemons() {
    let (model, house) = house_with_lead();
    let child = child_pid(&house);
    let keeper = parent_of(child);
    let willing = daemonise(&model, &house, "willing", "exec sleep 300");
    let stubborn = daemonise(&model, &house, "stubborn", "trap : TERM; while :; do sleep 1; done");
    std::fs::write(house.project().join("host"), "sleep 300").expect("the project is writable");
    let relay = daemonise(&model, &house, "relay", "exec sh host relay");
    let agentmux = env!("CARGO_BIN_EXE_agentmux");
    let keep = |nonce: &str, name: &str| {
        format!("exec env {nonce} {agentmux} host keep -- /bin/sleep 300 3>{name}.word")
    };
    let bare = daemonise(&model, &house, "bare", &keep("", "bare"));
    let nonce = std::fs::read(format!("/proc/{child}/environ")).expect("it runs");
    let nonce = nonce.split(|byte| *byte == 0).find(|entry| entry.starts_with(b"AGENTMUX_CHILD="));
    let nonce = String::from_utf8_lossy(nonce.expect("a nonce")).into_owned();
    let same = daemonise(&model, &house, "same", &keep(&nonce, "same"));
    let kept = ["bare", "same"].map(|name| {
        house.poll("what they keep", DEADLINE, || {
            let word =
                std::fs::read_to_string(house.project().join(format!("{name}.word"))).unwrap_or_default();
            let pid = word.trim().strip_prefix("pid=").and_then(|pid| pid.parse::<i32>().ok());
            pid.ok_or(word)
        })
    });
    assert!(!kept.into_iter().chain([relay, bare, same]).any(is_gone), "they run");
    kill_relay(&house);
    let _ = house.run(&["down"]).ok();
    for pid in [willing, stubborn, relay, bare, same, kept[0], kept[1], child, keeper] {
        assert!(is_gone(pid), "{pid} is left behind");
    }
    house.wait_until_empty(DEADLINE);
}

/// NB-6, NB-8: a keeper that is killed takes its child with it; the next one opens the threads again, no mail is lost or told twice,
/// and its daemons, which the relay takes in, are still an agent's.
#[test]
fn a_killed_keeper_takes_its_child_along_and_the_next_goes_on() {
    let (model, house) = house_with_lead();
    let thread =
        |house: &House| text_of(&house.run(&["list", "--json"]).ok().json()["sessions"][0]["threadId"]);
    let first = house.run(&["send", "lead", "before the keeper died", "--wait", "--json"]).ok().json();
    let (child, known) = (child_pid(&house), thread(&house));
    let keeper = parent_of(child);
    let daemon = daemonise(&model, &house, "daemon", "exec sleep 300");
    house.kill_nine(keeper);
    let second = house.run(&["send", "lead", "while there was none", "--wait", "--json"]).ok().json();
    for (sent, text) in [(first, "before the keeper died"), (second, "while there was none")] {
        assert_eq!(traced(&house, &text_of(&sent["id"]))["state"], "consumed");
        model.wait_until_read(text, DEADLINE);
        assert_eq!(model.times_read(text), 1, "{}", model.transcript());
    }
    assert_eq!(thread(&house), known, "the thread was opened again");
    let next = child_pid(&house);
    assert_ne!(next, child);
    assert!(is_gone(child) && parent_of(next) != keeper);
    gone(&house, daemon);
    let log = house.run(&["log", "--json"]).ok();
    assert!(log.stdout.contains("was ended by SIGKILL"), "{}", log.evidence());
    let _ = house.run(&["down"]).ok();
    house.wait_until_empty(DEADLINE);
}

/// BS-1, NB-6, NB-8, PX-1: relay, keeper and child, each alone and any two at once: the next command finds nothing to repair, there
/// are as many processes as before, and each mail is told once.
#[test]
fn any_two_that_are_killed_at_once_leave_nothing_behind() {
    let (model, house) = house_with_lead();
    let _ = house.run(&["send", "lead", "to begin with", "--wait"]).ok();
    let usual = house.processes().len();
    // Each bit is one of them.
    for victims in 1..8 {
        let child = child_pid(&house);
        let all = [house.relay_pid().expect("a relay runs"), parent_of(child), child];
        let chosen: Vec<i32> = all
            .into_iter()
            .enumerate()
            .filter(|(at, _)| victims >> at & 1 == 1)
            .map(|(_, pid)| pid)
            .collect();
        for pid in &chosen {
            // A child may have died with its keeper by now.
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        let text = format!("after {victims:03b}");
        let sent = house.run(&["send", "lead", &text, "--wait", "--json"]).ok().json();
        assert_eq!(traced(&house, &text_of(&sent["id"]))["state"], "consumed");
        model.wait_until_read(&text, DEADLINE);
        assert_eq!(model.times_read(&text), 1, "{}", model.transcript());
        for pid in chosen {
            gone(&house, pid);
        }
        house.poll("nothing to be left behind", DEADLINE, || {
            let now = house.processes();
            if now.len() == usual { Ok(()) } else { Err(format!("{usual} usually, now {now:?}")) }
        });
    }
    let _ = house.run(&["down"]).ok();
    house.wait_until_empty(DEADLINE);
}

/// A relay that an agent's command has brought back lies below the keeper; it is no agent's, and is not ended with the child.
#[test]
fn a_relay_that_an_agent_has_started_outlives_that_agents_child() {
    let (model, house) = house_with_lead();
    let send = format!(
        "until [ -e go ]; do sleep 0.05; done; {} --state-dir {} -b test send operator back",
        env!("CARGO_BIN_EXE_agentmux"),
        house.state_dir().display()
    );
    model.prepend(Rule::user("bring it back").exec(&send).reply("brought"));
    let _ = house.run(&["send", "lead", "bring it back", "--wait"]).ok();
    let child = child_pid(&house);
    let keeper = parent_of(child);
    let killed = house.relay_pid().expect("a relay runs");
    house.kill_nine(killed);
    std::fs::write(house.project().join("go"), "").expect("the project is writable");
    let relay = house.poll("the next relay", DEADLINE, || match house.relay_pid() {
        Some(pid) if pid != killed && house.run(&["list", "--no-start"]).code == 0 => Ok(pid),
        pid => Err(format!("{pid:?}")),
    });
    wait_for_state(&house, "lead", "idle");
    let (mut ancestor, mut below) = (relay, false);
    while ancestor > 1 {
        ancestor = parent_of(ancestor);
        below |= ancestor == keeper;
    }
    assert!(below, "it was started from below the keeper");
    assert!(house.run(&["whoami"]).ok().stdout.starts_with("operator"));
    house.kill_nine(child);
    gone(&house, keeper);
    let _ = house.run(&["send", "lead", "and now?", "--wait"]).ok();
    assert_eq!(house.relay_pid(), Some(relay), "it runs on");
    let _ = house.run(&["down"]).ok();
    house.wait_until_empty(DEADLINE);
}

/// LK-8, users 8: an agent is an agent for the relay of another bundle, too, and for one that its own command has to start.
#[test]
fn an_agent_is_no_person_for_another_relay_or_the_next_one() {
    let (model, house) = house_with_lead();
    let _ = house.run(&["-b", "other", "inbox"]).ok();
    let bare = format!("{} --state-dir {}", env!("CARGO_BIN_EXE_agentmux"), house.state_dir().display());
    let script = format!(
        "{bare} -b other whoami >asked.new 2>&1; mv asked.new asked; until [ -e go ]; do sleep 0.05; done; \
         {bare} -b test whoami >again.new 2>&1; mv again.new again"
    );
    let _ = daemonise(&model, &house, "asks", &script);
    let said = |name: &str| {
        let path = house.project().join(name);
        house
            .poll("an answer", DEADLINE, || std::fs::read_to_string(&path).map_err(|error| error.to_string()))
    };
    assert!(said("asked").starts_with("outside (outside)"), "{}", said("asked"));
    kill_relay(&house);
    std::fs::write(house.project().join("go"), "").expect("the project is writable");
    assert!(said("again").starts_with("outside (outside)"), "{}", said("again"));
    let _ = house.run(&["-b", "other", "down"]).ok();
}

/// BS-4: a keeper has nothing to do until its child ends: mail, turns and tools do not wake it, and it holds nothing open.
#[test]
fn a_keeper_does_nothing_while_its_child_works() {
    let model = ScriptedModel::start();
    let house = House::real(&model);
    let _ = house.run(&["spawn", "reviewer"]).ok();
    let keeper = parent_of(child_pid(&house));
    let awake = || {
        let status = std::fs::read_to_string(format!("/proc/{keeper}/status")).expect("it runs");
        let counts = status.lines().filter(|line| line.contains("ctxt_switches"));
        counts.map(str::to_owned).collect::<Vec<String>>()
    };
    deliver(&house, "to begin with");
    let before = awake();
    for round in 0..5 {
        deliver(&house, &format!("round {round}"));
    }
    assert_eq!(awake(), before, "it was not woken once");
    let open: Vec<_> = std::fs::read_dir(format!("/proc/{keeper}/fd")).expect("it runs").flatten().collect();
    assert_eq!(open.len(), 3, "input, output and errors of its child: {open:?}");
    assert_eq!(std::fs::read_link(format!("/proc/{keeper}/cwd")).expect("it runs").as_os_str(), "/");
}
