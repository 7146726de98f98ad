//! Which bundle a command means, where its state is, and which rule said so.
//!
//! `--bundle` > `AGENTMUX_BUNDLE` > nearest `agentmux.toml` upwards > the git repository (all worktrees share one) > the current
//! directory. State: `--state-dir` > `AGENTMUX_STATE_DIR` > `$XDG_STATE_HOME/agentmux` > `~/.local/state/agentmux`.
//!
//! **Invariant:** the answer depends on the account and the project only, never on a temporary or runtime directory.

use std::path::{Path, PathBuf};

use super::project::{PROJECT_FILE, ProjectFile};
use crate::model::fault::Fault;
use crate::model::name::BundleName;

/// A bundle, and why this one.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// Its name.
    pub name: BundleName,
    /// The project's root, by its real path.
    pub root: PathBuf,
    /// The rule that chose it.
    pub rule: &'static str,
    /// The project's file, if there is one here or above; it counts also when the bundle is named by hand.
    pub project: Option<ProjectFile>,
}

/// Rules by which a person names a bundle, wherever the command is run.
pub const NAMED_BY_HAND: [&str; 2] = ["--bundle", "AGENTMUX_BUNDLE"];

/// Finds the bundle for a command run in `dir`.
///
/// # Errors
/// `usage` when a given name is outside the grammar or a file does not parse.
pub fn discover(flag: Option<&str>, variable: Option<&str>, dir: &Path) -> Result<Bundle, Fault> {
    discover_with(flag, variable, dir, |file| ProjectFile::read(file).map(Some))
}

/// As [`discover`], as if the project had no file.
///
/// # Errors
/// As there, but for the file.
pub fn discover_without_file(
    flag: Option<&str>,
    variable: Option<&str>,
    dir: &Path,
) -> Result<Bundle, Fault> {
    discover_with(flag, variable, dir, |_| Ok(None))
}

fn discover_with(
    flag: Option<&str>,
    variable: Option<&str>,
    dir: &Path,
    read: impl FnOnce(PathBuf) -> Result<Option<ProjectFile>, Fault>,
) -> Result<Bundle, Fault> {
    let refused = |why: &str| Fault::usage(format!("directory refused: {} {why}", dir.display()));
    let real = std::fs::canonicalize(dir).map_err(|error| refused(&format!("cannot be used: {error}")))?;
    let dir = if real.is_dir() { real } else { return Err(refused("is no directory")) };
    let tree = dir.ancestors().find_map(|tree| Some((tree.to_owned(), repository_at(tree)?)));
    let root = tree.as_ref().map_or_else(|| dir.clone(), |(_, main)| main.clone());
    let file = dir.ancestors().map(|dir| dir.join(PROJECT_FILE)).find(|file| file.is_file());
    let project = file.map(read).transpose()?.flatten();
    let by_hand = [flag, variable.filter(|name| !name.is_empty())];
    if let Some((name, rule)) =
        by_hand.into_iter().zip(NAMED_BY_HAND).find_map(|(name, rule)| Some((name?, rule)))
    {
        return Ok(Bundle { name: given(name)?, root, rule, project });
    }
    if let Some(file) = project {
        // A file inside a repository is that repository's, in each of its worktrees; one above it is about more than that.
        let within = tree.as_ref().and_then(|(tree, main)| Some((main, file.dir().strip_prefix(tree).ok()?)));
        let (root, place) = match within {
            Some((main, below)) => (main.clone(), main.join(below)),
            None => (file.dir().to_owned(), file.dir().to_owned()),
        };
        let name = match &file.config.bundle {
            Some(name) => given(name)?,
            None => BundleName::derive(&place.components().as_path().to_string_lossy()),
        };
        return Ok(Bundle { name, root, rule: PROJECT_FILE, project: Some(file) });
    }
    let rule = if tree.is_some() { "git repository" } else { "directory" };
    Ok(Bundle { name: BundleName::derive(&root.to_string_lossy()), root, rule, project: None })
}

/// Where all bundles keep their state, and why there.
#[derive(Debug, Clone)]
pub struct StateRoot {
    /// The directory, absolute.
    pub path: PathBuf,
    /// The rule that chose it.
    pub rule: &'static str,
}

