//! The storm: many senders, several receivers, relay and child killed with -9 at random moments, and then the count.
//!
//! Every accepted mail is consumed and stands once in the model's record; what nobody can decide (a child that dies between
//! its model's context and its history) shows as `unknown`, or as one second copy with the same id. None is missing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::support::house::House;
use super::support::model::{Rule, ScriptedModel, envelopes};
use super::support::rounds::{Draws, storm_seconds};
use super::{DEADLINE, text_of, traced};

const SENDERS: u64 = 32;
const RECEIVERS: [&str; 4] = ["lead", "reviewer", "tester", "scout"];
/// What makes the model run a command, long enough that urgent mail meets it.
const TOOL: &str = "use a tool";

/// A mail that its sender was told is queued.
struct Accepted {
    id: String,
    to: &'static str,
    body: String,
    /// Whether it may join a running turn.
    joins: bool,
}

/// What became of all of them.
#[derive(Debug, Default)]
struct Counts {
    consumed: usize,
    once: usize,
    twice: usize,
    unknown: usize,
    missing: usize,
    steered: usize,
}

/// SQ-4, SQ-7, SQ-9, SQ-13, SQ-15, NB-6, NB-8: 32 senders, 4 receivers, and whoever does the work is killed all the time.
#[test]
fn every_accepted_mail_of_a_storm_is_told() {
    let model = ScriptedModel::start();
    model.script([Rule::user(TOOL).exec("sleep 0.4; echo worked").reply("done with it")]);
    let house = House::real(&model);
    for name in RECEIVERS {
        let _ = house.run(&["spawn", name]).ok();
    }
    let time = Duration::from_secs(storm_seconds());
    let is_over = AtomicBool::new(false);
    let (sent, kills) = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|number| {
                scope.spawn({
                    let house = &house;
                    move || sends(house, number, time)
                })
            })
            .collect();
        let killer = scope.spawn(|| kills_until(&house, &is_over));
        let sent: Vec<_> = senders.into_iter().map(|sender| sender.join().expect("a sender ends")).collect();
        is_over.store(true, Ordering::Relaxed);
        (sent, killer.join().expect("the killer ends"))
    });
    let refused: usize = sent.iter().map(|(_, refused)| refused).sum();
    let accepted: Vec<Accepted> = sent.into_iter().flat_map(|(accepted, _)| accepted).collect();
    settles(&house);
    let counts = counted(&house, &model, &accepted);
    let Counts { consumed, once, twice, unknown, missing, steered } = counts;
    let (relays, children) = kills;
    println!(
        "storm: {} s, {SENDERS} senders, {} receivers, {relays} relays and {children} children killed; {} mails accepted, \
         {refused} not, {consumed} consumed, {once} told once, {twice} told twice with the same id, {unknown} unknown, {missing} \
         missing; {steered} joined a running turn",
        time.as_secs(),
        RECEIVERS.len(),
        accepted.len()
    );
    assert_eq!(missing, 0, "{}", model.transcript());
    assert_eq!(consumed + unknown, accepted.len());
    assert!(relays > 0 && children > 0 && accepted.len() > 100, "it was a storm");
}

/// One sender: some mails of every kind, spread over the storm.
fn sends(house: &House, number: u64, time: Duration) -> (Vec<Accepted>, usize) {
    let mut draws = Draws::of(number + 1);
    let (mut accepted, mut refused) = (Vec::new(), 0);
    let start = Instant::now();
    // About six mails a second from all of them, but no fewer than six from each.
    let mails = (time.as_secs() / 5).max(6);
    for mail in 0..mails {
        let pause = time.as_millis() as u64 / mails;
        let due = start + Duration::from_millis(pause * mail + draws.below(pause));
        // A pause, because mail comes at any moment, and not when the last one is done.
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let to = RECEIVERS[draws.below(4) as usize];
        let tool = if draws.below(5) == 0 { TOOL } else { "nothing to do" };
        let body = format!("sender {number}, mail {mail}: {tool}.");
        let (joins, flags): (bool, &[&str]) = match draws.below(20) {
            0..=3 => (true, &["--priority", "urgent"]),
            4..=6 => (true, &["--when", "boundary"]),
            7 => (false, &["--priority", "fyi"]),
            8 => (false, &["--when", "now"]),
            _ => (false, &[]),
        };
        let words = [&["send", to, &body, "--json"], flags].concat();
        let mut call = house.call(&words).deadline(DEADLINE);
        if number % 2 == 1 && !flags.contains(&"now") {
            call = call.env("CODEX_THREAD_ID", "0199a213-81c0-7800-8aa1-bbab2a035a53"); // an agent's shell
        }
        let ran = call.run();
        if ran.code == 0 {
            accepted.push(Accepted { id: text_of(&ran.json()["id"]), to, body, joins });
        } else {
            refused += 1;
        }
    }
    (accepted, refused)
}

