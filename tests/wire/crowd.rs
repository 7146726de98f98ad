//! Many clients at once: idle ones, hasty ones, and more than there are descriptors for.
//!
//! **Invariant:** a crowd costs memory in proportion to its number and no time; whoever cannot be served hears why.

use crate::socket::{Socket, hello};
use crate::support::House;
use crate::support::siege::memory;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// SQ-14: a thousand clients that said hello and nothing since are no work and little memory.
#[test]
fn a_thousand_idle_clients_cost_no_wake_up_and_little_memory() {
    allow_descriptors(4096);
    let house = House::new();
    let mut healthy = Socket::hello(&house);
    let pid = pid(&house);
    let before = memory(pid, "VmRSS:");
    let idle: Vec<Socket> = (0..1_000).map(|_| Socket::hello(&house)).collect();
    let status = healthy.ask("relay/status", json!({}));
    assert_eq!(status["result"]["clients"], 1_001, "{status}");
    let grown = memory(pid, "VmRSS:").saturating_sub(before);
    assert!(grown < 10 * 1024, "a thousand clients cost {grown} KiB");
    let switches = || {
        let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        text.lines().find(|line| line.starts_with("voluntary_ctxt_switches:")).map(str::to_owned)
    };
    // Its answer may be here before it sleeps again.
    let mut asleep = None;
    house.poll("the relay to sleep", Duration::from_secs(10), || {
        let now = switches();
        (now == std::mem::replace(&mut asleep, now.clone())).then_some(()).ok_or_else(|| format!("{now:?}"))
    });
    // A while is watched, longer than a hello's time, because nothing announces that nothing happens.
    std::thread::sleep(Duration::from_millis(2_500));
    assert_eq!(switches(), asleep, "woken by clients that say nothing");
    drop(idle);
    alone(&house, &mut healthy);
}

/// A client per millisecond for a second: each is served, and another one that stays is served meanwhile.
#[test]
fn a_client_per_millisecond_is_served_and_disturbs_nobody() {
    let house = House::new();
    let mut healthy = Socket::hello(&house);
    let pid = pid(&house);
    let before = memory(pid, "VmRSS:");
    let began = Instant::now();
    for number in 0..1_000 {
        let due = began + Duration::from_millis(number);
        // A pace and no wait, because the pace is what is tested.
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let mut guest = Socket::hello(&house);
        assert!(guest.ask("session/list", json!({}))["result"]["sessions"].is_array());
        if number % 10 == 0 {
            assert!(healthy.ask("relay/status", json!({}))["result"].is_object());
        }
    }
    alone(&house, &mut healthy);
    let grown = memory(pid, "VmRSS:").saturating_sub(before);
    assert!(grown < 10 * 1024, "a thousand guests left {grown} KiB behind");
}

/// SQ-14: out of descriptors, the next client hears so at once, those who are in are served, and there is room again when they go.
#[test]
fn a_relay_out_of_descriptors_turns_the_next_client_away_and_goes_on() {
    let house = House::new();
    let mut healthy = Socket::hello(&house);
    let pid = pid(&house);
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("ours").count();
    let mut prlimit = house.command("prlimit");
    prlimit.arg("--pid").arg(pid.to_string()).arg(format!("--nofile={0}:{0}", open + 8));
    let _ = house.call_of(prlimit).run().ok();
    for _ in 0..3 {
        let mut served = Vec::new();
        let refused = loop {
            let mut socket = Socket::open(&house);
            // A relay that has turned this client away may have closed already.
            let _ = socket.write(format!("{}\n", crate::socket::request(1, "hello", &hello())).as_bytes());
            let answer = socket.answer();
            if answer["error"].is_object() {
                socket.ended();
                break answer["error"].clone();
            }
            served.push(socket);
            assert!(served.len() < 20, "the limit does not hold");
        };
        assert_eq!(
            (&refused["code"], &refused["data"]["code"]),
            (&json!(-32_075), &json!("busy")),
            "{refused}"
        );
        assert!(
            refused["message"].as_str().is_some_and(|text| text.contains("out of descriptors")),
            "{refused}"
        );
        assert!(served.len() >= 6, "{} were served", served.len());
        for socket in &mut served {
            assert!(socket.ask("relay/status", Value::Null)["result"].is_object());
        }
        drop(served);
        alone(&house, &mut healthy);
    }
}

fn pid(house: &House) -> u64 {
    house.relay_pid().and_then(|pid| u64::try_from(pid).ok()).expect("a relay runs")
}

/// Waits until no other client is left.
#[track_caller]
fn alone(house: &House, healthy: &mut Socket) {
    house.poll("the others to be forgotten", Duration::from_secs(20), || {
        match healthy.ask("relay/status", json!({}))["result"]["clients"].as_i64() {
            Some(1) => Ok(()),
            clients => Err(format!("{clients:?} clients")),
        }
    });
}

fn allow_descriptors(count: u64) {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    if soft < count {
        setrlimit(Resource::RLIMIT_NOFILE, count.min(hard), hard).expect("the soft limit may rise");
    }
}
