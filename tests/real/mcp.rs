//! Agents use it themselves: the real Codex calls our tools from inside its turns, and the mail goes into the others' turns.

use serde_json::{Value, json};

use super::support::house::House;
use super::support::model::{Rule, ScriptedModel};
use super::{DEADLINE, child_pid, text_of, traced, wait_for_state};

/// A house with a model that answers by these rules, and a session per name and sandbox.
fn team(rules: impl IntoIterator<Item = Rule>, sessions: &[(&str, &str)]) -> (House, ScriptedModel) {
    let model = ScriptedModel::start();
    model.script(rules);
    let house = House::real(&model);
    for (name, sandbox) in sessions {
        let _ = house.run(&["spawn", name, "--sandbox", sandbox]).ok();
    }
    (house, model)
}

fn send(to: &str, body: &str) -> Value {
    json!({"to": to, "body": body})
}

fn wait_until_idle(house: &House, names: &[&str]) {
    for name in names {
        wait_for_state(house, name, "idle");
    }
}

/// Every mail of the bundle that has this subject or text: who sent it, to whom, and where it stands.
fn found(house: &House, text: &str) -> Vec<Value> {
    let found = house.run(&["search", text, "--json"]).ok().json();
    found["mails"].as_array().cloned().unwrap_or_default()
}

/// users 7, users 8: from inside its turn, with a sandbox that lets its shell reach no socket, `lead` writes by the tool; the mail goes
/// into a turn of `reviewer`, whose model reads who wrote it and with what to answer, answers by its own tool, and `lead` has it.
#[test]
fn an_agent_writes_by_its_tool_and_is_answered_by_the_others() {
    for sandbox in ["read-only", "workspace-write"] {
        let (house, model) = team(
            [
                Rule::user("please ask the reviewer")
                    .call_mcp("agentmux", "send", send("reviewer", "is it good?"))
                    .reply("asked"),
                Rule::user("is it good?")
                    .call_mcp(
                        "agentmux",
                        "send",
                        json!({"to": "{from}", "body": "it is good", "replyTo": "{id}"}),
                    )
                    .reply("answered"),
                Rule::user("it is good").reply("thanks"),
            ],
            &[("lead", sandbox), ("reviewer", sandbox)],
        );
        let _ = house.run(&["send", "lead", "please ask the reviewer", "--wait"]).ok();
        model.wait_until_read("it is good", DEADLINE);
        wait_until_idle(&house, &["lead", "reviewer"]);
        let question =
            found(&house, "is good").into_iter().find(|mail| mail["from"] == "lead").expect("the question");
        assert_eq!((&question["from"], &question["fromKind"]), (&"lead".into(), &"agent".into()));
        let answer = &found(&house, "it good");
        assert!(
            answer.iter().any(|mail| mail["from"] == "reviewer" && mail["to"] == json!(["lead"])),
            "{answer:?}"
        );
        assert_eq!(traced(&house, &text_of(&question["id"]))["state"], "acked", "the answer confirms it");
        let read =
            model.user_texts().into_iter().find(|text| text.contains("is it good?")).expect("it was read");
        assert!(read.contains("from: lead (agent)") && read.contains("to: reviewer (you)"), "{read}");
        let line = format!(
            "reply with: the agentmux `send` tool {{\"to\":\"lead\",\"replyTo\":\"{}\"}}   or: agentmux reply",
            text_of(&question["id"])
        );
        assert!(read.contains(&line), "{read}");
        // No person was asked for anything.
        let approvals = house.run(&["approvals", "--json"]).ok().json();
        assert_eq!(approvals["approvals"], json!([]));
    }
}

