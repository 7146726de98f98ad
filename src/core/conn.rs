//! Connections: hello, who a connection speaks as, what it may ask for, and where its requests go.
//!
//! **Invariant:** the sender is assigned here from facts about the connection, never from a field of a request.

use super::action::{Action, Event};
use super::identity::{Hold, TOOLS};
use super::input::Resolved;
use super::policy::Policy;
use super::timer::Timer;
use super::{Core, Step};
use crate::model::fault::{Code, Fault};
use crate::model::id::{ConnId, MailId};
use crate::model::limits;
use crate::model::mail::FromKind;
use crate::model::name::Name;
use crate::model::session::Wanted;
use crate::protocol::answer::{Answer, Welcome};
use crate::protocol::request::{Elsewhere, Hello, Request};
use crate::protocol::{PROTOCOL_MAX, PROTOCOL_MIN, VERSION, verb};
use crate::wire::rpc::Id;

/// One connection.
#[derive(Debug)]
pub struct Conn {
    /// Whether its process descends from one of our children.
    pub(super) descends: bool,
    /// Its process, for people to read.
    pub(super) pid: Option<u32>,
    /// What its name hangs on.
    pub(super) hold: Hold,
    /// Whether it only serves an agent's tools, and so keeps no relay running.
    pub(super) is_tools: bool,
    /// Who it speaks as, once it has said hello.
    pub identity: Option<Identity>,
    /// The session that its pane shows.
    pub attached: Option<Name>,
    /// What its pane shows in place of that session's thread.
    pub elsewhere: Option<Elsewhere>,
    /// Mail handed to it whose taking its next request confirms.
    pub handed: Vec<MailId>,
    /// Requests of it that wait.
    pub waiting: usize,
}

/// Who a connection speaks as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The name.
    pub name: Name,
    /// What kind of sender.
    pub kind: FromKind,
}

/// One request on its way to an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// On which connection.
    pub conn: ConnId,
    /// The request's id.
    pub id: Id,
}

impl Step {
    /// Answers a request.
    pub fn reply(&mut self, ask: Ask, answer: Answer) {
        self.act(Action::Reply { conn: ask.conn, id: ask.id, answer });
    }

    /// Refuses a request.
    pub fn refuse(&mut self, ask: Ask, fault: Fault) {
        self.act(Action::Refuse { conn: ask.conn, id: ask.id, fault });
    }
}

impl Core {
    pub(super) fn handle_conn_opened(
        &mut self,
        step: &mut Step,
        conn: ConnId,
        descends: bool,
        pid: Option<u32>,
    ) {
        let known = Conn {
            descends,
            pid,
            hold: Hold::None,
            is_tools: false,
            identity: None,
            attached: None,
            elsewhere: None,
            handed: Vec::new(),
            waiting: 0,
        };
        self.conns.insert(conn, known);
        self.timers.set(Timer::Hello(conn), step.now.plus(limits::HELLO_MS));
    }

    pub(super) fn handle_conn_closed(&mut self, step: &mut Step, conn: ConnId) {
        self.timers.clear(&Timer::Hello(conn));
        self.forget_waiting_of(conn);
        let Some(known) = self.conns.remove(&conn) else { return };
        if let Some(attached) = known.attached {
            self.touch(&attached);
            self.tell_panes(step, &attached, false);
        }
        if let Some(reader) = known.identity {
            let why = "its reader went away without a word";
            self.take_back_handed(step, &reader.name, &known.handed, why);
            self.release_name(step, &reader.name, known.hold);
        }
    }

    pub(super) fn handle_hello_missing(&mut self, step: &mut Step, conn: ConnId) {
        step.act(Action::Close { conn });
    }

