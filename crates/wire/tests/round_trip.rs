//! Whatever a room can say arrives as it was said, and whatever a stranger sends is answered, never with a panic.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use prost::Message as _;
use weir_model::{
    Address, BackendName, Base, BasisPoints, Channel, CommitId, DnsLabel, Door, Entry, FederationName,
    GatewayName, HeaderMatch, Host, Match, MeshName, PathMatch, PortName, Protocol, QueryMatch, RouteName,
    Routing, ServiceName, SourceCommit, SourceName, SplitName, ValueMatch, Via, ZoneName,
};
use weir_planner::{
    CountScope, Counts, Coverage, Destination, Digest, DoorFact, Evidence, Fallback, Fallen, GatewayPlan,
    GatewayRef, Generation, Item, ItemFact, ItemRef, ItemRoute, ItemState, Pin, PlanId, Proof, Refuge,
    SecondWriter, ServiceFact, ServiceState, Verdict, ZoneFacts, ZonePlan, gateway_digest, item_digest,
};
use weir_wire::{AgentReport, Greeting, Held, Holds, agent_report, assemble, plan_update, v1};

fn label() -> impl Strategy<Value = DnsLabel> {
    "[a-z]([a-z0-9-]{0,6}[a-z0-9])?".prop_map(|text| DnsLabel::new(text).unwrap())
}

fn named<T: From<DnsLabel> + std::fmt::Debug>() -> impl Strategy<Value = T> {
    label().prop_map(T::from)
}

fn protocol() -> impl Strategy<Value = Protocol> {
    select(vec![
        Protocol::Http,
        Protocol::Http2,
        Protocol::Grpc,
        Protocol::Tcp,
    ])
}

fn time() -> impl Strategy<Value = Timestamp> {
    (0_i64..4_000_000_000, 0_i32..1_000_000_000).prop_map(|(s, n)| Timestamp::new(s, n).unwrap())
}

fn value() -> impl Strategy<Value = ValueMatch> {
    prop_oneof![
        ".{0,8}".prop_map(ValueMatch::Exact),
        ".{0,8}".prop_map(ValueMatch::Regex)
    ]
}

fn matches() -> impl Strategy<Value = Match> {
    let path = prop_oneof![
        "/.{0,8}".prop_map(PathMatch::Exact),
        "/.{0,8}".prop_map(PathMatch::Prefix),
        ".{0,8}".prop_map(PathMatch::Regex)
    ];
    let headers = vec(
        ("[a-z-]{1,8}", value()).prop_map(|(name, value)| HeaderMatch { name, value }),
        0..3,
    );
    let query = vec(
        (".{1,8}", value()).prop_map(|(name, value)| QueryMatch { name, value }),
        0..3,
    );
    (option::of(path), option::of("[A-Z]{3,6}"), headers, query).prop_map(|(path, method, headers, query)| {
        Match {
            path,
            method,
            headers,
            query,
        }
    })
}

fn weights() -> impl Strategy<Value = BTreeMap<BackendName, BasisPoints>> {
    btree_map(
        named(),
        (0_u32..=10_000).prop_map(|bp| BasisPoints::new(bp).unwrap()),
        0..4,
    )
}

fn destination() -> impl Strategy<Value = Destination> {
    (named(), label(), option::of(label()), named(), 1_u16..).prop_map(
        |(zone, kuma_zone, namespace, service, port)| Destination {
            zone,
            kuma_zone,
            namespace,
            service,
            port,
        },
    )
}

fn port_name() -> impl Strategy<Value = PortName> {
    "[a-z0-9]([a-z0-9-]{0,4}[a-z0-9])?".prop_map(|name| PortName::new(name).unwrap())
}

fn fallback() -> impl Strategy<Value = Fallback> {
    let refuge = (named(), option::of(0_u32..=10_000)).prop_map(|(backend, capacity)| Refuge {
        backend,
        capacity: capacity.map(|capacity| BasisPoints::new(capacity).unwrap()),
    });
    let long = |ms: u32| SignedDuration::from_millis(ms.into());
    (vec(refuge, 1..3), any::<u32>(), any::<u32>()).prop_map(move |(to, after, recover)| Fallback {
        to,
        after: long(after),
        recover: long(recover),
    })
}

