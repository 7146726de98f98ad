//! Rule: every verb is in its places: command, core request (when it has a method), black-box test and README.
//!
//! **Invariant:** the table `src/protocol/verb.rs` is the only source; a file in one of the folders without a row is as
//! wrong as a row without a file, and an empty table is wrong at once.
//!
//! Deliberately absent: what the files contain, beyond one `#[test]` in each black-box file.

use crate::markdown::{headings, holds_word};
use crate::scan::{Kind, Source, Token, closing, split_at_commas};
use crate::tree::{Tree, Violation};

pub const TABLE: &str = "src/protocol/verb.rs";

const COMMANDS: &str = "src/cli/command/";
const REQUESTS: &str = "src/core/request/";
const BLACKBOX: &str = "tests/blackbox/";
const README: &str = "README.md";

/// Files of those folders that are no verb: front doors.
const FRONT_DOORS: &[&str] = &["mod.rs", "main.rs"];

/// One row of the verb table.
#[derive(Debug, PartialEq, Eq)]
pub struct Verb {
    pub name: String,
    pub method: Method,
    pub line: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Method {
    None,
    Some(String),
    /// The row does not say it in the one form that is read here.
    Unreadable,
}

pub fn check(tree: &Tree) -> Vec<Violation> {
    let verbs = verbs(tree);
    if verbs.is_empty() {
        let what = "the verb table has no row that can be read";
        return vec![Violation::new(
            TABLE,
            1,
            what,
            "write rows as `Verb { name: \"send\", method: Some(\"mail/send\"), … }`",
        )];
    }
    let mut found = Vec::new();
    for (index, verb) in verbs.iter().enumerate() {
        if verbs[..index].iter().any(|earlier| earlier.name == verb.name) {
            let what = format!("verb `{}` has two rows", verb.name);
            found.push(Violation::new(TABLE, verb.line, what, "keep one"));
        }
        missing_places(tree, verb, &mut found);
    }
    let is_verb = |name: &str| verbs.iter().any(|verb| verb.name == name);
    let has_method = |name: &str| verbs.iter().any(|verb| verb.name == name && verb.method != Method::None);
    without_row(tree, COMMANDS, is_verb, "a row", &mut found);
    without_row(tree, BLACKBOX, is_verb, "a row", &mut found);
    without_row(tree, REQUESTS, has_method, "a row with a method", &mut found);
    found
}

/// Reads the rows of the verb table; none when the file is missing.
pub fn verbs(tree: &Tree) -> Vec<Verb> {
    let source = Source::scan(tree.text(TABLE).unwrap_or(""));
    let tokens = &source.tokens;
    let mut found = Vec::new();
    for at in 0..tokens.len().saturating_sub(1) {
        if tokens[at].is("Verb") && tokens[at + 1].is("{") && !tokens[at].is_test {
            let row = &tokens[at + 2..closing(tokens, at + 1)];
            // Without a literal name it is a definition or a pattern, not a row.
            if let Some([Token { kind: Kind::Literal, text, .. }, ..]) = field(row, "name") {
                found.push(Verb { name: (*text).to_owned(), method: method(row), line: tokens[at].line });
            }
        }
    }
    found
}

fn method(row: &[Token<'_>]) -> Method {
    match field(row, "method") {
        Some([none]) if none.is("None") => Method::None,
        Some([some, _, Token { kind: Kind::Literal, text, .. }, _]) if some.is("Some") => {
            Method::Some((*text).to_owned())
        }
        _ => Method::Unreadable,
    }
}

/// Returns the value of a field of a struct expression.
fn field<'s, 'a>(row: &'s [Token<'a>], name: &str) -> Option<&'s [Token<'a>]> {
    split_at_commas(row).into_iter().find_map(|field| match field {
        [key, colon, value @ ..] if key.is(name) && colon.is(":") => Some(value),
        _ => None,
    })
}

fn missing_places(tree: &Tree, verb: &Verb, found: &mut Vec<Violation>) {
    let name = &verb.name;
    let mut missing =
        |what: String, instead: &str| found.push(Violation::new(TABLE, verb.line, what, instead));
    let command = format!("{COMMANDS}{name}.rs");
    if !tree.has(&command) {
        missing(format!("verb `{name}` has no {command}"), "write it, or take the row away");
    }
    match &verb.method {
        Method::None => {}
        Method::Some(_) => {
            let request = format!("{REQUESTS}{name}.rs");
            if !tree.has(&request) {
                missing(
                    format!("verb `{name}` has a method but no {request}"),
                    "write it, or give the row `method: None`",
                );
            }
        }
        Method::Unreadable => {
            missing(
                format!("verb `{name}` does not say its method"),
                "write `method: Some(\"noun/verb\")` or `method: None`",
            );
        }
    }
    let blackbox = format!("{BLACKBOX}{name}.rs");
    match tree.text(&blackbox) {
        None => missing(format!("verb `{name}` has no {blackbox}"), "test the real binary there"),
        Some(text) if Source::scan(text).runs(&["#", "[", "test", "]"]).next().is_none() => {
            found.push(Violation::new(&blackbox, 1, "it holds no `#[test]`", "test the real binary here"));
        }
        Some(_) => {}
    }
    if !is_in_readme(tree.text(README).unwrap_or(""), name) {
        let what = format!("README.md does not show verb `{name}`");
        found.push(Violation::new(
            TABLE,
            verb.line,
            what,
            format!("add a line with `agentmux {name} …` in backticks"),
        ));
    }
}

fn is_in_readme(readme: &str, name: &str) -> bool {
    let call = format!("`agentmux {name}");
    let is_called = readme.lines().any(|line| holds_word(line, &call));
    is_called || headings(readme).any(|(_, heading)| holds_word(heading, name))
}

