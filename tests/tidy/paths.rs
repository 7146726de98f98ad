//! Finds every path that a source file names and resolves it to where it really leads.
//!
//! **Invariant:** a `use` tree is taken apart to its leaves, and a later path is followed through the name that a `use`
//! gave it: `use std::time as t; t::Instant::now()` is `std::time::Instant::now`.
//! **Invariant:** a resolved path starts with `crate` exactly when it leads into our own library.
//!
//! Deliberately absent: scopes (a name imported anywhere in a file counts for the whole file, but one imported under
//! `test` counts under `test` only), glob imports, and macro expansion.

use std::collections::BTreeMap;

use crate::scan::{Source, Token, is_run};
use crate::tree::Tree;

/// A path as it leads, from `crate` or from an external crate's name. A glob ends in `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    pub segments: Vec<String>,
    pub line: usize,
    pub is_test: bool,
}

impl Path {
    pub fn text(&self) -> String {
        self.segments.join("::")
    }

    pub fn starts_with(&self, start: &[&str]) -> bool {
        self.segments.len() >= start.len() && self.segments.iter().zip(start).all(|(have, want)| have == want)
    }

    pub fn ends_with(&self, end: &[&str]) -> bool {
        let skipped = self.segments.len().checked_sub(end.len());
        skipped
            .is_some_and(|skipped| self.segments[skipped..].iter().zip(end).all(|(have, want)| have == want))
    }
}

/// Returns all paths of one file of the tree, in the order of the text.
pub fn resolved(tree: &Tree, file: &str, source: &Source<'_>) -> Vec<Path> {
    let written = Reader::read(&source.tokens);
    let mut resolver = Resolver { tree, is_library: file.starts_with("src/"), names: BTreeMap::new() };
    let module = module_of(file);
    let modules: Vec<Vec<String>> =
        written.iter().map(|path| [&module[..], &path.inline[..]].concat()).collect();
    for (path, module) in written.iter().zip(&modules) {
        if let Some(name) = &path.name {
            let target = resolver.rooted(path, module);
            resolver.names.entry(name.clone()).or_default().push((target, path.is_test));
        }
    }
    let mut found = Vec::new();
    for (path, module) in written.iter().zip(&modules) {
        let segments = resolver.follow(resolver.rooted(path, module), path.is_test, path.name.as_deref());
        found.push(Path { segments, line: path.line, is_test: path.is_test });
    }
    found
}

/// Returns the module that a file is, without `crate`: `src/core/mod.rs` is `core`, `src/lib.rs` the empty path.
fn module_of(file: &str) -> Vec<String> {
    let stem = file.trim_end_matches(".rs");
    let mut module: Vec<String> = stem.split('/').skip(1).map(str::to_owned).collect();
    if module.last().is_some_and(|last| last == "mod") || module == ["lib"] {
        module.pop();
    }
    module
}

/// A path as it is written.
struct Written {
    segments: Vec<String>,
    /// The inline modules of the file around it.
    inline: Vec<String>,
    /// The name that a `use` gives it.
    name: Option<String>,
    /// Written with `::` before it: always an external crate.
    is_external: bool,
    line: usize,
    is_test: bool,
}

struct Reader<'s, 'a> {
    tokens: &'s [Token<'a>],
    at: usize,
    found: Vec<Written>,
    /// Open inline modules, each with the depth of braces outside of it.
    inline: Vec<(String, usize)>,
    depth: usize,
}

