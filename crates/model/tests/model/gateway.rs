//! Gateways, their bases, and the doors of splits: what becomes of them, and what is refused.

use serde_json::{Value, json};
use weir_model::{
    Address, BackendName, Channel, Code, Entry, GatewayName, Parsed, SplitName, Via, ZoneName, codes, parse,
};

use crate::file;

const WHOLE: &str = r#"apiVersion: weir.dev/v1alpha1
kind: Federation
metadata: {name: shop}
---
apiVersion: weir.dev/v1alpha1
kind: Zone
metadata: {name: fra}
spec:
  platform: vm
  gateways:
    - {name: edge, channel: admin-dbless, base: kong/edge.yaml}
---
apiVersion: weir.dev/v1alpha1
kind: Zone
metadata: {name: ams}
spec:
  platform: vm
  gateways:
    - {name: edge, channel: admin-dbless}
---
apiVersion: weir.dev/v1alpha1
kind: Split
metadata: {name: checkout}
spec:
  service: checkout
  port: 8080
  protocol: http
  backends: {old: {zone: fra}, new: {zone: ams}}
  routes:
    - {name: default, weights: {old: 90, new: 10}}
  gateways:
    - {gateway: edge, hosts: [Shop.Example.com, "*.example.org"], paths: [/checkout], backends: BACKENDS}
"#;

const BASE: &str = r#"# Kept by the edge team.
_format_version: "3.0"
x: &shared {tags: [edge, "on"], retries: 3}
services:
  - {<<SERVICE>>, host: basket.internal}
plugins: [{name: cors, config: {max_age: 1.5, origins: ["*"], credentials: true, exposed: ~}}]
"#;

fn parsed(backends: &str, base: &str) -> Parsed {
    let whole = WHOLE.replace("BACKENDS", backends);
    parse(&[file("traffic.yaml", &whole), file("kong/edge.yaml", base)])
}

fn told(parsed: &Parsed) -> Vec<(Code, String)> {
    let told = parsed.diagnostics.iter();
    told.map(|d| {
        (
            d.code,
            d.labels
                .first()
                .map(|label| label.file.clone())
                .unwrap_or_default(),
        )
    })
    .collect()
}

const BACKENDS: &str =
    r#"{old: "10.0.0.5:8080", new: ["10.1.0.5:8080", "[2001:db8::5]:8080", "Edge.Ams.example.com.:80"]}"#;

#[test]
fn a_door_stands_at_every_gateway_of_its_name_and_the_base_keeps_its_meaning() {
    let base = BASE.replace("<<SERVICE>>", "name: basket, tags: [a], port: 0x50");
    let parsed = parsed(BACKENDS, &base);
    assert_eq!(told(&parsed), []);
    let split = &parsed.declaration.splits[&SplitName::new("checkout").unwrap()];
    let [at] = split.gateways.as_slice() else {
        panic!("{:?}", split.gateways)
    };
    assert_eq!(
        at.zones,
        ["ams", "fra"].map(|zone| ZoneName::new(zone).unwrap()).into()
    );
    let Entry::Routes(routing) = &at.door.entry else {
        panic!("{:?}", at.door)
    };
    assert_eq!(
        routing.hosts,
        ["shop.example.com", "*.example.org"].map(str::to_owned).into()
    );
    assert!(
        routing.strip_path && !routing.preserve_host && !routing.https_only,
        "Kong's own defaults"
    );
    let Via::Addresses(to) = &at.door.via else {
        panic!("{:?}", at.door)
    };
    let new: Vec<String> = to[&BackendName::new("new").unwrap()]
        .iter()
        .map(Address::to_string)
        .collect();
    assert_eq!(
        new,
        ["10.1.0.5:8080", "[2001:db8::5]:8080", "edge.ams.example.com:80"]
    );

    let zone = |name| &parsed.declaration.zones[&ZoneName::new(name).unwrap()];
    let edge = GatewayName::new("edge").unwrap();
    assert_eq!(zone("ams").gateways[&edge].base, None);
    let gateway = &zone("fra").gateways[&edge];
    assert_eq!((gateway.channel, gateway.in_mesh), (Channel::AdminDbless, false));
    let kept = gateway.base.as_ref().unwrap();
    assert_eq!(kept.file, "kong/edge.yaml");
    assert_eq!(
        serde_json::from_str::<Value>(&kept.document).unwrap(),
        json!({
            "_format_version": "3.0",
            "x": {"tags": ["edge", "on"], "retries": 3},
            "services": [{"name": "basket", "tags": ["a"], "port": 80, "host": "basket.internal"}],
            "plugins": [{"name": "cors", "config": {
                "max_age": 1.5, "origins": ["*"], "credentials": true, "exposed": null,
            }}],
        })
    );
}

