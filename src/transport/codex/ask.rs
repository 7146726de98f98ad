//! Questions of Codex: approvals wait for the core (a pane may answer them before), everything else is refused at once.
//!
//! | Method | Kind | Approved with | Declined with |
//! | --- | --- | --- | --- |
//! | `item/commandExecution/requestApproval` | command | `{"decision":"accept"}`, for ever the offered amendment | `{"decision":"decline"}` |
//! | `item/fileChange/requestApproval` | change | `{"decision":"accept"}` | `{"decision":"decline"}` |
//! | `item/permissions/requestApproval` | permissions | what it asks for, for the turn; `session` for longer | `{"permissions":{},"scope":"turn"}` |
//! | `item/tool/requestUserInput` | question | n/a, it wants words | `{"answers":{}}` |
//! | `mcpServer/elicitation/request` | elicitation | `{"action":"accept"}`, when its form wants yes or no at most; with `_meta.persist` as offered | `{"action":"decline"}` |
//! | `execCommandApproval`, `applyPatchApproval` (older) | command, change | `{"decision":"approved"}` | `{"decision":{"denied":{"rejection":…}}}` |
//! | any other | n/a | n/a | an error at once |
//!
//! Beside yes and no a question may offer others (`acceptForSession`, `cancel`, which ends the turn, …); they are named as they are
//! offered, and chosen by their names (`offer`), with what they would change on disk.
//!
//! **Invariant:** nothing here says yes but [`Codex::approve`], which the core commands.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Codex;
use super::offer::{self, Offer};
use crate::model::child::{ApprovalAsked, ChildEvent};
use crate::model::limits;
use crate::model::name::Name;
use crate::wire::rpc::Id;

/// A question that waits.
#[derive(Debug)]
pub(super) struct Ask {
    id: Id,
    /// The thread whose turn waits; it may be a sub-agent's.
    pub(super) thread: Option<String>,
    shape: Shape,
    /// The answer that approves, once.
    approved: Option<Value>,
    /// The answer that approves for ever.
    always: Option<Value>,
    /// Every other answer that is offered, by its name.
    others: BTreeMap<String, Offer>,
}

/// How a question is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
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
        let thread = thread_of(params).map(str::to_owned);
        let sub = thread.as_ref().and_then(|thread| self.subs.get(thread));
        let own = self.threads.get(&session).filter(|_| sub.is_none());
        let change = own.and_then(|own| own.change.as_ref()).or(sub.and_then(|sub| sub.change.as_ref()));
        let change = change.filter(|(item, _)| params["itemId"] == item.as_str()).map(|(_, paths)| paths);
        let mut summary = summary(params, change.map(String::as_str));
        if sub.is_some() {
            summary.push_str(" (asked by a sub-agent)");
        }
        let approved = approved(shape, params);
        let (always, amended) = offer::for_ever(params, approved.as_ref()).unzip();
        let others = offer::others(shape, params, approved.as_ref());
        let asked = ApprovalAsked {
            key: key.clone(),
            session,
            kind: kind.to_owned(),
            summary,
            command: text(&params["command"]).or(tool(params)).map(|command| bounded(&command)),
            cwd: params["cwd"].as_str().map(bounded),
            decisions: offer::names(params, approved.is_some(), always.is_some(), &others),
            choices: others.iter().map(|(name, offer)| (name.clone(), offer.choice.clone())).collect(),
            can_approve: approved.is_some(),
            always,
        };
        let session = asked.session.clone();
        let ask = Ask { id: id.clone(), thread: thread.clone(), shape, approved, always: amended, others };
        self.asks.insert(key, ask);
        self.events.push_back(ChildEvent::ApprovalAsked(asked));
        self.asks_no_more(&session, &thread.unwrap_or_default());
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
            Some(offer) => self.send(&json!({"id": ask.id, "result": offer.answer})),
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
        self.owner_of(thread_of(params)?)
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

/// The thread that a question is about.
pub(super) fn thread_of(params: &Value) -> Option<&str> {
    params["threadId"].as_str().or(params["conversationId"].as_str())
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

/// What the child wants to do, in one line.
fn summary(params: &Value, change: Option<&str>) -> String {
    let texts = ["command", "reason", "message", "url"].iter().filter_map(|key| text(&params[key]));
    let questions = params["questions"].as_array().into_iter().flatten();
    let questions = questions.filter_map(|question| text(&question["question"]));
    let permissions = Some(&params["permissions"]).filter(|wanted| wanted.is_object()).map(Value::to_string);
    let all = texts.chain(questions).chain(permissions).chain(tool(params)).chain(change.map(str::to_owned));
    let line = all.collect::<Vec<_>>().join(": ");
    line.chars()
        .take(limits::APPROVAL_SUMMARY_CHARS_MAX)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// The tool that an MCP server wants to run, and with what: nobody approves that unseen.
fn tool(params: &Value) -> Option<String> {
    let about = &params["_meta"];
    let wanted = Some(&about["tool_params"]).filter(|wanted| !wanted.is_null())?;
    Some(format!("{} {wanted}", about["tool_name"].as_str().unwrap_or_default()).trim_start().to_owned())
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
