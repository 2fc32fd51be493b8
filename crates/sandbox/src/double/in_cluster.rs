//! A control plane of the double whose zone is a cluster: its objects are those of the cluster's API server, what global
//! tells is written there, MeshServices are made of the Services there, and policies come from there alone.
//!
//! Once a second, in this order: read everything, talk with global, write what follows. What is nobody's object (where
//! another zone's service is) is kept in memory: real Kuma has it from ZoneIngresses. It does not end when the API server is
//! away, as real Kuma does after ten seconds: it keeps what it has and tries again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;
use futures::future::{try_join, try_join_all};
use http::Method;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::admission::{NAMESPACE, Reviewer};
use super::store::{DISPLAY_NAME, Endpoint, Kind, Mode, ORIGIN, Object, Store, ZONE};
use crate::cluster::ApiServer;
use crate::real::cluster_zone::{SYSTEM, kuma};

/// What is kept in the cluster.
const KINDS: [Kind; 8] = [
    Kind::Mesh,
    Kind::ZoneIngress,
    Kind::MeshService,
    Kind::MeshMultiZoneService,
    Kind::MeshHTTPRoute,
    Kind::MeshTCPRoute,
    Kind::MeshTrafficPermission,
    Kind::Dataplane,
];

/// A control plane's way to its cluster.
#[derive(Debug)]
pub(super) struct InCluster {
    api: ApiServer,
    zone: String,
}

/// What was read of a cluster.
pub(super) struct Read {
    pub(super) store: Store,
    /// Meshes with their uids.
    pub(super) meshes: BTreeMap<String, String>,
    services: Vec<Value>,
    /// Every object as it is there.
    documents: BTreeMap<(Kind, String), Value>,
}

impl InCluster {
    /// Reads how to get there.
    pub(super) fn new(kubeconfig: &Path, zone: &str) -> anyhow::Result<Self> {
        Ok(Self {
            api: ApiServer::by_kubeconfig(kubeconfig)?,
            zone: zone.to_owned(),
        })
    }

    /// As a webhook, with the meshes that are there.
    pub(super) fn reviewer(&self, meshes: BTreeMap<String, String>) -> Reviewer {
        Reviewer {
            zone: self.zone.clone(),
            system: SYSTEM.to_owned(),
            user: kuma().name,
            meshes,
        }
    }

    /// Everything as it is now; where a service is, as `before` knew.
    pub(super) async fn read(&self, before: &Store) -> anyhow::Result<Read> {
        let lists = KINDS
            .iter()
            .map(|kind| async move { self.api.list(&list_of(*kind)).await });
        let (lists, services) = try_join(try_join_all(lists), self.api.list("/api/v1/services")).await?;
        let mut read = Read {
            store: Store::new(Mode::Cluster(self.zone.clone())),
            meshes: BTreeMap::new(),
            services,
            documents: BTreeMap::new(),
        };
        read.store.process = before.process;
        read.store
            .insert(Object::new(Kind::Zone, "", &self.zone, Timestamp::UNIX_EPOCH));
        for (kind, document) in KINDS
            .iter()
            .zip(lists)
            .flat_map(|(kind, list)| list.into_iter().map(move |document| (*kind, document)))
        {
            let mut object = object(kind, &document).context("an object without a name")?;
            if let Some(old) = before.get(kind, &object.mesh, &object.name) {
                object.endpoints.clone_from(&old.endpoints);
                // What is known of a proxy's session.
                if kind == Kind::Dataplane {
                    object.status.clone_from(&old.status);
                }
            }
            if kind == Kind::Mesh {
                let uid = document["metadata"]["uid"].as_str().unwrap_or_default();
                read.meshes.insert(object.name.clone(), uid.to_owned());
            }
            read.documents.insert((kind, object.name.clone()), document);
            read.store.insert(object);
        }
        Ok(read)
    }

