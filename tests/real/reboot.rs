//! Power loss: ours is synced, Codex's history is not. What was consumed just before a reboot is checked once.

use std::path::Path;
use std::process::Command;

use super::support::house::House;
use super::{DEADLINE, deliver, house_with_reviewer, states, traced};

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status().expect("cp runs");
    assert!(status.success());
}

/// As the next relay would find the store after a reboot of the machine.
fn pretend_another_boot(house: &House) {
    let store = rusqlite::Connection::open(house.bundle_dir().join("mail.db")).expect("the store");
    let changed = store.execute("UPDATE facts SET value = 'an earlier boot' WHERE name = 'boot'", []);
    assert_eq!(changed, Ok(1), "the relay noted its boot");
}

/// SQ-2: Codex's disk went back to a moment before the last mail. That one goes in again and says why; the mail before it is
/// found in the history and stays consumed; nothing is checked twice.
#[test]
fn after_a_reboot_what_codex_lost_is_told_again() {
    let (model, house) = house_with_reviewer();
    let kept = deliver(&house, "what codex kept");
    model.wait_until_read("what codex kept", DEADLINE);
    let _ = house.run(&["down"]).ok();
    let saved = house.dir().join("saved");
    copy(&house.codex_home(), &saved);
    let _ = house.run(&["up"]).ok();
    let lost = deliver(&house, "what codex lost");
    let _ = house.run(&["down"]).ok();
    std::fs::remove_dir_all(house.codex_home()).expect("codex's home");
    copy(&saved, &house.codex_home());
    pretend_another_boot(&house);

    let _ = house.run(&["up"]).ok();
    house.poll("the lost mail to be consumed again", DEADLINE, || {
        let states = states(&traced(&house, &lost));
        // That its first turn was interrupted may be noted before, as a step of its own.
        if states.iter().skip_while(|state| *state != "unknown").any(|state| state == "consumed") {
            Ok(())
        } else {
            Err(format!("{states:?}"))
        }
    });
    let steps = traced(&house, &lost);
    let path = states(&steps).join(" ");
    assert!(path.contains("consumed unknown queued claimed"), "{path}");
    let notes = steps.to_string();
    assert!(notes.contains("the machine was restarted"), "{notes}");
    model.wait_until_read("what codex lost", DEADLINE);
    assert_eq!(
        model.times_read("what codex lost"),
        1,
        "once in the context that is left\n{}",
        model.transcript()
    );
    let kept_path = states(&traced(&house, &kept)).join(" ");
    assert!(kept_path.ends_with("consumed unknown consumed"), "{kept_path}");
    assert_eq!(model.times_read("what codex kept"), 1, "{}", model.transcript());

    let _ = house.run(&["down"]).ok();
    let _ = house.run(&["up"]).ok();
    deliver(&house, "the same boot");
    assert_eq!(states(&traced(&house, &kept)).join(" "), kept_path, "checked once");
}
