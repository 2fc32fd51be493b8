//! Tests of what is worth recording and telling.

use weir_model::{BackendName, BasisPoints, GatewayName};
use weir_planner::{
    Contested, CountScope, Counts, Coverage, Digest, DoorFact, Evidence, Fallen, Fault, ItemRef, ItemState,
    KeptShare, Pin, Proof, Verdict, ZoneFacts,
};

use weir_wire::Term;

use super::*;

/// One agent that says this.
fn fleet(fact: ItemFact, heard: Timestamp) -> Fleet {
    let agent = Agent {
        connected: true,
        heard_at: Some(heard),
        looked_at: Some(heard),
        version: String::new(),
        generation: Generation(3),
        highest: Generation(3),
        certificate_expires: None,
        kuma: None,
        unreadable: None,
        fault: None,
        store: None,
        refused: None,
        notes: Vec::new(),
        items: BTreeMap::from([(fact.split.clone(), fact)]),
        marks: BTreeMap::new(),
        services: Vec::new(),
    };
    let agents = BTreeMap::from([("fra-1".to_owned(), agent)]);
    Fleet {
        zones: BTreeMap::from([(ZoneName::new("fra").unwrap(), agents)]),
    }
}

#[test]
fn a_pin_and_its_end_are_each_told_once() {
    let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
    let pin = |second| Pin {
        since: at(second),
        who: "alice".to_owned(),
        host: "vm-1".to_owned(),
        reason: "ams is dark".to_owned(),
        weights: BTreeMap::new(),
    };
    let mut recorded = Recorded::default();
    let mut told = |pin: Option<Pin>| {
        let fact = ItemFact { pin, ..plain() };
        let fleet = self::fleet(fact, at(0));
        let mut news = News::default();
        news.agents(&fleet, &mut recorded, at(0));
        // That it is recorded again means that the ledger has it.
        let events = news.events.iter().filter(|event| event.kind.starts_with("zone."));
        (
            news.items.len(),
            events.map(|event| event.kind).collect::<Vec<_>>(),
        )
    };
    assert_eq!(told(None), (1, vec![]));
    assert_eq!(told(Some(pin(1))), (1, vec!["zone.pinned"]));
    assert_eq!(told(Some(pin(1))), (0, vec![]));
    assert_eq!(told(Some(pin(2))), (1, vec!["zone.pinned"]), "pinned anew");
    assert_eq!(told(None), (1, vec!["zone.unpinned"]));
    assert_eq!(told(None), (0, vec![]));
}

/// A gateway is read every few seconds, for as long as it lives: only what it says is worth a row, not that it says it again.
#[test]
fn a_gateway_that_says_the_same_again_is_not_recorded_again() {
    let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
    let mut recorded = Recorded::default();
    let mut rows = |second, verdict| {
        let proof = Proof {
            verdict,
            evidence: Evidence::Live,
            at: at(second),
            coverage: Coverage { seen: 1, of: 1 },
            weights: None,
            unhealthy: std::collections::BTreeSet::new(),
        };
        let door = DoorFact {
            held: None,
            counting: None,
            dead: BTreeMap::new(),
            proof: Some(proof.clone()),
        };
        let fact = ItemFact {
            proof: Some(proof),
            doors: BTreeMap::from([(GatewayName::new("edge").unwrap(), door)]),
            ..plain()
        };
        let fleet = self::fleet(fact, at(second));
        let mut news = News::default();
        news.agents(&fleet, &mut recorded, at(second));
        news.items.len()
    };
    assert_eq!(rows(0, Verdict::Exact), 1);
    assert_eq!(rows(5, Verdict::Exact), 0);
    assert_eq!(rows(10, Verdict::Different("old".to_owned())), 1);
}

fn zone(name: &str) -> ZoneName {
    ZoneName::new(name).unwrap()
}

fn plain() -> ItemFact {
    ItemFact::new(
        ItemRef {
            split: SplitName::new("checkout").unwrap(),
            generation: Generation(3),
            digest: Digest([0; 32]),
        },
        ItemState::Proven,
    )
}

/// Each zone with an agent that says the same, changed for one.
fn federation(zones: &[&str], change: impl Fn(&str, &mut Agent)) -> Fleet {
    let mut all = Fleet::default();
    for name in zones {
        let mut one = fleet(plain(), Timestamp::UNIX_EPOCH);
        let mut agents = one.zones.remove(&zone("fra")).unwrap();
        for agent in agents.values_mut() {
            change(name, agent);
        }
        all.zones.insert(zone(name), agents);
    }
    all
}

