//! Starts processes with `posix_spawn`: own session, signals as they were at login, only the descriptors that are meant; and what
//! a process that was started so makes of those.
//!
//! **Invariant:** never `fork` from the relay: a grown process makes it many times dearer than `posix_spawn`.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::SigSet;
use nix::sys::stat::{Mode, umask};

/// What to start.
#[derive(Debug)]
pub struct Program<'a> {
    /// The program, absolute.
    pub path: &'a Path,
    /// Its arguments, its own name not included.
    pub arguments: &'a [String],
    /// Its whole environment.
    pub environment: &'a [(String, String)],
    /// Where its errors go; nowhere without it.
    pub stderr: Option<&'a File>,
    /// What it has in place of this process's own.
    pub outer: Outer,
    /// Descriptors that it gets, as numbers 3, 4, ….
    pub given: &'a [BorrowedFd<'a>],
}

/// What a process that is started takes over from whoever started this one, where this one has other things for itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outer {
    /// The umask; this process's own without it.
    pub umask: Option<u32>,
    /// The soft limit of descriptors; this process's own without it.
    pub descriptors: Option<u64>,
}

/// The number that the first of [`Program::given`] has in the started process.
pub const THIRD: i32 = 3;

/// Starts a program in a session of its own with null input and output; returns its pid.
///
/// # Errors
/// What the kernel says, or that a word contains a NUL.
pub fn spawn_detached(program: &Program<'_>) -> Result<u32, String> {
    let text = |error: nix::Error| error.to_string();
    let word =
        |text: &str| CString::new(text).map_err(|_| format!("`{}` contains a NUL", text.escape_debug()));
    let path = word(&program.path.to_string_lossy())?;
    let arguments: Vec<CString> = [Ok(path.clone())]
        .into_iter()
        .chain(program.arguments.iter().map(|a| word(a)))
        .collect::<Result<_, _>>()?;
    let environment: Vec<CString> = program
        .environment
        .iter()
        .map(|(key, value)| word(&format!("{key}={value}")))
        .collect::<Result<_, _>>()?;

    let mut files = PosixSpawnFileActions::init().map_err(text)?;
    let null = File::options().read(true).write(true).open("/dev/null").map_err(|error| error.to_string())?;
    for fd in [0, 1, 2] {
        files.add_dup2(null.as_raw_fd(), fd).map_err(text)?;
    }
    if let Some(stderr) = program.stderr {
        files.add_dup2(stderr.as_raw_fd(), 2).map_err(text)?;
    }
    // Every descriptor of ours is close-on-exec; dup2 clears that for those that shall get through. dup2 onto itself would not,
    // so they are moved out of the way first.
    let behind = THIRD + program.given.len() as i32;
    let move_away = |fd: &BorrowedFd<'_>| fcntl(*fd, FcntlArg::F_DUPFD_CLOEXEC(behind));
    let moved: Vec<i32> = program.given.iter().map(move_away).collect::<Result<_, _>>().map_err(text)?;
    for (number, fd) in (THIRD..).zip(&moved) {
        files.add_dup2(*fd, number).map_err(text)?;
    }

    let mut attributes = PosixSpawnAttr::init().map_err(text)?;
    let set_session = PosixSpawnFlags::from_bits_retain(libc::c_int::from(libc::POSIX_SPAWN_SETSID));
    let flags =
        PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF | set_session;
    attributes.set_flags(flags).map_err(text)?;
    attributes.set_sigmask(&SigSet::empty()).map_err(text)?;
    attributes.set_sigdefault(&SigSet::all()).map_err(text)?;
    // A program of one thread: nobody makes a file or a descriptor in between.
    let mask_before = program.outer.umask.map(|mask| umask(Mode::from_bits_truncate(mask)));
    let limit_before = program.outer.descriptors.and_then(limit_descriptors);
    let spawned = posix_spawn(path.as_c_str(), &files, &attributes, &arguments, &environment);
    limit_before.map(limit_descriptors);
    mask_before.map(umask);
    for fd in moved {
        let _ = nix::unistd::close(fd);
    }
    Ok(spawned.map_err(text)?.as_raw() as u32)
}

/// Raises this process's soft limit of descriptors, as far as the hard one allows; returns what it was, if it was another.
pub fn raise_descriptor_limit(wanted: u64) -> Option<u64> {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    if soft < wanted { limit_descriptors(wanted) } else { None }
}

/// Sets the soft limit of descriptors, as far as the hard one allows; returns what it was, if it was another.
fn limit_descriptors(wanted: u64) -> Option<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    let wanted = wanted.min(hard);
    (soft != wanted && setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_ok()).then_some(soft)
}

/// Whether this process was given a descriptor of this number.
pub fn is_open(number: i32) -> bool {
    Path::new("/proc/self/fd").join(number.to_string()).exists()
}

/// A descriptor that this process was given under this number; whom it starts itself does not get it.
#[allow(
    unsafe_code,
    reason = "these descriptors were given to this process by its starter and nothing else in it has used them yet"
)]
pub fn given(number: i32) -> OwnedFd {
    // SAFETY: `spawn_detached` or systemd put it at this number, and no other owner of it exists in this process.
    let given = unsafe { OwnedFd::from_raw_fd(number) };
    let _ = fcntl(&given, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
    given
}

/// Closes every descriptor from this number on: those inherited by accident.
#[allow(
    unsafe_code,
    reason = "close_range has no wrapper; it is called before this process has opened anything above"
)]
pub fn close_from(first: i32) {
    // SAFETY: only descriptors inherited by accident are above; whatever this process owns is opened after this.
    unsafe { libc::close_range(first as libc::c_uint, libc::c_uint::MAX, 0) };
}
