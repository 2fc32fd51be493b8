//! A zone with a gateway stands no better than its gateway, to people and to transitions alike.

use weir_coordinator::senses::FleetSenses;
use weir_model::{Address, Channel, Door, Entry, GatewayName, Routing, Via};
use weir_planner::{DoorCounting, DoorFact, GatewayPlan, Runs, Senses as _};

use super::*;

fn edge() -> GatewayName {
    GatewayName::new("edge").unwrap()
}

/// The plan with a door in zone `fra`.
fn with_door(via: Via) -> Plan {
    let mut plan = plan();
    let split = Arc::make_mut(plan.splits.get_mut(&SplitName::new("checkout").unwrap()).unwrap());
    let item = Arc::make_mut(split.items.get_mut(&zone("fra")).unwrap());
    item.doors.insert(edge(), door(via));
    plan
}

pub(super) fn door(via: Via) -> Door {
    let entry = Entry::Routes(Routing {
        hosts: ["shop.example.com".to_owned()].into(),
        paths: [].into(),
        methods: [].into(),
        headers: [].into(),
        snis: [].into(),
        https_only: false,
        https_redirect: weir_model::Redirect::default(),
        strip_path: true,
        preserve_host: false,
    });
    Door { entry, via }
}

fn exact() -> DoorFact {
    DoorFact {
        held: None,
        counting: None,
        dead: BTreeMap::new(),
        proof: Some(proof(Verdict::Exact, Evidence::Live)),
    }
}

fn proving(change: impl FnOnce(&mut Proof)) -> DoorFact {
    let mut fact = exact();
    change(fact.proof.as_mut().unwrap());
    fact
}

/// The zone's standing and reason, by what its agents say of the door; none for one that does not drive the gateway.
fn stands(plan: &Plan, said: &[Option<DoorFact>]) -> (Standing, String) {
    let names = ["one", "two", "three"];
    let agents = names.into_iter().zip(said).map(|(name, door)| {
        let mut fact = fact(plan);
        fact.doors = door.iter().map(|door| (edge(), door.clone())).collect();
        (name, agent(fact))
    });
    let fleet = fleet(agents);
    let shown = look(plan, &fleet);
    let sight = Sight {
        plan,
        created: &BTreeMap::new(),
        fleet: &fleet,
        stale: STALE,
        now: now(),
    };
    let senses = FleetSenses {
        sight,
        proven: &BTreeMap::new(),
        began: at(0),
    };
    let item = &plan.splits[&SplitName::new("checkout").unwrap()].items[&zone("fra")];
    let goes_on = matches!(senses.runs(item), Runs::Proven { .. });
    assert_eq!(
        goes_on,
        shown.standing == Standing::Converged,
        "a transition goes by what is shown: {shown:?}"
    );
    if shown.standing == Standing::Converged {
        assert_eq!(shown.doors[0].standing, Standing::Converged);
    }
    (shown.standing, shown.reason.unwrap_or_default())
}

#[test]
fn a_zone_stands_no_better_than_its_gateway() {
    let plan = with_door(Via::Addresses(BTreeMap::new()));
    let table = [
        (vec![Some(exact())], Standing::Converged, ""),
        // Another agent of the zone need not drive it, one that does must have read it.
        (vec![None, Some(exact())], Standing::Converged, ""),
        (
            vec![
                Some(exact()),
                Some(proving(|proof| {
                    proof.verdict = Verdict::Different("old".to_owned());
                })),
            ],
            Standing::Different,
            "gateway edge: old",
        ),
        (
            vec![None],
            Standing::Held,
            "gateway edge: no agent of this zone drives it: name it under `gateways` in the configuration of one of them",
        ),
        (
            vec![Some(DoorFact {
                held: Some("somebody else's".to_owned()),
                ..exact()
            })],
            Standing::Held,
            "gateway edge: somebody else's",
        ),
        (
            vec![Some(DoorFact {
                held: None,
                proof: None,
                counting: None,
                dead: BTreeMap::new(),
            })],
            Standing::Progressing,
            "gateway edge: not read back yet",
        ),
        (
            vec![Some(proving(|proof| {
                proof.verdict = Verdict::Unknown("401".to_owned());
            }))],
            Standing::Progressing,
            "gateway edge: cannot be read back: 401",
        ),
        (
            vec![Some(proving(|proof| proof.evidence = Evidence::Acknowledged))],
            Standing::Progressing,
            "gateway edge: what is shown was not read from the gateway itself",
        ),
        (
            vec![Some(proving(|proof| {
                proof.coverage = Coverage { seen: 1, of: 2 }
            }))],
            Standing::Progressing,
            "gateway edge: 1 of its 2 nodes were read",
        ),
        // It calls itself exact, and is not.
        (
            vec![Some(proving(|proof| proof.weights = Some(weights(80))))],
            Standing::Different,
            "gateway edge: route default gives cloud 20 %, not 10 %",
        ),
        (
            vec![Some(proving(|proof| proof.weights = None))],
            Standing::Progressing,
            "gateway edge: the proof is not whole: it names no weights",
        ),
    ];
    for (said, standing, why) in table {
        assert_eq!(stands(&plan, &said), (standing, why.to_owned()), "{said:?}");
    }
    // Where the mesh carries the weights, there are none to read from Kong.
    let mesh = with_door(Via::Mesh(Address::new("127.0.0.1:33001").unwrap()));
    let read = proving(|proof| proof.weights = None);
    assert_eq!(stands(&mesh, &[Some(read)]).0, Standing::Converged);
    assert_eq!(stands(&mesh, &[None]).0, Standing::Held);
}

