//! What Kong does not accept, and who does not answer, is in nobody else's way: least of all in that of a revert.

use std::sync::Arc;

use weir_model::{Entry, GatewayName, ZoneName};
use weir_sandbox::kong::{Kong, LoadFailure, Options};

use crate::asking::*;
use crate::stage::*;

fn both(checkout: u32, basket: u32) -> [String; 2] {
    [
        split("checkout", checkout, BY_ADDRESS),
        split("basket", basket, BASKET),
    ]
}

/// Somebody commits a base that Kong does not accept. The share that is reverted at 3 a.m. does not wait for whoever mends that;
/// and what is shown is not what is declared, before the base is.
#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_kong_does_not_accept_holds_up_no_revert() {
    let (dir, kong, names) = scene().await;
    let mut agent = Agent::start(&kong, &names, dir.path());
    let first = plan(BASE, &both(90, 50), None);
    let part = agent.want(&first);
    agent.exact(&part).await;
    let bad = format!("{BASE}  - {{name: bad, host: a.test, retries: 70000}}\n");
    let second = plan(&bad, &both(50, 50), Some(&first));
    agent.want(&second);
    let told = agent
        .until("the base of before, with the shares of now", |told| {
            let door = door(told, &second, "checkout");
            door.is_some_and(|door| door.held.is_some() && door.proof.as_ref().is_some_and(exact_proof))
        })
        .await;
    let why = door(&told, &second, "checkout").unwrap().held.clone().unwrap();
    assert!(why.contains("service `bad`: retries"), "{why}");
    assert!(told.notes.iter().any(|note| note.contains("`bad`")), "{told:?}");
    assert_eq!(weights(&kong, "checkout").await, [3, 1, 1, 1]);
    // An agent that is started again meanwhile knows what there was.
    agent.killed().await;
    let mut agent = Agent::start(&kong, &names, dir.path());
    let third = plan(&bad, &both(90, 50), Some(&second));
    agent.want(&third);
    let told = agent
        .until("the revert", |told| {
            let door = door(told, &third, "checkout");
            door.is_some_and(|door| door.proof.as_ref().is_some_and(exact_proof))
        })
        .await;
    assert!(door(&told, &third, "basket").unwrap().held.is_some(), "{told:?}");
    assert_eq!(weights(&kong, "checkout").await, [27, 1, 1, 1]);
    let mended = bad.replace("70000", "7");
    let fourth = plan(&mended, &both(90, 50), Some(&third));
    let part = agent.want(&fourth);
    agent.exact(&part).await;
    assert_eq!(host(&kong, "bad").await, "a.test");
    agent.stopped().await;
}

/// A door that Kong does not accept stays as it was, and the other split goes on, over and over.
#[tokio::test(flavor = "multi_thread")]
async fn a_door_that_kong_does_not_accept_holds_up_no_other() {
    let (dir, kong, names) = scene().await;
    let mut agent = Agent::start(&kong, &names, dir.path());
    let routed = |checkout| {
        split("checkout", checkout, BY_ADDRESS)
            .replace("service: checkout, backends", "hosts: [a.test], backends")
    };
    let base = &BASE.replace("checkout", "till");
    let first = plan(base, &[routed(90), split("basket", 50, BASKET)], None);
    let part = agent.want(&first);
    agent.exact(&part).await;
    let mut before = first;
    for basket in [40, 30, 60] {
        let next = plan(
            base,
            &[routed(20), split("basket", basket, BASKET)],
            Some(&before),
        );
        let part = Arc::new(next.zone_plan(&ZoneName::new("fra").unwrap()).unwrap());
        let mut items = part.items.clone();
        // Weir takes no such name of a host from anybody: in its stead of all that Kong may refuse and Weir knows nothing of.
        let odd = Arc::make_mut(items.get_mut(&name("checkout")).unwrap());
        match &mut odd.doors.get_mut(&edge()).unwrap().entry {
            Entry::Routes(routing) => routing.hosts = ["a_b:c:d".to_owned()].into(),
            entry => panic!("{entry:?}"),
        }
        agent.want_items(&part, items);
        let told = agent
            .until("the other one goes on", |told| {
                door(told, &next, "basket").is_some_and(exact)
                    && door(told, &next, "checkout").is_some_and(|door| door.held.is_some())
            })
            .await;
        let why = door(&told, &next, "checkout").unwrap().held.clone().unwrap();
        assert!(why.contains("route default: route: hosts"), "{why}");
        assert_eq!(weights(&kong, "checkout").await, [27, 1, 1, 1], "as it was");
        before = next;
    }
    let next = plan(base, &[routed(80), split("basket", 60, BASKET)], Some(&before));
    let part = agent.want(&next);
    agent.exact(&part).await;
    agent.stopped().await;
}

