//! Rule: nothing is left over: no unfinished code, silent exceptions, blind waits, or names that say nothing.
//!
//! **Invariant:** an exception (`allow`, a sleep) stands beside the sentence that excuses it.
//!
//! Deliberately absent: names of modules and variables, and what clippy holds already.

use std::collections::BTreeSet;

use crate::paths;
use crate::scan::{Attribute, Source};
use crate::tree::{Tree, Violation};

const MACROS: &[(&str, &str)] = &[
    ("todo", "finish it, or leave the thing out"),
    ("unimplemented", "finish it, or leave the thing out"),
    ("dbg", "take it away"),
];

/// Marks of unfinished work, banned in comments; joined here so that this file holds none.
const MARKS: &[&str] = &[concat!("FIX", "ME"), concat!("X", "XX"), concat!("HA", "CK")];

/// Endings of type names that say nothing about the type.
const ENDINGS: &[&str] = &["Manager", "Util", "Utils", "Helper", "Data"];

/// Names that a trait of somebody else gives: the SDK of the Model Context Protocol.
const FOREIGN: &[&str] = &["get_info"];

pub fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = BTreeSet::new();
    let test_modules = paths::test_modules(tree);
    for (file, text) in tree.rust(&["src/", "bin/", "tests/"]) {
        let source = Source::scan(text);
        let is_test = file.starts_with("tests/") || paths::is_test_file(&test_modules, file);
        let mut add = |line: usize, what: String, instead: &str| {
            found.insert(Violation::new(file, line, what, instead));
        };
        unfinished(&source, &mut add);
        attributes(&source, &mut add);
        names(&source, &mut add);
        for token in source.runs(&[".", "unwrap", "(", ")"]).filter(|token| !is_test && !token.is_test) {
            add(
                token.line,
                "`.unwrap()` outside of tests".to_owned(),
                "`expect` the invariant, or return the error",
            );
        }
        for path in paths::resolved(tree, file, &source) {
            let is_excused = source.comments_at(path.line).any(|comment| comment.contains("because"));
            if path.ends_with(&["thread", "sleep"]) && !is_excused {
                let instead = "wait for the event, or say in a comment above why not: `… because …`";
                add(path.line, "a sleep without its reason".to_owned(), instead);
            }
        }
    }
    found.into_iter().collect()
}

fn unfinished(source: &Source<'_>, add: &mut impl FnMut(usize, String, &str)) {
    for (name, instead) in MACROS {
        for token in source.runs(&[name, "!"]) {
            add(token.line, format!("`{name}!` is left over"), instead);
        }
    }
    let words = source.tokens.iter().filter(|token| token.is_word()).map(|token| (token.line, token.text));
    let comments = source.comments.iter().map(|comment| (comment.line, comment.text));
    for (line, text) in words.chain(comments) {
        let mut words = text.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
        if let Some(mark) = words.find(|word| MARKS.contains(word)) {
            add(line, format!("`{mark}` is left over"), "do it now, or write down what is absent and why");
        }
    }
}

fn attributes(source: &Source<'_>, add: &mut impl FnMut(usize, String, &str)) {
    for Attribute { tokens, start, .. } in source.attributes() {
        let line = source.tokens[start].line;
        let first = tokens.first().map_or("", |token| token.text);
        let is_conditional = first == "cfg_attr";
        let holds =
            |name: &str| first == name || (is_conditional && tokens.iter().any(|token| token.is(name)));
        if holds("ignore") {
            add(line, "a test is ignored".to_owned(), "let it run, or take it away");
        }
        let has_reason = tokens.windows(2).any(|pair| pair[0].is("reason") && pair[1].is("="));
        if holds("allow") && !has_reason && source.comments_at(line).next().is_none() {
            add(line, "`allow` without a reason".to_owned(), "add `reason = \"…\"`, or obey the lint");
        }
    }
}

