//! The answers that a question of Codex offers beside a plain yes and a plain no: how each is named, and what it would change on disk.
//!
//! | Offered | Name | Persists in |
//! | --- | --- | --- |
//! | `acceptWithExecpolicyAmendment` | the same, and `--always` | `rules/default.rules` (measured) |
//! | `applyNetworkPolicyAmendment` | the same, with host and action when there are several | `rules/default.rules` |
//! | `_meta.persist` of an MCP tool: `session`, `always` | the same, `always` as `--always`, too | `always`: `config.toml` (measured) |
//! | permissions for longer than the turn | `session` | nothing |
//! | older: `approved_for_session`, `abort` | the same | nothing |
//!
//! **Invariant:** no two offered answers have one name. **Invariant:** what persists says so, with its file.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::ask::Shape;
use crate::model::child::{Always, Choice};
use crate::model::limits;

/// The offered answer that changes the rules of commands.
const AMENDED: &str = "acceptWithExecpolicyAmendment";
/// The answer of an MCP tool that is kept.
const ALWAYS: &str = "always";
/// Answers that say no.
const NOES: &[&str] = &["cancel", "abort", "denied"];
/// Answers that have a word of their own: `approve`, `approve --always`, `deny`.
const PLAIN: &[&str] = &["accept", AMENDED, ALWAYS, "decline"];

/// One of the answers.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) answer: Value,
    pub(super) choice: Choice,
}

/// The offered answer that approves what is asked for ever, and what it changes.
pub(super) fn for_ever(params: &Value, approved: Option<&Value>) -> Option<(Always, Value)> {
    let offered = params["availableDecisions"].as_array().into_iter().flatten();
    if let Some(offered) = offered.into_iter().find(|one| one[AMENDED].is_object()) {
        return Some((lasting(offered)?, json!({"decision": offered})));
    }
    let answer = persisting(params, approved).find(|(word, _)| word == ALWAYS)?.1;
    Some((kept(params), answer))
}

/// What is offered beside a yes, a yes for ever and a no; where nothing is said, what the kind of question always takes.
pub(super) fn others(shape: Shape, params: &Value, approved: Option<&Value>) -> BTreeMap<String, Offer> {
    let plain = |names: &[&str]| -> Vec<(String, Value)> {
        names.iter().map(|name| ((*name).to_owned(), json!({"decision": name}))).collect()
    };
    let all = match (shape, params["availableDecisions"].as_array()) {
        (Shape::Decision, Some(offered)) => {
            let decided = |(name, one): (String, &Value)| (name, json!({"decision": one}));
            named(offered).into_iter().map(decided).collect()
        }
        (Shape::Decision, None) => plain(&["acceptForSession", "cancel"]),
        (Shape::Elicitation, _) => {
            let cancel = ("cancel".to_owned(), json!({"action": "cancel"}));
            persisting(params, approved).chain([cancel]).collect()
        }
        (Shape::Permissions, _) => {
            let longer = |_| json!({"permissions": params["permissions"], "scope": "session"});
            approved.map(longer).map(|answer| ("session".to_owned(), answer)).into_iter().collect()
        }
        (Shape::Older, _) => plain(&["approved_for_session", "abort"]),
        (Shape::Question, _) => Vec::new(),
    };
    let others = all.into_iter().filter(|(name, _)| !PLAIN.contains(&name.as_str()));
    let offer = |(name, answer): (String, Value)| {
        let decision = &answer["decision"];
        let is_no = NOES.contains(&name.as_str()) || decision_of_network(decision) == Some("deny");
        let is_kept = answer["_meta"]["persist"].as_str().is_some_and(|word| word != "session");
        let choice = Choice { is_no, lasting: lasting(decision).or(is_kept.then(|| kept(params))) };
        (name, Offer { answer, choice })
    };
    others.map(offer).collect()
}

