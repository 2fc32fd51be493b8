//! What one node of Kong gives and takes: shares by its balancer, requests by its routes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::try_join_all;
use serde_json::Value;
use tokio::time::Instant;
use weir_model::{GatewayName, SplitName};
use weir_planner::Verdict;
use weir_render::kic::{HttpRoute, Routes, at_odds, served};
use weir_render::kong::known;

use crate::DriverError;
use crate::kong::admin::Admin;
use crate::kong::proof::{AtNode, Doors};
use crate::kong::{observe, proof};

/// So often a node is asked who it is: an address behind which there are several gives itself away.
const WHO: usize = 4;

/// All routes of a node.
pub(super) async fn routes(admin: &Admin) -> Result<Vec<Value>, DriverError> {
    Ok(admin.list("routes").await?.unwrap_or_default())
}

fn name(route: &Value) -> &str {
    route.get("name").and_then(Value::as_str).unwrap_or_default()
}

/// Whether a route of Kong's was made of a route of ours: `httproute.<namespace>.weir.<gateway>.<split>.<rule>.<match>`, in which no
/// part but the number of parts has a dot.
pub(super) fn is_of(gateway: &GatewayName, route: &Value) -> bool {
    let mut parts = name(route).split('.');
    parts.next() == Some("httproute")
        && parts.next().is_some()
        && parts.next() == Some("weir")
        && parts.next() == Some(gateway.as_str())
}

/// Whether a route of Kong's was made of this one.
fn is_made_of(of: &HttpRoute, route: &Value) -> bool {
    let prefix = format!("httproute.{}.{}.", of.namespace, of.name);
    let rest = name(route).strip_prefix(&prefix);
    rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// What is wrong at one node, and which splits have a route of ours beside theirs that is on its way out.
pub(super) async fn at_node(
    admin: &Admin,
    wanted: &Routes,
    doors: &Doors,
    settle: Duration,
) -> (AtNode, BTreeMap<SplitName, String>) {
    let end = Instant::now() + settle;
    let nothing = |verdict: Verdict, seen: bool| (AtNode::all(doors, &verdict, seen), BTreeMap::new());
    let root = match observe::root(admin).await {
        Ok(root) => root,
        Err(error) => return nothing(Verdict::Unknown(error.to_string()), false),
    };
    if let Err(why) = known(&root) {
        return nothing(
            Verdict::Unknown(format!("the Kong at {}: {why}", admin.url())),
            false,
        );
    }
    match one_node(admin).await {
        Ok(true) => {}
        Ok(false) => {
            let why = format!(
                "several Kongs answer at {}: let a name have the address of each (a headless Service), so that each is asked",
                admin.url()
            );
            return nothing(Verdict::Unknown(why), false);
        }
        Err(error) => return nothing(Verdict::Unknown(error.to_string()), false),
    }
    match admin.unready().await {
        Ok(None) => {}
        Ok(Some(why)) => {
            let why = format!("the Kong at {} is not ready: {why}", admin.url());
            return nothing(Verdict::Different(why), true);
        }
        Err(error) => return nothing(Verdict::Unknown(error.to_string()), false),
    }
    let mut found = proof::given(admin, doors, proof::to_ask(Some(root.workers)), end).await;
    let mut leaving = BTreeMap::new();
    // Requests come in by Kong's routes, and shares are of what comes in.
    let all = match routes(admin).await {
        Ok(all) => all,
        Err(error) => return nothing(Verdict::Unknown(error.to_string()), false),
    };
    for split in doors.keys() {
        let Some(route) = wanted.routes.get(split) else {
            continue;
        };
        let (ours, others): (Vec<Value>, Vec<Value>) =
            all.iter().cloned().partition(|of| is_made_of(route, of));
        if let Err(why) = served(route, &ours) {
            let why = format!(
                "the routes that the Kong at {} has of it are others: {why}",
                admin.url()
            );
            found.is_not(split, Verdict::Different(why));
        }
        let (mine, theirs): (Vec<&Value>, Vec<&Value>) =
            others.iter().partition(|of| is_of(&wanted.gateway, of));
        if let Some(other) = at_odds(route, theirs) {
            let why = format!(
                "the Kong at {} has a route {other} that takes the same requests: which of the two it gives them is not known",
                admin.url()
            );
            found.is_not(split, Verdict::Different(why));
        }
        if let Some(other) = at_odds(route, mine) {
            leaving.insert(split.clone(), other);
        }
    }
    (found, leaving)
}

/// Whether the same node answers each time.
async fn one_node(admin: &Admin) -> Result<bool, DriverError> {
    let answers = try_join_all((0..WHO).map(|_| admin.get(""))).await?;
    let ids = answers
        .iter()
        .flatten()
        .filter_map(|said| said.get("node_id").and_then(Value::as_str));
    Ok(ids.collect::<BTreeSet<_>>().len() <= 1)
}
