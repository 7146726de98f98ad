//! The clients' twin: connections that say hello, ask for everything that the protocol has, and hang up when they like.
//!
//! **Invariant:** a client that reads its mail asks for nothing more until the answer is there, as the command line does;
//! so its next request really means that it has the text.

use std::collections::BTreeMap;

use agentmux::core::input::{Input, Resolved};
use agentmux::model::fault::Fault;
use agentmux::model::id::{ConnId, MailId, approval_id};
use agentmux::model::mail::{DeliveryState, Priority, When};
use agentmux::model::name::{self, Name};
use agentmux::model::session::Wanted;
use agentmux::model::token::Token;
use agentmux::protocol::answer::{Answer, NamedState, Sent, SessionInfo};
use agentmux::protocol::request::{
    Close, Dead, Decision, Discard, Down, Hello, Hold, Inbox, Look, MailRef, Names, Next, One, Prompt,
    Release, Reply, Request, Send, Settle, SettleApproval, Spawn, Stop, Until, Wait,
};
use agentmux::wire::rpc::Id;

use crate::guarantee::Guarantee;
use crate::plain;
use crate::shape::Shape;
use crate::world::{Happening, World};

/// All clients.
#[derive(Debug)]
pub struct Clients {
    pub all: Vec<Client>,
    last_conn: u64,
    /// Who asks on each connection that was ever made.
    speakers: BTreeMap<ConnId, Name>,
    /// Mails that some client knows of.
    pub known: Vec<MailId>,
    /// Keyed mail that some client may send again.
    keyed: Vec<Send>,
    /// The same of words of the person.
    keyed_prompts: Vec<Prompt>,
    /// What the last `list` showed.
    pub listed: Vec<SessionInfo>,
    /// What the last `up` or `down` told.
    pub states: Vec<NamedState>,
    /// The newest token of each session's own tools, as its child was given it.
    pub tokens: BTreeMap<Name, Token>,
}

/// One client.
#[derive(Debug)]
pub struct Client {
    pub conn: Option<ConnId>,
    /// Whether it runs inside an agent.
    pub outside: bool,
    /// The session whose tools it is, if it is any's.
    pub agent: Option<Name>,
    /// Requests that it will still make.
    pub left: u64,
    last_id: i64,
    /// Requests without a reply.
    pub asked: BTreeMap<Id, Request>,
    /// Mail whose text it was given.
    holds: Vec<MailId>,
}

/// What a reply carries.
#[derive(Debug)]
pub enum Body {
    Answer(Answer),
    Fault(Fault),
    /// Rows from the store; the mail whose text is among them.
    Rows(Option<MailId>),
}

impl Clients {
    pub fn new(shape: &Shape) -> Clients {
        let client = |number| Client {
            conn: None,
            outside: number >= 2,
            agent: None,
            left: shape.requests,
            last_id: 0,
            asked: BTreeMap::new(),
            holds: Vec::new(),
        };
        let all = (0..shape.clients).map(client).collect();
        Clients {
            all,
            last_conn: 0,
            speakers: BTreeMap::new(),
            known: Vec::new(),
            keyed: Vec::new(),
            keyed_prompts: Vec::new(),
            listed: Vec::new(),
            states: Vec::new(),
            tokens: BTreeMap::new(),
        }
    }

    /// Every connection is gone.
    pub fn hang_up_all(&mut self) {
        self.all.iter_mut().for_each(Client::forget);
    }

    /// Who asks on a connection.
    pub fn speaker(&self, conn: ConnId) -> &Name {
        &self.speakers[&conn]
    }

    fn on(&self, conn: ConnId) -> Option<usize> {
        self.all.iter().position(|client| client.conn == Some(conn))
    }
}

impl Client {
    /// Who it speaks as.
    pub fn name(&self) -> Name {
        let plain = if self.outside { name::OUTSIDE } else { name::OPERATOR };
        self.agent.clone().unwrap_or_else(|| Name::parse(plain).expect("a constant in the grammar"))
    }

