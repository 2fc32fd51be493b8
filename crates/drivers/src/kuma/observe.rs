//! What the zone's control plane holds: services as this zone sees them, our objects, and everyone else's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::{join, join_all, try_join, try_join4};
use jiff::Timestamp;
use serde_json::Value;
use weir_model::{DnsLabel, FederationName, MeshName, Protocol, ServiceName, SplitName};
use weir_planner::{Item, SecondWriter, ServiceFact, ServiceState, Way};
use weir_render::{Form, Kind};

use super::policy::{self, Owner};
use super::rest::Rest;
use super::ways::{Known, Ways};
use crate::{DriverError, Fault, Observed};

/// Above so many services one whole list costs less than one question each.
const QUESTIONS: usize = 8;

/// The control plane, as far as its root says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Root {
    pub(crate) version: Option<String>,
    pub(crate) instance: String,
}

/// Who answers there.
pub(crate) async fn root(rest: &Rest) -> Result<Root, DriverError> {
    let alien = || {
        DriverError::new(
            "GET /",
            format!("what answers at {} is not a Kuma control plane", rest.base()),
            Fault::Setup,
            "set kuma.api to the REST address of the zone's own control plane (Kuma's default port is 5681)",
        )
    };
    let answer = rest.get("").await?.ok_or_else(alien)?;
    let text = |key: &str| answer.get(key).and_then(Value::as_str).map(str::to_owned);
    // Kong Mesh and other distributions have their own product name, and the same fields.
    let instance = text("instanceId").ok_or_else(alien)?;
    Ok(Root {
        version: text("version"),
        instance,
    })
}

/// What a control plane keeps its objects in, as its configuration says; none if it does not show that.
///
/// # Errors
/// If it does not answer now.
pub(crate) async fn store(rest: &Rest) -> Result<Option<String>, DriverError> {
    let configuration = match rest.get("config").await {
        // Not everybody may read it everywhere.
        Err(error) if !error.fault.passes() => None,
        answer => answer?,
    };
    let kind = configuration.as_ref().and_then(|all| all.pointer("/store/type"));
    Ok(kind.and_then(Value::as_str).map(str::to_owned))
}

/// Reads everything that matters to these items; and when objects of ours were last written, by split.
pub(crate) async fn observe(
    (rest, known): (&Rest, &Known),
    federation: &FederationName,
    mesh: &MeshName,
    items: &[Arc<Item>],
) -> Result<(Observed, Vec<(SplitName, Timestamp)>), DriverError> {
    let (root, (services, local), policies, legacy) = try_join4(
        root(rest),
        services((rest, known), mesh, items),
        policies(rest, mesh),
        traffic_routes(rest, mesh),
    )
    .await?;
    if let Some(item) = items.first() {
        let local = local.into_iter().chain(policies.iter().filter_map(local_to));
        own_zone(rest.base(), "kuma.api", &item.kuma_zone, local)?;
    }
    let mut observed = Observed {
        kuma: root.version,
        instance: Some(root.instance),
        services,
        ..Observed::default()
    };
    let mut written = Vec::new();
    for document in &policies {
        match policy::owner(document, federation, &Form::Universal) {
            Owner::Ours {
                object,
                generation,
                split,
            } => {
                observed.ours.push((object, generation));
                if let (Ok(split), Some(at)) = (SplitName::new(split), policy::modified(document)) {
                    written.push((split, at));
                }
            }
            Owner::Foreign(_) if policy::is_shadow(document) => {}
            Owner::Foreign(_) => second_writers(document, items, &mut observed.second_writers),
        }
    }
    for document in &legacy {
        legacy_writer(document, items, &mut observed.second_writers);
    }
    for list in observed.second_writers.values_mut() {
        list.sort();
    }
    Ok((observed, written))
}

/// Whose zone's own a document is: what a zone did not get from elsewhere carries the zone's name.
pub(crate) fn local_to(document: &Value) -> Option<String> {
    let own = policy::label(document, "kuma.io/origin") == Some("zone");
    own.then(|| policy::label(document, "kuma.io/zone").map(str::to_owned))
        .flatten()
}