    /// Takes what global told: writes and removes what differs. The store is then as the cluster is.
    pub(super) async fn take(&self, read: &mut Read, told: Vec<Object>) -> anyhow::Result<()> {
        let named = told.into_iter().map(|mut object| {
            if object.kind != Kind::Mesh {
                object.name = format!("{}.{SYSTEM}", object.name);
            }
            if object.kind.in_mesh() {
                object.labels.insert("kuma.io/mesh".into(), object.mesh.clone());
            }
            // Of meshes the cluster has no display name.
            object
        });
        let mut next = read.store.clone();
        next.take_downward(named.collect(), Timestamp::now());
        for kind in KINDS {
            let kept: BTreeSet<&str> = next.all(kind).map(|o| o.name.as_str()).collect();
            // With a mesh a cluster's garbage collector takes all that refers to it.
            for gone in read.store.all(kind).filter(|o| !kept.contains(o.name.as_str())) {
                self.api.delete(&path_of(kind, &gone.name)).await?;
            }
            for object in next.all(kind).filter(|o| o.label(ORIGIN) == Some("global")) {
                let before = read.documents.get(&(kind, object.name.clone()));
                let made = self.write(before, object, None).await?;
                if let Some(made) = made.filter(|_| kind == Kind::Mesh) {
                    let uid = made["metadata"]["uid"].as_str().unwrap_or_default();
                    read.meshes.insert(object.name.clone(), uid.to_owned());
                }
            }
        }
        read.store = next;
        Ok(())
    }

    /// Makes a MeshService of each Service, and says where its dataplanes are: connected or not, for a control plane that
    /// starts again knows from the cluster what it knew. `alive` are connected ones; while it `just_started` those that it
    /// does not see yet are taken for connected if they were before.
    pub(super) async fn services(
        &self,
        read: &mut Read,
        alive: &BTreeSet<String>,
        just_started: bool,
    ) -> anyhow::Result<()> {
        let dataplanes: Vec<Object> = read.store.all(Kind::Dataplane).cloned().collect();
        for service in &read.services {
            let Some(mut made) = mesh_service(service, &self.zone) else {
                continue;
            };
            if !read.store.has_mesh(&made.mesh) {
                continue;
            }
            let selector = made.spec()["selector"]["dataplaneTags"].clone();
            let known = read.store.get(Kind::MeshService, &made.mesh, &made.name);
            let was_there = known.is_some_and(|k| k.spec()["state"] == "Available");
            let mut proxies = 0;
            for dataplane in &dataplanes {
                let found = endpoints(dataplane, &selector);
                let counts = alive.contains(&dataplane.name) || (just_started && was_there);
                proxies += usize::from(!found.is_empty() && counts);
                made.endpoints.extend(found);
            }
            let state = if proxies > 0 { "Available" } else { "Unavailable" };
            made.body["spec"]["state"] = state.into();
            made.status = Some(json!({
                "dataplaneProxies": {"connected": proxies, "healthy": proxies, "total": proxies},
                "tls": {"status": "Ready"}, "vips": [{"ip": "10.0.0.10"}],
            }));
            let before = read.documents.get(&(Kind::MeshService, made.name.clone()));
            self.write(before, &made, Some(service)).await?;
            if let Some(known) = read.store.get(Kind::MeshService, &made.mesh, &made.name) {
                (made.created, made.modified) = (known.created, known.modified);
            }
            read.store.insert(made);
        }
        Ok(())
    }

    /// Makes the ZoneIngress of the ingress' pod, as recorded but for that pod's own labels.
    pub(super) async fn ingress(&self, read: &mut Read, address: SocketAddr) -> anyhow::Result<()> {
        let name = format!("{INGRESS}.{SYSTEM}");
        let known = read.store.get(Kind::ZoneIngress, "", &name);
        let mut made = super::control_plane::ingress(&name, address, Timestamp::now());
        made.created = known.map_or(made.created, |known| known.created);
        made.modified = known.map_or(made.modified, |known| known.modified);
        for (key, value) in [
            (NAMESPACE, SYSTEM),
            (DISPLAY_NAME, INGRESS),
            ("kuma.io/env", "kubernetes"),
            (ORIGIN, "zone"),
            ("kuma.io/proxy-type", "zoneingress"),
            (ZONE, &self.zone),
        ] {
            made.labels.insert(key.into(), value.into());
        }
        let before = read.documents.get(&(Kind::ZoneIngress, name));
        self.write(before, &made, None).await?;
        read.store.insert(made);
        Ok(())
    }

