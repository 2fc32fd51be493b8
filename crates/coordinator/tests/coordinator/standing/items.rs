//! One split in one zone, by what its agents say.

use super::*;

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
            open: None,
            second_writers: Vec::new(),
            notes: Vec::new(),
            failing: Vec::new(),
            doors: Vec::new(),
            heard_at: Some("2027-01-15T08:01:39Z".to_owned()),
            detached: None,
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

/// How fra stands with this agent alone: also why, and whether all of its zone is proven.
fn alone_in_fra(plan: &Plan, agent: Agent) -> (Standing, Option<String>, bool) {
    let fleet = fleet([("fra-1", agent)]);
    let sight = Sight {
        plan,
        created: &BTreeMap::new(),
        fleet: &fleet,
        stale: STALE,
        now: now(),
    };
    let shown = standing::zone(sight, &zone("fra"), &BTreeMap::new());
    let all = standing::proven_at(sight, &zone("fra")).is_some();
    (shown.standing, shown.reason, all)
}

#[test]
fn a_zone_without_splits_is_not_converged_while_its_control_plane_cannot_be_read() {
    let mut plan = plan();
    let mut blind = agent(fact(&plan));
    plan.splits = weir_planner::Splits::new();
    blind.items = BTreeMap::new();
    let (standing, reason, _) = alone_in_fra(&plan, blind.clone());
    assert_eq!((standing, reason), (Standing::Converged, None));
    blind.unreadable = Some("connection refused".to_owned());
    let why = "agent fra-1 cannot read the control plane: connection refused".to_owned();
    let (standing, reason, _) = alone_in_fra(&plan, blind);
    assert_eq!((standing, reason), (Standing::Unknown, Some(why)));
}

/// The plan takes the last split away: until the agent holds that plan, and has taken everything away, traffic still
/// follows the split.
#[test]
fn a_zone_is_not_converged_while_a_split_that_is_gone_from_the_plan_is_still_driven() {
    let mut plan = plan();
    let driving = agent(fact(&plan));
    plan.splits = weir_planner::Splits::new();
    plan.generation = Generation(6);
    let standing = |agent: Agent| {
        let (standing, reason, all) = alone_in_fra(&plan, agent);
        (standing, reason.unwrap_or_default(), all)
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
            down: BTreeMap::new(),
            latency: BTreeMap::new(),
            open: Some(7),
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

/// Traffic by the weights of before is none by those of now.
#[test]
fn what_was_counted_begins_with_the_proof_of_what_runs() {
    let plan = plan();
    let vm = BackendName::new("vm").unwrap();
    let counts = |since, now, n: u64| {
        Some(Counts {
            since: at(since),
            at: at(now),
            requests: BTreeMap::from([(vm.clone(), n)]),
            failed: BTreeMap::from([(vm.clone(), n / 10)]),
            down: BTreeMap::new(),
            latency: BTreeMap::new(),
            open: None,
            scope: CountScope::Host,
        })
    };
    let good = fact(&plan);
    let mut of_before = good.clone();
    of_before.digest = weir_planner::Digest([7; 32]);
    let mut unproven = good.clone();
    unproven.proof = None;
    let mut fallen = good.clone();
    fallen.fallback = Some(weir_planner::Fallen {
        since: at(70),
        down: [vm.clone()].into(),
        why: "it is down".to_owned(),
    });
    let told = [
        // Since the coordinator first heard of it, in proof of what ran before.
        (of_before.clone(), counts(10, 50, 1_000), (0, at(50))),
        (of_before, counts(10, 52, 1_200), (200, at(50))),
        // The change is on its way.
        (unproven, counts(10, 54, 1_300), (300, at(50))),
        (good.clone(), counts(10, 56, 1_400), (0, at(56))),
        (good.clone(), counts(10, 58, 1_900), (500, at(56))),
        // Shares are elsewhere, and back.
        (fallen, counts(10, 72, 2_000), (0, at(72))),
        (good.clone(), counts(10, 80, 2_100), (0, at(80))),
        // The agent restarts, and counts anew.
        (good.clone(), counts(85, 85, 0), (0, at(85))),
        (good, counts(85, 98, 40), (40, at(85))),
    ];
    let mut marks = BTreeMap::new();
    for (mut fact, counts, (requests, since)) in told {
        fact.counts = counts;
        let mut agent = agent(fact);
        marks = counting::marks(Some(&marks), &agent.items);
        agent.marks.clone_from(&marks);
        let shown = look(&plan, &fleet([("fra-1", agent)]));
        assert_eq!(
            (shown.counted, shown.failed, shown.counted_since),
            (
                BTreeMap::from([("vm".to_owned(), requests)]),
                BTreeMap::from([("vm".to_owned(), requests / 10)]),
                Some(since.to_string())
            )
        );
    }
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
            down: BTreeMap::new(),
            latency: BTreeMap::new(),
            open: Some(7),
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
    assert_eq!(shown.open, Some(14));
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
