//! Programs that a test puts somewhere to be run.
//!
//! **Invariant:** this process never has such a file open for writing: what another test starts in that moment would inherit the
//! descriptor, and running the file would fail ("text file busy").

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Copies a program.
#[track_caller]
pub fn copy_program(from: impl AsRef<Path>, to: impl AsRef<Path>) {
    let copied =
        Command::new("cp").arg("--").args([from.as_ref(), to.as_ref()]).status().expect("cp is there");
    assert!(copied.success(), "{} was not copied", from.as_ref().display());
}

/// Writes a script that can be run.
#[track_caller]
pub fn write_script(path: impl AsRef<Path>, script: &str) {
    let mut shell = Command::new("sh");
    shell.args(["-c", "cat > \"$1\" && chmod 755 \"$1\"", "sh"]).arg(path.as_ref()).stdin(Stdio::piped());
    let mut shell = shell.spawn().expect("a shell is there");
    shell.stdin.take().expect("piped").write_all(script.as_bytes()).expect("it reads");
    assert!(shell.wait().expect("ours").success(), "{} was not written", path.as_ref().display());
}
