//! What a gateway did not accept: whoever keeps posting it holds up what would be accepted, a revert for one.
//!
//! Not kept over a restart: then it is tried once more. A Kong keeps what it had when it refuses, so that trying costs nobody
//! a request.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;
use weir_drivers::Refused;

/// So long until a refused document is tried again, at first; twice as long after each time.
const FIRST: Duration = Duration::from_secs(60);
/// And never longer: somebody may have installed what was missing.
const LONGEST: Duration = Duration::from_secs(30 * 60);
/// So many documents are remembered: those that were refused last.
const REMEMBERED: usize = 32;

/// The refusals of one gateway, by the hash of the document.
#[derive(Debug, Clone, Default)]
pub struct Refusals(BTreeMap<String, Refusal>);

/// One document that some node did not accept.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// What Kong says.
    pub why: String,
    /// What it names.
    pub what: Refused,
    /// The nodes that did not accept it, and in which words.
    pub nodes: BTreeMap<String, String>,
    noted: Instant,
    again: Instant,
    wait: Duration,
}

impl Refusals {
    /// A node did not accept a document.
    pub fn note(&mut self, node: &str, hash: &str, why: &str, what: &Refused, now: Instant) {
        let known = self.0.entry(hash.to_owned()).or_insert_with(|| Refusal {
            why: String::new(),
            what: Refused::default(),
            nodes: BTreeMap::new(),
            noted: now,
            again: now,
            wait: FIRST / 2,
        });
        known.why = format!("{node}: {why}");
        known.what = what.clone();
        known
            .nodes
            .insert(node.to_owned(), format!("it does not accept this: {why}"));
        known.noted = now;
        if known.again <= now {
            known.wait = (known.wait * 2).min(LONGEST);
            known.again = now + known.wait;
        }
        while self.0.len() > REMEMBERED {
            let oldest = self.0.iter().min_by_key(|(_, refusal)| refusal.noted);
            let Some(oldest) = oldest.map(|(hash, _)| hash.clone()) else {
                break;
            };
            self.0.remove(&oldest);
        }
    }

    /// A node accepted a document.
    pub fn accepted(&mut self, node: &str, hash: &str) {
        if let Some(refusal) = self.0.get_mut(hash) {
            refusal.nodes.remove(node);
            if refusal.nodes.is_empty() {
                self.0.remove(hash);
            }
        }
    }

    /// Whether and why a document was not accepted.
    pub fn of(&self, hash: &str) -> Option<&Refusal> {
        self.0.get(hash)
    }

    /// The same without those that it is time to try again.
    pub fn without_due(&self, now: Instant) -> Self {
        let standing = self.0.iter().filter(|(_, refusal)| refusal.again > now);
        Self(
            standing
                .map(|(hash, refusal)| (hash.clone(), refusal.clone()))
                .collect(),
        )
    }

    /// The documents.
    pub fn hashes(&self) -> BTreeSet<String> {
        self.0.keys().cloned().collect()
    }
}
