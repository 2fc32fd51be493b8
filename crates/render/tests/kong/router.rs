//! Matches at a door mean what they mean in the mesh: whatever Kong's router chooses of a document of ours, ties against us.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::Value;
use weir_model::{HeaderMatch, Match, PathMatch, QueryMatch, Routing, ValueMatch};
use weir_planner::ItemRoute;
use weir_render::kong::{AtDoor, Resolved, document, fits};

use crate::{door, federation, gateway, item, pair, route, routing};

#[derive(Debug, Clone)]
struct Request {
    host: String,
    path: String,
    method: String,
    headers: BTreeMap<String, String>,
}

fn texts(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

/// All entries of Kong's router that take a request and are first or tie with the first: the name of the route, and the path
/// that what is behind it sees.
fn kong(routes: &[&Value], request: &Request) -> BTreeSet<(String, String)> {
    let mut best = 0;
    let mut taken = BTreeSet::new();
    for route in routes {
        let (hosts, methods, paths) = (
            texts(&route["hosts"]),
            texts(&route["methods"]),
            texts(&route["paths"]),
        );
        let headers = route["headers"].as_object().cloned().unwrap_or_default();
        let asked = |name: &str| {
            let same = |have: &String| {
                have.to_lowercase().replace('-', "_") == name.to_lowercase().replace('-', "_")
            };
            request
                .headers
                .iter()
                .find(|(have, _)| same(have))
                .map(|(_, value)| value.to_lowercase())
        };
        let wanted = |(name, values): (&String, &Value)| {
            asked(name).is_some_and(|value| texts(values).iter().any(|wanted| wanted.to_lowercase() == value))
        };
        let takes = (hosts.is_empty() || hosts.contains(&request.host.as_str()))
            && (methods.is_empty() || methods.contains(&request.method.as_str()))
            && headers.iter().all(wanted);
        if !takes {
            continue;
        }
        // One entry for each length, one for all expressions.
        let mut entries: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
        for path in &paths {
            entries
                .entry(if path.starts_with('~') { 0 } else { path.len() })
                .or_default()
                .push(path);
        }
        if paths.is_empty() {
            entries.insert(0, vec![]);
        }
        for (length, paths) in entries {
            let kinds = [
                !hosts.is_empty(),
                !methods.is_empty(),
                !headers.is_empty(),
                !paths.is_empty(),
            ];
            let kinds = kinds.into_iter().filter(|there| *there).count() as u64;
            let expression = paths.iter().any(|path| path.starts_with('~'));
            let priority = kinds << 61
                | u64::from(!hosts.is_empty()) << 60
                | (headers.len() as u64) << 52
                | u64::from(expression) << 51
                | length as u64;
            let matched = if paths.is_empty() {
                Some(0)
            } else {
                paths.iter().find_map(|path| match path.strip_prefix('~') {
                    None => request.path.starts_with(path).then_some(path.len()),
                    Some(text) => {
                        let whole = text.strip_suffix('$').expect("ours end so").replace('\\', "");
                        (whole == request.path).then_some(whole.len())
                    }
                })
            };
            let Some(matched) = matched else { continue };
            if priority > best {
                (best, taken) = (priority, BTreeSet::new());
            }
            if priority == best {
                let rest = if route["strip_path"] == true {
                    &request.path[matched..]
                } else {
                    request.path.as_str()
                };
                let rest = format!("/{}", rest.trim_start_matches('/'));
                taken.insert((route["name"].as_str().unwrap_or_default().to_owned(), rest));
            }
        }
    }
    taken
}

fn within(prefix: &str, path: &str) -> bool {
    prefix == "/" || path == prefix || path.starts_with(&format!("{prefix}/"))
}

/// What the mesh does, and the path behind the door.
fn mesh(routes: &[ItemRoute], routing: &Routing, request: &Request) -> Option<(String, String)> {
    let has = |set: &BTreeSet<String>, value: &String| set.is_empty() || set.contains(value);
    let of_door: Vec<&String> = routing
        .paths
        .iter()
        .filter(|path| request.path.starts_with(*path))
        .collect();
    let enters = has(&routing.hosts, &request.host)
        && has(&routing.methods, &request.method)
        && (routing.paths.is_empty() || !of_door.is_empty())
        && routing
            .headers
            .iter()
            .all(|(name, values)| request.headers.get(name).is_some_and(|v| values.contains(v)));
    if !enters {
        return None;
    }
    let takes = |route: &&ItemRoute| {
        let path = match &route.matches.path {
            None => true,
            Some(PathMatch::Prefix(prefix)) => within(prefix, &request.path),
            Some(PathMatch::Exact(path)) => *path == request.path,
            Some(PathMatch::Regex(_)) => false,
        };
        let header = |header: &HeaderMatch| {
            request
                .headers
                .get(&header.name)
                .is_some_and(|value| match &header.value {
                    ValueMatch::Exact(wanted) => wanted == value,
                    ValueMatch::Regex(wanted) => wanted.split('|').any(|wanted| wanted == value),
                })
        };
        path && route
            .matches
            .method
            .as_ref()
            .is_none_or(|method| *method == request.method)
            && route.matches.headers.iter().all(header)
    };
    let taken = routes.iter().find(takes)?;
    let stripped = of_door.iter().map(|path| path.len()).max().unwrap_or(0);
    let rest = if routing.strip_path {
        &request.path[stripped..]
    } else {
        request.path.as_str()
    };
    Some((
        format!("weir.checkout.{}", taken.name),
        format!("/{}", rest.trim_start_matches('/')),
    ))
}

fn text(of: &'static [&'static str]) -> impl Strategy<Value = String> {
    proptest::sample::select(of).prop_map(str::to_owned)
}

