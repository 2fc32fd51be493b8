//! The one port over real sockets: who is let in, as whom, and what becomes of those who dawdle.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod patience;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::routing::{get, post};
use axum::{Extension, Router};
use http::Request;
use http_body_util::BodyExt as _;
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::Channel;
use tower::ServiceExt as _;
use weir_link::{
    App, Connector, Credentials, Fingerprint, IdentityDir, Limits, Peer, Pings, ServerTls, explain, serve,
};

/// A certificate authority as the coordinator has one.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
}

fn params(uri: &str, expires: Timestamp) -> CertificateParams {
    let at = |t: Timestamp| date_time_ymd(1970, 1, 1) + Duration::from_secs(t.as_second().unsigned_abs());
    let mut params = CertificateParams::default();
    params.not_before = at(Timestamp::now() - SignedDuration::from_mins(5));
    params.not_after = at(expires);
    params.subject_alt_names = vec![SanType::URI(uri.to_owned().try_into().unwrap())];
    params
}

fn in_an_hour() -> Timestamp {
    Timestamp::now() + SignedDuration::from_hours(1)
}

impl Authority {
    fn new() -> Self {
        let mut params = params("spiffe://shop", in_an_hour());
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap().der().clone();
        Self {
            issuer: Issuer::new(params, key),
            root,
        }
    }

    fn leaf(
        &self,
        uri: &str,
        purpose: ExtendedKeyUsagePurpose,
        expires: Timestamp,
    ) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let mut params = params(uri, expires);
        params.extended_key_usages = vec![purpose];
        params
            .subject_alt_names
            .push(SanType::IpAddress(Ipv4Addr::LOCALHOST.into()));
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        (
            leaf.der().clone(),
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
    }

    fn server(&self, name: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let (leaf, key) = self.leaf(name, ExtendedKeyUsagePurpose::ServerAuth, in_an_hour());
        (vec![leaf, self.root.clone()], key)
    }

    fn agent(&self, uri: &str) -> Credentials {
        self.agent_trusting(uri, &self.root)
    }

    fn agent_trusting(&self, uri: &str, root: &CertificateDer<'static>) -> Credentials {
        let (leaf, key) = self.leaf(uri, ExtendedKeyUsagePurpose::ClientAuth, in_an_hour());
        Credentials::new(vec![leaf], key, vec![root.clone()]).unwrap()
    }
}

const FRA: &str = "spiffe://shop/zone/fra/agent/fra-1";

struct Port {
    authority: Authority,
    tls: ServerTls,
    address: SocketAddr,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
    _guard: DropGuard,
}

impl Port {
    async fn open(limits: Limits) -> Self {
        Self::named("spiffe://shop/coordinator", limits).await
    }