/// An ingress controller rounds; nobody else may be off by anything.
#[test]
fn a_share_that_the_controller_rounded_is_the_declared_one_under_it_alone() {
    let planned = |channel| {
        let mut plan = with_door(Via::Addresses(BTreeMap::new()));
        let gateway = GatewayPlan {
            channel,
            in_mesh: false,
            base: None,
            parent: None,
            generation: plan.generation,
            digest: weir_planner::Digest([0; 32]),
        };
        let gateways = [(edge(), Arc::new(gateway))].into();
        plan.gateways.insert(zone("fra"), gateways);
        plan
    };
    let gives = |cloud: u32| {
        proving(|proof| {
            let weights = proof.weights.as_mut().unwrap().values_mut().next().unwrap();
            for (backend, weight) in weights.iter_mut() {
                let share = if backend.as_str() == "cloud" {
                    cloud
                } else {
                    10_000 - cloud
                };
                *weight = BasisPoints::new(share).unwrap();
            }
        })
    };
    let stands = |channel, cloud| stands(&planned(channel), &[Some(gives(cloud))]).0;
    assert_eq!(stands(Channel::Kic, 1_000), Standing::Converged);
    assert_eq!(stands(Channel::Kic, 992), Standing::Converged);
    assert_eq!(stands(Channel::Kic, 989), Standing::Different);
    assert_eq!(stands(Channel::AdminDbless, 999), Standing::Different);
    assert_eq!(stands(Channel::AdminDb, 999), Standing::Different);
    // Half of a small share at most, and none of the least.
    let tolerance = |declared| Channel::Kic.tolerance(BasisPoints::new(declared).unwrap());
    assert_eq!(
        [0, 1, 10, 100, 5_000, 9_900, 9_990, 10_000].map(tolerance),
        [0, 0, 5, 10, 10, 10, 5, 0]
    );
}

/// The share is what is proven; what was counted stands beside it, and neither is taken for the other.
#[test]
fn what_left_a_gateway_is_shown_beside_what_it_gives() {
    let plan = with_door(Via::Addresses(BTreeMap::new()));
    let shown = |counting: Option<DoorCounting>| {
        let mut fact = fact(&plan);
        let door = DoorFact { counting, ..exact() };
        fact.doors.insert(edge(), door);
        let shown = look(&plan, &fleet([("one", agent(fact))]));
        assert_eq!(shown.standing, Standing::Converged);
        shown.doors[0].counting.clone()
    };
    assert_eq!(shown(None), None);
    let not = shown(Some(DoorCounting::Not("no".to_owned()))).unwrap();
    assert_eq!(
        (not.reason.as_deref(), not.since, not.counted.len()),
        (Some("no"), None, 0)
    );
    let of = |vm: u64, eks: u64| {
        [("vm", vm), ("eks", eks)]
            .map(|(name, n)| (name.parse().unwrap(), n))
            .into()
    };
    // Far from the declared share, as a dead backend may make it: shown, and no standing goes by it.
    let counts = Counts {
        since: at(60),
        at: at(99),
        requests: of(5, 95),
        failed: of(1, 0),
        down: of(0, 0),
        latency: BTreeMap::new(),
        open: None,
        scope: CountScope::Host,
    };
    let counted = shown(Some(DoorCounting::Counted { counts, unplaced: 2 })).unwrap();
    let names = |of: &BTreeMap<String, u64>| {
        of.iter()
            .map(|(name, n)| format!("{name} {n}"))
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&counted.counted), ["eks 95", "vm 5"]);
    assert_eq!(names(&counted.failed), ["eks 0", "vm 1"]);
    assert_eq!((counted.unplaced, counted.since), (2, Some(at(60).to_string())));
}

