//! The zones' gateways as they really are: nodes of Kong, what each of them runs, and the name servers by which their backends
//! are found. Kong is the sandbox's double, asked without a network; what it runs is read from its own entities and balancers
//! here, not by Weir's code.
//!
//! Only some lives have gateways: those of [`are_in`]. All others live as if there were none.

mod carry;
mod harm;
mod turns;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use http::Method;
use serde_json::{Value, json};
use weir_sandbox::kong::{Database, Options, Still};

use super::human::{BACKENDS, Declared};
use super::world::{SPLITS, ZONES, stamp};
use super::zone::Place;
use super::{Dice, Ms};

pub(crate) use carry::{Lookup, set_clock};
pub(crate) use turns::{GateEvent, Side};

/// The gateway's name, in each zone that has one.
pub(crate) const EDGE: &str = "edge";

/// What a site keeps itself at a Kong without a database.
pub(crate) const BASE: &str = "_format_version: \"3.0\"\nservices:\n  - {name: legacy, host: 10.9.0.1, port: 80, retries: 3, connect_timeout: \
     4000, routes: [{name: legacy, paths: [/legacy], strip_path: false}]}\n  - {name: basket, host: old.basket, port: 81, routes: \
     [{name: basket, paths: [/basket], preserve_host: true}]}\nupstreams:\n  - {name: old.basket, targets: [{target: \
     \"10.9.0.2:81\", weight: 7}, {target: \"10.9.0.3:81\", weight: 3}]}\n  - {name: site.watch, healthchecks: {active: {healthy: \
     {interval: 1, successes: 1}, unhealthy: {interval: 1}}}, targets: [{target: \"10.0.0.1:8080\", weight: 1}]}\nconsumers:\n  - {username: ada}\nplugins:\n  - {name: \
     rate-limiting, config: {minute: 5}}\n";

/// Whether the life with this seed has gateways.
pub(crate) fn are_in(seed: u64) -> bool {
    matches!(seed % 16, 9 | 13)
}

/// How a gateway is configured, as it is declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) database: bool,
    pub(crate) base: bool,
}

impl Kind {
    /// As a zone declares it.
    pub(crate) fn text(self) -> String {
        let channel = if self.database { "admin-db" } else { "admin-dbless" };
        let base = if self.base { ", base: edge.yaml" } else { "" };
        format!(", gateways: [{{name: {EDGE}, channel: {channel}{base}}}]")
    }
}

/// The port of a split's backends.
fn port(split: usize) -> u16 {
    8_080 + u16::try_from(split).unwrap_or_default()
}

/// A backend of each place behind a door: an address; a name; one of both.
const NAMES: [Option<&str>; 3] = [None, Some("cloud.example.com"), Some("lab.example.com")];
const ADDRESSES: [Option<&str>; 3] = [Some("10.0.0.1"), None, Some("10.0.2.1")];

/// The doors of a split, as it declares them.
pub(crate) fn doors(split: usize, declared: &Declared) -> String {
    if declared.door == 0 {
        return String::new();
    }
    let backends = declared.backends.iter().map(|place| {
        let all = ADDRESSES[*place].into_iter().chain(NAMES[*place]);
        let all: Vec<String> = all.map(|host| format!("\"{host}:{}\"", port(split))).collect();
        format!("{}: [{}]", BACKENDS[*place], all.join(", "))
    });
    let backends: Vec<String> = backends.collect();
    let path = if declared.door == 1 { "" } else { "/new" };
    let mut text = String::new();
    let _ = writeln!(
        text,
        "  gateways: [{{gateway: {EDGE}, paths: [{path}/{}], backends: {{{}}}}}]",
        SPLITS[split],
        backends.join(", ")
    );
    text
}

/// Where an address of a split's backend is.
fn place_of(address: &str) -> Option<(Place, IpAddr)> {
    let (host, _) = address.rsplit_once(':')?;
    let ip: IpAddr = host.parse().ok()?;
    let IpAddr::V4(four) = ip else { return None };
    let [10, 0, place, _] = four.octets() else {
        return None;
    };
    Some((usize::from(place), ip))
}