/// What is told at each of these looks: the second, and who says what by then.
type Looks<'a> = &'a [(i64, &'a dyn Fn(&str, &mut Agent))];

fn told(looks: Looks<'_>) -> Vec<(i64, &'static str, Option<String>, String)> {
    let mut alarms = Alarms::default();
    let mut all = Vec::new();
    for (second, change) in looks {
        let fleet = federation(&["ams", "fra", "oslo"], change);
        let now = Timestamp::from_second(1_800_000_000 + second).unwrap();
        for event in alarms.look(&fleet, None, now) {
            let zone = event.zone.as_ref().map(ToString::to_string);
            all.push((*second, event.kind, zone, event.message.clone()));
        }
    }
    all
}

fn short<'a>(all: &'a [(i64, &'static str, Option<String>, String)]) -> Vec<(i64, &'static str, &'a str)> {
    all.iter()
        .map(|(at, kind, zone, _)| (*at, *kind, zone.as_deref().unwrap_or("")))
        .collect()
}

#[test]
fn a_fight_is_told_once_and_so_is_its_end() {
    let fights = |rewrites: u32| {
        move |zone: &str, agent: &mut Agent| {
            if zone == "fra" {
                for fact in agent.items.values_mut() {
                    fact.contested = Some(Contested {
                        object: "MeshHTTPRoute weir-checkout".to_owned(),
                        rewrites,
                        since: Timestamp::UNIX_EPOCH,
                    });
                }
            }
        }
    };
    let nobody = |_: &str, _: &mut Agent| {};
    let all = told(&[
        (0, &nobody),
        (1, &fights(5)),
        (2, &fights(5)),
        (700, &fights(6)),
        (9_000, &nobody),
        (9_001, &nobody),
    ]);
    assert_eq!(
        short(&all),
        [(1, "zone.contested", "fra"), (9_000, "zone.uncontested", "fra")]
    );
    assert!(
        all[0].3.contains("MeshHTTPRoute weir-checkout") && all[0].3.contains("put it back 5 times"),
        "{}",
        all[0].3
    );
}

#[test]
fn a_mesh_that_is_gone_is_told_once_for_each_zone_and_not_at_a_start() {
    let lacks = |zones: &'static [&'static str]| {
        move |zone: &str, agent: &mut Agent| {
            if zones.contains(&zone) {
                agent.fault = Some(Fault::MeshGone);
                agent.unreadable = Some("GET meshes/default: gone; make it on the global one".to_owned());
            }
        }
    };
    let away = |zone: &str, agent: &mut Agent| {
        if zone != "oslo" {
            agent.fault = Some(Fault::Away);
            agent.unreadable = Some("refused".to_owned());
        }
    };
    let silent = |_: &str, agent: &mut Agent| agent.connected = false;
    let all = told(&[
        (0, &lacks(&["oslo"])),
        (1, &lacks(&[])),
        (10, &lacks(&["ams", "fra"])),
        (12, &lacks(&["ams", "fra"])),
        (13, &lacks(&["ams", "fra"])),
        (14, &lacks(&["ams", "fra"])),
        // Its control plane goes away, or its agent: that tells nothing of the mesh.
        (20, &away),
        (21, &silent),
        (30, &lacks(&["ams"])),
        (40, &lacks(&[])),
        (41, &lacks(&[])),
    ]);
    assert_eq!(
        short(&all),
        [
            (13, "mesh.gone", "ams"),
            (13, "mesh.gone", "fra"),
            (30, "mesh.back", "fra"),
            (40, "mesh.back", "ams"),
        ]
    );
    assert!(all[0].3.contains("make it on the global one"), "{}", all[0].3);
}

#[test]
fn a_service_that_vanishes_from_several_zones_is_one_event() {
    let misses = |zones: &'static [&'static str]| {
        move |zone: &str, agent: &mut Agent| {
            if zones.contains(&zone) {
                for fact in agent.items.values_mut() {
                    fact.vanished = [BackendName::new("cloud").unwrap()].into();
                }
            }
        }
    };
    let all = told(&[
        (0, &misses(&["fra"])),
        (2, &misses(&["ams", "fra"])),
        // Back in one of them before it was told: it was in both.
        (3, &misses(&["ams"])),
        (4, &misses(&["ams"])),
        (60, &misses(&["ams", "oslo"])),
        (90, &misses(&[])),
        (91, &misses(&[])),
        // So short that nobody misses it when it is told: told all the same, and that it is over.
        (100, &misses(&["fra"])),
        (101, &misses(&[])),
        (104, &misses(&[])),
        (105, &misses(&[])),
    ]);
    assert_eq!(
        short(&all),
        [
            (4, "service.vanished", ""),
            (90, "service.back", ""),
            (104, "service.vanished", ""),
            (104, "service.back", ""),
        ]
    );
    assert!(
        all[0].3.contains("backend cloud of split checkout")
            && all[0].3.contains("control planes of ams, fra:"),
        "{}",
        all[0].3
    );
}

/// `cloud` is down and keeps its share, by so many requests that found nobody.
fn keeps(fact: &mut ItemFact, requests: u32) {
    let kept = KeptShare {
        share: BasisPoints::new(8_000).unwrap(),
        why: format!("{requests} of {requests} requests found nobody there; no fallback is declared for it"),
        help: "Take its weight away in Git".to_owned(),
    };
    fact.failing = [(BackendName::new("cloud").unwrap(), kept)].into();
}

#[test]
fn a_backend_that_is_down_and_keeps_its_share_is_one_event_and_over_only_when_it_has_been_for_a_while() {
    let down = |zones: &'static [&'static str]| {
        move |zone: &str, agent: &mut Agent| {
            if zones.contains(&zone) {
                agent.items.values_mut().for_each(|fact| keeps(fact, 12));
            }
        }
    };
    let silent = |zone: &str, agent: &mut Agent| {
        agent.connected = false;
        down(&["fra"])(zone, agent);
    };
    let all = told(&[
        (0, &down(&["fra"])),
        (2, &down(&["ams", "fra"])),
        (4, &down(&["ams", "fra"])),
        (5, &down(&["ams", "fra"])),
        // An agent that starts anew has to see it again; where few ask, it is seen only now and then.
        (20, &down(&[])),
        (50, &down(&["fra"])),
        (60, &down(&[])),
        (109, &down(&["fra"])),
        // Who joins later is told of as well; who is silent has not said that it is over.
        (120, &down(&["fra", "oslo"])),
        (124, &down(&["fra"])),
        (200, &silent),
        (1_000, &silent),
        (1_001, &down(&[])),
        (1_059, &down(&[])),
        (1_060, &down(&[])),
        (1_061, &down(&[])),
        // So short that it is over when it is told.
        (2_000, &down(&["fra"])),
        (2_001, &down(&[])),
        (2_004, &down(&[])),
        (2_060, &down(&[])),
    ]);
    assert_eq!(
        short(&all),
        [
            (4, "backend.down", ""),
            (124, "backend.down", ""),
            (1_060, "backend.up", ""),
            (2_004, "backend.down", ""),
            (2_060, "backend.up", ""),
        ]
    );
    assert_eq!(
        all[0].3,
        "backend cloud of split checkout is down and keeps its share, in ams 80 % (12 of 12 requests found nobody there; no \
         fallback is declared for it), in fra 80 % (12 of 12 requests found nobody there; no fallback is declared for it): \
         requests fail there until somebody changes that. Take its weight away in Git"
    );
    assert!(
        all[1].3.contains("in oslo 80 %") && !all[1].3.contains("in fra"),
        "{}",
        all[1].3
    );
    assert!(
        all[2].3.contains("nobody has found it down in ams, fra, oslo"),
        "{}",
        all[2].3
    );
}

