//! A policy that takes another's place: the other stays until it is really there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use weir_agent::activation::{Noticed, activate, now};
use weir_agent::conclude::Conclusion;
use weir_agent::take::Memory;
use weir_drivers::{DriverError, Fault, Observed, Outcome, Sighting, ZoneDriver};
use weir_model::{
    BackendName, BasisPoints, CommitId, DnsLabel, FederationName, Match, MeshName, Protocol, RouteName,
    ServiceName, SplitName, ZoneName,
};
use weir_planner::{
    Counts, Destination, Digest, Generation, Item, ItemRoute, ItemState, PlanId, Proof, ServiceFact,
    ServiceState, ZoneFacts, ZonePlan, anchor, item_digest,
};
use weir_render::{Form, Object, Options, Step};

/// A plan of splits of the service `checkout`, one at most for each protocol and port.
fn plan(generation: u64, split: &str, protocol: Protocol) -> ZonePlan {
    let federation = FederationName::new("shop").unwrap();
    let (zone, fra) = (ZoneName::new("fra").unwrap(), DnsLabel::new("fra").unwrap());
    let split = SplitName::new(split).unwrap();
    let service = ServiceName::new("checkout").unwrap();
    let backend = BackendName::new("vm").unwrap();
    let mut item = Item {
        anchor: anchor(&federation, &split),
        split: split.clone(),
        zone: zone.clone(),
        kuma_zone: fra.clone(),
        mesh: MeshName::new("default").unwrap(),
        service: service.clone(),
        port: 8080,
        port_names: [].into(),
        protocol,
        destinations: BTreeMap::from([(
            backend.clone(),
            Destination {
                zone: zone.clone(),
                kuma_zone: fra.clone(),
                namespace: None,
                service,
                port: 8080,
            },
        )]),
        retiring: BTreeSet::new(),
        routes: vec![ItemRoute {
            name: RouteName::new("default").unwrap(),
            matches: Match::default(),
            weights: BTreeMap::from([(backend, BasisPoints::WHOLE)]),
        }],
        fallback: [].into(),
        doors: [].into(),
        generation: Generation(generation),
        commit: CommitId("0123456789abcdef0123456789abcdef01234567".to_owned()),
        digest: Digest([0; 32]),
    };
    item.digest = item_digest(&item);
    ZonePlan {
        federation,
        zone,
        kuma_zone: fra,
        mesh: item.mesh.clone(),
        plan: PlanId([u8::try_from(generation).unwrap(); 32]),
        generation: Generation(generation),
        commits: Vec::new(),
        gateways: [].into(),
        items: BTreeMap::from([(split, Arc::new(item))]),
    }
}

/// What a zone's control plane answers to writes.
#[derive(Clone, Copy, Debug)]
enum Writes {
    Taken,
    Refused,
    NotYet,
    LeftAlone,
}

struct Zone {
    store: Mutex<Vec<Object>>,
    writes: Mutex<Writes>,
}

impl Zone {
    async fn activate(&self, plan: &ZonePlan, memory: &Memory, facts: Option<&ZoneFacts>) -> Conclusion {
        let mut noticed = Noticed::default();
        activate(self, plan, memory, Options::default(), facts, &mut noticed, &now).await
    }

    fn names(&self) -> Vec<String> {
        let store = self.store.lock().unwrap();
        store
            .iter()
            .map(|object| format!("{} {}", object.kind.name(), object.name))
            .collect()
    }
}

