//! What every test here starts with: a Kong that has nothing, what is behind it, and splits to give it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::LazyLock;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;
use weir_drivers::kong::Pins;
use weir_drivers::{
    AdminConfig, Bringing, Brought, DriverError, GatewayDriver, KongConfig, KongDbless, bring,
};
use weir_model::{
    Address, BackendName, Base, BasisPoints, Channel, CommitId, Door, Entry, FederationName, Match, Protocol,
    Routing, SourceName, SplitName, Via,
};
use weir_planner::{Destination, Digest, GatewayPlan, Generation, Item, ItemRoute, Verdict};
use weir_render::kong::{AtDoor, Document, Resolved, document};
use weir_sandbox::kong::{Kong, Options};

/// One real Kong has one configuration.
static ONE: Mutex<()> = Mutex::const_new(());

/// A Kong, empty.
pub(crate) struct Stage {
    /// Its Admin API, without a slash at its end.
    pub(crate) admin: String,
    /// Where requests go.
    pub(crate) proxy: SocketAddr,
    pub(crate) driver: KongDbless,
    _kong: Option<Kong>,
    _alone: Option<MutexGuard<'static, ()>>,
}

/// Installs what TLS is made with, once in the process.
pub(crate) fn ready() {
    drop(weir_sandbox::http_client());
}

pub(crate) fn config(admin: &str, status: Option<&str>) -> AdminConfig {
    AdminConfig {
        url: admin.to_owned(),
        status: status.map(str::to_owned),
        ca: None,
        header: None,
        timeout: Duration::from_secs(10),
    }
}

pub(crate) fn driver(nodes: Vec<AdminConfig>) -> KongDbless {
    let settle = Duration::from_secs(5);
    KongDbless::new(KongConfig { nodes, settle }).unwrap()
}

/// The address of `host:port`, in whatever way the host is written; of a name one of IPv4 if there is one, where Kong listens at first.
fn address(proxy: &str) -> SocketAddr {
    let plain = proxy.trim_start_matches("http://").trim_end_matches('/');
    let found = plain.to_socket_addrs();
    let found: Vec<SocketAddr> = match found {
        Ok(found) => found.collect(),
        Err(why) => panic!(
            "WEIR_KONG_PROXY is {proxy}, and should be host:port or http://host:port of Kong's proxy: {why}"
        ),
    };
    let four = found.iter().find(|address| address.is_ipv4());
    *four
        .or(found.first())
        .unwrap_or_else(|| panic!("WEIR_KONG_PROXY is {proxy}, a name without an address"))
}

impl Stage {
    /// The Kong that the environment names, or a double.
    pub(crate) async fn set() -> Self {
        ready();
        let named = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let stage = match named("WEIR_KONG_ADMIN") {
            None => {
                let kong = Kong::without_database(Options::default()).await.unwrap();
                let (admin, status) = (
                    format!("http://{}", kong.admin()),
                    format!("http://{}", kong.status()),
                );
                Self {
                    proxy: kong.proxy(),
                    driver: driver(vec![config(&admin, Some(&status))]),
                    admin,
                    _kong: Some(kong),
                    _alone: None,
                }
            }
            Some(admin) => {
                let admin = admin.trim_end_matches('/').to_owned();
                let proxy = named("WEIR_KONG_PROXY").expect("WEIR_KONG_PROXY is the address of its proxy");
                let status = named("WEIR_KONG_STATUS");
                Self {
                    proxy: address(&proxy),
                    driver: driver(vec![config(&admin, status.as_deref())]),
                    admin,
                    _kong: None,
                    _alone: Some(ONE.lock().await),
                }
            }
        };
        stage.load(r#"{"_format_version":"3.0"}"#).await;
        stage
    }

    /// Loads a document as its site does: not through Weir.
    pub(crate) async fn load(&self, document: &str) {
        let answer = weir_sandbox::http_client()
            .post(format!("{}/config", self.admin))
            .header("content-type", "text/yaml")
            .body(document.to_owned())
            .send()
            .await
            .unwrap();
        let status = answer.status();
        assert_eq!(status, 201, "{}", answer.text().await.unwrap());
    }

    /// What its Admin API answers.
    pub(crate) async fn read(&self, path: &str) -> Value {
        let answer = weir_sandbox::http_client()
            .get(format!("{}/{path}", self.admin))
            .send()
            .await
            .unwrap();
        serde_json::from_str(&answer.text().await.unwrap()).unwrap()
    }

    /// The hash of what it runs.
    pub(crate) async fn hash(&self) -> String {
        let status = self.read("status").await;
        status["configuration_hash"].as_str().unwrap().to_owned()
    }

    /// Brings it to a document, and what became of it.
    pub(crate) async fn brought(&self, document: &Document, posted: &[&str]) -> Brought {
        let posted: BTreeSet<String> = posted.iter().map(|hash| (*hash).to_owned()).collect();
        let brought = brought_by(&self.driver, document, Generation(100), &posted).await;
        brought.into_values().next().unwrap()
    }

    /// Brings it to a document for sure: posted, and proven of every door.
    pub(crate) async fn bring(&self, document: &Document) {
        let brought = self.brought(document, &[]).await;
        assert!(matches!(brought, Brought::Posted), "{brought:?}");
        let proofs = self.driver.prove(document).await;
        assert_eq!(proofs.len(), document.doors.len());
        for proof in proofs.values() {
            assert_eq!(proof.verdict, Verdict::Exact, "{proof:?}");
        }
    }
}

/// What is brought by, where nothing else is said.
pub(crate) fn by<'a>(
    plan: Generation,
    posted: &'a BTreeSet<String>,
    overtaken: &'a CancellationToken,
) -> Bringing<'a> {
    static NONE: BTreeSet<String> = BTreeSet::new();
    static NO_SPLITS: BTreeSet<SplitName> = BTreeSet::new();
    static NOBODY: BTreeMap<String, String> = BTreeMap::new();
    static NONE_LEFT: BTreeMap<String, DriverError> = BTreeMap::new();
    static NO_PINS: LazyLock<Pins> = LazyLock::new(Pins::default);
    Bringing {
        plan,
        posted,
        absent: &NO_SPLITS,
        refused: &NONE,
        skip: &NOBODY,
        left: &NONE_LEFT,
        back: &NO_SPLITS,
        pins: &NO_PINS,
        overtaken,
    }
}

