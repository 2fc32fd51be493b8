//! A zone's plan on its way: a manifest of all its items, and only those items that the agent lacks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_model::{CommitId, SourceCommit, SourceName, SplitName};
use weir_planner::{Generation, Item, ItemRef, PlanId, ZonePlan};

use crate::item::twice;
use crate::scalar::{commits_out, read};
use crate::{WireError, v1};

/// What to send to an agent that holds these items. An agent that holds all of them gets the manifest alone.
pub fn plan_update(plan: &ZonePlan, holds: &BTreeSet<ItemRef>) -> v1::PlanUpdate {
    let references: Vec<ItemRef> = plan.items.values().map(|item| item.reference()).collect();
    let lacking = plan
        .items
        .values()
        .filter(|item| !holds.contains(&item.reference()));
    v1::PlanUpdate {
        federation: plan.federation.to_string(),
        zone: plan.zone.to_string(),
        kuma_zone: plan.kuma_zone.to_string(),
        mesh: plan.mesh.to_string(),
        plan_id: plan.plan.to_string(),
        generation: plan.generation.0,
        commits: commits_out(&plan.commits),
        manifest: references.iter().map(v1::ItemRef::from).collect(),
        items: lacking.map(|item| v1::Item::from(&**item)).collect(),
    }
}

/// The whole plan, from what was sent and what is held.
///
/// # Errors
/// If anything is damaged, missing, or not what the manifest says. Then nothing of the update may be used.
pub fn assemble(
    update: &v1::PlanUpdate,
    held: &BTreeMap<SplitName, Arc<Item>>,
) -> Result<ZonePlan, WireError> {
    let mut sent = BTreeMap::new();
    for item in &update.items {
        let item = Item::try_from(item).map_err(|e| e.within(format_args!("plan.items[{}]", item.split)))?;
        let split = item.split.clone();
        if sent.insert(split.clone(), Arc::new(item)).is_some() {
            return Err(twice("plan.items", split.as_str()));
        }
    }
    let zone = read("plan.zone", &update.zone)?;
    let kuma_zone = read("plan.kuma_zone", &update.kuma_zone)?;
    let mesh = read("plan.mesh", &update.mesh)?;
    let mut items = BTreeMap::new();
    for entry in &update.manifest {
        let field = format!("plan.manifest[{}]", entry.split);
        let wanted = ItemRef::try_from(entry).map_err(|e| e.within(&field))?;
        let found = sent
            .remove(&wanted.split)
            .or_else(|| held.get(&wanted.split).map(Arc::clone))
            .ok_or_else(|| WireError::new(&field, "it was neither sent nor is it held"))?;
        let is = found.reference();
        if is != wanted {
            return Err(WireError::new(
                &field,
                format!(
                    "wanted is generation {} with content {}, there is generation {} with content {}",
                    wanted.generation,
                    wanted.digest.short(),
                    is.generation,
                    is.digest.short()
                ),
            ));
        }
        if found.zone != zone || found.kuma_zone != kuma_zone || found.mesh != mesh {
            return Err(WireError::new(
                &field,
                format!(
                    "the item is for zone {} (in Kuma {}) of mesh {}, the plan for zone {zone} ({kuma_zone}) of mesh {mesh}",
                    found.zone, found.kuma_zone, found.mesh
                ),
            ));
        }
        if found.generation.0 > update.generation {
            return Err(WireError::new(
                &field,
                format!(
                    "generation {} is above the plan's, {}",
                    found.generation, update.generation
                ),
            ));
        }
        if items.insert(wanted.split, found).is_some() {
            return Err(twice("plan.manifest", &entry.split));
        }
    }
    if let Some(split) = sent.keys().next() {
        return Err(WireError::new(
            "plan.items",
            format!("`{split}` is not in the manifest"),
        ));
    }
    if update.generation == 0 {
        return Err(WireError::new("plan.generation", "0 stands for no plan"));
    }
    let commits = update.commits.iter().map(|c| SourceCommit {
        source: SourceName(c.source.clone()),
        commit: CommitId(c.commit.clone()),
    });
    Ok(ZonePlan {
        federation: read("plan.federation", &update.federation)?,
        zone,
        kuma_zone,
        mesh,
        plan: read::<PlanId>("plan.plan_id", &update.plan_id)?,
        generation: Generation(update.generation),
        commits: commits.collect(),
        items,
    })
}
