//! The matrix: what each of fyi, normal, urgent, prompt, interrupt and close does to a session in each state.
//!
//! **Invariant:** the table below is the promise. One row is one house with a session per cell, all of them in that state at once;
//! two panes show one of them, another one in every row. After each row everything that was sent is held against the model's
//! record: what is consumed was read once, what is not was never read, and after `down` no process is left.
//!
//! *Unloaded* is a stopped session on a child that lives on: the relay has left its thread, and Codex unloads what nobody listens
//! to after 60 s, for which this test does not wait. *Exited* is a child that was killed and cannot be started yet.

use std::os::unix::net::UnixStream;

use serde_json::{Value, json};
use tungstenite::Message;

use super::away::gated_house;
use super::support::call::Spawned;
use super::support::house::House;
use super::support::model::{Rule, ScriptedModel};
use super::support::tmux::Pane;
use super::{DEADLINE, child_pid, states, text_of, traced, wait_for_delivery, wait_for_state};
use Outcome::{Along, Bare, Ends, Joins, JoinsLater, Nothing, Refused, Starts, Summed, Waits};

/// What comes of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Goes into a turn of its own at once.
    Starts,
    /// Goes into the running turn, at its boundary.
    Joins,
    /// Stays queued while the state lasts, and then has a turn of its own.
    Waits,
    /// Stays queued while the state lasts, and then goes into the same turn, at its next boundary.
    JoinsLater,
    /// Stays queued, also after the state, until other mail starts a turn, and goes in with that.
    Along,
    /// The running turn ends.
    Ends,
    /// No turn runs: nothing happens, and the answer says so.
    Nothing,
    /// Stopped; the session was asked for a summary, and gave one.
    Summed,
    /// Stopped, without a summary: there was nobody to ask.
    Bare,
    /// Refused at once, with the reason.
    Refused,
}

const IDLE: [Outcome; 6] = [Along, Starts, Starts, Starts, Nothing, Summed];
const STREAMING: [Outcome; 6] = [Along, Waits, Waits, Waits, Ends, Summed];
const TOOL: [Outcome; 6] = [Along, Waits, Joins, Joins, Ends, Summed];
const APPROVAL: [Outcome; 6] = [Along, Waits, JoinsLater, JoinsLater, Ends, Summed];
const COMPACTING: [Outcome; 6] = [Along, Waits, Waits, Waits, Ends, Summed];
const INTERRUPTED: [Outcome; 6] = [Along, Starts, Starts, Starts, Nothing, Summed];
const FAILED: [Outcome; 6] = [Along, Starts, Starts, Starts, Nothing, Summed];
const UNLOADED: [Outcome; 6] = [Along, Waits, Waits, Refused, Nothing, Bare];
const EXITED: [Outcome; 6] = [Along, Waits, Waits, Waits, Nothing, Bare];

/// The columns; each is also the name of its session.
const VERBS: [&str; 6] = ["fyi", "normal", "urgent", "prompt", "interrupt", "close"];
const BUSY_WITH: &str = "the work of this row";
/// A command of the model's that ends when the test says so.
const WORK: &str = "until [ -e go ]; do sleep 0.02; done";
const SUMMARY: &str = "half of it is done";

struct Row {
    model: ScriptedModel,
    house: House,
    expected: [Outcome; 6],
    /// The session that two panes show.
    watched: &'static str,
    panes: Vec<Pane>,
    /// The mail that each session's running turn began with.
    work: Vec<String>,
}

impl Row {
    fn new(
        expected: [Outcome; 6],
        watched: &'static str,
        house: impl FnOnce(&ScriptedModel) -> House,
    ) -> Row {
        let model = ScriptedModel::start();
        let house = house(&model);
        for name in VERBS {
            let _ = house.run(&["spawn", name, "--sandbox", "read-only", "--approval", "on-request"]).ok();
        }
        Row { model, house, expected, watched, panes: Vec::new(), work: Vec::new() }
    }

    fn real(expected: [Outcome; 6], watched: &'static str) -> Row {
        Row::new(expected, watched, House::real)
    }

    /// Answers the state's work with this, a summary when one is asked for, and all else with an echo.
    fn script(&self, work: Rule) {
        self.model.script([Rule::user("You are about to be closed").reply(SUMMARY), work]);
    }

    fn attach(&mut self) {
        for _ in 0..2 {
            let command = [env!("CARGO_BIN_EXE_agentmux"), "attach", self.watched];
            self.panes.push(Pane::start(&self.house, (100, 30), &command));
        }
        for pane in &self.panes {
            pane.wait_for("Ask Codex", DEADLINE);
        }
    }

