//! Sub-agents: threads that the model of a session's thread begins beside it.

use agentmux::model::child::{ApprovalAsked, ChildCommand, ChildEvent, TurnOutcome};
use agentmux::model::id::ThreadId;
use agentmux::model::limits;
use agentmux::transport::Transport;
use serde_json::{Value, json};

use super::kind::{Fake, Refusal, What, name, open};
use super::pair::Pair;

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
    pair.starts_anew();
    pair.command(open("reviewer", Some(&own.as_str().into())));
    let events = pair.events();
    let at = |is: &dyn Fn(&ChildEvent) -> bool| events.iter().position(is);
    let asked = at(&|event| matches!(event, ChildEvent::ApprovalAsked(_)));
    let opened = at(&|event| matches!(event, ChildEvent::ThreadOpened { .. }));
    assert!(asked.is_some() && asked < opened, "{events:?}");
}

/// The threads of two sessions, and the thread and turn of a sub-agent of the second, at work when another relay takes over.
fn adopted(pair: &mut Pair, asks: bool) -> (ThreadId, ThreadId, String, String) {
    let of = |pair: &mut Pair, session: &str| -> ThreadId {
        pair.command(open(session, None));
        pair.fake.last("thread/inject_items")["threadId"].as_str().expect("an id").into()
    };
    let (lead, reviewer) = (of(pair, "lead"), of(pair, "reviewer"));
    let (thread, turn) = pair.fake.begins_another(&reviewer, true);
    if asks {
        pair.fake.asks_in(&thread, &turn);
    }
    pair.run();
    pair.starts_anew();
    (lead, reviewer, thread, turn)
}

/// Symptom: a sub-agent whose session's opening had failed for now was forgotten, and worked on in a child that others needed when its
/// session was stopped before the next attempt. Now: its turn is ended, and it is followed again by the next attempt.
#[test]
fn a_sub_agent_of_an_opening_that_failed_is_ended_or_followed_again() {
    for is_closed in [true, false] {
        let mut pair = Pair::connected();
        let (_, reviewer, thread, turn) = adopted(&mut pair, true);
        pair.fake.refuse_of(What::Resuming, &thread, Refusal::Overloaded);
        pair.command(open("reviewer", Some(&reviewer)));
        let failed = |event: &ChildEvent| matches!(event, ChildEvent::ThreadFailed { temporary: true, .. });
        assert!(pair.events().iter().any(failed));
        if is_closed {
            pair.command(ChildCommand::CloseThread { session: name("reviewer") });
            let ended: Vec<&Value> = pair.fake.all("turn/interrupt");
            assert!(ended.contains(&&json!({"threadId": thread, "turnId": turn})), "{ended:?}");
        } else {
            pair.command(open("reviewer", Some(&reviewer)));
            let events = pair.events();
            assert!(events.iter().any(is_asked), "{events:?}");
        }
    }
}

/// Symptom: the answer to the end of a sub-agent's turn was taken for the end of the next one, which then could not be ended. Now: it is
/// about the turn that was meant.
#[test]
fn the_end_of_a_sub_agents_turn_is_not_the_end_of_the_next_one() {
    let mut pair = Pair::connected();
    let own = opened(&mut pair);
    let (thread, _) = pair.fake.begins_another(&own, true);
    pair.run();
    let _ = pair.fake.hold();
    pair.codex.command(ChildCommand::InterruptSubs { session: name("reviewer") });
    let late = pair.answers();
    let of = ThreadId::from(thread.as_str());
    pair.fake.ends_turn(&of, &TurnOutcome::Completed);
    pair.fake.runs_a_turn(&of);
    let next = pair.answers();
    pair.hears(&[next, late].concat());
    pair.command(ChildCommand::InterruptSubs { session: name("reviewer") });
    let ended: Vec<&Value> = pair.fake.all("turn/interrupt").iter().map(|ended| &ended["turnId"]).collect();
    assert!(ended.len() == 2 && ended[0] != ended[1], "{ended:?}");
}

/// What a child has loaded may come in pages: a sub-agent that is not in the first is followed, too.
#[test]
fn a_sub_agent_on_a_later_page_of_what_is_loaded_is_followed() {
    let mut pair = Pair::connected();
    let (_, reviewer, _, _) = adopted(&mut pair, true);
    pair.fake.set_page(1);
    pair.command(open("reviewer", Some(&reviewer)));
    let events = pair.events();
    assert!(events.iter().any(is_asked), "{events:?}");
    assert_eq!(pair.fake.all("thread/loaded/list").len(), 3, "of three threads");
}

