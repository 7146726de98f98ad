//! The guarantees that the world watches over, and the breach of one.
//!
//! **Invariant:** the first breach of a world is kept; what follows from it says nothing.

use std::fmt;

/// What can be broken. The numbers are those of the design's guarantees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guarantee {
    /// G1: a reply that says *queued* leaves only after the commit, and the mail stays.
    AcceptedIsOnDisk,
    /// G1: equal idempotency keys of one sender are one mail.
    OneMailPerKey,
    /// G2: a mail is in at most one open claim, and a lease ends with its child.
    OneOpenClaim,
    /// G2: a mail is told once; twice only where nobody can know, and never three times.
    ToldOnce,
    /// G3: a session has at most one turn of ours in flight.
    OneTurnInFlight,
    /// G4: every request gets exactly one reply, or its connection closes.
    OneReply,
    /// G5: `consumed` is written, and told, only on evidence.
    ConsumedOnEvidence,
    /// G6: mail of one sender to one session arrives in order within a priority.
    InOrder,
    /// Precedence: fyi never starts a turn, and mail joins a running one only when it may.
    FyiWaits,
    /// Precedence: close, interrupt, prompt, urgent, normal, fyi, and first in first out inside each.
    Precedence,
    /// Holds, brakes and stops are a person's: what they hold back goes to nobody.
    PersonDecides,
    /// G7: nothing waits without a deadline: when faults stop, everything converges, and then nothing wakes the relay.
    Converges,
    /// G8: recovering twice equals recovering once.
    RecoversOnce,
    /// G9: the store equals the ledger.
    StoreIsLedger,
    /// G10: a child is told yes only when the operator said so.
    ApprovedByOperator,
    /// G11: undelivered mail ends only by a named cause.
    EndsByNamedCause,
    /// No child of ours is unknown to the store.
    NoOrphan,
    /// No assertion of the core fails.
    NoPanic,
}

impl Guarantee {
    fn name(self) -> &'static str {
        match self {
            Guarantee::AcceptedIsOnDisk => "G1 accepted means on disk",
            Guarantee::OneMailPerKey => "G1 equal keys are one mail",
            Guarantee::OneOpenClaim => "G2 at most one open claim",
            Guarantee::ToldOnce => "G2 told once",
            Guarantee::OneTurnInFlight => "G3 one turn of ours in flight",
            Guarantee::OneReply => "G4 exactly one reply",
            Guarantee::ConsumedOnEvidence => "G5 consumed on evidence",
            Guarantee::InOrder => "G6 in order",
            Guarantee::FyiWaits => "mail waits as its priority says",
            Guarantee::Precedence => "precedence",
            Guarantee::PersonDecides => "what a person holds back stays back",
            Guarantee::Converges => "G7 nothing waits without a deadline",
            Guarantee::RecoversOnce => "G8 recovering twice is recovering once",
            Guarantee::StoreIsLedger => "G9 the store is the ledger",
            Guarantee::ApprovedByOperator => "G10 approved by the operator",
            Guarantee::EndsByNamedCause => "G11 mail ends by a named cause",
            Guarantee::NoOrphan => "no orphan",
            Guarantee::NoPanic => "no failed assertion",
        }
    }
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One broken guarantee.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breach {
    pub guarantee: Guarantee,
    pub what: String,
}
