//! The sessions of proxies: how they come, what they are told, and what is fetched from their admin interfaces.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::time::Instant;

use super::{ControlPlane, Reply, json_reply, locked, reply, show};
use crate::double::compute::compute;
use crate::double::rest::problem;
use crate::double::routes::ProxyConfig;
use crate::double::store::{Kind, ORIGIN, Object, ZONE};

/// How long a proxy may be silent before its control plane takes it for gone.
pub(super) const GONE: Duration = Duration::from_secs(12);
/// How long a proxy's question waits for news.
const POLL: Duration = Duration::from_secs(5);

/// What a proxy says when it comes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hello {
    /// The Dataplane document.
    pub dataplane: Value,
    /// Its admin socket.
    pub admin: PathBuf,
}

/// What a proxy is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Told {
    /// Stands for the configuration's content.
    pub version: String,
    /// The configuration.
    pub config: ProxyConfig,
}

pub(super) struct Session {
    seen: Instant,
    admin: PathBuf,
    sent: u64,
}

impl ControlPlane {
    /// Connected proxies, and how often each was told something.
    pub(super) fn alive(&self) -> BTreeMap<(String, String), u64> {
        locked(&self.sessions)
            .iter()
            .filter(|(_, s)| s.seen.elapsed() < GONE)
            .map(|(key, s)| (key.clone(), s.sent))
            .collect()
    }

    pub(super) fn hello(&self, body: &[u8]) -> anyhow::Result<Reply> {
        let hello: Hello = serde_json::from_slice(body)?;
        let text = |key: &str| hello.dataplane[key].as_str().unwrap_or_default().to_owned();
        let (mesh, name) = (text("mesh"), text("name"));
        let mut store = self.store.lock();
        if !store.has_mesh(&mesh) {
            return Ok(json_reply(404, &json!({"title": "no such mesh yet"})));
        }
        if let Some(cluster) = &self.cluster {
            // It is in the cluster; the proxy says which one it is.
            let known = store.get(Kind::Dataplane, &mesh, &name).is_some();
            if !known || locked(&cluster.meshes).is_none() {
                return Ok(json_reply(404, &json!({"title": "no such dataplane yet"})));
            }
            drop(store);
            self.greet(mesh, name, hello.admin);
            return Ok(json_reply(200, &json!({})));
        }
        let mut object = Object::new(Kind::Dataplane, &mesh, &name, Timestamp::now());
        let zone = store.zone().to_owned();
        for (key, value) in [
            ("kuma.io/env", "universal"),
            ("kuma.io/mesh", &mesh),
            (ORIGIN, "zone"),
            ("kuma.io/proxy-type", "sidecar"),
            (ZONE, &zone),
        ] {
            object.labels.insert(key.into(), value.into());
        }
        let mut networking = hello.dataplane["networking"].clone();
        for inbound in networking["inbound"].as_array_mut().into_iter().flatten() {
            inbound["tags"][ZONE] = zone.clone().into();
        }
        object.body.insert("networking".into(), networking);
        store.insert(object);
        drop(store);
        self.greet(mesh, name, hello.admin);
        Ok(json_reply(200, &json!({})))
    }

    fn greet(&self, mesh: String, name: String, admin: PathBuf) {
        let session = Session {
            seen: Instant::now(),
            admin,
            sent: 0,
        };
        locked(&self.sessions).insert((mesh, name), session);
    }

    /// Waits for news for this proxy. 404: it has to say hello (again).
    pub(super) async fn xds(&self, mesh: &str, name: &str, version: &str) -> Reply {
        let key = (mesh.to_owned(), name.to_owned());
        let until = Instant::now() + POLL;
        // Each proxy has its own second.
        let phase = name.bytes().map(u64::from).sum::<u64>() * 137 % 1000;
        loop {
            {
                let mut sessions = locked(&self.sessions);
                let Some(session) = sessions.get_mut(&key) else {
                    return json_reply(404, &json!({"title": "unknown dataplane"}));
                };
                session.seen = Instant::now();
            }
            let view = Arc::clone(&self.view.borrow());
            if let Some(dataplane) = view.get(Kind::Dataplane, mesh, name) {
                let config = compute(&view, dataplane);
                let bytes = serde_json::to_vec(&config).unwrap_or_default();
                let now = blake3::hash(&bytes).to_hex()[..16].to_owned();
                if now != version {
                    if let Some(session) = locked(&self.sessions).get_mut(&key) {
                        session.sent += 1;
                    }
                    return json_reply(200, &Told { version: now, config });
                }
            }
            if Instant::now() > until {
                return json_reply(304, &json!({}));
            }
            let millisecond = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or_default();
            let wait = 1000 - (millisecond + phase) % 1000;
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
    }

    /// What Kuma fetches from the proxy's admin interface, over a connection that it never closes.
    pub(super) async fn admin(&self, mesh: &str, name: &str, what: &str, query: &str) -> Reply {
        let missing = || {
            let answer = problem(404, "Could not get dataplane resource", "Not found", &[]);
            show(answer).unwrap_or_else(|| reply(404, "text/plain", ""))
        };
        let key = (mesh.to_owned(), name.to_owned());
        let Some(socket) = locked(&self.sessions).get(&key).map(|s| s.admin.clone()) else {
            return missing();
        };
        let json = query.contains("format=json");
        let target = match what {
            "xds" => "/config_dump".to_owned(),
            "clusters" => "/clusters?format=json".to_owned(),
            _ => {
                let used = if query.contains("usedonly=false") {
                    ""
                } else {
                    "usedonly"
                };
                format!("/stats?{used}{}", if json { "&format=json" } else { "" })
            }
        };
        match self.fetch(&socket, &target).await {
            Ok(body) => {
                let kind = if what == "stats" && !json {
                    "text/plain"
                } else {
                    "application/json"
                };
                reply(200, kind, body)
            }
            Err(error) => {
                let answer = problem(
                    500,
                    "Could not execute admin operation",
                    &format!("{error:#}"),
                    &[],
                );
                show(answer).unwrap_or_else(|| reply(500, "text/plain", ""))
            }
        }
    }

    async fn fetch(&self, socket: &std::path::Path, target: &str) -> anyhow::Result<Bytes> {
        let stream = UnixStream::connect(socket).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = http::Request::get(target)
            .header("host", "admin")
            .body(Full::default())?;
        let body = sender
            .send_request(request)
            .await?
            .into_body()
            .collect()
            .await?
            .to_bytes();
        locked(&self.leaked).push(sender);
        Ok(body)
    }
}
