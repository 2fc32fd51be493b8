//! Draining: a backend that is ordered to take nothing, whatever Git declares, until that is ended. Pure.
//!
//! It is put over the declaration before anything is planned, so that a drain travels as every other change of weights does:
//! prepared, in waves and bites, judged, and proven.

use std::borrow::Cow;
use std::collections::BTreeMap;

use weir_model::{BackendName, BasisPoints, Split, ZoneName, sabotaged};

use crate::facts::ProvenWeights;
use crate::outlook::{Outlook, Phase, Wait};
use crate::plan::{Item, SplitPlan};
use crate::transition::Transit;

/// A backend that is to take nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// Who takes its share; none: the first of its declared fallback that is not drained as well, else the others by their
    /// own shares.
    pub to: Option<BackendName>,
    /// Why, and who says so.
    pub why: String,
}

/// A split as it is to be planned.
pub(crate) struct Drained<'a> {
    pub(crate) split: Cow<'a, Split>,
    /// What is told of it; none where the order changes nothing of what is declared.
    pub(crate) why: Option<String>,
    /// Why the order cannot be carried out: then nothing of the split moves, whatever comes.
    pub(crate) stuck: Option<String>,
}

/// Puts drains over a split.
pub(crate) fn over<'a>(split: &'a Split, drains: Option<&BTreeMap<BackendName, Drain>>) -> Drained<'a> {
    let mut drained = Drained {
        split: Cow::Borrowed(split),
        why: None,
        stuck: None,
    };
    let Some(drains) = drains else { return drained };
    match without(split, drains) {
        Ok(other) if other == *split => {}
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
pub fn without(split: &Split, drains: &BTreeMap<BackendName, Drain>) -> Result<Split, String> {
    let mut other = split.clone();
    for route in &mut other.routes {
        for (name, drain) in drains {
            let share = route.weights.get(name).copied().unwrap_or(BasisPoints::ZERO);
            if share == BasisPoints::ZERO {
                continue;
            }
            if let Some(to) = &drain.to
                && (!split.backends.contains_key(to) || drains.contains_key(to))
            {
                let names: Vec<String> = split.backends.keys().map(ToString::to_string).collect();
                return Err(format!(
                    "backend {name} of split {} cannot be drained to {to}: it must be another of its backends ({}), and not be \
                     drained itself",
                    split.name,
                    names.join(", ")
                ));
            }
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
        fallback
            .to
            .retain(|to| !drains.contains_key(to) || sabotaged("drained-refuge"));
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

/// Why a drain has to wait: it would take the refuge of a backend out of the table that is down somewhere, with its share there.
/// To take it away would give the share back to who is down.
pub(crate) fn refuge_in_use(
    before: &SplitPlan,
    wanted: &BTreeMap<ZoneName, Item>,
    (transit, drains): (Transit<'_>, &BTreeMap<BackendName, Drain>),
    why: &str,
) -> Option<String> {
    before.items.iter().find_map(|(zone, item)| {
        let wanted = wanted.get(zone)?;
        let loses = |down: &BackendName| item.fallback.get(down) != wanted.fallback.get(down);
        let down = transit.senses.fallen(item).into_iter();
        let down = down.filter(|down| !drains.contains_key(down)).find(loses)?;
        Some(format!(
            "backend {down} is down in zone {zone}, and its share may be with who is drained ({why}): drain {down} as well, or \
             commit weights without it, or wait until it is back"
        ))
    })
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
pub(crate) fn told(stands: Option<Outlook>, why: &str, git: &Split) -> Outlook {
    let declared: ProvenWeights = git
        .routes
        .iter()
        .map(|route| (route.name.clone(), route.weights.clone()))
        .collect();
    let wait = Wait {
        zone: None,
        why: why.to_owned(),
    };
    match stands {
        Some(stands) if stands.phase == Phase::Quarantined => Outlook { declared, ..stands },
        Some(stands) => Outlook {
            next: format!("{}; meanwhile {why}", stands.next),
            declared,
            ..stands
        },
        None => Outlook {
            declared,
            phase: Phase::Drained,
            bite: 0,
            bites: 0,
            wave: None,
            waves: Vec::new(),
            waits: vec![wait],
            next:
                "what Git declares is gone towards when `weir undrain` ends this, or a commit agrees with it"
                    .to_owned(),
            since: None,
            until: None,
        },
    }
}
