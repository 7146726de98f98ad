//! Identity: who a connection speaks as, and which names are held.
//!
//! | A connection with | speaks as |
//! | --- | --- |
//! | a session's name and a token that is valid for it | that session |
//! | a free name (or its own again, with its token) | an outside agent of that name, with a mailbox |
//! | neither, no mark of an agent, no descent from a child | the operator |
//! | anything else | `outside`, which has no mailbox |
//!
//! A name of an outside agent is held by its connections together, since one claim of it, which has a number (the epoch). A
//! claim that the operator takes over gets the next number, and connections of an earlier one are fenced: what they ask is
//! refused and not done. **Invariant:** a name is held by one claim at most, and a session's name only by its token.

use super::action::Action;
use super::conn::{Ask, Identity};
use super::input::Resolved;
use super::record::Record;
use super::timer::Timer;
use super::{Core, Step};
use crate::model::fault::Fault;
use crate::model::id::{ConnId, Nonce};
use crate::model::limits;
use crate::model::mail::FromKind;
use crate::model::name::{self, Name};
use crate::model::token::{Token, TokenHash};
use crate::protocol::request::Hello;

/// What an agent's tools call themselves in hello.
pub(super) const TOOLS: &str = "mcp";

/// What a connection's name hangs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// Nothing: the operator, and `outside`.
    None,
    /// A session's token.
    Token(TokenHash),
    /// A claim of an outside agent.
    Claim(u64),
}

/// What came of a hello.
pub(super) struct Known {
    pub identity: Identity,
    pub hold: Hold,
    /// Why, in words for people.
    pub because: String,
    /// The token of a name that was claimed now.
    pub token: Option<Token>,
}

impl Step {
    /// Draws a token.
    pub fn token(&mut self) -> Token {
        self.tokens_drawn += 1;
        Token::draw(self.secret, self.tokens_drawn)
    }
}

impl Core {
    /// Decides who a connection speaks as.
    pub(super) fn identify(
        &mut self,
        step: &mut Step,
        ask: &Ask,
        hello: &Hello,
        resolved: &Resolved,
    ) -> Result<Known, Fault> {
        let Some(conn) = self.conns.get(&ask.conn) else { return Err(Fault::bug("a hello of nobody")) };
        let descends = conn.descends;
        let client = short(&hello.client);
        let by = conn.pid.map_or_else(|| client.clone(), |pid| format!("pid {pid} ({client})"));
        let Some(wanted) = &hello.identity else {
            if hello.token.is_some() {
                return Err(Fault::usage("hello refused: a token without the name that it is for"));
            }
            return Ok(Known::unnamed(descends, hello));
        };
        let Some(name) = Name::parse(wanted).filter(|name| !name.is_reserved()) else {
            let wanted: String = wanted.chars().take(40).collect();
            let fault =
                Fault::usage(format!("name refused: nobody may be called `{}`", wanted.escape_debug()));
            return Err(fault.hint("a name is a lower-case letter, then up to 31 of a-z, 0-9, - and _"));
        };
        // What is no token at all is the hash of none.
        let hash = |text: &str| Token::parse(text).map_or(TokenHash([0; 32]), |token| token.hash());
        let token = hello.token.as_deref().map(hash);
        if self.ledger.sessions.contains_key(&name) {
            let known = self.identify_session(step, name, token)?;
            return Ok(known);
        }
        if descends {
            let fault = Fault::refused(format!("name refused: `{name}` is claimed from inside a session"));
            return Err(fault.hint("a session writes under its own name, by its agentmux tools"));
        }
        for gone in &resolved.hung_up {
            self.handle_conn_closed(step, *gone);
        }
        self.claim_name(
            step,
            name,
            token,
            hello.take_over,
            hello.agent_mark.is_none() && hello.client != TOOLS,
            by,
            resolved,
        )
    }

    /// A session's name needs the token that its own tools were given.
    fn identify_session(
        &mut self,
        step: &mut Step,
        name: Name,
        token: Option<TokenHash>,
    ) -> Result<Known, Fault> {
        let Some(token) = token else {
            let fault = Fault::refused(format!(
                "name refused: `{name}` is a session, and only its own tools have its token"
            ));
            return Err(fault.hint("take another name; whoever claims none writes as `outside`"));
        };
        let tokens = self.ledger.tokens.get(&name);
        let valid = tokens.into_iter().flat_map(|tokens| &tokens.hashes).any(|known| known.is(&token));
        if !valid {
            let fault = Fault::refused(format!("name refused: the token is none of session `{name}`"));
            return Err(
                fault.hint("a token ends when its session is started again; the new one is in its own tools")
            );
        }
        if tokens.is_some_and(|tokens| !tokens.used || tokens.hashes.len() > 1) {
            self.record(step, Record::TokenUsed { session: name.clone(), hash: token });
        }
        self.touch(&name);
        let identity = Identity { name, kind: FromKind::Agent };
        let because = "its token".to_owned();
        Ok(Known { identity, hold: Hold::Token(token), because, token: None })
    }

