//! Counting: from each Envoy's own counters to requests per backend, as sums of deltas that survive an Envoy's restart.
//!
//! Pure: readings come in as values. An Envoy that goes keeps its part; one that starts anew begins at 0 and is added
//! whole; one that was there before counting began is counted from where it stood.

mod reading;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use weir_model::{BackendName, SplitName};
use weir_planner::{CountScope, Counts, Destination, Item, Latency};

use reading::Pair;
pub(crate) use reading::{Reading, STATS, STATS_WITH_TIMES, of_buckets};

/// How much an Envoy's start may seem to move between two readings of its uptime: that counts whole seconds, and stands still for
/// the 5 s between two of its flushes of statistics (measured: read every 0.4 s, it jumps by 5).
const JITTER: SignedDuration = SignedDuration::from_secs(7);

/// An Envoy that was not read for so long is forgotten: pods come and go under new names for ever.
const FORGOTTEN: SignedDuration = SignedDuration::from_hours(1);

/// Where one counter stood when it was last read, and how long answers had taken when that was last asked; none if it never was.
type Stood = BTreeMap<(String, Destination), (Pair, Option<Option<Box<Latency>>>)>;

/// The counts of all items.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    splits: BTreeMap<SplitName, Split>,
    /// Each Envoy as last read.
    envoys: BTreeMap<String, Envoy>,
    /// When the last of those that are forgotten was read: one that started before may be one of them.
    forgotten: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy)]
struct Envoy {
    /// When it started, if it says so.
    started: Option<Timestamp>,
    read: Timestamp,
}

#[derive(Debug)]
struct Split {
    since: Timestamp,
    at: Timestamp,
    sums: BTreeMap<BackendName, Pair>,
    /// Of those backends of which an Envoy ever told it.
    latency: BTreeMap<BackendName, Latency>,
    stood: Stood,
}

impl Tally {
    /// Takes one round of readings; one answer for each item, in the order given: none until the first Envoy was read.
    pub(crate) fn take(
        &mut self,
        items: &[impl AsRef<Item>],
        readings: &[Reading],
        scope: CountScope,
        at: Timestamp,
    ) -> Vec<Option<Counts>> {
        // Splits that nobody asks for are forgotten: should one come back, it counts anew with a new `since`.
        self.splits
            .retain(|name, _| items.iter().any(|item| item.as_ref().split == *name));
        let restarted: Vec<bool> = readings
            .iter()
            .map(|reading| self.restarted(reading, at))
            .collect();
        self.forget(at);
        items
            .iter()
            .map(|item| self.one(item.as_ref(), readings, &restarted, scope, at))
            .collect()
    }

    /// Whether this Envoy is another process than when it was last read.
    fn restarted(&mut self, reading: &Reading, at: Timestamp) -> bool {
        let before = self.envoys.get(&reading.envoy).and_then(|envoy| envoy.started);
        let envoy = Envoy {
            started: reading.started.or(before),
            read: at,
        };
        self.envoys.insert(reading.envoy.clone(), envoy);
        match (before, reading.started) {
            (Some(before), Some(started)) => started.duration_since(before) > JITTER,
            _ => false,
        }
    }

    /// Forgets Envoys that nobody read for long; what they counted stays in the sums.
    fn forget(&mut self, at: Timestamp) {
        let gone = |envoy: &Envoy| at.duration_since(envoy.read) > FORGOTTEN;
        let last = self
            .envoys
            .values()
            .filter(|envoy| gone(envoy))
            .map(|envoy| envoy.read)
            .max();
        let Some(last) = last else { return };
        self.envoys.retain(|_, envoy| !gone(envoy));
        self.forgotten = self.forgotten.max(Some(last));
        for split in self.splits.values_mut() {
            split
                .stood
                .retain(|(envoy, _), _| self.envoys.contains_key(envoy));
        }
    }