fn any_match() -> impl Strategy<Value = Match> {
    let path = prop_oneof![
        text(&["/", "/a", "/a/b", "/ab"]).prop_map(PathMatch::Prefix),
        text(&["/a", "/a/b", "/a.b"]).prop_map(PathMatch::Exact),
    ];
    let value = prop_oneof![
        4 => text(&["1", "2"]).prop_map(ValueMatch::Exact),
        1 => text(&["1|2", "1"]).prop_map(ValueMatch::Regex),
    ];
    let headers = proptest::collection::btree_map(text(&["x-a", "x-b"]), value, 0..3);
    let path = prop_oneof![3 => Just(None), 2 => path.prop_map(Some)];
    let method = prop_oneof![3 => Just(None), 1 => text(&["GET", "PUT"]).prop_map(Some)];
    (path, method, headers).prop_map(|(path, method, headers)| Match {
        path,
        method,
        headers: headers
            .into_iter()
            .map(|(name, value)| HeaderMatch { name, value })
            .collect(),
        query: vec![],
    })
}

fn any_routing() -> impl Strategy<Value = Routing> {
    let set = |of, most| proptest::collection::btree_set(text(of), 0..most);
    let values = set(&["1", "2"], 3).prop_filter("one at least", |set| !set.is_empty());
    let headers = proptest::collection::btree_map(text(&["x-a", "x-c"]), values, 0..2);
    (
        set(&["a.test"], 2),
        set(&["/", "/a", "/a/b/", "/ab"], 3),
        set(&["GET"], 2),
        headers,
        any::<bool>(),
    )
        .prop_filter("at least one condition", |(hosts, paths, methods, headers, _)| {
            !(hosts.is_empty() && paths.is_empty() && methods.is_empty() && headers.is_empty())
        })
        .prop_map(|(hosts, paths, methods, headers, strip_path)| Routing {
            hosts,
            paths,
            methods,
            headers,
            strip_path,
            snis: [].into(),
            https_only: false,
            https_redirect: weir_model::Redirect::default(),
            preserve_host: true,
        })
}

fn any_request() -> impl Strategy<Value = Request> {
    let headers = proptest::collection::btree_map(text(&["x-a", "x-b", "x-c"]), text(&["1", "2", "3"]), 0..4);
    (
        text(&["a.test", "b.test"]),
        text(&["/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/abc", "/a.b", "/axb"]),
        text(&["GET", "PUT"]),
        headers,
    )
        .prop_map(|(host, path, method, headers)| Request {
            host,
            path,
            method,
            headers,
        })
}

/// In the order of precedence, the last without a match, as they are in every item.
fn ordered(matches: Vec<Match>) -> Vec<ItemRoute> {
    let all = matches.into_iter().chain([Match::ANY]).enumerate();
    let named = all.map(|(at, matches)| route(&format!("r{at}"), matches, &[("vm", 10_000)]));
    let mut named: Vec<ItemRoute> = named.collect();
    named.sort_by_key(|route| route.matches.specificity());
    named
}

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: 1_000_000, ..ProptestConfig::with_cases(4_000) })]

    #[test]
    fn what_fits_is_routed_as_in_the_mesh(
        matches in proptest::collection::vec(any_match(), 0..4),
        routing in any_routing(),
        requests in proptest::collection::vec(any_request(), 30),
    ) {
        let item = item("checkout", ordered(matches));
        let door = door(routing.clone(), pair());
        let named: Vec<_> = item.routes.iter().map(|route| (&route.name, &route.matches)).collect();
        let at = AtDoor { item: &item, door: &door, pin: None };
        let made = document(&federation(), &gateway(None), &[at], &Resolved::new());
        prop_assert_eq!(fits(&named, &door).is_ok(), made.is_ok());
        let Ok(Some(made)) = made else {
            // A door without any matches behind it is always one.
            prop_assert!(item.routes.len() > 1);
            return Ok(());
        };
        let written: Value = serde_json::from_slice(&made.bytes).expect("JSON");
        let services = written["services"].as_array().expect("a list").iter();
        let routes: Vec<&Value> = services.flat_map(|service| service["routes"].as_array().expect("a list")).collect();
        for request in &requests {
            let expected: BTreeSet<_> = mesh(&item.routes, &routing, request).into_iter().collect();
            prop_assert_eq!(kong(&routes, request), expected, "{:?} by {:#?}", request, routes);
        }
    }
}

