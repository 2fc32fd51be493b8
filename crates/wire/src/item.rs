//! An item on its way: everything that it makes a zone run, and the digest that proves that nothing changed.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use weir_model::{BackendName, BasisPoints, CommitId, HeaderMatch, Match, PathMatch, QueryMatch, ValueMatch};
use weir_planner::{
    Destination, Digest, Fallback, Generation, Item, ItemRef, ItemRoute, Refuge, item_digest,
};

use crate::gateway::{door_in, door_out};
use crate::scalar::{hash, label, port, protocol, protocol_out, read};
use crate::v1::value_match::Kind;
use crate::{WireError, v1};

impl From<&ItemRef> for v1::ItemRef {
    fn from(item: &ItemRef) -> Self {
        Self {
            split: item.split.to_string(),
            generation: item.generation.0,
            digest: item.digest.0.to_vec(),
        }
    }
}

impl TryFrom<&v1::ItemRef> for ItemRef {
    type Error = WireError;

    fn try_from(item: &v1::ItemRef) -> Result<Self, WireError> {
        Ok(Self {
            split: read("split", &item.split)?,
            generation: Generation(item.generation),
            digest: Digest(hash("digest", &item.digest)?),
        })
    }
}

impl From<&Item> for v1::Item {
    fn from(item: &Item) -> Self {
        Self {
            split: item.split.to_string(),
            zone: item.zone.to_string(),
            kuma_zone: item.kuma_zone.to_string(),
            mesh: item.mesh.to_string(),
            service: item.service.to_string(),
            port: item.port.into(),
            protocol: protocol_out(item.protocol).to_owned(),
            destinations: item.destinations.iter().map(destination_out).collect(),
            retiring: item.retiring.iter().map(ToString::to_string).collect(),
            routes: item.routes.iter().map(v1::Route::from).collect(),
            anchor: item.anchor.clone(),
            generation: item.generation.0,
            commit: item.commit.0.clone(),
            digest: item.digest.0.to_vec(),
            port_names: item.port_names.iter().map(ToString::to_string).collect(),
            fallback: item.fallback.iter().map(fallback_out).collect(),
            doors: item.doors.iter().map(door_out).collect(),
        }
    }
}

/// Refuses an item whose content does not match its digest: damaged, or made by a version that means something else.
impl TryFrom<&v1::Item> for Item {
    type Error = WireError;

    fn try_from(from: &v1::Item) -> Result<Self, WireError> {
        let mut destinations = BTreeMap::new();
        for destination in &from.destinations {
            let (name, there) = destination_in(destination)
                .map_err(|e| e.within(format_args!("destinations[{}]", destination.backend)))?;
            if destinations.insert(name, there).is_some() {
                return Err(twice("destinations", &destination.backend));
            }
        }
        let mut retiring = BTreeSet::new();
        for name in &from.retiring {
            if !retiring.insert(read("retiring", name)?) {
                return Err(twice("retiring", name));
            }
        }
        let mut port_names = BTreeSet::new();
        for name in &from.port_names {
            if !port_names.insert(read("port_names", name)?) {
                return Err(twice("port_names", name));
            }
        }
        let mut fallback = BTreeMap::new();
        for from in &from.fallback {
            let (name, there) =
                fallback_in(from).map_err(|e| e.within(format_args!("fallback[{}]", from.backend)))?;
            if fallback.insert(name, there).is_some() {
                return Err(twice("fallback", &from.backend));
            }
        }
        let mut doors = BTreeMap::new();
        for from in &from.doors {
            let (name, door) =
                door_in(from).map_err(|e| e.within(format_args!("doors[{}]", from.gateway)))?;
            if doors.insert(name, door).is_some() {
                return Err(twice("doors", &from.gateway));
            }
        }
        let routes: Result<_, _> = from
            .routes
            .iter()
            .enumerate()
            .map(|(i, route)| ItemRoute::try_from(route).map_err(|e| e.within(format_args!("routes[{i}]"))))
            .collect();
        let item = Self {
            split: read("split", &from.split)?,
            zone: read("zone", &from.zone)?,
            kuma_zone: read("kuma_zone", &from.kuma_zone)?,
            mesh: read("mesh", &from.mesh)?,
            service: read("service", &from.service)?,
            port: port("port", from.port)?,
            port_names,
            protocol: protocol("protocol", &from.protocol)?,
            destinations,
            retiring,
            routes: routes?,
            anchor: from.anchor.clone(),
            fallback,
            doors,
            generation: Generation(from.generation),
            commit: CommitId(from.commit.clone()),
            digest: Digest(hash("digest", &from.digest)?),
        };
        let computed = item_digest(&item);
        if computed != item.digest {
            return Err(WireError::new(
                "digest",
                format!(
                    "the content is {}, but the message says {}: it was changed on its way, or made by a version that means something else by it",
                    computed.short(),
                    item.digest.short()
                ),
            ));
        }
        Ok(item)
    }
}