/// The names of the answers that are offered; declining is always possible.
pub(super) fn names(
    params: &Value,
    can_approve: bool,
    has_always: bool,
    others: &BTreeMap<String, Offer>,
) -> Vec<String> {
    let mut names: Vec<String> = match params["availableDecisions"].as_array() {
        Some(offered) => named(offered).into_iter().map(|(name, _)| name).collect(),
        None => {
            let yes = can_approve.then(|| "accept".to_owned());
            let always = has_always.then(|| ALWAYS.to_owned());
            yes.into_iter().chain(always).chain(others.keys().cloned()).collect()
        }
    };
    if !names.iter().any(|name| name == "decline") {
        names.push("decline".to_owned());
    }
    names
}

/// Each offered decision with a name of its own: its kind; where several are of one kind, with what it says.
fn named(offered: &[Value]) -> Vec<(String, &Value)> {
    let kinds: Vec<Option<String>> = offered.iter().map(kind).collect();
    let mut names: Vec<(String, &Value)> = Vec::new();
    for (one, kind) in offered.iter().zip(&kinds) {
        let Some(kind) = kind else { continue };
        let is_shared = kinds.iter().flatten().filter(|other| *other == kind).count() > 1;
        let mut name = if is_shared { format!("{kind}{}", leaves(one)) } else { kind.clone() };
        while names.iter().any(|(taken, _)| *taken == name) {
            name.push_str(":again");
        }
        names.push((name, one));
    }
    names
}

fn kind(decision: &Value) -> Option<String> {
    match decision {
        Value::String(name) => Some(name.clone()),
        Value::Object(named) => named.keys().next().cloned(),
        _ => None,
    }
}

/// The texts in a decision, each behind a colon.
fn leaves(value: &Value) -> String {
    let all = match value {
        Value::Array(values) => values.iter().map(leaves).collect(),
        Value::Object(fields) => fields.values().map(leaves).collect(),
        Value::String(text) => format!(":{text}"),
        Value::Null => String::new(),
        other => format!(":{other}"),
    };
    all.chars().filter(|c| !c.is_control()).take(limits::DECISION_CHARS_MAX).collect()
}

/// The ways in which the answer to a tool's question can be kept, and those answers.
fn persisting<'a>(
    params: &'a Value,
    approved: Option<&'a Value>,
) -> impl Iterator<Item = (String, Value)> + 'a {
    let persist = &params["_meta"]["persist"];
    let one = persist.as_str().into_iter();
    let words = one.chain(persist.as_array().into_iter().flatten().filter_map(Value::as_str));
    words.filter_map(move |word| {
        let mut answer = approved?.clone();
        answer["_meta"] = json!({"persist": word});
        Some((word.to_owned(), answer))
    })
}

/// What an answer that is kept changes (measured with 0.169.0).
fn kept(params: &Value) -> Always {
    let server = params["serverName"].as_str().unwrap_or("?");
    let tool = params["_meta"]["tool_name"].as_str().unwrap_or("?");
    in_home("config.toml", format!("[mcp_servers.{server}.tools.{tool}] approval_mode = \"approve\""))
}

/// What a decision changes on disk: rules for commands (measured), for the network (by the schema), and whatever else amends a policy.
fn lasting(decision: &Value) -> Option<Always> {
    let (kind, said) = decision.as_object()?.iter().next()?;
    let rule = match kind.as_str() {
        AMENDED => {
            let prefix = said["execpolicy_amendment"].as_array()?;
            format!("prefix_rule(pattern={}, decision=\"allow\")", json!(prefix))
        }
        "applyNetworkPolicyAmendment" => {
            let (host, action) = (&said["network_policy_amendment"]["host"], decision_of_network(decision)?);
            format!("network_rule(host={host}, decision=\"{action}\")")
        }
        other if other.contains("mendment") => said.to_string(),
        _ => return None,
    };
    Some(in_home("rules/default.rules", rule))
}

fn in_home(file: &str, rule: String) -> Always {
    let rule = rule.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    Always { file: format!("$CODEX_HOME/{file}"), rule, reach: "every agent of that CODEX_HOME".to_owned() }
}

/// What is said of a host, `allow` or `deny`.
fn decision_of_network(decision: &Value) -> Option<&str> {
    decision["applyNetworkPolicyAmendment"]["network_policy_amendment"]["action"].as_str()
}
