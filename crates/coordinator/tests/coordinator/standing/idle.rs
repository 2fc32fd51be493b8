//! Zones in which nobody calls the service: written there, with nothing to read back. Never converged by themselves, and nothing
//! that a split waits for.

use weir_coordinator::selfcheck;
use weir_model::Via;
use weir_planner::{DoorFact, Fallen};

use super::transition::all_proven;
use super::*;

fn split() -> SplitName {
    SplitName::new("checkout").unwrap()
}

/// As the Kuma driver says it where proxies are connected and none of them calls the service.
fn nobody() -> Proof {
    Proof {
        coverage: Coverage::default(),
        weights: None,
        ..proof(
            Verdict::Unknown("no proxy of this zone calls the service".to_owned()),
            Evidence::Acknowledged,
        )
    }
}

/// What an agent of fra says where nobody calls.
fn uncalled(plan: &Plan) -> ItemFact {
    ItemFact {
        state: ItemState::Applied,
        proof: Some(nobody()),
        ..fact(plan)
    }
}

/// Every agent proves its item, but that nobody calls the service in these zones.
fn but_in(plan: &Plan, idle: &[&str]) -> Fleet {
    let mut fleet = all_proven(plan);
    for name in idle {
        let agents = fleet.zones.get_mut(&zone(name)).unwrap().values_mut();
        for fact in agents.flat_map(|agent| agent.items.values_mut()) {
            fact.state = ItemState::Applied;
            fact.proof = Some(nobody());
        }
    }
    fleet
}

fn sight<'a>(plan: &'a Plan, fleet: &'a Fleet, created: &'a BTreeMap<Generation, Timestamp>) -> Sight<'a> {
    Sight {
        plan,
        created,
        fleet,
        stale: STALE,
        now: now(),
    }
}

fn whole(plan: &Plan, fleet: &Fleet) -> SplitStatus {
    let none = BTreeMap::new();
    let sight = sight(plan, fleet, &none);
    let shown = standing::split(sight, Some(&BTreeMap::new()), &split()).unwrap();
    assert_eq!(selfcheck::whole(&shown), None);
    for of in &shown.zones {
        let item = &plan.splits[&split()].items[&zone(&of.zone)];
        assert_eq!(selfcheck::shown(sight, item, of), None, "{of:?}");
    }
    shown
}

#[test]
fn a_zone_that_nobody_calls_is_idle_and_shows_no_share() {
    let plan = plan();
    let shown = look(&plan, &fleet([("fra-1", agent(uncalled(&plan)))]));
    assert_eq!(
        short(&shown),
        (
            Standing::Idle,
            "nobody calls it there: what it was told is written in its control plane, and whoever comes gets that"
        )
    );
    assert_eq!(
        (
            shown.evidence,
            shown.seen,
            shown.of,
            &shown.weights,
            shown.generation
        ),
        (Evidence::Acknowledged, 0, 0, &None, 5)
    );
    assert_eq!(
        shown.proven_at.as_deref(),
        Some("2027-01-15T08:01:38Z"),
        "when that was seen"
    );
}

