//! What clients ask for, drawn at random: every method of the protocol, with names and mails that there are, and some that there are not.

use agentmux::model::id::{MailId, approval_id};
use agentmux::model::mail::{DeliveryState, Priority, When};
use agentmux::model::name::{self, Name};
use agentmux::model::session::Wanted;
use agentmux::protocol::request::{
    Close, Dead, Decision, Discard, Down, Hold, Inbox, Look, MailRef, Names, Next, One, Prompt, Release,
    Reply, Request, Send, Settle, SettleApproval, Spawn, Stop, Until, Wait,
};

use crate::world::World;

impl World {
    pub fn draw_request(&mut self) -> Request {
        if self.disk.committed.sessions.is_empty() || self.random.chance(60) {
            return self.draw_spawn();
        }
        if self.chance(self.shape.orders) {
            return self.draw_order();
        }
        let some_mail = self.clients.known.len();
        let mail = (some_mail > 0).then(|| self.random.pick(&self.clients.known).to_string());
        if self.random.below(100) < self.shape.sending {
            return match mail {
                Some(id) if self.random.chance(200) => {
                    let body = self.draw_body();
                    Request::Reply(Reply { id, body, ..Reply::default() })
                }
                mail => Request::Send(self.draw_send(mail)),
            };
        }
        if self.chance(self.shape.settling)
            && let Some(request) = self.draw_settling()
        {
            return request;
        }
        if self.random.chance(200) {
            return self.draw_approval();
        }
        let name = self.draw_name();
        match (self.random.below(14), mail) {
            (0 | 1, Some(id)) => Request::Trace(MailRef { id }),
            (2..=4, Some(id)) => {
                let until = *self.random.pick(&[Until::Submitted, Until::Consumed, Until::Reply]);
                Request::Wait(Wait { id, until, timeout_ms: self.random.below(60_000) })
            }
            (5 | 6, Some(id)) => Request::Read(MailRef { id: id[id.len() - 12..].to_owned() }),
            (7, _) => Request::Up(Names { names: vec![name] }),
            (8, _) => Request::Down(Down { names: vec![name], now: self.random.chance(500) }),
            (9, _) if self.random.chance(600) => Request::Remove(One { name }),
            (9, _) if self.random.chance(200) => Request::Stop(Stop { now: self.random.chance(500) }),
            (10, _) => Request::Look(Look { name, limit: 5 }),
            (11, _) => Request::Attach(One { name }),
            (12, _) => Request::Inbox(Inbox::default()),
            (13, _) => Request::Status,
            _ => Request::List,
        }
    }

    /// What the person says to a session, or wants of its turn; or the wait for words that were said.
    fn draw_order(&mut self) -> Request {
        // Mostly to one that is up, because only there an order meets a turn.
        let sessions = self.disk.committed.sessions.values();
        let up =
            sessions.filter(|session| session.wanted == Wanted::Up).map(|session| session.name.to_string());
        let up: Vec<String> = up.collect();
        let any = up.is_empty() || self.random.chance(250);
        let name = if any { self.draw_name() } else { self.random.pick(&up).clone() };
        match self.random.below(10) {
            0..=3 => Request::Prompt(self.draw_prompt(name)),
            4 => {
                let rows = self.disk.committed.mails.values();
                let said: Vec<MailId> =
                    rows.filter(|mail| mail.priority == Priority::Prompt).map(|mail| mail.id).collect();
                match said.last() {
                    Some(id) => {
                        let (id, timeout_ms) = (id.to_string(), self.random.below(60_000));
                        Request::Wait(Wait { id, until: Until::Consumed, timeout_ms })
                    }
                    None => Request::Prompt(self.draw_prompt(name)),
                }
            }
            5 | 6 => Request::Interrupt(One { name }),
            7 | 8 => Request::Close(Close { name, now: self.random.chance(250) }),
            _ => Request::Up(Names { names: vec![name] }),
        }
    }

    fn draw_prompt(&mut self, name: String) -> Prompt {
        if !self.clients.keyed_prompts.is_empty() && self.random.chance(150) {
            return self.random.pick(&self.clients.keyed_prompts).clone();
        }
        let key = self.random.chance(250).then(|| format!("said-{}", self.random.below(1_000_000)));
        Prompt { name, text: self.draw_body(), key }
    }

    /// The list of approvals, or an answer to one that is open on disk.
    fn draw_approval(&mut self) -> Request {
        let open: Vec<String> = self.disk.committed.approvals.keys().map(|key| approval_id(key)).collect();
        if open.is_empty() || self.random.chance(200) {
            return Request::Approvals;
        }
        let id = self.random.pick(&open).clone();
        let decision = if self.random.chance(500) { Decision::Approve } else { Decision::Deny };
        let always = self.random.chance(100);
        Request::SettleApproval(SettleApproval {
            id,
            decision,
            always,
            confirmed: always,
            choice: None,
            reason: None,
        })
    }