    #[allow(clippy::too_many_arguments, reason = "everything that decides about a claim")]
    fn claim_name(
        &mut self,
        step: &mut Step,
        name: Name,
        token: Option<TokenHash>,
        take_over: bool,
        by_operator: bool,
        by: String,
        resolved: &Resolved,
    ) -> Result<Known, Fault> {
        if take_over && !by_operator {
            let fault =
                Fault::refused(format!("take-over of `{name}` refused: only the operator may do this"));
            return Err(fault.hint("run it from your own shell"));
        }
        if let Some(fault) = &resolved.name_locked {
            return Err(fault.clone());
        }
        let identity = Identity { name: name.clone(), kind: FromKind::Outside };
        let outsider = self.ledger.outsiders.get(&name).cloned();
        let held = outsider.as_ref().filter(|outsider| outsider.held);
        let own = |outsider: &super::ledger::Outsider| token.is_some_and(|token| outsider.hash.is(&token));
        if let Some(outsider) = held.filter(|outsider| own(outsider)) {
            self.timers.clear(&Timer::Name(name));
            let because = "its token".to_owned();
            return Ok(Known { identity, hold: Hold::Claim(outsider.epoch), because, token: None });
        }
        if let Some(outsider) = held.filter(|_| !take_over) {
            return Err(self.name_conflict(&name, outsider.epoch, outsider.since));
        }
        if outsider.is_none() && self.ledger.outsiders.len() >= limits::OUTSIDERS_MAX {
            let most = limits::OUTSIDERS_MAX;
            let fault = Fault::busy(format!("name refused: {most} names are claimed, the limit"));
            return Err(fault.hint("remove one that nobody needs: agentmux remove NAME"));
        }
        let (epoch, at) = (outsider.as_ref().map_or(1, |outsider| outsider.epoch + 1), step.now);
        let (token, taken_over) = (step.token(), held.is_some());
        let hash = token.hash();
        let because = format!("claimed by {by}");
        self.record(step, Record::NameClaimed { name: name.clone(), hash, epoch, at, by, taken_over });
        self.timers.clear(&Timer::Name(name.clone()));
        self.fence(step, &name);
        Ok(Known { identity, hold: Hold::Claim(epoch), because, token: Some(token) })
    }

    fn name_conflict(&self, name: &Name, epoch: u64, since: crate::model::clock::Millis) -> Fault {
        let since = since.rfc3339_seconds();
        let holder = self.holders_of(name).find_map(|conn| self.conns.get(&conn)?.pid);
        let who = match holder {
            Some(pid) => format!("is held by pid {pid}, since {since}"),
            None if self.holders_of(name).next().is_some() => format!("is held since {since}"),
            None => {
                let s = limits::NAME_KEPT_MS / 1000;
                format!(
                    "was held, since {since}, when the relay was restarted, and is kept for its holder for {s} s"
                )
            }
        };
        Fault::conflict(format!("name refused: `{name}` {who} (claim {epoch})"))
            .hint("take another name; the operator may take it over with --take-over")
    }

    /// The connections that hold an outside agent's name now.
    pub fn holders_of<'a>(&'a self, name: &'a Name) -> impl Iterator<Item = ConnId> + 'a {
        let epoch =
            self.ledger.outsiders.get(name).filter(|outsider| outsider.held).map(|outsider| outsider.epoch);
        let holds = move |conn: &super::conn::Conn| {
            epoch.is_some_and(|epoch| conn.hold == Hold::Claim(epoch))
                && conn.identity.as_ref().is_some_and(|identity| identity.name == *name)
        };
        self.conns.iter().filter(move |(_, conn)| holds(conn)).map(|(id, _)| *id)
    }

    /// Every name in use, whose lock the shell holds: sessions that are wanted up, and claimed names.
    pub fn names_in_use(&self) -> impl Iterator<Item = &Name> {
        let up = self
            .ledger
            .sessions
            .values()
            .filter(|session| session.wanted == crate::model::session::Wanted::Up);
        let held = self.ledger.outsiders.iter().filter(|(_, outsider)| outsider.held);
        up.map(|session| &session.name).chain(held.map(|(name, _)| name))
    }

    /// Why a connection may no longer speak as it did, if so.
    pub(super) fn fenced(&self, conn: ConnId) -> Option<Fault> {
        let known = self.conns.get(&conn)?;
        let name = &known.identity.as_ref()?.name;
        let fault = match known.hold {
            Hold::None => return None,
            Hold::Token(hash) => {
                let valid = self.ledger.tokens.get(name).is_some_and(|tokens| tokens.hashes.contains(&hash));
                if valid {
                    return None;
                }
                Fault::conflict(format!(
                    "request refused: session `{name}` was started again, and this connection is of before"
                ))
            }
            Hold::Claim(epoch) => match self.ledger.outsiders.get(name) {
                Some(outsider) if outsider.epoch == epoch && outsider.held => return None,
                Some(outsider) => {
                    let since = outsider.since.rfc3339_seconds();
                    Fault::conflict(format!(
                        "request refused: `{name}` was taken over at {since}; nothing was done"
                    ))
                }
                None => Fault::conflict(format!("request refused: `{name}` was removed; nothing was done")),
            },
        };
        Some(fault.hint("connect again, under a name that is free"))
    }

