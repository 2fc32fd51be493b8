//! Callers' requests: how many each Envoy sends to each backend, how many find nobody there, and how many are answered slowly.

use super::*;
use weir_planner::CountScope;
use weir_planner::latency::{BOUNDS, Latency};

/// What an Envoy counts at once; its histograms tell of an answer only after this (`kuma.md`, Envoy's statistics).
const FLUSH: Ms = 5_000;
/// The bounds of Envoy's under which an answer is counted when its backend is well, and when it is slow.
const QUICK: u64 = 25_000;
const SLUGGISH: u64 = 1_000_000;

/// Of one Envoy to one backend of one split, in millionths of a request.
#[derive(Debug, Clone, Copy, Default)]
struct Flow {
    sent: u64,
    down: u64,
    slow: u64,
}

/// Of one Envoy, by split and backend.
type Flows = BTreeMap<(usize, Place), Flow>;

/// What goes through a zone.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    /// Until when it is counted.
    at: Ms,
    /// Requests of each Envoy a second, by split.
    pub(crate) rates: [u64; SPLITS.len()],
    /// One of sixteen requests fails, and another one is answered slowly, whatever its backend does.
    pub(crate) noise: bool,
    /// Each agent counts the Envoys of its own host; otherwise all count all.
    pub(crate) by_host: bool,
    /// Backends that answer slowly.
    slow: BTreeSet<(usize, Place)>,
    /// By Envoy.
    flows: Vec<Flows>,
    /// The same as the histograms tell it, and of when that is.
    flushed: (Ms, Vec<Flows>),
}

/// What was counted of a backend.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sum {
    sent: u64,
    failed: u64,
    /// Answers, as histograms tell them.
    quick: u64,
    slow: u64,
}

impl Sum {
    /// What came since.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            sent: self.sent - before.sent,
            failed: self.failed - before.failed,
            quick: self.quick - before.quick,
            slow: self.slow - before.slow,
        }
    }
}

/// What was counted, by split and backend.
pub(crate) type Sums = BTreeMap<(usize, Place), Sum>;

/// When a backend went down last, and when it came back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outage {
    pub(crate) since: Ms,
    pub(crate) until: Option<Ms>,
}

impl Zone {
    /// Whether requests to a backend find nobody there.
    pub(crate) fn is_down(&self, split: usize, of: Place) -> bool {
        let fact = self.services.get(&(SPLITS[split].to_owned(), of));
        self.dead.contains(&(split, of)) || fact.is_some_and(|fact| fact.state == ServiceState::Unavailable)
    }

    /// Notes what is down now: whose service is gone loses its share without a request that fails, and that is an outage too.
    fn note_outage(&mut self, split: usize, of: Place) {
        let vanished = !self.services.contains_key(&(SPLITS[split].to_owned(), of));
        let (now, down) = (self.now, vanished || self.is_down(split, of));
        let before = self.outages.get(&(split, of)).copied();
        let outage = match (before, down) {
            (Some(Outage { since, until: None }), false) => Outage {
                since,
                until: Some(now),
            },
            (Some(Outage { until: Some(_), .. }) | None, true) => Outage {
                since: now,
                until: None,
            },
            _ => return,
        };
        self.outages.insert((split, of), outage);
    }

    /// What a backend does changes: what was sent until now is counted first.
    pub(super) fn turn(&mut self, split: usize, of: Place, change: impl FnOnce(&mut Self)) {
        self.flow();
        change(self);
        self.note_outage(split, of);
    }

    /// An application ends behind its Envoy, or is back.
    pub(crate) fn application(&mut self, split: usize, of: Place, dead: bool) {
        self.turn(split, of, |zone| {
            if dead {
                zone.dead.insert((split, of));
            } else {
                zone.dead.remove(&(split, of));
            }
        });
    }

    /// An application answers slowly, or no more.
    pub(crate) fn answers_slowly(&mut self, split: usize, of: Place, slow: bool) {
        self.flow();
        match slow {
            true => self.traffic.slow.insert((split, of)),
            false => self.traffic.slow.remove(&(split, of)),
        };
    }

    /// Whether a backend was down within this time.
    pub(crate) fn was_down(&self, split: usize, of: Place, lately: Ms) -> bool {
        self.outages
            .get(&(split, of))
            .is_some_and(|outage| outage.until.is_none_or(|until| until + lately >= self.now))
    }

