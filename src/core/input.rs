//! Inputs: what happened, with every stored row that it names already looked up, and the random bits it may need.
//!
//! **Invariant:** an input is all that the core ever learns of the world.

use super::action::Survivor;
use super::ledger::Claim;
use super::record::DeliveryId;
use crate::model::child::ChildEvent;
use crate::model::clock::Millis;
use crate::model::id::{ClaimId, ConnId, MailId, Nonce};
use crate::model::mail::{DeliveryState, Mail};
use crate::model::name::Name;
use crate::protocol::request::Request;
use crate::wire::rpc::Id;

/// The moment of a lap and fresh random bits.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The lap's one `now`.
    pub now: Millis,
    /// 128 random bits, never used before.
    pub seed: u128,
    /// 128 more, for tokens and nothing else: what is minted from the seed is no secret.
    pub secret: u128,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The relay has started and the ledger is loaded.
    Started {
        /// Recorded children that are still alive.
        survivors: Vec<Survivor>,
    },
    /// A client connected.
    ConnOpened {
        /// The connection.
        conn: ConnId,
        /// Whether its process descends from one of our children.
        descends: bool,
        /// Its process, for people to read.
        pid: Option<u32>,
    },
    /// A client is gone.
    ConnClosed {
        /// The connection.
        conn: ConnId,
    },
    /// A client asked for something.
    Asked {
        /// The connection.
        conn: ConnId,
        /// The request's id.
        id: Id,
        /// What it asked for.
        request: Box<Request>,
        /// The rows that the request names.
        resolved: Resolved,
    },
    /// A child was started.
    ChildSpawned {
        /// The child.
        nonce: Nonce,
        /// Its process.
        pid: u32,
    },
    /// A child could not be started.
    ChildNotSpawned {
        /// The child.
        nonce: Nonce,
        /// Why.
        why: String,
    },
    /// A child told us something.
    Child {
        /// The child.
        nonce: Nonce,
        /// What.
        event: ChildEvent,
    },
    /// The connection to a living child broke; the shell is connecting again.
    ChildLost {
        /// The child.
        nonce: Nonce,
        /// Why.
        why: String,
    },
    /// A child says more than anybody can have to say.
    ChildFlooded {
        /// The child.
        nonce: Nonce,
        /// What it has said, for a sentence.
        what: String,
    },
    /// A child has more memory than it may have.
    ChildGrew {
        /// The child.
        nonce: Nonce,
        /// What it has, resident.
        bytes: u64,
        /// What it may have.
        most: u64,
    },
    /// A child's process has ended.
    ChildExited {
        /// The child.
        nonce: Nonce,
        /// How.
        why: String,
        /// The last lines of its errors, in one; may be empty.
        words: String,
    },
    /// What the shell changed in a claim's text before it went out.
    Rendered {
        /// The claim.
        claim: ClaimId,
        /// What there is to say of it.
        note: String,
    },
    /// A deadline may have passed.
    Tick,
    /// A signal or the end of the project's directory asks the relay to leave.
    Leave {
        /// Why.
        why: String,
    },
}

/// The stored rows that a request names.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Resolved {
    /// The mail that it refers to.
    pub mail: Lookup,
    /// The mail that has the same sender and idempotency key.
    pub keyed: Option<Box<Known>>,
    /// Whether it was sent before the answers to earlier requests of its connection had left, so that it confirms none.
    pub pipelined: bool,
    /// Connections that hold the name that a hello asks for, and whose other end is gone.
    pub hung_up: Vec<ConnId>,
    /// Why the lock of the name that a hello or a spawn asks for cannot be held, if so: somebody else has it, or it is no file of ours.
    pub name_locked: Option<crate::model::fault::Fault>,
    /// Whether the file system is nearly full.
    pub disk_low: bool,
    /// The claims that its deliveries were in, when it is to be delivered again.
    pub claims: Vec<(DeliveryId, ClaimId, Claim)>,
    /// Dead deliveries, when all of them are meant.
    pub dead: Vec<DeliveryId>,
    /// Why a session's directory or program cannot be used, if so.
    pub spawn_refused: Option<crate::model::fault::Fault>,
    /// Approvals that were settled and that the reference may mean.
    pub settled_approvals: Vec<PastApproval>,
    /// The environment of the child that asks, as far as it names a file that a yes for ever would change.
    pub variables: Vec<(String, String)>,
}

/// An approval that was settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastApproval {
    /// Its id.
    pub id: String,
    /// How.
    pub decision: String,
    /// By whom.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Millis,
}

/// What a reference to a mail led to.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Lookup {
    /// The request refers to none.
    #[default]
    None,
    /// One mail.
    Found(Box<Known>),
    /// No mail.
    Missing,
    /// Several mails.
    Ambiguous(Vec<MailId>),
}

/// A stored mail and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// The mail.
    pub mail: Mail,
    /// Bytes of its body, which is not always loaded.
    pub bytes: u32,
    /// Where each delivery stands, with reason and turn.
    pub deliveries: Vec<KnownDelivery>,
    /// The first mail that answers it.
    pub answered_by: Option<MailId>,
}

/// Where one stored delivery stands.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownDelivery {
    /// Its number.
    pub id: DeliveryId,
    /// The recipient.
    pub to: Name,
    /// The state.
    pub state: DeliveryState,
    /// The note of its last step.
    pub reason: Option<String>,
    /// The turn that it is in.
    pub turn: Option<String>,
}
