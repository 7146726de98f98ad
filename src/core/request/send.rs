//! `send`: accepts mail. The answer leaves the relay only after the mail is on disk (G1).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::brake::Passing;
use super::super::conn::{Ask, Identity};
use super::super::input::{Known, Lookup, Resolved};
use super::super::record::{DeliveryId, Record};
use super::super::{Core, Step};
use crate::model::clock::Millis;
use crate::model::fault::Fault;
use crate::model::id::MailId;
use crate::model::limits;
use crate::model::mail::{DeliveryState, FromKind, Mail, When};
use crate::model::name::Name;
use crate::protocol::answer::{Answer, Delivery, Sent};
use crate::protocol::check;
use crate::protocol::request::Send;

impl Core {
    pub(in crate::core) fn request_send(
        &mut self,
        step: &mut Step,
        ask: Ask,
        from: &Identity,
        send: Send,
        resolved: Resolved,
    ) {
        let parent = match (&send.reply_to, &resolved.mail) {
            (None, _) => None,
            (Some(_), Lookup::Found(known)) => Some(Parent::of(&known.mail)),
            (Some(id), other) => return step.refuse(ask, lookup_fault(id, other)),
        };
        if let (Some(_), Lookup::Found(known)) = (&send.reply_to, &resolved.mail)
            && let Some(fault) = self.foreign_answer_refusal(from, &known.mail)
        {
            return step.refuse(ask, fault);
        }
        if let Some(known) = &resolved.keyed {
            return answer_repeated(step, ask, known, &send, parent.as_ref());
        }
        if send.when == Some(When::Now) && from.kind != FromKind::Operator {
            let fault = Fault::refused("mail refused: only the operator interrupts a turn");
            return step.refuse(ask, fault.hint("use --when boundary, or --priority urgent"));
        }
        match self.recipients(&send.to, from) {
            Ok(_) if send.ask && !from.has_name() => {
                let fault =
                    Fault::refused("ask refused: an answer could not reach you, `outside` has no mailbox");
                step.refuse(ask, fault.hint("write without waiting: agentmux send"));
            }
            Ok(to) if send.ask => match self.circle_refusal("ask", from, &to) {
                Some(fault) => step.refuse(ask, fault),
                None => self.accept(step, ask, from, to, send, parent, resolved.disk_low),
            },
            Ok(to) => self.accept(step, ask, from, to, send, parent, resolved.disk_low),
            Err(fault) => step.refuse(ask, fault),
        }
    }

    /// Stores a mail for recipients that are known, and answers where it stands.
    #[allow(clippy::too_many_arguments, reason = "what a mail consists of; `reply` shares it")]
    pub(super) fn accept(
        &mut self,
        step: &mut Step,
        ask: Ask,
        from: &Identity,
        to: Vec<Name>,
        send: Send,
        parent: Option<Parent>,
        disk_low: bool,
    ) {
        if let Some(fault) = self.settings.policy.mail_refusal(from, &to) {
            return step.refuse(ask, fault);
        }
        if let Some(fault) = self.admission_refusal("mail", &to, send.body.len() as u64, disk_low) {
            return step.refuse(ask, fault);
        }
        let (id, sent_at) = (step.mint.mail(), step.now);
        let hops = match from.kind {
            FromKind::Operator | FromKind::System => 0,
            FromKind::Agent | FromKind::Outside => parent.as_ref().map_or(0, |parent| parent.hops + 1),
        };
        let tag = super::super::envelope::draw_tag(&mut step.mint, &send.body);
        let mail = Mail {
            id,
            from: from.name.clone(),
            from_kind: from.kind,
            to: to.clone(),
            subject: send.subject.filter(|subject| !subject.is_empty()),
            body: send.body,
            reply_to: parent.as_ref().map(|parent| parent.id),
            thread: parent.as_ref().map_or(id, |parent| parent.thread),
            priority: send.priority,
            when: send.when,
            hops,
            key: send.key,
            expires_at: send.expires_ms.map(|ms| sent_at.plus(ms.min(i64::MAX as u64) as i64)),
            sent_at,
            tag,
        };
        let thread = mail.thread;
        let first = self.ledger.last_delivery + 1;
        let deliveries: Vec<(DeliveryId, Name)> =
            to.iter().enumerate().map(|(i, to)| (DeliveryId(first + i as i64), to.clone())).collect();
        self.record(step, Record::MailAccepted { mail: Arc::new(mail), deliveries: deliveries.clone() });
        for (delivery, to) in &deliveries {
            self.brake(step, *delivery, Passing { mail: id, thread, hops, from, to });
        }
        if let Some(parent) = parent.filter(|parent| parent.from != from.name && to.contains(&parent.from)) {
            self.waiting_saw_reply(step, parent.id, id);
        }
        let deliveries = deliveries.iter().map(|(id, to)| self.queued_delivery(*id, to, step.now)).collect();
        for name in &to {
            self.touch(name);
            self.waiting_saw_mail(step, name);
        }
        step.reply(ask, Answer::Sent(Sent { id, thread, deliveries }));
    }

