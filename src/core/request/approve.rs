//! `approve`: the operator's yes to an approval, once or for ever; and what it has in common with `deny`: which one is meant.

use super::super::action::Action;
use super::super::conn::Ask;
use super::super::input::{PastApproval, Resolved};
use super::super::waiting::Wait;
use super::super::{Core, Step};
use crate::model::child::{Always, ChildCommand};
use crate::model::fault::Fault;
use crate::model::id::{approval_id, is_approval};
use crate::model::limits;
use crate::protocol::answer::{Answer, ApprovalSettled};
use crate::protocol::check::quoted;
use crate::protocol::request::{Decision, SettleApproval};

impl Core {
    pub(in crate::core) fn request_settle(
        &mut self,
        step: &mut Step,
        ask: Ask,
        mut settle: SettleApproval,
        resolved: Resolved,
    ) {
        if !self.has_unheard_approvals() {
            return self.settle_asked(step, ask, &settle, &resolved);
        }
        // Named whole, so that it is the same one after the wait.
        if let Ok(key) = self.approval_meant(&settle, &resolved) {
            settle.id = approval_id(&key);
        }
        let (settle, resolved) = (Box::new(settle), Box::new(resolved));
        self.wait(ask, Wait::Settle { settle, resolved }, step.now.plus(limits::APPROVALS_KNOWN_MS));
    }

    /// Settles an approval now.
    pub(in crate::core) fn settle_asked(
        &mut self,
        step: &mut Step,
        ask: Ask,
        settle: &SettleApproval,
        resolved: &Resolved,
    ) {
        let key = match self.approval_meant(settle, resolved) {
            Ok(key) => key,
            Err(fault) => return step.refuse(ask, fault),
        };
        let Some(approval) = self.approvals.get(&key) else {
            let fault =
                Fault::busy(format!("{} refused: the child of that agent does not answer", word(settle)));
            return step.refuse(ask, fault.hint("`agentmux list` says what it is doing"));
        };
        if approval.answered_until(step.now).is_some() {
            let why =
                format!("{} refused: it is being answered in a pane of {}", word(settle), approval.session);
            return step
                .refuse(ask, Fault::busy(why).hint("`agentmux approvals` shows whether it is still open"));
        }
        let (session, summary) = (approval.session.clone(), approval.summary.clone());
        let decided = match settle.decision {
            _ if settle.choice.is_some() => self.choose(step, &key, settle, resolved),
            Decision::Approve => self.approve(step, &key, settle, resolved),
            Decision::Deny => Ok(self.deny(step, &key, settle.reason.as_deref())),
        };
        match decided {
            Ok(decision) => {
                let (id, decision) = (approval_id(&key), decision.to_owned());
                let settled = ApprovalSettled { id, session, summary, decision };
                step.reply(ask, Answer::ApprovalSettled(settled));
            }
            Err(fault) => step.refuse(ask, fault),
        }
    }

