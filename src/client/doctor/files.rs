//! The files of the bundle: each must be what its name says, of this user, and nobody else's to read.

use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, SFlag};

use super::{Finding, Patient, word};
use crate::boot::project::TRUSTED;
use crate::boot::statedir::{LOG, PANES_LOCK, RELAY_LOCK, ROOT, SOCKET, SPAWN_LOCK, STORE, StateDir, kind};
use crate::client::{peek, tmux};

/// What must stand at a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    File,
    Directory,
    Socket,
    /// A socket that Codex may have put elsewhere: a link, whose target is looked at.
    Alias,
}

/// Subdirectories; what is in them are files.
const DIRECTORIES: &[&str] = &["children", "identities"];

pub fn files(patient: &Patient) -> Option<Finding> {
    let dir = match &patient.dir {
        Ok(Some(dir)) => dir,
        Ok(None) => return Some(Finding::ok("no files yet")),
        Err(fault) => {
            let path = patient.target.dir();
            let stat = nix::sys::stat::lstat(&path).ok();
            let found = stat.and_then(|stat| trouble_at(&path, &stat, Wanted::Directory));
            let remedy = found.map_or_else(|| aside(&path), |(_, fix)| fix);
            return Some(Finding::fail(&fault.message).fix(remedy));
        }
    };
    let all = artifacts(dir);
    let mut wrong = Vec::new();
    for (name, wanted) in &all {
        wrong.extend(trouble(dir, name, *wanted).map(|(why, fix)| (name, why, fix)));
    }
    // tmux changes the mode of its socket while somebody is attached.
    let foreign = dir.names(".").into_iter().filter(|name| wanted_at(name).is_none() && name != tmux::SOCKET);
    let foreign: Vec<String> = foreign.map(|name| format!("{name} is no file of agentmux's")).collect();
    let Some((name, why, _)) = wrong.first() else {
        let summary = format!("the directory and {} things in it are this user's alone", all.len());
        return Some(Finding::ok(summary).details(foreign));
    };
    let more = if wrong.len() > 1 { format!("; and {} more", wrong.len() - 1) } else { String::new() };
    let mut finding = Finding::fail(format!("{name} refused: {why}{more}"));
    for (name, why, fix) in &wrong {
        finding = finding.detail(format!("{}: {why}", dir.path().join(name).display())).fix(fix);
    }
    Some(finding.details(foreign))
}

/// Everything of ours that is there, with what it must be.
pub fn artifacts(dir: &StateDir) -> Vec<(String, Wanted)> {
    let names = dir.names(".");
    let known = |name: String| wanted_at(&name).map(|wanted| (name, wanted));
    let mut all: Vec<(String, Wanted)> = names.into_iter().filter_map(known).collect();
    for below in DIRECTORIES {
        let is_directory = |stat: FileStat| kind(&stat) == SFlag::S_IFDIR;
        if dir.stat(below).ok().flatten().is_some_and(is_directory) {
            all.extend(dir.names(below).into_iter().map(|name| (format!("{below}/{name}"), Wanted::File)));
        }
    }
    all
}

fn wanted_at(name: &str) -> Option<Wanted> {
    let is_of = |stem: &str| name == format!("{stem}.sock") || name.starts_with(&format!("{stem}-"));
    let is_file = [RELAY_LOCK, SPAWN_LOCK, PANES_LOCK, ROOT].contains(&name)
        || name.starts_with(TRUSTED)
        || name.starts_with(STORE)
        || name.starts_with(LOG);
    if name == SOCKET || name.starts_with(peek::PREFIX) {
        Some(Wanted::Socket)
    } else if DIRECTORIES.contains(&name) {
        Some(Wanted::Directory)
    } else if is_of("codex") || is_of("panes") {
        Some(Wanted::Alias)
    } else {
        is_file.then_some(Wanted::File)
    }
}

impl Wanted {
    fn flag(self) -> SFlag {
        match self {
            Wanted::File => SFlag::S_IFREG,
            Wanted::Directory => SFlag::S_IFDIR,
            Wanted::Socket => SFlag::S_IFSOCK,
            Wanted::Alias => SFlag::S_IFLNK,
        }
    }

    /// The one mode that it may have.
    pub fn mode(self) -> u32 {
        if self == Wanted::Directory { 0o700 } else { 0o600 }
    }

    /// Whether this is such a thing, of this user.
    pub fn is_ours(self, stat: &FileStat) -> bool {
        kind(stat) == self.flag() && stat.st_uid == nix::unistd::geteuid().as_raw()
    }
}

