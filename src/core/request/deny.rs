//! `deny`: the operator's no to an approval; its turn goes on.

use super::super::action::Action;
use super::super::{Core, Step};
use crate::model::child::ChildCommand;

impl Core {
    pub(in crate::core) fn deny(&mut self, step: &mut Step, key: &str, reason: Option<&str>) -> &'static str {
        let approval = self.approvals.get(key).expect("looked up by the caller");
        let told = reason.unwrap_or("the operator said no").to_owned();
        let command = ChildCommand::Decline { key: approval.child_key.clone(), reason: told };
        step.act(Action::Command { nonce: approval.nonce, command });
        self.settle_approval(step, key, "denied", "operator", reason.unwrap_or("by verb, no reason given"));
        "denied"
    }
}
