//! A zone whose control plane fails when it is told to, and whose Envoys follow it late. The invariants are asserted at
//! every write.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use weir_drivers::{DriverError, Fault, Observed, Outcome, Sighting, ZoneDriver};
use weir_model::{MeshName, SplitName};
use weir_planner::{Counts, Coverage, Digest, Evidence, Generation, Item, Proof, ServiceFact, Verdict};
use weir_render::{Extent, Held, Kind, Object, Step, extent};

use super::Dice;

/// What a caller's Envoy runs of one policy.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Envoy {
    runs: Option<Extent>,
    /// When it took what it runs.
    since: Duration,
    /// The store was lost: what comes and goes now is not the agent's doing.
    disturbed: bool,
}

/// Kuma brings a change to an Envoy within this time (`kuma.md` R4).
const TICK: Duration = Duration::from_secs(2);
/// For so long connections stay on replaced routes.
const DRAIN: Duration = Duration::from_secs(30);

#[derive(Default)]
pub(crate) struct Zone {
    /// Since the beginning of this life.
    pub(crate) now: Duration,
    /// When an object was last written or removed.
    pub(crate) touched: BTreeMap<(Kind, String), Duration>,
    pub(crate) envoys: BTreeMap<(Kind, String), Envoy>,
    /// Only one agent: then nobody lags behind, and no request may be lost.
    pub(crate) strict: bool,
    pub(crate) store: BTreeMap<(Kind, String), (Object, bool)>,
    pub(crate) services: BTreeMap<(String, String), ServiceFact>,
    /// Every item that was ever planned, by its digest.
    pub(crate) planned: BTreeMap<Digest, Arc<Item>>,
    /// What this zone's control plane ever took, by split.
    pub(crate) applied: BTreeMap<SplitName, BTreeSet<Digest>>,
    /// What was written under one name and generation: always the same bytes.
    pub(crate) bytes: BTreeMap<(String, Generation, bool), String>,
    pub(crate) fault_percent: u64,
    pub(crate) dice: Option<Dice>,
    pub(crate) writes: usize,
}

impl Zone {
    fn fails(&mut self) -> bool {
        let percent = self.fault_percent;
        self.dice.as_mut().unwrap().chance(percent)
    }

    /// Time passes, and Envoys take what the control plane has: some at once, all within [`TICK`].
    pub(crate) fn pass(&mut self, time: Duration, dice: &mut Dice) {
        self.now += time;
        let keys: BTreeSet<_> = self.touched.keys().cloned().collect();
        for key in keys {
            if dice.chance(40) || self.now.saturating_sub(self.touched[&key]) >= TICK {
                self.follow(&key);
            }
        }
    }

    /// Kuma takes clusters before routes that use them, and gives routes before clusters: no Envoy may come to the
    /// weights, or from them, but by way of the anchor; and not from the anchor while connections drain.
    fn follow(&mut self, key: &(Kind, String)) {
        let to = self
            .store
            .get(key)
            .filter(|(_, ours)| *ours)
            .map(|(object, _)| extent(object));
        let now = self.now;
        let envoy = self.envoys.entry(key.clone()).or_default();
        if envoy.runs == to {
            envoy.disturbed &= to != Some(Extent::Whole);
            return;
        }
        if self.strict && !envoy.disturbed {
            match (envoy.runs, to) {
                (None, Some(Extent::Whole)) => panic!("requests lost: {} without its anchor first", key.1),
                (Some(Extent::Whole), None) => panic!("requests lost: {} gone with its weights", key.1),
                (Some(Extent::Anchor), None) => assert!(
                    now - envoy.since >= DRAIN,
                    "requests lost: {} gone while connections drain",
                    key.1
                ),
                _ => {}
            }
        }
        let disturbed = envoy.disturbed && to != Some(Extent::Whole);
        *envoy = Envoy {
            runs: to,
            since: now,
            disturbed,
        };
    }

