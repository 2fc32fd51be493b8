//! Never twice: what the mesh is given and what a Kong is given, looked at together.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};
use weir_model::{Door, Via};
use weir_planner::Item;
use weir_render::kong::together::{Ways, policies, together};
use weir_render::kong::{AtDoor, Resolved, check, counting_document, document, split_twice};

use crate::{address, addresses, door, federation, gateway, pair, plain, routing, takes};

fn base(of: Value) -> Value {
    let mut of = of;
    of["_format_version"] = "3.0".into();
    of
}

/// What is said of these doors at a gateway with this base; nothing if they have a document.
fn said(base: Option<Value>, doors: &[(Item, Door)]) -> Vec<String> {
    let gateway = gateway(base);
    let doors: Vec<AtDoor<'_>> = doors
        .iter()
        .map(|(item, door)| AtDoor {
            item,
            door,
            pin: None,
        })
        .collect();
    let known = [
        ("a.test", "10.9.9.9"),
        ("a.svc.mesh.local", "10.9.9.8"),
        ("a.mesh", "10.9.9.7"),
    ];
    let one = |(name, ip): (&str, &str)| (name.to_owned(), [ip.parse().expect("an address")].into());
    let resolved: Resolved = known.map(one).into();
    let Err(found) = document(&federation(), &gateway, &doors, &resolved) else {
        return Vec::new();
    };
    // Whoever declares it is told before any address is known.
    assert_eq!(check(&federation(), &gateway, &doors), Err(found.clone()));
    found.iter().map(ToString::to_string).collect()
}

#[test]
fn both_never_split_as_a_table() {
    let mesh = |at: &str| Via::Mesh(address(at));
    let own = |via: Via| door(routing(&["shop.example.com"], &[]), via);
    let shop = plain("shop", &[("vm", 9_000), ("eks", 1_000)]);
    let upstream =
        |name: &str| json!({"name": name, "targets": [{"target": "10.0.0.1:80"}, {"target": "10.0.0.2:80"}]});
    let site = |name: &str| {
        base(json!({
            "upstreams": [upstream(name)],
            "services": [{"name": "cart", "url": "http://cart.internal:81/x", "routes": [{"name": "cart", "paths": ["/cart"]}]}],
        }))
    };
    let twice = "split shop: it leads to shop.mesh.local, where the mesh carries the weights, and this Kong has an upstream of \
                 that very name";
    let table: Vec<(Option<Value>, Door, &str)> = vec![
        (
            Some(site("shop.mesh.local")),
            own(mesh("shop.mesh.local:80")),
            twice,
        ),
        (
            Some(site("shop.mesh.local")),
            takes("cart", mesh("shop.mesh.local:80")),
            twice,
        ),
        // Written inside of what it is of.
        (
            Some(base(
                json!({"certificates": [{"cert": "x", "key": "y", "upstreams": [upstream("shop.mesh.local")]}]}),
            )),
            own(mesh("shop.mesh.local:80")),
            twice,
        ),
        // The agent asks for addresses of names itself, and a gateway outside the mesh has no sidecar that would split there.
        (
            None,
            own(addresses(&["vm=a.svc.mesh.local:80", "eks=a.mesh:80"])),
            "",
        ),
        // Kong compares names to the byte.
        (Some(site("Shop.mesh.local")), own(mesh("shop.mesh.local:80")), ""),
        (
            Some(site("other.mesh.local")),
            own(mesh("shop.mesh.local:80")),
            "",
        ),
        (Some(site("shop.mesh.local")), own(mesh("127.0.0.1:33001")), ""),
        // What the site has of its own by that name is the site's.
        (Some(site("shop.mesh.local")), own(pair()), ""),
        (
            Some(site("cart.internal")),
            takes("cart", mesh("shop.mesh.local:80")),
            "",
        ),
        (None, own(addresses(&["vm=a.test:80", "eks=10.0.0.2:80"])), ""),
    ];
    for (base, door, why) in table {
        let found = said(base, &[(shop.clone(), door.clone())]);
        match why {
            "" => assert_eq!(found, Vec::<String>::new(), "{door:?}"),
            _ => assert!(found.len() == 1 && found[0].contains(why), "{why}: {found:#?}"),
        }
    }
    // An upstream of Weir's own is one as well.
    let other = plain("other", &[("vm", 10_000)]);
    let lost = door(routing(&[], &["/other"]), mesh("weir.shop.default:80"));
    let found = said(None, &[(shop, own(pair())), (other, lost)]);
    assert!(
        found.len() == 1 && found[0].starts_with("split other: it leads to weir.shop.default"),
        "{found:#?}"
    );
}

