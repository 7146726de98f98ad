//! Performs actions, after the commit of the lap that decided them.
//!
//! **Invariant:** nothing here is called before the commit; what performing leads to becomes an input of the next lap.

use std::collections::BTreeMap;

use super::child::DIRECTORY;
use super::feed::Fresh;
use super::lap::Relay;
use super::resolve::environment_file;
use super::upkeep::Search;
use crate::boot::descent::Families;
use crate::boot::statedir::NotedRoot;
use crate::boot::{environment, process};
use crate::core::action::{Action, Deliver, Event, Query};
use crate::core::envelope;
use crate::core::input::Input;
use crate::model::child::ChildCommand;
use crate::model::clock::Millis;
use crate::model::fault::{Code, Fault};
use crate::model::happening::What;
use crate::model::id::{ConnId, Nonce};
use crate::model::name::{BundleName, Name};
use crate::model::session::{child_socket, panes_socket};
use crate::protocol::answer::{Answer, BundleInfo, MailCounts, Mails, RelayInfo, Shown, Status};
use crate::protocol::{PROTOCOL_MAX, VERSION};
use crate::store::StoreError;
use crate::wire::rpc::{self, Id, RpcError};

/// What the shell knows of this relay that does not change.
#[derive(Debug)]
pub struct Facts {
    /// The bundle.
    pub bundle: BundleName,
    /// The project's root, if it is known.
    pub root: Option<NotedRoot>,
    /// How long finished mail is kept; `None` for ever.
    pub retention_ms: Option<i64>,
    /// Above how much resident memory a child is ended; `None` for no limit.
    pub child_bytes_max: Option<u64>,
    /// When the relay started.
    pub started_at: Millis,
    /// What tells the settings that it runs with from others.
    pub settings_hash: String,
}

impl Relay {
    pub(super) fn perform(&mut self, action: Action, now: Millis) {
        match action {
            Action::Reply { conn, id, answer } => self.reply(conn, &id, answer),
            Action::Refuse { conn, id, fault } => {
                if fault.code == Code::Refused {
                    log::info!("refused to connection {}: {}", conn.0, fault.message);
                }
                self.clients.answer(conn, &rpc::refusal(Some(&id), &RpcError::of(&fault)))
            }
            Action::Query { conn, id, query: Query::Search { text, page, at } } => {
                self.search(Search { conn, id, text, page, at });
            }
            Action::Query { conn, id, query } => self.query(conn, &id, query),
            Action::Notify { conn, event } => self.clients.notify(conn, &notice(&event)),
            Action::Tell(happening) => {
                self.hooks.hear(self.poll.registry(), &happening, now);
                match happening.what {
                    What::Delta { .. } => self.feed.say(&happening, &mut self.clients),
                    _ => self.feed.push(*happening),
                }
            }
            Action::Watch { conn, id, watching } => self.feed.begin(conn, id, Fresh::Watch(watching)),
            Action::Log { conn, id, logging } => self.feed.begin(conn, id, Fresh::Log(logging)),
            Action::Close { conn } => self.clients.close(conn),
            Action::SpawnChild { nonce, slot, program, environment_of } => {
                self.spawn_child(nonce, slot, &program, &environment_of);
            }
            Action::AdoptChild { nonce, slot, pid } => {
                if let Err(why) = self.children.adopt(self.poll.registry(), &self.dir, nonce, slot, pid) {
                    self.inputs.push(Input::ChildExited { nonce, why, words: String::new() });
                }
            }
            Action::Command { nonce, command } => {
                self.children.command(nonce, command, now, &mut self.inputs)
            }
            Action::Deliver(deliver) => self.deliver(deliver, now),
            Action::SignalChild { nonce, signal } => self.children.signal(nonce, signal),
            Action::SweepChild { nonce } => {
                self.children.sweep(nonce, now);
                self.dir.unlink(&format!("{DIRECTORY}/{nonce}.log"));
            }
            Action::PublishPanes { slot } => self.publish_panes(slot),
            Action::WithdrawPanes { slot } => self.dir.unlink(&panes_socket(slot)),
            // A session of that name may have been spawned since, in the same lap.
            Action::KeepEnvironment { name, environment } => {
                if let Err(fault) = self.keep_environment(&name, &environment) {
                    log::warn!("{fault}");
                }
            }
            Action::ForgetEnvironment { name } => {
                if !self.core.ledger().sessions.contains_key(&name) {
                    self.dir.unlink(&environment_file(&name));
                }
            }
            Action::Exit => self.leaving = true,
        }
    }

    fn reply(&mut self, conn: ConnId, id: &Id, answer: Answer) {
        let answer = match answer {
            Answer::Attach(mut attached) => {
                attached.socket = self.dir.path().join(&attached.socket).display().to_string();
                Answer::Attach(attached)
            }
            other => other,
        };
        self.clients.answer(conn, &rpc::answer(id, &answer));
    }

    fn query(&mut self, conn: ConnId, id: &Id, query: Query) {
        let hands_over = matches!(query, Query::Read { .. } | Query::Taken { .. });
        let line = match self.look_up(query) {
            Ok(Some(answer)) => rpc::answer(id, &answer),
            Ok(None) => {
                rpc::refusal(Some(id), &RpcError::of(&Fault::not_found("mail not found: it is gone")))
            }
            Err(error) => {
                log::error!("a look-up failed: {error}");
                // What it was handed it has not got: its next request would say that it has.
                if hands_over {
                    self.clients.close(conn);
                }
                rpc::refusal(Some(id), &RpcError::of(&Fault::io(format!("look-up failed: {error}"))))
            }
        };
        self.clients.answer(conn, &line);
    }

