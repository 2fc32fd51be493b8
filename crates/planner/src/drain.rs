//! Draining: a backend that is ordered to take nothing, whatever Git declares, until that is ended. Pure.
//!
//! It is put over the declaration before anything is planned, so that a drain travels as every other change of weights does:
//! prepared, in waves and bites, judged, and proven.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use weir_model::{BackendName, BasisPoints, Route, Split, SplitName, Zone, ZoneName, sabotaged};

use crate::facts::ProvenWeights;
use crate::outlook::{Outlook, Phase, Wait};
use crate::plan::{Destination, InKuma, Item, ItemRoute, SplitPlan};
use crate::senses::{Reach, Runs};
use crate::transition::Transit;

/// The zones as they are declared.
type Zones = BTreeMap<ZoneName, Zone>;

/// A backend that is to take nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// Who takes its share; none: the first of its declared fallback that is not drained as well, else the others by their
    /// own shares.
    pub to: Option<BackendName>,
    /// Why, and who says so.
    pub why: String,
}

/// A split as it is to be planned, with no drained refuge.
pub(crate) struct Drained<'a> {
    pub(crate) split: Cow<'a, Split>,
    /// What is told of it; none where the order changes nothing of what is declared.
    pub(crate) why: Option<String>,
    /// Some of it goes its way only after this look, which takes the newest commit back.
    pub(crate) follows: bool,
    /// Why the order cannot be carried out: then nothing of the split moves, whatever comes.
    pub(crate) stuck: Option<String>,
}

/// Puts drains over a split. What goes back at once, from what was before, takes no drain along that has some way to go: that
/// one goes its own way after it, in waves and judged.
pub(crate) fn over<'a>(
    split: &'a Split,
    (drains, zones): (Option<&BTreeMap<BackendName, Drain>>, &Zones),
    reverts_from: Option<&SplitPlan>,
) -> Drained<'a> {
    let mut drained = Drained {
        split: Cow::Borrowed(split),
        why: None,
        follows: false,
        stuck: None,
    };
    let Some(drains) = drains else { return drained };
    let gives = |name: &BackendName| reverts_from.is_none_or(|before| gets_nothing(before, name));
    let other = laid_over(split, (drains, zones), gives);
    // Nothing else would look at it again where it rests with what the revert says.
    drained.follows = reverts_from.is_some() && other != laid_over(split, (drains, zones), |_| true);
    match other {
        Ok(other) if other == *split && !drained.follows => {}
        Ok(other) => {
            let words: Vec<String> = drains
                .iter()
                .map(|(name, drain)| format!("backend {name} is drained: {}", drain.why))
                .collect();
            drained.why = Some(words.join("; ")).filter(|_| !sabotaged("drained-is-converged"));
            drained.split = Cow::Owned(other);
        }
        Err(stuck) => drained.stuck = Some(stuck).filter(|_| !sabotaged("drop-impossible-drains")),
    }
    drained
}

/// A split whose drained backends take nothing; or why that cannot be.
///
/// # Errors
/// In words, for whoever ordered it: nobody is left to take the share, or not for so much.
pub fn without(
    split: &Split,
    (drains, zones): (&BTreeMap<BackendName, Drain>, &Zones),
) -> Result<Split, String> {
    laid_over(split, (drains, zones), |_| true)
}

/// Whether who is to take a share can, if anybody was named.
///
/// # Errors
/// In words: it is no other backend of the split, or drained itself, or in a zone that is detached.
pub fn can_take(
    split: &Split,
    (name, drain): (&BackendName, &Drain),
    (drains, zones): (&BTreeMap<BackendName, Drain>, &Zones),
) -> Result<(), String> {
    let detached = |to: &BackendName| {
        let zone = split
            .backends
            .get(to)
            .and_then(|backend| zones.get(&backend.zone));
        zone.filter(|zone| zone.detached)
    };
    if let Some((to, zone)) = drain.to.as_ref().and_then(|to| Some((to, detached(to)?))) {
        return Err(format!(
            "backend {name} of split {} cannot be drained to {to}: its zone {} is detached, and what is there takes no weight",
            split.name, zone.name
        ));
    }
    match &drain.to {
        Some(to) if !split.backends.contains_key(to) || drains.contains_key(to) => {
            let names: Vec<String> = split.backends.keys().map(ToString::to_string).collect();
            Err(format!(
                "backend {name} of split {} cannot be drained to {to}: it must be another of its backends ({}), and not be drained \
                 itself",
                split.name,
                names.join(", ")
            ))
        }
        _ => Ok(()),
    }
}