/// What is wrong with one of them, and the command that mends it.
fn trouble(dir: &StateDir, name: &str, wanted: Wanted) -> Option<(String, String)> {
    let path = dir.path().join(name);
    let stat = dir.stat(name).ok().flatten()?;
    if wanted == Wanted::Alias && kind(&stat) == SFlag::S_IFLNK {
        return alias_trouble(dir, name, &path);
    }
    trouble_at(&path, &stat, if wanted == Wanted::Alias { Wanted::Socket } else { wanted })
}

fn trouble_at(path: &Path, stat: &FileStat, wanted: Wanted) -> Option<(String, String)> {
    if kind(stat) == SFlag::S_IFLNK {
        // Only the link goes; what it leads to stays.
        return Some(("it is a symbolic link".to_owned(), format!("rm {}", word(path))));
    }
    if kind(stat) != wanted.flag() {
        let (is, must) = (word_for(kind(stat)), word_for(wanted.flag()));
        return Some((format!("it is {is}, not {must}"), aside(path)));
    }
    let (uid, ours) = (stat.st_uid, nix::unistd::geteuid().as_raw());
    if uid != ours {
        return Some((
            format!("it belongs to user {uid}, not to {ours}"),
            format!("sudo chown {ours} {}", word(path)),
        ));
    }
    let (mode, must) = (stat.st_mode & 0o7777, wanted.mode());
    (mode != must).then(|| {
        (format!("its mode is {mode:04o}, not {must:04o}"), format!("chmod {must:o} {}", word(path)))
    })
}

/// A link to nothing is what a killed child leaves; the next one takes its place.
fn alias_trouble(dir: &StateDir, name: &str, path: &Path) -> Option<(String, String)> {
    let target = dir.link_target(name)?;
    let is_fine = std::fs::symlink_metadata(&target).is_err() || dir.socket_target(name).is_some();
    (!is_fine).then(|| {
        let why = format!("it leads to {}, which is no socket of this user alone", target.display());
        (why, format!("rm {}", word(path)))
    })
}

fn word_for(kind: SFlag) -> &'static str {
    match kind {
        SFlag::S_IFREG => "a regular file",
        SFlag::S_IFDIR => "a directory",
        SFlag::S_IFSOCK => "a socket",
        SFlag::S_IFLNK => "a symbolic link",
        SFlag::S_IFIFO => "a FIFO",
        _ => "a device",
    }
}

/// Moves something out of the way; what it is worth is for its owner to say.
fn aside(path: &Path) -> String {
    let away = PathBuf::from(format!("{}.aside", path.display()));
    format!("mv -n {} {}", word(path), word(&away))
}

/// The store, as far as it can be told without opening it: that is the relay's.
pub fn store(patient: &Patient) -> Option<Finding> {
    let dir = patient.dir()?;
    let file = dir.file(STORE, OFlag::O_RDONLY, false).ok()??;
    let mut head = [0; MAGIC.len()];
    let read = std::os::unix::fs::FileExt::read_at(&file, &mut head, 0);
    Some(match read {
        // A relay that was killed in its first moments leaves an empty one, which the next one fills.
        Ok(0) => Finding::ok(format!("{STORE} is empty yet")),
        Ok(_) if head == *MAGIC => Finding::ok(format!("{STORE} is a SQLite file")),
        Ok(_) => {
            let of = |name: &str| aside(&dir.path().join(name));
            Finding::fail(format!("{STORE} is no SQLite file: something else has written to it"))
                .detail(
                    "no relay can start on it; keep what is moved aside, the last mails may be in its -wal",
                )
                .fix(format!("{}; {}", of(STORE), of(&format!("{STORE}-wal"))))
        }
        Err(error) => Finding::fail(format!("{STORE} cannot be read: {error}")),
    })
}

/// How every SQLite file begins.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_that_the_relay_uses_is_known() {
        let table = [
            ("relay.sock", Some(Wanted::Socket)),
            ("relay.log.2", Some(Wanted::File)),
            ("mail.db-wal", Some(Wanted::File)),
            ("codex-1.sock", Some(Wanted::Alias)),
            ("panes.sock", Some(Wanted::Alias)),
            ("children", Some(Wanted::Directory)),
            ("notes.txt", None),
        ];
        for (name, wanted) in table {
            assert_eq!(wanted_at(name), wanted, "{name}");
        }
    }
}
