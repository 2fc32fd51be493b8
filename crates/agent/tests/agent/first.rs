//! What a zone asks of a split before its policy comes for the first time, and no more once it is in force: that it takes
//! along no callers that it does not name, and that no port goes by another's name. Values alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::time::Instant;
use weir_agent::anchors::Anchors;
use weir_agent::decide::{Decision, decide};
use weir_agent::take::Memory;
use weir_drivers::Observed;
use weir_model::{
    BackendName, BasisPoints, CommitId, DnsLabel, FederationName, Match, MeshName, PortName, Protocol,
    RouteName, ServiceName, SplitName, ZoneName,
};
use weir_planner::{
    Destination, Digest, Generation, Item, ItemRoute, PlanId, ServiceFact, ServiceState, ZonePlan, anchor,
    item_digest,
};
use weir_render::{Form, Object, Options, introduction, render};

pub(crate) fn federation() -> FederationName {
    FederationName::new("shop").unwrap()
}

/// All of the service `checkout` to a cluster's namespace `shop`.
pub(crate) fn item(generation: u64, names: &[&str], change: impl FnOnce(&mut Item)) -> Arc<Item> {
    let (split, service) = (
        SplitName::new("checkout").unwrap(),
        ServiceName::new("checkout").unwrap(),
    );
    let backend = BackendName::new("eks").unwrap();
    let destination = Destination {
        zone: ZoneName::new("eks-use1").unwrap(),
        kuma_zone: DnsLabel::new("use1").unwrap(),
        namespace: Some(DnsLabel::new("shop").unwrap()),
        service: service.clone(),
        port: 8080,
    };
    let mut item = Item {
        anchor: anchor(&federation(), &split),
        split,
        zone: ZoneName::new("eks-use1").unwrap(),
        kuma_zone: DnsLabel::new("use1").unwrap(),
        mesh: MeshName::new("default").unwrap(),
        service,
        port: 8080,
        port_names: names.iter().map(|name| PortName::new(*name).unwrap()).collect(),
        protocol: Protocol::Http,
        destinations: BTreeMap::from([(backend.clone(), destination)]),
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
    change(&mut item);
    item.digest = item_digest(&item);
    Arc::new(item)
}

/// A backend with no weight: somebody named it.
fn named(zone: &str, namespace: Option<&str>) -> impl FnOnce(&mut Item) {
    let to = Destination {
        zone: ZoneName::new("other").unwrap(),
        kuma_zone: DnsLabel::new(zone).unwrap(),
        namespace: namespace.map(|name| DnsLabel::new(name).unwrap()),
        service: ServiceName::new("checkout").unwrap(),
        port: 8080,
    };
    |item| {
        let backend = BackendName::new("named").unwrap();
        item.routes[0]
            .weights
            .insert(backend.clone(), BasisPoints::default());
        item.destinations.insert(backend, to);
    }
}

pub(crate) fn service(zone: &str, namespace: Option<&str>) -> ServiceFact {
    ServiceFact {
        service: ServiceName::new("checkout").unwrap(),
        kuma_zone: DnsLabel::new(zone).unwrap(),
        namespace: namespace.map(|name| DnsLabel::new(name).unwrap()),
        ports: BTreeMap::from([(8080, Some(Protocol::Http))]),
        port_names: BTreeMap::new(),
        state: ServiceState::Available,
        way: weir_planner::Way::Unknown,
    }
}

fn decided(
    item: &Arc<Item>,
    services: &[ServiceFact],
    live: &[Object],
    before: Option<&Arc<Item>>,
) -> Decision {
    let plan = ZonePlan {
        federation: federation(),
        zone: item.zone.clone(),
        kuma_zone: item.kuma_zone.clone(),
        mesh: item.mesh.clone(),
        plan: PlanId([1; 32]),
        generation: item.generation,
        commits: Vec::new(),
        gateways: [].into(),
        items: BTreeMap::from([(item.split.clone(), Arc::clone(item))]),
    };
    let memory = Memory {
        highest: item.generation,
        applied: before
            .map(|before| (before.split.clone(), Arc::clone(before)))
            .into_iter()
            .collect(),
        ..Memory::default()
    };
    let mut all = vec![service("use1", Some("shop"))];
    all.extend_from_slice(services);
    let observed = Observed {
        services: all,
        ours: live
            .iter()
            .map(|object| (object.clone(), Generation(1)))
            .collect(),
        ..Observed::default()
    };
    let (options, anchors) = (Options::default(), Anchors::default());
    decide(&plan, &memory, &observed, options, &anchors, Instant::now())
}

fn held(decision: &Decision) -> Option<&str> {
    decision.held.values().next().map(String::as_str)
}

pub(crate) fn objects(item: &Item) -> Vec<Object> {
    render(item, &federation(), &Form::Universal, Options::default())
}

#[test]
fn a_first_policy_takes_along_no_callers_that_the_split_does_not_name() {
    let plain = item(2, &[], |_| {});
    assert_eq!(
        decided(&plain, &[], &[], None).introduced.len(),
        1,
        "nobody else has the name"
    );
    for (other, place) in [
        (
            service("use1", Some("staging")),
            "Kuma zone use1, namespace staging",
        ),
        (service("use1", None), "Kuma zone use1"),
        (service("ams", None), "Kuma zone ams"),
        (service("use2", Some("shop")), "Kuma zone use2, namespace shop"),
    ] {
        let decision = decided(&plain, std::slice::from_ref(&other), &[], None);
        let why = held(&decision).unwrap_or_default();
        assert!(
            why.contains(&format!("MeshService checkout of {place},")),
            "{why}"
        );
        assert!(
            decision.steps.is_empty() && decision.introduced.is_empty(),
            "{decision:?}"
        );
        // Whoever names it has thought of its callers.
        let namespace = other.namespace.as_ref().map(|name| name.as_str());
        let named = item(2, &[], named(other.kuma_zone.as_str(), namespace));
        assert_eq!(
            held(&decided(&named, std::slice::from_ref(&other), &[], None)),
            None,
            "{place}"
        );
    }
}

/// Kuma does not split the callers of these, so nobody is asked about them.
#[test]
fn what_kuma_does_not_split_holds_nothing() {
    let plain = item(2, &[], |_| {});
    let with = |change: fn(&mut ServiceFact)| {
        let mut other = service("ams", None);
        change(&mut other);
        held(&decided(&plain, &[other], &[], None)).map(str::to_owned)
    };
    assert_eq!(
        with(|other| other.service = ServiceName::new("cart").unwrap()),
        None
    );
    assert_eq!(
        with(|other| other.ports = BTreeMap::from([(9090, Some(Protocol::Http))])),
        None
    );
    assert_eq!(
        with(|other| other.ports = BTreeMap::from([(8080, Some(Protocol::Tcp))])),
        None
    );
    assert_eq!(
        with(|other| other.port_names = BTreeMap::from([(8080, "web".to_owned())])),
        None
    );
    assert!(
        with(|other| other.state = ServiceState::Unavailable).is_some(),
        "it has callers"
    );
    let names = item(2, &["web"], |_| {});
    let mut other = service("ams", None);
    other.port_names = BTreeMap::from([(8080, "web".to_owned())]);
    assert!(held(&decided(&names, &[other], &[], None)).is_some());
}

/// Its callers are split already: to hold a change or a revert would give nobody anything back. At the end of a migration
/// the service that was moved away has the name and is no backend any more.
#[test]
fn what_is_in_force_is_not_held_for_it() {
    let (before, next) = (item(1, &[], named("ams", None)), item(2, &[], |_| {}));
    let other = [service("ams", None)];
    let whole = objects(&before);
    assert_eq!(
        held(&decided(&next, &other, &[], Some(&before))),
        None,
        "this agent remembers"
    );
    assert_eq!(
        held(&decided(&next, &other, &whole, None)),
        None,
        "a policy says so"
    );
    let same = objects(&item(1, &[], |_| {}));
    assert_eq!(
        held(&decided(&next, &other, &introduction(&same), None)),
        None,
        "taken away a moment ago, and back by a revert"
    );
    let decided_over_more = decided(&next, &other, &introduction(&whole), None);
    let why = held(&decided_over_more).expect("I4: it keeps one backend less");
    assert!(why.contains("within half a minute"), "{why}");
    let mut renamed = whole[0].clone();
    renamed.name = "weir-before".to_owned();
    renamed
        .labels
        .insert("weir.dev/split".to_owned(), "before".to_owned());
    assert_eq!(
        held(&decided(&next, &other, &[renamed], None)),
        None,
        "by another name"
    );
    // Of another service it is the first.
    let cart = item(1, &[], |item| item.service = ServiceName::new("cart").unwrap());
    assert!(held(&decided(&next, &other, &objects(&cart), Some(&cart))).is_some());
}

/// Another port of the service has got one of the split's names. What asks for that name already is not held for it, and a
/// revert least of all; what would ask for it anew is.
#[test]
fn a_port_name_that_is_in_force_holds_no_revert() {
    let mut clash = service("use1", Some("shop"));
    clash.ports.insert(9090, Some(Protocol::Http));
    clash.port_names = BTreeMap::from([(9090, "web".to_owned())]);
    let mut elsewhere = clash.clone();
    elsewhere.namespace = Some(DnsLabel::new("shop2").unwrap());
    let other = [elsewhere];
    let before = item(1, &["web"], named("use1", Some("shop2")));
    let revert = item(2, &["web"], |item| {
        named("use1", Some("shop2"))(item);
        item.routes[0]
            .weights
            .insert(BackendName::new("named").unwrap(), BasisPoints::WHOLE);
        item.routes[0]
            .weights
            .insert(BackendName::new("eks").unwrap(), BasisPoints::default());
    });
    let decision = decided(&revert, &other, &objects(&before), Some(&before));
    assert_eq!(held(&decision), None);
    assert_eq!(decision.steps.len(), 1, "the revert is written: {decision:?}");
    let unnamed = item(1, &[], named("use1", Some("shop2")));
    let decision = decided(&revert, &other, &objects(&unnamed), Some(&unnamed));
    assert!(
        held(&decision).is_some_and(|why| why.contains("port 9090")),
        "{decision:?}"
    );
    assert!(decision.steps.is_empty(), "what is in force stays: {decision:?}");
}
