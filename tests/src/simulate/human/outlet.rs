//! Where shares go while their backends are down, as people declare it.

use super::*;

/// One backend's fallback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outlet {
    /// In the order in which they are tried.
    pub(crate) to: Vec<Place>,
    /// In seconds.
    pub(crate) after: u64,
    /// In seconds.
    pub(crate) recover: u64,
}

/// Fallbacks, and what each backend can take at most.
pub(super) type Outlets = (BTreeMap<Place, Outlet>, BTreeMap<Place, u32>);

/// Draws them for a split with these shares of its default route.
pub(super) fn outlets(dice: &mut Dice, backends: &BTreeSet<Place>) -> Outlets {
    let mut fallback = BTreeMap::new();
    let mut capacity = BTreeMap::new();
    if backends.len() < 2 || dice.chance(30) {
        return (fallback, capacity);
    }
    for from in backends {
        if dice.chance(25) {
            continue;
        }
        let mut to: Vec<Place> = backends.iter().copied().filter(|to| to != from).collect();
        if dice.chance(50) {
            to.reverse();
        }
        to.truncate(1 + dice.index(to.len()));
        let outlet = Outlet {
            to,
            after: 1 + dice.below(3),
            recover: if dice.chance(75) { 10 } else { 20 },
        };
        fallback.insert(*from, outlet);
    }
    for backend in backends {
        if dice.chance(30) {
            capacity.insert(
                *backend,
                u32::try_from(dice.between(20, 100)).unwrap_or(100) * 100,
            );
        }
    }
    (fallback, capacity)
}

impl Declared {
    /// No default route may give a backend more than it can take.
    pub(super) fn make_room(&mut self) {
        let Some(route) = self.routes.last() else { return };
        for (backend, capacity) in &mut self.capacity {
            *capacity = (*capacity).max(route.get(backend).copied().unwrap_or_default());
        }
    }
}

/// As it is written.
pub(super) fn text(declared: &Declared) -> String {
    let all = declared.fallback.iter().map(|(from, outlet)| {
        let to: Vec<&str> = outlet.to.iter().map(|to| BACKENDS[*to]).collect();
        format!(
            "{}: {{to: [{}], after: {}s, recover: {}s}}",
            BACKENDS[*from],
            to.join(", "),
            outlet.after,
            outlet.recover
        )
    });
    let all: Vec<String> = all.collect();
    match all.is_empty() {
        true => String::new(),
        false => format!("  fallback: {{{}}}\n", all.join(", ")),
    }
}