    /// Writes an object of ours, if it is not there or says something else; as it is there if it is new.
    async fn write(
        &self,
        before: Option<&Value>,
        object: &Object,
        owner: Option<&Value>,
    ) -> anyhow::Result<Option<Value>> {
        let mut wanted = document(object, owner);
        match before {
            None => {
                let path = format!("{}?fieldManager=kuma-cp", home_of(object));
                return self.api.create(&path, &wanted).await.map(Some);
            }
            Some(before) => {
                let says = |of: &Value| {
                    let metadata = &of["metadata"];
                    [
                        metadata["labels"].clone(),
                        metadata["annotations"].clone(),
                        of["spec"].clone(),
                        of["status"].clone(),
                    ]
                };
                if says(before) == says(&wanted) {
                    return Ok(None);
                }
                wanted["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
                let path = format!("{}?fieldManager=kuma-cp", path_of(object.kind, &object.name));
                let answer = self
                    .api
                    .exchange(Method::PUT, &path, "application/json", Some(&wanted))
                    .await?;
                anyhow::ensure!(
                    answer.status.is_success(),
                    "PUT {path}: {} {}",
                    answer.status,
                    answer.text()
                );
            }
        }
        Ok(None)
    }
}

/// The pod of the zone's ingress.
const INGRESS: &str = "kuma-ingress-0";

const API: &str = "/apis/kuma.io/v1alpha1";

fn list_of(kind: Kind) -> String {
    format!("{API}/{}", kind.plural())
}

/// Name and namespace of an object that the control plane calls `name.namespace`.
fn taken_apart(name: &str) -> (&str, &str) {
    name.rsplit_once('.').unwrap_or((name, SYSTEM))
}

fn path_of(kind: Kind, name: &str) -> String {
    if kind == Kind::Mesh {
        return format!("{}/{name}", list_of(kind));
    }
    let (name, namespace) = taken_apart(name);
    format!("{API}/namespaces/{namespace}/{}/{name}", kind.plural())
}

fn home_of(object: &Object) -> String {
    let path = path_of(object.kind, &object.name);
    path.rsplit_once('/')
        .map(|(home, _)| home.to_owned())
        .unwrap_or(path)
}

/// Whether the control plane shows the fields of its `spec` without the `spec`.
fn is_flat(kind: Kind) -> bool {
    matches!(kind, Kind::Mesh | Kind::Dataplane | Kind::ZoneIngress)
}

/// A cluster's object as the control plane shows it.
fn object(kind: Kind, document: &Value) -> Option<Object> {
    let metadata = &document["metadata"];
    let name = metadata["name"].as_str()?;
    let name = match metadata["namespace"].as_str() {
        Some(namespace) => format!("{name}.{namespace}"),
        None => name.to_owned(),
    };
    let labels = metadata["labels"].as_object().into_iter().flatten();
    let mut labels: BTreeMap<String, String> = labels
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect();
    if let Some(display) = metadata["annotations"].get(DISPLAY_NAME).and_then(Value::as_str) {
        labels.insert(DISPLAY_NAME.into(), display.to_owned());
    }
    let mesh = if !kind.in_mesh() {
        String::new()
    } else {
        labels
            .get("kuma.io/mesh")
            .cloned()
            .unwrap_or_else(|| "default".into())
    };
    let created = metadata["creationTimestamp"].as_str()?.parse().ok()?;
    let mut object = Object::new(kind, &mesh, &name, created);
    object.labels = labels;
    object.status = document.get("status").cloned();
    let spec = document.get("spec").cloned().unwrap_or_default();
    object.body = match spec {
        Value::Object(fields) if is_flat(kind) => fields,
        spec => Map::from_iter([("spec".to_owned(), spec)]),
    };
    Some(object)
}

/// The other way round.
fn document(object: &Object, owner: Option<&Value>) -> Value {
    let mut labels = object.labels.clone();
    let display = labels.remove(DISPLAY_NAME);
    let mut metadata = json!({"labels": labels});
    if object.kind == Kind::Mesh {
        metadata["name"] = object.name.clone().into();
    } else {
        let (name, namespace) = taken_apart(&object.name);
        metadata["name"] = name.into();
        metadata["namespace"] = namespace.into();
    }
    if let Some(display) = display {
        metadata["annotations"] = json!({DISPLAY_NAME: display});
    }
    if let Some(owner) = owner {
        metadata["ownerReferences"] = json!([{
            "apiVersion": "v1", "kind": "Service", "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"],
        }]);
    }
    let spec = if is_flat(object.kind) {
        Value::Object(object.body.clone())
    } else {
        object.spec().clone()
    };
    let mut document = json!({
        "apiVersion": "kuma.io/v1alpha1", "kind": object.kind.name(), "metadata": metadata, "spec": spec,
    });
    if let Some(status) = &object.status {
        document["status"] = status.clone();
    }
    document
}

