//! A dataplane of the double as a process: the proxy, its admin socket, and its session with the zone's control plane.
//!
//! It keeps its last configuration while the control plane is away, and comes back a while after that does.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixListener;

use super::admin::page;
use super::control_plane::{Hello, Told};
use super::proxy::Proxy;

/// The admin socket's name below the work directory, as kuma-dp calls it.
pub const ADMIN_SOCKET: &str = "kuma-envoy-admin.sock";

/// How long after losing its control plane a proxy comes back: shorter than the 7 to 15 s of the real thing.
const RECONNECT: Duration = Duration::from_secs(2);

/// How to start one.
#[derive(Debug, Clone)]
pub struct Options {
    /// API of the zone's control plane.
    pub api: String,
    /// The Dataplane document.
    pub file: PathBuf,
    /// Where its admin socket goes.
    pub work_dir: PathBuf,
    /// How long replaced listeners drain.
    pub drain: Duration,
}

/// Runs a dataplane for ever.
///
/// # Errors
/// If its document cannot be read or an address cannot be bound.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let text = tokio::fs::read(&options.file)
        .await
        .with_context(|| format!("cannot read {}", options.file.display()))?;
    let dataplane: Value = serde_json::from_slice(&text)?;
    let proxy = Proxy::new(options.drain);
    let admin = options.work_dir.join(ADMIN_SOCKET);
    tokio::spawn(serve_admin(Arc::clone(&proxy), bind_admin(&admin)?));
    let text = |key: &str| dataplane[key].as_str().unwrap_or_default().to_owned();
    let (mesh, name) = (text("mesh"), text("name"));
    let hello = Hello { dataplane, admin };
    let client = crate::http_client();
    let mut version = String::new();
    let mut known = false;
    loop {
        let answered = async {
            if !known {
                let url = format!("{}/_double/dataplane", options.api);
                client.put(url).json(&hello).send().await?.error_for_status()?;
                known = true;
            }
            let url = format!("{}/_double/xds/{mesh}/{name}?version={version}", options.api);
            client.get(url).send().await
        };
        match answered.await {
            Ok(response) if response.status() == 200 => {
                let told: Told = response.json().await?;
                tracing::info!(version = told.version, "configuration");
                proxy.apply(&told.version, told.config).await?;
                version = told.version;
            }
            Ok(response) if response.status() == 304 => {}
            Ok(_) => known = false,
            Err(error) => {
                tracing::info!(%error, "the control plane does not answer");
                known = false;
                tokio::time::sleep(RECONNECT).await;
            }
        }
    }
}

fn bind_admin(path: &std::path::Path) -> anyhow::Result<UnixListener> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let listener = UnixListener::bind(path).with_context(|| format!("cannot bind {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn serve_admin(proxy: Arc<Proxy>, listener: UnixListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let proxy = Arc::clone(&proxy);
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let target = request.uri().path_and_query().map(ToString::to_string);
                let (status, kind, body) = page(&proxy, &target.unwrap_or_default());
                let response = http::Response::builder()
                    .status(status)
                    .header("content-type", kind);
                std::future::ready(response.body(Full::new(Bytes::from(body))))
            });
            // Whoever asked hung up.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
