//! Children without a relay: they live on, which is meant, until a relay adopts them or `down` ends them.

use super::relay::Called;
use super::{Finding, Patient};
use crate::boot::descent;

pub fn children(patient: &Patient) -> Option<Finding> {
    // Only a relay knows which children are recorded; what runs below a living one is its business.
    match patient.called() {
        Called::Answered(status) => {
            return Some(Finding::ok(format!("{} running below their relay", status.children.len())));
        }
        Called::Refused(_) => return Some(Finding::ok("not looked for: a relay is there")),
        Called::Nobody => {}
    }
    let orphans: Vec<u32> =
        patient.dir().map(|dir| descent::serving(dir.path()).into_values().collect()).unwrap_or_default();
    if orphans.is_empty() {
        return Some(Finding::ok("none is left behind"));
    }
    let pids = orphans.iter().map(|pid| format!("pid {pid} serves a socket of this bundle"));
    Some(
        Finding::warning(format!("{} left behind by a relay that is gone", orphans.len()))
            .details(pids)
            .detail("the next relay adopts them; `down` ends them")
            .fix(patient.command("down")),
    )
}
