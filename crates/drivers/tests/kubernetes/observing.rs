//! What is made of a cluster's objects, and that what cannot be read is never nothing.

use std::sync::Arc;

use serde_json::{Value, json};
use weir_drivers::{Fault, ZoneDriver as _};
use weir_model::{DnsLabel, Protocol, ServiceName};
use weir_planner::{Generation, SecondWriter, ServiceFact, ServiceState, Way};

use crate::cluster::{ADDRESSES, Cluster, HTTP, INGRESSES, Instead, NAMESPACES, SERVICES, TCP, body};
use crate::plan::{self, item, mesh};

fn fact(zone: &str, namespace: Option<&str>) -> ServiceFact {
    ServiceFact {
        service: ServiceName::new("checkout").unwrap(),
        kuma_zone: DnsLabel::new(zone).unwrap(),
        namespace: namespace.map(|name| DnsLabel::new(name).unwrap()),
        ports: [(8080, Some(Protocol::Http))].into(),
        // Recorded: a Service's port has its own name in a cluster, one of a VM its number.
        port_names: namespace.map(|_| (8080, "http".to_owned())).into_iter().collect(),
        state: ServiceState::Available,
        way: Way::Open,
    }
}

/// Somebody's route for checkout, in one rule for everything, as the webhooks leave it.
fn route(namespace: &str, name: &str, role: &str) -> Value {
    let mut document = plan::live([5000, 5000], 1);
    document["metadata"] = json!({
        "name": name, "namespace": namespace,
        "labels": {"kuma.io/mesh": "default", "kuma.io/origin": "zone", "kuma.io/policy-role": role},
        "annotations": {"kuma.io/display-name": name},
        "managedFields": plan::managed("kubectl", "Apply", "2026-11-23T15:39:02Z"),
    });
    for to in document["spec"]["to"].as_array_mut().unwrap() {
        to["rules"].as_array_mut().unwrap().truncate(1);
    }
    document
}

/// Another zone's ingress as Kuma writes it into a cluster.
fn ingress(zone: &str, advertised: bool) -> Value {
    let mut networking = json!({"address": "10.0.0.1", "port": 10001});
    if advertised {
        networking["advertisedAddress"] = json!("lb.example.com");
        networking["advertisedPort"] = json!(10001);
    }
    json!({
        "apiVersion": "kuma.io/v1alpha1", "kind": "ZoneIngress",
        "metadata": {"name": format!("ingress-{zone}"), "namespace": "kuma-system",
                     "labels": {"kuma.io/zone": zone, "kuma.io/origin": "global"}},
        "spec": {"zone": zone, "networking": networking},
    })
}

/// What the cluster holds of other zones' ingresses, and that an agent without the right to know holds nothing up.
#[tokio::test]
async fn the_ways_to_other_zones() {
    let ways = async |cluster: &Cluster| {
        cluster.put(plan::service("fra", None));
        cluster.put(plan::service("use1", Some("shop")));
        let driver = cluster.driver();
        let observed = driver
            .observe(&mesh(), &[Arc::new(item([9000, 1000], 7))])
            .await
            .unwrap();
        let ways: Vec<_> = observed.services.iter().map(|fact| fact.way).collect();
        (ways, driver.notes())
    };
    let nothing = Vec::<String>::new();
    let cluster = Cluster::new();
    assert_eq!(
        ways(&cluster).await,
        (vec![Way::NoIngress, Way::Open], nothing.clone())
    );
    cluster.put(ingress("ams", true));
    cluster.put(ingress("fra", false));
    assert_eq!(
        ways(&cluster).await,
        (vec![Way::NotAdvertised, Way::Open], nothing.clone())
    );
    let address = |mesh: &str| {
        json!({
            "apiVersion": "kuma.io/v1alpha1", "kind": "MeshZoneAddress",
            "metadata": {"name": format!("of-{mesh}"), "namespace": "kuma-system",
                         "labels": {"kuma.io/zone": "fra", "kuma.io/mesh": mesh}},
            "spec": {"address": "10.0.0.2", "port": 10001},
        })
    };
    cluster.put(address("bank"));
    assert_eq!(
        ways(&cluster).await.0,
        [Way::NotAdvertised, Way::Open],
        "another mesh's"
    );
    cluster.put(address("default"));
    assert_eq!(ways(&cluster).await, (vec![Way::Open, Way::Open], nothing));

    for path in [INGRESSES, ADDRESSES] {
        let blind = Cluster::new();
        let list = path.rsplit('/').next().unwrap();
        let why = format!("{list}.kuma.io is forbidden: User \"x\" cannot list resource");
        blind.on("GET", path, body(403, &json!({"kind": "Status", "message": why})));
        let (seen, notes) = ways(&blind).await;
        assert_eq!(seen, [Way::Unknown, Way::Open]);
        assert!(
            notes
                .iter()
                .any(|note| note.contains("nothing is held for it") && note.contains(list)),
            "{notes:?}"
        );
        blind.on("GET", path, Instead::Hang);
        let (seen, notes) = ways(&blind).await;
        assert_eq!(seen, [Way::Unknown, Way::Open]);
        assert!(notes.iter().any(|note| note.contains("within 1s")), "{notes:?}");
    }
}