    fn queued_delivery(&self, id: DeliveryId, to: &Name, now: Millis) -> Delivery {
        let braked = self.ledger.deliveries.get(&id).is_some_and(|delivery| delivery.braked);
        let interrupts = self.sessions.get(to).is_some_and(|running| running.busy)
            && self.ledger.deliveries.get(&id).is_some_and(|delivery| delivery.when == Some(When::Now));
        let reason = if interrupts {
            Some(format!("the running turn of {to} is interrupted for it"))
        } else if braked {
            Some("held by the loop brake".to_owned())
        } else {
            self.why_not_further(to, now)
        };
        Delivery { to: to.clone(), state: DeliveryState::Queued, reason, turn_id: None }
    }

    /// Turns what was given into recipients that exist, each once, in the order given.
    fn recipients(&self, given: &[String], from: &Identity) -> Result<Vec<Name>, Fault> {
        let mut to: Vec<Name> = Vec::new();
        for text in given {
            check::check_recipient(text, &check::Groups::new())?;
            let names: Vec<Name> = if text == "@all" {
                let outsiders = self.ledger.outsiders.iter().filter(|(_, outsider)| outsider.held);
                let all = self.ledger.sessions.keys().chain(outsiders.map(|(name, _)| name));
                // Everybody whom the sender may write to.
                let may = |name: &&Name| {
                    self.settings.policy.mail_refusal(from, std::slice::from_ref(name)).is_none()
                };
                all.filter(|name| **name != from.name).filter(may).cloned().collect()
            } else {
                vec![self.recipient(text)?]
            };
            for name in names {
                if !to.contains(&name) {
                    to.push(name);
                }
            }
        }
        if to.is_empty() {
            return Err(Fault::not_found("recipient not found: `@all` is nobody yet")
                .hint("create a session: agentmux spawn NAME"));
        }
        if to.contains(&from.name) {
            return Err(Fault::usage(format!("mail refused: `{}` would write to itself", from.name)));
        }
        Ok(to)
    }

    fn recipient(&self, text: &str) -> Result<Name, Fault> {
        Name::parse(text)
            .filter(|name| self.has_mailbox(name))
            .ok_or_else(|| self.unknown_name("recipient", text, &[crate::model::name::OPERATOR]))
    }

