//! I9 as a table: facts, plan and time in, what people are shown out.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod repository;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use weir_coordinator::fleet::{Agent, Fleet};
use weir_coordinator::standing::{self, Sight};
use weir_model::{
    BackendName, BasisPoints, CommitId, RouteName, SourceCommit, SourceFile, SourceName, SplitName, ZoneName,
};
use weir_planner::{
    CountScope, Counts, Course, Coverage, Digest, Evidence, Generation, Inputs, ItemFact, ItemState, Leg,
    Motion, Outlook, Phase, Pin, Plan, Planned, Proof, ProvenWeights, Quarantine, SecondWriter, ServiceFact,
    ServiceState, Verdict, Wait,
};
use weir_wire::api::{AgentStatus, Percent, RouteWeights, SplitInZone, SplitStatus, Standing, ZoneStatus};

const STALE: Duration = Duration::from_secs(15);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

/// Now, in every case.
fn now() -> Timestamp {
    at(100)
}

fn zone(name: &str) -> ZoneName {
    ZoneName::new(name).unwrap()
}

fn plan() -> Plan {
    let file = SourceFile {
        source: SourceName("main".to_owned()),
        path: "a.yaml".to_owned(),
        bytes: repository::declaration("shop", "90", "10").into_bytes().into(),
    };
    let declaration = weir_model::parse(&[file]).declaration;
    let commit = SourceCommit {
        source: SourceName("main".to_owned()),
        commit: CommitId("ab".repeat(20)),
    };
    match weir_planner::plan(Inputs {
        declaration: &declaration,
        commits: &[commit],
        highest: Generation(4),
        parent: None,
        now: at(50),
    }) {
        Planned::New(plan) => plan,
        other => panic!("{other:?}"),
    }
}

fn weights(vm: u32) -> ProvenWeights {
    let share = |bp| BasisPoints::new(bp).unwrap();
    let mut shares = BTreeMap::from([(BackendName::new("vm").unwrap(), share(vm * 100))]);
    if vm < 100 {
        shares.insert(BackendName::new("cloud").unwrap(), share(10_000 - vm * 100));
    }
    BTreeMap::from([(RouteName::new("default").unwrap(), shares)])
}

/// As the API has them.
fn shares(vm: u32) -> RouteWeights {
    let share = |bp| Percent(BasisPoints::new(bp).unwrap());
    let shares = BTreeMap::from([
        ("vm".to_owned(), share(vm * 100)),
        ("cloud".to_owned(), share(10_000 - vm * 100)),
    ]);
    BTreeMap::from([("default".to_owned(), shares)])
}

fn proof(verdict: Verdict, evidence: Evidence) -> Proof {
    Proof {
        verdict,
        evidence,
        at: at(98),
        coverage: Coverage { seen: 2, of: 2 },
        weights: Some(weights(90)),
    }
}

fn pin() -> Pin {
    Pin {
        since: at(90),
        who: "alice".to_owned(),
        host: "vm-1".to_owned(),
        reason: "ams is dark".to_owned(),
        weights: weights(100),
    }
}

fn fact(plan: &Plan) -> ItemFact {
    let split = SplitName::new("checkout").unwrap();
    let item = &plan.splits[&split].items[&zone("fra")];
    ItemFact {
        split,
        generation: item.generation,
        digest: item.digest,
        state: ItemState::Proven,
        proof: Some(proof(Verdict::Exact, Evidence::Live)),
        second_writers: Vec::new(),
        counts: None,
        pin: None,
    }
}

fn agent(fact: ItemFact) -> Agent {
    Agent {
        connected: true,
        heard_at: Some(at(99)),
        looked_at: Some(at(99)),
        version: "0.1.0".to_owned(),
        generation: Generation(5),
        highest: Generation(5),
        certificate_expires: Some(at(3_600)),
        kuma: Some("2.14.3".to_owned()),
        unreadable: None,
        refused: None,
        notes: Vec::new(),
        items: BTreeMap::from([(fact.split.clone(), fact)]),
        services: Vec::new(),
    }
}

