//! Rule: each dependency in `Cargo.toml` has its reason as a comment on its line.
//!
//! **Invariant:** every table of dependencies counts, those of one platform or of the build too.
//!
//! Deliberately absent: a TOML parser. A dependency is a line `name = …` below a header, or a header of its own.

use crate::tree::{Tree, Violation};

const MANIFEST: &str = "Cargo.toml";

/// A reason shorter than this many characters gives none.
const CHARACTERS_MIN: usize = 10;

pub fn check(tree: &Tree) -> Vec<Violation> {
    let Some(text) = tree.text(MANIFEST) else {
        return vec![Violation::new(MANIFEST, 1, "there is no manifest", "write it")];
    };
    let mut found = Vec::new();
    let mut is_table = false;
    let mut depth = 0_i32;
    for (index, line) in text.lines().enumerate() {
        let (code, comment) = split_at_comment(line);
        let code = code.trim();
        let is_header = depth == 0 && code.starts_with('[');
        let name = if is_header {
            let header = code.trim_matches(|letter| letter == '[' || letter == ']');
            is_table = header.ends_with("dependencies");
            // `[dependencies.name]`: one dependency, its keys below.
            let own = header.rsplit_once('.').filter(|(table, _)| table.ends_with("dependencies"));
            own.map(|(_, name)| name)
        } else {
            let pair = code.split_once('=').filter(|_| is_table && depth == 0);
            pair.map(|(name, _)| name.trim())
        };
        let reason = comment.trim_start_matches('#').trim();
        if let Some(name) = name.filter(|_| reason.chars().count() < CHARACTERS_MIN) {
            let what = format!("dependency `{name}` has no reason");
            found.push(Violation::new(MANIFEST, index + 1, what, "say why as a comment on this line"));
        }
        if !is_header {
            depth += brackets(code);
        }
    }
    found
}

/// Splits a line at the `#` that stands in no string.
fn split_at_comment(line: &str) -> (&str, &str) {
    let mut quote = None;
    for (at, letter) in line.char_indices() {
        match (quote, letter) {
            (None, '#') => return line.split_at(at),
            (None, '"' | '\'') => quote = Some(letter),
            (Some(open), _) if open == letter => quote = None,
            _ => {}
        }
    }
    (line, "")
}

/// Returns how many brackets this line leaves open (strings of a manifest hold none that matter).
fn brackets(code: &str) -> i32 {
    let count =
        |brackets: [char; 2]| i32::try_from(code.matches(brackets).count()).expect("a line has few brackets");
    count(['[', '{']) - count([']', '}'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::assert_found;

    #[test]
    fn dependencies_with_a_reason_pass() {
        let text = "[package]\nname = \"x\"\n[dependencies]\n# about the next\nlog = \"0.4\" # the logging facade\n\
            nix = { version = \"1\", features = [ # calls to the kernel\n  \"fs = x\",\n] }\n\n\
            [dependencies.mio] # readiness of descriptors\nversion = \"1\"\n[features]\nplanted = []\n";
        assert_found(check(&Tree::of(&[(MANIFEST, text)])), &[]);
    }

    #[test]
    fn a_dependency_without_a_reason_is_found_in_every_table() {
        let text = "[dependencies]\nlog = \"0.4\"\nmio = \"1 # not a comment\"\n[dev-dependencies]\na.version = \"1\" # why\n\
            [target.'cfg(unix)'.dependencies]\nb = \"1\"\n[build-dependencies.cc]\nversion = \"1\"\n";
        assert_found(
            check(&Tree::of(&[(MANIFEST, text)])),
            &[
                "Cargo.toml:2: dependency `log` has no reason",
                "Cargo.toml:3: dependency `mio` has no reason",
                "Cargo.toml:5: dependency `a.version` has no reason",
                "Cargo.toml:7: dependency `b` has no reason",
                "Cargo.toml:8: dependency `cc` has no reason",
            ],
        );
        assert_found(check(&Tree::of(&[])), &["Cargo.toml:1: there is no manifest"]);
    }
}
