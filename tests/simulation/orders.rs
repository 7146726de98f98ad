//! The witness of orders: what the person wants of a session's turn, and what may go into a turn before what.
//!
//! | Precedence | Judged where |
//! | --- | --- |
//! | close, interrupt | nothing goes into a session that owes the person the end of a turn |
//! | prompt > for now > urgent > normal > fyi, first in first out inside each | what goes into a turn is the beginning of what may |
//!
//! What may go in is said here anew, from rows of the disk and not from the core: into a turn of its own everything that waits (fyi
//! starts none, and mail for now brings along what its sender wrote before it); into a running one what its `--when` or its priority
//! lets join, unless it would overtake its own sender.
//!
//! **Invariant:** an order is open from the moment a relay reads it until its answer is sent, its connection closes or the relay is gone.

use std::collections::{BTreeMap, BTreeSet};

use agentmux::core::action::{Action, Deliver};
use agentmux::core::input::{Input, Lookup};
use agentmux::core::record::DeliveryId;
use agentmux::model::child::{ChildCommand, ChildEvent};
use agentmux::model::clock::Millis;
use agentmux::model::fault::Code;
use agentmux::model::id::{ConnId, MailId, TurnId};
use agentmux::model::limits;
use agentmux::model::mail::{DeliveryState, Mail, Priority, When};
use agentmux::model::name::Name;
use agentmux::model::session::SessionState;
use agentmux::protocol::answer::{Answer, Closed};
use agentmux::protocol::request::{Close, Prompt, Request};
use agentmux::wire::rpc::Id;

use crate::disk::{DeliveryRow, Tables};
use crate::guarantee::Guarantee;
use crate::world::World;

/// See the header of this file.
#[derive(Debug, Default)]
pub struct Orders {
    open: BTreeMap<(ConnId, Id), Order>,
    /// Sessions whose running turn may be interrupted, because the person said so.
    to_end: BTreeSet<Name>,
    /// Sessions that the person has closed and not wanted up since.
    closed: BTreeSet<Name>,
    /// Those that were closed in this lap, whatever was said of them since.
    closed_now: BTreeSet<Name>,
    /// Mail that the person has wanted delivered again.
    again: BTreeSet<MailId>,
}

/// One order that has no answer yet.
#[derive(Debug, Clone)]
struct Order {
    session: Name,
    is_close: bool,
    since: Millis,
    /// Whether the person has wanted the session up again meanwhile.
    is_overruled: bool,
}

/// What one input asks of a session, kept until it is known what the core made of it.
#[derive(Debug)]
pub enum Asked {
    Interrupt(ConnId, Id, Name),
    Close(ConnId, Id, Name),
    /// Words of the person, and whether they repeat some that are stored.
    Prompt(ConnId, Id, Name, bool),
    Up(Vec<Name>),
    Remove(Name),
    HungUp(ConnId),
    Again(MailId),
    Ended(Name),
}

impl Asked {
    /// Reads an input; `by_operator` tells whether the person asks.
    pub fn of(input: &Input, by_operator: bool) -> Option<Asked> {
        let named = |name: &String| Name::parse(name);
        Some(match input {
            Input::ConnClosed { conn } => Asked::HungUp(*conn),
            Input::Child { event: ChildEvent::TurnEnded { session, .. }, .. } => {
                Asked::Ended(session.clone())
            }
            Input::Asked { conn, id, request, resolved } if by_operator => match &**request {
                Request::Interrupt(one) => Asked::Interrupt(*conn, id.clone(), named(&one.name)?),
                Request::Close(Close { name, .. }) => Asked::Close(*conn, id.clone(), named(name)?),
                Request::Prompt(Prompt { name, .. }) => {
                    Asked::Prompt(*conn, id.clone(), named(name)?, resolved.keyed.is_some())
                }
                Request::Up(up) => Asked::Up(up.names.iter().filter_map(named).collect()),
                Request::Requeue(_) => match &resolved.mail {
                    Lookup::Found(known) => Asked::Again(known.mail.id),
                    _ => return None,
                },
                Request::Remove(one) => Asked::Remove(named(&one.name)?),
                _ => return None,
            },
            _ => return None,
        })
    }
}

