//! `spawn`: creates a session and brings it up; on failure no session remains.

use super::super::action::Action;
use super::super::conn::Ask;
use super::super::input::Resolved;
use super::super::record::Record;
use super::super::running::Running;
use super::super::waiting::Wait;
use super::super::{Core, Step};
use crate::model::clock::Millis;
use crate::model::fault::{Code, Fault};
use crate::model::happening::What;
use crate::model::id::{ThreadId, thread_id};
use crate::model::limits;
use crate::model::name::Name;
use crate::model::session::{ChildKey, Coder, Session, ThreadSetup, Wanted};
use crate::protocol::request::Spawn;

/// The session that a spawn describes.
pub(super) fn session_of(name: Name, spawn: Spawn, now: Millis, stopped_after: i64) -> Session {
    let environment = spawn.environment.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let isolated = spawn.isolated.then_some(&name);
    let thread = wanted_thread(&spawn);
    Session {
        coder: Coder::Codex,
        child_key: ChildKey::of(Coder::Codex, &spawn.program, isolated, environment),
        name,
        program: spawn.program,
        setup: ThreadSetup {
            dir: spawn.dir,
            instructions: spawn.instructions,
            model: spawn.model,
            sandbox: spawn.sandbox,
            approval: spawn.approval,
        },
        thread,
        wanted: Wanted::Up,
        created_at: now,
        held_until: None,
        blocked_until: None,
        consumed_at: None,
        wake: spawn.wake,
        isolated: spawn.isolated,
        skills_in_mail: spawn.skills_in_mail,
        summary: None,
        stopped_after,
    }
}

/// The thread that a spawn brings in, as its child calls it.
fn wanted_thread(spawn: &Spawn) -> Option<ThreadId> {
    spawn.thread.as_deref().and_then(thread_id)
}

impl Core {
    pub(in crate::core) fn request_spawn(
        &mut self,
        step: &mut Step,
        ask: Ask,
        spawn: Spawn,
        resolved: Resolved,
    ) {
        let Some(name) = Name::parse(&spawn.name) else {
            return step.refuse(ask, Fault::bug("the name was checked before"));
        };
        if let Some(fault) = self.spawn_refusal(&name, &spawn, resolved) {
            return step.refuse(ask, fault);
        }
        let stopped_after = self.ledger.last_delivery;
        let session = session_of(name.clone(), spawn, step.now, stopped_after);
        self.record(step, Record::SessionSpawned(session));
        self.sessions.insert(name.clone(), Running::new(step.now));
        self.forgive(step, &name);
        self.touch(&name);
        let deadline = step.now.plus(limits::CHILD_START_MS + limits::THREAD_OPEN_MS);
        self.wait(ask, Wait::Spawned { name }, deadline);
    }

    fn spawn_refusal(&self, name: &Name, spawn: &Spawn, resolved: Resolved) -> Option<Fault> {
        if name.is_reserved() {
            return Some(Fault::usage(format!("spawn refused: `{name}` is a reserved name")));
        }
        if self.ledger.sessions.contains_key(name) {
            let fault = Fault::conflict(format!("spawn refused: there is a session `{name}` already"));
            return Some(
                fault.hint(format!("`agentmux up {name}` starts it, `agentmux remove {name}` removes it")),
            );
        }
        if self.ledger.outsiders.contains_key(name) {
            let fault = Fault::conflict(format!("spawn refused: `{name}` is the name of an outside agent"));
            return Some(fault.hint(format!("`agentmux remove {name}` removes it, with its mail")));
        }
        if self.ledger.sessions.len() >= limits::SESSIONS_MAX {
            return Some(Fault::busy(format!(
                "spawn refused: there are {} sessions, the limit",
                limits::SESSIONS_MAX
            )));
        }
        let wanted = wanted_thread(spawn);
        let same_thread = |session: &&Session| wanted.is_some() && session.thread == wanted;
        if let Some(holder) = self.ledger.sessions.values().find(same_thread) {
            return Some(Fault::new(
                Code::Conflict,
                format!("spawn refused: session `{}` has that thread", holder.name),
            ));
        }
        resolved.name_locked.or(resolved.spawn_refused)
    }

    /// Removes a session with everything that waits for it: its mail ends as failed, and requests that wait for it are told.
    pub(in crate::core) fn remove_session(&mut self, step: &mut Step, name: &Name, why: &str) {
        if !self.ledger.sessions.contains_key(name) {
            return;
        }
        // An opening that is under way is forgotten.
        self.ask_to_leave(step, name);
        self.thread_left(step, name, why);
        self.fail_mail_to(step, name, why);
        self.record(step, Record::SessionRemoved { name: name.clone() });
        self.tell(step, What::SessionRemoved { session: name.clone() });
        self.sessions.remove(name);
        self.touched.remove(name);
        self.touch_sleepers();
        step.act(Action::ForgetEnvironment { name: name.clone() });
        self.evaluate_waiting_for_session(step, name);
    }
}
