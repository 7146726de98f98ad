//! `relay.log`: appended to, rotated at a bound, two old ones kept.
//!
//! **Invariant:** the log never grows past its bound, and a failing disk never stops the relay through it.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use nix::fcntl::OFlag;

use crate::boot::statedir::{LOG, StateDir};
use crate::model::fault::Fault;
use crate::model::limits;

/// A log that rotates itself.
#[derive(Debug)]
pub struct LogFile {
    file: File,
    bytes: u64,
    path: PathBuf,
}

impl LogFile {
    /// Opens the log of a bundle.
    ///
    /// # Errors
    /// `io` when it is not a plain file of ours.
    pub fn open(dir: &StateDir) -> Result<LogFile, Fault> {
        let file = dir.file(LOG, OFlag::O_WRONLY | OFlag::O_APPEND, true)?.expect("created if missing");
        let bytes = file.metadata().map_or(0, |meta| meta.len());
        Ok(LogFile { file, bytes, path: dir.through_descriptor(LOG) })
    }

    fn rotate(&mut self) -> io::Result<()> {
        let old = |n: u32| self.path.with_file_name(format!("{LOG}.{n}"));
        for n in (1..limits::LOGS_KEPT).rev() {
            let _ = std::fs::rename(old(n), old(n + 1));
        }
        std::fs::rename(&self.path, old(1))?;
        let mut options = File::options();
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        self.file = options.append(true).create_new(true).open(&self.path)?;
        self.bytes = 0;
        Ok(())
    }
}

impl Write for LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.bytes + line.len() as u64 > limits::LOG_BYTES_MAX {
            self.rotate()?;
        }
        let written = self.file.write(line)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Sends log lines to `relay.log`, or to stderr when a person runs the relay by hand.
///
/// # Errors
/// `io` when the log is not a plain file of ours.
pub fn start(dir: &StateDir, to_file: bool) -> Result<(), Fault> {
    let mut builder = env_logger::Builder::new();
    builder.filter_level(log::LevelFilter::Info);
    if let Ok(filter) = std::env::var("AGENTMUX_LOG") {
        builder.parse_filters(&filter);
    }
    builder.format(|out, record| {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |d| d.as_millis() as i64);
        let at = crate::model::clock::Millis(now).rfc3339();
        writeln!(out, "{at} {} {}", record.level().as_str().to_lowercase(), record.args())
    });
    if to_file {
        builder.target(env_logger::Target::Pipe(Box::new(LogFile::open(dir)?)));
    }
    // A second start in one process (tests) keeps the first logger.
    let _ = builder.try_init();
    Ok(())
}
