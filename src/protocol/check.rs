//! Grammar and sizes of what a caller writes. The relay checks every request by them; a command checks first, so that a bad one
//! starts no relay.
//!
//! **Invariant:** a refusal quotes what was given, short and without control characters, and says what would be right.

use std::collections::BTreeMap;

use super::request::{Elsewhere, PaneReport, Spawn};
use crate::model::fault::{Code, Fault};
use crate::model::happening;
use crate::model::id::thread_id;
use crate::model::limits;
use crate::model::mail::Priority;
use crate::model::name::Name;

/// Checks body, subject and key of a mail; clients call it too, so that bad mail starts no relay.
///
/// # Errors
/// `usage`, with the limit and the size that broke it.
pub fn check_mail(body: &str, subject: Option<&str>, key: Option<&str>) -> Result<(), Fault> {
    if body.is_empty() {
        return Err(Fault::usage("mail refused: the body is empty").hint(
            "an empty body is mostly a failed substitution; give it on stdin: agentmux send NAME - <<'EOF'",
        ));
    }
    if body.len() > limits::BODY_BYTES_MAX {
        let (is, most) = (body.len(), limits::BODY_BYTES_MAX);
        return Err(Fault::usage(format!("mail refused: the body has {is} bytes, the limit is {most}"))
            .hint("write it to a file in the project and send the path"));
    }
    if body.contains('\0') {
        return Err(Fault::usage("mail refused: the body contains a NUL byte")
            .hint("encode binary data, or send the path of a file"));
    }
    if let Some(subject) = subject {
        if subject.chars().count() > limits::SUBJECT_CHARS_MAX {
            return Err(Fault::usage(format!(
                "mail refused: the subject is longer than {} characters",
                limits::SUBJECT_CHARS_MAX
            )));
        }
        if subject.chars().any(is_unprintable) {
            return Err(Fault::usage(
                "mail refused: the subject contains control or text-direction characters",
            ));
        }
    }
    check_size("idempotency key", key, limits::KEY_BYTES_MAX)
}

/// Checks the priority of a mail: a person's own words are no mail, and only `session/prompt` makes them.
///
/// # Errors
/// `usage` for `prompt`.
pub fn check_priority(priority: Priority) -> Result<(), Fault> {
    match priority {
        Priority::Prompt => Err(Fault::usage("mail refused: `prompt` is no priority of mail")
            .hint("urgent, normal and fyi are; a person gives words of their own by `agentmux prompt`")),
        _ => Ok(()),
    }
}

/// Checks the reason for a denial; clients call it too.
///
/// # Errors
/// `usage` when it is too long, or not one plain line.
pub fn check_reason(reason: Option<&str>) -> Result<(), Fault> {
    if reason.is_some_and(|reason| reason.chars().any(is_unprintable)) {
        return Err(Fault::usage("reason refused: it contains control or text-direction characters"));
    }
    check_size("reason", reason, limits::REASON_BYTES_MAX)
}

/// Checks the words of events that somebody wants to be told.
///
/// # Errors
/// `usage` for a word that there is not, and for `delta` of no session.
pub fn check_events(words: &[String], session: Option<&str>) -> Result<(), Fault> {
    if session.is_none() && words.iter().any(|word| word == happening::DELTA) {
        let hint = "an answer is told as it is written only to who names its session";
        return Err(Fault::usage("watch refused: `delta` needs a session").hint(hint));
    }
    let Some(word) = words.iter().find(|word| !happening::WORDS.contains(&word.as_str())) else {
        return Ok(());
    };
    let word: String = word.chars().take(40).collect();
    let hint = format!("there are: {}", happening::WORDS.join(", "));
    Err(Fault::usage(format!("watch refused: no event `{word}`")).hint(hint))
}

