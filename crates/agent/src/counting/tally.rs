//! How many requests went to which backend since the gateway proved what it runs. Pure: lines and proofs come in.
//!
//! Where a request went is told by the address of its first try, which is the pick of the weights: what Kong tried after that
//! is no share. An address that two backends had, or nobody, is nobody's.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use jiff::{SignedDuration, Timestamp};
use weir_model::{BackendName, SplitName};
use weir_planner::{CountScope, Counts, Digest, DoorCounting, ProvenWeights};
use weir_render::kong::Expected;

use super::line::Line;

/// So many posts are remembered: far more than the workers of a Kong have under way.
const POSTS: usize = 1_024;

/// So long after a name lost an address may requests still be on their way there, or be told of late.
const ON_THEIR_WAY: SignedDuration = SignedDuration::from_mins(10);

/// What a gateway runs of a split: another, and counting begins anew. Pins and fallbacks are in the weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Runs(pub(super) Digest, pub(super) ProvenWeights);

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Tally {
    doors: BTreeMap<SplitName, Door>,
    posts: Posts,
}

/// One split at the gateway.
#[derive(Debug)]
struct Door {
    runs: Runs,
    since: Timestamp,
    /// It was seen to run something else meanwhile.
    was_different: bool,
    /// By upstream, whose each address is, and until when it was: nobody's if several had it a short while ago.
    whose: BTreeMap<String, BTreeMap<SocketAddr, BTreeMap<BackendName, Timestamp>>>,
    requests: BTreeMap<BackendName, u64>,
    failed: BTreeMap<BackendName, u64>,
    down: BTreeMap<BackendName, u64>,
    unplaced: u64,
}

/// Posts that were counted: Kong posts one again of which it did not hear that it was taken, to the byte.
#[derive(Debug, Default)]
struct Posts {
    known: BTreeSet<[u8; 32]>,
    order: VecDeque<[u8; 32]>,
}

