//! The one document of a database-less Kong: the site's base to the last field, and our own entities beside it.

mod taken;
mod written;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use md5::{Digest as _, Md5};
use serde_json::Value;
use serde_json::value::RawValue;
use weir_model::{Door, Entry, FederationName, RouteName, SplitName, Via, sabotaged};
use weir_planner::{GatewayPlan, Generation, Item};

use crate::kong::base::{self, Reading};
use crate::kong::choosing;
use crate::kong::claims;
use crate::kong::counting::{Counted, Counting};
use crate::kong::entities::{self, Mark, mesh_name, name};
use crate::kong::expected::{Expected, Upstream};
use crate::kong::fits::fits;
use crate::kong::identity::Kept;
use crate::kong::targets::{Resolved, Targets, targets};
use crate::kong::together::{Ways, policies, together, twice};

/// The format that is written where there is no base.
const FORMAT: &str = "3.0";

/// A split at a gateway. The item's weights are those to be programmed: pins and fallbacks are in them.
#[derive(Debug, Clone, Copy)]
pub struct AtDoor<'a> {
    /// The item.
    pub item: &'a Item,
    /// Its door at the gateway.
    pub door: &'a Door,
    /// Which pin its weights are of, if somebody pinned them on a host of the zone.
    pub pin: Option<Pinned<'a>>,
}

impl AtDoor<'_> {
    /// The newest generation of its split that is known to whoever gives it.
    pub(crate) fn known(&self) -> Generation {
        let pinned = self.pin.map(|pin| pin.known);
        pinned.map_or(self.item.generation, |known| known.max(self.item.generation))
    }
}

/// Somebody pinned a split on a host of the zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pinned<'a> {
    /// The pin's label; no other pin has it.
    pub label: &'a str,
    /// The newest generation of the split that this agent knows: what is pinned is of an older one, and is wanted all the same.
    pub known: Generation,
}

/// Why there is no document: what cannot be together, or cannot be said to Kong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// The split whose door it is about; none if it is about the base alone.
    pub split: Option<SplitName>,
    /// What is wrong, in words.
    pub what: String,
    /// What a person can do.
    pub help: String,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.split {
            Some(split) => write!(f, "split {split}: ")?,
            None => write!(f, "base: ")?,
        }
        write!(f, "{}; {}", self.what, self.help)
    }
}

/// A document, ready to be posted. The same input gives the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Canonical JSON, to be sent as form field `config` to the byte.
    pub bytes: Vec<u8>,
    /// MD5 of the bytes, 32 hexadecimal digits: Kong's `configuration_hash` when it runs them (fact 3).
    pub hash: String,
    /// Whose entities of ours are in it.
    pub federation: FederationName,
    /// The generation in which the gateway itself, its base included, last changed.
    pub gateway: Generation,
    /// What is to be read back, by split: one for each door.
    pub doors: BTreeMap<SplitName, Expected>,
    /// Entities of the site that are in it.
    pub kept: Kept,
    /// Whether requests are counted.
    pub counted: Counted,
    /// What a person should know and that keeps nobody from posting.
    pub notes: Vec<String>,
}

