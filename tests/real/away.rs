//! The child is away for longer than Codex's screen goes on trying to reach it (120 s with 0.169.0): the pane comes back all the same.
//!
//! `AGENTMUX_AWAY_SECONDS` lets that really pass (`scripts/soak`). Without it the screen is believed to be impatient (`--patience`), and
//! the same happens at once.

use std::time::{Duration, Instant};

use super::support::house::{House, codex_program};
use super::support::model::{Rule, ScriptedModel};
use super::support::tmux::Pane;
use super::support::write_script;
use super::{DEADLINE, child_pid, deliver, wait_for_state};

/// A house whose Codex does not start while there is a file `gate` in it.
pub fn gated_house(model: &ScriptedModel) -> House {
    let mut house = House::real(model);
    let gated = house.dir().join("gated-codex");
    let text = format!(
        "#!/bin/sh\nif [ \"$1\" = app-server ]; then while [ -e '{gate}' ]; do sleep 0.02; done; fi\nexec '{codex}' \"$@\"\n",
        gate = house.dir().join("gate").display(),
        codex = codex_program().display()
    );
    write_script(&gated, &text);
    house.set_env("AGENTMUX_CODEX", gated.to_str().expect("UTF-8"));
    house
}

/// The screens of a house.
fn screens(house: &House) -> Vec<i32> {
    let is_screen = |pid: &i32| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).into_owned();
        words.contains("--remote\0") && words.contains("\0resume\0")
    };
    house.processes().into_iter().filter(is_screen).collect()
}

/// Who dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dies {
    Child,
    RelayAndChild,
}

fn comes_back(dies: Dies) {
    let model = ScriptedModel::start();
    let house = gated_house(&model);
    let _ = house.run(&["spawn", "reviewer"]).ok();
    deliver(&house, "before it went away");
    let away = std::env::var("AGENTMUX_AWAY_SECONDS").ok();
    let away = away.map(|text| Duration::from_secs(text.parse().expect("AGENTMUX_AWAY_SECONDS is a number")));
    let agentmux = env!("CARGO_BIN_EXE_agentmux");
    let mut command = vec![agentmux, "attach", "reviewer"];
    if away.is_none() {
        command.extend(["--patience", "1ms"]);
    }
    let pane = Pane::start(&house, (110, 40), &command);
    pane.wait_for("before it went away", DEADLINE);
    let before = screens(&house);
    std::fs::write(house.dir().join("gate"), "").expect("the house is writable");
    let child = child_pid(&house);
    if dies == Dies::RelayAndChild {
        house.kill_nine(house.relay_pid().expect("a relay runs"));
    }
    house.kill_nine(child);
    pane.wait_for("Reconnecting", DEADLINE);
    if let Some(away) = away {
        let until = Instant::now() + away;
        // Starts that hang are given up after a while; what is behind the gate is never seen by the screen.
        house.poll("the time to pass", away + DEADLINE, || match Instant::now() {
            now if now >= until => Ok(()),
            _ => Err("not yet".to_owned()),
        });
        pane.wait_for("Reconnect failed", DEADLINE);
    }
    std::fs::remove_file(house.dir().join("gate")).expect("the gate opens");
    let _ = house.run(&["up", "reviewer"]).ok();
    wait_for_state(&house, "reviewer", "idle");
    model.prepend(Rule::user("after it came back").reply("seen in the same pane"));
    deliver(&house, "after it came back");
    pane.wait_for("seen in the same pane", DEADLINE);
    let after = house.poll("one screen", DEADLINE, || match screens(&house) {
        screens if screens.len() == before.len() => Ok(screens),
        screens => Err(format!("{screens:?}")),
    });
    assert_ne!(after, before, "the screen that had given up was replaced");
    let attached = house.run(&["list", "--json"]).ok().json()["sessions"][0]["attached"].clone();
    assert_eq!(attached, 1);
    assert_eq!(pane.exit_code(), None);
    let _ = house.run(&["down", "--now"]).ok();
    drop(pane);
    house.wait_until_empty(DEADLINE);
}

/// SQ-15: the screen has given up, its process lives on with a dead composer; it is started again in the same pane.
#[test]
fn a_pane_whose_child_was_away_for_longer_than_its_screen_waits_comes_back() {
    comes_back(Dies::Child);
}

/// SQ-15, BS-1: also when the relay died with the child, so that nobody told the pane that its child is gone.
#[test]
fn a_pane_whose_relay_and_child_were_away_for_longer_than_its_screen_waits_comes_back() {
    comes_back(Dies::RelayAndChild);
}
