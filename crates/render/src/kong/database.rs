//! The entities of a Kong with a database: those that the document of a database-less one has beside the site's own, each
//! by itself, with the id that Kong would make of its name.
//!
//! What differs from a document: weights have one sum ([`SUM`](crate::kong::targets::SUM)), so that they can be changed one
//! after the other; every entity says at which gateway it stands, for several could share a database; and what is at its
//! default is said, so that a change of it by somebody else is seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use serde_json::{Map, Value, json};
use weir_model::{FederationName, GatewayName, SplitName, ZoneName};
use weir_planner::{GatewayPlan, Generation};

use crate::kong::base::strings;
use crate::kong::counting::Counting;
use crate::kong::document::{AtDoor, Conflict, prepare};
use crate::kong::entities::{OURS, PIN};
use crate::kong::expected::{Expected, Upstream};
use crate::kong::ids;
use crate::kong::targets::{Resolved, summing};

/// The kinds of our entities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An upstream.
    Upstream,
    /// A target of an upstream.
    Target,
    /// A service.
    Service,
    /// A route.
    Route,
    /// A plugin, by which requests are counted.
    Plugin,
}

impl Kind {
    /// As in paths of the Admin API.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Upstream => "upstreams",
            Self::Target => "targets",
            Self::Service => "services",
            Self::Route => "routes",
            Self::Plugin => "plugins",
        }
    }

    /// The field with its name.
    pub(crate) fn named_by(self) -> &'static str {
        match self {
            Self::Target => "target",
            Self::Plugin => "instance_name",
            Self::Upstream | Self::Service | Self::Route => "name",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(crate::kong::base::singular(self.plural()))
    }
}

/// An entity as it should be.
#[derive(Debug, Clone, PartialEq)]
pub struct Entity {
    /// Its kind.
    pub kind: Kind,
    /// Its id.
    pub id: String,
    /// Its name; of a target its address.
    pub name: String,
    /// All that is said of it but its id; null where nothing may be.
    pub fields: Map<String, Value>,
}

/// What carries one route of a split: from the route down.
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    /// The upstream with its targets; none where the mesh carries the weights.
    pub upstream: Option<WithTargets>,
    /// The service.
    pub service: Entity,
    /// Its route.
    pub route: Entity,
    /// What counts its requests; none if nobody chose that.
    pub plugin: Option<Entity>,
}

impl Chain {
    /// Where its service leads to, if the mesh carries the weights there.
    pub(crate) fn mesh_host(&self) -> Option<&str> {
        match self.upstream {
            None => self.service.fields.get("host")?.as_str(),
            Some(_) => None,
        }
    }
}

/// An upstream with its targets.
#[derive(Debug, Clone, PartialEq)]
pub struct WithTargets {
    /// The upstream.
    pub entity: Entity,
    /// Its targets, by address as Kong writes it.
    pub targets: BTreeMap<String, Entity>,
    /// What is to be read back of it.
    pub expected: Upstream,
}

/// What a Kong with a database must have of one split.
#[derive(Debug, Clone, PartialEq)]
pub struct OfSplit {
    /// What is to be read back.
    pub expected: Expected,
    /// One for each of its routes.
    pub chains: Vec<Chain>,
}

impl OfSplit {
    /// Whether its requests are to be counted.
    pub fn is_to_be_counted(&self) -> bool {
        self.chains.iter().any(|chain| chain.plugin.is_some())
    }
}

/// All that is ours in a Kong with a database. The same input gives the same.
#[derive(Debug, Clone, PartialEq)]
pub struct Entities {
    /// Whose they are.
    pub federation: FederationName,
    /// At which gateway of which zone they stand, as the tag says it: `fra.edge`.
    pub at: String,
    /// The generation in which the gateway itself last changed.
    pub gateway: Generation,
    /// By split.
    pub doors: BTreeMap<SplitName, OfSplit>,
    /// What a person should know and that keeps nobody from writing.
    pub notes: Vec<String>,
}

impl Entities {
    /// The names that must be ours or nobody's, by kind.
    pub fn names(&self) -> impl Iterator<Item = (Kind, &str)> {
        let chains = self.doors.values().flat_map(|of| &of.chains);
        chains.flat_map(|chain| {
            let upstream = chain.upstream.iter().map(|upstream| &upstream.entity);
            let all = upstream.chain([&chain.service, &chain.route]);
            all.map(|entity| (entity.kind, entity.name.as_str()))
        })
    }

    /// The names by which services of ours lead into the mesh: where there is an upstream of such a name, Kong goes by that.
    pub fn mesh_hosts(&self) -> impl Iterator<Item = &str> {
        let chains = self.doors.values().flat_map(|of| &of.chains);
        let hosts = chains.filter_map(Chain::mesh_host);
        // No upstream can have an address for its name.
        hosts.filter(|host| host.parse::<IpAddr>().is_err())
    }
}

