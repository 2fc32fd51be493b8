//! Everything that Weir renders, held against a real API server with Kuma's own definitions: schema, CEL, defaults.

use serde_json::{Value, json};
use weir_model::{CommitId, SourceCommit, SourceFile, SourceName};
use weir_planner::{Generation, Inputs, Planned};
use weir_render::{Form, Options, render, to_document};
use weir_sandbox::cluster::User;
use weir_tests::kubernetes::{SYSTEM, stand};

const FEDERATION: &str = "apiVersion: weir.dev/v1alpha1\nkind: Federation\nmetadata: {name: shop}\nspec: {mesh: default}\n---\n\
    apiVersion: weir.dev/v1alpha1\nkind: Zone\nmetadata: {name: fra}\nspec: {platform: vm}\n---\n\
    apiVersion: weir.dev/v1alpha1\nkind: Zone\nmetadata: {name: ams}\nspec: {platform: vm}\n---\n\
    apiVersion: weir.dev/v1alpha1\nkind: Zone\nmetadata: {name: use1}\nspec: {platform: eks}\n";

/// Splits of every protocol, with every kind of match, at the ends of what a declaration may say.
fn splits() -> String {
    let mut all = FEDERATION.to_owned();
    let mut add = |name: &str, protocol: &str, routes: &str| {
        all += &format!(
            "---\napiVersion: weir.dev/v1alpha1\nkind: Split\nmetadata: {{name: {name}}}\nspec:\n  service: {name}\n  port: 8080\n  \
             protocol: {protocol}\n  backends:\n    vm: {{zone: fra}}\n    other: {{zone: ams}}\n    cloud: {{zone: use1, namespace: shop}}\n  \
             routes:\n{routes}"
        );
    };
    let plain = "    - name: default\n      weights: {vm: 90, other: 0, cloud: 10}\n";
    for protocol in ["http", "http2", "grpc", "tcp"] {
        add(&format!("plain-{protocol}"), protocol, plain);
    }
    add(
        "zeros",
        "http",
        "    - name: default\n      weights: {vm: 0, other: 0, cloud: 100}\n",
    );
    add(
        "hundredths",
        "http",
        "    - name: default\n      weights: {vm: 33.33, other: 0.01, cloud: 66.66}\n",
    );
    let mut rich = String::new();
    for (name, matched) in [
        ("exact", "path: {exact: /health}"),
        ("prefix", "path: {prefix: /admin}, method: POST"),
        (
            "headers",
            "headers: [{name: x-beta, exact: 'true'}, {name: x-user, regex: '^[0-4].*'}]",
        ),
        (
            "query",
            "query: [{name: v, exact: '2'}, {name: w, regex: '[a-z]+'}]",
        ),
    ] {
        rich += &format!("    - name: {name}\n      match: {{{matched}}}\n      weights: {{cloud: 100}}\n");
    }
    add("rich", "http", &format!("{rich}{plain}"));
    for method in [
        "GET", "HEAD", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
    ] {
        let route = format!(
            "    - name: only\n      match: {{method: {method}}}\n      weights: {{cloud: 100}}\n{plain}"
        );
        add(&format!("method-{}", method.to_lowercase()), "http", &route);
    }
    add(&format!("long-{}", "n".repeat(40)), "http", plain);
    all
}

/// What every zone is given of that.
fn documents() -> Vec<Value> {
    let source = SourceName("main".to_owned());
    let commit = CommitId("0123456789abcdef0123456789abcdef01234567".to_owned());
    let parsed = weir_model::parse(&[SourceFile {
        source: source.clone(),
        path: "traffic.yaml".to_owned(),
        bytes: splits().into_bytes().into(),
    }]);
    assert_eq!(parsed.diagnostics, [], "the declaration is right");
    let planned = weir_planner::plan(Inputs {
        declaration: &parsed.declaration,
        commits: &[SourceCommit { source, commit }],
        highest: Generation(6),
        parent: None,
        now: "2026-01-01T00:00:00Z".parse().unwrap(),
    });
    let Planned::New(plan) = planned else {
        panic!("{planned:?}")
    };
    assert_eq!(weir_planner::lint(&plan, None), []);
    let federation = "shop".parse().unwrap();
    let form = Form::Kubernetes {
        namespace: SYSTEM.to_owned(),
    };
    let items = plan.splits.values().flat_map(|split| split.items.values());
    items
        .flat_map(|item| render(item, &federation, &form, Options::default()))
        .map(|object| to_document(&object, &form))
        .collect()
}

