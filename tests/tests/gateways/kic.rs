//! An agent's gateway under Kong Ingress Controller: a real API server with the real definitions of Gateway API, the doubles of the
//! controller and of Kong.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use weir_agent::gateways::Told;
use weir_drivers::Cluster;
use weir_drivers::kong::{AdminConfig, KongCluster};
use weir_model::SplitName;
use weir_planner::{DoorFact, Plan, Verdict};
use weir_sandbox::cluster::{Change, Store};
use weir_sandbox::kic::{Controller, Options as Controlling};
use weir_sandbox::kong::{Kong, NameTable, Options};
use weir_sandbox::real::cluster_zone::{self, AGENT_NAMESPACE, AGENT_RIGHTS, AGENT_RIGHTS_KIC};
use weir_tests::kubernetes::{SHOP, Stand, stand_with_routes};

use super::asking::*;
use super::stage::*;

const ROUTES: &str = "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes";

/// The controller looks so often here.
const SYNC: Duration = Duration::from_millis(40);

struct Scene {
    stand: Stand,
    kong: Kong,
    names: Arc<NameTable>,
    controller: Controller,
    dir: tempfile::TempDir,
    /// Where Services are made.
    namespace: &'static str,
}

/// None where the programs are absent.
async fn scene_of(test: &str) -> Option<Scene> {
    let stand = stand_with_routes(test).await.unwrap()?;
    stand.namespace(AGENT_NAMESPACE, "false").await.unwrap();
    stand.apply_text(AGENT_RIGHTS).await.unwrap();
    stand.apply_text(AGENT_RIGHTS_KIC).await.unwrap();
    let names = Arc::new(NameTable::default());
    let options = Options {
        names: Arc::clone(&names) as Arc<_>,
        ..Options::default()
    };
    let kong = Kong::without_database(options).await.unwrap();
    let controller = controller(&stand, &kong);
    Some(Scene {
        stand,
        kong,
        names,
        controller,
        dir: tempfile::tempdir().unwrap(),
        namespace: SHOP,
    })
}

fn controller(stand: &Stand, kong: &Kong) -> Controller {
    let options = Controlling {
        gateway: (SHOP.to_owned(), "kong".to_owned()),
        kongs: vec![format!("http://{}", kong.admin())],
        sync: SYNC,
    };
    Controller::start(stand.admin.clone(), options).unwrap()
}

impl Scene {
    fn agent(&self, take_back: bool) -> Agent {
        self.agent_at(node(&self.kong), Arc::new(Known::default()), take_back)
    }

    /// One that reaches Kong by this address.
    fn agent_at(&self, node: AdminConfig, names: Arc<Known>, take_back: bool) -> Agent {
        let cluster = self.cluster(names, take_back);
        let gateways = [(edge(), vec![node])].into();
        Agent::driving(
            gateways,
            Some(cluster),
            &Arc::new(Known::default()),
            self.dir.path(),
        )
    }

    fn cluster(&self, names: Arc<Known>, take_back: bool) -> KongCluster {
        KongCluster {
            federation: "shop".parse().unwrap(),
            cluster: Cluster::Kubeconfig {
                file: self.stand.cluster.kubeconfig(&cluster_zone::agent()),
                context: None,
            },
            take_back,
            timeout: Duration::from_secs(5),
            names,
        }
    }

    /// A Service of this port, with annotations.
    async fn service(&self, name: &str, port: u16, annotations: Value) {
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": self.namespace, "annotations": annotations},
            "spec": {"ports": [{"name": "http", "port": port}], "clusterIP": "None"},
        });
        self.stand.apply(&service).await.unwrap();
    }

    /// So many endpoints of it, all ready.
    async fn endpoints(&self, service: &str, network: &str, count: usize) {
        let endpoints = (1..=count)
            .map(|n| json!({"addresses": [format!("{network}.{n}")], "conditions": {"ready": true}}));
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": format!("{service}-1"), "namespace": self.namespace, "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": endpoints.collect::<Vec<_>>(),
        });
        self.stand.apply(&slice).await.unwrap();
    }

    /// Two Services, with three endpoints and seven.
    async fn services(&self) {
        for (name, network, count) in [("old", "10.1.0", 3), ("new", "10.2.0", 7)] {
            self.service(name, 80, json!({})).await;
            self.endpoints(name, network, count).await;
        }
    }

    async fn route(&self, split: &str) -> Option<Value> {
        self.stand
            .admin
            .find(&format!("{ROUTES}/weir.edge.{split}"))
            .await
            .unwrap()
    }

    /// The weights in Kong, by address.
    async fn weights(&self, split: &str) -> BTreeMap<String, u64> {
        targets(&self.kong, &format!("httproute.shop.weir.edge.{split}.0")).await
    }
}

