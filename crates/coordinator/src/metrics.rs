//! What Prometheus is told: computed afresh at each scrape from the same values that people are shown.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use weir_wire::api::{SourceStatus, SplitStatus, Standing, ZoneStatus};

use crate::selfcheck::{Checked, SelfChecks};

/// The values of one scrape.
#[derive(Debug)]
pub(crate) struct Scrape<'a> {
    /// Newest generation; 0 if none.
    pub generation: u64,
    /// All splits.
    pub splits: &'a [SplitStatus],
    /// All zones.
    pub zones: &'a [ZoneStatus],
    /// All sources.
    pub sources: &'a [SourceStatus],
    /// Seconds since the oldest proof of each zone; zones without any proof are missing.
    pub proof_age: &'a BTreeMap<String, f64>,
    /// Sources whose newest commit is refused.
    pub refused: usize,
    /// What was checked, and what did not hold.
    pub checks: &'a SelfChecks,
    /// Whether the ledger takes writes.
    pub ledger: bool,
    /// Whether another coordinator has begun after this one.
    pub superseded: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByStanding {
    standing: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByZone {
    zone: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByInvariant {
    invariant: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BySource {
    source: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByBackend {
    split: String,
    zone: String,
    backend: String,
}

const STANDINGS: [(Standing, &str); 10] = [
    (Standing::Converged, "converged"),
    (Standing::Idle, "idle"),
    (Standing::Progressing, "progressing"),
    (Standing::Held, "held"),
    (Standing::Overridden, "overridden"),
    (Standing::Fallback, "fallback"),
    (Standing::Different, "different"),
    (Standing::Failed, "failed"),
    (Standing::Stale, "stale"),
    (Standing::Unknown, "unknown"),
];

/// The scrape in OpenMetrics text.
///
/// # Errors
/// Never in practice: writing to a string.
pub(crate) fn text(scrape: &Scrape<'_>) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::with_prefix("weir");
    gauge(
        &mut registry,
        "plan_generation",
        "Generation of the newest plan, 0 if there is none",
        i64::try_from(scrape.generation).unwrap_or(i64::MAX),
    );
    let items = scrape.splits.iter().flat_map(|split| &split.zones);
    let (detached, items): (Vec<_>, Vec<_>) = items.partition(|item| item.detached.is_some());
    let items = by_standing(items.iter().map(|item| item.standing));
    // Nobody waits for them, and how they stand is no news.
    let aside = ByStanding { standing: "detached" };
    items.get_or_create(&aside).set(count(detached.len()));
    registry.register(
        "items",
        "Items (a split in a zone) by how they stand; those of zones that are detached in Git are `detached`, whatever is known of them",
        items,
    );

    // A split that is held, frozen or quarantined as a whole shows in no zone of it.
    let splits = by_standing(scrape.splits.iter().map(|split| split.standing));
    registry.register(
        "splits",
        "Splits by how they stand as a whole: one that is held, frozen or quarantined is `held`, whatever its zones prove",
        splits,
    );
    let down = Family::<ByBackend, Gauge>::default();
    for split in scrape.splits {
        for zone in &split.zones {
            for failing in &zone.failing {
                let label = ByBackend {
                    split: split.name.clone(),
                    zone: zone.zone.clone(),
                    backend: failing.backend.clone(),
                };
                down.get_or_create(&label).set(1);
            }
        }
    }
    registry.register(
        "backends_down",
        "1 for a backend that is down in a zone and keeps its share there, so that requests fail; all others are missing",
        down,
    );

    let connected = Family::<ByZone, Gauge>::default();
    let stale = Family::<ByZone, Gauge>::default();
    for zone in scrape.zones {
        let label = ByZone {
            zone: zone.name.clone(),
        };
        connected
            .get_or_create(&label)
            .set(count(zone.agents.iter().filter(|agent| agent.connected).count()));
        stale.get_or_create(&label).set(i64::from(matches!(
            zone.standing,
            Standing::Stale | Standing::Unknown
        )));
    }
    registry.register(
        "agents_connected",
        "Agents with an open session, by zone",
        connected,
    );
    registry.register(
        "zone_stale",
        "1 if the zone was not heard from lately, or never",
        stale,
    );
    let memory_store = Family::<ByZone, Gauge>::default();
    for zone in scrape.zones {
        if let Some(store) = &zone.store {
            memory_store
                .get_or_create(&ByZone {
                    zone: zone.name.clone(),
                })
                .set(i64::from(store == "memory"));
        }
    }
    registry.register(
        "zone_memory_store",
        "1 if the zone's Kuma keeps its objects in memory, and loses them when it restarts; zones whose Kuma does not say are \
         missing",
        memory_store,
    );

    let age = Family::<ByZone, Gauge<f64, AtomicU64>>::default();
    for (zone, seconds) in scrape.proof_age {
        age.get_or_create(&ByZone { zone: zone.clone() }).set(*seconds);
    }
    registry.register(
        "proof_age_seconds",
        "Age of the oldest proof of a zone's items",
        age,
    );

    let reachable = Family::<BySource, Gauge>::default();
    for source in scrape.sources {
        let label = BySource {
            source: source.name.clone(),
        };
        reachable.get_or_create(&label).set(i64::from(source.reachable));
    }
    registry.register(
        "source_reachable",
        "1 if the last look at a Git source succeeded",
        reachable,
    );
    gauge(
        &mut registry,
        "sources_refused",
        "Sources whose newest commit is refused",
        count(scrape.refused),
    );
    gauge(
        &mut registry,
        "ledger_writable",
        "1 if the ledger takes writes",
        i64::from(scrape.ledger),
    );
    gauge(
        &mut registry,
        "superseded",
        "1 if another coordinator of this federation has begun after this one, which has stopped planning for good",
        i64::from(scrape.superseded),
    );
    let checks = Family::<ByInvariant, Counter>::default();
    let failures = Family::<ByInvariant, Counter>::default();
    for what in Checked::ALL {
        let label = ByInvariant {
            invariant: what.word(),
        };
        let (checked, failed) = scrape.checks.of(what);
        checks.get_or_create(&label).inc_by(checked);
        failures.get_or_create(&label).inc_by(failed);
    }
    registry.register(
        "selfchecks",
        "How often what must hold was looked at again while this ran",
        checks,
    );
    registry.register(
        "selfcheck_failures",
        "How often it did not hold: each is a fault of Weir, told as an event",
        failures,
    );
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: i64) {
    let gauge = Gauge::<i64>::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

/// How many stand so, of each standing there is.
fn by_standing(all: impl Iterator<Item = Standing> + Clone) -> Family<ByStanding, Gauge> {
    let family = Family::<ByStanding, Gauge>::default();
    for (standing, word) in STANDINGS {
        let n = all.clone().filter(|stands| *stands == standing).count();
        family.get_or_create(&ByStanding { standing: word }).set(count(n));
    }
    family
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

    use weir_model::BasisPoints;
    use weir_planner::Evidence;
    use weir_wire::api::{FailingBackend, Percent, SplitInZone};

    use super::*;

    fn scraped(splits: &[SplitStatus], zones: &[ZoneStatus]) -> String {
        text(&Scrape {
            generation: 1,
            splits,
            zones,
            sources: &[],
            proof_age: &BTreeMap::new(),
            refused: 0,
            checks: &SelfChecks::default(),
            ledger: true,
            superseded: false,
        })
        .unwrap()
    }

    /// A backend that is down changes no standing, and a split that is held as a whole shows in none of its zones.
    #[test]
    fn what_no_zone_stands_for_is_told_as_well() {
        let zone = |name: &str, failing: &[&str]| SplitInZone {
            zone: name.to_owned(),
            standing: Standing::Converged,
            reason: None,
            generation: 1,
            evidence: Evidence::Live,
            proven_at: None,
            seen: 1,
            of: 1,
            told: BTreeMap::new(),
            weights: None,
            counted: BTreeMap::new(),
            failed: BTreeMap::new(),
            counted_since: None,
            open: None,
            second_writers: Vec::new(),
            notes: Vec::new(),
            failing: failing
                .iter()
                .map(|backend| FailingBackend {
                    backend: (*backend).to_owned(),
                    share: Percent(BasisPoints::WHOLE),
                    why: String::new(),
                    help: String::new(),
                })
                .collect(),
            doors: Vec::new(),
            heard_at: None,
            detached: None,
        };
        let split = |name: &str, standing, zones| SplitStatus {
            name: name.to_owned(),
            service: name.to_owned(),
            port: 8080,
            protocol: "http".to_owned(),
            declared: BTreeMap::new(),
            commit: String::new(),
            generation: 1,
            standing,
            reason: None,
            since: String::new(),
            transition: None,
            zones,
        };
        let splits = [
            split(
                "checkout",
                Standing::Converged,
                vec![zone("ams", &[]), zone("fra", &["eks", "vm"])],
            ),
            split("search", Standing::Held, vec![zone("fra", &[])]),
            split(
                "stock",
                Standing::Idle,
                vec![
                    SplitInZone {
                        standing: Standing::Idle,
                        ..zone("fra", &[])
                    },
                    SplitInZone {
                        standing: Standing::Stale,
                        detached: Some("in Git".to_owned()),
                        ..zone("old", &[])
                    },
                ],
            ),
        ];
        let text = scraped(&splits, &[]);
        let mut told: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("weir_backends_down{") || line.starts_with("weir_splits{"))
            .filter(|line| !line.ends_with(" 0"))
            .collect();
        told.sort_unstable();
        assert_eq!(
            told,
            [
                "weir_backends_down{split=\"checkout\",zone=\"fra\",backend=\"eks\"} 1",
                "weir_backends_down{split=\"checkout\",zone=\"fra\",backend=\"vm\"} 1",
                "weir_splits{standing=\"converged\"} 1",
                "weir_splits{standing=\"held\"} 1",
                "weir_splits{standing=\"idle\"} 1",
            ]
        );
        for item in ["converged\"} 3", "idle\"} 1", "detached\"} 1", "stale\"} 0"] {
            assert!(
                text.contains(&format!("weir_items{{standing=\"{item}")),
                "{item}: {text}"
            );
        }
        assert!(text.contains("weir_items{standing=\"held\"} 0"), "{text}");
    }

    #[test]
    fn a_memory_store_is_told_of_each_zone_whose_kuma_says_what_it_has() {
        let zone = |name: &str, store: Option<&str>| ZoneStatus {
            name: name.to_owned(),
            platform: "vm".to_owned(),
            kuma_zone: name.to_owned(),
            standing: Standing::Converged,
            reason: None,
            generation: 1,
            kuma: Some("2.14.3".to_owned()),
            store: store.map(str::to_owned),
            agents: Vec::new(),
            detached: None,
        };
        let zones = [
            zone("ams", Some("postgres")),
            zone("eks", None),
            zone("fra", Some("memory")),
        ];
        let text = scraped(&[], &zones);
        let mut told: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("weir_zone_memory_store{"))
            .collect();
        told.sort_unstable();
        assert_eq!(
            told,
            [
                "weir_zone_memory_store{zone=\"ams\"} 0",
                "weir_zone_memory_store{zone=\"fra\"} 1"
            ]
        );
    }
}