    /// Every session gets the work, and has it in a turn.
    fn begin_work(&mut self) {
        let send = |name| text_of(&self.house.run(&["send", name, BUSY_WITH, "--json"]).ok().json()["id"]);
        self.work = VERBS.map(send).to_vec();
        for id in &self.work {
            self.consumed(id);
        }
    }

    fn all_are(&self, wanted: &str) {
        for name in VERBS {
            self.is(name, wanted);
        }
    }

    fn is(&self, name: &str, wanted: &str) {
        wait_for_state(&self.house, name, wanted);
    }

    /// Waits until a mail is consumed, and returns its turn.
    fn consumed(&self, id: &str) -> String {
        text_of(&wait_for_delivery(&self.house, id, "consumed")["turnId"])
    }

    /// Waits until the child has a mail that joins a running turn, and has not shown it yet.
    fn submitted(&self, id: &str) {
        self.house.poll(&format!("{id} to be submitted"), DEADLINE, || match self.state_of_mail(id) {
            state if state == "submitted" => Ok(()),
            state => Err(state),
        });
    }

    fn state_of_mail(&self, id: &str) -> String {
        text_of(&traced(&self.house, id)["state"])
    }

    /// The turn that a session's work runs in, if the state has one.
    fn running_turn(&self, column: usize) -> Option<String> {
        Some(text_of(&traced(&self.house, self.work.get(column)?)["turnId"]))
    }

    /// Sends the four kinds of words; returns the ids of those that were accepted and the calls that wait for their turn.
    fn say(&self) -> (Vec<Option<String>>, Vec<Spawned>) {
        let mut calls = Vec::new();
        let said = VERBS[..4].iter().zip(self.expected).map(|(&verb, expected)| {
            if verb != "prompt" {
                let words = ["send", verb, &said_to(verb), "--priority", verb, "--json"];
                return Some(text_of(&self.house.run(&words).ok().json()["id"]));
            }
            let words = ["prompt", verb, &said_to(verb), "--json"];
            if expected == Refused {
                let ran = self.house.run(&words).fails(1);
                assert!(ran.stderr.contains("is stopped"), "{}", ran.evidence());
                return None;
            }
            calls.push(self.house.spawn(&words));
            let id = self.house.poll("the person's words to be accepted", DEADLINE, || {
                let inbox = self.house.run(&["inbox", verb, "--json"]).ok().json();
                let all = inbox["mails"].as_array().cloned().unwrap_or_default();
                let id =
                    all.iter().find(|mail| mail["priority"] == "prompt").map(|mail| text_of(&mail["id"]));
                id.ok_or_else(|| inbox.to_string())
            });
            Some(id)
        });
        (said.collect(), calls)
    }

