//! Rule: scripts run as they lie there, and the README names the two that a newcomer needs.
//!
//! **Invariant:** whoever reads the first screens of the README can try the program and test it.
//!
//! Deliberately absent: what the scripts do.

use crate::markdown::holds_word;
use crate::tree::{Tree, Violation};

const README: &str = "README.md";

/// Scripts that the README names early.
const NAMED: &[&str] = &["scripts/demo", "scripts/test"];

/// How many lines of the README count as early.
const EARLY_LINES: usize = 60;

/// Endings of files that may lie beside the scripts without being one.
const NOT_RUN: &[&str] = &[".md", ".txt", ".toml", ".json", ".socket", ".service"];

pub fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for (path, file) in tree.files() {
        let is_script = path.starts_with("scripts/") && !NOT_RUN.iter().any(|ending| path.ends_with(ending));
        if !is_script && path != ".ci/run" {
            continue;
        }
        if !file.is_executable {
            found.push(Violation::new(path, 1, "the script is not executable", "set its mode to 755"));
        }
        if !file.text.starts_with("#!") {
            found.push(Violation::new(
                path,
                1,
                "the script does not start with `#!`",
                "name its interpreter there",
            ));
        }
    }
    let readme: Vec<&str> = tree.text(README).unwrap_or("").lines().take(EARLY_LINES).collect();
    for script in NAMED {
        if !readme.iter().any(|line| holds_word(line, script)) {
            let what = format!("its first {EARLY_LINES} lines do not name {script}");
            found.push(Violation::new(README, 1, what, "show it early"));
        }
        if !tree.has(script) {
            found.push(Violation::new(script, 1, "the script is missing", "write it: the README names it"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::assert_found;

    const CLEAN: &[(&str, &str)] = &[
        ("README.md", "# agentmux\n\n    scripts/demo\n\nTo test it: `scripts/test`.\n"),
        ("scripts/demo", "#!/bin/sh\n"),
        ("scripts/test", "#!/bin/sh\n"),
        ("scripts/README.md", "About.\n"),
        (".ci/run", "#!/bin/sh\n"),
    ];

    fn runnable(files: &[(&str, &str)]) -> Tree {
        let tree = Tree::of(files);
        files.iter().fold(tree, |tree, (path, _)| tree.make_executable(path))
    }

    #[test]
    fn scripts_that_run_and_are_named_pass() {
        assert_found(check(&runnable(CLEAN)), &[]);
    }

    #[test]
    fn a_script_without_mode_or_shebang_is_found() {
        let tree = Tree::of(&CLEAN[..3]).make_executable("scripts/test");
        assert_found(check(&tree), &["scripts/demo:1: the script is not executable"]);
        let tree = runnable(&[&CLEAN[..3], &[(".ci/run", "set -e\n#!/bin/sh\n")]].concat());
        assert_found(check(&tree), &[".ci/run:1: the script does not start with `#!`"]);
    }

    #[test]
    fn a_script_named_late_or_missing_is_found() {
        let late = format!("scripts/demo\n{}scripts/test\n", "\n".repeat(EARLY_LINES));
        let tree = runnable(&[&[("README.md", late.as_str())], &CLEAN[1..]].concat());
        assert_found(check(&tree), &["README.md:1: its first 60 lines do not name scripts/test"]);
        let tree = runnable(&[CLEAN[0], CLEAN[1]]);
        assert_found(check(&tree), &["scripts/test:1: the script is missing"]);
    }
}
