//! Getting at an API server at all: kubeconfigs that cannot be used, addresses where nobody is or somebody else is,
//! certificates of another authority, tokens that have ended, plugins that fail.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use weir_drivers::{
    Cluster as Access, DriverError, Fault, KubernetesConfig, KumaKubernetes, ZoneDriver as _,
};

use crate::cluster::Cluster;
use crate::plan::{item, mesh};

fn kubeconfig(dir: &Path, server: &str, authority: Option<&str>, user: Value) -> Access {
    let mut cluster = json!({"server": server});
    if let Some(pem) = authority {
        std::fs::write(dir.join("ca.pem"), pem).unwrap();
        cluster["certificate-authority"] = json!(dir.join("ca.pem"));
    }
    write(
        dir,
        &json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "use1",
            "contexts": [{"name": "use1", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": user}],
        }),
    )
}

fn write(dir: &Path, config: &Value) -> Access {
    let file = dir.join("kubeconfig");
    // JSON is YAML.
    std::fs::write(&file, config.to_string()).unwrap();
    Access::Kubeconfig { file, context: None }
}

fn open(cluster: Access) -> Result<KumaKubernetes, DriverError> {
    // Another test of this program may have been first.
    let _first = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider().install_default();
    KumaKubernetes::new(KubernetesConfig {
        cluster,
        timeout: Duration::from_secs(2),
        ..Cluster::new().config()
    })
}

async fn error(cluster: Access) -> DriverError {
    let driver = open(cluster).unwrap();
    let began = Instant::now();
    let pulse = driver.pulse().await.unwrap_err();
    let look = driver
        .observe(&mesh(), &[Arc::new(item([1, 9999], 1))])
        .await
        .unwrap_err();
    assert_eq!(pulse.fault, look.fault);
    assert!(began.elapsed() < Duration::from_secs(20));
    pulse
}

/// A TLS server that answers every request the same, and its certificate.
async fn tls(answer: &'static str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let _first = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider().install_default();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(tcp).await else {
                    return;
                };
                let mut request = vec![0; 4096];
                while stream.read(&mut request).await.is_ok_and(|n| n > 0) {
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, made.cert.pem())
}

const UNAUTHORIZED: &str = "HTTP/1.1 401 Unauthorized\r\ncontent-type: application/json\r\ncontent-length: 117\r\n\r\n\
    {\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Failure\",\"message\":\"Unauthorized\",\"reason\":\"U\",\"code\":401}";

#[tokio::test]
async fn nobody_somebody_else_and_nobody_we_trust() {
    let dir = tempfile::tempdir().unwrap();
    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let refused = error(kubeconfig(
        dir.path(),
        &format!("https://{free}"),
        None,
        json!({"token": "t"}),
    ))
    .await;
    assert_eq!(refused.fault, Fault::Away);
    assert!(refused.why.contains("connection refused"), "{refused}");

    // Something that is not TLS.
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("https://{}", plain.local_addr().unwrap());
    let server = tokio::spawn(async move {
        loop {
            let (mut tcp, _) = plain.accept().await.unwrap();
            drop(
                tcp.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
                    .await,
            );
        }
    });
    let strange = error(kubeconfig(dir.path(), &address, None, json!({"token": "t"}))).await;
    assert_eq!(strange.fault, Fault::Setup, "{strange}");
    assert!(
        strange.why.contains("does not speak TLS as it should"),
        "{strange}"
    );
    server.abort();

    // Accepts and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("https://{}", silent.local_addr().unwrap());
    let late = error(kubeconfig(dir.path(), &address, None, json!({"token": "t"}))).await;
    assert_eq!(late.fault, Fault::Away, "{late}");

    let (address, authority) = tls(UNAUTHORIZED).await;
    let (_, another) = tls(UNAUTHORIZED).await;
    let wrong = error(kubeconfig(
        dir.path(),
        &address,
        Some(&another),
        json!({"token": "t"}),
    ))
    .await;
    assert_eq!(wrong.fault, Fault::Setup, "{wrong}");
    assert!(wrong.why.contains("of another authority"), "{wrong}");
    // By another name than its certificate has.
    let named = address.replace("127.0.0.1", "localhost");
    let wrong = error(kubeconfig(
        dir.path(),
        &named,
        Some(&authority),
        json!({"token": "t"}),
    ))
    .await;
    assert_eq!(wrong.fault, Fault::Setup, "{wrong}");
    assert!(wrong.why.contains("does not hold"), "{wrong}");

    let ended = error(kubeconfig(
        dir.path(),
        &address,
        Some(&authority),
        json!({"token": "t"}),
    ))
    .await;
    assert_eq!(ended.fault, Fault::Setup, "{ended}");
    assert!(
        ended.why.contains("it has ended, or is of another cluster"),
        "{ended}"
    );
    // The same by a file, which is not there yet; and by a plugin that fails.
    let user = json!({"tokenFile": "token"});
    let missing = error(kubeconfig(dir.path(), &address, Some(&authority), user.clone())).await;
    assert!(
        missing.what.contains("token file") && missing.fault == Fault::Setup,
        "{missing}"
    );
    std::fs::write(dir.path().join("token"), "t\n").unwrap();
    assert!(
        error(kubeconfig(dir.path(), &address, Some(&authority), user))
            .await
            .why
            .contains("401")
    );
    let user = json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "false", "interactiveMode": "Never"}});
    let plugin = error(kubeconfig(dir.path(), &address, Some(&authority), user)).await;
    assert!(
        plugin.what.contains("credential plugin") && plugin.why.contains("failed"),
        "{plugin}"
    );
}

