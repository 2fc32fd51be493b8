//! Self-checks of two plans that follow each other: each is broken on purpose, and says so; and says nothing where nothing is
//! wrong.

use weir_coordinator::selfcheck::steps::{Step, at_once, drained, resolved};

use super::senses::services;
use super::transition::{all_proven, apart, motion};
use super::*;

fn split() -> SplitName {
    SplitName::new("checkout").unwrap()
}

fn of(plan: &mut Plan) -> &mut SplitPlan {
    Arc::make_mut(plan.splits.get_mut(&split()).unwrap())
}

fn on_its_way(mut plan: Plan, leg: Leg) -> Plan {
    of(&mut plan).course = Some(motion(leg));
    plan
}

fn shift() -> Leg {
    Leg::Shift {
        bites: 3,
        bite: 1,
        wave: 1,
    }
}

fn back() -> Leg {
    let why = "revert".to_owned();
    Leg::Return { why }
}

/// What a check says of the plan that follows `before`, with these zones detached.
fn said(
    check: fn(Step<'_>) -> Option<String>,
    (before, next): (&Plan, &Plan),
    fleet: &Fleet,
    detached: &[&str],
) -> Option<String> {
    let detached: BTreeSet<ZoneName> = detached.iter().map(|name| zone(name)).collect();
    check(Step {
        sight: Sight {
            plan: before,
            created: &BTreeMap::new(),
            fleet,
            stale: STALE,
            now: now(),
        },
        next,
        detached: &detached,
    })
}

fn agent_of<'a>(fleet: &'a mut Fleet, name: &str) -> &'a mut Agent {
    let agents = fleet.zones.get_mut(&zone(name)).unwrap();
    agents.values_mut().next().unwrap()
}

/// All zones have proven this plan, and resolve what it names.
fn well(plan: &Plan) -> Fleet {
    let mut fleet = all_proven(plan);
    for agent in fleet.zones.values_mut().flat_map(BTreeMap::values_mut) {
        agent.services = services(plan);
    }
    fleet
}

/// To what a zone sees.
type Change<'a> = &'a dyn Fn(&mut Vec<ServiceFact>);