fn address() -> impl Strategy<Value = Address> {
    let host = prop_oneof![
        any::<[u8; 4]>().prop_map(|ip| Host::Ip(IpAddr::from(ip))),
        any::<[u8; 16]>().prop_map(|ip| Host::Ip(IpAddr::from(ip))),
        "[a-z][a-z0-9]{0,4}(\\.[a-z][a-z0-9]{0,4}){0,2}".prop_map(Host::Name),
    ];
    (host, 1_u16..).prop_map(|(host, port)| Address { host, port })
}

fn door() -> impl Strategy<Value = Door> {
    let texts = || btree_set(".{0,6}", 0..3);
    let routing = (
        (texts(), texts(), texts(), btree_map(".{0,6}", texts(), 0..3)),
        any::<[bool; 3]>(),
    )
        .prop_map(|((hosts, paths, methods, headers), flags)| {
            let [https_only, strip_path, preserve_host] = flags;
            Entry::Routes(Routing {
                hosts,
                paths,
                methods,
                headers,
                https_only,
                strip_path,
                preserve_host,
            })
        });
    let entry = prop_oneof![routing, ".{1,8}".prop_map(Entry::Service)];
    let addresses = btree_map(named::<BackendName>(), btree_set(address(), 0..3), 0..3);
    let via = prop_oneof![address().prop_map(Via::Mesh), addresses.prop_map(Via::Addresses)];
    (entry, via).prop_map(|(entry, via)| Door { entry, via })
}

fn gateway() -> impl Strategy<Value = GatewayPlan> {
    let channel = select(vec![Channel::AdminDbless, Channel::AdminDb, Channel::Kic]);
    let base = ("[a-z]{1,8}", ".{1,8}", ".{0,20}").prop_map(|(source, file, document)| Base {
        source: SourceName(source),
        file,
        document: document.into(),
    });
    (channel, any::<bool>(), option::of(base), 1_u64..10).prop_map(|(channel, in_mesh, base, generation)| {
        let mut gateway = GatewayPlan {
            channel,
            in_mesh,
            base,
            generation: Generation(generation),
            digest: Digest([0; 32]),
        };
        gateway.digest = gateway_digest(&gateway);
        gateway
    })
}

fn gateway_ref() -> impl Strategy<Value = GatewayRef> {
    (named(), any::<u64>(), any::<[u8; 32]>()).prop_map(|(gateway, generation, digest)| GatewayRef {
        gateway,
        generation: Generation(generation),
        digest: Digest(digest),
    })
}

fn door_fact() -> impl Strategy<Value = DoorFact> {
    (option::of(".{1,8}"), option::of(proof())).prop_map(|(held, proof)| DoorFact { held, proof })
}

/// An item for zone `fra` of mesh `default`, at a generation up to 9.
fn item() -> impl Strategy<Value = Item> {
    let route = (named(), matches(), weights()).prop_map(|(name, matches, weights)| ItemRoute {
        name,
        matches,
        weights,
    });
    (
        named::<SplitName>(),
        (
            named::<ServiceName>(),
            1_u16..,
            protocol(),
            btree_set(port_name(), 0..3),
        ),
        btree_map(named::<BackendName>(), destination(), 0..4),
        btree_set(named::<BackendName>(), 0..3),
        vec(route, 0..4),
        (
            "[0-9a-f]{32}",
            btree_map(named::<BackendName>(), fallback(), 0..3),
            btree_map(named::<GatewayName>(), door(), 0..3),
        ),
        1_u64..10,
        "[0-9a-f]{40}",
    )
        .prop_map(
            |(
                split,
                (service, port, protocol, port_names),
                destinations,
                retiring,
                routes,
                (anchor, fallback, doors),
                generation,
                commit,
            )| {
                let mut item = Item {
                    split,
                    zone: ZoneName::new("fra").unwrap(),
                    kuma_zone: DnsLabel::new("kuma-fra").unwrap(),
                    mesh: MeshName::new("default").unwrap(),
                    service,
                    port,
                    port_names,
                    protocol,
                    destinations,
                    retiring,
                    routes,
                    anchor,
                    fallback,
                    doors,
                    generation: Generation(generation),
                    commit: CommitId(commit),
                    digest: Digest([0; 32]),
                };
                item.digest = item_digest(&item);
                item
            },
        )
}

