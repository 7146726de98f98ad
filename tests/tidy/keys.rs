//! Rule: mail is never typed: no source names what would put text into a person's terminal.
//!
//! **Invariant:** the words are tmux's own, with their short forms; a comment that names one is found, too.
//!
//! Deliberately absent: the tests, whose stand-in for a person does type.

use crate::tree::{Tree, Violation};

/// The commands of tmux that type or paste, joined here so that the list is no example.
const WORDS: &[&str] = &[
    concat!("send", "-keys"),
    concat!("send", "-prefix"),
    concat!("paste", "-buffer"),
    concat!("load", "-buffer"),
    concat!("set", "-buffer"),
    concat!("TIOC", "STI"),
];

pub fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for (path, file) in tree.files().filter(|(path, _)| path.starts_with("src/") || path.starts_with("bin/"))
    {
        for (line, text) in file.text.lines().enumerate() {
            for word in WORDS.iter().filter(|word| text.contains(*word)) {
                let what = format!("`{word}` would type for a person");
                found.push(Violation::new(path, line + 1, what, "mail goes in by the child's protocol"));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::assert_found;

    #[test]
    fn who_looks_at_panes_and_opens_them_passes() {
        let text =
            "fn f() { tmux(&[\"split-window\", \"-d\"]); tmux(&[\"capture-pane\", \"-p\"]); send(keys); }\n";
        let typed = format!("fn f() {{ tmux(&[\"{}\"]) }}\n", WORDS[0]);
        assert_found(
            check(&Tree::of(&[("src/client/tmux.rs", text), ("tests/support/tmux.rs", &typed)])),
            &[],
        );
    }

    #[test]
    fn each_way_to_type_is_found_in_code_and_comments() {
        for word in WORDS {
            let text = format!("\nfn f() {{ tmux(&[\"{word}\", \"-l\"]) }}\n// or {word}\n");
            for path in ["src/client/tmux.rs", "bin/agentmux.rs"] {
                let found = |line: u32| format!("{path}:{line}: `{word}` would type for a person");
                assert_found(check(&Tree::of(&[(path, &text)])), &[&found(2), &found(3)]);
            }
        }
    }
}
