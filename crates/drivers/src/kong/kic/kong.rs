//! What one node of Kong gives and takes: shares by its balancer, requests by its routes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::try_join_all;
use futures::{StreamExt as _, stream};
use serde_json::Value;
use tokio::time::Instant;
use weir_model::SplitName;
use weir_planner::Verdict;
use weir_render::kic::{Router, Routes, is_of, is_plain, made_of};
use weir_render::kong::{Live, goes_round, known};

use crate::DriverError;
use crate::kong::admin::Admin;
use crate::kong::proof::{AtNode, Doors};
use crate::kong::{observe, proof};

/// So often a node is asked who it is: an address behind which there are several gives itself away.
const WHO: usize = 4;

/// So many upstreams are read at the same time.
const ABREAST: usize = 4;

/// What a person does about an upstream that does not go by its weights. Not to take the annotation off: Services of one rule that
/// differ in it, if only between two commands, cost the whole rule.
const GO_ROUND: &str = "it is the KongUpstreamPolicy that the Services' annotation konghq.com/upstream-policy names which says so: let \
                        it say `algorithm: round-robin` without hashOn, and leave the annotation on all Services of the split as it is \
                        (while it differs between two the controller leaves out the whole rule); if there is no such policy, somebody \
                        else writes to this Kong";

/// Which requests a node takes.
pub(super) async fn router(admin: &Admin) -> Result<Router, DriverError> {
    Ok(Router::of(&admin.list("routes").await?.unwrap_or_default()))
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
    let root = match who(admin).await {
        Ok(Some(root)) => root,
        Ok(None) => {
            let why = format!(
                "several Kongs answer at {}: let a name have the address of each (a headless Service), so that each is asked",
                admin.url()
            );
            return nothing(Verdict::Unknown(why), false);
        }
        Err(error) => return nothing(Verdict::Unknown(error.to_string()), false),
    };
    if let Err(why) = known(&root) {
        let why = format!("the Kong at {}: {why}", admin.url());
        return nothing(Verdict::Unknown(why), false);
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
    // The balancer shows the same weights whatever it goes by.
    let others = match by_others(admin, doors).await {
        Ok(others) => others,
        Err(error) => return nothing(Verdict::Unknown(error.to_string()), false),
    };
    for (split, why) in others {
        found.gives_otherwise(&split, Verdict::Different(why));
    }
    let mut leaving = BTreeMap::new();
    // Requests come in by Kong's routes, and shares are of what comes in.
    let router = match router(admin).await {
        Ok(router) => router,
        Err(error) => return nothing(Verdict::Unknown(error.to_string()), false),
    };
    for split in doors.keys() {
        let Some(route) = wanted.routes.get(split) else {
            continue;
        };
        // Of one that is taken over it is theirs which requests it takes.
        let is_taken = route.taken_by.is_some();
        let served = match is_taken {
            true if router.has(route) => Ok(()),
            true => Err("there is none".to_owned()),
            false => router.served(route),
        };
        if let Err(why) = served {
            let why = format!(
                "the routes that the Kong at {} has of it are others: {why}",
                admin.url()
            );
            found.is_not(split, Verdict::Different(why));
        }
        for other in router.at_odds(route) {
            let is_wanted = || wanted.routes.values().any(|of| made_of(of, other));
            if is_of(&wanted.gateway, other) && !is_wanted() {
                leaving.insert(split.clone(), other.to_owned());
                continue;
            }
            // What takes requests of theirs is known where they are of the kind that is read here.
            if is_taken && !is_plain(route) {
                continue;
            }
            let why = format!(
                "the Kong at {} has a route {other} that takes the same requests: which of the two it gives them is not known",
                admin.url()
            );
            found.is_not(split, Verdict::Different(why));
        }
    }
    (found, leaving)
}

/// The splits of which a node has an upstream that chooses by something else than weights, with what it goes by.
async fn by_others(admin: &Admin, doors: &Doors) -> Result<BTreeMap<SplitName, String>, DriverError> {
    let upstreams = doors
        .iter()
        .flat_map(|(split, door)| door.upstreams.values().map(move |upstream| (split, upstream)));
    let mut asking = Vec::new();
    for (split, upstream) in upstreams.filter(|(_, upstream)| upstream.divides()) {
        let name = &upstream.name;
        asking.push(async move { (split, name, admin.get(&format!("upstreams/{name}")).await) });
    }
    let mut asked = stream::iter(asking).buffer_unordered(ABREAST);
    let mut others = BTreeMap::new();
    while let Some((split, name, answer)) = asked.next().await {
        let why = match answer? {
            None => Err("it is not there".to_owned()),
            Some(upstream) => goes_round(&upstream).map_err(|why| format!("{why}; {GO_ROUND}")),
        };
        if let Err(why) = why {
            others.insert(
                split.clone(),
                format!("the upstream {name} of the Kong at {}: {why}", admin.url()),
            );
        }
    }
    Ok(others)
}

/// What a node says of itself; none if not the same one answers each time.
async fn who(admin: &Admin) -> Result<Option<Live>, DriverError> {
    let answers = try_join_all((0..WHO).map(|_| observe::said(admin))).await?;
    let id = |said: &Value| said.get("node_id").and_then(Value::as_str).map(str::to_owned);
    let ids: BTreeSet<_> = answers.iter().map(id).collect();
    let said = answers.into_iter().next().filter(|_| ids.len() == 1);
    let live = said.map(|said| observe::of_itself(admin, &said)).transpose()?;
    Ok(live.map(|(live, _)| live))
}
