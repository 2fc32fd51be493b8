//! Callers' requests: how many each Envoy sends to each backend, and how many find nobody there.

use super::*;
use weir_planner::CountScope;

/// Of one Envoy to one backend of one split, in millionths of a request.
#[derive(Debug, Clone, Copy, Default)]
struct Flow {
    sent: u64,
    down: u64,
}

/// What goes through a zone.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    /// Until when it is counted.
    at: Ms,
    /// Requests of each Envoy a second, by split.
    pub(crate) rates: [u64; SPLITS.len()],
    /// One of sixteen requests fails, whatever its backend does.
    pub(crate) noise: bool,
    /// Each agent counts the Envoys of its own host; otherwise all count all.
    pub(crate) by_host: bool,
    /// By Envoy.
    flows: Vec<BTreeMap<(usize, Place), Flow>>,
}

/// What was sent and what failed of it, by split and backend.
pub(crate) type Sums = BTreeMap<(usize, Place), (u64, u64)>;

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
    pub(super) fn flow(&mut self) {
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
                        let flow = self.traffic.flows[n].entry((split, *place)).or_default();
                        flow.sent += sent;
                        flow.down += if down { sent } else { 0 };
                    }
                }
            }
        }
    }

    /// What the agent with this number in the zone counts.
    pub(crate) fn counted(&mut self, agent: usize) -> Sums {
        self.flow();
        let mut sums = Sums::new();
        for (envoy, flows) in self.traffic.flows.iter().enumerate() {
            if self.traffic.by_host && envoy % self.agents != agent {
                continue;
            }
            for (to, flow) in flows {
                let whole = |part: u64| part / 1_000_000;
                let noise = if self.traffic.noise {
                    (flow.sent - flow.down) / 16
                } else {
                    0
                };
                let sum = sums.entry(*to).or_default();
                sum.0 += whole(flow.sent);
                sum.1 += whole(flow.down) + whole(noise);
            }
        }
        sums
    }

    /// The same, as a driver tells it.
    pub(crate) fn counts(&self, item: &Item, sums: &Sums, since: Ms) -> Counts {
        let split = SPLITS.iter().position(|name| *name == item.split.as_str());
        let of = |part: fn(&(u64, u64)) -> u64| {
            let all = item.destinations.iter().filter_map(|(backend, to)| {
                let place = ZONES.iter().position(|name| *name == to.kuma_zone.as_str())?;
                Some((backend.clone(), sums.get(&(split?, place)).map_or(0, part)))
            });
            all.collect::<BTreeMap<_, _>>()
        };
        Counts {
            since: stamp(since),
            at: stamp(self.now),
            requests: of(|sum| sum.0),
            failed: of(|sum| sum.1),
            down: of(|sum| sum.1),
            latency: BTreeMap::new(),
            open: None,
            scope: if self.traffic.by_host {
                CountScope::Host
            } else {
                CountScope::Zone
            },
        }
    }
}
