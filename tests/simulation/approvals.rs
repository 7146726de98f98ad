//! Approvals that a pane and somebody else settle in the same moment: what is recorded is what the child took, or that nobody knows.
//!
//! **Invariant:** a pane tells first and then passes its answer on; only the child's word settles.

use agentmux::core::input::Input;
use agentmux::model::id::{Nonce, ThreadId, approval_id};
use agentmux::model::limits;
use agentmux::model::name::Name;
use agentmux::protocol::request::{Answered, Decision, One, PaneReport, Request, SettleApproval};

use crate::plain;
use crate::story::{Story, tell, tell_in};

const LEAD: &str = "lead";
const KEY: &str = "sure";

/// A turn waits for an approval, and two panes are attached.
fn asks(story: &mut Story) -> (Nonce, ThreadId) {
    let (child, _) = story.long_turn(LEAD);
    let thread = story.thread(LEAD);
    story.world.codex.turn(child, &thread).expect("it runs").approval = Some(KEY.to_owned());
    story.world.approval_is_asked(child, &thread, KEY);
    story.until("the approval", |world| !world.disk.committed.approvals.is_empty());
    story.world.clients.all[2].outside = false;
    story.world.client_connects(2, true);
    for pane in [1, 2] {
        story.asks(pane, Request::Attach(One { name: LEAD.to_owned() }));
        story.answered(pane);
    }
    (child, thread)
}

/// A pane is about to answer with that word.
fn tells(story: &mut Story, pane: usize, word: &str) {
    let answered = Answered { request: KEY.to_owned(), decision: word.to_owned() };
    story.asks(pane, Request::PaneReport(PaneReport { elsewhere: None, answered: Some(answered) }));
    story.answered(pane);
}

/// The operator says no by the verb; whether that was refused.
fn denies(story: &mut Story) -> bool {
    let key = story.world.disk.committed.approvals.keys().next().expect("it is open").clone();
    let (id, decision) = (approval_id(&key), Decision::Deny);
    let settle = SettleApproval { id, decision, always: false, confirmed: false, choice: None, reason: None };
    story.asks(0, Request::SettleApproval(settle));
    story.answered(0);
    crate::run::steps(&story.world).contains("deny refused: it is being answered in a pane of lead")
}

fn settled(story: &Story) -> Vec<(&str, &str, &str)> {
    let settled = story.world.disk.committed.settled.iter();
    settled.map(|(decision, by, reason)| (decision.as_str(), by.as_str(), reason.as_str())).collect()
}

/// Symptom: `deny` said "denied", and the command ran, because a pane had said yes a moment before. Now: `deny` is refused while the
/// answer of a pane is on its way, and the deadline waits for it, too.
#[test]
fn nobody_is_told_of_another_answer_than_the_one_that_the_child_has() {
    tell(|story| {
        let (child, thread) = asks(story);
        tells(story, 1, "accept");
        assert!(denies(story), "{}", crate::run::steps(&story.world));
        story.world.approval_is_settled(child, &thread, KEY);
        story.until("its record", |world| !world.disk.committed.settled.is_empty());
        assert_eq!(settled(story), [("approved", "operator", "in a pane, with `accept`")]);
    });
}

/// A pane that dies before it passes its answer on holds nobody up.
#[test]
fn an_answer_that_a_pane_never_gave_is_forgotten() {
    tell(|story| {
        let _ = asks(story);
        tells(story, 1, "accept");
        story.for_ms(limits::PANE_ANSWER_MS + 100);
        assert!(!denies(story));
        assert_eq!(
            settled(story).first().map(|(decision, by, _)| (*decision, *by)),
            Some(("denied", "operator"))
        );
    });
}

/// A child that asks without end gets a no; what it asked before waits on.
#[test]
fn a_child_asks_so_much_at_once_and_no_more() {
    tell_in(3, |story| {
        let _ = story.long_turn(LEAD);
        let nonce = story.child();
        let session = Name::parse(LEAD).expect("a name in the grammar");
        for n in 0..limits::APPROVALS_PER_CHILD_MAX + 5 {
            let event = plain::approval_asked(session.clone(), &format!("question {n}"));
            story.world.reaches_relay(Input::Child { nonce, event });
        }
        story.for_ms(100);
        let open = &story.world.disk.committed.approvals;
        assert_eq!(open.len(), limits::APPROVALS_PER_CHILD_MAX);
        assert!(!open.keys().any(|key| key.ends_with("question 256")), "{open:?}");
    });
}

/// Symptom: of two panes that answered at once the first to tell was recorded, though the child may have heard the other first.
#[test]
fn two_panes_that_differ_are_not_told_apart() {
    for (second, recorded) in [
        ("decline", ("elsewhere", "elsewhere", "answered in two panes at once, and not alike")),
        ("accept", ("approved", "operator", "in a pane, with `accept`")),
    ] {
        tell(|story| {
            let (child, thread) = asks(story);
            tells(story, 1, "accept");
            tells(story, 2, second);
            story.world.approval_is_settled(child, &thread, KEY);
            story.until("its record", |world| !world.disk.committed.settled.is_empty());
            assert_eq!(settled(story), [recorded]);
        });
    }
}
