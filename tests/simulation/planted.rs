//! Planted bugs: each is found within a few hundred seeds, and as a breach of the guarantee that it breaks.
//!
//! **Invariant:** a tester that finds no planted bug proves nothing; every bug of `Planted::ALL` and of the shell is here.

use agentmux::core::planted::Planted;

use crate::guarantee::Guarantee;
use crate::run::{self, Options};
use crate::shell::ShellBug;

/// G5: a response is taken for evidence. Stands for mail that counts as delivered because bytes fit in a pipe (SQ-7), and for
/// the read mark that is set after the write, not after the turn (NB-8).
#[test]
fn consumed_from_a_response_is_found() {
    finds(core_bug(Planted::ConsumedFromResponse), Guarantee::ConsumedOnEvidence);
}

/// G2: a child dies, and what it held stays held. Stands for the callers that are forgotten when the child dies (NB-6), and for
/// a claim that outlives its drainer (SQ-4).
#[test]
fn a_claim_that_is_forgotten_on_exit_is_found() {
    finds(core_bug(Planted::ClaimForgottenOnExit), Guarantee::OneOpenClaim);
}

/// G7: the end of a turn wakes nobody. Stands for threads that stay busy for ever after an answer, a timeout or a silent turn
/// (NB-3, NB-4, NB-5, NB-7).
#[test]
fn a_lost_wake_up_is_found() {
    finds(core_bug(Planted::LostWakeUp), Guarantee::Converges);
}

/// G2: a living child's history is believed at once. Stands for a second delivery because the first one's claim was judged by
/// its age and not by its holder (SQ-5), or because its outcome was not known when it was tried again (SQ-13).
#[test]
fn absence_that_is_believed_at_once_is_found() {
    finds(core_bug(Planted::AbsenceBelievedAtOnce), Guarantee::ToldOnce);
}

/// G10: an approval that nobody answers is taken for a yes. Stands for a person who was taken to have agreed (users 6).
#[test]
fn an_approval_by_the_deadline_is_found() {
    finds(core_bug(Planted::DeadlineApproves), Guarantee::ApprovedByOperator);
}

/// G1: replies leave before the commit. Stands for mail that is accepted and lost (SQ-1, SQ-2).
#[test]
fn a_reply_before_the_commit_is_found() {
    finds(shell_bug(ShellBug::ReplyBeforeCommit), Guarantee::AcceptedIsOnDisk);
}

/// G9: a record reaches the ledger and not the disk. Stands for outcomes whose writing failed unseen (SQ-13).
#[test]
fn a_dropped_record_is_found() {
    finds(shell_bug(ShellBug::RecordDropped), Guarantee::StoreIsLedger);
}

/// G2: a command reaches the child twice. Stands for the whole copy that follows a fragment (SQ-9).
#[test]
fn a_command_that_is_sent_twice_is_found() {
    finds(shell_bug(ShellBug::CommandSentTwice), Guarantee::OneOpenClaim);
}

/// G3: the next turn is started while ours does not show yet.
#[test]
fn a_turn_beside_ours_is_found() {
    finds(core_bug(Planted::TurnBesideOurs), Guarantee::OneTurnInFlight);
}

/// G4: who waits in vain is never told. Stands for the callers that nobody answers (NB-6, TQ-4).
#[test]
fn a_waiter_that_is_forgotten_is_found() {
    finds(core_bug(Planted::WaiterForgotten), Guarantee::OneReply);
}

/// G6: what joins a running turn overtakes. Stands for order by chance (SQ-6).
#[test]
fn mail_that_overtakes_into_a_running_turn_is_found() {
    finds(core_bug(Planted::SteerOvertakes), Guarantee::InOrder);
}

/// G8: each recovery stores something more.
#[test]
fn a_recovery_that_repeats_itself_is_found() {
    finds(core_bug(Planted::RecoveryRepeated), Guarantee::RecoversOnce);
}

/// G11: mail that has waited long is dropped. Stands for the cleanup that deletes what a long turn kept waiting (SQ-3, SQ-4).
#[test]
fn old_mail_that_is_dropped_is_found() {
    finds(core_bug(Planted::OldMailDropped), Guarantee::EndsByNamedCause);
}

/// Precedence: urgent mail goes before the person's words. Stands for the queue whose documented order holds only for one of its
/// classes (TQ-1).
#[test]
fn urgent_mail_before_the_persons_words_is_found() {
    finds(core_bug(Planted::UrgentBeforePrompt), Guarantee::Precedence);
}

/// Precedence: a session that is being closed gets mail. Stands for the close that ends nothing (NB-9), and for the one that is
/// forgotten or holds for ever (TQ-8).
#[test]
fn mail_beside_a_close_is_found() {
    finds(core_bug(Planted::MailBesideClose), Guarantee::Precedence);
}

/// G4: who closes second is never told. Stands for the closer whose channel is dropped (TQ-3), and for the callers behind a close
/// that nobody answers (TQ-4).
#[test]
fn a_second_close_that_is_forgotten_is_found() {
    finds(core_bug(Planted::SecondCloseForgotten), Guarantee::OneReply);
}

#[test]
fn every_guarantee_has_a_planted_breach() {
    let here = include_str!("planted.rs");
    let tests: Vec<&str> = here.split("#[test]").skip(1).collect();
    for (number, guarantee) in [
        ("G1", "AcceptedIsOnDisk"),
        ("G2", "OneOpenClaim"),
        ("G2", "ToldOnce"),
        ("G3", "OneTurnInFlight"),
        ("G4", "OneReply"),
        ("G5", "ConsumedOnEvidence"),
        ("G6", "InOrder"),
        ("G7", "Converges"),
        ("G8", "RecoversOnce"),
        ("G9", "StoreIsLedger"),
        ("G11", "EndsByNamedCause"),
        ("Precedence", "Precedence"),
    ] {
        let finds = format!("Guarantee::{guarantee});\n}}");
        assert!(tests.iter().any(|test| test.contains(&finds)), "{number} has a planted breach");
        assert!(here.contains(&format!("/// {number}: ")), "{number} stands above its test");
    }
}

#[test]
fn every_bug_of_the_core_is_planted() {
    let here = include_str!("planted.rs");
    for bug in Planted::ALL {
        assert!(here.contains(&format!("core_bug(Planted::{bug:?})")), "{bug:?} is planted by a test");
    }
}

fn core_bug(bug: Planted) -> Options {
    Options { planted: Some(bug), ..Options::default() }
}

fn shell_bug(bug: ShellBug) -> Options {
    Options { bug: Some(bug), ..Options::default() }
}

/// Runs seeds until the bug shows as a breach of `guarantee`; it may break another one before.
fn finds(options: Options, guarantee: Guarantee) {
    let mut first = 0;
    loop {
        let failure = run::all(first..SEEDS_MAX, &options).expect_err("a planted bug is found");
        println!("{options:?}: seed {}, {}", failure.seed, failure.breach.guarantee);
        if failure.breach.guarantee == guarantee {
            return;
        }
        first = failure.seed + 1;
    }
}

/// Within how many seeds a planted bug has to show.
const SEEDS_MAX: u64 = 1_000;
