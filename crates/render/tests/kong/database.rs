//! A Kong with a database: what is written, and what there is after every single write, should it be the last.

#![allow(clippy::unwrap_used, reason = "a test says so by failing")]

mod order;
mod store;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use weir_model::{Channel, Door, HeaderMatch, Match, SplitName, ValueMatch, Via};
use weir_planner::{GatewayPlan, Generation, Item};
use weir_render::kong::AnyPin;
use weir_render::kong::changes::{Changes, Held, Row, Write, changes};
use weir_render::kong::database::{Entities, Entity, Kind, entities};
use weir_render::kong::targets::SUM;
use weir_render::kong::{AtDoor, Conflict, Resolved};

use store::*;

use super::{addresses, door, federation, gateway, item, plain, route, routing, takes, weights};

fn with_database() -> GatewayPlan {
    GatewayPlan {
        channel: Channel::AdminDb,
        ..gateway(None)
    }
}

fn made(doors: &[(Item, Door)]) -> Result<Entities, Vec<Conflict>> {
    let doors: Vec<AtDoor<'_>> = doors
        .iter()
        .map(|(item, door)| AtDoor {
            item,
            door,
            pin: None,
        })
        .collect();
    let at = ("fra".parse().unwrap(), "edge".parse().unwrap());
    entities(
        &federation(),
        (&at.0, &at.1),
        &with_database(),
        &doors,
        &Resolved::new(),
    )
}

fn to(store: &Store, wanted: &Entities) -> Changes {
    changes(&store.0, wanted, (Generation(100), &BTreeSet::new()), &AnyPin)
}

fn is_done(changes: &Changes) -> bool {
    changes.splits.values().all(|of| of.as_ref().unwrap().is_empty())
}

fn of_weights(generation: u64, of: &[(&str, u32)], via: &[&str]) -> (Item, Door) {
    let mut item = plain("checkout", of);
    item.generation = Generation(generation);
    (item, door(routing(&[], &["/checkout"]), addresses(via)))
}

/// Each write in one word and with what it is about.
fn words(changes: &Changes) -> Vec<String> {
    let writes = changes.splits.values().flat_map(|of| of.as_ref().unwrap());
    let of = |write: &Write| match write {
        Write::Make { entity, .. } => {
            let weight = entity.fields.get("weight").map(|weight| format!(" {weight}"));
            format!(
                "make {} {}{}",
                entity.kind,
                entity.name,
                weight.unwrap_or_default()
            )
        }
        Write::Change {
            of: (kind, _, name),
            fields,
            ..
        } => {
            let fields = fields.iter().filter(|(field, _)| *field != "tags");
            let fields: Vec<String> = fields.map(|(field, value)| format!(" {field}={value}")).collect();
            format!("change {kind} {name}{}", fields.concat())
        }
        Write::Remove {
            of: (kind, _, name), ..
        } => format!("remove {kind} {name}"),
        Write::Await(upstream) => format!("await {}", upstream.name),
        Write::Forget(name) => format!("forget {name}"),
    };
    writes.map(of).collect()
}

