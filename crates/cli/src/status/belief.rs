//! What this program believes of what it is told: converged is only what shows its proof.
//!
//! The coordinator holds to the same rule. It is checked here once more because this is where people read it, and because
//! an answer may come from another version, or through something that changed it.

use weir_planner::Evidence;
use weir_wire::api::{SplitInZone, SplitList, Standing};

use super::worst;

/// Takes back what is called converged without proof, and lets each split stand as the worst of its zones.
pub(super) fn believe(list: &mut SplitList) {
    for split in &mut list.splits {
        for zone in &mut split.zones {
            if zone.standing == Standing::Converged && !proven(zone) {
                zone.standing = Standing::Unknown;
                zone.reason = Some("called converged, but nothing shows that it was read back".to_owned());
            }
        }
        let zones = worst(split.zones.iter().map(|zone| zone.standing));
        split.standing = zones.unwrap_or(Standing::Unknown).max(split.standing);
    }
}

fn proven(zone: &SplitInZone) -> bool {
    matches!(zone.evidence, Evidence::Live | Evidence::Sampled) && zone.proven_at.is_some() && zone.seen > 0
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use weir_wire::api::SplitStatus;

    use super::*;

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
            weights: Some(BTreeMap::new()),
            counted: BTreeMap::new(),
            failed: BTreeMap::new(),
            counted_since: None,
            second_writers: Vec::new(),
            heard_at: None,
        }
    }

    fn believed(zone: SplitInZone) -> Standing {
        let mut list = SplitList {
            generation: 1,
            commits: BTreeMap::new(),
            notice: None,
            splits: vec![SplitStatus {
                name: "checkout".to_owned(),
                service: "checkout".to_owned(),
                port: 8080,
                protocol: "http".to_owned(),
                declared: BTreeMap::new(),
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
        let spoils: [fn(&mut SplitInZone); 4] = [
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