/// Where all bundles of this account keep their state, for a command that acts in `dir`.
///
/// # Errors
/// `usage` when there is neither a variable nor a home.
pub fn state_root(flag: Option<&Path>, dir: &Path) -> Result<StateRoot, Fault> {
    let set = |key: &str| std::env::var_os(key).filter(|value| !value.is_empty()).map(PathBuf::from);
    let root = choose_state_root(flag, set, home);
    let root = root.ok_or_else(|| {
        Fault::usage("state directory not found: this account has no home").hint("name one: --state-dir DIR")
    })?;
    let path = std::path::absolute(dir.join(&root.path))
        .map_err(|error| Fault::usage(format!("state directory refused: {error}")))?;
    match path.to_str() {
        Some(_) => Ok(StateRoot { path, ..root }),
        None => Err(Fault::usage("state directory refused: its path is not UTF-8")),
    }
}

fn choose_state_root(
    flag: Option<&Path>,
    set: impl Fn(&str) -> Option<PathBuf>,
    home: impl FnOnce() -> Option<PathBuf>,
) -> Option<StateRoot> {
    if let Some(path) = flag {
        return Some(StateRoot { path: path.to_owned(), rule: "--state-dir" });
    }
    if let Some(path) = set("AGENTMUX_STATE_DIR") {
        return Some(StateRoot { path, rule: "AGENTMUX_STATE_DIR" });
    }
    // A relative one would name another place in every directory; the XDG rule is to ignore it.
    let (base, rule) = match set("XDG_STATE_HOME").filter(|base| base.is_absolute()) {
        Some(base) => (base, "XDG_STATE_HOME"),
        None => (home()?.join(".local/state"), "home"),
    };
    Some(StateRoot { path: base.join("agentmux"), rule })
}

/// The account's home: `$HOME` when that is a whole path, else the one of the passwd entry.
pub fn home() -> Option<PathBuf> {
    let set = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    set.or_else(|| nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.dir))
}

fn given(name: &str) -> Result<BundleName, Fault> {
    BundleName::parse_any(name).ok_or_else(|| {
        let quoted: String = name.chars().take(40).flat_map(char::escape_debug).collect();
        Fault::usage(format!("bundle refused: `{quoted}` is not a bundle name"))
            .hint("a name is a lower-case letter or digit, then up to 63 lower-case letters, digits, `.`, `_` or `-`")
    })
}

