//! The real Codex against the scripted model, and real tmux: what the model read, what the pane shows, what survives.
//!
//! **Invariant:** the only stand-in is the model. Every promise is checked where it is kept: in the requests that the model
//! got, in the trace, on the screen.

#[path = "../support/mod.rs"]
mod support;

mod adoption;
mod approvals;
mod attacks;
mod away;
mod crash;
mod disk;
mod failures;
mod hook;
mod hung;
mod inspector;
mod keeper;
mod matrix;
mod mcp;
mod moments;
mod pane;
mod panes;
mod reboot;
mod replace;
mod sandbox;
mod sessions;
mod slice;
mod steer;
mod storm;
mod subs;
mod typing;

use std::time::Duration;

use serde_json::Value;
use support::house::House;
use support::model::ScriptedModel;

/// How long anything may take before a test fails: long enough for a machine under load, and never waited for.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A house with a model and one session, `reviewer`.
pub fn house_with_reviewer() -> (ScriptedModel, House) {
    house_with_reviewer_and("")
}

/// The same, with settings of the person.
pub fn house_with_reviewer_and(settings: &str) -> (ScriptedModel, House) {
    let model = ScriptedModel::start();
    let house = House::real(&model);
    std::fs::write(house.config_dir().join("config.toml"), settings).expect("the house is writable");
    let _ = house.run(&["spawn", "reviewer"]).ok();
    (model, house)
}

/// Sends a text to `reviewer`, waits until it is consumed, and returns the mail's id.
pub fn deliver(house: &House, text: &str) -> String {
    let sent = house.run_with_stdin(&["send", "reviewer", "-", "--wait", "--json"], text).ok().json();
    assert_eq!(sent["deliveries"][0]["state"], "consumed", "{sent}");
    text_of(&sent["id"])
}

/// The one delivery of a mail, as `trace` shows it.
pub fn traced(house: &House, id: &str) -> Value {
    house.run(&["trace", id, "--json"]).ok().json()["deliveries"][0].clone()
}

/// The states of a delivery in order.
pub fn states(delivery: &Value) -> Vec<String> {
    delivery["transitions"].as_array().into_iter().flatten().map(|step| text_of(&step["state"])).collect()
}

/// The process of the one child, once there is one that lives: the end of one is told when its keeper has ended what was left of it.
pub fn child_pid(house: &House) -> i32 {
    house.poll("a child", DEADLINE, || {
        let status = house.run(&["status", "--json"]).ok().json();
        let pid = status["children"][0]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
        pid.filter(|pid| house.processes().contains(pid)).ok_or_else(|| Value::to_string(&status["children"]))
    })
}

/// The state of a session, as `list` shows it.
pub fn state_of(house: &House, name: &str) -> String {
    let list = house.run(&["list", "--json"]).ok().json();
    let sessions = list["sessions"].as_array().cloned().unwrap_or_default();
    let session = sessions.iter().find(|session| session["name"] == name);
    text_of(&session.unwrap_or_else(|| panic!("{name} is listed: {list}"))["state"])
}

/// Waits until a session is in this state.
#[track_caller]
pub fn wait_for_state(house: &House, name: &str, wanted: &str) {
    house.poll(&format!("{name} to be {wanted}"), DEADLINE, || match state_of(house, name) {
        state if state == wanted => Ok(()),
        state => Err(state),
    });
}

/// Waits until the one delivery of a mail is in this state; returns it as `trace` shows it.
#[track_caller]
pub fn wait_for_delivery(house: &House, id: &str, wanted: &str) -> Value {
    house.poll(&format!("mail {id} to be {wanted}"), DEADLINE, || match traced(house, id) {
        delivery if delivery["state"] == wanted => Ok(delivery),
        delivery => Err(delivery.to_string()),
    })
}

/// Waits until the child has a mail that joins a running turn; whether the model has it yet is the child's to say.
#[track_caller]
pub fn wait_until_handed(house: &House, id: &str) {
    house.poll("the child to have it", DEADLINE, || match traced(house, id)["state"].as_str() {
        Some("submitted" | "consumed") => Ok(()),
        state => Err(format!("{state:?}")),
    });
}

/// Waits until a tool of the model's has written this file in the project, which says that it runs.
#[track_caller]
pub fn wait_for_tool(house: &House, mark: &str) {
    let mark = house.project().join(mark);
    house.poll("the tool to begin", DEADLINE, || {
        if mark.exists() { Ok(()) } else { Err(house.run(&["list"]).ok().stdout) }
    });
}

pub fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a text, not {value}")).to_owned()
}