/// What is in force already is told of and waited for by nobody; what is new is refused.
#[test]
fn what_was_split_twice_before_is_a_note() {
    let mesh = |at: &str| door(routing(&[], &["/shop"]), Via::Mesh(address(at)));
    let shop = plain("shop", &[("vm", 9_000), ("eks", 1_000)]);
    let gateway = gateway(Some(base(
        json!({"upstreams": [{"name": "a.mesh"}, {"name": "b.mesh"}]}),
    )));
    let made = |door: &Door, known: &BTreeSet<_>| {
        let at = [AtDoor {
            item: &shop,
            door,
            pin: None,
        }];
        counting_document(&federation(), &gateway, &at, &Resolved::new(), (None, known))
    };
    let before = mesh("a.mesh:80");
    let at = [AtDoor {
        item: &shop,
        door: &before,
        pin: None,
    }];
    let known = split_twice(&federation(), &gateway, &at);
    assert_eq!(known.len(), 1, "{known:?}");
    assert!(made(&before, &BTreeSet::new()).is_err());
    let notes = made(&before, &known).expect("a document").expect("one").notes;
    assert!(
        notes.len() == 1 && notes[0].contains("it leads to a.mesh"),
        "{notes:?}"
    );
    let found = made(&mesh("b.mesh:80"), &known).expect_err("another one");
    assert!(
        found.len() == 1 && found[0].what.starts_with("it leads to b.mesh"),
        "{found:?}"
    );
}

/// What is done to a policy, and what is found then.
type Tampered<'a> = (&'a dyn Fn(&mut Value), &'a str);

/// The policy is looked at, and not only the configuration: it is for the gateway, and gives these weights.
#[test]
fn a_policy_that_does_not_carry_the_weights_is_found() {
    let shop = plain("shop", &[("vm", 9_000), ("eks", 1_000)]);
    let meshed = door(routing(&[], &["/shop"]), Via::Mesh(address("127.0.0.1:33001")));
    let at = [AtDoor {
        item: &shop,
        door: &meshed,
        pin: None,
    }];
    let with = |change: &dyn Fn(&mut Value)| {
        let mut policies = policies(&federation(), &at);
        for policy in policies.values_mut().flatten() {
            change(&mut policy.spec);
        }
        let found = together(&policies, &at, &Ways::default());
        found.iter().map(|one| one.what.clone()).collect::<Vec<_>>()
    };
    assert_eq!(with(&|_| ()), Vec::<String>::new());
    let each = |spec: &mut Value, change: &dyn Fn(&mut Value)| {
        spec["to"]
            .as_array_mut()
            .expect("a list")
            .iter_mut()
            .for_each(change);
    };
    let table: [Tampered<'_>; 5] = [
        (
            &|spec| spec["targetRef"]["proxyTypes"] = json!(["Sidecar"]),
            "is not for gateways",
        ),
        (
            &|spec| spec["targetRef"]["kind"] = "Dataplane".into(),
            "is not for gateways",
        ),
        (
            &|spec| {
                each(spec, &|to| {
                    to["targetRef"]["labels"]["kuma.io/display-name"] = "cart".into();
                });
            },
            "is not for service shop at port 8080",
        ),
        (
            &|spec| {
                each(spec, &|to| {
                    to["rules"][0]["default"]["backendRefs"][0]["weight"] = 1_001.into();
                });
            },
            "does not give backend eks its 1000 of 10000 of route default",
        ),
        (
            &|spec| each(spec, &|to| to["rules"] = json!([])),
            "has 0 rules for 1 routes",
        ),
    ];
    for (change, why) in table {
        let found = with(change);
        assert!(found.len() == 1 && found[0].contains(why), "{why}: {found:#?}");
    }
    assert_eq!(
        together(&BTreeMap::new(), &at, &Ways::default()).len(),
        1,
        "none at all"
    );
}

