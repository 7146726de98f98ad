//! `agentmux doctor`: what the bundle stands on, what is wrong with it, and the command that mends it.

use crate::*;
use agentmux::model::version::CODEX_TESTED;
use agentmux::transport::codex::{NOTICE_PARTS, NOTICES, QUESTIONS, REQUEST_FIELDS, REQUESTS};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::fs::symlink;
use std::time::Instant;

/// Makes this agentmux the first on PATH, as it is where it is installed.
fn installed(mut house: House) -> House {
    let dir = Path::new(env!("CARGO_BIN_EXE_agentmux")).parent().expect("a program is in a directory");
    let path = format!("{}:{}", dir.display(), std::env::var("PATH").unwrap_or_default());
    house.set_env("PATH", &path);
    house
}

/// A house without Codex, with a directory of a relay that has left.
fn used() -> House {
    let house = installed(House::new());
    let _ = house.run(&["up"]).ok();
    let _ = house.run(&["down"]).ok();
    house
}

/// The report, whatever it says; exit code and overall status belong together.
#[track_caller]
fn report(ran: &Ran) -> Value {
    let report: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{}", ran.evidence()));
    assert!(ran.stdout.starts_with("{\"schemaVersion\":1,\"overallStatus\":"), "{}", ran.evidence());
    assert_eq!(
        (ran.code == 1, ran.stderr.as_str()),
        (report["overallStatus"] == "fail", ""),
        "{}",
        ran.evidence()
    );
    report
}

#[track_caller]
fn examine(house: &House) -> Value {
    report(&house.run(&["doctor", "--json"]))
}

#[track_caller]
fn check(report: &Value, id: &str) -> Value {
    let checks = report["checks"].as_array().expect("checks are a list");
    checks.iter().find(|check| check["id"] == id).unwrap_or_else(|| panic!("no {id} in {report:#}")).clone()
}

/// Expects this status, and a remediation that holds this line.
#[track_caller]
fn sick(report: &Value, id: &str, status: &str, fix: &str) -> Value {
    let check = check(report, id);
    assert_eq!(check["status"], status, "{check:#}");
    let mut lines = check["remediation"].as_str().unwrap_or_default().lines();
    assert!(lines.any(|line| line == fix), "`{fix}` mends {check:#}");
    check
}

#[track_caller]
fn is_ok(report: &Value, id: &str) -> Value {
    let check = check(report, id);
    assert_eq!((check["status"].as_str(), &check["remediation"]), (Some("ok"), &Value::Null), "{check:#}");
    check
}

/// LK-10: an examination changes nothing and starts nothing.
#[test]
fn a_healthy_bundle_is_ok_with_a_relay_and_without() {
    let model = ScriptedModel::start();
    let house = installed(House::real(&model));
    let ran = touches_nothing(&house, || house.run(&["doctor", "--json"]));
    assert_eq!(report(&ran)["overallStatus"], "ok", "{}", ran.evidence());
    assert!(!house.bundle_dir().exists());
    let _ = house.run(&["spawn", "reviewer"]).ok();
    let healthy = examine(&house);
    assert_eq!(healthy["overallStatus"], "ok", "{healthy:#}");
    for check in healthy["checks"].as_array().into_iter().flatten() {
        assert_eq!(keys(check), ["id", "status", "summary", "details", "remediation", "durationMs"]);
        assert!(check["summary"].is_string() && check["details"].is_array(), "{check}");
        assert!(check["durationMs"].is_u64(), "{check}");
    }
    let of = |id: &str| is_ok(&healthy, id)["summary"].as_str().unwrap_or_default().to_owned();
    let pid = house.relay_pid().expect("a relay runs");
    assert_eq!(of("lock"), format!("relay.lock is held by pid {pid}"));
    assert!(of("relay").starts_with(&format!("pid {pid} answers: version ")), "{healthy:#}");
    assert!(of("codex").contains("(by AGENTMUX_CODEX)"), "{healthy:#}");
    assert_eq!(
        (of("children"), of("mail")),
        ("1 running below their relay".into(), "0 queued, 0 unknown, 0 dead; nothing waits".into())
    );
    let _ = house.run(&["down"]).ok();
    let ran = touches_nothing(&house, || house.run(&["doctor"])).ok();
    assert!(ran.stdout.lines().all(|line| line.starts_with("ok       ")), "{}", ran.evidence());
    let ran = touches_nothing(&house, || house.run(&["doctor", "--fix"])).ok();
    assert!(!ran.stdout.contains("fixed: "), "{}", ran.evidence());
}

