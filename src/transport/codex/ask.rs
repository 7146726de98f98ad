//! Questions of Codex: approvals wait for the core (a pane may answer them before), everything else is refused at once.
//!
//! | Method | Kind | Declined with |
//! | --- | --- | --- |
//! | `item/commandExecution/requestApproval` | command | `{"decision":"decline"}` |
//! | `item/fileChange/requestApproval` | change | `{"decision":"decline"}` |
//! | `item/permissions/requestApproval` | permissions | an error, which refuses |
//! | `item/tool/requestUserInput` | question | `{"answers":{}}` |
//! | `mcpServer/elicitation/request` | elicitation | `{"action":"decline"}` |
//! | `execCommandApproval`, `applyPatchApproval` (older) | command, change | `{"decision":"denied"}` |
//! | any other | n/a | an error at once |
//!
//! **Invariant:** nothing here says yes.

use serde_json::{Value, json};

use super::Codex;
use crate::model::child::{ApprovalAsked, ChildEvent};
use crate::wire::rpc::Id;

/// A question that waits.
#[derive(Debug)]
pub(super) struct Ask {
    id: Id,
    /// The answer that declines; `None` declines by an error.
    declined: Option<Value>,
}

impl Codex {
    pub(super) fn on_ask(&mut self, id: &Id, method: &str, params: &Value) {
        let decline = json!({"decision": "decline"});
        let (kind, declined) = match method {
            "item/commandExecution/requestApproval" => ("command", Some(decline)),
            "item/fileChange/requestApproval" => ("change", Some(decline)),
            "item/permissions/requestApproval" => ("permissions", None),
            "item/tool/requestUserInput" => ("question", Some(json!({"answers": {}}))),
            "mcpServer/elicitation/request" => ("elicitation", Some(json!({"action": "decline"}))),
            "execCommandApproval" => ("command", Some(json!({"decision": "denied"}))),
            "applyPatchApproval" => ("change", Some(json!({"decision": "denied"}))),
            _ => return self.refuse(id, &format!("agentmux does not answer `{method}`")),
        };
        let thread = params["threadId"].as_str().or(params["conversationId"].as_str());
        let Some(session) = thread.and_then(|thread| self.session_of(thread)) else {
            return self.refuse(id, "agentmux does not know that thread");
        };
        let key = json!(id).to_string();
        let summary = summary(params);
        self.asks.insert(key.clone(), Ask { id: id.clone(), declined });
        let asked = ApprovalAsked { key, session, kind: kind.to_owned(), summary };
        self.events.push_back(ChildEvent::ApprovalAsked(asked));
    }

    pub(super) fn decline(&mut self, key: &str) {
        let Some(ask) = self.asks.remove(key) else { return };
        match ask.declined {
            Some(result) => self.send(&json!({"id": ask.id, "result": result})),
            None => self.refuse(&ask.id, "nobody answered in time"),
        }
    }

    fn refuse(&mut self, id: &Id, why: &str) {
        self.send(&json!({"id": id, "error": {"code": -32_601, "message": why}}));
    }
}

/// What the child wants to do, in one line.
fn summary(params: &Value) -> String {
    let texts = ["command", "reason", "message"].iter().filter_map(|key| match &params[key] {
        Value::String(text) => Some(text.clone()),
        Value::Array(words) => Some(words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")),
        _ => None,
    });
    let line = texts.collect::<Vec<_>>().join(": ");
    line.chars().take(500).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