/// Four watches and a look need a token at once: the program is started once, ends with its time limit, and what is told is
/// that it hangs, and not that the cluster does not answer.
#[tokio::test(start_paused = true)]
async fn a_plugin_that_hangs_is_named_and_started_once() {
    let dir = tempfile::tempdir().unwrap();
    let script = format!("echo run >> {}/runs; exec sleep 600", dir.path().display());
    let user = json!({"exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "args": ["-c", script], "interactiveMode": "Never",
    }});
    let driver = open(kubeconfig(dir.path(), "https://127.0.0.1:1", None, user)).unwrap();
    let began = tokio::time::Instant::now();
    let look = driver.observe(&mesh(), &[Arc::new(item([1, 9999], 1))]).await;
    let pulse = driver.pulse().await;
    for error in [look.unwrap_err(), pulse.unwrap_err()] {
        assert!(error.what.contains("credential plugin sh"), "{error}");
        assert!(error.why.contains("did not end within 10 s"), "{error}");
        assert_eq!(error.fault, Fault::Away, "it may pass");
    }
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    let runs = std::fs::read_to_string(dir.path().join("runs")).unwrap_or_default();
    assert!(runs.lines().count() <= 1, "{runs}");
}

fn refused(cluster: Access) -> String {
    match open(cluster) {
        Ok(_) => panic!("it can be used"),
        Err(error) => {
            assert_eq!(error.fault, Fault::Setup);
            format!("{}\n{}\n", error.why, error.help)
        }
    }
}

#[tokio::test]
async fn a_kubeconfig_that_cannot_be_used_is_told_before_anything_starts() {
    let dir: TempDir = tempfile::tempdir().unwrap();
    let user = |user: Value| kubeconfig(dir.path(), "https://127.0.0.1:1", None, user);
    for (given, said) in [
        (json!({"username": "a", "password": "b"}), "has a password"),
        (json!({"as": "root"}), "somebody else"),
        (json!({"auth-provider": {"name": "gcp"}}), "auth-provider"),
        (
            json!({"exec": {"command": "", "interactiveMode": "Never"}}),
            "no command",
        ),
    ] {
        let told = refused(user(given));
        assert!(told.contains(said), "{told}");
    }
    let whole = json!({
        "current-context": "a",
        "contexts": [{"name": "a", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1", "insecure-skip-tls-verify": true}}],
        "users": [],
    });
    assert!(refused(write(dir.path(), &whole)).contains("insecure-skip-tls-verify"));
    let mut proxied = whole.clone();
    proxied["clusters"][0]["cluster"] =
        json!({"server": "https://127.0.0.1:1", "proxy-url": "http://127.0.0.1:3128"});
    assert!(refused(write(dir.path(), &proxied)).contains("proxy"));
    let mut nowhere = whole.clone();
    nowhere["current-context"] = json!("b");
    assert!(refused(write(dir.path(), &nowhere)).contains("context"));
    let file = dir.path().join("absent");
    assert!(refused(Access::Kubeconfig { file, context: None }).contains("absent"));
    let Access::Kubeconfig { file, .. } = write(dir.path(), &json!("x")) else {
        unreachable!()
    };
    refused(Access::Kubeconfig { file, context: None });
    // This test runs in no pod.
    assert!(refused(Access::InCluster).contains("kuma.kubernetes.kubeconfig"));
}