#[test]
fn people_get_a_line_a_check_and_what_mends_it() {
    let house = used();
    let ran = house.run(&["doctor"]).fails(1);
    let line = ran.stdout.lines().find(|line| line.starts_with("fail     codex         codex not found: "));
    assert!(line.is_some() && ran.stderr.is_empty(), "{}", ran.evidence());
    assert!(
        ran.stdout.contains("\n                       fix: npm install -g @openai/codex@latest\n"),
        "{}",
        ran.evidence()
    );
    assert!(!ran.stdout.contains('\x1b') && !ran.stdout.contains("network_access"), "{}", ran.evidence());
    let ran = house.run(&["doctor", "-v", "--color", "always"]).fails(1);
    assert!(ran.stdout.contains("\x1b[31mfail\x1b[0m     codex "), "{}", ran.evidence());
    assert!(ran.stdout.contains("network_access = true"), "all of it: {}", ran.evidence());
}

/// BS-8, BS-9, LK-13: what others could read is named, and mended when it is ours.
#[test]
fn wrong_modes_are_named_with_their_chmod_and_mended_by_fix() {
    let house = used();
    let dir = house.bundle_dir();
    let mode = |name: &str| fs::metadata(dir.join(name)).expect("it is there").permissions().mode() & 0o7777;
    let set = |name: &str, mode: u32| {
        fs::set_permissions(dir.join(name), PermissionsExt::from_mode(mode)).expect("ours")
    };
    set("relay.lock", 0o644);
    set("mail.db", 0o666);
    set("children", 0o755);
    let ran = touches_nothing(&house, || house.run(&["doctor", "--json"]));
    let report_before = report(&ran);
    for (fix, name) in [("chmod 600", "relay.lock"), ("chmod 600", "mail.db"), ("chmod 700", "children")] {
        let _ = sick(&report_before, "files", "fail", &format!("{fix} {}", dir.join(name).display()));
    }
    let mended = report(&house.run(&["doctor", "--json", "--fix"]));
    assert_eq!(is_ok(&mended, "files")["fixed"].as_array().map(Vec::len), Some(3), "{mended:#}");
    assert_eq!((mode("relay.lock"), mode("mail.db"), mode("children")), (0o600, 0o600, 0o700));

    set(".", 0o755);
    let _ = sick(&examine(&house), "files", "fail", &format!("chmod 700 {}", dir.display()));
    let ran = house.run(&["doctor", "--fix"]).fails(1); // Codex is missing here.
    assert!(ran.stdout.contains(&format!("fixed: chmod 700 {}", dir.display())), "{}", ran.evidence());
    let _ = is_ok(&examine(&house), "files");
    let _ = house.run(&["up"]).ok();
}

/// BS-5, BS-6, PX-14: a link is named, never followed, and `--fix` leaves it to its owner.
#[test]
fn a_link_in_place_of_a_file_is_named_and_not_followed() {
    let house = used();
    let victim = house.dir().join("victim");
    fs::write(&victim, "mine").expect("the house is writable");
    fs::set_permissions(&victim, PermissionsExt::from_mode(0o644)).expect("ours");
    let path = house.bundle_dir().join("mail.db");
    fs::remove_file(&path).expect("ours");
    symlink(&victim, &path).expect("the house is writable");
    let remedy = format!("rm {}", path.display());
    let found = sick(&examine(&house), "files", "fail", &remedy);
    assert!(
        found["summary"].as_str().is_some_and(|text| text == "mail.db refused: it is a symbolic link"),
        "{found}"
    );
    let _ = sick(&report(&house.run(&["doctor", "--fix", "--json"])), "files", "fail", &remedy);
    assert_eq!(fs::metadata(&victim).expect("there").permissions().mode() & 0o777, 0o644);
    fs::remove_file(&path).expect("ours");
    fs::create_dir(&path).expect("ours");
    let away = format!("mv -n {0} {0}.aside", path.display());
    let _ = sick(&examine(&house), "files", "fail", &away);
    let mut shell = house.command("sh");
    shell.args(["-c", &away]);
    let _ = house.call_of(shell).run().ok();
    let _ = house.run(&["up"]).ok();
}

