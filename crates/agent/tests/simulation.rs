//! Seeded random lives of a zone's agents against a fake zone: plans that change, come late or again, control planes that
//! fail at each call, lose their store, or lose the answer; backends that come and go; agents that restart and forget;
//! strangers who write. The invariants are asserted at every single write. A failure names its seed.

#![expect(clippy::unwrap_used, reason = "a test: what is not there ends it")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use futures::executor::block_on;
use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::time::Instant;
use weir_agent::activation::activate;
use weir_agent::anchors::Anchors;
use weir_agent::decide::decide;
use weir_agent::take::{Memory, NotTaken, Offer, judge};
use weir_drivers::{DriverError, Fault, Observed, Outcome, Sighting, ZoneDriver};
use weir_model::{
    BackendName, BasisPoints, CommitId, DnsLabel, FederationName, Match, MeshName, Protocol, RouteName,
    ServiceName, SplitName, ZoneName,
};
use weir_planner::{
    Counts, Coverage, Destination, Digest, Evidence, Generation, Item, ItemRoute, ItemState, PlanId, Proof,
    ServiceFact, ServiceState, Verdict, ZoneFacts, ZonePlan, anchor, item_digest,
};
use weir_render::{Extent, Form, Held, Kind, Object, Options, Step, extent, render};

const OPTIONS: Options = Options { anchored: true };

/// SplitMix64: small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

fn federation() -> FederationName {
    FederationName::new("shop").unwrap()
}

fn zone() -> ZoneName {
    ZoneName::new("fra").unwrap()
}

const BACKENDS: [(&str, &str); 3] = [("vm", "fra"), ("cloud", "ams"), ("lab", "par")];

fn service_fact(split: &str, zone: &str) -> ServiceFact {
    ServiceFact {
        service: ServiceName::new(split).unwrap(),
        kuma_zone: DnsLabel::new(zone).unwrap(),
        namespace: None,
        ports: BTreeMap::from([(8080, Some(Protocol::Http))]),
        port_names: [].into(),
        state: ServiceState::Available,
    }
}

fn item(split: &str, weights: [u32; 3], generation: u64) -> Item {
    let name = SplitName::new(split).unwrap();
    let mut item = Item {
        anchor: anchor(&federation(), &name),
        split: name,
        zone: zone(),
        kuma_zone: DnsLabel::new("fra").unwrap(),
        mesh: MeshName::new("default").unwrap(),
        service: ServiceName::new(split).unwrap(),
        port: 8080,
        port_names: [].into(),
        protocol: Protocol::Http,
        destinations: BACKENDS
            .iter()
            .map(|(backend, zone)| {
                (
                    BackendName::new(*backend).unwrap(),
                    Destination {
                        zone: ZoneName::new(*zone).unwrap(),
                        kuma_zone: DnsLabel::new(*zone).unwrap(),
                        namespace: None,
                        service: ServiceName::new(split).unwrap(),
                        port: 8080,
                    },
                )
            })
            .collect(),
        retiring: BTreeSet::new(),
        routes: vec![ItemRoute {
            name: RouteName::new("default").unwrap(),
            matches: Match::default(),
            weights: BACKENDS
                .iter()
                .zip(weights)
                .map(|((backend, _), w)| (BackendName::new(*backend).unwrap(), BasisPoints::new(w).unwrap()))
                .collect(),
        }],
        generation: Generation(generation),
        commit: CommitId("0123456789abcdef0123456789abcdef01234567".to_owned()),
        digest: Digest([0; 32]),
    };
    item.digest = item_digest(&item);
    item
}

