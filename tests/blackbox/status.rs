//! `agentmux status`: which bundle and why, the relay, its children, sessions and mail.

use crate::*;

/// LK-10: a query changes nothing.
#[test]
fn without_a_relay_running_is_false_and_none_is_started() {
    let house = House::new();
    let ran = touches_nothing(&house, || house.run(&["status", "--json"]));
    let status = versioned(&ran, &["bundle", "relay", "children", "approvals", "clients"]);
    assert_eq!(status["relay"]["running"], false);
    assert!(status["sessions"].is_null() && status.get("sessions").is_some(), "{status}");
    assert!(status["relay"]["pid"].is_null());
    assert_eq!(status["relay"]["stateDir"].as_str(), house.bundle_dir().to_str());
    let ran = touches_nothing(&house, || house.run(&["status"])).ok();
    assert!(ran.stdout.contains("relay   not running\n"), "{}", ran.evidence());
    assert!(ran.stderr.starts_with("hint: "), "{}", ran.evidence());
}

/// PX-4, PX-5, PX-6: whether a relay runs is what it answers, not what a file says of a pid.
#[test]
fn a_file_that_names_a_living_process_is_not_a_running_relay() {
    let house = House::new();
    let _ = house.run(&["up"]).ok();
    let _ = house.run(&["down"]).ok();
    for pid in ["1", "0", "4294967295", "garbage", ""] {
        let lock = house.bundle_dir().join("relay.lock");
        std::fs::write(&lock, format!("pid={pid}\nsince=2026-01-01T00:00:00.000Z\n")).expect("ours");
        let status = house.run(&["status", "--json"]).json();
        assert_eq!(status["relay"]["running"], false, "pid={pid}");
    }
    let _ = mail_to_operator(&house, "and none of them is in the way of a start");
}

#[test]
fn a_running_relay_tells_of_itself_its_child_and_its_mail() {
    let team = Team::of(&["reviewer"]);
    let house = &team.house;
    let _ = house.run(&["send", "reviewer", "hello", "--wait"]).ok();
    wait_until_idle(house, "reviewer");
    let _ = mail_to_operator(house, "queued");
    let ran = house.run(&["status", "--json"]);
    let status =
        versioned(&ran, &["bundle", "relay", "children", "sessions", "mail", "approvals", "clients"]);
    assert_eq!(status["bundle"]["name"], "test");
    assert_eq!(status["bundle"]["rule"], "AGENTMUX_BUNDLE");
    assert_eq!(status["bundle"]["root"].as_str(), house.project().to_str());
    let relay = &status["relay"];
    assert_eq!(relay["running"], true);
    assert_eq!(relay["pid"].as_i64(), house.relay_pid().map(i64::from));
    assert_eq!(relay["version"], env!("CARGO_PKG_VERSION"));
    assert!(relay["protocol"].is_u64() && is_time(&relay["startedAt"]), "{relay}");
    let child = &status["children"][0];
    assert_eq!((&child["coder"], status["children"].as_array().map(Vec::len)), (&"codex".into(), Some(1)));
    assert!(house.processes().iter().any(|pid| child["pid"].as_i64() == Some(i64::from(*pid))), "{child}");
    assert!(child["rssBytes"].as_u64().is_some_and(|bytes| bytes > 1_000_000), "{child}");
    assert!(child["descendants"].as_u64().is_some_and(|count| count >= 1), "its tools, at least: {child}");
    assert!(is_time(&child["startedAt"]) && child["version"].is_string(), "{child}");
    assert_eq!(status["sessions"], house.run(&["list", "--json"]).json()["sessions"]);
    let mail = &status["mail"];
    assert_eq!(keys(mail), ["queued", "claimed", "unknown", "dead"]);
    assert_eq!(mail["queued"], 1, "{mail}");
    assert_eq!((&status["approvals"], &status["clients"]), (&0.into(), &1.into()));

    let ran = house.run(&["status"]).ok();
    let pid = house.relay_pid().unwrap_or_default();
    for part in
        ["bundle  test at ", &format!("relay   pid {pid}, version "), "child   codex ", "mail    1 queued"]
    {
        assert!(ran.stdout.contains(part), "{part}\n{}", ran.evidence());
    }
}