/// BS-2: a dead relay's socket goes only while the lock is held; a living one's stays.
#[test]
fn the_socket_of_a_dead_relay_is_a_warning_and_fix_removes_it() {
    let house = installed(House::new());
    let _ = house.run(&["up"]).ok();
    let socket = house.bundle_dir().join("relay.sock");
    let _ = house.run(&["doctor", "--fix"]).fails(1);
    assert!(socket.exists() && house.run(&["status", "--json"]).json()["relay"]["running"] == true);
    house.kill_nine(house.relay_pid().expect("a relay runs"));
    // The kernel frees a killed process's locks a moment after the process is gone for everybody else.
    house.poll("the lock to be free", SOON, || match &check(&examine(&house), "lock")["summary"] {
        free if free == "relay.lock is free" => Ok(()),
        held => Err(held.to_string()),
    });
    let ran = touches_nothing(&house, || house.run(&["doctor", "--json"]));
    let stale = report(&ran);
    let _ = sick(&stale, "relay", "warning", "agentmux doctor --fix");
    assert!(
        is_ok(&stale, "lock")["details"][0].as_str().is_some_and(|text| text.contains("which has ended")),
        "{stale:#}"
    );
    let mended = report(&house.run(&["doctor", "--fix", "--json"]));
    let fixed = is_ok(&mended, "relay")["fixed"].clone();
    assert_eq!(fixed[0].as_str(), Some(format!("rm {}, holding relay.lock", socket.display()).as_str()));
    assert!(!socket.exists() && house.processes().is_empty());
}

/// BS-3: mending takes the lock for a moment, and is in no starting relay's way.
#[test]
fn mending_disturbs_no_relay_that_starts_at_the_same_time() {
    let house = installed(House::new());
    let _ = house.run(&["up"]).ok();
    for round in 0..5 {
        house.kill_nine(house.relay_pid().expect("a relay runs"));
        std::thread::scope(|scope| {
            let sends: Vec<_> = (0..3).map(|_| scope.spawn(|| mail_to_operator(&house, "x"))).collect();
            let doctors: Vec<_> = (0..3).map(|_| scope.spawn(|| house.run(&["doctor", "--fix"]))).collect();
            sends.into_iter().for_each(|send| drop(send.join().expect("accepted")));
            doctors.into_iter().for_each(|doctor| drop(doctor.join().expect("a report").fails(1)));
        });
        assert_eq!(house.processes(), [house.relay_pid().expect("one relay")], "round {round}");
    }
}

/// BS-4, BS-12: a stopped relay is neither gone nor merely busy, and what wakes it is named within the deadline.
#[test]
fn a_stopped_relay_is_named_with_the_signal_that_wakes_it() {
    let house = installed(House::new());
    let _ = house.run(&["up"]).ok();
    let pid = house.relay_pid().expect("a relay runs");
    kill(Pid::from_raw(pid), Signal::SIGSTOP).expect("it is ours");
    let begun = Instant::now();
    let stopped = examine(&house);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let wake = format!("kill -CONT {pid}");
    let _ = sick(&stopped, "relay", "fail", &wake);
    let _ = is_ok(&stopped, "lock");
    let mut shell = house.command("sh");
    shell.args(["-c", &wake]);
    let _ = house.call_of(shell).run().ok();
    let _ = is_ok(&examine(&house), "relay");
}

