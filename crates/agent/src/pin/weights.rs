//! Weights as people give them to a pin, and put on an item's route.

use std::collections::BTreeMap;

use weir_model::{BackendName, BasisPoints, RouteName};
use weir_planner::Item;

use super::NotPinned;

/// Weights of one route.
pub type Weights = BTreeMap<BackendName, BasisPoints>;

/// Reads `vm=80,eks=20`: per cent with at most two decimals, exactly 100 in all.
///
/// # Errors
/// What is wrong with it.
pub fn weights(text: &str) -> Result<Weights, String> {
    let mut weights = Weights::new();
    for part in text.split(',') {
        let (backend, share) = part
            .split_once('=')
            .ok_or_else(|| format!("`{part}` is not BACKEND=PER CENT, as in vm=80,eks=20"))?;
        let backend = BackendName::new(backend.trim()).map_err(|error| format!("`{backend}`: {error}"))?;
        let weight = BasisPoints::from_percent_text(share.trim())
            .map_err(|error| format!("the weight `{share}` of {backend}: {error}"))?;
        if weights.insert(backend.clone(), weight).is_some() {
            return Err(format!("{backend} is named twice"));
        }
    }
    whole(&weights)?;
    Ok(weights)
}

/// Weights as for plans: exactly 100 per cent.
pub(super) fn whole(weights: &Weights) -> Result<(), String> {
    let sum: u32 = weights.values().map(|weight| weight.get()).sum();
    if sum == BasisPoints::WHOLE.get() {
        return Ok(());
    }
    let (units, hundredths) = (sum / 100, sum % 100);
    Err(format!(
        "the weights add up to {units}.{hundredths:02} %, not to 100 %"
    ))
}

/// For people: `vm 80 %, eks 20 %`.
pub fn shares(weights: &Weights) -> String {
    let shares: Vec<String> = weights
        .iter()
        .map(|(backend, weight)| format!("{backend} {weight} %"))
        .collect();
    shares.join(", ")
}

pub(super) fn list<T: ToString>(names: impl IntoIterator<Item = T>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| name.to_string()).collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

/// Sets the weights of one route of an item; what the route has then.
pub(super) fn set(item: &mut Item, route: &RouteName, weights: &Weights) -> Result<Weights, NotPinned> {
    let split = &item.split;
    whole(weights).map_err(NotPinned::Weights)?;
    if let Some(backend) = weights
        .keys()
        .find(|backend| !item.destinations.contains_key(*backend))
    {
        return Err(NotPinned::Backend {
            split: split.clone(),
            backend: backend.clone(),
            backends: list(item.destinations.keys()),
        });
    }
    let names = list(item.routes.iter().map(|route| &route.name));
    let Some(chosen) = item.routes.iter_mut().find(|is| is.name == *route) else {
        return Err(NotPinned::Route {
            split: split.clone(),
            route: route.clone(),
            routes: names,
        });
    };
    // What was named before is named on, with 0: a reference that goes takes its cluster along where no anchor holds it.
    for weight in chosen.weights.values_mut() {
        *weight = BasisPoints::ZERO;
    }
    chosen
        .weights
        .extend(weights.iter().map(|(backend, weight)| (backend.clone(), *weight)));
    let has = chosen.weights.clone();
    item.retiring.retain(|backend| !weights.contains_key(backend));
    Ok(has)
}
