//! The health of targets, as the worker that answers sees it.

use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};

use super::super::balancer::host_and_port;
use super::super::kinds::Kind;
use super::super::node::Node;
use super::super::refusal::{self, Answer, Refused};
use super::{Asked, reads};

fn upstreams() -> Result<&'static Kind, Refused> {
    Kind::named("upstreams").ok_or_else(refusal::not_found)
}

pub(super) fn upstream(node: &Arc<Node>, worker: usize, asked: &Asked, key: &str) -> Result<Answer, Refused> {
    let entities = node.entities();
    let upstream = reads::find(&entities, upstreams()?, key)?;
    let running = node.workers[worker].running();
    let balancer = running.balancer(reads::id(upstream));
    if asked.query("balancer_health") == Some("1") {
        let mut answer = json!({"next": null, "node_id": node.id});
        // This worker may not know the upstream yet.
        if let Some(balancer) = balancer {
            answer["data"] = balancer.status();
        }
        return Ok(Answer::json(200, answer));
    }
    let (mut data, offset) = entities.target_page(reads::id(upstream), &reads::page(asked)?)?;
    if let Some(balancer) = balancer {
        for target in &mut data {
            let (health, known) = balancer.health_of(target["target"].as_str().unwrap_or_default());
            target["health"] = health.into();
            if let Some(known) = known {
                target["data"] = known;
            }
        }
    }
    let path = format!("/upstreams/{key}/health");
    let mut answer = reads::paged(&path, data, offset, "");
    answer["node_id"] = node.id.clone().into();
    Ok(Answer::json(200, answer))
}

/// `healthy` and `unhealthy`: by hand, where health is checked at all.
pub(super) fn mark(
    node: &Arc<Node>,
    worker: usize,
    asked: &Asked,
    (upstream, target, address): (&str, &str, Option<&str>),
    well: bool,
) -> Result<Answer, Refused> {
    if asked.method != Method::PUT {
        return Err(refusal::method_not_allowed());
    }
    let entities = node.entities();
    let upstream = reads::find(&entities, upstreams()?, upstream)?;
    let (targets, foreign) = upstreams()?.children().next().ok_or_else(refusal::not_found)?;
    let target =
        reads::find_below(&entities, upstream, targets, foreign, target).ok_or_else(refusal::not_found)?;
    let name = upstream["name"].as_str().unwrap_or_default();
    let running = node.workers[worker].running();
    let balancer = running.balancer(reads::id(upstream));
    let balancer =
        balancer.ok_or_else(|| Answer::message(400, &format!("Upstream {name} has no balancer")))?;
    if !balancer.is_checked() {
        return Err(Answer::message(
            400,
            &format!("no healthchecker found for {name}"),
        ));
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let Some((host, port)) = host_and_port(&text(&target["target"])) else {
        return Err(refusal::not_found());
    };
    let address = address.and_then(host_and_port).map(|(host, _)| host);
    node.mark(reads::id(upstream), &host, port, address.as_deref(), well);
    Ok(Answer::empty(204))
}