impl Orders {
    /// A relay reads the inputs of another lap.
    pub fn a_lap_begins(&mut self) {
        self.closed_now.clear();
    }

    /// A relay is gone, and with it everything that it owed.
    pub fn forget(&mut self) {
        self.open.clear();
        self.to_end.clear();
    }

    /// Whether a session's turn may be interrupted although no mail is for now.
    pub fn wants_its_end(&self, session: &Name) -> bool {
        self.to_end.contains(session)
    }

    /// Whether words of the person to a session may have been taken back, because it was closed.
    pub fn was_closed(&self, session: &Name) -> bool {
        self.closed.contains(session) || self.closed_now.contains(session)
    }

    fn closes_of<'a>(&'a self, session: &'a Name) -> impl Iterator<Item = &'a (ConnId, Id)> {
        let of = move |order: &Order| order.is_close && order.session == *session;
        self.open.iter().filter(move |(_, order)| of(order)).map(|(key, _)| key)
    }

    fn is_being_closed(&self, session: &Name) -> bool {
        self.open.values().any(|order| order.is_close && !order.is_overruled && order.session == *session)
    }
}

impl World {
    /// Notes what an input asks of a session, before it is known what the core makes of it.
    pub fn orders_read(&mut self, asked: &Asked) {
        let orders = &mut self.orders;
        match asked {
            Asked::Interrupt(conn, id, session) | Asked::Close(conn, id, session) => {
                let is_close = matches!(asked, Asked::Close(..));
                let (session, since) = (session.clone(), self.now);
                let order = Order { session: session.clone(), is_close, since, is_overruled: false };
                orders.open.insert((*conn, id.clone()), order);
                orders.to_end.insert(session.clone());
                if is_close && self.disk.open.sessions.contains_key(&session) {
                    orders.closed.insert(session.clone());
                    orders.closed_now.insert(session);
                }
            }
            Asked::Prompt(..) => {}
            Asked::Up(names) => {
                let is_meant = |name: &Name| names.is_empty() || names.contains(name);
                let over: Vec<Name> = orders.closed.iter().filter(|name| is_meant(name)).cloned().collect();
                orders.closed.retain(|name| !is_meant(name));
                orders.closed_now.extend(over);
                for order in orders.open.values_mut().filter(|order| is_meant(&order.session)) {
                    order.is_overruled = true;
                }
            }
            Asked::Remove(name) => orders.closed_now.extend(orders.closed.take(name)),
            Asked::Again(mail) => {
                orders.again.insert(*mail);
            }
            Asked::HungUp(conn) => orders.open.retain(|(of, _), _| of != conn),
            Asked::Ended(_) => {}
        }
    }

