//! Actions: what may be done once the lap is committed, in the imperative.
//!
//! **Invariant:** no action leaves the relay before the commit of the lap that decided it (G1).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::record::DeliveryId;
use crate::model::child::ChildCommand;
use crate::model::clock::Millis;
use crate::model::fault::Fault;
use crate::model::happening::Happening;
use crate::model::id::{ClaimId, ConnId, MailId, Nonce, TurnId};
use crate::model::limits;
use crate::model::name::Name;
use crate::protocol::answer::{Answer, ChildInfo, SessionDetails, SessionInfo};
use crate::protocol::check::cursor_place;
use crate::wire::rpc::Id;

/// Something that the shell shall do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Answer a request.
    Reply {
        /// On which connection.
        conn: ConnId,
        /// Which request.
        id: Id,
        /// With what.
        answer: Answer,
    },
    /// Refuse a request.
    Refuse {
        /// On which connection.
        conn: ConnId,
        /// Which request.
        id: Id,
        /// Why.
        fault: Fault,
    },
    /// Answer a request from the store.
    Query {
        /// On which connection.
        conn: ConnId,
        /// Which request.
        id: Id,
        /// What to look up.
        query: Query,
    },
    /// Tell a client something that it did not ask for.
    Notify {
        /// On which connection.
        conn: ConnId,
        /// What happened.
        event: Event,
    },
    /// Tell those who watch.
    Tell(Box<Happening>),
    /// Let a client watch.
    Watch {
        /// On which connection.
        conn: ConnId,
        /// Which request.
        id: Id,
        /// What.
        watching: Watching,
    },
    /// Answer with the history, and let the client watch what follows if it wants to.
    Log {
        /// On which connection.
        conn: ConnId,
        /// Which request.
        id: Id,
        /// What.
        logging: Logging,
    },
    /// Close a connection once what it is owed is written.
    Close {
        /// Which connection.
        conn: ConnId,
    },
    /// Start a child.
    SpawnChild {
        /// What it carries.
        nonce: Nonce,
        /// Its place.
        slot: u32,
        /// The program, as the session has it.
        program: String,
        /// The session whose stored environment it gets.
        environment_of: Name,
    },
    /// Connect to a child that outlived the former relay.
    AdoptChild {
        /// What it carries.
        nonce: Nonce,
        /// Its place.
        slot: u32,
        /// Its process.
        pid: u32,
    },
    /// Give a child a command.
    Command {
        /// Which child.
        nonce: Nonce,
        /// The command.
        command: ChildCommand,
    },
    /// Give a child a claim's mails as one turn.
    Deliver(Deliver),
    /// Signal a child.
    SignalChild {
        /// Which child.
        nonce: Nonce,
        /// How hard.
        signal: Signal,
    },
    /// End every process that carries an ended child's nonce.
    SweepChild {
        /// Which child.
        nonce: Nonce,
    },
    /// Let panes reach a child.
    PublishPanes {
        /// The child's place.
        slot: u32,
    },
    /// Keep panes from a child until its threads are open again.
    WithdrawPanes {
        /// The child's place.
        slot: u32,
    },
    /// Store the environment that a session's next child gets.
    KeepEnvironment {
        /// The session.
        name: Name,
        /// The variables.
        environment: BTreeMap<String, String>,
    },
    /// Forget the stored environment of a session.
    ForgetEnvironment {
        /// The session.
        name: Name,
    },
    /// Leave.
    Exit,
}

/// How hard a child is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Please.
    Term,
    /// Now.
    Kill,
}

/// A claim to be put into a turn; the shell loads the bodies and writes the envelopes.
#[derive(Debug, Clone, PartialEq)]
pub struct Deliver {
    /// Which child.
    pub nonce: Nonce,
    /// Which session.
    pub session: Name,
    /// The claim.
    pub claim: ClaimId,
    /// Its mails, in order.
    pub deliveries: Vec<DeliveryId>,
    /// The running turn that they join; a turn of their own without it.
    pub into: Option<TurnId>,
    /// Whether the session has our own tools to answer with.
    pub tools: bool,
    /// Names that must not follow a `$` directly.
    pub skills: Arc<[String]>,
    /// The moment that ages are counted to.
    pub at: Millis,
}