#[tokio::test]
async fn a_cluster_in_a_plans_terms() {
    let cluster = Cluster::new();
    cluster.put(ingress("fra", true));
    cluster.put(plan::service("fra", None));
    let mut named = plan::service("use1", Some("shop"));
    named["spec"]["ports"][0]["name"] = json!("http");
    cluster.put(named);
    let mut other_mesh = plan::service("ams", None);
    other_mesh["metadata"]["labels"]["kuma.io/mesh"] = json!("bank");
    cluster.put(other_mesh);
    cluster.put(plan::live([9000, 1000], 7));
    cluster.put(route("shop", "team-checkout", "consumer"));
    // Named after ours, of the same rank: it loses.
    cluster.put(route("kuma-system", "zz-other", "system"));
    let mut shadow = route("kuma-system", "a-shadow", "system");
    shadow["metadata"]["labels"]["kuma.io/effect"] = json!("shadow");
    cluster.put(shadow);
    // A copy of ours: its labels came along, its writer is another. And one in another namespace.
    let mut copy = plan::live([5000, 5000], 9);
    copy["metadata"]["name"] = json!("weir-checkout-copy");
    copy["metadata"]["managedFields"] = plan::managed("kubectl", "Apply", "2026-11-23T15:39:02Z");
    cluster.put(copy);
    let mut elsewhere = plan::live([5000, 5000], 9);
    elsewhere["metadata"]["namespace"] = json!("shop");
    cluster.put(elsewhere);
    let mut bank = plan::live([5000, 5000], 9);
    bank["metadata"]["name"] = json!("weir-of-bank");
    bank["metadata"]["labels"]["kuma.io/mesh"] = json!("bank");
    cluster.put(bank);
    cluster.page(2);

    let items = [Arc::new(item([9000, 1000], 7))];
    let driver = cluster.driver();
    let observed = driver.observe(&mesh(), &items).await.unwrap();
    assert_eq!(observed.services, [fact("fra", None), fact("use1", Some("shop"))]);
    assert_eq!(observed.ours, [(plan::object([9000, 1000], 7), Generation(7))]);
    assert_eq!(observed.form, plan::form());
    assert!(observed.age.is_zero(), "it was listed for this");
    let writers: Vec<_> = observed.second_writers[&items[0].split]
        .iter()
        .map(|w| (w.object.as_str(), w.overrides))
        .collect();
    assert_eq!(
        writers,
        [
            ("kuma-system/weir-checkout-copy", true),
            ("kuma-system/zz-other", false),
            ("shop/team-checkout", true),
            ("shop/weir-checkout", true),
        ]
    );
    // Written with time in whole seconds, cut off: steps that are decided from it compare what is there with what is
    // wanted, and find nothing to do.
    let wanted = [(&*items[0], vec![plan::object([9000, 1000], 7)])];
    assert_eq!(
        weir_render::steps(&wanted, &observed.ours, Generation(7), |_| false),
        []
    );
    assert_eq!(driver.notes(), Vec::<String>::new());
    assert!(cluster.writes().is_empty());
}