fn names(source: &Source<'_>, add: &mut impl FnMut(usize, String, &str)) {
    for pair in source.tokens.windows(2) {
        let [keyword, name] = pair else { continue };
        let is_type = ["struct", "enum", "trait", "type", "union"].iter().any(|word| keyword.is(word));
        if is_type && name.is_word() && ENDINGS.iter().any(|ending| name.text.ends_with(ending)) {
            let what = format!("type `{}` is named for nothing", name.text);
            add(name.line, what, "name it for what it is");
        }
        if keyword.is("fn") && name.text.starts_with("get_") && !FOREIGN.contains(&name.text) {
            let what = format!("`fn {}` starts with `get_`", name.text);
            add(name.line, what, "name it for what it returns");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::assert_found;

    fn found_in(file: &str, text: &str) -> Vec<Violation> {
        check(&Tree::of(&[(file, text)]))
    }

    #[test]
    fn words_that_only_look_like_it_pass() {
        let text = "// todo!() in a comment is a word; so is XXXX.\n\
            const A: &str = \"FIXME .unwrap() #[ignore]\";\n\
            fn f(todo: u8) -> bool { todo != 1 }\n\
            #[allow(unsafe_code, reason = \"the call is not wrapped\")]\nfn g() {}\n\
            // The macro expands to it.\n#[allow(dead_code)]\nfn h() { x.unwrap_or(1); }\n\
            #[cfg(test)]\nmod tests {\n    fn f() { x.unwrap() }\n}\n\
            fn target_data() { y.get_mut() }\nstruct Database;\n";
        assert_found(found_in("src/core/mod.rs", text), &[]);
        let text = "fn f() { x.unwrap(); }\nfn g() {\n    // Half a second, because the kernel\n    // reuses the pid later.\n    \
            std::thread::sleep(TICK);\n    thread::sleep(TICK); // because of that too\n}\n";
        assert_found(found_in("tests/a.rs", text), &[]);
    }

    #[test]
    fn unfinished_work_is_found_in_code_and_comments() {
        for (name, _) in MACROS {
            let found = found_in("tests/a.rs", &format!("fn f() {{\n    {name}!(\"x\")\n}}\n"));
            assert_found(found, &[&format!("tests/a.rs:2: `{name}!` is left over")]);
        }
        for mark in MARKS {
            let found = found_in("src/core/a.rs", &format!("fn f() {{}}\n/* one\n   {mark}: two */\n"));
            assert_found(found, &[&format!("src/core/a.rs:3: `{mark}` is left over")]);
        }
    }

    #[test]
    fn unwrap_is_found_however_it_is_broken() {
        let text = "fn f() {\n    x\n        .unwrap();\n}\n";
        assert_found(found_in("bin/a.rs", text), &["bin/a.rs:3: `.unwrap()` outside of tests"]);
    }

    #[test]
    fn an_ignored_test_is_found() {
        let text = "#[test]\n#[ignore = \"slow\"]\nfn f() {}\n#[cfg_attr(unix, ignore)]\nfn g() {}\n";
        assert_found(
            found_in("tests/a.rs", text),
            &["tests/a.rs:2: a test is ignored", "tests/a.rs:4: a test is ignored"],
        );
    }

    #[test]
    fn an_allow_without_a_reason_is_found() {
        let text =
            "#![allow(dead_code)]\n/// Documentation is no reason.\n#[allow(\n    clippy::x\n)]\nfn f() {}\n";
        assert_found(
            found_in("src/core/a.rs", text),
            &["src/core/a.rs:1: `allow` without a reason", "src/core/a.rs:3: `allow` without a reason"],
        );
    }

    #[test]
    fn a_sleep_without_a_reason_is_found() {
        let text = "use std::thread;\nfn f() {\n    // A moment.\n    thread::sleep(x);\n}\nuse thread::sleep as nap;\n";
        assert_found(
            found_in("tests/a.rs", text),
            &["tests/a.rs:4: a sleep without its reason", "tests/a.rs:6: a sleep without its reason"],
        );
    }

    #[test]
    fn names_that_say_nothing_are_found() {
        for ending in ENDINGS {
            let found = found_in("src/core/a.rs", &format!("\npub struct Mail{ending};\n"));
            assert_found(found, &[&format!("src/core/a.rs:2: type `Mail{ending}` is named for nothing")]);
        }
        let found = found_in("src/core/a.rs", "pub fn\nget_mail() {}\n");
        assert_found(found, &["src/core/a.rs:2: `fn get_mail` starts with `get_`"]);
    }
}
