//! A zone as it really is: what its control plane holds, which MeshServices that sees, and what each of its Envoys runs.
//! This is the ground truth; what it means is read from the policies' own text here, not by Weir's code.

mod door;
mod traffic;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;
use weir_drivers::{DriverError, Fault, Observed, Outcome, Sighting};
use weir_model::{DnsLabel, FederationName, MeshName, Protocol, ServiceName, SplitName, ZoneName};
use weir_planner::{
    Counts, Coverage, Evidence, Generation, Item, Proof, SecondWriter, ServiceFact, ServiceState, Verdict,
};
use weir_render::{Form, Held, Kind, Object, Step, to_document};

use super::world::{SPLITS, ZONES, stamp};
use super::{Dice, Ms};

pub(crate) use traffic::{Outage, Sums, Traffic};

/// What policies are told apart by.
pub(crate) type Key = (Kind, String);
/// A zone by its number: where a destination is. A split has at most one backend in each.
pub(crate) type Place = usize;
/// Shares by route, in basis points; what has none is left out.
pub(crate) type Shares = Vec<BTreeMap<Place, u32>>;

/// Kuma brings a change to an Envoy within this time (`kuma.md` R4).
pub(crate) const TICK: Ms = 2_000;

/// What a policy of ours says, read from its text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Meaning {
    pub(crate) whole: bool,
    pub(crate) split: String,
    pub(crate) generation: u64,
    /// The first half of its item's digest; empty for an anchor alone.
    pub(crate) digest: String,
    pub(crate) commit: String,
    /// The pin whose weights it has.
    pub(crate) pinned: Option<String>,
    /// As written, zeros included.
    pub(crate) routes: Vec<BTreeMap<Place, u32>>,
    /// All that it names, by whatever rule: these clusters stay.
    pub(crate) names: BTreeSet<Place>,
}

fn meaning(object: &Object) -> Meaning {
    let label = |key: &str| object.labels.get(key).cloned().unwrap_or_default();
    let place = |reference: &Value| {
        let zone = reference.pointer("/labels/kuma.io~1zone")?.as_str()?;
        ZONES.iter().position(|name| *name == zone)
    };
    let rules = object.spec.pointer("/to/0/rules").and_then(Value::as_array);
    let mut routes = Vec::new();
    let mut names = BTreeSet::new();
    for rule in rules.into_iter().flatten() {
        let references = rule.pointer("/default/backendRefs").and_then(Value::as_array);
        let references: Vec<(Place, u32)> = references
            .into_iter()
            .flatten()
            .filter_map(|reference| {
                let weight = reference.get("weight").and_then(Value::as_u64).unwrap_or(1);
                Some((place(reference)?, u32::try_from(weight).unwrap_or(u32::MAX)))
            })
            .collect();
        names.extend(references.iter().map(|(place, _)| *place));
        let is_anchor = rule
            .pointer("/matches/0/headers/0/name")
            .is_some_and(|name| name == "x-weir-anchor");
        if !is_anchor {
            let mut route = BTreeMap::new();
            for (place, weight) in references {
                *route.entry(place).or_default() += weight;
            }
            routes.push(route);
        }
    }
    Meaning {
        whole: !routes.is_empty(),
        split: label("weir.dev/split"),
        generation: label("weir.dev/generation").parse().unwrap_or_default(),
        digest: label("weir.dev/digest"),
        commit: label("weir.dev/commit"),
        pinned: object.labels.get("weir.dev/pinned").cloned(),
        routes,
        names,
    }
}

/// A policy in a control plane.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) document: Value,
    /// As the driver reads it: the object and its generation, if it is ours.
    pub(crate) ours: Option<(Object, Generation)>,
    pub(crate) meaning: Arc<Meaning>,
}

/// What an Envoy runs of a policy.
#[derive(Debug, Clone)]
pub(crate) struct Runs {
    pub(crate) meaning: Arc<Meaning>,
    /// Its routes without what its control plane did not resolve (Kuma drops that, and its share goes to the rest).
    pub(crate) shares: Shares,
    pub(crate) since: Ms,
    /// When each backend last had weight here.
    pub(crate) last: BTreeMap<Place, Ms>,
}