/// Whether everything in `sent` is in `live` as it was sent: the server adds, it must not change.
fn holds(live: &Value, sent: &Value) -> bool {
    match (live, sent) {
        (Value::Object(live), Value::Object(sent)) => sent
            .iter()
            .all(|(key, value)| live.get(key).is_some_and(|live| holds(live, value))),
        (Value::Array(live), Value::Array(sent)) => {
            live.len() == sent.len() && live.iter().zip(sent).all(|(live, sent)| holds(live, sent))
        }
        _ => live == sent,
    }
}

#[tokio::test]
async fn everything_rendered_is_taken_as_it_is_and_a_second_time_changes_nothing() {
    let Some(stand) = stand("everything_rendered_is_taken_as_it_is").await.unwrap() else {
        return;
    };
    let documents = documents();
    assert!(documents.len() >= 40, "{} objects", documents.len());
    for document in &documents {
        let path = stand.types.path_of(document).unwrap();
        let query = "&force=false&fieldValidation=Strict";
        let answer = stand
            .admin
            .apply_at(&path, "weir", query, document)
            .await
            .unwrap();
        assert!(
            answer.status.is_success(),
            "{document:#}\n{} {}",
            answer.status,
            answer.text()
        );
        let live = answer.json().unwrap();
        assert!(holds(&live, document), "sent:\n{document:#}\nlive:\n{live:#}");
        let again = stand
            .admin
            .apply_at(&path, "weir", query, document)
            .await
            .unwrap();
        assert_eq!(
            again.json().unwrap()["metadata"]["resourceVersion"],
            live["metadata"]["resourceVersion"],
            "an equal apply writes nothing"
        );
        // The next one has the same name in another zone.
        stand.admin.delete(&path).await.unwrap();
    }
}

#[tokio::test]
async fn the_definitions_refuse_what_they_should_or_the_test_above_says_nothing() {
    let Some(stand) = stand("the_definitions_refuse_what_they_should").await.unwrap() else {
        return;
    };
    let http = documents().into_iter().find(|d| d["kind"] == "MeshHTTPRoute");
    let good = http.expect("a route");
    let path = stand.types.path_of(&good).unwrap();
    let wrong = |change: fn(&mut Value)| {
        let mut document = good.clone();
        change(&mut document["spec"]);
        document
    };
    let cases = [
        (
            "a kind of target that there is not",
            wrong(|s| s["to"][0]["targetRef"]["kind"] = json!("Nothing")),
            422,
        ),
        (
            "a weight that is a text",
            wrong(|s| s["to"][0]["rules"][0]["default"]["backendRefs"][0]["weight"] = json!("9")),
            500,
        ),
        (
            "no matches",
            wrong(|s| s["to"][0]["rules"][0]["matches"] = json!([])),
            422,
        ),
    ];
    for (what, document, status) in cases {
        let answer = stand.admin.apply_at(&path, "weir", "", &document).await.unwrap();
        assert_eq!(answer.status.as_u16(), status, "{what}: {}", answer.text());
    }
}

/// The whole store before and after, and what a comparison of the two finds.
#[tokio::test]
async fn a_look_at_the_whole_store_misses_nothing() {
    let Some(stand) = stand("a_look_at_the_whole_store_misses_nothing").await.unwrap() else {
        return;
    };
    let before = stand.store().await.unwrap();
    assert!(before.objects.len() > 100, "{} objects", before.objects.len());
    let quiet = stand.store().await.unwrap();
    assert_eq!(before.changes(&quiet), [], "nobody else writes to this server");
    stand.namespace("new", "enabled").await.unwrap();
    let shop = "/api/v1/namespaces/shop";
    stand
        .admin
        .merge(shop, &json!({"metadata": {"annotations": {"seen": "yes"}}}))
        .await
        .unwrap();
    let after = stand.store().await.unwrap();
    let changes = before.changes(&after);
    let paths: Vec<&str> = changes.iter().map(|c| c.path.as_str()).collect();
    assert!(
        paths.contains(&"/api/v1/namespaces/new") && paths.contains(&shop),
        "{paths:?}"
    );
    let told = changes.iter().find(|c| c.path == shop).unwrap().to_string();
    assert!(
        told.contains(r#".metadata.annotations: null -> {"seen":"yes"}"#),
        "{told}"
    );
    let nobody = stand.cluster.api(&User::named("nobody")).unwrap();
    let refused = nobody.get(shop).await.unwrap_err().to_string();
    assert!(refused.contains("403"), "rights are asked for: {refused}");
}