fn zone_plan() -> impl Strategy<Value = ZonePlan> {
    let commit = ("[a-z]{1,8}", "[0-9a-f]{40}").prop_map(|(source, commit)| SourceCommit {
        source: SourceName(source),
        commit: CommitId(commit),
    });
    let gateways = btree_map(named::<GatewayName>(), gateway().prop_map(Arc::new), 0..3);
    (
        vec(item(), 0..5),
        vec(commit, 0..3),
        any::<[u8; 32]>(),
        9_u64..,
        gateways,
    )
        .prop_map(|(items, commits, id, generation, gateways)| ZonePlan {
            federation: FederationName::new("shop").unwrap(),
            zone: ZoneName::new("fra").unwrap(),
            kuma_zone: DnsLabel::new("kuma-fra").unwrap(),
            mesh: MeshName::new("default").unwrap(),
            plan: PlanId(id),
            generation: Generation(generation),
            commits,
            gateways,
            items: items
                .into_iter()
                .map(|item| (item.split.clone(), Arc::new(item)))
                .collect(),
        })
}

fn item_ref() -> impl Strategy<Value = ItemRef> {
    (named(), any::<u64>(), any::<[u8; 32]>()).prop_map(|(split, generation, digest)| ItemRef {
        split,
        generation: Generation(generation),
        digest: Digest(digest),
    })
}

fn state() -> impl Strategy<Value = ItemState> {
    prop_oneof![
        Just(ItemState::Pending),
        ".{0,12}".prop_map(ItemState::Held),
        Just(ItemState::Applied),
        Just(ItemState::Proven),
        ".{0,12}".prop_map(ItemState::Overridden),
        ".{0,12}".prop_map(ItemState::Failed),
    ]
}

fn proof() -> impl Strategy<Value = Proof> {
    let verdict = prop_oneof![
        Just(Verdict::Exact),
        ".{0,12}".prop_map(Verdict::Different),
        ".{0,12}".prop_map(Verdict::Unknown)
    ];
    let evidence = select(vec![
        Evidence::Live,
        Evidence::Sampled,
        Evidence::Acknowledged,
        Evidence::Unknown,
    ]);
    let proven = option::of(btree_map(named::<RouteName>(), weights(), 0..3));
    (verdict, evidence, time(), any::<u32>(), any::<u32>(), proven).prop_map(
        |(verdict, evidence, at, seen, of, weights)| Proof {
            verdict,
            evidence,
            at,
            coverage: Coverage { seen, of },
            weights,
        },
    )
}

fn pin() -> impl Strategy<Value = Pin> {
    let weights = btree_map(named::<RouteName>(), weights(), 0..3);
    (time(), ".{0,8}", ".{0,8}", ".{0,8}", weights).prop_map(|(since, who, host, reason, weights)| Pin {
        since,
        who,
        host,
        reason,
        weights,
    })
}

fn counts() -> impl Strategy<Value = Counts> {
    let backends = btree_map(named::<BackendName>(), any::<(u64, u64, u64)>(), 0..4);
    let scope = select(vec![CountScope::Host, CountScope::Zone]);
    (time(), time(), backends, scope, option::of(any::<u64>())).prop_map(
        |(since, at, backends, scope, open)| Counts {
            scope,
            open,
            since,
            at,
            requests: backends
                .iter()
                .map(|(b, (requests, _, _))| (b.clone(), *requests))
                .collect(),
            failed: backends
                .iter()
                .map(|(b, (_, failed, _))| (b.clone(), *failed))
                .collect(),
            down: backends
                .iter()
                .map(|(b, (_, _, down))| (b.clone(), *down))
                .collect(),
        },
    )
}

