//! Why each thing in a plan changes, and what that does to callers: the sentences that a reviewer needs.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use weir_model::{BackendName, BasisPoints, CommitId, DnsLabel, Protocol, ServiceName, SplitName, ZoneName};

use crate::diff::{Change, Fate, ItemChange, Part, PlanDiff, Presence, diff};
use crate::plan::{Generation, Item, Plan};
use crate::words::{self, Lines};

/// Why, and what then, for each part of a plan that changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// What changes.
    pub diff: PlanDiff,
    /// A part of a split each.
    pub reasons: Vec<Reason>,
}

/// Why one split changes for some zones, and what that does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reason {
    /// The split.
    pub split: SplitName,
    /// The zones.
    pub zones: Vec<ZoneName>,
    /// What changes, a line each.
    pub changes: Vec<String>,
    /// Why.
    pub cause: Cause,
    /// What it does to callers there.
    pub effects: Vec<Effect>,
}

/// Why an item changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Cause {
    /// The split was declared.
    Declared(CommitId),
    /// What is declared of it changed.
    Edited(CommitId),
    /// It is declared no more.
    Withdrawn,
    /// The zones were declared.
    ZonesJoined,
    /// The zones are declared no more.
    ZonesLeft,
    /// Zones that it names have other names in Kuma.
    ZonesRenamed(BTreeMap<ZoneName, Change<DnsLabel>>),
    /// Agents reported a generation that this history does not hold.
    UnknownHistory(Generation),
}

/// What a change does to callers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Effect {
    /// Connections that are open on the listener are closed 30 s later (`kuma.md` R9).
    ClosesConnections {
        /// What callers address.
        service: ServiceName,
        /// And the port.
        port: u16,
    },
    /// Nothing that an Envoy runs changes.
    Nothing,
    /// The zone's agents are told nothing more; what they hold stays in force.
    StaysAsItIs,
    /// A tcp backend goes to or from no weight at once: a few new connections may fail (`kuma.md` R1).
    MayRefuseConnections(Vec<BackendName>),
    /// A backend that had weight stays behind the anchor.
    Retires(BackendName),
    /// Kuma's own routing takes over, and connections that are open are closed 30 s later.
    FallsToKuma {
        /// What callers address.
        service: ServiceName,
        /// And the port.
        port: u16,
        /// Whether a few requests may fail meanwhile: there is nothing that goes by way of an anchor.
        at_once: bool,
    },
}

/// Explains a plan against the one before it.
pub fn explain(from: Option<&Plan>, to: &Plan) -> Explanation {
    let diff = diff(from, to);
    let mut reasons = Vec::new();
    for (split, parts) in &diff.splits {
        for part in parts {
            let Some(item) = item(from, to, split, part) else {
                continue; // a part is of items of one of the two
            };
            reasons.push(Reason {
                split: split.clone(),
                zones: part.zones.clone(),
                changes: part.change.sentences(),
                cause: cause(from, to, item, part, &diff),
                effects: effects(item, &part.change, to),
            });
        }
    }
    Explanation { diff, reasons }
}

/// The item of a part, or the last there was.
fn item<'a>(from: Option<&'a Plan>, to: &'a Plan, split: &SplitName, part: &Part) -> Option<&'a Item> {
    let zone = part.zones.first()?;
    let plans = [Some(to), from].into_iter().flatten();
    let mut items = plans.filter_map(|plan| plan.splits.get(split)?.items.get(zone));
    items.next().map(AsRef::as_ref)
}

fn cause(from: Option<&Plan>, to: &Plan, item: &Item, part: &Part, diff: &PlanDiff) -> Cause {
    let was = from.and_then(|from| from.splits.get(&item.split));
    let commit = || item.commit.clone();
    match part.change.presence {
        Presence::Added if was.is_some() => Cause::ZonesJoined,
        Presence::Added => Cause::Declared(commit()),
        Presence::Left => Cause::ZonesLeft,
        Presence::Removed => Cause::Withdrawn,
        Presence::Rewritten => Cause::UnknownHistory(Generation(to.generation.0.saturating_sub(1))),
        Presence::Changed => {
            let renamed = renames(diff);
            if !renamed.is_empty() && only_places(&part.change, &renamed) {
                Cause::ZonesRenamed(renamed)
            } else {
                Cause::Edited(commit())
            }
        }
    }
}

fn renames(diff: &PlanDiff) -> BTreeMap<ZoneName, Change<DnsLabel>> {
    let zones = diff.zones.iter();
    zones
        .filter(|(_, change)| change.was.is_some() && change.is.is_some())
        .map(|(zone, change)| (zone.clone(), change.clone()))
        .collect()
}

/// Whether nothing but the names of these zones in Kuma can be behind a change.
fn only_places(change: &ItemChange, renamed: &BTreeMap<ZoneName, Change<DnsLabel>>) -> bool {
    let moved = change.destinations.values().all(|fate| match fate {
        Fate::Added(at) | Fate::Removed(at) | Fate::Retires(at) => renamed.contains_key(&at.zone),
        Fate::Released(_) => true, // it goes with any change
    });
    change.address.is_none() && change.routes.is_empty() && !change.reordered && moved
}