    fn forget(&mut self) {
        self.conn = None;
        self.asked.clear();
        self.holds.clear();
    }

    fn is_reading(&self) -> bool {
        self.asked.values().any(|request| matches!(request, Request::Read(_) | Request::Next(_)))
    }
}

impl World {
    /// A client does its next thing, and plans the one after.
    pub fn client_acts(&mut self, client: usize) {
        if self.relay.is_none() {
            self.in_ms(1, Happening::RelayStarts);
            let pause = self.random.ms(2, 60);
            return self.in_ms(pause, Happening::ClientActs(client));
        }
        if self.clients.all[client].left == 0 {
            return;
        }
        let pause = self.random.ms(1, self.shape.think_ms);
        self.in_ms(pause, Happening::ClientActs(client));
        if self.clients.all[client].conn.is_some() && self.chance(self.shape.client_closes) {
            return self.client_hangs_up(client);
        }
        if self.clients.all[client].conn.is_none() {
            let says_hello = !self.chance(self.shape.client_closes / 2);
            if self.clients.all[client].outside {
                let agents: Vec<Name> = self.clients.tokens.keys().cloned().collect();
                let is_agent = !agents.is_empty() && self.random.chance(500);
                self.clients.all[client].agent = is_agent.then(|| self.random.pick(&agents).clone());
            }
            return self.client_connects(client, says_hello);
        }
        if !self.clients.all[client].is_reading() {
            self.clients.all[client].left -= 1;
            let request = self.draw_own_ack(client).unwrap_or_else(|| self.draw_request());
            self.client_asks(client, request);
        }
    }

    /// A client connects, and says hello as its first request.
    pub fn client_connects(&mut self, client: usize, says_hello: bool) {
        self.clients.last_conn += 1;
        let conn = ConnId(self.clients.last_conn);
        let twin = &mut self.clients.all[client];
        twin.conn = Some(conn);
        twin.last_id = 0;
        let descends = twin.outside;
        self.clients.speakers.insert(conn, twin.name());
        self.reaches_relay(Input::ConnOpened { conn, descends, pid: None });
        if says_hello {
            let agent = self.clients.all[client].agent.clone();
            let token = agent.as_ref().map(|name| self.clients.tokens[name].reveal().to_owned());
            let identity = agent.map(|name| name.to_string());
            self.client_asks(client, Request::Hello(Hello { identity, token, ..plain::hello() }));
        }
    }

    /// A client writes a request.
    pub fn client_asks(&mut self, client: usize, request: Request) {
        let twin = &mut self.clients.all[client];
        let Some(conn) = twin.conn else { return };
        twin.last_id += 1;
        let id = Id::Number(twin.last_id);
        self.witness.confirmed.extend(twin.holds.drain(..));
        twin.asked.insert(id.clone(), request.clone());
        if let Request::Send(send) = &request
            && send.key.is_some()
        {
            self.clients.keyed.push(send.clone());
        }
        if let Request::Prompt(prompt) = &request
            && prompt.key.is_some()
        {
            self.clients.keyed_prompts.push(prompt.clone());
        }
        if let Request::SettleApproval(SettleApproval { id, decision: Decision::Approve, .. }) = &request
            && !self.clients.all[client].outside
        {
            self.witness.approved.insert(id.clone());
        }
        let request = Box::new(request);
        self.reaches_relay(Input::Asked { conn, id, request, resolved: Resolved::default() });
    }

    fn client_hangs_up(&mut self, client: usize) {
        let twin = &mut self.clients.all[client];
        let Some(conn) = twin.conn else { return };
        twin.forget();
        self.note(|| format!("client {client} hangs up"));
        self.reaches_relay(Input::ConnClosed { conn });
    }

    /// The relay closes a connection.
    pub fn hang_up(&mut self, conn: ConnId) {
        if let Some(client) = self.clients.on(conn) {
            self.client_hangs_up(client);
        }
    }

    /// Every client hangs up.
    pub fn clients_hang_up(&mut self) {
        (0..self.clients.all.len()).for_each(|client| self.client_hangs_up(client));
    }