fn report() -> impl Strategy<Value = AgentReport> {
    let ports = btree_map(1_u16.., (option::of(protocol()), option::of("[a-z]{1,4}")), 0..3);
    let service_state = select(vec![
        ServiceState::Available,
        ServiceState::Unavailable,
        ServiceState::Unknown,
    ]);
    let service = (named(), label(), option::of(label()), ports, service_state).prop_map(
        |(service, kuma_zone, namespace, ports, state)| ServiceFact {
            service,
            kuma_zone,
            namespace,
            ports: ports.iter().map(|(port, (speaks, _))| (*port, *speaks)).collect(),
            port_names: ports
                .into_iter()
                .filter_map(|(port, (_, name))| Some((port, name?)))
                .collect(),
            state,
        },
    );
    let writer =
        (".{0,8}", ".{0,8}", ".{0,8}", any::<bool>()).prop_map(|(kind, object, origin, overrides)| {
            SecondWriter {
                kind,
                object,
                origin,
                overrides,
            }
        });
    let fact = (
        item_ref(),
        state(),
        option::of(proof()),
        vec(writer, 0..2),
        option::of(counts()),
        option::of(pin()),
        option::of((time(), ".{0,8}", btree_set(named::<BackendName>(), 0..3))),
        btree_map(named::<GatewayName>(), door_fact(), 0..3),
    )
        .prop_map(
            |(item, state, proof, second_writers, counts, pin, fallen, doors)| ItemFact {
                split: item.split,
                generation: item.generation,
                digest: item.digest,
                state,
                proof,
                second_writers,
                counts,
                pin,
                fallback: fallen.map(|(since, why, down)| Fallen { since, down, why }),
                doors,
            },
        );
    (
        time(),
        any::<u64>(),
        option::of(".{1,8}"),
        option::of(".{1,8}"),
        vec(service, 0..3),
        vec(fact, 0..3),
        option::of(any::<[u8; 32]>()),
        any::<u64>(),
        (option::of(".{1,8}"), vec(".{0,8}", 0..3)),
    )
        .prop_map(
            |(at, highest, kuma, unreadable, services, items, plan, generation, (refused, notes))| {
                AgentReport {
                    facts: ZoneFacts {
                        zone: ZoneName::new("fra").unwrap(),
                        at,
                        highest: Generation(highest),
                        kuma,
                        unreadable,
                        services,
                        items,
                    },
                    plan: plan.map(PlanId),
                    generation: Generation(generation),
                    refused,
                    notes,
                }
            },
        )
}

/// Through bytes, as over a network.
fn sent<M: prost::Message + Default>(message: &M) -> M {
    M::decode(message.encode_to_vec().as_slice()).unwrap()
}