    pub(crate) fn lose_store(&mut self) {
        self.store.retain(|_, (_, ours)| !*ours);
        for (key, at) in &mut self.touched {
            *at = self.now;
            self.envoys.entry(key.clone()).or_default().disturbed = true;
        }
    }

    fn write(&mut self, key: (Kind, String), object: Option<Object>) {
        self.touched.insert(key.clone(), self.now);
        match object {
            Some(object) => self.store.insert(key, (object, true)),
            None => self.store.remove(&key),
        };
        self.writes += 1;
    }

    fn check_put(&mut self, object: &Object, split: &SplitName, generation: Generation, digest: Digest) {
        let item = Arc::clone(&self.planned[&digest]);
        assert_eq!(item.split, *split);
        // I3: what this zone never had may come only when all that it gives weight to resolves.
        if !self.applied.get(split).is_some_and(|had| had.contains(&digest)) {
            for backend in item.weighted() {
                let to = &item.destinations[backend];
                let key = (to.service.to_string(), to.kuma_zone.to_string());
                assert!(
                    self.services.contains_key(&key),
                    "I3: {split} gives weight to {backend} of {key:?}"
                );
            }
        }
        // I7 and I10: nothing newer, nothing of others.
        if let Some((live, ours)) = self.store.get(&(object.kind, object.name.clone())) {
            assert!(*ours, "I10: {} is not ours", object.name);
            assert!(
                label_generation(live) <= generation,
                "I7: {} went back",
                object.name
            );
        }
        // No lease, so the same bytes.
        // But for the word that a removal leaves on one that stays.
        let mut labels = object.labels.clone();
        labels.remove("weir.dev/plan");
        let bytes = serde_json::to_string(&(&labels, &object.spec)).unwrap();
        let was = self
            .bytes
            .entry((object.name.clone(), generation, extent(object) == Extent::Whole))
            .or_insert_with(|| bytes.clone());
        assert_eq!(*was, bytes, "two agents write {} differently", object.name);
        assert_eq!(item.digest, digest);
    }
}

fn label_generation(object: &Object) -> Generation {
    Generation(object.labels["weir.dev/generation"].parse().unwrap())
}

pub(crate) struct Fake(pub(crate) Arc<Mutex<Zone>>);

fn away(what: &str) -> DriverError {
    DriverError::new(what.to_owned(), "connection refused", Fault::Away, String::new())
}

