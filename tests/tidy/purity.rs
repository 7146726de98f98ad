//! Rule: floors 0 and 1 are pure: no IO, clock, thread, environment, randomness or logging, and the core cannot fail.
//!
//! **Invariant:** what a pure file names is judged by where the path leads, so a rename does not hide it.
//!
//! Deliberately absent: code under `#[cfg(test)]`, which may do as it likes; and hash maps, whose order is random though
//! they are not named here (whoever iterates one in the core is found by the simulation's replay).

use std::collections::BTreeSet;

use crate::floors;
use crate::paths::{self, Path};
use crate::scan::{Source, Token, closing};
use crate::tree::{Tree, Violation};

/// What a pure floor may not name, by the start of the path, and what to do instead.
const BANNED: &[(&[&str], &str)] = &[
    (&["std", "fs"], SHELL),
    (&["std", "net"], SHELL),
    (&["std", "os"], SHELL),
    (&["std", "io"], SHELL),
    (&["std", "process"], SHELL),
    (&["std", "thread"], "there is one thread, and the relay's lap owns it"),
    (&["std", "env"], "the shell reads the environment and hands values in"),
    (&["std", "random"], RANDOM),
    (&["std", "hash", "RandomState"], RANDOM),
    (&["std", "collections", "hash_map", "RandomState"], RANDOM),
    (&["rand"], RANDOM),
    (&["getrandom"], RANDOM),
    (&["fastrand"], RANDOM),
    (&["libc"], SHELL),
    (&["nix"], SHELL),
    (&["mio"], SHELL),
    (&["rusqlite"], SHELL),
    (&["tungstenite"], SHELL),
    (&["tempfile"], SHELL),
    (&["log"], SAY),
    (&["env_logger"], SAY),
];

/// Modules of which a pure floor may name these members only.
const PARTLY: &[(&[&str], &[&str], &str)] = &[
    (&["std", "time"], &["Duration"], "take `now` as an argument"),
    (
        &["std", "sync"],
        &["Arc", "Weak"],
        "there is one thread: own the state, or share it unchanged in an `Arc`",
    ),
];

/// Constructors of mail ids that read a clock or random bytes, wherever `Uuid` was imported from.
const MINTS: &[&str] = &["new_v1", "now_v1", "new_v4", "new_v6", "now_v6", "now_v7"];

const MACROS: &[(&str, &str)] = &[
    ("print", SAY),
    ("println", SAY),
    ("eprint", SAY),
    ("eprintln", SAY),
    ("dbg", SAY),
    ("error", SAY),
    ("warn", SAY),
    ("info", SAY),
    ("debug", SAY),
    ("trace", SAY),
];

const SHELL: &str = "IO lives on floor 2: ask for it with an action";
const RANDOM: &str = "take minted ids and random words from the input";
const SAY: &str = "return it as an action or an error; the shell logs";

pub fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = BTreeSet::new();
    let test_modules = paths::test_modules(tree);
    for (file, text) in tree.rust(&["src/"]) {
        let is_pure = floors::top_of(file).and_then(floors::floor_of).is_some_and(|floor| floor <= 1);
        if !is_pure || paths::is_test_file(&test_modules, file) {
            continue;
        }
        let source = Source::scan(text);
        for path in paths::resolved(tree, file, &source).into_iter().filter(|path| !path.is_test) {
            if let Some(instead) = banned(&path) {
                let what = format!("a pure floor names `{}`", path.text());
                found.insert(Violation::new(file, path.line, what, instead));
            }
        }
        for (name, instead) in MACROS {
            for token in source.runs(&[name, "!"]).filter(|token| !token.is_test) {
                let what = format!("a pure floor calls `{name}!`");
                found.insert(Violation::new(file, token.line, what, *instead));
            }
        }
        if file.starts_with("src/core/") {
            for line in failing_handles(&source.tokens) {
                let what = "`fn handle` of the core returns a `Result`";
                let instead = "resolve what can fail in the shell, and answer a refusal as an effect";
                found.insert(Violation::new(file, line, what, instead));
            }
        }
    }
    found.into_iter().collect()
}

fn banned(path: &Path) -> Option<&'static str> {
    let mut path = path.clone();
    if matches!(path.segments[0].as_str(), "core" | "alloc") {
        path.segments[0] = "std".to_owned();
    }
    if path.segments.last().is_some_and(|last| MINTS.contains(&last.as_str())) {
        return Some(RANDOM);
    }
    if path.segments == ["std", "*"] {
        return Some("name what you import");
    }
    for (module, members, instead) in PARTLY {
        if path.starts_with(module)
            && path.segments.get(module.len()).is_some_and(|name| !members.contains(&name.as_str()))
        {
            return Some(instead);
        }
    }
    BANNED.iter().find(|(start, _)| path.starts_with(start)).map(|(_, instead)| *instead)
}

