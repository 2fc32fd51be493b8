//! Whether a document may take the place of what a Kong runs (I7, I10).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use weir_planner::Generation;
use weir_render::kong::AnyPin;
use weir_render::kong::live::EMPTY_HASH;
use weir_render::kong::{AtDoor, Document, Entity, Live, Resolved, document, may_post};

use crate::{door, federation, gateway, pair, plain, routing};

const THEIRS: &str = "0123456789abcdef0123456789abcdef";

fn wanted() -> Document {
    let item = plain("checkout", &[("vm", 9_000), ("eks", 1_000)]);
    let door = door(routing(&[], &["/checkout"]), pair());
    let base = json!({"_format_version": "3.0",
        "services": [{"name": "a", "host": "a.test", "plugins": [{"name": "cors"}],
            "routes": [{"paths": ["/b", "/a"], "hosts": ["a.test"], "plugins": [{"name": "key-auth"}]}]}],
        "plugins": [{"name": "prometheus"}, {"name": "acl", "service": "a"}],
        "consumers": [{"username": "ann", "keyauth_credentials": [{"key": "k"}], "acls": [{"group": "g"}]}],
        "certificates": [{"cert": "-----BEGIN\nx\n", "key": "y", "snis": [{"name": "a.test"}]}],
        "upstreams": [{"id": "11111111-1111-1111-1111-111111111111", "name": "up"}],
    });
    let gateway = gateway(Some(base));
    let made = document(
        &federation(),
        &gateway,
        &[AtDoor {
            item: &item,
            door: &door,
            pin: None,
        }],
        &Resolved::new(),
    );
    made.expect("no conflict").expect("a document")
}

/// What Kong makes of that base: ids by chance, defaults, references by id.
fn lists() -> BTreeMap<String, Vec<Value>> {
    let of = |list: Value| list.as_array().expect("a list").clone();
    BTreeMap::from([
        (
            "services".to_owned(),
            of(json!([{"id": "s1", "name": "a", "host": "a.test", "port": 80, "tags": null}])),
        ),
        (
            "routes".to_owned(),
            of(
                json!([{"id": "r1", "name": null, "paths": ["/a", "/b"], "hosts": ["a.test"], "methods": null,
            "headers": null, "service": {"id": "s1"}, "tags": ["x"]}]),
            ),
        ),
        (
            "plugins".to_owned(),
            of(json!([
            {"id": "p1", "name": "prometheus", "service": null, "route": null, "consumer": null, "config": {}},
            {"id": "p2", "name": "cors", "service": {"id": "s1"}, "route": null},
            {"id": "p3", "name": "key-auth", "route": {"id": "r1"}},
            {"id": "p4", "name": "acl", "service": {"id": "s1"}}])),
        ),
        (
            "consumers".to_owned(),
            of(json!([{"id": "c1", "username": "ann"}])),
        ),
        (
            "keyauth_credentials".to_owned(),
            of(json!([{"id": "k1", "key": "k", "consumer": {"id": "c1"}}])),
        ),
        (
            "acls".to_owned(),
            of(json!([{"id": "g1", "group": "g", "consumer": {"id": "c1"}}])),
        ),
        (
            "certificates".to_owned(),
            of(json!([{"id": "z1", "cert": "-----BEGIN\nx", "key": "y"}])),
        ),
        (
            "snis".to_owned(),
            of(json!([{"id": "n1", "name": "a.test", "certificate": {"id": "z1"}}])),
        ),
        (
            "upstreams".to_owned(),
            of(json!([{"id": "11111111-1111-1111-1111-111111111111", "name": "renamed"}])),
        ),
    ])
}

fn live(lists: &BTreeMap<String, Vec<Value>>) -> Live {
    Live {
        version: "3.9.3".to_owned(),
        database: "off".to_owned(),
        role: "traditional".to_owned(),
        router: "traditional_compatible".to_owned(),
        workers: 2,
        hash: Some(THEIRS.to_owned()),
        controller: None,
        entities: Some(Entity::read(lists).expect("entities")),
    }
}

