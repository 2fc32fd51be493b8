//! Fallbacks: what is down, who takes its share, how it comes back, and that agents of one zone are of one mind. Time,
//! counters and states are values here.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;
use weir_agent::anchors::Anchors;
use weir_agent::decide::decide;
use weir_agent::fallback::{Watch, driven, is_due, look, told};
use weir_agent::take::Memory;
use weir_drivers::Observed;
use weir_model::{
    BackendName, BasisPoints, CommitId, DnsLabel, FederationName, Match, MeshName, Protocol, RouteName,
    ServiceName, SplitName, ZoneName,
};
use weir_planner::{
    CountScope, Counts, Destination, Digest, Fallback, Generation, Item, ItemRoute, PlanId, Refuge,
    ServiceFact, ServiceState, ZonePlan, anchor, item_digest,
};
use weir_render::{FALLEN, Object, Options, Step};

const BACKENDS: [&str; 3] = ["eks", "lab", "vm"];

fn backend(name: &str) -> BackendName {
    BackendName::new(name).unwrap()
}

fn share(percent: u32) -> BasisPoints {
    BasisPoints::new(percent * 100).unwrap()
}

/// `eks` 80, `vm` 20; while `eks` is down its share goes to these, each with its capacity in per cent.
fn plan(to: &[(&str, Option<u32>)], recover: i64) -> ZonePlan {
    let federation = FederationName::new("shop").unwrap();
    let split = SplitName::new("checkout").unwrap();
    let service = ServiceName::new("checkout").unwrap();
    let destination = |name: &str| Destination {
        zone: ZoneName::new(name).unwrap(),
        kuma_zone: DnsLabel::new(name).unwrap(),
        namespace: None,
        service: service.clone(),
        port: 8080,
    };
    let refuge = |(name, capacity): &(&str, Option<u32>)| Refuge {
        backend: backend(name),
        capacity: capacity.map(share),
    };
    let fallback = Fallback {
        to: to.iter().map(refuge).collect(),
        after: SignedDuration::from_secs(1),
        recover: SignedDuration::from_secs(recover),
    };
    let mut item = Item {
        anchor: anchor(&federation, &split),
        split: split.clone(),
        zone: ZoneName::new("fra").unwrap(),
        kuma_zone: DnsLabel::new("fra").unwrap(),
        mesh: MeshName::new("default").unwrap(),
        service: service.clone(),
        port: 8080,
        port_names: BTreeSet::new(),
        protocol: Protocol::Http,
        destinations: BACKENDS.map(|name| (backend(name), destination(name))).into(),
        retiring: BTreeSet::new(),
        routes: vec![ItemRoute {
            name: RouteName::new("default").unwrap(),
            matches: Match::default(),
            weights: BTreeMap::from([(backend("eks"), share(80)), (backend("vm"), share(20))]),
        }],
        fallback: [(backend("eks"), fallback)].into(),
        doors: [].into(),
        generation: Generation(3),
        commit: CommitId("0123456789abcdef0123456789abcdef01234567".to_owned()),
        digest: Digest([0; 32]),
    };
    if to.is_empty() {
        item.fallback.clear();
    }
    item.digest = item_digest(&item);
    ZonePlan {
        federation,
        zone: item.zone.clone(),
        kuma_zone: item.kuma_zone.clone(),
        mesh: item.mesh.clone(),
        plan: PlanId([1; 32]),
        generation: Generation(3),
        commits: Vec::new(),
        gateways: [].into(),
        items: BTreeMap::from([(split, Arc::new(item))]),
    }
}

/// An agent of the zone, and the zone.
struct Agent {
    plan: ZonePlan,
    memory: Memory,
    watch: Watch,
    sent: BTreeMap<BackendName, u64>,
    down: BTreeMap<BackendName, u64>,
    began: Instant,
    now: Duration,
    /// How far its clock is ahead.
    ahead: SignedDuration,
    unavailable: BTreeSet<&'static str>,
    /// What the zone's control plane holds.
    live: Vec<(Object, Generation)>,
}

