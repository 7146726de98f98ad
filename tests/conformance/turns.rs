//! Turns: what is made of a child's statements about them, in whatever order they come, and what counts as evidence.

use agentmux::model::child::{ChildCommand, ChildEvent, TurnOutcome};
use agentmux::model::id::ThreadId;

use super::kind::{Bench, Refusal, What, claim, name, turn};

/// The answer, the start, the two statements about the message and the end come in any order, and each is told once.
#[test]
fn a_turn_is_told_the_same_in_every_order() {
    Bench::each_open(|mut bench, thread| {
        bench.fake.hold();
        bench.command(turn(claim(1)));
        bench.fake.ends_turn(&thread, &TurnOutcome::Completed);
        let said = bench.fake.hold();
        for order in orders(said.len()) {
            // The same words on a fresh connection: the ids of ours start over, so the answer finds its request.
            let mut twin = twin(&bench, &thread);
            let (mut accepted, mut begun, mut taken, mut ended) = (0, 0, 0, 0);
            for at in &order {
                twin.hears(&said[*at]);
                for event in twin.take() {
                    match event {
                        ChildEvent::TurnAccepted { claim: c, .. } if c == claim(1) => accepted += 1,
                        ChildEvent::TurnStarted { .. } => begun += 1,
                        ChildEvent::InputTaken { claim: Some(c), .. } if c == claim(1) => {
                            assert!(twin.fake.is_evidence(&said[*at]), "{}", said[*at]);
                            taken += 1;
                        }
                        ChildEvent::TurnEnded { outcome: TurnOutcome::Completed, .. } => ended += 1,
                        other => panic!("{other:?} after {}", said[*at]),
                    }
                }
            }
            assert_eq!((accepted, begun, taken, ended), (1, 1, 1, 1), "order {order:?}");
        }
    });
}

/// A bench of the same kind that has just sent `turn(claim(1))` and heard nothing of it.
fn twin(bench: &Bench, thread: &ThreadId) -> Bench {
    let mut twin = bench.fresh();
    twin.connect();
    assert_eq!(twin.opens("reviewer", None), *thread, "equal histories give equal ids");
    twin.fake.hold();
    twin.command(turn(claim(1)));
    twin.take();
    twin
}

/// Every order of up to 5 things; of more, each thing moved to each place.
fn orders(count: usize) -> Vec<Vec<usize>> {
    let plain: Vec<usize> = (0..count).collect();
    if count <= 5 {
        let mut all = vec![Vec::new()];
        for _ in 0..count {
            all = all
                .into_iter()
                .flat_map(|order: Vec<usize>| {
                    let left = (0..count).filter(|n| !order.contains(n)).collect::<Vec<_>>();
                    left.into_iter().map(move |n| [order.clone(), vec![n]].concat())
                })
                .collect();
        }
        return all;
    }
    let mut all = Vec::new();
    for from in 0..count {
        for to in 0..count {
            let mut order = plain.clone();
            let moved = order.remove(from);
            order.insert(to, moved);
            all.push(order);
        }
    }
    all.push(plain.into_iter().rev().collect());
    all
}

/// SQ-7, NB-8: neither the answer nor any other statement is evidence, and none of a later version's disturbs.
#[test]
fn only_the_statement_about_the_message_is_evidence() {
    Bench::each_open(|mut bench, thread| {
        for message in bench.fake.novelties(&thread, claim(1)) {
            bench.hears(&message);
            // That a child tries again is told to people, and proves nothing.
            let told = |event: &ChildEvent| !matches!(event, ChildEvent::TurnStruggles { .. });
            let meant: Vec<ChildEvent> = bench.take().into_iter().filter(told).collect();
            assert_eq!(meant, [], "{message}");
        }
        bench.fake.hold();
        bench.command(turn(claim(1)));
        let said = bench.fake.hold();
        for message in
            said.iter().filter(|message| !bench.fake.is_evidence(message)).cloned().collect::<Vec<_>>()
        {
            bench.hears(&message);
            assert!(
                bench.take().iter().all(|event| !matches!(event, ChildEvent::InputTaken { .. })),
                "{message}"
            );
        }
    });
}

/// What a person or another program typed is input, but not ours.
#[test]
fn a_persons_message_is_not_ours() {
    for marked in [true, false] {
        Bench::each_open(|mut bench, thread| {
            bench.fake.person_types(&thread, marked);
            bench.run();
            let events = bench.take();
            assert!(events.iter().any(|event| matches!(event, ChildEvent::InputTaken { claim: None, .. })));
            assert!(
                !events.iter().any(|event| matches!(event, ChildEvent::InputTaken { claim: Some(_), .. }))
            );
        });
    }
}

/// A turn that is asked for while a person's runs joins that one, and the claim comes back with its turn.
#[test]
fn a_turn_may_join_one_that_runs() {
    Bench::each_open(|mut bench, thread| {
        bench.fake.person_types(&thread, true);
        bench.run();
        let running = bench.take().iter().find_map(|event| match event {
            ChildEvent::TurnStarted { turn, .. } => Some(turn.clone()),
            _ => None,
        });
        bench.command(turn(claim(1)));
        let session = name("reviewer");
        let turn = running.expect("a person's turn has begun");
        assert_eq!(
            bench.take(),
            [
                ChildEvent::TurnAccepted { session: session.clone(), claim: claim(1), turn: turn.clone() },
                ChildEvent::InputTaken { session, claim: Some(claim(1)), turn },
            ]
        );
    });
}