    fn look_up(&self, query: Query) -> Result<Option<Answer>, StoreError> {
        Ok(match query {
            Query::Inbox { name, unread, from, since, page, at } => {
                Some(Answer::Mails(self.store.inbox(&name, unread, from.as_ref(), since, page, at)?))
            }
            Query::Taken { mails, reader, at } => {
                let mut taken = Vec::new();
                for mail in mails {
                    taken.extend(self.store.read(mail, &reader, at)?.map(|read| read.mail));
                }
                Some(Answer::Mails(Mails { mails: taken, cursor: None }))
            }
            Query::Read { mail, reader, at } => self.store.read(mail, &reader, at)?.map(Answer::Mail),
            Query::Trace { mail, reasons } => self.store.trace(mail, &reasons)?.map(Answer::Trace),
            // Answered when the index is up to date.
            Query::Search { text, page, at } => Some(Answer::Mails(self.store.search(&text, page, at)?)),
            Query::Dead { page, at } => Some(Answer::Mails(self.store.dead(page, at)?)),
            Query::Show { mut session } => {
                session.environment =
                    self.environment_of(&session.info.name).ok().map(|known| environment::redacted(&known));
                Some(Answer::Shown(Box::new(Shown { session: *session })))
            }
            Query::Status {
                sessions,
                mut children,
                approvals,
                clients,
                open: [queued, claimed, unknown],
            } => {
                let families = (!children.is_empty()).then(Families::now);
                let below = |pid: u32| Some(families.as_ref()?.offspring(pid, |_| false).len() as u32);
                for child in &mut children {
                    child.rss_bytes = child.pid.and_then(process::rss_bytes);
                    child.descendants = child.pid.and_then(below);
                }
                let dead = self.store.dead_count()?;
                let relay = RelayInfo {
                    running: true,
                    pid: Some(std::process::id()),
                    version: Some(VERSION.to_owned()),
                    protocol: Some(PROTOCOL_MAX),
                    started_at: Some(self.facts.started_at),
                    state_dir: self.dir.path().display().to_string(),
                    settings_hash: Some(self.facts.settings_hash.clone()),
                };
                let root = self.facts.root.as_ref().map(|root| root.path.clone());
                let bundle = BundleInfo { name: self.facts.bundle.clone(), root, rule: None };
                let mail = Some(MailCounts { queued, claimed, unknown, dead });
                let sessions = Some(sessions);
                Some(Answer::Status(Box::new(Status {
                    bundle,
                    relay,
                    children,
                    sessions,
                    mail,
                    approvals,
                    clients,
                })))
            }
        })
    }

    fn spawn_child(&mut self, nonce: Nonce, slot: u32, program: &str, environment_of: &Name) {
        // An alias of an earlier child's socket would let a screen in before the threads are open.
        self.dir.unlink(&panes_socket(slot));
        let spawned = self.environment_of(environment_of).and_then(|environment| {
            self.children.spawn(self.poll.registry(), &self.dir, nonce, slot, program, environment)
        });
        // Which process it is comes from its keeper.
        if let Err(why) = spawned {
            self.inputs.push(Input::ChildNotSpawned { nonce, why });
        }
    }

    pub(super) fn environment_of(&self, name: &Name) -> Result<Vec<(String, String)>, String> {
        let text = self.dir.read(&environment_file(name)).map_err(|fault| fault.message)?;
        let text = text.ok_or_else(|| {
            format!("the stored environment of {name} is missing; remove and spawn the session")
        })?;
        let environment: BTreeMap<String, String> =
            serde_json::from_str(&text).map_err(|error| error.to_string())?;
        Ok(environment.into_iter().collect())
    }

    /// Loads a claim's mails, writes their envelopes and hands them to the child.
    fn deliver(&mut self, deliver: Deliver, now: Millis) {
        let Deliver { nonce, session, claim, deliveries, into, skills, tools, at } = deliver;
        match self.store.mails_of(&deliveries) {
            Ok(mails) => {
                let (text, inert) = match envelope::as_it_is(&mails) {
                    Some(words) => (words.to_owned(), 0),
                    None => {
                        let text = envelope::render(&mails, &session, &self.facts.bundle, at, tools);
                        envelope::inert_skills(&text, &skills)
                    }
                };
                if inert > 0 {
                    let note = format!("{inert} `$` before the name of a skill made inert by U+2060");
                    self.inputs.push(Input::Rendered { claim, note });
                }
                let command = match into {
                    None => ChildCommand::StartTurn { session, claim, text },
                    Some(turn) => ChildCommand::SteerTurn { session, claim, turn, text },
                };
                self.children.command(nonce, command, now, &mut self.inputs);
            }
            // The claim stays open and its lease ends: nothing is lost, and the failing disk shows itself at the next commit.
            Err(error) => log::error!("loading the mails of {claim} failed: {error}"),
        }
    }

    fn publish_panes(&self, slot: u32) {
        let Some(target) = self.dir.socket_target(&child_socket(slot)) else { return };
        if let Err(fault) = self.dir.link(&target, &panes_socket(slot)) {
            log::error!("publishing the socket for panes failed: {fault}");
        }
    }
}

/// What a client is told without having asked.
fn notice(event: &Event) -> String {
    match event {
        Event::Stopping => rpc::notification("relay/stopping", &serde_json::json!({})),
        Event::ChildGone { session } => {
            rpc::notification("session/childGone", &serde_json::json!({"session": session}))
        }
    }
}