impl ZoneDriver for Fake {
    fn pulse(&self) -> BoxFuture<'_, Result<String, DriverError>> {
        async { Ok("one".to_owned()) }.boxed()
    }

    fn observe<'a>(
        &'a self,
        _: &'a MeshName,
        _: &'a [Arc<Item>],
    ) -> BoxFuture<'a, Result<Observed, DriverError>> {
        let mut zone = self.0.lock().unwrap();
        let answer = if zone.fails() {
            Err(away("GET"))
        } else {
            Ok(Observed {
                kuma: Some("2.14.3".to_owned()),
                services: zone.services.values().cloned().collect(),
                ours: zone
                    .store
                    .values()
                    .filter(|(_, ours)| *ours)
                    .map(|(object, _)| (object.clone(), label_generation(object)))
                    .collect(),
                second_writers: BTreeMap::new(),
                ..Observed::default()
            })
        };
        async { answer }.boxed()
    }

    fn apply<'a>(&'a self, step: &'a Step) -> BoxFuture<'a, Result<Outcome, DriverError>> {
        let mut zone = self.0.lock().unwrap();
        let answer = if zone.fails() {
            Err(away("PUT"))
        } else {
            let outcome = apply(&mut zone, step);
            // The answer may be lost after the write.
            if zone.fails() {
                Err(away("PUT"))
            } else {
                Ok(outcome)
            }
        };
        async { answer }.boxed()
    }

    fn prove<'a>(&'a self, items: &'a [Arc<Item>]) -> BoxFuture<'a, Vec<Proof>> {
        let mut zone = self.0.lock().unwrap();
        let proofs = items
            .iter()
            .map(|item| {
                let unknown = zone.fails();
                let live = zone.store.values().find(|(object, ours)| {
                    *ours
                        && extent(object) == Extent::Whole
                        && object.labels.get("weir.dev/split").map(String::as_str)
                            == Some(item.split.as_str())
                });
                let exact = live.is_some_and(|(object, _)| {
                    item.digest
                        .to_string()
                        .starts_with(&object.labels["weir.dev/digest"])
                });
                Proof {
                    verdict: match (unknown, exact) {
                        (true, _) => Verdict::Unknown("no answer".to_owned()),
                        (false, true) => Verdict::Exact,
                        (false, false) => Verdict::Different("something else".to_owned()),
                    },
                    evidence: Evidence::Live,
                    at: Timestamp::now(),
                    coverage: Coverage { seen: 1, of: 1 },
                    weights: None,
                    unhealthy: BTreeSet::new(),
                }
            })
            .collect();
        async { proofs }.boxed()
    }

    fn sight<'a>(&'a self, anchors: &'a [Object]) -> BoxFuture<'a, Vec<Sighting>> {
        let mut zone = self.0.lock().unwrap();
        let all: Vec<_> = anchors
            .iter()
            .map(|object| {
                if zone.fails() {
                    return Sighting::default();
                }
                let runs = zone
                    .envoys
                    .get(&(object.kind, object.name.clone()))
                    .and_then(|envoy| envoy.runs);
                Sighting {
                    held: Some(match runs {
                        None => Held::No,
                        Some(Extent::Whole) => Held::Besides,
                        Some(Extent::Anchor) => Held::Alone,
                    }),
                    complete: !zone.fails(),
                }
            })
            .collect();
        async { all }.boxed()
    }

    fn count<'a>(&'a self, items: &'a [Arc<Item>]) -> BoxFuture<'a, Vec<Option<Counts>>> {
        let none = vec![None; items.len()];
        async { none }.boxed()
    }
}

/// What the real driver promises: nothing newer, nothing of others, nothing in force taken back by an introduction.
fn yields(zone: &Zone, object: &Object, generation: Generation, step: &Step) -> bool {
    let key = (object.kind, object.name.clone());
    zone.store.get(&key).is_some_and(|(live, ours)| {
        let whole = extent(live) == Extent::Whole;
        !ours
            || label_generation(live) > generation
            || match step {
                Step::Introduce { .. } => whole,
                Step::Withdraw { .. } => whole && label_generation(live) >= generation,
                Step::Put { .. } | Step::Delete { .. } => false,
            }
    })
}

fn apply(zone: &mut Zone, step: &Step) -> Outcome {
    let done = Outcome::Done { at: Timestamp::now() };
    let left = Outcome::Yielded("left alone".to_owned());
    match step {
        Step::Put {
            object,
            split,
            generation,
            digest,
            ..
        } => {
            if yields(zone, object, *generation, step) {
                return left;
            }
            zone.check_put(object, split, *generation, *digest);
            zone.applied.entry(split.clone()).or_default().insert(*digest);
            zone.write((object.kind, object.name.clone()), Some(object.clone()));
            done
        }
        Step::Introduce {
            object, generation, ..
        }
        | Step::Withdraw {
            object, generation, ..
        } => {
            if yields(zone, object, *generation, step) {
                return left;
            }
            assert_eq!(extent(object), Extent::Anchor);
            assert_eq!(label_generation(object), *generation);
            assert!(
                !object.labels.contains_key("weir.dev/digest"),
                "it gives no weight"
            );
            zone.write((object.kind, object.name.clone()), Some(object.clone()));
            done
        }
        Step::Delete { kind, name, .. } => {
            let key = (*kind, name.clone());
            if let Some((_, ours)) = zone.store.get(&key) {
                assert!(ours, "I10: {name} is not ours");
                zone.write(key, None);
            }
            done
        }
    }
}
