//! What an activation concludes from proofs: of all proxies or of some, of now or of before.

use super::*;

/// A policy of somebody else may be for some proxies alone: that those which were looked at are right says nothing of them.
#[test]
fn a_rival_is_outdone_by_the_proof_of_all_proxies_and_not_by_that_of_some() {
    let plan = plan(3, "fra");
    let split = SplitName::new("checkout").unwrap();
    let rival = SecondWriter {
        kind: "MeshHTTPRoute".to_owned(),
        object: "trial".to_owned(),
        origin: "zone".to_owned(),
        overrides: true,
    };
    let state = |seen: u32, rivals: Vec<SecondWriter>| {
        let happened = Happened {
            observed: Ok(Observed {
                second_writers: BTreeMap::from([(split.clone(), rivals)]),
                ..Observed::default()
            }),
            decision: Decision::default(),
            outcomes: Vec::new(),
            proofs: vec![Proof {
                verdict: Verdict::Exact,
                evidence: Evidence::Live,
                at: Timestamp::now(),
                coverage: Coverage { seen, of: 2 },
                weights: None,
                unhealthy: BTreeSet::new(),
            }],
            counts: vec![None],
        };
        conclude(&plan, &Memory::default(), &happened, None, Timestamp::now())
            .facts
            .items
            .remove(0)
            .state
    };
    assert_eq!(state(1, Vec::new()), ItemState::Proven);
    assert_eq!(state(2, vec![rival.clone()]), ItemState::Proven);
    assert!(matches!(state(1, vec![rival]), ItemState::Overridden(_)));
}

/// A sample is of before, and whether somebody wrote since is not seen: an item with nothing new to write is not called
/// proven by it while the zone cannot be read. What proxies of this host say now is.
#[test]
fn what_was_sampled_proves_nothing_of_a_zone_that_cannot_be_read() {
    let plan = plan(3, "fra");
    let applied = plan.items.clone();
    let state = |evidence, applied: BTreeMap<SplitName, Arc<Item>>| {
        let happened = Happened {
            observed: Err(away()),
            decision: Decision::default(),
            outcomes: Vec::new(),
            proofs: vec![Proof {
                verdict: Verdict::Exact,
                evidence,
                at: Timestamp::now(),
                coverage: Coverage { seen: 1, of: 1 },
                weights: None,
                unhealthy: BTreeSet::new(),
            }],
            counts: vec![None],
        };
        let memory = Memory {
            highest: Generation(3),
            applied,
            ..Memory::default()
        };
        let concluded = conclude(&plan, &memory, &happened, None, Timestamp::now());
        assert!(concluded.facts.unreadable.is_some() && concluded.unsettled);
        concluded.facts.items[0].state.clone()
    };
    assert_eq!(state(Evidence::Live, applied.clone()), ItemState::Proven);
    for (evidence, applied) in [
        (Evidence::Sampled, applied.clone()),
        (Evidence::Acknowledged, applied),
        (Evidence::Live, BTreeMap::new()),
    ] {
        let state = state(evidence, applied);
        assert!(
            matches!(&state, ItemState::Failed(why) if why.contains("connection refused")),
            "{state:?}"
        );
    }
}