/// Kills the relay, the child or both at random moments; returns how often each.
fn kills_until(house: &House, is_over: &AtomicBool) -> (usize, usize) {
    let mut draws = Draws::of(99);
    let mut killed = (0, 0);
    while !is_over.load(Ordering::Relaxed) {
        // A pause, because a kill has to come at any moment.
        std::thread::sleep(Duration::from_millis(200 + draws.below(1_400)));
        let what = draws.below(3);
        if what != 1 {
            killed.0 += usize::from(house.relay_pid().is_some_and(kill));
        }
        if what != 0 {
            let some = |_: &i32| draws.below(3) > 0;
            killed.1 +=
                usize::from(children(house).into_iter().filter(some).filter(|pid| kill(*pid)).count() > 0);
        }
        // A person who sees a session given up after five deaths in a row says so; they are meant here.
        let _ = house.call(&["up"]).deadline(DEADLINE).run();
    }
    killed
}

/// The processes of the Codex child: it and its keeper.
fn children(house: &House) -> Vec<i32> {
    let is_child = |pid: &i32| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&words).contains("app-server")
    };
    house.processes().into_iter().filter(is_child).collect()
}

/// Kills a process of the house, unless it has ended by itself meanwhile.
fn kill(pid: i32) -> bool {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).is_ok()
}

/// The storm is over: everything that was on its way arrives, and the last mail takes the patient one along.
fn settles(house: &House) {
    let _ = house.run(&["up"]).ok();
    for name in RECEIVERS {
        let _ = house.run(&["send", name, "after the storm", "--wait", "--timeout", "120s"]).ok();
    }
    house.poll("all mail to arrive", DEADLINE * 2, || {
        let mail = house.run(&["status", "--json"]).ok().json()["mail"].clone();
        let open = ["queued", "claimed"].iter().any(|state| mail[state] != 0);
        if open { Err(mail.to_string()) } else { Ok(()) }
    });
}

/// Holds what the relay says of each mail against what the model has read.
fn counted(house: &House, model: &ScriptedModel, accepted: &[Accepted]) -> Counts {
    // The evidence comes before the model is asked.
    house.poll("the last mails to be read", DEADLINE, || {
        let has_last = |texts: Vec<String>| texts.iter().any(|text| text.contains("after the storm"));
        let read = model.histories().iter().filter(|request| has_last(request.user_texts())).count();
        if read == RECEIVERS.len() { Ok(()) } else { Err(format!("{read} of {}", RECEIVERS.len())) }
    });
    let mut told: BTreeMap<(String, String), usize> = BTreeMap::new();
    for envelope in model.user_texts().iter().flat_map(|text| envelopes(text)) {
        *told.entry((envelope.id, envelope.body)).or_default() += 1;
    }
    let mut states: BTreeMap<String, String> = BTreeMap::new();
    for name in RECEIVERS {
        let inbox = house.run(&["inbox", name, "-n", "1000", "--json"]).ok().json();
        let mails = inbox["mails"].as_array().cloned().unwrap_or_default();
        states.extend(mails.iter().map(|mail| (text_of(&mail["id"]), text_of(&mail["state"]))));
    }
    let mut counts = Counts::default();
    for mail in accepted {
        let times = told.get(&(mail.id.clone(), mail.body.clone())).copied().unwrap_or_default();
        let state = states.get(&mail.id).map_or("not listed", String::as_str);
        match (state, times) {
            ("unknown", 0..=2) => counts.unknown += 1,
            ("consumed", 1) => counts.once += 1,
            ("consumed", 2) => counts.twice += 1,
            ("consumed", 0) => {
                println!("missing: {} to {}: {}", mail.id, mail.to, traced(house, &mail.id));
                counts.missing += 1;
            }
            _ => panic!(
                "{} to {} is {state}, told {times} times: {}",
                mail.id,
                mail.to,
                traced(house, &mail.id)
            ),
        }
        counts.consumed += usize::from(state == "consumed");
        if mail.joins {
            counts.steered +=
                usize::from(traced(house, &mail.id).to_string().contains("into the running turn"));
        }
    }
    counts
}
