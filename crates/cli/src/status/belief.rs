//! What this program believes of what it is told: converged is only what shows its proof.
//!
//! The coordinator holds to the same rule. It is checked here once more because this is where people read it, and because
//! an answer may come from another version, or through something that changed it.

use std::collections::BTreeMap;

use weir_planner::Evidence;
use weir_wire::api::{Percent, SplitInZone, SplitList, Standing};

use super::worst;

/// Takes back what is called converged without proof or against it, and lets each split stand as the worst of its zones.
pub(super) fn believe(list: &mut SplitList) {
    for split in &mut list.splits {
        for zone in &mut split.zones {
            if zone.standing != Standing::Converged {
                continue;
            }
            let unlike = zone
                .weights
                .as_ref()
                .is_some_and(|read| !same(&split.declared, read));
            let doubt = if !proven(zone) {
                "called converged, but nothing shows that it was read back"
            } else if unlike {
                "called converged, but what was read back is not what is declared"
            } else {
                continue;
            };
            zone.standing = Standing::Unknown;
            zone.reason = Some(doubt.to_owned());
        }
        let zones = worst(split.zones.iter().map(|zone| zone.standing));
        split.standing = zones.unwrap_or(Standing::Unknown).max(split.standing);
    }
}

fn proven(zone: &SplitInZone) -> bool {
    matches!(zone.evidence, Evidence::Live | Evidence::Sampled) && zone.proven_at.is_some() && zone.seen > 0
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
    use weir_wire::api::SplitStatus;

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
            weights: Some(shares(&[("vm", 9_000), ("eks", 1_000)])),
            counted: BTreeMap::new(),
            failed: BTreeMap::new(),
            counted_since: None,
            second_writers: Vec::new(),
            notes: Vec::new(),
            heard_at: None,
        }
    }

    fn believed(zone: SplitInZone) -> Standing {
        let mut list = SplitList {
            generation: 1,
            commits: BTreeMap::new(),
            notice: None,
            notes: Vec::new(),
            splits: vec![SplitStatus {
                name: "checkout".to_owned(),
                service: "checkout".to_owned(),
                port: 8080,
                protocol: "http".to_owned(),
                declared: shares(&[("vm", 9_000), ("eks", 1_000), ("old", 0)]),
                commit: String::new(),
                generation: 1,
                standing: Standing::Converged,
                since: String::new(),
                zones: vec![zone],
            }],
        };
        believe(&mut list);
        list.splits.remove(0).standing
    }

    #[test]
    fn only_what_shows_its_proof_is_converged() {
        assert_eq!(believed(zone()), Standing::Converged);
        let mut unread = zone();
        unread.weights = None; // proxies that agree may still leave out other zeros
        assert_eq!(believed(unread), Standing::Converged);
        let spoils: [fn(&mut SplitInZone); 7] = [
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
}
