//! From what a Kong with a database has to what it should have: the writes, in an order in which each may be the last.
//!
//! New things come from the bottom up (upstream, targets, service, route) and go from the top down, so that at no moment a
//! route of ours leads to an upstream that is not there or has no target. A change of weights raises first and lowers then:
//! with one sum before and after ([`SUM`](crate::kong::targets::SUM)) no target has more on the way than the larger of what
//! it had and what it gets, and somebody always has weight. Two of the writes are pauses: a route is not made before every
//! node gives its upstream's shares, and what a route led to does not go while a node may still route by it.
//!
//! Only what carries Weir's tags *and* the id that Weir makes of its name is ours; all else is named and left alone (I10).

mod differing;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde_json::{Map, Value, json};
use weir_model::{SplitName, sabotaged};
use weir_planner::Generation;

use self::differing::differing;
use crate::kong::base::strings;
use crate::kong::database::{Chain, Entities, Entity, Kind, OfSplit, WithTargets};
use crate::kong::entities::{OURS, PIN, TAG, said};
use crate::kong::expected::Upstream;
pub use crate::kong::held::{Held, Row};
use crate::kong::ids;
use crate::kong::live::{Pinning, comes, unpinned};
use crate::kong::together::split_by;

/// One write, or a pause between two.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// POST: makes it, with its id. A database refuses a second one of a name: nothing is ever written over so.
    Make {
        /// What.
        entity: Entity,
        /// The upstream whose target it is.
        under: Option<String>,
    },
    /// PATCH: these fields of it, and no other.
    Change {
        /// Of which entity: kind, id, name.
        of: (Kind, String, String),
        /// The upstream whose target it is.
        under: Option<String>,
        /// What.
        fields: Map<String, Value>,
    },
    /// DELETE.
    Remove {
        /// Of which entity: kind, id, name.
        of: (Kind, String, String),
        /// The upstream whose target it is.
        under: Option<String>,
    },
    /// Not before every node that answers gives exactly these shares.
    Await(Upstream),
    /// Not before every node has surely forgotten the route of this name, which is gone.
    Forget(String),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Changes {
    /// By split: the writes in their order, none if all is there; or why nothing of it is touched, in words. Splits that
    /// went are here as long as something of them is there.
    pub splits: BTreeMap<SplitName, Result<Vec<Write>, String>>,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// The writes that lead from what is there to what is wanted. `plan` is the generation of the whole plan that the entities
/// were made from; `absent` are splits that belong there and that are not wanted now: what is there of them stays. `pins` is
/// what this agent knows of pins.
pub fn changes(
    held: &Held,
    wanted: &Entities,
    (plan, absent): (Generation, &BTreeSet<SplitName>),
    pins: &dyn Pinning,
) -> Changes {
    let mut changes = Changes::default();
    let mut ours: BTreeMap<SplitName, Vec<&Row>> = BTreeMap::new();
    let mut elsewhere: BTreeMap<String, usize> = BTreeMap::new();
    for row in &held.rows {
        match (whose(row, wanted), row.split()) {
            (Ok(()), Some(split)) => ours.entry(split).or_default().push(row),
            (Err(Not::Elsewhere(at)), _) => *elsewhere.entry(at).or_default() += 1,
            _ => {}
        }
    }
    for (at, number) in elsewhere {
        changes.notes.push(format!(
            "this database has {number} of Weir's entities of gateway {at} as well, which are left alone: two gateways on one \
             database are one gateway, whose nodes serve all of it; if that one is gone, remove what is tagged `{OURS}at.{at}`"
        ));
    }
    let gone = ours.keys().filter(|split| !wanted.doors.contains_key(*split));
    let gone: Vec<SplitName> = gone.filter(|split| !absent.contains(*split)).cloned().collect();
    for (split, of) in &wanted.doors {
        let mine = ours.get(split).map_or(&[][..], Vec::as_slice);
        let at = Split { held, wanted, mine };
        let newest = of.expected.known;
        let pin = of.expected.pin.as_deref();
        let may = at.older(split, newest, (pin, pins));
        let writes = may.and_then(|()| at.writes(of));
        changes.splits.insert(split.clone(), writes);
    }
    for split in gone {
        let mine = ours.get(&split).map_or(&[][..], Vec::as_slice);
        let at = Split { held, wanted, mine };
        let may = at.older(&split, plan, (None, pins));
        let writes = may.and_then(|()| at.removals(&[]));
        changes.splits.insert(split, writes);
    }
    changes
}

/// Why an entity is not ours.
pub(crate) enum Not {
    /// Another gateway's of this federation.
    Elsewhere(String),
    /// Somebody else's: in words.
    Theirs(String),
}

/// Whether an entity that is there is ours.
pub fn is_ours(row: &Row, wanted: &Entities) -> bool {
    whose(row, wanted).is_ok()
}

/// Whether an entity is ours, or why it is not.
pub(crate) fn whose(row: &Row, wanted: &Entities) -> Result<(), Not> {
    if !row.tags.contains(TAG) {
        return Err(Not::Theirs("it has no tag of Weir's".to_owned()));
    }
    match said(&row.tags, "federation") {
        Some(federation) if federation == wanted.federation.as_str() => {}
        Some(other) => return Err(Not::Theirs(format!("it is of the federation {other}"))),
        None => return Err(Not::Theirs("its tags do not say of which federation".to_owned())),
    }
    if let Some(at) = said(&row.tags, "at").filter(|at| *at != wanted.at) {
        return Err(Not::Elsewhere(at.to_owned()));
    }
    let id = match row.kind {
        Kind::Target => {
            let upstream = row
                .fields
                .get("upstream")
                .and_then(|upstream| upstream["id"].as_str());
            let name = row
                .address()
                .map_or_else(|| row.name.clone(), |address| address.to_string());
            ids::of_target(upstream.unwrap_or_default(), &name)
        }
        // By the name that it should have: somebody may have renamed it.
        kind => {
            let (split, route) = (said(&row.tags, "split"), said(&row.tags, "route"));
            let route = route.map(|route| format!(".{route}")).unwrap_or_default();
            ids::derived(
                kind.plural(),
                &format!("{OURS}{}{route}", split.unwrap_or_default()),
            )
        }
    };
    if row.id != id {
        return Err(Not::Theirs(
            "it has Weir's tags, and not the id that Weir makes: somebody copied it".to_owned(),
        ));
    }
    Ok(())
}

/// One split at a Kong.
struct Split<'a> {
    held: &'a Held,
    wanted: &'a Entities,
    /// Its upstreams, services and routes.
    mine: &'a [&'a Row],
}