impl Scene {
    /// Waits until Kong has these weights.
    async fn runs(&self, split: &str, weights: &BTreeMap<String, u64>) {
        let there = async {
            while self.weights(split).await != *weights {
                tokio::time::sleep(SYNC).await;
            }
        };
        tokio::time::timeout(PATIENCE, there).await.unwrap();
    }
}

const SERVICES: &str = "vm: \"old.shop.svc:80\", cloud: \"new.shop.svc:80\"";

fn of(splits: &[String], before: Option<&Plan>) -> Plan {
    let gateway = "{name: edge, channel: kic, parentRef: {namespace: shop, name: kong}}";
    plan_of(gateway, "", splits, before)
}

fn verdict(door: &DoorFact) -> String {
    match door.proof.as_ref().map(|proof| &proof.verdict) {
        Some(Verdict::Different(why)) => format!("different: {why}"),
        other => format!("{other:?}"),
    }
}

/// What is told of a door once this is in it: why it is held, or what its proof says.
async fn until(agent: &mut Agent, plan: &Plan, split: &str, what: &str) -> String {
    let words = |door: &DoorFact| door.held.clone().unwrap_or_else(|| verdict(door));
    let told = agent
        .until(what, |told| {
            door(told, plan, split).is_some_and(|door| words(door).contains(what))
        })
        .await;
    words(door(&told, plan, split).unwrap())
}

