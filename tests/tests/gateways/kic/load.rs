//! Weights that change under load.

use tokio::sync::watch;
use weir_tests::amount;

use super::*;

/// Answers every request, until the end.
async fn backend() -> std::net::SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    at
}

/// Requests without a body, one after the other. None at their end.
async fn answer(mut stream: TcpStream) -> Option<()> {
    let mut read = Vec::new();
    loop {
        while !read.windows(4).any(|end| end == b"\r\n\r\n") {
            if stream.read_buf(&mut read).await.ok()? == 0 {
                return None;
            }
        }
        read.clear();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            .await
            .ok()?;
    }
}

/// So many requests, one after the other over one connection; each is answered.
async fn asked_by_one(proxy: std::net::SocketAddr, requests: usize) {
    let mut stream = TcpStream::connect(proxy).await.unwrap();
    let mut answer = Vec::new();
    for _ in 0..requests {
        stream
            .write_all(b"GET /checkout HTTP/1.1\r\nhost: shop.example.com\r\n\r\n")
            .await
            .unwrap();
        answer.clear();
        while !answer.ends_with(b"\r\n\r\nok") {
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "it was closed");
        }
    }
}

/// How Kong reaches Services where Kuma runs: by their names.
#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_lost_while_weights_change() {
    let changes = amount::changes(100);
    let Some(scene) = scene_of("no_request_is_lost_while_weights_change").await else {
        return;
    };
    let by_name = json!({"ingress.kubernetes.io/service-upstream": "true"});
    let (old, new) = (backend().await, backend().await);
    for (name, at) in [("old", old), ("new", new)] {
        scene.service(name, at.port(), by_name.clone()).await;
        scene
            .names
            .set_addresses(&format!("{name}.shop.svc"), &[IpAddr::V4(Ipv4Addr::LOCALHOST)]);
    }
    let services = format!(
        "vm: \"old.shop.svc:{}\", cloud: \"new.shop.svc:{}\"",
        old.port(),
        new.port()
    );
    let mut agent = scene.agent(false);
    let mut plan = of(&[own_door("checkout", 100, &services)], None);
    let part = agent.want(&plan);
    agent.exact(&part).await;

    let (over, failed) = (CancellationToken::new(), Arc::new(AtomicU64::new(0)));
    let (sent, mut seen) = watch::channel(0_u64);
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (over, sent, failed) = (over.clone(), sent.clone(), Arc::clone(&failed));
            let url = format!("http://{}/checkout", scene.kong.proxy());
            tokio::spawn(async move {
                let client = weir_sandbox::http_client();
                while !over.is_cancelled() {
                    let ok = client
                        .get(&url)
                        .send()
                        .await
                        .is_ok_and(|answer| answer.status() == 200);
                    sent.send_modify(|sent| *sent += 1);
                    failed.fetch_add(u64::from(!ok), Ordering::Relaxed);
                }
            })
        })
        .collect();
    let upstream = "httproute.shop.weir.edge.checkout.0";
    for change in 1..=changes {
        let vm = (change * 37) % 101;
        let next = of(&[own_door("checkout", vm, &services)], Some(&plan));
        let part = agent.want(&next);
        // Every seventh is cut short by the next.
        if change % 7 != 0 {
            agent.exact(&part).await;
            let weights = targets(&scene.kong, upstream).await;
            let of =
                |name: &str, at: std::net::SocketAddr| weights[&format!("{name}.shop.svc:{}", at.port())];
            assert_eq!(
                (of("old", old), of("new", new)),
                (u64::from(vm) * 600, u64::from(100 - vm) * 600)
            );
        }
        plan = next;
    }
    let end = of(&[own_door("checkout", 90, &services)], Some(&plan));
    let part = agent.want(&end);
    agent.exact(&part).await;
    let begun = *seen.borrow_and_update();
    let enough = amount::requests(0).max(begun + 1_000);
    seen.wait_for(|sent| *sent >= enough).await.unwrap();
    over.cancel();
    for task in load {
        task.await.unwrap();
    }
    // Round robin is exact, to the request: a connection is one worker's, and of whole rounds of its ring 9 of 10 are the old one's.
    scene.kong.forget_counts();
    asked_by_one(scene.kong.proxy(), 200).await;
    let counts = scene.kong.sent(upstream);
    weir_tests::story::say(&format!(
        "{changes} changes of weights under the controller: {} requests, {} failed; then of 200 {counts:?}",
        *sent.borrow(),
        failed.load(Ordering::Relaxed)
    ));
    assert_eq!(failed.load(Ordering::Relaxed), 0);
    let of =
        |name: &str, at: std::net::SocketAddr, count: u64| (format!("{name}.shop.svc:{}", at.port()), count);
    assert_eq!(counts, [of("old", old, 180), of("new", new, 20)].into());
    agent.stopped().await;
}
