//! Who started whom, as `/proc` shows it: what is an agent's, what lies below a process, which children serve a bundle.
//!
//! **Invariant:** what descends from an agent is an agent's, whatever it drops or forges: its ancestors are asked, too, and a
//! descent that cannot be told counts as one. Ancestors are not lost while a keeper lives (`keeper.rs`).
//!
//! Deliberately absent: who may do what (`core/identity.rs`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::process::{
    all_pids, arguments, carries, environment_of, is_zombie, nonce_of, parent_of, start_ticks,
};
use crate::model::id::Nonce;

/// How the variables begin that a run of the hook gets.
pub const HOOK_PREFIX: &str = "AGENTMUX_HOOK_";

/// How a keeper is called: `agentmux host keep -- PROGRAM ARGUMENT…`.
pub const KEEP: [&str; 3] = ["host", "keep", "--"];

/// Whether the process was started by an agent: it or an ancestor is in `agents` or carries a nonce, whichever bundle's, before one
/// that is a person's.
pub fn descends_from(pid: u32, agents: &[u32], is_persons: impl Fn(u32) -> bool) -> bool {
    let mut at = pid;
    for _ in 0..64 {
        if is_persons(at) {
            return false;
        }
        if agents.contains(&at) || nonce_of(at).is_some() {
            return true;
        }
        match parent_of(at) {
            Some(0 | 1) => return false,
            Some(parent) => at = parent,
            None => return true,
        }
    }
    true
}

/// Every living process below `pid`, each with its parent, but for those that are left out and what is below them.
pub fn offspring(pid: u32, is_left_out: impl Fn(u32) -> bool) -> Vec<(u32, u32)> {
    Families::now().offspring(pid, is_left_out)
}

/// Which processes every process has started, at one moment.
#[derive(Debug)]
pub struct Families(BTreeMap<u32, Vec<u32>>);

impl Families {
    /// Looks at every process once.
    pub fn now() -> Families {
        let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for pid in all_pids() {
            if let Some(parent) = parent_of(pid) {
                children.entry(parent).or_default().push(pid);
            }
        }
        Families(children)
    }

    /// As [`offspring`], at that moment.
    pub fn offspring(&self, pid: u32, is_left_out: impl Fn(u32) -> bool) -> Vec<(u32, u32)> {
        let (mut found, mut open) = (Vec::new(), vec![pid]);
        while let Some(parent) = open.pop() {
            for child in self.0.get(&parent).into_iter().flatten().copied() {
                if !is_left_out(child) {
                    open.push(child);
                    if !is_zombie(child) {
                        found.push((child, parent));
                    }
                }
            }
        }
        found
    }
}

/// Whether the process is a relay, or a keeper of another child than that of `nonce`: an agent's command may have started it, or it
/// may have come to be below one, but it ends for reasons of its own. A name alone does not make one: it runs this very program,
/// and a keeper carries a nonce, so that what it keeps is an agent's wherever it goes.
pub fn stands_alone(pid: u32, nonce: Option<Nonce>) -> bool {
    let words = arguments(pid);
    let is_keeper = || is_host(&words, "keep") && nonce_of(pid).is_some_and(|its| Some(its) != nonce);
    (is_host(&words, "relay") || is_keeper())
        && program_of("self").is_some_and(|ours| program_of(&pid.to_string()) == Some(ours))
}

/// Whether the process was started by a hook.
pub fn is_of_hook(pid: u32) -> bool {
    environment_of(pid).split(|byte| *byte == 0).any(|entry| entry.starts_with(HOOK_PREFIX.as_bytes()))
}

/// The keeper of a child that carries this nonce, or the process itself when it is one.
pub fn keeper_of(pid: u32, nonce: Nonce) -> Option<u32> {
    let is_keeper = |pid: &u32| is_host(&arguments(*pid), "keep") && carries(*pid, nonce);
    Some(pid).filter(is_keeper).or_else(|| parent_of(pid).filter(is_keeper))
}

/// The children of the bundle in `dir`, of this user: who carries a nonce and was told to serve a socket there. While a keeper
/// has no child, or no longer, it stands for it.
pub fn serving(dir: &Path) -> BTreeMap<Nonce, u32> {
    let ours = format!("unix://{}/", dir.display());
    let mut found: BTreeMap<Nonce, ((u8, u64), u32)> = BTreeMap::new();
    for pid in all_pids() {
        let words = arguments(pid);
        if !words.iter().any(|word| word.starts_with(&ours)) {
            continue;
        }
        let Some(nonce) = nonce_of(pid) else { continue };
        let is_kept = parent_of(pid).is_some_and(|parent| keeper_of(parent, nonce) == Some(parent));
        // A keeper that is just starting its child is there twice.
        let rank = match (is_host(&words, "keep"), is_kept) {
            (false, true) => 0,
            (false, false) => 1,
            (true, false) => 2,
            (true, true) => 3,
        };
        let rank = (rank, start_ticks(pid).unwrap_or(u64::MAX));
        if found.get(&nonce).is_none_or(|(best, _)| rank < *best) {
            found.insert(nonce, (rank, pid));
        }
    }
    found.into_iter().map(|(nonce, (_, pid))| (nonce, pid)).collect()
}

fn is_host(words: &[String], what: &str) -> bool {
    words.get(1..3).is_some_and(|words| words == ["host", what])
}

/// The program that a process runs, by the name that it had also when its file has been replaced since.
fn program_of(pid: &str) -> Option<PathBuf> {
    let path = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let name = path.to_str()?;
    Some(PathBuf::from(name.strip_suffix(" (deleted)").unwrap_or(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_below_its_parent() {
        let me = std::process::id();
        let parent = parent_of(me).unwrap();
        let nobody = |_| false;
        assert!(descends_from(me, &[me], nobody) && descends_from(me, &[parent], nobody));
        assert!(!descends_from(me, &[u32::MAX], nobody) && !descends_from(me, &[parent], |pid| pid == me));
        assert!(offspring(parent, |_| false).contains(&(me, parent)));
        assert!(offspring(parent, |pid| pid == me).iter().all(|(pid, _)| *pid != me));
        assert!(!stands_alone(me, None) && !is_of_hook(me) && keeper_of(me, Nonce(7)).is_none());
    }
}
