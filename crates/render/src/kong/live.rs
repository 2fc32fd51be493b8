//! What a Kong runs now, and whether a document may take its place (I7, I10).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use weir_model::{SplitName, sabotaged};
use weir_planner::Generation;

use crate::kong::document::Document;
use crate::kong::entities::{PIN, TAG, said};
use crate::kong::identity::Identities;
use crate::object::pin_in_words;

/// `configuration_hash` of a Kong that has no configuration.
pub const EMPTY_HASH: &str = "00000000000000000000000000000000";

/// The tag by which an ingress controller marks what it made in a Kong with a database, and may in one without.
pub const CONTROLLER_TAG: &str = "managed-by-ingress-controller";

/// How the tag begins by which it says of which kind of Kubernetes object it made something; there is one on whatever it makes.
const KIND_TAG: &str = "k8s-kind:";

/// Whether it is a tag by which an ingress controller marks what it made.
pub fn is_controllers(tag: &str) -> bool {
    tag == CONTROLLER_TAG || tag.starts_with(KIND_TAG)
}

/// So many entities are named; the others are counted.
const NAMED: usize = 3;

/// What one node of a gateway says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// Its version: `3.9.3`.
    pub version: String,
    /// `off`, or the database that it has.
    pub database: String,
    /// `traditional`, or its part in a hybrid deployment.
    pub role: String,
    /// How it orders routes: `traditional_compatible`, if nobody changed it.
    pub router: String,
    /// How many workers it has.
    pub workers: usize,
    /// `configuration_hash`; zeros if it has no configuration. None with a database.
    pub hash: Option<String>,
    /// An entity of an ingress controller that it was last seen to have, of a Kong that has nothing now: it owns this Kong, and comes
    /// back. None if there was none, or its entities are here.
    pub controller: Option<String>,
    /// All entities but targets; none if they were not read, because the hash says what they are.
    pub entities: Option<Vec<Entity>>,
}

impl Live {
    /// An entity that an ingress controller made, of those that were read.
    pub fn controllers(&self) -> Option<String> {
        let marked = |entity: &&Entity| entity.tags.iter().any(|tag| is_controllers(tag));
        self.entities.iter().flatten().find(marked).map(Entity::called)
    }
}

/// One entity that a Kong has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entity {
    /// As in a document: `services`, `routes`, ...
    pub kind: String,
    /// What it is told by besides its id: its name where it has one, else what makes it what it is.
    pub name: Option<String>,
    /// Its id.
    pub id: String,
    /// Its tags.
    pub tags: BTreeSet<String>,
}

impl Entity {
    /// Reads what the Admin API lists, by kind.
    ///
    /// # Errors
    /// If one of them is no entity: what is not known whole is not known.
    pub fn read(lists: &BTreeMap<String, Vec<Value>>) -> Result<Vec<Self>, String> {
        let mut all = Vec::new();
        for (kind, list) in lists {
            for one in list {
                let one = one.as_object();
                all.push((
                    kind.as_str(),
                    one.ok_or_else(|| format!("one of its {kind} is no object"))?,
                    None,
                ));
            }
        }
        let identities = Identities::of(&all);
        let one =
            |((kind, entity, _), name): (&(&str, &serde_json::Map<String, Value>, _), Option<String>)| {
                let id = entity.get("id").and_then(Value::as_str);
                let tags = entity.get("tags").and_then(Value::as_array).into_iter().flatten();
                Ok(Self {
                    kind: (*kind).to_owned(),
                    name,
                    id: id
                        .ok_or_else(|| format!("one of its {kind} has no id"))?
                        .to_owned(),
                    tags: tags.filter_map(Value::as_str).map(str::to_owned).collect(),
                })
            };
        all.iter().zip(identities.0).map(one).collect()
    }

    fn called(&self) -> String {
        let kind = crate::kong::base::singular(&self.kind);
        format!("{kind} {}", self.name.as_ref().unwrap_or(&self.id))
    }
}

/// Whether our entities may be written to the database of this Kong at all.
///
/// # Errors
/// Why not, in words.
pub fn may_write(live: &Live) -> Result<(), String> {
    if live.database == "off" {
        return Err(
            "this Kong has no database: nothing can be written to it entity by entity; declare its channel as `admin-dbless`"
                .to_owned(),
        );
    }
    // A control plane balances nothing itself, so that nobody could ask it for what its data planes give.
    known(live)
}