async fn brought_by(
    driver: &dyn GatewayDriver,
    document: &Document,
    plan: Generation,
    posted: &BTreeSet<String>,
) -> BTreeMap<String, Brought> {
    bring(driver, document, by(plan, posted, &CancellationToken::new())).await
}

/// Brings all nodes to a document, by an agent that posted nothing before.
pub(crate) async fn first(
    driver: &dyn GatewayDriver,
    document: &Document,
    plan: u64,
) -> BTreeMap<String, Brought> {
    brought_by(driver, document, Generation(plan), &BTreeSet::new()).await
}

pub(crate) fn federation() -> FederationName {
    "shop".parse().unwrap()
}

/// A route of a split: its name, what it matches, its basis points.
pub(crate) fn route(name: &str, matches: Match, of: &[(&str, u32)]) -> ItemRoute {
    let weights = of
        .iter()
        .map(|(backend, weight)| (backend.parse().unwrap(), BasisPoints::new(*weight).unwrap()));
    ItemRoute {
        name: name.parse().unwrap(),
        matches,
        weights: weights.collect(),
    }
}

/// A split.
pub(crate) fn item(split: &str, generation: u64, routes: Vec<ItemRoute>) -> Item {
    Item {
        split: split.parse().unwrap(),
        zone: "fra-vm".parse().unwrap(),
        kuma_zone: "fra".parse().unwrap(),
        mesh: "default".parse().unwrap(),
        service: split.parse().unwrap(),
        port: 8080,
        port_names: BTreeSet::new(),
        protocol: Protocol::Http,
        destinations: destinations(&routes),
        retiring: BTreeSet::new(),
        routes,
        anchor: String::new(),
        fallback: BTreeMap::new(),
        doors: BTreeMap::new(),
        generation: Generation(generation),
        commit: CommitId("0123456789abcdef0123456789abcdef01234567".to_owned()),
        digest: Digest([0; 32]),
    }
}

/// One for each backend: a zone of its name.
fn destinations(routes: &[ItemRoute]) -> BTreeMap<BackendName, Destination> {
    let backends = routes.iter().flat_map(|route| route.weights.keys());
    let one = |backend: &BackendName| Destination {
        zone: backend.as_str().parse().unwrap(),
        kuma_zone: backend.as_str().parse().unwrap(),
        namespace: None,
        service: "service".parse().unwrap(),
        port: 8080,
    };
    backends.map(|backend| (backend.clone(), one(backend))).collect()
}

/// A split with one route.
pub(crate) fn plain(split: &str, generation: u64, of: &[(&str, u32)]) -> Item {
    item(split, generation, vec![route("default", Match::ANY, of)])
}

/// A door of its own with this path.
pub(crate) fn routing(path: &str) -> Routing {
    Routing {
        hosts: BTreeSet::new(),
        paths: [path.to_owned()].into(),
        methods: BTreeSet::new(),
        headers: BTreeMap::new(),
        snis: [].into(),
        https_only: false,
        https_redirect: weir_model::Redirect::default(),
        strip_path: true,
        preserve_host: false,
    }
}

pub(crate) fn by_routes(routing: Routing, of: &[(&str, &[SocketAddr])]) -> Door {
    Door {
        entry: Entry::Routes(routing),
        via: addresses(of),
    }
}

pub(crate) fn by_service(service: &str, of: &[(&str, &[SocketAddr])]) -> Door {
    Door {
        entry: Entry::Service(service.to_owned()),
        via: addresses(of),
    }
}

fn addresses(of: &[(&str, &[SocketAddr])]) -> Via {
    let one = |(backend, all): &(&str, &[SocketAddr])| {
        let all = all
            .iter()
            .map(|address| Address::new(&address.to_string()).unwrap());
        (backend.parse().unwrap(), all.collect())
    };
    Via::Addresses(of.iter().map(one).collect())
}

/// A gateway, with a base or without.
pub(crate) fn gateway(base: Option<&Value>) -> GatewayPlan {
    GatewayPlan {
        channel: Channel::AdminDbless,
        in_mesh: false,
        base: base.map(|base| Base {
            source: SourceName("main".to_owned()),
            file: "kong.yaml".to_owned(),
            document: base.to_string().into(),
        }),
        parent: None,
        generation: Generation(3),
        digest: Digest([0; 32]),
    }
}

/// The document of these doors.
pub(crate) fn made(base: Option<&Value>, doors: &[(&Item, &Door)]) -> Document {
    let doors: Vec<AtDoor<'_>> = doors
        .iter()
        .map(|(item, door)| AtDoor {
            item,
            door,
            pin: None,
        })
        .collect();
    let made = document(&federation(), &gateway(base), &doors, &Resolved::new());
    made.expect("no conflict").expect("a document")
}
