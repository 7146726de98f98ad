//! Versions of Codex: which is the oldest that agentmux drives.

/// Oldest Codex that we drive: client ids, reconnecting screens, recognisable operator messages.
pub const CODEX_MIN: &str = "0.157.0";

/// Newest Codex that the tests of this version ran with (`scripts/tools`).
pub const CODEX_TESTED: &str = "0.169.0";

/// Reads the three numbers of a version such as `0.169.0` or `0.170.0-alpha.2`.
pub fn numbers(version: &str) -> Option<[u32; 3]> {
    let numbers: Vec<u32> = version.split(['.', '-']).map_while(|part| part.parse().ok()).take(3).collect();
    numbers.try_into().ok()
}

/// The sentence for a Codex that is too old; `None` for one that is new enough or does not say.
pub fn codex_too_old(version: &str) -> Option<String> {
    let old = numbers(version)? < numbers(CODEX_MIN)?;
    old.then(|| format!("found Codex {version}, agentmux needs {CODEX_MIN} or newer"))
}

/// Whether nobody has tried this Codex with this version of agentmux.
pub fn codex_is_untested(version: &str) -> bool {
    numbers(version) > numbers(CODEX_TESTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert!(codex_too_old("0.156.9").is_some_and(|why| why.contains("0.157.0 or newer")));
        assert!(codex_too_old("0.99.0").is_some());
        for fine in ["0.157.0", "0.169.0", "1.0.0", "0.200.0-alpha.3", ""] {
            assert_eq!(codex_too_old(fine), None, "{fine}");
        }
        assert!(codex_is_untested("1.0.0") && !codex_is_untested(CODEX_TESTED) && !codex_is_untested(""));
    }
}
