//! Questions of Codex: approvals wait for the core (a pane may answer them before), everything else is refused at once.
//!
//! | Method | Kind | Approved with | Declined with |
//! | --- | --- | --- | --- |
//! | `item/commandExecution/requestApproval` | command | `{"decision":"accept"}`, for ever the offered amendment | `{"decision":"decline"}` |
//! | `item/fileChange/requestApproval` | change | `{"decision":"accept"}` | `{"decision":"decline"}` |
//! | `item/permissions/requestApproval` | permissions | what it asks for, for the turn | `{"permissions":{},"scope":"turn"}` |
//! | `item/tool/requestUserInput` | question | n/a, it wants words | `{"answers":{}}` |
//! | `mcpServer/elicitation/request` | elicitation | `{"action":"accept"}`, when its form wants yes or no at most | `{"action":"decline"}` |
//! | `execCommandApproval`, `applyPatchApproval` (older) | command, change | `{"decision":"approved"}` | `{"decision":{"denied":{"rejection":…}}}` |
//! | any other | n/a | n/a | an error at once |
//!
//! Beside yes and no a question may offer others (`acceptForSession`, `cancel`, which ends the turn, …); they are named as they are
//! offered, and chosen by their names.
//!
//! **Invariant:** nothing here says yes but [`Codex::approve`], which the core commands.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Codex;
use crate::model::child::{Always, ApprovalAsked, ChildEvent};
use crate::model::limits;
use crate::model::name::Name;
use crate::wire::rpc::Id;

/// The offered answer that changes the rules on disk.
const AMENDED: &str = "acceptWithExecpolicyAmendment";

/// A question that waits.
#[derive(Debug)]
pub(super) struct Ask {
    id: Id,
    /// Whose turn waits.
    pub(super) session: Name,
    /// The thread, which may be a sub-agent's.
    pub(super) thread: Option<String>,
    shape: Shape,
    /// The answer that approves, once.
    approved: Option<Value>,
    /// The answer that approves for ever.
    always: Option<Value>,
    /// Every other answer that is offered, by its name.
    others: BTreeMap<String, Value>,
}

/// How a question is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Decision,
    Permissions,
    Question,
    Elicitation,
    Older,
}

impl Codex {
    pub(super) fn on_ask(&mut self, id: &Id, method: &str, params: &Value) {
        let (kind, shape) = match method {
            "item/commandExecution/requestApproval" => ("command", Shape::Decision),
            "item/fileChange/requestApproval" => ("change", Shape::Decision),
            "item/permissions/requestApproval" => ("permissions", Shape::Permissions),
            "item/tool/requestUserInput" => ("question", Shape::Question),
            "mcpServer/elicitation/request" => ("elicitation", Shape::Elicitation),
            "execCommandApproval" => ("command", Shape::Older),
            "applyPatchApproval" => ("change", Shape::Older),
            _ => {
                let session = self.asked_about(params);
                return self.refuse_unknown(
                    id,
                    session,
                    method,
                    &format!("agentmux does not answer `{method}`"),
                );
            }
        };
        let Some(session) = self.asked_about(params) else {
            if self.seek_owner(id, method, params) {
                return;
            }
            return self.refuse_unknown(id, None, method, "agentmux does not know that thread");
        };
        let key = json!(id).to_string();
        self.learn_sub_turn(params);
        let thread = params["threadId"].as_str().map(str::to_owned);
        let sub = thread.as_ref().and_then(|thread| self.subs.get(thread));
        let own = self.threads.get(&session).filter(|_| sub.is_none());
        let change = own.and_then(|own| own.change.as_ref()).or(sub.and_then(|sub| sub.change.as_ref()));
        let change = change.filter(|(item, _)| params["itemId"] == item.as_str()).map(|(_, paths)| paths);
        let mut summary = summary(params, change.map(String::as_str));
        if sub.is_some() {
            summary.push_str(" (asked by a sub-agent)");
        }
        let approved = approved(shape, params);
        let (always, amended) = match amendment(params) {
            Some((always, answer)) => (Some(always), Some(answer)),
            None => (None, None),
        };
        let others = others(shape, params);
        let asked = ApprovalAsked {
            key: key.clone(),
            session,
            kind: kind.to_owned(),
            summary,
            command: text(&params["command"]).map(|command| bounded(&command)),
            cwd: params["cwd"].as_str().map(bounded),
            decisions: decisions(params, approved.is_some(), &others),
            can_approve: approved.is_some(),
            always,
        };
        let session = asked.session.clone();
        let ask = Ask {
            id: id.clone(),
            session: session.clone(),
            thread,
            shape,
            approved,
            always: amended,
            others,
        };
        self.asks.insert(key, ask);
        self.events.push_back(ChildEvent::ApprovalAsked(asked));
        self.asks_no_more(session);
    }

