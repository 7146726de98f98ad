//! Rule: a fault that a test cites exists. The faults are those of earlier systems that ours must survive; a test names
//! the one it answers in its doc comment, as a prefix and a number, so that a search for it finds the test.
//!
//! **Invariant:** only doc comments of tests cite, under `tests/` and of units; a number in code or in a string is not a promise.
//!
//! Deliberately absent: a judgement whether the test shows what it cites. `summary` lists those without one.

use std::collections::{BTreeMap, BTreeSet};

use crate::scan::Source;
use crate::tree::{Tree, Violation};

/// Prefixes with their highest number: identity locks, the injection queue, the queue of a thread, the started proxy, the
/// bootstrap of the relay, and what drives the two queues.
const FAULTS: &[(&str, usize)] = &[("LK", 13), ("SQ", 15), ("TQ", 9), ("PX", 14), ("BS", 16), ("NB", 9)];

/// Says of the faults without a test why they have no place to happen.
const PAGE: &str = "src/README.md";

/// Where a fault is cited: path and line.
pub type Place = (String, usize);

pub fn check(tree: &Tree) -> Vec<Violation> {
    let known: BTreeSet<String> = all().collect();
    let mut found = Vec::new();
    for (fault, places) in cited(tree) {
        for (path, line) in places.into_iter().filter(|_| !known.contains(&fault)) {
            found.push(Violation::new(
                &path,
                line,
                format!("there is no fault {fault}"),
                "cite the fault that is meant",
            ));
        }
    }
    found
}

/// They are the reason that ours exists: each has a test, or its row in [`PAGE`].
pub fn check_all(tree: &Tree) -> Vec<Violation> {
    let cited = cited(tree);
    let excused: BTreeSet<String> = tree.text(PAGE).into_iter().flat_map(faults_in).collect();
    let is_missing = |fault: &String| !cited.contains_key(fault) && !excused.contains(fault);
    let missing = all().filter(is_missing);
    missing
        .map(|fault| {
            Violation::new(PAGE, 1, format!("{fault} has no test"), "write one, or why it cannot happen")
        })
        .collect()
}

/// Tells how many faults some test cites, and which none does.
pub fn summary(tree: &Tree) -> String {
    let cited = cited(tree);
    let (covered, rest): (Vec<String>, Vec<String>) = all().partition(|fault| cited.contains_key(fault));
    let total = covered.len() + rest.len();
    format!("faults with a test: {} of {total}\nwithout: {}\n", covered.len(), rest.join(" "))
}

/// Finds every fault that a doc comment of a test cites, with all places, whether it exists or not.
pub fn cited(tree: &Tree) -> BTreeMap<String, Vec<Place>> {
    let mut found: BTreeMap<String, Vec<Place>> = BTreeMap::new();
    for (file, text) in tree.rust(&["tests/", "src/"]) {
        let begin = if file.starts_with("tests/") { 0 } else { first_line_of_tests(text) };
        let comments = Source::scan(text).comments;
        for comment in comments.iter().filter(|comment| comment.is_doc && comment.line > begin) {
            for fault in faults_in(comment.text) {
                found.entry(fault).or_default().push((file.to_owned(), comment.line));
            }
        }
    }
    found
}

/// Where the unit tests of a file begin; behind its end when it has none.
fn first_line_of_tests(text: &str) -> usize {
    text.lines().position(|line| line.trim() == "#[cfg(test)]").unwrap_or(usize::MAX)
}

fn all() -> impl Iterator<Item = String> {
    FAULTS.iter().flat_map(|(prefix, last)| (1..=*last).map(move |number| format!("{prefix}-{number}")))
}

/// Returns the words that are one of the prefixes, a dash and digits.
fn faults_in(text: &str) -> impl Iterator<Item = String> {
    let words = text.split(|letter: char| !letter.is_alphanumeric() && letter != '-' && letter != '_');
    let is_fault = |word: &&str| {
        word.split_once('-').is_some_and(|(prefix, number)| {
            let is_number = !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit());
            is_number && FAULTS.iter().any(|(known, _)| *known == prefix)
        })
    };
    words.filter(is_fault).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::assert_found;

    #[test]
    fn faults_that_exist_pass_and_are_counted() {
        let text = "//! The lock stories (BS-16).\n/// LK-1, LK-13: two tasks; not UTF-8, RS-232, XLK-99, LK-99x.\n\
            #[test]\nfn f() {\n    // LK-77 is no doc comment.\n    let a = \"/// NB-99\";\n}\n";
        let tree = Tree::of(&[("tests/a.rs", text), ("src/core/mod.rs", "/// LK-99\n")]);
        assert_found(check(&tree), &[]);
        assert_eq!(cited(&tree).into_keys().collect::<Vec<_>>(), ["BS-16", "LK-1", "LK-13"]);
        assert!(summary(&tree).starts_with("faults with a test: 3 of 76\nwithout: LK-2 "));
    }

    #[test]
    fn a_fault_of_a_queue_needs_a_test_or_a_reason() {
        let all: Vec<String> = all().filter(|fault| *fault != "SQ-3" && *fault != "TQ-9").collect();
        let cites = format!("/// {}\n#[test]\nfn f() {{}}\n", all.join(" "));
        let tree = Tree::of(&[("tests/a.rs", &cites), (PAGE, "| TQ-9 | no such queue |\n")]);
        assert_found(check_all(&tree), &["src/README.md:1: SQ-3 has no test"]);
    }

    #[test]
    fn a_fault_that_does_not_exist_is_found() {
        for (prefix, last) in FAULTS {
            for number in ["0".to_owned(), "01".to_owned(), (last + 1).to_string()] {
                let text =
                    format!("//! Stories.\n\n/// The fault {prefix}-{number}.\n#[test]\nfn f() {{}}\n");
                let expected = format!("tests/b/a.rs:3: there is no fault {prefix}-{number}");
                assert_found(check(&Tree::of(&[("tests/b/a.rs", &text)])), &[&expected]);
            }
        }
    }
}