#[test]
fn from_nothing_up_and_down_to_nothing() {
    let two = ["vm=10.0.0.1:80", "eks=10.0.0.2:80,10.0.0.3:80"];
    let wanted = made(&[of_weights(1, &[("vm", 9_000), ("eks", 1_000)], &two)]).unwrap();
    let mut store = Store::default();
    let up = to(&store, &wanted);
    assert_eq!(
        words(&up),
        [
            "make upstream weir.checkout.default",
            "make target 10.0.0.1:80 54000",
            "make target 10.0.0.2:80 3000",
            "make target 10.0.0.3:80 3000",
            "await weir.checkout.default",
            "make service weir.checkout.default",
            "make route weir.checkout.default",
        ]
    );
    store.all(&up, ALL, |_| ());
    assert!(is_done(&to(&store, &wanted)));
    // The canary off: the other one is raised before it goes to nothing.
    let off = made(&[of_weights(2, &[("vm", 10_000), ("eks", 0)], &two)]).unwrap();
    let step = to(&store, &off);
    assert_eq!(
        words(&step),
        [
            "change target 10.0.0.1:80 weight=60000",
            "change target 10.0.0.2:80 weight=0",
            "change target 10.0.0.3:80 weight=0",
        ]
    );
    store.all(&step, ALL, |_| ());
    // Another generation of the same writes nothing.
    let same = made(&[of_weights(3, &[("vm", 10_000), ("eks", 0)], &two)]).unwrap();
    assert!(is_done(&to(&store, &same)));
    // One that only takes something away says which generation it is, so that an older one does not bring it back.
    let one = made(&[of_weights(
        4,
        &[("vm", 10_000), ("eks", 0)],
        &["vm=10.0.0.1:80", "eks=10.0.0.2:80"],
    )])
    .unwrap();
    let step = to(&store, &one);
    assert_eq!(
        words(&step),
        ["change target 10.0.0.1:80", "remove target 10.0.0.3:80"]
    );
    store.all(&step, ALL, |_| ());
    let older = to(&store, &same);
    let why = older.splits.values().next().unwrap().clone().unwrap_err();
    assert!(
        why.contains("has generation 4 of split checkout, and this agent knows generation 3"),
        "{why}"
    );
    // It goes: from the top down, what it led to only when nobody routes by it any more.
    let down = to(&store, &made(&[]).unwrap());
    assert_eq!(
        words(&down),
        [
            "remove route weir.checkout.default",
            "forget weir.checkout.default",
            "remove service weir.checkout.default",
            "remove upstream weir.checkout.default",
        ]
    );
    // One that belongs there and is not in force yet stays.
    let absent = [SplitName::new("checkout").unwrap()].into();
    assert_eq!(
        changes(&store.0, &made(&[]).unwrap(), (Generation(100), &absent), &AnyPin).splits,
        BTreeMap::new()
    );
    // And so does one of a newer plan.
    let older = changes(
        &store.0,
        &made(&[]).unwrap(),
        (Generation(3), &BTreeSet::new()),
        &AnyPin,
    );
    assert!(older.splits.values().next().unwrap().is_err());
    store.all(&down, ALL, |_| ());
    assert_eq!(store.0, Held::default());
}

#[test]
fn the_mesh_has_a_service_and_a_route_and_both_ways_can_be_changed_into_each_other() {
    let item = plain("checkout", &[("vm", 9_000), ("eks", 1_000)]);
    let mesh = door(
        routing(&[], &["/checkout"]),
        Via::Mesh(super::address("127.0.0.1:33001")),
    );
    let mesh = made(&[(item.clone(), mesh)]).unwrap();
    let own = made(&[(item, door(routing(&[], &["/checkout"]), super::pair()))]).unwrap();
    let mut store = Store::default();
    let up = to(&store, &mesh);
    assert_eq!(
        words(&up),
        ["make service weir.checkout", "make route weir.checkout"]
    );
    store.all(&up, ALL, |_| ());
    for wanted in [&own, &mesh, &own] {
        let step = to(&store, wanted);
        store.all(&step, ALL, |store| drop(store.served()));
        assert!(is_done(&to(&store, wanted)));
    }
}