impl Agent {
    fn new(plan: ZonePlan) -> Self {
        Self {
            plan,
            memory: Memory::default(),
            watch: Watch::default(),
            sent: BTreeMap::new(),
            down: BTreeMap::new(),
            began: Instant::now(),
            now: Duration::ZERO,
            ahead: SignedDuration::ZERO,
            unavailable: BTreeSet::new(),
            live: Vec::new(),
        }
    }

    fn item(&self) -> &Arc<Item> {
        self.plan.items.values().next().unwrap()
    }

    fn at(&self) -> (Instant, Timestamp) {
        let stamp = Timestamp::from_second(1_800_000_000).unwrap();
        (
            self.began + self.now,
            stamp + SignedDuration::try_from(self.now).unwrap() + self.ahead,
        )
    }

    fn services(&self) -> Vec<ServiceFact> {
        let fact = |name: &str| ServiceFact {
            service: ServiceName::new("checkout").unwrap(),
            kuma_zone: DnsLabel::new(name).unwrap(),
            namespace: None,
            ports: BTreeMap::from([(8080, Some(Protocol::Http))]),
            port_names: BTreeMap::new(),
            state: match self.unavailable.contains(name) {
                true => ServiceState::Unavailable,
                false => ServiceState::Available,
            },
        };
        BACKENDS.map(fact).to_vec()
    }

    /// A quarter of a second of traffic to what is driven; requests to the dead find nobody. True if a look is due.
    fn quarter(&mut self, requests: u64, dead: &[&str]) -> bool {
        self.now += Duration::from_millis(250);
        let driven = driven(self.item(), &self.memory);
        for (name, weight) in &driven.routes[0].weights {
            let sent = requests * u64::from(weight.get()) / 10_000;
            *self.sent.entry(name.clone()).or_default() += sent;
            if dead.contains(&name.as_str()) {
                *self.down.entry(name.clone()).or_default() += sent;
            }
        }
        self.count();
        is_due(&self.plan, &self.memory, &self.watch, self.at().0)
    }

    fn count(&mut self) {
        let counts = Counts {
            since: Timestamp::UNIX_EPOCH,
            at: self.at().1,
            requests: self.sent.clone(),
            failed: self.down.clone(),
            down: self.down.clone(),
            open: None,
            scope: CountScope::Host,
        };
        let now = self.at().0;
        let items: Vec<_> = self.plan.items.values().cloned().collect();
        self.watch.count(&items, &[Some(counts)], now);
    }

    /// An activation: it looks, and writes what it comes to.
    fn activate(&mut self) {
        let (at, services) = (self.at(), self.services());
        let items: Vec<_> = self.plan.items.values().cloned().collect();
        self.watch.see(&items, &services, at.0);
        self.memory.fallen = look(
            &self.plan,
            &self.memory,
            (&self.live, &services),
            &mut self.watch,
            at,
        );
        self.memory.applied = self.plan.items.clone();
        let observed = Observed {
            services,
            ours: self.live.clone(),
            ..Observed::default()
        };
        let decision = decide(
            &self.plan,
            &self.memory,
            &observed,
            Options::default(),
            &Anchors::default(),
            at.0,
        );
        for step in decision.steps {
            let Step::Put {
                object, generation, ..
            } = step
            else {
                panic!("{step:?}")
            };
            self.live = vec![(object, generation)];
        }
    }

    fn weights(&self) -> Vec<(&'static str, u32)> {
        let driven = driven(self.item(), &self.memory);
        let of = |name| {
            driven.routes[0]
                .weights
                .get(&backend(name))
                .map_or(0, |w| w.get() / 100)
        };
        BACKENDS.map(|name| (name, of(name))).to_vec()
    }

    fn label(&self) -> &str {
        self.live[0].0.labels.get(FALLEN).map_or("", String::as_str)
    }

    fn alarms(&self) -> Vec<String> {
        self.watch.alarms(&self.plan, &self.memory, self.at().0)
    }
}

const AS_PLANNED: [(&str, u32); 3] = [("eks", 80), ("lab", 0), ("vm", 20)];
const ALL_TO_VM: [(&str, u32); 3] = [("eks", 0), ("lab", 0), ("vm", 100)];

