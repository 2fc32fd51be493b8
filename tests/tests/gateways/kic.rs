//! An agent's gateway under Kong Ingress Controller: a real API server with the real definitions of Gateway API, the doubles of the
//! controller and of Kong.

mod ahead;
mod dead;
mod declared;
mod kongs;
mod load;
mod moving;
mod others;
mod refused;
mod taken;

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
use weir_planner::{DoorFact, Plan, Verdict, ZonePlan};
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
    /// None while it is away.
    controller: Option<Controller>,
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
    let mut scene = Scene {
        stand,
        kong,
        names,
        controller: None,
        dir: tempfile::tempdir().unwrap(),
        namespace: SHOP,
    };
    scene.controller = Some(scene.controller_of(&scene.kong));
    Some(scene)
}

impl Scene {
    /// One more controller, of this Kong.
    fn controller_of(&self, kong: &Kong) -> Controller {
        let options = Controlling {
            gateway: (SHOP.to_owned(), "kong".to_owned()),
            kongs: vec![format!("http://{}", kong.admin())],
            sync: SYNC,
        };
        Controller::start(self.stand.admin.clone(), options).unwrap()
    }

    /// An agent that brought the first plan there, of these splits over two Services; with its zone's part.
    async fn begun(&self, splits: &[String]) -> (Agent, Plan, Arc<ZonePlan>) {
        self.services().await;
        let mut agent = self.agent(false);
        let first = of(splits, None);
        let part = agent.want(&first);
        agent.exact(&part).await;
        (agent, first, part)
    }

    /// Another field manager takes the rules of the split's route, whoever has them.
    async fn taken(&self, theirs: &Value) {
        let path = format!("{ROUTES}/weir.edge.checkout");
        let admin = &self.stand.admin;
        let taken = admin
            .apply_at(&path, "argocd-controller", "&force=true", theirs)
            .await
            .unwrap();
        assert!(taken.status.is_success(), "{}", taken.text());
    }

    async fn deleted(&self, route: &str) {
        self.stand
            .admin
            .delete(&format!("{ROUTES}/{route}"))
            .await
            .unwrap();
    }

    fn agent(&self, take_back: bool) -> Agent {
        self.agent_at(node(&self.kong), Arc::new(Known::default()), take_back)
    }

    /// One that keeps what it knows in another directory.
    fn agent_in(&self, dir: &std::path::Path) -> Agent {
        let cluster = self.cluster(Arc::new(Known::default()), false);
        let gateways = [(edge(), vec![node(&self.kong)])].into();
        Agent::driving(gateways, Some(cluster), &Arc::new(Known::default()), dir)
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

    /// What the API server would make of a new object at this path; nothing is stored.
    async fn tried(&self, path: &str, document: &Value) -> (u16, String) {
        let path = format!("{path}?dryRun=All&fieldValidation=Strict");
        let admin = &self.stand.admin;
        let answer = admin
            .exchange(http::Method::POST, &path, "application/json", Some(document))
            .await
            .unwrap();
        (answer.status.as_u16(), answer.text())
    }

    /// The weights in Kong, by address.
    async fn weights(&self, split: &str) -> BTreeMap<String, u64> {
        targets(&self.kong, &format!("httproute.shop.weir.edge.{split}.0")).await
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