fn plan(generation: u64, items: impl IntoIterator<Item = Arc<Item>>) -> ZonePlan {
    let items: BTreeMap<_, _> = items.into_iter().map(|item| (item.split.clone(), item)).collect();
    let mut id = [0; 32];
    id[..8].copy_from_slice(&generation.to_le_bytes());
    ZonePlan {
        federation: federation(),
        zone: zone(),
        kuma_zone: DnsLabel::new("fra").unwrap(),
        mesh: MeshName::new("default").unwrap(),
        plan: PlanId(id),
        generation: Generation(generation),
        commits: Vec::new(),
        items,
    }
}

/// The next plan: some split changes, comes or goes.
fn next_plan(before: &ZonePlan, dice: &mut Dice) -> ZonePlan {
    let generation = before.generation.0 + 1 + dice.below(3);
    let mut items = before.items.clone();
    let split = ["checkout", "cart", "search"][usize::try_from(dice.below(3)).unwrap()];
    let name = SplitName::new(split).unwrap();
    if dice.chance(15) {
        items.remove(&name);
    } else {
        let a = u32::try_from(dice.below(11)).unwrap() * 1000;
        let b = if dice.chance(30) {
            (10_000 - a) / 2
        } else {
            10_000 - a
        };
        let fresh = item(split, [a, b, 10_000 - a - b], generation);
        // Nothing that changes nothing: an item keeps its generation as long as its content.
        if items.get(&name).is_none_or(|old| old.digest != fresh.digest) {
            items.insert(name, Arc::new(fresh));
        }
    }
    plan(generation, items.into_values())
}

/// What a caller's Envoy runs of one policy.
#[derive(Debug, Clone, Copy, Default)]
struct Envoy {
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
struct Zone {
    /// Since the beginning of this life.
    now: Duration,
    /// When an object was last written or removed.
    touched: BTreeMap<(Kind, String), Duration>,
    envoys: BTreeMap<(Kind, String), Envoy>,
    /// Only one agent: then nobody lags behind, and no request may be lost.
    strict: bool,
    store: BTreeMap<(Kind, String), (Object, bool)>,
    services: BTreeMap<(String, String), ServiceFact>,
    /// Every item that was ever planned, by its digest.
    planned: BTreeMap<Digest, Arc<Item>>,
    /// What this zone's control plane ever took, by split.
    applied: BTreeMap<SplitName, BTreeSet<Digest>>,
    /// What was written under one name and generation: always the same bytes.
    bytes: BTreeMap<(String, Generation, bool), String>,
    fault_percent: u64,
    dice: Option<Dice>,
    writes: usize,
}

impl Zone {
    fn fails(&mut self) -> bool {
        let percent = self.fault_percent;
        self.dice.as_mut().unwrap().chance(percent)
    }

