//! The tools as the model sees them: names, descriptions, schemas.
//!
//! **Invariant:** every word here is paid for in every turn of every agent; a test counts them.

use serde_json::{Map, Value, json};

/// One tool.
#[derive(Debug, Clone, Copy)]
pub struct Described {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub description: &'static str,
    /// What it takes.
    pub schema: fn() -> Map<String, Value>,
}

/// What the server says of itself.
pub const INSTRUCTIONS: &str = "Durable mail between you and the other agents of this project. Mail to you comes into your \
    turns by itself, as a message that begins with `[agentmux mail`; do not poll for it. Answer it with `send` and its id as \
    `replyTo`. What you say in a turn reaches nobody else.";

/// Every tool, in the order that they are listed in.
pub const TOOLS: [Described; 6] = [
    Described {
        name: "send",
        description: "Send mail. Accepted means it is on disk and will be delivered; do not send it again.",
        schema: send,
    },
    Described {
        name: "inbox",
        description: "List your mail, newest first. An agent outside the bundle takes its waiting mail by this.",
        schema: inbox,
    },
    Described {
        name: "wait",
        description: "Wait up to 45 s: for the answer to the mail `id`, or without it for your next mail (only outside the \
            bundle). `timedOut` is no error: call again with `resume`, or go on.",
        schema: wait,
    },
    Described { name: "list", description: "List the agents: names, states, pending mail.", schema: nothing },
    Described {
        name: "ask",
        description: "Send mail and wait up to 45 s for the answer. On `timedOut` the mail stays on its way: call `wait` with \
            `resume`, or end your turn; the answer then comes as mail.",
        schema: ask,
    },
    Described { name: "whoami", description: "Your own name here.", schema: nothing },
];

fn object(properties: &Value, required: &[&str]) -> Map<String, Value> {
    let schema = json!({
        "type": "object", "properties": properties, "required": required, "additionalProperties": false,
    });
    match schema {
        Value::Object(schema) => schema,
        _ => unreachable!("written as an object above"),
    }
}

fn nothing() -> Map<String, Value> {
    object(&json!({}), &[])
}

fn mail() -> Value {
    json!({
        "to": {
            "description": "Names; @all is everybody",
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
        },
        "body": {"type": "string"},
        "subject": {"type": "string"},
        "priority": {
            "type": "string", "enum": ["urgent", "normal", "fyi"],
            "description": "urgent: joins a running turn; fyi: starts none",
        },
    })
}

fn send() -> Map<String, Value> {
    let mut properties = mail();
    properties["replyTo"] =
        json!({"type": "string", "description": "Id of the mail that this answers; confirms it, too"});
    properties["expires"] =
        json!({"type": "string", "description": "When it is no longer wanted, such as 30m"});
    object(&properties, &["to", "body"])
}

fn ask() -> Map<String, Value> {
    let mut properties = mail();
    properties["timeoutMs"] = json!({"type": "integer"});
    object(&properties, &["to", "body"])
}

fn inbox() -> Map<String, Value> {
    object(
        &json!({
            "unread": {"type": "boolean", "description": "Only what you have not had"},
            "limit": {"type": "integer"},
            "ack": {"type": "array", "items": {"type": "string"}, "description": "Ids to confirm"},
        }),
        &[],
    )
}

fn wait() -> Map<String, Value> {
    object(
        &json!({
            "id": {"type": "string"},
            "from": {"type": "string", "description": "Only from this sender"},
            "timeoutMs": {"type": "integer"},
            "resume": {"type": "string", "description": "From an earlier answer"},
        }),
        &[],
    )
}
