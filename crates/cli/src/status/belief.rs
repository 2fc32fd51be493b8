//! What this program believes of what it is told: converged is only what shows its proof.
//!
//! The coordinator holds to the same rule. It is checked here once more because this is where people read it, and because
//! an answer may come from another version, or through something that changed it.

use std::collections::BTreeMap;

use weir_planner::{Evidence, Phase};
use weir_wire::api::{Percent, SplitInZone, SplitList, SplitStatus, Standing, over_zones};

/// Takes back what is called converged without proof or against it, and idle against it, and lets each split stand as its zones
/// do, and no better than its transition lets it.
pub(super) fn believe(list: &mut SplitList) {
    for split in &mut list.splits {
        for zone in &mut split.zones {
            if zone.standing == Standing::Idle && !called_by_nobody(zone) {
                zone.standing = Standing::Unknown;
                zone.reason = Some("called idle, but nothing shows that nobody calls it".to_owned());
            }
            if zone.standing != Standing::Converged {
                continue;
            }
            let unlike = zone
                .weights
                .as_ref()
                .is_some_and(|read| !same(told(&split.declared, zone), read));
            let doubt = if !proven(zone) {
                "called converged, but nothing shows that it was read back"
            } else if unlike {
                "called converged, but what was read back is not what the zone is told"
            } else {
                continue;
            };
            zone.standing = Standing::Unknown;
            zone.reason = Some(doubt.to_owned());
        }
        for zone in &mut split.zones {
            believe_doors(zone);
        }
        split.standing = over_zones(&split.zones)
            .unwrap_or(Standing::Unknown)
            .max(split.standing)
            .max(floor(split));
    }
}

/// A zone stands no better than its gateways, and a gateway is converged only if it was read whole.
fn believe_doors(zone: &mut SplitInZone) {
    let told = zone.told.clone();
    for door in &mut zone.doors {
        let read = door.evidence == Evidence::Live
            && door.proven_at.is_some()
            && door.seen > 0
            && door.seen >= door.of;
        let exact = !door.carries || door.weights.as_ref().is_some_and(|weights| same(&told, weights));
        if door.standing == Standing::Converged && !(read && exact) {
            door.standing = Standing::Unknown;
            door.reason = Some("called converged, but nothing shows that it was read back".to_owned());
        }
        if door.standing > zone.standing {
            zone.standing = door.standing;
            let why = door.reason.as_deref().unwrap_or("no reason is given");
            zone.reason = Some(format!("gateway {}: {why}", door.gateway));
        }
    }
}

/// What a zone is told; an older coordinator tells every zone what is declared, and does not say so.
fn told<'a>(declared: &'a Shares, zone: &'a SplitInZone) -> &'a Shares {
    match zone.told.is_empty() {
        true => declared,
        false => &zone.told,
    }
}

/// The best that a split can stand at, whatever its zones have proven of what they are told.
pub(super) fn floor(split: &SplitStatus) -> Standing {
    let mut zones = split.zones.iter();
    let differs = zones.any(|zone| !same(&split.declared, told(&split.declared, zone)));
    let Some(transition) = &split.transition else {
        return match differs {
            true => Standing::Progressing,
            false => Standing::Converged,
        };
    };
    match transition.phase {
        Phase::Held | Phase::Frozen | Phase::Quarantined => Standing::Held,
        Phase::Verify | Phase::Bake if !differs && transition.bite >= transition.bites => Standing::Converged,
        _ => Standing::Progressing,
    }
}

fn proven(zone: &SplitInZone) -> bool {
    matches!(zone.evidence, Evidence::Live | Evidence::Sampled) && zone.proven_at.is_some() && zone.seen > 0
}

/// Whether the zone was asked who calls, some way, and nobody was found.
fn called_by_nobody(zone: &SplitInZone) -> bool {
    let asked = zone.evidence != Evidence::Unknown && zone.proven_at.is_some();
    asked && zone.seen == 0 && zone.of == 0 && zone.weights.is_none()
}

type Shares = BTreeMap<String, BTreeMap<String, Percent>>;

/// Whether all routes have the same shares in both; a backend that is missing has none.
fn same(declared: &Shares, read: &Shares) -> bool {
    let none = BTreeMap::new();
    declared.keys().chain(read.keys()).all(|route| {
        let (declared, read) = (
            declared.get(route).unwrap_or(&none),
            read.get(route).unwrap_or(&none),
        );
        let share = |of: &BTreeMap<String, Percent>, backend: &str| of.get(backend).map_or(0, |p| p.0.get());
        let mut backends = declared.keys().chain(read.keys());
        backends.all(|backend| share(declared, backend) == share(read, backend))
    })
}

