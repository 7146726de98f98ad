//! The real binary as people and scripts use it: one file per verb, and what all of them need.
//!
//! **Invariant:** every test has a house of its own; the real Codex runs only where a session is needed, and it asks the
//! scripted model. **Invariant:** no test sleeps to be right; what has no event is looked at with `House::poll`.
//!
//! Deliberately absent: what is decided without the binary (`tests/simulation`), and raw sockets (`tests/wire`).

#[path = "../support/mod.rs"]
mod support;

mod ack;
mod approvals;
mod approve;
mod ask;
mod attach;
mod cancel;
mod close;
mod completions;
mod config;
mod dead;
mod deny;
mod doctor;
mod down;
mod hold;
mod host;
mod inbox;
mod init;
mod install;
mod instructions;
mod interrupt;
mod list;
mod log;
mod look;
mod panes;
mod prompt;
mod read;
mod release;
mod remove;
mod reply;
mod requeue;
mod search;
mod selftest;
mod send;
mod show;
mod spawn;
mod status;
mod trace;
mod trust;
mod uninstall;
mod up;
mod wait;
mod watch;
mod whoami;

use serde_json::Value;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;
use support::{Call, House, Ran, ScriptedModel};

/// Far beyond what a loaded machine needs, and bounded.
const SOON: Duration = Duration::from_secs(40);

/// A house with sessions of the real Codex, and the model that they ask.
struct Team {
    // Dropped in this order: who asks goes before who answers.
    house: House,
    model: ScriptedModel,
}

impl Team {
    /// A house where sessions can be spawned, without any.
    fn nobody() -> Team {
        let model = ScriptedModel::start();
        Team { house: House::real(&model), model }
    }

    /// A house with these sessions up.
    #[track_caller]
    fn of(names: &[&str]) -> Team {
        let team = Team::nobody();
        for name in names {
            let _ = team.house.run(&["spawn", name]).ok();
        }
        team
    }

    /// A house with these sessions stored and stopped, and no process running: for mail that must wait.
    #[track_caller]
    fn asleep(names: &[&str]) -> Team {
        let team = Team::of(names);
        let _ = team.house.run(&["down", "--now"]).ok();
        team
    }
}

/// Waits until the model has read this; evidence that Codex took it comes before Codex asks the model.
#[track_caller]
fn read_once(model: &ScriptedModel, needle: &str) {
    model.wait_until_read(needle, SOON);
    assert_eq!(model.times_read(needle), 1, "`{needle}`\n{}", model.transcript());
}

/// A call with the mark of an agent, which makes its sender `outside`. Its recipient `operator` needs no session.
fn agent(house: &House, arguments: &[&str]) -> Call {
    house.call(arguments).env("CODEX_THREAD_ID", "0199a213-81c0-7800-8aa1-bbab2a035a53")
}

/// Sends mail to the operator, as an agent does; returns its id.
#[track_caller]
fn mail_to_operator(house: &House, text: &str) -> String {
    sent_id(&agent(house, &["send", "operator", text]).run().ok())
}

/// The id that a piped `send` printed, and nothing else.
#[track_caller]
fn sent_id(ran: &Ran) -> String {
    let id = ran.stdout.trim_end_matches('\n').to_owned();
    assert!(is_id(&id) && ran.stdout.len() == 37, "the id alone\n{}", ran.evidence());
    id
}

/// Whether this is a mail's whole id: a UUIDv7.
fn is_id(text: &str) -> bool {
    let version_seven = text.as_bytes().get(14) == Some(&b'7');
    let groups: Vec<usize> = text.split('-').map(str::len).collect();
    groups == [8, 4, 4, 4, 12]
        && version_seven
        && text.chars().all(|c| c == '-' || c.is_ascii_digit() || ('a'..='f').contains(&c))
}

/// Whether this is a moment in RFC 3339, UTC.
fn is_time(value: &Value) -> bool {
    let Some(text) = value.as_str() else { return false };
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "0000-00-00T00:00:00.000Z" || shape == "0000-00-00T00:00:00Z"
}

/// The keys of an object, in their order.
fn keys(value: &Value) -> Vec<&str> {
    value.as_object().map(|object| object.keys().map(String::as_str).collect()).unwrap_or_default()
}

/// Expects exit 0 and JSON that begins with its schema version and has these keys; stderr has nothing to say.
#[track_caller]
fn versioned(ran: &Ran, wanted: &[&str]) -> Value {
    let value = ran.json();
    assert!(ran.stdout.starts_with("{\"schemaVersion\":1,"), "{}", ran.evidence());
    assert_eq!(ran.stdout.matches('\n').count(), 1, "one line\n{}", ran.evidence());
    assert_eq!(ran.stderr, "", "{}", ran.evidence());
    has_keys(&value, wanted);
    value
}

