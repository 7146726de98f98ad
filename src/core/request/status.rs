//! `status`: what the core knows of bundle, children, sessions and mail; the shell adds memory and stored counts.

use super::super::action::{Action, Query};
use super::super::conn::Ask;
use super::super::{Core, Step};

impl Core {
    pub(in crate::core) fn request_status(&mut self, step: &mut Step, ask: Ask) {
        let query = Query::Status {
            sessions: self.session_infos(step.now),
            children: self.child_infos(),
            approvals: self.open_approvals(),
            clients: self.count_clients(),
            open: self.open_counts(),
        };
        step.act(Action::Query { conn: ask.conn, id: ask.id, query });
    }
}