fn destination_out((backend, to): (&BackendName, &Destination)) -> v1::Destination {
    v1::Destination {
        backend: backend.to_string(),
        zone: to.zone.to_string(),
        kuma_zone: to.kuma_zone.to_string(),
        namespace: to.namespace.as_ref().map(ToString::to_string).unwrap_or_default(),
        service: to.service.to_string(),
        port: to.port.into(),
    }
}

fn fallback_out((backend, fallback): (&BackendName, &Fallback)) -> v1::Fallback {
    let ms = |duration: SignedDuration| u64::try_from(duration.as_millis()).unwrap_or(0);
    v1::Fallback {
        backend: backend.to_string(),
        to: fallback
            .to
            .iter()
            .map(|refuge| v1::Refuge {
                backend: refuge.backend.to_string(),
                capacity_basis_points: refuge.capacity.map(BasisPoints::get),
            })
            .collect(),
        after_ms: ms(fallback.after),
        recover_ms: ms(fallback.recover),
    }
}

fn fallback_in(from: &v1::Fallback) -> Result<(BackendName, Fallback), WireError> {
    let long = |field: &str, ms: u64| {
        let ms = i64::try_from(ms).map_err(|e| WireError::new(field, e))?;
        Ok::<_, WireError>(SignedDuration::from_millis(ms))
    };
    let refuge = |to: &v1::Refuge| {
        let capacity = to.capacity_basis_points.map(BasisPoints::new).transpose();
        Ok(Refuge {
            backend: read("to", &to.backend)?,
            capacity: capacity.map_err(|e| WireError::new("capacity_basis_points", e))?,
        })
    };
    let to: Result<Vec<Refuge>, WireError> = from.to.iter().map(refuge).collect();
    let there = Fallback {
        to: to?,
        after: long("after_ms", from.after_ms)?,
        recover: long("recover_ms", from.recover_ms)?,
    };
    Ok((read("backend", &from.backend)?, there))
}

fn destination_in(from: &v1::Destination) -> Result<(BackendName, Destination), WireError> {
    let there = Destination {
        zone: read("zone", &from.zone)?,
        kuma_zone: read("kuma_zone", &from.kuma_zone)?,
        namespace: label("namespace", &from.namespace)?,
        service: read("service", &from.service)?,
        port: port("port", from.port)?,
    };
    Ok((read("backend", &from.backend)?, there))
}

pub(crate) fn weights_out(weights: &BTreeMap<BackendName, BasisPoints>) -> Vec<v1::Weight> {
    let out = |(backend, weight): (&BackendName, &BasisPoints)| v1::Weight {
        backend: backend.to_string(),
        basis_points: weight.get(),
    };
    weights.iter().map(out).collect()
}

pub(crate) fn weights(from: &[v1::Weight]) -> Result<BTreeMap<BackendName, BasisPoints>, WireError> {
    let mut weights = BTreeMap::new();
    for weight in from {
        let field = format!("weights[{}]", weight.backend);
        let share = BasisPoints::new(weight.basis_points).map_err(|e| WireError::new(&field, e))?;
        if weights.insert(read(&field, &weight.backend)?, share).is_some() {
            return Err(twice("weights", &weight.backend));
        }
    }
    Ok(weights)
}

