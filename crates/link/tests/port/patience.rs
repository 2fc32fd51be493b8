//! Who dawdles, falls silent or comes in crowds; how a port ends, and what survives a crash.

use super::*;

/// Reads until the other side hangs up.
async fn hung_up(mut stream: impl tokio::io::AsyncRead + Unpin) -> Duration {
    let begun = Instant::now();
    let end = async {
        let mut bytes = [0; 1024];
        while stream.read(&mut bytes).await.is_ok_and(|n| n > 0) {}
    };
    tokio::time::timeout(Duration::from_secs(10), end)
        .await
        .expect("the server hangs up");
    begun.elapsed()
}

#[tokio::test]
async fn whoever_dawdles_is_cut_off_at_every_stage() {
    let limits = Limits {
        handshake: Duration::from_millis(300),
        ping: Duration::from_millis(200),
        pong: Duration::from_millis(200),
        ..Limits::default()
    };
    let port = Port::open(limits).await;
    // No TLS at all.
    assert!(hung_up(TcpStream::connect(port.address).await.unwrap()).await < Duration::from_secs(5));
    // TLS, and then nothing.
    assert!(hung_up(port.plain(b"h2").await.unwrap()).await < Duration::from_secs(5));
    assert!(hung_up(port.plain(b"http/1.1").await.unwrap()).await < Duration::from_secs(5));
    // The head of a request that never ends.
    let mut tls = port.plain(b"http/1.1").await.unwrap();
    tls.write_all(b"GET /who HTTP/1.1\r\nhost:").await.unwrap();
    assert!(hung_up(tls).await < Duration::from_secs(5));
    // HTTP/2 begun well, but pings are never answered: a dead peer.
    let mut tls = port.plain(b"h2").await.unwrap();
    tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    assert!(hung_up(tls).await < Duration::from_secs(5));
    // And the port still works.
    let connector = Connector::new(&port.url(), port.authority.agent(FRA)).unwrap();
    assert_eq!(
        who(connector.channel().await.unwrap()).await.unwrap(),
        "shop/fra/fra-1"
    );
}

/// A wire that can be cut without either end hearing of it.
async fn wire(to: SocketAddr) -> (SocketAddr, CancellationToken) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let cut = CancellationToken::new();
    let broken = cut.clone();
    tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut far = TcpStream::connect(to).await.unwrap();
        tokio::select! {
            ended = tokio::io::copy_bidirectional(&mut near, &mut far) => drop(ended),
            // Both sockets stay open, and nothing moves any more.
            () = broken.cancelled() => std::future::pending().await,
        }
    });
    (address, cut)
}

#[tokio::test]
async fn a_coordinator_that_falls_silent_is_noticed() {
    let port = Port::open(Limits::default()).await;
    let (address, cut) = wire(port.address).await;
    let connector = Connector::new(&format!("https://{address}"), port.authority.agent(FRA))
        .unwrap()
        .with_pings(Pings {
            every: Duration::from_millis(200),
            answer: Duration::from_millis(200),
        });
    let channel = connector.channel().await.unwrap();
    assert_eq!(who(channel.clone()).await.unwrap(), "shop/fra/fra-1");
    cut.cancel();
    let call = tokio::time::timeout(Duration::from_secs(10), who(channel));
    let error = call.await.expect("the call ends").unwrap_err();
    assert!(error.contains("timed out"), "{error}");
}

#[tokio::test]
async fn a_crowd_of_strangers_does_not_keep_agents_out() {
    let limits = Limits {
        anonymous: 1,
        ..Limits::default()
    };
    let port = Port::open(limits).await;
    let mut first = port.plain(b"http/1.1").await.unwrap();
    first
        .write_all(b"GET /who HTTP/1.1\r\nhost: c\r\n\r\n")
        .await
        .unwrap();
    first.read_exact(&mut [0; 12]).await.unwrap();
    let mut second = port.plain(b"http/1.1").await.unwrap();
    second
        .write_all(b"GET /who HTTP/1.1\r\nhost: c\r\n\r\n")
        .await
        .unwrap();
    hung_up(second).await;
    let connector = Connector::new(&port.url(), port.authority.agent(FRA)).unwrap();
    assert_eq!(
        who(connector.channel().await.unwrap()).await.unwrap(),
        "shop/fra/fra-1"
    );
}