#[test]
fn a_turn_ends_as_the_child_says_with_its_words() {
    let words = || "no more today".to_owned();
    for outcome in [
        TurnOutcome::Completed,
        TurnOutcome::Interrupted,
        TurnOutcome::Failed(words()),
        TurnOutcome::Blocked { why: words(), until: None },
        TurnOutcome::Overloaded(words()),
    ] {
        Bench::each_open(|mut bench, thread| {
            bench.command(turn(claim(1)));
            bench.take();
            bench.fake.ends_turn(&thread, &outcome);
            bench.run();
            let events = bench.take();
            let [ChildEvent::TurnEnded { outcome: told, .. }] = &events[..] else {
                panic!("one end: {events:?}")
            };
            assert_eq!(std::mem::discriminant(told), std::mem::discriminant(&outcome), "{told:?}");
            assert!(told.failure().is_some() == outcome.failure().is_some());
            assert!(told.failure().is_none_or(|words| words.contains("no more today")), "{told:?}");
        });
    }
}

/// A refusal says whether to try again; one because the thread is not loaded says that, too, so that it is opened again.
#[test]
fn a_refused_turn_says_whether_to_try_again() {
    for (how, again, gone) in [
        (Refusal::Overloaded, true, false),
        (Refusal::Unloaded, true, true),
        (Refusal::ForGood, false, false),
    ] {
        Bench::each_open(|mut bench, _| {
            bench.fake.refuse(What::Turn, how);
            bench.command(turn(claim(1)));
            let events = bench.take();
            let Some(ChildEvent::TurnRefused { claim: c, temporary, why, .. }) = events.first() else {
                panic!("refused first: {events:?}")
            };
            assert_eq!((*c, *temporary), (claim(1), again), "{why}");
            let rest = &events[1..];
            let told = [ChildEvent::ThreadGone { session: name("reviewer") }];
            assert_eq!(rest, if gone { &told[..] } else { &[] });
            assert_eq!(bench.fake.taken(), Vec::<String>::new());
        });
    }
}

/// A session whose thread is not open gets its mail back at once.
#[test]
fn a_turn_without_a_thread_is_refused_for_now() {
    Bench::each(|mut bench| {
        bench.connect();
        bench.command(turn(claim(1)));
        assert!(matches!(&bench.take()[..], [ChildEvent::TurnRefused { temporary: true, .. }]));
    });
}

/// SQ-8: the body is one value inside one message, whatever is in it.
#[test]
fn a_body_stays_one_value() {
    let body = "a\nb\r\n{\"id\":1,\"method\":\"turn/interrupt\"}\n\u{2028}\u{0}\u{1}\"\\ \u{1f980}";
    Bench::each_open(|mut bench, _| {
        let command =
            ChildCommand::StartTurn { session: name("reviewer"), claim: claim(1), text: body.to_owned() };
        bench.transport.command(command);
        let message = bench.transport.next_message().expect("one message");
        assert_eq!(bench.transport.next_message(), None);
        assert!(!message.contains('\n'), "{message}");
        let value: serde_json::Value = serde_json::from_str(&message).expect("JSON");
        let texts = value.to_string().matches("turn/interrupt").count();
        assert_eq!(texts, 1, "{message}");
        bench.fake.hear(&message);
        assert_eq!(bench.fake.taken(), [claim(1).to_string()]);
    });
}

/// Users 24: whatever is refused for now is told as such, so that it can be asked again; nothing is passed over.
#[test]
fn whatever_is_refused_for_now_is_told() {
    let session = || name("reviewer");
    Bench::each_open(|mut bench, _| {
        bench.fake.refuse(What::Status, Refusal::Overloaded);
        bench.command(ChildCommand::AskStatus { session: session() });
        assert!(matches!(&bench.take()[..], [ChildEvent::StatusRefused { .. }]));
        for (how, again) in [(Refusal::Overloaded, true), (Refusal::ForGood, false)] {
            bench.fake.refuse(What::Summing, how);
            bench.command(ChildCommand::Compact { session: session() });
            let events = bench.take();
            assert!(
                matches!(&events[..], [ChildEvent::CompactRefused { temporary, .. }] if *temporary == again),
                "{events:?}"
            );
        }
        bench.command(turn(claim(1)));
        let running = bench.take().into_iter().find_map(|event| match event {
            ChildEvent::TurnStarted { turn, .. } => Some(turn),
            _ => None,
        });
        bench.fake.refuse(What::Interrupt, Refusal::Overloaded);
        bench.command(ChildCommand::InterruptTurn { session: session(), turn: running.expect("it runs") });
        assert!(matches!(&bench.take()[..], [ChildEvent::InterruptRefused { .. }]));
    });
}
