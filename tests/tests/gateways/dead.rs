//! Whom Kong takes for dead before a step gives him more: nobody is sent there, everybody else goes on, and no way back waits for what
//! any node has of it, nor any step for what is not known.

use super::database::ask;
use super::*;

/// An upstream of the site's own over these targets, with checks of its own.
fn asking(name: &str, checks: &str, targets: &[&str]) -> String {
    let targets: Vec<String> = targets
        .iter()
        .map(|at| format!("{{target: \"{at}\", weight: 100}}"))
        .collect();
    format!(
        "  - {{name: {name}, healthchecks: {checks}, targets: [{}]}}\n",
        targets.join(", ")
    )
}

/// Whoever is dead to these is found out when he is well again.
const HEALS: &str = "{active: {healthy: {interval: 1, successes: 1}, unhealthy: {interval: 1}}}";
/// To these he is dead until somebody says otherwise.
const BY_FAILURES: &str = "{passive: {unhealthy: {tcp_failures: 1}}}";
const CLOUD: [&str; 3] = ["10.0.1.1:80", "10.0.1.2:80", "10.0.1.3:80"];
const BASKETS: [&str; 2] = ["10.0.2.1:80", "10.0.2.2:80"];

/// Says of targets at a node how they are, as its checks would.
pub(crate) async fn mark(kong: &Kong, upstream: &str, targets: &[&str], state: &str) {
    for target in targets {
        let path = format!("/upstreams/{upstream}/targets/{target}/{state}");
        let marked = async || ask(kong, "PUT", &path, json!({})).await == 204;
        until_so("it checks them", marked).await;
    }
}