/// Names that a site, a mesh and a declaration may all have.
const NAMES: [&str; 3] = ["a.test", "shop.mesh.local", "b.test"];

/// One door of many: whether it takes a service of the base over, by what name, and whether that is where the mesh takes it.
type Drawn = (bool, usize, bool);

fn drawn(at: usize, (taken, name, meshed): Drawn) -> (Item, Door) {
    let item = plain(&format!("s{at}"), &[("vm", 9_000), ("eks", 1_000)]);
    let via = match meshed {
        true => Via::Mesh(address(&format!("{}:80", NAMES[name]))),
        false => addresses(&[&format!("vm={}:80", NAMES[name]), "eks=10.0.0.2:80"]),
    };
    let door = match taken {
        true => takes(&format!("t{at}"), via),
        false => door(routing(&[], &[&format!("/s{at}")]), via),
    };
    (item, door)
}

/// Whether Kong goes by an upstream for the requests of this split, by the bytes that it is given and as it does itself.
fn is_split_by_kong(document: &Value, split: &str, taken: &str) -> bool {
    let list = |kind: &str| document[kind].as_array().cloned().unwrap_or_default();
    let named: BTreeSet<String> = list("upstreams")
        .iter()
        .map(|one| one["name"].to_string())
        .collect();
    let services = list("services");
    let tag = json!(format!("weir.split.{split}"));
    let of =
        |one: &&Value| one["name"] == taken || one["tags"].as_array().is_some_and(|tags| tags.contains(&tag));
    let mut hosts = services.iter().filter(of).map(|one| match one["url"].as_str() {
        Some(url) => {
            let host = url.split("://").nth(1).expect("a host");
            json!(host.split([':', '/']).next()).to_string()
        }
        None => one["host"].to_string(),
    });
    hosts.any(|host| named.contains(&host))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Over doors and bases: what is posted is split once, by whom it is declared; and what can be, is posted.
    #[test]
    fn exactly_one_splits(
        upstreams in proptest::collection::btree_set(0..NAMES.len(), 0..3),
        urls in any::<bool>(),
        drawing in proptest::collection::vec((any::<bool>(), 0..NAMES.len(), any::<bool>()), 1..4),
    ) {
        let doors: Vec<(Item, Door)> = drawing.iter().enumerate().map(|(at, one)| drawn(at, *one)).collect();
        let services: Vec<Value> = (0..doors.len())
            .map(|at| match urls {
                true => json!({"name": format!("t{at}"), "url": format!("http://c.test:81/{at}")}),
                false => json!({"name": format!("t{at}"), "host": "c.test"}),
            })
            .collect();
        let theirs: Vec<Value> = upstreams.iter().map(|at| json!({"name": NAMES[*at]})).collect();
        let base = base(json!({"services": services, "upstreams": theirs}));
        let of_both = drawing.iter().any(|(_, name, meshed)| *meshed && upstreams.contains(name));
        let gateway = gateway(Some(base));
        let at: Vec<AtDoor<'_>> = doors.iter().map(|(item, door)| AtDoor { item, door, pin: None }).collect();
        let ip = |text: &str| text.parse().expect("an address");
        let resolved: Resolved = NAMES.map(|name| (name.to_owned(), [ip("10.0.0.1")].into())).into();
        match document(&federation(), &gateway, &at, &resolved) {
            Err(found) => prop_assert!(of_both, "{found:#?}"),
            Ok(made) => {
                prop_assert!(!of_both);
                let bytes = made.expect("a document").bytes;
                let document: Value = serde_json::from_slice(&bytes).expect("JSON");
                for (index, (item, door)) in doors.iter().enumerate() {
                    let taken = if drawing[index].0 { format!("t{index}") } else { String::new() };
                    let kong = is_split_by_kong(&document, item.split.as_str(), &taken);
                    prop_assert_eq!(kong, matches!(door.via, Via::Addresses(_)), "{}", document);
                }
            }
        }
    }
}
