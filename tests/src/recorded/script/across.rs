//! What one control plane has of another's.

use serde_json::json;

use super::*;

/// A zone's policy on global, and global's in a zone.
pub(super) fn across_zones(s: &mut Script) {
    let path = format!("{HTTP}/{OURS_ON_GLOBAL}");
    let there = s.ask(
        "global-get-ours",
        "our policy on global, by its hashed name",
        Place::Global,
        "GET",
        &path,
        Body::None,
    );
    there.awaited = Some(|response| succeeded(response) && !shifted(response));
    s.ask(
        "global-list-ours",
        "in the list",
        Place::Global,
        "GET",
        HTTP,
        Body::None,
    );
    s.ask(
        "global-delete-ours",
        "global may not delete it",
        Place::Global,
        "DELETE",
        &path,
        Body::None,
    );
    s.ask(
        "global-put-ours",
        "nor write it",
        Place::Global,
        "PUT",
        &path,
        Body::Json(split(1, 1)),
    );
    let mut named = split(1, 1);
    named["name"] = OURS_ON_GLOBAL.into();
    s.ask(
        "global-put-ours-by-name",
        "not even by its name there",
        Place::Global,
        "PUT",
        &path,
        Body::Json(named),
    );
    s.ask(
        "global-meshservices",
        "services on global",
        Place::Global,
        "GET",
        "/meshes/default/meshservices",
        Body::None,
    )
    .awaited = Some(ready);

    let from_global = rec(|p| {
        p["name"] = "from-global".into();
        p["labels"] = json!({});
    });
    let path = format!("{HTTP}/from-global");
    s.ask(
        "global-put",
        "a policy of global's",
        Place::Global,
        "PUT",
        &path,
        Body::Json(from_global.clone()),
    );
    s.ask("global-get", "read back", Place::Global, "GET", &path, Body::None);
    let name = weir_sandbox::double::store::hashed_name(&["default", "from-global"]);
    let copy = format!("{HTTP}/{name}");
    s.get("copy-get", "its copy in the zone, by its hashed name", &copy)
        .awaited = Some(succeeded);
    s.get("copy-list", "in the list beside ours", HTTP);
    let mut changed = from_global;
    changed["name"] = name.into();
    changed["labels"] = json!({"kuma.io/origin": "zone"});
    s.put("copy-put", "a zone may not write a copy", &copy, changed);
    s.ask(
        "copy-delete",
        "nor delete it",
        Place::Zone,
        "DELETE",
        &copy,
        Body::None,
    );
    s.ask(
        "global-delete",
        "global may",
        Place::Global,
        "DELETE",
        &path,
        Body::None,
    );
    s.get("copy-gone", "then it goes", &copy).awaited = Some(|response| response["status"] == 404);
    let path = format!("{HTTP}/weir-checkout");
    s.ask(
        "split-delete",
        "our policy goes",
        Place::Zone,
        "DELETE",
        &path,
        Body::None,
    );
    s.get("split-gone", "and is gone", &path);
    ingresses(s);
}

/// How zones are reached from elsewhere.
fn ingresses(s: &mut Script) {
    let path = "/zoneingresses";
    s.get(
        "zoneingresses",
        "ingresses of all zones as this zone sees them",
        path,
    );
    s.ask(
        "global-zoneingresses",
        "and as global does",
        Place::Global,
        "GET",
        path,
        Body::None,
    );
    s.get(
        "zoneingress-unknown",
        "no such ingress",
        &format!("{path}/nobody"),
    );
    let ingress =
        json!({"type": "ZoneIngress", "name": "rec", "networking": {"address": "127.0.0.1", "port": 10000}});
    s.ask(
        "global-put-zoneingress",
        "an ingress is its zone's",
        Place::Global,
        "PUT",
        &format!("{path}/rec"),
        Body::Json(ingress.clone()),
    );
    s.put(
        "zoneingress-put",
        "one that nobody is told of",
        &format!("{path}/rec"),
        ingress,
    );
    s.get("zoneingress-get", "with what is computed", &format!("{path}/rec"));
    s.ask(
        "zoneingress-delete",
        "it goes",
        Place::Zone,
        "DELETE",
        &format!("{path}/rec"),
        Body::None,
    );
    s.get(
        "meshzoneaddresses",
        "zone proxies of a mesh",
        "/meshes/default/meshzoneaddresses",
    );
}
