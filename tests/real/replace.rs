//! Upgrade: a relay hands over to a newer one; no child ends, no accepted mail is lost, nobody who waits is let down.

use super::support::model::Rule;
use super::{DEADLINE, child_pid, house_with_reviewer};

#[test]
fn ten_replacements_under_load_lose_nothing() {
    let (model, house) = house_with_reviewer();
    model.script([Rule::user("begin")
        .exec("while [ ! -e go ]; do sleep 0.05; done; echo through-it-all")
        .reply("done")]);
    let child = child_pid(&house);
    let _ = house.run(&["send", "reviewer", "begin", "--wait"]).ok();
    let waiting = house.spawn(&["send", "reviewer", "said before the first", "--wait", "--timeout", "60s"]);
    let mut relays: Vec<super::support::call::Spawned> = Vec::new();
    for round in 0..10 {
        let before = house.relay_pid();
        relays.push(house.spawn(&["host", "relay", "--replace"]));
        let sent = house.run(&["send", "reviewer", &format!("load {round}"), "--no-start"]);
        assert!([0, 5, 75].contains(&sent.code), "{}", sent.evidence());
        let sent = house.run(&["send", "reviewer", &format!("sure {round}")]).ok();
        assert!(!sent.stdout.is_empty());
        house.poll("the next relay", DEADLINE, || match house.relay_pid() {
            pid if pid.is_some() && pid != before => Ok(()),
            pid => Err(format!("{pid:?}")),
        });
    }
    assert_eq!(child_pid(&house), child, "the child was handed on");
    std::fs::write(house.project().join("go"), "").expect("the project is writable");
    let _ = waiting.finish(DEADLINE).ok();
    for round in 0..10 {
        let needle = format!("sure {round}");
        model.wait_until_read(&needle, DEADLINE);
        assert_eq!(model.times_read(&needle), 1, "{}", model.transcript());
        assert!(model.times_read(&format!("load {round}")) <= 1);
    }
    let _ = house.run(&["down"]).ok();
    for relay in relays {
        let _ = relay.finish(DEADLINE).ok();
    }
}
