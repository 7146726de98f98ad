//! Starts processes with `posix_spawn`: own session, signals as they were at login, only the descriptors that are meant.
//!
//! **Invariant:** never `fork` from the relay: a grown process makes it many times dearer than `posix_spawn`.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::SigSet;

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
    /// A descriptor that it gets as number 3.
    pub third: Option<&'a OwnedFd>,
}

/// The number that [`Program::third`] has in the started process.
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
    // Every descriptor of ours is close-on-exec; dup2 clears that for the one that shall get through. When it has the number
    // already, dup2 would do nothing, so it is moved out of the way first.
    let moved;
    if let Some(third) = program.third {
        let source = if third.as_raw_fd() == THIRD {
            moved =
                nix::fcntl::fcntl(third, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(THIRD + 1)).map_err(text)?;
            moved
        } else {
            third.as_raw_fd()
        };
        files.add_dup2(source, THIRD).map_err(text)?;
    }

    let mut attributes = PosixSpawnAttr::init().map_err(text)?;
    let set_session = PosixSpawnFlags::from_bits_retain(libc::c_int::from(libc::POSIX_SPAWN_SETSID));
    let flags =
        PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF | set_session;
    attributes.set_flags(flags).map_err(text)?;
    attributes.set_sigmask(&SigSet::empty()).map_err(text)?;
    attributes.set_sigdefault(&SigSet::all()).map_err(text)?;
    let pid = posix_spawn(path.as_c_str(), &files, &attributes, &arguments, &environment).map_err(text)?;
    Ok(pid.as_raw() as u32)
}
