//! Starts processes with `posix_spawn`: own session, signals as they were at login, only the descriptors that are meant.
//!
//! **Invariant:** never `fork` from the relay: a grown process makes it many times dearer than `posix_spawn`.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

use nix::fcntl::{FcntlArg, fcntl};
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
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
    /// Its umask; this process's own without it.
    pub umask: Option<u32>,
    /// Descriptors that it gets, as numbers 3, 4, ….
    pub given: &'a [BorrowedFd<'a>],
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
    // A program of one thread: nobody makes a file in between.
    let before = program.umask.map(|mask| umask(Mode::from_bits_truncate(mask)));
    let spawned = posix_spawn(path.as_c_str(), &files, &attributes, &arguments, &environment);
    before.map(umask);
    for fd in moved {
        let _ = nix::unistd::close(fd);
    }
    Ok(spawned.map_err(text)?.as_raw() as u32)
}