/// An item whose drained backends take nothing, by the rules of a split that declares others; or why that cannot be.
pub(crate) fn without_in(
    item: &Item,
    split: &Split,
    (drains, zones): (&BTreeMap<BackendName, Drain>, &Zones),
) -> Result<Item, String> {
    let mut as_declared = split.clone();
    let there = |name: &BackendName| item.destinations.contains_key(name) && !item.retiring.contains(name);
    as_declared.backends.retain(|name, _| there(name));
    let route = |route: &ItemRoute| Route {
        name: route.name.clone(),
        matches: route.matches.clone(),
        weights: route.weights.clone(),
        place: split.place.clone(),
    };
    as_declared.routes = item.routes.iter().map(route).collect();
    let mut item = item.clone();
    for (route, drained) in item
        .routes
        .iter_mut()
        .zip(without(&as_declared, (drains, zones))?.routes)
    {
        route.weights = drained.weights;
    }
    Ok(item)
}

/// Whether no zone is told to send anything to a backend: if it is drained, it may have been stopped.
fn gets_nothing(before: &SplitPlan, name: &BackendName) -> bool {
    let mut items = before.items.values();
    items.all(|item| !item.weighted().contains(name))
}

/// Whether somebody's share may go to a backend, for all that is ordered.
fn may_be_refuge(name: &BackendName, drains: &BTreeMap<BackendName, Drain>) -> bool {
    !drains.contains_key(name) || sabotaged("drained-refuge")
}

/// [`without`], where only these give their shares.
fn laid_over(
    split: &Split,
    (drains, zones): (&BTreeMap<BackendName, Drain>, &Zones),
    gives: impl Fn(&BackendName) -> bool,
) -> Result<Split, String> {
    let mut other = split.clone();
    for route in &mut other.routes {
        for (name, drain) in drains.iter().filter(|(name, _)| gives(name)) {
            let share = route.weights.get(name).copied().unwrap_or(BasisPoints::ZERO);
            if share == BasisPoints::ZERO {
                continue;
            }
            can_take(split, (name, drain), (drains, zones))?;
            let takes = takers(split, &route.weights, (name, drain), drains).ok_or_else(|| {
                format!(
                    "backend {name} of split {} cannot be drained: in route {} nobody else has a share to take it; say who with \
                     --to, or declare other weights",
                    split.name, route.name
                )
            })?;
            route.weights.insert(name.clone(), BasisPoints::ZERO);
            for (to, part) in parts(share, &takes) {
                let has = route.weights.get(&to).copied().unwrap_or(BasisPoints::ZERO);
                let both = BasisPoints::new(has.get() + part).unwrap_or(BasisPoints::WHOLE);
                route.weights.insert(to, both);
            }
        }
    }
    // Nobody's share goes to who may have been stopped.
    for fallback in other.fallback.values_mut() {
        fallback.to.retain(|to| may_be_refuge(to, drains));
    }
    other.fallback.retain(|_, fallback| !fallback.to.is_empty());
    // As where they are declared: of the default route.
    if let (Some(default), Some(was)) = (other.routes.last(), split.routes.last()) {
        for (name, weight) in &default.weights {
            let capacity = split.backends.get(name).and_then(|backend| backend.capacity);
            if let Some(capacity) = capacity
                && *weight > capacity
                && was.weights.get(name) != Some(weight)
            {
                return Err(format!(
                    "backend {name} of split {} would get {weight} %, and is declared for {capacity} % (capacity)",
                    split.name
                ));
            }
        }
    }
    Ok(other)
}

