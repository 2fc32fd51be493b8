//! I3, ready before weight: whether this zone's own control plane resolves each weighted backend to exactly one usable
//! MeshService.
//!
//! Kuma itself fails open: a reference that it cannot resolve, or whose port speaks another protocol, is dropped without
//! a word and its share goes to the others (`kuma.md` R6).

use std::collections::BTreeMap;

use weir_model::{BackendName, GatewayName, Protocol, Via, sabotaged};

use crate::facts::{DoorFact, ServiceFact, ServiceState, Way};
use crate::plan::{Destination, Item};
use crate::transition::gives_more;

/// Says yes, or why not: the first backend that is not ready, what the zone sees, and what would make it ready. `has` is what
/// the zone runs until now, as in [`backends_ready`].
///
/// # Errors
/// One sentence for people.
pub fn ready(item: &Item, has: Option<&Item>, services: &[ServiceFact]) -> Result<(), String> {
    for fact in services {
        if let Some((port, name)) = fact.other_port_of_that_name(item) {
            return Err(format!(
                "in Kuma zone {} port {port} of MeshService {} is named {name}, and Kuma would take it for port {} of this \
                 split; remove {name} from the split's portNames, or give that port another name",
                fact.kuma_zone, fact.service, item.port
            ));
        }
    }
    backends_ready(item, has, services)
}

/// Whether a split may come that is not in force: it takes along nobody's callers that it does not name.
///
/// To Kuma a split is for all MeshServices of its service's name. One more of them, in another namespace or a zone that the
/// declaration does not mention, would lose its callers to the split's backends without a word.
///
/// # Errors
/// One sentence for people.
pub fn may_come(item: &Item, services: &[ServiceFact]) -> Result<(), String> {
    match services.iter().find_map(|fact| fact.taken_along(item)) {
        Some(what) => Err(format!("not in force yet, for {what}")),
        None => Ok(()),
    }
}

/// [`ready`] of the backends alone: for an item whose ports' names are in force already. To hold it for a name would undo
/// nothing, and could keep a revert from its zone.
///
/// `has` is what the zone runs until now. What has no way there is held only where a backend would get more than it has by
/// that: to give less to who cannot be reached is the cure, and must pass, be it a revert or not. With none every share counts.
///
/// # Errors
/// One sentence for people.
pub fn backends_ready(item: &Item, has: Option<&Item>, services: &[ServiceFact]) -> Result<(), String> {
    if sabotaged("skip-prepare") {
        return Ok(());
    }
    for backend in item.weighted() {
        let Some(to) = item.destinations.get(backend) else {
            return Err(format!(
                "backend {backend} has weight and no destination: this plan is broken"
            ));
        };
        let fact = backend_ready(item, backend, to, services)?;
        let gains = has.is_none_or(|has| gains(item, has, backend, to));
        if gains && to.kuma_zone != item.kuma_zone && !goes_round(item) {
            reachable(item, backend, to, fact.way)?;
        }
    }
    Ok(())
}

/// Whether a backend gets more by an item than by the one before, or is another one.
fn gains(item: &Item, has: &Item, backend: &BackendName, to: &Destination) -> bool {
    let there = has.destinations.get(backend).map(Destination::in_kuma);
    there != Some(to.in_kuma()) || gives_more(has, item, backend)
}

/// Whether no backend gets more by an item than its zone has, that a gateway of the zone takes for dead, by what was last read of its
/// doors. With nothing before, nothing is asked: of what a gateway has for nobody it says nothing.
///
/// # Errors
/// One sentence for people.
pub fn doors_ready(
    item: &Item,
    has: Option<&Item>,
    doors: &BTreeMap<GatewayName, DoorFact>,
) -> Result<(), String> {
    let Some(has) = has else { return Ok(()) };
    for (gateway, fact) in doors {
        let carries = |of: &Item| {
            of.doors
                .get(gateway)
                .is_some_and(|door| matches!(door.via, Via::Addresses(_)))
        };
        if !carries(item) || !carries(has) || !fact.is_exact() {
            continue;
        }
        for (backend, why) in &fact.dead {
            let to = item.destinations.get(backend);
            if to.is_some_and(|to| gains(item, has, backend, to)) {
                return Err(format!("gateway {gateway}: {why}"));
            }
        }
    }
    Ok(())
}

