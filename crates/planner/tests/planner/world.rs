//! A small world to move splits in: zones that follow plans when they are told to, can be cut off, and see backends or not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use weir_model::{BackendName, BasisPoints, Declaration, GatewayName, SourceCommit, SplitName, ZoneName};
use weir_planner::latency::BOUNDS;
use weir_planner::{
    CountScope, Counts, DoorFact, Finding, Generation, Inputs, Item, Leg, Look, Orders, Outlook, Phase, Plan,
    Planned, ProvenWeights, Reach, Runs, Senses, ServiceFact, ServiceState, Transit, Way, lint_made, step,
};

use crate::declared::{commit, main_source};

/// One split, `checkout`, and where every zone is with it.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) declaration: Declaration,
    pub(crate) commits: u64,
    pub(crate) now: Timestamp,
    pub(crate) plan: Option<Arc<Plan>>,
    /// What each zone runs, since when.
    pub(crate) runs: BTreeMap<ZoneName, (Arc<Item>, Timestamp)>,
    /// Zones that cannot be reached.
    pub(crate) cut: BTreeSet<ZoneName>,
    /// Zones whose control plane cannot be read.
    pub(crate) dark: BTreeSet<ZoneName>,
    /// Backends that no zone resolves.
    pub(crate) dead: BTreeSet<BackendName>,
    /// Zones that alone do not resolve a backend.
    pub(crate) blind: BTreeMap<ZoneName, BackendName>,
    /// Zones without an ingress.
    pub(crate) cut_off: BTreeSet<ZoneName>,
    /// Zones in which backends are down and their shares elsewhere.
    pub(crate) fallen: BTreeMap<ZoneName, BTreeSet<BackendName>>,
    /// What gateways of zones were last read to say.
    pub(crate) doors: BTreeMap<ZoneName, BTreeMap<GatewayName, DoorFact>>,
    /// The highest generation that agents report.
    pub(crate) highest: u64,
    pub(crate) counts: BTreeMap<String, Counts>,
    /// As they stood at the last proof.
    pub(crate) at_proof: BTreeMap<String, Counts>,
    pub(crate) orders: Orders,
    /// The last commit takes back the one before it.
    pub(crate) reverts: bool,
    /// What was told of steps that went on without a verdict.
    pub(crate) unjudged: Vec<String>,
    /// What was declared before the last commit.
    was: Declaration,
}

impl Senses for World {
    fn reach(&self, zone: &ZoneName) -> Reach {
        if self.cut.contains(zone) {
            Reach::Unreachable(format!("agent a of {zone}: not connected"))
        } else if self.dark.contains(zone) {
            Reach::Unsure(format!("agent a of {zone} cannot read its control plane"))
        } else {
            Reach::Reachable
        }
    }

    fn runs(&self, item: &Item) -> Runs {
        let down = self.fallen.get(&item.zone);
        if down.is_some_and(|down| down.iter().any(|down| item.weighted().contains(down))) {
            return Runs::Not("its share is elsewhere".to_owned());
        }
        if item.split != checkout() {
            return Runs::Proven { since: self.now };
        }
        match self.runs.get(&item.zone) {
            Some((running, since))
                if running.digest == item.digest && running.generation == item.generation =>
            {
                Runs::Proven { since: *since }
            }
            Some((running, _)) => Runs::Not(format!("still drives generation {}", running.generation)),
            None => Runs::Not("has not reported on it yet".to_owned()),
        }
    }

    fn fallen(&self, item: &Item) -> BTreeSet<BackendName> {
        let runs = self.runs.get(&item.zone);
        let runs = runs.is_some_and(|(running, _)| running.reference() == item.reference());
        let asked = runs && !self.cut.contains(&item.zone) && !self.dark.contains(&item.zone);
        let here = self.fallen.get(&item.zone).filter(|_| asked);
        here.cloned().unwrap_or_default()
    }

    fn runs_where_reached(&self, item: &Item) -> Runs {
        self.runs(item)
    }

    fn resolves(&self, item: &Item, has: Option<&Item>) -> Result<(), String> {
        assert!(!self.dark.contains(&item.zone), "who cannot read is not asked");
        let unseen =
            |name: &&BackendName| self.dead.contains(*name) || self.blind.get(&item.zone) == Some(*name);
        if let Some(unseen) = item.weighted().into_iter().find(unseen) {
            return Err(format!("backend {unseen} is not ready for zone {}", item.zone));
        }
        // As the product judges it: what has no way there gets no more.
        let facts = item.destinations.values().map(|to| ServiceFact {
            service: to.service.clone(),
            kuma_zone: to.kuma_zone.clone(),
            namespace: to.namespace.clone(),
            ports: [(to.port, Some(item.protocol))].into(),
            port_names: BTreeMap::new(),
            state: ServiceState::Available,
            way: match self.cut_off.contains(&to.zone) {
                true => Way::NoIngress,
                false => Way::Open,
            },
        });
        weir_planner::ready::backends_ready(item, has, &facts.collect::<Vec<_>>())
    }

