//! The tree that the rules read: a map from path to text, from disk or planted by a test.
//!
//! **Invariant:** paths are relative to the project and use `/`; rules never touch the disk themselves.
//! **Invariant:** a new file counts as soon as it exists, before `git add`; an ignored one never does.
//!
//! Deliberately absent: binary files and symbolic links, which no rule reads.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// Every text file of the project, by path.
#[derive(Default)]
pub struct Tree {
    files: BTreeMap<String, File>,
}

/// One text file.
pub struct File {
    pub text: String,
    pub is_executable: bool,
}

/// One broken rule at one place.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    path: String,
    line: usize,
    what: String,
    instead: String,
}

impl Tree {
    /// Reads the project that this test was compiled from.
    pub fn from_disk() -> Tree {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let paths = listed_by_git(root).unwrap_or_else(|| {
            let mut found = Vec::new();
            walk(root, "", &mut found);
            found
        });
        let mut tree = Tree::default();
        for path in paths {
            if let Some(file) = read(&root.join(&path)) {
                tree.files.insert(path, file);
            }
        }
        assert!(!tree.files.is_empty(), "the source tree is empty: nothing would be checked");
        tree
    }

    /// Builds a small tree for a planted violation; no file of it is executable.
    pub fn of(files: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::default();
        for (path, text) in files {
            let file = File { text: (*text).to_owned(), is_executable: false };
            tree.files.insert((*path).to_owned(), file);
        }
        tree
    }

    /// Sets the executable bits of a planted file.
    pub fn make_executable(mut self, path: &str) -> Tree {
        self.files.get_mut(path).expect("the planted file is in the tree").is_executable = true;
        self
    }

    pub fn files(&self) -> impl Iterator<Item = (&str, &File)> {
        self.files.iter().map(|(path, file)| (path.as_str(), file))
    }

    /// The Rust sources below one of these folders (each ending in `/`).
    pub fn rust(&self, folders: &[&str]) -> impl Iterator<Item = (&str, &str)> {
        self.files()
            .filter(move |(path, _)| {
                path.ends_with(".rs") && folders.iter().any(|folder| path.starts_with(folder))
            })
            .map(|(path, file)| (path, file.text.as_str()))
    }

    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(|file| file.text.as_str())
    }

    pub fn has(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }
}

impl Violation {
    pub fn new(path: &str, line: usize, what: impl Into<String>, instead: impl Into<String>) -> Violation {
        Violation { path: path.to_owned(), line, what: what.into(), instead: instead.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}; {}", self.path, self.line, self.what, self.instead)
    }
}

/// Asserts that exactly these violations were found, each given as `path:line: words`, where the words are the start of
/// what is wrong.
#[track_caller]
pub fn assert_found(mut violations: Vec<Violation>, expected: &[&str]) {
    violations.sort();
    let found: Vec<String> = violations.iter().map(Violation::to_string).collect();
    let matches = found.len() == expected.len()
        && expected.iter().all(|start| found.iter().any(|line| line.starts_with(start)));
    assert!(matches, "expected:\n{}\nfound:\n{}", expected.join("\n"), found.join("\n"));
}

/// Lists tracked and new files; nothing when the project is not in git (an unpacked archive).
fn listed_by_git(root: &Path) -> Option<Vec<String>> {
    let mut git = Command::new("git");
    // A hook sets these for its own repository, which need not be this one.
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        git.env_remove(name);
    }
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(root);
    let output = git.output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    let paths: Vec<String> = text.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect();
    // Inside somebody else's repository that ignores us, git lists nothing.
    if paths.is_empty() { None } else { Some(paths) }
}

fn walk(root: &Path, folder: &str, found: &mut Vec<String>) {
    let entries = fs::read_dir(root.join(folder)).expect("a folder of the project can be listed");
    for entry in entries {
        let entry = entry.expect("an entry of the project can be read");
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        let kind = entry.file_type().expect("an entry of the project has a type");
        if kind.is_file() {
            found.push(path);
        } else if kind.is_dir() && name != "target" && (!name.starts_with('.') || name == ".ci") {
            walk(root, &path, found);
        }
    }
}

/// Reads a text file; nothing for what git lists but is gone, binary, or no regular file.
fn read(path: &Path) -> Option<File> {
    let metadata = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file)?;
    let text = String::from_utf8(fs::read(path).ok()?).ok().filter(|text| !text.contains('\0'))?;
    Some(File { text, is_executable: metadata.permissions().mode() & 0o111 == 0o111 })
}

#[test]
fn the_real_tree_holds_this_file_whether_git_lists_it_or_not() {
    assert!(Tree::from_disk().has("tests/tidy/tree.rs"));
    let mut walked = Vec::new();
    walk(Path::new(env!("CARGO_MANIFEST_DIR")), "", &mut walked);
    assert!(walked.iter().any(|path| path == "tests/tidy/tree.rs"));
    assert!(!walked.iter().any(|path| path.starts_with("target/") || path.starts_with(".git/")));
}

#[test]
fn a_violation_reads_path_line_what_instead() {
    let violation = Violation::new("src/a.rs", 3, "this is wrong", "do that");
    assert_eq!(violation.to_string(), "src/a.rs:3: this is wrong; do that");
}
