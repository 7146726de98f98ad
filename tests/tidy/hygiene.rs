//! Rule: text is clean, and no file names a path of the machine that it was written on.
//!
//! **Invariant:** the needles are joined here from parts, so that no file has to be left out of the search.
//!
//! Deliberately absent: formatting, which is rustfmt's.

use crate::tree::{Tree, Violation};

/// Columns of a Rust line, in characters. rustfmt stops earlier; this catches what it cannot break.
const COLUMNS_MAX: usize = 140;

/// Absolute folders of a machine, wrong where a path starts with them.
const FOLDERS: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

/// Words that only stand in paths of a machine.
const WORDS: &[&str] = &[concat!("py", "env"), concat!("../sha", "red"), concat!(".libr", "ary")];

pub fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for (path, file) in tree.files() {
        let is_rust = path.ends_with(".rs");
        for (index, line) in file.text.split('\n').enumerate() {
            let mut add =
                |what: String, instead: &str| found.push(Violation::new(path, index + 1, what, instead));
            if is_rust && is_too_long(line) {
                add(format!("the line has more than {COLUMNS_MAX} columns"), "break it");
            }
            if is_rust && line.contains('\t') {
                add("a tab".to_owned(), "indent by spaces, and write `\\t` in a literal");
            }
            if line.trim_end() != line {
                add("blanks at the end of the line".to_owned(), "take them away");
            }
            if let Some(needle) = machine_path(line) {
                add(
                    format!("`{needle}` is a path of one machine"),
                    "name it relative to the project, or by a variable",
                );
            }
        }
        if !file.text.is_empty() && !file.text.ends_with('\n') {
            let line = file.text.lines().count();
            found.push(Violation::new(path, line, "no newline at the end of the file", "add it"));
        }
    }
    found
}

/// A literal or an address cannot be broken, so a line that has one may be long.
fn is_too_long(line: &str) -> bool {
    line.chars().count() > COLUMNS_MAX && !line.contains('"') && !line.contains("://")
}

fn machine_path(line: &str) -> Option<&'static str> {
    let in_path = |letter: char| letter.is_alphanumeric() || "_-.~*)}>".contains(letter);
    let is_start = |at: usize| !line[..at].chars().next_back().is_some_and(in_path);
    let is_folder = |needle: &str, at: usize| {
        // The last folder is a machine's only with somebody's name behind it.
        let is_home = needle == FOLDERS[2];
        is_start(at) && (!is_home || line[at + needle.len()..].starts_with(char::is_alphabetic))
    };
    let folder =
        FOLDERS.iter().find(|needle| line.match_indices(**needle).any(|(at, _)| is_folder(needle, at)));
    let word = || WORDS.iter().find(|needle| line.contains(**needle));
    folder.or_else(word).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::assert_found;

    #[test]
    fn clean_text_passes() {
        let long = format!("const A: &str = \"{}\";\n// https://{}\n", "x".repeat(200), "y".repeat(200));
        let tree = Tree::of(&[
            ("src/a.rs", &long),
            ("Makefile", "all:\n\tmake\n"),
            ("empty", ""),
            (
                "README.md",
                &format!(
                    "~{0}x, src{1}y, $HOME{0}z, and whatever is in {2}.\n",
                    FOLDERS[0], FOLDERS[1], FOLDERS[2]
                ),
            ),
        ]);
        assert_found(check(&tree), &[]);
    }

    #[test]
    fn long_lines_tabs_blanks_and_missing_newlines_are_found() {
        let text = format!("//{}\nfn f() {{\n\tx();  \n}}\r\nlast", "x".repeat(139));
        assert_found(
            check(&Tree::of(&[("src/a.rs", &text)])),
            &[
                "src/a.rs:1: the line has more than 140 columns",
                "src/a.rs:3: a tab",
                "src/a.rs:3: blanks at the end",
                "src/a.rs:4: blanks at the end",
                "src/a.rs:5: no newline at the end",
            ],
        );
    }

    #[test]
    fn paths_of_a_machine_are_found_in_every_file() {
        for needle in FOLDERS.iter().chain(WORDS) {
            for before in ["", "see `", "cd ", "file://", "\""] {
                let text = format!("one\n{before}{needle}someone\n");
                assert_found(
                    check(&Tree::of(&[("docs/a.md", &text)])),
                    &[&format!("docs/a.md:2: `{needle}` is")],
                );
            }
        }
    }
}
