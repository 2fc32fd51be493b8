//! A door by which Kong and the mesh both split: it is not made, and one that was made before anybody knew is in no other one's way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_agent::gateways::{Decided, FIRST, Posted, Refusals, Wanted, decide};
use weir_drivers::kong::pins::Sight;
use weir_model::ZoneName;
use weir_planner::{Plan, ZonePlan};
use weir_render::kong::Resolved;

use super::asking::*;
use super::stage::*;

const IN_MESH: &str = "{name: edge, channel: admin-dbless, inMesh: true, base: edge.yaml}";

/// A base with an upstream by the name by which the mesh is to carry `checkout`.
fn base(more: &str) -> String {
    format!("{BASE}{more}upstreams: [{{name: checkout.mesh}}]\n")
}

fn meshed(split_name: &str, vm: u32) -> String {
    let backends = format!("backends: {{{BASKET}}}");
    split(split_name, vm, BASKET).replace(&backends, &format!("mesh: \"{split_name}.mesh:80\""))
}

fn both(checkout: u32, basket: u32) -> [String; 2] {
    [meshed("checkout", checkout), meshed("basket", basket)]
}

fn part(plan: &Plan) -> Arc<ZonePlan> {
    Arc::new(plan.zone_plan(&ZoneName::new("fra").unwrap()).unwrap())
}

fn decided(plan: &Plan, posted: Option<&Posted>) -> Decided {
    let plan = part(plan);
    let wanted = Wanted {
        items: plan.items.clone(),
        plan,
        next: BTreeMap::new(),
        ahead: BTreeSet::new(),
        pins: BTreeMap::new(),
        sight: Sight::default(),
        back: BTreeSet::new(),
    };
    decide(
        &wanted,
        &edge(),
        posted,
        &Resolved::new(),
        &Refusals::new(FIRST),
        None,
    )
}

/// What was posted when there was no such rule.
fn posted(plan: &Plan, splits: &[&str]) -> Posted {
    let part = part(plan);
    let items = splits
        .iter()
        .map(|split| (name(split), Arc::clone(&part.items[&name(split)])));
    Posted {
        items: items.collect(),
        base: Some(Arc::clone(&part.gateways[&edge()])),
        ..Posted::default()
    }
}

#[test]
fn a_door_that_is_there_already_holds_no_revert() {
    let first = plan_of(IN_MESH, &base(""), &both(50, 50), None);
    let there = posted(&first, &["checkout", "basket"]);
    let back = plan_of(IN_MESH, &base(""), &both(50, 90), Some(&first));
    let now = decided(&back, Some(&there));
    assert!(now.document.is_some() && now.held.is_none(), "{now:?}");
    assert_eq!(now.split_held, BTreeMap::new());
    assert_eq!(now.items, part(&back).items);
    assert!(
        now.notes
            .iter()
            .any(|note| note.contains("it leads to checkout.mesh")),
        "{:?}",
        now.notes
    );
    // Its own revert as well; and another base, by which nothing of this is new.
    let all = plan_of(
        IN_MESH,
        &base("  - {name: more, host: a.test}\n"),
        &both(90, 90),
        Some(&back),
    );
    let now = decided(&all, Some(&there));
    assert_eq!((now.split_held, now.base_held), (BTreeMap::new(), None));
    assert_eq!(now.items, part(&all).items);
    // One that is not there yet is not made, and is alone in that.
    let now = decided(&back, Some(&posted(&first, &["basket"])));
    assert_eq!(now.split_held.keys().collect::<Vec<_>>(), [&name("checkout")]);
    assert_eq!(now.items[&name("basket")], part(&back).items[&name("basket")]);
    assert!(
        now.document.is_some() && !now.items.contains_key(&name("checkout")),
        "{now:?}"
    );
    // Nor is a base by which it would come to be so: it stays, and what is declared of shares goes on.
    let before = plan_of(IN_MESH, BASE, &both(50, 50), None);
    let bad = plan_of(IN_MESH, &base(""), &both(50, 90), Some(&before));
    let now = decided(&bad, Some(&posted(&before, &["checkout", "basket"])));
    assert!(
        now.base_held
            .is_some_and(|why| why.contains("it leads to checkout.mesh"))
    );
    assert_eq!(now.items, part(&bad).items);
}

/// Each with a route of its own, on a base with nothing but that upstream.
fn own(vm: u32, before: Option<&Plan>) -> Plan {
    let own = |split: &str, vm| {
        let taken_over = format!("service: {split}, mesh");
        meshed(split, vm).replace(&taken_over, &format!("paths: [/{split}], mesh"))
    };
    let base = "_format_version: \"3.0\"\nupstreams: [{name: checkout.mesh}]\n";
    plan_of(IN_MESH, base, &[own("checkout", 50), own("basket", vm)], before)
}

/// The agent forgot what it gave: what it would not make any more is there, and the other one goes on beside it.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_remembers_nothing_leaves_it_where_it_is() {
    let (dir, kong, names) = scene().await;
    let first = own(50, None);
    let document = decided(&first, Some(&posted(&first, &["checkout", "basket"])))
        .document
        .unwrap();
    post(&kong, &serde_json::from_slice(&document.bytes).unwrap()).await;
    let mut agent = Agent::start(&kong, &names, dir.path());
    let second = own(90, Some(&first));
    let part = agent.want(&second);
    agent.exact(&part).await;
    assert_eq!(host(&kong, "weir.checkout").await, "checkout.mesh");
    agent.stopped().await;
    // On a Kong that has nothing of it, it is not made.
    let (dir, kong, names) = scene().await;
    let mut agent = Agent::start(&kong, &names, dir.path());
    agent.want(&second);
    agent
        .until("held alone", |told| {
            door(told, &second, "checkout").is_some_and(|door| door.held.is_some())
                && door(told, &second, "basket").is_some_and(exact)
        })
        .await;
    assert!(asked(&kong, "/services/weir.checkout").await["host"].is_null());
    agent.stopped().await;
}