/// Whether what comes in through a gateway goes by addresses of its own: where no request goes through the mesh nobody has to have an
/// ingress, and who calls inside as well is not told apart here.
fn goes_round(item: &Item) -> bool {
    let mut doors = item.doors.values();
    doors.any(|door| matches!(door.via, Via::Addresses(_)))
}

/// Whether requests come to another zone: they go through its ingress, and Kuma calls the MeshService Available without one
/// too (`kuma.md` R10).
fn reachable(item: &Item, backend: &BackendName, to: &Destination, way: Way) -> Result<(), String> {
    let found = match way {
        Way::Unknown | Way::Open => return Ok(()),
        Way::NoIngress => "knows no ingress of that zone",
        Way::NotAdvertised => "knows ingresses of that zone, of which none advertises an address",
    };
    let wanted = place(to);
    Err(format!(
        "backend {backend} cannot be reached from zone {}: MeshService {wanted} is another zone's, and this zone's control plane \
         {found}, so every request to it would fail; start the ingress of Kuma zone {}, with an advertised address that this \
         zone reaches, or wait until Kuma has synced it (GET /zoneingresses there, or kubectl get zoneingresses -A, lists what is \
         known)",
        item.zone, to.kuma_zone
    ))
}

/// The one MeshService that a backend is here.
fn backend_ready<'a>(
    item: &Item,
    backend: &BackendName,
    to: &Destination,
    services: &'a [ServiceFact],
) -> Result<&'a ServiceFact, String> {
    let found: Vec<_> = services
        .iter()
        .filter(|fact| {
            fact.service == to.service && fact.kuma_zone == to.kuma_zone && fact.namespace == to.namespace
        })
        .collect();
    let wanted = place(to);
    let who = format!("backend {backend} is not ready for zone {}", item.zone);
    let fact = match found.as_slice() {
        [] => {
            return Err(format!(
                "{who}: its control plane has no MeshService {wanted}; start the service there, or wait until Kuma has \
                 synced it"
            ));
        }
        [one] => *one,
        more => {
            return Err(format!(
                "{who}: its control plane has {} MeshServices {wanted}, and would choose one without saying which",
                more.len()
            ));
        }
    };
    match fact.ports.get(&to.port) {
        None => {
            let ports: Vec<_> = fact.ports.keys().map(u16::to_string).collect();
            return Err(format!(
                "{who}: MeshService {wanted} has no port {}, it has {}",
                to.port,
                if ports.is_empty() {
                    "none".to_owned()
                } else {
                    ports.join(", ")
                }
            ));
        }
        Some(None) => {
            return Err(format!(
                "{who}: port {} of MeshService {wanted} speaks a protocol that cannot be split",
                to.port
            ));
        }
        Some(Some(speaks)) if http(item.protocol) && !http(*speaks) => {
            return Err(format!(
                "{who}: the split is {}, but port {} of MeshService {wanted} is {speaks} there; Kuma would drop it and \
                 give its share to the others",
                item.protocol, to.port
            ));
        }
        Some(Some(_)) => {}
    }
    match fact.state {
        ServiceState::Available => Ok(fact),
        ServiceState::Unavailable if sabotaged("trust-unavailable") => Ok(fact),
        ServiceState::Unavailable => Err(format!(
            "{who}: MeshService {wanted} is Unavailable, no dataplane of it is healthy"
        )),
        ServiceState::Unknown => Err(format!(
            "{who}: MeshService {wanted} does not say whether it is available"
        )),
    }
}

fn http(protocol: Protocol) -> bool {
    match protocol {
        Protocol::Http | Protocol::Http2 | Protocol::Grpc => true,
        Protocol::Tcp => false,
    }
}

fn place(to: &Destination) -> String {
    match &to.namespace {
        Some(namespace) => format!(
            "{} of Kuma zone {}, namespace {namespace}",
            to.service, to.kuma_zone
        ),
        None => format!("{} of Kuma zone {}", to.service, to.kuma_zone),
    }
}