    /// Why there is no room for mail of `bytes` to each of these, if there is none; `what` is refused then.
    pub(super) fn admission_refusal(
        &self,
        what: &str,
        to: &[Name],
        bytes: u64,
        disk_low: bool,
    ) -> Option<Fault> {
        if disk_low {
            let mib = limits::DISK_FREE_BYTES_MIN / 1024 / 1024;
            let fault =
                Fault::busy(format!("{what} refused: less than {mib} MiB are free where the mail is kept"));
            return Some(
                fault.hint("free some space; mail that was accepted is safe, and is still delivered"),
            );
        }
        let full = |who: &str, count: usize, bytes: u64| {
            let fault = Fault::busy(format!(
                "{what} refused: {who} has {count} mails of {bytes} bytes waiting, the limit"
            ));
            Some(fault.hint("wait until some are delivered"))
        };
        if self.ledger.deliveries.len() + to.len() > limits::QUEUED_MAX
            || self.ledger.bytes + bytes * to.len() as u64 > limits::QUEUED_BYTES_MAX
        {
            return full("the bundle", self.ledger.deliveries.len(), self.ledger.bytes);
        }
        to.iter().find_map(|name| {
            let queue = self.ledger.queue(name)?;
            let over = queue.open.len() >= limits::QUEUED_PER_SESSION_MAX
                || queue.bytes + bytes > limits::QUEUED_BYTES_PER_SESSION_MAX;
            if over { full(name.as_str(), queue.open.len(), queue.bytes) } else { None }
        })
    }
}

/// The mail that another one answers.
#[derive(Debug)]
pub(super) struct Parent {
    pub id: MailId,
    pub thread: MailId,
    pub from: Name,
    pub hops: u32,
}

impl Parent {
    pub fn of(mail: &Mail) -> Parent {
        Parent { id: mail.id, thread: mail.thread, from: mail.from.clone(), hops: mail.hops }
    }
}

/// The same key again: the same mail if it says the same, a conflict if not. Looked at before the recipients, because they may
/// have come and gone since; who was meant by `@all` was decided the first time.
pub(super) fn answer_repeated(
    step: &mut Step,
    ask: Ask,
    known: &Known,
    send: &Send,
    parent: Option<&Parent>,
) {
    let mail = &known.mail;
    let subject = send.subject.as_deref().filter(|subject| !subject.is_empty());
    let all = send.to.iter().any(|to| to.starts_with('@'));
    let meant: BTreeSet<&str> = send.to.iter().map(String::as_str).collect();
    let same = (all || meant == mail.to.iter().map(Name::as_str).collect())
        && mail.body == send.body
        && mail.subject.as_deref() == subject
        && mail.priority == send.priority
        && mail.when == send.when
        && mail.expires_at.map(|at| at.since(mail.sent_at) as u64) == send.expires_ms
        && mail.reply_to == parent.map(|parent| parent.id);
    if !same {
        let fault =
            Fault::conflict(format!("mail refused: its idempotency key belongs to other mail, {}", mail.id));
        return step.refuse(ask, fault.hint("use a new key for new mail"));
    }
    step.reply(ask, Answer::Sent(sent_of(known)));
}

/// Where a stored mail stands, as `send` answers it.
pub(super) fn sent_of(known: &Known) -> Sent {
    let delivery = |d: &super::super::input::KnownDelivery| Delivery {
        to: d.to.clone(),
        state: d.state,
        reason: d.reason.clone(),
        turn_id: d.turn.clone(),
    };
    Sent {
        id: known.mail.id,
        thread: known.mail.thread,
        deliveries: known.deliveries.iter().map(delivery).collect(),
    }
}

/// The refusal for a reference that led to no single mail.
pub(super) fn lookup_fault(id: &str, lookup: &Lookup) -> Fault {
    let id: String = id.chars().take(40).collect();
    match lookup {
        Lookup::Ambiguous(ids) => {
            let some: Vec<String> = ids.iter().take(4).map(MailId::to_string).collect();
            Fault::not_found(format!("mail not found: `{id}` fits several mails"))
                .hint(format!("give more digits: {}", some.join("  ")))
        }
        _ => Fault::not_found(format!("mail not found: there is no `{id}`"))
            .hint("give a whole id, a unique prefix, or at least the last 6 digits"),
    }
}
