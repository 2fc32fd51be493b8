//! What of a declaration no gateway could run, told before anything is merged: what the splits' doors and the site's base want
//! of one Kong, put together as an agent would, but for addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use weir_model::{
    Channel, CommitId, Declaration, Diagnostic, FederationName, GatewayName, Label, Place, Severity,
    SourceCommit, SplitName, ZoneName, codes,
};
use weir_planner::{GatewayPlan, Generation, Inputs, Planned};

use crate::kic::http_route;
use crate::kong::base::Reading;
use crate::kong::dashed::{Dashed, dashed};
use crate::kong::document::{AtDoor, Conflict, check};

/// The conflicts of all gateways, as errors; and upstreams of bases that hash by what Kong does not find, which are errors where a
/// split takes over a service that has one. Of a declaration that [`weir_model::parse`] refuses nothing is said, nor of one that
/// cannot be planned for other reasons. What it costs follows the splits that have doors.
pub fn declared(declaration: &Declaration) -> Vec<Diagnostic> {
    let mut at_doors = Declaration {
        splits: BTreeMap::new(),
        ..declaration.clone()
    };
    let with_doors = declaration
        .splits
        .iter()
        .filter(|(_, split)| !split.gateways.is_empty());
    at_doors.splits = with_doors
        .map(|(name, split)| (name.clone(), Arc::clone(split)))
        .collect();
    let of_zones = at_doors.zones.values().map(|zone| &zone.place.source);
    let of_splits = at_doors.splits.values().map(|split| &split.place.source);
    let sources: BTreeSet<_> = of_zones.chain(of_splits).collect();
    // Which commits they are is of no account here.
    let commits = sources.into_iter().map(|source| SourceCommit {
        source: source.clone(),
        commit: CommitId(String::new()),
    });
    let commits: Vec<SourceCommit> = commits.collect();
    let inputs = Inputs {
        declaration: &at_doors,
        commits: &commits,
        highest: Generation(0),
        parent: None,
        now: Timestamp::UNIX_EPOCH,
    };
    let Planned::New(plan) = weir_planner::plan(inputs) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (zone, gateways) in &plan.gateways {
        for (gateway, planned) in gateways {
            let items = plan.splits.values().filter_map(|split| split.items.get(zone));
            let doors = items.filter_map(|item| {
                let door = item.doors.get(gateway)?;
                Some(AtDoor {
                    item,
                    door,
                    pin: None,
                })
            });
            let doors: Vec<AtDoor<'_>> = doors.collect();
            let conflicts = match planned.channel {
                Channel::Kic => unsaid(&plan.federation, (gateway, planned), &doors),
                _ => check(&plan.federation, planned, &doors).err().unwrap_or_default(),
            };
            found.extend(
                conflicts
                    .into_iter()
                    .map(|conflict| told(declaration, zone, gateway, conflict)),
            );
            found.extend(unfound(declaration, zone, (gateway, planned), &doors));
        }
    }
    found
}

/// What no HTTPRoute could say.
fn unsaid(
    federation: &FederationName,
    (gateway, planned): (&GatewayName, &GatewayPlan),
    doors: &[AtDoor<'_>],
) -> Vec<Conflict> {
    let one = |at: &AtDoor<'_>| {
        let what = http_route(federation, gateway, planned, at).err()?;
        Some(Conflict {
            split: Some(at.item.split.clone()),
            what,
            help: "declare another door, or other matches".to_owned(),
        })
    };
    doors.iter().filter_map(one).collect()
}

/// The same as [`declared`], where what was so `before` is a warning: it is in the way of nobody who changes something else.
pub fn declared_after(
    declaration: &Declaration,
    before: impl FnOnce() -> Option<Declaration>,
) -> Vec<Diagnostic> {
    let mut found = declared(declaration);
    if found.is_empty() {
        return found;
    }
    let before = before().map(|before| declared(&before)).unwrap_or_default();
    for one in &mut found {
        if before.iter().any(|known| known.message == one.message) {
            one.severity = Severity::Warning;
        }
    }
    found
}

/// Hashes of a base by what Kong does not find.
fn unfound(
    declaration: &Declaration,
    zone: &ZoneName,
    (gateway, planned): (&GatewayName, &GatewayPlan),
    doors: &[AtDoor<'_>],
) -> Vec<Diagnostic> {
    let Some(base) = &planned.base else {
        return Vec::new();
    };
    // One that is no document is told as a conflict.
    let Ok(reading) = Reading::of(base) else {
        return Vec::new();
    };
    let entities = reading.entities();
    let one = |one: Dashed<'_>| {
        let (severity, split, who) = match one.taken(&entities, doors) {
            None => (Severity::Warning, None, String::new()),
            Some((split, service)) => (
                Severity::Error,
                Some(split),
                format!("split {split} takes over service `{service}` of the base, whose "),
            ),
        };
        Diagnostic {
            code: codes::DASHED_HEADER,
            severity,
            message: format!(
                "gateway {gateway} of zone {zone}: {who}{} ({})",
                one.why(),
                base.file
            ),
            labels: labels(declaration, zone, gateway, split),
            help: Some(match split {
                None => one.help(),
                Some(_) => format!(
                    "{}; or take its `hash_on` out: what a split has goes by its weights, and is hashed by nothing",
                    one.help()
                ),
            }),
        }
    };
    dashed(&entities).into_iter().map(one).collect()
}

/// The place of a split's door; of the gateway, if it is about no split.
fn labels(
    declaration: &Declaration,
    zone: &ZoneName,
    gateway: &GatewayName,
    split: Option<&SplitName>,
) -> Vec<Label> {
    let of_gateway = || {
        let of = declaration.zones.get(zone)?.gateways.get(gateway)?;
        Some((&of.place, "what this gateway is to run"))
    };
    let of_door = |split: &SplitName| {
        let split = declaration.splits.get(split)?;
        let mut doors = split.gateways.iter();
        let door = doors.find(|door| door.gateway == *gateway)?;
        Some((&door.place, "this door"))
    };
    let place = split.and_then(of_door).or_else(of_gateway);
    let label = |(place, text): (&Place, &str)| Label {
        source: place.source.clone(),
        file: place.file.clone(),
        span: place.span.clone(),
        text: text.to_owned(),
    };
    place.map(label).into_iter().collect()
}

fn told(declaration: &Declaration, zone: &ZoneName, gateway: &GatewayName, conflict: Conflict) -> Diagnostic {
    let about = match &conflict.split {
        Some(split) => format!("split {split}"),
        None => "the base".to_owned(),
    };
    Diagnostic {
        code: codes::AT_ODDS,
        severity: Severity::Error,
        message: format!(
            "gateway {gateway} of zone {zone} could not run {about}: {}",
            conflict.what
        ),
        labels: labels(declaration, zone, gateway, conflict.split.as_ref()),
        help: Some(conflict.help),
    }
}