#[tokio::test]
async fn objects_of_a_real_kuma_are_read() {
    let recorded: Value = serde_json::from_str(include_str!("objects.json")).unwrap();
    let cluster = Cluster::new();
    for list in ["meshservices-remote", "meshhttproutes-all-namespaces"] {
        for object in recorded[list].as_array().unwrap() {
            cluster.put(object.clone());
        }
    }
    cluster.put(recorded["meshservice-local"].clone());
    let mut cart = item([9000, 1000], 7);
    cart.service = ServiceName::new("cart").unwrap();
    cart.kuma_zone = DnsLabel::new("eks").unwrap();
    for to in cart.destinations.values_mut() {
        to.service = cart.service.clone();
    }
    let items = [Arc::new(cart)];
    let observed = cluster.driver().observe(&mesh(), &items).await.unwrap();
    let found: Vec<_> = observed
        .services
        .iter()
        .map(|f| {
            (
                f.kuma_zone.as_str(),
                f.namespace.as_ref().map(DnsLabel::as_str),
                f.ports.len(),
            )
        })
        .collect();
    assert_eq!(found, [("eks", Some("shop"), 1), ("fra", None, 1)]);
    let writers = &observed.second_writers[&items[0].split];
    assert!(
        writers.contains(&SecondWriter {
            kind: "MeshHTTPRoute".to_owned(),
            object: "shop/team-cart".to_owned(),
            origin: "zone".to_owned(),
            overrides: true,
        }),
        "{writers:?}"
    );
}

#[tokio::test]
async fn who_wrote_into_our_object_is_named_with_the_time() {
    let cluster = Cluster::new();
    cluster.put(plan::edited());
    let items = [Arc::new(item([9000, 1000], 7))];
    let observed = cluster.driver().observe(&mesh(), &items).await.unwrap();
    assert_eq!(
        observed.second_writers[&items[0].split],
        [SecondWriter {
            kind: "MeshHTTPRoute".to_owned(),
            object: "kuma-system/weir-checkout".to_owned(),
            origin: "field manager kubectl-edit (Update, 2026-11-23T15:40:00Z)".to_owned(),
            overrides: false,
        }]
    );
}

#[tokio::test]
async fn namespaces_that_kuma_does_not_look_at_are_noted() {
    let cluster = Cluster::new();
    for name in ["kuma-system", "shop"] {
        cluster.put(json!({"kind": "Namespace", "metadata": {"name": name}}));
    }
    let items = [Arc::new(item([9000, 1000], 7))];
    let driver = cluster.driver();
    driver.observe(&mesh(), &items).await.unwrap();
    let notes = driver.notes();
    assert!(
        notes[0].contains("kuma-system has no label kuma.io/sidecar-injection"),
        "{notes:?}"
    );
    assert!(
        notes[1].contains("namespace shop, whose pods get no sidecar"),
        "{notes:?}"
    );

    // Without the right to read them the rest is still known.
    let blind = Cluster::new();
    blind.on("GET", NAMESPACES, body(403, &json!({"kind": "Status", "message": "namespaces is forbidden: User \"x\" cannot list resource \"namespaces\""})));
    let driver = blind.driver();
    driver.observe(&mesh(), &items).await.unwrap();
    let notes = driver.notes();
    assert!(
        notes[0].contains("the labels of namespaces are not known"),
        "{notes:?}"
    );
}