    /// Whether so many of the models' commands run.
    fn tools_run(&self, wanted: usize) -> Result<(), String> {
        let runs = |pid: &i32| {
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&words).contains("[ -e go ]")
        };
        let at_work = self.house.processes().into_iter().filter(runs).count();
        if at_work >= wanted { Ok(()) } else { Err(format!("{at_work} run")) }
    }

    fn lets_tools_end(&self) {
        std::fs::write(self.house.project().join("go"), "").expect("the project is writable");
    }

    /// Plays all cells, ends the state with `leave`, and holds the outcome against the table and the model's record.
    fn play(mut self, leave: impl FnOnce(&Row, &[Option<String>])) {
        let (said, calls) = self.say();
        let mail = |column: usize| said[column].clone().expect("it was accepted");
        for (column, &expected) in self.expected.iter().enumerate() {
            let verb = VERBS[column];
            let what = format!("{verb} in this row is {expected:?}");
            match expected {
                Along | Waits | JoinsLater => {
                    assert_eq!(self.state_of_mail(&mail(column)), "queued", "{what}")
                }
                Joins => self.submitted(&mail(column)),
                Starts => {
                    let turn = self.consumed(&mail(column));
                    assert_ne!(Some(turn), self.running_turn(column), "{what}");
                }
                Ends => {
                    let answer = self.house.run(&["interrupt", verb, "--json"]).ok().json();
                    assert!(answer["turnId"].is_string(), "{what}: {answer}");
                    if let Some(turn) = self.running_turn(column) {
                        assert_eq!(text_of(&answer["turnId"]), turn, "{what}");
                    }
                    self.is(verb, "idle");
                }
                Nothing => {
                    let answer = self.house.run(&["interrupt", verb, "--json"]).ok().json();
                    assert_eq!(answer["turnId"], Value::Null, "{what}");
                }
                Summed | Bare => {
                    let closed = self.house.run(&["close", verb, "--json"]).ok().json();
                    assert_eq!(closed["sessions"][0]["state"], "stopped", "{what}: {closed}");
                    let summary = if expected == Summed { json!(SUMMARY) } else { Value::Null };
                    assert_eq!(closed["summary"], summary, "{what}");
                }
                Refused => {}
            }
        }
        // To those whose turn was ended, and behind the close: it is told, too.
        let send = |name, text| text_of(&self.house.run(&["send", name, text, "--json"]).ok().json()["id"]);
        let after_interrupt = send("interrupt", "after the interrupt");
        let after_close = send("close", "after the close");
        assert_eq!(self.state_of_mail(&after_close), "queued", "a closed session takes nothing in");
        leave(&self, &said);
        let _ = self.house.run(&["up"]).ok();
        for (column, &expected) in self.expected.iter().enumerate().take(4) {
            if !matches!(expected, Joins | JoinsLater | Waits) {
                continue;
            }
            let turn = Some(self.consumed(&mail(column)));
            let joined = turn == self.running_turn(column);
            assert_eq!(joined, expected != Waits, "{} is {expected:?}", VERBS[column]);
        }
        self.is("fyi", "idle");
        assert_eq!(states(&traced(&self.house, &mail(0))), ["queued"], "fyi starts no turn");
        let carrier = send("fyi", "takes it along");
        assert_eq!(self.consumed(&carrier), self.consumed(&mail(0)), "they went in together");
        self.consumed(&after_interrupt);
        self.consumed(&after_close);
        for call in calls {
            let _ = call.finish(DEADLINE).ok();
        }
        // What the relay calls consumed is what the model read: each once, and nothing that was refused.
        for (column, id) in said.iter().enumerate() {
            let text = said_to(VERBS[column]);
            if id.is_some() {
                self.model.wait_until_read(&text, DEADLINE);
            }
            assert_eq!(
                self.model.times_read(&text),
                usize::from(id.is_some()),
                "{}",
                self.model.transcript()
            );
        }
        for text in ["takes it along", "after the interrupt", "after the close"] {
            self.model.wait_until_read(text, DEADLINE);
            assert_eq!(self.model.times_read(text), 1, "{text}\n{}", self.model.transcript());
        }
        for pane in &self.panes {
            assert_eq!(pane.exit_code(), None, "the pane lives: {}", pane.capture());
        }
        let _ = self.house.run(&["down", "--now"]).ok();
        self.panes.clear();
        self.house.wait_until_empty(DEADLINE);
    }
}

fn said_to(verb: &str) -> String {
    format!("words for {verb}")
}

/// TQ-1: into an idle session everything goes at once but fyi.
#[test]
fn an_idle_session_takes_everything_at_once_but_fyi() {
    let mut row = Row::real(IDLE, "normal");
    row.script(Rule::user(BUSY_WITH).echo());
    row.attach();
    row.play(|_, _| {});
}

/// TQ-1, TQ-7: while the model streams everything waits, and is told afterwards.
#[test]
fn a_streaming_session_is_told_when_its_turn_is_over() {
    let mut row = Row::real(STREAMING, "urgent");
    row.script(Rule::user(BUSY_WITH).beginning("so far").reply("the rest").held_by("the stream"));
    row.attach();
    row.begin_work();
    row.model.wait_for("all to stream", DEADLINE, |requests| {
        requests.iter().filter(|request| request.is_held_by("the stream")).count() == VERBS.len()
    });
    row.play(|row, _| row.model.release("the stream"));
}

/// TQ-1, users 15: at a tool's boundary urgent mail and the person's words join the turn.
#[test]
fn a_session_with_a_tool_at_work_is_joined_by_what_is_urgent() {
    let mut row = Row::real(TOOL, "prompt");
    row.script(Rule::user(BUSY_WITH).exec(WORK).reply("done with it"));
    row.attach();
    row.begin_work();
    row.house.poll("all tools to run", DEADLINE, || row.tools_run(VERBS.len()));
    row.play(|row, _| row.lets_tools_end());
}

/// Users 6: behind an approval everything waits; nothing but an answer, an interrupt or a close settles it.
#[test]
fn a_session_that_waits_for_an_approval_is_told_nothing_until_it_is_settled() {
    let mut row = Row::real(APPROVAL, "interrupt");
    let asks = json!({"cmd": WORK, "sandbox_permissions": "require_escalated", "justification": "a test"});
    row.script(Rule::user(BUSY_WITH).call("exec_command", asks).reply("went on"));
    row.attach();
    row.begin_work();
    row.all_are("waiting");
    row.play(|row, said| {
        let listed = row.house.run(&["approvals", "--json"]).ok().json();
        let open = listed["approvals"].as_array().cloned().unwrap_or_default();
        assert_eq!(open.len(), 4, "mail settled none, interrupt and close settled theirs: {listed}");
        for approval in open {
            let _ = row.house.run(&["approve", &text_of(&approval["id"])]).ok();
        }
        // What was approved runs now, and that is a boundary.
        for id in said[2..].iter().flatten() {
            row.submitted(id);
        }
        row.lets_tools_end();
    });
}