/// Three agents, a broadcast, and a question whose answer the asker waits for inside its turn.
#[test]
fn a_team_of_three_broadcasts_and_asks() {
    let all = json!({"to": "@all", "body": "attention please", "subject": "news"});
    let (house, model) = team(
        [
            Rule::user("tell everybody").call_mcp("agentmux", "send", all).reply("told"),
            Rule::user("ask the tester")
                .call_mcp("agentmux", "ask", send("tester", "do they pass?"))
                .reply("now I know"),
            Rule::user("do they pass?")
                .call_mcp(
                    "agentmux",
                    "send",
                    json!({"to": "{from}", "body": "the answer to lead", "replyTo": "{id}"}),
                )
                .reply("said"),
        ],
        &[("lead", "read-only"), ("reviewer", "read-only"), ("tester", "workspace-write")],
    );
    let _ = house.run(&["send", "lead", "tell everybody", "--wait"]).ok();
    model.wait_for("both to read it", DEADLINE, |requests| {
        requests
            .iter()
            .filter(|request| request.user_texts().iter().any(|text| text.contains("attention please")))
            .count()
            >= 2
    });
    wait_until_idle(&house, &["lead", "reviewer", "tester"]);
    let news = &found(&house, "attention")[0];
    assert_eq!(
        (&news["from"], &news["to"]),
        (&"lead".into(), &json!(["reviewer", "tester"])),
        "not to itself"
    );
    let _ = house.run(&["send", "lead", "ask the tester", "--wait"]).ok();
    model.wait_for("the answer to be the tool's output", DEADLINE, |requests| {
        requests
            .iter()
            .any(|request| request.outputs().iter().any(|output| output.contains("the answer to lead")))
    });
    wait_until_idle(&house, &["lead", "tester"]);
    let answer = found(&house, "answer to lead");
    assert_eq!(
        traced(&house, &text_of(&answer[0]["id"]))["state"],
        "acked",
        "had by the tool, not once more by a turn"
    );
    assert_eq!(model.times_read("the answer to lead"), 0, "no turn of its own");
}

/// users 8: what a model says at the end of a turn is for who looks on; only what it sends is mail: no sender, be it the person or an
/// agent, finds an answer that nobody sent.
#[test]
fn an_ordinary_answer_of_the_model_is_never_forwarded_as_a_reply() {
    let (house, model) = team(
        [
            Rule::user("ask the reviewer")
                .call_mcp("agentmux", "send", send("reviewer", "is it good?"))
                .reply("I have asked"),
            Rule::user("is it good?").reply("Yes, lead, it is very good."),
            Rule::user("and what do you say?").reply("To the operator: all is well."),
        ],
        &[("lead", "read-only"), ("reviewer", "read-only")],
    );
    let _ = house.run(&["send", "lead", "ask the reviewer", "--wait"]).ok();
    model.wait_until_read("is it good?", DEADLINE);
    let _ = house.run(&["send", "reviewer", "and what do you say?", "--wait"]).ok();
    wait_until_idle(&house, &["lead", "reviewer"]);
    // Answered in full, and nothing was made of it: the mails are the three that were sent.
    let looked = house.run(&["look", "reviewer"]).ok().stdout;
    assert!(looked.contains("it is very good") && looked.contains("all is well"), "{looked}");
    let mails = |name: &str| {
        let inbox = house.run(&["inbox", name, "--json"]).ok().json();
        inbox["mails"].as_array().map_or(0, Vec::len)
    };
    assert_eq!((mails("operator"), mails("lead"), mails("reviewer")), (0, 1, 2));
    let _ = house.run(&["down"]).ok();
    let store = rusqlite::Connection::open(house.bundle_dir().join("mail.db")).expect("the store");
    let count: i64 = store.query_row("SELECT count(*) FROM mails", [], |row| row.get(0)).expect("a count");
    assert_eq!(count, 3, "no mail but what was sent");
    for text in ["it is very good", "all is well"] {
        assert_eq!(model.times_read(text), 0, "no model was told it\n{}", model.transcript());
    }
}

/// After kill -9 of the relay, and of the child, an agent still writes by its tools: the running server's token stays good for the
/// relay that adopts its child, and a new child's server gets a new one.
#[test]
fn tools_work_after_kill_nine_of_the_relay_and_of_the_child() {
    let rounds = ["first", "second", "third", "fourth"];
    let rule = |round: &&str| {
        Rule::user(&format!("go {round}"))
            .call_mcp("agentmux", "send", send("operator", &format!("done {round}")))
            .reply("ok")
    };
    let (house, _model) = team(rounds.iter().map(rule), &[("lead", "read-only")]);
    for (number, round) in rounds.iter().enumerate() {
        match number {
            1 | 2 => house.kill_nine(house.relay_pid().expect("a relay runs")),
            3 => {
                house.kill_nine(child_pid(&house));
            }
            _ => {}
        }
        let _ = house.run(&["send", "lead", &format!("go {round}"), "--wait"]).ok();
        let mail = house.poll("the agent's mail", DEADLINE, || {
            found(&house, &format!("done {round}"))
                .into_iter()
                .find(|mail| mail["from"] == "lead")
                .ok_or_else(|| house.run(&["look", "lead"]).stdout)
        });
        assert_eq!(mail["fromKind"], "agent", "{mail}");
        wait_until_idle(&house, &["lead"]);
    }
}

