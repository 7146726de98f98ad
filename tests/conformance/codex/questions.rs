//! Everything that Codex asks a person, with the answers that it takes: shapes as in the table of `transport/codex/ask.rs`.

use agentmux::model::id::ThreadId;
use serde_json::{Value, json};

use crate::kind::Question;

/// Each question about a thread: its method, its parameters, and what becomes of it.
pub fn all(thread: &ThreadId) -> Vec<(&'static str, Value, Question)> {
    let decline = r#"{"result":{"decision":"decline"}}"#;
    let denied = r#"{"result":{"decision":{"denied":{"rejection":"not now"}}}}"#;
    let nothing = r#"{"result":{"permissions":{},"scope":"turn"}}"#;
    let accept = r#"{"result":{"decision":"accept"}}"#;
    let offer = json!({"acceptWithExecpolicyAmendment": {"execpolicy_amendment": ["touch", "F"]}});
    let for_ever = json!({"result": {"decision": offer}}).to_string();
    let approved = r#"{"result":{"decision":"approved"}}"#;
    let all = [
        (
            "item/commandExecution/requestApproval",
            json!({"threadId": &**thread, "turnId": "t", "itemId": "call_66",
            "command": "/bin/bash -lc 'touch F'", "cwd": "/project", "reason": "it is\nneeded",
            "availableDecisions": ["accept", offer, "cancel"]}),
            "command",
            (Some(accept), Some(for_ever.as_str())),
            decline,
            "/bin/bash -lc 'touch F': it is needed",
        ),
        (
            "item/fileChange/requestApproval",
            json!({"threadId": &**thread, "turnId": "t", "itemId": "i", "reason": null}),
            "change",
            (Some(accept), None),
            decline,
            "",
        ),
        (
            "item/permissions/requestApproval",
            json!({"threadId": &**thread, "turnId": "t", "reason": "network",
            "permissions": {"network": {"enabled": true}}}),
            "permissions",
            (Some(r#"{"result":{"permissions":{"network":{"enabled":true}},"scope":"turn"}}"#), None),
            nothing,
            "network: {\"network\":{\"enabled\":true}}",
        ),
        (
            "item/tool/requestUserInput",
            json!({"threadId": &**thread, "turnId": "t", "questions": [{"id": "q1", "question": "Which colour?"}]}),
            "question",
            (None, None),
            r#"{"result":{"answers":{}}}"#,
            "Which colour?",
        ),
        (
            "mcpServer/elicitation/request",
            json!({"threadId": &**thread, "serverName": "relay", "mode": "form",
            "message": "Allow it?", "requestedSchema": {"type": "object", "required": ["sure"],
            "properties": {"sure": {"type": "boolean"}, "note": {"type": "string"}}}}),
            "elicitation",
            (Some(r#"{"result":{"action":"accept","content":{"sure":true}}}"#), None),
            r#"{"result":{"action":"decline"}}"#,
            "Allow it?",
        ),
        (
            "mcpServer/elicitation/request",
            json!({"threadId": &**thread, "serverName": "tool", "mode": "form",
            "_meta": {"codex_approval_kind": "mcp_tool_call", "persist": ["session", "always"], "tool_name": "wipe",
                "tool_params": {"what": "the disk"}},
            "message": "Allow tool?", "requestedSchema": {"type": "object", "properties": {}}}),
            "elicitation",
            (
                Some(r#"{"result":{"action":"accept","content":{}}}"#),
                Some(r#"{"result":{"action":"accept","content":{},"_meta":{"persist":"always"}}}"#),
            ),
            r#"{"result":{"action":"decline"}}"#,
            "Allow tool?: wipe {\"what\":\"the disk\"}",
        ),
        (
            "mcpServer/elicitation/request",
            json!({"threadId": &**thread, "serverName": "relay", "mode": "form", "message": "Your name?",
            "requestedSchema": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}}),
            "elicitation",
            (None, None),
            r#"{"result":{"action":"decline"}}"#,
            "Your name?",
        ),
        (
            "execCommandApproval",
            json!({"conversationId": &**thread, "command": ["touch", "F"]}),
            "command",
            (Some(approved), None),
            denied,
            "touch F",
        ),
        (
            "applyPatchApproval",
            json!({"conversationId": &**thread, "reason": "because"}),
            "change",
            (Some(approved), None),
            denied,
            "because",
        ),
    ];
    all.into_iter()
        .map(|(method, params, kind, (approved, always), declined, summary)| {
            let (approved, always) = (approved.map(str::to_owned), always.map(str::to_owned));
            let declined = declined.to_owned();
            (method, params, Question { kind, approved, always, declined, summary })
        })
        .collect()
}
