//! Policy: what a person may set of delivery, and who may do what. What nothing was said about has the default: agents write to
//! each other, and everything else is the operator's.
//!
//! **Invariant:** no policy lets an agent settle an approval.

use std::collections::BTreeMap;

use super::conn::Identity;
use crate::model::fault::Fault;
use crate::model::limits;
use crate::model::mail::FromKind;
use crate::model::name::{self, Name};

/// See the header of this file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// After how long without a word a running turn's child is asked whether it still runs.
    pub silent_ms: i64,
    /// How long normal mail waits for an idle session before it may join a running turn.
    pub patience_ms: i64,
    /// Mails of agents in a row, each answering the one before, that go by without a word of the operator.
    pub brake_hops: u32,
    /// Mails of one agent to one other, in a minute.
    pub brake_pair_per_minute: usize,
    /// Mails of agents in one conversation, in a minute.
    pub brake_thread_per_minute: usize,
    /// Sessions that mail may have woken at once.
    pub wake_max: usize,
    /// How long an approval waits for a person before it is declined; `None` for ever.
    pub approval_ms: Option<i64>,
    /// Whether the turn ends with it then, where the child offers that.
    pub approval_cancels: bool,
    /// Whom a sender may write to; who is not named here may write to everybody.
    pub mail: Rules,
    /// Which agents may do what is else the operator's, by word.
    pub allow: Rules,
}

/// Names, each with the names or words that it goes together with; `*` is everybody.
pub type Rules = BTreeMap<String, Vec<String>>;

/// What may be allowed to agents, and the methods that it takes. Settling is not among it: an approval is a person's (G10).
pub const ALLOWABLE: &[(&str, &[&str])] = &[
    ("prompt", &["session/prompt"]),
    ("interrupt", &["session/interrupt"]),
    ("close", &["session/close"]),
    ("look", &["session/look"]),
];

impl Policy {
    /// Whom a sender may write to, when that is not everybody: by its own name, or by the kind of sender that it is.
    fn recipients_of(&self, from: &Identity) -> Option<&[String]> {
        let rule = |key: &str| self.mail.get(key).map(Vec::as_slice);
        rule(from.name.as_str()).or_else(|| rule(from.kind.as_str())).or_else(|| rule(EVERYBODY))
    }

    /// The refusal of mail that a sender may not write. The operator may write to everybody, and everybody to the operator.
    pub fn mail_refusal(&self, from: &Identity, to: &[Name]) -> Option<Fault> {
        let allowed = match from.kind {
            FromKind::Operator | FromKind::System => return None,
            FromKind::Agent | FromKind::Outside => self.recipients_of(from)?,
        };
        let may = |name: &Name| {
            *name == Name::operator() || allowed.iter().any(|one| one == EVERYBODY || one == name.as_str())
        };
        let refused = to.iter().find(|name| !may(name))?;
        let fault =
            Fault::refused(format!("mail refused: the policy does not let {} write to {refused}", from.name));
        let whom: Vec<&str> = allowed.iter().map(String::as_str).chain([name::OPERATOR]).collect();
        Some(fault.hint(format!("{} may write to {}", from.name, whom.join(", "))))
    }

    /// Whether an agent may call a method that is else the operator's.
    pub fn allows(&self, by: &Identity, method: &str) -> bool {
        let words = ALLOWABLE.iter().filter(|(_, methods)| methods.contains(&method));
        let named = |names: &Vec<String>| names.iter().any(|name| name == by.name.as_str());
        by.kind == FromKind::Agent && words.filter_map(|(word, _)| self.allow.get(*word)).any(named)
    }
}

const EVERYBODY: &str = "*";

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            silent_ms: limits::SILENT_MS,
            patience_ms: limits::PATIENCE_MS,
            brake_hops: limits::BRAKE_HOPS,
            brake_pair_per_minute: limits::BRAKE_PAIR_PER_MINUTE,
            brake_thread_per_minute: limits::BRAKE_THREAD_PER_MINUTE,
            wake_max: limits::WAKE_MAX,
            approval_ms: Some(limits::APPROVAL_MS),
            approval_cancels: false,
            mail: Rules::new(),
            allow: Rules::new(),
        }
    }
}