fn fleet(agents: impl IntoIterator<Item = (&'static str, Agent)>) -> Fleet {
    let agents = agents
        .into_iter()
        .map(|(name, agent)| (name.to_owned(), agent))
        .collect();
    Fleet {
        zones: BTreeMap::from([(zone("fra"), agents)]),
    }
}

fn look(plan: &Plan, fleet: &Fleet) -> SplitInZone {
    let split = standing::split(
        Sight {
            plan,
            created: &BTreeMap::new(),
            fleet,
            stale: STALE,
            now: now(),
        },
        Some(&BTreeMap::new()),
        &SplitName::new("checkout").unwrap(),
    )
    .unwrap();
    split.zones.into_iter().find(|shown| shown.zone == "fra").unwrap()
}

fn short(shown: &SplitInZone) -> (Standing, &str) {
    (shown.standing, shown.reason.as_deref().unwrap_or(""))
}

#[test]
fn converged_is_shown_whole() {
    let plan = plan();
    let shown = look(&plan, &fleet([("fra-1", agent(fact(&plan)))]));
    assert_eq!(
        shown,
        SplitInZone {
            zone: "fra".to_owned(),
            standing: Standing::Converged,
            reason: None,
            generation: 5,
            evidence: Evidence::Live,
            proven_at: Some("2027-01-15T08:01:38Z".to_owned()),
            seen: 2,
            of: 2,
            told: shares(90),
            weights: Some(shares(90)),
            counted: BTreeMap::new(),
            failed: BTreeMap::new(),
            counted_since: None,
            second_writers: Vec::new(),
            notes: Vec::new(),
            heard_at: Some("2027-01-15T08:01:39Z".to_owned()),
        }
    );
}

/// Whatever is changed about the one good case above, it is converged no more.
#[test]
fn anything_less_is_not_converged() {
    let plan = plan();
    type Spoil = Box<dyn Fn(&mut Agent, &mut ItemFact)>;
    let spoil = |spoil: fn(&mut Agent, &mut ItemFact)| -> Spoil { Box::new(spoil) };
    let state = |state: ItemState| -> Spoil { Box::new(move |_, fact| fact.state = state.clone()) };
    let proven = |verdict: Verdict, evidence: Evidence| -> Spoil {
        Box::new(move |_, fact| fact.proof = Some(proof(verdict.clone(), evidence)))
    };
    let why = || "because".to_owned();
    let cases: Vec<(Spoil, Standing, &str)> = vec![
        (
            state(ItemState::Pending),
            Standing::Progressing,
            "received, not applied yet",
        ),
        (
            state(ItemState::Applied),
            Standing::Progressing,
            "applied, proof is on its way",
        ),
        (state(ItemState::Held(why())), Standing::Held, "because"),
        (
            state(ItemState::Overridden(why())),
            Standing::Overridden,
            "because",
        ),
        (state(ItemState::Failed(why())), Standing::Failed, "because"),
        (
            spoil(|_, f| f.pin = Some(pin())),
            Standing::Overridden,
            "pinned on host vm-1 by alice since 2027-01-15T08:01:30Z: ams is dark; `weir-agent unpin --split checkout` there \
             ends it",
        ),
        (
            spoil(|_, f| {
                f.pin = Some(pin());
                f.generation = Generation(4);
                f.state = ItemState::Held("because".to_owned());
            }),
            Standing::Overridden,
            "pinned on host vm-1 by alice since 2027-01-15T08:01:30Z: ams is dark; `weir-agent unpin --split checkout` there \
             ends it; and not in force: because",
        ),
        (
            spoil(|_, f| f.proof = None),
            Standing::Progressing,
            "applied, not read back yet",
        ),
        (
            proven(Verdict::Unknown(why()), Evidence::Live),
            Standing::Progressing,
            "applied, but cannot be read back: because",
        ),
        (
            proven(Verdict::Different(why()), Evidence::Live),
            Standing::Different,
            "because",
        ),
        (
            proven(Verdict::Exact, Evidence::Acknowledged),
            Standing::Progressing,
            "acknowledged by the control plane, not read back from a proxy",
        ),
        (
            proven(Verdict::Exact, Evidence::Unknown),
            Standing::Progressing,
            "the proof names no evidence",
        ),
        (
            spoil(|_, f| f.proof.as_mut().unwrap().weights = Some(weights(80))),
            Standing::Different,
            "route default gives cloud 20 %, not 10 %",
        ),
        (
            spoil(|_, f| f.proof.as_mut().unwrap().weights = None),
            Standing::Progressing,
            "the proof is not whole: it names no weights",
        ),
        (
            spoil(|_, f| f.proof.as_mut().unwrap().weights = Some(ProvenWeights::new())),
            Standing::Progressing,
            "the proof is not whole: it says nothing of route default",
        ),
        (
            spoil(|_, f| {
                let weights = f.proof.as_mut().unwrap().weights.as_mut().unwrap();
                let shares = weights.values_mut().next().unwrap();
                shares.insert(BackendName::new("lab").unwrap(), BasisPoints::new(100).unwrap());
            }),
            Standing::Different,
            "route default gives lab 1 %, not 0 %",
        ),
        (
            spoil(|_, f| f.proof.as_mut().unwrap().coverage.seen = 0),
            Standing::Progressing,
            "the proof is not whole: no proxy was looked at",
        ),
        (
            spoil(|_, f| f.generation = Generation(4)),
            Standing::Progressing,
            "still drives generation 4, not 5",
        ),
        (
            spoil(|_, f| f.generation = Generation(6)),
            Standing::Different,
            "drives generation 6, newer than 5 of the plan",
        ),
        (
            spoil(|_, f| f.digest = Digest([7; 32])),
            Standing::Different,
            "drives other content under the same generation",
        ),
        (
            spoil(|a, _| a.heard_at = Some(at(84))),
            Standing::Stale,
            "connected, but silent for 16 s; what is shown is old",
        ),
        (
            spoil(|a, _| {
                a.connected = false;
                a.heard_at = Some(at(-7_100));
            }),
            Standing::Stale,
            "not connected for 2 h; what is shown is old",
        ),
        (
            spoil(|a, _| {
                a.connected = false;
                a.heard_at = None;
            }),
            Standing::Unknown,
            "was never heard",
        ),
        (
            spoil(|a, _| a.heard_at = None),
            Standing::Unknown,
            "is connected and has not reported yet",
        ),
        (
            spoil(|a, _| a.looked_at = Some(at(54))),
            Standing::Stale,
            "reports, but has not looked at its zone for 46 s; what is shown is old",
        ),
        (
            spoil(|a, f| {
                f.generation = Generation(4);
                a.refused = Some("its disk is full".to_owned());
            }),
            Standing::Progressing,
            "still drives generation 4, not 5: its disk is full",
        ),
        (
            spoil(|_, f| f.split = SplitName::new("another").unwrap()),
            Standing::Progressing,
            "has not reported on it yet",
        ),
    ];
    for (spoil, standing, reason) in cases {
        let mut fact = fact(&plan);
        let mut whole = agent(fact.clone());
        spoil(&mut whole, &mut fact);
        whole.items = BTreeMap::from([(fact.split.clone(), fact)]);
        let shown = look(&plan, &fleet([("fra-1", whole)]));
        assert_eq!(short(&shown), (standing, reason));
    }
}

#[test]
fn a_zone_without_splits_is_not_converged_while_its_control_plane_cannot_be_read() {
    let mut plan = plan();
    let mut blind = agent(fact(&plan));
    plan.splits = BTreeMap::new();
    blind.items = BTreeMap::new();
    let standing = |agent: Agent| {
        let fleet = fleet([("fra-1", agent)]);
        let sight = Sight {
            plan: &plan,
            created: &BTreeMap::new(),
            fleet: &fleet,
            stale: STALE,
            now: now(),
        };
        let shown = standing::zone(sight, &zone("fra"), &BTreeMap::new());
        (shown.standing, shown.reason)
    };
    assert_eq!(standing(blind.clone()), (Standing::Converged, None));
    blind.unreadable = Some("connection refused".to_owned());
    let why = "agent fra-1 cannot read the control plane: connection refused".to_owned();
    assert_eq!(standing(blind), (Standing::Unknown, Some(why)));
}

/// The plan takes the last split away: until the agent holds that plan, and has taken everything away, traffic still
/// follows the split.
#[test]
fn a_zone_is_not_converged_while_a_split_that_is_gone_from_the_plan_is_still_driven() {
    let mut plan = plan();
    let driving = agent(fact(&plan));
    plan.splits = BTreeMap::new();
    plan.generation = Generation(6);
    let standing = |agent: Agent| {
        let fleet = fleet([("fra-1", agent)]);
        let sight = Sight {
            plan: &plan,
            created: &BTreeMap::new(),
            fleet: &fleet,
            stale: STALE,
            now: now(),
        };
        let shown = standing::zone(sight, &zone("fra"), &BTreeMap::new());
        let all = standing::proven_at(sight, &zone("fra")).is_some();
        (shown.standing, shown.reason.unwrap_or_default(), all)
    };
    let is = |standing, why: &str, all| (standing, why.to_owned(), all);
    assert_eq!(
        standing(driving.clone()),
        is(
            Standing::Progressing,
            "agent fra-1 still holds plan 5, not 6",
            false
        )
    );
    let mut trying = driving.clone();
    trying.generation = Generation(6);
    let left = trying.items.values_mut().next().unwrap();
    left.state = ItemState::Failed("DELETE x: 403".to_owned());
    assert_eq!(
        standing(trying.clone()),
        is(
            Standing::Failed,
            "split checkout, which the plan takes away: DELETE x: 403",
            false
        )
    );
    trying.items.clear();
    assert_eq!(standing(trying.clone()), is(Standing::Converged, "", true));
    trying.generation = Generation(7);
    assert_eq!(
        standing(trying),
        is(
            Standing::Different,
            "agent fra-1 holds plan 7, newer than 6",
            false
        )
    );
}

#[test]
fn a_difference_right_after_a_change_is_the_change() {
    let mut plan = plan();
    let mut fact = fact(&plan);
    fact.state = ItemState::Applied;
    fact.proof = Some(proof(Verdict::Different("vm 100".to_owned()), Evidence::Live));
    for (age, standing) in [(14, Standing::Progressing), (15, Standing::Different)] {
        plan.created = now() - SignedDuration::from_secs(age);
        let shown = look(&plan, &fleet([("fra-1", agent(fact.clone()))]));
        assert_eq!(short(&shown), (standing, "vm 100"), "{age}");
    }
}

#[test]
fn a_request_that_two_agents_of_a_cluster_counted_is_one_request() {
    let plan = plan();
    let seen = |since, vm: u64, scope, evidence| {
        let backend = || BackendName::new("vm").unwrap();
        let mut fact = fact(&plan);
        fact.proof = Some(proof(Verdict::Exact, evidence));
        fact.counts = Some(Counts {
            since: at(since),
            at: at(98),
            requests: BTreeMap::from([(backend(), vm)]),
            failed: BTreeMap::from([(backend(), 0)]),
            scope,
        });
        agent(fact)
    };
    let (host, whole) = (CountScope::Host, CountScope::Zone);
    // Both scrape the same two sidecars, and both sampled them; a third reads the sockets of one of the hosts.
    let shown = look(
        &plan,
        &fleet([
            ("fra-1", seen(60, 100, whole, Evidence::Sampled)),
            ("fra-2", seen(55, 140, whole, Evidence::Sampled)),
            ("fra-3", seen(50, 70, host, Evidence::Live)),
        ]),
    );
    assert_eq!(
        (
            shown.counted,
            shown.counted_since.as_deref(),
            shown.seen,
            shown.of
        ),
        (
            BTreeMap::from([("vm".to_owned(), 140)]),
            Some("2027-01-15T08:00:55Z"),
            2,
            2
        )
    );
    // One that is gone does not hide what another has counted since.
    let mut gone = seen(40, 500, whole, Evidence::Sampled);
    gone.heard_at = Some(at(20));
    gone.connected = false;
    let shown = look(
        &plan,
        &fleet([
            ("fra-0", gone),
            ("fra-2", seen(55, 140, whole, Evidence::Sampled)),
        ]),
    );
    assert_eq!(shown.counted, BTreeMap::from([("vm".to_owned(), 140)]));
}

#[test]
fn of_several_agents_the_worst_counts_and_traffic_is_summed() {
    let plan = plan();
    let counts = |since, vm: u64, failed: u64| {
        let backend = || BackendName::new("vm").unwrap();
        Some(Counts {
            since: at(since),
            at: at(98),
            requests: BTreeMap::from([(backend(), vm)]),
            failed: BTreeMap::from([(backend(), failed)]),
            scope: CountScope::Host,
        })
    };
    let mut good = fact(&plan);
    good.counts = counts(60, 100, 1);
    let mut held = fact(&plan);
    held.state = ItemState::Held("cloud does not resolve".to_owned());
    held.proof = None;
    held.counts = counts(55, 50, 2);
    held.second_writers = vec![SecondWriter {
        kind: "MeshHTTPRoute".to_owned(),
        object: "canary".to_owned(),
        origin: "global".to_owned(),
        overrides: true,
    }];
    let shown = look(&plan, &fleet([("fra-1", agent(good)), ("fra-2", agent(held))]));
    assert_eq!(short(&shown), (Standing::Held, "fra-2: cloud does not resolve"));
    assert_eq!(
        (shown.counted, shown.failed, shown.counted_since.as_deref()),
        (
            BTreeMap::from([("vm".to_owned(), 150)]),
            BTreeMap::from([("vm".to_owned(), 3)]),
            Some("2027-01-15T08:00:55Z")
        )
    );
    assert_eq!(
        shown.second_writers,
        vec!["MeshHTTPRoute canary (origin global), which outranks ours"]
    );
    assert_eq!((shown.evidence, shown.seen, shown.of), (Evidence::Unknown, 2, 2));

    // One that is silent makes the zone stale, however long: what its host runs is not known.
    let mut gone = agent(fact(&plan));
    gone.connected = false;
    gone.heard_at = Some(at(0));
    let both = |gone: Agent| fleet([("fra-1", agent(fact(&plan))), ("fra-2", gone)]);
    assert_eq!(look(&plan, &both(gone.clone())).standing, Standing::Stale);
    gone.certificate_expires = Some(at(99));
    assert_eq!(look(&plan, &both(gone.clone())).standing, Standing::Stale);
    let mut seen = both(gone);
    let fra = |seen: &Fleet| {
        let sight = Sight {
            plan: &plan,
            created: &BTreeMap::new(),
            fleet: seen,
            stale: STALE,
            now: now(),
        };
        (
            standing::zone(sight, &zone("fra"), &BTreeMap::new()),
            standing::proven_at(sight, &zone("fra")),
        )
    };
    let (shown, proven) = fra(&seen);
    assert_eq!(
        (shown.standing, shown.agents.len(), proven),
        (Standing::Stale, 2, None)
    );
    assert_eq!(
        shown.reason.as_deref(),
        Some(
            "agent fra-2: not connected for 100 s, and its certificate has ended: what its host runs is not known; let it \
             join again, or, if its host is gone, `weir-coordinator agent forget` it"
        )
    );
    // Until somebody says that its host is gone.
    seen.forget(&zone("fra"), "fra-2");
    let (shown, _) = fra(&seen);
    assert_eq!(
        (shown.standing, shown.agents.len(), shown.reason),
        (Standing::Converged, 1, None)
    );
}

#[test]
fn zones_show_their_worst_and_agents_nobody_declared() {
    let plan = plan();
    let mut seen = fleet([("fra-1", agent(fact(&plan)))]);
    seen.zones.insert(
        zone("oslo"),
        BTreeMap::from([("oslo-1".to_owned(), agent(fact(&plan)))]),
    );
    let platforms = BTreeMap::from([(zone("fra"), "vm".to_owned()), (zone("ams"), "vm".to_owned())]);
    let sight = Sight {
        plan: &plan,
        created: &BTreeMap::new(),
        fleet: &seen,
        stale: STALE,
        now: now(),
    };
    let agents = |name: &str| {
        vec![AgentStatus {
            name: name.to_owned(),
            connected: true,
            heard_at: Some("2027-01-15T08:01:39Z".to_owned()),
            version: "0.1.0".to_owned(),
            generation: 5,
            certificate_expires: Some("2027-01-15T09:00:00Z".to_owned()),
            notes: Vec::new(),
        }]
    };
    assert_eq!(
        standing::zones(sight, &platforms),
        vec![
            ZoneStatus {
                name: "ams".to_owned(),
                platform: "vm".to_owned(),
                kuma_zone: "ams".to_owned(),
                standing: Standing::Unknown,
                reason: Some("no agent of this zone was ever heard".to_owned()),
                generation: 0,
                kuma: None,
                agents: Vec::new(),
            },
            ZoneStatus {
                name: "fra".to_owned(),
                platform: "vm".to_owned(),
                kuma_zone: "fra".to_owned(),
                standing: Standing::Converged,
                reason: None,
                generation: 5,
                kuma: Some("2.14.3".to_owned()),
                agents: agents("fra-1"),
            },
            ZoneStatus {
                name: "oslo".to_owned(),
                platform: "unknown".to_owned(),
                kuma_zone: String::new(),
                standing: Standing::Unknown,
                reason: Some("has agents, but the declaration in force does not name this zone".to_owned()),
                generation: 5,
                kuma: Some("2.14.3".to_owned()),
                agents: agents("oslo-1"),
            },
        ]
    );
    // The split as a whole is as its worst zone: nobody in ams was ever heard.
    let split = standing::split(
        sight,
        Some(&BTreeMap::new()),
        &SplitName::new("checkout").unwrap(),
    )
    .unwrap();
    assert_eq!(
        (split.standing, split.generation, split.since.as_str()),
        (Standing::Unknown, 5, "2027-01-15T08:00:50Z")
    );
    assert_eq!(standing::proven_at(sight, &zone("fra")), Some(at(98)));
    assert_eq!(standing::proven_at(sight, &zone("ams")), None);
    // Whatever the agent's clock says, a zone followed after the plan was made and before now.
    for (clock, shown) in [(-4_000, 50), (4_000, 100)] {
        let mut fact = fact(&plan);
        fact.proof.as_mut().unwrap().at = at(clock);
        let skewed = fleet([("fra-1", agent(fact))]);
        let sight = Sight {
            fleet: &skewed,
            ..sight
        };
        assert_eq!(standing::proven_at(sight, &zone("fra")), Some(at(shown)));
    }
}

/// Kuma asks for a named port by its name alone. It keeps nothing from converging, but somebody must be told.
#[test]
fn a_port_name_that_is_not_declared_is_told_with_what_to_do() {
    let plan = plan();
    let seen = |namespace: Option<&str>, port: u16, name: &str| ServiceFact {
        service: "checkout".parse().unwrap(),
        kuma_zone: "use1".parse().unwrap(),
        namespace: namespace.map(|name| name.parse().unwrap()),
        ports: [(port, None)].into(),
        port_names: [(port, name.to_owned())].into(),
        state: ServiceState::Available,
    };
    let mut one = agent(fact(&plan));
    one.services = vec![seen(Some("shop"), 8080, "http"), seen(None, 9090, "admin")];
    let two = one.clone();
    let shown = look(&plan, &fleet([("fra-1", one), ("fra-2", two)]));
    assert_eq!(shown.standing, Standing::Converged);
    assert_eq!(
        shown.notes,
        [
            "callers by MeshService get no split: port 8080 of MeshService checkout of Kuma zone use1, namespace shop, is \
             called http; add `portNames: [http]` to split checkout"
        ]
    );
    let mut named = plan.clone();
    let split = named
        .splits
        .get_mut(&SplitName::new("checkout").unwrap())
        .unwrap();
    let split = std::sync::Arc::make_mut(split);
    let item = std::sync::Arc::make_mut(split.items.get_mut(&zone("fra")).unwrap());
    item.port_names = ["web".parse().unwrap()].into();
    let mut other = agent(fact(&plan));
    other.services = vec![seen(None, 8080, "http"), seen(Some("shop"), 8080, "web")];
    let shown = look(&named, &fleet([("fra-1", other)]));
    let told = "callers by MeshService get no split: port 8080 of MeshService checkout of Kuma zone use1 is called http; \
                add `portNames: [web, http]` to split checkout";
    assert_eq!(shown.notes, [told]);
}

/// It keeps nothing from converging, and callers of somebody who is no backend are split: somebody must be told.
#[test]
fn whose_callers_are_taken_along_is_told_beside_converged() {
    let plan = plan();
    let seen = |zone: &str, namespace: Option<&str>| ServiceFact {
        service: "checkout".parse().unwrap(),
        kuma_zone: zone.parse().unwrap(),
        namespace: namespace.map(|name| name.parse().unwrap()),
        ports: [(8080, Some(weir_model::Protocol::Http))].into(),
        port_names: BTreeMap::new(),
        state: ServiceState::Available,
    };
    let mut one = agent(fact(&plan));
    one.services = vec![seen("use1", Some("staging"))];
    let shown = look(&plan, &fleet([("fra-1", one)]));
    assert_eq!(shown.standing, Standing::Converged);
    let [note] = shown.notes.as_slice() else {
        panic!("{:?}", shown.notes)
    };
    assert!(
        note.contains("takes along callers of MeshService checkout of Kuma zone use1, namespace staging,"),
        "{note}"
    );
}

/// What an agent says of its zone reaches whoever asks, as long as it speaks.
#[test]
fn notes_of_agents_are_shown_while_they_are_heard() {
    let plan = plan();
    let mut one = agent(fact(&plan));
    one.notes = vec!["the cluster cannot be watched".to_owned()];
    let mut silent = one.clone();
    silent.heard_at = Some(at(0));
    let seen = fleet([("fra-1", one), ("fra-2", silent)]);
    let sight = Sight {
        plan: &plan,
        created: &BTreeMap::new(),
        fleet: &seen,
        stale: STALE,
        now: now(),
    };
    let told: Vec<_> = standing::notes(sight)
        .into_iter()
        .map(|note| [note.zone, note.agent, note.note])
        .collect();
    assert_eq!(told, [["fra", "fra-1", "the cluster cannot be watched"]]);
    let zones = standing::zones(sight, &BTreeMap::new());
    let fra = zones.iter().find(|shown| shown.name == "fra").unwrap();
    assert_eq!(fra.agents[0].notes, ["the cluster cannot be watched"]);
}

/// How old a word is that comes from after now cannot be told: it must not stay young until the clock has caught up.
#[test]
fn a_clock_that_was_set_back_makes_no_old_word_young() {
    let plan = plan();
    let mut agent = agent(fact(&plan));
    let a_little = at(100 + 1);
    (agent.heard_at, agent.looked_at) = (Some(a_little), Some(a_little));
    let shown = look(&plan, &fleet([("fra-1", agent.clone())]));
    assert_eq!(shown.standing, Standing::Converged, "clocks are corrected");
    for (heard, looked) in [(3_600, 3_600), (99, 3_600), (102, 102)] {
        (agent.heard_at, agent.looked_at) = (Some(at(heard)), Some(at(looked)));
        let shown = look(&plan, &fleet([("fra-1", agent.clone())]));
        let (standing, why) = short(&shown);
        assert_eq!(standing, Standing::Stale);
        assert!(why.contains("after what this coordinator's clock says"), "{why}");
    }
}

/// Every agent of both zones proves exactly what the plan tells it.
fn all_proven(plan: &Plan) -> Fleet {
    let name = SplitName::new("checkout").unwrap();
    let agents = plan.splits[&name].items.iter().map(|(zone, item)| {
        let routes = item.routes.iter();
        let weights = routes
            .map(|route| (route.name.clone(), route.weights.clone()))
            .collect();
        let fact = ItemFact {
            generation: item.generation,
            digest: item.digest,
            proof: Some(Proof {
                weights: Some(weights),
                ..proof(Verdict::Exact, Evidence::Live)
            }),
            ..fact(plan)
        };
        (zone.clone(), BTreeMap::from([(format!("{zone}-1"), agent(fact))]))
    });
    Fleet {
        zones: agents.collect(),
    }
}

fn whole(plan: &Plan, outlooks: Option<&BTreeMap<SplitName, Outlook>>) -> SplitStatus {
    let sight = Sight {
        plan,
        created: &BTreeMap::new(),
        fleet: &all_proven(plan),
        stale: STALE,
        now: now(),
    };
    let name = SplitName::new("checkout").unwrap();
    let split = standing::split(sight, outlooks, &name).unwrap();
    for zone in &split.zones {
        assert_eq!(zone.standing, Standing::Converged, "{zone:?}");
    }
    assert_eq!(standing::splits(sight, outlooks), std::slice::from_ref(&split));
    split
}

fn outlook(phase: Phase, declared: ProvenWeights, bite: u32, waits: &[(Option<&str>, &str)]) -> Outlook {
    Outlook {
        declared,
        phase,
        bite,
        bites: 2,
        wave: Some(1),
        waves: vec![1, 2],
        waits: waits
            .iter()
            .map(|(of, why)| Wait {
                zone: of.map(zone),
                why: (*why).to_owned(),
            })
            .collect(),
        next: "something follows".to_owned(),
        since: Some(at(90)),
        until: Some(at(200)),
    }
}

fn by_name(outlook: Outlook) -> BTreeMap<SplitName, Outlook> {
    BTreeMap::from([(SplitName::new("checkout").unwrap(), outlook)])
}

/// With one course of the plan's split.
fn on_course(course: Course) -> Plan {
    let mut plan = plan();
    let split = plan.splits.get_mut(&SplitName::new("checkout").unwrap()).unwrap();
    std::sync::Arc::make_mut(split).course = Some(course);
    plan
}

fn motion(leg: Leg) -> Course {
    Course {
        motion: Some(Motion {
            origin: BTreeMap::new(),
            from: BTreeMap::new(),
            leg,
            since: at(90),
            counted: BTreeMap::new(),
        }),
        ..Course::default()
    }
}

/// I9 for the whole: all zones prove what they were told, and nothing of that makes a split converged which is not where Git
/// declares it, or of which that is not known.
#[test]
fn zones_that_prove_what_they_were_told_do_not_make_a_split_converged() {
    use Phase::{Bake, Frozen, Held, Quarantined, Return, Settle, Shift, Verify};
    let there = plan();
    let nothing = BTreeMap::new();
    assert_eq!(
        whole(&there, Some(&nothing)).standing,
        Standing::Converged,
        "at rest"
    );
    let mut converged = Vec::new();
    for phase in [Held, Frozen, Shift, Bake, Verify, Settle, Return, Quarantined] {
        for vm in [90, 89, 50, 100, 0] {
            for bite in [0, 1, 2] {
                for waits in [&[][..], &[(Some("fra"), "why it waits")]] {
                    let shown = whole(&there, Some(&by_name(outlook(phase, weights(vm), bite, waits))));
                    let told = (phase, vm, bite);
                    assert_eq!(
                        shown.declared["default"]["vm"],
                        Percent(BasisPoints::new(vm * 100).unwrap())
                    );
                    assert_eq!(shown.transition.as_ref().map(|of| of.phase), Some(phase));
                    match phase {
                        Held | Frozen | Quarantined => {
                            assert_eq!(shown.standing, Standing::Held, "{told:?}");
                        }
                        Shift | Settle | Return => {
                            assert_eq!(shown.standing, Standing::Progressing, "{told:?}");
                        }
                        Bake | Verify => {}
                    }
                    match shown.standing {
                        Standing::Converged => converged.push(told),
                        _ => assert!(shown.reason.is_some_and(|why| !why.is_empty()), "{told:?}"),
                    }
                }
            }
        }
    }
    converged.dedup();
    assert_eq!(
        converged,
        [(Bake, 90, 2), (Verify, 90, 2)],
        "all zones proved all that Git declares, and it is only watched"
    );
    // The plan knows too, before planning has looked: after a restart.
    let quarantined = Course {
        quarantine: Some(Quarantine {
            inputs: Digest([1; 32]),
            why: "traffic got worse".to_owned(),
            at: at(60),
        }),
        ..Course::default()
    };
    let shift = motion(Leg::Shift {
        bites: 3,
        bite: 1,
        wave: 1,
    });
    let back = motion(Leg::Return {
        why: "it was aborted".to_owned(),
    });
    for (plan, outlooks, standing, why) in [
        (
            &there,
            None,
            Standing::Progressing,
            "the coordinator has just started and has not compared this with what Git declares yet",
        ),
        (
            &on_course(quarantined.clone()),
            None,
            Standing::Held,
            "quarantined: traffic got worse",
        ),
        (
            &on_course(quarantined),
            Some(&nothing),
            Standing::Held,
            "quarantined: traffic got worse",
        ),
        (
            &on_course(shift.clone()),
            None,
            Standing::Progressing,
            "it is at bite 1 of 3",
        ),
        (
            &on_course(shift),
            Some(&nothing),
            Standing::Progressing,
            "it is at bite 1 of 3",
        ),
        (
            &on_course(back),
            None,
            Standing::Progressing,
            "it goes back: it was aborted",
        ),
    ] {
        let shown = whole(plan, outlooks);
        assert_eq!((shown.standing, shown.reason.as_deref()), (standing, Some(why)));
    }
    // Zones that were told different things are nowhere together.
    let mut apart = plan();
    let split = apart
        .splits
        .get_mut(&SplitName::new("checkout").unwrap())
        .unwrap();
    let item = std::sync::Arc::make_mut(split)
        .items
        .get_mut(&zone("ams"))
        .unwrap();
    std::sync::Arc::make_mut(item).routes[0].weights =
        weights(95).remove(&RouteName::new("default").unwrap()).unwrap();
    let shown = whole(&apart, Some(&nothing));
    assert_eq!(shown.standing, Standing::Progressing);
    for phase in [Bake, Verify] {
        let shown = whole(&apart, Some(&by_name(outlook(phase, weights(90), 2, &[]))));
        assert_eq!(shown.standing, Standing::Progressing);
    }
}

/// A split that no plan has yet cannot be shown, so it is told of.
#[test]
fn what_is_declared_and_not_planned_yet_is_told() {
    let plan = plan();
    let mut all = by_name(outlook(Phase::Shift, weights(50), 1, &[]));
    all.insert(
        SplitName::new("new").unwrap(),
        outlook(Phase::Frozen, weights(50), 0, &[(None, "all is frozen")]),
    );
    let sight = Sight {
        plan: &plan,
        created: &BTreeMap::new(),
        fleet: &Fleet::default(),
        stale: STALE,
        now: now(),
    };
    assert_eq!(
        standing::waiting(sight, Some(&all)),
        ["split new is declared and waits to be planned: all is frozen"]
    );
    assert!(standing::waiting(sight, None).is_empty());
}

/// What is wrong with a zone is not hidden by where the split is.
#[test]
fn a_zone_that_is_worse_than_its_split_is_what_is_shown() {
    let plan = plan();
    let mut fleet = all_proven(&plan);
    let silent = fleet
        .zones
        .get_mut(&zone("ams"))
        .unwrap()
        .get_mut("ams-1")
        .unwrap();
    silent.heard_at = Some(at(50));
    let sight = Sight {
        plan: &plan,
        created: &BTreeMap::new(),
        fleet: &fleet,
        stale: STALE,
        now: now(),
    };
    for phase in [Phase::Held, Phase::Shift, Phase::Verify] {
        let all = by_name(outlook(phase, weights(90), 2, &[]));
        let shown = standing::split(sight, Some(&all), &SplitName::new("checkout").unwrap()).unwrap();
        assert_eq!(shown.standing, Standing::Stale);
    }
}

/// What Git declares, what zones are told instead, and why.
#[test]
fn what_differs_from_git_is_said_with_its_reason() {
    let plan = plan();
    let said = |plan: &Plan, of: Outlook| whole(plan, Some(&by_name(of))).reason.unwrap();
    assert_eq!(
        said(
            &plan,
            outlook(
                Phase::Held,
                weights(50),
                0,
                &[(Some("ams"), "backend cloud is not known here"), (None, "more")]
            )
        ),
        "Git declares cloud 50 %, vm 50 %, told is cloud 10 %, vm 90 %, because held: zone ams: backend cloud is not known here \
         (and 1 more)"
    );
    assert_eq!(
        said(&plan, outlook(Phase::Shift, weights(50), 1, &[])),
        "Git declares cloud 50 %, vm 50 %, told is cloud 10 %, vm 90 %, because it is at bite 1 of 2"
    );
    assert_eq!(
        said(
            &plan,
            outlook(
                Phase::Frozen,
                weights(90),
                0,
                &[(None, "split checkout is frozen")]
            )
        ),
        "frozen: split checkout is frozen"
    );
    let mut apart = plan.clone();
    let split = apart
        .splits
        .get_mut(&SplitName::new("checkout").unwrap())
        .unwrap();
    let item = std::sync::Arc::make_mut(split)
        .items
        .get_mut(&zone("ams"))
        .unwrap();
    std::sync::Arc::make_mut(item).routes[0].weights =
        weights(50).remove(&RouteName::new("default").unwrap()).unwrap();
    assert_eq!(
        said(&apart, outlook(Phase::Shift, weights(50), 1, &[])),
        "Git declares cloud 50 %, vm 50 %, told is cloud 10 % in fra, cloud 50 % in ams, vm 50 % in ams, vm 90 % in fra, \
         because it is at bite 1 of 2"
    );
}