fn header(name: &str, value: &str) -> HeaderMatch {
    HeaderMatch {
        name: name.to_owned(),
        value: ValueMatch::Exact(value.to_owned()),
    }
}

fn matching(headers: Vec<HeaderMatch>) -> Match {
    Match {
        headers,
        ..Match::ANY
    }
}

/// Why a match cannot stand behind a door, before a route without one.
fn refused(matches: Vec<Match>, routing: &Routing) -> String {
    let item = item("checkout", ordered(matches));
    let named: Vec<_> = item
        .routes
        .iter()
        .map(|route| (&route.name, &route.matches))
        .collect();
    fits(&named, &door(routing.clone(), pair()))
        .err()
        .unwrap_or_default()
        .join("; ")
}

#[test]
fn what_people_declare_fits_and_what_kong_cannot_is_named() {
    let plain = routing(&["shop.example.com"], &["/checkout"]);
    let mut tenants = plain.clone();
    tenants.headers.insert(
        "x-tenant".to_owned(),
        BTreeSet::from(["a".to_owned(), "b".to_owned()]),
    );
    for (matches, routing) in [
        (vec![], &plain),
        (vec![matching(vec![header("x-beta", "true")])], &plain),
        (
            vec![
                matching(vec![header("x-beta", "true"), header("x-user", "7")]),
                matching(vec![header("x-beta", "true")]),
            ],
            &plain,
        ),
        (
            vec![
                matching(vec![header("x-v", "1")]),
                matching(vec![header("x-v", "2")]),
            ],
            &plain,
        ),
        (vec![matching(vec![header("x-beta", "true")])], &tenants),
    ] {
        assert_eq!(refused(matches, routing), "");
    }
    let regex = |text: &str| HeaderMatch {
        name: "x-v".to_owned(),
        value: ValueMatch::Regex(text.to_owned()),
    };
    let query = Match {
        query: vec![QueryMatch {
            name: "v".to_owned(),
            value: ValueMatch::Exact("2".to_owned()),
        }],
        ..Match::ANY
    };
    let path = |path: PathMatch| Match {
        path: Some(path),
        ..Match::ANY
    };
    let method = |method: &str| Match {
        method: Some(method.to_owned()),
        ..Match::ANY
    };
    let mut gets = plain.clone();
    gets.methods.insert("GET".to_owned());
    for (matches, routing, why) in [
        (vec![query], &plain, "does not see query parameters"),
        (
            vec![matching(vec![regex("[0-9]+")])],
            &plain,
            "cannot be said to Kong exactly",
        ),
        (
            vec![matching(vec![regex("^a$")])],
            &plain,
            "cannot be said to Kong exactly",
        ),
        (
            vec![matching(vec![header("x-v", "~*a")])],
            &plain,
            "another thing to Kong",
        ),
        (
            vec![matching(vec![header("x.v", "a")])],
            &plain,
            "no condition on a header x.v",
        ),
        (
            vec![matching(vec![header("host", "a")])],
            &plain,
            "no condition on a header host",
        ),
        (
            vec![matching(vec![header("x-tenant", "a")])],
            &tenants,
            "the door's own condition already",
        ),
        (
            vec![matching(vec![header("x_tenant", "a")])],
            &tenants,
            "one to Kong",
        ),
        // As many headers: in the mesh the first written, in Kong whoever.
        (
            vec![
                matching(vec![header("x-a", "1")]),
                matching(vec![header("x-b", "1")]),
            ],
            &plain,
            "both routes r0 and r1",
        ),
        (
            vec![
                matching(vec![header("x-a", "b")]),
                matching(vec![header("x-a", "B")]),
            ],
            &plain,
            "both routes r0 and r1",
        ),
        // The longer path is first in the mesh, the more headers in Kong.
        (
            vec![
                path(PathMatch::Prefix("/checkout/a".into())),
                matching(vec![header("x-a", "1")]),
            ],
            &plain,
            "stripPath: false",
        ),
        (
            vec![path(PathMatch::Prefix("/other".into()))],
            &plain,
            "no request to this door has the path /other",
        ),
        (
            vec![path(PathMatch::Prefix("/a%20b".into()))],
            &routing(&["a.test"], &[]),
            "that Kong rewrites",
        ),
        (
            vec![method("PUT")],
            &gets,
            "no request to this door has the method PUT",
        ),
        (vec![method("GET")], &gets, "both routes r0 and r1"),
        (
            vec![
                path(PathMatch::Prefix("/a".into())),
                matching(vec![header("x-a", "1")]),
            ],
            &routing(&["a.test"], &[]),
            "both routes r0 and r1",
        ),
    ] {
        let said = refused(matches.clone(), routing);
        assert!(said.contains(why), "{matches:?}: {said}");
    }
}
