//! Counting what leaves the gateways of this agent, where somebody chose that: Kong posts a line of each request (`line`), the
//! `listener` takes them on loopback, the `tally` says how many went to which backend since the gateway proved what it runs.
//!
//! It decides nothing and holds up nothing: what goes wrong here is told beside the count, and requests do not know of it.

mod line;
mod listener;
mod tally;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;
use weir_model::SplitName;
use weir_planner::{DoorCounting, Item, Proof, Verdict};
use weir_render::kong::{Counted, Counting, Expected};

use line::lines;
use tally::{Runs, Tally};

/// What went wrong longer ago is no news: a gateway without requests posts nothing that would end it.
const NEWS: SignedDuration = SignedDuration::from_mins(5);

/// What one gateway's requests are counted by.
#[derive(Debug)]
pub struct Counter {
    listen: SocketAddr,
    counting: Counting,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    tally: Tally,
    /// Why nobody listens, if so.
    deaf: Option<String>,
    /// Whether Kong ever posted a line here.
    heard: bool,
    /// What was last posted and could not be taken and when, if what came after it could neither.
    trouble: Option<(Timestamp, String)>,
}

/// What an item makes a gateway run.
fn runs_of(item: &Item) -> Runs {
    Runs(item.digest, item.weights())
}

impl Counter {
    /// One that listens there, and to which Kong posts by this URL.
    pub fn new(listen: SocketAddr, url: String) -> Self {
        Self {
            listen,
            counting: Counting { endpoint: url },
            state: Mutex::default(),
        }
    }

    /// What Kong is told.
    pub fn counting(&self) -> &Counting {
        &self.counting
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what Kong posts until stopped.
    pub(crate) async fn listen(&self, stop: &CancellationToken) {
        listener::listen(self, stop).await;
    }

    /// Counts what was posted. All of it or nothing: it is posted again then.
    fn take(&self, body: &[u8]) -> Result<(), String> {
        let lines = lines(body);
        // Before the lock: it is the dearest part of it.
        let post = *blake3::hash(body).as_bytes();
        let state = &mut *self.state();
        let lines = match lines {
            Ok(lines) => lines,
            Err(why) => {
                state.trouble = Some((Timestamp::now(), why.clone()));
                return Err(why);
            }
        };
        state.trouble = None;
        state.heard = true;
        state.tally.take(post, &lines);
        Ok(())
    }

    /// What was posted is not taken, for that reason.
    fn not_taken(&self, why: String) {
        self.state().trouble = Some((Timestamp::now(), why));
    }

    /// A gateway was read back: what is exact is counted from then on as what it runs now.
    pub(crate) fn read_back<'a>(
        &self,
        runs: impl Iterator<Item = (&'a SplitName, &'a Item, &'a Expected)>,
        counted: &Counted,
        proofs: &BTreeMap<SplitName, Proof>,
    ) {
        let runs = runs.map(|(split, item, expected)| (split, runs_of(item), expected));
        self.read_back_of(runs, counted, proofs);
    }

    fn read_back_of<'a>(
        &self,
        runs: impl Iterator<Item = (&'a SplitName, Runs, &'a Expected)>,
        counted: &Counted,
        proofs: &BTreeMap<SplitName, Proof>,
    ) {
        let tally = &mut self.state().tally;
        tally.keep(|split| counted.contains_key(split));
        for (split, _) in counted.iter().filter(|(_, counted)| counted.is_err()) {
            // What was not logged meanwhile is in no count that goes on.
            tally.was_different(split);
        }
        for (split, runs, expected) in runs {
            // It may have been brought there, whatever could be read of it: what comes from now on is of either.
            tally.may_run(split, &runs);
            let (Some(Ok(())), Some(proof)) = (counted.get(split), proofs.get(split)) else {
                continue;
            };
            match proof.verdict {
                Verdict::Exact => tally.proven(split, runs, expected, proof.at),
                Verdict::Different(_) => tally.was_different(split),
                // Not known is not another.
                Verdict::Unknown(_) => {}
            }
        }
    }

    /// What a person should know of it at this time, if anything.
    pub(crate) fn trouble(&self, now: Timestamp) -> Option<String> {
        let (at, why) = self.state().trouble.clone()?;
        (now.duration_since(at) < NEWS)
            .then(|| format!("requests are counted, and what was posted last was not: {why}"))
    }

    /// What is told of the door of this item.
    pub(crate) fn told(&self, item: &Item, counted: &Counted, now: Timestamp) -> Option<DoorCounting> {
        self.told_of(&item.split, &runs_of(item), counted, now)
    }

    fn told_of(
        &self,
        split: &SplitName,
        runs: &Runs,
        counted: &Counted,
        now: Timestamp,
    ) -> Option<DoorCounting> {
        let state = self.state();
        match counted.get(split)? {
            Err(why) => Some(DoorCounting::Not(why.clone())),
            Ok(()) => {
                if let Some(why) = &state.deaf {
                    return Some(DoorCounting::Not(why.clone()));
                }
                let counts = state.tally.of(split, runs, now);
                let why = match (&counts, state.heard) {
                    (Some(counts), true) => return Some(counts.clone()),
                    // None of none is no count: it may post to somewhere else.
                    (Some(_), false) => "this Kong has posted nothing to the agent yet",
                    (None, _) => "counting begins with the proof of what the gateway runs",
                };
                Some(DoorCounting::Not(why.to_owned()))
            }
        }
    }
}