/// Weights by network: of 10.1.0 and of 10.2.0, so many each.
fn of_networks(old: (usize, u64), new: (usize, u64)) -> BTreeMap<String, u64> {
    let network = |of: &'static str, (count, weight): (usize, u64)| {
        (1..=count).map(move |n| (format!("{of}.{n}:8080"), weight))
    };
    network("10.1.0", old).chain(network("10.2.0", new)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_declared_comes_to_the_cluster_and_is_proven_at_kong() {
    let Some(scene) = scene_of("what_is_declared_comes_to_the_cluster").await else {
        return;
    };
    scene.services().await;
    let before = scene.stand.store().await.unwrap();
    let mut agent = scene.agent(false);
    let first = of(
        &[
            own_door("checkout", 90, SERVICES),
            own_door("basket", 100, SERVICES),
        ],
        None,
    );
    let part = agent.want(&first);
    let told = agent.exact(&part).await;
    assert_eq!(told.notes, Vec::<String>::new());
    assert_eq!(
        scene.weights("checkout").await,
        of_networks((3, 18_000), (7, 857))
    );
    let proof = told.doors[&name("checkout")][&edge()].fact.proof.clone().unwrap();
    let split: SplitName = name("checkout");
    let shares: Vec<u32> = proof
        .weights
        .unwrap()
        .into_values()
        .flat_map(|of| of.into_values())
        .map(|w| w.get())
        .collect();
    assert_eq!(shares, [1_000, 9_000], "cloud and vm of {split}");
    let route = scene.route("checkout").await.unwrap();
    assert_eq!(route["metadata"]["generation"], 1);

    // Whoever comes after finds nothing to do.
    agent.killed().await;
    let mut agent = scene.agent(false);
    agent.want(&first);
    agent.exact(&part).await;
    assert_eq!(
        scene.route("checkout").await.unwrap()["metadata"]["resourceVersion"],
        route["metadata"]["resourceVersion"]
    );

    // Another weight, and one endpoint more: the share stays what is declared.
    let second = of(
        &[
            own_door("checkout", 99, SERVICES),
            own_door("basket", 100, SERVICES),
        ],
        Some(&first),
    );
    let part = agent.want(&second);
    agent.exact(&part).await;
    assert_eq!(scene.weights("checkout").await, of_networks((3, 19_800), (7, 85)));
    scene.endpoints("new", "10.2.0", 8).await;
    scene.runs("checkout", &of_networks((3, 19_800), (8, 75))).await;
    agent.exact(&part).await;

    // With so many that the controller's rounding moves the share it is said, with the share; and not shown as what is declared.
    scene.endpoints("new", "10.2.0", 250).await;
    let told = until(&mut agent, &second, "checkout", "rounds").await;
    assert!(
        told.contains("cloud 0.8") && told.contains("instead of 1 % over 250 endpoints"),
        "{told}"
    );
    scene.endpoints("new", "10.2.0", 7).await;
    agent.exact(&part).await;

    // A split goes: its route goes, and nothing else was ever touched.
    let third = of(&[own_door("checkout", 99, SERVICES)], Some(&second));
    let part = agent.want(&third);
    agent.until("gone", |_| true).await;
    gone(&scene, "basket").await;
    agent.exact(&part).await;
    let mut changes = before.changes(&Store::read(&scene.stand.admin).await.unwrap());
    changes.retain(|change| !change.path.starts_with(&format!("{ROUTES}/weir.edge.")));
    changes.retain(|change| !change.path.contains("/endpointslices/new-1"));
    let told: Vec<String> = changes.iter().map(Change::to_string).collect();
    assert_eq!(told, Vec::<String>::new(), "changed, and not ours");
    agent.stopped().await;
    drop(scene.controller);
}

async fn gone(scene: &Scene, split: &str) {
    let gone = async {
        while scene.route(split).await.is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_go_only_where_all_that_was_declared_is_there() {
    let Some(scene) = scene_of("requests_go_only_where").await else {
        return;
    };
    scene.service("old", 80, json!({})).await;
    scene.endpoints("old", "10.1.0", 3).await;
    let mut agent = scene.agent(false);
    // The new one is not there yet: nothing is written.
    let first = of(
        &[
            own_door("checkout", 90, SERVICES),
            own_door("basket", 100, SERVICES),
        ],
        None,
    );
    let part = agent.want(&first);
    until(&mut agent, &first, "checkout", "there is no Service shop/new").await;
    assert_eq!(scene.route("checkout").await, None);
    // What gets nothing need not be there.
    agent
        .until("basket", |told| door(told, &first, "basket").is_some_and(exact))
        .await;
    scene.service("new", 80, json!({"konghq.com/retries": "1"})).await;
    until(
        &mut agent,
        &first,
        "checkout",
        "no endpoint of the Service shop/new is ready",
    )
    .await;
    scene.endpoints("new", "10.2.0", 7).await;
    let told = until(&mut agent, &first, "checkout", "konghq.com/retries").await;
    assert!(told.contains("make it the same on both"), "{told}");
    assert_eq!(scene.route("checkout").await, None);
    scene.service("old", 80, json!({"konghq.com/retries": "1"})).await;
    agent.exact(&part).await;

    // Later on somebody annotates one of them: the controller drops the rule with all of its requests. It is seen.
    scene.service("old", 80, json!({"konghq.com/retries": "2"})).await;
    until(
        &mut agent,
        &first,
        "checkout",
        "different: the annotation konghq.com/retries",
    )
    .await;
    scene.service("old", 80, json!({"konghq.com/retries": "1"})).await;
    agent.exact(&part).await;

    // The last endpoint of the new one goes: the controller gives its share to the others, and calls it programmed.
    scene.endpoints("new", "10.2.0", 0).await;
    until(
        &mut agent,
        &first,
        "checkout",
        "different: backend cloud: no endpoint",
    )
    .await;
    // A revert away from it is written all the same.
    let back = of(
        &[
            own_door("checkout", 100, SERVICES),
            own_door("basket", 100, SERVICES),
        ],
        Some(&first),
    );
    let part = agent.want(&back);
    agent.exact(&part).await;
    assert_eq!(scene.weights("checkout").await, of_networks((3, 20_000), (0, 0)));
    agent.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_writes_is_named_and_not_fought() {
    let Some(scene) = scene_of("what_somebody_else_writes").await else {
        return;
    };
    scene.services().await;
    let mut agent = scene.agent(false);
    let splits = |vm: u32| [own_door("checkout", vm, SERVICES)];
    let first = of(&splits(90), None);
    let part = agent.want(&first);
    agent.exact(&part).await;
    let ours = scene.route("checkout").await.unwrap();

    // Another field manager takes the rules.
    let path = format!("{ROUTES}/weir.edge.checkout");
    let mut rules = ours["spec"]["rules"].clone();
    rules[0]["backendRefs"][0]["weight"] = json!(1);
    let theirs = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "weir.edge.checkout", "namespace": SHOP}, "spec": {"rules": rules},
    });
    let taken = scene
        .stand
        .admin
        .apply_at(&path, "argocd-controller", "&force=true", &theirs)
        .await
        .unwrap();
    assert!(taken.status.is_success(), "{}", taken.text());
    let told = until(&mut agent, &first, "checkout", "argocd-controller").await;
    assert!(told.contains("does not fight it"), "{told}");
    let spec = async || scene.route("checkout").await.unwrap()["spec"].clone();
    assert_eq!(spec().await["rules"], rules, "it was not fought");
    agent.stopped().await;

    // Whoever runs this zone said that fields are taken back; but two do not fight.
    let mut agent = scene.agent(true);
    agent.want(&first);
    agent.exact(&part).await;
    assert_eq!(spec().await, ours["spec"]);
    let taken = scene
        .stand
        .admin
        .apply_at(&path, "argocd-controller", "&force=true", &theirs)
        .await
        .unwrap();
    assert!(taken.status.is_success(), "{}", taken.text());
    let told = until(&mut agent, &first, "checkout", "took it again").await;
    assert!(told.contains("argocd-controller"), "{told}");
    agent.stopped().await;
    scene.stand.admin.delete(&path).await.unwrap();

    // Somebody's route for the same requests: none is put beside it.
    let mut rival = theirs.clone();
    rival["metadata"]["name"] = json!("theirs");
    rival["spec"] = json!({
        "parentRefs": [{"name": "kong"}],
        "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": "/checkout"}}], "backendRefs": [{"name": "old", "port": 80}]}],
    });
    scene.stand.apply(&rival).await.unwrap();
    let mut agent = scene.agent(true);
    agent.want(&first);
    let told = until(&mut agent, &first, "checkout", "takes the same requests").await;
    assert!(told.contains("shop/theirs"), "{told}");
    assert_eq!(scene.route("checkout").await, None);
    scene
        .stand
        .admin
        .delete(&format!("{ROUTES}/theirs"))
        .await
        .unwrap();
    agent.exact(&part).await;

    // It comes later: what is there is no proof any more; a revert is written all the same.
    scene.stand.apply(&rival).await.unwrap();
    until(
        &mut agent,
        &first,
        "checkout",
        "which of the two Kong takes is not known",
    )
    .await;
    let back = of(&splits(100), Some(&first));
    let part = agent.want(&back);
    until(
        &mut agent,
        &back,
        "checkout",
        "which of the two Kong takes is not known",
    )
    .await;
    scene
        .stand
        .admin
        .delete(&format!("{ROUTES}/theirs"))
        .await
        .unwrap();
    agent.exact(&part).await;

    // An object of our name that is not ours stays.
    agent.stopped().await;
    scene.stand.admin.delete(&path).await.unwrap();
    let mut copied = rival.clone();
    copied["metadata"] =
        json!({"name": "weir.edge.checkout", "namespace": SHOP, "labels": ours["metadata"]["labels"]});
    scene.stand.apply(&copied).await.unwrap();
    let mut agent = scene.agent(true);
    agent.want(&back);
    let told = until(&mut agent, &back, "checkout", "is not Weir's").await;
    assert!(told.contains("no field of it was written by Weir"), "{told}");
    agent.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kong_refuses_of_another_route_is_no_proof_of_ours() {
    let Some(scene) = scene_of("what_kong_refuses_of_another_route").await else {
        return;
    };
    scene.services().await;
    let mut agent = scene.agent(false);
    let first = of(&[own_door("checkout", 90, SERVICES)], None);
    let part = agent.want(&first);
    agent.exact(&part).await;
    // A route with weights that Gateway API allows and Kong does not: from now on nothing of any route goes through.
    let too_heavy = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "heavy", "namespace": SHOP},
        "spec": {
            "parentRefs": [{"name": "kong"}],
            "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": "/heavy"}}], "backendRefs": [{"name": "old", "port": 80, "weight": 1_000_000}]}],
        },
    });
    scene.stand.apply(&too_heavy).await.unwrap();
    until(&mut agent, &first, "checkout", "KongConfigurationApplyFailed").await;
    let second = of(&[own_door("checkout", 100, SERVICES)], Some(&first));
    let part = agent.want(&second);
    until(&mut agent, &second, "checkout", "KongConfigurationApplyFailed").await;
    assert_eq!(
        scene.weights("checkout").await,
        of_networks((3, 18_000), (7, 857)),
        "Kong runs on"
    );
    scene
        .stand
        .admin
        .delete(&format!("{ROUTES}/heavy"))
        .await
        .unwrap();
    agent.exact(&part).await;
    assert_eq!(scene.weights("checkout").await, of_networks((3, 20_000), (7, 0)));

    // The controller is away: a change is written, and nothing that it says is of the route as it is.
    let Scene {
        controller: away,
        stand,
        kong,
        dir,
        ..
    } = scene;
    drop(away);
    let third = of(&[own_door("checkout", 50, SERVICES)], Some(&second));
    let part = agent.want(&third);
    until(&mut agent, &third, "checkout", "is of the route as it was before").await;
    let again = controller(&stand, &kong);
    agent.exact(&part).await;
    agent.stopped().await;
    drop((again, dir));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_pod_behind_a_name_proves_itself() {
    let Some(scene) = scene_of("each_pod_behind_a_name_proves_itself").await else {
        return;
    };
    scene.services().await;
    // A second Kong, at another address with the port of the first.
    let second = Kong::without_database(Options::default()).await.unwrap();
    let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), scene.kong.admin().port()))
        .await
        .unwrap();
    let behind = second.admin();
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut to = TcpStream::connect(behind).await.unwrap();
                // Either end may close it.
                let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
            });
        }
    });
    let one: IpAddr = Ipv4Addr::LOCALHOST.into();
    let other: IpAddr = Ipv4Addr::new(127, 0, 0, 2).into();
    let names = Arc::new(Known::default());
    let by_name = AdminConfig {
        url: format!("http://localhost:{}", scene.kong.admin().port()),
        status: None,
        ..node(&scene.kong)
    };
    let mut agent = scene.agent_at(by_name, Arc::clone(&names), false);
    let first = of(&[own_door("checkout", 90, SERVICES)], None);
    let part = agent.want(&first);
    until(&mut agent, &first, "checkout", "behind localhost are not known").await;
    let seen = |told: Arc<Told>| {
        let proof = told.doors[&name("checkout")][&edge()].fact.proof.clone().unwrap();
        (proof.coverage.seen, proof.coverage.of)
    };
    names.0.lock().unwrap().insert(one);
    assert_eq!(seen(agent.exact(&part).await), (1, 1));
    // A pod comes that the controller does not configure yet: what it serves is not what is declared.
    names.0.lock().unwrap().insert(other);
    let told = until(&mut agent, &first, "checkout", "(127.0.0.2)").await;
    assert!(told.starts_with("different"), "{told}");
    let options = Controlling {
        gateway: (SHOP.to_owned(), "kong".to_owned()),
        kongs: vec![format!("http://{behind}")],
        sync: SYNC,
    };
    let too = Controller::start(scene.stand.admin.clone(), options).unwrap();
    assert_eq!(seen(agent.exact(&part).await), (2, 2));
    agent.stopped().await;
    drop(too);
}

