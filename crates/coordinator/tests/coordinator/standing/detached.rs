//! Zones that Git takes out: nobody waits for them, they are shown for what they are, and nobody may rest on what is there.

use weir_coordinator::selfcheck;
use weir_coordinator::standing::Detached;

use super::transition::all_proven;
use super::*;

fn split() -> SplitName {
    SplitName::new("checkout").unwrap()
}

/// The plan, but that everything goes to vm, which is in fra: so a zone is detached whose backends have no weight.
fn to_vm() -> Plan {
    let mut plan = plan();
    let of = Arc::make_mut(plan.splits.get_mut(&split()).unwrap());
    for item in of.items.values_mut() {
        Arc::make_mut(item).routes[0].weights =
            weights(100).remove(&RouteName::new("default").unwrap()).unwrap();
    }
    plan
}

/// As the declaration says it of these zones.
fn aside(names: &[&str]) -> Detached {
    let mut text =
        "apiVersion: weir.dev/v1alpha1\nkind: Federation\nmetadata: {name: shop}\nspec: {}\n".to_owned();
    for name in ["ams", "fra"] {
        let state = if names.contains(&name) {
            ", state: detached"
        } else {
            ""
        };
        text.push_str(&format!(
            "---\napiVersion: weir.dev/v1alpha1\nkind: Zone\nmetadata: {{name: {name}}}\nspec: {{platform: vm{state}}}\n"
        ));
    }
    let parsed = weir_model::parse(&[SourceFile {
        source: SourceName("main".to_owned()),
        path: "zones.yaml".to_owned(),
        bytes: text.into_bytes().into(),
    }]);
    standing::detached(&parsed.declaration)
}

fn silent(plan: &Plan, name: &str) -> Fleet {
    let mut fleet = all_proven(plan);
    for agent in fleet.zones.get_mut(&zone(name)).unwrap().values_mut() {
        agent.connected = false;
        agent.heard_at = Some(at(-7_100));
    }
    fleet
}

fn whole(plan: &Plan, fleet: &Fleet, detached: &Detached) -> SplitStatus {
    let sight = Sight {
        plan,
        created: &BTreeMap::new(),
        fleet,
        stale: STALE,
        now: now(),
    };
    let none = BTreeMap::new();
    let shown = standing::split_but(sight, Some(&none), detached, &split()).unwrap();
    assert_eq!(selfcheck::whole(&shown), None);
    assert_eq!(
        standing::splits_but(sight, Some(&none), detached),
        std::slice::from_ref(&shown)
    );
    shown
}

#[test]
fn a_silent_zone_that_is_detached_is_shown_and_not_waited_for() {
    let plan = to_vm();
    let fleet = silent(&plan, "ams");
    assert_eq!(whole(&plan, &fleet, &aside(&[])).standing, Standing::Stale);
    let shown = whole(&plan, &fleet, &aside(&["ams"]));
    assert_eq!(
        (shown.standing, shown.reason.as_deref()),
        (Standing::Converged, None)
    );
    let [ams, fra] = shown.zones.as_slice() else {
        panic!("{:?}", shown.zones)
    };
    // What is last known of it stays what it is.
    assert_eq!(
        (ams.standing, fra.standing),
        (Standing::Stale, Standing::Converged)
    );
    assert!(ams.weights.is_some() && ams.reason.is_some());
    let told = ams.detached.as_deref().unwrap_or_default();
    assert!(
        told.contains("zone ams in Git (main zones.yaml:"),
        "it names where: {told}"
    );
    assert_eq!(fra.detached, None);
    // So does the zone by itself.
    let sight = Sight {
        plan: &plan,
        created: &BTreeMap::new(),
        fleet: &fleet,
        stale: STALE,
        now: now(),
    };
    let zones = standing::zones_but(sight, &BTreeMap::new(), &aside(&["ams"]));
    let told: Vec<_> = zones
        .iter()
        .map(|of| (of.standing, of.detached.is_some()))
        .collect();
    assert_eq!(told, [(Standing::Stale, true), (Standing::Converged, false)]);
}

/// The others count as before, and where there are none it counts itself.
#[test]
fn a_detached_zone_hides_nothing_of_the_others() {
    let plan = to_vm();
    assert_eq!(
        whole(&plan, &silent(&plan, "fra"), &aside(&["ams"])).standing,
        Standing::Stale
    );
    assert_eq!(
        whole(&plan, &silent(&plan, "ams"), &aside(&["ams", "fra"])).standing,
        Standing::Stale,
        "nobody else is there"
    );
    // One that is told something else than Git declares keeps the split from it, silent or not.
    let apart = super::transition::apart(to_vm(), 95);
    assert_eq!(
        whole(&apart, &silent(&apart, "ams"), &aside(&["ams"])).standing,
        Standing::Progressing
    );
}

#[test]
fn a_split_that_gives_weight_to_who_is_in_a_detached_zone_is_not_converged() {
    let plan = plan();
    for fleet in [all_proven(&plan), silent(&plan, "ams")] {
        let shown = whole(&plan, &fleet, &aside(&["ams"]));
        assert_eq!(
            (shown.standing, shown.reason.as_deref()),
            (
                Standing::Progressing,
                Some("backend cloud still has weight, and its zone ams is detached")
            )
        );
    }
    let plan = to_vm();
    let shown = whole(&plan, &all_proven(&plan), &aside(&["fra"]));
    assert_eq!(shown.standing, Standing::Progressing, "vm is there");
}

/// I9 once more: it is found out who calls a split converged against the zones that count.
#[test]
fn only_zones_that_count_may_be_left_out() {
    let plan = to_vm();
    let honest = whole(&plan, &silent(&plan, "ams"), &aside(&["ams"]));
    let claims = |change: fn(&mut SplitStatus)| {
        let mut split = honest.clone();
        change(&mut split);
        selfcheck::whole(&split).unwrap_or_default()
    };
    assert_eq!(claims(|_| {}), "");
    let why = claims(|split| split.zones[0].detached = None);
    assert!(why.contains("zone ams is Stale"), "{why}");
    let why = claims(|split| split.zones[1].detached = Some("too".to_owned()));
    assert!(why.contains("zone ams is Stale"), "{why}");
}
