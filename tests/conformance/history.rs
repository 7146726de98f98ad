//! Looking for claims in a thread's history, and reading it for a person.

use agentmux::model::child::{ChildCommand, ChildEvent};
use agentmux::model::id::ClaimId;

use super::kind::{Bench, Refusal, What, claim, name, turn};

fn find(claims: &[ClaimId]) -> ChildCommand {
    ChildCommand::FindClaims { session: name("reviewer"), claims: claims.to_vec() }
}

/// SQ-5, SQ-13: what became of a claim is read from the child's history; absent is said only after the last page.
#[test]
fn claims_are_found_on_any_page_and_missed_only_after_the_last() {
    for rows in [1, 2, 3, 100] {
        Bench::each_open(|mut bench, _| {
            for n in 1..=4 {
                bench.command(turn(claim(n)));
            }
            bench.take();
            bench.fake.set_page(rows);
            bench.command(find(&[claim(1), claim(9), claim(4)]));
            let events = bench.take();
            let [ChildEvent::ClaimsFound { present, absent, busy, .. }] = &events[..] else {
                panic!("one answer: {events:?}")
            };
            let mut found: Vec<ClaimId> = present.iter().map(|(claim, _)| *claim).collect();
            found.sort();
            let mut both = [claim(1), claim(4)];
            both.sort();
            assert_eq!(
                (&found[..], &absent[..], *busy),
                (&both[..], &[claim(9)][..], true),
                "{rows} rows a page"
            );
        });
    }
}

/// While one page is missing nothing is said of any claim.
#[test]
fn nothing_is_said_before_the_last_page() {
    Bench::each_open(|mut bench, _| {
        for n in 1..=3 {
            bench.command(turn(claim(n)));
        }
        bench.take();
        bench.fake.set_page(2);
        bench.fake.hold();
        bench.command(find(&[claim(1)]));
        for page in 0.. {
            let said = bench.fake.hold();
            assert_eq!(said.len(), 1, "one page at a time");
            assert_eq!(bench.take(), [], "before page {page}");
            bench.hears(&said[0]);
            bench.run();
            if let [ChildEvent::ClaimsFound { absent, .. }] = &bench.take()[..] {
                assert_eq!((absent.len(), page), (0, 2), "it is on the last of three pages");
                return;
            }
        }
    });
}

/// An error on any page teaches nothing: no claim is called absent.
#[test]
fn an_error_on_any_page_leaves_the_history_unread() {
    for page in 0..3 {
        Bench::each_open(|mut bench, _| {
            for n in 1..=3 {
                bench.command(turn(claim(n)));
            }
            bench.take();
            bench.fake.set_page(2);
            bench.fake.hold();
            for asked in 0..=page {
                if asked == page {
                    bench.fake.refuse(What::History, Refusal::Overloaded);
                }
                if asked == 0 {
                    bench.command(find(&[claim(1), claim(9)]));
                } else {
                    let said = bench.fake.hold();
                    bench.hears(&said[0]);
                    bench.run();
                }
                assert_eq!(bench.take(), []);
            }
            let said = bench.fake.hold();
            bench.hears(&said[0]);
            let events = bench.take();
            assert!(
                matches!(&events[..], [ChildEvent::HistoryUnread { why, .. }] if !why.is_empty()),
                "page {page}: {events:?}"
            );
        });
    }
}

#[test]
fn a_thread_that_is_not_open_has_no_history_to_read() {
    Bench::each(|mut bench| {
        bench.connect();
        bench.command(find(&[claim(1)]));
        assert!(matches!(&bench.take()[..], [ChildEvent::HistoryUnread { .. }]));
        bench.command(ChildCommand::ReadItems { session: name("reviewer"), token: 7, limit: 5 });
        assert!(matches!(&bench.take()[..], [ChildEvent::ItemsRead { token: 7, items: Err(_) }]));
    });
}

/// users 24: those who watch hear what is said and done when it is whole, with the same words as `look`.
#[test]
fn items_are_told_as_they_are_done() {
    Bench::each_open(|mut bench, thread| {
        bench.take_items();
        bench.command(turn(claim(1)));
        bench.fake.person_types(&thread, true);
        bench.run();
        let told: Vec<(String, String)> =
            bench.take_items().into_iter().map(|item| (item.kind, item.source)).collect();
        let wanted = ["mail", "operator"].map(|source| ("message".to_owned(), source.to_owned()));
        assert_eq!(told, wanted);
    });
}

/// A person sees who said what, oldest first.
#[test]
fn items_are_readable_and_say_where_they_come_from() {
    Bench::each_open(|mut bench, thread| {
        bench.command(turn(claim(1)));
        bench.fake.person_types(&thread, true);
        bench.fake.person_types(&thread, false);
        bench.run();
        bench.take();
        bench.command(ChildCommand::ReadItems { session: name("reviewer"), token: 7, limit: 50 });
        let events = bench.take();
        let [ChildEvent::ItemsRead { token: 7, items: Ok(items) }] = &events[..] else {
            panic!("{events:?}")
        };
        let sources: Vec<&str> =
            items.iter().filter(|item| item.kind == "message").map(|item| item.source.as_str()).collect();
        assert_eq!(sources, ["mail", "operator", "prompt"]);
        // However small the pages are that the child gives out.
        bench.fake.set_page(1);
        bench.command(ChildCommand::ReadItems { session: name("reviewer"), token: 9, limit: 5 });
        let events = bench.take();
        let [ChildEvent::ItemsRead { token: 9, items: Ok(last) }] = &events[..] else { panic!("{events:?}") };
        assert_eq!(last[..], items[items.len() - 5..]);
        bench.fake.refuse(What::History, Refusal::ForGood);
        bench.command(ChildCommand::ReadItems { session: name("reviewer"), token: 8, limit: 50 });
        assert!(matches!(&bench.take()[..], [ChildEvent::ItemsRead { token: 8, items: Err(_) }]));
    });
}