/// Whether it is a Kong whose ways are known.
///
/// # Errors
/// Why not, in words.
pub fn known(live: &Live) -> Result<(), String> {
    if live.role != "traditional" {
        return Err(format!(
            "this Kong is a {} of a hybrid deployment, whose data planes an agent cannot ask for what they give",
            live.role
        ));
    }
    if !live.version.starts_with("3.") {
        return Err(format!(
            "this Kong is version {}, and Weir knows what 3 does",
            live.version
        ));
    }
    if !matches!(live.router.as_str(), "traditional_compatible" | "traditional") {
        return Err(format!(
            "this Kong orders routes by `router_flavor = {}`, and not by what Weir has judged them by; set \
             traditional_compatible, its default",
            live.router
        ));
    }
    Ok(())
}

/// Whether a document may take the place of what a node runs. `plan` is the generation of the whole plan that the document
/// was made from, `posted` the hashes of what this agent itself posted to that gateway, `pins` what it knows of pins.
///
/// # Errors
/// Why not, in words: the node keeps what it has.
pub fn may_post(
    live: &Live,
    document: &Document,
    plan: Generation,
    posted: &BTreeSet<String>,
    pins: &dyn Pinning,
) -> Result<(), String> {
    if live.database != "off" {
        return Err(format!(
            "this Kong has a database ({}): nothing can be posted to it; declare its channel as `admin-db`",
            live.database
        ));
    }
    if live.role != "traditional" {
        return Err(format!(
            "this Kong is a {} of a hybrid deployment, and gets its configuration from its control plane alone",
            live.role
        ));
    }
    known(live)?;
    if let Some(entity) = live.controller.clone().or_else(|| live.controllers()) {
        return Err(format!(
            "this Kong belongs to an ingress controller, which made {entity} and would not notice that all of its own is gone: \
             nothing is ever posted to it; declare its channel as `kic`"
        ));
    }
    let hash = live
        .hash
        .as_deref()
        .ok_or("this Kong does not say what it runs")?;
    if hash == EMPTY_HASH || hash == document.hash {
        return Ok(());
    }
    let entities = live.entities.as_ref();
    let marked = || {
        let all = entities.into_iter().flatten();
        all.filter(|entity| entity.tags.contains(TAG))
    };
    for entity in marked() {
        let split = said(&entity.tags, "split").unwrap_or_default();
        let gives = document.doors.iter().find(|(name, _)| name.as_str() == split);
        let gives = gives.and_then(|(_, expected)| expected.pin.as_deref());
        unpinned(&entity.tags, split, gives, pins)?;
    }
    for (split, expected) in &document.doors {
        let Some(pin) = &expected.pin else { continue };
        let tag = format!("{PIN}{pin}");
        let mut of_split = marked().filter(|entity| said(&entity.tags, "split") == Some(split.as_str()));
        comes(
            pin,
            split,
            of_split.any(|entity| entity.tags.contains(&tag)),
            pins,
        )?;
    }
    if posted.contains(hash) {
        return Ok(());
    }
    let entities = entities
        .ok_or("this Kong runs what nobody looked at, so that nothing can be said of what would go")?;
    let mut foreign = Vec::new();
    for entity in entities {
        if entity.tags.iter().any(|tag| tag.starts_with(TAG)) {
            ours(entity, document, plan)?;
        } else {
            let kept = document.kept.get(&entity.kind);
            let is_kept = |text: &String| kept.is_some_and(|kept| kept.contains(text));
            if !is_kept(&entity.id) && !entity.name.as_ref().is_some_and(is_kept) {
                foreign.push(entity.called());
            }
        }
    }
    if foreign.is_empty() || sabotaged("post-over-strangers") {
        return Ok(());
    }
    let more = foreign.len().saturating_sub(NAMED);
    foreign.truncate(NAMED);
    let more = if more == 0 {
        String::new()
    } else {
        format!(" and {more} more")
    };
    Err(format!(
        "this Kong has {}{more}, which neither Weir nor the gateway's base declares, and which would be gone: add it to the \
         base in Git, or remove it there where it comes from",
        foreign.join(", ")
    ))
}

