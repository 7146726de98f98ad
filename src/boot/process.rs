//! Processes as `/proc` shows them: the nonce that ours carry, memory, start times, the locks they hold; and the host.
//!
//! **Invariant:** a process is ours only if its environment carries a nonce of our record; a pid alone says nothing.
//!
//! Deliberately absent: who started whom (`descent.rs`).

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::model::id::Nonce;

/// The variable in which a child, and every shell that its models start, carries its nonce.
pub const NONCE_VARIABLE: &str = "AGENTMUX_CHILD";

/// Whether the process carries `nonce` in its environment.
pub fn carries(pid: u32, nonce: Nonce) -> bool {
    nonce_of(pid) == Some(nonce)
}

/// Every process of this user that carries `nonce`.
pub fn carriers(nonce: Nonce) -> impl Iterator<Item = u32> {
    all_pids().filter(move |pid| nonce_of(*pid) == Some(nonce))
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

/// Whether the process that a pidfd refers to has ended.
pub fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1..))
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

/// Processes of this user that hold a flock on the file with this device and inode: whoever took it, and whoever inherited it.
pub fn lockers(dev: u64, ino: u64) -> impl Iterator<Item = u32> {
    all_pids().filter(move |pid| has_locked(*pid, dev, ino))
}

/// Whether a process holds a flock on the file with this device and inode.
pub fn has_locked(pid: u32, dev: u64, ino: u64) -> bool {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let is_it = |fd: &std::fs::DirEntry| {
        std::fs::metadata(fd.path()).is_ok_and(|file| (file.dev(), file.ino()) == (dev, ino))
    };
    open.filter(is_it).any(|fd| {
        let info = format!("/proc/{pid}/fdinfo/{}", fd.file_name().display());
        std::fs::read_to_string(info).is_ok_and(|info| info.contains("FLOCK"))
    })
}

/// The nonce that a process carries.
pub fn nonce_of(pid: u32) -> Option<Nonce> {
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

/// The environment that a process was started with; empty when it has ended or is another user's.
pub fn environment_of(pid: u32) -> Vec<u8> {
    std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default()
}

/// The parent of a process; 0 for one outside of what this process may see.
pub fn parent_of(pid: u32) -> Option<u32> {
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
    fn this_process_has_memory_and_a_start() {
        let me = std::process::id();
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
