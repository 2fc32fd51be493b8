//! What is decided and not in force: a pin that is held takes no share back, and what was never written begins nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir_agent::anchors::Anchors;
use weir_agent::decide::decide;
use weir_agent::fallback::{driven, look};
use weir_agent::pin::{By, Pins};
use weir_drivers::Observed;
use weir_model::DnsLabel;
use weir_planner::{Item, item_digest};
use weir_render::{Object, Options, Step};

use super::world::{ALL_TO_VM, AS_PLANNED, Agent, backend, plan, share};

/// What an agent with a pin writes where this is there; the pin is held, for `eks` does not resolve.
fn writes(agent: &mut Agent, pins: &Pins) -> Vec<Object> {
    agent.memory.pins = pins.clone();
    let plan = pins.over(&agent.plan).into_owned();
    let (at, services) = (agent.at(), agent.services());
    agent.memory.fallen = look(
        &plan,
        &agent.memory,
        (&agent.live, &services),
        &mut agent.watch,
        at,
    );
    let observed = Observed {
        services,
        ours: agent.live.clone(),
        ..Observed::default()
    };
    let decision = decide(
        &plan,
        &agent.memory,
        &observed,
        Options::default(),
        &Anchors::default(),
        at.0,
    );
    assert_eq!(decision.held.len(), 1, "{:?}", decision.held);
    let put = |step: Step| match step {
        Step::Put { object, .. } => object,
        other => panic!("{other:?}"),
    };
    decision.steps.into_iter().map(put).collect()
}

/// Two agents of a zone drive one policy: the one whose pin is held leaves a share where it is, as the other one does, and puts it
/// back there should the policy be lost.
#[test]
fn a_pin_that_is_held_takes_no_share_back() {
    let mut agent = Agent::new(plan(&[("vm", None)], 60));
    agent.activate();
    agent.unavailable.insert("eks");
    agent.activate();
    agent.now += Duration::from_secs(2);
    agent.activate();
    assert_eq!(agent.weights(), ALL_TO_VM);
    let before = agent.live.clone();
    let item = Arc::clone(agent.item());
    let mut pins = Pins::default();
    let by = By {
        agent: DnsLabel::new("fra-1").unwrap(),
        who: "ada".to_owned(),
        host: "fra-1".to_owned(),
        reason: "looking into it".to_owned(),
        at: agent.at().1,
    };
    let weights = BTreeMap::from([(backend("eks"), share(90)), (backend("vm"), share(10))]);
    pins.pin(&agent.plan, &agent.memory, &item.split, None, &weights, by)
        .unwrap();
    assert_eq!(writes(&mut agent, &pins), []);
    agent.live.clear();
    agent.now += Duration::from_secs(1);
    assert_eq!(writes(&mut agent, &pins), [before[0].0.clone()]);
    // Once it is in force no share goes elsewhere.
    let pinned = Arc::clone(&pins.of(&item.split).unwrap().item);
    assert!(Arc::ptr_eq(&driven(&pinned, &agent.memory), &pinned));
}

/// One that is late to a plan decides by its older item while it holds that, writes nothing, and takes the new plan with it: by that
/// the refuge would get more than it can take.
#[test]
fn what_was_never_written_gives_nobody_more_than_he_can_take() {
    let mut one = Agent::new(plan(&[("vm", Some(90))], 60));
    one.activate();
    let mut late = Agent::new(one.plan.clone());
    let item = late.plan.items.values_mut().next().unwrap();
    let mut older = Item::clone(item);
    older.routes[0].weights = BTreeMap::from([(backend("eks"), share(40)), (backend("lab"), share(60))]);
    older.digest = item_digest(&older);
    *item = Arc::new(older);
    late.memory.applied = late.plan.items.clone();
    late.live.clone_from(&one.live);
    late.unavailable.insert("eks");
    late.look();
    late.now += Duration::from_secs(2);
    late.look();
    assert_eq!(late.weights(), [("eks", 0), ("lab", 60), ("vm", 40)], "decided");
    late.plan = one.plan.clone();
    late.activate();
    assert_eq!(late.weights(), AS_PLANNED);
}