#[test]
fn a_share_goes_to_its_fallback_and_comes_back() {
    let mut agent = Agent::new(plan(&[("vm", None)], 60));
    agent.activate();
    assert!(agent.label().is_empty(), "nothing was ever down");
    for _ in 0..20 {
        assert!(!agent.quarter(100, &[]));
    }
    let died = agent.now;
    while !agent.quarter(100, &["eks"]) {
        assert!(agent.now - died < Duration::from_secs(2));
    }
    assert!(agent.now - died >= Duration::from_secs(1), "`after` is 1 s");
    agent.activate();
    assert_eq!(agent.weights(), ALL_TO_VM);
    let fallen = told(agent.item(), &agent.memory).unwrap();
    assert!(
        fallen.why.contains("the share of eks goes to vm"),
        "{}",
        fallen.why
    );
    assert!(
        agent
            .label()
            .ends_with(&format!(".{}", agent.at().1.as_millisecond()))
    );
    assert_eq!(
        agent.alarms(),
        [] as [&str; 0],
        "what is done about it is told elsewhere"
    );
    // The item is the same: nothing that goes by digest or generation sees another one.
    assert_eq!(
        driven(agent.item(), &agent.memory).reference(),
        agent.item().reference()
    );
    let away = agent.now;
    while agent.weights() != AS_PLANNED {
        assert!(!agent.quarter(100, &["eks"]));
        agent.activate();
        assert!(agent.now - away < Duration::from_secs(61));
    }
    assert!(agent.now - away >= Duration::from_secs(59), "`recover` is 60 s");
    assert!(agent.label().starts_with("up."));
    assert_eq!(told(agent.item(), &agent.memory), None);
}

#[test]
fn who_counts_nothing_is_told_so() {
    let mut agent = Agent::new(plan(&[("vm", None)], 60));
    agent.activate();
    let items: Vec<_> = agent.plan.items.values().cloned().collect();
    for _ in 0..31 {
        agent.watch.count(&items, &[None], agent.at().0);
        agent.now += Duration::from_secs(1);
    }
    let alarms = agent.alarms();
    assert!(
        alarms.len() == 1 && alarms[0].contains("for 31 s no requests of its callers were counted here"),
        "{alarms:?}"
    );
    agent.quarter(100, &[]);
    assert_eq!(agent.alarms(), Vec::<String>::new());
    // What was counted once and comes no more is as little worth.
    agent.now += Duration::from_secs(31);
    assert_eq!(agent.alarms().len(), 1);
    let mut without = Agent::new(plan(&[], 60));
    without.now += Duration::from_secs(31);
    without.watch.count(&items, &[None], without.at().0);
    assert_eq!(without.alarms(), Vec::<String>::new());
}

#[test]
fn bad_requests_are_not_a_dead_backend() {
    let mut agent = Agent::new(plan(&[("vm", None)], 60));
    agent.activate();
    agent.quarter(100, &[]);
    // Four requests in all, all of them lost.
    for _ in 0..40 {
        let due = agent.quarter(if agent.sent[&backend("eks")] < 84 { 2 } else { 0 }, &["eks"]);
        assert!(!due);
    }
    // Two of five, for long.
    for _ in 0..40 {
        *agent.down.entry(backend("eks")).or_default() += 32;
        assert!(!agent.quarter(100, &[]));
    }
    agent.activate();
    assert_eq!(agent.weights(), AS_PLANNED);
}

