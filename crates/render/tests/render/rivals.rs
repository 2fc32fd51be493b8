//! Second writers as a table: who touches, and who overrides.

use serde_json::{Value, json};
use weir_render::touches;

use crate::{PLAIN, item};

fn policy(name: &str, origin: &str, top: &Value, target: &Value, header: Option<&str>) -> Value {
    let mut one = json!({ "path": { "type": "PathPrefix", "value": "/" } });
    if let Some(header) = header {
        one["headers"] = json!([{ "name": header, "value": "1" }]);
    }
    json!({
        "type": "MeshHTTPRoute", "mesh": "default", "name": name,
        "labels": { "kuma.io/origin": origin, "kuma.io/display-name": name },
        "spec": { "targetRef": top, "to": [{ "targetRef": target, "rules": [{ "matches": [one], "default": {} }] }] },
    })
}

#[test]
fn as_a_table() {
    let mesh = json!({ "kind": "Mesh" });
    let service = json!({ "kind": "MeshService", "labels": { "kuma.io/display-name": "checkout" } });
    let port = |port: &str| {
        let mut target = service.clone();
        target["sectionName"] = json!(port);
        target
    };
    let other = json!({ "kind": "MeshService", "labels": { "kuma.io/display-name": "cart" } });
    let any = json!({ "kind": "MeshService", "labels": { "kuma.io/zone": "fra" } });
    let named = json!({ "kind": "MeshService", "name": "checkout-9x8z" });
    let rows = [
        (
            "sorts before ours, zone",
            policy("a", "zone", &mesh, &service, None),
        ),
        (
            "sorts after ours, zone",
            policy("z", "zone", &mesh, &service, None),
        ),
        (
            "sorts before ours, global",
            policy("a", "global", &mesh, &service, None),
        ),
        (
            "global, a match of its own",
            policy("z", "global", &mesh, &service, Some("x-canary")),
        ),
        (
            "for some dataplanes, global",
            policy("z", "global", &json!({ "kind": "Dataplane" }), &service, None),
        ),
        ("our port", policy("a", "zone", &mesh, &port("8080"), None)),
        ("another port", policy("a", "zone", &mesh, &port("9090"), None)),
        ("another service", policy("a", "zone", &mesh, &other, None)),
        ("any service of a zone", policy("a", "zone", &mesh, &any, None)),
        ("by name", policy("a", "zone", &mesh, &named, None)),
    ];
    let both = {
        let mut policy = policy("z", "zone", &mesh, &service, None);
        let rule = &mut policy["spec"]["to"][0]["rules"][0]["matches"];
        let ours = rule[0].clone();
        *rule = json!([ours, ours]);
        policy
    };
    let rows = rows.into_iter().chain([("our match twice in one rule", both)]);
    let item = item(PLAIN);
    let table = rows.map(|(what, document)| match touches(&item, &document) {
        None => format!("{what}: does not touch"),
        Some(writer) => format!(
            "{what}: {} {} of {} origin, overrides: {}",
            writer.kind, writer.object, writer.origin, writer.overrides
        ),
    });
    insta::assert_snapshot!(table.collect::<Vec<_>>().join("\n"));
    assert_eq!(
        touches(&item, &json!({ "type": "MeshTimeout", "spec": {} })),
        None
    );
    assert_eq!(touches(&item, &json!(null)), None);
}