    /// What connections of earlier claims of a name wait for, they no longer get.
    fn fence(&mut self, step: &mut Step, name: &Name) {
        let of_name =
            |conn: &super::conn::Conn| conn.identity.as_ref().is_some_and(|identity| identity.name == *name);
        let conns: Vec<ConnId> =
            self.conns.iter().filter(|(_, conn)| of_name(conn)).map(|(id, _)| *id).collect();
        for conn in conns {
            let Some(fault) = self.fenced(conn) else { continue };
            self.refuse_waiting_of(step, conn, &fault);
            let handed =
                self.conns.get_mut(&conn).map(|known| std::mem::take(&mut known.handed)).unwrap_or_default();
            self.take_back_handed(step, name, &handed, "its reader's name was taken over");
        }
    }

    /// A connection is gone: its name is free when it was the last that held it.
    pub(super) fn release_name(&mut self, step: &mut Step, name: &Name, hold: Hold) {
        let Hold::Claim(epoch) = hold else { return };
        let current = self.ledger.outsiders.get(name).is_some_and(|known| known.held && known.epoch == epoch);
        if current && self.holders_of(name).next().is_none() && self.stop.is_none() {
            self.record(step, Record::NameReleased { name: name.clone(), at: step.now });
        }
    }

    /// The relay has started: names that were held are kept for their tokens for a while.
    pub(super) fn keep_names(&mut self, step: &Step) {
        let held = self.ledger.outsiders.iter().filter(|(_, outsider)| outsider.held);
        for (name, _) in held {
            self.timers.set(Timer::Name(name.clone()), step.now.plus(limits::NAME_KEPT_MS));
        }
    }

    pub(super) fn handle_name_kept(&mut self, step: &mut Step, name: &Name) {
        let held = self.ledger.outsiders.get(name).is_some_and(|outsider| outsider.held);
        if held && self.holders_of(name).next().is_none() {
            self.record(step, Record::NameReleased { name: name.clone(), at: step.now });
        }
    }

    /// Removes an outside agent's mailbox; its mail ends as failed.
    pub(super) fn remove_outsider(&mut self, step: &mut Step, name: &Name, why: &str) {
        self.fail_mail_to(step, name, why);
        self.timers.clear(&Timer::Name(name.clone()));
        self.record(step, Record::NameRemoved { name: name.clone() });
        self.fence(step, name);
    }

    /// Gives a session's tools a token, for as long as this child lives.
    pub(super) fn issue_token(&mut self, step: &mut Step, name: &Name, child: Nonce) -> Token {
        let token = step.token();
        self.record(step, Record::TokenIssued { session: name.clone(), child, hash: token.hash() });
        token
    }

    /// Whether a request's connection may be told to go.
    pub(super) fn refuse_fenced(&mut self, step: &mut Step, ask: &Ask) -> bool {
        let Some(fault) = self.fenced(ask.conn) else { return false };
        step.refuse(ask.clone(), fault);
        step.act(Action::Close { conn: ask.conn });
        true
    }
}

impl Known {
    /// Without a name: the operator, or `outside` when there is any sign of an agent.
    fn unnamed(descends: bool, hello: &Hello) -> Known {
        let outside = |because: String| {
            let name = Name::parse(name::OUTSIDE).expect("a constant in the grammar");
            (Identity { name, kind: FromKind::Outside }, because)
        };
        let (identity, because) = match hello.agent_mark.as_deref() {
            _ if descends => outside("its process was started by an agent".to_owned()),
            _ if hello.client == TOOLS => outside("it serves the tools of an agent".to_owned()),
            Some(mark) => outside(format!("the variable {} is set, the mark of an agent", short(mark))),
            None => {
                let operator = Identity { name: Name::operator(), kind: FromKind::Operator };
                (operator, "no sign of an agent".to_owned())
            }
        };
        Known { identity, hold: Hold::None, because, token: None }
    }
}

/// What a client says of itself, for a line of the log and of the history.
fn short(words: &str) -> String {
    words.chars().filter(|c| !c.is_control()).take(limits::CLIENT_WORDS_CHARS_MAX).collect()
}

impl Identity {
    /// Whether it is an agent that others can write to: a session, or an outside agent with a name.
    pub fn is_agent(&self) -> bool {
        matches!(self.kind, FromKind::Agent | FromKind::Outside) && self.has_name()
    }

    /// Whether mail can be addressed to it, so that it has something of its own to read.
    pub fn has_name(&self) -> bool {
        self.name.as_str() != name::OUTSIDE
    }
}
