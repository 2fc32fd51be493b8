//! What one node of Kong gives and takes: shares by its balancer, requests by its routes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::try_join_all;
use serde_json::Value;
use tokio::time::Instant;
use weir_model::SplitName;
use weir_planner::Verdict;
use weir_render::kic::{Router, Routes, is_of, is_plain, made_of};
use weir_render::kong::{Live, Upstream, keeps_shares, known};

use crate::DriverError;
use crate::kong::admin::Admin;
use crate::kong::proof::{AtNode, Doors};
use crate::kong::{observe, proof};

/// So often a node is asked who it is: an address behind which there are several gives itself away.
const WHO: usize = 4;

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

/// What one node says against splits whose routes are there and served: nothing that is left over waits for it to pass.
#[derive(Debug, Default)]
pub(super) struct Beside {
    /// By split: the route of ours that is on its way out and takes the same requests.
    pub(super) leaving: BTreeMap<SplitName, String>,
    /// By split: what its upstream chooses by instead of weights, in words.
    pub(super) choosing: BTreeMap<SplitName, String>,
}

/// What is wrong at one node, and what is said beside that.
pub(super) async fn at_node(
    admin: &Admin,
    wanted: &Routes,
    doors: &Doors,
    settle: Duration,
) -> (AtNode, Beside) {
    let end = Instant::now() + settle;
    let nothing = |verdict: Verdict, seen: bool| (AtNode::all(doors, &verdict, seen), Beside::default());
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
    let chosen = match chosen(admin, doors).await {
        Ok(chosen) => chosen,
        Err(error) => return nothing(Verdict::Unknown(error.to_string()), false),
    };
    for (split, why) in chosen.absent {
        found.is_not(&split, Verdict::Different(why));
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
    let choosing = chosen.by_others;
    (found, Beside { leaving, choosing })
}

/// What upstreams choose their targets by. Of each split what is wrong with the first one, so that the same is told each time.
#[derive(Debug, Default, PartialEq, Eq)]
struct Chosen {
    /// Splits with one that is not there.
    absent: BTreeMap<SplitName, String>,
    /// Splits with one that chooses by something else than weights.
    by_others: BTreeMap<SplitName, String>,
}

/// The same at one node, by one listing.
async fn chosen(admin: &Admin, doors: &Doors) -> Result<Chosen, DriverError> {
    let mut upstreams = doors.values().flat_map(|door| door.upstreams.values());
    if !upstreams.any(Upstream::has_several) {
        return Ok(Chosen::default());
    }
    let listed = admin.list("upstreams").await?.unwrap_or_default();
    Ok(among(&listed, doors, admin.url()))
}

/// The same of the upstreams that the Kong at `url` has.
fn among(listed: &[Value], doors: &Doors, url: &str) -> Chosen {
    let named = |of| Some((Value::get(of, "name")?.as_str()?, of));
    let live: BTreeMap<&str, &Value> = listed.iter().filter_map(named).collect();
    let mut chosen = Chosen::default();
    for (split, door) in doors {
        for wanted in door.upstreams.values().filter(|wanted| wanted.has_several()) {
            let told = |why: &str| format!("the upstream {} of the Kong at {url}: {why}", wanted.name);
            let (of, why) = match live.get(wanted.name.as_str()) {
                None => (&mut chosen.absent, "it is not there".to_owned()),
                Some(live) => match keeps_shares(live, wanted) {
                    Ok(()) => continue,
                    Err(why) => (&mut chosen.by_others, format!("{why}; {GO_ROUND}")),
                },
            };
            of.entry(split.clone()).or_insert_with(|| told(&why));
        }
    }
    chosen
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

#[cfg(test)]
mod tests {
    use serde_json::json;
    use weir_planner::Generation;
    use weir_render::kong::{Expected, Target};

    use super::*;

    /// An upstream over two backends.
    fn upstream(name: &str) -> Upstream {
        let target = |(backend, n): (&str, u8)| {
            let target = Target {
                backend: backend.parse().expect("a name"),
                weight: 1,
            };
            (std::net::SocketAddr::from(([10, 0, 0, n], 80)), target)
        };
        Upstream {
            name: name.to_owned(),
            targets: [("vm", 1), ("eks", 2)].map(target).into(),
            names: BTreeMap::new(),
            drains: true,
        }
    }

    #[test]
    fn of_several_wrong_upstreams_the_same_one_is_told_each_time() {
        let routes = ["a", "b", "c", "d"].map(|name| (name.parse().expect("a name"), upstream(name)));
        let expected = Expected {
            generation: Generation(1),
            known: Generation(1),
            pin: None,
            upstreams: routes.into(),
        };
        let doors = Doors::from([("checkout".parse().expect("a name"), expected)]);
        let round = |name: &str| json!({"name": name, "algorithm": "round-robin"});
        let hashed = |name: &str| json!({"name": name, "algorithm": "consistent-hashing", "hash_on": "ip"});
        let told = |listed: &[Value]| {
            let Chosen { absent, by_others } = among(listed, &doors, "http://kong");
            let only = |of: BTreeMap<SplitName, String>| of.into_values().next().unwrap_or_default();
            (only(absent), only(by_others))
        };
        let (absent, by_others) = told(&[hashed("d"), hashed("b"), round("a")]);
        assert_eq!(
            absent,
            "the upstream c of the Kong at http://kong: it is not there"
        );
        assert!(
            by_others.starts_with("the upstream b of the Kong at http://kong: it hashes by ip"),
            "{by_others}"
        );
        let all = ["a", "b", "c", "d"].map(round);
        assert_eq!(told(&all), Default::default());
    }
}