/// The main checkout of the repository whose work tree begins at `dir`; follows the `.git` file of a linked worktree.
fn repository_at(dir: &Path) -> Option<PathBuf> {
    let git = dir.join(".git");
    if git.is_dir() {
        return git.join("HEAD").exists().then(|| dir.to_owned());
    }
    let text = std::fs::read_to_string(&git).ok()?;
    let git_dir = dir.join(text.strip_prefix("gitdir:")?.trim());
    let common = match std::fs::read_to_string(git_dir.join("commondir")) {
        Ok(common) => git_dir.join(common.trim()),
        Err(_) => git_dir,
    };
    let common = std::fs::canonicalize(common).ok()?;
    if common.file_name().is_some_and(|name| name == ".git") {
        common.parent().map(Path::to_owned)
    } else {
        Some(common)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linked_worktree_shares_the_bundle_of_its_repository() {
        let root = tempfile::tempdir().unwrap();
        let (main, tree) = (root.path().join("main"), root.path().join("tree"));
        std::fs::create_dir_all(main.join(".git/worktrees/tree")).unwrap();
        std::fs::create_dir_all(tree.join("deep")).unwrap();
        std::fs::write(main.join(".git/HEAD"), "ref: refs/heads/main\n").unwrap();
        std::fs::write(main.join(".git/worktrees/tree/commondir"), "../..\n").unwrap();
        std::fs::write(
            tree.join(".git"),
            format!("gitdir: {}\n", main.join(".git/worktrees/tree").display()),
        )
        .unwrap();
        let (a, b) =
            (discover(None, None, &main).unwrap(), discover(None, None, &tree.join("deep")).unwrap());
        assert_eq!((a.name.as_str(), a.rule), (b.name.as_str(), "git repository"));
        assert!(a.name.as_str().starts_with("main~"));
    }

    /// LK-13: without a variable it is the account's home, be it of `$HOME` or of passwd, and never a temporary directory.
    #[test]
    fn the_state_root_follows_the_account() {
        let of = |flag: Option<&str>, variables: &[(&str, &str)], home: Option<&str>| {
            let set = |key: &str| {
                variables.iter().find(|(name, _)| *name == key).map(|(_, value)| PathBuf::from(value))
            };
            choose_state_root(flag.map(Path::new), set, || home.map(PathBuf::from))
                .map(|root| (root.path.display().to_string(), root.rule))
        };
        let temporary = [("TMPDIR", "/t"), ("XDG_RUNTIME_DIR", "/run/user/1")];
        let xdg = [("XDG_STATE_HOME", "/x")];
        let both = [("XDG_STATE_HOME", "/x"), ("AGENTMUX_STATE_DIR", "/s")];
        let is = |path: &str, rule| Some((path.to_owned(), rule));
        assert_eq!(of(None, &temporary, Some("/h")), is("/h/.local/state/agentmux", "home"));
        assert_eq!(of(None, &temporary, None), None);
        assert_eq!(of(None, &xdg, None), is("/x/agentmux", "XDG_STATE_HOME"));
        assert_eq!(of(None, &both, Some("/h")), is("/s", "AGENTMUX_STATE_DIR"));
        assert_eq!(of(Some("/f"), &both, Some("/h")), is("/f", "--state-dir"));
        let relative = [("XDG_STATE_HOME", "state")];
        assert_eq!(of(None, &relative, Some("/h")), is("/h/.local/state/agentmux", "home"));
    }

    /// Two projects below one file are one bundle, whichever of them the command is run in.
    #[test]
    fn a_file_above_repositories_joins_them_and_one_inside_is_its_repositorys() {
        let root = tempfile::tempdir().unwrap();
        let real = root.path().canonicalize().unwrap();
        for repository in ["one", "two"] {
            std::fs::create_dir_all(real.join(repository).join(".git")).unwrap();
            std::fs::write(real.join(repository).join(".git/HEAD"), "ref: refs/heads/main\n").unwrap();
        }
        std::fs::create_dir_all(real.join("one/part/deep")).unwrap();
        std::fs::write(real.join(PROJECT_FILE), "").unwrap();
        let of = |dir: &str| discover(None, None, &real.join(dir)).unwrap();
        let all = of("");
        for below in ["one", "one/part/deep", "two"] {
            assert_eq!((of(below).name, of(below).root), (all.name.clone(), real.clone()), "{below}");
        }
        std::fs::write(real.join("one").join(PROJECT_FILE), "").unwrap();
        let one = of("one/part/deep");
        assert_eq!((one.root, one.rule), (real.join("one"), PROJECT_FILE));
        std::fs::write(real.join("one/part").join(PROJECT_FILE), "").unwrap();
        let part = of("one/part/deep");
        assert_eq!(part.root, real.join("one"));
        assert!(part.name.as_str().starts_with("part~") && part.name != of("one").name, "{}", part.name);
    }

    #[test]
    fn the_nearest_rule_wins() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(discover(None, None, root.path()).unwrap().rule, "directory");
        std::fs::write(root.path().join(PROJECT_FILE), "bundle = \"web\"\n").unwrap();
        let found = discover(None, None, root.path()).unwrap();
        assert_eq!((found.name.as_str(), found.rule), ("web", PROJECT_FILE));
        assert_eq!(discover(None, Some("env"), root.path()).unwrap().rule, "AGENTMUX_BUNDLE");
        assert_eq!(discover(Some("flag"), Some("env"), root.path()).unwrap().rule, "--bundle");
        std::fs::write(root.path().join(PROJECT_FILE), "bundle = = 1\n").unwrap();
        let fault = discover(None, None, root.path()).unwrap_err();
        assert!(fault.message.contains("line 1: `bundle = = 1`"), "{fault:?}");
    }
}
