//! `/config` of a Kong without a database: the whole document in and out.

use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};

use super::super::document;
use super::super::export;
use super::super::node::{LoadFailure, Node, Source, md5_of};
use super::super::refusal::{self, Answer, Refused};
use super::Asked;
use crate::random_id;

pub(super) async fn answer(node: &Arc<Node>, asked: &Asked) -> Result<Answer, Refused> {
    if !matches!(asked.method, Method::GET | Method::POST) {
        return Err(refusal::method_not_allowed());
    }
    if matches!(node.source, Source::Database(_)) {
        let message = "this endpoint is only available when Kong is configured to not use a database";
        return Err(Answer::message(400, message));
    }
    if asked.reads() {
        return Ok(Answer::json(
            200,
            json!({"config": export::yaml(&node.entities())}),
        ));
    }
    load(node, asked).await
}

/// `check_hash` is on by exactly `1`, the younger flag by whatever sounds like yes.
fn flag(params: &super::Params, asked: &Asked, name: &str) -> Option<String> {
    let given = params.fields.get(name).map(|value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    });
    given.or_else(|| asked.query(name).map(str::to_owned))
}

async fn load(node: &Arc<Node>, asked: &Asked) -> Result<Answer, Refused> {
    // One after the other: whoever comes meanwhile waits.
    let _one = node.loading.lock().await;
    let mut params = asked.params()?;
    let check_hash = flag(&params, asked, "check_hash").as_deref() == Some("1");
    let flatten = flag(&params, asked, "flatten_errors")
        .is_some_and(|flag| matches!(flag.to_lowercase().as_str(), "true" | "1" | "on" | "yes"));
    params.fields.remove("check_hash");
    params.fields.remove("flatten_errors");
    let given = |value: &Value| {
        value
            .as_str()
            .filter(|text| !text.is_empty())
            .map(|text| text.as_bytes().to_vec())
    };
    // A document that came as JSON is taken apart before anybody sees its bytes: it has no hash of its own.
    let (input, hash) = if params.fields.contains_key("_format_version") {
        (params.fields, None)
    } else {
        let bytes = params
            .fields
            .get("config")
            .and_then(given)
            .or_else(|| Some(asked.body.to_vec()));
        let bytes = bytes.filter(|bytes| !bytes.is_empty());
        let bytes = bytes.ok_or_else(|| Answer::message(400, "expected a declarative configuration"))?;
        (document::read(&bytes)?, Some(md5_of(&bytes)))
    };
    if check_hash && hash.as_ref().is_some_and(|hash| *hash == node.hash()) {
        return Ok(Answer::empty(304));
    }
    let entities =
        document::flatten(input, node.now(), &mut random_id).map_err(|faults| faults.refused(flatten))?;
    let failure = node
        .failures
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .pop_front();
    if let Some(failure) = failure {
        return Err(failed(failure));
    }
    let hash = hash.unwrap_or_else(|| node.unrepeatable_hash(&entities));
    let answer = Answer::json(201, entities.document());
    node.load(entities, hash);
    Ok(answer)
}

fn failed(failure: LoadFailure) -> Answer {
    match failure {
        LoadFailure::Busy => Answer::message(429, "Currently loading previous configuration")
            .with("retry-after", "60".to_owned()),
        LoadFailure::Timeout => Answer::message(504, "Timed out while loading configuration"),
        LoadFailure::Exiting => Answer::message(503, "Kong currently exiting"),
        LoadFailure::StoreFull => {
            let message = "Configuration does not fit in LMDB database, consider raising the \"lmdb_map_size\" config for Kong";
            Answer::message(413, message)
        }
    }
}
