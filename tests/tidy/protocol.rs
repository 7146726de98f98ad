//! Rule: every method of the verb table is described in `docs/protocol.md`, under a heading with its name in backticks.
//!
//! **Invariant:** a method that outsiders cannot read about does not ship.
//!
//! Deliberately absent: the text below the heading; its examples are replayed by another test.

use crate::markdown::headings;
use crate::tree::{Tree, Violation};
use crate::verbs::{self, Method};

const DOCUMENT: &str = "docs/protocol.md";

pub fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for verb in verbs::verbs(tree) {
        let Method::Some(method) = verb.method else { continue };
        let quoted = format!("`{method}`");
        let is_described = |document: &str| headings(document).any(|(_, heading)| heading.contains(&quoted));
        if !tree.text(DOCUMENT).is_some_and(is_described) {
            let what = format!("method {quoted} has no heading in {DOCUMENT}");
            found.push(Violation::new(verbs::TABLE, verb.line, what, "describe it there, with an example"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::assert_found;

    const ROWS: &str = "const A: &[Verb] = &[\n    Verb { name: \"send\", method: Some(\"mail/send\") },\n    \
        Verb { name: \"host\", method: None },\n];\n";

    #[test]
    fn a_described_method_passes() {
        let tree = Tree::of(&[(verbs::TABLE, ROWS), (DOCUMENT, "# Protocol\n\n## Sending: `mail/send`\n")]);
        assert_found(check(&tree), &[]);
    }

    #[test]
    fn an_undescribed_method_or_a_missing_document_is_found() {
        let expected = ["src/protocol/verb.rs:2: method `mail/send` has no heading in docs/protocol.md"];
        assert_found(check(&Tree::of(&[(verbs::TABLE, ROWS)])), &expected);
        let tree =
            Tree::of(&[(verbs::TABLE, ROWS), (DOCUMENT, "`mail/send`\n## `mail/sent`\n## mail/send\n")]);
        assert_found(check(&tree), &expected);
    }
}
