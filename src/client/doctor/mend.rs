//! `doctor --fix`: mends what is provably ours and provably wrong, and says what it did.
//!
//! **Invariant:** the mode of a thing is changed through a descriptor of that very thing, opened without following links.
//! **Invariant:** the relay's socket is removed only while `relay.lock` is held here and nobody listens; a relay that starts
//! in that moment waits for the lock.

use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{Mode, fstat};

use super::files::{Wanted, artifacts};
use crate::boot::holder::Holder;
use crate::boot::lock::{Lock, Taken};
use crate::boot::statedir::{RELAY_LOCK, SOCKET, StateDir};
use crate::client::Target;
use crate::client::connection::{Connected, Connection};
use crate::model::limits;

/// Mends what it can; each line belongs to the check of that name.
pub fn mend(target: &Target) -> Vec<(&'static str, String)> {
    let mut done = Vec::new();
    let path = target.dir();
    let own = path.to_str().and_then(|path| restrict(AT_FDCWD, path, Wanted::Directory));
    done.extend(own.map(|mode| ("files", format!("chmod {mode:o} {}", path.display()))));
    let Ok(Some(dir)) = StateDir::open(&target.state_root, &target.bundle.name) else { return done };
    for (name, wanted) in artifacts(&dir) {
        if wanted != Wanted::Alias
            && let Some(mode) = restrict(dir.as_fd(), &name, wanted)
        {
            done.push(("files", format!("chmod {mode:o} {}", dir.path().join(&name).display())));
        }
    }
    if remove_stale_socket(&dir) {
        let socket = dir.path().join(SOCKET);
        done.push(("relay", format!("rm {}, holding {RELAY_LOCK}", socket.display())));
    }
    done
}

/// Gives a thing of ours its mode if it has another; returns the mode that it was given.
fn restrict(dir: impl AsFd, name: &str, wanted: Wanted) -> Option<u32> {
    let fd = openat(dir, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
    let stat = fstat(&fd).ok()?;
    // A file with a second name may be somebody's who wants it as it is.
    let is_shared = wanted == Wanted::File && stat.st_nlink > 1;
    if !wanted.is_ours(&stat) || is_shared || stat.st_mode & 0o7777 == wanted.mode() {
        return None;
    }
    let itself = format!("/proc/self/fd/{}", fd.as_raw_fd());
    std::fs::set_permissions(itself, std::fs::Permissions::from_mode(wanted.mode())).ok()?;
    Some(wanted.mode())
}

fn remove_stale_socket(dir: &StateDir) -> bool {
    let is_ours = |stat| Wanted::Socket.is_ours(&stat);
    let Some(true) = dir.stat(SOCKET).ok().flatten().map(is_ours) else { return false };
    // Another host's relay may hold the lock where this kernel cannot see it.
    let text = dir.read(RELAY_LOCK).ok().flatten().unwrap_or_default();
    if Holder::parse(&text).is_some_and(|holder| holder.is_elsewhere()) {
        return false;
    }
    let Ok(Taken::Ours(lock)) = Lock::try_take(dir, RELAY_LOCK) else { return false };
    let patience = Duration::from_millis(limits::HELLO_ANSWER_MS);
    let is_stale = matches!(Connection::open(&dir.socket_path(SOCKET), patience), Ok(Connected::Nobody));
    if is_stale {
        dir.unlink(SOCKET);
    }
    lock.release();
    is_stale
}