/// A caller's proxy.
#[derive(Debug, Clone, Default)]
pub(crate) struct Envoy {
    pub(crate) runs: BTreeMap<Key, Runs>,
    /// Policies that somebody else than an agent took away under it: what comes and goes until all is back is not Weir's.
    pub(crate) disturbed: BTreeSet<Key>,
    /// It does not follow its control plane for now.
    pub(crate) stuck: bool,
    /// Whether it will look at its control plane again, and that is in the queue already.
    pub(crate) looks: bool,
}

/// How a control plane answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    Open,
    /// Nobody there.
    Closed,
    /// Its store is down: 500 to all.
    Broken,
    /// The mesh is gone: nothing can be written.
    NoMesh,
}

/// One call of an agent to its zone.
#[derive(Debug, Clone)]
pub(crate) enum Call {
    Pulse,
    Observe,
    Apply(Box<Step>),
    Prove(Vec<Arc<Item>>),
    Sight(Vec<Object>),
    Count(Vec<Arc<Item>>),
}

/// What came back.
#[derive(Debug)]
pub(crate) enum Answer {
    Pulse(Result<String, DriverError>),
    Observed(Result<Observed, DriverError>),
    Applied(Result<Outcome, DriverError>),
    Proofs(Vec<Proof>),
    Sightings(Vec<Sighting>),
    Counts(Vec<Option<Counts>>),
}

/// Somebody else's policy that outranks ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rival {
    pub(crate) split: String,
    pub(crate) outranks: bool,
}

/// A zone.
#[derive(Debug)]
pub(crate) struct Zone {
    pub(crate) name: ZoneName,
    pub(crate) place: Place,
    pub(crate) store: BTreeMap<Key, Stored>,
    /// By service and place.
    pub(crate) services: BTreeMap<(String, Place), ServiceFact>,
    pub(crate) envoys: Vec<Envoy>,
    pub(crate) door: Door,
    /// Which process of the control plane it is.
    pub(crate) instance: u64,
    /// So many of a hundred calls fail.
    pub(crate) flaky: u64,
    pub(crate) rival: Option<Rival>,
    /// Rises with every change of anything here.
    pub(crate) version: u64,
    /// When each service was last seen to change here.
    changed: BTreeMap<String, Ms>,
    /// By how many agents it is driven.
    pub(crate) agents: usize,
    /// How many zones there are.
    pub(crate) known: usize,
    /// When it is, for what it notes.
    pub(crate) now: Ms,
    /// Applications that ended behind their Envoys, by split and place.
    pub(crate) dead: BTreeSet<(usize, Place)>,
    /// When each backend was last down, to this zone's callers.
    pub(crate) outages: BTreeMap<(usize, Place), Outage>,
    pub(crate) traffic: Traffic,
    federation: FederationName,
}

pub(crate) fn away(what: &str, why: &str, fault: Fault) -> DriverError {
    DriverError::new(what.to_owned(), why.to_owned(), fault, String::new())
}

pub(crate) fn key_of(item: &Item) -> Key {
    let kind = match item.protocol {
        Protocol::Tcp => Kind::MeshTcpRoute,
        Protocol::Http | Protocol::Http2 | Protocol::Grpc => Kind::MeshHttpRoute,
    };
    (kind, format!("weir-{}", item.split))
}

/// The shares that an item asks for.
pub(crate) fn wanted(item: &Item) -> Shares {
    let place = |backend: &weir_model::BackendName| {
        let to = item.destinations.get(backend)?;
        ZONES.iter().position(|name| *name == to.kuma_zone.as_str())
    };
    let route = |route: &weir_planner::ItemRoute| {
        let shares = route.weights.iter();
        shares
            .filter(|(_, weight)| weight.get() > 0)
            .filter_map(|(backend, weight)| Some((place(backend)?, weight.get())))
            .collect()
    };
    item.routes.iter().map(route).collect()
}

impl Zone {
    pub(crate) fn new(
        place: Place,
        envoys: usize,
        agents: usize,
        federation: FederationName,
    ) -> Option<Self> {
        Some(Self {
            name: ZoneName::new(ZONES[place]).ok()?,
            place,
            store: BTreeMap::new(),
            services: BTreeMap::new(),
            envoys: vec![Envoy::default(); envoys],
            door: Door::Open,
            instance: 1,
            flaky: 0,
            rival: None,
            version: 0,
            changed: BTreeMap::new(),
            known: 0,
            now: 0,
            dead: BTreeSet::new(),
            outages: BTreeMap::new(),
            traffic: Traffic::default(),
            agents,
            federation,
        })
    }