/// What one route of a split gives at a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Given {
    /// Of which item it says to be.
    pub(crate) generation: u64,
    /// In basis points, without those that get nothing; none if they are no whole ones.
    pub(crate) shares: Option<BTreeMap<Place, u32>>,
    /// As they are, without those that are 0.
    pub(crate) weights: BTreeMap<Place, u64>,
    /// Where something goes.
    pub(crate) addresses: BTreeSet<(Place, IpAddr)>,
    /// The sum of all weights.
    pub(crate) total: u64,
    /// The labels of the pins that its targets say to be of.
    pub(crate) pins: BTreeSet<String>,
}

/// What a node runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Truth {
    /// By split and route.
    pub(crate) ways: BTreeMap<(usize, String), Given>,
    /// Everything that is not Weir's, each as a text to the last field but ids and times.
    pub(crate) foreign: BTreeSet<String>,
    /// It has nothing at all.
    pub(crate) empty: bool,
}

impl Truth {
    /// The routes of a split.
    pub(crate) fn of(&self, split: usize) -> BTreeMap<&str, &Given> {
        let ways = self.ways.iter().filter(|((of, _), _)| *of == split);
        ways.map(|((_, route), given)| (route.as_str(), given)).collect()
    }
}

/// How a node answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    Open,
    /// Nobody there.
    Closed,
    /// It takes connections and says nothing.
    Mute,
    /// So many of a hundred questions are cut off, before or after they are done.
    Cut(u64),
    /// It is read from, and takes nothing.
    Busy,
}

/// One node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) still: Still,
    pub(crate) reach: Reach,
    pub(crate) truth: Arc<Truth>,
    /// What it ran since when, for as long as anybody may still say it.
    pub(crate) history: Vec<(Ms, Arc<Truth>)>,
}

/// A zone's gateway.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) zone: Place,
    pub(crate) kind: Kind,
    pub(crate) nodes: Vec<Node>,
    database: Option<Database>,
    /// What is there of the site's own.
    pub(crate) own: BTreeSet<String>,
    /// Rises with every change of anything here.
    pub(crate) version: u64,
    /// Nodes that may take targets for dead.
    pub(crate) sick: BTreeSet<usize>,
    /// Somebody else wrote to it, and it was not right since.
    pub(crate) tampered: bool,
    /// When something here was last other than it should be.
    pub(crate) troubled: Ms,
    /// When somebody last wrote to it, and when somebody else than Weir did.
    pub(crate) wrote: Ms,
    pub(crate) strange: Ms,
    /// Its hosts' clock.
    clock: Arc<AtomicI64>,
}

fn options(number: usize, clock: &Arc<AtomicI64>) -> Options {
    Options {
        workers: 1,
        seed: 1 + number as u64,
        now: Some(Arc::clone(clock)),
        ..Options::default()
    }
}

/// An entity as a text: without its id and its times, and with names in the place of others' ids.
fn text(entity: &Value, names: &BTreeMap<String, String>) -> String {
    let mut entity = entity.clone();
    if let Some(fields) = entity.as_object_mut() {
        for field in ["id", "created_at", "updated_at"] {
            fields.remove(field);
        }
        for value in fields.values_mut() {
            if let Some(id) = value.pointer("/id").and_then(Value::as_str) {
                *value = names.get(id).cloned().unwrap_or_default().into();
            }
        }
    }
    entity.to_string()
}

const KINDS: [&str; 6] = [
    "services",
    "routes",
    "upstreams",
    "targets",
    "consumers",
    "plugins",
];

fn is_ours(entity: &Value) -> bool {
    let tags = entity["tags"].as_array().into_iter().flatten();
    tags.filter_map(Value::as_str).any(|tag| tag == "weir")
}

