//! A gateway that went ahead of the mesh with a way back: it keeps that, whoever starts anew, until the mesh has come after or
//! there is something newer still.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_agent::gateways::Wanted;
use weir_drivers::kong::pins::Sight;
use weir_planner::{Plan, ZonePlan};
use weir_sandbox::kong::Kong;

use crate::asking::*;
use crate::database;
use crate::stage::*;

/// What a gateway is told while the mesh has `held` and is to have `plan`; `ahead` if that goes there first.
pub(crate) fn behind(held: &ZonePlan, plan: &Arc<ZonePlan>, ahead: bool) -> Arc<Wanted> {
    let (items, next) = match ahead {
        true => (plan.items.clone(), BTreeMap::new()),
        false => (held.items.clone(), plan.items.clone()),
    };
    Arc::new(Wanted {
        plan: Arc::clone(plan),
        ahead: items.keys().filter(|_| ahead).cloned().collect(),
        items,
        next,
        pins: BTreeMap::new(),
        sight: Sight::default(),
        back: BTreeSet::new(),
    })
}

pub(crate) fn zone_plan(plan: &Plan) -> Arc<ZonePlan> {
    Arc::new(
        plan.zone_plan(&weir_model::ZoneName::new("fra").unwrap())
            .unwrap(),
    )
}

/// Per cent that the first of two addresses gets.
pub(crate) async fn share(kong: &Kong) -> u64 {
    let targets = targets(kong, "weir.basket.default").await;
    let of = |at: &str| targets.get(at).copied().unwrap_or_default();
    let (vm, cloud) = (of("10.0.2.1:80"), of("10.0.2.2:80"));
    100 * vm / (vm + cloud)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_went_ahead_of_the_mesh_is_not_taken_back() {
    let (dir, kong, names) = scene().await;
    let mut agent = Agent::start(&kong, &names, dir.path());
    let of = |vm: u32, before: Option<&Plan>| plan(BASE, &[split("basket", vm, BASKET)], before);
    let first = of(80, None);
    let second = of(20, Some(&first));
    let back = of(80, Some(&second));
    let onward = of(50, Some(&back));
    let (held, back, onward) = (zone_plan(&second), zone_plan(&back), zone_plan(&onward));
    agent.want(&first);
    agent.exact(&zone_plan(&first)).await;
    agent.want(&second);
    agent.exact(&held).await;
    assert_eq!(share(&kong).await, 20);

    agent.link.want.send_replace(Some(behind(&held, &back, true)));
    agent.exact(&back).await;
    assert_eq!(share(&kong).await, 80);
    // The mesh holds it, and the agent starts anew, and there is a newer plan that the mesh has not either.
    let since = jiff::Timestamp::now();
    agent.link.want.send_replace(Some(behind(&held, &back, false)));
    agent.exact_since(&back, since).await;
    agent.stopped().await;
    let mut agent = Agent::start(&kong, &names, dir.path());
    for next in [&back, &onward] {
        let since = jiff::Timestamp::now();
        agent.link.want.send_replace(Some(behind(&held, next, false)));
        agent.exact_since(&back, since).await;
        assert_eq!(share(&kong).await, 80);
    }
    // It comes after, and past it.
    agent.link.want.send_replace(Some(behind(&held, &onward, true)));
    agent.exact(&onward).await;
    assert_eq!(share(&kong).await, 50);
    agent.stopped().await;
}

/// Break-glass is made of what the mesh has, which is older than what went ahead of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_pin_is_given_where_a_revert_went_ahead() {
    let (dir, _database, [kong, _other], names) = database::scene().await;
    let mut agent = Agent::start(&kong, &names, dir.path());
    let of = |vm: u32, before: Option<&Plan>| with_database(&[own_door("basket", vm, BASKET)], before);
    let first = of(80, None);
    let second = of(20, Some(&first));
    let back = of(80, Some(&second));
    let (held, back) = (zone_plan(&second), zone_plan(&back));
    for plan in [&first, &second] {
        agent.want(plan);
        agent.exact(&zone_plan(plan)).await;
    }
    agent.link.want.send_replace(Some(behind(&held, &back, true)));
    agent.exact(&back).await;
    assert_eq!(share(&kong).await, 80);
    // Older, and what somebody wants; and one that nobody pinned is not given.
    let since = jiff::Timestamp::now();
    let mut wanted = Wanted::clone(&behind(&held, &back, false));
    agent.link.want.send_replace(Some(Arc::new(wanted.clone())));
    agent.exact_since(&back, since).await;
    wanted.next.clear();
    let label = || "fra-1.7".to_owned();
    wanted.pins = wanted
        .items
        .keys()
        .map(|split| (split.clone(), label()))
        .collect();
    wanted.sight.own.insert(label());
    agent.link.want.send_replace(Some(Arc::new(wanted)));
    agent.exact(&held).await;
    assert_eq!(share(&kong).await, 20);
    // Unpinned, by whoever pinned it.
    let mut over = Wanted::clone(&behind(&held, &back, true));
    over.sight.own.insert(label());
    agent.link.want.send_replace(Some(Arc::new(over)));
    agent.exact(&back).await;
    assert_eq!(share(&kong).await, 80);
    agent.stopped().await;
}