    /// Judges what the core makes of an input: TQ-1, TQ-3, TQ-4 and TQ-8, for interrupts, closes and prompts.
    pub fn orders_see(&mut self, asked: Option<&Asked>, actions: &[Action]) {
        let answer_to = |conn: &ConnId, id: &Id| {
            actions.iter().find(|action| match action {
                Action::Reply { conn: to, id: of, .. } | Action::Refuse { conn: to, id: of, .. } => {
                    to == conn && of == id
                }
                _ => false,
            })
        };
        for action in actions {
            if let Action::Reply { conn, id, answer: Answer::Closed(closed) } = action
                && let Some(order) = self.orders.open.get(&(*conn, id.clone()))
                // Whose time is over is told how it stands, alone.
                && self.now.since(order.since) < limits::CLOSE_MS + limits::DOWN_MS
            {
                self.close_is_answered(closed, actions);
            }
        }
        let answered: Vec<(ConnId, Id)> =
            self.orders.open.keys().filter(|(conn, id)| answer_to(conn, id).is_some()).cloned().collect();
        for key in &answered {
            self.orders.open.remove(key);
        }
        match asked {
            // What had no turn to end, or is refused, ends none later.
            Some(Asked::Interrupt(conn, id, session))
                if answer_to(conn, id).is_some()
                    && !self.orders.was_closed(session)
                    && !self.orders.open.values().any(|order| order.session == *session) =>
            {
                self.orders.to_end.remove(session);
            }
            Some(Asked::Prompt(conn, id, session, false))
                if self.orders.is_being_closed(session)
                    && !matches!(answer_to(conn, id), Some(Action::Refuse { .. })) =>
            {
                self.suspects(Guarantee::Precedence, format!("{session} is being closed and takes words"));
            }
            Some(Asked::Ended(session)) => {
                self.orders.to_end.remove(session);
            }
            _ => {}
        }
        for action in actions {
            match action {
                Action::Deliver(deliver) => self.orders_see_delivery(deliver),
                Action::Command { command: ChildCommand::StartTurn { session, .. }, .. }
                    if !self.orders.was_closed(session) =>
                {
                    let what = format!("{session} is asked for a summary, and nobody closes it");
                    self.suspects(Guarantee::PersonDecides, what);
                }
                _ => {}
            }
        }
        let waits = |row: &&DeliveryRow| {
            row.state == DeliveryState::Queued
                && self.orders.is_being_closed(&row.to)
                && !self.orders.again.contains(&row.mail)
        };
        let mut kept = self.disk.open.deliveries.values().filter(waits);
        let kept = kept.find(|row| self.disk.open.mails[&row.mail].priority == Priority::Prompt);
        let what = kept.map(|row| format!("{} is being closed, and keeps words of {}", row.to, row.mail));
        if let Some(what) = what {
            self.suspects(Guarantee::Precedence, what);
        }
    }

    /// Whoever waits for the same session to be closed has the same answer at the same moment.
    fn close_is_answered(&mut self, closed: &Closed, actions: &[Action]) {
        let Some(stopped) = closed.sessions.iter().find(|session| session.state == SessionState::Stopped)
        else {
            return;
        };
        let has_it = |conn: &ConnId, id: &Id| {
            actions.iter().any(|action| match action {
                Action::Reply { conn: to, id: of, answer: Answer::Closed(other) } => {
                    to == conn && of == id && other == closed
                }
                _ => false,
            })
        };
        let is_left = |(conn, id): &&(ConnId, Id)| !has_it(conn, id);
        let left = self.orders.closes_of(&stopped.name).find(is_left).cloned();
        if let Some(left) = left {
            let what = format!("{} is closed, and {left:?} is not told so", stopped.name);
            self.suspects(Guarantee::OneReply, what);
        }
    }

    /// What goes into a turn is the beginning of what may, and nothing while the person wants a turn to end.
    fn orders_see_delivery(&mut self, deliver: &Deliver) {
        let (name, claim) = (&deliver.session, deliver.claim);
        let owed = self.orders.open.values().find(|order| order.session == *name && !order.is_overruled);
        if let Some(what) = owed.map(|order| format!("{claim} goes into {name} before {order:?} is done")) {
            return self.suspects(Guarantee::Precedence, what);
        }
        let disk = &self.disk.open;
        let may = match deliver.into {
            None => starters(disk, name, &deliver.deliveries),
            Some(_) => {
                let patience_ms = self.shape.policy.patience_ms;
                joiners(disk, name, &deliver.deliveries, |mail: &Mail| {
                    deliver.at.since(mail.sent_at) >= patience_ms
                })
            }
        };
        if !may.starts_with(&deliver.deliveries) {
            // Overtaking one's own sender is a fault of its own.
            let of_sender = |id: &DeliveryId| {
                let mail: &Mail = &disk.mails[&disk.deliveries[id].mail];
                (mail.priority, mail.from.clone())
            };
            let queue = queue(disk, name, &deliver.deliveries);
            let overtakes = |went: &DeliveryId| {
                let mut before =
                    queue.iter().filter(|(_, id, _)| id < went && !deliver.deliveries.contains(id));
                before.any(|(_, id, _)| of_sender(id) == of_sender(went))
            };
            let overtakes = deliver.deliveries.iter().any(overtakes);
            let guarantee = if overtakes { Guarantee::InOrder } else { Guarantee::Precedence };
            let (went, into) = (&deliver.deliveries, &deliver.into);
            let what = format!("{went:?} goes into {name} ({into:?}), first would be {may:?}");
            self.suspects(guarantee, what);
        }
    }