/// What is known of pins, by their labels.
pub trait Pinning {
    /// Whether what is there of a pin may be written over: it is over, or this host's own.
    fn is_over(&self, label: &str) -> bool;
    /// Whether what is pinned may be given, where it is (the flag) or is not: whoever pinned it may just have ended that.
    fn may_come(&self, label: &str, there: bool) -> bool;
}

/// Whoever only asks what differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnyPin;

impl Pinning for AnyPin {
    fn is_over(&self, _: &str) -> bool {
        true
    }

    fn may_come(&self, _: &str, _: bool) -> bool {
        true
    }
}

/// Whether a split may be given under a pin.
///
/// # Errors
/// Why not yet, in words.
pub fn comes(pin: &str, split: &SplitName, there: bool, pins: &dyn Pinning) -> Result<(), String> {
    match pins.may_come(pin, there) {
        true => Ok(()),
        false => Err(format!(
            "split {split} is pinned by {} as the zone's control plane showed it last, and is not there so: it is given so once the control \
             plane shows that still",
            pin_in_words(pin)
        )),
    }
}

/// Whether what carries these tags of ours may be written over by whoever gives its split under this pin, or under none.
///
/// # Errors
/// Somebody else pinned it, in words.
pub(crate) fn unpinned(
    tags: &BTreeSet<String>,
    split: &str,
    gives: Option<&str>,
    pins: &dyn Pinning,
) -> Result<(), String> {
    match tags.iter().find_map(|tag| tag.strip_prefix(PIN)) {
        Some(pin) => may_be_unpinned(pin, split, gives, pins),
        None => Ok(()),
    }
}

/// Whether what is there of a split under a pin may be written over by whoever gives it under this one, or under none.
///
/// # Errors
/// Somebody else pinned it, in words.
pub fn may_be_unpinned(
    pin: &str,
    split: &str,
    gives: Option<&str>,
    pins: &dyn Pinning,
) -> Result<(), String> {
    match Some(pin).filter(|pin| gives != Some(*pin)) {
        Some(pin) if !pins.is_over(pin) => Err(format!(
            "split {split} is there as it was pinned by {}, and is left alone until `weir-agent unpin` there ends that, or until \
             this agent has seen in its zone's control plane how it is pinned, or that it is not any more; if that host is gone for \
             good, `weir-agent unpin --split {split} --gone {pin}` here ends it",
            pin_in_words(pin)
        )),
        _ => Ok(()),
    }
}

/// Whether an entity that is marked as ours may give way.
fn ours(entity: &Entity, document: &Document, plan: Generation) -> Result<(), String> {
    let called = entity.called();
    match said(&entity.tags, "federation") {
        Some(federation) if federation == document.federation.as_str() => {}
        Some(other) => {
            return Err(format!(
                "this Kong has {called} of the federation {other}: two federations cannot share one database-less Kong"
            ));
        }
        None => {
            return Err(format!(
                "this Kong has {called}, which has a tag of Weir's and does not say of which federation"
            ));
        }
    }
    let number = |what: &str| {
        let said = said(&entity.tags, what).and_then(|text| text.parse::<u64>().ok());
        said.map(Generation).ok_or_else(|| {
            format!("this Kong has {called}, and its tags do not say which generation it is of")
        })
    };
    if sabotaged("post-over-newer") {
        return Ok(());
    }
    let gateway = number("gateway")?;
    if gateway > document.gateway {
        return Err(format!(
            "this Kong has what was made of generation {gateway} of this gateway, and this agent knows generation {}",
            document.gateway
        ));
    }
    let generation = number("generation")?;
    let split = said(&entity.tags, "split").unwrap_or_default();
    let known = document.doors.iter().find(|(name, _)| name.as_str() == split);
    // A split that has no door here any more went with some generation up to the plan's.
    let newest = known.map_or(plan, |(_, expected)| expected.known);
    if generation > newest {
        return Err(format!(
            "this Kong has generation {generation} of split {split}, and this agent knows generation {newest}: somebody who \
             knows a newer plan wrote it"
        ));
    }
    Ok(())
}
