//! What is written to a zone: each way to be refused, and what is kept of what is taken.

use serde_json::{Value, json};

use super::{Body, HTTP, Place, Script, TCP, rec};

fn rule(policy: &mut Value) -> &mut Value {
    &mut policy["spec"]["to"][0]["rules"][0]
}

fn tcp(spoil: impl FnOnce(&mut Value)) -> Value {
    let mut policy = rec(|p| {
        p["type"] = "MeshTCPRoute".into();
        if let Some(fields) = rule(p).as_object_mut() {
            fields.remove("matches");
        }
    });
    spoil(&mut policy);
    policy
}

/// Nothing of this is kept.
pub(super) fn refused(s: &mut Script) {
    s.policy(
        "put-weight-negative",
        "a weight below 0",
        rec(|p| rule(p)["default"]["backendRefs"][0]["weight"] = (-1).into()),
    );
    s.policy(
        "put-weight-fraction",
        "half a weight",
        rec(|p| rule(p)["default"]["backendRefs"][0]["weight"] = 0.5.into()),
    );
    s.policy(
        "put-weight-text",
        "a weight in quotes",
        rec(|p| rule(p)["default"]["backendRefs"][0]["weight"] = "90".into()),
    );
    s.policy(
        "put-no-matches",
        "no match",
        rec(|p| rule(p)["matches"] = Value::Null),
    );
    s.policy(
        "put-empty-matches",
        "an empty list of matches",
        rec(|p| rule(p)["matches"] = json!([])),
    );
    s.policy(
        "put-relative-path",
        "a path without its slash",
        rec(|p| rule(p)["matches"][0]["path"]["value"] = "a".into()),
    );
    s.policy(
        "put-trailing-slash",
        "a slash too many",
        rec(|p| rule(p)["matches"][0]["path"]["value"] = "/a/".into()),
    );
    s.policy(
        "put-path-type",
        "an unknown kind of path",
        rec(|p| rule(p)["matches"][0]["path"]["type"] = "Glob".into()),
    );
    s.policy(
        "put-method",
        "an unknown method",
        rec(|p| rule(p)["matches"][0]["method"] = "FETCH".into()),
    );
    s.policy(
        "put-header-name",
        "a header in capitals",
        rec(|p| rule(p)["matches"][0]["headers"] = json!([{"type": "Exact", "name": "X-A", "value": "1"}])),
    );
    s.policy(
        "put-header-value",
        "presence has no value",
        rec(|p| rule(p)["matches"][0]["headers"] = json!([{"type": "Present", "name": "x-a", "value": "1"}])),
    );
    s.policy(
        "put-query-twice",
        "one parameter twice",
        rec(|p| {
            let one = json!({"type": "Exact", "name": "a", "value": "1"});
            rule(p)["matches"][0]["queryParams"] = json!([one, one]);
        }),
    );
    s.policy(
        "put-backend-kind",
        "a kind that is none",
        rec(|p| rule(p)["default"]["backendRefs"][0]["kind"] = "Service".into()),
    );
    s.policy(
        "put-backend-no-name",
        "neither name nor labels",
        rec(|p| rule(p)["default"]["backendRefs"][0]["labels"] = Value::Null),
    );
    s.policy(
        "put-backend-both",
        "name and labels",
        rec(|p| rule(p)["default"]["backendRefs"][0]["name"] = "checkout".into()),
    );
    s.policy(
        "put-to-mesh",
        "a target that routes do not take",
        rec(|p| p["spec"]["to"][0]["targetRef"] = json!({"kind": "Mesh"})),
    );
    s.policy(
        "put-top-gateway",
        "a kind of top that is none",
        rec(|p| p["spec"]["targetRef"] = json!({"kind": "MeshHTTPRoute"})),
    );
    s.policy(
        "put-no-origin",
        "a zone's policy must say so",
        rec(|p| p["labels"] = json!({})),
    );
    s.policy(
        "put-origin-global",
        "a zone writes none of global's",
        rec(|p| p["labels"]["kuma.io/origin"] = "global".into()),
    );
    s.policy(
        "put-origin-unknown",
        "an origin that is none",
        rec(|p| p["labels"]["kuma.io/origin"] = "here".into()),
    );
    s.policy(
        "put-zone-foreign",
        "another zone's label",
        rec(|p| p["labels"]["kuma.io/zone"] = "ams".into()),
    );
    s.policy(
        "put-mesh-label-foreign",
        "another mesh's label",
        rec(|p| p["labels"]["kuma.io/mesh"] = "other".into()),
    );
    s.policy(
        "put-label-value",
        "a label that is none",
        rec(|p| p["labels"]["weir.dev/split"] = "a b".into()),
    );
    s.policy(
        "put-label-number",
        "a label that is a number",
        rec(|p| p["labels"]["weir.dev/generation"] = 7.into()),
    );
    s.policy(
        "put-label-long",
        "a label of 64 bytes",
        rec(|p| p["labels"]["weir.dev/split"] = "a".repeat(64).into()),
    );
    s.policy(
        "put-name-invalid",
        "a name that is none",
        rec(|p| p["name"] = "Rec_1".into()),
    );
    s.put(
        "put-name-other",
        "a name that is not that of the path",
        &format!("{HTTP}/other"),
        rec(|_| {}),
    );
    s.policy(
        "put-mesh-other",
        "a mesh that is not that of the path",
        rec(|p| p["mesh"] = "other".into()),
    );
    s.policy(
        "put-type-other",
        "a type that is not that of the path",
        rec(|p| p["type"] = "MeshTCPRoute".into()),
    );
    s.policy("put-no-type", "no type", rec(|p| p["type"] = Value::Null));
    s.policy("put-no-spec", "no spec", rec(|p| p["spec"] = Value::Null));
    s.put(
        "put-mesh-unknown",
        "no such mesh",
        "/meshes/nowhere/meshhttproutes/rec",
        rec(|p| p["mesh"] = "nowhere".into()),
    );
    let path = format!("{HTTP}/rec");
    for (name, what, kind, text) in [
        ("put-array", "no object", "application/json", "[]"),
        ("put-empty", "no body", "application/json", ""),
        ("put-half", "half an object", "application/json", "{\"type\": "),
        (
            "put-yaml-as-json",
            "no JSON",
            "application/json",
            "type: MeshHTTPRoute\n",
        ),
        (
            "put-yaml",
            "no type that is taken",
            "application/yaml",
            "type: MeshHTTPRoute\n",
        ),
    ] {
        s.ask(name, what, Place::Zone, "PUT", &path, Body::Text(kind, text));
    }
    let null = s.ask(
        "put-null",
        "the connection is dropped",
        Place::Zone,
        "PUT",
        &path,
        Body::Text("application/json", "null"),
    );
    null.hangs_up = true;
    for method in ["POST", "PATCH"] {
        s.ask(
            &method.to_lowercase(),
            "only PUT writes",
            Place::Zone,
            method,
            &path,
            Body::Json(rec(|_| {})),
        );
    }
    s.ask(
        "head",
        "nor is there HEAD",
        Place::Zone,
        "HEAD",
        &path,
        Body::None,
    );
    s.ask(
        "delete-unknown",
        "nothing to delete",
        Place::Zone,
        "DELETE",
        &path,
        Body::None,
    );
    s.get("routes-still-none", "nothing of all that was kept", HTTP);
    let path = format!("{TCP}/rec");
    s.put(
        "tcp-two-rules",
        "one rule at most",
        &path,
        tcp(|p| {
            let one = rule(p).clone();
            p["spec"]["to"][0]["rules"] = json!([one, one]);
        }),
    );
    s.put(
        "tcp-no-backend",
        "a backend is needed",
        &path,
        tcp(|p| rule(p)["default"]["backendRefs"] = json!([])),
    );
}