/// Returns the line of each `fn handle` that names `Result` after its arrow.
fn failing_handles(tokens: &[Token<'_>]) -> Vec<usize> {
    let mut found = Vec::new();
    for (index, pair) in tokens.windows(2).enumerate() {
        if !(pair[0].is("fn") && pair[1].is("handle")) || pair[0].is_test {
            continue;
        }
        let mut is_answer = false;
        let mut at = index + 2;
        while at < tokens.len() && !["{", ";", "where"].iter().any(|end| tokens[at].is(end)) {
            if tokens[at].is("(") && !is_answer {
                at = closing(tokens, at);
            } else if tokens[at].is("->") {
                is_answer = true;
            } else if is_answer && tokens[at].is("Result") {
                found.push(pair[0].line);
                break;
            }
            at += 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::assert_found;

    #[test]
    fn words_in_comments_strings_and_tests_do_not_count() {
        let clean = Tree::of(&[
            (
                "src/core/mod.rs",
                "//! No std::fs here, no println!.\n\
                 use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};\n\
                 /* std::io::Error */ const A: &str = \"std::net::TcpStream log::info!\";\n\
                 const B: &str = r#\"use \"std::fs\"; dbg!()\"#; const C: char = '\"';\n\
                 pub fn handle<'a>(&'a mut self, input: Result<Input, Fault>) -> Effects { Duration::from_secs(1) }\n\
                 fn handle_mail() -> Result<(), Refusal> { time::now() }\n\
                 #[cfg(test)]\nmod tests {\n    use std::fs;\n    fn f() { println!(); std::thread::spawn(g); }\n}\n\
                 #[cfg(test)]\nmod story;\n",
            ),
            ("src/core/story.rs", "use std::fs;\n"),
            ("src/core/time.rs", "pub use std::time;\npub type Id = uuid::Uuid;\n"),
            ("src/relay/mod.rs", "use std::{fs, io, thread};\nfn f() { log::info!(\"up\"); }\n"),
        ]);
        assert_found(check(&clean), &[]);
    }

    #[test]
    fn each_banned_path_is_found() {
        for (path, _) in BANNED {
            for text in [
                format!("\nuse {}::x;\n", path.join("::")),
                format!("\nfn f() {{ {}::x() }}\n", path.join("::")),
            ] {
                let tree = Tree::of(&[("src/model/a.rs", &text)]);
                assert_found(
                    check(&tree),
                    &[&format!("src/model/a.rs:2: a pure floor names `{}::x`", path.join("::"))],
                );
            }
        }
    }

    #[test]
    fn groups_renames_and_globs_do_not_hide() {
        let text = "use std::{\n    collections::BTreeMap,\n    io::{self as x, Read},\n};\n\
                    use std::time as t;\nfn f() { t::Instant::now(); }\n\
                    use std::time::{Duration, SystemTime};\nuse std::sync::*;\nuse std::sync::{Arc, Mutex};\n\
                    use core::sync::atomic::AtomicBool;\nuse uuid::Uuid;\nfn g() { Uuid::now_v7() }\nuse std as s;\n\
                    fn h() { s::env::var(k) }\n";
        assert_found(
            check(&Tree::of(&[("src/transport/codex/mod.rs", text)])),
            &[
                "src/transport/codex/mod.rs:3: a pure floor names `std::io`",
                "src/transport/codex/mod.rs:3: a pure floor names `std::io::Read`",
                "src/transport/codex/mod.rs:6: a pure floor names `std::time::Instant::now`; take `now` as an argument",
                "src/transport/codex/mod.rs:7: a pure floor names `std::time::SystemTime`",
                "src/transport/codex/mod.rs:8: a pure floor names `std::sync::*`",
                "src/transport/codex/mod.rs:9: a pure floor names `std::sync::Mutex`",
                "src/transport/codex/mod.rs:10: a pure floor names `core::sync::atomic::AtomicBool`",
                "src/transport/codex/mod.rs:12: a pure floor names `uuid::Uuid::now_v7`; take minted ids",
                "src/transport/codex/mod.rs:14: a pure floor names `std::env::var`",
            ],
        );
    }

    #[test]
    fn code_that_is_also_built_without_test_is_held_to_the_rule() {
        let text = "#[cfg(any(test, feature = \"planted\"))]\nmod planted {\n    use std::fs;\n}\n";
        assert_found(
            check(&Tree::of(&[("src/core/mod.rs", text)])),
            &["src/core/mod.rs:3: a pure floor names `std::fs`"],
        );
    }

    #[test]
    fn printing_and_logging_macros_are_found() {
        for (name, _) in MACROS {
            let text = format!("fn f() {{\n    {name} !(\"x\");\n}}\n");
            let expected = format!("src/wire/a.rs:2: a pure floor calls `{name}!`");
            assert_found(check(&Tree::of(&[("src/wire/a.rs", &text)])), &[&expected]);
        }
    }

    #[test]
    fn a_core_that_can_fail_is_found() {
        let text = "impl Core {\n    pub fn handle(\n        &mut self,\n        input: Input,\n    ) -> io::Result<Effects> {\n";
        let expected = ["src/core/mod.rs:2: `fn handle` of the core returns a `Result`"];
        assert_found(check(&Tree::of(&[("src/core/mod.rs", text)])), &expected);
        assert_found(check(&Tree::of(&[("src/protocol/mod.rs", text)])), &[]);
    }
}