fn without_row(
    tree: &Tree,
    folder: &str,
    has_row: impl Fn(&str) -> bool,
    row: &str,
    found: &mut Vec<Violation>,
) {
    for (path, _) in tree.rust(&[folder]) {
        let below = &path[folder.len()..];
        // A verb that outgrew its file may have a folder of the same stem.
        let stem = below.split('/').next().unwrap_or(below).trim_end_matches(".rs");
        if !FRONT_DOORS.contains(&below) && !has_row(stem) {
            let what = format!("`{stem}` has not {row} in {TABLE}");
            found.push(Violation::new(path, 1, what, "add the row, or move what is no verb elsewhere"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::assert_found;

    const ROWS: &str = "pub struct Verb {\n    pub name: &'static str,\n    pub method: Option<&'static str>,\n}\n\
        impl Verb {\n    fn all() -> &'static [Verb] { VERBS }\n}\n\
        pub const VERBS: &[Verb] = &[\n    Verb { name: \"send\", method: Some(\"mail/send\"), help: \"send, {now}\" },\n    \
        Verb {\n        // Verb { name: \"old\", method: None },\n        name: \"host\",\n        method: None,\n    },\n];\n";

    const TESTED: &str = "#[test]\nfn it_works() {}\n";

    const CLEAN: &[(&str, &str)] = &[
        (TABLE, ROWS),
        ("src/cli/command/mod.rs", ""),
        ("src/cli/command/send.rs", ""),
        ("src/cli/command/host.rs", ""),
        ("src/cli/command/host/relay.rs", ""),
        ("src/core/request/mod.rs", ""),
        ("src/core/request/send.rs", ""),
        ("tests/blackbox/main.rs", ""),
        ("tests/blackbox/send.rs", TESTED),
        ("tests/blackbox/host.rs", TESTED),
        ("README.md", "# agentmux\n\n| `agentmux send TO TEXT` | sends |\n\n### host\n"),
    ];

    /// The clean tree with one file replaced, or taken away by an empty path.
    fn with(path: &str, text: Option<&str>) -> Tree {
        let mut files: Vec<(&str, &str)> = CLEAN.iter().copied().filter(|(have, _)| *have != path).collect();
        files.extend(text.map(|text| (path, text)));
        Tree::of(&files)
    }

    #[test]
    fn a_verb_in_all_its_places_passes() {
        assert_found(check(&Tree::of(CLEAN)), &[]);
    }

    #[test]
    fn rows_are_read_on_one_line_or_several() {
        assert_eq!(
            verbs(&Tree::of(CLEAN)),
            [
                Verb { name: "send".to_owned(), method: Method::Some("mail/send".to_owned()), line: 9 },
                Verb { name: "host".to_owned(), method: Method::None, line: 10 },
            ]
        );
    }

    #[test]
    fn an_empty_or_missing_table_is_found() {
        let expected = ["src/protocol/verb.rs:1: the verb table has no row that can be read"];
        assert_found(check(&Tree::of(&[])), &expected);
        assert_found(check(&with(TABLE, Some("pub const VERBS: &[Verb] = &[];\n"))), &expected);
    }

    #[test]
    fn each_missing_place_is_found() {
        for (path, expected) in [
            ("src/cli/command/send.rs", "src/protocol/verb.rs:9: verb `send` has no src/cli/command/send.rs"),
            (
                "src/cli/command/host.rs",
                "src/protocol/verb.rs:10: verb `host` has no src/cli/command/host.rs",
            ),
            (
                "src/core/request/send.rs",
                "src/protocol/verb.rs:9: verb `send` has a method but no src/core/request/send.rs",
            ),
            ("tests/blackbox/host.rs", "src/protocol/verb.rs:10: verb `host` has no tests/blackbox/host.rs"),
        ] {
            assert_found(check(&with(path, None)), &[expected]);
        }
    }

    #[test]
    fn a_blackbox_file_without_a_test_is_found() {
        let tree = with("tests/blackbox/send.rs", Some("// #[test]\nconst A: &str = \"#[test]\";\n"));
        assert_found(check(&tree), &["tests/blackbox/send.rs:1: it holds no `#[test]`"]);
    }

    #[test]
    fn a_verb_that_the_readme_does_not_show_is_found() {
        let tree = with(README, Some("# host\n`agentmux sender`\n```sh\n# send\n```\n"));
        assert_found(check(&tree), &["src/protocol/verb.rs:9: README.md does not show verb `send`"]);
    }

    #[test]
    fn a_file_without_a_row_is_found() {
        assert_found(
            check(&with("src/cli/command/old.rs", Some(""))),
            &["src/cli/command/old.rs:1: `old` has not a row in"],
        );
        assert_found(
            check(&with("tests/blackbox/old.rs", Some(""))),
            &["tests/blackbox/old.rs:1: `old` has not a row in"],
        );
        assert_found(
            check(&with("src/core/request/host.rs", Some(""))),
            &["src/core/request/host.rs:1: `host` has not a row with a method in"],
        );
    }

    #[test]
    fn a_row_twice_or_without_a_method_is_found() {
        let rows = ROWS.replace("method: None", "help: X").replace("\"host\"", "\"send\"");
        let tree = Tree::of(&[&[(TABLE, rows.as_str())], &CLEAN[1..]].concat());
        assert_found(
            check(&tree),
            &[
                "src/protocol/verb.rs:10: verb `send` does not say its method",
                "src/protocol/verb.rs:10: verb `send` has two rows",
                "src/cli/command/host.rs:1: `host` has not a row",
                "src/cli/command/host/relay.rs:1: `host` has not a row",
                "tests/blackbox/host.rs:1: `host` has not a row",
            ],
        );
    }
}
