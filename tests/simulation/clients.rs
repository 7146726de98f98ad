//! The clients' twin: connections that say hello, ask for everything that the protocol has, and hang up when they like.
//!
//! **Invariant:** a client that reads its mail asks for nothing more until the answer is there, as the command line does;
//! so its next request really means that it has the text.

use std::collections::BTreeMap;

use agentmux::core::input::{Input, Resolved};
use agentmux::model::fault::Fault;
use agentmux::model::id::{ConnId, MailId};
use agentmux::model::name::{self, Name};
use agentmux::model::session::Wanted;
use agentmux::model::token::Token;
use agentmux::protocol::answer::{Answer, NamedState, Sent, SessionInfo};
use agentmux::protocol::request::{Decision, Hello, One, Prompt, Request, Send, SettleApproval, Until, Wait};
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
    pub keyed: Vec<Send>,
    /// The same of words of the person.
    pub keyed_prompts: Vec<Prompt>,
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
}
