//! What an agent calls and writes, in the words of its story.

use weir_planner::ItemState;
use weir_render::Step;

use crate::simulate::zone::Call;

pub(super) fn told(call: &Call) -> String {
    match call {
        Call::Pulse => "ask for the control plane's name".to_owned(),
        Call::Observe => "read the control plane".to_owned(),
        Call::Apply(step) => format!("write {}", step.object().2),
        Call::Prove(_) => "read back".to_owned(),
        Call::Sight(_) => "look at anchors".to_owned(),
        Call::Count(_) => "count".to_owned(),
    }
}

pub(super) fn did(step: &Step) -> String {
    match step {
        Step::Put {
            object,
            generation,
            reason,
            ..
        } => {
            let weights = weir_render::weights_of(&object.spec).unwrap_or_default();
            let shares: Vec<String> = weights
                .iter()
                .map(|route| {
                    let all: Vec<String> = route
                        .iter()
                        .map(|(to, weight)| {
                            format!("{} {weight}", to.get("kuma.io/zone").map_or("?", String::as_str))
                        })
                        .collect();
                    all.join(", ")
                })
                .collect();
            format!(
                "writes {} of generation {generation} ({}): {reason}",
                object.name,
                shares.join(" | ")
            )
        }
        Step::Introduce {
            object, generation, ..
        } => format!("introduces {} of generation {generation}", object.name),
        Step::Withdraw {
            object, generation, ..
        } => format!("withdraws {} by plan {generation}", object.name),
        Step::Delete { name, reason, .. } => format!("removes {name}: {reason}"),
    }
}

/// How an item stands.
pub(super) fn stands(state: &ItemState) -> String {
    match state {
        ItemState::Pending => "has not begun with it".to_owned(),
        ItemState::Held(why) => format!("holds it: {why}"),
        ItemState::Applied => "has applied it".to_owned(),
        ItemState::Proven => "has proof of it".to_owned(),
        ItemState::Overridden(why) => format!("is overridden: {why}"),
        ItemState::Failed(why) => format!("failed: {why}"),
    }
}
