//! The bundle's directory: opened once, verified, and then used only through its descriptor.
//!
//! **Invariant:** every file in it is opened relative to that descriptor with `O_NOFOLLOW | O_CLOEXEC`, and its owner, type and
//! mode are verified by `fstat` before it is used (LK-7, BS-5, BS-9).

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

use super::bundle::NAMED_BY_HAND;
use crate::model::fault::Fault;
use crate::model::limits;
use crate::model::name::BundleName;

/// The socket that clients connect to; touched only by the holder of [`RELAY_LOCK`].
pub const SOCKET: &str = "relay.sock";
/// The runtime lock, held for the life of a relay.
pub const RELAY_LOCK: &str = "relay.lock";
/// The lock of whoever starts a relay.
pub const SPAWN_LOCK: &str = "spawn.lock";
/// The store.
pub const STORE: &str = "mail.db";
/// The lock of whoever arranges panes.
pub const PANES_LOCK: &str = "panes.lock";
/// The relay's log.
pub const LOG: &str = "relay.log";
/// The file that remembers the project's root and how it was found.
pub const ROOT: &str = "root";

/// The verified directory of one bundle.
#[derive(Debug)]
pub struct StateDir {
    fd: OwnedFd,
    path: PathBuf,
}

/// The project's root, as the first start of a bundle noted it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotedRoot {
    /// Its path.
    pub path: String,
    /// Whether the bundle was named by a flag or variable, so that the root is only where that happened.
    pub named_by_hand: bool,
}

impl StateDir {
    /// Where a bundle's directory is below a state root.
    pub fn path_of(root: &Path, bundle: &BundleName) -> PathBuf {
        root.join("bundles").join(bundle.as_str())
    }

    /// Opens a bundle's directory, if there is one.
    ///
    /// # Errors
    /// `io` when it is not a directory of this user with mode 0700.
    pub fn open(root: &Path, bundle: &BundleName) -> Result<Option<StateDir>, Fault> {
        let path = StateDir::path_of(root, bundle);
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = match nix::fcntl::open(&path, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(nix::Error::ENOENT) => return Ok(None),
            Err(error) => {
                return Err(refused(&path, &format!("it cannot be opened as a directory: {error}")));
            }
        };
        let stat = fstat(&fd).map_err(|error| refused(&path, &error.to_string()))?;
        check_owner_and_mode(&path, &stat, 0o700)?;
        // One spelling, however the directory was named: children are known by it.
        let path = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap_or(path);
        Ok(Some(StateDir { fd, path }))
    }

