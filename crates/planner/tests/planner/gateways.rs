//! Gateways in plans: what is shared, what changes, and that nobody with weight is ever out of a gateway's reach.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_model::{
    Address, AtGateway, BackendName, Base, BasisPoints, Channel, Declaration, Door, Entry, Gateway,
    GatewayName, Routing, SourceName, Transition, Via, ZoneName,
};
use weir_planner::{
    Coverage, DoorFact, Evidence, Phase, Plan, Planned, Proof, Rule, Verdict, canonical, lint,
};

use crate::declared::{History, federation, place, put, split};
use crate::world::{World, backend, checkout, zone};

fn edge() -> GatewayName {
    GatewayName::new("edge").unwrap()
}

/// A door by addresses, one for each backend, the last digit by its place in the list.
fn door(backends: &[&str]) -> Door {
    let addresses = backends.iter().enumerate().map(|(n, backend)| {
        let address = Address::new(&format!("10.0.0.{}:8080", n + 1)).unwrap();
        (BackendName::new(*backend).unwrap(), [address].into())
    });
    Door {
        entry: Entry::Routes(Routing {
            hosts: ["shop.example.com".to_owned()].into(),
            paths: [].into(),
            methods: [].into(),
            headers: BTreeMap::new(),
            snis: [].into(),
            https_only: false,
            https_redirect: weir_model::Redirect::default(),
            strip_path: true,
            preserve_host: false,
        }),
        via: Via::Addresses(addresses.collect()),
    }
}

/// Zones `ams` and `fra`, of which the second has a gateway with this base.
fn gateways(base: &str) -> Declaration {
    let mut declaration = federation(&["ams", "fra"]);
    let gateway = Gateway {
        name: edge(),
        channel: Channel::AdminDbless,
        in_mesh: false,
        base: Some(Base {
            source: SourceName("main".to_owned()),
            file: "kong/edge.yaml".to_owned(),
            document: base.into(),
        }),
        entities: Arc::default(),
        parent: None,
        place: place(9),
    };
    declaration.zones.get_mut(&zone("fra")).unwrap().gateways = [(edge(), gateway)].into();
    declaration
}

/// `checkout` with these backends and a door in `fra`.
fn with_door(declaration: &mut Declaration, backends: &[&str], weights: &[(&str, u32)]) {
    let mut split = split("checkout", backends, weights);
    let names: Vec<&str> = backends
        .iter()
        .filter_map(|backend| backend.split('@').next())
        .collect();
    split.transition = Transition {
        max_step: Some(BasisPoints::new(2_500).unwrap()),
        ..Transition::default()
    };
    split.gateways = vec![AtGateway {
        gateway: edge(),
        zones: [zone("fra")].into(),
        door: door(&names),
        place: place(10),
    }];
    put(declaration, split);
}

/// Whom a gateway takes for dead nobody gives more, until it lives; whoever leads away from there, or goes back, is not held.
#[test]
fn whom_a_gateway_takes_for_dead_gets_no_more() {
    let of = |eks: u32| {
        let mut declaration = gateways("{}");
        with_door(
            &mut declaration,
            &["vm@ams", "eks@fra"],
            &[("vm", 100 - eks), ("eks", eks)],
        );
        declaration
    };
    let mut world = World::new(of(20));
    let runs = |world: &mut World, eks: u32| {
        for _ in 0..4 {
            world.look();
            world.all_follow();
            world.pass(601);
        }
        for name in ["ams", "fra"] {
            assert_eq!(world.weights(&zone(name))[&backend("eks")], eks * 100, "{name}");
        }
    };
    let read = Proof {
        verdict: Verdict::Exact,
        evidence: Evidence::Live,
        at: world.now,
        coverage: Coverage { seen: 1, of: 1 },
        weights: None,
        unhealthy: BTreeSet::new(),
    };
    let dead = |who: &str| DoorFact {
        held: None,
        proof: Some(read.clone()),
        dead: [(backend(who), "its checks say so".to_owned())].into(),
        counting: None,
    };
    world.doors = [(zone("fra"), [(edge(), dead("eks"))].into())].into();
    world.commit(of(40));
    let (made, stands) = world.look();
    let stands = stands.unwrap();
    assert!(!made && stands.phase == Phase::Held, "{stands:?}");
    let waits: Vec<_> = stands
        .waits
        .iter()
        .map(|wait| (wait.zone.clone(), wait.why.as_str()))
        .collect();
    assert_eq!(waits, [(Some(zone("fra")), "gateway edge: its checks say so")]);
    // Of a door that it does not have, of somebody else, of what is not so any more: nothing.
    let inner = GatewayName::new("inner").unwrap();
    let held = DoorFact {
        held: Some("the base is not what is declared".to_owned()),
        ..dead("eks")
    };
    for (at, door) in [(inner, dead("eks")), (edge(), dead("vm")), (edge(), held)] {
        world.doors = [(zone("fra"), [(at, door)].into())].into();
        assert!(world.clone().look().0);
    }
    world.doors = [(zone("fra"), [(edge(), dead("eks"))].into())].into();
    world.commit(of(10));
    runs(&mut world, 10);
    world.commit(of(20));
    runs(&mut world, 20);
    world.doors.clear();
    world.commit(of(40));
    runs(&mut world, 40);
}