/// The counters of an agent's gateways.
pub type Counters = BTreeMap<weir_model::GatewayName, Arc<Counter>>;

#[cfg(test)]
mod tests {
    use weir_planner::{Coverage, Digest, Evidence, ProvenWeights};
    use weir_render::kong::{Target, Upstream};

    use super::*;

    fn split() -> SplitName {
        "checkout".parse().unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn expected() -> Expected {
        let backend = "vm".parse().unwrap();
        let upstream = Upstream {
            name: "weir.checkout.default".to_owned(),
            targets: [("10.0.0.1:80".parse().unwrap(), Target { backend, weight: 1 })].into(),
            names: BTreeMap::new(),
            drains: false,
        };
        Expected {
            generation: weir_planner::Generation(1),
            known: weir_planner::Generation(1),
            pin: None,
            upstreams: [("default".parse().unwrap(), upstream)].into(),
        }
    }

    /// Since when, and how many; none if nothing is counted.
    fn told(counter: &Counter, counted: &Counted) -> Option<(i64, u64)> {
        let runs = Runs(Digest([0; 32]), ProvenWeights::new());
        match counter.told_of(&split(), &runs, counted, at(99))? {
            DoorCounting::Counted { counts, .. } => {
                Some((counts.since.as_second(), counts.requests.values().sum()))
            }
            DoorCounting::Not(_) => None,
        }
    }

    #[test]
    fn what_is_not_known_just_now_goes_on_and_what_was_not_logged_begins_anew() {
        let counter = Counter::new(
            "127.0.0.1:8009".parse().unwrap(),
            "http://127.0.0.1:8009/".to_owned(),
        );
        let looked = |counted: &Counted, verdict: Verdict, second: i64| {
            let proof = Proof {
                verdict,
                evidence: Evidence::Live,
                at: at(second),
                coverage: Coverage { seen: 1, of: 1 },
                weights: None,
                unhealthy: std::collections::BTreeSet::new(),
            };
            let runs = Runs(Digest([0; 32]), ProvenWeights::new());
            counter.read_back_of(
                [(&split(), runs, &expected())].into_iter(),
                counted,
                &[(split(), proof)].into(),
            );
        };
        let (yes, no): (Counted, Counted) = (
            [(split(), Ok(()))].into(),
            [(split(), Err("theirs".to_owned()))].into(),
        );
        let line = |second: i64| {
            let line = serde_json::json!({"request": {"id": second.to_string()}, "response": {"status": 200},
                "tries": [{"ip": "10.0.0.1", "port": 80}], "service": {"host": "weir.checkout.default"},
                "started_at": second * 1_000});
            counter.take(line.to_string().as_bytes()).unwrap();
        };
        looked(&yes, Verdict::Unknown("away".to_owned()), 1);
        line(2);
        assert_eq!(told(&counter, &yes), None, "nothing is proven yet");
        looked(&yes, Verdict::Exact, 10);
        assert_eq!(told(&counter, &yes), Some((10, 0)));
        line(11);
        assert_eq!(told(&counter, &yes), Some((10, 1)));
        looked(&yes, Verdict::Unknown("away".to_owned()), 12);
        looked(&yes, Verdict::Exact, 13);
        line(14);
        assert_eq!(told(&counter, &yes), Some((10, 2)));
        // A log of somebody else's stood in the way for a while.
        looked(&no, Verdict::Exact, 20);
        assert_eq!(told(&counter, &no), None);
        looked(&yes, Verdict::Exact, 30);
        assert_eq!(told(&counter, &yes), Some((30, 0)));
        // Of what is wanted and not proven yet nothing is told: what was counted is of other weights.
        let other = Runs(Digest([1; 32]), ProvenWeights::new());
        let of = |runs: &Runs| counter.told_of(&split(), runs, &yes, at(99));
        assert!(matches!(of(&other), Some(DoorCounting::Not(why)) if why.contains("begins with the proof")));
        // It was brought there and overtaken, and nobody read anything: what came meanwhile is of nobody's weights.
        line(31);
        counter.read_back_of(
            [(&split(), other, &expected())].into_iter(),
            &yes,
            &BTreeMap::new(),
        );
        line(32);
        assert_eq!(told(&counter, &yes), Some((30, 1)));
        looked(&yes, Verdict::Exact, 40);
        line(41);
        assert_eq!(told(&counter, &yes), Some((40, 1)));
        // Nobody chooses it any more.
        looked(&Counted::new(), Verdict::Exact, 50);
        assert_eq!(told(&counter, &Counted::new()), None);
        // What is no line is told, until one is.
        assert!(counter.take(b"no").is_err());
        let now = Timestamp::now();
        assert!(counter.trouble(now).unwrap().contains("no lines"));
        assert_eq!(counter.trouble(now + SignedDuration::from_mins(6)), None);
        line(50);
        assert_eq!(counter.trouble(now), None);
    }
}
