//! Rule: arrows point down. A module uses lower floors, itself, and the few same-floor arrows of the table.
//!
//! **Invariant:** every folder of `src` stands in `FLOORS`; a new one gets its floor here before it gets code.
//! **Invariant:** `ARROWS` has no cycle, and joins modules of one floor only.
//!
//! Deliberately absent: an exemption for unit tests. A test that needs a higher floor belongs into `tests/`.

use std::collections::BTreeSet;

use crate::paths::{self, Path};
use crate::scan::Source;
use crate::tree::{Tree, Violation};

/// The folders of `src`, lowest floor first. The binary stands on floor 4 and is held to `cli` alone.
const FLOORS: &[&[&str]] = &[
    &["model", "wire"],
    &["protocol", "core", "transport"],
    &["client", "relay", "store", "boot"],
    &["cli", "mcp", "tui"],
];

/// Who may use whom on one floor.
const ARROWS: &[(&str, &str)] = &[
    ("wire", "model"),
    ("core", "protocol"),
    ("client", "boot"),
    ("relay", "boot"),
    ("relay", "store"),
    ("cli", "mcp"),
];

/// Returns the floor of a folder of `src`.
pub fn floor_of(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

/// Returns the folder of `src` that a file belongs to; nothing for files that lie in no folder.
pub fn top_of(file: &str) -> Option<&str> {
    Some(file.strip_prefix("src/")?.split_once('/')?.0)
}

pub fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = BTreeSet::new();
    for (file, text) in tree.rust(&["src/", "bin/"]) {
        let source = Source::scan(text);
        let top = top_of(file);
        if file.starts_with("src/") && file != "src/lib.rs" && top.and_then(floor_of).is_none() {
            let what = format!("`{}` is no module of the table", top.unwrap_or(file));
            found.insert(Violation::new(
                file,
                1,
                what,
                "give it a floor in tests/tidy/floors.rs, or move it",
            ));
            continue;
        }
        for path in paths::resolved(tree, file, &source) {
            let wrong = match top {
                Some(top) => wrong_arrow(top, &path),
                None if file.starts_with("bin/") => wrong_in_binary(&path),
                // The front door names every floor.
                None => None,
            };
            if let Some((what, instead)) = wrong {
                found.insert(Violation::new(file, path.line, what, instead));
            }
        }
        for run in [&["#", "[", "path"][..], &["include", "!"][..]] {
            for token in source.runs(run) {
                let what = format!("`{}` hides where code comes from", run.concat());
                found.insert(Violation::new(file, token.line, what, "declare a module where it lies"));
            }
        }
    }
    found.into_iter().collect()
}

fn wrong_arrow(top: &str, path: &Path) -> Option<(String, String)> {
    if !path.starts_with(&["crate"]) {
        return None;
    }
    let target = path.segments.get(1).map_or("", String::as_str);
    let (Some(from), Some(to)) = (floor_of(top), floor_of(target)) else {
        let what = format!("`{}` names nothing of the table", path.text());
        return Some((what, "name the module where the thing is defined".to_owned()));
    };
    if target == top || to < from || ARROWS.contains(&(top, target)) {
        return None;
    }
    let what = format!("{top} (floor {from}) uses {target} (floor {to}) as `{}`", path.text());
    let instead = if to > from {
        "arrows point down: move the thing lower, or hand it in from above"
    } else {
        "no such arrow on this floor: move the thing lower, or let the floor above join the two"
    };
    Some((what, instead.to_owned()))
}

