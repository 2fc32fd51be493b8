//! Splits that are taken away while another agent of the zone is cut off, and that come back.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use weir_model::BackendName;
use weir_planner::{Generation, Item, ItemState, ZoneFacts, item_digest};
use weir_render::{Extent, Kind, extent};

use super::plans::{item, plan, service_fact};
use super::zone::{Fake, Zone};
use super::{Agent, Dice};

/// Two agents of one zone and what its control plane holds, without faults.
fn two(splits: &[&str], kept: &[&str]) -> (Arc<Mutex<Zone>>, Fake, [Agent; 2], Instant) {
    let begin = Instant::now();
    let shared = Arc::new(Mutex::new(Zone {
        dice: Some(Dice(1)),
        ..Zone::default()
    }));
    let driver = Fake(Arc::clone(&shared));
    let all: Vec<Arc<Item>> = splits
        .iter()
        .map(|split| Arc::new(item(split, [10_000, 0, 0], 1)))
        .collect();
    {
        let mut zone = shared.lock().unwrap();
        for item in &all {
            let service = item.split.as_str();
            zone.services.insert(
                (service.to_owned(), "fra".to_owned()),
                service_fact(service, "fra"),
            );
            zone.planned.insert(item.digest, Arc::clone(item));
        }
    }
    let stays = all.iter().filter(|item| kept.contains(&item.split.as_str()));
    let mut agents = [Agent::default(), Agent::default()];
    for agent in &mut agents {
        agent.offer(&plan(1, all.iter().cloned()));
    }
    for _ in 0..4 {
        for agent in &mut agents {
            agent.activate(&driver, begin);
        }
        pass(&shared, 3);
    }
    // The first is cut off from the coordinator; the second hears of the removal.
    agents[1].offer(&plan(2, stays.cloned()));
    (shared, driver, agents, begin)
}

fn pass(shared: &Arc<Mutex<Zone>>, seconds: u64) {
    shared
        .lock()
        .unwrap()
        .pass(Duration::from_secs(seconds), &mut Dice(1));
}

/// What is in force, and with a mark what is an anchor alone.
fn stored(shared: &Arc<Mutex<Zone>>) -> Vec<String> {
    let zone = shared.lock().unwrap();
    let all = zone.store.values();
    all.map(|(object, _)| match extent(object) {
        Extent::Whole => object.name.clone(),
        Extent::Anchor => format!("({})", object.name),
    })
    .collect()
}

/// A removal changes no other item, so that nothing else would tell an agent with an older plan of it.
#[test]
fn a_removed_split_stays_removed_beside_an_agent_that_is_cut_off() {
    let (shared, driver, mut agents, begin) = two(&["cart", "checkout", "search"], &["cart", "search"]);
    let state = |facts: &ZoneFacts, split: &str| {
        let told = facts.items.iter().find(|fact| fact.split.as_str() == split);
        told.map(|fact| fact.state.clone())
    };
    for _ in 0..10 {
        agents[1].activate(&driver, begin);
        assert_eq!(stored(&shared), ["weir-cart", "(weir-checkout)", "weir-search"]);
        agents[0].activate(&driver, begin);
        assert_eq!(stored(&shared), ["weir-cart", "(weir-checkout)", "weir-search"]);
        let facts = agents[1].facts.as_ref().unwrap();
        assert_eq!(
            state(facts, "checkout"),
            Some(ItemState::Applied),
            "it is not gone yet"
        );
        pass(&shared, 3);
    }
    for _ in 0..5 {
        pass(&shared, 3);
        agents[1].activate(&driver, begin);
        agents[0].activate(&driver, begin);
    }
    assert_eq!(stored(&shared), ["weir-cart", "weir-search"]);
    assert_eq!(state(agents[1].facts.as_ref().unwrap(), "checkout"), None);
    let facts = agents[0].facts.as_ref().unwrap();
    let held = state(facts, "checkout");
    assert!(
        matches!(&held, Some(ItemState::Held(why)) if why.contains("newer plan")),
        "{held:?}"
    );
    assert_eq!(facts.highest, Generation(2));
    let writes = shared.lock().unwrap().writes;
    assert_eq!(
        writes,
        3 * 2 + 3,
        "three introduced and put; one withdrawn, a word left of it, removed; and peace after that"
    );

    // The control plane comes back empty, and the agent that is cut off is the first to notice. What is removed may
    // come back until the other one looks, and no longer.
    shared.lock().unwrap().lose_store();
    agents[0].activate(&driver, begin);
    assert_eq!(
        stored(&shared),
        ["weir-cart", "weir-checkout", "weir-search"],
        "at once and whole: an old split is better than none"
    );
    for _ in 0..20 {
        agents[1].activate(&driver, begin);
        agents[0].activate(&driver, begin);
        assert!(!stored(&shared).contains(&"weir-checkout".to_owned()));
        pass(&shared, 3);
    }
    assert_eq!(stored(&shared), ["weir-cart", "weir-search"]);

    // The one that was cut off hears of the plan, and holds nothing back any more.
    let newest = agents[1].plan.clone().unwrap();
    agents[0].offer(&newest);
    agents[0].activate(&driver, begin);
    let facts = agents[0].facts.as_ref().unwrap();
    assert!(
        facts.items.iter().all(|fact| fact.state == ItemState::Proven),
        "{facts:?}"
    );

    // What somebody takes away by hand comes back as before.
    shared
        .lock()
        .unwrap()
        .store
        .retain(|(_, name), _| name != "weir-cart");
    agents[1].activate(&driver, begin);
    assert_eq!(stored(&shared), ["weir-cart", "weir-search"]);
}

/// A split that is taken away and comes back at once with fewer backends: requests may still flow to the one that it lost,
/// so the anchor that keeps that one stays until they cannot.
#[test]
fn a_split_comes_back_with_fewer_backends_when_its_old_anchor_may_go() {
    let (shared, driver, mut agents, begin) = two(&["cart", "checkout"], &["cart"]);
    let agent = &mut agents[1];
    agent.activate(&driver, begin);
    assert_eq!(stored(&shared), ["weir-cart", "(weir-checkout)"]);
    let mut less = item("checkout", [10_000, 0, 0], 3);
    less.destinations.remove(&BackendName::new("lab").unwrap());
    less.routes[0].weights.remove(&BackendName::new("lab").unwrap());
    less.digest = item_digest(&less);
    let less = Arc::new(less);
    shared
        .lock()
        .unwrap()
        .planned
        .insert(less.digest, Arc::clone(&less));
    let items = agent.plan.as_ref().unwrap().items.values().cloned();
    let back = plan(3, items.chain([less]));
    agent.offer(&back);
    let anchor = |shared: &Arc<Mutex<Zone>>| {
        let zone = shared.lock().unwrap();
        let (object, _) = &zone.store[&(Kind::MeshHttpRoute, "weir-checkout".to_owned())];
        (extent(object), object.spec.to_string().contains("par"))
    };
    for _ in 0..10 {
        agent.activate(&driver, begin);
        assert_eq!(anchor(&shared), (Extent::Anchor, true), "it is still needed");
        let facts = agent.facts.as_ref().unwrap();
        let told = facts.items.iter().find(|fact| fact.split.as_str() == "checkout");
        let state = told.map(|fact| fact.state.clone());
        assert!(
            matches!(&state, Some(ItemState::Held(why)) if why.contains("keeps backends")),
            "{state:?}"
        );
        pass(&shared, 3);
    }
    for _ in 0..10 {
        pass(&shared, 3);
        agent.activate(&driver, begin);
    }
    assert_eq!(anchor(&shared), (Extent::Whole, false));
}
