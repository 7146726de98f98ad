//! The processes behind a child: the keeper (`boot/keeper.rs`), which this relay has started or found, and the child itself.
//!
//! **Invariant:** the child's pid is known by its keeper's word, or by what it carries and who its parent is; what is signalled is
//! pinned by a pidfd. **Invariant:** its end is that of both, and is told as the keeper's, which ends as the child did.
//!
//! Deliberately absent: what is said to the child (`channel.rs`), and what it leaves behind (`sweep.rs`).

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::boot::keeper::Word;
use crate::boot::spawn::{Program, spawn_detached};
use crate::boot::{descent, process, program, wait};
use crate::model::clock::Millis;
use crate::model::id::Nonce;

/// A process, pinned.
#[derive(Debug)]
struct Pinned {
    pid: u32,
    pidfd: OwnedFd,
}

impl Pinned {
    fn of(pid: u32) -> io::Result<Pinned> {
        Ok(Pinned { pid, pidfd: process::pidfd(pid)? })
    }
}

/// A child and its keeper.
#[derive(Debug)]
pub struct Kept {
    /// `None` for a child that a relay of an earlier version has started.
    keeper: Option<Pinned>,
    /// Whether the keeper is a process of this relay's own, to be reaped.
    own: bool,
    /// The child itself, once it is known.
    child: Option<Pinned>,
    /// Where the keeper tells which it is, until it has.
    word: Option<File>,
    /// Why the keeper could not start it.
    why_not: Option<String>,
    /// When a keeper that has not ended after its child is killed.
    pub overdue: Option<Millis>,
}

impl Kept {
    /// Starts a keeper that starts this program.
    ///
    /// # Errors
    /// Why it could not be started.
    pub fn spawn(child: &Program<'_>) -> Result<Kept, String> {
        let text = |error: nix::Error| error.to_string();
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(text)?;
        fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(text)?;
        let mut arguments: Vec<String> = descent::KEEP.map(str::to_owned).into();
        arguments.push(child.path.display().to_string());
        arguments.extend_from_slice(child.arguments);
        let keeper = Program {
            path: &program::itself(),
            arguments: &arguments,
            environment: child.environment,
            stderr: child.stderr,
            outer: child.outer,
            given: &[write.as_fd()],
        };
        let keeper = Pinned::of(spawn_detached(&keeper)?).map_err(|error| error.to_string())?;
        let word = Some(File::from(read));
        Ok(Kept { keeper: Some(keeper), own: true, child: None, word, why_not: None, overdue: None })
    }

    /// Finds the processes of a child again: `pid` is the child's, or the keeper's while it has none.
    ///
    /// # Errors
    /// That it is gone, or that its pid has come to name another.
    pub fn adopt(pid: u32, nonce: Nonce) -> io::Result<Kept> {
        let found = Pinned::of(pid)?;
        if !process::carries(pid, nonce) {
            return Err(io::Error::other("its pid belongs to somebody else"));
        }
        let mut kept =
            Kept { keeper: None, own: false, child: None, word: None, why_not: None, overdue: None };
        match descent::keeper_of(pid, nonce) {
            Some(keeper) if keeper == pid => kept.keeper = Some(found),
            keeper => {
                kept.keeper = keeper.and_then(|pid| Pinned::of(pid).ok());
                // It may have ended in between, and its number be another's.
                kept.keeper.take_if(|keeper| descent::keeper_of(pid, nonce) != Some(keeper.pid));
                kept.child = Some(found);
            }
        }
        Ok(kept)
    }

    /// Where the keeper's word is to be read, while it is awaited.
    pub fn ear(&self) -> Option<RawFd> {
        self.word.as_ref().map(|word| word.as_raw_fd())
    }

    /// Reads the keeper's word, if it is there; the child's pid, if that is what it tells.
    pub fn hear(&mut self) -> Option<u32> {
        let mut bytes = [0; 4096];
        let count = match self.word.as_mut()?.read(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            read => read.unwrap_or(0),
        };
        self.word = None;
        match Word::parse(&String::from_utf8_lossy(&bytes[..count]))? {
            Word::Started(pid) => {
                let keeper = self.keeper.as_ref().map_or(0, |keeper| keeper.pid);
                // One that has ended already is reaped by its keeper, and its number may be another's.
                self.child = process::pidfd_of_child(pid, keeper).map(|pidfd| Pinned { pid, pidfd });
                Some(pid)
            }
            Word::Failed(why) => {
                self.why_not = Some(why);
                None
            }
        }
    }

    /// Who answers for the child is the child, if that is not known yet; true when it is now.
    pub fn meet(&mut self, peer: u32, nonce: Nonce) -> bool {
        if self.child.is_some() || descent::keeper_of(peer, nonce) == Some(peer) {
            return false;
        }
        self.child = Pinned::of(peer).ok().filter(|_| process::carries(peer, nonce));
        self.child.is_some()
    }

    /// The child's own descriptor to watch, once it is known.
    pub fn child_fd(&self) -> Option<RawFd> {
        self.child.as_ref().map(|child| child.pidfd.as_raw_fd())
    }

    /// The keeper's descriptor to watch.
    pub fn keeper_fd(&self) -> Option<RawFd> {
        self.keeper.as_ref().map(|keeper| keeper.pidfd.as_raw_fd())
    }

    /// The pid to show: the child's, or its keeper's while that is not known.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().or(self.keeper.as_ref()).map_or(0, |process| process.pid)
    }

    /// The pids of both.
    pub fn pids(&self) -> impl Iterator<Item = u32> {
        self.keeper.iter().chain(&self.child).map(|process| process.pid)
    }

    /// Whether a process is a keeper that this relay has started.
    pub fn owns(&self, pid: u32) -> bool {
        self.own && self.keeper.as_ref().is_some_and(|keeper| keeper.pid == pid)
    }

    /// Whether the child has ended, and whether its keeper has.
    pub fn has_ended(&self) -> (bool, bool) {
        let ended = |process: &Option<Pinned>| {
            process.as_ref().is_none_or(|process| process::has_ended(&process.pidfd))
        };
        (ended(&self.child), ended(&self.keeper))
    }

    /// Signals the child; through its keeper while it is not known: that passes on what asks, and the kernel what kills.
    pub fn signal(&self, signal: i32) -> nix::Result<()> {
        let process = self.child.as_ref().or(self.keeper.as_ref());
        process.map_or(Err(nix::Error::ESRCH), |process| process::signal(&process.pidfd, signal))
    }

    /// Kills a keeper that has not ended after its child.
    pub fn kill_keeper(&mut self) {
        self.overdue = None;
        if let Some(keeper) = &self.keeper {
            log::warn!("keeper {} did not end after its child and is killed", keeper.pid);
            let _ = process::signal(&keeper.pidfd, libc::SIGKILL);
        }
    }

    /// How it has ended, of which this may be asked once; the error is why it could not be started at all.
    pub fn end(&mut self) -> Result<String, String> {
        let own = self.keeper.as_ref().filter(|_| self.own);
        let status = own.and_then(|keeper| wait::reap(keeper.pid));
        match self.why_not.take() {
            Some(why) => Err(why),
            None => Ok(status.map_or_else(|| "ended".to_owned(), |end| end.to_string())),
        }
    }
}