pub(crate) fn twice(field: &str, name: &str) -> WireError {
    WireError::new(field, format!("`{name}` is named twice"))
}

impl From<&ItemRoute> for v1::Route {
    fn from(route: &ItemRoute) -> Self {
        Self {
            name: route.name.to_string(),
            r#match: Some(v1::Match::from(&route.matches)),
            weights: weights_out(&route.weights),
        }
    }
}

impl TryFrom<&v1::Route> for ItemRoute {
    type Error = WireError;

    fn try_from(route: &v1::Route) -> Result<Self, WireError> {
        let matches = match &route.r#match {
            None => Match::ANY,
            Some(matches) => Match::try_from(matches).map_err(|e| e.within("match"))?,
        };
        Ok(Self {
            name: read("name", &route.name)?,
            matches,
            weights: weights(&route.weights)?,
        })
    }
}

fn value_out(value: &ValueMatch) -> v1::ValueMatch {
    let kind = match value {
        ValueMatch::Exact(text) => Kind::Exact(text.clone()),
        ValueMatch::Regex(text) => Kind::Regex(text.clone()),
    };
    v1::ValueMatch { kind: Some(kind) }
}

fn value_in(field: &str, from: Option<&v1::ValueMatch>) -> Result<ValueMatch, WireError> {
    match from.and_then(|value| value.kind.as_ref()) {
        Some(Kind::Exact(text)) => Ok(ValueMatch::Exact(text.clone())),
        Some(Kind::Regex(text)) => Ok(ValueMatch::Regex(text.clone())),
        Some(Kind::Prefix(_)) => Err(WireError::new(field, "only a path is matched by prefix")),
        // A kind that we do not know must not become a match of everything.
        None => Err(WireError::new(field, "it is not said how the value is matched")),
    }
}

impl From<&Match> for v1::Match {
    fn from(from: &Match) -> Self {
        let path = from.path.as_ref().map(|path| v1::ValueMatch {
            kind: Some(match path {
                PathMatch::Exact(text) => Kind::Exact(text.clone()),
                PathMatch::Prefix(text) => Kind::Prefix(text.clone()),
                PathMatch::Regex(text) => Kind::Regex(text.clone()),
            }),
        });
        let named = |name: &String, value: &ValueMatch| v1::NamedMatch {
            name: name.clone(),
            value: Some(value_out(value)),
        };
        Self {
            path,
            method: from.method.clone().unwrap_or_default(),
            headers: from.headers.iter().map(|h| named(&h.name, &h.value)).collect(),
            query: from.query.iter().map(|q| named(&q.name, &q.value)).collect(),
        }
    }
}

impl TryFrom<&v1::Match> for Match {
    type Error = WireError;

    fn try_from(from: &v1::Match) -> Result<Self, WireError> {
        let path = match &from.path {
            None => None,
            Some(path) => Some(match &path.kind {
                Some(Kind::Exact(text)) => PathMatch::Exact(text.clone()),
                Some(Kind::Prefix(text)) => PathMatch::Prefix(text.clone()),
                Some(Kind::Regex(text)) => PathMatch::Regex(text.clone()),
                None => return Err(WireError::new("path", "it is not said how the path is matched")),
            }),
        };
        let headers: Result<_, _> = from
            .headers
            .iter()
            .map(|h| {
                Ok(HeaderMatch {
                    name: h.name.clone(),
                    value: value_in("headers", h.value.as_ref())?,
                })
            })
            .collect();
        let query: Result<_, _> = from
            .query
            .iter()
            .map(|q| {
                Ok(QueryMatch {
                    name: q.name.clone(),
                    value: value_in("query", q.value.as_ref())?,
                })
            })
            .collect();
        Ok(Self {
            path,
            method: Some(from.method.clone()).filter(|m| !m.is_empty()),
            headers: headers?,
            query: query?,
        })
    }
}