/// Whose health alone keeps the door of checkout from what is wanted, as the coordinator is told.
pub(crate) fn unhealthy(told: &weir_agent::gateways::Told, plan: &weir_planner::Plan) -> Vec<String> {
    let proof = door(told, plan, "checkout").and_then(|door| door.proof.as_ref());
    let whose = proof.into_iter().flat_map(|proof| &proof.unhealthy);
    whose.map(ToString::to_string).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_database_nobody_is_sent_to_whom_kong_takes_for_dead() {
    let (dir, one, names) = scene().await;
    let other = Kong::without_database(Options::default()).await.unwrap();
    let base = format!(
        "{BASE}upstreams:\n{}{}",
        asking("site.cloud", HEALS, &CLOUD),
        asking("site.baskets", BY_FAILURES, &BASKETS)
    );
    let mut agent = Agent::start_at(&[&one, &other], &names, dir.path());
    let splits = |checkout: u32, basket: u32| {
        [
            split("checkout", checkout, BY_ADDRESS),
            split("basket", basket, BASKET),
        ]
    };
    let first = plan(&base, &splits(90, 70), None);
    let part = agent.want(&first);
    agent.exact(&part).await;
    // One node of two is sure of it. Of the basket's it is known by failures alone, which is sure to nobody.
    mark(&other, "site.cloud", &CLOUD, "unhealthy").await;
    for kong in [&one, &other] {
        mark(kong, "site.baskets", &BASKETS, "unhealthy").await;
    }
    // Before anybody is to get more it is told, of each door that is as it is wanted.
    let told = agent
        .until("told before", |told| {
            door(told, &first, "checkout").is_some_and(|door| !door.dead.is_empty())
        })
        .await;
    let whose = |split: &str| -> Vec<String> {
        let door = door(&told, &first, split).unwrap();
        door.dead
            .iter()
            .map(|(backend, why)| format!("{backend}: {why}"))
            .collect()
    };
    let why = whose("checkout");
    assert!(
        why.len() == 1
            && why[0].starts_with(&format!(
                "cloud: route default: the Kong at http://{}: ",
                other.admin()
            ))
            && why[0]
                .contains("every target of backend cloud for dead (10.0.1.1:80, 10.0.1.2:80, 10.0.1.3:80)"),
        "{why:?}"
    );
    assert_eq!(whose("basket"), [""; 0], "known by failures alone");
    let second = plan(&base, &splits(50, 40), Some(&first));
    let part = agent.want(&second);
    let told = agent
        .until("one held, one exact", |told| {
            door(told, &second, "checkout").is_some_and(|door| door.held.is_some())
                && door(told, &second, "basket").is_some_and(exact)
        })
        .await;
    let why = door(&told, &second, "checkout").unwrap().held.clone().unwrap();
    let node = format!("the Kong at http://{}: ", other.admin());
    assert!(
        why.contains(&node)
            && why.contains("every target of backend cloud for dead (10.0.1.1:80, 10.0.1.2:80, 10.0.1.3:80)"),
        "{why}"
    );
    assert!(
        why.contains("site.cloud") && !why.contains(&one.admin().to_string()),
        "{why}"
    );
    for kong in [&one, &other] {
        assert_eq!(weights(kong, "checkout").await, [27, 1, 1, 1], "as it was");
        assert_eq!(weights(kong, "basket").await, [2, 3]);
    }
    // An agent that starts again, and remembers, holds it as before; and away from there goes at once.
    agent.killed().await;
    let mut agent = Agent::start_at(&[&one, &other], &names, dir.path());
    agent.want(&second);
    agent
        .until("held", |told| {
            door(told, &second, "checkout").is_some_and(|door| door.held.is_some())
        })
        .await;
    assert_eq!(weights(&one, "checkout").await, [27, 1, 1, 1]);
    let away = plan(&base, &splits(100, 40), Some(&second));
    let part_away = agent.want(&away);
    agent.exact(&part_away).await;
    drop(part);
    // Back to what the zone had is written at once, though every node takes all of them for dead: that may be old for ever.
    mark(&one, "site.cloud", &CLOUD, "unhealthy").await;
    let third = plan(&base, &splits(50, 40), Some(&away));
    let part = agent.want_back(&third);
    agent.exact(&part).await;
    for kong in [&one, &other] {
        assert_eq!(weights(kong, "checkout").await, [3, 1, 1, 1]);
    }
    // A step on waits as ever, and goes on by itself with the first target that answers both of them.
    let fourth = plan(&base, &splits(40, 40), Some(&third));
    let part = agent.want(&fourth);
    agent
        .until("held", |told| {
            door(told, &fourth, "checkout").is_some_and(|door| door.held.is_some())
        })
        .await;
    assert_eq!(weights(&one, "checkout").await, [3, 1, 1, 1]);
    for kong in [&one, &other] {
        mark(kong, "site.cloud", &CLOUD[..1], "healthy").await;
    }
    agent.exact(&part).await;
    agent.stopped().await;
}

/// An agent that remembers nothing has nothing that a split could stay as: it asks nothing of it, and the others go on.
#[tokio::test(flavor = "multi_thread")]
async fn who_remembers_nothing_holds_nothing() {
    let (dir, kong, names) = scene().await;
    let base = format!("{BASE}upstreams:\n{}", asking("site.cloud", HEALS, &CLOUD));
    let splits = |checkout: u32, basket: u32| {
        [
            split("checkout", checkout, BY_ADDRESS),
            split("basket", basket, BASKET),
        ]
    };
    let mut agent = Agent::start(&kong, &names, dir.path());
    let first = plan(&base, &splits(90, 70), None);
    let part = agent.want(&first);
    agent.exact(&part).await;
    agent.killed().await;
    mark(&kong, "site.cloud", &CLOUD, "unhealthy").await;
    let forgetful = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(&kong, &names, forgetful.path());
    let second = plan(&base, &splits(50, 40), Some(&first));
    let part = agent.want(&second);
    agent.exact(&part).await;
    assert_eq!(weights(&kong, "checkout").await, [3, 1, 1, 1]);
    assert_eq!(weights(&kong, "basket").await, [2, 3]);
    agent.stopped().await;
}

/// A gateway that is made anew has nothing to ask; nor has one that does not answer: what is not known holds nobody.
#[tokio::test(flavor = "multi_thread")]
async fn what_kong_does_not_say_holds_nobody() {
    let (dir, kong, names) = scene().await;
    let base = format!("{BASE}upstreams:\n{}", asking("site.cloud", HEALS, &CLOUD));
    let of = |vm: u32| [split("checkout", vm, BY_ADDRESS)];
    let mut agent = Agent::start(&kong, &names, dir.path());
    let first = plan(&base, &of(90), None);
    let part = agent.want(&first);
    agent.exact(&part).await;
    mark(&kong, "site.cloud", &CLOUD, "unhealthy").await;
    // What is there goes on, whatever is said of it, and the same once more where Kong lost all that it had.
    agent.exact_since(&part, Timestamp::now()).await;
    post(&kong, &json!({"_format_version": "3.0"})).await;
    agent.exact_since(&part, Timestamp::now()).await;
    // With one of them taken out of the site's upstream nobody speaks for all of the backend.
    let fewer = format!("{BASE}upstreams:\n{}", asking("site.cloud", HEALS, &CLOUD[..2]));
    let second = plan(&fewer, &of(90), Some(&first));
    let part = agent.want(&second);
    agent.exact(&part).await;
    mark(&kong, "site.cloud", &CLOUD[..2], "unhealthy").await;
    let third = plan(&fewer, &of(50), Some(&second));
    let part = agent.want(&third);
    agent.exact(&part).await;
    agent.stopped().await;
    // A node that takes connections and says nothing is not waited for: what the others can have they have.
    let (mute, _listener) = mute().await;
    let nodes = [(edge(), vec![mute, node(&kong)])].into();
    let agent = Agent::of(nodes, &names, dir.path());
    let fourth = plan(&base, &of(40), Some(&third));
    mark(&kong, "site.cloud", &CLOUD[..1], "healthy").await;
    agent.want(&fourth);
    until_so("it is written", async || {
        weights(&kong, "checkout").await == [2, 1, 1, 1]
    })
    .await;
    agent.killed().await;
}

/// Only Kong knows what its own health checks say, which are the site's to set: where all of a backend is dead to it, nobody is sent
/// there; and nobody who goes away from there waits for that.
#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_kong_takes_for_dead_gets_no_more() {
    let (dir, _database, kongs, names) = super::database::scene().await;
    let both = [&kongs[0], &kongs[1]];
    let splits = |vm: u32| [own_door("checkout", vm, BY_ADDRESS)];
    let mut agent = Agent::start_at(&both, &names, dir.path());
    let first = with_database(&splits(90), None);
    let part = agent.want(&first);
    agent.exact(&part).await;
    let upstream = "/upstreams/weir.checkout.default";
    let checks = json!({"healthchecks": {"active": {"healthy": {"interval": 1, "successes": 1}, "unhealthy": {"interval": 1}}}});
    assert_eq!(ask(both[0], "PATCH", upstream, checks).await, 200);
    let mark = async |kong: &Kong, state: &str| mark(kong, "weir.checkout.default", &CLOUD, state).await;
    // Each worker has to check before it is told of its targets: until the last was built anew it is told again.
    for kong in both {
        let all_dead = async || {
            mark(kong, "unhealthy").await;
            let mut dead = true;
            for _ in 0..4 {
                let health = asked(kong, &format!("{upstream}/health")).await;
                let of = health["data"].as_array().cloned().unwrap_or_default();
                let count = of.iter().filter(|one| one["health"] == "UNHEALTHY").count();
                dead &= count == CLOUD.len();
            }
            dead
        };
        until_so("all of cloud is dead to whichever worker answers", all_dead).await;
    }
    let before = targets(both[0], "weir.checkout.default").await;
    let second = with_database(&splits(50), Some(&first));
    let says = |told: &weir_agent::gateways::Told, plan: &weir_planner::Plan, what: &str| {
        let door = door(told, plan, "checkout");
        door.is_some_and(|door| format!("{door:?}").contains(what))
    };
    agent.want(&second);
    let dead = "every target of backend cloud for dead";
    agent.until("held", |told| says(told, &second, dead)).await;
    assert_eq!(targets(both[0], "weir.checkout.default").await, before);
    // Away from there goes at once.
    let back = with_database(&splits(100), Some(&second));
    let part = agent.want(&back);
    agent.exact(&part).await;
    // Kong checks nobody without weight: of a first share nothing is known before, and the proof tells of it.
    let third = with_database(&splits(50), Some(&back));
    agent.want(&third);
    let is_told = "for unhealthy";
    agent
        .until("written, and told", |told| says(told, &third, is_told))
        .await;
    agent
        .until("nothing else is wrong", |told| {
            unhealthy(told, &third) == ["cloud"]
        })
        .await;
    let weights = targets(both[0], "weir.checkout.default").await;
    assert_eq!(
        weights.values().copied().collect::<Vec<_>>(),
        [30_000, 10_000, 10_000, 10_000]
    );
    // Of a way back nobody is asked: it is written though both take all of them for dead, and they are no proof.
    let back = with_database(&splits(30), Some(&third));
    agent.want_back(&back);
    let written = async || {
        let weights = targets(both[0], "weir.checkout.default").await;
        weights.values().copied().collect::<Vec<_>>() == [18_000, 14_000, 14_000, 14_000]
    };
    until_so("it is written", written).await;
    agent.until("no proof", |told| says(told, &back, is_told)).await;
    let third = back;
    // On the way on one node is enough, and is named.
    mark(both[0], "healthy").await;
    let fourth = with_database(&splits(20), Some(&third));
    agent.want(&fourth);
    let node = format!("the Kong at http://{}: the health checks", both[1].admin());
    agent
        .until("held by the other", |told| says(told, &fourth, &node))
        .await;
    let part = agent.want_back(&fourth);
    let written = async || {
        let weights = targets(both[0], "weir.checkout.default").await;
        weights.get("10.0.0.1:80") == Some(&12_000)
    };
    until_so("it is written", written).await;
    agent
        .until("the other is no proof", |told| says(told, &fourth, is_told))
        .await;
    mark(both[1], "healthy").await;
    agent.exact(&part).await;
    agent.stopped().await;
}
