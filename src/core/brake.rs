//! The loop brake: agents that answer each other without end are slowed to a stop, and a person decides.
//!
//! | Counted | Of | Default |
//! | --- | --- | --- |
//! | hops: mails in a row, each answering the one before, without a word of the operator | agents and outsiders | 24 |
//! | mails of one agent to one other in a minute | agents, and outsiders with a name | 30 |
//! | mails in one conversation in a minute | agents and outsiders | 60 |
//!
//! **Invariant:** mail over a limit is accepted, kept and shown, and is not delivered until the operator lets it go.
//! **Invariant:** the operator and notices are never braked, and nobody is who writes to the operator.
//!
//! Deliberately absent: counts that survive a restart; a loop reaches them again at once.

use std::collections::{BTreeMap, VecDeque};

use super::conn::Identity;
use super::notice::Outcome;
use super::record::{DeliveryId, Record};
use super::{Core, Step};
use crate::model::clock::Millis;
use crate::model::fault::Fault;
use crate::model::id::MailId;
use crate::model::limits;
use crate::model::mail::FromKind;
use crate::model::name::Name;

/// What is remembered of the last minute.
#[derive(Debug, Default)]
pub(super) struct Brake {
    pairs: BTreeMap<(Name, Name), VecDeque<Millis>>,
    threads: BTreeMap<MailId, VecDeque<Millis>>,
    /// When people were last told of a pair.
    told: BTreeMap<(Name, Name), Millis>,
}

/// One accepted mail, as the brake sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Passing<'a> {
    pub mail: MailId,
    pub thread: MailId,
    pub hops: u32,
    pub from: &'a Identity,
    pub to: &'a Name,
}

impl Core {
    /// Counts a delivery that was accepted just now, and holds it back if it is one too many.
    pub(super) fn brake(&mut self, step: &mut Step, id: DeliveryId, passing: Passing<'_>) {
        let Some(why) = self.why_braked(step.now, passing) else { return };
        let note = format!("held by the loop brake: {why}");
        self.record(step, Record::DeliveryBraked { delivery: id, at: step.now, note: note.clone() });
        let pair = (passing.from.name.clone(), passing.to.clone());
        let told = self.brake.told.get(&pair).is_some_and(|at| step.now.since(*at) < limits::BRAKE_NOTICE_MS);
        if told {
            return;
        }
        forget_least_recent(&mut self.brake.told, |at| *at);
        self.brake.told.insert(pair, step.now);
        for tell in [passing.from.name.clone(), Name::operator()] {
            self.outcomes.push(Outcome {
                tell,
                from: passing.from.name.clone(),
                mail: passing.mail,
                to: passing.to.clone(),
                what: "was held",
                why: format!("{note}; the operator lets it go: agentmux release {}", passing.mail),
            });
        }
    }

    fn why_braked(&mut self, now: Millis, passing: Passing<'_>) -> Option<String> {
        let Passing { thread, hops, from, to, .. } = passing;
        let counts = matches!(from.kind, FromKind::Agent | FromKind::Outside);
        if !counts || *to == Name::operator() {
            return None;
        }
        let policy = &self.settings.policy;
        let in_thread = count(&mut self.brake.threads, thread, now, policy.brake_thread_per_minute);
        // Outsiders without a name share one, so that many of them are no loop.
        let in_pair = from
            .is_agent()
            .then(|| (from.name.clone(), to.clone()))
            .is_some_and(|pair| count(&mut self.brake.pairs, pair, now, policy.brake_pair_per_minute));
        if hops > policy.brake_hops {
            return Some(format!("{hops} mails in a row answer each other without a word of the operator"));
        }
        if in_pair {
            let most = policy.brake_pair_per_minute;
            return Some(format!("more than {most} mails a minute from {} to {to}", from.name));
        }
        in_thread.then(|| {
            format!("more than {} mails a minute in one conversation", policy.brake_thread_per_minute)
        })
    }

    /// The operator lets a delivery go; returns whether it was held.
    pub(super) fn release_braked(&mut self, step: &mut Step, id: DeliveryId) -> bool {
        let Some(delivery) = self.ledger.deliveries.get(&id).filter(|delivery| delivery.braked) else {
            return false;
        };
        let (from, to) = (delivery.from.clone(), delivery.to.clone());
        self.record(step, Record::DeliveryReleased { delivery: id, at: step.now });
        self.brake.told.remove(&(from, to.clone()));
        self.touch(&to);
        self.waiting_saw_mail(step, &to);
        true
    }

    /// The refusal of what would take a braked mail to its recipient by another way.
    pub(super) fn braked_refusal(&self, what: &str, reader: &Name, mail: MailId) -> Option<Fault> {
        let open = self.ledger.queue(reader).into_iter().flat_map(|queue| &queue.open);
        let mut held =
            open.filter_map(|id| self.ledger.deliveries.get(id)).filter(|d| d.mail == mail && d.braked);
        held.next().map(|_| {
            Fault::busy(format!("{what} refused: mail {mail} is held by the loop brake"))
                .hint("agents answer each other without end; your user decides how it goes on")
        })
    }

    /// Deliveries to a session that the brake holds back, oldest first.
    pub(super) fn braked_of(&self, name: &Name) -> Vec<DeliveryId> {
        let open = self.ledger.queue(name).into_iter().flat_map(|queue| &queue.open);
        let is_braked =
            |id: &&DeliveryId| self.ledger.deliveries.get(*id).is_some_and(|delivery| delivery.braked);
        open.filter(is_braked).copied().collect()
    }
}

/// Counts one more moment for a key; true when there are more than `most` within the window.
fn count<K: Ord + Clone>(all: &mut BTreeMap<K, VecDeque<Millis>>, key: K, now: Millis, most: usize) -> bool {
    if !all.contains_key(&key) {
        forget_least_recent(all, |moments| moments.back().copied().unwrap_or_default());
    }
    let moments = all.entry(key).or_default();
    while moments.front().is_some_and(|at| now.since(*at) >= limits::BRAKE_WINDOW_MS) {
        moments.pop_front();
    }
    if moments.len() >= most {
        return true;
    }
    moments.push_back(now);
    false
}

/// Makes room for one more entry.
fn forget_least_recent<K: Ord + Clone, V>(all: &mut BTreeMap<K, V>, at: impl Fn(&V) -> Millis) {
    if all.len() >= limits::BRAKE_ENTRIES_MAX
        && let Some(oldest) = all.iter().min_by_key(|(_, value)| at(value)).map(|(key, _)| key.clone())
    {
        all.remove(&oldest);
    }
}
