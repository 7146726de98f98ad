//! The short form of the siege that `scripts/soak` plays with ten thousand inputs.

use crate::socket::Socket;
use crate::support::House;
use crate::support::siege::Siege;

/// SQ-14, BS-4: hostile inputs of every kind, open ones among them, and one healthy client that notices nothing.
#[test]
fn a_siege_crashes_nothing_grows_nothing_and_is_refused_in_types() {
    let house = House::new();
    drop(Socket::hello(&house)); // starts the relay
    let pid = house.relay_pid();
    let siege = Siege::play(&house.bundle_dir().join("relay.sock"), INPUTS, SEED, None);
    println!("{}", siege.text());
    assert!(siege.growth_kib() < 20 * 1024, "{}", siege.text());
    for word in ["usage", "not_found", "refused", "version"] {
        assert!(siege.refusals.contains_key(word), "nothing was refused as {word}: {}", siege.text());
    }
    assert_eq!(house.relay_pid(), pid);
    let status = Socket::hello(&house).ask("relay/status", serde_json::json!({}));
    assert_eq!(status["result"]["mail"]["queued"], 0, "{status}");
    assert!(!house.relay_log().contains("bug"), "{}", house.relay_log());
}

const INPUTS: usize = 500;
const SEED: u64 = 1;
