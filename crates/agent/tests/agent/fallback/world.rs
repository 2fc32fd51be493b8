//! An agent of a zone, and the zone, in time that a test moves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;
use weir_agent::anchors::Anchors;
use weir_agent::decide::decide;
use weir_agent::fallback::{Watch, driven, is_due, look};
use weir_agent::take::Memory;
use weir_drivers::Observed;
use weir_model::{
    BackendName, BasisPoints, CommitId, DnsLabel, FederationName, Match, MeshName, Protocol, RouteName,
    ServiceName, SplitName, ZoneName,
};
use weir_planner::{
    CountScope, Counts, Destination, Digest, Fallback, Generation, Item, ItemRoute, PlanId, Refuge,
    ServiceFact, ServiceState, ZonePlan, anchor, item_digest,
};
use weir_render::{FALLEN, Object, Options, Step};

pub(crate) const BACKENDS: [&str; 3] = ["eks", "lab", "vm"];

pub(crate) fn backend(name: &str) -> BackendName {
    BackendName::new(name).unwrap()
}

pub(crate) fn share(percent: u32) -> BasisPoints {
    BasisPoints::new(percent * 100).unwrap()
}

/// `eks` 80, `vm` 20; while `eks` is down its share goes to these, each with its capacity in per cent.
pub(crate) fn plan(to: &[(&str, Option<u32>)], recover: i64) -> ZonePlan {
    let federation = FederationName::new("shop").unwrap();
    let split = SplitName::new("checkout").unwrap();
    let service = ServiceName::new("checkout").unwrap();
    let destination = |name: &str| Destination {
        zone: ZoneName::new(name).unwrap(),
        kuma_zone: DnsLabel::new(name).unwrap(),
        namespace: None,
        service: service.clone(),
        port: 8080,
    };
    let refuge = |(name, capacity): &(&str, Option<u32>)| Refuge {
        backend: backend(name),
        capacity: capacity.map(share),
    };
    let fallback = Fallback {
        to: to.iter().map(refuge).collect(),
        after: SignedDuration::from_secs(1),
        recover: SignedDuration::from_secs(recover),
    };
    let mut item = Item {
        anchor: anchor(&federation, &split),
        split: split.clone(),
        zone: ZoneName::new("fra").unwrap(),
        kuma_zone: DnsLabel::new("fra").unwrap(),
        mesh: MeshName::new("default").unwrap(),
        service: service.clone(),
        port: 8080,
        port_names: BTreeSet::new(),
        protocol: Protocol::Http,
        destinations: BACKENDS.map(|name| (backend(name), destination(name))).into(),
        retiring: BTreeSet::new(),
        routes: vec![ItemRoute {
            name: RouteName::new("default").unwrap(),
            matches: Match::default(),
            weights: BTreeMap::from([(backend("eks"), share(80)), (backend("vm"), share(20))]),
        }],
        fallback: [(backend("eks"), fallback)].into(),
        doors: [].into(),
        generation: Generation(3),
        commit: CommitId("0123456789abcdef0123456789abcdef01234567".to_owned()),
        digest: Digest([0; 32]),
    };
    if to.is_empty() {
        item.fallback.clear();
    }
    item.digest = item_digest(&item);
    ZonePlan {
        federation,
        zone: item.zone.clone(),
        kuma_zone: item.kuma_zone.clone(),
        mesh: item.mesh.clone(),
        plan: PlanId([1; 32]),
        generation: Generation(3),
        commits: Vec::new(),
        gateways: [].into(),
        items: BTreeMap::from([(split, Arc::new(item))]),
    }
}

/// An agent of the zone, and the zone.
pub(crate) struct Agent {
    pub(crate) plan: ZonePlan,
    pub(crate) memory: Memory,
    pub(crate) watch: Watch,
    pub(crate) sent: BTreeMap<BackendName, u64>,
    pub(crate) down: BTreeMap<BackendName, u64>,
    pub(crate) began: Instant,
    pub(crate) now: Duration,
    /// How far its clock is ahead.
    pub(crate) ahead: SignedDuration,
    pub(crate) unavailable: BTreeSet<&'static str>,
    /// Whose MeshService the zone's control plane does not have.
    pub(crate) vanished: BTreeSet<&'static str>,
    /// Of whose zone no ingress is known.
    pub(crate) no_ingress: BTreeSet<&'static str>,
    /// What the zone's control plane holds.
    pub(crate) live: Vec<(Object, Generation)>,
}

impl Agent {
    pub(crate) fn new(plan: ZonePlan) -> Self {
        Self {
            plan,
            memory: Memory::default(),
            watch: Watch::default(),
            sent: BTreeMap::new(),
            down: BTreeMap::new(),
            began: Instant::now(),
            now: Duration::ZERO,
            ahead: SignedDuration::ZERO,
            unavailable: BTreeSet::new(),
            vanished: BTreeSet::new(),
            no_ingress: BTreeSet::new(),
            live: Vec::new(),
        }
    }

