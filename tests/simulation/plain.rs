//! What a client says first and what a child asks a person, in their plainest form; the store's conformance uses them, too.
//!
//! Deliberately absent: everything that a test draws or varies.

use agentmux::model::child::{ApprovalAsked, ChildEvent};
use agentmux::model::name::Name;
use agentmux::protocol::request::Hello;

/// The hello of the command line, which claims no name.
pub fn hello() -> Hello {
    Hello {
        client: "cli".to_owned(),
        version: "0.1.0".to_owned(),
        protocol_min: 1,
        protocol_max: 1,
        agent_mark: None,
        identity: None,
        token: None,
        take_over: false,
    }
}

/// A child's question whether it may run a command.
pub fn approval_asked(session: Name, key: &str) -> ChildEvent {
    ChildEvent::ApprovalAsked(ApprovalAsked {
        key: key.to_owned(),
        session,
        kind: "command".to_owned(),
        summary: "rm -r build".to_owned(),
        command: None,
        cwd: None,
        decisions: Vec::new(),
        can_approve: true,
        always: None,
        choices: Default::default(),
    })
}
