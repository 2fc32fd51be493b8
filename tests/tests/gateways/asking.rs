//! What a Kong itself says that it has.

use std::collections::BTreeMap;

use serde_json::Value;
use weir_sandbox::kong::Kong;

pub(crate) async fn asked(kong: &Kong, path: &str) -> Value {
    let answer = weir_sandbox::http_client()
        .get(format!("http://{}{path}", kong.admin()))
        .send()
        .await
        .unwrap();
    answer.json().await.unwrap()
}

pub(crate) async fn hash(kong: &Kong) -> String {
    asked(kong, "/status").await["configuration_hash"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// What Kong has of an upstream: weights by target.
pub(crate) async fn targets(kong: &Kong, upstream: &str) -> BTreeMap<String, u64> {
    let answer = asked(kong, &format!("/upstreams/{upstream}/targets")).await;
    let targets = answer["data"].as_array().cloned().unwrap_or_default().into_iter();
    targets
        .map(|target| {
            (
                target["target"].as_str().unwrap().to_owned(),
                target["weight"].as_u64().unwrap(),
            )
        })
        .collect()
}

/// The weights of a split's default route, by address.
pub(crate) async fn weights(kong: &Kong, split: &str) -> Vec<u64> {
    let targets = targets(kong, &format!("weir.{split}.default")).await;
    targets.into_values().collect()
}

/// The host of a service of the base.
pub(crate) async fn host(kong: &Kong, service: &str) -> String {
    asked(kong, &format!("/services/{service}")).await["host"]
        .as_str()
        .unwrap()
        .to_owned()
}

pub(crate) async fn post(kong: &Kong, document: &Value) {
    let form = format!("{document}");
    let answer = weir_sandbox::http_client()
        .post(format!("http://{}/config", kong.admin()))
        .header("content-type", "application/yaml")
        .body(form)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
}