impl Posts {
    /// Whether it is a new one.
    fn note(&mut self, hash: [u8; 32]) -> bool {
        if !self.known.insert(hash) {
            return false;
        }
        self.order.push_back(hash);
        if self.order.len() > POSTS
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

impl Tally {
    /// A gateway was read and runs this of a split.
    pub(super) fn proven(&mut self, split: &SplitName, runs: Runs, expected: &Expected, at: Timestamp) {
        let before = self.doors.get(split);
        if before.is_none_or(|door| door.was_different || door.runs != runs) {
            let names = runs.1.values().flat_map(BTreeMap::keys);
            let none: BTreeMap<BackendName, u64> = names.map(|name| (name.clone(), 0)).collect();
            let door = Door {
                runs,
                since: at,
                was_different: false,
                whose: BTreeMap::new(),
                requests: none.clone(),
                failed: none.clone(),
                down: none,
                unplaced: 0,
            };
            self.doors.insert(split.clone(), door);
        }
        let Some(door) = self.doors.get_mut(split) else {
            return;
        };
        // Names may have other addresses by now; what went to the old ones is still theirs.
        for upstream in expected.upstreams.values() {
            let whose = door.whose.entry(upstream.name.clone()).or_default();
            for (address, target) in &upstream.targets {
                let address = SocketAddr::new(address.ip().to_canonical(), address.port());
                let owners = whose.entry(address).or_default();
                owners.insert(target.backend.clone(), at);
            }
        }
        for whose in door.whose.values_mut() {
            for owners in whose.values_mut() {
                owners.retain(|_, until| at.duration_since(*until) <= ON_THEIR_WAY);
            }
            whose.retain(|_, owners| !owners.is_empty());
        }
    }

    /// A gateway was read and runs something else of a split: what comes next is another counting.
    pub(super) fn was_different(&mut self, split: &SplitName) {
        if let Some(door) = self.doors.get_mut(split) {
            door.was_different = true;
        }
    }

    /// A gateway may run this of a split from now on: if that is something else, what comes next is another counting.
    pub(super) fn may_run(&mut self, split: &SplitName, runs: &Runs) {
        if let Some(door) = self.doors.get_mut(split) {
            door.was_different |= door.runs != *runs;
        }
    }

    /// Forgets those that are not counted any more.
    pub(super) fn keep(&mut self, counted: impl Fn(&SplitName) -> bool) {
        self.doors.retain(|split, _| counted(split));
    }

    /// Counts what was posted, once.
    pub(super) fn take(&mut self, post: [u8; 32], lines: &[Line]) {
        // Where lines have no ids (before Kong 3.5) two posts may be the same and both be new.
        let all_told = !lines.is_empty() && lines.iter().all(|line| line.has_id);
        if all_told && !self.posts.note(post) {
            return;
        }
        for line in lines {
            let door = self
                .doors
                .values_mut()
                .find(|door| door.whose.contains_key(&line.upstream));
            // Kong says milliseconds. What came while it ran something else, or may have, is in no count.
            let counts = |door: &&mut Door| {
                !door.was_different && line.started.as_millisecond() >= door.since.as_millisecond()
            };
            if let Some(door) = door.filter(counts) {
                door.count(line);
            }
        }
    }

    /// What was counted of a split while the gateway ran this of it; none if that is something else.
    pub(super) fn of(&self, split: &SplitName, runs: &Runs, at: Timestamp) -> Option<DoorCounting> {
        let door = self.doors.get(split).filter(|door| door.runs == *runs)?;
        Some(DoorCounting::Counted {
            counts: Counts {
                since: door.since,
                at,
                requests: door.requests.clone(),
                failed: door.failed.clone(),
                down: door.down.clone(),
                latency: BTreeMap::new(),
                open: None,
                scope: CountScope::Host,
            },
            unplaced: door.unplaced,
        })
    }
}

impl Door {
    fn count(&mut self, line: &Line) {
        let whose = self.whose.get(&line.upstream);
        let owners = line.first.and_then(|address| whose?.get(&address));
        let Some((backend, 1)) = owners.and_then(|of| Some((of.keys().next()?.clone(), of.len()))) else {
            self.unplaced += 1;
            return;
        };
        let add = |to: &mut BTreeMap<BackendName, u64>| *to.entry(backend.clone()).or_default() += 1;
        add(&mut self.requests);
        // As Envoys count it: answered 5xx, or not at all.
        if line.status.is_none_or(|status| status >= 500) {
            add(&mut self.failed);
        }
        if line.not_taken || line.status == Some(503) {
            add(&mut self.down);
        }
    }
}

#[cfg(test)]
mod tests {
    use weir_model::{BasisPoints, RouteName};
    use weir_planner::Generation;
    use weir_render::kong::{Target, Upstream};

    use super::*;

    const UPSTREAM: &str = "weir.checkout.default";

    fn split() -> SplitName {
        "checkout".parse().unwrap()
    }

    fn route() -> RouteName {
        "default".parse().unwrap()
    }

    fn runs(vm: u32) -> Runs {
        let weight = |of: u32| BasisPoints::new(of).unwrap();
        let weights = [("vm", weight(vm)), ("cloud", weight(10_000 - vm))];
        let weights = weights.map(|(name, weight)| (name.parse().unwrap(), weight));
        Runs(Digest([0; 32]), [(route(), weights.into())].into())
    }

    fn expected(of: &[(&str, &str)]) -> Expected {
        let target = |(address, backend): &(&str, &str)| {
            let backend = backend.parse().unwrap();
            (address.parse().unwrap(), Target { backend, weight: 1 })
        };
        let upstream = Upstream {
            name: UPSTREAM.to_owned(),
            targets: of.iter().map(target).collect(),
            names: BTreeMap::new(),
            drains: false,
        };
        Expected {
            generation: Generation(1),
            known: Generation(1),
            pin: None,
            upstreams: [(route(), upstream)].into(),
        }
    }

    fn post(body: &[u8]) -> [u8; 32] {
        *blake3::hash(body).as_bytes()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn line(second: i64, to: &str, status: u16) -> Line {
        Line {
            has_id: true,
            started: at(second),
            upstream: UPSTREAM.to_owned(),
            first: to.parse().ok(),
            not_taken: false,
            status: Some(status),
        }
    }

    /// What is told while what was proven last is what is wanted.
    fn of(tally: &Tally, second: i64) -> Option<DoorCounting> {
        let runs = tally.doors.get(&split())?.runs.clone();
        tally.of(&split(), &runs, at(second))
    }

    /// Since when, requests by name, failed by name, unplaced.
    fn told(tally: &Tally) -> (i64, Vec<(String, u64, u64)>, u64) {
        match of(tally, 99).unwrap() {
            DoorCounting::Counted { counts, unplaced } => {
                let of = counts.requests.iter();
                let of = of.map(|(name, n)| (name.to_string(), *n, counts.failed[name]));
                (counts.since.as_second(), of.collect(), unplaced)
            }
            DoorCounting::Not(why) => panic!("{why}"),
        }
    }

    fn counts(cloud: (u64, u64), vm: (u64, u64)) -> Vec<(String, u64, u64)> {
        vec![
            ("cloud".to_owned(), cloud.0, cloud.1),
            ("vm".to_owned(), vm.0, vm.1),
        ]
    }

    #[test]
    fn only_since_the_proof_and_anew_when_something_else_runs() {
        let mut tally = Tally::default();
        tally.take(post(b"0"), &[line(5, "10.0.0.1:80", 200)]);
        assert_eq!(of(&tally, 99), None, "nothing is proven");
        let both = expected(&[("10.0.0.1:80", "vm"), ("10.0.0.2:80", "cloud")]);
        tally.proven(&split(), runs(9_000), &both, at(10));
        let all = [
            line(9, "10.0.0.1:80", 200),
            line(10, "10.0.0.1:80", 503),
            line(11, "10.0.0.2:80", 200),
        ];
        tally.take(post(b"1"), &all);
        assert_eq!(
            told(&tally),
            (10, counts((1, 0), (1, 1)), 0),
            "not what came before"
        );
        // Read again, it is the same: it goes on; read as another for a moment, it begins anew.
        tally.proven(&split(), runs(9_000), &both, at(20));
        assert_eq!(told(&tally).0, 10);
        tally.was_different(&split());
        tally.take(post(b"between"), &[line(25, "10.0.0.1:80", 200)]);
        assert_eq!(
            told(&tally),
            (10, counts((1, 0), (1, 1)), 0),
            "what was counted stands until there is proof, and nothing is added"
        );
        assert_eq!(tally.of(&split(), &runs(5_000), at(99)), None, "of other weights");
        tally.proven(&split(), runs(9_000), &both, at(30));
        assert_eq!(told(&tally), (30, counts((0, 0), (0, 0)), 0));
        tally.proven(&split(), runs(5_000), &both, at(40));
        // One of before that comes late.
        tally.take(
            post(b"2"),
            &[line(39, "10.0.0.1:80", 200), line(41, "10.0.0.2:80", 200)],
        );
        assert_eq!(told(&tally), (40, counts((1, 0), (0, 0)), 0));
        tally.keep(|_| false);
        assert_eq!(of(&tally, 99), None);
    }

    #[test]
    fn whose_an_address_is_is_never_guessed() {
        let mut tally = Tally::default();
        tally.proven(
            &split(),
            runs(9_000),
            &expected(&[("10.0.0.1:80", "vm"), ("10.0.0.2:80", "cloud")]),
            at(1),
        );
        // A name has another address now, and what is on its way to the old one is still vm's.
        tally.proven(
            &split(),
            runs(9_000),
            &expected(&[("10.0.0.3:80", "vm"), ("10.0.0.2:80", "cloud")]),
            at(2),
        );
        let both = [line(3, "10.0.0.1:80", 200), line(3, "10.0.0.3:80", 200)];
        tally.take(post(b"1"), &both);
        assert_eq!(told(&tally).1, counts((0, 0), (2, 0)));
        // The other's name gets what was vm's: nobody can say any more.
        tally.proven(
            &split(),
            runs(9_000),
            &expected(&[("10.0.0.3:80", "vm"), ("10.0.0.1:80", "cloud")]),
            at(4),
        );
        let strange = [
            line(5, "10.0.0.1:80", 200),
            line(5, "10.9.9.9:80", 200),
            line(5, "nowhere", 200),
        ];
        tally.take(post(b"2"), &strange);
        assert_eq!((told(&tally).1, told(&tally).2), (counts((0, 0), (2, 0)), 3));
        // Long after nobody is on his way to what it was, and no address is kept for ever.
        tally.proven(
            &split(),
            runs(9_000),
            &expected(&[("10.0.0.3:80", "vm"), ("10.0.0.1:80", "cloud")]),
            at(605),
        );
        let late = [line(606, "10.0.0.1:80", 200), line(606, "10.0.0.2:80", 200)];
        tally.take(post(b"4"), &late);
        assert_eq!((told(&tally).1, told(&tally).2), (counts((1, 0), (2, 0)), 4));
        // Of an upstream that is not ours nothing is said at all.
        let mut other = line(6, "10.0.0.3:80", 200);
        other.upstream = "theirs".to_owned();
        tally.take(post(b"3"), &[other]);
        assert_eq!((told(&tally).1, told(&tally).2), (counts((1, 0), (2, 0)), 4));
    }

    #[test]
    fn what_is_posted_again_is_counted_once() {
        let mut tally = Tally::default();
        let both = expected(&[("10.0.0.1:80", "vm"), ("10.0.0.2:80", "cloud")]);
        tally.proven(&split(), runs(9_000), &both, at(1));
        let one = [line(2, "10.0.0.1:80", 200)];
        for body in [&b"1"[..], b"1", b"2", b"1"] {
            tally.take(post(body), &one);
        }
        assert_eq!(told(&tally).1, counts((0, 0), (2, 0)));
        // An old Kong gives requests no ids: then the same twice may be two.
        let mut nameless = line(2, "10.0.0.2:80", 200);
        nameless.has_id = false;
        tally.take(post(b"3"), &[nameless.clone()]);
        tally.take(post(b"3"), &[nameless]);
        assert_eq!(told(&tally).1, counts((2, 0), (2, 0)));
        // Only so many are remembered.
        for n in 0..=POSTS {
            tally.take(post(format!("post {n}").as_bytes()), &one);
        }
        assert_eq!((tally.posts.known.len(), tally.posts.order.len()), (POSTS, POSTS));
    }

    #[test]
    fn what_failed_is_the_share_of_the_pick() {
        let mut tally = Tally::default();
        let both = expected(&[("10.0.0.1:80", "vm"), ("10.0.0.2:80", "cloud")]);
        tally.proven(&split(), runs(9_000), &both, at(1));
        let refused = |status: Option<u16>| Line {
            not_taken: true,
            status,
            ..line(2, "10.0.0.2:80", 200)
        };
        // Taken by the other in the end, by nobody, and never answered.
        tally.take(
            post(b"1"),
            &[refused(Some(200)), refused(Some(502)), refused(None)],
        );
        assert_eq!(told(&tally).1, counts((3, 2), (0, 0)));
        let DoorCounting::Counted { counts, .. } = of(&tally, 9).unwrap() else {
            panic!("nothing counted");
        };
        assert_eq!(counts.down[&"cloud".parse().unwrap()], 3, "it took none of them");
    }
}