impl Split<'_> {
    /// Whether all that is there is of this generation or older (I7), and nobody else's pin.
    fn older(
        &self,
        split: &SplitName,
        newest: Generation,
        (pin, pins): (Option<&str>, &dyn Pinning),
    ) -> Result<(), String> {
        let upstreams = self.mine.iter().filter(|row| row.kind == Kind::Upstream);
        let targets = upstreams.flat_map(|row| self.held.under(row));
        let targets: Vec<&Row> = targets.filter(|row| whose(row, self.wanted).is_ok()).collect();
        if let Some(pin) = pin.filter(|_| !targets.is_empty()) {
            let tag = format!("{PIN}{pin}");
            comes(
                pin,
                split,
                targets.iter().any(|row| row.tags.contains(&tag)),
                pins,
            )?;
        }
        for row in self.mine.iter().copied().chain(targets) {
            unpinned(&row.tags, split.as_str(), pin, pins)?;
            let number = |what: &str| {
                let number = said(&row.tags, what).and_then(|text| text.parse::<u64>().ok());
                number.map(Generation).ok_or_else(|| {
                    format!(
                        "this Kong has {}, and its tags do not say which generation it is of",
                        row.called()
                    )
                })
            };
            let generation = number("generation")?;
            if generation > newest {
                return Err(format!(
                    "this Kong has generation {generation} of split {split}, and this agent knows generation {newest}: \
                     somebody who knows a newer plan wrote it"
                ));
            }
            let gateway = number("gateway")?;
            if gateway > self.wanted.gateway {
                return Err(format!(
                    "this Kong has what was made of generation {gateway} of this gateway, and this agent knows generation {}",
                    self.wanted.gateway
                ));
            }
        }
        Ok(())
    }

    fn writes(&self, of: &OfSplit) -> Result<Vec<Write>, String> {
        let mut writes = Vec::new();
        // The weights of all of them first: they wait for no upstream and no route of another one.
        for chain in &of.chains {
            self.only_the_mesh_splits(chain)?;
            if let Some(upstream) = &chain.upstream {
                self.upstream(upstream, &mut writes)?;
            }
        }
        for chain in &of.chains {
            self.chain(chain, &mut writes)?;
        }
        writes.extend(self.removals(&of.chains)?);
        let says = |write: &Write| matches!(write, Write::Make { .. } | Write::Change { .. });
        let removes = |write: &Write| matches!(write, Write::Remove { .. });
        // What is removed before anything else says the generation would come back by who knows an older one, if this were to
        // end in between.
        let mut telling = writes.iter().filter(|write| says(write) || removes(write));
        if telling.next().is_some_and(removes) {
            writes.splice(0..0, self.mark(of));
        }
        Ok(writes)
    }

    /// What is there in the place of an entity, if it is ours.
    fn there(&self, entity: &Entity) -> Result<Option<&Row>, String> {
        let mut rows = self.held.of(entity.kind);
        let by_id = self.held.of(entity.kind).find(|row| row.id == entity.id);
        let Some(row) = by_id.or_else(|| rows.find(|row| row.name == entity.name)) else {
            return Ok(None);
        };
        ours(row, self.wanted)?;
        // Ours has its own id: another one that took the name meanwhile stands in its way.
        match self
            .held
            .of(entity.kind)
            .find(|other| other.name == entity.name && other.id != row.id)
        {
            None => Ok(Some(row)),
            Some(other) => ours(other, self.wanted).map(|()| Some(row)),
        }
    }

    /// Where the mesh carries the weights no upstream splits before it.
    fn only_the_mesh_splits(&self, chain: &Chain) -> Result<(), String> {
        let Some(host) = chain.mesh_host() else {
            return Ok(());
        };
        match self.held.of(Kind::Upstream).find(|row| row.name == host) {
            None => Ok(()),
            Some(row) => Err(format!(
                "{} (id {}): give it another name, or this door another address in `mesh`",
                split_by(host),
                row.id
            )),
        }
    }

    /// What is above an upstream, from the bottom up.
    fn chain(&self, chain: &Chain, writes: &mut Vec<Write>) -> Result<(), String> {
        let service = self.there(&chain.service)?;
        let route = self.there(&chain.route)?;
        let service_differs = service.map(|row| differing(row, &chain.service));
        let host = |fields: &Map<String, Value>| fields.contains_key("host");
        let leads = service_differs.as_ref().is_some_and(|fields| !host(fields)) && route.is_some();
        if let (Some(upstream), false) = (&chain.upstream, leads) {
            writes.push(Write::Await(upstream.expected.clone()));
        }
        for (row, entity) in [(service, &chain.service), (route, &chain.route)] {
            writes.extend(brought(row, entity));
        }
        Ok(())
    }

    fn upstream(&self, upstream: &WithTargets, writes: &mut Vec<Write>) -> Result<(), String> {
        let row = self.there(&upstream.entity)?;
        writes.extend(brought(row, &upstream.entity));
        let there: Vec<&Row> = row.iter().flat_map(|row| self.held.under(row)).collect();
        let under = || Some(upstream.entity.id.clone());
        let (mut raise, mut lower) = (Vec::new(), Vec::new());
        let mut kept: BTreeSet<&str> = BTreeSet::new();
        for (address, entity) in &upstream.targets {
            let address: Option<SocketAddr> = address.parse().ok();
            let Some(row) = there.iter().copied().find(|row| row.address() == address) else {
                raise.push(Write::Make {
                    entity: entity.clone(),
                    under: under(),
                });
                continue;
            };
            ours(row, self.wanted).map_err(|why| format!("upstream {}: {why}", upstream.entity.name))?;
            kept.insert(&row.id);
            let mut fields = differing(row, entity);
            // As Kong writes it: it may say the same address otherwise.
            fields.remove("target");
            if fields.is_empty() {
                continue;
            }
            let to = entity.fields.get("weight").and_then(Value::as_u64).unwrap_or(0);
            let change = change(row, entity, fields, under());
            if to < row.weight() {
                lower.push(change);
            } else {
                raise.push(change);
            }
        }
        for row in there {
            if !kept.contains(row.id.as_str()) && whose(row, self.wanted).is_ok() {
                lower.push(remove(row, under()));
            }
        }
        if sabotaged("lower-first") {
            std::mem::swap(&mut raise, &mut lower);
        }
        writes.append(&mut raise);
        writes.append(&mut lower);
        Ok(())
    }

    /// From the top down: what is ours of this split and in none of these chains.
    fn removals(&self, chains: &[Chain]) -> Result<Vec<Write>, String> {
        let mut wanted: BTreeSet<(Kind, &str)> = BTreeSet::new();
        for chain in chains {
            let upstream = chain.upstream.iter().map(|upstream| &upstream.entity);
            let all = upstream.chain([&chain.service, &chain.route]);
            wanted.extend(all.map(|entity| (entity.kind, entity.id.as_str())));
        }
        let goes = |kind: Kind| {
            let rows = self.mine.iter().copied().filter(move |row| row.kind == kind);
            rows.filter(|row| !wanted.contains(&(row.kind, row.id.as_str())))
        };
        for upstream in goes(Kind::Upstream) {
            let mut targets = self.held.under(upstream);
            if let Some(target) = targets.find(|row| whose(row, self.wanted).is_err()) {
                return Err(format!(
                    "upstream {} is to go, and has {}, which is not Weir's and would go with it: remove it first",
                    upstream.name,
                    target.called()
                ));
            }
        }
        let mut writes: Vec<Write> = goes(Kind::Route).map(|row| remove(row, None)).collect();
        let below: BTreeSet<&str> = goes(Kind::Service)
            .chain(goes(Kind::Upstream))
            .map(|row| row.name.as_str())
            .collect();
        writes.extend(below.into_iter().map(|name| Write::Forget(name.to_owned())));
        writes.extend(goes(Kind::Service).map(|row| remove(row, None)));
        // Its targets, which are all ours, go with it.
        writes.extend(goes(Kind::Upstream).map(|row| remove(row, None)));
        Ok(writes)
    }

    /// One of what stays says the generation, so that whoever knows an older one does not bring back what goes.
    fn mark(&self, of: &OfSplit) -> Option<Write> {
        let chain = of.chains.first()?;
        let (row, entity, under) = match &chain.upstream {
            None => (self.there(&chain.service).ok()??, &chain.service, None),
            Some(upstream) => {
                let row = self.there(&upstream.entity).ok()??;
                let (address, entity) = upstream.targets.first_key_value()?;
                let address: Option<SocketAddr> = address.parse().ok();
                let target = self.held.under(row).find(|target| target.address() == address)?;
                (target, entity, Some(upstream.entity.id.clone()))
            }
        };
        let generation = |tags: &BTreeSet<String>| said(tags, "generation").map(str::to_owned);
        let should: BTreeSet<String> = strings(entity.fields.get("tags")).map(str::to_owned).collect();
        (generation(&row.tags) != generation(&should)).then(|| change(row, entity, Map::new(), under))
    }
}

