//! A document that Kong refuses: whose line it is, and nothing is changed.

use serde_json::json;
use weir_drivers::{Brought, Fault};

use super::asking::Target;
use super::stage::{Stage, by_routes, made, plain, routing};

#[tokio::test(flavor = "multi_thread")]
async fn what_kong_refuses_is_told_by_split_and_by_entity_of_the_base() {
    let stage = Stage::set().await;
    let vm = Target::start("vm").await.address;
    let checkout = plain("checkout", 1, &[("vm", 10_000)]);
    let door = by_routes(routing("/checkout"), &[("vm", &[vm])]);
    let well = made(None, &[(&checkout, &door)]);
    stage.bring(&well).await;
    let mut odd = routing("/checkout");
    odd.hosts.insert("a_b:c:d".to_owned());
    let odd = by_routes(odd, &[("vm", &[vm])]);
    let base = |service: serde_json::Value| json!({"_format_version": "3.0", "services": [service]});
    for (base, door, said) in [
        (None, &odd, &["split checkout, route default: route: hosts"][..]),
        (
            Some(base(json!({"name": "bad", "host": "a.test", "retries": 70_000}))),
            &door,
            &["base: service `bad`: retries: value should be between 0 and 32767"],
        ),
        (
            Some(base(
                json!({"name": "bad", "host": "a.test", "routes": [{"name": "r", "paths": ["x"]}]}),
            )),
            &door,
            &["base: route `r`: paths.1: "],
        ),
        (
            Some(json!({"_format_version": "3.0", "_odd": 1})),
            &door,
            &["_odd: unknown field"],
        ),
        (
            Some(
                json!({"_format_version": "3.0", "services": [{"name": "a", "host": "a b"}, {"name": "b", "port": -1, "host": "b"}]}),
            ),
            &door,
            &["service `a`: host: ", "service `b`: port: "],
        ),
    ] {
        let document = made(base.as_ref(), &[(&checkout, door)]);
        match stage.brought(&document, &[]).await {
            Brought::Refused(error, refused) => {
                let of_split = said[0].starts_with("split ");
                assert_eq!(
                    (refused.base, refused.splits.len()),
                    (!of_split && !said[0].starts_with('_'), usize::from(of_split))
                );
                assert_eq!(error.fault, Fault::Refused, "{error}");
                assert!(
                    error.what.starts_with("POST ") && error.what.ends_with("/config"),
                    "{error}"
                );
                for said in said {
                    assert!(error.why.contains(said), "{said}: {error}");
                }
            }
            other => panic!("{said:?}: {other:?}"),
        }
        assert_eq!(stage.hash().await, well.hash, "{said:?}");
    }
}
