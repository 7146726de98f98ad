//! Flocks: taken once, held by the kernel, gone with their last holder.
//!
//! **Invariant:** after locking, the inode is compared with what has the name now, so that a removed lock file never lets two
//! holders in (BS-14). A lock's text is for people and is truncated before the lock is released (BS-7). **Invariant:** nothing
//! here unlocks: a lock goes when the last descriptor of it is closed, so that a process that inherits one holds it, too.
//!
//! Deliberately absent: asking by taking whether a lock is held, which is how relays refuse each other (BS-3). Who holds one is told
//! to people when waiting for it was in vain ([`holders`], [`is_held_by`]), and decides nothing of what is done.

use std::fs::{File, TryLockError};
use std::io::{Seek, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc;
use std::time::Duration;

use nix::fcntl::OFlag;

use super::process;
use super::statedir::{StateDir, is_same_file, refused};
use crate::model::fault::Fault;

/// A lock that is held.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

/// What came of trying to take a lock.
#[derive(Debug)]
pub enum Taken {
    /// It is ours.
    Ours(Lock),
    /// Somebody else has it.
    Held,
}

impl Lock {
    /// Takes a lock if nobody has it.
    ///
    /// # Errors
    /// `io` when its file is not a plain file of ours.
    pub fn try_take(dir: &StateDir, name: &str) -> Result<Taken, Fault> {
        loop {
            let file = open(dir, name)?;
            match file.try_lock() {
                Ok(()) if is_current(dir, name, &file)? => return Ok(Taken::Ours(Lock { file })),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(Taken::Held),
                Err(TryLockError::Error(error)) => {
                    return Err(refused(&dir.path().join(name), &error.to_string()));
                }
            }
        }
    }

    /// Takes a lock, waiting up to `patience`; `Held` when the time is over. The kernel wakes the waiter, nobody polls: a
    /// thread blocks in `flock`, and when the time is over it is left behind, to let the lock go as soon as it gets it.
    ///
    /// # Errors
    /// `io` when its file is not a plain file of ours.
    pub fn take(dir: &StateDir, name: &str, patience: Duration) -> Result<Taken, Fault> {
        let deadline = std::time::Instant::now() + patience;
        loop {
            if let Taken::Ours(lock) = Lock::try_take(dir, name)? {
                return Ok(Taken::Ours(lock));
            }
            let file = open(dir, name)?;
            let (sender, receiver) = mpsc::channel();
            std::thread::spawn(move || {
                let _ = sender.send(file.lock().map(|()| file));
            });
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            match receiver.recv_timeout(left) {
                Ok(Ok(file)) if is_current(dir, name, &file)? => return Ok(Taken::Ours(Lock { file })),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(refused(&dir.path().join(name), &error.to_string())),
                Err(_) => return Ok(Taken::Held),
            }
        }
    }

    /// Writes what people may want to know of the holder.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write_text(&mut self, text: &str) -> std::io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(text.as_bytes())
    }

    /// Whether the lock's file still has its name; a holder for life takes the name's new file when it does not.
    ///
    /// # Errors
    /// `io` when it cannot be told.
    pub fn has_its_name(&self, dir: &StateDir, name: &str) -> Result<bool, Fault> {
        is_current(dir, name, &self.file)
    }

    /// Erases the text, then lets the lock go.
    pub fn release(self) {
        if let Err(error) = self.file.set_len(0) {
            log::warn!("erasing a lock's text failed: {error}");
        }
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Whether this process holds a lock at this moment, as far as `/proc` shows. Decides only what a command that starts nothing tells, and
/// whether it waits; who may serve is decided by taking the lock.
pub fn is_held_by(dir: &StateDir, name: &str, pid: u32) -> bool {
    dir.stat(name)
        .is_ok_and(|stat| stat.is_some_and(|stat| process::has_locked(pid, stat.st_dev, stat.st_ino)))
}

/// The processes that hold a lock at this moment, stopped ones first, in words for people: `pid 12 (stopped), pid 34`; `None`
/// when there are none or `/proc` does not show them.
pub fn holders(dir: &StateDir, name: &str) -> Option<String> {
    let stat = dir.stat(name).ok()??;
    let mut holders: Vec<(bool, u32)> =
        process::lockers(stat.st_dev, stat.st_ino).map(|pid| (!process::is_stopped(pid), pid)).collect();
    holders.sort_unstable();
    let words =
        holders.iter().map(|(runs, pid)| format!("pid {pid}{}", if *runs { "" } else { " (stopped)" }));
    Some(words.collect::<Vec<_>>().join(", ")).filter(|words| !words.is_empty())
}

fn open(dir: &StateDir, name: &str) -> Result<File, Fault> {
    Ok(dir.file(name, OFlag::O_RDWR, true)?.expect("created if missing"))
}

fn is_current(dir: &StateDir, name: &str, file: &File) -> Result<bool, Fault> {
    Ok(dir.stat(name)?.is_some_and(|stat| is_same_file(file, &stat)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name::BundleName;

    fn dir(root: &tempfile::TempDir) -> StateDir {
        StateDir::create(root.path(), &BundleName::parse("b").unwrap()).unwrap()
    }

    /// Waits until somebody is asleep in `flock` on this file.
    fn wait_for_a_sleeper(file: &std::path::Path) {
        use std::os::unix::fs::MetadataExt;
        let inode = std::fs::metadata(file).unwrap().ino().to_string();
        let sleeps =
            |line: &str| line.contains("-> FLOCK") && line.split([':', ' ']).any(|word| word == inode);
        for _ in 0..10_000 {
            if std::fs::read_to_string("/proc/locks").unwrap().lines().any(sleeps) {
                return;
            }
            // Looked at again and again, because the kernel tells nobody that somebody has fallen asleep.
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("nobody waits");
    }

    /// BS-14: who waited for a lock whose file was removed meanwhile gets the lock of the file that has the name now, not of one
    /// that nobody else can see.
    #[test]
    fn a_waiter_for_a_removed_lock_file_gets_the_one_that_has_the_name() {
        let root = tempfile::tempdir().unwrap();
        let dir = dir(&root);
        let path = dir.path().join("x.lock");
        let Taken::Ours(first) = Lock::try_take(&dir, "x.lock").unwrap() else { panic!("free") };
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| Lock::take(&dir, "x.lock", Duration::from_secs(30)).unwrap());
            wait_for_a_sleeper(&path);
            std::fs::remove_file(&path).unwrap();
            first.release();
            let Taken::Ours(second) = waiter.join().unwrap() else { panic!("free again") };
            assert!(second.has_its_name(&dir, "x.lock").unwrap());
            assert!(matches!(Lock::try_take(&dir, "x.lock").unwrap(), Taken::Held));
        });
    }

    /// BS-7: the text is erased before the lock goes, so that what the next holder writes is never erased by the one before.
    #[test]
    fn a_holders_text_is_not_erased_by_the_one_before() {
        let root = tempfile::tempdir().unwrap();
        let dir = dir(&root);
        std::thread::scope(|scope| {
            for n in 0..4 {
                let (dir, path) = (&dir, dir.path().join("x.lock"));
                scope.spawn(move || {
                    for round in 0..500 {
                        let Taken::Ours(mut lock) =
                            Lock::take(dir, "x.lock", Duration::from_secs(30)).unwrap()
                        else {
                            panic!("30 s are over");
                        };
                        let text = format!("holder {n}, round {round}");
                        lock.write_text(&text).unwrap();
                        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
                        lock.release();
                    }
                });
            }
        });
    }

    /// BS-14: a cleaner removes the lock file while it is held: the holder can tell that its file has lost its name.
    #[test]
    fn a_removed_lock_file_is_noticed() {
        let root = tempfile::tempdir().unwrap();
        let dir = dir(&root);
        let Taken::Ours(first) = Lock::try_take(&dir, "x.lock").unwrap() else { panic!("free") };
        assert!(matches!(Lock::try_take(&dir, "x.lock").unwrap(), Taken::Held));
        assert!(first.has_its_name(&dir, "x.lock").unwrap());
        std::fs::remove_file(dir.path().join("x.lock")).unwrap();
        assert!(!first.has_its_name(&dir, "x.lock").unwrap());
    }

    /// PX-1, BS-1: a waiter is woken by the kernel when the holder is gone.
    #[test]
    fn a_waiter_gets_the_lock_when_its_holder_lets_go() {
        let root = tempfile::tempdir().unwrap();
        let dir = dir(&root);
        let Taken::Ours(first) = Lock::try_take(&dir, "x.lock").unwrap() else { panic!("free") };
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| Lock::take(&dir, "x.lock", Duration::from_secs(30)).unwrap());
            first.release();
            assert!(matches!(waiter.join().unwrap(), Taken::Ours(_)));
        });
    }

    /// BS-5: a link at the lock's name is refused and its target is left as it is.
    #[test]
    fn a_link_in_the_place_of_a_lock_is_refused_and_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let dir = dir(&root);
        let victim = root.path().join("victim");
        std::fs::write(&victim, "mine").unwrap();
        std::os::unix::fs::symlink(&victim, dir.path().join("x.lock")).unwrap();
        let fault = Lock::try_take(&dir, "x.lock").unwrap_err();
        assert!(fault.message.contains("symbolic link") && fault.code.exit() == 74, "{fault:?}");
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "mine");
    }
}
