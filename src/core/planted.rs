//! Bugs that can be planted in the core, each a fault that such systems really have, to prove that the simulation finds them.
//!
//! **Invariant:** without the feature `planted` nothing can be planted, and every check for one is constant false.

/// One bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// `consumed` is written when the child answers our request, before any evidence (breaks G5; NB-8, SQ-7).
    ConsumedFromResponse,
    /// A child's exit leaves its open claims as they are (breaks G2; NB-6).
    ClaimForgottenOnExit,
    /// The end of a turn wakes nobody, and no sweep comes after it (breaks liveness; NB-7).
    LostWakeUp,
    /// Absence in a living child's history is believed at once (breaks G2's promise of no second delivery).
    AbsenceBelievedAtOnce,
    /// The deadline of an approval says yes (breaks G10).
    DeadlineApproves,
}

impl Planted {
    /// Every bug of the core; the tester's own list has those of the shell besides.
    pub const ALL: [Planted; 5] = [
        Planted::ConsumedFromResponse,
        Planted::ClaimForgottenOnExit,
        Planted::LostWakeUp,
        Planted::AbsenceBelievedAtOnce,
        Planted::DeadlineApproves,
    ];
}