/// The entities of a gateway with a database. Of no doors none: that is an order to remove ours, and nobody else's.
///
/// # Errors
/// Every conflict, as [`crate::kong::document()`] has them.
pub fn entities(
    federation: &FederationName,
    (zone, name): (&ZoneName, &GatewayName),
    gateway: &GatewayPlan,
    doors: &[AtDoor<'_>],
    resolved: &Resolved,
) -> Result<Entities, Vec<Conflict>> {
    let known = BTreeSet::new();
    counting_entities(federation, (zone, name), gateway, doors, resolved, (None, &known))
}

/// The same, with requests counted if somebody chose that; what was split twice before is a note.
///
/// # Errors
/// As of [`entities`].
pub fn counting_entities(
    federation: &FederationName,
    (zone, name): (&ZoneName, &GatewayName),
    gateway: &GatewayPlan,
    doors: &[AtDoor<'_>],
    resolved: &Resolved,
    (counting, known): (Option<&Counting>, &BTreeSet<Conflict>),
) -> Result<Entities, Vec<Conflict>> {
    if gateway.base.is_some() {
        return Err(vec![Conflict {
            split: None,
            what: "a Kong with a database has no base document".to_owned(),
            help: "remove `base` from the gateway: with a database only entities with Weir's tag are touched"
                .to_owned(),
        }]);
    }
    let mut prepared = prepare(federation, gateway, doors, known)?;
    if let Some(counting) = counting {
        prepared.count(counting, (federation, gateway), doors);
    }
    let (upstreams, expected) = prepared.upstreams((federation, gateway), doors, resolved, summing)?;
    let at = format!("{zone}.{name}");
    let mut with_targets: BTreeMap<String, WithTargets> = BTreeMap::new();
    let mut expected_upstreams: BTreeMap<&str, &Upstream> = BTreeMap::new();
    for one in expected.values().flat_map(|expected| expected.upstreams.values()) {
        expected_upstreams.insert(&one.name, one);
    }
    for value in upstreams {
        let Some((mut entity, inner)) = whole(Kind::Upstream, value, "targets", &at) else {
            continue;
        };
        let plain =
            json!({"host_header": null, "hash_on": "none", "hash_fallback": "none", "use_srv_name": false});
        said(&mut entity, plain);
        // Its targets say it: an upstream that is written to is taken up seconds later, and a pin is in haste.
        if let Some(Value::Array(tags)) = entity.fields.get_mut("tags") {
            tags.retain(|tag| !tag.as_str().is_some_and(|tag| tag.starts_with(PIN)));
        }
        let Some(expected) = expected_upstreams.get(entity.name.as_str()) else {
            continue;
        };
        let targets = inner.into_iter().filter_map(|target| {
            let (mut target, _) = whole(Kind::Target, target, "", &at)?;
            target.id = ids::of_target(&entity.id, &target.name);
            Some((target.name.clone(), target))
        });
        let one = WithTargets {
            targets: targets.collect(),
            expected: Upstream::clone(expected),
            entity,
        };
        with_targets.insert(one.entity.name.clone(), one);
    }
    let mut chains: BTreeMap<String, Vec<Chain>> = BTreeMap::new();
    for mut value in prepared.services {
        let plugins = value.as_object_mut().and_then(|fields| fields.remove("plugins"));
        let Some((mut service, routes)) = whole(Kind::Service, value, "routes", &at) else {
            continue;
        };
        said(&mut service, json!({"path": null, "enabled": true}));
        let split = of_split(&service.fields).unwrap_or_default().to_owned();
        for route in routes {
            let Some((mut route, _)) = whole(Kind::Route, route, "", &at) else {
                continue;
            };
            route
                .fields
                .insert("service".to_owned(), json!({"id": service.id}));
            let plain = json!({"hosts": null, "paths": null, "methods": null, "headers": null, "snis": null, "sources": null,
                "destinations": null, "regex_priority": 0, "path_handling": "v0", "https_redirect_status_code": 426});
            said(&mut route, plain);
            let plugin = plugins.as_ref().and_then(|plugins| {
                let (mut plugin, _) = whole(Kind::Plugin, plugins.get(0)?.clone(), "", &at)?;
                let place = json!({"service": {"id": service.id}, "route": null, "consumer": null});
                said(&mut plugin, place);
                Some(plugin)
            });
            let host = service.fields.get("host").and_then(Value::as_str);
            chains.entry(split.clone()).or_default().push(Chain {
                upstream: host.and_then(|host| with_targets.get(host)).cloned(),
                service: service.clone(),
                route,
                plugin,
            });
        }
    }
    let one = |(split, expected): (SplitName, Expected)| {
        let chains = chains.remove(split.as_str()).unwrap_or_default();
        (split, OfSplit { expected, chains })
    };
    Ok(Entities {
        federation: federation.clone(),
        at,
        gateway: gateway.generation,
        doors: expected.into_iter().map(one).collect(),
        notes: prepared.notes,
    })
}

/// The split of a tag of ours.
fn of_split(fields: &Map<String, Value>) -> Option<&str> {
    let mut tags = strings(fields.get("tags"));
    tags.find_map(|tag| tag.strip_prefix(OURS)?.strip_prefix("split."))
}

/// An entity of a document by itself, and what is written inside of it.
fn whole(kind: Kind, value: Value, inside: &str, at: &str) -> Option<(Entity, Vec<Value>)> {
    let Value::Object(mut fields) = value else {
        return None;
    };
    let inner = match fields.remove(inside) {
        Some(Value::Array(inner)) => inner,
        _ => Vec::new(),
    };
    if let Some(Value::Array(tags)) = fields.get_mut("tags") {
        tags.push(format!("{OURS}at.{at}").into());
        tags.sort_unstable_by(|a, b| a.as_str().cmp(&b.as_str()));
    }
    let name = fields.get(kind.named_by())?.as_str()?.to_owned();
    let id = ids::derived(kind.plural(), &name);
    Some((
        Entity {
            kind,
            id,
            name,
            fields,
        },
        inner,
    ))
}

/// Says what is at its default.
fn said(entity: &mut Entity, plain: Value) {
    let Value::Object(plain) = plain else { return };
    for (field, value) in plain {
        entity.fields.entry(field).or_insert(value);
    }
}