/// Why a drain, which goes by name, cannot be held any longer: what is drained would come back under another name, and get what
/// that one has.
pub(crate) fn renamed(
    before: &SplitPlan,
    wanted: &BTreeMap<ZoneName, Item>,
    drains: &BTreeMap<BackendName, Drain>,
) -> Option<String> {
    fn place<'a>(item: &'a Item, name: &BackendName) -> Option<InKuma<'a>> {
        item.destinations.get(name).map(Destination::in_kuma)
    }
    // Backends are where they are for every zone.
    let wanted = wanted.values().next()?;
    drains.keys().find_map(|drained| {
        let mut items = before.items.values();
        let was = items.find_map(|item| place(item, drained))?;
        let mut names = wanted.destinations.keys();
        let is = names.find(|name| !drains.contains_key(*name) && place(wanted, name) == Some(was))?;
        Some(format!(
            "backend {drained} is drained, and in its place {is} is declared now: `weir undrain` {drained} first, or give the name back"
        ))
    })
}

/// The same of a whole split whose service another one takes over.
pub(crate) fn inherited(heir_of: &SplitName, drains: &BTreeMap<BackendName, Drain>) -> Option<String> {
    let (drained, drain) = drains.first_key_value()?;
    Some(format!(
        "this split takes the place of split {heir_of}, of which backend {drained} is drained ({}): `weir undrain` it first, or give \
         the name back; split {heir_of} stays as it is until then",
        drain.why
    ))
}

/// A refuge that a drain takes out of no table yet: a share may be with it, and without it would fall back to who is down.
pub(crate) struct InUse {
    zone: ZoneName,
    from: BackendName,
    to: BackendName,
    why: String,
}