/// A gateway that takes connections and does not answer is in no other gateway's way.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_does_not_answer_holds_up_no_other() {
    let (dir, kong, names) = scene().await;
    let (mute, _listens) = mute().await;
    let slow = GatewayName::new("slow").unwrap();
    let nodes = [(edge(), vec![node(&kong)]), (slow, vec![mute])];
    let mut agent = Agent::of(nodes.into(), &names, dir.path());
    let gateways =
        "{name: edge, channel: admin-dbless, base: edge.yaml}, {name: slow, channel: admin-dbless}";
    let there = split("basket", 50, BASKET).replace(
        "gateway: edge, service: basket",
        "gateway: slow, hosts: [basket.test]",
    );
    let mut before = None;
    for checkout in [90, 50, 90] {
        let splits = [split("checkout", checkout, BY_ADDRESS), there.clone()];
        let next = plan_of(gateways, BASE, &splits, before.as_ref());
        agent.want(&next);
        agent
            .until("the one that answers", |told| {
                door(told, &next, "checkout").is_some_and(exact)
            })
            .await;
        before = Some(next);
    }
    agent.killed().await;
}

/// A node that does not answer keeps none of the other nodes of its gateway from a revert, and is not forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_answer_holds_up_no_revert_at_the_others() {
    let (dir, kong, names) = scene().await;
    let other = Kong::without_database(Options::default()).await.unwrap();
    let (mute, _listens) = mute().await;
    let nodes = [(edge(), vec![mute, node(&kong), node(&other)])];
    let agent = Agent::of(nodes.into(), &names, dir.path());
    let mut before = None;
    for (checkout, is) in [
        (90, vec![27, 1, 1, 1]),
        (50, vec![3, 1, 1, 1]),
        (90, vec![27, 1, 1, 1]),
    ] {
        let next = plan(BASE, &[split("checkout", checkout, BY_ADDRESS)], before.as_ref());
        let part = agent.want(&next);
        let came = async {
            for kong in [&kong, &other] {
                while weights(kong, "checkout").await != is {
                    tokio::task::yield_now().await;
                }
            }
        };
        tokio::time::timeout(PATIENCE, came)
            .await
            .unwrap_or_else(|_| panic!("{checkout}: it tells {:#?}", agent.link.told.borrow()));
        assert!(
            !door(&agent.link.told.borrow(), &next, "checkout").is_some_and(exact),
            "{part:?}"
        );
        before = Some(next);
    }
    agent.killed().await;
}

/// One of two nodes does not accept what the other one does: both run the same, which is what there was before.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_does_not_accept_is_at_no_other() {
    let (dir, kong, names) = scene().await;
    let narrow = Options {
        admin_body_limit: 5_000,
        ..Options::default()
    };
    let other = Kong::without_database(narrow).await.unwrap();
    for nodes in [[node(&other), node(&kong)], [node(&kong), node(&other)]] {
        let mut agent = Agent::of([(edge(), nodes.into())].into(), &names, dir.path());
        let first = plan(BASE, &both(90, 50), None);
        let part = agent.want(&first);
        agent.exact(&part).await;
        let long = format!(
            "{BASE}  - {{name: long, host: a.test, path: \"/{}\"}}\n",
            "x".repeat(5_000)
        );
        let second = plan(&long, &both(50, 50), Some(&first));
        agent.want(&second);
        agent
            .until("both of them as before, with the shares of now", |told| {
                let door = door(told, &second, "checkout");
                door.is_some_and(|door| door.held.is_some() && door.proof.as_ref().is_some_and(exact_proof))
            })
            .await;
        for kong in [&kong, &other] {
            assert_eq!(weights(kong, "checkout").await, [3, 1, 1, 1]);
        }
        assert_eq!(hash(&kong).await, hash(&other).await);
        agent.stopped().await;
    }
}