fn is_opened(event: &ChildEvent, of: &str) -> bool {
    matches!(event, ChildEvent::ThreadOpened { session, .. } if *session == name(of))
}

fn is_asked(event: &ChildEvent) -> bool {
    matches!(event, ChildEvent::ApprovalAsked(asked) if asked.session == name("reviewer"))
}

/// Which request an answer is to.
fn method_of<'a>(pair: &'a Pair, answer: &str) -> (&'a str, &'a Value) {
    let answer: Value = serde_json::from_str(answer).expect("JSON");
    let asked = pair.fake.heard.iter().rev().find(|asked| asked["id"] == answer["id"]);
    asked.map_or(("", &Value::Null), |asked| {
        (asked["method"].as_str().unwrap_or_default(), &asked["params"]["threadId"])
    })
}

/// Symptom: a sub-agent of an adopted child that asked was not heard again, nor ended, when another session had looked for its parent
/// before its own was open. Now: it is followed for its session, whoever has found it, and everything is looked for once.
#[test]
fn a_sub_agent_is_followed_for_its_session_whoever_finds_it() {
    for read_first in [true, false] {
        let mut pair = Pair::connected();
        let (lead, reviewer, thread, _) = adopted(&mut pair, true);
        let _ = pair.fake.hold();
        pair.codex.command(open("lead", Some(&lead)));
        for method in ["thread/resume", "thread/loaded/list"] {
            let mut answers = pair.answers();
            answers.sort_by_key(|answer| method_of(&pair, answer).0 != method);
            answers.iter().for_each(|answer| pair.codex.on_message(answer));
        }
        // The one session looks for it; the other one is resumed, and looks, too.
        let looked = pair.answers();
        pair.codex.command(open("reviewer", Some(&reviewer)));
        let resumed = pair.answers();
        let (first, then) = if read_first { (looked, resumed) } else { (resumed, looked) };
        // Only one of many answers is out of order.
        let (of_sub, others): (Vec<String>, Vec<String>) =
            first.into_iter().chain(then).partition(|answer| *method_of(&pair, answer).1 == json!(thread));
        let (before, after) = if read_first { (others, of_sub) } else { (of_sub, others) };
        pair.hears(&[before, after].concat());
        let events = pair.events();
        let at = |is: &dyn Fn(&ChildEvent) -> bool| events.iter().position(is);
        assert!(at(&|event| is_opened(event, "lead")).is_some(), "{events:?}");
        let (asked, opened) = (at(&is_asked), at(&|event| is_opened(event, "reviewer")));
        assert!(asked.is_some() && asked < opened, "{events:?}");
        let of_it = |method| {
            pair.fake.all(method).iter().filter(|params| params["threadId"] == json!(thread)).count()
        };
        assert_eq!((of_it("thread/read"), of_it("thread/resume")), (1, 1));
    }
}

/// Symptom: a sub-agent whose turn had begun before anybody listened was not ended with its session, and worked on unseen. Now: the child
/// is asked which turn runs.
#[test]
fn a_sub_agents_turn_that_nobody_has_heard_of_ends_with_its_session() {
    for adopts in [true, false] {
        for (command, leaves) in [
            (ChildCommand::InterruptTurn { session: name("reviewer"), turn: "own turn".into() }, false),
            (ChildCommand::InterruptSubs { session: name("reviewer") }, false),
            (ChildCommand::CloseThread { session: name("reviewer") }, true),
        ] {
            let mut pair = Pair::connected();
            let (thread, turn) = if adopts {
                let (_, reviewer, thread, turn) = adopted(&mut pair, false);
                pair.command(open("reviewer", Some(&reviewer)));
                (thread, turn)
            } else {
                // Its turn is told before the call that began it.
                let own = opened(&mut pair);
                let (thread, turn) = pair.fake.begins_another(&own, false);
                let item = json!({"type": "collabAgentToolCall", "id": "c", "tool": "spawnAgent", "receiverThreadIds": [thread]});
                let params = json!({"threadId": own, "turnId": "turn-0", "item": item});
                pair.hears(&[json!({"method": "item/completed", "params": params}).to_string()]);
                (thread, turn)
            };
            pair.events();
            pair.command(command.clone());
            let heard = pair.fake.methods();
            let ended = json!({"threadId": thread, "turnId": turn});
            assert!(pair.fake.all("turn/interrupt").contains(&&ended), "{command:?}: {heard:?}");
            let left = pair.fake.all("thread/unsubscribe").contains(&&json!({"threadId": thread}));
            assert_eq!(left, leaves, "{command:?}");
            let told = pair.events();
            let is_told = |event: &ChildEvent| match event {
                ChildEvent::SubsInterrupted { turns, refused, .. } => *turns == 1 && refused.is_none(),
                ChildEvent::ThreadGone { .. } => leaves,
                _ => false,
            };
            let has_own = matches!(command, ChildCommand::InterruptTurn { .. });
            assert!(has_own && told.is_empty() || matches!(&told[..], [told] if is_told(told)), "{told:?}");
        }
    }
}