    pub(super) fn handle_asked(
        &mut self,
        step: &mut Step,
        conn: ConnId,
        id: Id,
        request: Request,
        resolved: Resolved,
    ) {
        let spawned = match &request {
            Request::Spawn(spawn) => Name::parse(&spawn.name),
            _ => None,
        };
        self.answer_asked(step, conn, id, request, resolved);
        // The shell kept the environment of a session that might come; if it was refused, nobody else would remove that.
        if let Some(name) = spawned.filter(|name| !self.ledger.sessions.contains_key(name)) {
            step.act(Action::ForgetEnvironment { name });
        }
    }

    fn answer_asked(&mut self, step: &mut Step, conn: ConnId, id: Id, request: Request, resolved: Resolved) {
        let ask = Ask { conn, id };
        if self.is_replaced() {
            // Its connection closes with this relay; the client asks the next one.
            return;
        }
        if self.refuse_fenced(step, &ask) {
            return;
        }
        let Some(known) = self.conns.get_mut(&conn) else { return };
        let handed = if resolved.pipelined { Vec::new() } else { std::mem::take(&mut known.handed) };
        let identity = match (&request, known.identity.clone()) {
            (Request::Hello(hello), None) => return self.handle_hello(step, ask, hello, &resolved),
            (Request::Hello(_), Some(_)) => {
                return step.refuse(ask, Fault::usage("request refused: hello was said already"));
            }
            (_, None) => {
                step.refuse(ask, Fault::usage("request refused: the first request must be `hello`"));
                return step.act(Action::Close { conn });
            }
            (_, Some(identity)) => identity,
        };
        self.confirm_handed(step, &identity.name, &handed);
        if self.stop.is_some()
            && !matches!(request, Request::Status | Request::List | Request::Stop(_) | Request::Down(_))
        {
            return step.refuse(
                ask,
                Fault::busy("request refused: the relay is stopping")
                    .hint("run the command again in a moment"),
            );
        }
        if known_waiting(self, conn) >= limits::PENDING_PER_CLIENT_MAX {
            let most = limits::PENDING_PER_CLIENT_MAX;
            return step.refuse(
                ask,
                Fault::busy(format!("request refused: {most} requests of this connection wait already")),
            );
        }
        if let Some(fault) = rights_refusal(&request, &identity, &self.settings.policy) {
            return step.refuse(ask, fault);
        }
        match request {
            Request::Hello(_) => unreachable!("answered above"),
            Request::Spawn(spawn) => self.request_spawn(step, ask, spawn, resolved),
            Request::Configure(spawn) => self.request_configure(step, ask, spawn, resolved),
            Request::Up(names) => self.request_up(step, ask, &names.names),
            Request::Down(down) => self.request_down(step, ask, &down),
            Request::Remove(one) => self.request_remove(step, ask, &one.name),
            Request::List => self.request_list(step, ask),
            Request::Status => self.request_status(step, ask),
            Request::Show(one) => self.request_show(step, ask, &one.name),
            Request::Send(send) => self.request_send(step, ask, &identity, send, resolved),
            Request::Reply(reply) => self.request_reply(step, ask, &identity, reply, resolved),
            Request::Prompt(prompt) => self.request_prompt(step, ask, &identity, prompt, resolved),
            Request::Interrupt(one) => self.request_interrupt(step, ask, &one.name),
            Request::Close(close) => self.request_close(step, ask, &close),
            Request::Inbox(inbox) => self.request_inbox(step, ask, &identity, &inbox),
            Request::Read(mail) => self.request_read(step, ask, &identity, &mail.id, resolved),
            Request::Trace(mail) => self.request_trace(step, ask, &identity, &mail.id, resolved),
            Request::Search(search) => self.request_search(step, ask, search),
            Request::Next(next) => self.request_next(step, ask, &identity, &next),
            Request::Hold(hold) => self.request_hold(step, ask, &hold),
            Request::Release(release) => self.request_release(step, ask, &release, resolved),
            Request::Ack(settle) => self.request_ack(step, ask, &identity, &settle, resolved),
            Request::Cancel(mail) => self.request_cancel(step, ask, &identity, &mail.id, resolved),
            Request::Requeue(settle) => self.request_requeue(step, ask, &settle, resolved),
            Request::Dead(dead) => self.request_dead(step, ask, &dead),
            Request::Discard(discard) => self.request_discard(step, ask, &discard, resolved),
            Request::Wait(wait) => self.request_wait(step, ask, &identity, &wait, resolved),
            Request::Look(look) => self.request_look(step, ask, &look),
            Request::Watch(watch) => self.request_watch(step, ask, &watch),
            Request::PaneReport(report) => self.request_report(step, ask, report),
            Request::Log(log) => self.request_log(step, ask, &log, &resolved),
            Request::Approvals => self.request_approvals(step, ask),
            Request::SettleApproval(settle) => self.request_settle(step, ask, settle, resolved),
            Request::Attach(one) => self.request_attach(step, ask, &one.name),
            Request::Stop(stop) => self.request_stop(step, ask, stop.now),
            Request::Replace => self.request_replace(step, ask),
        }
    }

