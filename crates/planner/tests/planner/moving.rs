//! Transitions.

mod draining;
mod every_drain;
mod every_order;
mod failing;
mod ingress;
mod large;
mod left;
mod mid_way;
mod odd;
mod other_routes;
mod slower;
mod standing_aside;
mod stories;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use jiff::SignedDuration;
use weir_model::{BackendName, BasisPoints, Declaration, Freeze, Protocol, Split, Transition, ZoneName};
use weir_planner::{Leg, Phase};

use crate::declared::{split, with};
use crate::world::{World, backend, checkout, weights, zone};

const ZONES: [&str; 3] = ["ams", "fra", "par"];
/// `checkout` with backends in three zones; `ams` is a wave of its own.
fn declared(weights: &[(&str, u32)], change: impl FnOnce(&mut Split)) -> Declaration {
    let mut split = split("checkout", &["eks@ams", "lab@par", "vm@fra"], weights);
    split.transition = Transition {
        max_step: Some(BasisPoints::new(5_000).unwrap()),
        ..Transition::default()
    };
    change(&mut split);
    let mut declaration = with(&ZONES, [split]);
    declaration.zones.get_mut(&zone("ams")).unwrap().wave = 2;
    declaration
}

fn plain(weights: &[(&str, u32)]) -> Declaration {
    declared(weights, |_| {})
}

/// The same, with one more backend that has some weight.
fn retiring(weights: &[(&str, u32)]) -> Declaration {
    let mut declaration = plain(weights);
    let mut old = split(
        "checkout",
        &["eks@ams", "lab@par", "old@par", "vm@fra"],
        &[("old", 50), ("vm", 50)],
    );
    old.backends.get_mut(&backend("old")).unwrap().namespace = weir_model::DnsLabel::new("old").ok();
    old.transition = declaration.splits[&checkout()].transition;
    declaration.splits.insert(checkout(), Arc::new(old));
    declaration
}

/// Looks until nothing more comes, everybody following.
fn settle(world: &mut World) {
    for _ in 0..20 {
        world.look();
        world.all_follow();
        world.pass(61);
    }
    assert_eq!(world.leg(), None, "{}", world.told(None));
}

/// Looks, and writes down what it came to.
fn look(world: &mut World, story: &mut String, what: &str) {
    let (_, stands) = world.look();
    if !what.is_empty() {
        story.push_str(&format!("-- {what}\n"));
    }
    story.push_str(&world.told(stands.as_ref()));
}