/// Whatever is changed about that: it is not idle, and never converged.
#[test]
fn anything_less_is_not_idle() {
    let plan = plan();
    type Spoil = fn(&mut Agent, &mut ItemFact);
    let cases: [(&str, Spoil, Standing); 16] = [
        (
            "held",
            |_, f| f.state = ItemState::Held("why".to_owned()),
            Standing::Held,
        ),
        (
            "failed",
            |_, f| f.state = ItemState::Failed("503".to_owned()),
            Standing::Failed,
        ),
        (
            "overridden",
            |_, f| f.state = ItemState::Overridden("by".to_owned()),
            Standing::Overridden,
        ),
        (
            "pending",
            |_, f| f.state = ItemState::Pending,
            Standing::Progressing,
        ),
        (
            "older",
            |_, f| f.generation = Generation(4),
            Standing::Progressing,
        ),
        ("newer", |_, f| f.generation = Generation(6), Standing::Different),
        (
            "other content",
            |_, f| f.digest = Digest([7; 32]),
            Standing::Different,
        ),
        ("pinned", |_, f| f.pin = Some(pin()), Standing::Overridden),
        (
            "elsewhere",
            |_, f| {
                f.fallback = Some(Fallen {
                    since: at(90),
                    down: [].into(),
                    why: "it is down".to_owned(),
                });
            },
            Standing::Fallback,
        ),
        ("silent", |a, _| a.heard_at = Some(at(84)), Standing::Stale),
        ("not looking", |a, _| a.looked_at = Some(at(54)), Standing::Stale),
        (
            "unreadable",
            |a, _| a.unreadable = Some("refused".to_owned()),
            Standing::Progressing,
        ),
        ("no proof", |_, f| f.proof = None, Standing::Progressing),
        // So the driver says it of a list that could not be had, and of one on which nobody is.
        (
            "no evidence",
            |_, f| f.proof.as_mut().unwrap().evidence = Evidence::Unknown,
            Standing::Progressing,
        ),
        (
            "unseen callers",
            |_, f| f.proof.as_mut().unwrap().coverage.of = 1,
            Standing::Progressing,
        ),
        (
            "only introduced",
            |_, f| f.proof.as_mut().unwrap().verdict = Verdict::Different("its anchor alone".to_owned()),
            Standing::Different,
        ),
    ];
    for (what, spoil, stands) in cases {
        let mut fact = uncalled(&plan);
        let mut whole = agent(fact.clone());
        spoil(&mut whole, &mut fact);
        whole.items = BTreeMap::from([(fact.split.clone(), fact)]);
        let fleet = fleet([("fra-1", whole)]);
        let shown = look(&plan, &fleet);
        assert_eq!(shown.standing, stands, "{what}: {shown:?}");
        // And who shows it as idle all the same is found out.
        let none = BTreeMap::new();
        let sight = sight(&plan, &fleet, &none);
        let claimed = SplitInZone {
            standing: Standing::Idle,
            ..shown
        };
        let item = &plan.splits[&split()].items[&zone("fra")];
        // How long nobody has looked is not this check's.
        if what != "not looking" {
            let why = selfcheck::shown(sight, item, &claimed).unwrap_or_default();
            assert!(why.contains("is shown as idle in zone fra"), "{what}: {why}");
        }
    }
}

#[test]
fn a_zone_that_nobody_calls_keeps_no_split_from_what_others_prove() {
    let plan = plan();
    assert_eq!(whole(&plan, &but_in(&plan, &[])).standing, Standing::Converged);
    let shown = whole(&plan, &but_in(&plan, &["ams"]));
    assert_eq!((shown.standing, shown.reason), (Standing::Converged, None));
    let stands: Vec<Standing> = shown.zones.iter().map(|zone| zone.standing).collect();
    assert_eq!(
        stands,
        [Standing::Idle, Standing::Converged],
        "ams is not called converged"
    );
    // Nothing proves it: no zone may be taken for one that does.
    let shown = whole(&plan, &but_in(&plan, &["ams", "fra"]));
    assert_eq!(
        (shown.standing, shown.reason.as_deref()),
        (
            Standing::Idle,
            Some("nobody calls it in any zone: what is declared is written there, and nothing proves it")
        )
    );
    let claimed = SplitStatus {
        standing: Standing::Converged,
        ..shown
    };
    let why = selfcheck::whole(&claimed).unwrap_or_default();
    assert!(why.contains("no zone of it proves anything"), "{why}");
    // One that is worse is not hidden by it.
    let mut silent = but_in(&plan, &["ams"]);
    let agents = silent.zones.get_mut(&zone("fra")).unwrap();
    agents.get_mut("fra-1").unwrap().heard_at = Some(at(50));
    assert_eq!(whole(&plan, &silent).standing, Standing::Stale);
    // Nor is what was told in it, where that is not what Git declares.
    let apart = super::transition::apart(super::plan(), 95);
    let shown = whole(&apart, &but_in(&apart, &["ams"]));
    assert_eq!(shown.standing, Standing::Progressing);
}

