//! Holds the source tree to the rules of the house: one test per rule, over every file that git knows.
//!
//! **Invariant:** a rule is a function from a `Tree` to violations, so every rule is itself tested, beside its code,
//! with a small tree in memory that breaks it and one that keeps it.
//! **Invariant:** a violation reads `path:line: what is wrong; what to do instead`, and a rule lists all of them.
//!
//! Deliberately absent: sizes of files and functions (a matter of taste, not of a test), types and macro expansion (the
//! rules read words, not meaning), and whatever clippy or rustfmt already hold.
//!
//! Run with `cargo test --test tidy`; add `-- --nocapture fault` to see which faults have a test.

#[path = "tidy/dependencies.rs"]
mod dependencies;
#[path = "tidy/faults.rs"]
mod faults;
#[path = "tidy/floors.rs"]
mod floors;
#[path = "tidy/headers.rs"]
mod headers;
#[path = "tidy/hygiene.rs"]
mod hygiene;
#[path = "tidy/keys.rs"]
mod keys;
#[path = "tidy/leftovers.rs"]
mod leftovers;
#[path = "tidy/markdown.rs"]
mod markdown;
#[path = "tidy/paths.rs"]
mod paths;
#[path = "tidy/protocol.rs"]
mod protocol;
#[path = "tidy/purity.rs"]
mod purity;
#[path = "tidy/scan.rs"]
mod scan;
#[path = "tidy/scripts.rs"]
mod scripts;
#[path = "tidy/tree.rs"]
mod tree;
#[path = "tidy/verbs.rs"]
mod verbs;

use std::sync::LazyLock;

use tree::{Tree, Violation};

#[test]
fn arrows_point_down() {
    hold(floors::check(&TREE));
}

#[test]
fn the_lower_floors_are_pure() {
    hold(purity::check(&TREE));
}

#[test]
fn every_verb_is_in_its_places() {
    hold(verbs::check(&TREE));
}

#[test]
fn every_file_says_what_it_is_for() {
    hold(headers::check(&TREE));
}

#[test]
fn nothing_is_left_over() {
    hold(leftovers::check(&TREE));
}

#[test]
fn text_is_clean_and_names_no_machine() {
    hold(hygiene::check(&TREE));
}

#[test]
fn every_dependency_has_its_reason() {
    hold(dependencies::check(&TREE));
}

#[test]
fn every_cited_fault_exists() {
    print!("{}", faults::summary(&TREE));
    hold(faults::check(&TREE));
    hold(faults::check_all(&TREE));
}

#[test]
fn every_method_is_documented() {
    hold(protocol::check(&TREE));
}

#[test]
fn scripts_run_and_the_readme_names_them() {
    hold(scripts::check(&TREE));
}

/// Users 2: what a person types in a pane is the person's alone.
#[test]
fn nothing_types_into_a_terminal() {
    hold(keys::check(&TREE));
}

fn hold(violations: Vec<Violation>) {
    let lines: Vec<String> = violations.iter().map(Violation::to_string).collect();
    assert!(lines.is_empty(), "{} violation(s):\n{}", lines.len(), lines.join("\n"));
}

/// The real tree, read once for all rules.
static TREE: LazyLock<Tree> = LazyLock::new(Tree::from_disk);