#[test]
fn it_says_which_rule_chose_the_bundle() {
    let house = House::new();
    let rule = |arguments: &[&str]| {
        let ran = house.call(arguments).without_env("AGENTMUX_BUNDLE").run();
        let bundle = ran.json()["bundle"].clone();
        let text = |key: &str| bundle[key].as_str().unwrap_or_default().to_owned();
        (text("name"), text("rule"))
    };
    let (name, why) = rule(&["status", "--json"]);
    assert!(name.starts_with("project~") && name.len() == "project~".len() + 6, "{name}");
    assert_eq!(why, "directory");
    std::fs::create_dir_all(house.project().join(".git")).expect("the house is writable");
    std::fs::write(house.project().join(".git/HEAD"), "ref: refs/heads/main\n").expect("likewise");
    assert_eq!(rule(&["status", "--json"]), (name, "git repository".to_owned()));
    std::fs::write(house.project().join("agentmux.toml"), "bundle = \"web\"\n").expect("likewise");
    assert_eq!(rule(&["status", "--json"]), ("web".to_owned(), "agentmux.toml".to_owned()));
    assert_eq!(rule(&["status", "--json", "-b", "x"]), ("x".to_owned(), "--bundle".to_owned()));
    let _ = refused(house.run(&["status", "-b", "../x"]), 2);
}

/// BS-4, BS-12: a relay that accepts connections and does not answer is busy; it is not replaced, and nobody waits for ever.
#[test]
fn a_relay_that_does_not_answer_is_busy_not_gone() {
    let house = House::new();
    let _ = house.run(&["up"]).ok();
    let pid = house.relay_pid().expect("a relay runs");
    let relay = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::kill(relay, nix::sys::signal::Signal::SIGSTOP).expect("it is ours");
    let text = std::thread::scope(|scope| {
        let send = scope.spawn(|| refused(agent(&house, &["send", "operator", "x"]).run(), 75));
        let error = refused_json(house.run(&["status", "--json"]), 75, "busy");
        assert!(error["message"].as_str().is_some_and(|m| m.contains(&format!("pid {pid}"))), "{error}");
        send.join().expect("the sender")
    });
    assert!(text.contains(&format!("pid {pid}")) && text.contains("hint: "), "{text}");
    nix::sys::signal::kill(relay, nix::sys::signal::Signal::SIGCONT).expect("it is ours");
    assert_eq!(house.run(&["status", "--json"]).json()["relay"]["pid"].as_i64(), Some(i64::from(pid)));
    assert_eq!(counts(&house)["queued"], 0, "what was refused was not stored");
}

#[test]
fn bundles_have_relays_sessions_and_mail_of_their_own() {
    let house = House::new();
    let _ = mail_to_operator(&house, "here");
    let there = |arguments: &[&str]| agent(&house, &[arguments, &["-b", "there"]].concat()).run();
    assert_eq!(there(&["status", "--json"]).json()["relay"]["running"], false);
    let _ = there(&["send", "operator", "one"]).ok();
    let _ = there(&["send", "operator", "two"]).ok();
    let (ours, theirs) = (house.run(&["status", "--json"]).json(), there(&["status", "--json"]).json());
    assert_eq!((&ours["mail"]["queued"], &theirs["mail"]["queued"]), (&1.into(), &2.into()));
    assert_ne!(ours["relay"]["pid"], theirs["relay"]["pid"]);
    let _ = house.run(&["down", "-b", "there"]).ok();
    assert_eq!(house.run(&["status", "--json"]).json()["relay"]["pid"], ours["relay"]["pid"]);
}

#[test]
fn two_projects_whose_files_give_one_name_do_not_meet() {
    let house = House::new();
    let other = house.dir().join("other");
    std::fs::create_dir(&other).expect("the house is writable");
    for place in [&house.project(), &other] {
        std::fs::write(place.join("agentmux.toml"), "bundle = \"web\"\n").expect("likewise");
    }
    let at = |place: &Path, arguments: &[&str]| {
        agent(&house, arguments).without_env("AGENTMUX_BUNDLE").dir(place).run()
    };
    let _ = at(&house.project(), &["send", "operator", "ours"]).ok();
    // Whether its relay runs or not.
    for _ in 0..2 {
        let text = refused(at(&other, &["send", "operator", "theirs"]), 7);
        assert!(
            text.contains("bundle web belongs to ") && text.contains("hint: give one of the two"),
            "{text}"
        );
        let _ = refused_json(at(&other, &["list", "--json"]), 7, "conflict");
        let _ = house.run(&["down", "-b", "web"]).ok();
    }
    assert_eq!(at(&other, &["send", "operator", "on purpose", "-b", "web"]).ok().stdout.len(), 37);
}

#[test]
fn an_agent_may_look() {
    let house = House::new();
    let _ = house.run(&["up"]).ok();
    assert_eq!(agent(&house, &["status", "--json"]).run().json()["relay"]["running"], true);
}