fn new(planned: Planned) -> Plan {
    match planned {
        Planned::New(plan) => plan,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_base_that_changes_changes_no_split_and_a_door_no_other_zone() {
    let mut history = History::default();
    let mut declaration = gateways("{}");
    with_door(
        &mut declaration,
        &["vm@fra", "eks@ams"],
        &[("vm", 90), ("eks", 10)],
    );
    let first = new(history.step(&declaration).0);
    assert!(first.splits[&checkout()].items[&zone("ams")].doors.is_empty());
    let part = first.zone_plan(&zone("fra")).unwrap();
    assert_eq!(
        part.items[&checkout()].doors.keys().collect::<Vec<_>>(),
        [&edge()]
    );
    assert_eq!(part.gateways[&edge()].generation, first.generation);

    let mut next = gateways("{\"services\":[]}");
    next.splits = declaration.splits.clone();
    let second = new(history.step(&next).0);
    assert!(Arc::ptr_eq(
        &first.splits[&checkout()],
        &second.splits[&checkout()]
    ));
    assert_eq!(
        second.gateways[&zone("fra")][&edge()].generation,
        second.generation
    );
    assert_eq!(
        weir_planner::diff(Some(&first), &second).sentences(),
        ["gateway edge of zone fra: its base changes"]
    );
    assert_eq!(history.step(&next).0, Planned::Nothing);

    // Another split comes: the gateway is the parent's own.
    put(&mut next, split("cart", &["vm@fra"], &[("vm", 100)]));
    let third = new(history.step(&next).0);
    assert!(Arc::ptr_eq(
        &second.gateways[&zone("fra")][&edge()],
        &third.gateways[&zone("fra")][&edge()]
    ));
}

/// The commit that takes a backend away names no address of it any more, but its share goes in bites: until it is gone the
/// gateway reaches it as before. The linter looks at each plan on the way.
#[test]
fn a_backend_on_its_way_out_is_reached_until_its_share_is_gone() {
    let mut before = gateways("{}");
    with_door(&mut before, &["vm@fra", "eks@ams"], &[("vm", 100), ("eks", 0)]);
    let mut after = gateways("{}");
    with_door(&mut after, &["eks@ams"], &[("eks", 100)]);
    let mut world = World::new(before);
    world.look();
    world.all_follow();
    world.commit(after);
    let mut shares = Vec::new();
    for _ in 0..20 {
        world.look();
        let item = world.item(&zone("fra")).unwrap();
        let vm = BackendName::new("vm").unwrap();
        let Via::Addresses(to) = &item.doors[&edge()].via else {
            panic!("{item:?}")
        };
        let share = item.routes[0].weights.get(&vm).copied().unwrap_or_default();
        shares.push((share.get(), to.contains_key(&vm)));
        world.all_follow();
        world.pass(61);
    }
    shares.dedup();
    assert_eq!(shares, [(7_500, true), (5_000, true), (2_500, true), (0, false)]);
}

#[test]
fn a_door_that_multiplies_or_loses_shares_is_found() {
    let mut declaration = gateways("{}");
    with_door(
        &mut declaration,
        &["vm@fra", "eks@ams"],
        &[("vm", 90), ("eks", 10)],
    );
    let plan = new(History::default().step(&declaration).0);
    let broken = |change: &dyn Fn(&mut Plan)| {
        let mut plan = plan.clone();
        change(&mut plan);
        let mut found: Vec<Rule> = lint(&plan, None)
            .into_iter()
            .map(|finding| finding.rule)
            .collect();
        found.retain(|rule| *rule != Rule::Digest);
        found
    };
    let fra = ZoneName::new("fra").unwrap();
    let item = |plan: &mut Plan, change: &dyn Fn(&mut weir_planner::Item)| {
        let split = Arc::make_mut(plan.splits.get_mut(&checkout()).unwrap());
        change(Arc::make_mut(split.items.get_mut(&zone("fra")).unwrap()));
    };
    assert_eq!(broken(&|_| {}), []);
    assert_eq!(broken(&|plan| plan.gateways.clear()), [Rule::Reference]);
    assert_eq!(
        broken(&|plan| {
            let gateway = plan.gateways.get_mut(&fra).unwrap().get_mut(&edge()).unwrap();
            Arc::make_mut(gateway).in_mesh = true;
        }),
        [Rule::OneWriter]
    );
    assert_eq!(
        broken(&|plan| item(plan, &|item| {
            let door = item.doors.get_mut(&edge()).unwrap();
            let Via::Addresses(to) = &mut door.via else {
                panic!()
            };
            to.remove(&BackendName::new("eks").unwrap());
        })),
        [Rule::Exactness]
    );
    let mut digest = plan.clone();
    let gateway = digest.gateways.get_mut(&fra).unwrap().get_mut(&edge()).unwrap();
    Arc::make_mut(gateway).base = None;
    digest.id = canonical::plan_id(&digest);
    let found: Vec<Rule> = lint(&digest, None)
        .into_iter()
        .map(|finding| finding.rule)
        .collect();
    assert_eq!(found, [Rule::Digest]);
}