    /// The service of a place becomes visible here, changes or vanishes.
    pub(crate) fn sees(&mut self, service: &str, of: Place, state: Option<(ServiceState, Protocol)>) -> bool {
        let mut changed = false;
        if let Some(split) = SPLITS.iter().position(|name| *name == service) {
            self.turn(split, of, |zone| changed = zone.serves(service, of, state));
        }
        changed
    }

    fn serves(&mut self, service: &str, of: Place, state: Option<(ServiceState, Protocol)>) -> bool {
        let key = (service.to_owned(), of);
        let before = self.services.get(&key).cloned();
        match state {
            None => {
                self.services.remove(&key);
            }
            Some((state, speaks)) => {
                let (Ok(name), Ok(zone)) = (ServiceName::new(service), DnsLabel::new(ZONES[of])) else {
                    return false;
                };
                let fact = ServiceFact {
                    service: name,
                    kuma_zone: zone,
                    namespace: None,
                    ports: BTreeMap::from([(8080, Some(speaks))]),
                    port_names: [].into(),
                    state,
                    way: weir_planner::Way::Unknown,
                };
                self.services.insert(key.clone(), fact);
            }
        }
        let changed = self.services.get(&key) != before.as_ref();
        if changed {
            self.version += 1;
            self.changed.insert(service.to_owned(), self.now);
        }
        changed
    }

    /// Since when all places of a service resolve here; none if one does not.
    pub(crate) fn well_since(&self, service: &str) -> Option<Ms> {
        let protocol = super::human::protocol_of(service);
        let all = self.services.keys().filter(|(of, _)| of == service);
        let known = all.clone().count();
        let resolve = all
            .filter(|(_, place)| self.resolves(service, *place, protocol))
            .count();
        (known == resolve && known == self.known)
            .then(|| self.changed.get(service).copied().unwrap_or_default())
    }

    /// Whether this control plane resolves the service of a place to one usable destination.
    pub(crate) fn resolves(&self, service: &str, of: Place, protocol: Protocol) -> bool {
        self.services.get(&(service.to_owned(), of)).is_some_and(|fact| {
            let speaks = fact.ports.get(&8080).copied().flatten();
            let fits = speaks.is_some_and(|speaks| protocol == Protocol::Tcp || speaks != Protocol::Tcp);
            fact.state == ServiceState::Available && fits
        })
    }

    /// Writes or removes without asking whose it is.
    pub(crate) fn store(&mut self, key: Key, object: Option<&Object>) {
        self.version += 1;
        match object {
            Some(object) => {
                let mut document = to_document(object, &Form::Universal);
                if !object.labels.contains_key("weir.dev/split") {
                    document["labels"]["kuma.io/origin"] = Value::from("zone");
                }
                let ours = weir_drivers::kuma::ours(&document, &self.federation);
                let meaning = Arc::new(meaning(object));
                self.store.insert(
                    key,
                    Stored {
                        document,
                        ours,
                        meaning,
                    },
                );
            }
            None => {
                self.store.remove(&key);
            }
        }
    }