/// A compaction is a turn like any other: everything waits for its end.
#[test]
fn a_session_that_compacts_is_told_afterwards() {
    let mut row = Row::real(COMPACTING, "urgent");
    row.script(Rule::user("CONTEXT CHECKPOINT").reply("a summary of it all").held_by("the compaction"));
    row.attach();
    for name in VERBS {
        let _ = row.house.run(&["send", name, "something to compact", "--wait"]).ok();
    }
    row.all_are("idle");
    let list = row.house.run(&["list", "--json"]).ok().json();
    let sessions = list["sessions"].as_array().cloned().unwrap_or_default();
    let threads = sessions.iter().map(|session| text_of(&session["threadId"]));
    compact(&row.house, threads);
    row.model.wait_for("all to compact", DEADLINE, |requests| {
        requests.iter().filter(|request| request.is_held_by("the compaction")).count() == VERBS.len()
    });
    row.all_are("busy");
    row.play(|row, _| row.model.release("the compaction"));
}

/// An interrupted turn leaves nothing behind that holds mail back.
#[test]
fn an_interrupted_session_takes_everything_at_once_but_fyi() {
    let mut row = Row::real(INTERRUPTED, "fyi");
    row.script(Rule::user(BUSY_WITH).reply("never said").held_by("for ever"));
    row.attach();
    row.begin_work();
    for name in VERBS {
        let _ = row.house.run(&["interrupt", name]).ok();
    }
    row.all_are("idle");
    row.play(|_, _| {});
}

/// Nor does one that failed.
#[test]
fn a_session_whose_turn_failed_takes_everything_at_once_but_fyi() {
    let mut row = Row::real(FAILED, "normal");
    row.script(Rule::user(BUSY_WITH).fail("invalid_prompt", "that was wrong"));
    row.attach();
    row.begin_work();
    row.all_are("idle");
    row.play(|_, _| {});
}

/// TQ-2: mail for a session that does not run is kept until it does; words of the person are refused at once.
#[test]
fn a_session_that_is_not_loaded_keeps_its_mail_and_refuses_the_person() {
    let row = Row::real(UNLOADED, "normal");
    row.script(Rule::user(BUSY_WITH).echo());
    let _ = row.house.run(&["spawn", "keeper"]).ok(); // the child lives on
    for name in VERBS {
        let _ = row.house.run(&["down", name]).ok();
    }
    row.all_are("stopped");
    row.play(|_, _| {});
}

/// NB-6: mail and the person's words survive a child that is gone, and go in when the next one is there.
#[test]
fn a_session_whose_child_has_exited_is_told_by_the_next_one() {
    let mut row = Row::new(EXITED, "urgent", gated_house);
    row.script(Rule::user(BUSY_WITH).echo());
    row.attach();
    std::fs::write(row.house.dir().join("gate"), "").expect("the house is writable");
    row.house.kill_nine(child_pid(&row.house));
    row.all_are("starting");
    row.play(|row, _| std::fs::remove_file(row.house.dir().join("gate")).expect("the gate opens"));
}

/// Asks the child to compact threads, as a screen does, over a connection of its own.
fn compact(house: &House, threads: impl Iterator<Item = String>) {
    let stream =
        UnixStream::connect(house.bundle_dir().join("panes.sock")).expect("the child serves screens");
    let (mut socket, _) = tungstenite::client("ws://localhost/", stream).expect("the child speaks WebSocket");
    let mut ask = |id: i64, method: &str, params: Value| {
        let request = json!({"id": id, "method": method, "params": params});
        socket.send(Message::text(request.to_string())).expect("the child listens");
        loop {
            let message = socket.read().expect("the child answers").to_string();
            let message: Value = serde_json::from_str(&message).unwrap_or_default();
            if message["id"] == id && message.get("method").is_none() {
                assert!(message.get("error").is_none(), "{method}: {message}");
                return;
            }
        }
    };
    let client = json!({"name": "a-screen", "version": "0"});
    ask(0, "initialize", json!({"clientInfo": client, "capabilities": null}));
    for (id, thread) in (1..).zip(threads) {
        ask(id, "thread/compact/start", json!({"threadId": thread}));
    }
}
