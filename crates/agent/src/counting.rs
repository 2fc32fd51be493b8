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

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use weir_model::SplitName;
use weir_planner::{DoorCounting, Item, Proof, ProvenWeights, Verdict};
use weir_render::kong::{Counted, Counting, Expected};

use line::lines;
use tally::{Runs, Tally};

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
    /// What was last posted and could not be taken, if what came after it could neither.
    trouble: Option<String>,
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
        let state = &mut *self.state();
        state.trouble = lines.as_ref().err().cloned();
        state.tally.take(body, &lines?);
        Ok(())
    }

    /// A gateway was read back: what is exact is counted from then on as what it runs now.
    pub(crate) fn read_back<'a>(
        &self,
        runs: impl Iterator<Item = (&'a SplitName, &'a Item, &'a Expected)>,
        counted: &Counted,
        proofs: &BTreeMap<SplitName, Proof>,
    ) {
        let tally = &mut self.state().tally;
        tally.keep(|split| counted.get(split).is_some_and(Result::is_ok));
        for (split, item, expected) in runs {
            let (Some(Ok(())), Some(proof)) = (counted.get(split), proofs.get(split)) else {
                continue;
            };
            match proof.verdict {
                Verdict::Exact => {
                    let weights: ProvenWeights = item
                        .routes
                        .iter()
                        .map(|route| (route.name.clone(), route.weights.clone()))
                        .collect();
                    tally.proven(split, Runs(item.digest, weights), expected, proof.at);
                }
                Verdict::Different(_) => tally.was_different(split),
                // Not known is not another.
                Verdict::Unknown(_) => {}
            }
        }
    }

    /// What a person should know of it, if anything.
    pub(crate) fn trouble(&self) -> Option<String> {
        let why = self.state().trouble.clone();
        why.map(|why| format!("requests are counted, and what was posted last was not: {why}"))
    }

    /// What is told of one door.
    pub(crate) fn told(&self, split: &SplitName, counted: &Counted, now: Timestamp) -> Option<DoorCounting> {
        let state = self.state();
        match counted.get(split)? {
            Err(why) => Some(DoorCounting::Not(why.clone())),
            Ok(()) => {
                if let Some(why) = &state.deaf {
                    return Some(DoorCounting::Not(why.clone()));
                }
                let counts = state.tally.of(split, now);
                Some(counts.unwrap_or_else(|| {
                    DoorCounting::Not("counting begins with the proof of what the gateway runs".to_owned())
                }))
            }
        }
    }
}

/// The counters of an agent's gateways.
pub type Counters = BTreeMap<weir_model::GatewayName, Arc<Counter>>;
