//! What must hold in every plan, checked apart from the code that makes plans.
//!
//! Every test of every room that holds a plan runs this over it. Whoever adds a rule that plans must keep adds it here,
//! with a test that breaks a plan in that way.

mod finding;
mod one_writer;
mod step;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_model::{BackendName, BasisPoints, DnsLabel, Protocol, SplitName, Via, ZoneName};

use crate::canonical;
use crate::course::Leg;
use crate::doors;
use crate::plan::{Destination, Generation, InKuma, Item, Plan, SplitPlan};
use crate::retire::Services;

pub use finding::{Finding, Rule};
pub(crate) use step::lint_new;
pub use step::lint_step;

/// Everything that is wrong with a plan, by itself and against its parent. Nothing, for every plan of
/// [`plan`](crate::plan()).
///
/// Without the parent, what only the parent can tell is not checked: a plan from disk may come without.
pub fn lint(plan: &Plan, parent: Option<&Plan>) -> Vec<Finding> {
    let mut lint = Lint::new(plan, parent);
    lint.whole();
    lint.one_writer(plan.splits.iter());
    for (name, split) in &plan.splits {
        lint.split(name, split);
    }
    lint.findings
}

/// [`lint`], and that everything that did not change is shared with the parent: true where both are in the memory of the
/// program that planned, not after reading them from somewhere.
pub fn lint_made(plan: &Plan, parent: Option<&Plan>) -> Vec<Finding> {
    let mut findings = lint(plan, parent);
    let mut copied = |split: &SplitName, zone: Option<&ZoneName>| {
        findings.push(Finding {
            rule: Rule::Shared,
            split: Some(split.clone()),
            zone: zone.cloned(),
            what: "unchanged, and yet not the parent's own".to_owned(),
        });
    };
    for (name, split) in &plan.splits {
        let Some(before) = parent.and_then(|parent| parent.splits.get(name)) else {
            continue;
        };
        if before.root == split.root && !Arc::ptr_eq(before, split) {
            copied(name, None);
        }
        for (zone, item) in &split.items {
            let same = before
                .items
                .get(zone)
                .filter(|b| b.reference() == item.reference());
            if same.is_some_and(|same| !Arc::ptr_eq(same, item)) {
                copied(name, Some(zone));
            }
        }
    }
    findings
}

struct Lint<'a> {
    plan: &'a Plan,
    parent: Option<&'a Plan>,
    past: Services<'a>,
    findings: Vec<Finding>,
}

impl<'a> Lint<'a> {
    fn new(plan: &'a Plan, parent: Option<&'a Plan>) -> Self {
        Self {
            plan,
            parent,
            past: Services::new(parent),
            findings: Vec::new(),
        }
    }

    fn find(
        &mut self,
        rule: Rule,
        split: Option<&SplitName>,
        zone: Option<&ZoneName>,
        what: impl Into<String>,
    ) {
        self.findings.push(Finding {
            rule,
            split: split.cloned(),
            zone: zone.cloned(),
            what: what.into(),
        });
    }

    fn at_split(&mut self, rule: Rule, split: &SplitName, what: impl Into<String>) {
        self.find(rule, Some(split), None, what);
    }

    fn at(&mut self, rule: Rule, (split, zone): (&SplitName, &ZoneName), what: impl Into<String>) {
        self.find(rule, Some(split), Some(zone), what);
    }

    /// What must hold of one split and its items.
    fn split(&mut self, name: &SplitName, split: &SplitPlan) {
        if split.root != canonical::split_root(split) {
            self.at_split(Rule::Digest, name, "its root is not that of its items");
        }
        let known = |zone: &ZoneName| self.plan.zones.contains_key(zone);
        if split.items.keys().any(|zone| !known(zone)) {
            self.at_split(
                Rule::Complete,
                name,
                "it has an item for a zone that takes no part",
            );
        }
        // A zone that came while the split was under way, or had to wait, has none until that is over.
        let before = self.parent.and_then(|parent| parent.splits.get(name));
        let waits = |zone: &ZoneName| {
            split
                .course
                .as_ref()
                .is_some_and(|course| course.motion.is_some())
                || before
                    .is_some_and(|before| before.digest == split.digest && !before.items.contains_key(zone))
        };
        let missing = |zone: &&ZoneName| !split.items.contains_key(*zone) && !waits(zone);
        if let Some(zone) = self.plan.zones.keys().find(missing) {
            let what = format!("it has no item for zone {zone}");
            self.at_split(Rule::Complete, name, what);
        }
        self.course(name, split);
        for (zone, item) in &split.items {
            if item.split != *name || item.zone != *zone {
                let what = format!("the item there says split {} in zone {}", item.split, item.zone);
                self.at(Rule::Complete, (name, zone), what);
            }
            self.item((name, zone), item);
        }
    }