fn judged(live: &Live, posted: &[&str]) -> Result<(), String> {
    let posted: BTreeSet<String> = posted.iter().map(|hash| (*hash).to_owned()).collect();
    may_post(live, &wanted(), Generation(9), &posted, &AnyPin)
}

#[test]
fn what_the_base_has_may_be_there_already() {
    assert_eq!(judged(&live(&lists()), &[]), Ok(()));
}

#[test]
fn whatever_the_base_does_not_have_keeps_the_document_away() {
    for (kind, one, said) in [
        ("services", json!({"id": "s2", "name": "b"}), "service b"),
        ("services", json!({"id": "s2", "name": null}), "service s2"),
        (
            "routes",
            json!({"id": "r2", "name": null, "paths": ["/a", "/b"], "hosts": ["b.test"], "service": {"id": "s1"}}),
            "route hosts=",
        ),
        (
            "routes",
            json!({"id": "r2", "name": null, "paths": ["/a", "/b"], "hosts": ["a.test"], "service": null}),
            "route hosts=",
        ),
        ("plugins", json!({"id": "p9", "name": "cors"}), "plugin cors"),
        (
            "plugins",
            json!({"id": "p9", "name": "prometheus", "service": {"id": "s1"}}),
            "plugin prometheus service=a",
        ),
        (
            "plugins",
            json!({"id": "p9", "name": "key-auth", "consumer": {"id": "c1"}}),
            "plugin key-auth consumer=ann",
        ),
        (
            "consumers",
            json!({"id": "c2", "username": "ben"}),
            "consumer ben",
        ),
        (
            "keyauth_credentials",
            json!({"id": "k2", "key": "s3cret", "consumer": {"id": "c1"}}),
            "keyauth_credential #",
        ),
        (
            "acls",
            json!({"id": "g2", "group": "h", "consumer": {"id": "c1"}}),
            "acl h",
        ),
        (
            "certificates",
            json!({"id": "z2", "cert": "-----BEGIN\nother"}),
            "certificate ",
        ),
        ("snis", json!({"id": "n2", "name": "b.test"}), "sni b.test"),
        ("upstreams", json!({"id": "u2", "name": "down"}), "upstream down"),
        ("vaults", json!({"id": "v1", "prefix": "v"}), "vault v"),
    ] {
        let mut lists = lists();
        lists.entry(kind.to_owned()).or_default().push(one.clone());
        let why = judged(&live(&lists), &[]).expect_err("refused");
        assert!(
            why.contains(said) && why.contains("would be gone") && !why.contains("s3cret"),
            "{one}: {why}"
        );
        // Nobody else's hash says anything; this agent's own, and none at all, do.
        assert!(judged(&live(&lists), &["ffffffffffffffffffffffffffffffff"]).is_err());
        assert_eq!(judged(&live(&lists), &[THEIRS]), Ok(()));
        let empty = Live {
            hash: Some(EMPTY_HASH.to_owned()),
            ..live(&lists)
        };
        assert_eq!(judged(&empty, &[]), Ok(()));
    }
    let mut many = lists();
    many.insert(
        "vaults".to_owned(),
        (0..9)
            .map(|at| json!({"id": format!("v{at}"), "prefix": format!("v{at}")}))
            .collect(),
    );
    assert!(
        judged(&live(&many), &[])
            .expect_err("refused")
            .contains("vault v0, vault v1, vault v2 and 6 more")
    );
}

fn ours(tags: &[&str]) -> Value {
    json!({"id": "o1", "name": "weir.checkout.default", "tags": tags})
}