    /// Whether any backend is down, or was within this time.
    pub(crate) fn troubled(&self, lately: Ms) -> bool {
        let mut all = self.outages.values();
        all.any(|outage| outage.until.is_none_or(|until| until + lately >= self.now))
    }

    /// Requests until now.
    pub(crate) fn flow(&mut self) {
        let long = self.now.saturating_sub(self.traffic.at);
        self.traffic.at = self.now;
        if long == 0 {
            return;
        }
        self.traffic.flows.resize(self.envoys.len(), BTreeMap::new());
        for (n, envoy) in self.envoys.iter().enumerate() {
            for (key, runs) in &envoy.runs {
                let split = key.1.strip_prefix("weir-");
                let Some(split) = split.and_then(|split| SPLITS.iter().position(|name| *name == split))
                else {
                    continue;
                };
                let rate = self.traffic.rates[split];
                if rate == 0 || !runs.meaning.whole {
                    continue;
                }
                let last = runs.shares.len().saturating_sub(1);
                for (route, shares) in runs.shares.iter().enumerate() {
                    let part = match (route == last, last) {
                        (true, 0) => 100,
                        (true, _) => 80,
                        (false, _) => 20 / last as u64,
                    };
                    let whole: u64 = shares.values().map(|share| u64::from(*share)).sum();
                    for (place, share) in shares {
                        let sent = rate * long * part * u64::from(*share) * 10 / whole.max(1);
                        let down = self.is_down(split, *place);
                        let slow = !down && self.traffic.slow.contains(&(split, *place));
                        let flow = self.traffic.flows[n].entry((split, *place)).or_default();
                        flow.sent += sent;
                        flow.down += if down { sent } else { 0 };
                        flow.slow += if slow { sent } else { 0 };
                    }
                }
            }
        }
        if self.now / FLUSH > self.traffic.flushed.0 / FLUSH {
            self.traffic.flushed = (self.now, self.traffic.flows.clone());
        }
    }

    /// What the agent with this number in the zone counts.
    pub(crate) fn counted(&mut self, agent: usize) -> Sums {
        self.flow();
        let whole = |part: u64| part / 1_000_000;
        let noise = |part: u64| if self.traffic.noise { part / 16 } else { 0 };
        let mine = |(envoy, _): &(usize, _)| !self.traffic.by_host || envoy % self.agents == agent;
        let mut sums = Sums::new();
        for (_, flows) in self.traffic.flows.iter().enumerate().filter(mine) {
            for (to, flow) in flows {
                let sum = sums.entry(*to).or_default();
                sum.sent += whole(flow.sent);
                sum.failed += whole(flow.down) + whole(noise(flow.sent - flow.down));
            }
        }
        for (_, flows) in self.traffic.flushed.1.iter().enumerate().filter(mine) {
            for (to, flow) in flows {
                let sum = sums.entry(*to).or_default();
                let well = flow.sent - flow.down - flow.slow;
                sum.quick += whole(well - noise(well));
                sum.slow += whole(flow.slow + noise(well));
            }
        }
        sums
    }

    /// The same, as a driver tells it.
    pub(crate) fn counts(&self, item: &Item, sums: &Sums, since: Ms) -> Counts {
        let split = SPLITS.iter().position(|name| *name == item.split.as_str());
        let all = item.destinations.iter().filter_map(|(backend, to)| {
            let place = ZONES.iter().position(|name| *name == to.kuma_zone.as_str())?;
            let sum = sums.get(&(split?, place)).copied().unwrap_or_default();
            Some((backend.clone(), sum))
        });
        let all: Vec<_> = all.collect();
        let of = |part: fn(&Sum) -> u64| -> BTreeMap<_, _> {
            let all = all.iter();
            all.map(|(backend, sum)| (backend.clone(), part(sum))).collect()
        };
        let latency = |sum: &Sum| {
            let mut latency = Latency::default();
            for (n, bound) in latency.0.iter_mut().zip(BOUNDS) {
                *n += if bound == QUICK { sum.quick } else { 0 };
                *n += if bound == SLUGGISH { sum.slow } else { 0 };
            }
            latency
        };
        Counts {
            since: stamp(since),
            at: stamp(self.now),
            requests: of(|sum| sum.sent),
            failed: of(|sum| sum.failed),
            down: of(|sum| sum.failed),
            latency: all
                .iter()
                .map(|(backend, sum)| (backend.clone(), latency(sum)))
                .collect(),
            open: None,
            scope: if self.traffic.by_host {
                CountScope::Host
            } else {
                CountScope::Zone
            },
        }
    }
}
