//! What transitions go by, from the same words: who cannot tell is waited for, and never taken for one that agrees.

use weir_coordinator::senses::{FleetSenses, Proven};
use weir_model::{GatewayName, Via};
use weir_planner::{DoorFact, Item, Reach, Runs, Senses as _};

use super::*;

/// The answers of these senses about the item of fra: reach, runs, runs where reached, resolves.
fn answers(fleet: &Fleet, began: Timestamp) -> (Reach, Runs, Runs, Result<(), String>) {
    asked(fleet, began, |senses, item| {
        (
            senses.reach(&item.zone),
            senses.runs(item),
            senses.runs_where_reached(item),
            senses.resolves(item, None),
        )
    })
}

/// What is asked of these senses about the item of fra.
fn asked<T>(fleet: &Fleet, began: Timestamp, ask: impl Fn(&FleetSenses<'_>, &Item) -> T) -> T {
    let plan = plan();
    let item = item(&plan);
    let proven = Proven::from([((item.split.clone(), item.zone.clone()), (item.generation, at(70)))]);
    let senses = FleetSenses {
        sight: Sight {
            plan: &plan,
            created: &BTreeMap::new(),
            fleet,
            stale: STALE,
            now: now(),
        },
        proven: &proven,
        began,
    };
    ask(&senses, &item)
}

fn item(plan: &Plan) -> std::sync::Arc<Item> {
    let split = &plan.splits[&SplitName::new("checkout").unwrap()];
    Arc::clone(&split.items[&zone("fra")])
}

/// An agent that proves the item and sees every backend.
fn good() -> Agent {
    let plan = plan();
    let mut agent = agent(fact(&plan));
    agent.services = services(&plan);
    agent
}

pub(super) fn services(plan: &Plan) -> Vec<ServiceFact> {
    let item = item(plan);
    let facts = item.destinations.values().map(|to| ServiceFact {
        service: to.service.clone(),
        kuma_zone: to.kuma_zone.clone(),
        namespace: to.namespace.clone(),
        ports: BTreeMap::from([(to.port, Some(item.protocol))]),
        port_names: BTreeMap::new(),
        state: ServiceState::Available,
        way: weir_planner::Way::Unknown,
    });
    facts.collect()
}

fn silent(mut agent: Agent) -> Agent {
    agent.heard_at = Some(at(80));
    agent.looked_at = Some(at(80));
    agent.connected = false;
    agent
}

#[test]
fn who_cannot_tell_is_waited_for() {
    let long_ago = at(0);
    let proven = Runs::Proven { since: at(70) };
    let nobody = Fleet::default();
    assert_eq!(answers(&nobody, long_ago).0, Reach::Nobody);

    let all = fleet([("fra-1", good()), ("fra-2", good())]);
    let expected = (Reach::Reachable, proven.clone(), proven.clone(), Ok(()));
    assert_eq!(answers(&all, long_ago), expected);

    // Silent: what it said last still counts for what runs, its control plane is asked nothing.
    let words = "not connected for 20 s; what is shown is old";
    let mut dead = silent(good());
    dead.services.clear();
    let one = fleet([("fra-1", good()), ("fra-2", dead.clone())]);
    let expected = (
        Reach::Partly(format!("agent fra-2: {words}")),
        proven.clone(),
        proven.clone(),
        Ok(()),
    );
    assert_eq!(answers(&one, long_ago), expected);
    let none = fleet([("fra-1", dead)]);
    assert_eq!(
        answers(&none, long_ago).0,
        Reach::Unreachable(format!("agent fra-1: {words}"))
    );

    // Silent, and it never proved this: the others did.
    let mut behind = silent(good());
    behind.items.clear();
    let one = fleet([("fra-1", good()), ("fra-2", behind)]);
    let (_, runs, reached, _) = answers(&one, long_ago);
    assert!(
        matches!(&runs, Runs::Not(why) if why.starts_with("agent fra-2")),
        "{runs:?}"
    );
    assert_eq!(reached, proven);

    // Heard, and blind: nobody is to take the zone for one that is away, or for one that resolves.
    let mut blind = good();
    blind.unreadable = Some("connection refused".to_owned());
    let one = fleet([("fra-1", good()), ("fra-2", blind)]);
    let why = "agent fra-2 cannot read its control plane: connection refused";
    assert_eq!(answers(&one, long_ago).0, Reach::Unsure(why.to_owned()));

    // One that sees a backend less than the others.
    let mut lacks = good();
    lacks.services.pop();
    let one = fleet([("fra-1", good()), ("fra-2", lacks)]);
    assert!(answers(&one, long_ago).3.is_err());
}

/// Of a way back that is held: who says so, and what the zone runs meanwhile, as far as its agents agree.
#[test]
fn who_holds_what_it_is_told_and_what_runs_there() {
    let ask = |agents: Vec<(&'static str, Agent)>| {
        asked(&fleet(agents), at(0), |senses, item| {
            (senses.holds(item), senses.shares(item))
        })
    };
    let runs = good().items.into_values().next().unwrap().proof.unwrap().weights;
    assert!(runs.is_some());
    let change = |change: &dyn Fn(&mut ItemFact)| {
        let mut agent = good();
        agent.items.values_mut().for_each(change);
        agent
    };
    let held = || change(&|fact| fact.state = ItemState::Held("nobody is there".to_owned()));
    assert_eq!(
        ask(vec![("fra-1", good()), ("fra-2", good())]),
        (false, runs.clone())
    );
    assert_eq!(
        ask(vec![("fra-1", good()), ("fra-2", held())]),
        (true, runs.clone())
    );
    // Silence holds nothing, and another item is another matter.
    assert_eq!(
        ask(vec![("fra-1", good()), ("fra-2", silent(held()))]),
        (false, runs)
    );
    let mut older = held();
    older
        .items
        .values_mut()
        .for_each(|fact| fact.generation = Generation(1));
    assert!(!ask(vec![("fra-1", older)]).0);
    let unread = change(&|fact| fact.proof = None);
    assert_eq!(
        ask(vec![("fra-1", good()), ("fra-2", unread)]).1,
        None,
        "nobody knows"
    );
    assert_eq!(ask(Vec::new()), (false, None));
}

/// An agent that drives this gateway, beside the item itself.
fn at_door(name: &str, door: DoorFact) -> Agent {
    let mut agent = good();
    for fact in agent.items.values_mut() {
        fact.doors.insert(gateway(name), door.clone());
        if !door.is_exact() {
            fact.state = ItemState::Applied;
        }
    }
    agent
}

pub(super) fn gateway(name: &str) -> GatewayName {
    GatewayName::new(name).unwrap()
}

fn door(verdict: Verdict, held: Option<&str>, unhealthy: &[&str]) -> DoorFact {
    let unhealthy = unhealthy.iter().map(|name| BackendName::new(*name).unwrap());
    let read = Proof {
        unhealthy: unhealthy.collect(),
        ..proof(verdict, Evidence::Live)
    };
    DoorFact {
        held: held.map(str::to_owned),
        proof: Some(read),
        dead: BTreeMap::new(),
        counting: None,
    }
}

/// What is asked of these senses about the item with doors at these gateways.
fn asked_of_doors<T>(agents: Vec<Agent>, doors: &[&str], ask: impl Fn(&FleetSenses<'_>, &Item) -> T) -> T {
    let agents = ["fra-1", "fra-2", "fra-3"].into_iter().zip(agents);
    asked(&fleet(agents), at(0), |senses, item| {
        let mut item = item.clone();
        let of = |name: &&str| (gateway(name), super::doors::door(Via::Addresses(BTreeMap::new())));
        item.doors = doors.iter().map(of).collect();
        ask(senses, &item)
    })
}

/// Who is down, where that is all that keeps a zone from what it was told: by its own fallback, or to one of its gateways. A
/// transition does not wait for them if it gives them no more.
#[test]
fn who_alone_keeps_a_zone_from_what_it_was_told() {
    let down = |agents: Vec<Agent>, doors: &[&str]| -> Vec<String> {
        let found = asked_of_doors(agents, doors, |senses, item| senses.fallen(item));
        found.iter().map(ToString::to_string).collect()
    };
    let other = || Verdict::Different("cloud is unhealthy".to_owned());
    let sick = || at_door("edge", door(other(), None, &["cloud"]));
    let nobody: [&str; 0] = [];
    assert_eq!(down(vec![good()], &[]), nobody);
    assert_eq!(down(vec![good(), sick()], &["edge"]), ["cloud"]);
    let change = |mut agent: Agent, change: &dyn Fn(&mut ItemFact)| {
        agent.items.values_mut().for_each(change);
        agent
    };
    // One that nobody calls by, and one that was silent since.
    let idle = change(good(), &|fact| {
        fact.state = ItemState::Applied;
        let nobody = Verdict::Unknown("nobody calls".to_owned());
        fact.proof = Some(Proof {
            coverage: weir_planner::Coverage::default(),
            ..proof(nobody, Evidence::Live)
        });
    });
    assert_eq!(down(vec![idle, sick(), silent(good())], &["edge"]), ["cloud"]);
    let inner = at_door("inner", door(Verdict::Exact, None, &[]));
    assert_eq!(down(vec![sick(), inner], &["edge", "inner"]), ["cloud"]);

    // Something else is wrong there, or anywhere: then nothing is known to be as it was told.
    assert_eq!(
        down(vec![good(), sick()], &["edge", "inner"]),
        nobody,
        "who drives inner?"
    );
    let mut dark = good();
    dark.unreadable = Some("connection refused".to_owned());
    let mut forgetful = silent(good());
    forgetful.items.clear();
    for wrong in [
        at_door("inner", door(other(), None, &[])),
        at_door("inner", door(Verdict::Exact, Some("Kong refuses it"), &["cloud"])),
        change(sick(), &|fact| fact.proof = Some(proof(other(), Evidence::Live))),
        change(sick(), &|fact| {
            fact.proof = Some(proof(Verdict::Exact, Evidence::Acknowledged));
        }),
        change(sick(), &|fact| fact.proof = None),
        change(sick(), &|fact| fact.pin = Some(pin())),
        change(good(), &|fact| fact.generation = Generation(1)),
        change(good(), &|fact| fact.state = ItemState::Failed("503".to_owned())),
        change(silent(good()), &|fact| fact.state = ItemState::Applied),
        dark,
        forgetful,
    ] {
        let said = format!("{wrong:?}");
        assert_eq!(down(vec![sick(), wrong], &["edge"]), nobody, "{said}");
    }
}

/// Whom a gateway takes for dead is asked of every agent that is heard, and keeps who would get more.
#[test]
fn who_is_dead_to_a_gateway_is_to_get_no_more() {
    let cloud = BackendName::new("cloud").unwrap();
    let mut dead = door(Verdict::Exact, None, &[]);
    dead.dead
        .insert(cloud.clone(), "every target of it is dead".to_owned());
    let more = |agents: Vec<Agent>| {
        asked_of_doors(agents, &["edge"], |senses, has| {
            let ask = |weight: u32| {
                let mut item = has.clone();
                let weights = &mut item.routes[0].weights;
                weights.insert(cloud.clone(), BasisPoints::new(weight).unwrap());
                senses.doors_ready(&item, Some(has))
            };
            (ask(1_001), ask(1_000), ask(0))
        })
    };
    let why = Err("gateway edge: every target of it is dead".to_owned());
    let all = (Ok(()), Ok(()), Ok(()));
    assert_eq!(
        more(vec![good(), at_door("edge", dead.clone())]),
        (why, Ok(()), Ok(()))
    );
    assert_eq!(more(vec![good()]), all);
    assert_eq!(more(vec![good(), silent(at_door("edge", dead.clone()))]), all);
    let mut pinned = at_door("edge", dead);
    pinned.items.values_mut().for_each(|fact| fact.pin = Some(pin()));
    assert_eq!(more(vec![pinned]), all);
}

/// After a start, who was heard before it may only not have had the time: its zone neither rests nor goes on. That has an
/// end, or a host that is gone would hold everything for ever.
#[test]
fn nothing_that_was_heard_before_a_start_moves_anything() {
    let yet = "agent fra-2 was not heard yet since the coordinator started";
    let mut before = good();
    before.heard_at = Some(at(90));
    let both = fleet([("fra-1", good()), ("fra-2", before)]);
    let (reach, runs, reached, _) = answers(&both, at(95));
    assert_eq!(reach, Reach::Unsure(yet.to_owned()));
    assert_eq!(runs, Runs::Not(yet.to_owned()));
    assert_eq!(reached, Runs::Not(yet.to_owned()));

    let mut never = good();
    never.heard_at = None;
    let both = fleet([("fra-1", good()), ("fra-2", never)]);
    assert_eq!(answers(&both, at(95)).0, Reach::Unsure(yet.to_owned()));
    assert_eq!(
        answers(&both, at(50)).0,
        Reach::Partly("agent fra-2: is connected and has not reported yet".to_owned()),
        "once the time for it is over, it is silent like any other"
    );
}
