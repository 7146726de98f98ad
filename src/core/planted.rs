//! Bugs that can be planted in the core, each a fault that such systems really have, to prove that the simulation finds them.
//!
//! **Invariant:** without the feature `planted` nothing can be planted, and every check for one is constant false.

/// One bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// A child's exit leaves its open claims as they are (breaks G2; NB-6).
    ClaimForgottenOnExit,
    /// Absence in a living child's history is believed at once (breaks G2's promise of no second delivery).
    AbsenceBelievedAtOnce,
    /// A turn of ours that does not show yet is no reason to wait with the next one (breaks G3).
    TurnBesideOurs,
    /// A request whose time is over is forgotten instead of answered (breaks G4; NB-6, TQ-4).
    WaiterForgotten,
    /// `consumed` is written when the child answers our request, before any evidence (breaks G5; NB-8, SQ-7).
    ConsumedFromResponse,
    /// What joins a running turn overtakes what its sender wrote before (breaks G6; SQ-6).
    SteerOvertakes,
    /// The end of a turn wakes nobody, and no sweep comes after it (breaks G7; NB-7).
    LostWakeUp,
    /// Recovery notes the same crash again at every start (breaks G8).
    RecoveryRepeated,
    /// Mail that has waited long is dropped, whatever its sender said (breaks G11; SQ-3).
    OldMailDropped,
    /// The deadline of an approval says yes (breaks G10).
    DeadlineApproves,
    /// Urgent mail goes before the person's words (breaks the precedence; TQ-1).
    UrgentBeforePrompt,
    /// Mail goes into a session that is being closed (breaks the precedence; TQ-8, NB-9).
    MailBesideClose,
    /// A second close of a session is not answered (breaks G4; TQ-3).
    SecondCloseForgotten,
}

impl Planted {
    /// Every bug of the core; the tester's own list has those of the shell besides.
    pub const ALL: [Planted; 13] = [
        Planted::ClaimForgottenOnExit,
        Planted::AbsenceBelievedAtOnce,
        Planted::TurnBesideOurs,
        Planted::WaiterForgotten,
        Planted::ConsumedFromResponse,
        Planted::SteerOvertakes,
        Planted::LostWakeUp,
        Planted::RecoveryRepeated,
        Planted::OldMailDropped,
        Planted::DeadlineApproves,
        Planted::UrgentBeforePrompt,
        Planted::MailBesideClose,
        Planted::SecondCloseForgotten,
    ];
}
