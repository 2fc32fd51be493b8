//! Values as they may be, for the properties of the protocol.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use weir_model::{
    BackendName, BasisPoints, CommitId, DnsLabel, FederationName, GatewayName, HeaderMatch, Match, MeshName,
    PathMatch, PortName, Protocol, QueryMatch, RouteName, ServiceName, SourceCommit, SourceName, SplitName,
    ValueMatch, ZoneName,
};
use weir_planner::latency::BOUNDS;
use weir_planner::{
    Contested, CountScope, Counts, Coverage, Destination, Digest, Evidence, Fallback, Fallen, Fault,
    Generation, Item, ItemFact, ItemRef, ItemRoute, ItemState, KeptShare, Latency, Pin, PlanId, Proof,
    Refuge, SecondWriter, ServiceFact, ServiceState, Verdict, Way, ZoneFacts, ZonePlan, item_digest,
};
use weir_wire::AgentReport;

use super::doors::*;

pub(crate) fn label() -> impl Strategy<Value = DnsLabel> {
    "[a-z]([a-z0-9-]{0,6}[a-z0-9])?".prop_map(|text| DnsLabel::new(text).unwrap())
}

pub(crate) fn named<T: From<DnsLabel> + std::fmt::Debug>() -> impl Strategy<Value = T> {
    label().prop_map(T::from)
}

pub(crate) fn protocol() -> impl Strategy<Value = Protocol> {
    select(vec![
        Protocol::Http,
        Protocol::Http2,
        Protocol::Grpc,
        Protocol::Tcp,
    ])
}

pub(crate) fn time() -> impl Strategy<Value = Timestamp> {
    (0_i64..4_000_000_000, 0_i32..1_000_000_000).prop_map(|(s, n)| Timestamp::new(s, n).unwrap())
}

pub(crate) fn value() -> impl Strategy<Value = ValueMatch> {
    prop_oneof![
        ".{0,8}".prop_map(ValueMatch::Exact),
        ".{0,8}".prop_map(ValueMatch::Regex)
    ]
}

