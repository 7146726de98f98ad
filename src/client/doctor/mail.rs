//! The mail, as a running relay counts it: how long the oldest waits, what is in doubt, what ended undelivered.

use super::relay::Called;
use super::{Finding, Patient};
use crate::model::clock::age;
use crate::model::limits;
use crate::model::session::Wanted;
use crate::protocol::answer::{SessionInfo, Status};

pub fn mail(patient: &Patient) -> Option<Finding> {
    let Called::Answered(status) = patient.called() else { return None };
    judge(status, |words| patient.command(words))
}

fn judge(status: &Status, command: impl Fn(&str) -> String) -> Option<Finding> {
    let counts = status.mail?;
    let sessions = status.sessions.as_deref().unwrap_or_default();
    let late =
        |session: &&SessionInfo| session.oldest_pending_ms.is_some_and(|ms| ms > limits::PENDING_MS_LONG);
    let oldest = sessions.iter().filter_map(|session| session.oldest_pending_ms).max();
    let waits = oldest.map_or("nothing waits".to_owned(), |ms| format!("the oldest waits for {}", age(ms)));
    let summary =
        format!("{} queued, {} unknown, {} dead; {waits}", counts.queued, counts.unknown, counts.dead);
    let is_doubtful = counts.unknown >= limits::UNKNOWN_MAILS_MANY || counts.dead >= limits::DEAD_MAILS_MANY;
    if !is_doubtful && !sessions.iter().any(|session| late(&session)) {
        return Some(Finding::ok(summary));
    }
    let mut finding = Finding::warning(summary);
    if is_doubtful {
        finding = finding.fix(command("dead"));
    }
    for session in sessions.iter().filter(late) {
        let SessionInfo { name, pending, .. } = session;
        let why = session.reason.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
        let age = age(session.oldest_pending_ms.unwrap_or_default());
        let verb = if session.wanted == Wanted::Down { "up" } else { "attach" };
        finding = finding
            .detail(format!(
                "{name}: {pending} wait, the oldest for {age}; it is {}{why}",
                session.state.as_str()
            ))
            .fix(command(&format!("{verb} {name}")));
    }
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::doctor::Status as Health;

    fn judged(oldest_ms: Option<i64>, wanted: &str, unknown: u64, dead: u64) -> Finding {
        let off = serde_json::json!({"steer": false, "interrupt": false, "approvals": false, "reconcile": false,
            "evidence": "consumed"});
        let session = serde_json::json!({"name": "lead", "coder": "codex", "state": "stopped", "since": null,
            "reason": null, "threadId": null, "turnId": null, "pending": 2, "oldestPendingMs": oldest_ms,
            "attached": 0, "capabilities": off, "dir": "/p", "wanted": wanted});
        let status = serde_json::json!({"bundle": {"name": "b", "root": null, "rule": null},
            "relay": {"running": true, "pid": 1, "version": null, "protocol": 1, "startedAt": null, "stateDir": "/s"},
            "children": [], "sessions": [session], "approvals": 0, "clients": 1,
            "mail": {"queued": 2, "claimed": 0, "unknown": unknown, "dead": dead}});
        judge(&serde_json::from_value(status).unwrap(), |words| format!("agentmux {words}")).unwrap()
    }

    #[test]
    fn mail_that_is_old_in_doubt_or_dead_beyond_a_threshold_is_a_warning() {
        let fine = judged(Some(limits::PENDING_MS_LONG), "down", 1, 1);
        assert!(
            fine.status == Health::Ok
                && fine.summary == "2 queued, 1 unknown, 1 dead; the oldest waits for 15 min"
        );
        let old = judged(Some(2 * 3_600_000), "down", 0, 0);
        assert!(old.status == Health::Warning && old.fixes == ["agentmux up lead"], "{:?}", old.fixes);
        assert_eq!(old.details, ["lead: 2 wait, the oldest for 2 h; it is stopped"]);
        assert_eq!(judged(Some(2 * 3_600_000), "up", 0, 0).fixes, ["agentmux attach lead"]);
        for (unknown, dead) in [(limits::UNKNOWN_MAILS_MANY, 0), (0, limits::DEAD_MAILS_MANY)] {
            assert!(judged(None, "up", unknown, dead).status == Health::Warning);
        }
    }
}