/// The MeshService of a Service; none if that selects nothing.
fn mesh_service(service: &Value, zone: &str) -> Option<Object> {
    let metadata = &service["metadata"];
    let (name, namespace) = (metadata["name"].as_str()?, metadata["namespace"].as_str()?);
    let mut tags = service["spec"]["selector"].as_object()?.clone();
    tags.insert(NAMESPACE.into(), namespace.into());
    let ports: Vec<Value> = service["spec"]["ports"]
        .as_array()?
        .iter()
        .filter_map(|port| {
            let number = port["port"].as_u64()?;
            let called = port["name"]
                .as_str()
                .map_or_else(|| number.to_string(), str::to_owned);
            Some(json!({
                "name": called, "port": number, "targetPort": port.get("targetPort").unwrap_or(&port["port"]),
                "appProtocol": port["appProtocol"].as_str().unwrap_or("tcp"),
            }))
        })
        .collect();
    let identities: Vec<Value> = ports
        .iter()
        .map(|p| json!({"type": "ServiceTag", "value": format!("{name}_{namespace}_svc_{}", p["port"])}))
        .collect();
    let created = metadata["creationTimestamp"].as_str()?.parse().ok()?;
    let mut made = Object::new(
        Kind::MeshService,
        "default",
        &format!("{name}.{namespace}"),
        created,
    );
    let own = metadata["labels"].as_object().into_iter().flatten();
    made.labels = own
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect();
    for (key, value) in [
        ("k8s.kuma.io/is-headless-service", "false"),
        (NAMESPACE, namespace),
        ("k8s.kuma.io/service-name", name),
        (DISPLAY_NAME, name),
        ("kuma.io/env", "kubernetes"),
        ("kuma.io/managed-by", "k8s-controller"),
        ("kuma.io/mesh", "default"),
        (ORIGIN, "zone"),
        (ZONE, zone),
    ] {
        made.labels.insert(key.into(), value.into());
    }
    made.body.insert(
        "spec".into(),
        json!({"identities": identities, "ports": ports, "selector": {"dataplaneTags": tags}}),
    );
    Some(made)
}

/// Where a dataplane listens for what a selector selects.
fn endpoints(dataplane: &Object, selector: &Value) -> Vec<Endpoint> {
    let networking = dataplane.body.get("networking").unwrap_or(&Value::Null);
    let inbounds = networking["inbound"].as_array().into_iter().flatten();
    let wanted = |inbound: &&Value| {
        let mut tags = selector.as_object().into_iter().flatten();
        tags.all(|(key, value)| inbound["tags"].get(key) == Some(value))
    };
    inbounds
        .filter(wanted)
        .filter_map(|inbound| {
            let address = networking["address"].as_str()?;
            let address = format!("{address}:{}", inbound["port"]).parse().ok()?;
            Some(Endpoint { address })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_becomes_what_was_measured_and_goes_through_the_cluster_unchanged() {
        let service = json!({
            "metadata": {"name": "cart", "namespace": "shop", "uid": "u", "creationTimestamp": "2026-11-23T15:15:25Z"},
            "spec": {"selector": {"app": "cart"}, "ports": [
                {"name": "http", "port": 8080, "targetPort": 18080, "appProtocol": "http"},
            ]},
        });
        let mut made = mesh_service(&service, "eks").expect("a service");
        made.body["spec"]["state"] = json!("Available");
        assert_eq!(made.kri("http"), "kri_msvc_default_eks_shop_cart_http");
        assert_eq!(made.cluster(8080), "default_cart_shop_eks_msvc_8080");
        let mut there = document(&made, Some(&service));
        assert_eq!(there["metadata"]["annotations"], json!({DISPLAY_NAME: "cart"}));
        assert!(
            there["metadata"]["labels"].get(DISPLAY_NAME).is_none(),
            "a label in REST alone"
        );
        assert_eq!(
            there["spec"],
            json!({
                "identities": [{"type": "ServiceTag", "value": "cart_shop_svc_8080"}],
                "ports": [{"appProtocol": "http", "name": "http", "port": 8080, "targetPort": 18080}],
                "selector": {"dataplaneTags": {"app": "cart", NAMESPACE: "shop"}}, "state": "Available",
            })
        );
        there["metadata"]["creationTimestamp"] = service["metadata"]["creationTimestamp"].clone();
        assert_eq!(object(Kind::MeshService, &there), Some(made));
    }
}