#[cfg(test)]
mod tests {
    use weir_model::BasisPoints;
    use weir_wire::api::{DoorInZone, Transition};

    use super::*;

    fn shares(of: &[(&str, u32)]) -> Shares {
        let of = of.iter();
        let shares = of.map(|(name, share)| {
            (
                (*name).to_owned(),
                Percent(BasisPoints::new(*share).unwrap_or_default()),
            )
        });
        BTreeMap::from([("default".to_owned(), shares.collect())])
    }

    fn zone() -> SplitInZone {
        SplitInZone {
            zone: "fra".to_owned(),
            standing: Standing::Converged,
            reason: None,
            generation: 1,
            evidence: Evidence::Live,
            proven_at: Some("2026-11-24T11:59:57Z".to_owned()),
            seen: 1,
            of: 1,
            told: shares(&[("vm", 9_000), ("eks", 1_000)]),
            weights: Some(shares(&[("vm", 9_000), ("eks", 1_000)])),
            counted: BTreeMap::new(),
            failed: BTreeMap::new(),
            counted_since: None,
            open: None,
            second_writers: Vec::new(),
            notes: Vec::new(),
            failing: Vec::new(),
            doors: Vec::new(),
            heard_at: None,
            detached: None,
        }
    }

    fn split(zone: SplitInZone, transition: Option<Transition>) -> SplitStatus {
        SplitStatus {
            name: "checkout".to_owned(),
            service: "checkout".to_owned(),
            port: 8080,
            protocol: "http".to_owned(),
            declared: shares(&[("vm", 9_000), ("eks", 1_000), ("old", 0)]),
            commit: String::new(),
            generation: 1,
            standing: Standing::Converged,
            reason: None,
            since: String::new(),
            transition,
            zones: vec![zone],
        }
    }

    fn stands(split: SplitStatus) -> Standing {
        let mut list = SplitList {
            generation: 1,
            commits: BTreeMap::new(),
            notice: None,
            frozen: Vec::new(),
            notes: Vec::new(),
            splits: vec![split],
        };
        believe(&mut list);
        list.splits.remove(0).standing
    }

    fn believed(zone: SplitInZone) -> Standing {
        stands(split(zone, None))
    }

    fn transition(phase: Phase, bite: u32) -> Option<Transition> {
        Some(Transition {
            phase,
            bite,
            bites: 2,
            wave: None,
            waves: Vec::new(),
            waits: Vec::new(),
            next: String::new(),
            since: None,
            until: None,
        })
    }

    /// Zones that prove what they were told are not where Git declares, whatever the answer calls it.
    #[test]
    fn a_split_on_its_way_is_not_converged() {
        use Phase::{Bake, Frozen, Held, Quarantined, Return, Settle, Shift, Verify};
        for (phase, bite, standing) in [
            (Held, 0, Standing::Held),
            (Frozen, 2, Standing::Held),
            (Quarantined, 2, Standing::Held),
            (Shift, 2, Standing::Progressing),
            (Settle, 2, Standing::Progressing),
            (Return, 0, Standing::Progressing),
            (Bake, 1, Standing::Progressing),
            (Verify, 1, Standing::Progressing),
            (Verify, 2, Standing::Converged),
        ] {
            assert_eq!(
                stands(split(zone(), transition(phase, bite))),
                standing,
                "{phase:?} {bite}"
            );
        }
        let mut half = zone();
        half.told = shares(&[("vm", 9_500), ("eks", 500)]);
        half.weights = Some(half.told.clone());
        assert_eq!(stands(split(half.clone(), None)), Standing::Progressing);
        assert_eq!(
            stands(split(half.clone(), transition(Verify, 2))),
            Standing::Progressing
        );
        assert_eq!(stands(split(half, transition(Held, 1))), Standing::Held);
        let mut old = zone();
        old.told = Shares::new();
        assert_eq!(
            stands(split(old, None)),
            Standing::Converged,
            "of an older coordinator"
        );
    }

    #[test]
    fn only_what_shows_its_proof_is_converged() {
        assert_eq!(believed(zone()), Standing::Converged);
        let mut unread = zone();
        unread.weights = None; // proxies that agree may still leave out other zeros
        assert_eq!(believed(unread), Standing::Converged);
        let spoils: [fn(&mut SplitInZone); 8] = [
            |zone| zone.told = shares(&[("vm", 10_000)]),
            |zone| zone.weights = Some(shares(&[("vm", 10_000)])),
            |zone| zone.weights = Some(shares(&[("vm", 9_000), ("eks", 999), ("old", 1)])),
            |zone| zone.weights = Some(BTreeMap::new()),
            |zone| zone.evidence = Evidence::Acknowledged,
            |zone| zone.evidence = Evidence::Unknown,
            |zone| zone.proven_at = None,
            |zone| zone.seen = 0,
        ];
        for spoil in spoils {
            let mut zone = zone();
            spoil(&mut zone);
            assert_eq!(believed(zone.clone()), Standing::Unknown, "{zone:?}");
        }
    }