impl ZoneDriver for Zone {
    fn pulse(&self) -> BoxFuture<'_, Result<String, DriverError>> {
        async { Ok("one".to_owned()) }.boxed()
    }

    fn observe<'a>(
        &'a self,
        _: &'a MeshName,
        _: &'a [Arc<Item>],
    ) -> BoxFuture<'a, Result<Observed, DriverError>> {
        let service = ServiceFact {
            service: ServiceName::new("checkout").unwrap(),
            kuma_zone: DnsLabel::new("fra").unwrap(),
            namespace: None,
            ports: BTreeMap::from([(8080, Some(Protocol::Http))]),
            port_names: [].into(),
            state: ServiceState::Available,
            way: weir_planner::Way::Unknown,
        };
        let generation = |object: &Object| Generation(object.labels["weir.dev/generation"].parse().unwrap());
        let ours = self.store.lock().unwrap();
        let observed = Observed {
            services: vec![service],
            ours: ours
                .iter()
                .map(|object| (object.clone(), generation(object)))
                .collect(),
            ..Observed::default()
        };
        async { Ok(observed) }.boxed()
    }

    fn apply<'a>(&'a self, step: &'a Step) -> BoxFuture<'a, Result<Outcome, DriverError>> {
        let failed = |why: &str, fault| Err(DriverError::new("PUT", why.to_owned(), fault, String::new()));
        let done = Ok(Outcome::Done { at: Timestamp::now() });
        let mut store = self.store.lock().unwrap();
        let answer = match (step, *self.writes.lock().unwrap()) {
            (Step::Put { object, .. }, Writes::Taken) => {
                store.retain(|is| (is.kind, &is.name) != (object.kind, &object.name));
                store.push(object.clone());
                done
            }
            (Step::Put { .. }, Writes::Refused) => failed("400", Fault::Refused),
            (Step::Put { .. }, Writes::NotYet) => failed("409", Fault::NotYet),
            (Step::Put { .. }, Writes::LeftAlone) => Ok(Outcome::Yielded("somebody newer".to_owned())),
            // Nothing here is introduced or withdrawn: something is in force before and after.
            (Step::Introduce { .. } | Step::Withdraw { .. }, _) => panic!("{step:?}"),
            (Step::Delete { kind, name, .. }, _) => {
                store.retain(|is| (is.kind, &is.name) != (*kind, name));
                done
            }
        };
        async { answer }.boxed()
    }

    fn prove<'a>(&'a self, _: &'a [Arc<Item>]) -> BoxFuture<'a, Vec<Proof>> {
        async { Vec::new() }.boxed()
    }

    fn sight<'a>(&'a self, anchors: &'a [Object]) -> BoxFuture<'a, Vec<Sighting>> {
        let nobody = vec![Sighting::default(); anchors.len()];
        async { nobody }.boxed()
    }

    fn count<'a>(&'a self, _: &'a [Arc<Item>]) -> BoxFuture<'a, Vec<Option<Counts>>> {
        async { Vec::new() }.boxed()
    }
}

#[tokio::test]
async fn what_a_refused_write_was_to_replace_stays() {
    // Another name for the split, and another kind of policy for it.
    let renamed = ("pay", Protocol::Http, "MeshHTTPRoute weir-pay");
    let as_tcp = ("checkout", Protocol::Tcp, "MeshTCPRoute weir-checkout");
    for (split, protocol, after) in [renamed, as_tcp] {
        for refusal in [Writes::Refused, Writes::NotYet, Writes::LeftAlone] {
            let zone = Zone {
                store: Mutex::default(),
                writes: Mutex::new(Writes::Taken),
            };
            let first = plan(1, "checkout", Protocol::Http);
            // As an agent that ran before left it: a policy that is there needs no introduction.
            let Some(item) = first.items.values().next() else {
                panic!("a plan without a split")
            };
            let form = Form::Universal;
            zone.store.lock().unwrap().extend(weir_render::render(
                item,
                &first.federation,
                &form,
                Options::default(),
            ));
            let before = zone.activate(&first, &Memory::default(), None).await;
            assert_eq!(zone.names(), ["MeshHTTPRoute weir-checkout"]);

            *zone.writes.lock().unwrap() = refusal;
            let next = plan(2, split, protocol);
            let facts = Some(&before.facts);
            let conclusion = zone.activate(&next, &before.memory, facts).await;
            assert_eq!(
                zone.names(),
                ["MeshHTTPRoute weir-checkout"],
                "{split} {protocol} {refusal:?}"
            );
            assert!(!conclusion.wrote);
            assert!(conclusion.unsettled, "it is tried again");
            assert!(
                matches!(
                    conclusion.facts.items[0].state,
                    ItemState::Failed(_) | ItemState::Held(_)
                ),
                "{:?}",
                conclusion.facts.items[0].state
            );

            *zone.writes.lock().unwrap() = Writes::Taken;
            zone.activate(&next, &conclusion.memory, facts).await;
            assert_eq!(zone.names(), [after], "{split} {protocol} {refusal:?}");
        }
    }
}
