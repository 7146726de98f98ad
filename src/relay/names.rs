//! The locks of names: the relay holds `identities/NAME.lock` by flock for every name in use.
//!
//! **Invariant:** a lock is taken before its name is given out, and let go after the commit that freed it. **Invariant:** lock
//! files are never deleted, and nothing is decided by their text, which is for people (LK-1, LK-3, LK-8).
//!
//! Deliberately absent: who holds a name. The core knows; the lock keeps every other process out.

use std::collections::{BTreeMap, BTreeSet};

use crate::boot::lock::{self, Lock, Taken};
use crate::boot::statedir::StateDir;
use crate::core::Core;
use crate::core::record::Record;
use crate::model::fault::Fault;
use crate::model::name::Name;

/// Where the locks are.
pub const DIRECTORY: &str = "identities";

/// See the header of this file.
#[derive(Debug, Default)]
pub struct Names {
    held: BTreeMap<Name, Lock>,
    /// Whether names have come into use, or gone out of it.
    changed: bool,
}

impl Names {
    /// Takes the lock of a name, unless it is held already.
    ///
    /// # Errors
    /// `conflict` when somebody else holds it, `io` when it is no file of ours.
    pub fn take(&mut self, dir: &StateDir, name: &Name) -> Result<(), Fault> {
        if self.held.contains_key(name) {
            return Ok(());
        }
        self.changed = true;
        let file = file(name);
        match Lock::try_take(dir, &file) {
            Ok(Taken::Ours(mut lock)) => {
                if let Err(error) = lock.write_text(&format!("name={name}\nrelay={}\n", std::process::id())) {
                    log::debug!("writing {file} failed: {error}");
                }
                self.held.insert(name.clone(), lock);
                Ok(())
            }
            Ok(Taken::Held) => {
                let holder = lock::holders(dir, &file).unwrap_or_else(|| "another process".to_owned());
                Err(Fault::conflict(format!("name refused: the lock of `{name}` is held by {holder}")))
            }
            Err(fault) => Err(fault),
        }
    }

    /// Notes whether a record changes which names are in use.
    pub fn note(&mut self, record: &Record) {
        self.changed |= matches!(
            record,
            Record::SessionSpawned(_)
                | Record::SessionWanted { .. }
                | Record::SessionRemoved { .. }
                | Record::NameClaimed { .. }
                | Record::NameReleased { .. }
                | Record::NameRemoved { .. }
        );
    }

    /// At the end of a lap: the locks of names in use are held, and no others.
    pub fn settle(&mut self, dir: &StateDir, core: &Core) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        let used: BTreeSet<Name> = core.names_in_use().cloned().collect();
        for (_, lock) in self.held.extract_if(.., |name, _| !used.contains(name)) {
            lock.release();
        }
        for name in &used {
            if let Err(fault) = self.take(dir, name) {
                log::warn!("the lock of {name} is not held: {fault}");
            }
        }
        self.changed = false;
    }

    /// Looks at the names in use when the relay has started.
    pub fn start(&mut self, dir: &StateDir, core: &Core) {
        self.changed = true;
        self.settle(dir, core);
    }
}

fn file(name: &Name) -> String {
    format!("{DIRECTORY}/{name}.lock")
}