/// What a tag of ours says.
pub(crate) fn said<'a>(entity: &'a Value, what: &str) -> Option<&'a str> {
    let tags = entity["tags"].as_array().into_iter().flatten();
    let mut tags = tags.filter_map(Value::as_str);
    tags.find_map(|tag| tag.strip_prefix("weir.")?.strip_prefix(what)?.strip_prefix('.'))
}

/// What a node runs.
fn truth(still: &Still) -> Truth {
    let mut truth = Truth {
        empty: true,
        ..Truth::default()
    };
    let all: Vec<(&str, Arc<Value>)> = KINDS
        .iter()
        .flat_map(|kind| still.all(kind).into_iter().map(move |one| (*kind, one)))
        .collect();
    truth.empty = all.is_empty();
    let name = |one: &Value| {
        let name = one["name"].as_str().or(one["username"].as_str());
        name.map(str::to_owned)
    };
    let names = all
        .iter()
        .filter_map(|(_, one)| Some((one["id"].as_str()?.to_owned(), name(one)?)));
    let names: BTreeMap<String, String> = names.collect();
    let foreign = all.iter().filter(|(_, one)| !is_ours(one));
    truth.foreign = foreign
        .map(|(kind, one)| format!("{kind} {}", text(one, &names)))
        .collect();
    for way in still.ways() {
        let split = said(&way.route, "split");
        let split = split.and_then(|split| SPLITS.iter().position(|name| *name == split));
        let (Some(split), true) = (split, is_ours(&way.route)) else {
            continue;
        };
        let route = said(&way.route, "route").unwrap_or_default().to_owned();
        let gives = way.gives.unwrap_or_default();
        let total: u64 = gives.values().sum();
        let mut sums: BTreeMap<Place, u64> = BTreeMap::new();
        let mut addresses = BTreeSet::new();
        for (address, weight) in gives.iter().filter(|(_, weight)| **weight > 0) {
            // Somebody's whom nobody declared is in no place.
            let (place, ip) = place_of(address).unwrap_or((ZONES.len(), IpAddr::from([0, 0, 0, 0])));
            *sums.entry(place).or_default() += weight;
            addresses.insert((place, ip));
        }
        let share = |(place, sum): (Place, u64)| {
            let parts = sum * 10_000;
            let whole = total > 0 && parts.is_multiple_of(total);
            whole.then(|| Some((place, u32::try_from(parts / total).ok()?)))?
        };
        // What was written last says the generation: where there is a database, any of what the route leads to.
        let below = all.iter().filter(|(kind, one)| {
            matches!(*kind, "services" | "upstreams" | "targets")
                && said(one, "split") == Some(SPLITS[split])
                && said(one, "route").unwrap_or_default() == route
        });
        let targets = below.clone().filter(|(kind, _)| *kind == "targets");
        let pins = targets.filter_map(|(_, one)| said(one, "pin"));
        let pins = pins.map(str::to_owned).collect();
        let marks = below.map(|(_, one)| &**one).chain([&*way.route]);
        let generation = marks
            .filter_map(|one| said(one, "generation")?.parse().ok())
            .max();
        truth.ways.insert(
            (split, route),
            Given {
                generation: generation.unwrap_or_default(),
                shares: sums.clone().into_iter().map(share).collect(),
                weights: sums,
                addresses,
                total,
                pins,
            },
        );
    }
    truth
}

impl Node {
    fn new(still: Still, now: Ms) -> Self {
        let truth = Arc::new(truth(&still));
        Self {
            still,
            reach: Reach::Open,
            history: vec![(now, Arc::clone(&truth))],
            truth,
        }
    }

    /// Reads again what it runs; what it ran before, if that is another thing.
    pub(crate) fn reread(&mut self, now: Ms) -> Option<Arc<Truth>> {
        let is = truth(&self.still);
        if is == *self.truth {
            return None;
        }
        let is = Arc::new(is);
        self.history.push((now, Arc::clone(&is)));
        let old = self.history.iter().rposition(|(since, _)| *since + 240_000 < now);
        if let Some(old) = old {
            self.history.drain(..old);
        }
        Some(std::mem::replace(&mut self.truth, is))
    }