    /// The control plane is back with an empty store; what a stranger had there is the stranger's matter.
    pub(crate) fn lose_store(&mut self) {
        self.version += 1;
        self.instance += 1;
        let gone: Vec<Key> = self
            .store
            .iter()
            .filter(|(_, stored)| stored.ours.is_some())
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            self.store.remove(&key);
            for envoy in &mut self.envoys {
                envoy.disturbed.insert(key.clone());
            }
        }
    }

    /// What an Envoy would run of a policy now.
    fn shares(&self, meaning: &Meaning, kind: Kind) -> Shares {
        let protocol = match kind {
            Kind::MeshTcpRoute => Protocol::Tcp,
            Kind::MeshHttpRoute => Protocol::Http,
        };
        // Kuma drops what it does not know or what speaks another protocol; what is merely not available it keeps.
        let known = |place: Place| {
            let fact = self.services.get(&(meaning.split.clone(), place));
            let speaks = fact.and_then(|fact| fact.ports.get(&8080).copied().flatten());
            speaks.is_some_and(|speaks| protocol == Protocol::Tcp || speaks != Protocol::Tcp)
        };
        let route = |route: &BTreeMap<Place, u32>| {
            let all = route
                .iter()
                .filter(|(place, weight)| **weight > 0 && known(**place));
            all.map(|(place, weight)| (*place, *weight)).collect()
        };
        meaning.routes.iter().map(route).collect()
    }

    /// One Envoy comes to what its control plane holds. What changed is returned: the policy, what was run, what is.
    pub(crate) fn follow(&mut self, envoy: usize, now: Ms) -> Vec<(Key, Option<Runs>, Option<Runs>, bool)> {
        let mut changes = Vec::new();
        if self.envoys[envoy].stuck || matches!(self.door, Door::Closed) {
            return changes;
        }
        self.flow();
        let mut keys: BTreeSet<Key> = self.envoys[envoy].runs.keys().cloned().collect();
        let ours = self.store.iter().filter(|(_, stored)| stored.ours.is_some());
        keys.extend(ours.map(|(key, _)| key.clone()));
        for key in keys {
            let stored = self.store.get(&key).filter(|stored| stored.ours.is_some());
            // Without its mesh nothing is configured anew; traffic goes on.
            if self.door == Door::NoMesh {
                continue;
            }
            let to = stored.map(|stored| (Arc::clone(&stored.meaning), self.shares(&stored.meaning, key.0)));
            let whole = to.as_ref().is_some_and(|(meaning, _)| meaning.whole);
            let before = self.envoys[envoy].runs.get(&key).cloned();
            let disturbed = self.envoys[envoy].disturbed.contains(&key);
            let same = match (&before, &to) {
                (None, None) => true,
                (Some(before), Some((meaning, shares))) => {
                    before.shares == *shares
                        && before.meaning.names == meaning.names
                        && before.meaning.whole == meaning.whole
                }
                _ => false,
            };
            if whole {
                self.envoys[envoy].disturbed.remove(&key);
            }
            if same {
                // Labels are no configuration.
                if let (Some(runs), Some((meaning, _))) = (self.envoys[envoy].runs.get_mut(&key), to) {
                    runs.meaning = meaning;
                }
                continue;
            }
            self.version += 1;
            let after = to.map(|(meaning, shares)| {
                let mut last = before.as_ref().map(|runs| runs.last.clone()).unwrap_or_default();
                // What had weight until now had it until now.
                for route in before.iter().flat_map(|runs| &runs.shares) {
                    last.extend(route.keys().map(|place| (*place, now)));
                }
                for route in &shares {
                    last.extend(route.keys().map(|place| (*place, now)));
                }
                Runs {
                    meaning,
                    shares,
                    since: now,
                    last,
                }
            });
            match &after {
                Some(runs) => self.envoys[envoy].runs.insert(key.clone(), runs.clone()),
                None => self.envoys[envoy].runs.remove(&key),
            };
            changes.push((key, before, after, disturbed));
        }
        changes
    }

    /// What all Envoys run for a split's key; none if they differ, or one of them has no whole policy.
    pub(crate) fn truth(&self, key: &Key) -> Option<&Shares> {
        let mut all = self.envoys.iter().map(|envoy| {
            let runs = envoy.runs.get(key)?;
            runs.meaning.whole.then_some(&runs.shares)
        });
        let first = all.next()??;
        all.all(|other| other == Some(first)).then_some(first)
    }

    fn overridden(&self, split: &str) -> bool {
        self.rival
            .as_ref()
            .is_some_and(|rival| rival.outranks && rival.split == split)
    }

    /// Whether the weights of a split hold here and now, for all callers.
    pub(crate) fn runs_exactly(&self, item: &Item) -> bool {
        !self.overridden(item.split.as_str()) && self.truth(&key_of(item)) == Some(&wanted(item))
    }
}

/// A policy of a stranger.
pub(crate) fn stranger(name: &str) -> Option<Object> {
    Some(Object {
        kind: Kind::MeshHttpRoute,
        mesh: MeshName::new("default").ok()?,
        name: name.to_owned(),
        labels: BTreeMap::from([("kuma.io/origin".to_owned(), "zone".to_owned())]),
        spec: serde_json::json!({"targetRef": {"kind": "Mesh"}, "to": []}),
    })
}