/// What a site names like the mesh does stands between a door and the mesh: nothing is written that would go by it.
#[test]
fn an_upstream_of_a_name_of_the_mesh_holds_the_door() {
    let mesh = |at: &str| {
        let item = plain("checkout", &[("vm", 9_000), ("eks", 1_000)]);
        let via = Via::Mesh(super::address(at));
        made(&[(item, door(routing(&[], &["/checkout"]), via))]).unwrap()
    };
    let wanted = mesh("shop.mesh.local:80");
    assert_eq!(wanted.mesh_hosts().collect::<Vec<_>>(), ["shop.mesh.local"]);
    let fields = json!({"name": "shop.mesh.local", "tags": ["team-a"]});
    let theirs = Store::row(Kind::Upstream, "u-1", fields.as_object().unwrap());
    let mut store = Store::default();
    store.0.rows.push(theirs);
    for there in [false, true] {
        let changes = to(&store, &wanted);
        let why = changes.splits.values().next().unwrap().clone().unwrap_err();
        assert!(
            why.starts_with("it leads to shop.mesh.local") && why.contains("(id u-1)"),
            "{there}: {why}"
        );
        // By an address it goes, and by another name.
        for other in ["127.0.0.1:33001", "other.mesh.local:80"] {
            let step = to(&store, &mesh(other));
            store.all(&step, ALL, |_| ());
        }
    }
    store.0.rows.retain(|row| row.id != "u-1");
    let step = to(&store, &wanted);
    store.all(&step, ALL, |_| ());
    assert!(is_done(&to(&store, &wanted)));
    assert_eq!(mesh("127.0.0.1:33001").mesh_hosts().count(), 0);
}

/// Somebody's route may name very many hosts, paths and methods: they are never put together.
#[test]
fn a_route_of_somebody_else_is_compared_however_much_it_names() {
    let wanted = made(&[of_weights(1, &[("vm", 10_000)], &["vm=10.0.0.1:80"])]).unwrap();
    let many = |what: &str| (0..3_000).map(|at| format!("{what}{at}")).collect::<Vec<_>>();
    let theirs = |hosts: Vec<String>| {
        let mut paths = many("/");
        paths.push("/checkout".to_owned());
        json!({"id": "r-1", "name": "till", "hosts": hosts, "paths": paths, "methods": null, "tags": null})
    };
    let found = |route| weir_render::kong::beside::beside(&wanted, vec![route]).unwrap();
    assert_eq!(
        found(theirs(Vec::new())),
        BTreeMap::from([(
            "weir.checkout.default".to_owned(),
            "route till (id r-1)".to_owned()
        )])
    );
    assert_eq!(found(theirs(many("h"))), BTreeMap::new());
    let by_host = door(routing(&["h7"], &["/checkout"]), addresses(&["vm=10.0.0.1:80"]));
    let wanted = made(&[(plain("checkout", &[("vm", 10_000)]), by_host)]).unwrap();
    let mut route = theirs(many("h"));
    assert_eq!(
        weir_render::kong::beside::beside(&wanted, vec![route.clone()])
            .unwrap()
            .len(),
        1
    );
    route["methods"] = json!(many("M"));
    assert_eq!(
        weir_render::kong::beside::beside(&wanted, vec![route]).unwrap(),
        BTreeMap::new()
    );
}