    /// Opens a bundle's directory, creating what is missing of it with mode 0700.
    ///
    /// # Errors
    /// `io`, as [`StateDir::open`], or when it cannot be created.
    pub fn create(root: &Path, bundle: &BundleName) -> Result<StateDir, Fault> {
        let path = StateDir::path_of(root, bundle);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|error| refused(&path, &format!("it cannot be created: {error}")))?;
        StateDir::open(root, bundle)?.ok_or_else(|| refused(&path, "it vanished while it was opened"))
    }

    /// The directory's path, for showing it and for programs that need one.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in it that always leads through the verified descriptor.
    pub fn through_descriptor(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.fd.as_raw_fd()))
    }

    /// Opens a regular file of this user with mode 0600, creating it if `create`; `Ok(None)` when it is not there.
    ///
    /// # Errors
    /// `io`, naming the file, when it is anything else: a link, a FIFO, a directory, another owner or mode.
    pub fn file(&self, name: &str, flags: OFlag, create: bool) -> Result<Option<File>, Fault> {
        let mut flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        if create {
            flags |= OFlag::O_CREAT;
        }
        let path = self.path.join(name);
        let fd = match openat(self.fd.as_fd(), name, flags, Mode::from_bits_truncate(0o600)) {
            Ok(fd) => fd,
            Err(nix::Error::ENOENT) if !create => return Ok(None),
            Err(nix::Error::ELOOP) => return Err(refused(&path, "it is a symbolic link")),
            Err(error) => return Err(refused(&path, &format!("it cannot be opened: {error}"))),
        };
        let stat = fstat(&fd).map_err(|error| refused(&path, &error.to_string()))?;
        if kind(&stat) != SFlag::S_IFREG {
            return Err(refused(&path, "it is not a regular file"));
        }
        check_owner_and_mode(&path, &stat, 0o600)?;
        Ok(Some(File::from(fd)))
    }

    /// Reads a small file; `Ok(None)` when it is not there.
    ///
    /// # Errors
    /// As [`StateDir::file`].
    pub fn read(&self, name: &str) -> Result<Option<String>, Fault> {
        let Some(file) = self.file(name, OFlag::O_RDONLY, false)? else { return Ok(None) };
        let mut text = String::new();
        let read = io::Read::read_to_string(&mut io::Read::take(file, 1024 * 1024), &mut text);
        read.map_err(|error| refused(&self.path.join(name), &error.to_string()))?;
        Ok(Some(text))
    }

    /// Reads the last lines of a file that may be long; `Ok(None)` when it is not there.
    ///
    /// # Errors
    /// As [`StateDir::file`].
    pub fn read_tail(&self, name: &str) -> Result<Option<String>, Fault> {
        let Some(mut file) = self.file(name, OFlag::O_RDONLY, false)? else { return Ok(None) };
        let length = file.metadata().map_or(0, |meta| meta.len());
        let mut tail = Vec::new();
        let read = io::Seek::seek(&mut file, io::SeekFrom::Start(length.saturating_sub(4096)))
            .and_then(|_| io::Read::read_to_end(&mut io::Read::take(file, 4096), &mut tail));
        read.map_err(|error| refused(&self.path.join(name), &error.to_string()))?;
        Ok(Some(String::from_utf8_lossy(&tail).into_owned()))
    }

    /// Writes a small file whole: a new one beside it, synced, then renamed over it.
    ///
    /// # Errors
    /// As [`StateDir::file`].
    pub fn write(&self, name: &str, text: &str) -> Result<(), Fault> {
        let beside = format!("{name}.new");
        self.unlink(&beside);
        let path = self.path.join(name);
        let failed = |error: io::Error| refused(&path, &format!("it cannot be written: {error}"));
        let mut file = self.file(&beside, OFlag::O_WRONLY | OFlag::O_EXCL, true)?.expect("created above");
        io::Write::write_all(&mut file, text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        nix::fcntl::renameat(self.fd.as_fd(), beside.as_str(), self.fd.as_fd(), name)
            .map_err(|e| failed(e.into()))
    }

    /// The project's root, as the first start noted it.
    ///
    /// # Errors
    /// As [`StateDir::file`].
    pub fn noted_root(&self) -> Result<Option<NotedRoot>, Fault> {
        let text = self.read(ROOT)?;
        Ok(text.map(|text| {
            let mut lines = text.lines().map(str::trim);
            let path = lines.next().unwrap_or_default().to_owned();
            let rule = lines.find_map(|line| line.strip_prefix("rule="));
            let named_by_hand = rule.is_none_or(|rule| NAMED_BY_HAND.contains(&rule));
            NotedRoot { path, named_by_hand }
        }))
    }

    /// Notes the project's root, and which rule led to it.
    ///
    /// # Errors
    /// As [`StateDir::write`].
    pub fn note_root(&self, root: &Path, rule: &str) -> Result<(), Fault> {
        self.write(ROOT, &format!("{}\nrule={rule}\n", root.display()))
    }

    /// Makes a subdirectory with mode 0700, if it is not there.
    ///
    /// # Errors
    /// `io` when something else stands in its place.
    pub fn subdirectory(&self, name: &str) -> Result<(), Fault> {
        let path = self.path.join(name);
        match nix::sys::stat::mkdirat(self.fd.as_fd(), name, Mode::from_bits_truncate(0o700)) {
            Ok(()) | Err(nix::Error::EEXIST) => {}
            Err(error) => return Err(refused(&path, &format!("it cannot be created: {error}"))),
        }
        let stat = self.stat(name)?.ok_or_else(|| refused(&path, "it vanished"))?;
        if kind(&stat) != SFlag::S_IFDIR {
            return Err(refused(&path, "it is not a directory"));
        }
        check_owner_and_mode(&path, &stat, 0o700)
    }

    /// What stands at a name, not followed; `Ok(None)` when nothing does.
    ///
    /// # Errors
    /// `io` when it cannot be told.
    pub fn stat(&self, name: &str) -> Result<Option<FileStat>, Fault> {
        match fstatat(self.fd.as_fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(nix::Error::ENOENT) => Ok(None),
            Err(error) => Err(refused(&self.path.join(name), &error.to_string())),
        }
    }

    /// Whether there is something to connect to at a name: a socket of this user, with mode 0600.
    ///
    /// # Errors
    /// `io` when something else stands there; nothing is followed.
    pub fn check_socket(&self, name: &str) -> Result<bool, Fault> {
        let Some(stat) = self.stat(name)? else { return Ok(false) };
        let path = self.path.join(name);
        match kind(&stat) {
            SFlag::S_IFSOCK => check_owner_and_mode(&path, &stat, 0o600).map(|()| true),
            SFlag::S_IFLNK => Err(refused(&path, "it is a symbolic link, not a socket")),
            _ => Err(refused(&path, "it is not a socket")),
        }
    }

    /// Where a symbolic link leads; `None` when there is none.
    pub fn link_target(&self, name: &str) -> Option<PathBuf> {
        let target: OsString = nix::fcntl::readlinkat(self.fd.as_fd(), name).ok()?;
        Some(PathBuf::from(target))
    }

    /// What has a name in this directory, or in a verified subdirectory of it, in order.
    pub fn names(&self, below: &str) -> Vec<String> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let Ok(mut dir) = nix::dir::Dir::openat(self.fd.as_fd(), below, flags, Mode::empty()) else {
            return Vec::new();
        };
        // A file system that fails to list goes on failing.
        let entries = dir.iter().map_while(Result::ok);
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned)).collect();
        names.retain(|name| name != "." && name != "..");
        names.sort();
        names
    }

    /// The socket that a name stands for: a plain one of this user, or what a link leads to when that is one in a directory
    /// that nobody else can enter.
    pub fn socket_target(&self, name: &str) -> Option<PathBuf> {
        let uid = geteuid().as_raw();
        let stat = self.stat(name).ok()??;
        if kind(&stat) == SFlag::S_IFSOCK {
            return (stat.st_uid == uid).then(|| self.socket_path(name));
        }
        let target = self.link_target(name)?;
        let parent = nix::sys::stat::lstat(target.parent()?).ok()?;
        let found = nix::sys::stat::lstat(&target).ok()?;
        let private = parent.st_uid == uid && parent.st_mode & 0o077 == 0;
        (private && found.st_uid == uid && kind(&found) == SFlag::S_IFSOCK).then_some(target)
    }

    /// Checks that nothing has the name of a child's socket but one of this user, a link to one that nobody else can reach, or a link
    /// that a dead child has left.
    ///
    /// # Errors
    /// `io`, naming it.
    pub fn check_child_socket(&self, name: &str) -> Result<(), Fault> {
        let Some(stat) = self.stat(name)? else { return Ok(()) };
        let path = self.path.join(name);
        let target = match kind(&stat) {
            SFlag::S_IFLNK => self.link_target(name).filter(|target| nix::sys::stat::lstat(target).is_ok()),
            SFlag::S_IFSOCK => Some(path.clone()),
            _ => return Err(refused(&path, "it is not a socket").hint("remove it")),
        };
        match target {
            Some(target) if self.socket_target(name).is_none() => {
                let why = format!(
                    "it leads to {}, which is no socket that only this user can reach",
                    target.display()
                );
                Err(refused(&path, &why).hint("remove it"))
            }
            _ => Ok(()),
        }
    }

    /// Checks every child's socket that has a name here.
    ///
    /// # Errors
    /// As [`StateDir::check_child_socket`].
    pub fn check_child_sockets(&self) -> Result<(), Fault> {
        let is_one = |name: &&String| {
            name.ends_with(".sock") && ["codex", "panes"].iter().any(|stem| name.starts_with(stem))
        };
        self.names(".").iter().filter(is_one).try_for_each(|name| self.check_child_socket(name))
    }

    /// Makes a symbolic link, in place of one that has the name.
    ///
    /// # Errors
    /// `io` when it cannot be made, or something else has the name.
    pub fn link(&self, target: &Path, name: &str) -> Result<(), Fault> {
        self.check_child_socket(name)?;
        let beside = format!("{name}.new");
        self.unlink(&beside);
        nix::unistd::symlinkat(target, self.fd.as_fd(), beside.as_str())
            .and_then(|()| nix::fcntl::renameat(self.fd.as_fd(), beside.as_str(), self.fd.as_fd(), name))
            .map_err(|error| refused(&self.path.join(name), &format!("it cannot be linked: {error}")))
    }

    /// Whether the directory was removed, or its path leads elsewhere now.
    pub fn is_gone(&self) -> bool {
        let here = fstat(&self.fd).map(|stat| (stat.st_dev, stat.st_ino)).ok();
        let there = nix::sys::stat::lstat(&self.path).map(|stat| (stat.st_dev, stat.st_ino)).ok();
        here != there
    }

    /// Removes a name that is not a directory; that it is not there is no error.
    pub fn unlink(&self, name: &str) {
        if let Err(error) = unlinkat(self.fd.as_fd(), name, UnlinkatFlags::NoRemoveDir)
            && error != nix::Error::ENOENT
        {
            log::warn!("removing {}/{name} failed: {error}", self.path.display());
        }
    }

    /// Bytes that the file system has free for this user; `None` when it does not say.
    pub fn free_bytes(&self) -> Option<u64> {
        let stat = nix::sys::statvfs::fstatvfs(&self.fd).ok()?;
        Some(stat.blocks_available() as u64 * stat.fragment_size() as u64)
    }

    /// The path to bind or connect a socket of this directory at: its own while short enough, else through the descriptor.
    pub fn socket_path(&self, name: &str) -> PathBuf {
        let own = self.path.join(name);
        if own.as_os_str().len() <= limits::SOCKET_PATH_BYTES_MAX {
            own
        } else {
            self.through_descriptor(name)
        }
    }
}

impl AsFd for StateDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The kind of file that a stat shows.
pub fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

fn check_owner_and_mode(path: &Path, stat: &FileStat, mode: u32) -> Result<(), Fault> {
    if stat.st_uid != geteuid().as_raw() {
        return Err(refused(path, &format!("it belongs to user {}, not to {}", stat.st_uid, geteuid())));
    }
    let found = stat.st_mode & 0o7777;
    if found != mode {
        return Err(refused(path, &format!("its mode is {found:04o}, not {mode:04o}"))
            .hint(format!("chmod {mode:o} {}", path.display())));
    }
    Ok(())
}

/// The refusal of a file or directory that is not as it must be.
pub fn refused(path: &Path, why: &str) -> Fault {
    Fault::io(format!("{} refused: {why}", path.display()))
}

/// Whether two descriptors are the same file.
pub fn is_same_file(a: &File, stat: &FileStat) -> bool {
    a.metadata().is_ok_and(|meta| meta.dev() == stat.st_dev && meta.ino() == stat.st_ino)
}
