//! `agentmux wait`: the next mail to the caller, now or when it comes.

use crate::*;

/// SQ-6: waiting mail comes oldest first, each once, and what was handed over counts as read.
#[test]
fn the_next_mail_is_handed_over_oldest_first_and_once() {
    let house = House::new();
    let ids: Vec<String> = ["one", "two"].iter().map(|text| mail_to_operator(&house, text)).collect();
    for (id, text) in ids.iter().zip(["one", "two"]) {
        let mail = versioned(&house.run(&["wait", "--json"]), &["mail"])["mail"].clone();
        assert_eq!((&mail["id"], &mail["body"]), (&id.as_str().into(), &text.into()));
        assert_eq!(state(&house, id), "consumed");
    }
    let ran = house.run(&["wait", "--timeout", "50ms"]).fails(4);
    assert_eq!(ran.stdout, "");
    assert!(ran.stderr.starts_with("error: wait over: no mail has come\nhint: "), "{}", ran.evidence());
}

#[test]
fn a_waiter_gets_the_mail_when_it_comes_and_only_one_of_two_does() {
    let house = House::new();
    let _ = house.run(&["up"]).ok();
    let waiters = [
        house.spawn(&["wait", "--json", "--timeout", "2m"]),
        house.spawn(&["wait", "--json", "--timeout", "2m"]),
    ];
    let clients = |wanted: i64| {
        house.poll("the waiters", SOON, || {
            match house.run(&["status", "--json"]).json()["clients"].as_i64() {
                Some(clients) if clients == wanted + 1 => Ok(()),
                clients => Err(format!("{clients:?} clients")),
            }
        });
    };
    clients(2);
    let first = mail_to_operator(&house, "for one of you");
    clients(1);
    let second = mail_to_operator(&house, "for the other");
    let [a, b] = waiters.map(|waiter| waiter.finish(SOON).ok().json()["mail"]["id"].clone());
    let mut got = [a, b].map(|id| id.as_str().unwrap_or_default().to_owned());
    got.sort();
    let mut sent = [first, second];
    sent.sort();
    assert_eq!(got, sent);
}

#[test]
fn a_waiter_can_wait_for_one_sender_and_goes_on_through_another_relay() {
    let team = Team::asleep(&["reviewer"]);
    let house = &team.house;
    let waiting = house.spawn(&["wait", "--from", "system", "--json", "--timeout", "2m"]);
    house.poll("it to wait", SOON, || match house.run(&["status", "--json"]).json()["clients"].as_i64() {
        Some(2) => Ok(()),
        clients => Err(format!("{clients:?} clients")),
    });
    let other = mail_to_operator(house, "from somebody else");
    let pid = house.relay_pid().expect("a relay runs");
    house.kill_nine(pid);
    let _ = dead::expired(house, "too late");
    assert_eq!(waiting.finish(SOON).ok().json()["mail"]["fromKind"], "system");
    assert_eq!(state(house, &other), "queued");
    let _ = refused(agent(house, &["wait"]).run(), 1);
    let _ = refused(house.run(&["wait", "0123456789"]), 3);
}