    pub(super) fn approve(&mut self, key: &str, always: bool) {
        let Some(ask) = self.asks.remove(key) else { return };
        match if always { ask.always } else { ask.approved } {
            Some(result) => self.send(&json!({"id": ask.id, "result": result})),
            None => self.refuse(&ask.id, "agentmux cannot approve this"),
        }
    }

    pub(super) fn choose(&mut self, key: &str, decision: &str) {
        let Some(ask) = self.asks.remove(key) else { return };
        match ask.others.get(decision) {
            Some(result) => self.send(&json!({"id": ask.id, "result": result})),
            None => self.refuse(&ask.id, "agentmux was not offered this"),
        }
    }

    pub(super) fn decline(&mut self, key: &str, reason: &str) {
        let Some(ask) = self.asks.remove(key) else { return };
        let result = match ask.shape {
            Shape::Decision => json!({"decision": "decline"}),
            Shape::Permissions => json!({"permissions": {}, "scope": "turn"}),
            Shape::Question => json!({"answers": {}}),
            Shape::Elicitation => json!({"action": "decline"}),
            Shape::Older => json!({"decision": {"denied": {"rejection": reason}}}),
        };
        self.send(&json!({"id": ask.id, "result": result}));
    }

    pub(super) fn on_resolved(&mut self, key: &str) {
        self.unplaced.remove(key);
        if self.asks.remove(key).is_some() {
            self.events.push_back(ChildEvent::ApprovalResolved { key: key.to_owned() });
        }
    }

    /// The session whose thread, or sub-agent's thread, a question names.
    fn asked_about(&self, params: &Value) -> Option<Name> {
        let thread = params["threadId"].as_str().or(params["conversationId"].as_str())?;
        self.owner_of(thread)
    }

    /// Nobody here answers that: a newer child may ask it, so that people are told.
    pub(super) fn refuse_unknown(&mut self, id: &Id, session: Option<Name>, method: &str, why: &str) {
        let method = method.chars().filter(|c| !c.is_control()).take(limits::METHOD_CHARS_SHOWN).collect();
        self.events.push_back(ChildEvent::AskRefused { session, method });
        self.refuse(id, why);
    }

    fn refuse(&mut self, id: &Id, why: &str) {
        self.send(&json!({"id": id, "error": {"code": -32_601, "message": why}}));
    }
}

/// The answer that approves once, if a plain yes is an answer.
fn approved(shape: Shape, params: &Value) -> Option<Value> {
    match shape {
        Shape::Decision => {
            let offered = params["availableDecisions"].as_array();
            let is_offered = offered.is_none_or(|offered| offered.iter().any(|one| one == "accept"));
            is_offered.then(|| json!({"decision": "accept"}))
        }
        Shape::Permissions => {
            let wanted = &params["permissions"];
            wanted.is_object().then(|| json!({"permissions": wanted, "scope": "turn"}))
        }
        Shape::Question => None,
        Shape::Elicitation if params["mode"] == "url" => Some(json!({"action": "accept"})),
        Shape::Elicitation => {
            form(&params["requestedSchema"]).map(|content| json!({"action": "accept", "content": content}))
        }
        Shape::Older => Some(json!({"decision": "approved"})),
    }
}

