//! A Kong with a database: what is written, and what there is after every single write, should it be the last.

#![allow(clippy::unwrap_used, reason = "a test says so by failing")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};
use weir_model::{Channel, Door, HeaderMatch, Match, SplitName, ValueMatch, Via};
use weir_planner::{GatewayPlan, Generation, Item};
use weir_render::kong::changes::{Changes, Held, Row, Write, changes};
use weir_render::kong::database::{Entities, Entity, Kind, entities};
use weir_render::kong::targets::SUM;
use weir_render::kong::{AtDoor, Conflict, Resolved};

use super::{addresses, door, federation, gateway, item, plain, route, routing, takes, weights};

fn with_database() -> GatewayPlan {
    GatewayPlan {
        channel: Channel::AdminDb,
        ..gateway(None)
    }
}

fn made(doors: &[(Item, Door)]) -> Result<Entities, Vec<Conflict>> {
    let doors: Vec<AtDoor<'_>> = doors.iter().map(|(item, door)| AtDoor { item, door }).collect();
    let at = ("fra".parse().unwrap(), "edge".parse().unwrap());
    entities(
        &federation(),
        (&at.0, &at.1),
        &with_database(),
        &doors,
        &Resolved::new(),
    )
}

/// A database, as far as this is concerned: what is there, and what each write makes of it.
#[derive(Debug, Clone, Default)]
struct Store(Held);

impl Store {
    fn has(&self, kind: Kind, id: &str) -> bool {
        self.0.rows.iter().any(|row| row.kind == kind && row.id == id)
    }

    fn row(kind: Kind, id: &str, fields: &Map<String, Value>) -> Row {
        let mut fields = fields.clone();
        fields.insert("id".to_owned(), id.into());
        Row::read(kind, Value::Object(fields)).unwrap()
    }

    /// What a real one would refuse, fails.
    fn write(&mut self, write: &Write) {
        match write {
            Write::Make {
                entity,
                under: Some(upstream),
            } => {
                assert!(self.has(Kind::Upstream, upstream), "a target of nothing");
                let mut fields = entity.fields.clone();
                fields.insert("upstream".to_owned(), json!({"id": upstream}));
                let targets = self.0.targets.entry(upstream.clone()).or_default();
                assert!(targets.iter().all(|row| row.name != entity.name), "409");
                targets.push(Self::row(Kind::Target, &entity.id, &fields));
            }
            Write::Make {
                entity:
                    Entity {
                        kind,
                        id,
                        name,
                        fields,
                    },
                under: None,
            } => {
                let taken = |row: &Row| row.kind == *kind && (row.id == *id || row.name == *name);
                assert!(!self.0.rows.iter().any(taken), "409: {kind} {name}");
                if let Some(service) = fields.get("service") {
                    assert!(
                        self.has(Kind::Service, service["id"].as_str().unwrap()),
                        "a route of nothing"
                    );
                }
                self.0.rows.push(Self::row(*kind, id, fields));
            }
            Write::Change {
                of: (kind, id, _),
                under,
                fields,
            } => {
                let rows = match under {
                    None => &mut self.0.rows,
                    Some(upstream) => self.0.targets.get_mut(upstream).unwrap(),
                };
                let row = rows
                    .iter_mut()
                    .find(|row| row.kind == *kind && row.id == *id)
                    .expect("404");
                let mut all = row.fields.clone();
                all.extend(fields.clone());
                *row = Self::row(*kind, id, &all);
            }
            Write::Remove {
                of: (kind, id, _),
                under: None,
            } => {
                let leads = |row: &Row| row.kind == Kind::Route && row.fields["service"]["id"] == id.as_str();
                assert!(
                    *kind != Kind::Service || !self.0.rows.iter().any(leads),
                    "400: a route leads there"
                );
                self.0.rows.retain(|row| row.kind != *kind || row.id != *id);
                if *kind == Kind::Upstream {
                    self.0.targets.remove(id);
                }
            }
            Write::Remove {
                of: (_, id, _),
                under: Some(upstream),
            } => {
                self.0
                    .targets
                    .get_mut(upstream)
                    .unwrap()
                    .retain(|row| row.id != *id);
            }
            Write::Await(upstream) => {
                let has = self
                    .given(&upstream.name)
                    .expect("it is there before it is waited for");
                let should = upstream
                    .targets
                    .iter()
                    .map(|(address, target)| (address.to_string(), u64::from(target.weight)));
                assert_eq!(has, should.collect(), "all of it is there");
            }
            Write::Forget(name) => {
                let mut routes = self.0.rows.iter().filter(|row| row.kind == Kind::Route);
                assert!(
                    routes.all(|row| row.name != *name),
                    "the route is gone before it is forgotten"
                );
            }
        }
    }