/// That nobody finds it down where nobody is sent to it does not say that it is up.
#[test]
fn a_backend_whose_share_was_taken_away_is_not_said_to_be_up() {
    type Change = Box<dyn Fn(&str, &mut Agent)>;
    let backend = || BackendName::new("cloud").unwrap();
    let of = |change: fn(&mut ItemFact)| -> Change {
        Box::new(move |zone, agent| {
            if zone == "fra" {
                agent.items.values_mut().for_each(change);
            }
        })
    };
    let cases = [
        of(|fact| fact.vanished = [BackendName::new("cloud").unwrap()].into()),
        of(|fact| {
            fact.fallback = Some(Fallen {
                since: Timestamp::UNIX_EPOCH,
                down: [BackendName::new("cloud").unwrap()].into(),
                why: String::new(),
            });
        }),
        of(|fact| {
            fact.pin = Some(Pin {
                since: Timestamp::UNIX_EPOCH,
                who: "alice".to_owned(),
                host: "vm-1".to_owned(),
                reason: "cloud is dead".to_owned(),
                weights: BTreeMap::new(),
            });
        }),
        Box::new(|zone: &str, agent: &mut Agent| {
            if zone == "fra" {
                agent.items.clear();
            }
        }),
    ];
    let down: Change = of(|fact| keeps(fact, 12));
    for (case, after) in cases.iter().enumerate() {
        let all = told(&[(0, &*down), (4, &*down), (5, &**after), (64, &**after)]);
        let over = all.last().unwrap();
        assert_eq!((over.0, over.1), (64, "backend.relieved"), "case {case}: {all:?}");
        assert!(
            over.3.contains("no share any more in fra") && over.3.contains(backend().as_str()),
            "{}",
            over.3
        );
    }
}