#[test]
fn who_gets_more_unresolved_is_named() {
    let first = plan();
    // ams gives `cloud`, which has 10 %, 20 %.
    let next = on_its_way(apart(plan(), 80), shift());
    let fleet = well(&first);
    let resolved =
        |next: &Plan, fleet: &Fleet, detached: &[&str]| said(resolved, (&first, next), fleet, detached);
    assert_eq!(resolved(&next, &fleet, &[]), None);
    let cloud =
        first.splits[&split()].items[&zone("ams")].destinations[&BackendName::new("cloud").unwrap()].clone();
    let is_cloud = |fact: &ServiceFact| fact.kuma_zone == cloud.kuma_zone;
    let broken: [(&str, Change<'_>); 4] = [
        ("sees 0 usable", &|all| all.retain(|fact| !is_cloud(fact))),
        ("sees 0 usable", &|all| {
            let mut all = all.iter_mut();
            all.find(|fact| is_cloud(fact)).unwrap().state = ServiceState::Unavailable;
        }),
        ("sees 0 usable", &|all| {
            let mut all = all.iter_mut();
            all.find(|fact| is_cloud(fact)).unwrap().ports.clear();
        }),
        ("sees 2 usable", &|all| {
            let again = all.iter().find(|fact| is_cloud(fact)).unwrap().clone();
            all.push(again);
        }),
    ];
    for (what, change) in broken {
        let mut fleet = fleet.clone();
        change(&mut agent_of(&mut fleet, "ams").services);
        let why = resolved(&next, &fleet, &[]).unwrap_or_default();
        assert!(
            why.contains("split checkout gives more to") && why.contains("agent ams-1") && why.contains(what),
            "{why}"
        );
        // Nobody asks a zone that is away or detached; a way back is held by each zone itself; and who gets less needs nothing.
        assert_eq!(resolved(&next, &fleet, &["ams"]), None);
        assert_eq!(
            resolved(&on_its_way(apart(plan(), 80), back()), &fleet, &[]),
            None
        );
        assert_eq!(
            resolved(&on_its_way(apart(plan(), 95), shift()), &fleet, &[]),
            None
        );
        let agent = agent_of(&mut fleet, "ams");
        (agent.heard_at, agent.looked_at) = (Some(at(60)), Some(at(60)));
        assert_eq!(resolved(&next, &fleet, &[]), None);
    }
}

#[test]
fn what_goes_too_early_is_named() {
    // Everybody rests with nothing at `cloud`, and ams is told of it no more.
    let without = |plan: Plan, zones: &[&str]| {
        let mut plan = plan;
        for (name, item) in &mut of(&mut plan).items {
            let item = Arc::make_mut(item);
            item.routes[0].weights = weights(100).remove(&RouteName::new("default").unwrap()).unwrap();
            if zones.contains(&name.as_str()) {
                item.destinations.remove(&BackendName::new("cloud").unwrap());
            }
        }
        plan
    };
    let (rests, next) = (without(plan(), &[]), without(plan(), &["ams"]));
    let fleet = well(&rests);
    let gone =
        |before: &Plan, fleet: &Fleet, detached: &[&str]| said(drained, (before, &next), fleet, detached);
    assert_eq!(gone(&rests, &fleet, &[]), None);
    // By another name it is the same place.
    let mut renamed = rests.clone();
    for item in of(&mut renamed).items.values_mut() {
        let destinations = &mut Arc::make_mut(item).destinations;
        let cloud = destinations.remove(&BackendName::new("cloud").unwrap()).unwrap();
        destinations.insert(BackendName::new("eks").unwrap(), cloud);
    }
    assert_eq!(said(drained, (&rests, &renamed), &Fleet::default(), &[]), None);
    // Somebody has it with weight, be it another zone.
    let why = gone(&plan(), &fleet, &[]).unwrap();
    assert!(
        why.contains("out of split checkout in zone ams") && why.contains("was told to send"),
        "{why}"
    );
    // Somebody has not proven that, or was heard of something else, however long ago.
    for change in [
        |fact: &mut ItemFact| fact.proof = None,
        |fact: &mut ItemFact| fact.generation = Generation(4),
    ] {
        let mut fleet = fleet.clone();
        let agent = agent_of(&mut fleet, "fra");
        agent.heard_at = Some(at(0));
        change(agent.items.get_mut(&split()).unwrap());
        let why = gone(&rests, &fleet, &[]).unwrap_or_default();
        assert!(why.contains("agent fra-1 of zone fra has not proven"), "{why}");
        assert_eq!(gone(&rests, &fleet, &["fra"]), None);
    }
    // Its share may be with whom nobody gives any.
    let mut fallen = fleet.clone();
    let fact = agent_of(&mut fallen, "fra").items.get_mut(&split()).unwrap();
    fact.fallback = Some(weir_planner::Fallen {
        since: at(90),
        down: [].into(),
        why: String::new(),
    });
    let why = gone(&rests, &fallen, &[]).unwrap();
    assert!(why.contains("a share is elsewhere there"), "{why}");
    // A gateway sends there by its own.
    let mut by_door = rests.clone();
    let item = of(&mut by_door).items.get_mut(&zone("fra")).unwrap();
    let door = super::doors::door(weir_model::Via::Addresses(BTreeMap::new()));
    Arc::make_mut(item).doors = [(weir_model::GatewayName::new("edge").unwrap(), door)].into();
    let why = gone(&by_door, &fleet, &[]).unwrap();
    assert!(
        why.contains("nobody read back from gateway edge of zone fra"),
        "{why}"
    );
    // Who was never heard was never told anything, nor where nobody is.
    let mut unheard = fleet.clone();
    agent_of(&mut unheard, "fra").heard_at = None;
    assert_eq!(gone(&rests, &unheard, &[]), None);
    assert_eq!(gone(&rests, &Fleet::default(), &[]), None);
}

#[test]
fn a_way_back_in_steps_is_named() {
    let first = plan();
    let fleet = Fleet::default();
    let at_once =
        |before: &Plan, next: &Plan, detached: &[&str]| said(at_once, (before, next), &fleet, detached);
    assert_eq!(at_once(&first, &on_its_way(plan(), back()), &[]), None);
    let apart = |leg| on_its_way(apart(plan(), 80), leg);
    let why = at_once(&first, &apart(back()), &[]).unwrap();
    assert!(
        why.contains("checkout goes back") && why.contains("are told different shares"),
        "{why}"
    );
    // Shares that differ are what steps forward are for; who is detached is told nothing by it; and one that is looked at again has
    // begun before.
    assert_eq!(at_once(&first, &apart(shift()), &[]), None);
    assert_eq!(at_once(&first, &apart(back()), &["ams"]), None);
    let mut again = apart(back());
    again.generation = Generation(9);
    assert_eq!(at_once(&apart(back()), &again, &[]), None);
    // Forward, to where it set out from.
    let mut same = apart(shift());
    let split = of(&mut same);
    let origin = first.splits[&self::split()].items.clone();
    let shape = weir_planner::canonical::shape(origin.values().next().unwrap());
    let motion = split.course.as_mut().unwrap().motion.as_mut().unwrap();
    motion.origin = origin;
    assert_eq!(at_once(&first, &same, &[]), None);
    let motion = of(&mut same).course.as_mut().unwrap().motion.as_mut().unwrap();
    motion.to = shape;
    let why = at_once(&first, &same, &[]).unwrap();
    assert!(why.contains("to what it set out from"), "{why}");
    // Where it stands by now is no way: zones that were ahead are gone.
    let motion = of(&mut same).course.as_mut().unwrap().motion.as_mut().unwrap();
    motion.leg = Leg::Shift {
        bites: 1,
        bite: 1,
        wave: u32::MAX,
    };
    assert_eq!(at_once(&first, &same, &[]), None);
}
