//! What one Envoy's counters say of one destination. Pure; changed when Envoy or Kuma name them otherwise.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use weir_model::Protocol;
use weir_planner::latency::BOUNDS;
use weir_planner::{Destination, Item, Latency};

/// The query that gives all counters that [`Reading`] needs, and the uptime. Of a cluster itself: what Envoy counts of external and
/// internal requests apart has one dot more.
pub(crate) const STATS: &str = "/stats?format=json&usedonly&filter=\
    (%5Eserver%5C.uptime$%7C%5Ecluster%5C.%5B%5E.%5D%2B%5C.upstream_(rq_completed%7Crq_total%7Crq_5xx%7Crq_503\
    %7Ccx_total%7Ccx_connect_fail%7Ccx_active%7Crq_active)$)";

/// The same, and how long answers took: some twenty numbers more of each cluster, which change every 5 s.
pub(crate) const STATS_WITH_TIMES: &str = "/stats?format=json&usedonly&histogram_buckets=disjoint&filter=\
    (%5Eserver%5C.uptime$%7C%5Ecluster%5C.%5B%5E.%5D%2B%5C.upstream_(rq_completed%7Crq_total%7Crq_5xx%7Crq_503%7Crq_time\
    %7Ccx_total%7Ccx_connect_fail%7Ccx_active%7Crq_active)$)";

/// What one Envoy's counters say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) envoy: String,
    /// When it started, as far as it says.
    pub(crate) started: Option<Timestamp>,
    /// Whether it calls none of what is driven: where its counters stand is remembered, and nothing of them counted.
    pub(crate) stranger: bool,
    counters: BTreeMap<String, u64>,
    /// By cluster, if it was asked. None of those whose bounds are not Envoy's own.
    latency: Option<BTreeMap<String, Latency>>,
}

impl Reading {
    /// From the answer to [`STATS`], or with how long answers took if that was `timed`: to [`STATS_WITH_TIMES`].
    pub(crate) fn of(envoy: String, stats: &Value, timed: bool, at: Timestamp) -> Option<Self> {
        let list = stats.get("stats")?.as_array()?;
        let histograms = list.iter().filter_map(|stat| stat.get("histograms")?.as_array());
        let latency = histograms.flatten().filter_map(|histogram| {
            let cluster = histogram.get("name")?.as_str()?.strip_prefix("cluster.")?;
            let cluster = cluster.strip_suffix(".upstream_rq_time")?;
            let buckets = histogram.get("buckets")?.as_array()?.iter();
            let buckets = buckets.map(|bucket| {
                let bound = bucket.get("upper_bound")?.as_f64()?;
                // Envoy's "cumulative" is since its start here, as opposed to "interval", since its last flush.
                Some((bound, bucket.get("cumulative")?.as_u64()?))
            });
            let buckets: Option<Vec<_>> = buckets.collect();
            Some((cluster.to_owned(), of_buckets(&buckets?)?))
        });
        let latency = timed.then(|| latency.collect());
        let counters: BTreeMap<String, u64> = list
            .iter()
            .filter_map(|stat| {
                Some((
                    stat.get("name")?.as_str()?.to_owned(),
                    stat.get("value")?.as_u64()?,
                ))
            })
            .collect();
        Some(Self::from_counters(envoy, counters, latency, at))
    }

    /// From counters by Envoy's own names, wherever they were read, and how long answers took by cluster.
    pub(crate) fn from_counters(
        envoy: String,
        counters: BTreeMap<String, u64>,
        latency: Option<BTreeMap<String, Latency>>,
        at: Timestamp,
    ) -> Self {
        let uptime = counters.get("server.uptime").and_then(|s| i64::try_from(*s).ok());
        Self {
            envoy,
            started: uptime.and_then(|s| at.checked_sub(SignedDuration::from_secs(s)).ok()),
            stranger: false,
            counters,
            latency,
        }
    }

    /// How long answers of one destination took; none if that was not asked. Nothing if there were none, or it is tcp.
    pub(super) fn latency(&self, item: &Item, destination: &Destination) -> Option<Option<Box<Latency>>> {
        let told = self.latency.as_ref()?;
        if item.protocol == Protocol::Tcp {
            return Some(None);
        }
        let all = clusters(item, destination).into_iter();
        let all = all.filter_map(|cluster| told.get(&cluster));
        Some(all.copied().reduce(|sum, other| sum.plus(&other)).map(Box::new))
    }

