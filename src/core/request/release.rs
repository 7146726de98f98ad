//! `release`: ends a session's hold and lets go what the loop brake holds for it, or for an outside agent; or lets one such mail go.

use super::super::conn::Ask;
use super::super::input::{Lookup, Resolved};
use super::super::record::DeliveryId;
use super::super::{Core, Step};
use super::send::lookup_fault;
use crate::model::fault::Fault;
use crate::model::id::MailId;
use crate::model::name::Name;
use crate::protocol::answer::{Answer, Released};
use crate::protocol::request::Release;

impl Core {
    pub(in crate::core) fn request_release(
        &mut self,
        step: &mut Step,
        ask: Ask,
        release: &Release,
        resolved: Resolved,
    ) {
        let session = Name::parse(&release.target).filter(|name| self.ledger.sessions.contains_key(name));
        if let Some(name) = session {
            self.hold(step, &name, None);
            let mails = self.release_all(step, &self.braked_of(&name));
            let sessions = self.named_states(&[name]);
            return step.reply(ask, Answer::Released(Released { sessions, mails }));
        }
        let outsider = Name::parse(&release.target).filter(|name| self.ledger.outsiders.contains_key(name));
        if let Some(name) = outsider {
            let mails = self.release_all(step, &self.braked_of(&name));
            return step.reply(ask, Answer::Released(Released { sessions: Vec::new(), mails }));
        }
        let Lookup::Found(known) = resolved.mail else {
            if Name::parse(&release.target).is_some() {
                let fault = self.unknown_name("session", &release.target, &[]);
                return step.refuse(ask, fault);
            }
            return step.refuse(ask, lookup_fault(&release.target, &resolved.mail));
        };
        let ids: Vec<DeliveryId> = known.deliveries.iter().map(|delivery| delivery.id).collect();
        let mails = self.release_all(step, &ids);
        if mails.is_empty() {
            let fault = Fault::refused(format!("release refused: nothing holds mail {}", known.mail.id));
            return step.refuse(ask, fault.hint(format!("agentmux trace {}", known.mail.id)));
        }
        step.reply(ask, Answer::Released(Released { sessions: Vec::new(), mails }));
    }

    fn release_all(&mut self, step: &mut Step, ids: &[DeliveryId]) -> Vec<MailId> {
        let mut mails: Vec<MailId> = Vec::new();
        for id in ids {
            let mail = self.ledger.deliveries.get(id).map(|delivery| delivery.mail);
            if self.release_braked(step, *id) {
                mails.extend(mail);
            }
        }
        mails.dedup();
        mails
    }
}