/// To Kong, which reads YAML 1.1, each of these is something else than to us.
#[test]
fn what_two_readers_of_yaml_read_differently_is_refused() {
    for word in [
        "yes",
        "No",
        "on",
        "OFF",
        "y",
        "N",
        "017",
        "-010",
        "1_000",
        "0b101",
        "0o17",
        "1:30",
        "190:20:30.15",
        ".inf",
        ".nan",
    ] {
        let base = format!("_format_version: \"3.0\"\nservices: [{{name: basket, host: {word}}}]\n");
        let parsed = parsed(BACKENDS, &base);
        assert_eq!(
            told(&parsed),
            [(codes::BAD_BASE, "kong/edge.yaml".to_owned())],
            "{word}"
        );
        // In quotes it is text to both.
        let base = base.replace(&format!("host: {word}"), &format!("host: \"{word}\""));
        assert_eq!(told(&self::parsed(BACKENDS, &base)), [], "\"{word}\"");
    }
    for word in [
        "0",
        "10",
        "1.5",
        "-3",
        "0x1f",
        "true",
        "~",
        "10.0.0.1",
        "1:x",
        "no-one",
        "2026-11-29",
        "a_b",
    ] {
        let base = format!("_format_version: \"3.0\"\nservices: [{{name: basket, host: {word}}}]\n");
        assert_eq!(told(&parsed(BACKENDS, &base)), [], "{word}");
    }
}