    /// Sent and failed, of one destination. Zero if this Envoy never sent anything there.
    pub(super) fn pair(&self, item: &Item, destination: &Destination) -> Pair {
        let mut sum = Pair::default();
        for cluster in clusters(item, destination) {
            let get = |what: &str| {
                self.counters
                    .get(&format!("cluster.{cluster}.upstream_{what}"))
                    .copied()
            };
            let pair = match item.protocol {
                Protocol::Tcp => Pair {
                    sent: get("cx_total").unwrap_or(0),
                    failed: get("cx_connect_fail").unwrap_or(0),
                    down: get("cx_connect_fail").unwrap_or(0),
                },
                // `rq_completed` is one for each request of a caller, whatever became of it; `rq_total` counts every try
                // of a retried request, and none where no endpoint was to be had.
                Protocol::Http | Protocol::Http2 | Protocol::Grpc => Pair {
                    sent: get("rq_completed").or_else(|| self.rough(&cluster)).unwrap_or(0),
                    failed: get("rq_5xx").unwrap_or(0),
                    down: get("rq_503").unwrap_or(0),
                },
            };
            sum.sent = sum.sent.saturating_add(pair.sent);
            sum.failed = sum.failed.saturating_add(pair.failed);
            sum.down = sum.down.saturating_add(pair.down);
        }
        sum
    }

    /// What is under way to one destination; none where this Envoy has no such gauge.
    pub(super) fn open(&self, item: &Item, destination: &Destination) -> Option<u64> {
        let gauge = match item.protocol {
            Protocol::Tcp => "cx_active",
            Protocol::Http | Protocol::Http2 | Protocol::Grpc => "rq_active",
        };
        let all = clusters(item, destination).into_iter();
        all.filter_map(|cluster| {
            self.counters
                .get(&format!("cluster.{cluster}.upstream_{gauge}"))
                .copied()
        })
        .reduce(u64::saturating_add)
    }

    /// `rq_total`, only where an Envoy has no `rq_completed` for anything (it was built without).
    fn rough(&self, cluster: &str) -> Option<u64> {
        if self
            .counters
            .keys()
            .any(|k| k.ends_with(".upstream_rq_completed"))
        {
            return None;
        }
        self.counters
            .get(&format!("cluster.{cluster}.upstream_rq_total"))
            .copied()
    }
}

/// From buckets by their upper bounds in milliseconds; none if these are not Envoy's own.
#[expect(
    clippy::cast_precision_loss,
    reason = "the largest bound is an hour in microseconds"
)]
pub(crate) fn of_buckets(buckets: &[(f64, u64)]) -> Option<Latency> {
    let mut latency = Latency::default();
    if buckets.len() != BOUNDS.len() {
        return None;
    }
    for ((sum, bound), (is, n)) in latency.0.iter_mut().zip(BOUNDS).zip(buckets) {
        if (is * 1_000.0 - bound as f64).abs() > 0.5 {
            return None;
        }
        *sum = *n;
    }
    Some(latency)
}

/// The names that a destination's cluster has in Envoy: Kuma's old and its unified naming; a proxy has one of them.
fn clusters(item: &Item, d: &Destination) -> [String; 2] {
    let namespace = d.namespace.as_ref().map_or("", |n| n.as_str());
    let (mesh, service, zone, port) = (&item.mesh, &d.service, &d.kuma_zone, d.port);
    [
        format!("{mesh}_{service}_{namespace}_{zone}_msvc_{port}"),
        format!("kri_msvc_{mesh}_{zone}_{namespace}_{service}_{port}"),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Pair {
    pub(super) sent: u64,
    pub(super) failed: u64,
    /// Of those that failed, the ones that say that nobody is there.
    pub(super) down: u64,
}

impl Pair {
    /// What came since `before`; everything, if a counter went down (it began anew).
    pub(super) fn since(self, before: Self) -> Self {
        if self.sent < before.sent || self.failed < before.failed || self.down < before.down {
            self
        } else {
            Self {
                sent: self.sent - before.sent,
                failed: self.failed - before.failed,
                down: self.down - before.down,
            }
        }
    }
}
