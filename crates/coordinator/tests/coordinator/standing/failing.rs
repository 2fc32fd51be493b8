//! Backends that are down and keep their share, as people are shown them.

use super::*;

/// What is proven is what runs: with a backend down it runs the same, and everything that goes by proof may lead away from there.
/// Beside the standing it is said, whoever of the zone's agents sees it and however the zone stands.
#[test]
fn a_backend_that_is_down_is_said_beside_the_standing() {
    let plan = plan();
    let down = |share: u32, state: ItemState| {
        let mut fact = fact(&plan);
        let kept = KeptShare {
            share: BasisPoints::new(share).unwrap(),
            why: "12 of 12 requests to it within 5.3 s found nobody there; no fallback is declared for it"
                .to_owned(),
            help: "Take its weight away in Git".to_owned(),
        };
        fact.failing = BTreeMap::from([(BackendName::new("vm").unwrap(), kept)]);
        fact.state = state;
        agent(fact)
    };
    let one = fleet([("fra-1", down(9_000, ItemState::Proven))]);
    let shown = look(&plan, &one);
    let why = "backend vm is down and keeps its share of 90 %: 12 of 12 requests to it within 5.3 s found nobody there; no \
               fallback is declared for it. Take its weight away in Git";
    assert_eq!(short(&shown), (Standing::Converged, why));
    assert_eq!(
        (shown.failing.len(), shown.failing[0].backend.as_str()),
        (1, "vm")
    );
    let sight = Sight {
        plan: &plan,
        created: &BTreeMap::new(),
        fleet: &one,
        stale: STALE,
        now: now(),
    };
    let item = &plan.splits[&SplitName::new("checkout").unwrap()].items[&zone("fra")];
    assert_eq!(
        sight.last_word(one.agent(&zone("fra"), "fra-1").unwrap(), item),
        Ok(())
    );
    let whole = standing::zone(sight, &zone("fra"), &BTreeMap::new());
    assert_eq!(
        (whole.standing, whole.reason),
        (Standing::Converged, Some(format!("split checkout: {why}")))
    );
    // Of two agents it is enough that one sees it; the larger share counts.
    for (name, other) in [
        ("fra-0", agent(fact(&plan))),
        ("fra-2", down(8_000, ItemState::Proven)),
    ] {
        let shown = look(
            &plan,
            &fleet([("fra-1", down(9_000, ItemState::Proven)), (name, other)]),
        );
        assert_eq!((shown.standing, shown.failing.len()), (Standing::Converged, 1));
        assert_eq!(shown.failing[0].share, Percent(BasisPoints::new(9_000).unwrap()));
        assert!(
            shown.failing[0].why.starts_with("fra-1: 12 of 12"),
            "{:?}",
            shown.failing
        );
    }
    // Another standing keeps its own reason.
    let held = down(9_000, ItemState::Held("cloud does not resolve".to_owned()));
    let shown = look(&plan, &fleet([("fra-1", held)]));
    assert_eq!(short(&shown), (Standing::Held, "cloud does not resolve"));
    assert_eq!(shown.failing.len(), 1);
    // Who is silent has not said that it is over.
    let mut silent = down(9_000, ItemState::Proven);
    silent.heard_at = Some(at(0));
    let shown = look(&plan, &fleet([("fra-1", silent)]));
    assert_eq!((shown.standing, shown.failing.len()), (Standing::Stale, 1));
}