#[test]
fn what_is_not_weirs_is_named_and_never_written() {
    let wanted = made(&[of_weights(
        1,
        &[("vm", 9_000), ("eks", 1_000)],
        &["vm=10.0.0.1:80", "eks=10.0.0.2:80"],
    )])
    .unwrap();
    let mut whole = Store::default();
    let up = to(&whole, &wanted);
    whole.all(&up, ALL, |_| ());
    let refused = |store: &Store, why: &str| {
        let changes = to(store, &wanted);
        let said = changes.splits.values().next().unwrap().clone().expect_err(why);
        assert!(said.contains(why), "{said}");
    };
    for kind in [Kind::Upstream, Kind::Service, Kind::Route] {
        for (tags, why) in [
            (json!(null), "it has no tag of Weir's"),
            (json!(["theirs"]), "it has no tag of Weir's"),
            (json!(["weir"]), "do not say of which federation"),
            (
                json!(["weir", "weir.federation.other", "weir.split.checkout"]),
                "of the federation other",
            ),
            (
                json!([
                    "weir",
                    "weir.federation.shop",
                    "weir.at.fra.other",
                    "weir.split.checkout",
                    "weir.route.default"
                ]),
                "it is of gateway fra.other",
            ),
        ] {
            // Whole but for this one, and with nothing else.
            for mut store in [whole.clone(), Store::default()] {
                store.0.rows.retain(|row| row.kind != kind);
                let fields = json!({"name": "weir.checkout.default", "tags": tags, "service": {"id": "x"}});
                let id = weir_render::kong::ids::derived(kind.plural(), "weir.checkout.default");
                store
                    .0
                    .rows
                    .push(Store::row(kind, &id, fields.as_object().unwrap()));
                refused(&store, &format!("{kind} weir.checkout.default"));
                refused(&store, why);
            }
        }
        // With all tags, and an id of somebody else.
        let mut store = whole.clone();
        let row = store.0.rows.iter_mut().find(|row| row.kind == kind).unwrap();
        row.id = "11111111-1111-4111-8111-111111111111".to_owned();
        refused(&store, "somebody copied it");
    }
    // A target of theirs where ours has to be; one more of theirs is told by the proof, and stays.
    let upstream = wanted.names().find(|(kind, _)| *kind == Kind::Upstream).unwrap();
    let id = weir_render::kong::ids::derived("upstreams", upstream.1);
    let mut store = whole.clone();
    let theirs = |target: &str| {
        let fields = json!({"target": target, "weight": 5, "tags": null, "upstream": {"id": id}});
        Store::row(
            Kind::Target,
            "22222222-2222-4222-8222-222222222222",
            fields.as_object().unwrap(),
        )
    };
    store.0.targets.get_mut(&id).unwrap().push(theirs("10.9.9.9:80"));
    assert!(is_done(&to(&store, &wanted)));
    let gone = to(&store, &made(&[]).unwrap());
    let why = gone.splits.values().next().unwrap().clone().unwrap_err();
    assert!(
        why.contains("10.9.9.9:80") && why.contains("would go with it"),
        "{why}"
    );
    let mut store = whole.clone();
    let targets = store.0.targets.get_mut(&id).unwrap();
    targets.retain(|row| row.name != "10.0.0.2:80");
    targets.push(theirs("10.0.0.2:80"));
    refused(&store, "target 10.0.0.2:80");
    // Another gateway's entities are counted in a note, and stay when ours go.
    let mut store = whole.clone();
    for row in &mut store.0.rows {
        row.tags.remove("weir.at.fra.edge");
        row.tags.insert("weir.at.ams.edge".to_owned());
    }
    let other = to(&store, &made(&[]).unwrap());
    assert_eq!(other.splits, BTreeMap::new());
    assert!(
        other.notes[0].contains("3 of Weir's entities of gateway ams.edge"),
        "{:?}",
        other.notes
    );
}