/// What a client is told without having asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The relay is leaving because somebody stopped it; do not start it again.
    Stopping,
    /// The child behind an attached session went away; its screen will come back with it.
    ChildGone {
        /// The session.
        session: Name,
    },
}

/// What somebody wants to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watching {
    /// Only what concerns this name.
    pub session: Option<Name>,
    /// Only these words; all without any.
    pub events: Vec<String>,
    /// From where on.
    pub begin: Begin,
}

/// From where on somebody watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    /// From so many happenings ago.
    Replay(u32),
    /// From the one after this.
    After {
        /// The relay that numbered it.
        stream: String,
        /// Its number.
        seq: u64,
    },
}

/// Which part of the history somebody wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logging {
    /// Only what concerns this name.
    pub session: Option<Name>,
    /// Whether somebody has that name now; who was removed has a history, too.
    pub is_known: bool,
    /// Only the mail of this conversation.
    pub thread: Option<MailId>,
    /// Only what happened since then.
    pub since: Option<Millis>,
    /// How many, the last ones.
    pub limit: u32,
    /// Whether to go on with what happens.
    pub follow: bool,
}

/// Which part of a list is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// How many rows at most.
    pub rows: u32,
    /// Below which number; what is newer was listed before.
    pub before: i64,
}

impl Page {
    /// The part that a request means, whose cursor has been checked.
    pub fn of(limit: Option<u32>, cursor: Option<&str>) -> Page {
        let rows = limit.unwrap_or(limits::LIST_ROWS_DEFAULT).clamp(1, limits::LIST_ROWS_MAX);
        Page { rows, before: cursor.and_then(cursor_place).unwrap_or(i64::MAX) }
    }
}

/// A read-only question, authorised by the core and answered from the store after the commit.
#[derive(Debug, Clone, PartialEq)]
pub enum Query {
    /// `mail/list`.
    Inbox {
        /// Whose mail.
        name: Name,
        /// Only what its recipient has not had yet.
        unread: bool,
        /// Only from this sender.
        from: Option<Name>,
        /// Only what was accepted since then.
        since: Option<Millis>,
        /// Which part of it.
        page: Page,
        /// The moment that ages are counted to.
        at: Millis,
    },
    /// `mail/list` that took what it lists.
    Taken {
        /// Which mails, in order.
        mails: Vec<MailId>,
        /// Whose.
        reader: Name,
        /// The moment that ages are counted to.
        at: Millis,
    },
    /// `mail/read`.
    Read {
        /// Which mail.
        mail: MailId,
        /// From whose point of view.
        reader: Name,
        /// The moment that ages are counted to.
        at: Millis,
    },
    /// `mail/trace`, with the reasons that only the core knows.
    Trace {
        /// Which mail.
        mail: MailId,
        /// Why a delivery that is still open is not further, by recipient.
        reasons: Vec<(Name, String)>,
    },
    /// `mail/dead`.
    Dead {
        /// Which part of it.
        page: Page,
        /// The moment that ages are counted to.
        at: Millis,
    },
    /// `mail/search`; what is not indexed yet is indexed first.
    Search {
        /// The words.
        text: String,
        /// Which part of what is found.
        page: Page,
        /// The moment that ages are counted to.
        at: Millis,
    },
    /// `session/show`; the shell adds the environment.
    Show {
        /// The session.
        session: Box<SessionDetails>,
    },
    /// `relay/status`, with everything that only the core knows.
    Status {
        /// The sessions.
        sessions: Vec<SessionInfo>,
        /// The children, without memory.
        children: Vec<ChildInfo>,
        /// Approvals that wait for a person.
        approvals: u64,
        /// Connected clients.
        clients: u64,
        /// Open deliveries: queued, claimed or submitted, unknown.
        open: [u64; 3],
    },
}

/// The children that a relay found alive at its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Survivor {
    /// What it carries.
    pub nonce: Nonce,
    /// Its process.
    pub pid: u32,
}