    fn whole(&mut self) {
        let (plan, parent) = (self.plan, self.parent);
        if plan.id != canonical::plan_id(plan) {
            self.find(Rule::Digest, None, None, "its id is not that of its content");
        }
        if plan.commits.windows(2).any(|two| two[0].source >= two[1].source) {
            let what = "its commits are not one for each source, sorted by source";
            self.find(Rule::Provenance, None, None, what);
        }
        if plan.generation == Generation(0) {
            self.find(
                Rule::Monotone,
                None,
                None,
                "generation 0 stands for no plan at all",
            );
        }
        let mut in_kuma: BTreeMap<&DnsLabel, &ZoneName> = BTreeMap::new();
        for (zone, kuma_zone) in &plan.zones {
            if let Some(other) = in_kuma.insert(kuma_zone, zone) {
                let what = format!("it is {kuma_zone} in Kuma, and so is {other}");
                self.find(Rule::Reference, None, Some(zone), what);
            }
        }
        for (zone, gateways) in &plan.gateways {
            for (name, gateway) in gateways {
                if gateway.digest != canonical::gateway_digest(gateway) {
                    let what = format!("the digest of gateway {name} is not that of its content");
                    self.find(Rule::Digest, None, Some(zone), what);
                }
                if gateway.generation > plan.generation || gateway.generation == Generation(0) {
                    let what = format!("gateway {name} has generation {}", gateway.generation);
                    self.find(Rule::Monotone, None, Some(zone), what);
                }
            }
            if !plan.zones.contains_key(zone) {
                self.find(
                    Rule::Reference,
                    None,
                    Some(zone),
                    "its gateways are planned, and it takes no part",
                );
            }
        }
        let Some(parent) = parent else { return };
        if plan.parent != Some(parent.id) {
            self.find(Rule::Provenance, None, None, "its parent is another plan");
        }
        if plan.generation <= parent.generation {
            let what = format!("generation {} after {}", plan.generation, parent.generation);
            self.find(Rule::Monotone, None, None, what);
        }
        if plan.federation != parent.federation {
            let what = format!("federation {} after {}", plan.federation, parent.federation);
            self.find(Rule::Ours, None, None, what);
        }
    }

    fn item(&mut self, at: (&SplitName, &ZoneName), item: &Item) {
        let plan = self.plan;
        if item.digest != canonical::item_digest(item) {
            self.at(Rule::Digest, at, "its digest is not that of its content");
        }
        if item.anchor != canonical::anchor(&plan.federation, at.0) {
            self.at(
                Rule::Ours,
                at,
                "its anchor is not that of this federation and split",
            );
        }
        if item.mesh != plan.mesh {
            let what = format!("it is for mesh {}, the plan for {}", item.mesh, plan.mesh);
            self.at(Rule::Ours, at, what);
        }
        let before = self
            .parent
            .and_then(|parent| parent.splits.get(at.0)?.items.get(at.1));
        // What has to wait is as it was, under names that were right then.
        let waits = before.is_some_and(|before| before.reference() == item.reference());
        if !waits && plan.zones.get(at.1) != Some(&item.kuma_zone) {
            let what = format!("the zone is not {} in Kuma", item.kuma_zone);
            self.at(Rule::Reference, at, what);
        }
        if item.generation > plan.generation || item.generation == Generation(0) {
            let what = format!("generation {} in a plan of {}", item.generation, plan.generation);
            self.at(Rule::Monotone, at, what);
        }
        self.destinations(at, item, waits);
        if !waits {
            self.doors(at, item);
        }
        self.routes(at, item);
        self.history(at, item);
    }

    /// Kong and the mesh never both split one path: the shares would multiply.
    fn doors(&mut self, at: (&SplitName, &ZoneName), item: &Item) {
        for (name, door) in &item.doors {
            let Some(gateway) = self.plan.gateways.get(at.1).and_then(|all| all.get(name)) else {
                let what = format!("it has a door at gateway {name}, which the zone does not have");
                self.at(Rule::Reference, at, what);
                continue;
            };
            if matches!(door.via, Via::Mesh(_)) != gateway.in_mesh {
                let what = format!("gateway {name} and the mesh do not agree on who carries its weights");
                self.at(Rule::OneWriter, at, what);
            }
            if !doors::reaches_all(item, door) {
                let what = format!("a backend with weight has no address at gateway {name}");
                self.at(Rule::Exactness, at, what);
            }
        }
    }