fn wrong_in_binary(path: &Path) -> Option<(String, String)> {
    let is_wrong = path.starts_with(&["crate"]) && !path.starts_with(&["crate", "cli"]);
    let what = || format!("the binary uses `{}`", path.text());
    is_wrong.then(|| (what(), "call `agentmux::cli::main` and nothing else".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::assert_found;

    fn found_in(file: &str, text: &str) -> Vec<Violation> {
        check(&Tree::of(&[(file, text)]))
    }

    #[test]
    fn downward_and_listed_arrows_pass() {
        let clean = Tree::of(&[
            ("src/lib.rs", "pub mod cli;\npub mod relay;\npub use relay::Relay;\n"),
            (
                "src/core/mod.rs",
                "use crate::{model::Name, protocol::Request, wire};\nuse self::request::x;\n",
            ),
            (
                "src/core/request/send.rs",
                "use super::super::Ledger;\nuse crate::core::y;\nfn f() { wire::x() }\n",
            ),
            ("src/relay/lap.rs", "use crate::{boot, store::Store, core::Core, transport};\n"),
            (
                "src/client/mod.rs",
                "use crate::boot::start; // not crate::cli::x\nconst A: &str = \"crate::cli::x\";\n",
            ),
            ("src/cli/mod.rs", "use crate::client::Client;\npub(crate) fn f() { crate::store::open() }\n"),
            (
                "bin/agentmux.rs",
                "use std::process::ExitCode;\nfn main() -> ExitCode { agentmux::cli::main() }\n",
            ),
        ]);
        assert_found(check(&clean), &[]);
    }

    #[test]
    fn an_upward_use_is_found_in_every_spelling() {
        let text = "use crate::relay::Relay;\nuse crate::{\n    model,\n    store::{self, Store},\n};\n\
                    use super::super::boot;\nfn f() { crate::cli::x(); }\nuse crate as all;\nfn g() { all::tui::y() }\n";
        assert_found(
            found_in("src/core/sub.rs", text),
            &[
                "src/core/sub.rs:1: core (floor 1) uses relay (floor 2) as `crate::relay::Relay`; arrows point down",
                "src/core/sub.rs:4: core (floor 1) uses store (floor 2) as `crate::store`",
                "src/core/sub.rs:4: core (floor 1) uses store (floor 2) as `crate::store::Store`",
                "src/core/sub.rs:6: core (floor 1) uses boot (floor 2)",
                "src/core/sub.rs:7: core (floor 1) uses cli (floor 3)",
                "src/core/sub.rs:8: `crate` names nothing of the table",
                "src/core/sub.rs:9: core (floor 1) uses tui (floor 3)",
            ],
        );
    }

    #[test]
    fn a_unit_test_is_held_to_the_floors_too() {
        let text = "#[cfg(test)]\nmod tests {\n    use crate::store::Store;\n}\n";
        assert_found(found_in("src/core/mod.rs", text), &["src/core/mod.rs:3: core (floor 1) uses store"]);
    }

    #[test]
    fn a_same_floor_arrow_that_is_not_listed_is_found() {
        let found = found_in("src/store/mod.rs", "\nuse crate::relay;\n");
        assert_found(
            found,
            &["src/store/mod.rs:2: store (floor 2) uses relay (floor 2) as `crate::relay`; no such arrow"],
        );
        assert_found(
            found_in("src/model/mod.rs", "use crate::wire;\n"),
            &["src/model/mod.rs:1: model (floor 0) uses wire"],
        );
        assert_found(
            found_in("src/protocol/a.rs", "use crate::core::B;\n"),
            &["src/protocol/a.rs:1: protocol (floor 1)"],
        );
    }

    #[test]
    fn an_unknown_folder_or_file_is_found() {
        assert_found(
            found_in("src/util/mod.rs", ""),
            &["src/util/mod.rs:1: `util` is no module of the table"],
        );
        assert_found(
            found_in("src/extra.rs", ""),
            &["src/extra.rs:1: `src/extra.rs` is no module of the table"],
        );
    }

    #[test]
    fn the_front_door_defines_nothing_for_the_floors() {
        let found = found_in("src/relay/mod.rs", "use crate::Thing;\n");
        assert_found(found, &["src/relay/mod.rs:1: `crate::Thing` names nothing of the table"]);
    }

    #[test]
    fn the_binary_uses_the_command_line_only() {
        let found =
            found_in("bin/agentmux.rs", "use agentmux::{cli, relay};\nfn main() { agentmux::boot::x() }\n");
        assert_found(
            found,
            &[
                "bin/agentmux.rs:1: the binary uses `crate::relay`",
                "bin/agentmux.rs:2: the binary uses `crate::boot::x`",
            ],
        );
    }

    #[test]
    fn code_that_comes_from_elsewhere_is_found() {
        let text = "#[path = \"../relay/x.rs\"]\nmod x;\ninclude!(\"y.rs\");\n";
        assert_found(
            found_in("src/core/mod.rs", text),
            &["src/core/mod.rs:1: `#[path`", "src/core/mod.rs:3: `include!`"],
        );
    }

    #[test]
    fn the_table_has_no_cycle_and_each_arrow_stays_on_its_floor() {
        for (from, to) in ARROWS {
            assert!(floor_of(from).is_some() && floor_of(from) == floor_of(to), "{from} -> {to}");
        }
        assert!(!has_cycle(ARROWS));
        assert!(has_cycle(&[("a", "b"), ("c", "a"), ("b", "c")]));
    }

    /// Takes away whoever uses nobody that is left, until nobody more can be taken: a rest is a cycle.
    fn has_cycle(arrows: &[(&str, &str)]) -> bool {
        let mut rest = arrows.to_vec();
        loop {
            let before = rest.len();
            let users: Vec<&str> = rest.iter().map(|(from, _)| *from).collect();
            rest.retain(|(_, to)| users.contains(to));
            if rest.len() == before {
                return before > 0;
            }
        }
    }
}