/// Checks what a pane says that it shows.
///
/// # Errors
/// `usage` for a word that there is not, and for a thread id that is none.
pub fn check_report(report: &PaneReport) -> Result<(), Fault> {
    let plain = |id: &String| id.len() <= 64 && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let is_place = |elsewhere: &Elsewhere| {
        ["new", "fork", "other"].contains(&elsewhere.how.as_str()) && elsewhere.thread_id.iter().all(plain)
    };
    if !report.elsewhere.iter().all(is_place) {
        return Err(Fault::usage(
            "report refused: `how` is new, fork or other, and `threadId` a thread's id",
        ));
    }
    let is_short =
        |text: &str| text.len() <= limits::ANSWERED_BYTES_MAX && !text.chars().any(char::is_control);
    if report.answered.iter().all(|told| is_short(&told.request) && is_short(&told.decision)) {
        return Ok(());
    }
    Err(Fault::usage("report refused: `request` and `decision` are short words"))
}

/// Checks what a search asks for; clients call it too.
///
/// # Errors
/// `usage` when there is nothing to search for, or too much.
pub fn check_search(text: &str) -> Result<(), Fault> {
    if !text.chars().any(char::is_alphanumeric) {
        return Err(Fault::usage("search refused: there is no word to search for"));
    }
    check_size("text", Some(text), limits::SEARCH_BYTES_MAX)
}

/// Where in a list an answer goes on: a number that only the relay gives out, and a list has fewer of from row to row.
pub fn cursor_place(cursor: &str) -> Option<i64> {
    cursor.parse().ok().filter(|place| *place > 0)
}

/// Checks where a list shall go on; clients call it too.
///
/// # Errors
/// `usage` for what no answer can have had as its `cursor`.
pub fn check_cursor(cursor: Option<&str>) -> Result<(), Fault> {
    match cursor {
        Some(cursor) if cursor_place(cursor).is_none() => {
            let fault = Fault::usage(format!("list refused: `{}` is no cursor", quoted(cursor)));
            Err(fault.hint("give the `cursor` of the answer before, or none to begin with the newest"))
        }
        _ => Ok(()),
    }
}

/// Checks what a spawn asks for; clients call it too, so that a bad one starts no relay.
///
/// # Errors
/// `usage`, quoting what is not possible.
pub fn check_spawn(spawn: &Spawn) -> Result<(), Fault> {
    check_new_name(&spawn.name)?;
    check_size("instructions", spawn.instructions.as_deref(), limits::INSTRUCTIONS_BYTES_MAX)?;
    if let Some(thread) = spawn.thread.as_deref().filter(|thread| thread_id(thread).is_none()) {
        let fault = Fault::usage(format!("spawn refused: `{}` is no id of a thread", quoted(thread)));
        return Err(fault.hint("it looks like 0199a213-81c0-7800-8aa1-bbab2a035a53"));
    }
    check_limits(spawn.sandbox.as_deref(), spawn.approval.as_deref())
}

/// Checks what a session may be limited to.
///
/// # Errors
/// `usage`, quoting the word and the known ones.
pub fn check_limits(sandbox: Option<&str>, approval: Option<&str>) -> Result<(), Fault> {
    let one_of = |what: &str, value: Option<&str>, known: &[&str]| match value {
        Some(value) if !known.contains(&value) => Err(Fault::usage(format!(
            "{what} refused: `{}` is not one of {}",
            quoted(value),
            known.join(", ")
        ))),
        _ => Ok(()),
    };
    one_of("sandbox", sandbox, &["read-only", "workspace-write", "danger-full-access"])?;
    one_of("approval policy", approval, &["on-request", "never"])
}

/// Checks the name of a session to be: in the grammar, and not reserved.
///
/// # Errors
/// `usage`, quoting the name.
pub fn check_new_name(name: &str) -> Result<(), Fault> {
    check_name(name)?;
    if Name::parse(name).is_some_and(|name| name.is_reserved()) {
        return Err(Fault::usage(format!("spawn refused: `{name}` is a reserved name"))
            .hint("choose another name for the session"));
    }
    Ok(())
}

/// Checks a session's name.
///
/// # Errors
/// `usage`, quoting the name and its grammar.
pub fn check_name(name: &str) -> Result<(), Fault> {
    match Name::parse(name) {
        Some(_) => Ok(()),
        None => Err(bad_name(name)),
    }
}