    fn destinations(&mut self, at: (&SplitName, &ZoneName), item: &Item, waits: bool) {
        let mut places: BTreeSet<InKuma<'_>> = BTreeSet::new();
        for (backend, destination) in &item.destinations {
            if !places.insert(destination.in_kuma()) {
                let what = format!("backend {backend} is where another backend is");
                self.at(Rule::Reference, at, what);
            }
            if item.retiring.contains(backend) || waits {
                continue; // where it was, which may be declared no more
            }
            if self.plan.zones.get(&destination.zone) != Some(&destination.kuma_zone) {
                let what = format!(
                    "backend {backend} is in zone {}, not one of the plan's",
                    destination.zone
                );
                self.at(Rule::Reference, at, what);
            }
            if destination.service != item.service || destination.port != item.port {
                let what = format!("backend {backend} is another service or port");
                self.at(Rule::Reference, at, what);
            }
        }
        for backend in &item.retiring {
            if !item.destinations.contains_key(backend) {
                let what = format!("{backend} retires, but is no destination");
                self.at(Rule::Drain, at, what);
            }
            if item
                .routes
                .iter()
                .any(|route| route.weights.contains_key(backend))
            {
                let what = format!("{backend} retires, but a route names it");
                self.at(Rule::Drain, at, what);
            }
        }
        if item.protocol == Protocol::Tcp && !item.retiring.is_empty() {
            self.at(Rule::Drain, at, "tcp has no anchor that could name what retires");
        }
    }

    fn routes(&mut self, at: (&SplitName, &ZoneName), item: &Item) {
        for (position, route) in item.routes.iter().enumerate() {
            let name = &route.name;
            let sum: u64 = route.weights.values().map(|weight| u64::from(weight.get())).sum();
            if sum != u64::from(BasisPoints::WHOLE.get()) {
                let what = format!("the weights of route {name} sum to {sum} of 10000");
                self.at(Rule::Exactness, at, what);
            }
            for backend in route.weights.keys() {
                if !item.destinations.contains_key(backend) {
                    let what = format!("route {name} gives weight to {backend}, which is no destination");
                    self.at(Rule::Exactness, at, what);
                }
            }
            let earlier = &item.routes[..position];
            if earlier.iter().any(|earlier| earlier.name == *name) {
                self.at(Rule::Reference, at, format!("two routes are named {name}"));
            }
            if earlier.iter().any(|earlier| earlier.matches == route.matches) {
                let what =
                    format!("route {name} has the match of an earlier one, which takes all of its requests");
                self.at(Rule::Precedence, at, what);
            }
            if let Some(before) = earlier.last() {
                if before.matches.is_any() {
                    let what = format!("route {name} comes after one that takes everything");
                    self.at(Rule::Precedence, at, what);
                } else if before.matches.specificity() > route.matches.specificity() {
                    let what = format!("route {name} is more specific than the one before it");
                    self.at(Rule::Precedence, at, what);
                }
            }
            if item.protocol == Protocol::Tcp && !route.matches.is_any() {
                let what = format!("route {name} has a match on tcp");
                self.at(Rule::Precedence, at, what);
            }
        }
        if !item.routes.last().is_some_and(|last| last.matches.is_any()) {
            self.at(Rule::Precedence, at, "the last route does not take everything");
        }
    }

    /// A position must be one that there is.
    fn course(&mut self, name: &SplitName, split: &SplitPlan) {
        let Some(course) = &split.course else { return };
        let Some(motion) = &course.motion else { return };
        if motion.origin.is_empty() {
            self.at_split(Rule::InStep, name, "it is under way, and does not say from where");
        }
        let Leg::Shift { bites, bite, .. } = &motion.leg else {
            return;
        };
        if *bite == 0 || bite > bites {
            let what = format!("it is at bite {bite} of {bites}");
            self.at_split(Rule::InStep, name, what);
        }
        // Every share lies between where this leg began and where it goes, which only the last bite shows.
        for (zone, item) in &split.items {
            let Some(from) = motion.from.get(zone) else {
                continue;
            };
            let moved = from.reference() != item.reference();
            if moved && item.generation < from.generation {
                self.at(Rule::InStep, (name, zone), "it is older than where its leg began");
            }
        }
    }