/// All that can be told without knowing any address, for whoever accepts a declaration or plans; what a person should know
/// and that holds nothing.
///
/// # Errors
/// Every conflict that there would be whatever the addresses are.
pub fn check(
    federation: &FederationName,
    gateway: &GatewayPlan,
    doors: &[AtDoor<'_>],
) -> Result<Vec<String>, Vec<Conflict>> {
    prepare(federation, gateway, doors, &BTreeSet::new()).map(|prepared| prepared.notes)
}

/// What of these doors is split twice, or by nobody, at this gateway: of those that are there already it is for a person to mend,
/// and for nobody to wait for.
pub fn split_twice(
    federation: &FederationName,
    gateway: &GatewayPlan,
    doors: &[AtDoor<'_>],
) -> BTreeSet<Conflict> {
    let begun = begin(federation, gateway, doors);
    begun
        .map(|begun| begun.twice.into_iter().collect())
        .unwrap_or_default()
}

/// The document of a gateway. None if there is neither a base nor a door: an empty document is never sent.
///
/// # Errors
/// Every conflict, those of addresses included.
pub fn document(
    federation: &FederationName,
    gateway: &GatewayPlan,
    doors: &[AtDoor<'_>],
    resolved: &Resolved,
) -> Result<Option<Document>, Vec<Conflict>> {
    counting_document(federation, gateway, doors, resolved, (None, &BTreeSet::new()))
}

/// The same, with requests counted if somebody chose that: counting is no reason for a conflict. Nor is what [`split_twice`] found
/// in what is in force there: that is a note.
///
/// # Errors
/// As of [`document`].
pub fn counting_document(
    federation: &FederationName,
    gateway: &GatewayPlan,
    doors: &[AtDoor<'_>],
    resolved: &Resolved,
    (counting, known): (Option<&Counting>, &BTreeSet<Conflict>),
) -> Result<Option<Document>, Vec<Conflict>> {
    let mut prepared = prepare(federation, gateway, doors, known)?;
    let counted = counting.map(|counting| prepared.count(counting, (federation, gateway), doors));
    let (upstreams, expected) = prepared.upstreams((federation, gateway), doors, resolved, targets)?;
    if doors.is_empty() && prepared.kept.is_empty() {
        return Ok(None);
    }
    let text = prepared
        .write(upstreams)
        .map_err(|why| vec![of_base(why, "write it as Kong's documentation says")])?;
    Ok(Some(Document {
        hash: hash(&text),
        bytes: text.into_bytes(),
        federation: federation.clone(),
        gateway: gateway.generation,
        doors: expected,
        kept: prepared.kept,
        counted: counted.unwrap_or_default(),
        notes: prepared.notes,
    }))
}

fn hash(text: &str) -> String {
    let hash = Md5::digest(text);
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The document of a gateway from which the last door went and that never had a base: one upstream that nothing leads to, for a
/// Kong with an empty document is not ready. An ingress controller does the same.
pub fn nothing(federation: &FederationName, gateway: &GatewayPlan) -> Document {
    let tags = entities::nothings(federation, gateway.generation);
    let upstream = serde_json::json!({ "name": format!("{}nothing", entities::OURS), "tags": tags });
    let text = match sabotaged("send-nothing") {
        true => serde_json::json!({ "_format_version": FORMAT }).to_string(),
        false => serde_json::json!({ "_format_version": FORMAT, "upstreams": [upstream] }).to_string(),
    };
    Document {
        hash: hash(&text),
        bytes: text.into_bytes(),
        federation: federation.clone(),
        gateway: gateway.generation,
        doors: BTreeMap::new(),
        kept: Kept::default(),
        counted: Counted::new(),
        notes: Vec::new(),
    }
}

/// How weights become targets: [`targets`] or [`crate::kong::targets::summing`].
pub(crate) type Weighing = fn(&AtDoor<'_>, &Resolved, &RouteName) -> Result<Targets, String>;

/// Upstreams as they are written, and what is to be read back of each split.
type Upstreams = (Vec<Value>, BTreeMap<SplitName, Expected>);

impl Prepared<'_> {
    /// The upstreams of these doors with their targets, and what is to be read back.
    pub(crate) fn upstreams(
        &self,
        (federation, gateway): (&FederationName, &GatewayPlan),
        doors: &[AtDoor<'_>],
        resolved: &Resolved,
        weighing: Weighing,
    ) -> Result<Upstreams, Vec<Conflict>> {
        let mut conflicts = Vec::new();
        let mut upstreams: Vec<Value> = Vec::new();
        let mut expected: BTreeMap<SplitName, Expected> = BTreeMap::new();
        for at in doors {
            let mark = mark(federation, gateway, at);
            let host = self.hosts.get(&at.item.split).map(String::as_str);
            let mut here = BTreeMap::new();
            for route in &at.item.routes {
                if let Via::Mesh(_) = at.door.via {
                    continue;
                }
                match weighing(at, resolved, &route.name) {
                    Err(why) => conflicts.push(Conflict {
                        split: Some(at.item.split.clone()),
                        what: format!("route {}: {why}", route.name),
                        help: "the gateway keeps what it has until the addresses or the weights are others"
                            .to_owned(),
                    }),
                    Ok(targets) => {
                        upstreams.push(mark.upstream(&route.name, &targets, host));
                        let name = name(&at.item.split, &route.name);
                        here.insert(
                            route.name.clone(),
                            Upstream {
                                name,
                                targets,
                                names: BTreeMap::new(),
                                drains: false,
                            },
                        );
                    }
                }
            }
            let one = Expected {
                generation: at.item.generation,
                known: at.known(),
                // Where the mesh carries the weights nothing here says that they are pinned.
                pin: at
                    .pin
                    .filter(|_| !here.is_empty())
                    .map(|pin| pin.label.to_owned()),
                upstreams: here,
            };
            expected.insert(at.item.split.clone(), one);
        }
        let names = upstreams.iter().filter_map(|upstream| upstream["name"].as_str());
        let found = twice(doors, &self.ways(names));
        conflicts.extend(found.into_iter().filter(|one| !self.known.contains(one)));
        if conflicts.is_empty() {
            Ok((upstreams, expected))
        } else {
            Err(conflicts)
        }
    }
}

pub(crate) fn mark<'a>(federation: &'a FederationName, gateway: &GatewayPlan, at: &AtDoor<'a>) -> Mark<'a> {
    Mark {
        federation,
        gateway: gateway.generation,
        item: at.item,
        pin: at.pin.map(|pin| pin.label),
    }
}

fn of_base(what: impl Into<String>, help: impl Into<String>) -> Conflict {
    Conflict {
        split: None,
        what: what.into(),
        help: help.into(),
    }
}

fn of_door(split: &SplitName, what: impl Into<String>, help: impl Into<String>) -> Conflict {
    Conflict {
        split: Some(split.clone()),
        what: what.into(),
        help: help.into(),
    }
}

/// All of a document but targets.
#[derive(Debug)]
pub(crate) struct Prepared<'a> {
    pub(crate) reading: Option<Reading<'a>>,
    /// Services of ours, each with its route.
    pub(crate) services: Vec<Value>,
    /// Plugins of ours on services of the base.
    pub(crate) plugins: Vec<Value>,
    /// Services of the base that are taken over, by name.
    taken: BTreeMap<String, Box<RawValue>>,
    /// Which split takes over which.
    takers: BTreeMap<String, SplitName>,
    /// What backends of a split are called in `Host`.
    hosts: BTreeMap<SplitName, String>,
    kept: Kept,
    /// What was split twice before.
    known: BTreeSet<Conflict>,
    pub(crate) notes: Vec<String>,
}

/// What is prepared, and what speaks against it.
struct Begun<'a> {
    prepared: Prepared<'a>,
    conflicts: Vec<Conflict>,
    /// Of one path both would split, or neither.
    twice: Vec<Conflict>,
}

/// All of a document but targets. What is `known` to be split twice is in force already, and a note.
pub(crate) fn prepare<'a>(
    federation: &FederationName,
    gateway: &'a GatewayPlan,
    doors: &[AtDoor<'_>],
    known: &BTreeSet<Conflict>,
) -> Result<Prepared<'a>, Vec<Conflict>> {
    let Begun {
        mut prepared,
        mut conflicts,
        twice,
    } = begin(federation, gateway, doors)?;
    for one in twice {
        match known.contains(&one) {
            true => {
                prepared
                    .notes
                    .push(format!("{one}; it is so there already, and holds nobody"));
                prepared.known.insert(one);
            }
            false => conflicts.push(one),
        }
    }
    match conflicts.is_empty() {
        true => Ok(prepared),
        false => Err(conflicts),
    }
}

fn begin<'a>(
    federation: &FederationName,
    gateway: &'a GatewayPlan,
    doors: &[AtDoor<'_>],
) -> Result<Begun<'a>, Vec<Conflict>> {
    let mut conflicts = Vec::new();
    let reading = gateway.base.as_ref().map(Reading::of).transpose();
    let reading = reading.map_err(|why| vec![of_base(why, "a base is an object of lists of entities")])?;
    let found = reading.as_ref().map(Reading::entities).unwrap_or_default();
    let ours = doors.iter().flat_map(|at| {
        let routes = at
            .item
            .routes
            .iter()
            .map(|route| name(&at.item.split, &route.name));
        routes.chain([mesh_name(&at.item.split)])
    });
    let ours: BTreeSet<String> = ours.collect();
    let mut prepared = Prepared {
        kept: base::kept(&found),
        notes: base::notes(&found),
        services: Vec::new(),
        plugins: Vec::new(),
        taken: BTreeMap::new(),
        takers: BTreeMap::new(),
        hosts: BTreeMap::new(),
        known: BTreeSet::new(),
        reading: None,
    };
    if let Some(reading) = &reading {
        let wrong = base::wrong(reading, &found, &ours);
        conflicts.extend(wrong.into_iter().map(|(what, help)| of_base(what, help)));
    }
    let mut takers: BTreeMap<&str, &SplitName> = BTreeMap::new();
    for at in doors {
        let split = &at.item.split;
        if let Err(why) = entities::speaks(at) {
            conflicts.push(of_door(
                split,
                why,
                "declare another protocol, or no door at this gateway",
            ));
        }
        let routes: Vec<_> = at.item.routes.iter().map(|r| (&r.name, &r.matches)).collect();
        if let Err(why) = fits(&routes, at.door) {
            let help =
                "Kong cannot do at this door what the mesh does: declare other matches, or another door";
            conflicts.extend(why.into_iter().map(|why| of_door(split, why, help)));
            continue;
        }
        match &at.door.entry {
            Entry::Routes(routing) => {
                let before_3 = reading
                    .as_ref()
                    .is_some_and(|reading| reading.format() != Some(FORMAT));
                let odd = routing.paths.iter().find(|path| !base::is_plain_before_3(path));
                if let (true, Some(path)) = (before_3, odd) {
                    conflicts.push(of_door(
                        split,
                        format!("to the format of the base the path {path} is an expression"),
                        "write `_format_version: \"3.0\"` in the base",
                    ));
                }
                match mark(federation, gateway, at).services(at, routing) {
                    Ok(services) => prepared.services.extend(services),
                    Err(why) => conflicts.extend(
                        why.into_iter()
                            .map(|why| of_door(split, why, "declare other matches, or another door")),
                    ),
                }
                if !routing.preserve_host {
                    prepared.host_of_names(at);
                }
            }
            Entry::HttpRoute(route) => conflicts.push(of_door(
                split,
                format!("there are no HTTPRoutes at a gateway without Kong Ingress Controller, and it takes over {route}"),
                "say which `service` of the base it takes over, or which `hosts` and `paths` its own route takes",
            )),
            Entry::Service(service) => {
                if let Some(other) = takers.insert(service, split) {
                    conflicts.push(of_door(
                        split,
                        format!("service `{service}` of the base is taken over by split {other} already"),
                        "one service has one upstream: let one of both splits have it",
                    ));
                    continue;
                }
                if let Err(conflict) = prepared.take(at, service, reading.as_ref(), &found) {
                    conflicts.push(conflict);
                }
            }
        }
    }
    conflicts.extend(claims::at_odds(&prepared.services, &found));
    if !doors.is_empty() {
        prepared.notes.extend(choosing::notes(&found, &prepared.takers));
    }
    let theirs = found.iter().filter(|one| one.kind == "upstreams");
    let theirs = theirs.filter_map(|one| one.entity.get("name")?.as_str());
    let carried = doors.iter().filter(|at| matches!(at.door.via, Via::Addresses(_)));
    let of_ours = carried.flat_map(|at| {
        at.item
            .routes
            .iter()
            .map(|route| name(&at.item.split, &route.name))
    });
    let of_ours: Vec<String> = of_ours.collect();
    let ways = prepared.ways(theirs.chain(of_ours.iter().map(String::as_str)));
    let twice = together(&policies(federation, doors), doors, &ways);
    prepared.reading = reading;
    prepared
        .services
        .sort_by_key(|service| service["name"].to_string());
    Ok(Begun {
        prepared,
        conflicts,
        twice,
    })
}

impl Prepared<'_> {
    /// Where requests go on to, with these upstreams.
    fn ways<'a>(&self, upstreams: impl Iterator<Item = &'a str>) -> Ways {
        let mut ways = Ways {
            upstreams: upstreams.map(str::to_owned).collect(),
            ..Ways::default()
        };
        let own = self.services.iter().filter_map(|service| {
            let split = base::strings(service.get("tags")).find_map(entities::split_of_tag)?;
            Some((split, service["host"].as_str()?.to_owned()))
        });
        let taken = self.taken.iter().filter_map(|(service, text)| {
            let split = self.takers.get(service)?.clone();
            Some((split, base::host_of(text)?))
        });
        for (split, host) in own.chain(taken) {
            ways.leads.entry(split).or_default().insert(host);
        }
        ways
    }
}
