//! Names of sessions and bundles: their grammar, and which known names are nearest to an unknown one.
//!
//! **Invariant:** a `Name` or `BundleName` that exists has passed its grammar, so it is safe as one path component.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The person's name; it has an inbox like any session.
pub const OPERATOR: &str = "operator";
/// The sender of mail from a connection that is neither a session nor the person.
pub const OUTSIDE: &str = "outside";
/// The sender of notices.
pub const SYSTEM: &str = "system";
/// Names that no session may have.
pub const RESERVED: [&str; 4] = [OPERATOR, OUTSIDE, SYSTEM, "all"];

/// A name that mail can be addressed to: `[a-z][a-z0-9_-]{0,31}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// A bundle's name: `[a-z0-9][a-z0-9._-]{0,63}`, derived ones with `~` and six hex digits behind it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BundleName(Arc<str>);

impl Name {
    /// Checks `text` against the grammar of session names.
    pub fn parse(text: &str) -> Option<Name> {
        let mut chars = text.chars();
        let first = chars.next().is_some_and(|c| c.is_ascii_lowercase());
        let rest = chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-');
        (first && rest && text.len() <= 32).then(|| Name(text.into()))
    }

    /// The operator's name.
    pub fn operator() -> Name {
        Name(OPERATOR.into())
    }

    /// The name that notices come from.
    pub fn system() -> Name {
        Name(SYSTEM.into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether no session may have this name.
    pub fn is_reserved(&self) -> bool {
        RESERVED.contains(&self.as_str())
    }
}

impl BundleName {
    /// Checks `text` against the grammar of bundle names that a person may give.
    pub fn parse(text: &str) -> Option<BundleName> {
        let mut chars = text.chars();
        let first = chars.next().is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let rest = chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c));
        (first && rest && text.len() <= 64).then(|| BundleName(text.into()))
    }

    /// Checks `text` against the grammar of given or derived names.
    pub fn parse_any(text: &str) -> Option<BundleName> {
        let Some((given, hash)) = text.split_once('~') else { return BundleName::parse(text) };
        let hash_ok = hash.len() == 6 && hash.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c));
        (hash_ok && BundleName::parse(given).is_some()).then(|| BundleName(text.into()))
    }

    /// Derives a name from a project root: its last component cut to the grammar, `~`, six hex digits of the path's hash.
    pub fn derive(real_path: &str) -> BundleName {
        let last = real_path.rsplit('/').find(|part| !part.is_empty()).unwrap_or("root");
        let cut: String = last
            .to_lowercase()
            .chars()
            .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c) { c } else { '-' })
            .collect::<String>()
            .trim_start_matches(['.', '_', '-'])
            .chars()
            .take(57)
            .collect();
        let cut = if cut.is_empty() { "project".to_owned() } else { cut };
        BundleName(format!("{cut}~{:06x}", super::hash::fnv1a(real_path.as_bytes()) & 0xff_ffff).into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns up to three known names nearest to `wanted`, nearest first, none farther than half its length.
pub fn nearest<'a>(wanted: &str, known: impl Iterator<Item = &'a str>) -> Vec<String> {
    let limit = (wanted.chars().count() / 2).clamp(1, 4);
    let mut near: Vec<(usize, &str)> = known
        .map(|name| {
            let related = name.starts_with(wanted) || wanted.starts_with(name);
            (if related { 1 } else { distance(wanted, name) }, name)
        })
        .filter(|(far, _)| *far <= limit)
        .collect();
    near.sort();
    near.into_iter().take(3).map(|(_, name)| name.to_owned()).collect()
}

/// The edit distance of two short texts; two letters that changed places are one edit, as the fingers make it.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let a: Vec<char> = a.chars().take(64).collect();
    let (mut before, mut above): (Vec<usize>, Vec<usize>) = (Vec::new(), (0..=b.len()).collect());
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut least = (above[j] + usize::from(x != y)).min(row[j] + 1).min(above[j + 1] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        (before, above) = (above, row);
    }
    above[b.len()]
}

macro_rules! text_of {
    ($type:ty, $parse:path, $what:literal) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                let text = String::deserialize(deserializer)?;
                $parse(&text).ok_or_else(|| serde::de::Error::custom($what))
            }
        }
    };
}
text_of!(Name, Name::parse, "not a session name");
text_of!(BundleName, BundleName::parse_any, "not a bundle name");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_that_changed_places_are_near() {
        let near = |wanted: &str| nearest(wanted, ["dir", "model", "sandbox"].into_iter());
        assert_eq!(near("dri"), ["dir"]);
        assert_eq!(near("snadbox"), ["sandbox"]);
        assert!(near("xyz").is_empty());
    }

    #[test]
    fn names_are_safe_path_components() {
        for good in ["a", "reviewer", "web-2_x", &"a".repeat(32)] {
            assert!(Name::parse(good).is_some(), "{good}");
        }
        for bad in ["", "..", ".", "/x", "a/b", "A", "1a", "-a", "a\0", "ä", "a b", &"a".repeat(33)] {
            assert!(Name::parse(bad).is_none(), "{bad:?}");
        }
        for bad in ["", "..", "a/b", ".x", "~", "a~123456", &"a".repeat(65)] {
            assert!(BundleName::parse(bad).is_none(), "{bad:?}");
        }
        assert!(BundleName::parse_any("a~12ab56").is_some());
        assert!(BundleName::parse_any("a~12ab5x").is_none());
    }

    #[test]
    fn derived_names_fit_the_grammar_and_tell_paths_apart() {
        for path in ["/", "/srv/Web App", "/x/.hidden", "/x/ÄÖÜ", &format!("/{}", "y".repeat(300))] {
            let name = BundleName::derive(path);
            assert_eq!(BundleName::parse_any(name.as_str()).as_ref(), Some(&name), "{path}");
        }
        assert_ne!(BundleName::derive("/a/web"), BundleName::derive("/b/web"));
    }

    #[test]
    fn the_nearest_names_are_suggested_nearest_first() {
        let known = ["reviewer", "tester", "lead"];
        assert_eq!(nearest("reviwer", known.into_iter()), ["reviewer"]);
        assert_eq!(nearest("review", known.into_iter()), ["reviewer"]);
        assert_eq!(nearest("zzzzzzzz", known.into_iter()), Vec::<String>::new());
    }
}
