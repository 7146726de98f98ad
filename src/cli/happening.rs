//! Happenings as lines, for `watch` and `log`.
//!
//! **Invariant:** an event that this program does not know is shown with all its keys, because a newer relay may tell it.

use serde_json::Value;

use super::context::Context;
use super::print;
use crate::model::happening::{Happening, What};

/// Prints one happening: an object with `--json`, else a line.
pub fn print(context: &Context, event: &Value) {
    if context.json {
        return print::json(event);
    }
    let line = match serde_json::from_value::<Happening>(event.clone()) {
        Ok(Happening { at, what }) => format!("{}  {}", print::moment(at), words(&what, context.color)),
        Err(_) => print::safe(&event.to_string()),
    };
    print::data(&format!("{line}\n"));
}

fn words(what: &What, color: bool) -> String {
    let why = |why: &Option<String>| {
        why.as_deref().map(|why| format!(" ({})", print::first_line(why, 200))).unwrap_or_default()
    };
    match what {
        What::RelayStarted { pid, version } => format!("relay {version} started, pid {pid}"),
        What::RelayLeaving { why } => format!("relay leaves: {}", print::safe(why)),
        What::SessionSpawned { session } => format!("{session}  spawned"),
        What::SessionRemoved { session } => format!("{session}  removed"),
        What::State { session, from, state, reason, .. } => {
            let (from, to) = (print::state(*from, color), print::state(*state, color));
            format!("{session}  {from} → {to}{}", why(reason))
        }
        What::TurnStarted { session, turn_id } => format!("{session}  turn {} started", print::safe(turn_id)),
        What::TurnEnded { session, turn_id, outcome, why: words } => {
            format!("{session}  turn {} {outcome}{}", print::safe(turn_id), why(words))
        }
        What::Mail { mail, from, to, state, turn_id, note, .. } => {
            let turn =
                turn_id.as_deref().map(|turn| format!(" in turn {}", print::safe(turn))).unwrap_or_default();
            format!("{to}  mail {mail} from {from} {}{turn}{}", state.as_str(), why(note))
        }
        What::ApprovalAsked { session, approval, kind, summary } => {
            format!("{session}  approval {approval} asked ({kind}): {}", print::first_line(summary, 200))
        }
        What::ApprovalSettled { session, approval, decision, by, reason } => {
            let decision = print::first_line(decision, 80);
            format!("{session}  approval {approval} {decision} by {by}: {}", print::first_line(reason, 200))
        }
        What::QuestionRefused { session, method } => {
            let session = session.as_ref().map_or("child", |session| session.as_str());
            format!("{session}  question refused, which nobody here answers: {}", print::safe(method))
        }
        What::NameClaimed { name, epoch, by, taken_over } => {
            let how = if *taken_over { "taken over" } else { "claimed" };
            format!("{name}  name {how} by {} (claim {epoch})", print::safe(by))
        }
        What::NameReleased { name } => format!("{name}  name is free"),
        What::ChildStarted { pid } => format!("child started{}", of_pid(*pid)),
        What::ChildExited { pid, why } => {
            format!("child exited{}: {}", of_pid(*pid), print::first_line(why, 200))
        }
        What::PaneAttached { session, attached } => format!("{session}  pane attached, {attached} now"),
        What::PaneLeft { session, attached } => format!("{session}  pane left, {attached} now"),
        What::PaneMoved { session, elsewhere, thread_id } => match elsewhere {
            Some(how) => {
                let thread =
                    thread_id.as_deref().map(|id| format!(" {}", print::safe(id))).unwrap_or_default();
                format!("{session}  a pane has left: it shows {}{thread}", shown(how))
            }
            None => format!("{session}  a pane is back"),
        },
        What::Item { session, kind, source, text, .. } => {
            format!("{session}  {} ({source}): {}", print::safe(kind), print::first_line(text, 200))
        }
        What::Delta { session, text, .. } => format!("{session}  … {}", print::safe(text)),
        What::Missed { count } => format!("{count} events missed: this reader is too slow"),
    }
}

/// What a pane shows that has left its session.
pub fn shown(how: &str) -> &'static str {
    match how {
        "new" => "a new thread",
        "fork" => "a fork",
        _ => "another thread",
    }
}

fn of_pid(pid: Option<u32>) -> String {
    pid.map(|pid| format!(", pid {pid}")).unwrap_or_default()
}
