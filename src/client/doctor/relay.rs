//! The relay: who holds its lock, whether it answers, and whether it is the one that this program would start.

use super::{Finding, Patient};
use crate::boot::process;
use crate::boot::statedir::{LOG, RELAY_LOCK, SOCKET, StateDir};
use crate::client::Reached;
use crate::model::fault::{Code, Fault};
use crate::protocol::VERSION;
use crate::protocol::answer::Status;

/// What came of calling the relay.
pub enum Called {
    /// It answered.
    Answered(Box<Status>),
    /// Nobody listens.
    Nobody,
    /// Somebody does, but gave no answer.
    Refused(Fault),
}

/// Calls the relay, with the deadline of every hello.
pub fn call(patient: &Patient) -> Called {
    let Some(dir) = patient.dir() else { return Called::Nobody };
    let connection = match patient.target.reach_in(dir) {
        Ok(Reached::Relay(connection)) => connection,
        Ok(Reached::Nobody) => return Called::Nobody,
        Err(fault) => return Called::Refused(fault),
    };
    match status(*connection) {
        Ok(status) => Called::Answered(Box::new(status)),
        Err(fault) => Called::Refused(fault),
    }
}

fn status(mut connection: crate::client::Connection) -> Result<Status, Fault> {
    let patience = std::time::Duration::from_millis(crate::model::limits::HELLO_ANSWER_MS);
    let deadline = Some(std::time::Instant::now() + patience);
    Ok(connection.call_until("relay/status", &serde_json::json!({}), deadline)?)
}

pub fn relay(patient: &Patient) -> Option<Finding> {
    if let Err(fault) = &patient.dir {
        return Some(
            Finding::warning("not looked for: the bundle's directory is refused").detail(&fault.message),
        );
    }
    Some(match patient.called() {
        Called::Answered(status) => running(patient, status),
        Called::Refused(fault) => silent(patient, fault),
        Called::Nobody => absent(patient),
    })
}

fn running(patient: &Patient, status: &Status) -> Finding {
    let (relay, pid) = (&status.relay, status.relay.pid.unwrap_or_default());
    let version = relay.version.as_deref().unwrap_or("unknown");
    let what =
        format!("pid {pid} answers: version {version}, protocol {}", relay.protocol.unwrap_or_default());
    let program = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    let is_replaced = program.to_string_lossy().ends_with(" (deleted)");
    let mut finding = if version != VERSION {
        Finding::warning(what).detail(format!("this program is {VERSION}; they work together"))
    } else if is_replaced {
        Finding::warning(what).detail(format!("its program was replaced on disk: {}", program.display()))
    } else {
        Finding::ok(what)
    };
    if version != VERSION || is_replaced {
        // In the foreground; no agent is ended by it.
        finding = finding.fix(patient.command("host relay --replace"));
    }
    match patient.holder() {
        Some(holder) if holder.pid != relay.pid => {
            finding.detail(format!("{RELAY_LOCK} names {}; its text is for people only", holder.named()))
        }
        _ => finding,
    }
}

/// Somebody accepts and does not answer, or cannot be asked.
fn silent(patient: &Patient, fault: &Fault) -> Finding {
    let holder = patient.holder().filter(|holder| holder.is_alive_here());
    let finding = Finding::fail(&fault.message);
    match (fault.code, holder.and_then(|holder| holder.pid)) {
        (Code::Busy, Some(pid)) if process::is_stopped(pid) => finding
            .detail(format!("process {pid} is stopped: it lives, and does nothing"))
            .fix(format!("kill -CONT {pid}")),
        (Code::Busy, _) => {
            let log = patient.target.dir().join(LOG);
            finding.detail("it is overloaded or hangs").fix(format!("tail -n 20 {}", super::word(&log)))
        }
        (Code::Version, _) => finding.fix(patient.command("host relay --replace")),
        (Code::Sandbox, _) => finding.detail("see the check `sandbox`").fix(patient.command("doctor -v")),
        _ => finding.details(fault.hint.clone()).fix(patient.command("status")),
    }
}

fn absent(patient: &Patient) -> Finding {
    let has_socket = |dir: &StateDir| dir.stat(SOCKET).is_ok_and(|stat| stat.is_some());
    match patient.dir() {
        Some(dir) if lock_holder(dir).is_some() => {
            Finding::warning("a relay holds its lock, but nobody listens: it is starting or leaving")
                .fix(patient.command("doctor"))
        }
        Some(dir) if has_socket(dir) && is_elsewhere(patient) => {
            Finding::warning(format!("none answers here; {SOCKET} may be another host's"))
                .detail("see the check `lock`")
                .fix(patient.command("doctor"))
        }
        Some(dir) if has_socket(dir) => {
            Finding::warning(format!("none is running; a dead one left its {SOCKET}"))
                .detail("the next relay removes it by itself")
                .fix(patient.command("doctor --fix"))
        }
        _ => Finding::ok("none is running; the next command that needs one starts it"),
    }
}

pub fn lock(patient: &Patient) -> Option<Finding> {
    let Some(dir) = patient.dir() else { return Some(Finding::ok(format!("no {RELAY_LOCK} to look at"))) };
    let holder = patient.holder();
    if let Some(there) = holder.as_ref().filter(|_| is_elsewhere(patient)) {
        return Some(
            Finding::warning(format!("{RELAY_LOCK} was taken on host {}: {}", there.place(), there.named()))
                .detail("a state directory serves one host; its pids and its socket mean nothing on another")
                .fix(format!("ssh {} {}", there.host, patient.command("down"))),
        );
    }
    let finding = match lock_holder(dir) {
        Some(pid) => Finding::ok(format!("{RELAY_LOCK} is held by pid {pid}")),
        None => Finding::ok(format!("{RELAY_LOCK} is free")),
    };
    Some(match holder {
        Some(holder) if !holder.is_alive_here() => {
            let why =
                if holder.boot == process::boot_id() { "which has ended" } else { "of an earlier boot" };
            finding.detail(format!("its text names {}, {why}; that is in nobody's way", holder.named()))
        }
        _ => finding,
    })
}

/// Whether the lock was last taken on another host.
fn is_elsewhere(patient: &Patient) -> bool {
    patient.holder().is_some_and(|holder| holder.is_elsewhere())
}

/// Who holds the relay's lock, without touching it.
fn lock_holder(dir: &StateDir) -> Option<u32> {
    let stat = dir.stat(RELAY_LOCK).ok()??;
    process::lockers(stat.st_dev, stat.st_ino).next()
}
