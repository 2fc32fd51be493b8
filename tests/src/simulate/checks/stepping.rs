//! On what a step may be taken: proof of the waves before it, no freeze; and what one may be taken back for.

use std::collections::{BTreeMap, BTreeSet};

use weir_planner::{Digest, Leg, Orders, Plan, Reach, SplitPlan};

use super::{Invariant, asked, of_split};
use crate::simulate::world::{World, ZONES};
use crate::simulate::zone::{Place, Shares, key_of};

/// Where a shift goes, in how many bites, and which bite and wave of it are taken.
type Taken = (Digest, u32, u32, u32);

fn shift(of: &SplitPlan) -> Option<Taken> {
    let motion = of.course.as_ref()?.motion.as_ref()?;
    match &motion.leg {
        // The last wave of all is no step: no share changes.
        Leg::Shift { wave: u32::MAX, .. } | Leg::Return { .. } => None,
        Leg::Shift { bites, bite, wave } => Some((motion.to, *bites, *bite, *wave)),
    }
}

/// Without zeros.
pub(super) fn weighted(shares: &Shares) -> Shares {
    let route = |route: &BTreeMap<Place, u32>| {
        let all = route.iter().filter(|(_, weight)| **weight > 0);
        all.map(|(place, weight)| (*place, *weight)).collect()
    };
    shares.iter().map(route).collect()
}

impl World {
    /// What one split takes of a plan that was made of `parent`; `declared` are the splits that the commits in force freeze.
    pub(super) fn check_step(
        &mut self,
        (parent, was): (Option<&Plan>, Option<&SplitPlan>),
        is: &SplitPlan,
        (orders, reverts): (&Orders, bool),
        declared: &BTreeSet<usize>,
    ) {
        let Some(name) = is.items.values().next().map(|item| item.split.clone()) else {
            return;
        };
        let (now, taken) = (self.now, shift(is));
        let news = taken.filter(|taken| was.and_then(shift) != Some(*taken));
        let frozen = orders.all_frozen.is_some()
            || orders.frozen.contains_key(&name)
            || declared.contains(&of_split(name.as_str()));
        if frozen && !reverts {
            // Where there is no plan yet, nothing is moved by the first.
            let moves = news.is_some() || (was.is_none() && parent.is_some());
            self.checks.hold(Invariant::I8, now, !moves, || {
                format!("{name} is frozen, and takes {taken:?}")
            });
        }
        self.check_way_back(name.as_str(), news, (orders.aborts.contains_key(&name), reverts));
        if let (Some(parent), Some(was), Some(taken)) = (parent, was, news) {
            self.check_wave(parent, was, taken);
        }
        self.check_blame(name.as_str(), was, is);
        if news.is_some() {
            self.checks.stepped.insert(name.to_string(), now);
        }
    }

    /// I8: what a plan takes back, it takes back at once: it begins no shift, and goes on with none.
    fn check_way_back(&mut self, name: &str, news: Option<Taken>, (aborted, reverts): (bool, bool)) {
        let mut back = self.checks.revert.iter();
        let reverted =
            reverts && back.any(|back| back.commit.is_some() && back.splits.contains_key(&of_split(name)));
        if aborted || reverted {
            let now = self.now;
            let what = if aborted { "abort" } else { "revert" };
            self.checks.hold(Invariant::I8, now, news.is_none(), || {
                format!("{name} takes {news:?} by the {what}, instead of going back at once")
            });
        }
    }

    /// I5: a later wave is taken when all callers of the earlier ones run this bite, as far as they can be reached.
    fn check_wave(&mut self, parent: &Plan, was: &SplitPlan, taken: Taken) {
        let now = self.now;
        let Some(before) =
            shift(was).filter(|before| (before.0, before.1, before.2) == (taken.0, taken.1, taken.2))
        else {
            return;
        };
        let Some(motion) = was.course.as_ref().and_then(|course| course.motion.as_ref()) else {
            return;
        };
        let detached = self.detached();
        for (zone, item) in &was.items {
            let Some(z) = ZONES.iter().position(|name| *name == zone.as_str()) else {
                continue;
            };
            let tree = self.repository.tree_of(&item.commit);
            // What is detached by the newest commit is waited for no more.
            let waited = !detached.contains(zone);
            let earlier = tree
                .is_some_and(|tree| u64::from(before.3) >= tree.wave(z) as u64 && tree.detached != Some(z));
            let moved = motion
                .from
                .get(zone)
                .is_some_and(|from| from.reference() != item.reference());
            let key = key_of(item);
            let here = &self.zones[z];
            let split = of_split(item.split.as_str());
            let well = here
                .well_since(item.split.as_str())
                .is_some_and(|since| since + 30_000 <= now);
            let reached = matches!(self.coordinator.reach(parent, zone, now), Reach::Reachable);
            let touched = self.checks.tampered.contains(&(z, key.clone()))
                || here.troubled(60_000)
                || self.pinned_in(z, split)
                || self.checks.history_lost;
            if !waited || !earlier || !moved || !well || !reached || touched {
                continue;
            }
            let wanted = weighted(&asked(item));
            let behind = here.envoys.iter().find_map(|envoy| {
                if envoy.disturbed.contains(&key) {
                    return None;
                }
                let runs = envoy.runs.get(&key)?;
                let free = runs.meaning.whole && runs.meaning.pinned.is_none();
                (free && weighted(&runs.meaning.routes) != wanted).then(|| runs.meaning.routes.clone())
            });
            self.checks.hold(Invariant::I5, now, behind.is_none(), || {
                format!(
                    "wave {} of bite {} of {} is taken, while {zone} of an earlier one runs {behind:?}, not {wanted:?}",
                    taken.3, taken.2, item.split
                )
            });
        }
    }

    /// I1: a step is taken back for slow answers only where somebody was slow since it was taken.
    fn check_blame(&mut self, name: &str, was: Option<&SplitPlan>, is: &SplitPlan) {
        let why = |of: &SplitPlan| match &of.course.as_ref()?.motion.as_ref()?.leg {
            Leg::Return { why } if why.contains("take longer than") => Some(why.clone()),
            Leg::Return { .. } | Leg::Shift { .. } => None,
        };
        let Some(blamed) = why(is).filter(|blamed| was.and_then(why).as_ref() != Some(blamed)) else {
            return;
        };
        self.checks.blamed += 1;
        let now = self.now;
        let since = self.checks.stepped.get(name).copied().unwrap_or_default();
        let split = of_split(name);
        let mut slow = self.checks.slow.iter();
        let was_slow = slow.any(|((of, _), until)| *of == split && until.is_none_or(|until| until >= since));
        self.checks.hold(Invariant::I1, now, was_slow, || {
            format!("{name} is taken back, and nobody was slow since its step at {since} ms: {blamed}")
        });
    }
}