    /// Whether what an item says was derived from an earlier commit, to which its split goes back: an abort, a verdict, or
    /// items that are written anew as they were.
    fn goes_back(&self, at: (&SplitName, &ZoneName), item: &Item) -> bool {
        let split = self.plan.splits.get(at.0);
        let course = split.and_then(|split| split.course.as_ref());
        let motion = course.and_then(|course| course.motion.as_ref());
        let back = motion.is_some() || course.is_some_and(|course| course.quarantine.is_some());
        let origin = motion.and_then(|motion| motion.origin.get(at.1));
        let Some(parent) = self.parent else {
            return origin.is_some_and(|origin| origin.commit == item.commit);
        };
        // what another zone of the split runs is as good: all go where some are
        let before = parent
            .splits
            .get(at.0)
            .into_iter()
            .flat_map(|split| split.items.values());
        let leap = self.plan.generation.0 > parent.generation.0.saturating_add(1);
        let before = before.filter(|_| leap || back);
        let mut earlier = before.chain(origin);
        earlier.any(|earlier| earlier.commit == item.commit && earlier.routes == item.routes)
    }

    /// What an item may be, given the item before it.
    fn history(&mut self, at: (&SplitName, &ZoneName), item: &Item) {
        let plan = self.plan;
        let is_new = item.generation == plan.generation;
        let of_plan = plan.commits.iter().any(|of| of.commit == item.commit);
        if is_new && !of_plan && !self.goes_back(at, item) {
            let what = format!(
                "it changed by commit {}, which is none of the plan's",
                item.commit
            );
            self.at(Rule::Provenance, at, what);
        }
        if !is_new && plan.parent.is_none() {
            let what = format!(
                "generation {} in the first plan, which is {}",
                item.generation, plan.generation
            );
            self.at(Rule::Monotone, at, what);
        }
        let Some(parent) = self.parent else { return };
        let before = parent.splits.get(at.0).and_then(|split| split.items.get(at.1));
        // Another split of the parent had this one's service: its callers are the same.
        let displaced = self.past.of_service(at.0, &item.service, item.port);
        let displaced = displaced.and_then(|split| split.items.get(at.1));
        self.drain(at, item, [before, displaced].into_iter().flatten());
        let Some(before) = before else {
            if !is_new {
                let what = format!("it is new, but has generation {}", item.generation);
                self.at(Rule::Monotone, at, what);
            }
            return;
        };
        if item.digest == before.digest {
            // a leap tells of plans that this history does not hold: then everything is written anew
            let leap = plan.generation.0 > parent.generation.0.saturating_add(1);
            if leap && !is_new {
                let what = "plans that this history does not hold came before, but it was not written anew";
                self.at(Rule::Monotone, at, what);
            } else if !leap && item.generation != before.generation {
                let what = format!(
                    "nothing changed, but its generation went from {} to {}",
                    before.generation, item.generation
                );
                self.at(Rule::Monotone, at, what);
            }
            if !is_new && item.commit != before.commit {
                let what = format!("nothing changed, but its commit is now {}", item.commit);
                self.at(Rule::Provenance, at, what);
            }
        } else if !is_new {
            let what = format!("it changed, but has generation {}", item.generation);
            self.at(Rule::Monotone, at, what);
        }
    }

    /// What the items before it, of this split or of its service, had weight for is still there.
    fn drain<'b>(
        &mut self,
        at: (&SplitName, &ZoneName),
        item: &Item,
        before: impl Iterator<Item = &'b Arc<Item>>,
    ) {
        let there =
            |item: &Item, to: &Destination| item.destinations.values().any(|at| at.in_kuma() == to.in_kuma());
        let before: Vec<_> = before.collect();
        for was in &before {
            let lost =
                |backend: &BackendName| was.destinations.get(backend).is_some_and(|to| !there(item, to));
            for backend in was.weighted() {
                if item.protocol != Protocol::Tcp && lost(backend) {
                    let what = format!("{backend} had weight in the parent and is no destination now");
                    self.at(Rule::Drain, at, what);
                }
            }
        }
        for backend in &item.retiring {
            let Some(is) = item.destinations.get(backend) else {
                continue;
            };
            if before.is_empty() {
                let what = format!("{backend} retires in an item that is new");
                self.at(Rule::Drain, at, what);
            } else if !before.iter().any(|was| there(was, is)) {
                let what = format!("{backend} retires, but was no destination in the parent");
                self.at(Rule::Drain, at, what);
            }
        }
    }
}