    fn one(
        &mut self,
        item: &Item,
        readings: &[Reading],
        restarted: &[bool],
        scope: CountScope,
        at: Timestamp,
    ) -> Option<Counts> {
        if readings.is_empty() && !self.splits.contains_key(&item.split) {
            return None;
        }
        let forgotten = self.forgotten;
        let split = self.splits.entry(item.split.clone()).or_insert_with(|| Split {
            since: at,
            at,
            sums: BTreeMap::new(),
            latency: BTreeMap::new(),
            stood: BTreeMap::new(),
        });
        for (reading, restarted) in readings.iter().zip(restarted) {
            split.at = at;
            for (backend, destination) in &item.destinations {
                let now = reading.pair(item, destination);
                let timed = reading.latency(item, destination);
                let key = (reading.envoy.clone(), destination.clone());
                // Seen for the first time: all of it is ours if the Envoy is younger than our counting, and than the last word of any
                // that is forgotten, which it may be.
                let young = reading
                    .started
                    .is_some_and(|s| s > split.since && forgotten.is_none_or(|last| s > last));
                let new = || (if young { Pair::default() } else { now }, young.then_some(None));
                let (pair, then) = split.stood.entry(key).or_insert_with(new);
                if *restarted {
                    (*pair, *then) = (Pair::default(), Some(None));
                }
                let fresh = now.since(std::mem::replace(pair, now));
                let told = timed.and_then(|timed| {
                    // What was never asked before has no beginning but now.
                    let before = then.replace(timed.clone()).unwrap_or_else(|| timed.clone());
                    Some(timed?.since(&before.as_deref().copied().unwrap_or_default()))
                });
                if reading.stranger {
                    continue;
                }
                if let Some(told) = told {
                    let sum = split.latency.entry(backend.clone()).or_default();
                    *sum = sum.plus(&told);
                }
                let sum = split.sums.entry(backend.clone()).or_default();
                sum.sent = sum.sent.saturating_add(fresh.sent);
                sum.failed = sum.failed.saturating_add(fresh.failed);
                sum.down = sum.down.saturating_add(fresh.down);
            }
        }
        let part = |f: fn(&Pair) -> u64| {
            item.destinations
                .keys()
                .map(|backend| (backend.clone(), split.sums.get(backend).map_or(0, f)))
                .collect()
        };
        let callers = readings.iter().filter(|reading| !reading.stranger);
        let open = callers.flat_map(|reading| {
            let all = item.destinations.values();
            all.filter_map(|destination| reading.open(item, destination))
        });
        Some(Counts {
            since: split.since,
            at: split.at,
            open: open.reduce(u64::saturating_add),
            requests: part(|p| p.sent),
            failed: part(|p| p.failed),
            down: part(|p| p.down),
            latency: item
                .destinations
                .keys()
                .filter_map(|backend| Some((backend.clone(), *split.latency.get(backend)?)))
                .collect(),
            scope,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use serde_json::json;
    use weir_model::{
        BasisPoints, CommitId, DnsLabel, Match, MeshName, Protocol, RouteName, ServiceName, ZoneName,
    };
    use weir_planner::{Digest, Generation, ItemRoute};

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    /// A split with one backend, on one port.
    fn item(port: u16) -> Arc<Item> {
        let backend = BackendName::new("vm").unwrap();
        let service = ServiceName::new("checkout").unwrap();
        Arc::new(Item {
            split: SplitName::new(format!("checkout-{port}")).unwrap(),
            zone: ZoneName::new("fra").unwrap(),
            kuma_zone: DnsLabel::new("fra").unwrap(),
            mesh: MeshName::new("default").unwrap(),
            service: service.clone(),
            port,
            port_names: [].into(),
            protocol: Protocol::Http,
            destinations: BTreeMap::from([(
                backend.clone(),
                Destination {
                    zone: ZoneName::new("fra").unwrap(),
                    kuma_zone: DnsLabel::new("fra").unwrap(),
                    namespace: None,
                    service,
                    port,
                },
            )]),
            retiring: [].into(),
            routes: vec![ItemRoute {
                name: RouteName::new("default").unwrap(),
                matches: Match::default(),
                weights: BTreeMap::from([(backend, BasisPoints::WHOLE)]),
            }],
            anchor: String::new(),
            fallback: [].into(),
            doors: [].into(),
            generation: Generation(1),
            commit: CommitId(String::new()),
            digest: Digest([0; 32]),
        })
    }

    /// One Envoy as it really was, told by its requests and not by its counters.
    #[derive(Clone, Default)]
    struct Truth {
        started: i64,
        /// Of the running process, by port.
        counter: [u64; 2],
        /// Of those, not read yet.
        unread: [u64; 2],
        /// Of those, not told yet how long they took, which is not asked at every reading.
        untold: [u64; 2],
        /// Where these began is known.
        known: bool,
        was_read: bool,
        reachable: bool,
    }

    /// All answers took up to 250 ms, and longer than 100.
    fn histogram(name: &str, answers: u64) -> serde_json::Value {
        let bucket = |(at, bound): (usize, &u64)| {
            let n = if at == 7 { answers } else { 0 };
            json!({"upper_bound": *bound as f64 / 1_000.0, "interval": 0, "cumulative": n})
        };
        let buckets: Vec<_> = weir_planner::latency::BOUNDS
            .iter()
            .enumerate()
            .map(bucket)
            .collect();
        json!({"name": name, "buckets": buckets})
    }

    #[derive(Debug, Clone)]
    enum Event {
        Requests {
            envoy: usize,
            port: usize,
            n: u64,
        },
        Restart(usize),
        Reachable(usize, bool),
        /// Whether it is asked how long answers took as well.
        Read(bool),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => (0..3_usize, 0..2_usize, 1..50_u64).prop_map(|(envoy, port, n)| Event::Requests { envoy, port, n }),
            1 => (0..3_usize).prop_map(Event::Restart),
            1 => (0..3_usize, any::<bool>()).prop_map(|(envoy, yes)| Event::Reachable(envoy, yes)),
            3 => any::<bool>().prop_map(Event::Read),
        ]
    }

    #[test]
    fn absurd_counters_do_not_end_the_agent() {
        let mut tally = Tally::default();
        let items = [item(8080)];
        let mut last = None;
        for (n, value) in [(1_i64, 0), (2, u64::MAX), (3, 7), (4, u64::MAX)] {
            let stats = json!({"stats": [
                {"name": "server.uptime", "value": 1},
                {"name": "cluster.default_checkout__fra_msvc_8080.upstream_rq_completed", "value": value},
                {"name": "cluster.kri_msvc_default_fra__checkout_8080.upstream_rq_completed", "value": value},
            ]});
            let reading = Reading::of("envoy".to_owned(), &stats, true, at(n * 100)).unwrap();
            last = tally
                .take(&items, &[reading], CountScope::Host, at(n * 100))
                .remove(0);
        }
        let vm = BackendName::new("vm").unwrap();
        assert_eq!(last.unwrap().requests[&vm], u64::MAX);
    }

    /// One that comes back after it was forgotten is counted from where it then stands, and never twice.
    #[test]
    fn an_envoy_that_nobody_read_for_long_is_forgotten_and_not_counted_twice() {
        let mut tally = Tally::default();
        let items = [item(8080)];
        let reading = |name: &str, now: i64, started: i64, n: u64| {
            let stats = json!({"stats": [
                {"name": "server.uptime", "value": now - started},
                {"name": "cluster.default_checkout__fra_msvc_8080.upstream_rq_completed", "value": n},
            ]});
            Reading::of(name.to_owned(), &stats, true, at(now)).unwrap()
        };
        let mut counted = |now: i64, readings: &[Reading]| {
            let counts = tally.take(&items, readings, CountScope::Zone, at(now)).remove(0);
            let vm = BackendName::new("vm").unwrap();
            (
                counts.unwrap().requests[&vm],
                tally.envoys.len(),
                tally.splits.values().next().unwrap().stood.len(),
            )
        };
        assert_eq!(counted(0, &[reading("first", 0, -100, 5)]), (0, 1, 1));
        assert_eq!(
            counted(
                100,
                &[reading("first", 100, -100, 6), reading("pod", 100, 50, 10)]
            ),
            (11, 2, 2)
        );
        assert_eq!(counted(3_650, &[reading("first", 3_650, -100, 6)]), (11, 2, 2));
        assert_eq!(counted(3_800, &[reading("first", 3_800, -100, 7)]), (12, 1, 1));
        // The same process again, and a new one under its name.
        assert_eq!(counted(3_900, &[reading("pod", 3_900, 50, 30)]).0, 12);
        assert_eq!(counted(3_950, &[reading("pod", 3_950, 50, 31)]).0, 13);
        assert_eq!(counted(4_000, &[reading("new", 4_000, 3_990, 4)]).0, 17);
    }

    /// A zone ingress has clusters of the same names. Should one that called nothing call the service one day, what it counted
    /// before that was something else.
    #[test]
    fn what_a_stranger_counted_is_never_counted() {
        let mut tally = Tally::default();
        let items = [item(8080)];
        let mut take = |now: i64, stranger: bool, n: u64| {
            let stats = json!({"stats": [
                {"name": "server.uptime", "value": now - 5},
                {"name": "cluster.default_checkout__fra_msvc_8080.upstream_rq_completed", "value": n},
                {"name": "cluster.default_checkout__fra_msvc_8080.upstream_rq_active", "value": 1},
            ]});
            let mut late = Reading::of("late".to_owned(), &stats, true, at(now)).unwrap();
            late.stranger = stranger;
            let caller = Reading::of("caller".to_owned(), &json!({"stats": []}), true, at(now)).unwrap();
            let counts = tally.take(&items, &[caller, late], CountScope::Host, at(now));
            let counts = counts.into_iter().next().unwrap().unwrap();
            (counts.requests[&BackendName::new("vm").unwrap()], counts.open)
        };
        assert_eq!(take(0, true, 0), (0, None));
        assert_eq!(take(100, true, 700), (0, None));
        assert_eq!(take(200, false, 705), (5, Some(1)));
    }

    /// Read out of phase, one process seems to have started now and then up to 6 s later.
    #[test]
    fn an_uptime_that_stands_still_is_no_restart() {
        let mut tally = Tally::default();
        let items = [item(8080)];
        let mut last = None;
        for now in (0..480_i64).step_by(4) {
            let flushed = now / 5 * 5 + 100;
            let stats = json!({"stats": [
                {"name": "server.uptime", "value": flushed},
                {"name": "cluster.default_checkout__fra_msvc_8080.upstream_rq_completed", "value": 1_000 + now},
            ]});
            let reading = Reading::of("envoy".to_owned(), &stats, true, at(now)).unwrap();
            last = tally
                .take(&items, &[reading], CountScope::Host, at(now))
                .remove(0);
        }
        let vm = BackendName::new("vm").unwrap();
        assert_eq!(last.unwrap().requests[&vm], 476);
    }

    proptest! {
        /// Whatever happens to the Envoys, a count is the number of requests that were there to be read, once each:
        /// both ports of a service apart, nothing before counting began, nothing twice after a restart.
        #[test]
        fn counts_are_what_happened(events in proptest::collection::vec(event(), 1..60)) {
            let ports = [8080, 9090];
            let items = ports.map(item);
            let mut tally = Tally::default();
            let mut envoys = vec![Truth { reachable: true, ..Truth::default() }; 3];
            let (mut truth, mut told) = ([0; 2], [0; 2]);
            let mut since = None;
            let mut before = [0; 2];
            for (n, event) in events.into_iter().enumerate() {
                // Ten seconds apart: an uptime of whole seconds tells a restart.
                let now = 100 + 10 * i64::try_from(n).unwrap();
                match event {
                    Event::Requests { envoy, port, n } => {
                        envoys[envoy].counter[port] += n;
                        envoys[envoy].unread[port] += n;
                        envoys[envoy].untold[port] += n;
                    }
                    Event::Restart(envoy) => {
                        let was = &mut envoys[envoy];
                        *was = Truth { started: now, was_read: was.was_read, known: was.was_read, reachable: was.reachable, ..Truth::default() };
                    }
                    Event::Reachable(envoy, yes) => envoys[envoy].reachable = yes,
                    Event::Read(timed) => {
                        let readings: Vec<Reading> = envoys
                            .iter()
                            .enumerate()
                            .filter(|(_, envoy)| envoy.reachable)
                            .map(|(n, envoy)| {
                                let mut stats = vec![json!({"name": "server.uptime", "value": now - envoy.started})];
                                for (port, count) in ports.iter().zip(envoy.counter).filter(|(_, c)| *c > 0) {
                                    for scope in ["", "external."] {
                                        stats.push(json!({
                                            "name": format!("cluster.default_checkout__fra_msvc_{port}.{scope}upstream_rq_completed"),
                                            "value": count,
                                        }));
                                        stats.push(json!({"histograms": [histogram(&format!(
                                            "cluster.default_checkout__fra_msvc_{port}.{scope}upstream_rq_time"
                                        ), count)]}));
                                    }
                                }
                                let stats = json!({"stats": stats});
                                Reading::of(format!("envoy-{n}"), &stats, timed, at(now)).unwrap()
                            })
                            .collect();
                        let counts = tally.take(&items, &readings, CountScope::Host, at(now));
                        if !readings.is_empty() && since.is_none() {
                            since = Some(now);
                        }
                        let Some(since) = since else {
                            prop_assert_eq!(counts, [None, None]);
                            continue;
                        };
                        for envoy in envoys.iter_mut().filter(|envoy| envoy.reachable) {
                            for (port, sum) in truth.iter_mut().enumerate() {
                                // An Envoy that was there first brings its past with it: that is not counted.
                                if envoy.was_read || envoy.started > since {
                                    *sum += envoy.unread[port];
                                }
                                envoy.unread[port] = 0;
                            }
                            envoy.known |= !envoy.was_read && envoy.started > since;
                            if timed {
                                for (sum, untold) in told.iter_mut().zip(std::mem::take(&mut envoy.untold)) {
                                    *sum += if envoy.known { untold } else { 0 };
                                }
                                envoy.known = true;
                            }
                            envoy.was_read = true;
                        }
                        let vm = BackendName::new("vm").unwrap();
                        let is: Vec<u64> = counts.iter().map(|c| c.as_ref().unwrap().requests[&vm]).collect();
                        prop_assert_eq!(&is, &truth.to_vec());
                        let timed = |counts: &Option<Counts>| {
                            let latency = counts.as_ref().unwrap().latency.get(&vm).copied().unwrap_or_default();
                            (latency.answers(), latency.0[7])
                        };
                        let timed: Vec<_> = counts.iter().map(timed).collect();
                        prop_assert_eq!(timed, told.map(|n| (n, n)).to_vec());
                        prop_assert!(counts.iter().all(|c| c.as_ref().unwrap().since == at(since)));
                        prop_assert!(is[0] >= before[0] && is[1] >= before[1]);
                        before = truth;
                    }
                }
            }
        }
    }
}