fn effects(item: &Item, change: &ItemChange, to: &Plan) -> Vec<Effect> {
    let (service, port) = (item.service.clone(), item.port);
    // Another split may take over what this one leaves, as when it only gets another name.
    let taken = |service: &ServiceName, port: u16| {
        let mut items = to.splits.values().filter_map(|split| split.items.get(&item.zone));
        items.any(|item| (&item.service, item.port) == (service, port))
    };
    let mut effects = vec![match (change.presence, change.replaces_listener) {
        (Presence::Removed, _) if taken(&service, port) => Effect::ClosesConnections { service, port },
        (Presence::Removed, _) => Effect::FallsToKuma {
            service,
            port,
            at_once: item.protocol == Protocol::Tcp,
        },
        (Presence::Left, _) => Effect::StaysAsItIs,
        (_, true) => Effect::ClosesConnections { service, port },
        (_, false) => Effect::Nothing,
    }];
    if let Some(Change {
        was: Some(was),
        is: Some(is),
    }) = &change.address
        && (&was.service, was.port) != (&is.service, is.port)
        && !taken(&was.service, was.port)
    {
        effects.push(Effect::FallsToKuma {
            service: was.service.clone(),
            port: was.port,
            at_once: true,
        });
    }
    if item.protocol == Protocol::Tcp && change.presence == Presence::Changed {
        let weight = |weight: Option<BasisPoints>| weight.is_some_and(|weight| weight > BasisPoints::ZERO);
        let weights = change.routes.iter().flat_map(|route| &route.weights);
        let sudden = weights.filter(|(_, change)| weight(change.was) && !weight(change.is));
        let sudden: Vec<BackendName> = sudden.map(|(backend, _)| backend.clone()).collect();
        if !sudden.is_empty() {
            effects.push(Effect::MayRefuseConnections(sudden));
        }
    }
    for (backend, fate) in &change.destinations {
        if let Fate::Retires(_) = fate {
            effects.push(Effect::Retires(backend.clone()));
        }
    }
    effects
}

/// Zeros are what Git itself writes where there is no commit yet.
fn origin(commit: &CommitId) -> String {
    if commit.0.bytes().all(|digit| digit == b'0') {
        "what is not committed yet".to_owned()
    } else {
        format!("commit {}", commit.short())
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Declared(commit) => write!(f, "is declared by {}", origin(commit)),
            Self::Edited(commit) => write!(f, "was changed by {}", origin(commit)),
            Self::Withdrawn => f.write_str("is declared no more"),
            Self::ZonesJoined => f.write_str("follows because the zone joined the federation"),
            Self::ZonesLeft => f.write_str("is planned no more: the zone left the federation"),
            Self::ZonesRenamed(zones) => {
                let names: Vec<String> = zones.keys().map(ToString::to_string).collect();
                write!(f, "follows the new names in Kuma of {}", names.join(", "))
            }
            Self::UnknownHistory(reported) => write!(
                f,
                "is written anew: an agent reported generation {reported}, which this history does not hold"
            ),
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClosesConnections { service, port } => write!(
                f,
                "connections that callers hold open to {service} port {port} are closed 30 s after the change"
            ),
            Self::Nothing => f.write_str("no listener changes, no connection is closed"),
            Self::StaysAsItIs => f.write_str(
                "what its agents hold stays in force there until somebody stops them and removes their policies",
            ),
            Self::MayRefuseConnections(backends) => write!(
                f,
                "new connections may fail for a moment: {} goes to no weight at once, and tcp has no anchor. Give it \
                 0.01 for a few seconds first",
                words::list(backends)
            ),
            Self::Retires(backend) => write!(
                f,
                "{backend} gets no requests any more, but stays reachable behind the anchor until a later change of \
                 this split; do not stop it before every zone has proven the change"
            ),
            Self::FallsToKuma {
                service,
                port,
                at_once,
            } => {
                write!(
                    f,
                    "callers of {service} port {port} get what Kuma does without a policy: what they address, their own \
                     zone's first where they address all zones. "
                )?;
                if *at_once {
                    f.write_str(
                        "Requests to a backend that Kuma would not choose may fail for a moment: give all weight to the \
                         one that it would, before the split leaves them. ",
                    )?;
                }
                f.write_str("Open connections are closed 30 s after the change")
            }
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = Lines::default();
        for sentence in self.diff.whole() {
            lines.put(0, &sentence);
        }
        for reason in &self.reasons {
            let head = format!(
                "split {} in {} {}",
                reason.split,
                words::list(&reason.zones),
                reason.cause
            );
            lines.put(0, &head);
            for change in &reason.changes {
                lines.put(2, change);
            }
            for effect in &reason.effects {
                lines.put(2, &effect.to_string());
            }
        }
        if self.diff.is_empty() {
            lines.put(0, "nothing changes in any zone");
        }
        f.write_str(&lines.text())
    }
}