#[test]
fn a_base_that_is_wrong_is_told_of_where_it_is_wrong_and_hides_nothing() {
    for base in [
        "services: []\n",
        "_format_version: 3.0\n",
        "_format_version: \"2.1\"\n",
        "_format_version: \"3.0\"\n_info: {}\n",
        "- a\n",
        "",
        "_format_version: \"3.0\"\n---\n_format_version: \"3.0\"\n",
        "_format_version: \"3.0\"\nroutes: [{name: weir.checkout.default}]\n",
        "_format_version: \"3.0\"\nroutes: [{name: a, tags: [weir]}]\n",
    ] {
        let parsed = parsed(r#"{old: "10.0.0.5:8080"}"#, base);
        let wrong = (codes::BAD_BASE, "kong/edge.yaml".to_owned());
        let found = told(&parsed);
        assert_eq!(found.first(), Some(&wrong), "{base}");
        // The split's own mistake is told as well.
        assert_eq!(
            found.get(1),
            Some(&(codes::NO_ADDRESS, "traffic.yaml".to_owned())),
            "{base}: {found:?}"
        );
    }
    // It is named from the directory of the zone's file on, wherever that is, and not out of the source.
    let base = BASE.replace("<<SERVICE>>", "name: basket");
    for (named, found) in [
        ("kong/edge.yaml", true),
        ("./kong/edge.yaml", true),
        ("../weir/kong/edge.yaml", true),
        ("../../weir/kong/edge.yaml", false),
        ("/weir/kong/edge.yaml", false),
        ("weir/kong/edge.yaml", false),
    ] {
        let whole = WHOLE
            .replace("BACKENDS", BACKENDS)
            .replace("kong/edge.yaml", named);
        let parsed = parse(&[
            file("weir/traffic.yaml", &whole),
            file("weir/kong/edge.yaml", &base),
        ]);
        assert_eq!(
            told(&parsed).iter().any(|(code, _)| *code == codes::NO_BASE),
            !found,
            "{named}"
        );
        assert_eq!(parsed.refused(), !found, "{named}");
    }
    // A file with declarations is no base: what it declares counts.
    let whole = WHOLE
        .replace("BACKENDS", BACKENDS)
        .replace("kong/edge.yaml", "traffic.yaml");
    assert_eq!(
        told(&parse(&[file("traffic.yaml", &whole)])),
        [(codes::NO_BASE, "traffic.yaml".to_owned())]
    );
}

/// What Kong would refuse, or choose between by chance, is refused before it is merged.
#[test]
fn what_kong_would_refuse_or_choose_by_chance_is_refused() {
    let base = BASE.replace("<<SERVICE>>", "name: basket");
    let with = |paths: &str| {
        let whole = WHOLE.replace("BACKENDS", BACKENDS).replace("[/checkout]", paths);
        told(&parse(&[
            file("traffic.yaml", &whole),
            file("kong/edge.yaml", &base),
        ]))
    };
    for sound in ["[/a%20b]", "[/a%2Fb]", "[/checkout/]", "[/a+b]"] {
        assert_eq!(with(sound), [], "{sound}");
    }
    for wrong in [
        "[/%61]",
        "[/a%2Eb]",
        "[/a%7e]",
        "[/a%2]",
        "[/a%zz]",
        "[/a%+5]",
        "[/a//b]",
        "[/a/../b]",
        "[checkout]",
        "[\"~/a\"]",
    ] {
        assert_eq!(
            with(wrong),
            [(codes::BAD_ENTRY, "traffic.yaml".to_owned())],
            "{wrong}"
        );
    }
    // A second split at the same host and path, told apart by its headers or not.
    let cart = |headers: &str| {
        let whole = WHOLE.replace("BACKENDS", BACKENDS);
        let split = whole.rsplit_once("---\n").unwrap_or_default().1;
        let both = whole.replace(
            "paths: [/checkout]",
            "paths: [/checkout], headers: [{name: x-ring, values: [one, two]}]",
        );
        let other = split
            .replace("checkout}", "cart}")
            .replace("service: checkout", "service: cart");
        let other = other.replace("paths: [/checkout]", &format!("paths: [/checkout]{headers}"));
        told(&parse(&[
            file("traffic.yaml", format!("{both}---\n{other}")),
            file("kong/edge.yaml", &base),
        ]))
    };
    for apart in [
        "",
        ", headers: [{name: x-ring, values: [three]}]",
        ", headers: [{name: x-other, values: [one]}]",
        ", headers: [{name: x-ring, values: [one]}, {name: x-other, values: [a]}]",
    ] {
        assert_eq!(cart(apart), [], "{apart}");
    }
    let twice = cart(", headers: [{name: x-ring, values: [two, three]}]");
    assert!(
        !twice.is_empty() && twice.iter().all(|(code, _)| *code == codes::CLAIMED_TWICE),
        "{twice:?}"
    );
}

#[test]
fn a_gateway_with_a_database_has_routes_of_the_splits_and_neither_base_nor_services_of_the_site() {
    let with = |gateway: &str, door: &str| {
        let whole = WHOLE.replace("BACKENDS", BACKENDS);
        let whole = whole.replace("channel: admin-dbless, base: kong/edge.yaml", gateway);
        let whole = whole.replace(
            r#"hosts: [Shop.Example.com, "*.example.org"], paths: [/checkout]"#,
            door,
        );
        parse(&[file("traffic.yaml", &whole)])
    };
    let routes = "zones: [fra], paths: [/checkout]";
    let sound = with("channel: admin-db", routes);
    assert_eq!(sound.diagnostics, []);
    let zone = &sound.declaration.zones[&ZoneName::new("fra").unwrap()];
    assert_eq!(
        zone.gateways[&GatewayName::new("edge").unwrap()].channel,
        Channel::AdminDb
    );
    // The one who names a base is told that nobody would post it, and not that it is missing.
    let base = with("channel: admin-db, base: kong/edge.yaml", routes);
    assert_eq!(told(&base), [(codes::DATABASE_BASE, "traffic.yaml".to_owned())]);
    let taken = with("channel: admin-db", "zones: [fra], service: basket");
    assert_eq!(told(&taken), [(codes::BASE_SERVICE, "traffic.yaml".to_owned())]);
    let help = taken.diagnostics[0].help.clone().unwrap();
    assert!(help.contains("touches nothing but its own"), "{help}");
}

#[test]
fn a_gateway_under_a_controller_takes_what_an_http_route_can_say() {
    let with = |gateway: &str, door: &str, backends: &str| {
        let whole = WHOLE.replace("BACKENDS", backends);
        let whole = whole.replace("channel: admin-dbless, base: kong/edge.yaml", gateway);
        let whole = whole.replace(
            r#"hosts: [Shop.Example.com, "*.example.org"], paths: [/checkout]"#,
            &format!("zones: [fra], {door}"),
        );
        parse(&[file("traffic.yaml", &whole)])
    };
    const KIC: &str = "channel: kic, parentRef: {namespace: kong, name: kong, sectionName: http}";
    const HOSTS: &str = r#"hosts: ["*.example.org"], paths: [/checkout]"#;
    const SERVICES: &str = r#"{old: "old.shop.svc:80", new: "new.shop.svc:8080"}"#;
    let sound = with(KIC, HOSTS, SERVICES);
    assert_eq!(sound.diagnostics, []);
    let zone = &sound.declaration.zones[&ZoneName::new("fra").unwrap()];
    let parent = zone.gateways[&GatewayName::new("edge").unwrap()].parent.clone();
    assert_eq!(
        parent.map(|parent| parent.to_string()).as_deref(),
        Some("kong/kong/http")
    );
    let wrong = |gateway: &str, door: &str, backends: &str| {
        let found = with(gateway, door, backends);
        let messages = found.diagnostics.iter();
        messages
            .map(|diagnostic| format!("{} {}", diagnostic.code, diagnostic.message))
            .collect::<Vec<_>>()
    };
    let many = (0..9).map(|n| format!("/p{n}")).collect::<Vec<_>>().join(", ");
    let values = (0..8).map(|n| format!("v{n}")).collect::<Vec<_>>().join(", ");
    insta::assert_debug_snapshot!([
        wrong("channel: kic", HOSTS, SERVICES),
        wrong(
            "channel: admin-db, parentRef: {namespace: kong, name: kong}",
            HOSTS,
            SERVICES
        ),
        wrong("channel: kic, parentRef: {namespace: kong}", HOSTS, SERVICES),
        wrong(KIC, r#"hosts: ["shop.*"], paths: [/checkout/, /a%2Fb]"#, SERVICES),
        wrong(
            KIC,
            HOSTS,
            r#"{old: "10.0.0.5:8080", new: ["new.shop.svc:80", "newer.shop.svc:80"]}"#
        ),
        wrong(KIC, HOSTS, r#"{old: "old.shop.svc:80", new: "new.store.svc:80"}"#),
        wrong(
            KIC,
            &format!("paths: [{many}], headers: [{{name: x-ring, values: [{values}]}}]"),
            SERVICES
        ),
        wrong(KIC, "service: basket", SERVICES),
        wrong(KIC, "httpRoute: basket.shop", SERVICES),
        wrong(KIC, "httpRoute: weir.edge.basket", SERVICES),
        wrong(KIC, "httpRoute: basket, paths: [/checkout]", SERVICES),
        wrong(KIC, "httpRoute: basket, service: basket", SERVICES),
        wrong(
            "channel: admin-db",
            "httpRoute: basket",
            r#"{old: "10.0.0.5:8080", new: "10.0.0.6:8080"}"#
        ),
        wrong(&format!("{KIC}, base: kong/edge.yaml"), HOSTS, SERVICES),
    ]);
    let of_tls = |name: &str| {
        wrong(
            KIC,
            &format!("{HOSTS}, httpsOnly: true, snis: [{name}]"),
            SERVICES,
        )
    };
    assert_eq!(of_tls("a-b.example.org"), [""; 0]);
    let told = of_tls("xn--bcher-kva.example");
    assert_eq!(
        told,
        ["WEIR0715 `xn--bcher-kva.example` of `snis` has two hyphens in a row"]
    );
}
