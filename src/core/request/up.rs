//! `up`: brings sessions up, and tries again what was given up; `session/configure`, by which it hands on what a file says.

use super::super::action::Action;
use super::super::conn::Ask;
use super::super::input::Resolved;
use super::super::record::Record;
use super::super::running::Phase;
use super::super::waiting::Wait;
use super::super::{Core, Step};
use super::spawn::session_of;
use crate::model::fault::Fault;
use crate::model::limits;
use crate::model::name::Name;
use crate::model::session::{Session, Wanted};
use crate::protocol::answer::{Answer, Change, Configured};
use crate::protocol::request::Spawn;

impl Core {
    pub(in crate::core) fn request_up(&mut self, step: &mut Step, ask: Ask, names: &[String]) {
        let names = match self.named_sessions(names) {
            Ok(names) => names,
            Err(fault) => return step.refuse(ask, fault),
        };
        for name in &names {
            if self.ledger.sessions.get(name).is_some_and(|session| session.wanted == Wanted::Down) {
                self.want(step, name, Wanted::Up);
            }
            self.forgive(step, name);
            self.touch(name);
        }
        let deadline = step.now.plus(limits::CHILD_START_MS + limits::THREAD_OPEN_MS);
        let number = self.wait(ask, Wait::Up { names: names.clone() }, deadline);
        if names.is_empty() {
            self.evaluate_wait(step, number);
        }
    }

    /// Gives a session the settings that a file has for it. A running one is never stopped for them.
    pub(in crate::core) fn request_configure(
        &mut self,
        step: &mut Step,
        ask: Ask,
        spawn: Spawn,
        resolved: Resolved,
    ) {
        let name = match self.session_named(&spawn.name) {
            Ok(name) => name,
            Err(fault) => return step.refuse(ask, fault),
        };
        if let Some(fault) = resolved.spawn_refused {
            return step.refuse(ask, fault);
        }
        let change = self.change_by(&name, &spawn);
        if change == Change::Made {
            let Some(known) = self.ledger.sessions.get(&name).cloned() else {
                return step.refuse(ask, Fault::bug("the session was looked up before"));
            };
            let environment = spawn.environment.clone();
            let session = Session {
                thread: known.thread,
                wanted: known.wanted,
                held_until: known.held_until,
                blocked_until: known.blocked_until,
                consumed_at: known.consumed_at,
                summary: known.summary,
                ..session_of(name.clone(), spawn, known.created_at, known.stopped_after)
            };
            self.record(step, Record::SessionConfigured(session));
            step.act(Action::KeepEnvironment { name: name.clone(), environment });
        }
        step.reply(ask, Answer::Configured(Configured { name, change }));
    }

    /// What these settings would change. The environment of the caller is no setting: a session keeps the one that it was
    /// spawned with, until something else changes.
    fn change_by(&self, name: &Name, spawn: &Spawn) -> Change {
        let Some(known) = self.ledger.sessions.get(name) else { return Change::None };
        let new = session_of(name.clone(), spawn.clone(), known.created_at, known.stopped_after);
        let is_same = (&known.program, &known.setup, known.wake, known.isolated, known.skills_in_mail)
            == (&new.program, &new.setup, new.wake, new.isolated, new.skills_in_mail);
        let runs = self
            .sessions
            .get(name)
            .is_some_and(|running| !matches!(running.phase, Phase::Stopped | Phase::Failed));
        match (is_same, runs) {
            (true, _) => Change::None,
            (false, true) => Change::Later,
            (false, false) => Change::Made,
        }
    }
}
