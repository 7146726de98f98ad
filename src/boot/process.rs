//! Processes as `/proc` shows them: descent, the nonce that ours carry, memory, start times, the locks they hold; and the host.
//!
//! **Invariant:** a process is ours only if its environment carries a nonce of our record; a pid alone says nothing.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::model::id::Nonce;

/// The variable in which a child, and every shell that its models start, carries its nonce.
pub const NONCE_VARIABLE: &str = "AGENTMUX_CHILD";

/// How the variables begin that a run of the hook gets.
pub const HOOK_PREFIX: &str = "AGENTMUX_HOOK_";

/// Whether the process carries `nonce` in its environment.
pub fn carries(pid: u32, nonce: Nonce) -> bool {
    nonce_of(pid) == Some(nonce)
}

/// Every process of this user that carries `nonce`.
pub fn carriers(nonce: Nonce) -> impl Iterator<Item = u32> {
    all_pids().filter(move |pid| nonce_of(*pid) == Some(nonce))
}

/// Whether the process was started by an agent: it or an ancestor is in `agents`, before one that is a person's, or it carries a
/// nonce. A descent that cannot be told counts as one.
pub fn descends_from(pid: u32, agents: &[u32], is_persons: impl Fn(u32) -> bool) -> bool {
    if nonce_of(pid).is_some() {
        return true;
    }
    let mut at = pid;
    for _ in 0..64 {
        if is_persons(at) {
            return false;
        }
        if agents.contains(&at) {
            return true;
        }
        match parent_of(at) {
            Some(0 | 1) => return false,
            Some(parent) => at = parent,
            None => return true,
        }
    }
    true
}

/// Every living process below `pid`, each with its parent, but for those that are left out and what is below them.
pub fn offspring(pid: u32, is_left_out: impl Fn(u32) -> bool) -> Vec<(u32, u32)> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for pid in all_pids() {
        if let Some(parent) = parent_of(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let (mut found, mut open) = (Vec::new(), vec![pid]);
    while let Some(parent) = open.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            if !is_left_out(child) {
                open.push(child);
                if !is_zombie(child) {
                    found.push((child, parent));
                }
            }
        }
    }
    found
}

/// Whether the process is a relay, or was started by a hook: what a person has started, though it may be below a relay.
pub fn is_persons(pid: u32) -> bool {
    let is_relay = arguments(pid).get(1..3).is_some_and(|words| words == ["host", "relay"]);
    let of_hook = |environment: &[u8]| {
        environment.split(|byte| *byte == 0).any(|entry| entry.starts_with(HOOK_PREFIX.as_bytes()))
    };
    is_relay || of_hook(&environment_of(pid))
}

/// A pidfd of a process if its parent is this one: the pid has not come to name another process meanwhile.
pub fn pidfd_of_child(pid: u32, parent: u32) -> Option<OwnedFd> {
    let pidfd = pidfd(pid).ok()?;
    (parent_of(pid) == Some(parent)).then_some(pidfd)
}

/// Resident memory of a process, in bytes.
pub fn rss_bytes(pid: u32) -> Option<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
    Some(pages * page as u64)
}

/// When a process was started, in clock ticks since boot; with the boot id this names a process for ever.
pub fn start_ticks(pid: u32) -> Option<u64> {
    stat_field(pid, 19)
}

/// This boot of the machine.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

/// The name of this host.
pub fn host_name() -> String {
    nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The id of this machine, which two hosts of one name do not share; empty where there is none.
pub fn machine_id() -> String {
    std::fs::read_to_string("/etc/machine-id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// Whether a process is stopped (`SIGSTOP`, ^Z, a debugger): it lives and does nothing.
pub fn is_stopped(pid: u32) -> bool {
    stat_word(pid, 0).is_some_and(|state| state == "T" || state == "t")
}

/// Whether the process has ended and only waits to be reaped, which in a container may take for ever.
pub fn is_zombie(pid: u32) -> bool {
    stat_word(pid, 0).is_some_and(|state| state == "Z" || state == "X")
}

/// A descriptor that becomes readable when the process ends; refers to that very process even if its pid is used again.
///
/// # Errors
/// What the kernel says; `ESRCH` when there is no such process.
#[allow(unsafe_code, reason = "pidfd_open has no wrapper in nix; the call takes and returns plain integers")]
pub fn pidfd(pid: u32) -> nix::Result<OwnedFd> {
    // SAFETY: the call has no memory arguments, and a non-negative result is a new descriptor that nobody else owns.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) };
    // SAFETY: as above.
    nix::Error::result(fd).map(|fd| unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Waits until the process that a pidfd refers to has ended, or the time is over; whether it has ended.
pub fn wait_for_end(pidfd: &OwnedFd, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], timeout) {
            Err(nix::Error::EINTR) => {}
            polled => return polled.is_ok_and(|ready| ready > 0),
        }
    }
}

/// Signals the process that a pidfd refers to.
///
/// # Errors
/// What the kernel says; `ESRCH` when it has ended.
#[allow(
    unsafe_code,
    reason = "pidfd_send_signal has no wrapper in nix; the call takes plain integers and a null pointer"
)]
pub fn signal(pidfd: &OwnedFd, signal: i32) -> nix::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is open for the length of the call, and a null `siginfo_t` is allowed.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, no_info, 0) };
    nix::Error::result(result).map(|_| ())
}

