//! Which requests Kong's own routes take, beside those of the door.

use weir_render::kic::{Router, is_of, is_plain};

use super::*;

/// What is otherwise in it.
type Change<'a> = &'a dyn Fn(&mut Value);

/// As Kong has what the controller makes of a route.
fn in_kong(name: &str, change: &dyn Fn(&mut Value)) -> Value {
    let mut route = json!({
        "name": name, "hosts": ["shop.example.com"], "paths": ["~/checkout$", "/checkout/"], "methods": null, "headers": null,
        "strip_path": true, "preserve_host": false, "protocols": ["http"],
    });
    change(&mut route);
    route
}

#[test]
fn kongs_own_routes_take_the_very_requests_of_the_door() {
    let route = services_of(9_000, 1_000);
    let served = |of_kong: &[Value]| Router::of(of_kong).served(&route);
    let name = "httproute.edge.weir.edge.checkout.0.0";
    assert_eq!(served(&[in_kong(name, &|_| {})]), Ok(()));
    let apart = [
        in_kong(name, &|of| of["paths"] = json!(["~/checkout$"])),
        in_kong(name, &|of| of["paths"] = json!(["/checkout/"])),
    ];
    assert_eq!(served(&apart), Ok(()), "however the controller groups them");
    let wrong: [(Change<'_>, &str); 6] = [
        (&|of| of["paths"] = json!(["/checkout/"]), "does not take"),
        (
            &|of| of["hosts"] = json!(["shop.example.com", "other.example.com"]),
            "takes host other.example.com",
        ),
        (&|of| of["methods"] = json!(["GET"]), "method GET"),
        (&|of| of["headers"] = json!({"x-ring": ["canary"]}), "canary"),
        (&|of| of["strip_path"] = json!(false), "strip-path false"),
        (&|of| of["preserve_host"] = json!(true), "preserve-host true"),
    ];
    for (change, word) in wrong {
        let why = served(&[in_kong(name, change)]).unwrap_err();
        assert!(why.contains(word), "{word}: {why}");
    }
    // Which protocols there are is for the Gateway's listeners to say, where the door does not.
    assert_eq!(
        served(&[in_kong(name, &|of| of["protocols"] = json!(["https"]))]),
        Ok(())
    );
    assert!(served(&[]).is_err());
    // Where the door says HTTPS alone, what becomes of plain HTTP and which names are asked for is the door's too.
    let mut by_https = routing(&["shop.example.com"], &["/checkout"]);
    by_https.https_only = true;
    by_https.https_redirect = weir_model::Redirect::Permanent;
    by_https.snis = ["shop.example.com".to_owned()].into();
    let via = addresses(&["vm=old.edge.svc:80", "eks=new.edge.svc:80"]);
    let split = plain("checkout", &[("vm", 9_000), ("eks", 1_000)]);
    let secure = made(&split, &door(by_https, via)).unwrap();
    let served = |change: Change<'_>| {
        let of_kong = in_kong(name, &|of| {
            of["protocols"] = json!(["https"]);
            of["https_redirect_status_code"] = json!(308);
            of["snis"] = json!(["shop.example.com"]);
            change(of);
        });
        Router::of(&[of_kong]).served(&secure)
    };
    assert_eq!(served(&|_| {}), Ok(()));
    let wrong: [(Change<'_>, &str); 3] = [
        (
            &|of| of["https_redirect_status_code"] = json!(426),
            "https only true, snis",
        ),
        (&|of| of["snis"] = Value::Null, "https only true (else 308),"),
        (
            &|of| of["protocols"] = json!(["http", "https"]),
            "https only false",
        ),
    ];
    for (change, word) in wrong {
        let why = served(change).unwrap_err();
        assert!(why.contains(word), "{word}: {why}");
    }
    // Somebody else's, of whatever kind of object.
    let other = |change: &dyn Fn(&mut Value)| {
        let router = Router::of(&[in_kong(name, &|_| {}), in_kong("theirs", change)]);
        router.at_odds(&route).into_iter().next().map(str::to_owned)
    };
    assert_eq!(other(&|_| {}), Some("theirs".to_owned()));
    assert_eq!(
        other(&|of| of["paths"] = json!(["/checkout"])),
        Some("theirs".to_owned()),
        "an Ingress"
    );
    assert_eq!(
        other(&|of| of["hosts"] = Value::Null),
        None,
        "ours has a host, and comes first"
    );
    assert_eq!(other(&|of| of["hosts"] = json!(["cart.example.com"])), None);
    assert_eq!(
        other(&|of| of["paths"] = json!(["/checkout/admin"])),
        None,
        "more special"
    );
    assert_eq!(
        other(&|of| of["headers"] = json!({"x-ring": ["canary"]})),
        None,
        "more special"
    );
}

/// The controller makes two paths of every prefix, of `/` as well: whole parts of a path, and a slash is added where there is none.
#[test]
fn every_prefix_is_two_paths() {
    let name = "httproute.edge.weir.edge.checkout.0.0";
    let via = || addresses(&["vm=old.edge.svc:80", "eks=new.edge.svc:80"]);
    let split = plain("checkout", &[("vm", 9_000), ("eks", 1_000)]);
    for paths in [&[][..], &["/"]] {
        let whole = made(&split, &door(routing(&["shop.example.com"], paths), via())).unwrap();
        let served = |paths: Value| {
            let of_kong = in_kong(name, &|of| of["paths"] = paths.clone());
            Router::of(&[of_kong]).served(&whole)
        };
        assert_eq!(served(json!(["~/$", "/"])), Ok(()));
        let why = served(json!(["/"])).unwrap_err();
        assert!(
            why.contains("does not take host shop.example.com, path ~/$"),
            "{why}"
        );
        // Theirs is an Ingress, of which no such pair is made.
        let theirs = in_kong("theirs", &|of| of["paths"] = json!(["/"]));
        let ours = in_kong(name, &|of| of["paths"] = json!(["~/$", "/"]));
        assert_eq!(Router::of(&[ours, theirs]).at_odds(&whole), ["theirs"].into());
    }
    let mut route = services_of(9_000, 1_000);
    for (matches, paths, methods) in [
        (
            json!([{"path": {"type": "PathPrefix", "value": "/a/"}}]),
            json!(["~/a/$", "/a/"]),
            Value::Null,
        ),
        // What names no path is of `/`, and matches that differ in nothing else are one route.
        (
            json!([{"method": "GET"}, {"method": "GET", "path": {"type": "PathPrefix", "value": "/a"}}]),
            json!(["~/$", "/", "~/a$", "/a/"]),
            json!(["GET"]),
        ),
    ] {
        route.document["spec"]["rules"][0]["matches"] = matches;
        let of_kong = in_kong(name, &|of| {
            of["paths"] = paths.clone();
            of["methods"] = methods.clone();
        });
        assert_eq!(Router::of(&[of_kong]).served(&route), Ok(()), "{paths}");
    }
}

#[test]
fn a_route_of_kongs_is_known_by_its_name() {
    let gateway = "edge".parse().unwrap();
    for (name, ours) in [
        ("httproute.shop.weir.edge.checkout.0.0", true),
        ("httproute.shop.weir.edge2.checkout.0.0", false),
        ("httproute.shop.theirs.0.0", false),
        ("shop.theirs.80", false),
        ("", false),
    ] {
        assert_eq!(is_of(&gateway, name), ours, "{name}");
    }
    // One of another split of the same beginning, or of another namespace, is not this one's.
    let route = services_of(9_000, 1_000);
    let others = [
        "httproute.edge.weir.edge.checkout2.0.0",
        "httproute.edge2.weir.edge.checkout.0.0",
    ];
    for name in others {
        let router = Router::of(&[in_kong(name, &|_| {})]);
        assert!(router.served(&route).is_err());
        assert_eq!(router.at_odds(&route), [name].into());
    }
}

/// What else takes the requests of a route of theirs is told where all of it can be read as Kong's own routes say it.
#[test]
fn a_route_of_prefixes_methods_and_exact_headers_is_plain() {
    let with = |matches: Value| {
        let mut route = services_of(9_000, 1_000);
        route.document["spec"]["rules"][0]["matches"] = matches;
        is_plain(&route)
    };
    let prefix = json!({"path": {"type": "PathPrefix", "value": "/a"}, "method": "GET", "headers": [{"name": "a", "value": "b"}]});
    assert!(with(json!([prefix])));
    assert!(
        with(json!([{"path": {"value": "/a"}}, {}])),
        "what is not said is a prefix"
    );
    for odd in [
        json!({"path": {"type": "Exact", "value": "/a"}}),
        json!({"path": {"type": "RegularExpression", "value": "/a.*"}}),
        json!({"queryParams": [{"name": "a", "value": "b"}]}),
        json!({"headers": [{"type": "RegularExpression", "name": "a", "value": "b"}]}),
    ] {
        assert!(!with(json!([prefix, odd])), "{odd}");
    }
    assert!(
        !with(json!([])) && !with(Value::Null),
        "all requests, by no match of its own"
    );
}