/// Of several agents of a zone those prove it whose hosts have callers; they alone, and all of them.
#[test]
fn an_agent_without_callers_adds_nothing_to_what_others_read() {
    let plan = plan();
    let two = |one: Agent, other: Agent| look(&plan, &fleet([("fra-1", one), ("fra-2", other)]));
    let idle = || agent(uncalled(&plan));
    let shown = two(idle(), agent(fact(&plan)));
    assert_eq!(short(&shown), (Standing::Converged, ""));
    assert_eq!((shown.evidence, shown.seen, shown.of), (Evidence::Live, 2, 2));
    assert!(shown.weights.is_some());
    assert_eq!(two(idle(), idle()).standing, Standing::Idle);
    let mut waits = agent(fact(&plan));
    waits.items.values_mut().for_each(|fact| fact.proof = None);
    assert_eq!(two(idle(), waits).standing, Standing::Progressing);
    let mut silent = idle();
    silent.heard_at = Some(at(50));
    assert_eq!(two(silent, agent(fact(&plan))).standing, Standing::Stale);
}

/// A gateway that carries the weights itself is a caller that was read, though nobody of the mesh is one.
#[test]
fn a_gateway_that_carries_the_weights_proves_a_split_that_nobody_of_the_mesh_calls() {
    let mut plan = plan();
    let edge = super::senses::gateway("edge");
    let of = plan.splits.get_mut(&split()).unwrap();
    let item = Arc::make_mut(Arc::make_mut(of).items.get_mut(&zone("fra")).unwrap());
    item.doors = [(edge.clone(), super::doors::door(Via::Addresses(BTreeMap::new())))].into();
    let with = |verdict: Verdict| {
        let mut fleet = but_in(&plan, &["ams", "fra"]);
        let agent = fleet
            .zones
            .get_mut(&zone("fra"))
            .unwrap()
            .get_mut("fra-1")
            .unwrap();
        let door = DoorFact {
            held: None,
            proof: Some(proof(verdict, Evidence::Live)),
            dead: BTreeMap::new(),
            counting: None,
        };
        for fact in agent.items.values_mut() {
            fact.doors = [(edge.clone(), door.clone())].into();
        }
        fleet
    };
    let shown = whole(&plan, &with(Verdict::Exact));
    assert_eq!(shown.standing, Standing::Converged);
    assert_eq!(shown.zones[1].standing, Standing::Idle, "{:?}", shown.zones[1]);
    let other = whole(&plan, &with(Verdict::Unknown("away".to_owned())));
    assert_eq!(other.standing, Standing::Progressing);
}

#[test]
fn a_zone_follows_by_what_it_proves_and_not_by_what_nobody_calls() {
    let plan = plan();
    let none = BTreeMap::new();
    let followed = |fleet: &Fleet| {
        let sight = sight(&plan, fleet, &none);
        let shown = standing::zone(sight, &zone("fra"), &BTreeMap::new());
        (shown.standing, standing::proven_at(sight, &zone("fra")))
    };
    assert_eq!(followed(&but_in(&plan, &[])), (Standing::Converged, Some(at(98))));
    assert_eq!(followed(&but_in(&plan, &["fra"])), (Standing::Idle, None));
    // Beside a split that is proven: the zone is as that one is, and says which nobody calls.
    let mut two = plan.clone();
    let other = SplitName::new("search").unwrap();
    let mut search = SplitPlan::clone(&two.splits[&split()]);
    for item in search.items.values_mut() {
        Arc::make_mut(item).split = other.clone();
    }
    two.splits.insert(other.clone(), Arc::new(search));
    let mut fleet = but_in(&plan, &["fra"]);
    let agent = fleet
        .zones
        .get_mut(&zone("fra"))
        .unwrap()
        .get_mut("fra-1")
        .unwrap();
    agent.items.insert(
        other.clone(),
        ItemFact {
            split: other,
            ..fact(&plan)
        },
    );
    let sight = sight(&two, &fleet, &none);
    let shown = standing::zone(sight, &zone("fra"), &BTreeMap::new());
    assert_eq!(shown.standing, Standing::Converged);
    assert!(
        shown
            .reason
            .as_deref()
            .is_some_and(|why| why.starts_with("split checkout: nobody calls it there")),
        "{shown:?}"
    );
    assert_eq!(standing::proven_at(sight, &zone("fra")), Some(at(98)));
}
