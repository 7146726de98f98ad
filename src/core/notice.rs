//! Notices: a sender is told once, by mail of kind `system`, what became of mail that did not arrive.
//!
//! **Invariant:** a notice wakes nobody (it is `fyi`), is never answered, and leads to no further notice.
//! **Invariant:** one input leads to at most one notice per sender, however many mails it ended.
//! **Invariant:** who reads none has the last [`limits::NOTICES_MAX`]; what became of each mail is kept with the mail.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use super::record::{DeliveryId, Record};
use super::{Core, Step};
use crate::model::id::MailId;
use crate::model::limits;
use crate::model::mail::{DeliveryState, FromKind, Mail, Priority};
use crate::model::name::Name;

/// Something that somebody has to hear of.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Who.
    pub tell: Name,
    pub from: Name,
    pub mail: MailId,
    pub to: Name,
    /// What became of it, such as `expired`.
    pub what: &'static str,
    pub why: String,
}

impl Core {
    /// Writes to everybody who has to hear of an outcome since the last time.
    pub(super) fn send_notices(&mut self, step: &mut Step) {
        let mut by_reader: BTreeMap<Name, Vec<Outcome>> = BTreeMap::new();
        for outcome in std::mem::take(&mut self.outcomes) {
            if outcome.tell == Name::operator() || self.ledger.sessions.contains_key(&outcome.tell) {
                by_reader.entry(outcome.tell.clone()).or_default().push(outcome);
            }
        }
        for (reader, outcomes) in by_reader {
            self.send_notice(step, reader, &outcomes);
        }
    }

    fn send_notice(&mut self, step: &mut Step, to: Name, outcomes: &[Outcome]) {
        let (id, sent_at) = (step.mint.mail(), step.now);
        let mail = Mail {
            id,
            from: Name::system(),
            from_kind: FromKind::System,
            to: vec![to.clone()],
            subject: Some(subject(outcomes)),
            body: body(outcomes),
            reply_to: None,
            thread: id,
            priority: Priority::Fyi,
            when: None,
            hops: 0,
            key: None,
            expires_at: None,
            sent_at,
            tag: step.mint.tag(),
        };
        self.take_old_notices_back(step, &to);
        let delivery = DeliveryId(self.ledger.last_delivery + 1);
        self.record(
            step,
            Record::MailAccepted { mail: Arc::new(mail), deliveries: vec![(delivery, to.clone())] },
        );
        self.touch(&to);
        self.waiting_saw_mail(step, &to);
    }

    /// Makes room for one more notice.
    fn take_old_notices_back(&mut self, step: &mut Step, reader: &Name) {
        let notices = |core: &Core| {
            let notices = &core.ledger.queue(reader)?.notices;
            notices.first().copied().filter(|_| notices.len() >= limits::NOTICES_MAX)
        };
        while let Some(oldest) = notices(self) {
            let note = format!("{} newer notices have not been read either", limits::NOTICES_MAX);
            self.move_delivery(step, oldest, DeliveryState::Cancelled, None, Some(note));
        }
    }
}

fn subject(outcomes: &[Outcome]) -> String {
    match outcomes {
        [one] if one.tell == one.from => format!("your mail to {} {}", one.to, one.what),
        [one] => format!("mail from {} to {} {}", one.from, one.to, one.what),
        many => format!("{} mails did not arrive", many.len()),
    }
}

fn body(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for Outcome { mail, from, to, what, why, .. } in outcomes.iter().take(limits::NOTICE_LINES_MAX) {
        let _ = writeln!(text, "mail {mail} from {from} to {to} {what}: {why}");
    }
    if outcomes.len() > limits::NOTICE_LINES_MAX {
        let _ = writeln!(text, "and {} more", outcomes.len() - limits::NOTICE_LINES_MAX);
    }
    text.push_str("the content is kept: `agentmux read ID` shows it, `agentmux dead` lists what ended, `agentmux requeue ID` delivers it\n");
    text
}
