//! When each zone received, applied and proved its part of a step, from what its agents said of that split: whatever is wrong
//! with other splits of that zone. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use weir_planner::{DoorFact, Evidence, Item, ItemFact, ItemState, Verdict};

use crate::ledger::Word;
use crate::standing;

/// Who speaks of a split for the first time so long after a step came later than the step: nobody waited for him.
const NEWCOMER: SignedDuration = SignedDuration::from_secs(60);

/// How far a zone came with its part of a step, and when the coordinator heard of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Progress {
    /// All of its agents have it.
    pub(crate) received: Option<Timestamp>,
    /// All of them have written it.
    pub(crate) applied: Option<Timestamp>,
    /// All of them have read it back, exactly; but for those who had nobody who calls it.
    pub(crate) proven: Option<Timestamp>,
    /// All of them have written it, and had nobody who calls it.
    pub(crate) idle: Option<Timestamp>,
}

/// How far an agent is with an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Received,
    Applied,
    /// Written, and nobody calls it: there is nothing to read back.
    Idle,
    Proven,
}

/// The zone of this item, of a step that was made at that time. `first` is when each agent first said anything of the split.
pub(crate) fn of(
    item: &Item,
    made: Timestamp,
    first: &BTreeMap<(String, String), Timestamp>,
    words: &[Word],
) -> Progress {
    let there = |zone: &str| zone == item.zone.as_str();
    let newcomer = |at: Timestamp| at.duration_since(made) > NEWCOMER;
    let waited: BTreeSet<&str> = first
        .iter()
        .filter(|((zone, _), at)| there(zone) && !newcomer(**at))
        .map(|((_, agent), _)| agent.as_str())
        .collect();
    // By agent: when it first said what answers this.
    let first_that = |is: &dyn Fn(Stage) -> bool| {
        let mut at: BTreeMap<&str, Timestamp> = BTreeMap::new();
        for word in words.iter().filter(|word| there(&word.zone)) {
            if self::stage(item, &word.fact).is_some_and(is) {
                at.entry(&word.agent).or_insert(word.at);
            }
        }
        at
    };
    let all = |at: &BTreeMap<&str, Timestamp>| {
        let all = waited.iter().map(|agent| at.get(agent).copied());
        all.collect::<Option<Vec<_>>>()?.into_iter().max()
    };
    let idle = first_that(&|stage| stage == Stage::Idle);
    let read = first_that(&|stage| stage == Stage::Proven);
    // Who has no callers waits for nobody; the zone has proven it with the first that has.
    let followed = first_that(&|stage| stage >= Stage::Idle);
    let by_any = waited.iter().filter_map(|agent| read.get(agent)).min().copied();
    Progress {
        received: all(&first_that(&|stage| stage >= Stage::Received)),
        applied: all(&first_that(&|stage| stage >= Stage::Applied)),
        proven: by_any.and_then(|any| Some(all(&followed)?.max(any))),
        idle: all(&idle),
    }
}

/// None if it speaks of another item.
fn stage(item: &Item, fact: &ItemFact) -> Option<Stage> {
    if fact.generation != item.generation || fact.digest != item.digest {
        return None;
    }
    let own = fact.pin.is_none() && fact.fallback.is_none();
    Some(match fact.state {
        ItemState::Proven if own && is_exact(item, fact) => Stage::Proven,
        _ if standing::idle(fact) && fact.doors.values().all(is_open) => Stage::Idle,
        ItemState::Applied | ItemState::Proven if own => Stage::Applied,
        _ => Stage::Received,
    })
}

/// As what is shown as converged: each route, of a proxy that was looked at, and each door that this agent drives.
fn is_exact(item: &Item, fact: &ItemFact) -> bool {
    let Some(proof) = &fact.proof else { return false };
    let read = matches!(proof.evidence, Evidence::Live | Evidence::Sampled);
    proof.verdict == Verdict::Exact
        && read
        && standing::agrees(item, proof)
        && fact.doors.values().all(is_open)
}

