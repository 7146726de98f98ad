//! The mail, as a running relay counts it: how long the oldest waits, what is in doubt, what ended undelivered.

use super::relay::Called;
use super::{Finding, Patient};
use crate::model::clock::age;
use crate::model::limits;
use crate::model::session::Wanted;

pub fn mail(patient: &Patient) -> Option<Finding> {
    let Called::Answered(status) = patient.called() else { return None };
    let counts = status.mail?;
    let sessions = status.sessions.as_deref().unwrap_or_default();
    let late = |ms: Option<i64>| ms.is_some_and(|ms| ms > limits::PENDING_MS_LONG);
    let oldest = sessions.iter().filter_map(|session| session.oldest_pending_ms).max();
    let waiting = oldest.map_or("nothing waits".to_owned(), |ms| format!("the oldest waits for {}", age(ms)));
    let summary =
        format!("{} queued, {} unknown, {} dead; {waiting}", counts.queued, counts.unknown, counts.dead);
    let mut finding = Finding::ok(summary);
    let is_much = counts.unknown >= limits::UNKNOWN_MAILS_MANY || counts.dead >= limits::DEAD_MAILS_MANY;
    if is_much {
        finding = Finding::warning(finding.summary).fix(patient.command("list"));
    }
    for session in sessions.iter().filter(|session| late(session.oldest_pending_ms)) {
        let (name, state) = (&session.name, session.state.as_str());
        let why = session.reason.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
        let age = age(session.oldest_pending_ms.unwrap_or_default());
        let verb = if session.wanted == Wanted::Down { "up" } else { "attach" };
        finding.status = super::Status::Warning;
        finding = finding
            .detail(format!("{} mails for {name}, the oldest for {age}; it is {state}{why}", session.pending))
            .fix(patient.command(&format!("{verb} {name}")));
    }
    Some(finding)
}