    /// Weights of an upstream by target.
    fn given(&self, upstream: &str) -> Option<BTreeMap<String, u64>> {
        let mut rows = self.0.rows.iter().filter(|row| row.kind == Kind::Upstream);
        let row = rows.find(|row| row.name == upstream)?;
        let targets = self.0.targets.get(&row.id).into_iter().flatten();
        Some(
            targets
                .map(|row| (row.name.clone(), row.fields["weight"].as_u64().unwrap()))
                .collect(),
        )
    }

    /// The upstreams to which routes of ours lead, with the weights there.
    fn served(&self) -> BTreeMap<String, BTreeMap<String, u64>> {
        let mut served = BTreeMap::new();
        let ours = |row: &&Row| row.kind == Kind::Route && row.tags.contains("weir");
        for route in self.0.rows.iter().filter(ours) {
            let id = route.fields["service"]["id"].as_str().unwrap();
            let mut services = self.0.rows.iter().filter(|row| row.kind == Kind::Service);
            let service = services
                .find(|row| row.id == id)
                .expect("a route leads to a service");
            let host = service.fields["host"].as_str().unwrap().to_owned();
            if !host.starts_with("weir.") {
                continue; // the mesh
            }
            let given = self
                .given(&host)
                .unwrap_or_else(|| panic!("{} leads to no upstream {host}", route.name));
            assert!(
                given.values().sum::<u64>() > 0,
                "{host} gives nobody anything: {given:?}"
            );
            served.insert(host, given);
        }
        served
    }

    /// All writes of all splits, and what is so after each of them; `last` ends it before its time.
    fn all(&mut self, to: &Changes, last: usize, check: impl Fn(&Self)) {
        let writes = to.splits.values().flat_map(|of| of.as_ref().unwrap());
        for write in writes.take(last) {
            self.write(write);
            check(self);
        }
    }
}

const ALL: usize = usize::MAX;

fn to(store: &Store, wanted: &Entities) -> Changes {
    changes(&store.0, wanted, Generation(100), &BTreeSet::new())
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
        changes(&store.0, &made(&[]).unwrap(), Generation(100), &absent).splits,
        BTreeMap::new()
    );
    // And so does one of a newer plan.
    let older = changes(&store.0, &made(&[]).unwrap(), Generation(3), &BTreeSet::new());
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

/// A split with a default route and perhaps one for who asks; weights over three backends, each with some addresses.
fn declared() -> impl Strategy<Value = Vec<(Item, Door)>> {
    let shares = prop_oneof![
        Just((0_u32, 0_u32)),
        Just((10_000, 0)),
        Just((0, 10_000)),
        Just((5_000, 1)),
        (0_u32..=10_000).prop_flat_map(|first| (Just(first), 0..=(10_000 - first))),
    ];
    let routes = proptest::collection::vec(shares, 1..3);
    let counts = (1_usize..4, 1_usize..4, 1_usize..4);
    let one = (
        any::<bool>(),
        routes,
        counts,
        select(vec!["/a", "/b"]),
        any::<bool>(),
    )
        .prop_map(|(there, routes, (vm, eks, edge), path, two)| {
            // Six units are the least that a backend gets, and it has up to three addresses.
            let of = |(vm, eks): (u32, u32)| {
                if two {
                    weights(&[("vm", vm), ("eks", 10_000 - vm), ("edge", 0)])
                } else {
                    weights(&[("vm", vm), ("eks", eks), ("edge", 10_000 - vm - eks)])
                }
            };
            let asked = Match {
                headers: vec![HeaderMatch {
                    name: "x-beta".to_owned(),
                    value: ValueMatch::Exact("1".to_owned()),
                }],
                ..Match::ANY
            };
            let mut all: Vec<_> = routes.into_iter().map(of).collect();
            let mut made = vec![route("default", Match::ANY, &[])];
            made[0].weights = all.remove(0);
            if let Some(of) = all.pop() {
                let mut beta = route("beta", asked, &[]);
                beta.weights = of;
                made.insert(0, beta);
            }
            let list = |name: &str, net: u8, count: usize| {
                let all: Vec<String> = (1..=count).map(|at| format!("10.0.{net}.{at}:80")).collect();
                format!("{name}={}", all.join(","))
            };
            let lists = [list("vm", 1, vm), list("eks", 2, eks), list("edge", 3, edge)];
            let via = addresses(&lists.each_ref().map(String::as_str));
            there.then(|| (item("checkout", made), door(routing(&[], &[path]), via)))
        });
    let basket = (any::<bool>(), 0_u32..=10_000).prop_map(|(there, vm)| {
        let item = plain("basket", &[("vm", vm), ("eks", 10_000 - vm)]);
        there.then(|| (item, door(routing(&[], &["/basket"]), super::pair())))
    });
    (one, basket).prop_map(|(one, other)| one.into_iter().chain(other).collect())
}

/// What is whose: addresses of backends.
fn backend(address: &str) -> &str {
    address.rsplit_once('.').map_or(address, |(net, _)| net)
}

