//! Backends that are down and keep their share, as agents of a zone say it.
//!
//! That is no standing: it says nothing of what a zone runs, and everything that goes by proof (steps, reverts, drains) has to be
//! able to lead away from there. So it stands beside the standing, and whoever asks whether all is well looks at both.

use std::collections::BTreeMap;

use weir_planner::Item;
use weir_wire::api::{FailingBackend, Percent};

use crate::fleet::Agent;

/// By backend, of the agent that gives it most, and of equals the first by name.
pub(super) fn shown<'a>(
    agents: impl Iterator<Item = (&'a String, &'a Agent)> + Clone,
    item: &Item,
) -> Vec<FailingBackend> {
    let several = agents.clone().nth(1).is_some();
    let mut all = BTreeMap::new();
    for (name, agent) in agents {
        let Some(fact) = agent.items.get(&item.split) else {
            continue;
        };
        for (backend, kept) in &fact.failing {
            let share = Percent(kept.share);
            let of = FailingBackend {
                backend: backend.to_string(),
                share,
                why: match several {
                    true => format!("{name}: {}", kept.why),
                    false => kept.why.clone(),
                },
                help: kept.help.clone(),
            };
            let known: &mut FailingBackend = all.entry(backend).or_insert_with(|| of.clone());
            if known.share < share {
                *known = of;
            }
        }
    }
    all.into_values().collect()
}

/// The same in words; none if nobody is down.
pub(super) fn told(failing: &[FailingBackend]) -> Option<String> {
    let words: Vec<String> = failing
        .iter()
        .map(|of| {
            format!(
                "backend {} is down and keeps its share of {} %: {}. {}",
                of.backend, of.share.0, of.why, of.help
            )
        })
        .collect();
    (!words.is_empty()).then(|| words.join("; "))
}