/// Every test comes from one address, as an attacker with one machine does.
#[tokio::test]
async fn one_address_does_not_take_every_place() {
    let limits = Limits {
        per_address: 2,
        ..Limits::default()
    };
    let port = Port::open(limits).await;
    // An agent that has shown its certificate holds no place.
    let connector = Connector::new(&port.url(), port.authority.agent(FRA)).unwrap();
    let agent = connector.channel().await.unwrap();
    assert_eq!(who(agent.clone()).await.unwrap(), "shop/fra/fra-1");
    // One in its handshake, one past it.
    let silent = TcpStream::connect(port.address).await.unwrap();
    let mut asking = port.plain(b"http/1.1").await.unwrap();
    asking
        .write_all(b"GET /who HTTP/1.1\r\nhost: c\r\n\r\n")
        .await
        .unwrap();
    asking.read_exact(&mut [0; 12]).await.unwrap();
    hung_up(TcpStream::connect(port.address).await.unwrap()).await;
    assert_eq!(who(agent).await.unwrap(), "shop/fra/fra-1");
    // A place that is given back is there for the next.
    drop(silent);
    let began = std::time::Instant::now();
    let connector = Connector::new(&port.url(), port.authority.agent(FRA)).unwrap();
    loop {
        match connector.channel().await {
            Ok(channel) => break assert_eq!(who(channel).await.unwrap(), "shop/fra/fra-1"),
            // That the other end is gone is noticed in a moment.
            Err(error) => assert!(began.elapsed() < Duration::from_secs(10), "{error}"),
        }
    }
}

#[tokio::test]
async fn a_stop_lets_idle_connections_go_and_ends() {
    let port = Port::open(Limits::default()).await;
    let connector = Connector::new(&port.url(), port.authority.agent(FRA)).unwrap();
    let channel = connector.channel().await.unwrap();
    assert_eq!(who(channel.clone()).await.unwrap(), "shop/fra/fra-1");
    port.stop.cancel();
    tokio::time::timeout(Duration::from_secs(3), port.serving)
        .await
        .unwrap()
        .unwrap();
    assert!(who(channel).await.is_err());
}

#[test]
fn credentials_survive_a_crash_between_any_two_files() {
    let authority = Authority::new();
    let (old, new) = (authority.agent(FRA), authority.agent(FRA));
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name);
    let identity = IdentityDir::new(dir.path());
    let leaf = || identity.load().unwrap().chain()[0].clone();

    identity.store(&new).unwrap();
    let (new_key, new_cert) = (
        std::fs::read(place("key.pem")).unwrap(),
        std::fs::read(place("cert.pem")).unwrap(),
    );
    identity.store(&old).unwrap();
    assert_eq!(leaf(), old.chain()[0]);
    assert!(!place("next-key.pem").exists() && !place("next-cert.pem").exists());

    std::fs::write(place("next-key.pem"), &new_key).unwrap();
    assert_eq!(leaf(), old.chain()[0], "only the new key is written");
    std::fs::write(place("next-cert.pem"), &new_cert).unwrap();
    assert_eq!(leaf(), new.chain()[0], "both are written");
    std::fs::rename(place("next-key.pem"), place("key.pem")).unwrap();
    assert_eq!(leaf(), new.chain()[0], "the key is in place");
    std::fs::rename(place("next-cert.pem"), place("cert.pem")).unwrap();
    assert_eq!(leaf(), new.chain()[0], "both are in place");

    std::fs::write(place("key.pem"), "nonsense").unwrap();
    let error = identity.load().unwrap_err().to_string();
    assert!(
        error.ends_with("key.pem is not a private key in PEM; join again with a new token"),
        "{error}"
    );
}
