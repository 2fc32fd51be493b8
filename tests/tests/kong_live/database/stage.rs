//! Nodes on one database, in which nothing of Weir's is: real ones, or doubles.

use super::*;

/// One real database has one configuration.
static ONE: Mutex<()> = Mutex::const_new(());

/// Nodes on one database, in which nothing of Weir's is.
pub(super) struct Stage {
    /// Admin APIs.
    pub(super) admins: Vec<String>,
    pub(super) proxies: Vec<SocketAddr>,
    pub(super) driver: KongDb,
    pub(super) kongs: Vec<Kong>,
    _alone: Option<MutexGuard<'static, ()>>,
}

pub(super) fn driver(admins: &[String]) -> KongDb {
    KongDb::new(KongConfig {
        nodes: admins.iter().map(|url| config(url, None)).collect(),
        settle: Duration::from_secs(2),
    })
    .unwrap()
}

/// A node that looks at its database often.
pub(super) async fn node(database: &Database) -> Kong {
    let options = Options {
        db_update_frequency: Duration::from_millis(50),
        worker_state_update_frequency: Duration::from_millis(70),
        ..Options::default()
    };
    Kong::on(database, options).await.unwrap()
}

pub(super) fn url(kong: &Kong) -> String {
    format!("http://{}", kong.admin())
}

impl Stage {
    pub(super) async fn set() -> Self {
        ready();
        let named = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (admins, proxies, kongs, alone) = match named("WEIR_KONG_DB_ADMIN") {
            None => {
                let database = Database::new();
                let kongs = vec![node(&database).await, node(&database).await];
                let proxies = kongs.iter().map(Kong::proxy).collect();
                (kongs.iter().map(url).collect(), proxies, kongs, None)
            }
            Some(admins) => {
                let proxies =
                    named("WEIR_KONG_DB_PROXY").expect("WEIR_KONG_DB_PROXY is the addresses of its proxies");
                let proxies = proxies
                    .split(',')
                    .map(|text| text.trim_start_matches("http://").trim_end_matches('/'))
                    .map(|text| text.parse().expect("host:port, an IP address"));
                let admins: Vec<String> = admins
                    .split(',')
                    .map(|text| text.trim_end_matches('/').to_owned())
                    .collect();
                (admins, proxies.collect(), Vec::new(), Some(ONE.lock().await))
            }
        };
        let stage = Self {
            driver: driver(&admins),
            admins,
            proxies,
            kongs,
            _alone: alone,
        };
        let nothing = wanted(&[]);
        stage
            .until("nothing is left of Weir's", async || {
                let became = stage
                    .driver
                    .bring(
                        &nothing,
                        by(Generation(u64::MAX), &BTreeSet::new(), &CancellationToken::new()),
                    )
                    .await;
                assert_eq!(became.splits, BTreeMap::new());
                stage.get("routes?tags=weir").await["data"] == json!([])
                    && stage.get("upstreams?tags=weir").await["data"] == json!([])
            })
            .await;
        stage
    }

    pub(super) async fn until(&self, what: &str, there: impl AsyncFn() -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        while !there().await {
            assert!(Instant::now() < end, "{what}: never");
        }
    }

    pub(super) async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let method = method.parse().unwrap();
        let mut request = weir_sandbox::http_client().request(method, format!("{}/{path}", self.admins[0]));
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(body.to_string());
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or_default())
    }

    pub(super) async fn get(&self, path: &str) -> Value {
        self.ask("GET", path, None).await.1
    }

    pub(super) async fn bring(&self, wanted: &Entities) -> Became {
        let (posted, overtaken) = (BTreeSet::new(), CancellationToken::new());
        self.driver
            .bring(wanted, by(Generation(100), &posted, &overtaken))
            .await
    }

    /// Brings it there until each node proves it.
    pub(super) async fn proven(&self, wanted: &Entities) -> BTreeMap<weir_model::SplitName, Proof> {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let became = self.bring(wanted).await;
            assert_eq!(became.splits, BTreeMap::new());
            let proofs = self.driver.prove(wanted).await;
            if proofs.values().all(|proof| proof.verdict == Verdict::Exact) {
                return proofs;
            }
            assert!(Instant::now() < end, "{proofs:#?}");
        }
    }
}

pub(super) fn with_database() -> GatewayPlan {
    GatewayPlan {
        channel: Channel::AdminDb,
        ..gateway(None)
    }
}

pub(super) fn wanted(doors: &[(&Item, &Door)]) -> Entities {
    counted_by(doors, None)
}

pub(super) fn counted_by(doors: &[(&Item, &Door)], counting: Option<&Counting>) -> Entities {
    let doors: Vec<AtDoor<'_>> = doors
        .iter()
        .map(|(item, door)| AtDoor {
            item,
            door,
            pin: None,
        })
        .collect();
    let (zone, name) = ("fra".parse().unwrap(), "edge".parse().unwrap());
    counting_entities(
        &federation(),
        (&zone, &name),
        &with_database(),
        &doors,
        &Resolved::new(),
        (counting, &BTreeSet::new()),
    )
    .unwrap()
}

pub(super) async fn pair() -> (SocketAddr, SocketAddr) {
    (
        Target::start("vm").await.address,
        Target::start("eks").await.address,
    )
}

pub(super) fn share(generation: u64, eks: u32) -> Item {
    plain("checkout", generation, &[("vm", 10_000 - eks), ("eks", eks)])
}
