//! What a gateway did not accept: whoever keeps posting it holds up what would be accepted, a revert for one.
//!
//! Not kept over a restart: then it is tried once more. A Kong keeps what it had when it refuses, so that trying costs nobody
//! a request.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;
use weir_drivers::Refused;

/// So long until a refused document is tried again, at first; twice as long after each time.
pub const FIRST: Duration = Duration::from_secs(60);
/// And never longer: somebody may have installed what was missing.
const LONGEST: Duration = Duration::from_secs(30 * 60);
/// So many documents are remembered: those that were refused last.
const REMEMBERED: usize = 32;

/// The refusals of one gateway.
#[derive(Debug, Clone)]
pub struct Refusals {
    /// By the hash of the document.
    all: BTreeMap<String, Refusal>,
    first: Duration,
}

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
    /// None yet. What is refused is tried again after `first`, a minute but in tests.
    pub fn new(first: Duration) -> Self {
        Self {
            all: BTreeMap::new(),
            first,
        }
    }

    /// A node did not accept a document.
    pub fn note(&mut self, node: &str, hash: &str, why: &str, what: &Refused, now: Instant) {
        let first = self.first;
        let known = self.all.entry(hash.to_owned()).or_insert_with(|| Refusal {
            why: String::new(),
            what: Refused::default(),
            nodes: BTreeMap::new(),
            noted: now,
            again: now,
            wait: first / 2,
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
        while self.all.len() > REMEMBERED {
            let oldest = self.all.iter().min_by_key(|(_, refusal)| refusal.noted);
            let Some(oldest) = oldest.map(|(hash, _)| hash.clone()) else {
                break;
            };
            self.all.remove(&oldest);
        }
    }

    /// A node accepted a document.
    pub fn accepted(&mut self, node: &str, hash: &str) {
        if let Some(refusal) = self.all.get_mut(hash) {
            refusal.nodes.remove(node);
            if refusal.nodes.is_empty() {
                self.all.remove(hash);
            }
        }
    }

    /// Whether and why a document was not accepted.
    pub fn of(&self, hash: &str) -> Option<&Refusal> {
        self.all.get(hash)
    }

    /// A refusal of what requests are counted by: it is of the gateway, whatever else the document says.
    pub fn of_counting(&self) -> Option<&Refusal> {
        self.all.values().find(|refusal| refusal.what.counting)
    }

    /// A refusal of counting that it is time to try again, of whatever document, is of this one from now on: counting is of the gateway,
    /// and the document that was refused with it may be one that nobody makes any more. How long it waits goes along.
    pub fn counting_is_in(&mut self, hash: &str, now: Instant) {
        if self.all.contains_key(hash) {
            return;
        }
        let due = |_: &String, refusal: &mut Refusal| refusal.what.counting && refusal.again <= now;
        let due = self.all.extract_if(.., due).map(|(_, refusal)| refusal);
        if let Some(longest) = due.max_by_key(|refusal| refusal.wait) {
            self.all.insert(hash.to_owned(), longest);
        }
    }

    /// Forgets what it was time to try for as long as that had waited, and nobody did: but for this document nobody makes it any more.
    pub fn forget_unmade(&mut self, made: &str, now: Instant) {
        self.all
            .retain(|hash, refusal| hash == made || refusal.again + refusal.wait > now);
    }

    /// The same without those that it is time to try again; none if it is time for none of them.
    pub fn without_due(&self, now: Instant) -> Option<Self> {
        let standing = self.all.iter().filter(|(_, refusal)| refusal.again > now);
        let standing = standing.map(|(hash, refusal)| (hash.clone(), refusal.clone()));
        let standing = Self {
            all: standing.collect(),
            first: self.first,
        };
        (standing.all.len() < self.all.len()).then_some(standing)
    }

    /// The documents.
    pub fn hashes(&self) -> BTreeSet<String> {
        self.all.keys().cloned().collect()
    }
}