    /// What it ran at a time.
    pub(crate) fn at(&self, then: Ms) -> Option<&Truth> {
        let mut history = self.history.iter().rev();
        let found = history.find(|(since, _)| *since <= then);
        found.map(|(_, truth)| &**truth)
    }

    /// Whether it ran something at some time since then.
    pub(crate) fn ran(&self, since: Ms, is: impl Fn(&Truth) -> bool) -> bool {
        let first = self.history.iter().rposition(|(at, _)| *at <= since).unwrap_or(0);
        self.history[first..].iter().any(|(_, truth)| is(truth))
    }
}

/// Posts a document to a node, as people do.
fn post(still: &Still, document: &str) -> u16 {
    let body = json!({ "config": document }).to_string();
    let body = Some(("application/json", body.as_bytes()));
    still.ask(false, &Method::POST, "config", body).status
}

impl Gate {
    /// A zone's gateway, as it was before Weir came.
    pub(crate) fn new(dice: &mut Dice, zone: Place) -> Option<Self> {
        let database = dice.chance(45).then(Database::new);
        let kind = Kind {
            database: database.is_some(),
            base: database.is_none() && dice.chance(60),
        };
        let clock = Arc::new(AtomicI64::new(stamp(0).as_millisecond()));
        let mut nodes = Vec::new();
        for number in 0..1 + usize::from(dice.chance(40)) {
            let still = match &database {
                Some(database) => Still::on(database, options(number, &clock)),
                None => Still::without_database(options(number, &clock)),
            };
            nodes.push(Node::new(still.ok()?, 0));
        }
        let mut gate = Self {
            zone,
            kind,
            nodes,
            database,
            own: BTreeSet::new(),
            version: 0,
            sick: BTreeSet::new(),
            tampered: false,
            troubled: 0,
            wrote: 0,
            strange: 0,
            clock,
        };
        if kind.database {
            let write = |path: &str, body: Value| {
                let body = body.to_string();
                let body = Some(("application/json", body.as_bytes()));
                gate.nodes[0].still.ask(false, &Method::POST, path, body);
            };
            write("upstreams", json!({"name": "old.basket"}));
            write(
                "upstreams/old.basket/targets",
                json!({"target": "10.9.0.2:81", "weight": 7}),
            );
            write("services", json!({"name": "basket", "host": "old.basket"}));
            write(
                "services/basket/routes",
                json!({"name": "basket", "paths": ["/basket"]}),
            );
            write(
                "plugins",
                json!({"name": "rate-limiting", "config": {"minute": 5}}),
            );
        }
        if kind.base {
            for node in &gate.nodes {
                post(&node.still, BASE);
            }
        }
        for node in &mut gate.nodes {
            node.still.looks();
            node.still.rebuilds();
            node.truth = Arc::new(truth(&node.still));
            node.history = vec![(0, Arc::clone(&node.truth))];
        }
        gate.own = gate.nodes[0].truth.foreign.clone();
        Some(gate)
    }

    /// A node without a database starts anew, and has lost what it was given.
    pub(crate) fn restart(&mut self, number: usize, now: Ms) {
        let still = match &self.database {
            Some(database) => Still::on(database, options(number, &self.clock)),
            None => Still::without_database(options(number, &self.clock)),
        };
        if let (Ok(still), Some(node)) = (still, self.nodes.get_mut(number)) {
            node.still = still;
            node.reread(now);
        }
        self.version += 1;
        self.wrote = now;
    }

    /// It is so late.
    pub(crate) fn is_now(&self, now: Ms) {
        self.clock.store(stamp(now).as_millisecond(), Ordering::Relaxed);
    }

    /// All of it works.
    pub(crate) fn is_well(&self) -> bool {
        !self.tampered && self.nodes.iter().all(|node| node.reach == Reach::Open)
    }
}