    pub(crate) fn item(&self) -> &Arc<Item> {
        self.plan.items.values().next().unwrap()
    }

    pub(crate) fn at(&self) -> (Instant, Timestamp) {
        let stamp = Timestamp::from_second(1_800_000_000).unwrap();
        (
            self.began + self.now,
            stamp + SignedDuration::try_from(self.now).unwrap() + self.ahead,
        )
    }

    pub(crate) fn services(&self) -> Vec<ServiceFact> {
        let fact = |name: &str| ServiceFact {
            service: ServiceName::new("checkout").unwrap(),
            kuma_zone: DnsLabel::new(name).unwrap(),
            namespace: None,
            ports: BTreeMap::from([(8080, Some(Protocol::Http))]),
            port_names: BTreeMap::new(),
            state: match self.unavailable.contains(name) {
                true => ServiceState::Unavailable,
                false => ServiceState::Available,
            },
            way: match self.no_ingress.contains(name) {
                true => weir_planner::Way::NoIngress,
                false => weir_planner::Way::Unknown,
            },
        };
        let there = BACKENDS.into_iter().filter(|name| !self.vanished.contains(name));
        there.map(fact).collect()
    }

    /// A quarter of a second of traffic to what is driven; requests to the dead find nobody. True if a look is due.
    pub(crate) fn quarter(&mut self, requests: u64, dead: &[&str]) -> bool {
        self.now += Duration::from_millis(250);
        let driven = driven(self.item(), &self.memory);
        for (name, weight) in &driven.routes[0].weights {
            let sent = requests * u64::from(weight.get()) / 10_000;
            *self.sent.entry(name.clone()).or_default() += sent;
            if dead.contains(&name.as_str()) {
                *self.down.entry(name.clone()).or_default() += sent;
            }
        }
        self.count();
        is_due(&self.plan, &self.memory, &self.watch, self.at().0)
    }

    pub(crate) fn count(&mut self) {
        let counts = Counts {
            since: Timestamp::UNIX_EPOCH,
            at: self.at().1,
            requests: self.sent.clone(),
            failed: self.down.clone(),
            down: self.down.clone(),
            latency: BTreeMap::new(),
            open: None,
            scope: CountScope::Host,
        };
        let now = self.at().0;
        let items: Vec<_> = self.plan.items.values().cloned().collect();
        self.watch.count(&items, &[Some(counts)], now);
    }

    /// What it decides of who is down.
    pub(crate) fn look(&mut self) {
        let (at, services) = (self.at(), self.services());
        let items: Vec<_> = self.plan.items.values().cloned().collect();
        self.watch.see(&items, &services, &self.memory, at);
        self.memory.fallen = look(
            &self.plan,
            &self.memory,
            (&self.live, &services),
            &mut self.watch,
            at,
        );
    }

    /// An activation: it looks, and writes what it comes to.
    pub(crate) fn activate(&mut self) {
        self.look();
        let (at, services) = (self.at(), self.services());
        self.memory.applied = self.plan.items.clone();
        let observed = Observed {
            services,
            ours: self.live.clone(),
            ..Observed::default()
        };
        let decision = decide(
            &self.plan,
            &self.memory,
            &observed,
            Options::default(),
            &Anchors::default(),
            at.0,
        );
        for step in decision.steps {
            let Step::Put {
                object,
                generation,
                split,
                ..
            } = step
            else {
                panic!("{step:?}")
            };
            self.live = vec![(object, generation)];
            if let Some(fallen) = self.memory.fallen.get_mut(&split) {
                fallen.were_written();
            }
        }
    }

    pub(crate) fn weights(&self) -> Vec<(&'static str, u32)> {
        let driven = driven(self.item(), &self.memory);
        let of = |name| {
            driven.routes[0]
                .weights
                .get(&backend(name))
                .map_or(0, |w| w.get() / 100)
        };
        BACKENDS.map(|name| (name, of(name))).to_vec()
    }

    pub(crate) fn label(&self) -> &str {
        self.live[0].0.labels.get(FALLEN).map_or("", String::as_str)
    }

    /// The backends that are down and keep their share: which, with how many per cent.
    pub(crate) fn failing(&self) -> Vec<(String, u32, String)> {
        let all = self.watch.failing(&self.plan, &self.memory, self.at().0);
        let all = all.into_values().flatten();
        all.map(|(name, kept)| (name.to_string(), kept.share.get() / 100, kept.why))
            .collect()
    }

    pub(crate) fn alarms(&self) -> Vec<String> {
        self.watch.alarms(&self.plan, &self.memory, self.at().0)
    }
}

pub(crate) const AS_PLANNED: [(&str, u32); 3] = [("eks", 80), ("lab", 0), ("vm", 20)];
pub(crate) const ALL_TO_VM: [(&str, u32); 3] = [("eks", 0), ("lab", 0), ("vm", 100)];