    fn doors_ready(&self, item: &Item, has: Option<&Item>) -> Result<(), String> {
        let none = BTreeMap::new();
        let doors = self.doors.get(&item.zone).unwrap_or(&none);
        weir_planner::ready::doors_ready(item, has, doors)
    }

    fn holds(&self, item: &Item) -> bool {
        let (running, _) = &self.runs[&item.zone];
        running.reference() != item.reference() && self.resolves(item, Some(running)).is_err()
    }

    fn shares(&self, item: &Item) -> Option<ProvenWeights> {
        let (running, _) = self
            .runs
            .get(&item.zone)
            .filter(|_| !self.cut.contains(&item.zone))?;
        Some(running.weights())
    }

    fn counts_at_proof(&self, _split: &SplitName) -> BTreeMap<String, Counts> {
        self.at_proof.clone()
    }

    fn counts(&self, _split: &SplitName) -> BTreeMap<String, Counts> {
        self.counts.clone()
    }
}

pub(crate) fn zone(name: &str) -> ZoneName {
    ZoneName::new(name).unwrap()
}

pub(crate) fn backend(name: &str) -> BackendName {
    BackendName::new(name).unwrap()
}

pub(crate) fn checkout() -> SplitName {
    SplitName::new("checkout").unwrap()
}

impl World {
    /// The first commit is in force and every zone runs it.
    pub(crate) fn new(declaration: Declaration) -> Self {
        let mut world = Self {
            was: declaration.clone(),
            declaration,
            commits: 1,
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            plan: None,
            runs: BTreeMap::new(),
            cut: BTreeSet::new(),
            dark: BTreeSet::new(),
            dead: BTreeSet::new(),
            blind: BTreeMap::new(),
            cut_off: BTreeSet::new(),
            fallen: BTreeMap::new(),
            doors: BTreeMap::new(),
            highest: 0,
            counts: BTreeMap::new(),
            at_proof: BTreeMap::new(),
            orders: Orders::default(),
            reverts: false,
            unjudged: Vec::new(),
        };
        world.look();
        world.all_follow();
        world
    }

    /// The next commit.
    pub(crate) fn commit(&mut self, declaration: Declaration) {
        self.commits += 1;
        self.was = std::mem::replace(&mut self.declaration, declaration);
    }

    /// One look of the coordinator; true if it made a plan. Every plan goes through the linter.
    pub(crate) fn look(&mut self) -> (bool, Option<Outlook>) {
        self.look_at(&checkout())
    }

    /// The same, and where another split stands.
    pub(crate) fn look_at(&mut self, name: &SplitName) -> (bool, Option<Outlook>) {
        let commits = [SourceCommit {
            source: main_source(),
            commit: commit(self.commits),
        }];
        let parent = self.plan.clone();
        let inputs = Inputs {
            declaration: &self.declaration,
            commits: &commits,
            highest: Generation(self.highest),
            parent: parent.as_deref(),
            now: self.now,
        };
        let transit = Transit {
            senses: self,
            orders: &self.orders,
            reverts: self.reverts.then_some(&self.was),
            only: None,
        };
        let Look {
            planned,
            mut outlook,
            mut unjudged,
            ..
        } = step(inputs, transit);
        assert_eq!(planned, step(inputs, transit).planned, "same input, same plan");
        self.unjudged.extend(unjudged.remove(name));
        let new = match planned {
            Planned::Nothing => false,
            Planned::New(plan) => {
                assert_eq!(lint_made(&plan, parent.as_deref()), Vec::<Finding>::new());
                self.plan = Some(Arc::new(plan));
                true
            }
            Planned::Refused(why) => panic!("{why:?}"),
        };
        (new, outlook.remove(name))
    }

    /// The zone takes up what the newest plan says, if it is there and can.
    pub(crate) fn follow(&mut self, zone: &ZoneName) -> bool {
        let Some(item) = self.item(zone) else { return false };
        if self.cut.contains(zone) || self.dark.contains(zone) {
            return false;
        }
        let running = self.runs.get(zone).map(|(running, _)| running);
        let same = |running: &Arc<Item>| running.reference() == item.reference();
        if running.is_some_and(same) {
            return false;
        }
        // An agent holds what it cannot do (I3).
        if self.resolves(&item, running.map(Arc::as_ref)).is_err() {
            return false;
        }
        self.runs.insert(zone.clone(), (item, self.now));
        self.at_proof.clone_from(&self.counts);
        true
    }

