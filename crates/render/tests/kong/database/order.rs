//! The order of writes: whatever is declared, and wherever they end before their time.

use proptest::prelude::*;
use proptest::sample::select;

use super::*;

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
        there.then(|| (item, door(routing(&[], &["/basket"]), crate::pair())))
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

/// Once something of a split that stays is gone, an agent that knows only the plan before does not make it again: what is left
/// says of which generation it is.
fn told(store: &Store, before: &Store, wanted: &Entities, older: &Entities) {
    for split in wanted
        .doors
        .keys()
        .filter(|split| older.doors.contains_key(*split))
    {
        let tag = format!("weir.split.{split}");
        let mut had = before.0.rows.iter().filter(|row| row.tags.contains(&tag));
        if had.any(|row| !store.0.rows.iter().any(|is| is.id == row.id)) {
            let by_older = to(store, older);
            let of = &by_older.splits[split];
            assert!(of.is_err(), "{split} is taken back by an older plan: {of:?}");
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
    /// that gives somebody something, and nobody more than the larger of what he had and what he gets; and what is gone of a
    /// split that stays does not come back by an older plan.
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
            store.all(&changes, cut, |store| {
                between(store, &before, &wanted);
                if let Some(older) = &last {
                    told(store, &before, &wanted, older);
                }
            });
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
