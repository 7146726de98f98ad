//! `attach`: tells a pane how to show a session's live thread, and counts it while its connection lives.

use super::super::conn::Ask;
use super::super::waiting::Wait;
use super::super::{Core, Step};
use crate::model::fault::Fault;
use crate::model::happening::What;
use crate::model::limits;
use crate::protocol::answer::{Answer, Nothing};
use crate::protocol::request::PaneReport;

impl Core {
    pub(in crate::core) fn request_attach(&mut self, step: &mut Step, ask: Ask, name: &str) {
        let name = match self.session_named(name) {
            Ok(name) => name,
            Err(fault) => return step.refuse(ask, fault),
        };
        let number = self.wait(
            ask,
            Wait::Attach { name },
            step.now.plus(limits::CHILD_START_MS + limits::THREAD_OPEN_MS),
        );
        self.evaluate_wait(step, number);
    }

    /// `pane/report`: a pane has left its session, or has come back, or answers what its child asks.
    pub(in crate::core) fn request_report(&mut self, step: &mut Step, ask: Ask, report: PaneReport) {
        let Some(session) = self.conns.get(&ask.conn).and_then(|conn| conn.attached.clone()) else {
            return step.refuse(ask, Fault::refused("report refused: this connection shows no session"));
        };
        if let Some(answered) = &report.answered {
            self.note_answer(step.now, &session, &answered.request, &answered.decision);
            return step.reply(ask, Answer::Nothing(Nothing {}));
        }
        let Some(conn) = self.conns.get_mut(&ask.conn) else { return };
        let before = std::mem::replace(&mut conn.elsewhere, report.elsewhere.clone());
        if before != report.elsewhere {
            let (how, thread_id) = report.elsewhere.map_or((None, None), |e| (Some(e.how), e.thread_id));
            self.tell(step, What::PaneMoved { session, elsewhere: how, thread_id });
        }
        step.reply(ask, Answer::Nothing(Nothing {}));
    }
}