    async fn named(name: &str, limits: Limits) -> Self {
        let authority = Authority::new();
        let (chain, key) = authority.server(name);
        let tls = ServerTls::new(chain, key, std::slice::from_ref(&authority.root)).unwrap();
        let who = |Extension(peer): Extension<Peer>| async move {
            peer.certificate
                .map_or("nobody".to_owned(), |c| c.identity.to_string())
        };
        let app = App {
            grpc: Router::new().route("/who", post(who)),
            http: Router::new().route("/who", get(who)),
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        Self {
            serving: tokio::spawn(serve(listener, tls.clone(), app, limits, stop.clone())),
            _guard: stop.clone().drop_guard(),
            authority,
            tls,
            address,
            stop,
        }
    }

    fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// As a person's tool connects: no certificate, trust in the root, the address as name.
    async fn plain(&self, alpn: &[u8]) -> std::io::Result<TlsStream<TcpStream>> {
        let config = ClientConfig::builder_with_provider(weir_link::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.root.clone()).unwrap();
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        let tcp = TcpStream::connect(self.address).await?;
        let name = ServerName::from(self.address.ip());
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await
    }
}

/// One call through a channel, as generated clients make it.
async fn who(channel: Channel) -> Result<String, String> {
    let request = Request::post("http://coordinator/who")
        .header("content-type", "application/grpc")
        .body(tonic::body::Body::empty())
        .unwrap();
    let response = channel.oneshot(request).await.map_err(|e| explain(&e))?;
    let body = response.into_body().collect().await.map_err(|e| e.to_string())?;
    Ok(String::from_utf8(body.to_bytes().to_vec()).unwrap())
}

#[tokio::test]
async fn an_agent_is_known_by_its_certificate_and_a_person_is_nobody() {
    let port = Port::open(Limits::default()).await;
    let connector = Connector::new(&port.url(), port.authority.agent(FRA)).unwrap();
    assert_eq!(
        who(connector.channel().await.unwrap()).await.unwrap(),
        "shop/fra/fra-1"
    );

    let mut tls = port.plain(b"http/1.1").await.unwrap();
    tls.write_all(b"GET /who HTTP/1.1\r\nhost: c\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    tls.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("nobody"),
        "{answer}"
    );

    let joining = Connector::joining(&port.url(), Fingerprint::of(&port.authority.root)).unwrap();
    assert_eq!(who(joining.channel().await.unwrap()).await.unwrap(), "nobody");
}

#[tokio::test]
async fn a_new_certificate_is_used_by_the_next_connection_and_the_old_one_goes_on() {
    let port = Port::open(Limits::default()).await;
    let connector = Connector::new(&port.url(), port.authority.agent(FRA)).unwrap();
    let before = connector.channel().await.unwrap();
    assert_eq!(who(before.clone()).await.unwrap(), "shop/fra/fra-1");

    connector
        .replace(port.authority.agent("spiffe://shop/zone/fra/agent/fra-2"))
        .unwrap();
    let (chain, key) = port.authority.server("spiffe://shop/coordinator");
    let leaf = chain[0].clone();
    port.tls.replace(chain, key).unwrap();

    assert_eq!(
        who(connector.channel().await.unwrap()).await.unwrap(),
        "shop/fra/fra-2"
    );
    assert_eq!(
        who(before).await.unwrap(),
        "shop/fra/fra-1",
        "the connection that stood still stands"
    );
    let tls = port.plain(b"http/1.1").await.unwrap();
    assert_eq!(tls.get_ref().1.peer_certificates().unwrap()[0], leaf);
}

#[tokio::test]
async fn the_key_exchange_is_post_quantum_and_tls_1_2_is_refused() {
    let port = Port::open(Limits::default()).await;
    let tls = port.plain(b"h2").await.unwrap();
    let session = tls.get_ref().1;
    assert_eq!(session.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    let group = session.negotiated_key_exchange_group().map(|g| g.name());
    assert_eq!(group, Some(rustls::NamedGroup::X25519MLKEM768));

    let config = ClientConfig::builder_with_provider(weir_link::tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let tcp = TcpStream::connect(port.address).await.unwrap();
    let name = ServerName::from(port.address.ip());
    let error = TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_and_the_agent_says_why() {
    let port = Port::open(Limits::default()).await;
    let stranger = Authority::new().agent_trusting(FRA, &port.authority.root);
    let connector = Connector::new(&port.url(), stranger).unwrap();
    let error = match connector.channel().await {
        Ok(channel) => who(channel).await.unwrap_err(),
        Err(error) => error.to_string(),
    };
    assert_eq!(
        error,
        "the coordinator does not know this agent's certificate: another coordinator issued it; join again with a new \
         token"
    );
}

#[tokio::test]
async fn only_the_coordinator_of_ones_own_federation_is_believed() {
    let port = Port::open(Limits::default()).await;
    let at = port.address;
    let said = async |connector: Connector| connector.channel().await.unwrap_err().to_string();

    let other = Authority::new();
    let connector = Connector::new(&port.url(), other.agent(FRA)).unwrap();
    assert_eq!(
        said(connector).await,
        format!(
            "no secure connection to the coordinator at {at}: its certificate is of another certificate authority than \
             the one that this agent joined: check the address; if the coordinator was set up anew, join again with a \
             new token"
        )
    );

    let token = Fingerprint::of(&other.root);
    let shown = Fingerprint::of(&port.authority.root);
    assert_eq!(
        said(Connector::joining(&port.url(), token).unwrap()).await,
        format!(
            "no secure connection to the coordinator at {at}: it shows another certificate authority than the one that \
             made the token (token {token}, shown {shown}): this is another coordinator, or somebody stands in between; \
             check the address, or create the token anew"
        )
    );

    let connector = Connector::new(
        &port.url(),
        port.authority.agent("spiffe://bank/zone/fra/agent/fra-1"),
    )
    .unwrap();
    assert_eq!(
        said(connector).await,
        format!(
            "no secure connection to the coordinator at {at}: it is the coordinator of another federation: it is named \
             `spiffe://shop/coordinator`, wanted is `spiffe://bank/coordinator`"
        )
    );
}

#[tokio::test]
async fn an_agent_is_no_coordinator_even_with_a_certificate_of_the_authority() {
    let port = Port::named(FRA, Limits::default()).await;
    let connector = Connector::new(&port.url(), port.authority.agent(FRA)).unwrap();
    let error = connector.channel().await.unwrap_err().to_string();
    assert!(
        error.contains("it is named `spiffe://shop/zone/fra/agent/fra-1`"),
        "{error}"
    );
    let joining = Connector::joining(&port.url(), Fingerprint::of(&port.authority.root)).unwrap();
    let error = joining.channel().await.unwrap_err().to_string();
    assert!(error.contains("its certificate is no coordinator's"), "{error}");
}

#[tokio::test]
async fn an_expired_certificate_is_noticed_before_anything_is_dialled() {
    let authority = Authority::new();
    let ended = Timestamp::from_second(1_700_000_000).unwrap();
    let mut params = params(FRA, ended);
    params.not_before = date_time_ymd(2020, 1, 1);
    let key = KeyPair::generate().unwrap();
    let leaf = params.signed_by(&key, &authority.issuer).unwrap().der().clone();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let credentials = Credentials::new(vec![leaf], key, vec![authority.root.clone()]).unwrap();
    let connector = Connector::new("https://127.0.0.1:1", credentials).unwrap();
    assert_eq!(
        connector.channel().await.unwrap_err().to_string(),
        "the certificate of shop/fra/fra-1 ended at 2023-11-14T22:13:20Z: if the clock of this machine is right, \
         join again with a new token (`weir-coordinator token create --zone fra`, then `weir-agent join`)"
    );
}

#[tokio::test]
async fn what_is_no_coordinator_at_all_is_told_apart() {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let free = silent.local_addr().unwrap();
    drop(silent);
    let token = Fingerprint::of(b"any");
    let error = Connector::joining(&format!("https://{free}"), token)
        .unwrap()
        .channel()
        .await
        .unwrap_err();
    assert!(
        error.to_string().starts_with(&format!(
            "cannot reach the coordinator at {free}: Connection refused"
        )),
        "{error}"
    );

    let web = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let at = web.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut tcp, _) = web.accept().await.unwrap();
        tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        drop(tcp.read(&mut [0; 4096]).await);
    });
    let error = Connector::joining(&format!("https://{at}"), token)
        .unwrap()
        .channel()
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "no secure connection to the coordinator at {at}: what answers there does not speak TLS: is this the \
             coordinator's port?"
        )
    );
}
