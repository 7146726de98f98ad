//! Hostile input: anything at all may arrive, and nothing is made of it that the child did not state.

use agentmux::model::child::ChildEvent;
use proptest::prelude::*;
use serde_json::{Map, Value};

use super::kind::{Bench, claim, open, turn};
use super::support::seeded::seeded;

/// SQ-8: what is no message is called so, with a reason and without a panic, and nothing follows from it.
#[test]
fn garbage_is_called_garbage() {
    Bench::each_open(|bench, _| {
        for text in bench.fake.garbage() {
            let mut bench = bench.fresh();
            bench.connect();
            bench.hears(&text);
            let events = bench.take();
            assert!(
                matches!(&events[..], [ChildEvent::Garbled { why }] if !why.is_empty()),
                "{text:?}: {events:?}"
            );
        }
    });
}

/// One thing that arrives.
#[derive(Debug, Clone)]
enum Arrival {
    /// A real message, as it is.
    Real(usize),
    /// A real message with one value replaced or removed.
    Changed(usize, usize, Option<Value>),
    /// A real message with one byte replaced, or cut there.
    Torn(usize, usize, Option<u8>),
    Json(Value),
    Text(String),
    /// A command of ours in between.
    Turn,
    Open,
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z/]{0,12}".prop_map(Value::from),
        Just(Value::from(claim(1).to_string())),
        prop::sample::select(vec![
            "item/completed",
            "userMessage",
            "turn/completed",
            "0199a213-81c0-7800-8000-000000000001",
            "turn-2",
            "failed"
        ])
        .prop_map(Value::from),
    ];
    let key = prop::sample::select(vec![
        "id",
        "method",
        "params",
        "result",
        "error",
        "threadId",
        "turnId",
        "turn",
        "item",
        "type",
        "clientId",
        "status",
        "data",
        "nextCursor",
        "x",
    ]);
    leaf.prop_recursive(4, 24, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..5).prop_map(|pairs| {
                Value::Object(
                    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<Map<_, _>>(),
                )
            }),
        ]
    })
}

fn arrival() -> impl Strategy<Value = Arrival> {
    prop_oneof![
        4 => any::<usize>().prop_map(Arrival::Real),
        6 => (any::<usize>(), any::<usize>(), prop::option::of(json())).prop_map(|(a, b, c)| Arrival::Changed(a, b, c)),
        2 => (any::<usize>(), any::<usize>(), any::<Option<u8>>()).prop_map(|(a, b, c)| Arrival::Torn(a, b, c)),
        2 => json().prop_map(Arrival::Json),
        1 => ".{0,40}".prop_map(Arrival::Text),
        1 => Just(Arrival::Turn),
        1 => Just(Arrival::Open),
    ]
}

/// Replaces or removes the `at`th value in a tree, counted from the root; past the end it changes nothing.
fn change(value: &mut Value, at: &mut usize, new: &Option<Value>) -> bool {
    let keys: Vec<String> = value.as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default();
    for key in keys {
        if *at == 0 {
            let map = value.as_object_mut().expect("it has keys");
            match new {
                Some(new) => map.insert(key, new.clone()),
                None => map.shift_remove(&key),
            };
            return true;
        }
        *at -= 1;
        if change(&mut value[&key], at, new) {
            return true;
        }
    }
    value.as_array_mut().into_iter().flatten().any(|inner| change(inner, at, new))
}

fn text_of(arrival: &Arrival, corpus: &[String]) -> Option<String> {
    let real = |at: &usize| corpus[at % corpus.len()].clone();
    Some(match arrival {
        Arrival::Real(at) => real(at),
        Arrival::Changed(at, place, new) => {
            let mut value: Value = serde_json::from_str(&real(at)).expect("the corpus is JSON");
            change(&mut value, &mut (place % 16), new);
            value.to_string()
        }
        Arrival::Torn(at, place, byte) => {
            let mut bytes = real(at).into_bytes();
            let place = place % bytes.len();
            match byte {
                Some(byte) => bytes[place] = *byte,
                None => bytes.truncate(place),
            }
            String::from_utf8_lossy(&bytes).into_owned()
        }
        Arrival::Json(value) => value.to_string(),
        Arrival::Text(text) => text.clone(),
        Arrival::Turn | Arrival::Open => return None,
    })
}

proptest! {
    #![proptest_config(seeded(400))]

    /// SQ-7, NB-3: no panic, and never evidence without the child's own statement, whatever comes in whatever order.
    #[test]
    fn nothing_is_made_of_noise(arrivals in prop::collection::vec(arrival(), 1..60)) {
        Bench::each_open(|mut bench, thread| {
            let corpus = bench.fake.corpus(&thread, claim(1));
            for arrival in &arrivals {
                let Some(text) = text_of(arrival, &corpus) else {
                    let command = if matches!(arrival, Arrival::Turn) { turn(claim(1)) } else { open("lead", None) };
                    bench.transport.command(command);
                    continue;
                };
                bench.take();
                bench.hears(&text);
                let taken = bench.take().iter().filter(|event| matches!(event, ChildEvent::InputTaken { .. })).count();
                assert!(taken <= usize::from(bench.fake.is_evidence(&text)), "{text}");
                // What it says is bounded by what it heard, and is JSON of one line.
                let said: Vec<String> = std::iter::from_fn(|| bench.transport.next_message()).collect();
                assert!(said.len() <= 8, "{said:?}");
                assert!(said.iter().all(|message| serde_json::from_str::<Value>(message).is_ok_and(|m| m.is_object())));
            }
        });
    }
}
