//! A protected Admin API: certificates of its own authority, and a header with a secret. All else of Kong is driven in
//! `tests/tests/kong_live`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says so by failing"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use weir_drivers::{AdminConfig, Fault, GatewayDriver as _, KongConfig, KongDbless, Secret};

const ROOT: &str = r#"{"version":"3.9.3","configuration":{"database":"off"},"configuration_hash":"00000000000000000000000000000000"}"#;

/// Answers whoever sends the header `apikey: s3cret`; its address and its certificate.
async fn protected() -> (String, String) {
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
        while let Ok((stream, _)) = listener.accept().await {
            // Whoever does not trust the certificate goes away here.
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut asked = Vec::new();
            while !asked.windows(4).any(|window| window == b"\r\n\r\n") {
                if stream.read_buf(&mut asked).await.unwrap_or(0) == 0 {
                    break;
                }
            }
            let asked = String::from_utf8_lossy(&asked).to_lowercase();
            let (status, body) = if asked.contains("\r\napikey: s3cret\r\n") {
                ("200 OK", ROOT)
            } else {
                ("401 Unauthorized", r#"{"message":"Unauthorized"}"#)
            };
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    (address, made.cert.pem())
}

fn driver(url: &str, ca: Option<&Path>, key: Option<&Path>) -> KongDbless {
    let header = key.map(|file| Secret {
        name: "apikey".to_owned(),
        file: file.to_owned(),
    });
    let node = AdminConfig {
        url: url.to_owned(),
        status: None,
        ca: ca.map(PathBuf::from),
        header,
        timeout: Duration::from_secs(5),
    };
    KongDbless::new(KongConfig {
        nodes: vec![node],
        settle: Duration::from_secs(1),
    })
    .unwrap()
}

#[tokio::test]
async fn only_its_own_authority_and_the_right_secret_open_it() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        file
    };
    let (url, pem) = protected().await;
    let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let (ca, other) = (put("ca.pem", &pem), put("other.pem", &other.cert.pem()));
    let (right, wrong) = (put("right", "s3cret\n"), put("wrong", "guess"));
    let known = BTreeSet::new();
    let live = driver(&url, Some(&ca), Some(&right)).observe(&url, &known).await;
    assert_eq!(live.unwrap().version, "3.9.3");
    for (ca, key, fault, why) in [
        (Some(&ca), Some(&wrong), Fault::Setup, "401"),
        (Some(&ca), None, Fault::Setup, "401"),
        (Some(&other), Some(&right), Fault::Setup, "certificate"),
        (None, Some(&right), Fault::Setup, "certificate"),
    ] {
        let driver = driver(&url, ca.map(PathBuf::as_path), key.map(PathBuf::as_path));
        let error = driver.observe(&url, &known).await.expect_err(why);
        assert!(error.fault == fault && error.why.contains(why), "{error}");
    }
}

#[tokio::test]
async fn a_gateway_has_nodes_each_once() {
    let _first = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider().install_default();
    let node = |url: &str| AdminConfig {
        url: url.to_owned(),
        status: None,
        ca: None,
        header: None,
        timeout: Duration::from_secs(1),
    };
    for nodes in [
        vec![],
        vec![node("http://127.0.0.1:8001"), node("http://127.0.0.1:8001/")],
    ] {
        let settle = Duration::from_secs(1);
        let error = KongDbless::new(KongConfig { nodes, settle }).expect_err("no gateway");
        assert_eq!(error.fault, Fault::Setup, "{error}");
    }
    let empty = tempfile::NamedTempFile::new().unwrap();
    let nothing = AdminConfig {
        ca: Some(empty.path().to_owned()),
        ..node("https://127.0.0.1:8444")
    };
    let settle = Duration::from_secs(1);
    let error = KongDbless::new(KongConfig {
        nodes: vec![nothing],
        settle,
    })
    .expect_err("no certificate");
    assert!(error.why.contains("no certificate"), "{error}");
}