impl<'s, 'a> Reader<'s, 'a> {
    fn read(tokens: &'s [Token<'a>]) -> Vec<Written> {
        let mut reader = Reader { tokens, at: 0, found: Vec::new(), inline: Vec::new(), depth: 0 };
        while reader.at < tokens.len() {
            reader.step();
        }
        reader.found
    }

    fn step(&mut self) {
        let token = self.tokens[self.at];
        if token.is("use") && !self.is_at(1, "<") {
            self.at += 1;
            self.use_tree(&[], false);
        } else if token.is("extern") && self.is_at(1, "crate") {
            self.at += 2;
            self.use_tree(&[], true);
        } else if token.is("mod") && self.is_at(2, "{") {
            self.inline.push((self.tokens[self.at + 1].text.to_owned(), self.depth));
            self.at += 2;
        } else if token.is_word() && self.is_at(1, "::") {
            self.path();
        } else {
            if token.is("{") {
                self.depth += 1;
            } else if token.is("}") {
                self.depth = self.depth.saturating_sub(1);
                while self.inline.last().is_some_and(|(_, depth)| *depth >= self.depth) {
                    self.inline.pop();
                }
            }
            self.at += 1;
        }
    }

    fn is_at(&self, offset: usize, text: &str) -> bool {
        self.tokens.get(self.at + offset).is_some_and(|token| token.is(text))
    }

    /// Takes a path in code: words joined by `::`, up to generics or the end.
    fn path(&mut self) {
        let start = self.at;
        let mut segments = vec![self.tokens[start].text.to_owned()];
        self.at += 1;
        while self.is_at(0, "::") && self.tokens.get(self.at + 1).is_some_and(Token::is_word) {
            segments.push(self.tokens[self.at + 1].text.to_owned());
            self.at += 2;
        }
        let is_joined = start >= 1 && self.tokens[start - 1].is("::");
        // `<T as Trait>::Item::x` goes on from a type: it names nothing by itself.
        let is_rest = is_joined && start >= 2 && self.tokens[start - 2].is(">");
        if !is_rest {
            self.push(segments, None, is_joined, start);
        }
    }

    /// Takes one branch of a `use` tree, with the segments that lead to it.
    fn use_tree(&mut self, prefix: &[String], is_external: bool) {
        let mut segments = prefix.to_vec();
        let mut is_external = is_external;
        let start = self.at;
        if self.is_at(0, "::") {
            is_external = true;
            self.at += 1;
        }
        while let Some(token) = self.tokens.get(self.at) {
            if token.is("{") {
                self.use_group(&segments, is_external);
                return;
            }
            if !token.is_word() && !token.is("*") {
                break;
            }
            self.at += 1;
            // `{self, …}` names what stands before the group.
            let is_group_itself = token.is("self") && !segments.is_empty();
            if !is_group_itself {
                segments.push(token.text.to_owned());
            }
            if !self.is_at(0, "::") {
                break;
            }
            self.at += 1;
        }
        let mut name = segments.last().cloned();
        if self.is_at(0, "as") {
            name = self.tokens.get(self.at + 1).map(|token| token.text.to_owned());
            self.at += 2;
        }
        self.push(segments, name, is_external, start);
    }

    fn use_group(&mut self, prefix: &[String], is_external: bool) {
        self.at += 1;
        while self.at < self.tokens.len() && !self.is_at(0, "}") {
            let before = self.at;
            self.use_tree(prefix, is_external);
            // Whatever is no branch is passed over: a comma, or text that does not compile.
            if self.is_at(0, ",") || self.at == before {
                self.at += 1;
            }
        }
        self.at += 1;
    }

    fn push(&mut self, segments: Vec<String>, name: Option<String>, is_external: bool, at: usize) {
        let Some(token) = self.tokens.get(at).filter(|_| !segments.is_empty()) else { return };
        let inline = self.inline.iter().map(|(name, _)| name.clone()).collect();
        self.found.push(Written {
            segments,
            inline,
            name,
            is_external,
            line: token.line,
            is_test: token.is_test,
        });
    }
}

struct Resolver<'t> {
    tree: &'t Tree,
    /// In the library `crate` is ours; in `bin` and `tests` ours is `agentmux`.
    is_library: bool,
    /// What each name was imported as, and whether under `test`.
    names: BTreeMap<String, Vec<(Vec<String>, bool)>>,
}

impl Resolver<'_> {
    /// Makes a path start from `crate` or a crate's name, except for names that a `use` gave.
    fn rooted(&self, path: &Written, module: &[String]) -> Vec<String> {
        let first = path.segments[0].as_str();
        if first == "agentmux" || (first == "crate" && self.is_library) {
            return ours(&path.segments[1..]);
        }
        if path.is_external || first == "crate" {
            return path.segments.clone();
        }
        let mut base = module.to_vec();
        let mut rest = &path.segments[..];
        while let Some((step, after)) = rest.split_first()
            && (step == "self" || step == "super")
        {
            if step == "super" {
                base.pop();
            }
            rest = after;
        }
        let is_relative = rest.len() < path.segments.len();
        if self.is_library && (is_relative || self.is_child(&base, first)) {
            return ours(&[&base, rest].concat());
        }
        path.segments.clone()
    }

    /// Follows the names that `use` gave, a few steps deep. A `use` of a name that it gives itself leads out.
    fn follow(&self, segments: Vec<String>, is_test: bool, own_name: Option<&str>) -> Vec<String> {
        let mut segments = segments;
        if own_name == Some(segments[0].as_str()) {
            return segments;
        }
        for _ in 0..8 {
            let targets = self.names.get(&segments[0]);
            let target =
                targets.and_then(|targets| targets.iter().find(|(_, for_test)| is_test || !for_test));
            let Some((target, _)) = target else { break };
            let is_same = target.first() == segments.first();
            segments = [target, &segments[1..]].concat();
            if is_same {
                break;
            }
        }
        segments
    }

    fn is_child(&self, module: &[String], name: &str) -> bool {
        let folder = [&["src".to_owned()], module].concat().join("/");
        self.tree.has(&format!("{folder}/{name}.rs")) || self.tree.has(&format!("{folder}/{name}/mod.rs"))
    }
}

fn ours(rest: &[String]) -> Vec<String> {
    [&["crate".to_owned()], rest].concat()
}