proptest! {
    #[test]
    fn a_plan_arrives_whole_whatever_the_agent_already_holds(plan in zone_plan(), which in any::<u32>()) {
        let has = |i: usize| which >> (i % 32) & 1 == 1;
        let mut part = plan.clone();
        part.items = plan.items.iter().enumerate().filter(|(i, _)| has(*i))
            .map(|(_, (name, item))| (name.clone(), Arc::clone(item))).collect();
        part.gateways = plan.gateways.iter().enumerate().filter(|(i, _)| has(*i + 7))
            .map(|(_, (name, gateway))| (name.clone(), Arc::clone(gateway))).collect();
        let held = Held::from(&part);
        let update = sent(&plan_update(&plan, &Holds::from(&part)));
        prop_assert_eq!(update.items.len(), plan.items.len() - held.items.len());
        prop_assert_eq!(update.gateways.len(), plan.gateways.len() - held.gateways.len());
        prop_assert_eq!(assemble(&update, &held).unwrap(), plan);
    }

    #[test]
    fn an_item_changed_on_its_way_is_refused(plan in zone_plan(), port in 1_u32..65_536) {
        let mut update = plan_update(&plan, &Holds::default());
        prop_assume!(update.items.first().is_some_and(|item| item.port != port));
        update.items[0].port = port;
        let error = assemble(&update, &Held::default()).unwrap_err();
        prop_assert!(error.field().ends_with(".digest"), "{}", error);
    }

    /// It decides who carries the weights: turned on its way, the plan is refused.
    #[test]
    fn a_gateway_changed_on_its_way_is_refused(plan in zone_plan()) {
        let mut update = plan_update(&plan, &Holds::default());
        prop_assume!(!update.gateways.is_empty());
        update.gateways[0].in_mesh = !update.gateways[0].in_mesh;
        let error = assemble(&update, &Held::default()).unwrap_err();
        prop_assert!(error.field().ends_with(".digest"), "{}", error);
        update.gateways.clear();
        prop_assert!(assemble(&update, &Held::default()).unwrap_err().to_string().contains("neither sent nor"));
    }

    #[test]
    fn an_item_that_is_neither_sent_nor_held_is_missed(plan in zone_plan()) {
        let mut update = plan_update(&plan, &Holds::default());
        prop_assume!(update.items.pop().is_some());
        prop_assert!(assemble(&update, &Held::default()).unwrap_err().to_string().contains("neither sent nor"));
    }

    #[test]
    fn a_report_arrives_as_it_was_made(report in report()) {
        let message = sent(&v1::Report::from(&report));
        prop_assert_eq!(agent_report(&report.facts.zone, &message).unwrap(), report);
    }

    #[test]
    fn a_greeting_arrives_as_it_was_said(
        federation in named(), zone in named(), agent in label(), version in "[0-9.]{1,9}",
        (highest, generation) in any::<(u64, u64)>(), plan in option::of(any::<[u8; 32]>()),
        items in btree_set(item_ref(), 0..4), gateways in btree_set(gateway_ref(), 0..3),
    ) {
        let greeting = Greeting {
            federation, zone, agent, version, highest: Generation(highest), plan: plan.map(PlanId),
            generation: Generation(generation), holds: Holds { items, gateways },
        };
        prop_assert_eq!(Greeting::try_from(&sent(&v1::Hello::from(&greeting))).unwrap(), greeting);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..400)) {
        let zone = ZoneName::new("fra").unwrap();
        if let Ok(report) = v1::Report::decode(bytes.as_slice()) {
            drop(agent_report(&zone, &report));
        }
        if let Ok(update) = v1::PlanUpdate::decode(bytes.as_slice()) {
            drop(assemble(&update, &Held::default()));
        }
        if let Ok(hello) = v1::Hello::decode(bytes.as_slice()) {
            drop(Greeting::try_from(&hello));
        }
    }

    /// Closer to the truth than random bytes: real messages with a few bytes changed decode more often.
    #[test]
    fn damaged_messages_never_panic(
        report in report(), plan in zone_plan(), damage in vec((any::<usize>(), any::<u8>()), 1..6),
    ) {
        let damaged = |mut bytes: Vec<u8>| {
            for (at, byte) in &damage {
                let length = bytes.len();
                if let Some(slot) = at.checked_rem(length).and_then(|at| bytes.get_mut(at)) {
                    *slot = *byte;
                }
            }
            bytes
        };
        let zone = ZoneName::new("fra").unwrap();
        if let Ok(report) = v1::Report::decode(damaged(v1::Report::from(&report).encode_to_vec()).as_slice()) {
            drop(agent_report(&zone, &report));
        }
        let update = plan_update(&plan, &Holds::default()).encode_to_vec();
        if let Ok(update) = v1::PlanUpdate::decode(damaged(update).as_slice())
            && let Ok(assembled) = assemble(&update, &Held::default())
        {
            // What is taken in spite of the damage has the items of the digests that it names.
            for item in assembled.items.values() {
                prop_assert_eq!(item_digest(item), item.digest);
            }
        }
    }
}

#[test]
fn words_of_a_newer_agent_are_no_evidence() {
    let item = v1::ItemFact {
        split: "checkout".to_owned(),
        digest: vec![0; 32],
        state: "applied".to_owned(),
        proof: Some(v1::Proof {
            verdict: "splendid".to_owned(),
            evidence: "telepathy".to_owned(),
            at: Some(v1::Time { seconds: 1, nanos: 0 }),
            ..v1::Proof::default()
        }),
        ..v1::ItemFact::default()
    };
    let proof = ItemFact::try_from(&item).unwrap().proof.unwrap();
    assert_eq!(proof.evidence, Evidence::Unknown);
    assert!(
        matches!(proof.verdict, Verdict::Unknown(_)),
        "{:?}",
        proof.verdict
    );
    let error = ItemFact::try_from(&v1::ItemFact {
        state: "reticulating".to_owned(),
        ..item
    })
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "unusable message: state: `reticulating` is not a state of an item that this version knows"
    );
}