    pub(crate) fn all_follow(&mut self) {
        let zones: Vec<ZoneName> = self.declaration.zones.keys().cloned().collect();
        for zone in &zones {
            self.follow(zone);
        }
    }

    pub(crate) fn pass(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
    }

    /// What the newest plan says for the zone.
    pub(crate) fn item(&self, zone: &ZoneName) -> Option<Arc<Item>> {
        let plan = self.plan.as_ref()?;
        plan.splits.get(&checkout())?.items.get(zone).map(Arc::clone)
    }

    /// The zone's running weights of the default route.
    pub(crate) fn weights(&self, zone: &ZoneName) -> BTreeMap<BackendName, u32> {
        self.runs
            .get(zone)
            .map(|(item, _)| weights(item))
            .unwrap_or_default()
    }

    pub(crate) fn leg(&self) -> Option<Leg> {
        let split = self.plan.as_ref()?.splits.get(&checkout())?;
        Some(split.course.as_ref()?.motion.as_ref()?.leg.clone())
    }

    pub(crate) fn quarantined(&self) -> bool {
        let split = self.plan.as_ref().and_then(|plan| plan.splits.get(&checkout()));
        let course = split.and_then(|split| split.course.as_ref());
        course.is_some_and(|course| course.quarantine.is_some())
    }

    /// Counts so many requests to a backend, so many of them failed.
    pub(crate) fn count(&mut self, counter: &str, to: &str, requests: u64, failed: u64) {
        let counts = self.counts.entry(counter.to_owned()).or_insert_with(|| Counts {
            since: Timestamp::UNIX_EPOCH,
            at: Timestamp::UNIX_EPOCH,
            requests: BTreeMap::new(),
            failed: BTreeMap::new(),
            down: BTreeMap::new(),
            latency: BTreeMap::new(),
            open: None,
            scope: CountScope::Host,
        });
        *counts.requests.entry(backend(to)).or_default() += requests;
        *counts.failed.entry(backend(to)).or_default() += failed;
    }

    /// So many good answers of a backend, each in so many milliseconds: of the bound with that name.
    pub(crate) fn answers(&mut self, counter: &str, of: &str, answers: u64, ms: u64) {
        self.count(counter, of, answers, 0);
        let bound = BOUNDS.iter().position(|bound| *bound == ms * 1_000).unwrap();
        let counts = self.counts.get_mut(counter).unwrap();
        counts.latency.entry(backend(of)).or_default().0[bound] += answers;
    }

    /// One line for a reviewer.
    pub(crate) fn told(&self, stands: Option<&Outlook>) -> String {
        let zones: Vec<String> = self
            .declaration
            .zones
            .keys()
            .map(|zone| {
                let planned = self
                    .item(zone)
                    .map(|item| percent(&weights(&item)))
                    .unwrap_or_default();
                let runs = percent(&self.weights(zone));
                if planned == runs {
                    format!("{zone} {runs}")
                } else {
                    format!("{zone} {runs} -> {planned}")
                }
            })
            .collect();
        let generation = self.plan.as_ref().map_or(0, |plan| plan.generation.0);
        let at = self.now.to_string();
        let mut line = format!("{} plan {generation}: {}", &at[11..19], zones.join(" | "));
        if let Some(stands) = stands {
            let phase = serde_json::to_value(stands.phase).unwrap();
            line.push_str(&format!("\n         {}", phase.as_str().unwrap()));
            if stands.bites > 0 && stands.phase != Phase::Quarantined {
                line.push_str(&format!(", bite {} of {}", stands.bite, stands.bites));
            }
            if let Some(wave) = stands.wave {
                line.push_str(&format!(", wave {wave}"));
            }
            for wait in &stands.waits {
                let zone = wait
                    .zone
                    .as_ref()
                    .map(|zone| format!("zone {zone}: "))
                    .unwrap_or_default();
                line.push_str(&format!("\n         waits: {zone}{}", wait.why));
            }
            line.push_str(&format!("\n         next: {}", stands.next));
        } else {
            line.push_str("\n         at rest");
        }
        line.push('\n');
        line
    }
}

/// Of the default route, in basis points; without zeros.
pub(crate) fn weights(item: &Item) -> BTreeMap<BackendName, u32> {
    let route = item.routes.last().unwrap();
    let weights = route.weights.iter().filter(|(_, w)| **w > BasisPoints::ZERO);
    weights.map(|(name, w)| (name.clone(), w.get())).collect()
}

fn percent(weights: &BTreeMap<BackendName, u32>) -> String {
    let parts: Vec<String> = weights
        .iter()
        .map(|(name, w)| format!("{name} {}", BasisPoints::new(*w).unwrap()))
        .collect();
    parts.join(" ")
}