/// Watches that Kong always has a route with this path, until it is dropped.
fn always_routed(kong: &Kong, path: &'static str) -> (tokio::task::JoinHandle<u32>, CancellationToken) {
    let over = CancellationToken::new();
    let url = format!("http://{}/routes", kong.admin());
    let until = over.clone();
    let watch = async move {
        let client = weir_sandbox::http_client();
        let mut looks = 0;
        while !until.is_cancelled() {
            let all: Value = client.get(&url).send().await.unwrap().json().await.unwrap();
            let routes = all["data"].as_array().cloned().unwrap_or_default();
            let has = routes.iter().any(|of| {
                of["paths"]
                    .as_array()
                    .is_some_and(|paths| paths.contains(&json!(path)))
            });
            assert!(has, "nobody takes {path}: {all}");
            looks += 1;
        }
        looks
    };
    (tokio::spawn(watch), over)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_split_that_moves_or_is_renamed_is_never_without_a_route() {
    let Some(mut scene) = scene_of("a_split_that_moves_or_is_renamed").await else {
        return;
    };
    scene.services().await;
    let mut agent = scene.agent(false);
    let first = of(&[own_door("checkout", 90, SERVICES)], None);
    let part = agent.want(&first);
    agent.exact(&part).await;
    let (watch, over) = always_routed(&scene.kong, "/checkout/");

    // To another namespace, in which the agent has no rights yet, and nobody stands behind the Services.
    let stored = SERVICES.replace(".shop.", ".store.");
    let second = of(
        &[
            own_door("checkout", 90, &stored),
            own_door("basket", 100, SERVICES),
        ],
        Some(&first),
    );
    let part = agent.want(&second);
    let told = until(&mut agent, &second, "checkout", "namespace store is not known").await;
    assert!(
        told.contains("forbidden") || told.contains("cannot list"),
        "{told}"
    );
    // A split of another namespace goes on.
    agent
        .until("basket", |told| door(told, &second, "basket").is_some_and(exact))
        .await;
    scene.stand.namespace("store", "false").await.unwrap();
    scene
        .stand
        .apply_text(&AGENT_RIGHTS_KIC.replace("namespace: shop", "namespace: store"))
        .await
        .unwrap();
    scene.namespace = "store";
    for name in ["old", "new"] {
        scene.service(name, 80, json!({})).await;
    }
    until(
        &mut agent,
        &second,
        "checkout",
        "no endpoint of the Service store",
    )
    .await;
    assert!(scene.route("checkout").await.is_some(), "the old one stays");
    scene.endpoints("old", "10.1.0", 3).await;
    scene.endpoints("new", "10.2.0", 7).await;
    agent.exact(&part).await;
    gone(&scene, "checkout").await;

    // By another name, which the mesh does not let in yet; then it does.
    let door_of =
        |name: &str| own_door(name, 80, &stored).replace(&format!("paths: [/{name}]"), "paths: [/checkout]");
    let renamed = door_of("till").replace("service: till", "service: checkout");
    let third = of(&[renamed, own_door("basket", 100, SERVICES)], Some(&second));
    let part = Arc::new(
        third
            .zone_plan(&weir_model::ZoneName::new("fra").unwrap())
            .unwrap(),
    );
    let mut items = part.items.clone();
    items.remove(&name("till"));
    agent.want_items(&part, items);
    let digest = third.splits[&name("basket")].items[&weir_model::ZoneName::new("fra").unwrap()].digest;
    agent
        .until("basket", |told| {
            told.doors
                .get(&name("basket"))
                .is_some_and(|of| of[&edge()].digest == digest && exact(&of[&edge()].fact))
        })
        .await;
    agent.want(&third);
    agent.exact(&part).await;
    let live = scene
        .stand
        .admin
        .list("/apis/gateway.networking.k8s.io/v1/httproutes")
        .await
        .unwrap();
    let names: Vec<&str> = live
        .iter()
        .map(|of| of["metadata"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["weir.edge.basket", "weir.edge.till"]);
    over.cancel();
    assert!(watch.await.unwrap() > 10);
    agent.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_annotation_says_is_proven_at_kong() {
    let Some(scene) = scene_of("what_an_annotation_says").await else {
        return;
    };
    scene.services().await;
    let mut agent = scene.agent(false);
    let first = of(&[own_door("checkout", 90, SERVICES)], None);
    let part = agent.want(&first);
    agent.exact(&part).await;
    // It moves no generation, so that the controller's word stays what it was: Kong has to be asked.
    let Scene {
        controller: away,
        stand,
        kong,
        dir,
        ..
    } = scene;
    drop(away);
    let https = own_door("checkout", 90, SERVICES)
        .replace("paths: [/checkout]", "paths: [/checkout], httpsOnly: true");
    let second = of(&[https], Some(&first));
    let part = agent.want(&second);
    until(&mut agent, &second, "checkout", "https only false").await;
    let again = controller(&stand, &kong);
    agent.exact(&part).await;
    // And somebody else's may change what becomes of requests.
    let path = format!("{ROUTES}/weir.edge.checkout");
    let noted = |value: Value| json!({"metadata": {"annotations": {"konghq.com/plugins": value}}});
    stand.admin.merge(&path, &noted(json!("cut"))).await.unwrap();
    until(&mut agent, &second, "checkout", "with konghq.com/plugins").await;
    stand.admin.merge(&path, &noted(Value::Null)).await.unwrap();
    agent.exact(&part).await;
    agent.stopped().await;
    drop((again, dir));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_lags_takes_nothing_back() {
    let Some(scene) = scene_of("an_agent_that_lags").await else {
        return;
    };
    scene.services().await;
    let mut agent = scene.agent(false);
    let first = of(&[own_door("checkout", 90, SERVICES)], None);
    let older = agent.want(&first);
    agent.exact(&older).await;
    let second = of(&[own_door("checkout", 100, SERVICES)], Some(&first));
    let part = agent.want(&second);
    agent.exact(&part).await;
    // Another agent of the zone has the plan, and its zone's control plane did not take it yet.
    let other = tempfile::tempdir().unwrap();
    let mut lags = Agent::driving(
        [(edge(), vec![node(&scene.kong)])].into(),
        Some(scene.cluster(Arc::new(Known::default()), false)),
        &Arc::new(Known::default()),
        other.path(),
    );
    lags.want_items(&part, older.items.clone());
    let told = lags
        .until("held", |told| {
            let door = told.doors.get(&name("checkout")).and_then(|of| of.get(&edge()));
            door.is_some_and(|door| door.fact.held.is_some())
        })
        .await;
    let held = told.doors[&name("checkout")][&edge()].fact.held.clone().unwrap();
    assert!(
        held.contains("another agent of this zone has a newer plan"),
        "{held}"
    );
    assert_eq!(scene.weights("checkout").await, of_networks((3, 20_000), (7, 0)));
    lags.stopped().await;
    agent.stopped().await;
}

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

/// How Kong reaches Services where Kuma runs: by their names.
#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_lost_while_weights_change() {
    const CHANGES: u32 = 100;
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

    let (over, sent, failed) = (
        CancellationToken::new(),
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicU64::new(0)),
    );
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (over, sent, failed) = (over.clone(), Arc::clone(&sent), Arc::clone(&failed));
            let url = format!("http://{}/checkout", scene.kong.proxy());
            tokio::spawn(async move {
                let client = weir_sandbox::http_client();
                while !over.is_cancelled() {
                    let ok = client
                        .get(&url)
                        .send()
                        .await
                        .is_ok_and(|answer| answer.status() == 200);
                    sent.fetch_add(1, Ordering::Relaxed);
                    failed.fetch_add(u64::from(!ok), Ordering::Relaxed);
                }
            })
        })
        .collect();
    let upstream = "httproute.shop.weir.edge.checkout.0";
    for change in 1..=CHANGES {
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
    // Round robin is exact: of whole rounds of the ring, 9 of 10.
    scene.kong.forget_counts();
    let begun = sent.load(Ordering::Relaxed);
    let counted = async {
        while sent.load(Ordering::Relaxed) < begun + 1_000 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, counted).await.unwrap();
    over.cancel();
    for task in load {
        task.await.unwrap();
    }
    let counts = scene.kong.sent(upstream);
    let by_port = |at: std::net::SocketAddr| {
        let of = counts
            .iter()
            .filter(|(target, _)| target.ends_with(&format!(":{}", at.port())));
        of.map(|(_, count)| *count).sum::<u64>()
    };
    let (to_old, to_new) = (by_port(old), by_port(new));
    let share = to_old as f64 / (to_old + to_new) as f64;
    weir_tests::story::say(&format!(
        "{CHANGES} changes of weights under the controller: {} requests, {} failed; then {to_old} and {to_new}",
        sent.load(Ordering::Relaxed),
        failed.load(Ordering::Relaxed)
    ));
    assert_eq!(failed.load(Ordering::Relaxed), 0);
    // Each worker of Kong is somewhere in its round.
    assert!((share - 0.9).abs() < 0.02, "{counts:?}");
    agent.stopped().await;
}
