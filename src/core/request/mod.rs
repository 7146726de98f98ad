//! What each verb's method decides; one file per verb, named for it.

mod ack;
mod approvals;
mod approve;
mod attach;
mod cancel;
mod close;
mod dead;
mod deny;
mod down;
mod hold;
mod inbox;
mod interrupt;
mod list;
mod log;
mod look;
mod prompt;
mod read;
mod release;
mod remove;
mod reply;
mod requeue;
mod search;
mod send;
mod show;
mod spawn;
mod status;
mod trace;
mod up;
mod wait;
mod watch;

use super::Core;
use super::conn::Identity;
use crate::model::fault::Fault;
use crate::model::mail::FromKind;
use crate::model::name::{self, Name};

/// The refusal of what only a session that is up can do.
pub(super) fn stopped_refusal(what: &str, name: &Name) -> Fault {
    Fault::refused(format!("{what}: {name} is stopped")).hint(format!("start it: agentmux up {name}"))
}

impl Core {
    /// Finds sessions by name; without names all of them.
    fn named_sessions(&self, names: &[String]) -> Result<Vec<Name>, Fault> {
        if names.is_empty() {
            return Ok(self.ledger.sessions.keys().cloned().collect());
        }
        let mut found: Vec<Name> = Vec::new();
        for name in names {
            let known = self.session_named(name)?;
            if !found.contains(&known) {
                found.push(known);
            }
        }
        Ok(found)
    }

    /// Finds one session by name; the refusal suggests the nearest ones.
    fn session_named(&self, name: &str) -> Result<Name, Fault> {
        let known = Name::parse(name).filter(|name| self.ledger.sessions.contains_key(name));
        known.ok_or_else(|| match Name::parse(name).filter(|name| self.ledger.outsiders.contains_key(name)) {
            Some(name) => Fault::not_found(format!(
                "session not found: {name} is an agent outside, with a mailbox only"
            ))
            .hint(format!("write to it: agentmux send {name} -")),
            None => self.unknown_name("session", name, &[]),
        })
    }

    /// Whether mail can be addressed to a name.
    fn has_mailbox(&self, name: &Name) -> bool {
        *name == Name::operator()
            || self.ledger.sessions.contains_key(name)
            || self.ledger.outsiders.contains_key(name)
    }

    /// The refusal of somebody's look at mail of others; the operator may look at all.
    fn foreign_refusal(&self, what: &str, by: &Identity, mail: &crate::model::mail::Mail) -> Option<Fault> {
        let own = by.kind == FromKind::Operator || mail.from == by.name || mail.to.contains(&by.name);
        (!own).then(|| Fault::refused(format!("{what} refused: mail {} is not yours", mail.id)))
    }

    /// The refusal of an answer to mail of others, which would be taken for the answer that its sender waits for. Commands in an
    /// agent's shell have no name, and answer what its turn has read; such an answer is from `outside`, and says so.
    fn foreign_answer_refusal(&self, by: &Identity, mail: &crate::model::mail::Mail) -> Option<Fault> {
        let fault = self.foreign_refusal("answer", by, mail).filter(|_| by.has_name())?;
        Some(fault.hint("write to its sender without naming the mail"))
    }

    /// The refusal for an unknown name, with the nearest known ones.
    fn unknown_name(&self, what: &str, wanted: &str, besides: &[&str]) -> Fault {
        let names = self.ledger.sessions.keys().chain(self.ledger.outsiders.keys());
        let known = names.map(Name::as_str).chain(besides.iter().copied());
        let near = name::nearest(wanted, known);
        let wanted: String = wanted.chars().take(40).collect();
        let fault = Fault::not_found(format!(
            "{what} not found: there is no `{wanted}` in bundle {}",
            self.settings.bundle
        ));
        if !near.is_empty() {
            return fault.hint(format!("did you mean {}", near.join(", ")));
        }
        if self.ledger.sessions.is_empty() {
            return fault.hint(format!("there are no sessions yet; create it: agentmux spawn {wanted}"));
        }
        fault.hint("`agentmux list` shows the sessions")
    }
}