/// The figures in what an agent says of it change with each look.
#[test]
fn a_backend_that_is_down_is_recorded_once() {
    let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
    let mut recorded = Recorded::default();
    let mut rows = |second, requests: Option<u32>| {
        let mut fact = plain();
        requests
            .into_iter()
            .for_each(|requests| keeps(&mut fact, requests));
        let mut news = News::default();
        news.agents(&self::fleet(fact, at(second)), &mut recorded, at(second));
        news.items.len()
    };
    assert_eq!(rows(0, None), 1);
    assert_eq!(rows(1, Some(12)), 1);
    assert_eq!(rows(2, Some(24)), 0);
    assert_eq!(rows(3, None), 1);
}

/// What was going on when the coordinator last ran was told then.
#[test]
fn what_is_recalled_is_not_told_again() {
    let fleet = federation(&["fra"], |_, agent| {
        for fact in agent.items.values_mut() {
            fact.vanished = [BackendName::new("cloud").unwrap()].into();
            fact.contested = Some(Contested {
                object: "MeshHTTPRoute weir-checkout".to_owned(),
                rewrites: 5,
                since: Timestamp::UNIX_EPOCH,
            });
            keeps(fact, 12);
        }
    });
    let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
    let mut alarms = Alarms::known(&fleet, at(0));
    for second in [1, 10, 100] {
        assert_eq!(alarms.look(&fleet, None, at(second)).len(), 0);
    }
}

/// After a restart an agent connects before it reports. What is recalled of its counts is from before the restart, and other
/// weights may have been in force since: only what it says itself begins a count that a step is judged by.
#[test]
fn what_is_recalled_begins_no_count() {
    let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
    let vm = BackendName::new("vm").unwrap();
    let counted = |second, requests| {
        let mut fact = plain();
        fact.proof = Some(Proof {
            verdict: Verdict::Exact,
            evidence: Evidence::Live,
            at: at(second),
            coverage: Coverage { seen: 1, of: 1 },
            weights: None,
            unhealthy: std::collections::BTreeSet::new(),
        });
        fact.counts = Some(Counts {
            since: at(0),
            at: at(second),
            requests: BTreeMap::from([(vm.clone(), requests)]),
            failed: BTreeMap::new(),
            down: BTreeMap::new(),
            latency: BTreeMap::new(),
            open: None,
            scope: CountScope::Zone,
        });
        fact
    };
    let mut view = AgentView {
        connected: Some(at(90)),
        address: ([127, 0, 0, 1], 1).into(),
        version: String::new(),
        heard: at(90),
        certificate_expires: at(9_000),
        highest: Generation(3),
        plan: None,
        generation: Generation(3),
        facts: None,
        looked: None,
        refused: None,
        notes: Vec::new(),
        told: Term::default(),
    };
    let recalled = fleet(counted(10, 100), at(10))
        .zones
        .remove(&zone("fra"))
        .unwrap()
        .remove("fra-1")
        .unwrap();
    let connected = agent(&view, Some(&recalled));
    assert_eq!(connected.marks, BTreeMap::new());
    assert_eq!(connected.items, recalled.items);
    view.facts = Some(Arc::new(ZoneFacts {
        zone: zone("fra"),
        at: at(91),
        highest: Generation(3),
        kuma: None,
        unreadable: None,
        fault: None,
        store: None,
        services: Vec::new(),
        items: vec![counted(91, 9_000)],
    }));
    let said = agent(&view, Some(&connected));
    let counts = said.items[&plain().split].counts.as_ref().unwrap();
    let since = counting::since(said.marks.get(&plain().split), counts);
    assert_eq!((since.since, since.requests[&vm]), (at(91), 0));
    // And a session that is lost and opened again keeps the mark of what was said.
    view.facts = None;
    assert_eq!(agent(&view, Some(&said)).marks, said.marks);
}