#[test]
fn who_has_no_room_is_passed_over_and_nobody_is_told_loudly() {
    let dead = |to: &[(&str, Option<u32>)], unavailable: &[&'static str]| {
        let mut agent = Agent::new(plan(to, 60));
        agent.activate();
        agent.unavailable = unavailable.iter().copied().collect();
        for _ in 0..28 {
            agent.quarter(100, &["eks"]);
        }
        agent.activate();
        let alarms = agent.alarms();
        (agent.weights(), alarms)
    };
    let (weights, _) = dead(&[("lab", Some(80)), ("vm", None)], &[]);
    assert_eq!(
        weights,
        [("eks", 0), ("lab", 80), ("vm", 20)],
        "exactly as much as it takes"
    );
    let (weights, _) = dead(&[("lab", Some(79)), ("vm", None)], &[]);
    assert_eq!(weights, ALL_TO_VM);
    let (weights, _) = dead(&[("lab", None), ("vm", None)], &["lab"]);
    assert_eq!(weights, ALL_TO_VM, "I3 holds for a fallback too");
    for (to, unavailable, because) in [
        (
            &[("lab", Some(79)), ("vm", Some(99))][..],
            &[][..],
            "no backend of its fallback is up",
        ),
        (&[("lab", None)], &["lab"], "no backend of its fallback is up"),
        (&[], &[], "no fallback is declared"),
    ] {
        let (weights, alarms) = dead(to, unavailable);
        assert_eq!(weights, AS_PLANNED);
        assert!(
            alarms.iter().any(|alarm| alarm.contains(because)),
            "{to:?}: {alarms:?}"
        );
    }
}

#[test]
fn what_kuma_says_is_believed_as_well() {
    let mut agent = Agent::new(plan(&[("vm", None)], 60));
    agent.activate();
    agent.unavailable.insert("eks");
    agent.activate();
    assert_eq!(agent.weights(), AS_PLANNED, "not for long enough yet");
    agent.now += Duration::from_secs(1);
    agent.activate();
    assert_eq!(agent.weights(), ALL_TO_VM, "nobody sends, and it is Unavailable");
}

/// Each time that it comes back it is dead: then less and less often.
#[test]
fn it_does_not_flap() {
    let mut agent = Agent::new(plan(&[("vm", None)], 10));
    agent.activate();
    let mut changes = 0;
    let mut before = agent.weights();
    for _ in 0..4 * 3_600 {
        if agent.quarter(100, &["eks"]) || agent.now.subsec_millis() == 0 {
            agent.activate();
        }
        if agent.weights() != before {
            changes += 1;
            before = agent.weights();
        }
    }
    // Down after 1 s, back after 10, 20, 40, ... seconds: nine times in an hour.
    assert_eq!(changes, 17);
}