/// Whatever is wrong with any list, there is an error and no observation: nobody can take it for a zone without services or
/// without objects of ours.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_an_error_and_never_nothing() {
    let list = |kind: &str, metadata: Value, items: Value| {
        body(200, &json!({"kind": kind, "metadata": metadata, "items": items}))
    };
    let version = || json!({"resourceVersion": "7"});
    let bad = [
        ("nothing", body(200, &json!(""))),
        ("null", body(200, &Value::Null)),
        ("a page", body(200, &json!("<html>welcome</html>"))),
        ("an empty object", body(200, &json!({}))),
        ("another list", list("PodList", version(), json!([]))),
        (
            "a status in a success",
            body(200, &json!({"kind": "Status", "code": 500})),
        ),
        ("no version", list("*", json!({}), json!([]))),
        (
            "an empty version",
            list("*", json!({"resourceVersion": ""}), json!([])),
        ),
        (
            "no items",
            body(200, &json!({"kind": "*", "metadata": version()})),
        ),
        ("null for items", list("*", version(), Value::Null)),
        ("an object for items", list("*", version(), json!({}))),
        (
            "an item without a name",
            list("*", version(), json!([{"metadata": {}}])),
        ),
        ("an item that is none", list("*", version(), json!([null]))),
        (
            "an item twice",
            list(
                "*",
                version(),
                json!([{"metadata": {"name": "a"}}, {"metadata": {"name": "a"}}]),
            ),
        ),
        (
            "a list without an end",
            list(
                "*",
                json!({"resourceVersion": "7", "continue": "same"}),
                json!([]),
            ),
        ),
        ("cut off", Instead::Cut),
        ("silence", Instead::Hang),
        (
            "401",
            body(401, &json!({"kind": "Status", "reason": "Unauthorized"})),
        ),
        (
            "403",
            body(
                403,
                &json!({"kind": "Status", "message": "User \"x\" cannot list"}),
            ),
        ),
        ("404 of the type", body(404, &json!("404 page not found\n"))),
        (
            "410 again and again",
            body(410, &json!({"kind": "Status", "reason": "Expired"})),
        ),
        (
            "500",
            body(
                500,
                &json!({"kind": "Status", "message": "etcdserver: leader changed"}),
            ),
        ),
    ];
    let items = [Arc::new(item([9000, 1000], 7))];
    for (path, kind) in [
        (SERVICES, "MeshService"),
        (HTTP, "MeshHTTPRoute"),
        (TCP, "MeshTCPRoute"),
    ] {
        for (what, answer) in &bad {
            let cluster = Cluster::new();
            cluster.put(plan::service("fra", None));
            let answer = match answer {
                Instead::Status(code, headers, bytes) => {
                    let text = String::from_utf8(bytes.clone()).unwrap();
                    let text = text.replace("\"*\"", &format!("\"{kind}List\""));
                    Instead::Status(*code, headers.clone(), text.into_bytes())
                }
                other => other.clone(),
            };
            // From the first look on, and after a good one.
            cluster.on("GET", path, answer.clone());
            let driver = cluster.driver();
            let error = driver.observe(&mesh(), &items).await.expect_err(what);
            assert!(error.what.contains(path), "{what}: {error}");
            assert!(!error.help.is_empty());
            cluster.heal();
            tokio::time::advance(std::time::Duration::from_secs(70)).await;
            assert_eq!(
                driver.observe(&mesh(), &items).await.expect(what).services.len(),
                1
            );
            cluster.on("GET", path, answer);
            driver.look_again();
            driver.observe(&mesh(), &items).await.expect_err(what);
            assert!(cluster.writes().is_empty());
        }
    }
}

#[tokio::test]
async fn an_empty_list_is_believed_when_it_is_one() {
    let cluster = Cluster::new();
    let items = [Arc::new(item([9000, 1000], 7))];
    let observed = cluster.driver().observe(&mesh(), &items).await.unwrap();
    assert!(observed.services.is_empty() && observed.ours.is_empty());
    // A right that is missing is the operator's to give; waiting does not help.
    cluster.on(
        "GET",
        HTTP,
        body(
            403,
            &json!({"kind": "Status", "reason": "Forbidden", "message":
                "meshhttproutes.kuma.io is forbidden: User \"system:serviceaccount:weir:weir-agent\" cannot list resource"}),
        ),
    );
    let error = cluster.driver().observe(&mesh(), &items).await.unwrap_err();
    assert_eq!(error.fault, Fault::Setup);
    assert!(!error.fault.passes());
}

#[tokio::test]
async fn another_zones_cluster_is_refused() {
    let cluster = Cluster::new();
    let mut theirs = plan::service("eu2", Some("shop"));
    theirs["metadata"]["labels"]["kuma.io/origin"] = json!("zone");
    cluster.put(theirs);
    let driver = cluster.driver();
    let items = [Arc::new(item([9000, 1000], 7))];
    let error = driver.observe(&mesh(), &items).await.unwrap_err();
    assert_eq!(error.fault, Fault::Setup);
    assert!(
        error.why.contains("not the control plane of Kuma zone use1"),
        "{error}"
    );
    assert!(cluster.writes().is_empty());
    // Labels that nobody checked, beside objects of this zone, refuse nothing.
    let cluster = Cluster::new();
    for zone in ["eu2", "use1"] {
        let mut service = plan::service(zone, Some("shop"));
        service["metadata"]["name"] = json!(format!("checkout-{zone}"));
        service["metadata"]["labels"]["kuma.io/origin"] = json!("zone");
        cluster.put(service);
    }
    cluster.driver().observe(&mesh(), &items).await.unwrap();
}