#[test]
fn what_somebody_changed_is_put_back_and_nothing_else_is_said() {
    let wanted = made(&[of_weights(
        1,
        &[("vm", 9_000), ("eks", 1_000)],
        &["vm=10.0.0.1:80", "eks=10.0.0.2:80"],
    )])
    .unwrap();
    let mut whole = Store::default();
    let up = to(&whole, &wanted);
    whole.all(&up, ALL, |_| ());
    for (kind, field, value, back) in [
        (
            Kind::Service,
            "host",
            json!("evil.test"),
            "host=\"weir.checkout.default\"",
        ),
        (Kind::Service, "enabled", json!(false), "enabled=true"),
        (
            Kind::Route,
            "paths",
            json!(["/checkout", "/more"]),
            "paths=[\"/checkout\"]",
        ),
        (Kind::Route, "methods", json!(["GET"]), "methods=null"),
        (
            Kind::Upstream,
            "algorithm",
            json!("latency"),
            "algorithm=\"round-robin\"",
        ),
        (
            // By itself it is all that makes an upstream hash (fact 15).
            Kind::Upstream,
            "hash_on",
            json!("ip"),
            "hash_on=\"none\"",
        ),
        (
            Kind::Upstream,
            "name",
            json!("theirs"),
            "name=\"weir.checkout.default\"",
        ),
    ] {
        let mut store = whole.clone();
        let row = store.0.rows.iter_mut().find(|row| row.kind == kind).unwrap();
        let mut fields = row.fields.clone();
        fields.insert(field.to_owned(), value);
        // What Weir does not say of it is the site's: it stays.
        fields.insert("healthchecks".to_owned(), json!({"threshold": 3}));
        let tags = fields.get_mut("tags").unwrap().as_array_mut().unwrap();
        tags.push("team-a".into());
        *row = Store::row(kind, &row.id.clone(), &fields);
        let mended = to(&store, &wanted);
        let last = words(&mended).pop().unwrap();
        assert_eq!(last, format!("change {kind} weir.checkout.default {back}"));
        store.all(&mended, ALL, |_| ());
        assert!(is_done(&to(&store, &wanted)));
        let row = store.0.rows.iter().find(|row| row.kind == kind).unwrap();
        assert!(row.tags.contains("team-a") && row.fields["healthchecks"] == json!({"threshold": 3}));
    }
    // As Kong may give it back.
    let mut store = whole;
    for row in &mut store.0.rows {
        let fields = row
            .fields
            .clone()
            .into_iter()
            .filter(|(_, value)| !value.is_null());
        let mut fields: Map<String, Value> = fields.collect();
        if row.kind == Kind::Route {
            fields.insert("protocols".to_owned(), json!(["https", "http"]));
            fields.insert("headers".to_owned(), json!({}));
        }
        *row = Store::row(row.kind, &row.id.clone(), &fields);
    }
    assert!(is_done(&to(&store, &wanted)));
}

#[test]
fn a_base_and_its_services_belong_to_a_kong_without_a_database() {
    let item = plain("checkout", &[("vm", 10_000)]);
    let conflicts = made(&[(item, takes("checkout", addresses(&["vm=10.0.0.1:80"])))]).unwrap_err();
    assert!(
        conflicts[0].to_string().contains("no service `checkout`"),
        "{conflicts:?}"
    );
}

#[test]
fn a_door_gains_tls_and_loses_it_by_its_route_alone() {
    let of = |secure: bool| {
        let (item, mut door) = of_weights(
            1,
            &[("vm", 9_000), ("eks", 1_000)],
            &["vm=10.0.0.1:80", "eks=10.0.0.2:80"],
        );
        if let (true, weir_model::Entry::Routes(routing)) = (secure, &mut door.entry) {
            routing.https_only = true;
            routing.https_redirect = weir_model::Redirect::Found;
            routing.snis = ["shop.example.com".to_owned()].into();
        }
        made(&[(item, door)]).unwrap()
    };
    let (plain, secure) = (of(false), of(true));
    let mut store = Store::default();
    store.all(&to(&store, &plain), ALL, |_| ());
    let route = |store: &Store| {
        let row = store.0.rows.iter().find(|row| row.kind == Kind::Route).unwrap();
        ["protocols", "snis", "https_redirect_status_code"].map(|field| row.fields[field].clone())
    };
    let of_http = [json!(["http", "https"]), Value::Null, json!(426)];
    assert_eq!(route(&store), of_http);
    for (wanted, said) in [
        (
            &secure,
            [json!(["https"]), json!(["shop.example.com"]), json!(302)],
        ),
        (&plain, of_http),
    ] {
        let changes = to(&store, wanted);
        let kinds = changes.splits.values().flat_map(|of| of.as_ref().unwrap());
        let kinds: Vec<Kind> = kinds
            .map(|write| match write {
                Write::Change { of, .. } => of.0,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(kinds, [Kind::Route]);
        store.all(&changes, ALL, |_| ());
        assert_eq!(route(&store), said);
        assert!(is_done(&to(&store, wanted)));
    }
}
