//! What a cluster holds, in a plan's terms: services as this zone sees them, our objects, and everyone else's. Pure: what
//! was listed and watched comes in as values.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;
use weir_model::{DnsLabel, FederationName, MeshName, SplitName};
use weir_planner::{Item, SecondWriter};
use weir_render::Form;

use super::objects::{self, MeshService, MeshZoneAddress, Namespace, Route, ZoneIngress};
use super::watch::Objects;
use crate::kuma::observe::{local_to, own_zone, second_writers, service_names};
use crate::kuma::policy::{Owner, is_shadow};
use crate::kuma::ways::Ways;
use crate::{DriverError, Observed};

/// Everything that was read.
pub(crate) struct Read {
    pub(crate) services: Objects<MeshService>,
    pub(crate) http: Objects<Route<false>>,
    pub(crate) tcp: Objects<Route<true>>,
    /// None where they cannot be had.
    pub(crate) ingresses: Option<Objects<ZoneIngress>>,
    /// None where they cannot be had.
    pub(crate) addresses: Option<Objects<MeshZoneAddress>>,
}

impl Read {
    /// The ways to other zones.
    fn ways(&self, mesh: &MeshName) -> Ways {
        let ingresses = self.ingresses.as_ref();
        let addresses = self.addresses.as_ref();
        Ways {
            ingresses: ingresses.map(|all| Ways::ingresses(all.values().map(|ingress| ingress.0.clone()))),
            addresses: addresses.map(|all| all.values().filter_map(|one| one.zone(mesh)).collect()),
        }
    }
}

/// Refuses another zone's cluster. One object of this zone is enough: labels that nobody checked may say anything.
pub(crate) fn own_cluster(
    read: &Read,
    server: &str,
    system: &DnsLabel,
    wanted: &DnsLabel,
) -> Result<(), DriverError> {
    let is_in = |document: &Value| policy_namespace(document) == Some(system.as_str());
    let http = read.http.values().map(|route| &route.0);
    let tcp = read.tcp.values().map(|route| &route.0);
    let policies = http
        .chain(tcp)
        .filter(|document| is_in(document))
        .filter_map(local_to);
    let services = read.services.values().filter_map(|service| service.local.clone());
    let local: Vec<_> = services.chain(policies).collect();
    if local.iter().any(|zone| zone == wanted.as_str()) {
        return Ok(());
    }
    own_zone(server, "kuma.kubernetes", wanted, local.into_iter())
}

fn policy_namespace(document: &Value) -> Option<&str> {
    document.pointer("/metadata/namespace")?.as_str()
}

/// Gives it meaning; and when objects of ours were last written, by split.
pub(crate) fn observed(
    read: &Read,
    federation: &FederationName,
    form: &Form,
    mesh: &MeshName,
    items: &[Arc<Item>],
) -> (Observed, Vec<(SplitName, Timestamp)>) {
    let names = service_names(items);
    let mut services: Vec<_> = read
        .services
        .values()
        .filter_map(|service| service.fact(mesh))
        .filter(|fact| names.contains(&fact.service))
        .cloned()
        .collect();
    services.sort();
    if let Some(item) = items.first() {
        read.ways(mesh).mark(&mut services, &item.kuma_zone);
    }
    let mut observed = Observed {
        form: form.clone(),
        services,
        ..Observed::default()
    };
    let mut written = Vec::new();
    let http = read
        .http
        .values()
        .filter(|route| route.is_of(mesh))
        .map(|route| &route.0);
    let tcp = read
        .tcp
        .values()
        .filter(|route| route.is_of(mesh))
        .map(|route| &route.0);
    for document in http.chain(tcp) {
        match objects::owner(document, federation, form) {
            Owner::Ours {
                object,
                generation,
                split,
            } => {
                if let Ok(split) = SplitName::new(split) {
                    if let Some(at) = objects::written(document) {
                        written.push((split.clone(), at));
                    }
                    // Somebody else's fields in our own object. That they do not win is seen by comparing what it says.
                    let rivals = objects::managers(document)
                        .into_iter()
                        .filter(|manager| !manager.is_ours() && manager.holds_spec())
                        .map(|manager| SecondWriter {
                            kind: object.kind.name().to_owned(),
                            object: format!("{}/{}", system(form), object.name),
                            origin: format!("field manager {}", manager.told()),
                            overrides: false,
                        });
                    let all = observed.second_writers.entry(split).or_default();
                    all.extend(rivals);
                }
                observed.ours.push((object, generation));
            }
            Owner::Foreign(_) if is_shadow(document) => {}
            Owner::Foreign(_) => second_writers(document, items, &mut observed.second_writers),
        }
    }
    observed.second_writers.retain(|_, all| !all.is_empty());
    for list in observed.second_writers.values_mut() {
        list.sort();
    }
    (observed, written)
}

fn system(form: &Form) -> &str {
    match form {
        Form::Kubernetes { namespace } => namespace,
        Form::Universal => "",
    }
}

/// What a person should know of namespaces: one that Kuma does not look at.
pub(crate) fn notes(namespaces: &Objects<Namespace>, system: &DnsLabel, items: &[Arc<Item>]) -> Vec<String> {
    let of = |name: &str| namespaces.get(&(String::new(), name.to_owned()));
    let mut notes = Vec::new();
    match of(system.as_str()) {
        None => notes.push(format!(
            "there is no namespace {system}: is Kuma installed there (kuma.kubernetes.systemNamespace)?"
        )),
        Some(namespace) if !namespace.is_guarded() => notes.push(format!(
            "namespace {system} has no label kuma.io/sidecar-injection: Kuma checks no policy there, and labels none; \
             its chart sets it to \"false\""
        )),
        Some(_) => {}
    }
    let here: BTreeSet<&DnsLabel> = items
        .iter()
        .flat_map(|item| {
            let own = item
                .destinations
                .values()
                .filter(|to| to.kuma_zone == item.kuma_zone);
            own.filter_map(|to| to.namespace.as_ref())
        })
        .collect();
    for name in here {
        match of(name.as_str()) {
            None => notes.push(format!("a backend is in namespace {name}, which this cluster does not have")),
            Some(namespace) if !namespace.is_injected() => notes.push(format!(
                "a backend is in namespace {name}, whose pods get no sidecar (label kuma.io/sidecar-injection: enabled)"
            )),
            Some(_) => {}
        }
    }
    notes
}