pub(crate) fn matches() -> impl Strategy<Value = Match> {
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

pub(crate) fn weights() -> impl Strategy<Value = BTreeMap<BackendName, BasisPoints>> {
    btree_map(
        named(),
        (0_u32..=10_000).prop_map(|bp| BasisPoints::new(bp).unwrap()),
        0..4,
    )
}

pub(crate) fn destination() -> impl Strategy<Value = Destination> {
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

pub(crate) fn port_name() -> impl Strategy<Value = PortName> {
    "[a-z0-9]([a-z0-9-]{0,4}[a-z0-9])?".prop_map(|name| PortName::new(name).unwrap())
}

pub(crate) fn fallback() -> impl Strategy<Value = Fallback> {
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

/// An item for zone `fra` of mesh `default`, at a generation up to 9.
pub(crate) fn item() -> impl Strategy<Value = Item> {
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

pub(crate) fn zone_plan() -> impl Strategy<Value = ZonePlan> {
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

pub(crate) fn item_ref() -> impl Strategy<Value = ItemRef> {
    (named(), any::<u64>(), any::<[u8; 32]>()).prop_map(|(split, generation, digest)| ItemRef {
        split,
        generation: Generation(generation),
        digest: Digest(digest),
    })
}

pub(crate) fn state() -> impl Strategy<Value = ItemState> {
    prop_oneof![
        Just(ItemState::Pending),
        ".{0,12}".prop_map(ItemState::Held),
        Just(ItemState::Applied),
        Just(ItemState::Proven),
        ".{0,12}".prop_map(ItemState::Overridden),
        ".{0,12}".prop_map(ItemState::Failed),
    ]
}

pub(crate) fn proof() -> impl Strategy<Value = Proof> {
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
    let coverage = any::<(u32, u32)>().prop_map(|(seen, of)| Coverage { seen, of });
    let unhealthy = btree_set(named::<BackendName>(), 0..3);
    (verdict, evidence, time(), coverage, proven, unhealthy).prop_map(
        |(verdict, evidence, at, coverage, weights, unhealthy)| Proof {
            verdict,
            evidence,
            at,
            coverage,
            weights,
            unhealthy,
        },
    )
}

pub(crate) fn pin() -> impl Strategy<Value = Pin> {
    let weights = btree_map(named::<RouteName>(), weights(), 0..3);
    (time(), ".{0,8}", ".{0,8}", ".{0,8}", weights).prop_map(|(since, who, host, reason, weights)| Pin {
        since,
        who,
        host,
        reason,
        weights,
    })
}

pub(crate) fn counts() -> impl Strategy<Value = Counts> {
    let latency = option::of(any::<[u64; BOUNDS.len()]>().prop_map(Latency));
    let backends = btree_map(named::<BackendName>(), (any::<(u64, u64, u64)>(), latency), 0..4);
    let scope = select(vec![CountScope::Host, CountScope::Zone]);
    (time(), time(), backends, scope, option::of(any::<u64>())).prop_map(
        |(since, at, backends, scope, open)| {
            let of = |part: fn(&(u64, u64, u64)) -> u64| {
                let all = backends.iter();
                all.map(|(backend, (counts, _))| (backend.clone(), part(counts)))
                    .collect()
            };
            Counts {
                scope,
                open,
                since,
                at,
                requests: of(|(requests, _, _)| *requests),
                failed: of(|(_, failed, _)| *failed),
                down: of(|(_, _, down)| *down),
                latency: backends
                    .iter()
                    .filter_map(|(backend, (_, latency))| Some((backend.clone(), (*latency)?)))
                    .collect(),
            }
        },
    )
}

pub(crate) fn report() -> impl Strategy<Value = AgentReport> {
    let ports = btree_map(1_u16.., (option::of(protocol()), option::of("[a-z]{1,4}")), 0..3);
    let service_state = select(vec![
        ServiceState::Available,
        ServiceState::Unavailable,
        ServiceState::Unknown,
    ]);
    let way = select(vec![Way::Unknown, Way::Open, Way::NoIngress, Way::NotAdvertised]);
    let service = (named(), label(), option::of(label()), ports, service_state, way).prop_map(
        |(service, kuma_zone, namespace, ports, state, way)| ServiceFact {
            service,
            kuma_zone,
            namespace,
            ports: ports.iter().map(|(port, (speaks, _))| (*port, *speaks)).collect(),
            port_names: ports
                .into_iter()
                .filter_map(|(port, (_, name))| Some((port, name?)))
                .collect(),
            state,
            way,
        },
    );
    let fault = select(vec![
        Fault::Away,
        Fault::NotYet,
        Fault::MeshGone,
        Fault::Refused,
        Fault::Setup,
        Fault::Unknown,
    ]);
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
        (
            option::of((".{0,8}", any::<u32>(), time())),
            btree_set(named::<BackendName>(), 0..3),
            btree_map(named::<BackendName>(), (0_u32..=10_000, ".{0,8}", ".{0,8}"), 0..3),
        ),
    )
        .prop_map(
            |(
                item,
                state,
                proof,
                second_writers,
                counts,
                pin,
                fallen,
                doors,
                (fought, vanished, failing),
            )| ItemFact {
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
                contested: fought.map(|(object, rewrites, since)| Contested {
                    object,
                    rewrites,
                    since,
                }),
                vanished,
                failing: failing
                    .into_iter()
                    .map(|(backend, (share, why, help))| {
                        let share = BasisPoints::new(share).unwrap();
                        (backend, KeptShare { share, why, help })
                    })
                    .collect(),
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
        (
            option::of(".{1,8}"),
            vec(".{0,8}", 0..3),
            option::of(fault),
            option::of(".{1,8}"),
        ),
    )
        .prop_map(
            |(
                at,
                highest,
                kuma,
                unreadable,
                services,
                items,
                plan,
                generation,
                (refused, notes, fault, store),
            )| {
                AgentReport {
                    facts: ZoneFacts {
                        zone: ZoneName::new("fra").unwrap(),
                        at,
                        highest: Generation(highest),
                        kuma,
                        unreadable,
                        fault,
                        store,
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
