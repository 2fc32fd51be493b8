//! Declarations made by hand, and a history of plans that lints each of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use weir_model::{
    Backend, BackendName, BasisPoints, CommitId, Declaration, DnsLabel, Federation, FederationName, Freeze,
    Match, MeshName, Place, Platform, Protocol, Prune, Route, RouteName, ServiceName, SourceCommit,
    SourceName, Span, Split, SplitName, Transition, Zone, ZoneName,
};
use weir_planner::{Finding, Generation, Inputs, Item, Plan, Planned, Work, lint_made, plan_with_work};

/// The one Git source of these tests.
pub(crate) fn main_source() -> SourceName {
    SourceName("main".to_owned())
}

/// A place, which plans must not depend on.
pub(crate) fn place(line: usize) -> Place {
    Place {
        source: main_source(),
        file: format!("traffic/{line}.yaml"),
        span: Span {
            start: line,
            end: line,
            line,
            column: 1,
        },
    }
}

/// The n-th commit, recognizable by its first digits.
pub(crate) fn commit(n: u64) -> CommitId {
    CommitId(format!("c{n:07x}{n:032x}"))
}

/// Federation `shop` with zones named as in Kuma.
pub(crate) fn federation(zones: &[&str]) -> Declaration {
    let zone = |name: &&str| {
        let zone = Zone {
            name: ZoneName::new(*name).unwrap(),
            platform: Platform::Vm,
            kuma_zone: DnsLabel::new(*name).unwrap(),
            wave: 1,
            detached: false,
            freeze: Freeze::Never,
            gateways: BTreeMap::new(),
            place: place(1),
        };
        (zone.name.clone(), zone)
    };
    Declaration {
        federation: Some(Federation {
            name: FederationName::new("shop").unwrap(),
            mesh: MeshName::new("default").unwrap(),
            // What histories are made of comes and goes; the tests of the rule take this back.
            prune: Prune::Allow,
            freeze: Freeze::Never,
            place: place(2),
        }),
        zones: zones.iter().map(zone).collect(),
        splits: BTreeMap::new(),
    }
}

/// A split of the service of the same name, port 8080, http; backends as `name@zone`, weights of the default route.
pub(crate) fn split(name: &str, backends: &[&str], weights: &[(&str, u32)]) -> Split {
    let backend = |text: &&str| {
        let (name, zone) = text.split_once('@').unwrap();
        let backend = Backend {
            zone: ZoneName::new(zone).unwrap(),
            namespace: None,
            capacity: None,
        };
        (BackendName::new(name).unwrap(), backend)
    };
    Split {
        name: SplitName::new(name).unwrap(),
        service: ServiceName::new(name).unwrap(),
        port: 8080,
        port_names: [].into(),
        protocol: Protocol::Http,
        backends: backends.iter().map(backend).collect(),
        routes: vec![route("default", Match::ANY, weights)],
        transition: Transition::default(),
        streaming: false,
        freeze: Freeze::Never,
        fallback: BTreeMap::new(),
        gateways: Vec::new(),
        place: place(3),
    }
}

/// A route; weights in per cent.
pub(crate) fn route(name: &str, matches: Match, weights: &[(&str, u32)]) -> Route {
    let weight = |(name, percent): &(&str, u32)| {
        (
            BackendName::new(*name).unwrap(),
            BasisPoints::new(percent * 100).unwrap(),
        )
    };
    Route {
        name: RouteName::new(name).unwrap(),
        matches,
        weights: weights.iter().map(weight).collect(),
        place: place(4),
    }
}

/// Adds or replaces a split.
pub(crate) fn put(declaration: &mut Declaration, split: Split) {
    declaration.splits.insert(split.name.clone(), Arc::new(split));
}

/// A declaration with these splits.
pub(crate) fn with(zones: &[&str], splits: impl IntoIterator<Item = Split>) -> Declaration {
    let mut declaration = federation(zones);
    for split in splits {
        put(&mut declaration, split);
    }
    declaration
}

/// Plans, each the parent of the next. Commits are 1, 2, 3, ...; ten minutes lie between them.
#[derive(Default)]
pub(crate) struct History {
    pub(crate) plans: Vec<Plan>,
    pub(crate) commits: u64,
    pub(crate) now: Timestamp,
    pub(crate) highest: u64,
}

impl History {
    /// Takes the next commit.
    pub(crate) fn step(&mut self, declaration: &Declaration) -> (Planned, Work) {
        self.step_after(declaration, SignedDuration::from_mins(10))
    }

    /// Takes the next commit, so long after the last.
    pub(crate) fn step_after(&mut self, declaration: &Declaration, later: SignedDuration) -> (Planned, Work) {
        self.commits += 1;
        self.now += later;
        let commits = [SourceCommit {
            source: main_source(),
            commit: commit(self.commits),
        }];
        let parent = self.plans.last();
        let inputs = Inputs {
            declaration,
            commits: &commits,
            highest: Generation(self.highest),
            parent,
            now: self.now,
        };
        let (planned, work) = plan_with_work(inputs);
        assert_eq!(planned, plan_with_work(inputs).0, "same input, same plan");
        if let Planned::New(plan) = &planned {
            assert_eq!(lint_made(plan, parent), Vec::<Finding>::new());
            self.plans.push(plan.clone());
        }
        (planned, work)
    }

    /// Takes the next commit, which must make a plan.
    pub(crate) fn follow(&mut self, declaration: &Declaration) -> &Plan {
        let (planned, _) = self.step(declaration);
        assert!(matches!(planned, Planned::New(_)), "{planned:?}");
        self.last()
    }

    pub(crate) fn last(&self) -> &Plan {
        self.plans.last().unwrap()
    }

    /// An item of the last plan.
    pub(crate) fn item(&self, split: &str, zone: &str) -> Arc<Item> {
        item(self.last(), split, zone)
    }
}

pub(crate) fn item(plan: &Plan, split: &str, zone: &str) -> Arc<Item> {
    let split = &plan.splits[&SplitName::new(split).unwrap()];
    Arc::clone(&split.items[&ZoneName::new(zone).unwrap()])
}