/// What must be so between one state and another, whichever write was the last.
fn between(store: &Store, before: &Store, wanted: &Entities) {
    let chains = wanted.doors.values().flat_map(|of| &of.chains);
    let new: BTreeMap<&str, BTreeMap<String, u64>> = chains
        .filter_map(|chain| chain.upstream.as_ref())
        .map(|upstream| {
            let targets = upstream.expected.targets.iter();
            let targets = targets.map(|(address, target)| (address.to_string(), u64::from(target.weight)));
            (upstream.expected.name.as_str(), targets.collect())
        })
        .collect();
    for (upstream, is) in store.served() {
        let old = before.given(&upstream);
        let new = new.get(upstream.as_str());
        let sum = |of: &BTreeMap<String, u64>| of.values().sum::<u64>();
        let share = |of: &BTreeMap<String, u64>, at: &str| {
            of.get(at).copied().unwrap_or(0) as f64 / sum(of).max(1) as f64
        };
        for (address, weight) in &is {
            // Of what a change that was cut short left, each has at most what the plan before it gave.
            let all = [old.as_ref(), new].into_iter().flatten();
            let most = all.filter_map(|of| of.get(address)).max().copied().unwrap_or(0);
            let at_most = most as f64 / SUM as f64;
            let has = *weight as f64 / sum(&is) as f64;
            assert!(
                has <= at_most + 1e-9,
                "{upstream}: {address} has {has} and never more than {at_most}: {is:?}"
            );
        }
        assert!(sum(&is) >= SUM);
        let (Some(old), Some(new)) = (old, new) else {
            continue;
        };
        // Where two backends share and neither gets or loses an address, each lies between what it had and what it gets.
        let parts = |of: &BTreeMap<String, u64>| {
            let mut parts: BTreeMap<String, u64> = BTreeMap::new();
            for (address, weight) in of {
                *parts.entry(backend(address).to_owned()).or_default() += weight;
            }
            parts
        };
        let (old_parts, new_parts, is_parts) = (parts(&old), parts(new), parts(&is));
        let weighted = old_parts
            .iter()
            .chain(&new_parts)
            .filter(|(_, weight)| **weight > 0);
        let weighted: BTreeSet<&String> = weighted.map(|(backend, _)| backend).collect();
        if weighted.len() <= 2 && old.keys().eq(new.keys()) && sum(&old) == SUM {
            for backend in weighted {
                let all = [&old_parts, &new_parts].map(|of| share(of, backend));
                let has = share(&is_parts, backend);
                let (least, most) = (all[0].min(all[1]), all[0].max(all[1]));
                assert!(
                    has >= least - 1e-9 && has <= most + 1e-9,
                    "{upstream}: {backend} has {has}, of {least} to {most}"
                );
            }
        }
    }
}

/// What is there and nobody's business: never written, whatever is.
fn theirs() -> Vec<Row> {
    let row = |kind, id: &str, fields: Value| Store::row(kind, id, fields.as_object().unwrap());
    vec![
        row(Kind::Upstream, "u", json!({"name": "theirs", "tags": ["team"]})),
        row(Kind::Service, "s", json!({"name": "theirs", "host": "theirs"})),
        row(
            Kind::Route,
            "r",
            json!({"name": "theirs", "paths": ["/theirs"], "service": {"id": "s"}}),
        ),
        row(
            Kind::Upstream,
            "f",
            json!({"name": "weir.checkout.other", "tags": ["weir", "weir.federation.other", "weir.split.checkout"]}),
        ),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 384, ..ProptestConfig::default() })]

    /// Whatever is declared one after the other, and wherever the writes end before their time: each route leads to an upstream
    /// that gives somebody something, and nobody more than the larger of what he had and what he gets.
    #[test]
    fn every_write_may_be_the_last(
        steps in proptest::collection::vec((declared(), prop_oneof![Just(ALL), 0_usize..12]), 1..5),
    ) {
        let mut store = Store::default();
        store.0.rows = theirs();
        let mut generation = 0;
        let mut last = None;
        for (mut doors, cut) in steps {
            generation += 1;
            for (item, _) in &mut doors {
                item.generation = Generation(generation);
            }
            let wanted = made(&doors).unwrap();
            let before = store.clone();
            let changes = to(&store, &wanted);
            store.all(&changes, cut, |store| between(store, &before, &wanted));
            last = Some(wanted);
        }
        // In the end it comes there, in one go, and has nothing more to do.
        let wanted = last.unwrap();
        let before = store.clone();
        let changes = to(&store, &wanted);
        store.all(&changes, ALL, |store| between(store, &before, &wanted));
        prop_assert!(is_done(&to(&store, &wanted)), "{:?}", to(&store, &wanted));
        let ours = store.0.rows.iter().filter(|row| row.tags.contains("weir.federation.shop"));
        prop_assert_eq!(ours.count(), wanted.names().count());
        for row in theirs() {
            prop_assert!(store.0.rows.contains(&row), "{}", row.called());
        }
    }
}