/// Names that stand for several recipients; written with `@` before them.
pub type Groups = BTreeMap<String, Vec<String>>;

/// Recipients as the relay knows them: groups are replaced by their members.
///
/// # Errors
/// As [`check_recipient`].
pub fn expand(given: Vec<String>, groups: &Groups) -> Result<Vec<String>, Fault> {
    let mut to: Vec<String> = Vec::new();
    for text in given {
        let members = text.strip_prefix('@').and_then(|group| groups.get(group));
        for name in members.map_or(std::slice::from_ref(&text), Vec::as_slice) {
            check_recipient(name, groups)?;
            if !to.contains(name) {
                to.push(name.clone());
            }
        }
    }
    Ok(to)
}

/// Checks a recipient: a session's name, `operator`, or `@all`. Groups are the client's business; the relay knows none.
///
/// # Errors
/// `usage`, quoting what was given; `name@bundle` has a hint of its own; `not_found` for an unknown group.
pub fn check_recipient(to: &str, groups: &Groups) -> Result<(), Fault> {
    match to.strip_prefix('@') {
        Some("all") => Ok(()),
        Some(group) => {
            let known: Vec<String> = groups.keys().map(|group| format!("`@{group}`")).collect();
            let fault = format!("recipient not found: there is no group `@{}`", quoted(group));
            let hint = if known.is_empty() {
                "`@all` is every session; groups are named in agentmux.toml: [groups]".to_owned()
            } else {
                format!("there are {}, and `@all` is every session", known.join(", "))
            };
            Err(Fault::new(Code::NotFound, fault).hint(hint))
        }
        None if to.contains('@') => Err(Fault::usage(format!(
            "recipient refused: `{}` names another bundle",
            quoted(to)
        ))
        .hint(
            "mail stays inside its bundle for now; run the command with `--bundle` to write to another one",
        )),
        None => check_name(to),
    }
}

/// Whether a character may hide or forge text on a terminal or in an envelope.
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn bad_name(name: &str) -> Fault {
    Fault::usage(format!("name refused: `{}` is not a session name", quoted(name)))
        .hint("a name is a lower-case letter, then up to 31 lower-case letters, digits, `_` or `-`")
}

/// A user's text, short and without control characters, for quoting it back.
pub fn quoted(text: &str) -> String {
    text.chars().take(limits::QUOTED_CHARS_MAX).flat_map(char::escape_debug).collect()
}

fn check_size(what: &str, value: Option<&str>, bytes_max: usize) -> Result<(), Fault> {
    match value {
        Some(value) if value.len() > bytes_max => {
            Err(Fault::usage(format!("{what} refused: {} bytes, the limit is {bytes_max}", value.len())))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_mail_is_refused_with_its_reason() {
        for (body, subject, part) in [
            ("", None, "empty"),
            ("a\0b", None, "NUL"),
            ("x", Some("a\u{202e}b"), "direction"),
            ("x", Some("a\nb"), "control"),
        ] {
            let fault = check_mail(body, subject, None).unwrap_err();
            assert!(fault.message.contains(part) && fault.code == Code::Usage, "{fault:?}");
        }
        let long = "x".repeat(limits::BODY_BYTES_MAX + 1);
        assert!(check_mail(&long, None, None).unwrap_err().message.contains("1000001 bytes"));
        assert!(check_mail(&long[1..], Some("héllo"), None).is_ok());
    }

    #[test]
    fn another_bundle_is_refused_with_a_hint() {
        assert!(
            check_recipient("lead@web", &Groups::new())
                .unwrap_err()
                .hint
                .is_some_and(|hint| hint.contains("--bundle"))
        );
        assert_eq!(check_recipient("@nobody", &Groups::new()).unwrap_err().code, Code::NotFound);
        assert!(
            check_recipient("@all", &Groups::new()).is_ok()
                && check_recipient("operator", &Groups::new()).is_ok()
        );
    }
}