#[test]
fn what_is_ours_gives_way_to_nothing_older() {
    let all = |change: &str| {
        let (name, value) = change.split_once('=').expect("name=value");
        let tags = [
            "weir",
            "weir.federation.shop",
            "weir.split.checkout",
            "weir.generation.7",
            "weir.gateway.3",
        ]
        .into_iter();
        let tags = tags
            .filter(|tag| !tag.starts_with(name) || name == "weir")
            .map(str::to_owned);
        tags.chain([value.to_owned()].into_iter().filter(|tag| !tag.is_empty()))
            .collect::<Vec<_>>()
    };
    for (change, why) in [
        ("x=", ""),
        ("weir.generation.=weir.generation.6", ""),
        (
            "weir.generation.=weir.generation.8",
            "has generation 8 of split checkout, and this agent knows generation 7",
        ),
        (
            "weir.generation.=weir.generation.x",
            "do not say which generation",
        ),
        ("weir.generation.=", "do not say which generation"),
        ("weir.gateway.=weir.gateway.2", ""),
        (
            "weir.gateway.=weir.gateway.4",
            "generation 4 of this gateway, and this agent knows generation 3",
        ),
        ("weir.gateway.=", "do not say which generation"),
        (
            "weir.federation.=weir.federation.other",
            "of the federation other",
        ),
        ("weir.federation.=", "does not say of which federation"),
    ] {
        let tags = all(change);
        let mut lists = lists();
        let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
        lists.entry("upstreams".to_owned()).or_default().push(ours(&tags));
        let judged = judged(&live(&lists), &[]).err().unwrap_or_default();
        assert!(
            if why.is_empty() {
                judged.is_empty()
            } else {
                judged.contains(why)
            },
            "{change}: {judged}"
        );
    }
    // A split that has no door in the document any more went with the plan, or came with one that this agent does not know.
    for (generation, goes) in [(9, true), (10, false)] {
        let generation = format!("weir.generation.{generation}");
        let mut lists = lists();
        let tags = [
            "weir",
            "weir.federation.shop",
            "weir.split.gone",
            "weir.gateway.3",
            &generation,
        ];
        lists.entry("upstreams".to_owned()).or_default().push(ours(&tags));
        assert_eq!(judged(&live(&lists), &[]).is_ok(), goes);
    }
}

#[test]
fn whatever_an_ingress_controller_made_is_known_by_its_tags() {
    for tag in ["managed-by-ingress-controller", "k8s-kind:HTTPRoute"] {
        let mut lists = lists();
        lists.get_mut("services").expect("a list")[0]["tags"] = json!(["x", tag]);
        let why = judged(&live(&lists), &["ffffffffffffffffffffffffffffffff"]).expect_err("refused");
        assert!(
            why.contains("belongs to an ingress controller, which made service a"),
            "{why}"
        );
    }
}

#[test]
fn what_is_no_kong_of_ours_is_never_written_to() {
    let well = live(&lists());
    for (live, why) in [
        (
            Live {
                database: "postgres".to_owned(),
                ..well.clone()
            },
            "has a database (postgres)",
        ),
        (
            Live {
                role: "data_plane".to_owned(),
                ..well.clone()
            },
            "data_plane of a hybrid",
        ),
        (
            Live {
                version: "2.8.1".to_owned(),
                ..well.clone()
            },
            "version 2.8.1",
        ),
        (
            Live {
                router: "expressions".to_owned(),
                ..well.clone()
            },
            "router_flavor = expressions",
        ),
        (
            Live {
                controller: Some("service x".to_owned()),
                ..well.clone()
            },
            "belongs to an ingress controller, which made service x",
        ),
        (
            Live {
                hash: None,
                ..well.clone()
            },
            "does not say what it runs",
        ),
        (
            Live {
                entities: None,
                ..well.clone()
            },
            "nobody looked at",
        ),
    ] {
        // Not even where the hash is our own.
        let own = live.hash.is_some() && live.entities.is_some();
        let why_not = judged(&live, if own { &[THEIRS] } else { &[] }).expect_err("refused");
        assert!(why_not.contains(why), "{why_not}");
    }
    assert!(
        Entity::read(&BTreeMap::from([(
            "services".to_owned(),
            vec![json!({"name": "no id"})]
        )]))
        .is_err()
    );
    assert!(Entity::read(&BTreeMap::from([("services".to_owned(), vec![json!("x")])])).is_err());
}