/// Refuses the control plane of another zone: what is written and proven there is not this zone's traffic. `setting` is
/// what led there.
pub(crate) fn own_zone(
    place: &str,
    setting: &str,
    wanted: &DnsLabel,
    mut found: impl Iterator<Item = String>,
) -> Result<(), DriverError> {
    let Some(other) = found.find(|zone| zone != wanted.as_str()) else {
        return Ok(());
    };
    Err(DriverError::new(
        format!("GET meshes at {place}"),
        format!(
            "this is not the control plane of Kuma zone {wanted}: it holds objects of its own that are zone {other}'s"
        ),
        Fault::Setup,
        format!(
            "set {setting} to the control plane of zone {wanted} (not another zone's, and not the global one); nothing was \
             written here"
        ),
    ))
}

/// Whether a control plane is this zone's, by what it holds of its own; false if it holds nothing that tells.
///
/// # Errors
/// If it is another zone's, or does not answer.
pub(crate) async fn is_own(rest: &Rest, mesh: &MeshName, wanted: &DnsLabel) -> Result<bool, DriverError> {
    let path = format!("meshes/{mesh}/meshservices");
    let (services, policies) = try_join(rest.list(&path, ""), policies(rest, mesh)).await?;
    let services = services.ok_or_else(|| no_such_list(&path))?;
    let local: Vec<_> = services.iter().chain(&policies).filter_map(local_to).collect();
    own_zone(rest.base(), "kuma.api", wanted, local.iter().cloned())?;
    Ok(!local.is_empty())
}

/// The display names that matter to these items.
pub(crate) fn service_names(items: &[Arc<Item>]) -> BTreeSet<&ServiceName> {
    items
        .iter()
        .flat_map(|item| {
            item.destinations
                .values()
                .map(|d| &d.service)
                .chain([&item.service])
        })
        .collect()
}

/// Names a policy of somebody else at every split that it touches.
pub(crate) fn second_writers(
    document: &Value,
    items: &[Arc<Item>],
    found: &mut BTreeMap<SplitName, Vec<SecondWriter>>,
) {
    for item in items {
        if let Some(writer) = weir_render::touches(item, document) {
            found.entry(item.split.clone()).or_default().push(writer);
        }
    }
}

/// Every route policy of the mesh, whoever wrote it.
async fn policies(rest: &Rest, mesh: &MeshName) -> Result<Vec<Value>, DriverError> {
    let list = |kind: Kind| async move {
        let path = format!("meshes/{mesh}/{}", kind.plural());
        rest.list(&path, "").await?.ok_or_else(|| no_such_list(&path))
    };
    let (mut all, tcp) = try_join(list(Kind::MeshHttpRoute), list(Kind::MeshTcpRoute)).await?;
    all.extend(tcp);
    Ok(all)
}

/// Legacy routes, where this Kuma still has them: one of them can keep Kuma from looking at newer policies at all
/// (`kuma.md` 2.5).
async fn traffic_routes(rest: &Rest, mesh: &MeshName) -> Result<Vec<Value>, DriverError> {
    let list = rest.list(&format!("meshes/{mesh}/traffic-routes"), "").await?;
    Ok(list.unwrap_or_default())
}

/// A TrafficRoute names its services by another name than ours: it is named for every split, and the proof tells whether
/// ours holds.
fn legacy_writer(document: &Value, items: &[Arc<Item>], found: &mut BTreeMap<SplitName, Vec<SecondWriter>>) {
    let name = document.get("name").and_then(Value::as_str).unwrap_or_default();
    for item in items {
        found.entry(item.split.clone()).or_default().push(SecondWriter {
            kind: "TrafficRoute".to_owned(),
            object: name.to_owned(),
            origin: policy::label(document, "kuma.io/origin")
                .unwrap_or("unknown")
                .to_owned(),
            overrides: false,
        });
    }
}

fn no_such_list(path: &str) -> DriverError {
    DriverError::new(
        format!("GET {path}"),
        "this control plane does not know such a list",
        Fault::Setup,
        "Weir needs Kuma 2.14 or newer",
    )
}

/// The MeshServices that matter to these items, as this control plane sees them.
pub(crate) async fn services_of(
    asked: (&Rest, &Known),
    mesh: &MeshName,
    items: &[Arc<Item>],
) -> Result<Vec<ServiceFact>, DriverError> {
    let (services, _) = services(asked, mesh, items).await?;
    Ok(services)
}