#[test]
fn a_codex_that_is_missing_old_or_silent_is_named_with_what_is_needed() {
    let house = used();
    let program = house.dir().join("codex-of-this-test");
    let says = |script: &str| {
        support::write_script(&program, &format!("#!/bin/sh\n{script}\n"));
        report(&house.call(&["doctor", "--json"]).env("AGENTMUX_CODEX", &program.display().to_string()).run())
    };
    let update = "npm install -g @openai/codex@latest";
    let missing = sick(&examine(&house), "codex", "fail", "unset AGENTMUX_CODEX");
    assert!(missing.to_string().contains("supported from 0.157.0"), "{missing}");
    let old = sick(&says("echo codex-cli 0.156.9"), "codex", "fail", update);
    let summary = old["summary"].as_str().unwrap_or_default();
    assert_eq!(summary, "codex refused: found Codex 0.156.9, agentmux needs 0.157.0 or newer");
    // The version after next, as it may be: it tells its protocol, in which a word of ours is missing or not.
    let newer = |missing: &str| {
        let words = |words: &[&[&str]]| {
            words
                .iter()
                .flat_map(|words| words.iter())
                .filter(|word| **word != missing)
                .map(|word| format!("\"{word}\""))
                .collect::<String>()
        };
        let files = [
            ("ClientRequest", words(&[REQUESTS, REQUEST_FIELDS])),
            ("ServerNotification", words(&[NOTICES, NOTICE_PARTS])),
            ("ServerRequest", words(&[QUESTIONS])),
        ];
        let schema: String =
            files.iter().map(|(file, words)| format!("echo '{words}' > \"$4/{file}.json\"; ")).collect();
        says(&format!("case \"$1\" in --version) echo codex-cli 9.0.0 ;; *) {schema}:;; esac"))
    };
    let new = is_ok(&newer("nothing"), "codex");
    assert!(new.to_string().contains("newer than ") && new.to_string().contains("has all "), "{new}");
    // A kind of item, a field, a flag, a failure or a question that is gone is as bad as a method.
    for word in [
        "turn/steer",
        "item/completed",
        "clientUserMessageId",
        "expectedTurnId",
        "clientId",
        "userMessage",
        "waitingOnApproval",
        "usageLimitExceeded",
        "item/commandExecution/requestApproval",
    ] {
        let tested = format!("npm install -g @openai/codex@{CODEX_TESTED}");
        let odd = sick(&newer(word), "codex", "fail", &tested);
        assert!(odd.to_string().contains(&format!("no longer knows: {word}\"")), "{odd}");
    }
    let mute = says("echo codex-cli 9.0.0");
    assert!(mute.to_string().contains("does not tell its protocol"), "{mute}");
    let begun = Instant::now();
    let silent = sick(&says("exec sleep 1000"), "codex", "fail", update);
    assert!(silent.to_string().contains("it did not end within 10 s"), "{silent}");
    assert!(begun.elapsed() < Duration::from_secs(30) && house.processes().is_empty());
}

/// PX-8: children without their relay are named with the verb that ends them, and it does.
#[test]
fn a_child_left_behind_is_a_warning_until_down_has_ended_it() {
    let model = ScriptedModel::start();
    let house = installed(House::real(&model));
    let _ = house.run(&["spawn", "reviewer"]).ok();
    let child = house.run(&["status", "--json"]).ok().json()["children"][0]["pid"].clone();
    house.kill_nine(house.relay_pid().expect("a relay runs"));
    let orphan = house.poll("the relay to be gone", SOON, || {
        let report = examine(&house);
        if check(&report, "children")["status"] == "warning" { Ok(report) } else { Err(report.to_string()) }
    });
    let named = sick(&orphan, "children", "warning", "agentmux down").to_string();
    assert!(
        named.contains("1 left behind") && named.contains(&format!("pid {child} ")),
        "not its keeper: {named}"
    );
    assert_eq!(orphan["overallStatus"], "warning", "{orphan:#}");
    let _ = house.run(&["down"]).ok();
    assert_eq!(examine(&house)["overallStatus"], "ok");
}