    /// Time passes, and Envoys take what the control plane has: some at once, all within [`TICK`].
    fn pass(&mut self, time: Duration, dice: &mut Dice) {
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

    fn lose_store(&mut self) {
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

struct Fake(Arc<Mutex<Zone>>);

fn away(what: &str) -> DriverError {
    DriverError {
        what: what.to_owned(),
        why: "connection refused".to_owned(),
        fault: Fault::Away,
        help: String::new(),
    }
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

/// One agent: what it has in memory, and what is on its disk.
#[derive(Default)]
struct Agent {
    plan: Option<ZonePlan>,
    memory: Memory,
    facts: Option<ZoneFacts>,
    taken: Generation,
    anchors: Anchors,
}

impl Agent {
    fn offer(&mut self, plan: &ZonePlan) {
        match judge(&federation(), &zone(), self.plan.as_ref(), &self.memory, plan) {
            Ok(Offer::Newer) => {
                assert!(plan.generation >= self.taken, "I7: an older plan was taken");
                self.taken = plan.generation;
                self.memory.highest = self.memory.highest.max(plan.generation);
                self.plan = Some(plan.clone());
            }
            Ok(Offer::Held) => assert_eq!(self.plan.as_ref(), Some(plan)),
            Err(NotTaken::Older { .. } | NotTaken::Item { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }

    fn activate(&mut self, driver: &Fake, begin: Instant) {
        let Some(plan) = &self.plan else { return };
        let now = begin + driver.0.lock().unwrap().now;
        let (memory, anchors) = (&self.memory, &mut self.anchors);
        let done = block_on(activate(
            driver,
            plan,
            memory,
            OPTIONS,
            self.facts.as_ref(),
            anchors,
            now,
        ));
        self.memory = done.memory;
        self.facts = Some(done.facts);
    }
}

fn life(seed: u64, agents: usize) -> usize {
    let mut dice = Dice(seed);
    let shared = Arc::new(Mutex::new(Zone {
        dice: Some(Dice(seed ^ 0xFEED)),
        fault_percent: 25,
        strict: agents == 1,
        ..Zone::default()
    }));
    let driver = Fake(Arc::clone(&shared));
    let begin = Instant::now();
    let mut agents: Vec<Agent> = std::iter::repeat_with(Agent::default).take(agents).collect();
    let mut plans = vec![plan(1, [])];
    // A stranger's policy, and one that has the name that we would use.
    let stranger = Object {
        kind: Kind::MeshHttpRoute,
        mesh: MeshName::new("default").unwrap(),
        name: if seed.is_multiple_of(2) {
            "weir-search"
        } else {
            "canary"
        }
        .to_owned(),
        labels: BTreeMap::from([("kuma.io/origin".to_owned(), "zone".to_owned())]),
        spec: serde_json::json!({"to": []}),
    };
    let stranger_key = (stranger.kind, stranger.name.clone());
    shared
        .lock()
        .unwrap()
        .store
        .insert(stranger_key.clone(), (stranger.clone(), false));
    for split in ["checkout", "cart", "search"] {
        for (_, of) in BACKENDS {
            let key = (split.to_owned(), of.to_owned());
            let fact = service_fact(split, of);
            shared.lock().unwrap().services.insert(key, fact);
        }
    }
    for _ in 0..80 {
        let who = usize::try_from(dice.below(agents.len() as u64)).unwrap();
        match dice.below(10) {
            0 | 1 => {
                let next = next_plan(plans.last().unwrap(), &mut dice);
                let mut zone = shared.lock().unwrap();
                for item in next.items.values() {
                    zone.planned.insert(item.digest, Arc::clone(item));
                }
                drop(zone);
                plans.push(next);
            }
            2 => {
                let split = ["checkout", "cart", "search"][usize::try_from(dice.below(3)).unwrap()];
                let of = BACKENDS[usize::try_from(dice.below(3)).unwrap()].1;
                let key = (split.to_owned(), of.to_owned());
                let mut zone = shared.lock().unwrap();
                if zone.services.remove(&key).is_none() {
                    zone.services.insert(key, service_fact(split, of));
                }
            }
            3 if dice.chance(30) => {
                // The control plane comes back with an empty store; what a stranger had there is the stranger's matter.
                let mut zone = shared.lock().unwrap();
                zone.lose_store();
            }
            4 if dice.chance(50) => {
                // Killed and started again; sometimes with a damaged memory, sometimes with a damaged plan.
                let agent = &mut agents[who];
                agent.facts = None;
                agent.anchors = Anchors::default();
                match dice.below(4) {
                    0 => {
                        if let Some(plan) = &agent.plan {
                            agent.memory = Memory {
                                highest: plan.generation,
                                ..Memory::default()
                            };
                        }
                    }
                    1 => agent.plan = None,
                    _ => {}
                }
            }
            5 => {
                // An old plan comes again.
                let old = &plans[usize::try_from(dice.below(plans.len() as u64)).unwrap()];
                agents[who].offer(old);
            }
            6 | 7 => agents[who].offer(plans.last().unwrap()),
            _ => {}
        }
        agents[who].activate(&driver, begin);
        let mut zone = shared.lock().unwrap();
        zone.pass(Duration::from_millis(dice.below(4_000)), &mut dice);
        assert_eq!(
            zone.store.get(&stranger_key),
            Some(&(stranger.clone(), false)),
            "I10"
        );
    }
    // Faults stop: every agent comes to the newest plan, or says why not (I11).
    {
        let mut zone = shared.lock().unwrap();
        zone.fault_percent = 0;
        for split in ["checkout", "cart", "search"] {
            for (_, of) in BACKENDS {
                let key = (split.to_owned(), of.to_owned());
                zone.services.insert(key, service_fact(split, of));
            }
        }
    }
    let newest = plans.last().unwrap();
    for _ in 0..60 {
        for agent in &mut agents {
            agent.offer(newest);
            assert_eq!(agent.plan.as_ref(), Some(newest));
            agent.activate(&driver, begin);
        }
        let mut zone = shared.lock().unwrap();
        zone.pass(Duration::from_secs(1), &mut dice);
    }
    {
        let zone = shared.lock().unwrap();
        for (object, _) in zone.store.values().filter(|(_, ours)| *ours) {
            let split = object.labels["weir.dev/split"].as_str();
            assert!(
                newest.items.keys().any(|name| name.as_str() == split),
                "{split} is not gone"
            );
            assert_eq!(extent(object), Extent::Whole);
        }
    }
    for agent in &agents {
        for fact in &agent.facts.as_ref().unwrap().items {
            let taken = stranger.name == "weir-search" && fact.split.as_str() == "search";
            match &fact.state {
                ItemState::Proven => assert!(!taken),
                ItemState::Held(_) => assert!(taken, "{}: {:?}", fact.split, fact.state),
                other => panic!("{}: {other:?}", fact.split),
            }
        }
    }
    // A restart alone changes nothing (I6): same plan from disk, no coordinator, no write.
    let before = shared.lock().unwrap().writes;
    for agent in &mut agents {
        agent.facts = None;
        agent.anchors = Anchors::default();
        agent.activate(&driver, begin);
        agent.memory.applied.clear();
        agent.activate(&driver, begin);
    }
    let zone = shared.lock().unwrap();
    assert_eq!(zone.writes, before, "I6: a restart moved something");
    zone.writes
}

fn lives(agents: usize) {
    let mut writes = 0;
    for seed in 0..150 {
        let lived = std::panic::catch_unwind(|| life(seed, agents));
        match lived {
            Ok(n) => writes += n,
            Err(why) => {
                let text = why
                    .downcast_ref::<String>()
                    .cloned()
                    .or_else(|| why.downcast_ref::<&str>().map(|s| (*s).to_owned()));
                panic!("seed {seed}: {}", text.unwrap_or_default());
            }
        }
    }
    // A simulation that writes nothing proves nothing.
    assert!(writes > 1000, "only {writes} writes");
}

#[test]
fn one_agent_holds_every_invariant() {
    lives(1);
}

#[test]
fn two_agents_of_one_zone_need_no_lease() {
    lives(2);
}

/// A split that gets another name while its backends do not resolve is held, and what is in place stays until it is not.
#[test]
fn what_a_held_split_takes_over_is_not_removed() {
    let old = Arc::new(item("checkout", [10_000, 0, 0], 1));
    let mut new = item("checkout", [0, 10_000, 0], 2);
    new.split = SplitName::new("payment").unwrap();
    new.anchor = anchor(&federation(), &new.split);
    new.digest = item_digest(&new);
    let live = render(&old, &federation(), &Form::Universal, OPTIONS);
    let mut observed = Observed {
        services: vec![service_fact("checkout", "fra")],
        ours: live.into_iter().map(|object| (object, Generation(1))).collect(),
        ..Observed::default()
    };
    let plan = plan(2, [Arc::new(new)]);
    let decided = decide(
        &plan,
        &Memory::default(),
        &observed,
        OPTIONS,
        &Anchors::default(),
        Instant::now(),
    );
    assert_eq!(decided.held.len(), 1);
    assert_eq!(decided.steps, []);
    observed.services.push(service_fact("checkout", "ams"));
    let decided = decide(
        &plan,
        &Memory::default(),
        &observed,
        OPTIONS,
        &Anchors::default(),
        Instant::now(),
    );
    assert!(
        matches!(decided.steps.as_slice(), [Step::Put { .. }, Step::Delete { .. }]),
        "{decided:?}"
    );
}

/// Two agents of one zone and what its control plane holds, without faults.
fn two(splits: &[&str], kept: &[&str]) -> (Arc<Mutex<Zone>>, Fake, [Agent; 2], Instant) {
    let begin = Instant::now();
    let shared = Arc::new(Mutex::new(Zone {
        dice: Some(Dice(1)),
        ..Zone::default()
    }));
    let driver = Fake(Arc::clone(&shared));
    let all: Vec<Arc<Item>> = splits
        .iter()
        .map(|split| Arc::new(item(split, [10_000, 0, 0], 1)))
        .collect();
    {
        let mut zone = shared.lock().unwrap();
        for item in &all {
            let service = item.split.as_str();
            zone.services.insert(
                (service.to_owned(), "fra".to_owned()),
                service_fact(service, "fra"),
            );
            zone.planned.insert(item.digest, Arc::clone(item));
        }
    }
    let stays = all.iter().filter(|item| kept.contains(&item.split.as_str()));
    let mut agents = [Agent::default(), Agent::default()];
    for agent in &mut agents {
        agent.offer(&plan(1, all.iter().cloned()));
    }
    for _ in 0..4 {
        for agent in &mut agents {
            agent.activate(&driver, begin);
        }
        pass(&shared, 3);
    }
    // The first is cut off from the coordinator; the second hears of the removal.
    agents[1].offer(&plan(2, stays.cloned()));
    (shared, driver, agents, begin)
}

fn pass(shared: &Arc<Mutex<Zone>>, seconds: u64) {
    shared
        .lock()
        .unwrap()
        .pass(Duration::from_secs(seconds), &mut Dice(1));
}

/// What is in force, and with a mark what is an anchor alone.
fn stored(shared: &Arc<Mutex<Zone>>) -> Vec<String> {
    let zone = shared.lock().unwrap();
    let all = zone.store.values();
    all.map(|(object, _)| match extent(object) {
        Extent::Whole => object.name.clone(),
        Extent::Anchor => format!("({})", object.name),
    })
    .collect()
}

/// A removal changes no other item, so that nothing else would tell an agent with an older plan of it.
#[test]
fn a_removed_split_stays_removed_beside_an_agent_that_is_cut_off() {
    let (shared, driver, mut agents, begin) = two(&["cart", "checkout", "search"], &["cart", "search"]);
    let state = |facts: &ZoneFacts, split: &str| {
        let told = facts.items.iter().find(|fact| fact.split.as_str() == split);
        told.map(|fact| fact.state.clone())
    };
    for _ in 0..10 {
        agents[1].activate(&driver, begin);
        assert_eq!(stored(&shared), ["weir-cart", "(weir-checkout)", "weir-search"]);
        agents[0].activate(&driver, begin);
        assert_eq!(stored(&shared), ["weir-cart", "(weir-checkout)", "weir-search"]);
        let facts = agents[1].facts.as_ref().unwrap();
        assert_eq!(
            state(facts, "checkout"),
            Some(ItemState::Applied),
            "it is not gone yet"
        );
        pass(&shared, 3);
    }
    for _ in 0..5 {
        pass(&shared, 3);
        agents[1].activate(&driver, begin);
        agents[0].activate(&driver, begin);
    }
    assert_eq!(stored(&shared), ["weir-cart", "weir-search"]);
    assert_eq!(state(agents[1].facts.as_ref().unwrap(), "checkout"), None);
    let facts = agents[0].facts.as_ref().unwrap();
    let held = state(facts, "checkout");
    assert!(
        matches!(&held, Some(ItemState::Held(why)) if why.contains("newer plan")),
        "{held:?}"
    );
    assert_eq!(facts.highest, Generation(2));
    let writes = shared.lock().unwrap().writes;
    assert_eq!(
        writes,
        3 * 2 + 3,
        "three introduced and put; one withdrawn, a word left of it, removed; and peace after that"
    );

    // The control plane comes back empty, and the agent that is cut off is the first to notice. What is removed may
    // come back until the other one looks, and no longer.
    shared.lock().unwrap().lose_store();
    agents[0].activate(&driver, begin);
    assert_eq!(
        stored(&shared),
        ["weir-cart", "weir-checkout", "weir-search"],
        "at once and whole: an old split is better than none"
    );
    for _ in 0..20 {
        agents[1].activate(&driver, begin);
        agents[0].activate(&driver, begin);
        assert!(!stored(&shared).contains(&"weir-checkout".to_owned()));
        pass(&shared, 3);
    }
    assert_eq!(stored(&shared), ["weir-cart", "weir-search"]);

    // The one that was cut off hears of the plan, and holds nothing back any more.
    let newest = agents[1].plan.clone().unwrap();
    agents[0].offer(&newest);
    agents[0].activate(&driver, begin);
    let facts = agents[0].facts.as_ref().unwrap();
    assert!(
        facts.items.iter().all(|fact| fact.state == ItemState::Proven),
        "{facts:?}"
    );

    // What somebody takes away by hand comes back as before.
    shared
        .lock()
        .unwrap()
        .store
        .retain(|(_, name), _| name != "weir-cart");
    agents[1].activate(&driver, begin);
    assert_eq!(stored(&shared), ["weir-cart", "weir-search"]);
}

/// A split that is taken away and comes back at once with fewer backends: requests may still flow to the one that it lost,
/// so the anchor that keeps that one stays until they cannot.
#[test]
fn a_split_comes_back_with_fewer_backends_when_its_old_anchor_may_go() {
    let (shared, driver, mut agents, begin) = two(&["cart", "checkout"], &["cart"]);
    let agent = &mut agents[1];
    agent.activate(&driver, begin);
    assert_eq!(stored(&shared), ["weir-cart", "(weir-checkout)"]);
    let mut less = item("checkout", [10_000, 0, 0], 3);
    less.destinations.remove(&BackendName::new("lab").unwrap());
    less.routes[0].weights.remove(&BackendName::new("lab").unwrap());
    less.digest = item_digest(&less);
    let less = Arc::new(less);
    shared
        .lock()
        .unwrap()
        .planned
        .insert(less.digest, Arc::clone(&less));
    let items = agent.plan.as_ref().unwrap().items.values().cloned();
    let back = plan(3, items.chain([less]));
    agent.offer(&back);
    let anchor = |shared: &Arc<Mutex<Zone>>| {
        let zone = shared.lock().unwrap();
        let (object, _) = &zone.store[&(Kind::MeshHttpRoute, "weir-checkout".to_owned())];
        (extent(object), object.spec.to_string().contains("par"))
    };
    for _ in 0..10 {
        agent.activate(&driver, begin);
        assert_eq!(anchor(&shared), (Extent::Anchor, true), "it is still needed");
        let facts = agent.facts.as_ref().unwrap();
        let told = facts.items.iter().find(|fact| fact.split.as_str() == "checkout");
        let state = told.map(|fact| fact.state.clone());
        assert!(
            matches!(&state, Some(ItemState::Held(why)) if why.contains("keeps backends")),
            "{state:?}"
        );
        pass(&shared, 3);
    }
    for _ in 0..10 {
        pass(&shared, 3);
        agent.activate(&driver, begin);
    }
    assert_eq!(anchor(&shared), (Extent::Whole, false));
}