/// Expects these keys, among others that may have come later.
#[track_caller]
fn has_keys(value: &Value, wanted: &[&str]) {
    let missing: Vec<&&str> = wanted.iter().filter(|key| value.get(**key).is_none()).collect();
    assert!(missing.is_empty(), "without {missing:?}: {value}");
}

/// Expects a failure as people see it: nothing on stdout; on stderr one `error:` line in lower case, and at most a hint.
#[track_caller]
fn refused(ran: Ran, code: i32) -> String {
    let ran = ran.fails(code);
    assert_eq!(ran.stdout, "", "{}", ran.evidence());
    worded(&ran)
}

/// Expects stderr to end in one `error:` line in lower case, and at most one hint behind it.
#[track_caller]
fn worded(ran: &Ran) -> String {
    let lines: Vec<&str> = ran.stderr.lines().collect();
    let (hints, others): (Vec<&str>, Vec<&str>) = lines.iter().partition(|line| line.starts_with("hint: "));
    let error = others.last().and_then(|line| line.strip_prefix("error: ")).unwrap_or_default();
    assert!(error.chars().next().is_some_and(|c| !c.is_uppercase()), "{}", ran.evidence());
    assert!(!error.ends_with('.') || error.ends_with("..."), "{}", ran.evidence());
    assert!(hints.len() <= 1, "{}", ran.evidence());
    assert!(hints.is_empty() || lines.last() == hints.last(), "the hint is last\n{}", ran.evidence());
    ran.stderr.clone()
}

/// Expects a failure as programs see it: one object on stderr, with its exit code in it.
#[track_caller]
fn refused_json(ran: Ran, code: i32, word: &str) -> Value {
    let ran = ran.fails(code);
    assert_eq!(ran.stdout, "", "{}", ran.evidence());
    assert!(ran.stderr.starts_with("{\"schemaVersion\":1,\"error\":{"), "{}", ran.evidence());
    let error = ran.json_error();
    assert_eq!(keys(&error), ["code", "message", "hint", "exit"], "{}", ran.evidence());
    assert_eq!((error["code"].as_str(), error["exit"].as_i64()), (Some(word), Some(i64::from(code))));
    error
}

/// Everything below a directory: path, kind and mode, length and time of change, in order.
fn listing(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(meta) = std::fs::symlink_metadata(&path) else { continue };
            found.push(format!(
                "{} {:o} {} {}.{}",
                path.display(),
                meta.permissions().mode(),
                meta.len(),
                meta.mtime(),
                meta.mtime_nsec()
            ));
            if meta.is_dir() {
                left.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Expects that a call changes nothing below the state directory and starts nothing.
#[track_caller]
fn touches_nothing(house: &House, call: impl FnOnce() -> Ran) -> Ran {
    let (files, processes) = (listing(&house.state_dir()), house.processes());
    let ran = call();
    assert_eq!(listing(&house.state_dir()), files, "something changed on disk\n{}", ran.evidence());
    assert_eq!(house.processes(), processes, "a process was started or ended\n{}", ran.evidence());
    ran
}

/// A session, as `list --json` shows it.
#[track_caller]
fn session(house: &House, name: &str) -> Value {
    let list = house.run(&["list", "--json"]).json();
    let found = list["sessions"].as_array().into_iter().flatten().find(|session| session["name"] == name);
    found.unwrap_or_else(|| panic!("no session {name} in {list}")).clone()
}

/// Waits until a session's turn has ended: evidence that mail is inside a turn comes at the turn's beginning.
#[track_caller]
fn wait_until_idle(house: &House, name: &str) {
    house.poll("the turn to end", SOON, || match session(house, name)["state"].as_str() {
        Some("idle") => Ok(()),
        state => Err(format!("{state:?}")),
    });
}

/// A mail's way, as `trace --json` shows it.
#[track_caller]
fn trace(house: &House, id: &str) -> Value {
    house.run(&["trace", id, "--json"]).json()
}

/// The state of a mail's first delivery.
#[track_caller]
fn state(house: &House, id: &str) -> String {
    trace(house, id)["deliveries"][0]["state"].as_str().unwrap_or_default().to_owned()
}

/// The counts of mail, as `status --json` shows them.
#[track_caller]
fn counts(house: &House) -> Value {
    house.run(&["status", "--json"]).json()["mail"].clone()
}
