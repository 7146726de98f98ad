//! Circles of askers: agents that wait, one for the other, for answers that none of them can give meanwhile.
//!
//! **Invariant:** nobody waits in a circle: the wait that would close one is refused, and says who waits for whom.

use std::collections::BTreeSet;

use super::Core;
use super::conn::Identity;
use crate::model::fault::Fault;
use crate::model::name::Name;

impl Core {
    /// The refusal of the wait of a session, or of an agent with a name, for an answer of others who wait, one for the other, for an
    /// answer of its own.
    pub(super) fn circle_refusal(&self, what: &str, by: &Identity, on: &[Name]) -> Option<Fault> {
        if !by.is_agent() {
            return None;
        }
        let agents = self.askers().filter(|(identity, _)| identity.is_agent());
        let waits_on: Vec<(&Name, &Name)> = agents.map(|(identity, to)| (&identity.name, to)).collect();
        let circle = circle(&waits_on, &by.name, on)?;
        let names: Vec<&str> = circle.iter().map(|name| name.as_str()).collect();
        Some(
            Fault::refused(format!("{what} refused: each would wait for the next: {}", names.join(" → ")))
                .hint("write without waiting: agentmux send"),
        )
    }
}

/// The way from `from` over those in `on` back to `from`, if those who wait make one.
fn circle<'a>(waits_on: &[(&'a Name, &'a Name)], from: &'a Name, on: &'a [Name]) -> Option<Vec<&'a Name>> {
    let mut ways: Vec<Vec<&Name>> = on.iter().map(|name| vec![from, name]).collect();
    let mut seen: BTreeSet<&Name> = on.iter().collect();
    while let Some(way) = ways.pop() {
        let last = way.last().copied()?;
        if last == from {
            return Some(way);
        }
        for (_, next) in waits_on.iter().filter(|(waiter, _)| *waiter == last) {
            if *next == from || seen.insert(next) {
                ways.push(way.iter().copied().chain([*next]).collect());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circle_of_askers_is_found_and_named_in_order() {
        let name = |text: &str| Name::parse(text).unwrap();
        let (a, b, c, d) = (name("a"), name("b"), name("c"), name("d"));
        let waits = [(&b, &c), (&c, &d), (&d, &b), (&c, &a)];
        let on = [b.clone()];
        assert_eq!(circle(&waits, &a, &on), Some(vec![&a, &b, &c, &a]));
        assert_eq!(circle(&waits[..3], &a, &on), None, "a circle of others is theirs");
        assert_eq!(circle(&[], &a, &on), None);
        assert_eq!(circle(&[(&b, &a)], &a, &[c.clone(), b.clone()]), Some(vec![&a, &b, &a]));
    }
}
