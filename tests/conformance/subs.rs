//! Sub-agents: threads that the model of a session's thread begins beside it.

use agentmux::model::child::{ApprovalAsked, ChildCommand, ChildEvent};
use serde_json::json;

use super::codex_wire::Pair;
use super::kind::{Fake, name, open};

fn opened(pair: &mut Pair) -> String {
    pair.command(open("reviewer", None));
    pair.events();
    pair.fake.last("thread/inject_items")["threadId"].as_str().expect("an id").to_owned()
}

fn asked(pair: &mut Pair) -> Vec<ApprovalAsked> {
    pair.run();
    let events = pair.events().into_iter();
    events
        .filter_map(|event| match event {
            ChildEvent::ApprovalAsked(asked) => Some(asked),
            _ => None,
        })
        .collect()
}

/// Symptom: a command of a sub-agent was rejected within milliseconds, and nobody had been asked. Cause: its thread is no session's, and
/// what is asked about such a thread was refused. Now: it is asked under the session that it descends from, however it is found.
#[test]
fn what_a_sub_agent_asks_is_asked_under_its_session() {
    for (told, generations) in [(true, 1), (true, 3), (false, 1), (false, 3)] {
        let mut pair = Pair::connected();
        let mut thread = opened(&mut pair);
        let mut turn = String::new();
        for _ in 0..generations {
            (thread, turn) = pair.fake.begins_another(&thread, told);
            if !told {
                pair.fake.follow(&thread);
            }
        }
        pair.fake.asks_in(&thread, &turn);
        let approvals = asked(&mut pair);
        let [asked] = &approvals[..] else { panic!("one question: {approvals:?}") };
        assert_eq!(
            (&asked.session, asked.summary.as_str()),
            (&name("reviewer"), "touch F (asked by a sub-agent)")
        );
        assert!(pair.fake.answers().is_empty(), "nobody has said anything yet");
        pair.command(ChildCommand::Approve { key: asked.key.clone(), always: false });
        assert_eq!(pair.fake.answers(), [json!({"result": {"decision": "accept"}}).to_string()]);
    }
}

/// What was settled while its thread was looked for is not asked any more, and refused by nobody.
#[test]
fn a_question_that_is_settled_before_its_session_is_known_is_over() {
    let mut pair = Pair::connected();
    let own = opened(&mut pair);
    let (thread, turn) = pair.fake.begins_another(&own, false);
    pair.fake.follow(&thread);
    pair.fake.asks_in(&thread, &turn);
    pair.fake.settled_elsewhere(&own.as_str().into(), 0);
    assert!(asked(&mut pair).is_empty() && pair.fake.answers().is_empty(), "{:?}", pair.fake.answers());
}

/// Symptom: after `down` a sub-agent went on with its next calls and commands. Now: its turn ends with that of its session, by interrupt
/// and by the session's end.
#[test]
fn a_sub_agents_turn_ends_with_its_session() {
    let own_turn = || "own turn".into();
    let commands: [(ChildCommand, bool); 3] = [
        (ChildCommand::InterruptTurn { session: name("reviewer"), turn: own_turn() }, false),
        (ChildCommand::InterruptSubs { session: name("reviewer") }, false),
        (ChildCommand::CloseThread { session: name("reviewer") }, true),
    ];
    for (command, leaves) in commands {
        let mut pair = Pair::connected();
        let own = opened(&mut pair);
        let (thread, turn) = pair.fake.begins_another(&own, true);
        let (deeper, deeper_turn) = pair.fake.begins_another(&thread, true);
        pair.run();
        pair.command(command.clone());
        for (thread, turn) in [(&thread, &turn), (&deeper, &deeper_turn)] {
            let ended = json!({"threadId": thread, "turnId": turn});
            assert!(pair.fake.all("turn/interrupt").contains(&&ended), "{command:?}: {:?}", pair.fake.heard);
            let left = pair.fake.all("thread/unsubscribe").contains(&&json!({"threadId": thread}));
            assert_eq!(left, leaves, "{command:?}");
        }
    }
}

/// A new relay finds the sub-agents of before, and what they ask is heard before their session counts as open.
#[test]
fn what_a_sub_agent_asked_a_former_relay_is_asked_again() {
    let mut pair = Pair::connected();
    let own = opened(&mut pair);
    let (thread, turn) = pair.fake.begins_another(&own, true);
    pair.fake.asks_in(&thread, &turn);
    assert_eq!(asked(&mut pair).len(), 1);
    pair.fake.forgets_us();
    pair.codex = Default::default();
    agentmux::transport::Transport::on_open(&mut pair.codex);
    pair.run();
    pair.events();
    pair.command(open("reviewer", Some(&own.as_str().into())));
    let events = pair.events();
    let at = |is: &dyn Fn(&ChildEvent) -> bool| events.iter().position(is);
    let asked = at(&|event| matches!(event, ChildEvent::ApprovalAsked(_)));
    let opened = at(&|event| matches!(event, ChildEvent::ThreadOpened { .. }));
    assert!(asked.is_some() && asked < opened, "{events:?}");
}