fn is_open(door: &DoorFact) -> bool {
    let proof = door.proof.as_ref();
    door.held.is_none()
        && proof.is_some_and(|proof| proof.verdict == Verdict::Exact && proof.evidence == Evidence::Live)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

    use std::sync::Arc;

    use weir_model::{CommitId, SourceCommit, SourceFile, SourceName, SplitName, ZoneName};
    use weir_planner::{Coverage, Generation, Inputs, Planned, Proof};

    use super::*;

    fn item() -> Arc<Item> {
        let text = "apiVersion: weir.dev/v1alpha1\nkind: Federation\nmetadata: {name: shop}\nspec: {}\n---\n\
                    apiVersion: weir.dev/v1alpha1\nkind: Zone\nmetadata: {name: fra}\nspec: {platform: vm}\n---\n\
                    apiVersion: weir.dev/v1alpha1\nkind: Split\nmetadata: {name: checkout}\nspec:\n  service: checkout\n  \
                    port: 8080\n  protocol: http\n  backends: {vm: {zone: fra}}\n  routes:\n    \
                    - {name: default, weights: {vm: 100}}\n";
        let source = SourceName("main".to_owned());
        let parsed = weir_model::parse(&[SourceFile {
            source: source.clone(),
            path: "all.yaml".to_owned(),
            bytes: text.as_bytes().into(),
        }]);
        assert!(!parsed.refused(), "{:?}", parsed.diagnostics);
        let commit = CommitId("a1".repeat(20));
        let planned = weir_planner::plan(Inputs {
            declaration: &parsed.declaration,
            commits: &[SourceCommit { source, commit }],
            highest: Generation(0),
            parent: None,
            now: at(0),
        });
        let Planned::New(plan) = planned else {
            panic!("{planned:?}");
        };
        let split = &plan.splits[&SplitName::new("checkout").unwrap()];
        Arc::clone(&split.items[&ZoneName::new("fra").unwrap()])
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    /// In this state; if proven, with what was read.
    fn word(item: &Item, agent: &str, second: i64, state: ItemState) -> Word {
        let weights = item
            .routes
            .iter()
            .map(|route| (route.name.clone(), route.weights.clone()));
        let proof = (state == ItemState::Proven).then(|| Proof {
            at: at(second),
            evidence: Evidence::Live,
            verdict: Verdict::Exact,
            coverage: Coverage { seen: 1, of: 1 },
            weights: Some(weights.collect()),
            unhealthy: BTreeSet::new(),
        });
        Word {
            zone: "fra".to_owned(),
            agent: agent.to_owned(),
            at: at(second),
            fact: ItemFact {
                proof,
                ..ItemFact::new(item.reference(), state)
            },
        }
    }

    fn seconds(progress: Progress) -> [Option<i64>; 3] {
        [progress.received, progress.applied, progress.proven]
            .map(|time| time.map(|time| time.duration_since(at(0)).as_secs()))
    }

    #[test]
    fn a_zone_is_as_far_as_the_last_of_its_agents() {
        let item = item();
        let held = || ItemState::Held("nobody is there".to_owned());
        let key = |agent: &str| ("fra".to_owned(), agent.to_owned());
        let mut first = BTreeMap::from([(key("fra-1"), at(1)), (key("fra-2"), at(-900))]);
        first.insert(("ams".to_owned(), "ams-1".to_owned()), at(1));
        let mut words = vec![
            word(&item, "fra-1", 1, ItemState::Pending),
            word(&item, "fra-1", 2, ItemState::Applied),
            word(&item, "fra-1", 4, ItemState::Proven),
        ];
        let came = |first: &BTreeMap<_, _>, words: &[Word]| seconds(of(&item, at(0), first, words));
        assert_eq!(came(&first, &words), [None; 3], "nobody has heard of fra-2");
        words.push(word(&item, "fra-2", 5, held()));
        assert_eq!(came(&first, &words), [Some(5), None, None]);
        words.push(word(&item, "fra-2", 7, ItemState::Proven));
        assert_eq!(came(&first, &words), [Some(5), Some(7), Some(7)]);
        // It comes and goes later: when it first was so is what is told.
        words.push(word(&item, "fra-1", 9, held()));
        words.push(word(&item, "fra-1", 12, ItemState::Proven));
        assert_eq!(came(&first, &words), [Some(5), Some(7), Some(7)]);
        // Who joins weeks later changes nothing of what was.
        first.insert(key("fra-3"), at(1_000_000));
        words.push(word(&item, "fra-3", 1_000_000, held()));
        assert_eq!(came(&first, &words), [Some(5), Some(7), Some(7)]);
    }

    /// As the Kuma driver says it of a zone whose connected proxies do not call the service.
    fn nobody(item: &Item, agent: &str, second: i64) -> Word {
        let mut word = word(item, agent, second, ItemState::Applied);
        word.fact.proof = Some(Proof {
            at: at(second),
            evidence: Evidence::Acknowledged,
            verdict: Verdict::Unknown("no proxy of this zone calls the service".to_owned()),
            coverage: Coverage::default(),
            weights: None,
            unhealthy: BTreeSet::new(),
        });
        word
    }

    #[test]
    fn a_zone_that_nobody_calls_has_followed_and_proven_nothing() {
        let item = item();
        let key = |agent: &str| ("fra".to_owned(), agent.to_owned());
        let mut first = BTreeMap::from([(key("fra-1"), at(1))]);
        let came = |first: &BTreeMap<_, _>, words: &[Word]| {
            let came = of(&item, at(0), first, words);
            let idle = came.idle.map(|time| time.duration_since(at(0)).as_secs());
            (seconds(came), idle)
        };
        let mut words = vec![
            word(&item, "fra-1", 2, ItemState::Applied),
            nobody(&item, "fra-1", 3),
        ];
        assert_eq!(came(&first, &words), ([Some(2), Some(2), None], Some(3)));
        // A list that could not be had, or that is of nobody who is connected, has no evidence.
        let silence = |spoil: fn(&mut ItemFact)| {
            let mut word = nobody(&item, "fra-1", 3);
            spoil(&mut word.fact);
            came(&first, &[word]).1
        };
        assert_eq!(silence(|_| {}), Some(3));
        let spoilt: [fn(&mut ItemFact); 5] = [
            |fact| fact.proof.as_mut().unwrap().evidence = Evidence::Unknown,
            |fact| fact.proof.as_mut().unwrap().coverage.of = 1,
            |fact| fact.state = ItemState::Failed("503".to_owned()),
            |fact| fact.generation = Generation(7),
            |fact| fact.proof = None,
        ];
        for (n, spoil) in spoilt.into_iter().enumerate() {
            assert_eq!(silence(spoil), None, "{n}");
        }
        // Another agent of the zone has callers: what it reads is the proof, once it has.
        first.insert(key("fra-2"), at(1));
        words.push(word(&item, "fra-2", 4, ItemState::Applied));
        assert_eq!(came(&first, &words), ([Some(4), Some(4), None], None));
        words.push(word(&item, "fra-2", 6, ItemState::Proven));
        assert_eq!(came(&first, &words), ([Some(4), Some(4), Some(6)], None));
        // The first caller of the other comes later.
        words.push(word(&item, "fra-1", 900, ItemState::Proven));
        assert_eq!(came(&first, &words).0, [Some(4), Some(4), Some(6)]);
        // With nobody else it is the first proof.
        first.remove(&key("fra-2"));
        assert_eq!(came(&first, &words), ([Some(2), Some(2), Some(900)], Some(3)));
    }

    #[test]
    fn what_was_not_read_back_exactly_is_no_proof() {
        let item = item();
        let first = BTreeMap::from([(("fra".to_owned(), "fra-1".to_owned()), at(1))]);
        let came = |word: Word| seconds(of(&item, at(0), &first, &[word]))[2];
        let proven = || word(&item, "fra-1", 3, ItemState::Proven);
        assert_eq!(came(proven()), Some(3));
        let spoilt: [fn(&mut ItemFact); 6] = [
            |fact| fact.generation = Generation(7),
            |fact| fact.state = ItemState::Applied,
            |fact| fact.proof.as_mut().unwrap().evidence = Evidence::Acknowledged,
            |fact| fact.proof.as_mut().unwrap().verdict = Verdict::Unknown("no".to_owned()),
            |fact| fact.proof.as_mut().unwrap().coverage.seen = 0,
            |fact| fact.proof.as_mut().unwrap().weights = None,
        ];
        for (n, spoil) in spoilt.into_iter().enumerate() {
            let mut word = proven();
            spoil(&mut word.fact);
            assert_eq!(came(word), None, "{n}");
        }
    }
}