/// Symptom: what an overloaded child would not say or do for a sub-agent was taken for no, or for done. Now: an opening is tried again as a
/// whole, and finds the sub-agent and its question then.
#[test]
fn an_opening_that_cannot_look_for_sub_agents_is_tried_again() {
    for (what, about_sub) in [(What::Loaded, false), (What::Status, true), (What::Resuming, true)] {
        let mut pair = Pair::connected();
        let (_, reviewer, thread, _) = adopted(&mut pair, true);
        match about_sub {
            true => pair.fake.refuse_of(what, &thread, Refusal::Overloaded),
            false => pair.fake.refuse(what, Refusal::Overloaded),
        }
        pair.command(open("reviewer", Some(&reviewer)));
        let events = pair.events();
        assert!(
            matches!(&events[..], [.., ChildEvent::ThreadFailed { temporary: true, .. }]),
            "{what:?}: {events:?}"
        );
        assert!(!events.iter().any(is_asked) && pair.fake.answers().is_empty());
        pair.command(open("reviewer", Some(&reviewer)));
        let events = pair.events();
        let asked = events.iter().position(is_asked);
        assert!(
            asked.is_some() && asked < events.iter().position(|event| is_opened(event, "reviewer")),
            "{events:?}"
        );
    }
}

/// The same for the end of its turn: it is told that it goes on, and nothing is left.
#[test]
fn a_sub_agent_that_cannot_be_ended_for_now_is_not_left() {
    let session = || name("reviewer");
    for what in [What::Interrupt, What::RunningTurn, What::Leaving] {
        let turn = "own turn".into();
        let commands = [
            ChildCommand::InterruptTurn { session: session(), turn },
            ChildCommand::InterruptSubs { session: session() },
            ChildCommand::CloseThread { session: session() },
        ];
        let leaves = |command: &ChildCommand| matches!(command, ChildCommand::CloseThread { .. });
        for command in commands.into_iter().filter(|command| what != What::Leaving || leaves(command)) {
            let mut pair = Pair::connected();
            let (_, reviewer, thread, turn) = adopted(&mut pair, false);
            pair.command(open("reviewer", Some(&reviewer)));
            pair.events();
            let of = if what == What::Leaving { reviewer.to_string() } else { thread.clone() };
            pair.fake.refuse_of(what, &of, Refusal::Overloaded);
            pair.command(command.clone());
            let told = pair.events();
            let is_refused = matches!(
                (&command, &told[..]),
                (ChildCommand::InterruptTurn { .. }, [ChildEvent::InterruptRefused { .. }])
                    | (ChildCommand::CloseThread { .. }, [ChildEvent::CloseRefused { .. }])
                    | (_, [ChildEvent::SubsInterrupted { turns: 0, refused: Some(_), .. }])
            );
            assert!(is_refused, "{what:?} {command:?}: {told:?}");
            if what != What::Leaving {
                assert!(pair.fake.all("thread/unsubscribe").is_empty());
            }
            pair.command(command.clone());
            assert!(pair.fake.all("turn/interrupt").contains(&&json!({"threadId": thread, "turnId": turn})));
            let left = pair.fake.all("thread/unsubscribe").contains(&&json!({"threadId": thread}));
            assert_eq!(left, leaves(&command), "{what:?} {command:?}");
            assert!(
                !leaves(&command) || pair.events().contains(&ChildEvent::ThreadGone { session: session() })
            );
        }
    }
}

