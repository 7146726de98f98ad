//! `show`: one session whole. The shell adds its environment, which only the file system knows.

use super::super::action::{Action, Query};
use super::super::conn::Ask;
use super::super::{Core, Step};
use crate::protocol::answer::SessionDetails;

impl Core {
    pub(in crate::core) fn request_show(&mut self, step: &mut Step, ask: Ask, name: &str) {
        let name = match self.session_named(name) {
            Ok(name) => name,
            Err(fault) => return step.refuse(ask, fault),
        };
        let (Some(session), Some(info)) =
            (self.ledger.sessions.get(&name), self.session_info(step.now, &name))
        else {
            return;
        };
        let child = self.ready_child_of(&name).and_then(|nonce| self.ledger.children.get(&nonce));
        let setup = session.setup.clone();
        let session = SessionDetails {
            info,
            created_at: session.created_at,
            program: session.program.clone(),
            child_pid: child.and_then(|child| child.pid),
            instructions: setup.instructions,
            model: setup.model,
            sandbox: setup.sandbox,
            approval: setup.approval,
            isolated: session.isolated,
            wake_on_mail: session.wake,
            skills_in_mail: session.skills_in_mail,
            environment: None,
        };
        let query = Query::Show { session: Box::new(session) };
        step.act(Action::Query { conn: ask.conn, id: ask.id, query });
    }
}