/// The MeshServices that matter to these items, of every zone, as this control plane sees them, with the ways to them; and whose
/// zone's own they are, where they came from no other.
async fn services(
    (rest, known): (&Rest, &Known),
    mesh: &MeshName,
    items: &[Arc<Item>],
) -> Result<(Vec<ServiceFact>, Vec<String>), DriverError> {
    let names = &service_names(items);
    let ways = async {
        match leads_elsewhere(items) {
            true => known.ask(rest, mesh).await,
            false => Ways::default(),
        }
    };
    let (found, ways) = join(named(rest, mesh, names), ways).await;
    let (mut facts, local) = found?;
    if let Some(item) = items.first() {
        ways.mark(&mut facts, &item.kuma_zone);
    }
    Ok((facts, local))
}

/// Whether any of these items has a backend in another zone.
fn leads_elsewhere(items: &[Arc<Item>]) -> bool {
    let mut items = items.iter();
    items.any(|item| {
        item.destinations
            .values()
            .any(|to| to.kuma_zone != item.kuma_zone)
    })
}

/// The MeshServices of these names.
async fn named(
    rest: &Rest,
    mesh: &MeshName,
    names: &BTreeSet<&ServiceName>,
) -> Result<(Vec<ServiceFact>, Vec<String>), DriverError> {
    let path = format!("meshes/{mesh}/meshservices");
    let documents = if names.len() > QUESTIONS {
        rest.list(&path, "").await?.ok_or_else(|| no_such_list(&path))?
    } else {
        // The name is a DNS label: nothing in it needs escaping.
        let queries: Vec<String> = names
            .iter()
            .map(|name| format!("filter[labels.kuma.io/display-name]={name}"))
            .collect();
        let mut all = Vec::new();
        for answer in join_all(queries.iter().map(|query| rest.list(&path, query))).await {
            all.extend(answer?.ok_or_else(|| no_such_list(&path))?);
        }
        all
    };
    let mut facts: Vec<ServiceFact> = documents
        .iter()
        .filter_map(|document| service(document, policy::label(document, "kuma.io/display-name")))
        .filter(|fact| names.contains(&fact.service))
        .collect();
    facts.sort();
    Ok((facts, documents.iter().filter_map(local_to).collect()))
}

/// One MeshService of either form; none if it cannot be what a plan means (no display name or zone, names wider than
/// ours). The display name is a label in Kuma's REST and an annotation in a cluster.
pub(crate) fn service(document: &Value, display_name: Option<&str>) -> Option<ServiceFact> {
    let dns = |key: &str| policy::label(document, key).and_then(|text| DnsLabel::new(text).ok());
    let spec = document.get("spec")?;
    let all = spec.get("ports").and_then(Value::as_array).into_iter().flatten();
    let (mut ports, mut port_names) = (BTreeMap::new(), BTreeMap::new());
    for port in all {
        let number = port.get("port").and_then(Value::as_u64);
        let Some(number) = number.and_then(|number| u16::try_from(number).ok()) else {
            continue;
        };
        let text = |key: &str| port.get(key).and_then(Value::as_str);
        ports.insert(number, protocol(text("appProtocol")));
        // Kuma names a port that has no name by its number.
        if let Some(name) = text("name").filter(|name| !name.is_empty() && *name != number.to_string()) {
            port_names.insert(number, name.to_owned());
        }
    }
    Some(ServiceFact {
        service: DnsLabel::new(display_name?).ok()?.into(),
        kuma_zone: dns("kuma.io/zone")?,
        namespace: dns("k8s.kuma.io/namespace"),
        ports,
        port_names,
        state: match spec.get("state").and_then(Value::as_str) {
            Some("Available") => ServiceState::Available,
            Some("Unavailable") => ServiceState::Unavailable,
            _ => ServiceState::Unknown,
        },
        way: Way::Unknown,
    })
}

/// Kuma's default is tcp.
fn protocol(text: Option<&str>) -> Option<Protocol> {
    match text {
        Some("http") => Some(Protocol::Http),
        Some("http2") => Some(Protocol::Http2),
        Some("grpc") => Some(Protocol::Grpc),
        Some("tcp") | None => Some(Protocol::Tcp),
        Some(_) => None,
    }
}
