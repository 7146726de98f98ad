//! Watches the bundle's directory: a socket or lock whose name somebody removed gets it back, without polling. Watches the
//! project's root, too: when that goes there is nothing left to serve.
//!
//! **Invariant:** the kernel wakes the relay when a name goes; in between nothing is looked at.

use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

use super::lap::Relay;
use super::start::{bind, lock_text};
use crate::boot::lock::{Lock, Taken};
use crate::boot::statedir::{RELAY_LOCK, SOCKET, STORE, StateDir};
use crate::core::input::Input;

/// A watch on the bundle's directory, and on the project's.
#[derive(Debug)]
pub struct Watch {
    inotify: Inotify,
    /// The project's root and its watch, when the bundle is that project's and its root was there at the start.
    root: Option<(PathBuf, WatchDescriptor)>,
}

/// What has happened since the last look.
#[derive(Debug, Default)]
struct Happened {
    in_directory: bool,
    /// To the root itself. Only then is it looked at: on a network mount that hangs that look never ends.
    to_root: bool,
}

impl Watch {
    /// Begins to watch.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn start(
        registry: &Registry,
        dir: &StateDir,
        root: Option<PathBuf>,
        token: Token,
    ) -> std::io::Result<Watch> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let names = AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_FROM | AddWatchFlags::IN_MOVED_TO;
        let itself = AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF | AddWatchFlags::IN_ONLYDIR;
        inotify.add_watch(&dir.through_descriptor("."), names | itself)?;
        let root = root.and_then(|root| inotify.add_watch(&root, itself).ok().map(|watch| (root, watch)));
        registry.register(&mut SourceFd(&inotify.as_fd().as_raw_fd()), token, Interest::READABLE)?;
        Ok(Watch { inotify, root })
    }

    /// Takes what has happened.
    fn drain(&self) -> Happened {
        let mut happened = Happened::default();
        let root = self.root.as_ref().map(|(_, watch)| *watch);
        while let Ok(events) = self.inotify.read_events()
            && !events.is_empty()
        {
            for event in events {
                let is_root = root == Some(event.wd);
                happened.to_root |= is_root;
                happened.in_directory |= !is_root;
            }
        }
        happened
    }

    fn root_is_gone(&self) -> bool {
        self.root.as_ref().is_some_and(|(root, _)| !root.exists())
    }
}

impl Relay {
    /// Something in the directory lost its name.
    pub(super) fn on_directory(&mut self, inputs: &mut Vec<Input>) {
        let happened = self.watch.as_ref().map(Watch::drain).unwrap_or_default();
        if happened.to_root && self.watch.as_ref().is_some_and(Watch::root_is_gone) {
            inputs.push(Input::Leave { why: "the project's directory was removed".to_owned() });
            return;
        }
        if !happened.in_directory {
            return;
        }
        let wiped = self.dir.stat(STORE).is_ok_and(|stat| stat.is_none());
        if wiped || self.dir.is_gone() {
            inputs.push(Input::Leave { why: "the bundle's directory or its store was removed".to_owned() });
            return;
        }
        if self.keep_lock_named() {
            self.keep_socket_named();
        }
    }

    /// Takes the lock under its name again: a removed file cannot be linked again, so it is a new one (BS-14). Whoever was
    /// faster meets the store's own lock and leaves. False when somebody else has the lock now, and with it the socket's name.
    fn keep_lock_named(&mut self) -> bool {
        if self.lock.as_ref().is_none_or(|lock| lock.has_its_name(&self.dir, RELAY_LOCK).unwrap_or(true)) {
            return true;
        }
        match Lock::try_take(&self.dir, RELAY_LOCK) {
            Ok(Taken::Ours(mut lock)) => {
                log::warn!("{RELAY_LOCK} was removed and is taken again");
                if let Err(error) = lock.write_text(&lock_text(self.facts.started_at)) {
                    log::warn!("writing {RELAY_LOCK} failed: {error}");
                }
                self.lock = Some(lock);
                return true;
            }
            Ok(Taken::Held) => log::error!("{RELAY_LOCK} was removed and somebody else has taken it"),
            Err(fault) => log::error!("{RELAY_LOCK} was removed and cannot be taken again: {fault}"),
        }
        false
    }

    /// Binds the socket again when its name is gone, or leads to another one, where nobody answers; also one that systemd had bound.
    /// Those who are connected keep their connections. What is no socket of this user is left where it is, and said.
    fn keep_socket_named(&mut self) {
        let found = self.dir.stat(SOCKET).ok().flatten().map(|stat| stat.st_ino);
        // Of systemd's socket only that it is there can be told.
        if found.is_some() && (found == self.socket_inode || self.socket_inode.is_none()) {
            return;
        }
        let bound = bind(&self.dir).and_then(|(listener, inode)| {
            let before = std::mem::replace(&mut self.listener, listener);
            drop(before);
            self.socket_inode = Some(inode);
            self.register_listener().map_err(|error| crate::model::fault::Fault::io(error.to_string()))
        });
        match bound {
            Ok(()) => log::warn!("{SOCKET} was removed or replaced and is bound again"),
            Err(fault) => log::error!("{SOCKET} was removed or replaced and cannot be bound again: {fault}"),
        }
    }
}