/// Symptom: a question whose thread an overloaded child would not describe was refused, and an approval declined unseen; one that it never
/// described waited for ever. Now: it is kept and looked for again, a bounded number of times.
#[test]
fn a_question_is_kept_until_its_thread_is_known_or_cannot_be() {
    for answers in [true, false] {
        let mut pair = Pair::connected();
        let own = opened(&mut pair);
        let (thread, turn) = pair.fake.begins_another(&own, false);
        pair.fake.follow(&thread);
        pair.fake.refuse(What::Status, Refusal::Overloaded);
        pair.fake.asks_in(&thread, &turn);
        pair.run();
        let told = pair.events();
        let [ChildEvent::AskUnplaced { key, times: 0 }] = &told[..] else { panic!("{told:?}") };
        assert!(pair.fake.answers().is_empty(), "nobody has said anything yet");
        if answers {
            pair.command(ChildCommand::PlaceAsk { key: key.clone() });
            assert!(pair.events().iter().any(is_asked));
            continue;
        }
        let _ = pair.fake.hold();
        for times in 1..limits::ASK_SOUGHT_TIMES_MAX {
            pair.command(ChildCommand::PlaceAsk { key: key.clone() });
            assert_eq!(pair.events(), [ChildEvent::AskUnplaced { key: key.clone(), times }]);
        }
        pair.command(ChildCommand::PlaceAsk { key: key.clone() });
        assert!(matches!(&pair.events()[..], [ChildEvent::AskRefused { .. }]));
        assert!(pair.fake.answers()[0].contains("does not say whose thread that is"));
        let reads = pair.fake.all("thread/read").len();
        assert_eq!(reads, 2, "what is on its way is not asked for again");
    }
}

/// Symptom: a question that was repeated before the answer to `thread/resume` was refused, because its thread descends from nobody. Now:
/// the thread is being opened, or is open by the time its parent is known.
#[test]
fn a_question_of_a_thread_that_is_being_opened_is_its_sessions() {
    for resumed_first in [true, false] {
        let mut pair = Pair::connected();
        let (_, reviewer, ..) = adopted(&mut pair, false);
        let _ = pair.fake.hold();
        pair.codex.command(open("reviewer", Some(&reviewer)));
        let mut said = pair.answers();
        pair.fake.asks_in(&reviewer, "turn-9");
        pair.answers().iter().for_each(|asked| pair.codex.on_message(asked));
        said.extend(pair.answers());
        if !resumed_first {
            said.reverse();
        }
        pair.hears(&said);
        let events = pair.events();
        assert!(events.iter().any(is_asked), "{events:?}");
        assert!(pair.fake.answers().is_empty());
    }
}

/// Symptom: an opening waited 30 s for the question of a sub-agent that had been settled meanwhile. Now: its status says so.
#[test]
fn an_opening_waits_for_no_question_that_is_settled() {
    let mut pair = Pair::connected();
    let (_, reviewer, thread, _) = adopted(&mut pair, true);
    let _ = pair.fake.hold();
    pair.codex.command(open("reviewer", Some(&reviewer)));
    let mut kept = Vec::new();
    for _ in 0..6 {
        for said in pair.answers() {
            match said.contains("requestApproval") {
                true => kept.push(said),
                false => pair.codex.on_message(&said),
            }
        }
    }
    let told = pair.events();
    assert!(kept.len() == 1 && !told.iter().any(|event| is_opened(event, "reviewer")), "{told:?}");
    let status = json!({"type": "active", "activeFlags": []});
    let settled =
        json!({"method": "thread/status/changed", "params": {"threadId": thread, "status": status}});
    pair.hears(&[settled.to_string()]);
    assert!(pair.events().iter().any(|event| is_opened(event, "reviewer")));
}

/// Symptom: when more sub-agents worked than are kept, one was forgotten and worked on unseen. Now: it is ended and left; who has ended
/// goes first.
#[test]
fn a_sub_agent_that_is_forgotten_works_no_more() {
    for has_ended in [true, false] {
        let mut pair = Pair::connected();
        let own = opened(&mut pair);
        let mut all: Vec<(String, String)> =
            (0..limits::SUB_THREADS_MAX).map(|_| pair.fake.begins_another(&own, true)).collect();
        all.sort();
        pair.run();
        if has_ended {
            pair.fake.ends_turn(&all[7].0.as_str().into(), &TurnOutcome::Completed);
        }
        pair.fake.begins_another(&own, true);
        pair.run();
        let (thread, turn) = &all[0];
        let ended = pair.fake.all("turn/interrupt").contains(&&json!({"threadId": thread, "turnId": turn}));
        let left = pair.fake.all("thread/unsubscribe").contains(&&json!({"threadId": thread}));
        assert_eq!((ended, left), (!has_ended, !has_ended));
    }
}
