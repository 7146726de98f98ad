//! Programs: Codex, found on PATH or as named, its version, the native binary behind npm's wrapper; and this one itself.
//!
//! **Invariant:** what is stored is the launcher as the user has it; the native binary is looked for again at each start,
//! because an upgrade moves it.

use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::process;
use crate::model::fault::Fault;
use crate::model::limits;
use crate::model::version::{self, CODEX_MIN};

/// Finds the launcher: what `named` says, which is a program and who names it, else `codex` on PATH.
///
/// # Errors
/// `refused` when there is none.
pub fn find(named: Option<(&str, &str)>) -> Result<PathBuf, Fault> {
    let wanted = named.map_or("codex", |(program, _)| program);
    let found = if wanted.contains('/') {
        Some(PathBuf::from(wanted)).filter(|path| is_executable(path))
    } else {
        on_path(wanted)
    };
    let missing = || {
        let where_to =
            named.map_or_else(|| "it is not on PATH".to_owned(), |(_, by)| format!("{by} names it"));
        Fault::refused(format!("codex not found: there is no program `{wanted}` ({where_to})"))
            .hint(format!("install Codex {CODEX_MIN} or newer: npm install -g @openai/codex"))
    };
    let found = found.ok_or_else(missing)?;
    std::path::absolute(&found).map_err(|_| missing())
}

/// This program: the file that it was started from, also when that was replaced by a newer one meanwhile; what runs, when there is no
/// such file any more. The path is good for other processes as long as this one lives.
pub fn own() -> PathBuf {
    let running = || PathBuf::from(format!("/proc/{}/exe", std::process::id()));
    let Ok(path) = std::env::current_exe() else { return running() };
    // What the kernel adds to the name of a file that was removed, or replaced by renaming another over it.
    let text = path.to_string_lossy();
    let named = text.strip_suffix(" (deleted)").map(PathBuf::from);
    named.into_iter().chain([path.clone()]).find(|path| is_executable(path)).unwrap_or_else(running)
}

/// The program that this process runs, and no other version of it, also when its file was replaced or deleted since.
pub fn itself() -> PathBuf {
    let running = Path::new("/proc/self/exe");
    let file = |path: &Path| std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    let is_it = |path: &PathBuf| file(path).is_some_and(|found| Some(found) == file(running));
    std::env::current_exe().ok().filter(is_it).unwrap_or_else(|| running.to_owned())
}

/// The first program of that name on PATH.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|path| is_executable(path))
}

/// Runs the program behind the launcher for its version and refuses one that is too old.
///
/// # Errors
/// `refused`, naming what was found and what is needed.
pub fn check_version(launcher: &Path) -> Result<String, Fault> {
    let failed = |why: String| {
        Fault::refused(format!("codex refused: {} does not tell its version: {why}", launcher.display()))
            .hint(format!("agentmux needs Codex {CODEX_MIN} or newer: npm install -g @openai/codex"))
    };
    let text = version_text(&native_behind(launcher)).map_err(failed)?;
    let version = text.split_whitespace().last().unwrap_or_default().to_owned();
    if version::numbers(&version).is_none() {
        return Err(failed(format!("it printed `{}`", text.trim().chars().take(80).collect::<String>())));
    }
    if let Some(why) = version::codex_too_old(&version) {
        return Err(Fault::refused(format!("codex refused: {why}"))
            .hint("upgrade it: npm install -g @openai/codex@latest"));
    }
    Ok(version)
}

/// Which of these words of the protocol the program behind the launcher does not know, by the files of its schema that have them.
///
/// # Errors
/// Why it cannot be asked.
pub fn missing_words(launcher: &Path, wanted: &[(&str, &[&str])]) -> Result<Vec<String>, String> {
    let text = |error: std::io::Error| error.to_string();
    let place = tempfile::tempdir().map_err(text)?;
    let words = ["app-server", "generate-json-schema", "--out"].map(std::ffi::OsStr::new);
    printed(&native_behind(launcher), &[&words[..], &[place.path().as_os_str()]].concat())?;
    let mut missing = Vec::new();
    for (file, words) in wanted {
        let schema = std::fs::read_to_string(place.path().join(file)).map_err(text)?;
        missing.extend(
            words
                .iter()
                .filter(|word| !schema.contains(&format!("\"{word}\"")))
                .map(|word| (*word).to_owned()),
        );
    }
    Ok(missing)
}

/// What a program prints for `--version`, within a bounded time.
fn version_text(program: &Path) -> Result<String, String> {
    printed(program, &[std::ffi::OsStr::new("--version")])
}

/// What a program prints, within a bounded time; the first 4 KiB.
fn printed(program: &Path, arguments: &[&std::ffi::OsStr]) -> Result<String, String> {
    let text = |error: std::io::Error| error.to_string();
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(text)?;
    if let Ok(pidfd) = process::pidfd(child.id()) {
        process::wait_for_end(&pidfd, Duration::from_millis(limits::VERSION_MS));
    }
    let Some(status) = child.try_wait().map_err(text)? else {
        let _ = child.kill().and_then(|()| child.wait());
        return Err(format!("it did not end within {} s", limits::VERSION_MS / 1000));
    };
    if !status.success() {
        return Err(format!("it ended with {status}"));
    }
    let stdout = child.stdout.take().expect("piped above");
    // A process that it left behind may hold the pipe open; only what is there is read.
    let nonblocking = nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK);
    nix::fcntl::fcntl(&stdout, nonblocking).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    let _ = stdout.take(4096).read_to_end(&mut bytes);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The native binary that npm's wrapper would run; the launcher itself when it is not that wrapper.
pub fn native_behind(launcher: &Path) -> PathBuf {
    let native = || -> Option<PathBuf> {
        let script = std::fs::canonicalize(launcher).ok()?;
        if script.extension()? != "js" {
            return None;
        }
        let package = script.parent()?.parent()?;
        let platform = format!("codex-{}-{}", npm_os(), npm_arch());
        let roots = [
            package.join("node_modules/@openai").join(&platform),
            package.parent()?.join(&platform),
            package.to_owned(),
        ];
        roots.iter().find_map(|root| binary_below(&root.join("vendor")))
    };
    native().unwrap_or_else(|| launcher.to_owned())
}

/// `vendor/<target>/{bin,codex}/codex`, whichever this release of the package has.
fn binary_below(vendor: &Path) -> Option<PathBuf> {
    let targets = std::fs::read_dir(vendor).ok()?.flatten();
    let of_target = |target: std::fs::DirEntry| {
        ["bin/codex", "codex/codex"]
            .iter()
            .map(|place| target.path().join(place))
            .find(|path| is_executable(path))
    };
    targets
        .filter(|target| target.file_name().to_string_lossy().contains(std::env::consts::ARCH))
        .find_map(of_target)
}

fn npm_os() -> &'static str {
    if std::env::consts::OS == "macos" { "darwin" } else { std::env::consts::OS }
}

fn npm_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn is_executable(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