/// Each of these is taken, and read back.
pub(super) fn accepted(s: &mut Script) {
    let path = format!("{HTTP}/rec");
    for (name, what, policy) in [
        ("minimal", "the least that is taken", rec(|_| {})),
        (
            "unknown-fields",
            "unknown fields are dropped without a word",
            rec(|p| {
                p["extra"] = 1.into();
                p["spec"]["extra"] = 1.into();
                rule(p)["extra"] = 1.into();
                rule(p)["default"]["backendRefs"][0]["extra"] = 1.into();
            }),
        ),
        (
            "defaults",
            "no weight is 1, no kind of header is Exact",
            rec(|p| {
                if let Some(backend) = rule(p)["default"]["backendRefs"][0].as_object_mut() {
                    backend.remove("weight");
                }
                rule(p)["matches"][0]["headers"] = json!([{"name": "x-a", "value": "1"}]);
            }),
        ),
        (
            "zeros",
            "all weights 0 are taken without a word",
            rec(|p| rule(p)["default"]["backendRefs"][0]["weight"] = 0.into()),
        ),
        (
            "whole-fraction",
            "90.0 is 90",
            rec(|p| rule(p)["default"]["backendRefs"][0]["weight"] = 90.0.into()),
        ),
        (
            "everything",
            "every kind of match",
            rec(|p| {
                rule(p)["matches"] = json!([{
                    "path": {"type": "Exact", "value": "/a"}, "method": "GET",
                    "headers": [{"type": "Present", "name": "x-a"}, {"type": "RegularExpression", "name": "x-b", "value": "^a$"},
                                {"type": "Prefix", "name": "x-c", "value": "a"}, {"type": "Absent", "name": "x-d"}],
                    "queryParams": [{"type": "Exact", "name": "a", "value": "1"}],
                }]);
            }),
        ),
        (
            "deprecated",
            "a warning",
            rec(|p| p["spec"]["targetRef"] = json!({"kind": "MeshSubset", "tags": {"rec": "none"}})),
        ),
    ] {
        s.put(&format!("put-{name}"), what, &path, policy);
        s.get(&format!("get-{name}"), "read back", &path);
    }
    s.put(
        "update-zone-label",
        "a computed label may not change",
        &path,
        rec(|p| p["labels"]["kuma.io/zone"] = "ams".into()),
    );
    s.put(
        "update-display-name",
        "a name for display, once",
        &path,
        rec(|p| p["labels"]["kuma.io/display-name"] = "rec".into()),
    );
    s.put(
        "update-display-name-other",
        "and for good",
        &path,
        rec(|p| p["labels"]["kuma.io/display-name"] = "cer".into()),
    );
    s.put("update-display-name-gone", "and always", &path, rec(|_| {}));
    s.ask("delete", "deleted", Place::Zone, "DELETE", &path, Body::None);
    s.ask(
        "delete-again",
        "nothing left to delete",
        Place::Zone,
        "DELETE",
        &path,
        Body::None,
    );
    let path = format!("{TCP}/rec");
    s.put("tcp-put", "a route for connections", &path, tcp(|_| {}));
    s.get("tcp-get", "read back", &path);
    s.ask("tcp-delete", "deleted", Place::Zone, "DELETE", &path, Body::None);
}
