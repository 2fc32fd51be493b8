//! By what an upstream chooses: weights are shares only where Kong goes round, and the balancer shows the same weights anyhow.

use weir_model::Via;
use weir_render::kong::{goes_round, keeps_shares};

use super::*;

#[test]
fn only_what_goes_round_gives_shares_by_weight() {
    for round in [
        json!({}),
        json!({"algorithm": "round-robin", "hash_on": "none", "hash_fallback": "none"}),
        json!({"algorithm": "round-robin", "hash_on": null, "slots": 65_536, "healthchecks": {"threshold": 50}}),
        // A fallback of nothing is none, and a name that nothing hashes by is only a name.
        json!({"algorithm": "round-robin", "hash_on": "none", "hash_on_header": "X-User"}),
    ] {
        assert_eq!(goes_round(&round), Ok(()), "{round}");
    }
    let not = |upstream: Value| goes_round(&upstream).expect_err("it does not go round");
    let hashing = |more: Value| {
        let mut upstream = json!({"algorithm": "consistent-hashing"});
        let fields = more.as_object().unwrap().clone();
        upstream.as_object_mut().unwrap().extend(fields);
        not(upstream)
    };
    for (told, words) in [
        (
            hashing(json!({"hash_on": "ip"})),
            "it hashes by ip (algorithm consistent-hashing): the share is near",
        ),
        (hashing(json!({"hash_on": "consumer"})), "it hashes by consumer ("),
        (
            hashing(json!({"hash_on": "header", "hash_on_header": "x_user", "hash_fallback": "ip"})),
            "it hashes by header x_user, and where that is absent by ip (",
        ),
        (
            hashing(json!({"hash_on": "cookie", "hash_on_cookie": "session"})),
            "it hashes by cookie session (",
        ),
        (
            hashing(json!({"hash_on": "query_arg", "hash_on_query_arg": "user"})),
            "it hashes by query argument user (",
        ),
        (
            hashing(json!({"hash_on": "uri_capture", "hash_on_uri_capture": "id"})),
            "it hashes by capture of the path id (",
        ),
        (
            hashing(json!({"hash_on": "none"})),
            "without saying what it hashes",
        ),
        // Whatever the algorithm says, a hash is one.
        (
            not(json!({"algorithm": "round-robin", "hash_on": "ip"})),
            "it hashes by ip",
        ),
        (not(json!({"hash_on": "path"})), "it hashes by path"),
        (not(json!({"algorithm": "least-connections"})), "fewest open"),
        (not(json!({"algorithm": "latency"})), "a bias there and no share"),
        (
            not(json!({"algorithm": "sticky-sessions"})),
            "algorithm sticky-sessions",
        ),
    ] {
        assert!(told.contains(words), "{told}");
        assert!(!told.contains("ONE target"), "no `-` in any header: {told}");
    }
}

/// Kong 3.9 does not find a header with a dash: all of its requests are one key.
#[test]
fn a_dash_in_a_header_is_told_whichever_of_the_two_has_it() {
    for (upstream, header) in [
        (json!({"hash_on": "header", "hash_on_header": "X-User"}), "X-User"),
        (
            json!({"hash_on": "ip", "hash_fallback": "header", "hash_fallback_header": "x-other"}),
            "x-other",
        ),
    ] {
        let told = goes_round(&upstream).unwrap_err();
        let found = header.replace('-', "_");
        assert!(
            told.contains(&format!("does not find {header}"))
                && told.contains("ONE target")
                && told.contains(&format!("({found} finds the same header)")),
            "{told}"
        );
    }
    // A name that nothing hashes by leads nowhere.
    let told = goes_round(&json!({"hash_on": "ip", "hash_on_header": "X-User"})).unwrap_err();
    assert!(!told.contains("X-User"), "{told}");
}

/// A split that is shifted wholly comes to rest, and where the mesh carries the weights Kong has one backend, which gets everything
/// however a target is chosen. By latency a target without weight may be taken.
#[test]
fn what_one_backend_has_whole_it_has_however_a_target_is_chosen() {
    let kept = |route: &HttpRoute, services: &Services| {
        let found = backends(route, services).unwrap();
        let Expected { upstreams, .. } = expected(route, &found);
        let ways = [
            json!({}),
            json!({"algorithm": "consistent-hashing", "hash_on": "ip"}),
            json!({"algorithm": "least-connections"}),
            json!({"algorithm": "latency"}),
            json!({"algorithm": "sticky-sessions"}),
        ];
        ways.map(|live| {
            upstreams
                .values()
                .all(|wanted| keeps_shares(&live, wanted).is_ok())
        })
    };
    assert_eq!(
        kept(&services_of(9_999, 1), &with(3, 7)),
        [true, false, false, false, false]
    );
    assert_eq!(
        kept(&services_of(10_000, 0), &with(3, 7)),
        [true, true, true, false, false]
    );
    let via = Via::Mesh(super::super::address("checkout-mesh.edge.svc:80"));
    let door = door(routing(&["shop.example.com"], &[]), via);
    let mesh = made(&plain("checkout", &[("vm", 9_000), ("eks", 1_000)]), &door).unwrap();
    let mut services = Services::default();
    let by_name = json!({"ingress.kubernetes.io/service-upstream": "true"});
    services.put(
        &"edge".parse().unwrap(),
        [service("checkout-mesh", 80, &by_name)],
        [],
    );
    assert_eq!(kept(&mesh, &services), [true; 5]);
}