#[test]
fn the_bundle_its_root_and_a_long_path_are_looked_at() {
    let house = used();
    let long = house.dir().join("l".repeat(90));
    let ran = house.run(&["doctor", "--json", "--state-dir", &long.display().to_string()]);
    let address = is_ok(&report(&ran), "address");
    assert!(
        address["summary"].as_str().is_some_and(|text| text.contains("(by --state-dir), not created yet")),
        "{address}"
    );
    assert!(
        address["details"][0].as_str().is_some_and(|text| text.contains("through the directory")),
        "{address}"
    );

    let other = house.dir().join("other");
    fs::create_dir(&other).expect("the house is writable");
    for place in [&house.project(), &other] {
        fs::write(place.join("agentmux.toml"), "bundle = \"web\"\n").expect("likewise");
    }
    let at = |place: &Path, verb: &[&str]| house.call(verb).without_env("AGENTMUX_BUNDLE").dir(place).run();
    let _ = at(&house.project(), &["up"]).ok();
    let edit = format!("${{EDITOR:-vi}} {}", other.join("agentmux.toml").display());
    let _ = sick(&report(&at(&other, &["doctor", "--json"])), "bundle", "fail", &edit);
    fs::remove_dir_all(house.project()).expect("ours");
    let gone = report(&at(&other, &["doctor", "--json", "-b", "web"]));
    let _ = sick(&gone, "bundle", "warning", "agentmux --bundle web down");
    let _ = at(&other, &["down", "-b", "web"]).ok();
}

