//! A life of agents from a seed: everything that may happen does, in any order, and then faults stop.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use weir_agent::activation::Noticed;
use weir_agent::take::Memory;
use weir_model::MeshName;
use weir_planner::ItemState;
use weir_render::{Extent, Kind, Object, extent};

use super::plans::{BACKENDS, next_plan, plan, service_fact};
use super::zone::{Fake, Zone};
use super::{Agent, Dice};

fn life(seed: u64, agents: usize) -> usize {
    let mut dice = Dice(seed);
    let shared = Arc::new(Mutex::new(Zone {
        dice: Some(Dice(seed ^ 0xFEED)),
        fault_percent: 25,
        strict: agents == 1,
        ..Zone::default()
    }));
    let driver = Fake(Arc::clone(&shared));
    let begin = Instant::now();
    let mut agents: Vec<Agent> = std::iter::repeat_with(Agent::default).take(agents).collect();
    let mut plans = vec![plan(1, [])];
    // A stranger's policy, and one that has the name that we would use.
    let stranger = Object {
        kind: Kind::MeshHttpRoute,
        mesh: MeshName::new("default").unwrap(),
        name: if seed.is_multiple_of(2) {
            "weir-search"
        } else {
            "canary"
        }
        .to_owned(),
        labels: BTreeMap::from([("kuma.io/origin".to_owned(), "zone".to_owned())]),
        spec: serde_json::json!({"to": []}),
    };
    let stranger_key = (stranger.kind, stranger.name.clone());
    shared
        .lock()
        .unwrap()
        .store
        .insert(stranger_key.clone(), (stranger.clone(), false));
    for split in ["checkout", "cart", "search"] {
        for (_, of) in BACKENDS {
            let key = (split.to_owned(), of.to_owned());
            let fact = service_fact(split, of);
            shared.lock().unwrap().services.insert(key, fact);
        }
    }
    for _ in 0..80 {
        let who = usize::try_from(dice.below(agents.len() as u64)).unwrap();
        match dice.below(10) {
            0 | 1 => {
                let next = next_plan(plans.last().unwrap(), &mut dice);
                let mut zone = shared.lock().unwrap();
                for item in next.items.values() {
                    zone.planned.insert(item.digest, Arc::clone(item));
                }
                drop(zone);
                plans.push(next);
            }
            2 => {
                let split = ["checkout", "cart", "search"][usize::try_from(dice.below(3)).unwrap()];
                let of = BACKENDS[usize::try_from(dice.below(3)).unwrap()].1;
                let key = (split.to_owned(), of.to_owned());
                let mut zone = shared.lock().unwrap();
                if zone.services.remove(&key).is_none() {
                    zone.services.insert(key, service_fact(split, of));
                }
            }
            3 if dice.chance(30) => {
                // The control plane comes back with an empty store; what a stranger had there is the stranger's matter.
                let mut zone = shared.lock().unwrap();
                zone.lose_store();
            }
            4 if dice.chance(50) => {
                // Killed and started again; sometimes with a damaged memory, sometimes with a damaged plan.
                let agent = &mut agents[who];
                agent.facts = None;
                agent.noticed = Noticed::default();
                match dice.below(4) {
                    0 => {
                        if let Some(plan) = &agent.plan {
                            agent.memory = Memory {
                                highest: plan.generation,
                                ..Memory::default()
                            };
                        }
                    }
                    1 => agent.plan = None,
                    _ => {}
                }
            }
            5 => {
                // An old plan comes again.
                let old = &plans[usize::try_from(dice.below(plans.len() as u64)).unwrap()];
                agents[who].offer(old);
            }
            6 | 7 => agents[who].offer(plans.last().unwrap()),
            _ => {}
        }
        agents[who].activate(&driver, begin);
        let mut zone = shared.lock().unwrap();
        zone.pass(Duration::from_millis(dice.below(4_000)), &mut dice);
        assert_eq!(
            zone.store.get(&stranger_key),
            Some(&(stranger.clone(), false)),
            "I10"
        );
    }
    // Faults stop: every agent comes to the newest plan, or says why not (I11).
    {
        let mut zone = shared.lock().unwrap();
        zone.fault_percent = 0;
        for split in ["checkout", "cart", "search"] {
            for (_, of) in BACKENDS {
                let key = (split.to_owned(), of.to_owned());
                zone.services.insert(key, service_fact(split, of));
            }
        }
    }
    let newest = plans.last().unwrap();
    for _ in 0..60 {
        for agent in &mut agents {
            agent.offer(newest);
            assert_eq!(agent.plan.as_ref(), Some(newest));
            agent.activate(&driver, begin);
        }
        let mut zone = shared.lock().unwrap();
        zone.pass(Duration::from_secs(1), &mut dice);
    }
    {
        let zone = shared.lock().unwrap();
        for (object, _) in zone.store.values().filter(|(_, ours)| *ours) {
            let split = object.labels["weir.dev/split"].as_str();
            assert!(
                newest.items.keys().any(|name| name.as_str() == split),
                "{split} is not gone"
            );
            assert_eq!(extent(object), Extent::Whole);
        }
    }
    for agent in &agents {
        for fact in &agent.facts.as_ref().unwrap().items {
            let taken = stranger.name == "weir-search" && fact.split.as_str() == "search";
            match &fact.state {
                ItemState::Proven => assert!(!taken),
                ItemState::Held(_) => assert!(taken, "{}: {:?}", fact.split, fact.state),
                other => panic!("{}: {other:?}", fact.split),
            }
        }
    }
    // A restart alone changes nothing (I6): same plan from disk, no coordinator, no write.
    let before = shared.lock().unwrap().writes;
    for agent in &mut agents {
        agent.facts = None;
        agent.noticed = Noticed::default();
        agent.activate(&driver, begin);
        agent.memory.applied.clear();
        agent.activate(&driver, begin);
    }
    let zone = shared.lock().unwrap();
    assert_eq!(zone.writes, before, "I6: a restart moved something");
    zone.writes
}

fn lives(agents: usize) {
    let mut writes = 0;
    for seed in 0..150 {
        let lived = std::panic::catch_unwind(|| life(seed, agents));
        match lived {
            Ok(n) => writes += n,
            Err(why) => {
                let text = why
                    .downcast_ref::<String>()
                    .cloned()
                    .or_else(|| why.downcast_ref::<&str>().map(|s| (*s).to_owned()));
                panic!("seed {seed}: {}", text.unwrap_or_default());
            }
        }
    }
    // A simulation that writes nothing proves nothing.
    assert!(writes > 1000, "only {writes} writes");
}

#[test]
fn one_agent_holds_every_invariant() {
    lives(1);
}

#[test]
fn two_agents_of_one_zone_need_no_lease() {
    lives(2);
}