    fn draw_spawn(&mut self) -> Request {
        let program = format!("/bin/codex-{}", self.random.below(self.shape.programs));
        Request::Spawn(Spawn {
            name: self.draw_name(),
            dir: "/project".to_owned(),
            program,
            wake: self.chance(self.shape.wakes),
            ..Spawn::default()
        })
    }

    /// An agent says that it has mail of its own, wherever that is: it may know it from a wait or from another session.
    pub fn draw_own_ack(&mut self, client: usize) -> Option<Request> {
        let agent = self.clients.all[client].agent.clone().filter(|_| self.random.chance(400))?;
        let rows = self.disk.committed.deliveries.values();
        let own = rows.filter(|row| row.to == agent && (row.state.is_open() || row.state.is_delivered()));
        let (open, had): (Vec<_>, Vec<_>) =
            own.map(|row| (row.mail, row.state)).partition(|(_, state)| state.is_open());
        let of = if open.is_empty() || self.random.chance(200) { had } else { open };
        let id = (!of.is_empty()).then(|| self.random.pick(&of).0.to_string())?;
        Some(Request::Ack(Settle { id, name: None }))
    }

    /// What a person does to mail that is under way, done or dead; mostly to mail that it fits.
    fn draw_settling(&mut self) -> Option<Request> {
        let rows = &self.disk.committed.deliveries;
        let fitting = *self.random.pick(&[
            &[DeliveryState::Unknown][..],
            &[DeliveryState::Queued],
            &[DeliveryState::Expired, DeliveryState::Failed],
            &DeliveryState::ALL,
        ]);
        let fits: Vec<(MailId, Name)> = rows
            .values()
            .filter(|row| fitting.contains(&row.state))
            .map(|row| (row.mail, row.to.clone()))
            .collect();
        let (mail, to) =
            if fits.is_empty() { (None, None) } else { Some(self.random.pick(&fits).clone()).unzip() };
        let id = mail.map(|mail| mail.to_string());
        let to = to.filter(|_| self.random.chance(500)).map(|to| to.to_string());
        let name = self.draw_name();
        Some(match (self.random.below(16), id) {
            (0..=2, Some(id)) => Request::Ack(Settle { id, name: to }),
            (3..=5, Some(id)) => Request::Requeue(Settle { id, name: to }),
            (6 | 7, Some(id)) => Request::Cancel(MailRef { id }),
            (8, id) => Request::Discard(Discard { id }),
            (9, _) => Request::Dead(Dead::default()),
            (10 | 11, _) => {
                let for_ms = self.random.chance(700).then(|| self.random.below(20_000));
                Request::Hold(Hold { name, for_ms })
            }
            (12, _) => Request::Release(Release { target: name }),
            (13, Some(target)) => Request::Release(Release { target }),
            (14 | 15, _) => {
                let from = self.random.chance(300).then(|| name::OUTSIDE.to_owned());
                Request::Next(Next { from, timeout_ms: self.random.below(3_000) })
            }
            _ => return None,
        })
    }

    fn draw_name(&mut self) -> String {
        (*self.random.pick(&NAMES[..self.shape.sessions])).to_owned()
    }

    fn draw_body(&mut self) -> String {
        let bytes = match self.random.below(40) {
            0 => 40_000,
            1 | 2 => 12_000,
            _ => 8,
        };
        "m".repeat(bytes)
    }

    fn draw_send(&mut self, parent: Option<String>) -> Send {
        if !self.clients.keyed.is_empty() && self.random.chance(150) {
            return self.random.pick(&self.clients.keyed).clone();
        }
        let to = match self.random.below(10) {
            0 => vec!["@all".to_owned()],
            1 => vec![name::OPERATOR.to_owned()],
            2 | 3 => vec![self.draw_name(), self.draw_name(), self.draw_name()],
            _ => vec![self.draw_name()],
        };
        let priority = match self.random.below(10) {
            0 | 1 => Priority::Urgent,
            2 => Priority::Fyi,
            _ => Priority::Normal,
        };
        let when = match self.random.below(10) {
            0 | 1 => Some(When::Boundary),
            2 => Some(When::Idle),
            3 => Some(When::Now),
            _ => None,
        };
        let expires = self.random.chance(100).then(|| 1 + self.random.below(20_000));
        let key = self.random.chance(250).then(|| format!("key-{}", self.random.below(1_000_000)));
        let reply_to = parent.filter(|_| self.random.chance(300));
        let (body, ask) = (self.draw_body(), self.random.chance(50));
        Send { to, body, subject: None, priority, when, ask, reply_to, expires_ms: expires, key }
    }
}

/// Names that sessions get.
const NAMES: [&str; 4] = ["lead", "reviewer", "tester", "scout"];
