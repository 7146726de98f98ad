//! Rule: every Rust file opens with `//!` and says what it is for.
//!
//! **Invariant:** the header is the first thing in the file, so that whoever opens it reads that first.
//!
//! Deliberately absent: the wording. Whether a header is true is for a reader to judge.

use crate::tree::{Tree, Violation};

/// A header shorter than this many characters says nothing.
const CHARACTERS_MIN: usize = 20;

pub fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for (file, text) in tree.rust(&["src/", "bin/", "tests/"]) {
        let instead = "open with `//!` and one sentence of purpose";
        let header: Vec<&str> =
            text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim).collect();
        if header.is_empty() {
            found.push(Violation::new(file, 1, "the file does not open with `//!`", instead));
        } else if header.join(" ").trim().chars().count() < CHARACTERS_MIN {
            found.push(Violation::new(file, 1, "the header says too little", instead));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::assert_found;

    #[test]
    fn a_missing_late_or_empty_header_is_found() {
        let tree = Tree::of(&[
            ("bin/a.rs", "use x;\n//! Too late to be the header of it.\n"),
            ("src/a.rs", "//! agentmux.\n\nfn f() {}\n"),
            ("tests/a.rs", ""),
        ]);
        assert_found(
            check(&tree),
            &[
                "bin/a.rs:1: the file does not open",
                "src/a.rs:1: the header says too little",
                "tests/a.rs:1: the file does not open",
            ],
        );
    }

    #[test]
    fn a_header_of_one_or_several_lines_passes() {
        let tree = Tree::of(&[
            ("src/a.rs", "//! Splits bytes into lines.\n"),
            ("src/b.rs", "//! Splits bytes\n//! into lines.\n"),
            ("README.md", "no header\n"),
        ]);
        assert_found(check(&tree), &[]);
    }
}