/// Processes of this user that carry a nonce and serve a socket in `dir`: children of that bundle.
pub fn serving(dir: &Path) -> impl Iterator<Item = (u32, Nonce)> {
    let ours = format!("unix://{}/", dir.display());
    let serves = move |pid: u32| arguments(pid).iter().any(|argument| argument.starts_with(&ours));
    all_pids().filter_map(|pid| Some((pid, nonce_of(pid)?))).filter(move |(pid, _)| serves(*pid))
}

/// Processes of this user that hold a flock on the file with this device and inode: whoever took it, and whoever inherited it.
pub fn lockers(dev: u64, ino: u64) -> impl Iterator<Item = u32> {
    all_pids().filter(move |pid| {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        open.filter(|fd| {
            std::fs::metadata(fd.path()).is_ok_and(|file| (file.dev(), file.ino()) == (dev, ino))
        })
        .any(|fd| {
            let info = format!("/proc/{pid}/fdinfo/{}", fd.file_name().display());
            std::fs::read_to_string(info).is_ok_and(|info| info.contains("FLOCK"))
        })
    })
}

/// The nonce that a process carries.
fn nonce_of(pid: u32) -> Option<Nonce> {
    let prefix = format!("{NONCE_VARIABLE}=");
    let environment = environment_of(pid);
    let entry =
        environment.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(prefix.as_bytes()))?;
    Nonce::parse(std::str::from_utf8(entry).ok()?)
}

/// The arguments of a process; none when it has ended.
pub fn arguments(pid: u32) -> Vec<String> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).map(|argument| String::from_utf8_lossy(argument).into_owned()).collect()
}

/// Every process that `/proc` shows.
pub fn all_pids() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn environment_of(pid: u32) -> Vec<u8> {
    std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default()
}

fn parent_of(pid: u32) -> Option<u32> {
    stat_field(pid, 1).map(|parent| parent as u32)
}

fn stat_field(pid: u32, index: usize) -> Option<u64> {
    stat_word(pid, index)?.parse().ok()
}

/// The word at `index` behind the program's name in `/proc/PID/stat` (the name may contain blanks and brackets).
fn stat_word(pid: u32, index: usize) -> Option<String> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    stat[stat.rfind(')')? + 2..].split(' ').nth(index).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_a_parent_memory_and_a_start() {
        let me = std::process::id();
        let parent = parent_of(me).unwrap();
        let nobody = |_| false;
        assert!(descends_from(me, &[me], nobody) && descends_from(me, &[parent], nobody));
        assert!(!descends_from(me, &[u32::MAX], nobody) && !descends_from(me, &[parent], |pid| pid == me));
        assert!(offspring(parent, |_| false).contains(&(me, parent)));
        assert!(offspring(parent, |pid| pid == me).iter().all(|(pid, _)| *pid != me));
        assert!(rss_bytes(me).unwrap() > 100_000 && start_ticks(me).unwrap() > 0);
        assert!(!carries(me, Nonce(7)));
    }

    /// BS-3: who holds a lock is read, not tried.
    #[test]
    fn the_holder_of_a_flock_is_read_from_the_kernel() {
        let file = tempfile::tempfile().unwrap();
        let stat = nix::sys::stat::fstat(&file).unwrap();
        let me = std::process::id();
        assert!(!lockers(stat.st_dev, stat.st_ino).any(|pid| pid == me));
        file.lock().unwrap();
        assert!(lockers(stat.st_dev, stat.st_ino).any(|pid| pid == me) && !is_stopped(me));
    }

    /// LK-6, PX-5: pids 0 and u32::MAX name no process of ours.
    #[test]
    fn impossible_pids_are_nobody() {
        for pid in [0, u32::MAX] {
            assert!(!carries(pid, Nonce(7)) && rss_bytes(pid).is_none());
        }
    }
}
