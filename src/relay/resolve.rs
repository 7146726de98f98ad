//! Resolve: looks up the rows that a request names, in the lap's open transaction, before the core sees it.
//!
//! **Invariant:** reads the store and the file system, changes neither, with one exception: the environment of a session that
//! is about to be spawned is put into its file, so that it is there before anything relies on it.

use std::collections::BTreeMap;

use super::child::DIRECTORY;
use super::clients::Asked;
use super::lap::Relay;
use crate::boot::environment;
use crate::core::input::{Input, Lookup, Resolved};
use crate::model::fault::Fault;
use crate::model::id::ConnId;
use crate::model::limits;
use crate::model::name::Name;
use crate::protocol::request::{Request, Spawn};
use crate::store::StoreError;

impl Relay {
    /// Completes a request with its rows.
    pub(super) fn resolve(&mut self, asked: Asked) -> Result<Input, StoreError> {
        let Asked { conn, id, mut request, pipelined } = asked;
        let mut resolved = Resolved { pipelined, ..Resolved::default() };
        if let Some(reference) = request.reference() {
            resolved.mail = self.store.lookup(reference)?;
        }
        if let (Some(key), Some(sender)) = (request.key(), self.core.speaker(conn)) {
            resolved.keyed = self.store.keyed(&sender, key)?;
        }
        match &mut request {
            Request::Send(_) | Request::Reply(_) | Request::Prompt(_) => {
                resolved.disk_low = self.is_disk_low();
            }
            Request::Requeue(_) => {
                if let Lookup::Found(known) = &resolved.mail {
                    resolved.claims = self.store.claims_of(known.mail.id)?;
                }
            }
            Request::Discard(discard) if discard.id.is_none() => {
                resolved.dead = self.store.dead_ids(limits::LIST_ROWS_MAX)?;
            }
            Request::SettleApproval(settle) => {
                resolved.settled_approvals = self.store.settled_approvals(&settle.id)?;
                if let Some(session) = self
                    .core
                    .approval_session(&settle.id)
                    .filter(|_| settle.always || settle.choice.is_some())
                {
                    resolved.variables = self.child_places(&session);
                }
            }
            Request::Hello(hello) => {
                if let Some(name) = hello.identity.as_deref().and_then(Name::parse) {
                    let holders: Vec<ConnId> = self.core.holders_of(&name).collect();
                    resolved.hung_up =
                        holders.into_iter().filter(|conn| self.clients.has_hung_up(*conn)).collect();
                    if !name.is_reserved() && !self.core.ledger().sessions.contains_key(&name) {
                        resolved.name_locked = self.names.take(&self.dir, &name).err();
                    }
                }
            }
            Request::Spawn(spawn) => {
                let name = Name::parse(&spawn.name)
                    .filter(|name| !name.is_reserved() && !self.core.ledger().sessions.contains_key(name));
                resolved.name_locked = name.and_then(|name| self.names.take(&self.dir, &name).err());
                resolved.spawn_refused = check_places(spawn)
                    .and_then(|()| self.dir.check_child_sockets())
                    .and_then(|()| self.keep_new(spawn))
                    .err();
            }
            Request::Configure(spawn) => resolved.spawn_refused = check_places(spawn).err(),
            _ => {}
        }
        Ok(Input::Asked { conn, id, request: Box::new(request), resolved })
    }

    /// Where the child of a session keeps its files, as variables.
    fn child_places(&self, session: &Name) -> Vec<(String, String)> {
        let known = self.environment_of(session).unwrap_or_default();
        let of = |key: &str| known.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
        let home = of("CODEX_HOME").or_else(|| of("HOME").map(|home| format!("{home}/.codex")));
        home.map(|home| ("CODEX_HOME".to_owned(), home)).into_iter().collect()
    }

    /// Whether the file system is nearly full; asked once a lap.
    pub(super) fn is_disk_low(&mut self) -> bool {
        let dir = &self.dir;
        let look = || dir.free_bytes().is_some_and(|free| free < limits::DISK_FREE_BYTES_MIN);
        *self.disk_low.get_or_insert_with(look)
    }

    /// Stores the environment of a session that is to be, for its child.
    fn keep_new(&self, spawn: &Spawn) -> Result<(), Fault> {
        match Name::parse(&spawn.name) {
            Some(name) if !self.core.ledger().sessions.contains_key(&name) => {
                self.keep_environment(&name, &spawn.environment)
            }
            _ => Ok(()),
        }
    }

    /// Stores the environment that the child of a session gets.
    pub(super) fn keep_environment(
        &self,
        name: &Name,
        environment: &BTreeMap<String, String>,
    ) -> Result<(), Fault> {
        let text = serde_json::to_string(environment).map_err(|error| Fault::bug(error.to_string()))?;
        self.dir.write(&environment_file(name), &text)
    }
}

/// Checks the paths that a session's settings name, and keeps of the environment what may pass. Whether the directory is there
/// was looked at by the client: on a dead network mount that look never ends.
fn check_places(spawn: &mut Spawn) -> Result<(), Fault> {
    if !std::path::Path::new(&spawn.dir).is_absolute() {
        let dir = spawn.dir.escape_debug();
        return Err(Fault::usage(format!("spawn refused: the directory `{dir}` is not absolute")));
    }
    if !std::path::Path::new(&spawn.program).is_absolute() {
        return Err(Fault::usage("spawn refused: the program's path is not absolute"));
    }
    spawn.environment = environment::allowed(std::mem::take(&mut spawn.environment).into_iter());
    Ok(())
}

/// Where the environment of a session is kept.
pub(super) fn environment_file(name: &Name) -> String {
    format!("{DIRECTORY}/{name}.env")
}