/// Who is killed with -9 while a question of `lead` waits for `reviewer`.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Nobody,
    Relay,
    Child,
    Both,
}

/// users 7, users 8, PX-1, NB-6: in either sandbox, with relay, child or both killed in between: `lead` asks by its tool, `reviewer` is
/// told in a turn and answers by its own, `lead` has the answer; a broadcast reaches both others; and an `ask` waits for its answer
/// inside the turn.
#[test]
fn a_team_in_either_sandbox_works_on_after_kill_nine_of_the_relay_and_of_the_child() {
    for sandbox in ["read-only", "workspace-write"] {
        let victims = [Victim::Nobody, Victim::Relay, Victim::Child, Victim::Both];
        let answers = |body: String| json!({"to": "{from}", "body": body, "replyTo": "{id}"});
        let rules = |victim: &Victim| {
            let all = json!({"to": "@all", "body": format!("attention, {victim:?}"), "subject": "news"});
            [
                Rule::user(&format!("go, {victim:?}"))
                    .call_mcp("agentmux", "send", send("reviewer", &format!("is it good, {victim:?}?")))
                    .reply("asked"),
                Rule::user(&format!("is it good, {victim:?}?"))
                    .call_mcp("agentmux", "send", answers(format!("it is good, {victim:?}")))
                    .reply("answered"),
                Rule::user(&format!("tell, {victim:?}")).call_mcp("agentmux", "send", all).reply("told"),
                Rule::user(&format!("ask, {victim:?}"))
                    .call_mcp("agentmux", "ask", send("tester", &format!("does it pass, {victim:?}?")))
                    .reply("now I know"),
                Rule::user(&format!("does it pass, {victim:?}?"))
                    .call_mcp("agentmux", "send", answers(format!("it passes, {victim:?}")))
                    .reply("said"),
            ]
        };
        let names = ["lead", "reviewer", "tester"];
        let (house, model) = team(victims.iter().flat_map(rules), &names.map(|name| (name, sandbox)));
        for victim in victims {
            let tell = |what: &str| {
                let _ = house.run(&["send", "lead", &format!("{what}, {victim:?}"), "--wait"]).ok();
            };
            let read_by = |text: String, readers: usize| {
                house.poll(&format!("`{text}` to be read"), DEADLINE, || match model.times_read(&text) {
                    times if times == readers => Ok(()),
                    times => Err(format!("{times} times\n{}", model.transcript())),
                });
            };
            let _ = house.run(&["hold", "reviewer"]).ok();
            tell("go");
            wait_until_idle(&house, &["lead"]);
            let (relay, child) = (house.relay_pid().expect("a relay runs"), child_pid(&house));
            if matches!(victim, Victim::Relay | Victim::Both) {
                house.kill_nine(relay);
            }
            if matches!(victim, Victim::Child | Victim::Both) {
                house.kill_nine(child);
            }
            let _ = house.run(&["release", "reviewer"]).ok();
            read_by(format!("it is good, {victim:?}"), 1);
            assert_eq!(child_pid(&house) == child, matches!(victim, Victim::Nobody | Victim::Relay));
            tell("tell");
            read_by(format!("attention, {victim:?}"), 2);
            wait_until_idle(&house, &names);
            tell("ask");
            let answer = format!("it passes, {victim:?}");
            model.wait_for("the answer to be the tool's output", DEADLINE, |requests| {
                requests.iter().any(|request| request.outputs().iter().any(|output| output.contains(&answer)))
            });
            wait_until_idle(&house, &names);
            assert_eq!(model.times_read(&answer), 0, "the tool brought it, and no turn did once more");
            for question in [format!("is it good, {victim:?}?"), format!("does it pass, {victim:?}?")] {
                read_by(question, 1);
            }
        }
        // Whoever wrote was known for who it is, before and after every death.
        let mails = house.run(&["search", "good", "--json"]).ok().json();
        let from = |who: &str| {
            let all = mails["mails"].as_array().into_iter().flatten();
            all.filter(|mail| mail["from"] == who && mail["fromKind"] == "agent").count()
        };
        assert_eq!((from("lead"), from("reviewer")), (victims.len(), victims.len()), "{mails}");
        let _ = house.run(&["down", "--now"]).ok();
        house.wait_until_empty(DEADLINE);
    }
}