    /// The person is told that a turn has ended, or why not.
    pub fn interrupt_is_answered(&mut self, turn: Option<&str>, fault: Option<Code>) {
        let told: Option<TurnId> = turn.map(Into::into);
        let running = |id: &TurnId| {
            // What a child leaves undone without a word, the relay gives up on.
            let heard = self.codex.processes.values().filter(|process| !process.is_deaf);
            let mut turns = heard.flat_map(|process| process.loaded.values().flatten());
            turns.any(|turn| turn.id == *id)
        };
        if let Some(id) = told.filter(running) {
            self.breach(
                Guarantee::Precedence,
                format!("{id} runs, and the person is told that it was interrupted"),
            );
        }
        // There is no such session, it is being closed or the relay leaves, its child does not answer, or nobody said hello.
        let fine = [Code::NotFound, Code::Busy, Code::Timeout, Code::Usage];
        if let Some(code) = fault.filter(|code| !fine.contains(code)) {
            self.breach(Guarantee::Precedence, format!("an interrupt is refused to the person: {code:?}"));
        }
    }

    fn suspects(&mut self, guarantee: Guarantee, what: String) {
        self.suspicions.push((guarantee, what));
    }
}

/// What waits for a session, with what was just taken from its queue: by priority, then in the order of acceptance.
fn queue<'a>(disk: &'a Tables, to: &Name, taken: &[DeliveryId]) -> Vec<(Priority, DeliveryId, &'a Mail)> {
    let waits = |(id, row): &(&DeliveryId, &DeliveryRow)| {
        row.to == *to && (taken.contains(id) || row.state == DeliveryState::Queued && !row.braked)
    };
    let of = |(id, row): (&DeliveryId, &DeliveryRow)| {
        let mail: &'a Mail = &disk.mails[&row.mail];
        (mail.priority, *id, mail)
    };
    let mut queue: Vec<_> = disk.deliveries.iter().filter(waits).map(of).collect();
    queue.sort_by_key(|(priority, id, _)| (*priority, *id));
    queue
}

/// What may go into a turn of its own, in order.
fn starters(disk: &Tables, to: &Name, taken: &[DeliveryId]) -> Vec<DeliveryId> {
    let queue = queue(disk, to, taken);
    if let Some((Priority::Prompt, id, _)) = queue.first() {
        return vec![*id];
    }
    let is_ahead = |(priority, id, mail): &&(Priority, DeliveryId, &Mail)| {
        queue.iter().any(|(other, later, pressing)| {
            pressing.when == Some(When::Now) && other == priority && pressing.from == mail.from && later >= id
        })
    };
    let ahead: Vec<DeliveryId> = queue.iter().filter(is_ahead).map(|(_, id, _)| *id).collect();
    match queue.first() {
        _ if !ahead.is_empty() => ahead,
        Some((Priority::Fyi, ..)) | None => Vec::new(),
        Some(_) => queue.iter().map(|(_, id, _)| *id).collect(),
    }
}

/// What may join a running turn, in order.
fn joiners(
    disk: &Tables,
    to: &Name,
    taken: &[DeliveryId],
    is_patient_no_more: impl Fn(&Mail) -> bool,
) -> Vec<DeliveryId> {
    let queue = queue(disk, to, taken);
    if let Some((Priority::Prompt, id, _)) = queue.first() {
        return vec![*id];
    }
    let mut behind: BTreeSet<(Priority, &Name)> = BTreeSet::new();
    let mut found = Vec::new();
    for (priority, id, mail) in &queue {
        let joins = match (mail.when, priority) {
            (Some(When::Idle), _) | (None, Priority::Fyi) => false,
            (Some(When::Boundary | When::Now), _) | (None, Priority::Prompt | Priority::Urgent) => true,
            (None, Priority::Normal) => is_patient_no_more(mail),
        };
        if !joins {
            behind.insert((*priority, &mail.from));
        } else if !behind.contains(&(*priority, &mail.from)) {
            found.push(*id);
        }
    }
    found
}