/// Two agents of one zone, of which one alone has callers, for so many seconds, in the first of which `eks` is dead: all
/// weights there were, one after the other, and how often anything was written.
fn together(
    one: &mut Agent,
    other: &mut Agent,
    seconds: u64,
    dead_for: u64,
) -> (Vec<Vec<(&'static str, u32)>>, usize) {
    one.activate();
    other.live.clone_from(&one.live);
    other.activate();
    let mut writes = 0;
    let mut history = vec![one.weights()];
    for second in 0..seconds {
        let dead: &[&str] = if second < dead_for { &["eks"] } else { &[] };
        for _ in 0..4 {
            if one.quarter(100, dead) {
                one.activate();
                other.live.clone_from(&one.live);
            }
            other.quarter(0, &[]);
        }
        for turn in 0..2 {
            let (agent, with) = if turn == second % 2 {
                (&mut *one, &mut *other)
            } else {
                (&mut *other, &mut *one)
            };
            let before = agent.live.clone();
            agent.activate();
            writes += usize::from(agent.live != before);
            with.live.clone_from(&agent.live);
        }
        one.activate();
        other.activate();
        assert_eq!(one.weights(), other.weights(), "at second {second}");
        if history.last() != Some(&one.weights()) {
            history.push(one.weights());
        }
    }
    (history, writes)
}

/// What one finds the other holds to, and none undoes the other.
#[test]
fn agents_of_a_zone_are_of_one_mind() {
    let plan = plan(&[("vm", None)], 60);
    // However their clocks are.
    for ahead in [0, 120, -120, 86_400] {
        let (mut one, mut other) = (Agent::new(plan.clone()), Agent::new(plan.clone()));
        other.ahead = SignedDuration::from_secs(ahead);
        let (history, writes) = together(&mut one, &mut other, 400, 120);
        let (planned, fallen) = (AS_PLANNED.to_vec(), ALL_TO_VM.to_vec());
        assert_eq!(
            history,
            [planned.clone(), fallen.clone(), planned.clone(), fallen, planned]
        );
        assert!(writes < 10, "{writes} writes");
    }
    // Nor do two of them bring it back more often than one would.
    let (mut one, mut other) = (Agent::new(plan.clone()), Agent::new(plan));
    let (history, _) = together(&mut one, &mut other, 3_600, 3_600);
    assert!(history.len() <= 13, "{} changes in an hour", history.len() - 1);
    // One that forgot all holds to what the policy says (I6).
    let mut third = Agent::new(one.plan.clone());
    third.live.clone_from(&one.live);
    third.now = one.now;
    third.activate();
    assert_eq!(third.live, one.live);
}

/// Two words of one instant: both agents hold to the same one, and neither writes over it again.
#[test]
fn of_two_words_of_one_instant_one_counts() {
    let plan = plan(&[("lab", None), ("vm", None)], 60);
    let (mut one, mut other) = (Agent::new(plan.clone()), Agent::new(plan));
    for agent in [&mut one, &mut other] {
        agent.activate();
        agent.unavailable.insert("eks");
        agent.activate();
    }
    // One of them sees no lab.
    other.unavailable.insert("lab");
    for agent in [&mut one, &mut other] {
        agent.now += Duration::from_secs(2);
        agent.activate();
    }
    assert_ne!(one.weights(), other.weights());
    other.unavailable.remove("lab");
    let mut writes = Vec::new();
    for _ in 0..4 {
        other.live.clone_from(&one.live);
        other.activate();
        one.live.clone_from(&other.live);
        one.activate();
        writes.push(one.label().to_owned());
    }
    assert_eq!(one.weights(), other.weights());
    writes.dedup();
    assert_eq!(writes.len(), 1, "{writes:?}");
}

/// What failed long ago says nothing of now: neither of who is to take a share, nor of who comes back into use.
#[test]
fn old_failures_are_no_evidence() {
    let mut agent = Agent::new(plan(&[("vm", None)], 60));
    agent.activate();
    for _ in 0..28 {
        agent.quarter(100, &["vm"]);
    }
    for _ in 0..4 * 31 {
        agent.quarter(0, &[]);
    }
    for _ in 0..8 {
        *agent.sent.entry(backend("eks")).or_default() += 20;
        *agent.down.entry(backend("eks")).or_default() += 20;
        agent.quarter(0, &[]);
    }
    agent.activate();
    assert_eq!(agent.weights(), ALL_TO_VM);
}

/// A share does not wait on who is dead while the backend that it is of is well.
#[test]
fn a_dead_refuge_is_left() {
    let mut agent = Agent::new(plan(&[("vm", None)], 3_600));
    agent.activate();
    agent.unavailable.insert("eks");
    agent.activate();
    agent.now += Duration::from_secs(2);
    agent.activate();
    assert_eq!(agent.weights(), ALL_TO_VM);
    agent.unavailable = BTreeSet::from(["vm"]);
    agent.now += Duration::from_secs(90);
    agent.activate();
    assert_eq!(agent.weights(), AS_PLANNED);
}

/// A label that nobody of us can have written shuts out no agent.
#[test]
fn a_label_of_somebody_is_no_word() {
    let mut agent = Agent::new(plan(&[("vm", None)], 60));
    agent.activate();
    let eks = &blake3::hash(b"eks").to_hex()[..6];
    let lab = &blake3::hash(b"lab").to_hex()[..6];
    let vm = &blake3::hash(b"vm").to_hex()[..6];
    let now = agent.at().1.as_millisecond() + 5;
    let later = now + 2 * 365 * 86_400_000;
    for label in [
        // in two years, and to a backend that the table does not name
        format!("{eks}{vm}.{later}"),
        format!("{eks}{lab}.{now}"),
        "up".to_owned(),
        "x.y".to_owned(),
        format!("{eks}.1"),
    ] {
        agent.live[0].0.labels.insert(FALLEN.to_owned(), label.clone());
        agent.activate();
        assert_eq!(agent.weights(), AS_PLANNED, "{label}");
    }
}

/// A word from a host whose clock is an hour behind is not an hour old: it is waited for `recover` as if it came now.
#[test]
fn a_clock_that_is_behind_makes_nobody_impatient() {
    let mut one = Agent::new(plan(&[("vm", None)], 60));
    one.ahead = SignedDuration::from_hours(-1);
    let mut other = Agent::new(plan(&[("vm", None)], 60));
    one.activate();
    other.live.clone_from(&one.live);
    other.activate();
    for _ in 0..4 * 120 {
        one.quarter(100, &[]);
        other.quarter(0, &[]);
    }
    other.activate();
    while !one.quarter(100, &["eks"]) {
        other.quarter(0, &[]);
    }
    one.activate();
    assert_eq!(one.weights(), ALL_TO_VM);
    other.live.clone_from(&one.live);
    other.activate();
    assert_eq!(other.weights(), ALL_TO_VM, "it went a moment ago");
}

/// What one agent decided, another one undid and a third decided anew is not as old as the first word of it.
#[test]
fn a_word_that_was_missed_makes_nobody_impatient() {
    let mut one = Agent::new(plan(&[("vm", None)], 10));
    let mut other = Agent::new(plan(&[("vm", None)], 10));
    one.activate();
    other.live.clone_from(&one.live);
    other.activate();
    let down = |one: &mut Agent, other: &mut Agent| {
        while !one.quarter(100, &["eks"]) {
            other.quarter(0, &[]);
        }
        one.activate();
        assert_eq!(one.weights(), ALL_TO_VM);
    };
    down(&mut one, &mut other);
    other.live.clone_from(&one.live);
    other.activate();
    assert_eq!(other.weights(), ALL_TO_VM);
    // It comes back and goes again, while the other agent does not look.
    while one.weights() == ALL_TO_VM {
        one.quarter(100, &[]);
        other.quarter(0, &[]);
        one.activate();
    }
    down(&mut one, &mut other);
    other.live.clone_from(&one.live);
    other.activate();
    assert_eq!(other.weights(), ALL_TO_VM, "it went a moment ago");
}

/// A commit that gives the one that is down more than its refuge can take, once it resolves again, gives it back.
#[test]
fn a_later_commit_gives_no_refuge_more_than_it_can_take() {
    let mut agent = Agent::new(plan(&[("vm", Some(50))], 60));
    let shares = |agent: &mut Agent, eks: u32, lab: u32| {
        let item = agent.plan.items.values_mut().next().unwrap();
        let mut next = Item::clone(item);
        let weights = &mut next.routes[0].weights;
        *weights = BTreeMap::from([(backend("eks"), share(eks)), (backend("lab"), share(lab))]);
        next.digest = item_digest(&next);
        *item = Arc::new(next);
    };
    shares(&mut agent, 40, 60);
    agent.activate();
    while !agent.quarter(100, &["eks"]) {}
    agent.activate();
    assert_eq!(agent.weights(), [("eks", 0), ("lab", 60), ("vm", 40)]);
    shares(&mut agent, 70, 30);
    agent.activate();
    assert_eq!(agent.weights(), [("eks", 70), ("lab", 30), ("vm", 0)]);
}

/// While a new item is held, the one that is in force keeps its own table.
#[test]
fn what_is_in_force_keeps_its_table_while_a_new_item_is_held() {
    let mut agent = Agent::new(plan(&[("vm", None)], 60));
    agent.activate();
    let before = Arc::clone(agent.item());
    agent.unavailable.insert("eks");
    agent.activate();
    agent.now += Duration::from_secs(2);
    agent.activate();
    assert_eq!(agent.weights(), ALL_TO_VM);
    // No fallback any more, and it cannot be applied: `eks` does not resolve.
    let item = agent.plan.items.values_mut().next().unwrap();
    let mut next = Item::clone(item);
    next.fallback.clear();
    next.routes[0].weights = BTreeMap::from([(backend("eks"), share(100))]);
    next.digest = item_digest(&next);
    *item = Arc::new(next);
    let fallen = look(
        &agent.plan,
        &agent.memory,
        (&agent.live, &agent.services()),
        &mut agent.watch.clone(),
        agent.at(),
    );
    agent.memory.fallen = fallen;
    assert_eq!(
        driven(&before, &agent.memory).routes[0].weights[&backend("eks")],
        share(0)
    );
}