fn ours(row: &Row, wanted: &Entities) -> Result<(), String> {
    let why = match whose(row, wanted) {
        Ok(()) => return Ok(()),
        Err(Not::Theirs(why)) => why,
        Err(Not::Elsewhere(at)) => format!("it is of gateway {at}"),
    };
    Err(format!(
        "this Kong has {} (id {}) where Weir's would have to be, and it is not Weir's: {why}. It is left alone; remove it, or \
         give it another name",
        row.called(),
        row.id
    ))
}

/// What makes the one into the other; none if it is that.
pub(crate) fn brought(row: Option<&Row>, entity: &Entity) -> Option<Write> {
    match row {
        None => Some(Write::Make {
            entity: entity.clone(),
            under: None,
        }),
        Some(row) => {
            let fields = differing(row, entity);
            (!fields.is_empty()).then(|| change(row, entity, fields, None))
        }
    }
}

pub(crate) fn remove(row: &Row, under: Option<String>) -> Write {
    Write::Remove {
        of: (row.kind, row.id.clone(), row.name.clone()),
        under,
    }
}

/// A change of these fields, which says as well of which generation it is now. Tags of the site stay.
fn change(row: &Row, entity: &Entity, mut fields: Map<String, Value>, under: Option<String>) -> Write {
    let theirs = row
        .tags
        .iter()
        .filter(|tag| *tag != TAG && !tag.starts_with(OURS));
    let tags: BTreeSet<&str> = theirs
        .map(String::as_str)
        .chain(strings(entity.fields.get("tags")))
        .collect();
    fields.insert("tags".to_owned(), json!(tags));
    Write::Change {
        of: (row.kind, row.id.clone(), entity.name.clone()),
        under,
        fields,
    }
}