    fn handle_hello(&mut self, step: &mut Step, ask: Ask, hello: &Hello, resolved: &Resolved) {
        if hello.protocol_min > PROTOCOL_MAX || hello.protocol_max < PROTOCOL_MIN {
            let up = self.ledger.sessions.values().filter(|session| session.wanted == Wanted::Up).count();
            let fault = Fault::new(
                Code::Version,
                format!(
                    "hello refused: the relay (pid {}, version {VERSION}, sessions up: {up}) speaks protocol {PROTOCOL_MIN} to {PROTOCOL_MAX}, the client (version {}) speaks {} to {}",
                    self.settings.pid, hello.version, hello.protocol_min, hello.protocol_max
                ),
            );
            let hint = "replace the relay, which ends no agent: agentmux host relay --replace";
            step.refuse(ask.clone(), fault.hint(hint));
            return step.act(Action::Close { conn: ask.conn });
        }
        let known = match self.identify(step, &ask, hello, resolved) {
            Ok(known) => known,
            Err(fault) => {
                step.refuse(ask.clone(), fault);
                return step.act(Action::Close { conn: ask.conn });
            }
        };
        let identity = known.identity;
        let Some(conn) = self.conns.get_mut(&ask.conn) else { return };
        conn.identity = Some(identity.clone());
        conn.hold = known.hold;
        conn.is_tools = hello.client == TOOLS;
        self.timers.clear(&Timer::Hello(ask.conn));
        let welcome = Welcome {
            version: VERSION.to_owned(),
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL_MAX,
            protocol: PROTOCOL_MAX.min(hello.protocol_max),
            pid: self.settings.pid,
            bundle: self.settings.bundle.clone(),
            name: identity.name,
            kind: identity.kind,
            because: known.because,
            token: known.token.map(|token| token.reveal().to_owned()),
        };
        step.reply(ask, Answer::Welcome(welcome));
    }

    /// Tells every client that has said hello.
    pub(super) fn notify_all(&mut self, step: &mut Step, event: &Event) {
        for (conn, known) in &self.conns {
            if known.identity.is_some() {
                step.act(Action::Notify { conn: *conn, event: event.clone() });
            }
        }
    }
}

fn known_waiting(core: &Core, conn: ConnId) -> usize {
    core.conns.get(&conn).map_or(0, |conn| conn.waiting)
}

/// Why somebody may not ask for this, by the verb table's word on its method.
fn rights_refusal(request: &Request, by: &Identity, policy: &Policy) -> Option<Fault> {
    let method = request.method();
    if by.kind == FromKind::Operator || !verb::is_operators(method) || policy.allows(by, method) {
        return None;
    }
    if !verb::is_for_named(method) {
        let why = "request refused: only the operator may do this, and this command runs inside an agent";
        return Some(Fault::refused(why).hint("run it from your own shell"));
    }
    if by.has_name() {
        return None;
    }
    let why = "request refused: this command runs inside an agent that has no name of its own here";
    Some(Fault::refused(why).hint("an agent that is no session claims a free name: --as NAME"))
}
