//! A gateway that went ahead of the mesh with a way back: it keeps that, whoever starts anew, until the mesh has come after or
//! there is something newer still.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_agent::gateways::Wanted;
use weir_planner::{Plan, ZonePlan};
use weir_sandbox::kong::Kong;

use crate::asking::*;
use crate::stage::*;

/// What a gateway is told while the mesh has `held` and is to have `plan`; `ahead` if that goes there first.
fn behind(held: &ZonePlan, plan: &Arc<ZonePlan>, ahead: bool) -> Arc<Wanted> {
    let (items, next) = match ahead {
        true => (plan.items.clone(), BTreeMap::new()),
        false => (held.items.clone(), plan.items.clone()),
    };
    Arc::new(Wanted {
        plan: Arc::clone(plan),
        items,
        next,
    })
}

fn zone_plan(plan: &Plan) -> Arc<ZonePlan> {
    Arc::new(plan.zone_plan(&weir_model::ZoneName::new("fra").unwrap()).unwrap())
}

async fn shares(kong: &Kong) -> (u64, u64) {
    let targets = targets(kong, "weir.basket.default").await;
    let of = |at: &str| targets.get(at).copied().unwrap_or_default();
    (of("10.0.2.1:80"), of("10.0.2.2:80"))
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
    assert_eq!(shares(&kong).await, (1, 4));

    agent.link.want.send_replace(Some(behind(&held, &back, true)));
    agent.exact(&back).await;
    assert_eq!(shares(&kong).await, (4, 1));
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
        assert_eq!(shares(&kong).await, (4, 1));
    }
    // It comes after, and past it.
    agent.link.want.send_replace(Some(behind(&held, &onward, true)));
    agent.exact(&onward).await;
    assert_eq!(shares(&kong).await, (1, 1));
    agent.stopped().await;
}