    fn idle() -> SplitInZone {
        SplitInZone {
            zone: "ams".to_owned(),
            standing: Standing::Idle,
            evidence: Evidence::Acknowledged,
            seen: 0,
            of: 0,
            weights: None,
            ..zone()
        }
    }

    /// Where nobody calls it nothing is proven: another zone has to, and what is called so has to show it.
    #[test]
    fn a_zone_that_nobody_calls_proves_nothing_and_spoils_nothing() {
        assert_eq!(believed(idle()), Standing::Idle);
        let beside = |idle: SplitInZone| {
            let mut split = split(zone(), None);
            split.zones.push(idle);
            stands(split)
        };
        assert_eq!(beside(idle()), Standing::Converged);
        let spoils: [fn(&mut SplitInZone); 5] = [
            |zone| zone.evidence = Evidence::Unknown,
            |zone| zone.proven_at = None,
            |zone| zone.of = 1,
            |zone| (zone.seen, zone.of) = (1, 1),
            |zone| zone.weights = Some(shares(&[("vm", 10_000)])),
        ];
        for spoil in spoils {
            let mut zone = idle();
            spoil(&mut zone);
            assert_eq!(beside(zone.clone()), Standing::Unknown, "{zone:?}");
        }
        let mut elsewhere = idle();
        elsewhere.told = shares(&[("vm", 10_000)]);
        assert_eq!(beside(elsewhere), Standing::Progressing, "told something else");
        assert_eq!(stands(split(idle(), transition(Phase::Held, 0))), Standing::Held);
    }

    /// A detached zone counts neither for nor against, as long as there is another; what it is told counts always.
    #[test]
    fn nobody_waits_for_a_detached_zone() {
        let aside = |standing| SplitInZone {
            zone: "old".to_owned(),
            standing,
            detached: Some("`state: detached` of zone old in Git".to_owned()),
            ..zone()
        };
        let beside = |one: SplitInZone, other: SplitInZone| {
            let mut split = split(one, None);
            split.zones.push(other);
            stands(split)
        };
        assert_eq!(beside(zone(), aside(Standing::Stale)), Standing::Converged);
        assert_eq!(
            beside(idle(), aside(Standing::Converged)),
            Standing::Idle,
            "it proves nothing for others"
        );
        let mut held = zone();
        held.standing = Standing::Held;
        assert_eq!(beside(held, aside(Standing::Converged)), Standing::Held);
        assert_eq!(
            beside(aside(Standing::Stale), aside(Standing::Converged)),
            Standing::Stale,
            "nobody else is there"
        );
        let mut elsewhere = aside(Standing::Stale);
        elsewhere.told = shares(&[("vm", 10_000)]);
        assert_eq!(beside(zone(), elsewhere), Standing::Progressing);
        // What the coordinator finds wrong beside the zones stays.
        let mut gives = split(zone(), None);
        gives.zones.push(aside(Standing::Stale));
        gives.standing = Standing::Progressing;
        assert_eq!(stands(gives), Standing::Progressing);
    }

    #[test]
    fn a_gateway_is_converged_only_if_it_was_read_whole() {
        let edge = DoorInZone {
            gateway: "edge".to_owned(),
            standing: Standing::Converged,
            reason: None,
            carries: true,
            evidence: Evidence::Live,
            proven_at: Some("2026-11-24T11:59:57Z".to_owned()),
            seen: 2,
            of: 2,
            weights: Some(zone().told),
            counting: None,
        };
        let with = |change: fn(&mut DoorInZone)| {
            let mut zone = zone();
            let mut door = edge.clone();
            change(&mut door);
            zone.doors = vec![door];
            believed(zone)
        };
        assert_eq!(with(|_| {}), Standing::Converged);
        let mesh = |door: &mut DoorInZone| (door.carries, door.weights) = (false, None);
        assert_eq!(with(mesh), Standing::Converged);
        let spoils: [fn(&mut DoorInZone); 6] = [
            |door| door.weights = None,
            |door| door.weights = Some(shares(&[("vm", 10_000)])),
            |door| door.evidence = Evidence::Acknowledged,
            |door| door.proven_at = None,
            |door| door.seen = 1,
            |door| (door.seen, door.of) = (0, 0),
        ];
        for spoil in spoils {
            assert_eq!(with(spoil), Standing::Unknown);
        }
        assert_eq!(with(|door| door.standing = Standing::Held), Standing::Held);
    }
}