/// What Kong refuses it names by entity, and the agent tells it so: the coordinator has the files.
#[test]
fn what_kong_refuses_names_the_line() {
    let file = |path: &str, text: &str| weir_model::SourceFile {
        source: weir_model::SourceName("main".to_owned()),
        path: path.to_owned(),
        bytes: text.as_bytes().into(),
    };
    let split = "apiVersion: weir.dev/v1alpha1\nkind: Split\nmetadata: {name: checkout}\nspec:\n  service: checkout\n  port: 8080\n  \
                 protocol: http\n  backends: {vm: {zone: fra}}\n  routes: [{name: default, weights: {vm: 100}}]\n  gateways:\n    - \
                 {gateway: edge, hosts: [shop.example.com], backends: {vm: \"10.0.0.1:80\"}}\n";
    let zone = "apiVersion: weir.dev/v1alpha1\nkind: Federation\nmetadata: {name: shop}\n---\napiVersion: \
                weir.dev/v1alpha1\nkind: Zone\nmetadata: {name: fra}\nspec: {platform: vm, gateways: [{name: edge, channel: \
                admin-dbless, base: edge.yaml}]}\n";
    let base = "_format_version: \"3.0\"\nservices:\n- {name: good, url: \"http://a:1\"}\n- name: bad\n  retries: 9\n  url: \
                \"http://b:1\"\n  plugins:\n  - name: key-auth\n- name: worse\n  url: \"http://c:1\"\n  plugins: [{name: key-auth}]\n";
    let files = [
        file("shop/checkout.yaml", split),
        file("fra.yaml", zone),
        file("edge.yaml", base),
    ];
    let parsed = weir_model::parse(&files);
    assert_eq!(parsed.diagnostics, []);
    let plan = with_door(Via::Addresses(BTreeMap::new()));
    let told = |held: Option<&str>| {
        let mut fact = fact(&plan);
        let door = DoorFact {
            held: held.map(str::to_owned),
            ..exact()
        };
        fact.doors = [(edge(), door)].into();
        let fleet = fleet([("one", agent(fact))]);
        let sight = Sight {
            plan: &plan,
            created: &BTreeMap::new(),
            fleet: &fleet,
            stale: STALE,
            now: now(),
        };
        let name = SplitName::new("checkout").unwrap();
        let shown = standing::split(sight, Some(&BTreeMap::new()), &name).unwrap();
        let shown = standing::with_places(shown, &parsed.declaration);
        let zone = shown.zones.into_iter().find(|shown| shown.zone == "fra").unwrap();
        let door = zone.doors[0].reason.clone();
        assert_eq!(
            zone.reason,
            door.as_ref().map(|why| format!("gateway edge: {why}"))
        );
        door
    };
    assert_eq!(told(None), None);
    let of_split = "Kong does not accept it (http://10.0.0.9:8001: split checkout, route default: route: hosts.1: invalid value)";
    assert_eq!(
        told(Some(of_split)),
        Some(format!("{of_split} (this door: main shop/checkout.yaml:11)"))
    );
    // One with a database has no base.
    let of_database = "the database of the Kong at http://10.0.0.9:8001: it has nothing of it";
    assert_eq!(
        told(Some(of_database)),
        Some(format!("{of_database} (this door: main shop/checkout.yaml:11)"))
    );
    let of_base = "the base of this gateway is not the declared one: Kong does not accept it (base: service `bad`: retries)";
    assert_eq!(
        told(Some(of_base)),
        Some(format!(
            "{of_base} (this door: main shop/checkout.yaml:11; the base: main edge.yaml:4)"
        ))
    );
    // Of several of one name nobody can say which; of none, that there is none.
    for (what, line) in [
        ("base: plugin `key-auth`: config", ":8, 11"),
        ("base: service `b`: name", ""),
        ("base: route `bad`: name", ""),
        ("base: a plugin without a name", ""),
    ] {
        assert_eq!(
            told(Some(what)),
            Some(format!(
                "{what} (this door: main shop/checkout.yaml:11; the base: main edge.yaml{line})"
            ))
        );
    }
}
