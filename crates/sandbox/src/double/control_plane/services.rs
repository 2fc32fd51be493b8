//! MeshServices of a VM zone, generated from its dataplanes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::proxies::GONE;
use super::{ControlPlane, every, session_status};
use crate::double::store::{DISPLAY_NAME, Endpoint, Kind, ORIGIN, Object, Store, ZONE, generated};

/// MeshServices from dataplanes.
pub(super) async fn generate(plane: Arc<ControlPlane>) {
    let begin = Instant::now();
    let mut ticks = every(Duration::from_secs(2));
    loop {
        ticks.tick().await;
        let alive = plane.alive();
        let just_started = begin.elapsed() < GONE;
        let mut store = plane.store.lock();
        generate_services(&mut store, &alive, just_started, Timestamp::now());
    }
}

/// Who has just started has not heard of all proxies that it knows: none of them is gone for that.
fn generate_services(
    store: &mut Store,
    alive: &BTreeMap<(String, String), u64>,
    just_started: bool,
    now: Timestamp,
) {
    let dataplanes: Vec<Object> = store.all(Kind::Dataplane).cloned().collect();
    let mut services: BTreeMap<(String, String), (Value, Vec<Endpoint>)> = BTreeMap::new();
    for mut dataplane in dataplanes {
        let sent = alive.get(&(dataplane.mesh.clone(), dataplane.name.clone()));
        if sent.is_none() && !just_started {
            store.remove(Kind::Dataplane, &dataplane.mesh, &dataplane.name);
            continue;
        }
        let networking = dataplane.body.get("networking").cloned().unwrap_or_default();
        for inbound in networking["inbound"].as_array().into_iter().flatten() {
            let tags = &inbound["tags"];
            let (Some(service), Some(port)) = (tags["kuma.io/service"].as_str(), inbound["port"].as_u64())
            else {
                continue;
            };
            let port_entry = json!({
                "name": inbound["name"].as_str().map_or_else(|| port.to_string(), str::to_owned), "port": port, "targetPort": port,
                "appProtocol": tags["kuma.io/protocol"].as_str().unwrap_or("tcp"),
            });
            let address = format!("{}:{port}", networking["address"].as_str().unwrap_or_default());
            let key = (dataplane.mesh.clone(), service.to_owned());
            let entry = services
                .entry(key)
                .or_insert_with(|| (json!([port_entry]), Vec::new()));
            entry
                .1
                .extend(address.parse().ok().map(|address| Endpoint { address }));
        }
        dataplane.status = sent.map(|sent| session_status(*sent, now));
        store.insert(dataplane);
    }
    let own = |o: &&Object| o.label(ORIGIN) == Some("zone");
    let known: Vec<Object> = store.all(Kind::MeshService).filter(own).cloned().collect();
    for mut service in known {
        let key = (service.mesh.clone(), service.name.clone());
        if !services.contains_key(&key) && service.spec()["state"] != "Unavailable" {
            service.body["spec"]["state"] = "Unavailable".into();
            service.labels.insert(
                "kuma.io/deletion-grace-period-started-at".into(),
                now.as_millisecond().to_string(),
            );
            service.status = Some(local_status(&service, 0));
            service.endpoints.clear();
            service.modified = now;
            store.insert(service);
        }
    }
    for ((mesh, name), (ports, endpoints)) in services {
        let before = store.get(Kind::MeshService, &mesh, &name).cloned();
        let mut service = Object::new(Kind::MeshService, &mesh, &name, now);
        let zone = store.zone().to_owned();
        for (key, value) in [
            (DISPLAY_NAME, name.as_str()),
            ("kuma.io/env", "universal"),
            ("kuma.io/managed-by", "meshservice-generator"),
            ("kuma.io/mesh", &mesh),
            (ORIGIN, "zone"),
            (ZONE, &zone),
        ] {
            service.labels.insert(key.into(), value.into());
        }
        service.body.insert("spec".into(), json!({
            "state": "Available", "selector": {"dataplaneTags": {"kuma.io/service": name}}, "ports": ports,
            "identities": [{"type": "ServiceTag", "value": name}],
        }));
        service.status = Some(local_status(&service, endpoints.len()));
        service.endpoints = endpoints;
        if let Some(before) = before {
            (service.created, service.modified) = (before.created, before.modified);
            if service != before {
                service.modified = now;
            }
        }
        store.insert(service);
    }
}

fn local_status(service: &Object, proxies: usize) -> Value {
    json!({
        "addresses": [{
            "hostname": format!("{}.svc.mesh.local", service.name), "origin": "HostnameGenerator",
            "hostnameGeneratorRef": {"coreName": "local-universal-mesh-service"},
        }],
        "hostnameGenerators": generated("local-universal-mesh-service"),
        "vips": [{"ip": "241.0.0.3"}], "tls": {"status": "Ready"},
        "dataplaneProxies": {"connected": proxies, "healthy": proxies, "total": proxies},
    })
}