/// A home shared by two hosts: what the other one's lock says is a warning, and `--fix` leaves its socket alone.
#[test]
fn the_lock_of_another_host_is_told_and_left_alone() {
    let house = used();
    let lock = house.bundle_dir().join("relay.lock");
    fs::write(&lock, "pid=1\nstart=1\nboot=b\nhost=elsewhere\nmachine=m\nversion=0.1.0\nsince=s\n")
        .expect("ours");
    let socket = house.bundle_dir().join("relay.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("nobody has the name"));
    fs::set_permissions(&socket, PermissionsExt::from_mode(0o600)).expect("ours");
    let found = report(&house.run(&["doctor", "--json", "--fix"]));
    let _ = sick(&found, "lock", "warning", "ssh elsewhere agentmux down");
    assert!(socket.exists(), "it may be the other host's");
}

/// Another program of this name would answer in our place.
#[test]
fn another_agentmux_that_is_first_on_path_is_named() {
    let house = used();
    let dir = house.dir().join("bin");
    fs::create_dir(&dir).expect("the house is writable");
    support::write_script(dir.join("agentmux"), "#!/bin/sh\n");
    let path = format!("{}:{}", dir.display(), std::env::var("PATH").unwrap_or_default());
    let ran = house.call(&["doctor", "--json"]).env("PATH", &path).run();
    let own = Path::new(env!("CARGO_BIN_EXE_agentmux")).parent().expect("a directory").display().to_string();
    let found = sick(&report(&ran), "program", "warning", &format!("export PATH={own}:\"$PATH\""));
    assert!(found["summary"].as_str().is_some_and(|text| text.ends_with("/bin/agentmux")), "{found}");
}

/// Users 7: inside Codex's own sandbox the reason is the sandbox, and what doctor prints as the way out is one (0.169.0).
#[test]
fn in_the_sandbox_of_codex_the_way_out_is_named_and_works() {
    let model = ScriptedModel::start();
    let house = installed(House::real(&model));
    let sandboxed = |settings: &[&str], words: &[&str]| {
        let mut command = house.command(house.codex());
        command
            .args(["sandbox", "-c", "sandbox_mode=\"workspace-write\""])
            .args(settings)
            .arg("--")
            .args(words);
        house.call_of(command).run()
    };
    if sandboxed(&[], &["true"]).code != 0 {
        eprintln!("note: this machine has no sandbox for Codex, so nothing is tried in it");
        return;
    }
    let _ = house.run(&["up"]).ok();
    let agentmux = env!("CARGO_BIN_EXE_agentmux");
    let shut = sandboxed(&[], &[agentmux, "status"]).fails(6);
    assert!(shut.stderr.contains("the sandbox (CODEX_SANDBOX"), "{}", shut.evidence());
    let told = sandboxed(&[], &[agentmux, "doctor"]).fails(1);
    assert!(
        told.stdout.contains("fix: codex -c sandbox_workspace_write.network_access=true"),
        "{}",
        told.evidence()
    );
    let open =
        sandboxed(&["-c", "sandbox_workspace_write.network_access=true"], &[agentmux, "status", "--json"])
            .ok();
    assert!(open.stdout.contains("\"running\":true"), "{}", open.evidence());
}

/// A file that no other command takes is what `doctor` is for: it names the line, and looks at the rest without the file.
#[test]
fn a_configuration_that_is_refused_is_named_with_its_file() {
    let house = used();
    let user = house.config_dir().join("config.toml");
    let project = house.project().join("agentmux.toml");
    for (file, text, why) in [
        (&user, "idle_exti = \"1h\"\n", "line 1: `idle_exti = \"1h\"`: unknown key"),
        (&user, "idle_exit = \"soon\"\n", "idle_exit"),
        (&project, "[sessions.ann]\nmodle = \"m\"\n", "line 2: `modle = \"m\"`: unknown key"),
    ] {
        fs::write(file, text).expect("writable");
        let said = refused(house.run(&["list"]), 2);
        assert!(said.contains(why), "{said}");
        let report = examine(&house);
        let found = sick(&report, "configuration", "fail", &format!("${{EDITOR:-vi}} {}", file.display()));
        assert!(found["summary"].as_str().is_some_and(|text| text.contains(why)), "{found:#}");
        let _ = is_ok(&report, "address");
        let _ = house.run(&["completions", "bash"]).ok();
        fs::remove_file(file).expect("ours");
    }
    let _ = is_ok(&examine(&house), "configuration");
    // Whoever opens a pipe waits for its other end.
    nix::unistd::mkfifo(&user, nix::sys::stat::Mode::from_bits_truncate(0o600)).expect("ours");
    let said = refused(house.run(&["status"]), 2);
    assert!(said.contains("it is not a plain file"), "{said}");
    let _ = sick(&examine(&house), "configuration", "fail", &format!("${{EDITOR:-vi}} {}", user.display()));
}

/// Symptom: with a hook whose program only the person's own shell finds every command failed from cron or a sandbox, also `down`. Now it
/// is looked for by the relay, and where it is not found no hook is run, which `doctor` says.
#[test]
fn a_hook_that_is_not_on_this_path_fails_no_command() {
    let house = installed(House::new());
    let config = house.config_dir().join("config.toml");
    fs::write(config, "[hook]\ncommand = [\"tell-me\"]\n").expect("writable");
    let _ = house.run(&["up"]).ok();
    assert!(house.relay_log().contains("no hook is run: "), "{}", house.relay_log());
    let found = check(&examine(&house), "configuration");
    assert_eq!(found["status"], "warning", "{found:#}");
    assert!(
        found["summary"].as_str().is_some_and(|text| text.contains("no program `tell-me` on PATH")),
        "{found:#}"
    );
    let _ = house.run(&["down"]).ok();
}

/// users 13: a relay that runs with settings that the file no longer says is told, with what makes it read them.
#[test]
fn a_relay_with_settings_of_another_time_is_a_warning() {
    let house = installed(House::new());
    let file = house.config_dir().join("config.toml");
    fs::write(&file, "patience = \"1m\"\n").expect("writable");
    let _ = house.run(&["up"]).ok();
    let _ = is_ok(&examine(&house), "configuration");
    fs::write(&file, "patience = \"2m\"\n").expect("writable");
    let found = sick(&examine(&house), "configuration", "warning", "agentmux host relay --replace");
    assert!(found["summary"].as_str().is_some_and(|text| text.contains("no longer says")), "{found:#}");
    let _ = house.run(&["down"]).ok();
    let _ = house.run(&["up"]).ok();
    let _ = is_ok(&examine(&house), "configuration");
}

/// A store that something else has written over is told, without being opened.
#[test]
fn a_store_that_is_none_is_named() {
    let house = used();
    let _ = is_ok(&examine(&house), "store");
    let store = house.bundle_dir().join("mail.db");
    fs::write(&store, "not a database, but long enough for a head").expect("ours");
    let found = sick(
        &examine(&house),
        "store",
        "fail",
        &format!("mv -n {0} {0}.aside; mv -n {0}-wal {0}-wal.aside", store.display()),
    );
    assert!(found["summary"].as_str().is_some_and(|text| text.contains("no SQLite file")), "{found:#}");
    let _ = refused(house.run(&["up"]), 74);
}