/// A node is added that does not accept what the other one runs, and there is nothing to go back to: a revert goes to the other one.
/// A new split that only one of both takes is nobody's to keep.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_accepts_nothing_holds_up_no_revert_at_the_others() {
    let (dir, kong, names) = scene().await;
    let long = format!(
        "{BASE}  - {{name: long, host: a.test, path: \"/{}\"}}\n",
        "x".repeat(5_000)
    );
    let mut agent = Agent::start(&kong, &names, dir.path());
    let first = plan(&long, &both(50, 50), None);
    let part = agent.want(&first);
    agent.exact(&part).await;
    agent.stopped().await;
    let narrow = Options {
        admin_body_limit: 5_000,
        ..Options::default()
    };
    let other = Kong::without_database(narrow).await.unwrap();
    let nodes = vec![node(&other), node(&kong)];
    let mut agent = Agent::of([(edge(), nodes)].into(), &names, dir.path());
    agent.want(&first);
    agent
        .until("the other one accepts nothing", |told| {
            door(told, &first, "checkout").is_some_and(|door| door.held.is_some())
        })
        .await;
    let second = plan(&long, &both(90, 50), Some(&first));
    agent.want(&second);
    let came = async {
        while weights(&kong, "checkout").await != [27, 1, 1, 1] {
            agent.link.told.changed().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, came).await.expect("the revert");
    assert_eq!(hash(&other).await, "0".repeat(32));
    // With a shorter base it has all, and then one takes a split that the other one does not.
    let third = plan(BASE, &both(90, 50), Some(&second));
    let part = agent.want(&third);
    agent.exact(&part).await;
    let many: String = (0..60).map(|n| format!("\"10.9.0.{n}:80\", ")).collect();
    let big = split(
        "big",
        50,
        &format!("vm: [{many}\"10.9.1.1:80\"], cloud: \"10.9.1.2:80\""),
    )
    .replace("service: big, backends", "hosts: [big.test], backends");
    let [checkout, basket] = both(90, 50);
    let fourth = plan(BASE, &[checkout, basket, big.clone()], Some(&third));
    agent.want(&fourth);
    agent
        .until("nobody has the new one", |told| {
            door(told, &fourth, "big").is_some_and(|door| door.held.is_some())
                && door(told, &fourth, "checkout")
                    .and_then(|door| door.proof.as_ref())
                    .is_some_and(exact_proof)
        })
        .await;
    let [checkout, basket] = both(50, 50);
    let fifth = plan(BASE, &[checkout, basket, big], Some(&fourth));
    agent.want(&fifth);
    agent
        .until("the change of another one", |told| {
            door(told, &fifth, "checkout").is_some_and(exact)
        })
        .await;
    for kong in [&kong, &other] {
        assert_eq!(weights(kong, "checkout").await, [3, 1, 1, 1]);
    }
    agent.stopped().await;
}

/// What one node did not accept for a while is tried again there alone, and is everywhere when it is accepted.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_accepted_is_tried_again_where_it_was_not() {
    let (dir, kong, names) = scene().await;
    let other = Kong::without_database(Options::default()).await.unwrap();
    let mut agent = Agent::start_at(&[&kong, &other], &names, dir.path());
    let first = plan(BASE, &both(90, 50), None);
    let part = agent.want(&first);
    agent.exact(&part).await;
    // Twice, so that there is time to look before it is accepted: the second wait is longer.
    other.refuse_next_load(LoadFailure::StoreFull);
    other.refuse_next_load(LoadFailure::StoreFull);
    let longer = format!("{BASE}  - {{name: more, host: a.test}}\n");
    let second = plan(&longer, &both(50, 50), Some(&first));
    let part = agent.want(&second);
    agent
        .until("both as before, with the shares of now", |told| {
            let door = door(told, &second, "checkout");
            door.is_some_and(|door| door.held.is_some() && door.proof.as_ref().is_some_and(exact_proof))
        })
        .await;
    let stays = hash(&kong).await;
    assert_eq!(hash(&other).await, stays);
    // Until it is accepted where it was not, the node that accepted it is not given it again.
    let accepted = async {
        loop {
            let runs = hash(&kong).await;
            if hash(&other).await != stays {
                return;
            }
            assert_eq!(runs, stays);
        }
    };
    tokio::time::timeout(PATIENCE, accepted)
        .await
        .expect("never tried again");
    agent.exact(&part).await;
    assert_eq!(hash(&kong).await, hash(&other).await);
    assert_eq!(host(&kong, "more").await, "a.test");
    agent.stopped().await;
}