/// What a yes puts into a form: true for what wants yes or no, else the default; nothing when a required field has neither.
fn form(schema: &Value) -> Option<Value> {
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut content = Map::new();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let is_required = required.contains(&name.as_str());
        if is_required && field["type"] == "boolean" {
            content.insert(name.clone(), json!(true));
        } else if !field["default"].is_null() {
            content.insert(name.clone(), field["default"].clone());
        } else if is_required {
            return None;
        }
    }
    Some(Value::Object(content))
}

/// The offered answer that approves what begins so for ever, and what it changes (measured).
fn amendment(params: &Value) -> Option<(Always, Value)> {
    let offered = params["availableDecisions"].as_array()?.iter().find(|one| one[AMENDED].is_object())?;
    let prefix = offered[AMENDED]["execpolicy_amendment"].as_array()?;
    let always = Always {
        file: "$CODEX_HOME/rules/default.rules".to_owned(),
        rule: format!("prefix_rule(pattern={}, decision=\"allow\")", json!(prefix)),
        reach: "every agent of that CODEX_HOME".to_owned(),
    };
    Some((always, json!({"decision": offered})))
}

/// What is offered beside a yes, a yes for ever and a no; where nothing is said, what the kind of question always takes.
fn others(shape: Shape, params: &Value) -> BTreeMap<String, Value> {
    let told = |names: &[&str]| names.iter().map(|name| json!(name)).collect();
    let offered: Vec<Value> = match (shape, params["availableDecisions"].as_array()) {
        (Shape::Decision, Some(offered)) => offered.clone(),
        (Shape::Decision, None) => told(&["acceptForSession", "cancel"]),
        (Shape::Elicitation, _) => told(&["cancel"]),
        (Shape::Permissions | Shape::Question | Shape::Older, _) => Vec::new(),
    };
    let key = if shape == Shape::Elicitation { "action" } else { "decision" };
    let named = |one: Value| Some((decision_name(&one)?, json!({ key: one })));
    let mut others: BTreeMap<String, Value> = offered.into_iter().filter_map(named).collect();
    others.retain(|name, _| !["accept", "decline", AMENDED].contains(&name.as_str()));
    others
}

fn decision_name(decision: &Value) -> Option<String> {
    match decision {
        Value::String(name) => Some(name.clone()),
        Value::Object(named) => named.keys().next().cloned(),
        _ => None,
    }
}

/// The names of the answers that are offered; declining is always possible.
fn decisions(params: &Value, can_approve: bool, others: &BTreeMap<String, Value>) -> Vec<String> {
    let mut names: Vec<String> = match params["availableDecisions"].as_array() {
        Some(offered) => offered.iter().filter_map(decision_name).collect(),
        None => {
            let yes = can_approve.then(|| "accept".to_owned());
            yes.into_iter().chain(others.keys().cloned()).collect()
        }
    };
    if !names.iter().any(|name| name == "decline") {
        names.push("decline".to_owned());
    }
    names
}

/// What the child wants to do, in one line.
fn summary(params: &Value, change: Option<&str>) -> String {
    let texts = ["command", "reason", "message", "url"].iter().filter_map(|key| text(&params[key]));
    let questions = params["questions"].as_array().into_iter().flatten();
    let questions = questions.filter_map(|question| text(&question["question"]));
    let permissions = Some(&params["permissions"]).filter(|wanted| wanted.is_object()).map(Value::to_string);
    let all = texts.chain(questions).chain(permissions).chain(change.map(str::to_owned));
    let line = all.collect::<Vec<_>>().join(": ");
    line.chars().take(500).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A text, or the words of a command.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(words) => Some(words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")),
        _ => None,
    }
}

/// What a person decides about is shown whole, unless it is beyond reading.
fn bounded(text: &str) -> String {
    let most = limits::APPROVAL_COMMAND_CHARS_MAX;
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{} … (cut after {most} characters)", &text[..at]),
        None => text.to_owned(),
    }
}
