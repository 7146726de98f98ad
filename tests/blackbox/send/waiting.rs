//! `agentmux send --wait`: what a waiting sender is told through trouble: a relay that dies or is stopped, ^C, a killed command.

use super::mail_id;
use crate::*;

/// Starts a sender that waits for mail to a stopped session, and returns it once it waits.
#[track_caller]
fn waiting_sender(house: &House, more: &[&str]) -> (support::Spawned, String) {
    let id = sent_id(&house.run(&["send", "reviewer", "patience", "--key", "k"]).ok());
    let arguments = ["send", "reviewer", "patience", "--key", "k", "--wait", "--timeout", "10m"];
    let waiting = house.spawn(&[&arguments[..], more].concat());
    house.poll("the sender to wait", SOON, || {
        match house.run(&["status", "--json"]).json()["clients"].as_i64() {
            Some(2) => waits_with_a_handler(waiting.id()),
            clients => Err(format!("{clients:?} clients")),
        }
    });
    (waiting, id)
}

/// NB-6: a sender that waits is not stranded by a relay that dies; it goes to the next one and waits for the same mail.
#[test]
fn a_wait_survives_kill_nine_of_the_relay() {
    let team = Team::asleep(&["reviewer"]);
    let house = &team.house;
    let (waiting, id) = waiting_sender(house, &[]);
    house.kill_nine(house.relay_pid().expect("a relay runs"));
    let _ = house.run(&["up", "reviewer"]).ok();
    let ran = waiting.finish(SOON).ok();
    assert_eq!(sent_id(&ran), id);
    assert!(ran.stderr.contains("delivered: reviewer in turn "), "{}", ran.evidence());
    read_once(&team.model, "patience");
}

#[test]
fn a_wait_that_may_not_start_a_relay_exits_5_when_it_dies() {
    let team = Team::asleep(&["reviewer"]);
    let house = &team.house;
    let (waiting, id) = waiting_sender(house, &["--no-start"]);
    house.kill_nine(house.relay_pid().expect("a relay runs"));
    let ran = waiting.finish(SOON).fails(5);
    assert_eq!(sent_id(&ran), id);
    assert_eq!(house.processes(), Vec::<i32>::new(), "{}", ran.evidence());
}

/// A person's `down` once made a waiting sender exit with 75, as if trying again would help. It exits with 4, says that the
/// mail stays, and does not start again what was stopped.
#[test]
fn a_wait_ends_with_4_when_a_person_stops_the_relay_and_does_not_start_it_again() {
    let team = Team::asleep(&["reviewer"]);
    let house = &team.house;
    let (waiting, id) = waiting_sender(house, &[]);
    let _ = house.run(&["down"]).ok();
    let ran = waiting.finish(SOON).fails(4);
    assert_eq!(sent_id(&ran), id);
    let text = worded(&ran);
    assert!(text.contains("the relay was stopped") && text.contains(&id), "{text}");
    assert!(text.contains("it was queued to reviewer"), "{text}");
    assert_eq!(house.processes(), Vec::<i32>::new(), "{}", ran.evidence());
    assert_eq!(state(house, &id), "queued");
}

/// users 1: ^C tells where the mail stands then, not where it stood when it was accepted.
#[test]
fn an_interrupted_wait_for_an_answer_says_that_the_mail_was_delivered() {
    let team = Team::of(&["reviewer"]);
    let house = &team.house;
    for (subject, json) in [("plain", &[][..]), ("told to programs", &["--json"])] {
        let arguments =
            ["send", "reviewer", "no answer", "--wait=reply", "--timeout", "10m", "--subject", subject];
        let waiting = house.spawn(&[&arguments[..], json].concat());
        house.poll("the mail to be delivered", SOON, || {
            let newest = house.run(&["inbox", "reviewer", "--json"]).ok().json()["mails"][0].clone();
            let is_in = newest["subject"] == subject && newest["state"] == "consumed";
            if is_in { Ok(()) } else { Err(newest.to_string()) }
        });
        house.poll("it to wait", SOON, || waits_with_a_handler(waiting.id()));
        waiting.signal(nix::sys::signal::Signal::SIGINT);
        let ran = waiting.finish(SOON).fails(130);
        assert!(ran.stderr.contains("it was delivered to reviewer"), "{}", ran.evidence());
        if !json.is_empty() {
            let told: Value = serde_json::from_str(&ran.stdout).expect("one object");
            assert_eq!(told["deliveries"][0]["state"], "consumed", "{}", ran.evidence());
        }
    }
}

/// users 1: whoever ends a waiting command in whatever way has the mail's id, because it is said as soon as it is known.
#[test]
fn the_id_of_a_mail_is_said_before_the_wait_for_it() {
    let team = Team::asleep(&["reviewer"]);
    let house = &team.house;
    let mut waiting = house.spawn(&["send", "reviewer", "patience", "--wait", "--timeout", "10m"]);
    waiting.wait_for_stdout("\n", SOON);
    let id = waiting.stdout().trim_end().to_owned();
    assert!(is_id(&id), "{id}");
    waiting.kill();
    assert_eq!(state(house, &id), "queued");
}

#[test]
fn an_interrupted_wait_says_that_the_mail_goes_on() {
    let house = House::new();
    let mail = mail_to_operator(&house, "so that a relay runs");
    let arguments = ["send", "operator", "x", "--key", "k", "--wait", "--timeout", "10m"];
    let waiting = agent(&house, &arguments).spawn();
    let found = house.poll("the mail", SOON, || {
        let inbox = house.run(&["inbox", "--json"]).json();
        let newest = mail_id(&inbox["mails"][0]);
        if newest == mail { Err("not sent yet".to_owned()) } else { Ok(newest) }
    });
    house.poll("it to wait", SOON, || waits_with_a_handler(waiting.id()));
    waiting.signal(nix::sys::signal::Signal::SIGINT);
    let ran = waiting.finish(Duration::from_secs(20)).fails(130);
    assert_eq!(sent_id(&ran), found);
    assert!(worded(&ran).contains(&format!("mail {found} goes on its way")), "{}", ran.evidence());
}

/// A command in a script's background has nothing to do with the ^C that ends what is in its foreground.
#[test]
fn a_wait_that_ignores_interrupts_goes_on_after_one() {
    let team = Team::asleep(&["reviewer"]);
    let house = &team.house;
    let mut shell = house.command("sh");
    let script = "trap '' INT; exec \"$0\" send reviewer patience --wait --timeout 10m";
    shell.args(["-c", script, env!("CARGO_BIN_EXE_agentmux")]);
    let waiting = house.call_of(shell).spawn();
    waiting.wait_for_stdout("\n", SOON);
    // Sent from now on at any moment it is ignored; what tells that the command lives on is that it ends well.
    for _ in 0..3 {
        waiting.signal(nix::sys::signal::Signal::SIGINT);
        let _ = house.run(&["status"]).ok();
    }
    let _ = house.run(&["up", "reviewer"]).ok();
    let ran = waiting.finish(SOON).ok();
    assert!(ran.stderr.contains("delivered: reviewer"), "{}", ran.evidence());
}

/// A process that sleeps and catches ^C, as the kernel tells it.
fn waits_with_a_handler(pid: i32) -> Result<(), String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim();
    let caught = u64::from_str_radix(value("SigCgt:"), 16).unwrap_or(0);
    let catches = caught & (1 << (libc::SIGINT - 1)) != 0;
    if catches && value("State:").starts_with('S') { Ok(()) } else { Err(value("State:").to_owned()) }
}