    /// Settles an approval with another of the answers that it offers: of a yes by `approve`, of a no by `deny`.
    fn choose(
        &mut self,
        step: &mut Step,
        key: &str,
        settle: &SettleApproval,
        resolved: &Resolved,
    ) -> Result<&'static str, Fault> {
        let approval = self.approvals.get(key).expect("looked up by the caller");
        let (id, choice) = (approval_id(key), settle.choice.clone().unwrap_or_default());
        let is_no = settle.decision == Decision::Deny;
        let chosen = approval.choices.get(&choice).filter(|chosen| chosen.is_no == is_no);
        let Some(chosen) = chosen else {
            let fitting = approval.choices.iter().filter(|(_, other)| other.is_no == is_no);
            let offered: Vec<&str> = fitting.map(|(name, _)| name.as_str()).collect();
            let why = format!("{} refused: {id} does not offer `{}`", word(settle), quoted(&choice));
            let hint = if offered.is_empty() {
                format!("it offers nothing else: agentmux {} {id}", word(settle))
            } else {
                format!("it offers: {}", offered.join(", "))
            };
            return Err(Fault::refused(why).hint(hint));
        };
        let decision = match &chosen.lasting {
            _ if is_no => "denied",
            Some(_) => "approvedAlways",
            None => "approved",
        };
        let why = settle.reason.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
        let for_ever = match &chosen.lasting {
            Some(always) => {
                // The words are the child's, and stand in a command that a person may paste.
                let how = format!("--decision '{}'", choice.replace('\'', r"'\''"));
                format!(
                    ", for ever: `{}` in {}",
                    always.rule,
                    confirmed(settle, resolved, &id, &how, always)?
                )
            }
            None => String::new(),
        };
        let reason = format!("by verb, with `{choice}`{for_ever}{why}");
        let command = ChildCommand::Choose { key: approval.child_key.clone(), decision: choice };
        step.act(Action::Command { nonce: approval.nonce, command });
        self.settle_approval(step, key, decision, "operator", &reason);
        Ok(decision)
    }

    /// The one place where a child is told yes, beside [`Core::choose`].
    fn approve(
        &mut self,
        step: &mut Step,
        key: &str,
        settle: &SettleApproval,
        resolved: &Resolved,
    ) -> Result<&'static str, Fault> {
        let approval = self.approvals.get(key).expect("looked up by the caller");
        let id = approval_id(key);
        let (decision, reason) = match &approval.always {
            _ if !settle.always && approval.can_approve => ("approved", "by verb, once".to_owned()),
            _ if !settle.always => {
                let kind = &approval.kind;
                let why = format!("approve refused: {id} is a {kind} that wants more than a yes");
                let hint = format!(
                    "answer it in its own screen: agentmux attach {}; or: agentmux deny {id}",
                    approval.session
                );
                return Err(Fault::refused(why).hint(hint));
            }
            None => {
                let offered = approval.decisions.join(", ");
                let why = format!("approve refused: {id} cannot be approved for ever; it offers {offered}");
                return Err(Fault::refused(why).hint(format!("approve it once: agentmux approve {id}")));
            }
            Some(always) => {
                let file = confirmed(settle, resolved, &id, "--always", always)?;
                ("approvedAlways", format!("by verb, for ever: `{}` in {file}", always.rule))
            }
        };
        let command = ChildCommand::Approve { key: approval.child_key.clone(), always: settle.always };
        step.act(Action::Command { nonce: approval.nonce, command });
        self.settle_approval(step, key, decision, "operator", &reason);
        Ok(decision)
    }

    /// The approval that a request means, which is open.
    fn approval_meant(&self, settle: &SettleApproval, resolved: &Resolved) -> Result<String, Fault> {
        let (word, id) = (word(settle), &settle.id);
        let open: Vec<&String> = self.ledger.approvals.keys().filter(|key| is_approval(id, key)).collect();
        match (open.as_slice(), resolved.settled_approvals.as_slice()) {
            ([one], []) => Ok((*one).clone()),
            ([], [past]) => Err(settled_already(word, past)),
            ([], []) => {
                let id = quoted(id);
                let fault = Fault::not_found(format!("approval not found: there is no `{id}`"));
                Err(fault.hint("`agentmux approvals` lists them; the first 4 digits of an id are enough"))
            }
            (open, past) => {
                let ids =
                    open.iter().map(|key| approval_id(key)).chain(past.iter().map(|past| past.id.clone()));
                let ids: Vec<String> = ids.take(5).collect();
                let fault = Fault::not_found(format!("approval not found: `{id}` fits several"));
                Err(fault.hint(format!("give more digits: {}", ids.join("  "))))
            }
        }
    }
}

/// The file that an answer changes for longer than the child lives, if the operator has said yes to that.
fn confirmed(
    settle: &SettleApproval,
    resolved: &Resolved,
    id: &str,
    how: &str,
    always: &Always,
) -> Result<String, Fault> {
    let mut file = always.file.clone();
    for (name, value) in &resolved.variables {
        file = file.replace(&format!("${name}"), value);
    }
    if settle.confirmed {
        return Ok(file);
    }
    let (word, Always { rule, file: named, reach }) = (word(settle), always);
    let why = format!(
        "{word} {how} wants --yes: it writes `{rule}` to {file} ({named}), which holds for {reach} from now on; nothing was settled"
    );
    Err(Fault::usage(why).hint(format!("agentmux {word} {id} {how} --yes; once: agentmux {word} {id}")))
}

fn word(settle: &SettleApproval) -> &'static str {
    match settle.decision {
        Decision::Approve => "approve",
        Decision::Deny => "deny",
    }
}

fn settled_already(word: &str, past: &PastApproval) -> Fault {
    let PastApproval { id, decision, by, reason, at } = past;
    let how = match decision.as_str() {
        "elsewhere" => String::new(),
        "approvedAlways" => format!("approved for ever by {by}, "),
        other => format!("{other} by {by}, "),
    };
    Fault::refused(format!(
        "{word} refused: {id} was settled already at {}: {how}{reason}",
        at.rfc3339_seconds()
    ))
}
