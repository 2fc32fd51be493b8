//! The plugins of a Kong with a database by which requests are counted: what is to be written of them. Pure.
//!
//! By itself and after all else, for no split and no share may wait for it; with a service that goes Kong takes away what is on it.
//! Only what carries Weir's tags and the id that Weir makes is ours (I10).

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use weir_model::SplitName;
use weir_planner::Generation;

use crate::kong::changes::{Write, brought, remove, whose};
use crate::kong::counting::{Counted, PLUGIN, rivals};
use crate::kong::database::{Chain, Entities, Kind};
use crate::kong::entities::said;
use crate::kong::held::{Held, Row};

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plugins {
    /// What is ours and goes.
    pub gone: Vec<Write>,
    /// What comes or changes, with its split.
    pub come: Vec<(SplitName, Write)>,
    /// Whether requests are counted when all of that is done.
    pub counted: Counted,
}

/// The writes that lead from what is there to what is wanted; arguments as of [`crate::kong::changes()`]. `unable` is why no node
/// may be given any, if so: then those that are there go.
pub fn plugins(
    held: &Held,
    wanted: &Entities,
    plan: Generation,
    absent: &BTreeSet<SplitName>,
    unable: Option<&str>,
) -> Plugins {
    let mut found = Plugins::default();
    let mut stay: BTreeSet<&str> = BTreeSet::new();
    for (split, of) in &wanted.doors {
        for chain in &of.chains {
            let Some(plugin) = &chain.plugin else { continue };
            let came = match unable {
                Some(why) => Err(why.to_owned()),
                None => one(held, wanted, chain, of.expected.known),
            };
            if came.is_ok() {
                stay.insert(&plugin.id);
            }
            let counted = found.counted.entry(split.clone()).or_insert(Ok(()));
            match came {
                Ok(write) => found.come.extend(write.map(|write| (split.clone(), write))),
                Err(why) => *counted = Err(why),
            }
        }
    }
    for row in &held.plugins {
        let Some(split) = row.split().filter(|_| whose(row, wanted).is_ok()) else {
            continue;
        };
        let known = wanted.doors.get(&split);
        let newest = known.map_or(plan, |of| of.expected.known);
        let older = generation(row).is_some_and(|generation| generation <= newest);
        if older && !stay.contains(row.id.as_str()) && !absent.contains(&split) {
            found.gone.push(remove(row, None));
        }
    }
    found
}

fn generation(row: &Row) -> Option<Generation> {
    said(&row.tags, "generation")?.parse().ok().map(Generation)
}

/// What makes the plugin of a chain what it should be, none if it is that; or why there is none to be.
fn one(held: &Held, wanted: &Entities, chain: &Chain, newest: Generation) -> Result<Option<Write>, String> {
    let Some(plugin) = &chain.plugin else {
        return Ok(None);
    };
    let there = held.of(Kind::Service).find(|row| row.id == chain.service.id);
    if there.is_none_or(|row| whose(row, wanted).is_err()) {
        return Err("its service is not there yet".to_owned());
    }
    let theirs = held.plugins.iter().filter(|row| whose(row, wanted).is_err());
    let mut theirs = theirs.filter(|row| row.fields.get("name").and_then(Value::as_str) == Some(PLUGIN));
    if let Some(row) = theirs.find(|row| runs(&row.fields, &chain.service.id, &chain.route.id)) {
        return Err(rivals(&format!("plugin {PLUGIN} (id {})", row.id)));
    }
    let place = |row: &&Row| row.id == plugin.id || row.name == plugin.name;
    let row = held.plugins.iter().find(place);
    if let Some(row) = row {
        if whose(row, wanted).is_err() {
            return Err(format!("{} stands in its place, and is not Weir's", row.called()));
        }
        if generation(row).is_none_or(|generation| generation > newest) {
            return Err("somebody who knows a newer plan wrote its plugin".to_owned());
        }
    }
    Ok(brought(row, plugin))
}

/// Whether a plugin runs for requests by this service and this route.
fn runs(plugin: &Map<String, Value>, service: &str, route: &str) -> bool {
    let of = |field: &str| plugin.get(field).filter(|value| !value.is_null());
    let is = |field: &str, id: &str| of(field).is_none_or(|value| value["id"] == id);
    let somebody = of("consumer").is_some() || of("consumer_group").is_some();
    // For some consumers it may be anywhere: it goes before one of a service.
    somebody || is("service", service) && is("route", route)
}
