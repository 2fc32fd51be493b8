//! Doors and gateways that a plan or a report may have, drawn.

use std::net::IpAddr;

use proptest::collection::{btree_map, btree_set};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use weir_model::{
    Address, BackendName, Base, Channel, Door, Entry, Host, ParentRef, Redirect, Routing, SourceName, Via,
};
use weir_planner::{Digest, DoorCounting, DoorFact, GatewayPlan, GatewayRef, Generation, gateway_digest};

use super::made::*;

pub(crate) fn address() -> impl Strategy<Value = Address> {
    let host = prop_oneof![
        any::<[u8; 4]>().prop_map(|ip| Host::Ip(IpAddr::from(ip))),
        any::<[u8; 16]>().prop_map(|ip| Host::Ip(IpAddr::from(ip))),
        "[a-z][a-z0-9]{0,4}(\\.[a-z][a-z0-9]{0,4}){0,2}".prop_map(Host::Name),
    ];
    (host, 1_u16..).prop_map(|(host, port)| Address { host, port })
}

pub(crate) fn door() -> impl Strategy<Value = Door> {
    let texts = || btree_set(".{0,6}", 0..3);
    let routing = (
        (texts(), texts(), texts(), btree_map(".{0,6}", texts(), 0..3)),
        any::<[bool; 3]>(),
        texts(),
        0..Redirect::ALL.len(),
    )
        .prop_map(|((hosts, paths, methods, headers), flags, snis, redirect)| {
            let [https_only, strip_path, preserve_host] = flags;
            let https_redirect = Redirect::ALL[redirect];
            Entry::Routes(Routing {
                hosts,
                paths,
                methods,
                headers,
                snis,
                https_only,
                https_redirect,
                strip_path,
                preserve_host,
            })
        });
    let entry = prop_oneof![
        routing,
        ".{1,8}".prop_map(Entry::Service),
        ".{1,8}".prop_map(Entry::HttpRoute)
    ];
    let addresses = btree_map(named::<BackendName>(), btree_set(address(), 0..3), 0..3);
    let via = prop_oneof![address().prop_map(Via::Mesh), addresses.prop_map(Via::Addresses)];
    (entry, via).prop_map(|(entry, via)| Door { entry, via })
}

pub(crate) fn gateway() -> impl Strategy<Value = GatewayPlan> {
    let channel = select(vec![Channel::AdminDbless, Channel::AdminDb, Channel::Kic]);
    let base = ("[a-z]{1,8}", ".{1,8}", ".{0,20}").prop_map(|(source, file, document)| Base {
        source: SourceName(source),
        file,
        document: document.into(),
    });
    let parent = (label(), label(), option::of(label())).prop_map(|(namespace, name, section)| ParentRef {
        namespace,
        name,
        section,
    });
    let of = (
        channel,
        any::<bool>(),
        option::of(base),
        option::of(parent),
        1_u64..10,
    );
    of.prop_map(|(channel, in_mesh, base, parent, generation)| {
        let mut gateway = GatewayPlan {
            channel,
            in_mesh,
            base,
            parent,
            generation: Generation(generation),
            digest: Digest([0; 32]),
        };
        gateway.digest = gateway_digest(&gateway);
        gateway
    })
}

pub(crate) fn gateway_ref() -> impl Strategy<Value = GatewayRef> {
    (named(), any::<u64>(), any::<[u8; 32]>()).prop_map(|(gateway, generation, digest)| GatewayRef {
        gateway,
        generation: Generation(generation),
        digest: Digest(digest),
    })
}

pub(crate) fn door_fact() -> impl Strategy<Value = DoorFact> {
    let counted = (counts(), any::<u64>());
    let counted = counted.prop_map(|(counts, unplaced)| DoorCounting::Counted { counts, unplaced });
    let counting = counted
        .boxed()
        .prop_union(".{1,8}".prop_map(DoorCounting::Not).boxed());
    let dead = btree_map(named::<BackendName>(), ".{0,8}", 0..3);
    (
        option::of(".{1,8}"),
        option::of(proof()),
        dead,
        option::of(counting),
    )
        .prop_map(|(held, proof, dead, counting)| DoorFact {
            held,
            proof,
            dead,
            counting,
        })
}
