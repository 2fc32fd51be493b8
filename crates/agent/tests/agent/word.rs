//! What tells the other agents of a zone that a newer plan removed something: a word of it stays on a policy of ours, before
//! anything goes. Values alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use weir_agent::anchors::Anchors;
use weir_agent::decide::decide;
use weir_agent::take::Memory;
use weir_drivers::{Observed, Sighting};
use weir_model::{ServiceName, SplitName};
use weir_planner::{Generation, Item, PlanId, ZonePlan, anchor};
use weir_render::{Held, Object, Options, PLAN, Step, introduction};

use crate::first::{federation, item, objects, service};

/// A split of this name, for the service of its name.
fn named(name: &str, generation: u64) -> Arc<Item> {
    item(generation, &[], |item| {
        item.split = SplitName::new(name).unwrap();
        item.anchor = anchor(&federation(), &item.split);
        item.service = ServiceName::new(name).unwrap();
        for destination in item.destinations.values_mut() {
            destination.service = item.service.clone();
        }
    })
}

/// A step in one word, with the plan that it leaves word of.
fn word(step: &Step) -> (&str, &str, Option<&str>) {
    let (_, _, name) = step.object();
    match step {
        Step::Put { object, .. } => ("put", name, object.labels.get(PLAN).map(String::as_str)),
        Step::Introduce { .. } => ("introduce", name, None),
        Step::Withdraw { .. } => ("withdraw", name, None),
        Step::Delete { .. } => ("delete", name, None),
    }
}

/// A plan may bring a split and take another away at once. Whoever has the name of the one that comes, a stranger's policy too,
/// the one that stays tells of the plan: else an agent that missed it would make again what is gone (I7).
#[test]
fn what_is_not_there_yet_tells_nobody_of_a_removal() {
    let (stays, goes, comes) = (named("checkout", 1), named("queue", 1), named("cart", 2));
    let gone: Vec<Object> = introduction(&objects(&goes));
    let start = Instant::now();
    let mut anchors = Anchors::default();
    let alone = Sighting {
        held: Some(Held::Alone),
        complete: true,
    };
    let noted: Vec<(Object, Sighting)> = gone.iter().map(|object| (object.clone(), alone)).collect();
    anchors.note(&noted, start);
    let plan = ZonePlan {
        federation: federation(),
        zone: stays.zone.clone(),
        kuma_zone: stays.kuma_zone.clone(),
        mesh: stays.mesh.clone(),
        plan: PlanId([2; 32]),
        generation: Generation(2),
        commits: Vec::new(),
        gateways: [].into(),
        items: [&stays, &comes]
            .map(|item| (item.split.clone(), Arc::clone(item)))
            .into(),
    };
    let memory = Memory {
        highest: Generation(2),
        applied: BTreeMap::from([(stays.split.clone(), Arc::clone(&stays))]),
        ..Memory::default()
    };
    let mut services = vec![service("use1", Some("shop")), service("use1", Some("shop"))];
    services[1].service = comes.service.clone();
    let live = |also: &[Object]| Observed {
        services: services.clone(),
        ours: objects(&stays)
            .iter()
            .chain(&gone)
            .chain(also)
            .map(|object| (object.clone(), Generation(1)))
            .collect(),
        ..Observed::default()
    };
    let decided = |observed: &Observed| {
        let late = start + Duration::from_secs(60);
        decide(&plan, &memory, observed, Options::default(), &anchors, late).steps
    };
    let steps = decided(&live(&[]));
    assert_eq!(
        steps.iter().map(word).collect::<Vec<_>>(),
        [
            ("put", "weir-checkout", Some("2")),
            ("introduce", "weir-cart", None),
            ("delete", "weir-queue", None),
        ]
    );
    // What goes over a policy of ours is written, and tells by its own generation.
    let steps = decided(&live(&objects(&named("cart", 1))));
    assert_eq!(
        steps.iter().map(word).collect::<Vec<_>>(),
        [("put", "weir-cart", None), ("delete", "weir-queue", None)]
    );
}