/// The drained refuges in the tables of before that may have somebody's share. Only a zone that runs its item by proof has
/// no share elsewhere; who cannot be asked may have, whatever it told last.
pub(crate) fn in_use(
    before: &SplitPlan,
    git: &Split,
    zones: &BTreeMap<ZoneName, Zone>,
    (transit, drains): (Transit<'_>, &BTreeMap<BackendName, Drain>),
) -> Vec<InUse> {
    let senses = transit.senses;
    let mut all = Vec::new();
    for (zone, item) in &before.items {
        let drained = item.fallback.iter().flat_map(|(from, fallback)| {
            let of_git = git.fallback.get(from);
            let refuges = fallback.to.iter().map(|refuge| &refuge.backend);
            let declared = move |to: &&BackendName| of_git.is_some_and(|of| of.to.contains(to));
            let drained = refuges.filter(|to| drains.contains_key(*to));
            drained.filter(declared).map(move |to| (from, to))
        });
        let drained: Vec<(&BackendName, &BackendName)> = drained.collect();
        if drained.is_empty() || zones.get(zone).is_none_or(|zone| zone.detached) {
            continue;
        }
        let reach = senses.reach(zone);
        let down = match reach {
            Reach::Reachable => senses.fallen(item),
            _ => BTreeSet::new(),
        };
        let unknown = match (reach, senses.runs(item)) {
            (Reach::Nobody, _) | (Reach::Reachable, Runs::Proven { .. }) => continue,
            (Reach::Reachable, Runs::Not(why)) => why,
            (Reach::Partly(why) | Reach::Unsure(why) | Reach::Unreachable(why), _) => why,
        };
        for (from, to) in drained {
            let stays = format!("{to} stays its refuge there");
            let why = if down.contains(from) {
                format!(
                    "backend {from} is down in zone {zone}, and its share may be with {to}, which is drained: {stays} until {from} \
                     is back; or drain {from} as well, or commit weights without it"
                )
            } else if down.is_empty() {
                format!(
                    "in zone {zone} the share of backend {from} may be with {to}, which is drained: {stays} until the zone proves \
                     that it is not ({unknown})"
                )
            } else {
                continue; // others are down, and all the rest of it runs
            };
            all.push(InUse {
                zone: zone.clone(),
                from: from.clone(),
                to: to.clone(),
                why,
            });
        }
    }
    all
}

/// Takes who is drained out of tables that have all that Git declares, but for refuges in use.
pub(crate) fn strip(
    wanted: &mut BTreeMap<ZoneName, Item>,
    drains: &BTreeMap<BackendName, Drain>,
    in_use: &[InUse],
) {
    for (zone, item) in wanted {
        for (from, fallback) in &mut item.fallback {
            let used = |to: &BackendName| {
                let mut in_use = in_use.iter();
                in_use.any(|used| used.zone == *zone && used.from == *from && used.to == *to)
            };
            fallback
                .to
                .retain(|to| may_be_refuge(&to.backend, drains) || used(&to.backend));
        }
        item.fallback.retain(|_, fallback| !fallback.to.is_empty());
    }
}

/// Who takes a share in a route, and in which proportion; none if nobody can.
fn takers(
    split: &Split,
    weights: &BTreeMap<BackendName, BasisPoints>,
    (name, drain): (&BackendName, &Drain),
    drains: &BTreeMap<BackendName, Drain>,
) -> Option<Vec<(BackendName, u32)>> {
    let stays = |of: &&BackendName| split.backends.contains_key(*of) && !drains.contains_key(*of);
    if let Some(to) = &drain.to {
        return Some(vec![(to.clone(), 1)]);
    }
    let mut refuges = split
        .fallback
        .get(name)
        .into_iter()
        .flat_map(|fallback| &fallback.to);
    if let Some(to) = refuges.find(stays) {
        return Some(vec![(to.clone(), 1)]);
    }
    let others = weights
        .iter()
        .filter(|(of, weight)| weight.get() > 0 && stays(of));
    let others: Vec<_> = others.map(|(of, weight)| (of.clone(), weight.get())).collect();
    (!others.is_empty()).then_some(others)
}

/// A share in whole basis points, in proportion: what is left over goes where most was cut off, by name among equals.
fn parts(share: BasisPoints, takers: &[(BackendName, u32)]) -> Vec<(BackendName, u32)> {
    let sum: u64 = takers.iter().map(|(_, weight)| u64::from(*weight)).sum();
    let exact = |weight: u32| u64::from(share.get()) * u64::from(weight);
    let mut parts: Vec<(BackendName, u32, u64)> = takers
        .iter()
        .map(|(name, weight)| {
            let whole = u32::try_from(exact(*weight) / sum.max(1)).unwrap_or(u32::MAX);
            (name.clone(), whole, exact(*weight) % sum.max(1))
        })
        .collect();
    let given: u32 = parts.iter().map(|(_, part, _)| *part).sum();
    parts.sort_by(|one, other| other.2.cmp(&one.2).then(one.0.cmp(&other.0)));
    let left = usize::try_from(share.get().saturating_sub(given)).unwrap_or(usize::MAX);
    for (_, part, _) in parts.iter_mut().take(left) {
        *part += 1;
    }
    parts.into_iter().map(|(name, part, _)| (name, part)).collect()
}

/// Adds to where a split stands that it is not where Git declares it: at rest so, or on the way there.
/// `follows` where a drain has some way to go that it goes at the next look.
pub(crate) fn told(
    stands: Option<Outlook>,
    (why, follows): (&str, bool),
    git: &Split,
    in_use: &[InUse],
) -> Outlook {
    let declared: ProvenWeights = git
        .routes
        .iter()
        .map(|route| (route.name.clone(), route.weights.clone()))
        .collect();
    let wait = |why: &str| Wait {
        zone: None,
        why: why.to_owned(),
    };
    let used = in_use.iter().map(|used| wait(&used.why));
    match stands {
        Some(stands) if stands.phase == Phase::Quarantined => Outlook {
            declared,
            drained: true,
            ..stands
        },
        Some(stands) => Outlook {
            next: format!("{}; meanwhile {why}", stands.next),
            waits: stands.waits.into_iter().chain(used).collect(),
            declared,
            drained: true,
            ..stands
        },
        None => Outlook {
            declared,
            phase: match (follows, in_use) {
                (true, _) => Phase::Shift,
                (false, []) => Phase::Drained,
                (false, _) => Phase::Held,
            },
            bite: 0,
            bites: 0,
            wave: None,
            waves: Vec::new(),
            waits: used.chain([wait(why)]).collect(),
            next:
                "what Git declares is gone towards when `weir undrain` ends this, or a commit agrees with it"
                    .to_owned(),
            since: None,
            until: None,
            drained: true,
        },
    }
}