    /// Completes a request with the rows that it names, at the moment at which the relay handles it.
    pub fn resolved(&mut self, input: &mut Input) {
        if let Input::Asked { conn, request, resolved, .. } = input
            && let Some(client) = self.clients.on(*conn)
        {
            *resolved = self.resolve(client, request);
        }
    }

    /// G1, G4, G5: a reply reaches a client.
    pub fn client_gets(&mut self, conn: ConnId, id: &Id, body: Body) {
        let Some(client) = self.clients.on(conn) else { return };
        let Some(request) = self.clients.all[client].asked.remove(id) else {
            return self.breach(Guarantee::OneReply, format!("{conn:?} got a second reply to {id:?}"));
        };
        // Who is stopped or removed meanwhile is left, and what a person begins in a pane after that is no turn of the session.
        let is_up = |name: &str| {
            let mut sessions = self.disk.committed.sessions.values();
            sessions.any(|session| session.name.as_str() == name && session.wanted == Wanted::Up)
        };
        if let Request::Interrupt(One { name }) = &request
            && is_up(name)
            && !self.clients.all[client].outside
        {
            match &body {
                Body::Answer(Answer::Interrupted(answer)) => {
                    self.interrupt_is_answered(answer.turn_id.as_deref(), None)
                }
                Body::Fault(fault) => self.interrupt_is_answered(None, Some(fault.code)),
                _ => {}
            }
        }
        match body {
            Body::Answer(Answer::Closed(_)) => self.counts.closes += 1,
            Body::Answer(Answer::Sent(sent)) => self.client_is_told_sent(client, &request, &sent),
            Body::Answer(Answer::Waited(waited)) if waited.reached => {
                let Request::Wait(Wait { until: Until::Consumed, .. }) = request else { return };
                let undelivered = {
                    let mut rows = self.disk.committed.of_mail(waited.sent.id);
                    rows.find(|(_, row)| !row.state.is_delivered()).map(|(id, row)| (id, row.state))
                };
                if let Some((id, state)) = undelivered {
                    let what = format!("told delivered, but {id:?} is {state:?} on disk");
                    self.breach(Guarantee::ConsumedOnEvidence, what);
                }
            }
            Body::Answer(Answer::Sessions(answer)) => {
                self.clients.listed = answer.sessions.unwrap_or_default();
            }
            Body::Answer(Answer::States(answer)) => self.clients.states = answer.sessions,
            Body::Rows(Some(mail)) => self.clients.all[client].holds.push(mail),
            Body::Fault(fault) => self.note(|| format!("  refused: {}", fault.message)),
            Body::Answer(_) | Body::Rows(None) => {}
        }
    }

    fn client_is_told_sent(&mut self, client: usize, request: &Request, sent: &Sent) {
        let disk = &self.disk.committed;
        let missing = sent.deliveries.iter().any(|d| !disk.of_mail(sent.id).any(|(_, row)| row.to == d.to));
        if missing || !disk.mails.contains_key(&sent.id) {
            return self.breach(Guarantee::AcceptedIsOnDisk, format!("{} told, but not on disk", sent.id));
        }
        if self.witness.accepted.insert(sent.id) {
            self.counts.mails += sent.deliveries.len() as u64;
            self.counts.prompts += u64::from(matches!(request, Request::Prompt(_)));
            self.clients.known.push(sent.id);
        }
        if let Some(key) = request.key().filter(|_| matches!(request, Request::Send(_) | Request::Prompt(_)))
        {
            let from = self.clients.all[client].name();
            let first = *self.witness.by_key.entry((from, key.to_owned())).or_insert(sent.id);
            if first != sent.id {
                self.breach(Guarantee::OneMailPerKey, format!("{key} became {first} and {}", sent.id));
            }
        }
    }

    fn draw_request(&mut self) -> Request {
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
    fn draw_own_ack(&mut self, client: usize) -> Option<Request> {
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
pub const NAMES: [&str; 4] = ["lead", "reviewer", "tester", "scout"];