/// Finds the modules that only exist under `test` because of `#[cfg(test)] mod name;`: the start of their paths.
pub fn test_modules(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (file, text) in tree.rust(&["src/"]) {
        let source = Source::scan(text);
        for window in source.tokens.windows(3) {
            if window[0].is_test && is_run(window, &["mod", window[1].text, ";"]) {
                let folder = [vec!["src".to_owned()], module_of(file)].concat().join("/");
                found.push(format!("{folder}/{}", window[1].text));
            }
        }
    }
    found
}

/// True when the file is one of the test modules or lies below one.
pub fn is_test_file(test_modules: &[String], file: &str) -> bool {
    test_modules.iter().any(|module| {
        file.strip_prefix(module.as_str()).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(file: &str, text: &str) -> Vec<String> {
        let tree = Tree::of(&[(file, text), ("src/core/log.rs", ""), ("src/model/mod.rs", "")]);
        resolved(&tree, file, &Source::scan(text)).iter().map(Path::text).collect()
    }

    #[test]
    fn use_trees_are_taken_apart() {
        let text = "use crate::{a::{self, b as c}, d::*}; use ::std::{fs, io}; pub use {x::y, z};";
        let expected = ["crate::a", "crate::a::b", "crate::d::*", "std::fs", "std::io", "x::y", "z"];
        assert_eq!(paths("src/core/mod.rs", text), expected);
    }

    #[test]
    fn super_climbs_from_files_and_from_inline_modules() {
        assert_eq!(
            paths("src/core/request/send.rs", "use super::super::super::relay::x;"),
            ["crate::relay::x"]
        );
        assert_eq!(paths("src/core/request/mod.rs", "use super::super::relay;"), ["crate::relay"]);
        assert_eq!(
            paths("src/core/a.rs", "mod t { use super::b; mod u { use super::super::b; } } use self::c;"),
            ["crate::core::a::b", "crate::core::a::b", "crate::core::a::c"]
        );
        assert_eq!(paths("src/lib.rs", "mod t { fn f() {} } use super::x;"), ["crate::x"]);
    }

    #[test]
    fn code_is_followed_through_imported_names() {
        let text = "use std::time as t; fn f() { t::Instant::now(); Vec::<u8>::new(); <A as B>::c::d(); }";
        assert_eq!(paths("src/core/mod.rs", text), ["std::time", "std::time::Instant::now", "Vec"]);
        assert_eq!(
            paths("src/core/mod.rs", "use std::time; use time::Instant;"),
            ["std::time", "std::time::Instant"]
        );
        assert_eq!(paths("src/core/mod.rs", "fn f() -> ::std::io::Error {}"), ["std::io::Error"]);
        assert_eq!(
            paths("src/relay/mod.rs", "use crate::core; fn f() { core::x() }"),
            ["crate::core", "crate::core::x"]
        );
        assert_eq!(
            paths("src/core/mod.rs", "use log; use t::t; fn f() { t::x(); log::y() }"),
            ["crate::core::log", "t::t", "t::t::x", "crate::core::log::y"]
        );
    }

    #[test]
    fn a_child_module_is_not_a_crate_of_the_same_name() {
        assert_eq!(paths("src/core/mod.rs", "fn f() { log::x() }"), ["crate::core::log::x"]);
        assert_eq!(paths("src/wire/mod.rs", "fn f() { log::x() }"), ["log::x"]);
        assert_eq!(paths("src/lib.rs", "pub use model::Name;"), ["crate::model::Name"]);
    }

    #[test]
    fn a_name_imported_for_tests_means_nothing_elsewhere() {
        let text = "use crate::model::time; #[cfg(test)] mod t { use std::time; } fn f() { time::x() }";
        assert_eq!(paths("src/core/mod.rs", text).last().expect("three paths"), "crate::model::time::x");
    }

    #[test]
    fn outside_of_the_library_ours_is_called_agentmux() {
        assert_eq!(
            paths("bin/agentmux.rs", "use crate::x; fn main() { agentmux::cli::main() }"),
            ["crate::x", "crate::cli::main"]
        );
    }

    #[test]
    fn captured_lifetimes_are_no_imports() {
        assert_eq!(paths("src/core/mod.rs", "fn f<'a>() -> impl A + use<'a> { a::b() }"), ["a::b"]);
    }

    #[test]
    fn a_module_declared_for_tests_is_a_test_file() {
        let tree = Tree::of(&[("src/core/mod.rs", "#[cfg(test)]\nmod tests;\nmod other;")]);
        let modules = test_modules(&tree);
        assert_eq!(modules, ["src/core/tests"]);
        assert!(
            is_test_file(&modules, "src/core/tests.rs") && is_test_file(&modules, "src/core/tests/deep.rs")
        );
        assert!(
            !is_test_file(&modules, "src/core/tests_of.rs") && !is_test_file(&modules, "src/core/other.rs")
        );
    }
}
